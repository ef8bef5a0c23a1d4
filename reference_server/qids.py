"""Qids of host files.

The rule of this module: ``path`` names one inode of one device and nothing else for as long as the server
runs; ``version`` differs whenever the content does.
"""

from __future__ import annotations

import itertools
import threading
from typing import Protocol

from protocol.constants import QTDIR, QTSYMLINK, S_IFDIR, S_IFLNK, S_IFMT
from protocol.fields import Qid

_INODE_BITS = 56
INODE_END = 1 << _INODE_BITS
"""Inode numbers from here on do not fit beside a device's prefix."""
_DEVICES = 255
_TYPES = {S_IFDIR: QTDIR, S_IFLNK: QTSYMLINK}


class Stat(Protocol):
    """What a store wants to know of a file: the members of ``os.stat_result`` that it looks at."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_uid(self) -> int: ...
    @property
    def st_gid(self) -> int: ...
    @property
    def st_rdev(self) -> int: ...
    @property
    def st_dev(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_blksize(self) -> int: ...
    @property
    def st_blocks(self) -> int: ...
    @property
    def st_atime_ns(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...
    @property
    def st_ctime_ns(self) -> int: ...


def qid_type(mode: int) -> int:
    """qid.type of a file with ``mode``."""
    return _TYPES.get(mode & S_IFMT, 0)


def version(found: Stat) -> int:
    """qid.version: from the change time, which every change of content moves, and the size.

    The modification time would not do: a program can set it back.  Two writes within one tick of the kernel's
    clock that leave the size alone cannot be told apart from outside (since Linux 6.13 the file systems tick
    on demand).
    """
    changed = found.st_ctime_ns
    return (changed ^ changed >> 31 ^ found.st_size << 5) & 0xFFFFFFFF


class QidPaths:
    """Makes qid.path from device and inode number.

    A tree may hold several devices, whose inode numbers collide (hugelgupf#104; nested ZFS datasets).  The
    first 254 devices are numbered in the upper byte, the export's own with 0, so that its inode numbers show
    as they are; what does not fit that gets a number of its own, remembered for good, under 255.
    """

    def __init__(self, device: int) -> None:
        self._prefixes = {device: 0}
        self._numbered: dict[tuple[int, int], int] = {}
        self._next = itertools.count(_DEVICES << _INODE_BITS)
        self._lock = threading.Lock()

    def prefix(self, device: int) -> int | None:
        """What inode numbers below INODE_END on ``device`` are joined with; None when it got none."""
        self.path(device, 0)
        return self._prefixes.get(device)

    def path(self, device: int, inode: int) -> int:
        """qid.path of inode number ``inode`` on ``device``."""
        prefix = self._prefixes.get(device)
        if prefix is not None and not inode >> _INODE_BITS:
            return prefix | inode
        return self._rare(device, inode)

    def _rare(self, device: int, inode: int) -> int:
        with self._lock:
            prefix = self._prefixes.get(device)
            if prefix is None and len(self._prefixes) < _DEVICES:
                prefix = self._prefixes[device] = len(self._prefixes) << _INODE_BITS
            if prefix is not None and not inode >> _INODE_BITS:
                return prefix | inode
            found = self._numbered.get((device, inode))
            if found is None:
                found = self._numbered[device, inode] = next(self._next)
            return found

    def qid(self, found: Stat) -> Qid:
        """The qid of a file."""
        return Qid(qid_type(found.st_mode), version(found), self.path(found.st_dev, found.st_ino))
