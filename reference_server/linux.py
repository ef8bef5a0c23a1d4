"""System calls that Python's ``os`` does not have.

The rule of this module: thin and total; each function is one call, raises OSError as ``os`` would, and
decides nothing. Sources: the manual page of each call; glibc declares all of them but openat2 and the
per-thread setgroups.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_PREFIX = b"/proc/self/fd/%d"

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

UTIME_OMIT = (1 << 30) - 2

AT_FDCWD = -100

_SYS_OPENAT2 = 437
_SYS_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}


def path_of(fd: int) -> bytes:
    """A path to exactly the file of ``fd``, whatever its names are now: proc(5), /proc/pid/fd.

    Only for descriptors that this process opened itself; no other magic link is ever followed.
    """
    return _PREFIX % fd


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2); the descriptor is close-on-exec."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    return _check(
        _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
    )


# --- finding a file again --------------------------------------------------------------------------

_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
_STATX_WANTED = 0x1FFF
_STATX_BTIME = 0x800
_STATX_SIZE = 256
# struct statx of statx(2): mask, links, mode, inode number, birth time, device (major, minor), mount.
_STATX = struct.Struct("=I12xI8xH2xQ40xqI44xIIQ").unpack_from
_MAX_HANDLE = 128
_HANDLE_HEAD = struct.Struct("Ii")


class Identity(NamedTuple):
    """What identifies a file, as far as statx(2) reports it, and its present state."""

    device: int
    inode: int
    type: int
    """S_IFMT bits of the mode."""
    born: int
    """Nanoseconds since 1970; -1 where the file system does not know.  An inode number that is used again has
    another."""
    links: int
    """How many names the file has."""
    mount: int
    """The mount that it was reached through; since Linux 5.8, before it 0."""


def identity(fd: int) -> Identity:
    """Which file ``fd`` stands for, without querying a server or FUSE daemon. statx(2)"""
    found = ctypes.create_string_buffer(_STATX_SIZE)
    _check(_libc.statx(fd, b"", _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC, _STATX_WANTED, found))
    mask, links, mode, inode, seconds, nanoseconds, major, minor, mount = _STATX(found)
    born = seconds * 1_000_000_000 + nanoseconds if mask & _STATX_BTIME else -1
    return Identity(os.makedev(major, minor), inode, mode & 0o170000, born, links, mount)


def file_system_of(mount: int) -> bytes:
    """The type of the file system mounted there, as in mount(8); empty if there is no such mount. proc(5),
    /proc/pid/mountinfo"""
    wanted = b"%d" % mount
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            if line.split(b" ", 1)[0] == wanted:
                return line.partition(b" - ")[2].split(b" ", 1)[0]
    return b""


def name_to_handle(fd: int) -> tuple[bytes, int]:
    """struct file_handle of what ``fd`` stands for, and the mount that it is on.  name_to_handle_at(2)

    Raises OSError: EOPNOTSUPP if the file system has no handles.
    """
    handle = ctypes.create_string_buffer(_HANDLE_HEAD.size + _MAX_HANDLE)
    _HANDLE_HEAD.pack_into(handle, 0, _MAX_HANDLE, 0)
    mount = ctypes.c_int()
    _check(_libc.name_to_handle_at(fd, b"", handle, ctypes.byref(mount), _AT_EMPTY_PATH))
    length, _type = _HANDLE_HEAD.unpack_from(handle)
    return handle.raw[: _HANDLE_HEAD.size + length], mount.value


def open_by_handle(mount_fd: int, handle: bytes, flags: int) -> int:
    """open_by_handle_at(2); ``mount_fd`` is open on that mount, not with O_PATH.  Takes CAP_DAC_READ_SEARCH.

    Raises OSError: ESTALE when the file no longer exists, EPERM without the capability.
    """
    return _check(_libc.open_by_handle_at(mount_fd, ctypes.c_char_p(handle), flags | os.O_CLOEXEC))


# --- directories, times, file systems --------------------------------------------------------------

_DIRENTS = 64 * 1024


class DirentBuffer:
    """Memory for getdents64(2)."""

    def __init__(self) -> None:
        self._memory = ctypes.create_string_buffer(_DIRENTS)

    def fill(self, fd: int) -> bytes:
        """The next entries as the kernel lays them out; empty at the end."""
        count = _check(_libc.getdents64(fd, self._memory, _DIRENTS))
        return ctypes.string_at(self._memory, count)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64))


def utimensat(path: bytes, atime: tuple[int, int], mtime: tuple[int, int]) -> None:
    """utimensat(2), following links; nanoseconds may be UTIME_OMIT or those of `storage.NOW`, which ``os.utime`` cannot
    say.
    """
    times = (_Timespec * 2)(_Timespec(*atime), _Timespec(*mtime))
    _check(_libc.utimensat(AT_FDCWD, ctypes.c_char_p(path), times, 0))


class StatFs(ctypes.Structure):
    """struct statfs."""

    _fields_ = (
        ("type", ctypes.c_ulong),
        ("bsize", ctypes.c_long),
        ("blocks", ctypes.c_uint64),
        ("bfree", ctypes.c_uint64),
        ("bavail", ctypes.c_uint64),
        ("files", ctypes.c_uint64),
        ("ffree", ctypes.c_uint64),
        ("fsid", ctypes.c_uint64),
        ("namelen", ctypes.c_long),
        ("frsize", ctypes.c_long),
        ("flags", ctypes.c_long),
        ("spare", ctypes.c_long * 4),
    )


def fstatfs(fd: int) -> StatFs:
    """fstatfs(2); ``os.fstatvfs`` does not have the type of the file system."""
    found = StatFs()
    _check(_libc.fstatfs(fd, ctypes.byref(found)))
    return found


# --- record locks ----------------------------------------------------------------------------------

_FLOCK = struct.Struct("hhqqi4x")


class FileLock(NamedTuple):
    """struct flock, from the start of the file."""

    type: int
    start: int
    length: int
    pid: int


def set_ofd_lock(fd: int, type: int, start: int, length: int) -> bool:
    """F_OFD_SETLK of fcntl(2) with F_RDLCK, F_WRLCK or F_UNLCK; false when another open file holds it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(type, os.SEEK_SET, start, length, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def get_ofd_lock(fd: int, type: int, start: int, length: int) -> FileLock | None:
    """F_OFD_GETLK of fcntl(2): the conflicting lock."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(type, os.SEEK_SET, start, length, 0))
    found, _whence, start, length, pid = _FLOCK.unpack(answer)
    return None if found == fcntl.F_UNLCK else FileLock(found, start, length, pid)


# --- credentials of the calling thread -------------------------------------------------------------

_libc.setfsuid.argtypes = [ctypes.c_uint]
_libc.setfsgid.argtypes = [ctypes.c_uint]


def setfsuid(uid: int) -> bool:
    """setfsuid(2) for the calling thread; returns whether it worked."""
    _libc.setfsuid(uid)
    return bool(ctypes.c_uint(_libc.setfsuid(0xFFFFFFFF)).value == uid)


def setfsgid(gid: int) -> bool:
    """setfsgid(2) for the calling thread; returns whether it worked."""
    _libc.setfsgid(gid)
    return bool(ctypes.c_uint(_libc.setfsgid(0xFFFFFFFF)).value == gid)


def setgroups(groups: tuple[int, ...]) -> None:
    """setgroups(2) for the calling thread only, unlike glibc's, which acts on every thread."""
    number = _SYS_SETGROUPS.get(platform.machine())
    if number is None:
        raise OSError(f"setgroups: system call number unknown on {platform.machine()}")
    array = (ctypes.c_uint * len(groups))(*groups)
    _check(_libc.syscall(ctypes.c_long(number), ctypes.c_size_t(len(groups)), array))


CAP_FSETID = 1 << 4
_CAPABILITY_VERSION_3 = 0x20080522


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def permitted_capabilities() -> int:
    """The calling thread's permitted capabilities as a bit mask.  capget(2)"""
    header, data = _CapHeader(_CAPABILITY_VERSION_3, 0), (_CapData * 2)()
    _check(_libc.capget(ctypes.byref(header), data))
    return int(data[0].permitted | data[1].permitted << 32)


def set_effective_capabilities(effective: int, permitted: int) -> None:
    """Set the calling thread's effective capabilities.  capset(2)"""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    low, high = effective & 0xFFFFFFFF, effective >> 32
    data = (_CapData * 2)(_CapData(low, permitted & 0xFFFFFFFF, 0), _CapData(high, permitted >> 32, 0))
    _check(_libc.capset(ctypes.byref(header), data))
