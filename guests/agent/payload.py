"""The resident agent: performs system calls by name, inside the guest or outside on the host.

One file, standard library only, because it is pushed over SSH into guests of several Python versions
(3.9 and later) and also run outside: one API for all vantages. It speaks JSON lines on standard input and
output. A request is {"id", "proc", "op", "args", "kw", "timeout"}; its reply {"id", "v": value},
{"id", "errno", "text"}, {"id", "hung": seconds}, {"id", "died": signal or status}, or
{"id", "bug": traceback}. Bytes travel as {"b64": ...}, path names as strings with surrogate escapes.

Calls of "main" are made in this process; "proc" may name further processes, which it forks: that is how
a case gets a second process, another user or another umask. A call that never returns does not take the agent
with it: past its timeout the caller is told, and a successor goes on (see `Agent`).

A request with "look" (marked in the trace or not) has what its call changed looked at in the same round trip,
while the call is "main"'s: "seen" then holds [name below the root, lstat or errno] of each and of its parents. "s" is
what the call took, its request's decoding included; "o" what the agent spent on other things since the last call of
"main": looking, writing replies. Both in seconds.

An op is a function in `OPS`. Parameters annotated `P` are path names: relative ones are taken below
the worker's root (the case's own directory). Ops marked `changes=` report the path they changed, so that
the caller can compare it inside and outside after every such call.
"""

import base64
import ctypes
import ctypes.util
import errno
import fcntl
import gc
import hashlib
import json
import mmap
import os
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
import traceback

AT_FDCWD = -100
PATH_MAX = 4096
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000
NR = {"statx": 332, "renameat2": 316, "faccessat2": 439, "syncfs": 306, "getdents64": 217}
NARROW = struct.calcsize("P") == 4
"""A guest of 32 bits, such as v86's: the plain calls of its C library, and Python's, know no time after 2038."""
if NARROW:
    NR = {"statx": 383, "renameat2": 353, "faccessat2": 439, "syncfs": 344, "getdents64": 220}
PIDFD_OPEN, PIDFD_GETFD = 434, 438
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
FLOCK = "hhqqi" if NARROW else "hhqqi4x"

libc = ctypes.CDLL(None, use_errno=True)


class P(str):
    """Annotation of an op's parameter that is a path name."""


OPS = {}
SPOILING = set()
"""Ops after which their process is good for nothing else: `reset` does not undo what they do."""
FD_PATHS = {}
MAPS = {}
DIRS = {}
PROGRAMS = {}
CHANGED = []
ROOT = b"/"
ROOT_FD = None
"""The root held open during a case: its dentry stays, and each call walks one name less over the wire."""


def op(changes=(), spoils=False):
    """Declare an op. `changes`: parameters whose path (or whose descriptor's path) the call changes. `spoils`: see
    SPOILING."""

    def declare(function):
        if spoils:
            SPOILING.add(function.__name__)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        paths = [i for i, n in enumerate(names) if function.__annotations__.get(n) in (P, "P")]
        OPS[function.__name__.rstrip("_")] = (function, names, paths, tuple(changes))
        return function

    return declare


def under_root(path):
    raw = os.fsencode(path)
    return raw if raw.startswith(b"/") or ROOT == b"" else (os.path.join(ROOT, raw) if raw else raw)


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def perform(name, args, kw):
    """Run one op; the paths it changed are left in CHANGED, also when it fails half way."""
    if name not in OPS:
        raise NameError("the agent has no op named %r" % name)
    function, names, paths, changes = OPS[name]
    args = [decode(a) for a in args]
    kw = {k: decode(v) for k, v in kw.items()}
    relative_to_fd = kw.get("dir_fd") is not None
    for i in paths:
        if relative_to_fd and names[i] != "other":
            continue
        if i < len(args) and isinstance(args[i], (str, bytes)):
            args[i] = under_root(args[i])
        elif names[i] in kw and isinstance(kw[names[i]], (str, bytes)):
            kw[names[i]] = under_root(kw[names[i]])
    bound = dict(zip(names, args), **kw)
    touched = []
    for parameter in changes:
        value = bound.get(parameter)
        if isinstance(value, int):
            value = FD_PATHS.get(value)
        elif relative_to_fd:
            base = FD_PATHS.get(kw["dir_fd"])
            value = os.path.join(base, os.fsencode(value)) if base and value is not None else None
        if value is not None:
            touched.append(os.fsdecode(value))
    del CHANGED[:]
    CHANGED.extend(touched)
    return function(*args, **kw)


# ---------------------------------------------------------------- files


@op(changes=("path",))
def open_(path: P, flags=os.O_RDONLY, mode=0o666, dir_fd=None):
    fd = os.open(path, flags, mode, dir_fd=dir_fd)
    if dir_fd is not None and not os.path.isabs(path):
        path = os.path.join(FD_PATHS.get(dir_fd, b""), os.fsencode(path))
    FD_PATHS[fd] = path
    if not flags & (os.O_CREAT | os.O_TRUNC):
        del CHANGED[:]
    return fd


@op()
def close(fd):
    FD_PATHS.pop(fd, None)
    os.close(fd)


@op()
def dup(fd):
    new = os.dup(fd)
    FD_PATHS[new] = FD_PATHS.get(fd)
    return new


@op()
def take_descriptor(pid, fd):
    """A descriptor of the open file that process `pid` has as `fd`, as a child of it has by fork: pidfd_getfd(2)."""
    process = check(libc.syscall(PIDFD_OPEN, pid, 0))
    try:
        return check(libc.syscall(PIDFD_GETFD, process, fd, 0))
    finally:
        os.close(process)


@op(changes=("path",))
def create(path: P, data=b"", mode=0o666):
    """open(O_CREAT|O_EXCL|O_WRONLY), write, close."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


@op(changes=("path",))
def overwrite(path: P, data):
    """open(O_WRONLY|O_TRUNC), write, close."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@op()
def slurp(path: P, limit=1 << 20):
    """The file's content, at most `limit` bytes."""
    with open(path, "rb") as f:
        return f.read(limit)


