"""Qids of host files.

The rule of this module: for as long as the server runs ``path`` identifies one inode of one device, in memory that does
not grow with the number of files; ``version`` changes whenever the content does.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from typing import Protocol

from protocol.constants import QTDIR, QTSYMLINK, S_IFDIR, S_IFLNK, S_IFMT
from protocol.fields import Qid
from reference_server.limits import Shared

_INODE_BITS = 56
INODE_END = 1 << _INODE_BITS
"""Inode numbers from here on do not fit beside a device's prefix."""
_PREFIXES = 255
"""The byte after the last prefix is for what found none."""
_TYPES = {S_IFDIR: QTDIR, S_IFLNK: QTSYMLINK}


class Stat(Protocol):
    """The members of ``os.stat_result`` that a store uses."""

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

    The modification time is unsuitable: a program can set it back. Two writes within one tick of the kernel's clock
    that do not change the size cannot be distinguished from outside (since Linux 6.13 the file systems tick on demand).
    """
    changed = found.st_ctime_ns
    return (changed ^ changed >> 31 ^ found.st_size << 5) & 0xFFFFFFFF


class QidPaths:
    """Makes qid.path from device and inode number.

    A tree may hold several devices, whose inode numbers collide (hugelgupf#104; nested ZFS datasets), and a device may
    use all 64 bits of them (overlayfs with xino keeps the layer in the upper ones). The upper byte of qid.path
    therefore is a prefix that stands for one device and one upper byte of its inode numbers. The export's own device
    gets that byte itself if it is free, so that its inode numbers are unchanged.

    There are 255 prefixes. A file without one gets its own number under the last byte. At most ``numbers`` of those are
    remembered, and the least recently used is forgotten first. A number is never reused, so a forgotten file looks like
    a new one, never like another one.
    """

    def __init__(self, device: int, numbers: int = Shared.qid_numbers) -> None:
        self._device = device
        self._prefixes = {device: 0}
        """Of inode numbers below INODE_END, by device."""
        self._high: dict[tuple[int, int], int] = {}
        """Of the others, by device and upper byte."""
        self._free = dict.fromkeys(range(1, _PREFIXES))
        self._numbered: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._most = numbers
        self._next = itertools.count(_PREFIXES << _INODE_BITS)
        self._lock = threading.Lock()

    def prefix(self, device: int) -> int | None:
        """The prefix of inode numbers below INODE_END on ``device``; None if it has none."""
        self.path(device, 0)
        return self._prefixes.get(device)

    def path(self, device: int, inode: int) -> int:
        """qid.path of inode number ``inode`` on ``device``."""
        prefix = self._prefixes.get(device)
        if prefix is not None and not inode >> _INODE_BITS:
            return prefix | inode
        return self._rare(device, inode)

    def _rare(self, device: int, inode: int) -> int:
        high = inode >> _INODE_BITS
        with self._lock:
            prefix = self._high.get((device, high)) if high else self._prefixes.get(device)
            if prefix is None and self._free:
                prefix = self._take(high if device == self._device else 0) << _INODE_BITS
                if high:
                    self._high[device, high] = prefix
                else:
                    self._prefixes[device] = prefix
            if prefix is not None:
                return prefix | inode & INODE_END - 1
            return self._number((device, inode))

    def _take(self, wanted: int) -> int:
        """A free prefix: ``wanted`` if it is one."""
        prefix = wanted if wanted in self._free else next(iter(self._free))
        del self._free[prefix]
        return prefix

    def _number(self, file: tuple[int, int]) -> int:
        found = self._numbered.get(file)
        if found is not None:
            self._numbered.move_to_end(file)
            return found
        if len(self._numbered) >= self._most:
            self._numbered.popitem(last=False)
        found = self._numbered[file] = next(self._next)
        return found

    def numbered(self) -> int:
        """How many files with a number of their own are remembered."""
        return len(self._numbered)

    def qid(self, found: Stat) -> Qid:
        """The qid of a file."""
        return Qid(qid_type(found.st_mode), version(found), self.path(found.st_dev, found.st_ino))
