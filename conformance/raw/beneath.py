"""The vantage beneath: whether what a server has written is on the disk, read from the page cache of this host.

No client can see it through the share. Nothing is traced or slowed down.
"""

from __future__ import annotations

import ctypes
import os
import struct

from conformance.errors import Undrivable

_CACHESTAT = 451
"""The number of cachestat(2), the same on all architectures that Debian has (Linux 6.5)."""
_RANGE = struct.Struct("=QQ")
_STATISTICS = struct.Struct("=QQQQQ")


def unwritten_pages(path: bytes) -> int:
    """Pages of a file that are in this host's memory and not on its disk: dirty, or being written.

    Undrivable if the kernel does not report it, or the file system has no disk.
    """
    with open(path, "rb") as file:
        counted = ctypes.create_string_buffer(_STATISTICS.size)
        everything = ctypes.create_string_buffer(_RANGE.pack(0, 0))
        if ctypes.CDLL(None, use_errno=True).syscall(_CACHESTAT, file.fileno(), everything, counted, 0) != 0:
            raise Undrivable(f"beneath: cachestat(2): {os.strerror(ctypes.get_errno())}")
    _, dirty, writing, _, _ = _STATISTICS.unpack(counted.raw)
    return int(dirty + writing)