def pattern(length, seed):
    """Bytes that differ at every position and for every seed: misplaced blocks show."""
    block = b"".join(hashlib.sha256(b"%d:%d" % (seed, i)).digest() for i in range(128))
    return (block * (length // len(block) + 1))[:length]


@op(changes=("fd",))
def write_pattern(fd, length, seed=0, offset=None, chunk=1 << 20):
    """Write `length` bytes of the pattern of `seed`; returns the bytes written."""
    data, done = memoryview(pattern(length, seed)), 0
    while done < length:
        part = data[done : done + chunk]
        done += os.write(fd, part) if offset is None else os.pwrite(fd, part, offset + done)
    return done


@op()
def hash_file(path: P):
    """[size, sha256 of the content] read through a descriptor of its own."""
    with open(path, "rb") as f:
        return hash_fd(f.fileno())


@op()
def hash_fd(fd, length=1 << 62, offset=0):
    """[bytes read, sha256] from offset, by pread, until `length` or end of file."""
    digest, done = hashlib.sha256(), 0
    while done < length:
        part = os.pread(fd, min(1 << 20, length - done), offset + done)
        if not part:
            break
        digest.update(part)
        done += len(part)
    return [done, digest.hexdigest()]


@op()
def hash_pattern(length, seed=0):
    return [length, hashlib.sha256(pattern(length, seed)).hexdigest()]


@op()
def pattern_bytes(length, seed=0):
    return pattern(length, seed)


@op()
def read_counts(fd, counts):
    """[bytes read, sha256] of one pread at 0 for each of `counts`."""
    return [read_in_one(fd, count, 0) for count in counts]


@op()
def read_in_one(fd, count, offset):
    """[bytes read, sha256] of one single pread."""
    data = os.pread(fd, count, offset)
    return [len(data), hashlib.sha256(data).hexdigest()]


@op()
def read(fd, count):
    return os.read(fd, count)


@op(changes=("fd",))
def write(fd, data):
    return os.write(fd, data)


@op()
def pread(fd, count, offset):
    return os.pread(fd, count, offset)


@op(changes=("fd",))
def pwrite(fd, data, offset):
    return os.pwrite(fd, data, offset)


@op()
def readv(fd, counts):
    buffers = [bytearray(n) for n in counts]
    got = os.readv(fd, buffers)
    return b"".join(bytes(b) for b in buffers)[:got]


@op(changes=("fd",))
def writev(fd, parts):
    return os.writev(fd, [decode(p) for p in parts])


@op()
def preadv(fd, counts, offset, flags=0):
    buffers = [bytearray(n) for n in counts]
    got = os.preadv(fd, buffers, offset, flags)
    return b"".join(bytes(b) for b in buffers)[:got]


@op(changes=("fd",))
def pwritev(fd, parts, offset, flags=0):
    return os.pwritev(fd, [decode(p) for p in parts], offset, flags)


@op()
def read_direct(fd, count, offset):
    """pread into page-aligned memory, as O_DIRECT wants it."""
    with mmap.mmap(-1, max(count, 4096)) as buffer:
        got = os.preadv(fd, [memoryview(buffer)[:count]], offset)
        return buffer[:got]


@op(changes=("fd",))
def write_direct(fd, data, offset):
    """pwrite from page-aligned memory, as O_DIRECT wants it."""
    with mmap.mmap(-1, max(len(data), 4096)) as buffer:
        buffer[: len(data)] = data
        return os.pwritev(fd, [memoryview(buffer)[: len(data)]], offset)


@op()
def lseek(fd, offset, whence=os.SEEK_SET):
    return os.lseek(fd, offset, whence)


@op(changes=("path",))
def truncate(path: P, length):
    os.truncate(path, length)


@op(changes=("fd",))
def ftruncate(fd, length):
    os.ftruncate(fd, length)


@op(changes=("fd",))
def fsync(fd):
    os.fsync(fd)


@op(changes=("fd",))
def fdatasync(fd):
    os.fdatasync(fd)


@op()
def syncfs(fd):
    check(libc.syscall(NR["syncfs"], fd))


@op(changes=("fd",))
def fallocate(fd, mode, offset, length):
    call = getattr(libc, "fallocate64", libc.fallocate)
    check(call(fd, mode, ctypes.c_longlong(offset), ctypes.c_longlong(length)))


@op(changes=("fd",))
def posix_fallocate(fd, offset, length):
    """posix_fallocate(3), which returns its errno; the C library may emulate it by writing."""
    call = getattr(libc, "posix_fallocate64", libc.posix_fallocate)
    number = call(fd, ctypes.c_longlong(offset), ctypes.c_longlong(length))
    if number:
        raise OSError(number, os.strerror(number))


@op()
def memfd(name):
    """A file that is on no share: memfd_create(2)."""
    return os.memfd_create(name)


@op(changes=("dst",))
def copy_file_range(src, dst, count, offset_src=None, offset_dst=None):
    return os.copy_file_range(src, dst, count, offset_src, offset_dst)


@op(changes=("dst",))
def copy_file_range_flags(src, dst, count, flags):
    """copy_file_range(2) with its flags argument, from and to the current offsets."""
    call = libc.copy_file_range
    call.restype = ctypes.c_ssize_t
    return check(call(src, None, dst, None, ctypes.c_size_t(count), ctypes.c_uint(flags)))


@op(changes=("out",))
def sendfile(out, source, offset, count):
    return os.sendfile(out, source, offset, count)


@op(changes=("dst",))
def splice_through_pipe(src, dst, count):
    """splice(2) from src into a pipe and from the pipe into dst; returns the bytes moved."""
    r, w = os.pipe()
    try:
        moved = check(libc.splice(src, None, w, None, ctypes.c_size_t(count), 0))
        return check(libc.splice(r, None, dst, None, ctypes.c_size_t(moved), 0)) if moved else 0
    finally:
        os.close(r)
        os.close(w)


@op()
def pipe():
    """A pipe of this worker: [read end, write end]."""
    r, w = os.pipe()
    return [r, w]


@op(changes=("dst",))
def splice(src, dst, count, offset_src=None, offset_dst=None, flags=0):
    """splice(2); one side must be a pipe."""
    offsets = [None if o is None else ctypes.byref(ctypes.c_longlong(o)) for o in (offset_src, offset_dst)]
    call = libc.splice
    call.restype = ctypes.c_ssize_t
    return check(call(src, offsets[0], dst, offsets[1], ctypes.c_size_t(count), ctypes.c_uint(flags)))


@op()
def rw_at_bad_address(name, fd, count):
    """read(2) or write(2) with a buffer that is mapped nowhere."""
    call = {"read": libc.read, "write": libc.write}[name]
    call.restype = ctypes.c_ssize_t
    return check(call(fd, ctypes.c_void_p(1), ctypes.c_size_t(count)))


@op()
def posix_fadvise(fd, offset, length, advice):
    os.posix_fadvise(fd, offset, length, advice)


@op()
def fcntl_(fd, command, argument=0):
    return fcntl.fcntl(fd, command, argument)


@op()
def ioctl(fd, request, argument=0):
    return fcntl.ioctl(fd, request, argument)


@op()
def poll(fd, events, seconds):
    poller = select.poll()
    poller.register(fd, events)
    return [list(e) for e in poller.poll(seconds * 1000)]


# ---------------------------------------------------------------- memory maps


class Map:
    """A mapping by mmap(2) itself: the mmap module refuses lengths past end of file and keeps a dup of fd."""

    def __init__(self, fd, length, prot, flags, offset):
        libc.mmap.restype = ctypes.c_void_p
        call = getattr(libc, "mmap64", libc.mmap)
        call.restype = ctypes.c_void_p
        ctypes.set_errno(0)
        size, at = ctypes.c_size_t(length), ctypes.c_longlong(offset)
        self.address, self.length = call(None, size, prot, flags, fd, at), length
        if self.address == ctypes.c_void_p(-1).value:
            self.address = None
            check(-1)

    def read(self, offset, count):
        return ctypes.string_at(self.address + offset, count)

    def write(self, offset, data):
        ctypes.memmove(self.address + offset, bytes(data), len(data))

    def flush(self, flags):
        check(libc.msync(ctypes.c_void_p(self.address), ctypes.c_size_t(self.length), flags))

    def close(self):
        if self.address is not None:
            address, self.address = self.address, None
            check(libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(self.length)))


@op()
def mmap_(fd, length, prot, flags, offset=0):
    mapping = Map(fd, length, prot, flags, offset)
    handle = max(MAPS, default=0) + 1
    MAPS[handle] = (mapping, FD_PATHS.get(fd))
    return handle


@op()
def map_read(handle, offset, count):
    return MAPS[handle][0].read(offset, count)


@op()
def map_write(handle, offset, data):
    MAPS[handle][0].write(offset, data)


@op()
def msync(handle, flags=4):
    """msync(2) of the whole mapping; flags default to MS_SYNC."""
    MAPS[handle][0].flush(flags)
    CHANGED.extend([os.fsdecode(MAPS[handle][1])] if MAPS[handle][1] else [])


@op()
def mprotect(handle, prot):
    mapping = MAPS[handle][0]
    check(libc.mprotect(ctypes.c_void_p(mapping.address), ctypes.c_size_t(mapping.length), prot))


@op()
def munmap(handle):
    MAPS.pop(handle)[0].close()


@op()
def map_touch_in_child(fd, length, prot, flags, touch, offset=0, data=b""):
    """Map in a child and read one byte at `touch`, or write `data` there: the signal that killed it, or 0."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGBUS, signal.SIG_DFL)
            mapping = Map(fd, length, prot, flags, offset)
            if data:
                mapping.write(touch, data)
            else:
                mapping.read(touch, 1)
            os._exit(0)
        except BaseException:
            os._exit(99)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


# ---------------------------------------------------------------- attributes

STAT = (
    "mode",
    "ino",
    "dev",
    "nlink",
    "uid",
    "gid",
    "size",
    "blksize",
    "blocks",
    "rdev",
    "atime_ns",
    "mtime_ns",
    "ctime_ns",
)


def stat_dict(s):
    return {"st_" + name: getattr(s, "st_" + name) for name in STAT}


def narrow_stat(path, dir_fd, flags):
    """As stat_dict, by statx(2), whose times have 64 bits everywhere."""
    s = statx(path, flags, 0x7FF, dir_fd)
    return {"st_" + name: s["stx_" + name] for name in STAT}


def identity(path, dir_fd=None):
    """st_mode, st_ino and st_dev as lstat(2) has them, whatever the times."""
    if NARROW:
        s = narrow_stat(path, dir_fd, AT_SYMLINK_NOFOLLOW)
        return s["st_mode"], s["st_ino"], s["st_dev"]
    s = os.lstat(path, dir_fd=dir_fd)
    return s.st_mode, s.st_ino, s.st_dev


@op()
def stat_(path: P, dir_fd=None):
    if NARROW:
        return narrow_stat(path, dir_fd, 0)
    return stat_dict(os.stat(path, dir_fd=dir_fd))


@op()
def lstat(path: P, dir_fd=None):
    if NARROW:
        return narrow_stat(path, dir_fd, AT_SYMLINK_NOFOLLOW)
    return stat_dict(os.stat(path, dir_fd=dir_fd, follow_symlinks=False))


@op()
def fstat(fd):
    if NARROW:
        return narrow_stat(b"", fd, AT_EMPTY_PATH)
    return stat_dict(os.fstat(fd))


@op()
def statx(path: P, flags=0x100, mask=0xFFF, dir_fd=None):
    """Every field of struct statx; times in nanoseconds; flags default to AT_SYMLINK_NOFOLLOW."""
    buffer = ctypes.create_string_buffer(256)
    at = AT_FDCWD if dir_fd is None else dir_fd
    check(libc.syscall(NR["statx"], at, ctypes.c_char_p(os.fsencode(path)), flags, mask, buffer))
    head = struct.unpack_from("=IIQIIIHxxQQQQ", buffer.raw, 0)
    times = [struct.unpack_from("=qI", buffer.raw, 64 + 16 * i) for i in range(4)]
    devices = struct.unpack_from("=IIIIQ", buffer.raw, 128)
    names = (
        "stx_mask",
        "stx_blksize",
        "stx_attributes",
        "stx_nlink",
        "stx_uid",
        "stx_gid",
        "stx_mode",
        "stx_ino",
        "stx_size",
        "stx_blocks",
        "stx_attributes_mask",
    )
    out = dict(zip(names, head))
    for name, (seconds, nanoseconds) in zip(("atime", "btime", "ctime", "mtime"), times):
        out["stx_%s_ns" % name] = seconds * 10**9 + nanoseconds
    out["stx_rdev"] = os.makedev(devices[0], devices[1])
    out["stx_dev"] = os.makedev(devices[2], devices[3])
    out["stx_mnt_id"] = devices[4]
    return out


@op()
def look(paths, kind="lstat", mark=False):
    """lstat or statx of each path for a comparison: a dictionary, or the errno. Bracketed in the 9p trace."""
    if mark:
        trace_mark("assay9 begin")
    out = []
    for path in paths:
        try:
            raw = under_root(path)
            if ROOT_FD is not None and kind == "lstat" and not path.startswith("/") and len(raw) < PATH_MAX:
                out.append(lstat(os.fsencode(path), dir_fd=ROOT_FD))
            else:
                out.append(statx(raw) if kind == "statx" else lstat(raw))
        except OSError as e:
            out.append(e.errno)
    if mark:
        trace_mark("assay9 end")
    return out


@op()
def statvfs(path: P):
    s = os.statvfs(path)
    seen = {
        n: getattr(s, n)
        for n in (
            "f_bsize",
            "f_frsize",
            "f_blocks",
            "f_bfree",
            "f_bavail",
            "f_files",
            "f_ffree",
            "f_favail",
            "f_flag",
            "f_namemax",
            "f_fsid",
        )
    }
    if NARROW:  # where f_fsid holds the first half only
        whole = statfs(path)
        seen["f_fsid"] = (whole["fsid0"] & 0xFFFFFFFF) | (whole["fsid1"] & 0xFFFFFFFF) << 32
    return seen


@op()
def fstatvfs(fd):
    return statvfs(fd)


@op()
def statfs(path: P):
    """struct statfs as the kernel gives it: f_type is not in statvfs."""
    buffer = ctypes.create_string_buffer(256)
    check(libc.fstatfs64(path, buffer) if isinstance(path, int) else libc.statfs64(os.fsencode(path), buffer))
    values = struct.unpack_from("@llQQQQQiilll", buffer.raw)
    names = (
        "f_type",
        "f_bsize",
        "f_blocks",
        "f_bfree",
        "f_bavail",
        "f_files",
        "f_ffree",
        "fsid0",
        "fsid1",
        "f_namelen",
        "f_frsize",
        "f_flags",
    )
    return dict(zip(names, values))


@op(changes=("path",))
def chmod(path: P, mode, dir_fd=None):
    os.chmod(path, mode, dir_fd=dir_fd)


@op(changes=("fd",))
def fchmod(fd, mode):
    os.fchmod(fd, mode)


@op(changes=("path",))
def chown(path: P, uid, gid, dir_fd=None):
    os.chown(path, uid, gid, dir_fd=dir_fd)


@op(changes=("path",))
def lchown(path: P, uid, gid):
    os.lchown(path, uid, gid)


@op(changes=("fd",))
def fchown(fd, uid, gid):
    os.fchown(fd, uid, gid)


class Timespec(ctypes.Structure):
    """struct timespec; on 32 bits the one of the C library's calls for 64-bit times (glibc 2.34 and later)."""

    _fields_ = [("sec", ctypes.c_longlong), ("nsec", ctypes.c_long)] + [("pad", ctypes.c_long)] * NARROW


UTIMENSAT, FUTIMENS = ("__utimensat64", "__futimens64") if NARROW else ("utimensat", "futimens")


def timespecs(atime, mtime):
    """Two of: nanoseconds since 1970 (may be negative), "now", "omit", or [seconds, nanoseconds] as is.

    Both None: no array at all, a null pointer.
    """
    if atime is None and mtime is None:
        return None
    special = {"now": (0, 0x3FFFFFFF), "omit": (0, 0x3FFFFFFE)}
    out = []
    for t in (atime, mtime):
        out.append(special[t] if isinstance(t, str) else tuple(t) if isinstance(t, list) else divmod(t, 10**9))
    return (Timespec * 2)(*[Timespec(*t) for t in out])


@op(changes=("path",))
def utimensat(path: P, atime, mtime, flags=0, dir_fd=None):
    at = AT_FDCWD if dir_fd is None else dir_fd
    check(getattr(libc, UTIMENSAT)(at, os.fsencode(path), timespecs(atime, mtime), flags))


@op(changes=("fd",))
def futimens(fd, atime, mtime):
    check(getattr(libc, FUTIMENS)(fd, timespecs(atime, mtime)))


@op()
def access(path: P, mode):
    check(libc.access(os.fsencode(path), mode))


@op()
def faccessat2(path: P, mode, flags=0, dir_fd=None):
    at = AT_FDCWD if dir_fd is None else dir_fd
    check(libc.syscall(NR["faccessat2"], at, ctypes.c_char_p(os.fsencode(path)), mode, flags))


@op()
def umask(mask):
    return os.umask(mask)


# ---------------------------------------------------------------- names


@op(changes=("path",))
def mkdir(path: P, mode=0o777, dir_fd=None):
    os.mkdir(path, mode, dir_fd=dir_fd)


@op(changes=("path",))
def rmdir(path: P, dir_fd=None):
    os.rmdir(path, dir_fd=dir_fd)


@op(changes=("path",))
def unlink(path: P, dir_fd=None):
    os.unlink(path, dir_fd=dir_fd)


@op(changes=("path",))
def unlinkat(path: P, flags, dir_fd=None):
    at = AT_FDCWD if dir_fd is None else dir_fd
    check(libc.unlinkat(at, os.fsencode(path), flags))


@op(changes=("path", "other"))
def rename(path: P, other: P):
    os.rename(path, other)


@op(changes=("path", "other"))
def renameat2(path: P, other: P, flags=0):
    check(libc.syscall(NR["renameat2"], AT_FDCWD, ctypes.c_char_p(path), AT_FDCWD, ctypes.c_char_p(other), flags))


@op()
def renameat(source_fd, name, target_fd, other):
    """renameat(2) of names as they are, below two descriptors."""
    check(libc.renameat(source_fd, ctypes.c_char_p(os.fsencode(name)), target_fd, ctypes.c_char_p(os.fsencode(other))))


@op(changes=("path", "other"))
def link(path: P, other: P):
    os.link(path, other, follow_symlinks=False)


@op(changes=("other",))
def linkat(path: P, other: P, flags=0, dir_fd=None):
    at = AT_FDCWD if dir_fd is None else dir_fd
    check(libc.linkat(at, os.fsencode(path), AT_FDCWD, os.fsencode(other), flags))


@op(changes=("path",))
def symlink(target, path: P, dir_fd=None):
    os.symlink(os.fsencode(target), path, dir_fd=dir_fd)


@op()
def readlink(path: P, dir_fd=None):
    return os.fsdecode(os.readlink(path, dir_fd=dir_fd))


@op()
def readlink_size(path: P, size):
    """readlink(2) with a buffer of `size` bytes: what it put there."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    got = check(libc.readlink(os.fsencode(path), buffer, ctypes.c_size_t(size)))
    return buffer.raw[:got]


@op(changes=("path",))
def mknod(path: P, mode, device=0, dir_fd=None):
    os.mknod(path, mode, device, dir_fd=dir_fd)


@op(changes=("path",))
def mkfifo(path: P, mode=0o666, dir_fd=None):
    os.mkfifo(path, mode, dir_fd=dir_fd)


@op(changes=("path",))
def bind_socket(path: P):
    """Bind a listening AF_UNIX stream socket at path; returns its descriptor. sun_path holds 107 bytes."""
    s = socket.socket(socket.AF_UNIX)
    s.bind(os.fsencode(path))
    s.listen(1)
    return s.detach()


@op()
def connect_socket(path: P):
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.fsencode(path))
    return s.detach()


@op()
def accept(fd):
    with socket.socket(fileno=os.dup(fd)) as s:
        return s.accept()[0].detach()


BAD_ADDRESS = ctypes.c_void_p(1)
AT_BAD_ADDRESS = {
    "mkdir": (BAD_ADDRESS, 0o755),
    "rmdir": (BAD_ADDRESS,),
    "unlink": (BAD_ADDRESS,),
    "chmod": (BAD_ADDRESS, 0o600),
    "rename": (BAD_ADDRESS, BAD_ADDRESS),
    "link": (BAD_ADDRESS, BAD_ADDRESS),
    "symlink": (BAD_ADDRESS, BAD_ADDRESS),
    "mkfifo": (BAD_ADDRESS, 0o644),
    "open": (BAD_ADDRESS, os.O_RDONLY),
    "truncate": (BAD_ADDRESS, ctypes.c_long(0)),
    "chown": (BAD_ADDRESS, 0, 0),
    "access": (BAD_ADDRESS, 0),
    "chdir": (BAD_ADDRESS,),
    "readlink": (BAD_ADDRESS, BAD_ADDRESS, ctypes.c_size_t(9)),
}


@op()
def path_at_bad_address(name):
    """The call of that name with a path that is mapped nowhere."""
    check(getattr(libc, name)(*AT_BAD_ADDRESS[name]))


# ---------------------------------------------------------------- directories


@op()
def listdir(path: P):
    return sorted(os.fsdecode(n) for n in os.listdir(path))


@op()
def scandir(path: P):
    """[[name, inode, file type bits of lstat], ...] sorted by name, "." and ".." left out."""
    entries = []
    for name in os.listdir(os.fsencode(path)):
        mode, inode, _ = identity(os.path.join(os.fsencode(path), name))
        entries.append([os.fsdecode(name), inode, stat.S_IFMT(mode)])
    return sorted(entries)


@op()
def entries(path: P):
    """As scandir, with the st_dev of each behind: [[name, inode, type, device], ...]."""
    found = []
    for name in os.listdir(os.fsencode(path)):
        mode, inode, device = identity(os.path.join(os.fsencode(path), name))
        found.append([os.fsdecode(name), inode, stat.S_IFMT(mode), device])
    return sorted(found)


@op()
def getdents(fd, count=32768):
    """One getdents64(2): [[name, inode, d_off, d_type], ...] as the kernel gives them, [] at the end."""
    buffer = ctypes.create_string_buffer(count)
    got = check(libc.syscall(NR["getdents64"], fd, buffer, count))
    entries, at, raw = [], 0, buffer.raw
    while at < got:
        inode, offset, length, kind = struct.unpack_from("=QqHB", raw, at)
        name = raw[at + 19 : at + length].split(b"\0", 1)[0]
        entries.append([os.fsdecode(name), inode, offset, kind])
        at += length
    return entries


@op()
def readdir_all(path: P, count=32768):
    """Every entry of a directory through getdents64, in the order given, "." and ".." included."""
    fd, entries = os.open(path, os.O_RDONLY | os.O_DIRECTORY), []
    try:
        while True:
            part = getdents(fd, count)
            if not part:
                return entries
            entries += part
    finally:
        os.close(fd)


@op()
def opendir(path: P):
    libc.opendir.restype = ctypes.c_void_p
    stream = libc.opendir(os.fsencode(path))
    if not stream:
        check(-1)
    DIRS[len(DIRS) + 1] = ctypes.c_void_p(stream)
    return len(DIRS)


@op()
def readdir(handle, count=1):
    """Up to `count` further names of a stream opened by opendir, with telldir after each."""
    libc.readdir64.restype, libc.telldir.restype = ctypes.c_void_p, ctypes.c_long
    out = []
    for _ in range(count):
        entry = libc.readdir64(DIRS[handle])
        if not entry:
            break
        out.append([os.fsdecode(ctypes.string_at(entry + 19)), libc.telldir(DIRS[handle])])
    return out


@op()
def telldir(handle):
    libc.telldir.restype = ctypes.c_long
    return libc.telldir(DIRS[handle])


@op()
def seekdir(handle, position):
    libc.seekdir(DIRS[handle], ctypes.c_long(position))


@op()
def rewinddir(handle):
    libc.rewinddir(DIRS[handle])


@op()
def closedir(handle):
    libc.closedir(DIRS.pop(handle))


@op(changes=("path",))
def fill_directory(path: P, count, prefix="f", names_each=1):
    """Create `count` names, prefix + number (six digits), of empty files that have so many names each."""
    first = b""
    for i in range(count):
        name = os.path.join(path, b"%s%06d" % (os.fsencode(prefix), i))
        if i % names_each:
            os.link(first, name)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL, 0o644))
            first = name


@op()
def mkdir_down(fd, names):
    """mkdirat(2) and openat(2), each below the one before, until one fails: [descriptors, errno or 0]."""
    made = []
    try:
        for name in names:
            os.mkdir(os.fsencode(name), dir_fd=fd)
            fd = os.open(os.fsencode(name), os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            made.append(fd)
    except OSError as e:
        return [made, e.errno]
    return [made, 0]


@op(changes=("path",))
def rmtree(path: P):
    """Remove a tree as it stands, without following symbolic links; a missing one is no error."""
    remove_below(None, path)


def remove_below(parent, name):
    """Remove `name`, a tree or not, of directory descriptor `parent`: paths may be longer than PATH_MAX."""
    try:
        mode = identity(name, parent)[0]
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(name, dir_fd=parent)
        return
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        for entry in os.listdir(fd):
            remove_below(fd, entry)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


@op()
def chdir(path: P):
    os.chdir(path)


@op()
def getcwd():
    return os.fsdecode(os.getcwdb())


# ---------------------------------------------------------------- extended attributes


@op(changes=("path",))
def setxattr(path: P, name, value, flags=0, follow_symlinks=True):
    os.setxattr(path, name, value, flags, follow_symlinks=follow_symlinks)


@op()
def getxattr(path: P, name, follow_symlinks=True):
    return os.getxattr(path, name, follow_symlinks=follow_symlinks)


@op()
def listxattr(path: P, follow_symlinks=True):
    return sorted(os.listxattr(path, follow_symlinks=follow_symlinks))


@op(changes=("path",))
def removexattr(path: P, name, follow_symlinks=True):
    os.removexattr(path, name, follow_symlinks=follow_symlinks)


@op(changes=("fd",))
def fsetxattr(fd, name, value, flags=0):
    os.setxattr(fd, name, value, flags)


@op()
def fgetxattr(fd, name):
    return os.getxattr(fd, name)


@op(changes=("fd",))
def fremovexattr(fd, name):
    os.removexattr(fd, name)


@op()
def flistxattr(fd):
    return sorted(os.listxattr(fd))


@op()
def getxattr_size(path: P, name, size):
    """getxattr(2) with a buffer of `size` bytes: the length it returns."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    return check(libc.getxattr(os.fsencode(path), os.fsencode(name), buffer, ctypes.c_size_t(size)))


@op()
def listxattr_size(path: P, size):
    """listxattr(2) with a buffer of `size` bytes: the length it returns."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    return check(libc.listxattr(os.fsencode(path), buffer, ctypes.c_size_t(size)))


# ---------------------------------------------------------------- locks


def lock_struct(kind, start, length, pid=0):
    return struct.pack(FLOCK, {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}[kind], 0, start, length, pid)


def unlock_struct(raw):
    kind, _whence, start, length, pid = struct.unpack(FLOCK, raw)
    return {
        "type": {fcntl.F_RDLCK: "r", fcntl.F_WRLCK: "w", fcntl.F_UNLCK: "u"}[kind],
        "start": start,
        "length": length,
        "pid": pid,
    }


@op()
def setlk(fd, kind, start=0, length=0, wait=False, ofd=False):
    """fcntl record lock. kind: "r", "w" or "u" (unlock); ofd: an open file description lock."""
    command = (F_OFD_SETLKW if wait else F_OFD_SETLK) if ofd else (fcntl.F_SETLKW if wait else fcntl.F_SETLK)
    fcntl.fcntl(fd, command, lock_struct(kind, start, length))


@op()
def getlk(fd, kind, start=0, length=0, ofd=False):
    """The lock that would conflict: {"type", "start", "length", "pid"}, type "u" if none."""
    command = F_OFD_GETLK if ofd else fcntl.F_GETLK
    return unlock_struct(fcntl.fcntl(fd, command, lock_struct(kind, start, length)))


@op()
def flock(fd, operation):
    fcntl.flock(fd, operation)


# ---------------------------------------------------------------- processes, mounts, events


@op(changes=("path",))
def hold_many_open(path: P, count):
    """Create and keep open `count` files named path + number, then read each: the numbers that read wrong."""
    fds, wrong = [], []
    try:
        for i in range(count):
            fds.append(os.open(path + b"%d" % i, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))
            os.write(fds[-1], b"content of %d" % i)
        for i, fd in enumerate(fds):
            if os.pread(fd, 100, 0) != b"content of %d" % i:
                wrong.append(i)
    finally:
        for fd in fds:
            os.close(fd)
    return wrong


@op(spoils=True)
def setrlimit(which, soft):
    """Lower a soft limit (RLIMIT_FSIZE, RLIMIT_NOFILE) of this process; for spawned processes only."""
    limits = (ctypes.c_ulong * 2)()
    check(libc.getrlimit(which, limits))
    limits[0] = soft
    check(libc.setrlimit(which, limits))


@op()
def getpid():
    return os.getpid()


@op()
def run(argv, timeout=60, stdin=b"", cwd=None, env=None):
    """Run a program to its end: {"status", "stdout", "stderr"}. A relative argv[0] with "/" is below the root."""
    argv = [os.fsencode(a) for a in argv]
    if b"/" in argv[0]:
        argv[0] = under_root(argv[0])
    done = subprocess.run(
        argv,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=timeout,
        cwd=None if cwd is None else under_root(cwd),
        env=env,
        check=False,
    )
    return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


@op(spoils=True)
def start_program(argv):
    """Start a program that is on its way when this returns; its process id. A relative argv[0] is below the root."""
    process = subprocess.Popen([under_root(argv[0]), *argv[1:]], stdin=subprocess.DEVNULL)
    PROGRAMS[process.pid] = process
    return process.pid


@op()
def end_program(pid):
    PROGRAMS[pid].kill()
    PROGRAMS.pop(pid).wait()


@op()
def which(program):
    return shutil.which(program, path="/bin:/usr/bin:/sbin:/usr/sbin")


@op()
def loaded_library():
    """The path of a small library that this process has loaded and that another can preload, or None."""
    with open("/proc/self/maps") as f:
        found = {line.split()[-1] for line in f if ".so" in line}
    for wanted in ("libffi", "libz.", "libm.", "libm-"):
        for path in sorted(found):
            if os.path.basename(path).startswith(wanted):
                return path
    return None


@op()
def mount(source, directory, kind, flags=0, data=""):
    """mount(2)."""
    names = [ctypes.c_char_p(os.fsencode(t)) for t in (source, directory, kind)]
    check(libc.mount(*names, ctypes.c_ulong(flags), ctypes.c_char_p(os.fsencode(data))))


@op()
def umount2(directory, flags=0):
    check(libc.umount2(ctypes.c_char_p(os.fsencode(directory)), flags))


@op()
def mounts():
    """/proc/self/mounts, split: [source, directory, type, options] of each."""
    with open("/proc/self/mounts") as f:
        return [line.split()[:4] for line in f]


@op()
def uname():
    return list(os.uname())


@op()
def inotify_init():
    return check(libc.inotify_init1(os.O_NONBLOCK))


@op()
def inotify_add_watch(fd, path: P, mask):
    return check(libc.inotify_add_watch(fd, os.fsencode(path), mask))


@op()
def inotify_read(fd, seconds=1.0):
    """Events waiting, after at most `seconds`: [[mask, name], ...]."""
    if not select.select([fd], [], [], seconds)[0]:
        return []
    raw, at, events = os.read(fd, 65536), 0, []
    while at < len(raw):
        _wd, mask, _cookie, length = struct.unpack_from("iIII", raw, at)
        name = raw[at + 16 : at + 16 + length].split(b"\0", 1)[0]
        events.append([mask, os.fsdecode(name)])
        at += 16 + length
    return events


@op()
def repeat(count, name, *args):
    """The same op `count` times in one request; stops at the first error. Placeholders %d take the index."""
    last = None
    for i in range(count):
        last = perform(name, [a % i if isinstance(a, str) and "%d" in a else a for a in args], {})
    return last


@op()
def attempts(calls):
    """The errno of each of several calls [op, args], 0 where it worked; descriptors that they open are closed."""
    out = []
    for name, args in calls:
        try:
            value = perform(name, args, {})
            if name == "open":
                close(value)
            out.append(0)
        except OSError as e:
            out.append(e.errno)
    return out


@op()
def append_records(path: P, tag, count):
    """Open with O_APPEND and write `count` 32-byte records that begin with `tag`; for races."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        for i in range(count):
            os.write(fd, (b"%s %08d" % (os.fsencode(tag), i)).ljust(31, b".") + b"\n")
    finally:
        os.close(fd)


@op()
def try_create_exclusively(path: P, count, wait=0.0, gone=False):
    """For names path + number: those that this process's O_CREAT|O_EXCL made; it waits after each.

    `gone`: ENOENT counts as made, and removed by another before the call returned.
    """
    won = []
    for i in range(count):
        try:
            os.close(os.open(path + b"%d" % i, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            won.append(i)
        except FileExistsError:
            pass
        except FileNotFoundError:
            if not gone:
                raise
            won.append(i)
        time.sleep(wait)
    return won


@op()
def rename_many(path: P, other: P, count):
    """Rename to and fro `count` times; ENOENT (the other process was first) is counted, not raised."""
    lost = 0
    for _ in range(count):
        for a, b in ((path, other), (other, path)):
            try:
                os.rename(a, b)
            except FileNotFoundError:
                lost += 1
    return lost


@op()
def replace_many(path: P, count, length):
    """Replace `path` by rename of a new file, `count` times; each holds one digit `length` times."""
    for i in range(count):
        with open(path + b".new", "wb") as f:
            f.write(b"%d" % (i % 10) * length)
        os.rename(path + b".new", path)


@op()
def read_many(path: P, count):
    """[the different bytes seen, as text, and the length] of each of `count` reads of the whole file."""
    out = []
    for _ in range(count):
        with open(path, "rb") as f:
            data = f.read()
        out.append(["".join(sorted(set(data.decode("latin-1")))), len(data)])
    return out


@op()
def try_unlink(path: P, count, wait=0.0):
    """For names path + number: those that this process removed, of 20 attempts each; it waits after a failure."""
    removed = []
    for i in range(count):
        for _ in range(20):
            try:
                os.unlink(path + b"%d" % i)
                removed.append(i)
                break
            except FileNotFoundError:
                time.sleep(wait)
    return removed


@op(changes=("path",))
def write_blocks(path: P, first, step, count, length):
    """Write `count` blocks numbered first, first + step, ... at their places; each holds one byte value."""
    fd = os.open(path, os.O_WRONLY)
    try:
        for i in range(first, first + step * count, step):
            os.pwrite(fd, bytes([33 + i % 90]) * length, i * length)
    finally:
        os.close(fd)


@op()
def clock(step_ns=0):
    """Move the time of day by so many nanoseconds; then [the time of day, the monotonic clock] in nanoseconds."""
    if step_ns:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + step_ns)
    return [time.time_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC)]


@op()
def sleep(seconds):
    time.sleep(seconds)


@op()
def read_text(path: P):
    """A file of /proc or /sys, as text."""
    with open(path, errors="replace") as f:
        return f.read()


@op()
def write_text(path: P, text):
    with open(path, "w") as f:
        f.write(text)


@op()
def setroot(path):
    """Relative names of this worker are taken below `path` from now on."""
    global ROOT
    ROOT = os.fsencode(path)
    release_root()


def release_root():
    """Hold the root open no longer."""
    global ROOT_FD
    if ROOT_FD is not None:
        os.close(ROOT_FD)
        ROOT_FD = None


@op()
def reset():
    """Give the worker back as it was: descriptors, maps and streams closed, umask 022, cwd /."""
    release_root()
    for handle in list(MAPS):
        MAPS.pop(handle)[0].close()
    for handle in list(DIRS):
        closedir(handle)
    for fd in [int(n) for n in os.listdir("/proc/self/fd")]:
        if fd > 2 and fd not in KEPT:
            try:
                os.close(fd)
            except OSError:
                pass
    FD_PATHS.clear()
    os.umask(0o022)
    os.chdir("/")


@op()
def fresh_root(path):
    """Begin a case: this process as new, and an empty directory `path` (mode 0777) that relative names are below."""
    reset()
    setroot("/")
    rmtree(os.fsencode(path))
    os.mkdir(path)
    os.chmod(path, 0o777)
    setroot(path)


@op()
def begin_case(path, drop_caches=False, remove=None, trace=False):
    """Begin a case on a share: names below `path`, which is held, and nothing traced yet where there is tracing.

    `remove`: a directory of the control file system that is no longer wanted. `drop_caches`: the guest still knows
    earlier cases' files by inode number, which the host has used again, so that dentries and inodes are dropped;
    several times, because the kernel gives a dentry that was used lately a second chance.
    """
    reset()
    if remove is not None:
        rmtree(os.fsencode(remove))
    setroot(path)
    for _ in range(3 if drop_caches else 0):
        write_text("/proc/sys/vm/drop_caches", "2")
    global ROOT_FD
    ROOT_FD = os.open(path, os.O_PATH | os.O_DIRECTORY)
    if trace:
        trace_begin()


@op()
def end_case():
    """End a case on a share: what was traced, None where there is no tracing; this process as new."""
    traced = trace_end() if TRACE_FDS else None
    reset()
    return traced


@op()
def drop_root(path):
    """End a case: this process as new, and its directory gone."""
    reset()
    rmtree(os.fsencode(path))


@op()
def ops():
    return sorted(OPS)


# ---------------------------------------------------------------- tracing of 9P in the guest

TRACE = "/sys/kernel/tracing/instances/assay9"
TRACE_FDS = {}


@op()
def trace_begin():
    """Start recording the guest's 9p tracepoints in an instance of our own; False where there are none."""
    if not os.path.isdir("/sys/kernel/tracing/events/9p"):
        return False
    if not TRACE_FDS:
        if not os.path.isdir(TRACE):
            os.mkdir(TRACE)
        for name, value in (
            ("buffer_size_kb", "4096"),
            ("events/9p/9p_client_req/enable", "1"),
            ("events/9p/9p_client_res/enable", "1"),
        ):
            with open(os.path.join(TRACE, name), "w") as f:
                f.write(value)
        TRACE_FDS["pipe"] = os.open(TRACE + "/trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
        TRACE_FDS["marker"] = os.open(TRACE + "/trace_marker", os.O_WRONLY)
        KEPT.update(TRACE_FDS.values())
    trace_end()
    return True


@op()
def trace_end():
    """What was traced since the last reading, as text of the kernel's own format; reading consumes it."""
    parts = []
    while True:
        try:
            part = os.read(TRACE_FDS["pipe"], 1 << 16)
        except BlockingIOError:
            part = b""
        if not part:
            return b"".join(parts).decode(errors="replace")
        parts.append(part)


@op()
def trace_mark(text):
    os.write(TRACE_FDS["marker"], text.encode())


MARKED = threading.local()
"""Of each thread: `number`, the call that its messages belong to in the trace, 0 for none of the case's."""


def mark_call(request):
    """Say in the trace to which call of the case the following messages of this thread belong."""
    number = request["id"] if request.get("marked") else 0
    if number or getattr(MARKED, "number", 0):
        trace_mark("assay9 call %d" % number)
        MARKED.number = number


# ---------------------------------------------------------------- the wire to the caller


def encode(value):
    if isinstance(value, (bytes, bytearray)):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    if isinstance(value, dict):
        return {k: encode(v) for k, v in value.items()}
    return value


def decode(value):
    if isinstance(value, dict) and len(value) == 1 and "b64" in value:
        return base64.b64decode(value["b64"])
    return value


KEPT = set()
"""Descriptors that `reset` leaves open: the roads to the caller and to the other processes."""


def below_root(changed):
    """The names below ROOT of changed paths and of their parents, each once."""
    root, names = os.fsdecode(ROOT).rstrip("/"), []
    for path in changed:
        if path == root:
            names.append(".")
        elif path.startswith(root + "/"):
            name = path[len(root) + 1 :]
            names += [name, os.path.dirname(name.rstrip("/")) or "."]
    return list(dict.fromkeys(names))


def answer(request, begun):
    """Perform a request, now that it is `begun`: its reply, and when the call was done.

    The clock is read no more often than needed: under User-Mode Linux each time is a system call of 50 us.
    """
    reply = {"id": request["id"]}
    if TRACE_FDS:
        mark_call(request)
    try:
        reply["v"] = encode(perform(request["op"], request["args"], request["kw"]))
    except OSError as e:
        reply["errno"], reply["text"] = e.errno or errno.EIO, e.strerror
    except BaseException:
        reply["bug"] = traceback.format_exc()
    done = time.monotonic()
    reply["s"] = round(done - begun, 6)
    if CHANGED:
        changed = reply["changed"] = list(dict.fromkeys(CHANGED))
        del CHANGED[:]
        if request.get("look"):
            names = below_root(changed)
            reply["seen"] = list(zip(names, look(names, mark=request["look"] == "marked")))
    return reply, done


def worker(channel, root):
    """Serve requests on `channel` until it closes: the life of a further process."""
    global ROOT, ROOT_FD
    ROOT, ROOT_FD = root, None  # the descriptor was the agent's
    KEPT.clear()
    KEPT.update([channel.fileno(), *TRACE_FDS.values()])
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    buffer = b""
    while True:
        while b"\n" not in buffer:
            part = channel.recv(1 << 20)
            if not part:
                os._exit(0)
            buffer += part
        line, buffer = buffer.split(b"\n", 1)
        request = json.loads(line)
        if request["op"] == "@again":
            ROOT = os.fsencode(request["root"])
            os.umask(request["umask"])
        else:
            reply, _ = answer(request, time.monotonic())
            channel.sendall(json.dumps(reply).encode() + b"\n")


_PARK = 2.0
"""Seconds that a process has to close what it has open before it is killed instead."""
_PARKED = 4
"""Processes of one user that are kept."""


def who(spec):
    """What of a further process cannot be changed later: its user and groups."""
    return (spec.get("uid"), spec.get("gid"), tuple(spec.get("groups", ())))


def root_of(spec):
    return os.fsencode(spec["root"]) if "root" in spec else ROOT


class Worker:
    """The agent's view of one further process.

    A fork is dear: under User-Mode Linux 17 ms of processor time, for pages that must be copied. So a process that has
    done nothing that cannot be undone is parked when its case ends, and another case gets it, as the main one.
    """

    def __init__(self, spec):
        self.who, self.spoiled = who(spec), False
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            for name in [name for name in TRACE_FDS if name != "marker"]:
                del TRACE_FDS[name]
            # none of main's other descriptors: their locks and ends of fifos are its
            keep = {0, 1, 2, theirs.fileno(), *TRACE_FDS.values()}
            for fd in [int(n) for n in os.listdir("/proc/self/fd")]:
                if fd not in keep:
                    try:
                        os.close(fd)
                    except OSError:
                        pass
            FD_PATHS.clear()
            os.dup2(os.open("/dev/null", os.O_RDWR), 0)
            os.dup2(2, 1)
            os.setsid()
            os.umask(spec.get("umask", 0o022))
            os.chdir("/")
            if "uid" in spec:
                os.setgroups(spec.get("groups", []))
                os.setresgid(*[spec.get("gid", spec["uid"])] * 3)
                os.setresuid(*[spec["uid"]] * 3)
            worker(theirs, root_of(spec))
        theirs.close()
        self.channel, self.buffer, self.waiting = ours, b"", []  # waiting: [id, deadline] in order
        KEPT.add(ours.fileno())

    def park(self):
        """Make it as new for another of its kind (see `who`); False where that cannot be, or is not soon done."""
        if self.spoiled or self.waiting:
            return False
        try:
            self.channel.settimeout(_PARK)
            self.channel.sendall(b'{"id":0,"op":"reset","args":[],"kw":{}}\n')
            said = self.channel.recv(1 << 16)
            self.channel.settimeout(None)
        except OSError:
            return False
        return said.endswith(b"\n") and b'"v": null' in said

    def again(self, spec):
        """Bring it back with a root and umask of `spec`; False where it died meanwhile."""
        if select.select([self.channel], [], [], 0)[0]:
            return False
        asked = {"op": "@again", "root": os.fsdecode(root_of(spec)), "umask": spec.get("umask", 0o022)}
        try:
            self.channel.sendall(json.dumps(asked).encode() + b"\n")
        except OSError:
            return False
        return True

    def end(self):
        """Kill it; the wait status, or None where it is stuck in the kernel and does not die."""
        KEPT.discard(self.channel.fileno())
        self.channel.close()
        try:
            os.kill(self.pid, signal.SIGKILL)
            for attempt in range(1000):
                os.sched_yield()  # most often all that it needs to be gone
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    return status
                time.sleep(0.002 if attempt > 3 else 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it is an earlier agent's child (see Agent.succeed)
        return None


class Agent:
    """The agent's main loop: requests in, replies out, every call bounded.

    Calls of "main" are made here, in the loop's own thread: under an emulator without hardware help each
    change of process costs milliseconds. A second thread watches: when a call overruns its limit, it answers for
    it and forks a successor, which has only the watching thread and takes over the roads; this process waits
    for the stuck call and does nothing more. Background requests (`start`) have a thread each.
    """

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.lines, self.buffer = [], b""
        self.workers, self.specs = {}, {}
        self.parked = {}  # who -> workers that are as new
        self.dead = {}  # name -> wait status of a process that died between calls, until the next call is told
        self.current = None  # [id, deadline] of the call being made
        self.background = {}  # id -> deadline
        self.lock = threading.Lock()
        self.succeeded = False
        self.spent = 0.0  # seconds that no reply has told of yet
        KEPT.update((source, sink))

    def say(self, reply):
        data = json.dumps(reply).encode() + b"\n" if isinstance(reply, dict) else reply
        with self.lock:
            while data:
                data = data[os.write(self.sink, data) :]

    def run(self):
        gc.freeze()  # what is there is left alone: processes that are forked share it for longer
        threading.Thread(target=self.watch, daemon=True).start()
        self.loop()

    def watch(self):
        while True:
            time.sleep(0.2)
            now, current = time.monotonic(), self.current
            for number, deadline in list(self.background.items()):
                if deadline <= now and self.background.pop(number, None):
                    self.say({"id": number, "hung": True})
            if current is not None and current[1] <= now and current is self.current:
                self.succeeded = True
                successor = os.fork()
                if successor == 0:
                    self.succeed(current[0])
                os.waitpid(successor, 0)
                os._exit(0)

    def succeed(self, hung):
        """In the successor of a stuck agent: answer for the call and go on."""
        self.lock, self.current, self.background, self.succeeded = threading.Lock(), None, {}, False
        MAPS.clear()
        DIRS.clear()
        reset()
        self.say({"id": hung, "hung": True})
        self.run()
        os._exit(0)

    def drop(self, name, reply=None):
        w = self.workers.pop(name)
        status = w.end()
        for number, _deadline in w.waiting:
            self.say(dict(reply or {"died": status}, id=number))
        return status

    def hire(self, name):
        """A further process of that name: a parked one, or a new one."""
        spec = self.specs.get(name, {})
        parked = self.parked.get(who(spec), [])
        while parked:
            w = parked.pop()
            if w.again(spec):
                return w
            w.end()
        return Worker(spec)

    def reap(self):
        """Every process but this one ends, or is as new."""
        for name in list(self.workers):
            w = self.workers[name]
            parked = self.parked.setdefault(w.who, [])
            if len(parked) < _PARKED and w.park():
                parked.append(self.workers.pop(name))
            else:
                self.drop(name)
        self.specs, self.dead = {}, {}

    def loop(self):
        since = time.monotonic()
        while True:
            while self.lines:
                since = self.take(self.lines.pop(0), since)
            now = time.monotonic()
            self.spent += now - since
            for name, w in list(self.workers.items()):
                if w.waiting and w.waiting[0][1] <= now:
                    self.drop(name, {"hung": True})
            deadlines = [w.waiting[0][1] for w in self.workers.values() if w.waiting]
            channels = {w.channel: name for name, w in self.workers.items()}
            ready, part = [self.source], None
            if channels:
                ready = select.select([self.source, *channels], [], [], min(deadlines) - now if deadlines else None)[0]
            else:  # reading waits as well, for one system call less
                part = os.read(self.source, 1 << 20)
            since = time.monotonic()
            for one in ready:
                if one is not self.source:
                    self.relay(channels[one])
                    continue
                part = os.read(self.source, 1 << 20) if part is None else part
                if not part:
                    for name in list(self.workers):
                        self.drop(name)
                    for w in [w for parked in self.parked.values() for w in parked]:
                        w.end()
                    return
                *lines, self.buffer = (self.buffer + part).split(b"\n")
                self.lines += lines

    def relay(self, name):
        w = self.workers[name]
        try:
            part = w.channel.recv(1 << 20)
        except OSError:
            part = b""
        if not part:
            asked, status = w.waiting, self.drop(name)
            if not asked:
                self.dead[name] = status
            return
        *lines, w.buffer = (w.buffer + part).split(b"\n")
        for line in lines:
            w.waiting.pop(0)
            self.say(line + b"\n")

    def take(self, line, since):
        """Perform one request, or pass it on; the time until which a reply tells what was spent, `since` at first."""
        request = json.loads(line)
        name, op_name, limit = request.get("proc", "main"), request["op"], request.get("timeout", 30)
        if op_name == "@reap":  # every process but this one ends
            self.reap()
            self.say({"id": request["id"], "v": None})
        elif op_name in ("@spawn", "@kill"):
            if name in self.workers:
                self.drop(name)
            self.dead.pop(name, None)
            if op_name == "@spawn":
                self.specs[name] = request["kw"]
            self.say({"id": request["id"], "v": None})
        elif name in self.dead:
            self.say({"id": request["id"], "died": self.dead.pop(name)})
        elif name != "main":
            if name not in self.workers:
                self.workers[name] = self.hire(name)
            w = self.workers[name]
            w.spoiled = w.spoiled or op_name in SPOILING
            begins = max([time.monotonic(), *[d for _, d in w.waiting]])
            w.waiting.append((request["id"], begins + limit))
            try:
                w.channel.sendall(line + b"\n")
            except OSError:
                self.drop(name)
        elif request.get("background"):
            self.background[request["id"]] = time.monotonic() + limit
            threading.Thread(target=self.answer_later, args=(request,), daemon=True).start()
        else:
            self.current = [request["id"], since + limit]
            reply, since = answer(request, since)
            if self.succeeded:
                time.sleep(1e9)  # the successor has answered; this process is over
            self.current = None
            reply["o"], self.spent = round(self.spent, 6), 0.0
            self.say(reply)
        return since

    def answer_later(self, request):
        reply, _ = answer(request, time.monotonic())
        if self.background.pop(request["id"], None):
            self.say(reply)


if __name__ == "__main__":
    Agent(os.dup(0), os.dup(1)).run()
    os._exit(0)
