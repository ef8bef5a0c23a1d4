"""Memory maps."""

from __future__ import annotations

import ctypes
import os
import signal

from guests.agent.payload.declare import op
from guests.agent.payload.machine import check, libc
from guests.agent.payload.platforms import HERE_IS
from guests.agent.payload.state import CHANGED, FD_PATHS
from guests.agent.payload.wire import Signal

MS_SYNC = 4  # the caller's numbers: Linux's


class Map:
    """A mapping by mmap(2) itself: the mmap module refuses lengths past end of file and keeps a dup of fd."""

    def __init__(self, fd: int, length: int, prot: int, flags: int, offset: int) -> None:
        libc.mmap.restype = ctypes.c_void_p
        call = getattr(libc, "mmap64", libc.mmap)
        call.restype = ctypes.c_void_p
        ctypes.set_errno(0)
        size, at = ctypes.c_size_t(length), ctypes.c_longlong(offset)
        self.address: int | None = call(None, size, prot, flags, fd, at)
        self.length = length
        if self.address == ctypes.c_void_p(-1).value:
            self.address = None
            check(-1)

    def read(self, offset: int, count: int) -> bytes:
        assert self.address is not None
        return ctypes.string_at(self.address + offset, count)

    def write(self, offset: int, data: bytes) -> None:
        assert self.address is not None
        ctypes.memmove(self.address + offset, data, len(data))

    def flush(self, flags: int) -> None:
        check(libc.msync(ctypes.c_void_p(self.address), ctypes.c_size_t(self.length), flags))

    def close(self) -> None:
        if self.address is not None:
            address, self.address = self.address, None
            check(libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(self.length)))


MAPS: dict[int, tuple[Map, bytes | None]] = {}
"""Mappings by handle, each with the path of its file."""


@op()
def mmap_(fd: int, length: int, prot: int, flags: int, offset: int = 0) -> int:
    mapping = Map(fd, length, prot, flags, offset)
    handle = max(MAPS, default=0) + 1
    MAPS[handle] = (mapping, FD_PATHS.get(fd))
    return handle


@op()
def map_read(handle: int, offset: int, count: int) -> bytes:
    return MAPS[handle][0].read(offset, count)


@op()
def map_write(handle: int, offset: int, data: bytes) -> None:
    MAPS[handle][0].write(offset, data)


@op()
def msync(handle: int, flags: int = MS_SYNC) -> None:
    """msync(2) of the whole mapping; flags default to MS_SYNC."""
    mapping, path = MAPS[handle]
    mapping.flush(flags & ~MS_SYNC | (HERE_IS.ms_sync if flags & MS_SYNC else 0))
    CHANGED.extend([os.fsdecode(path)] if path else [])


@op()
def mprotect(handle: int, prot: int) -> None:
    mapping = MAPS[handle][0]
    check(libc.mprotect(ctypes.c_void_p(mapping.address), ctypes.c_size_t(mapping.length), prot))


@op()
def munmap(handle: int) -> None:
    MAPS.pop(handle)[0].close()


@op()
def map_touch_in_child(
    fd: int, length: int, prot: int, flags: int, touch: int, offset: int = 0, data: bytes = b""
) -> Signal:
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
    return Signal(os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status))
