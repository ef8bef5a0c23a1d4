"""Listing a host directory.

The rule of this module: the offset of an entry is the kernel's own (``d_off``), which the file system keeps
valid while entries come and go, and which means the same in every open directory.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable

from protocol.constants import DT_DIR, DT_LNK, DT_UNKNOWN, QTDIR, QTSYMLINK
from protocol.dirents import FIXED_SIZE
from reference_server import linux

# struct linux_dirent64 of getdents(2): d_ino, d_off, d_reclen, d_type, then the name and a NUL.
_KERNEL = struct.Struct("=QqHB").unpack_from
_NAME = 19
_WIRE = struct.Struct("<BIQQBH").pack
_QID_TYPES = {DT_DIR: QTDIR, DT_LNK: QTSYMLINK}
_OFF_MAX = (1 << 63) - 1

Describe = Callable[[bytes, int, int], tuple[int, int, int]]
"""Given an entry's name, inode number and DT type: its qid type, qid path and DT type as the guest is to see
them.
"""


class HostDirectory:
    """An open directory.  Used by one thread at a time."""

    def __init__(self, fd: int, describe: Describe) -> None:
        self._fd = fd
        self._describe = describe
        self._buffer = linux.DirentBuffer()
        self._raw = b""
        self._at = 0
        self._offset = 0
        """Offset of the last entry handed out; the next one is at ``_at`` in ``_raw``, or the kernel's next.
        """

    def read_entries(self, offset: int, limit: int) -> bytes:
        """See :meth:`OpenDirectory.read_entries`.  The version in an entry's qid is 0: finding it takes a
        stat(2).
        """
        if offset > _OFF_MAX:
            raise OSError(errno.EINVAL, "offset beyond off_t")
        if offset != self._offset or offset == 0:
            os.lseek(self._fd, offset, os.SEEK_SET)
            self._raw, self._at = b"", 0
            self._offset = offset
        entries: list[bytes] = []
        room = limit
        raw, at, describe = self._raw, self._at, self._describe
        while True:
            if at >= len(raw):
                raw, at = self._buffer.fill(self._fd), 0
                if not raw:
                    break
            inode, next_offset, length, kind = _KERNEL(raw, at)
            name = raw[at + _NAME : raw.index(0, at + _NAME)]
            room -= FIXED_SIZE + len(name)
            if room < 0:
                break
            qid_type, path, kind = describe(name, inode, kind)
            entries.append(_WIRE(qid_type, 0, path, next_offset & _OFF_MAX, kind, len(name)))
            entries.append(name)
            self._offset = next_offset
            at += length
        self._raw, self._at = raw, at
        if not entries and raw:
            raise OSError(errno.EINVAL, "no entry fits")
        return b"".join(entries)

    def fsync(self, datasync: bool) -> None:
        """fsync(2) or fdatasync(2)."""
        (os.fdatasync if datasync else os.fsync)(self._fd)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


def qid_type_of_entry(kind: int) -> int:
    """qid.type for a DT type."""
    return _QID_TYPES.get(kind, 0)


def dt_type(mode: int) -> int:
    """DT type for st_mode: its four upper bits (IFTODT of dirent.h)."""
    return (mode >> 12) & 0o17 or DT_UNKNOWN
