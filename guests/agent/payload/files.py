"""Ops on descriptors."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select

from guests.agent.payload.declare import op
from guests.agent.payload.machine import check, libc, syscall
from guests.agent.payload.platforms import callers_flags, need, open_flags
from guests.agent.payload.state import CHANGED, FD_PATHS
from guests.agent.payload.values import PathName


@op(changes=("path",))
def open_(path: PathName, flags: int = os.O_RDONLY, mode: int = 0o666, dir_fd: int | None = None) -> int:
    flags = open_flags(flags)
    fd = os.open(path, flags, mode, dir_fd=dir_fd)
    if dir_fd is not None and not os.path.isabs(path):
        path = os.path.join(FD_PATHS.get(dir_fd) or b"", os.fsencode(path))
    FD_PATHS[fd] = path
    if not flags & (os.O_CREAT | os.O_TRUNC):
        del CHANGED[:]
    return fd


@op()
def close(fd: int) -> None:
    FD_PATHS.pop(fd, None)
    os.close(fd)


@op()
def dup(fd: int) -> int:
    new = os.dup(fd)
    FD_PATHS[new] = FD_PATHS.get(fd)
    return new


@op(needs="pidfd")
def take_descriptor(pid: int, fd: int) -> int:
    """A descriptor of the open file that process `pid` has as `fd`, as a child of it has by fork: pidfd_getfd(2)."""
    process = syscall("pidfd_open", pid, 0)
    try:
        taken = syscall("pidfd_getfd", process, fd, 0)
        FD_PATHS[taken] = None
        return taken
    finally:
        os.close(process)


@op()
def read(fd: int, count: int) -> bytes:
    return os.read(fd, count)


@op(changes=("fd",))
def write(fd: int, data: bytes) -> int:
    return os.write(fd, data)


@op()
def pread(fd: int, count: int, offset: int) -> bytes:
    return os.pread(fd, count, offset)


@op(changes=("fd",))
def pwrite(fd: int, data: bytes, offset: int) -> int:
    return os.pwrite(fd, data, offset)


@op()
def readv(fd: int, counts: list[int]) -> bytes:
    buffers = [bytearray(n) for n in counts]
    got = os.readv(fd, buffers)
    return b"".join(bytes(b) for b in buffers)[:got]


@op(changes=("fd",))
def writev(fd: int, parts: list[bytes]) -> int:
    return os.writev(fd, parts)


@op(needs="preadv")
def preadv(fd: int, counts: list[int], offset: int, flags: int = 0) -> bytes:
    buffers = [bytearray(n) for n in counts]
    got = os.preadv(fd, buffers, offset, flags)
    return b"".join(bytes(b) for b in buffers)[:got]


@op(changes=("fd",), needs="preadv")
def pwritev(fd: int, parts: list[bytes], offset: int, flags: int = 0) -> int:
    return os.pwritev(fd, parts, offset, flags)


@op(needs="preadv")
def read_direct(fd: int, count: int, offset: int) -> bytes:
    """pread into page-aligned memory, as O_DIRECT needs."""
    with mmap.mmap(-1, max(count, 4096)) as buffer:
        got = os.preadv(fd, [memoryview(buffer)[:count]], offset)
        return buffer[:got]


@op(changes=("fd",), needs="preadv")
def write_direct(fd: int, data: bytes, offset: int) -> int:
    """pwrite from page-aligned memory, as O_DIRECT needs."""
    with mmap.mmap(-1, max(len(data), 4096)) as buffer:
        buffer[: len(data)] = data
        return os.pwritev(fd, [memoryview(buffer)[: len(data)]], offset)


@op()
def lseek(fd: int, offset: int, whence: int = os.SEEK_SET) -> int:
    return os.lseek(fd, offset, whence)


@op(changes=("path",))
def truncate(path: PathName, length: int) -> None:
    os.truncate(path, length)


@op(changes=("fd",))
def ftruncate(fd: int, length: int) -> None:
    os.ftruncate(fd, length)


@op(changes=("fd",))
def fsync(fd: int) -> None:
    os.fsync(fd)


@op(changes=("fd",))
def fdatasync(fd: int) -> None:
    os.fdatasync(fd)


@op(needs="syncfs")
def syncfs(fd: int) -> None:
    syscall("syncfs", fd)


@op(changes=("fd",), needs="fallocate")
def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    call = getattr(libc, "fallocate64", libc.fallocate)
    check(call(fd, mode, ctypes.c_longlong(offset), ctypes.c_longlong(length)))


@op(changes=("fd",))
def posix_fallocate(fd: int, offset: int, length: int) -> None:
    """posix_fallocate(3), which returns its errno; the C library may emulate it by writing."""
    call = getattr(libc, "posix_fallocate64", libc.posix_fallocate)
    number = call(fd, ctypes.c_longlong(offset), ctypes.c_longlong(length))
    if number:
        raise OSError(number, os.strerror(number))


@op(needs="memfd")
def memfd(name: str) -> int:
    """A file that is on no share: memfd_create(2)."""
    return os.memfd_create(name)


@op()
def rw_at_bad_address(name: str, fd: int, count: int) -> int:
    """read(2) or write(2) with an unmapped buffer."""
    call = {"read": libc.read, "write": libc.write}[name]
    call.restype = ctypes.c_ssize_t
    return check(call(fd, ctypes.c_void_p(1), ctypes.c_size_t(count)))


@op(needs="fadvise")
def posix_fadvise(fd: int, offset: int, length: int, advice: int) -> None:
    os.posix_fadvise(fd, offset, length, advice)


@op()
def fcntl_(fd: int, command: int, argument: int = 0) -> int:
    """fcntl(2); F_GETFL and F_SETFL with the caller's open flags."""
    if command > fcntl.F_SETFL:
        need("fcntl")
    if command == fcntl.F_SETFL:
        argument = open_flags(argument)
    found = fcntl.fcntl(fd, command, argument)
    return callers_flags(found) if command == fcntl.F_GETFL else found


@op(needs="ioctl")
def ioctl(fd: int, request: int, argument: bytes) -> bytes:
    return fcntl.ioctl(fd, request, argument)


@op()
def poll(fd: int, events: int, seconds: float) -> list[tuple[int, int]]:
    poller = select.poll()
    poller.register(fd, events)
    return poller.poll(seconds * 1000)
