"""Listing a host directory.

The rule of this module: the offset of an entry is the kernel's (``d_off``), which the file system keeps valid while
entries are added and removed, and which means the same in every open directory.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Callable
from typing import Protocol

from protocol.constants import DIRENT_TYPES, DT_DIR, DT_LNK, DT_UNKNOWN, QTDIR, QTFILE, QTSYMLINK
from protocol.dirents import FIXED_SIZE
from reference_server import linux
from reference_server.qids import INODE_END
from reference_server.storage import OpenDirectory

# struct linux_dirent64 of getdents(2): d_ino, d_off, d_reclen, d_type, then the name and a NUL.
_KERNEL = struct.Struct("=QQHB").unpack_from
_NAME = 19
_WIRE = struct.Struct("<BIQQBH").pack
_QID_TYPES = {**dict.fromkeys(DIRENT_TYPES.values(), QTFILE), DT_DIR: QTDIR, DT_LNK: QTSYMLINK}
_OFF_MAX = (1 << 63) - 1


class Describer(Protocol):
    """Describes an entry of one directory as the guest sees it."""

    plain: frozenset[int]
    """DT types of entries that are what they seem, ``..`` excepted; they are not asked about."""
    prefix: int | None
    """What a plain entry's inode number is to be joined with to make its qid path; None: ask about every
    entry.
    """

    def __call__(self, directory: int, name: bytes, inode: int, kind: int) -> tuple[int, int, int]:
        """qid type, qid path and DT type of any other entry of the open ``directory``."""


class HostDirectory(OpenDirectory):
    """An open directory."""

    def __init__(self, fd: int, describe: Describer, closed: Callable[[], None]) -> None:
        """``closed`` is called when it is closed."""
        self._fd = fd
        """Its number stays the same until ``close``, so that no call can come upon another file under it."""
        self._turn = threading.Lock()
        """Guards what stands below. A client may have several Treaddir of one fid under way."""
        self._describe = describe
        self._closed = closed
        self._buffer = linux.DirentBuffer()
        self._fresh = True
        """Nothing was read yet."""
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
        with self._turn:
            return self._read(offset, limit)

    def _read(self, offset: int, limit: int) -> bytes:
        if offset != self._offset or offset == 0:
            self._seek(offset)
        entries: list[bytes] = []
        add = entries.append
        room = limit
        raw, at, describe = self._raw, self._at, self._describe
        plain, prefix = describe.plain, describe.prefix or 0
        if describe.prefix is None:
            plain = frozenset()
        end, last = len(raw), offset
        while True:
            if at >= end:
                raw, at = self._buffer.fill(self._fd), 0
                end = len(raw)
                if not end:
                    break
            inode, next_offset, length, kind = _KERNEL(raw, at)
            start = at + _NAME
            name = raw[start : raw.index(0, start)]
            room -= FIXED_SIZE + len(name)
            if room < 0:
                break
            if kind in plain and inode < INODE_END and name != b"..":
                add(_WIRE(_QID_TYPES[kind], 0, prefix | inode, next_offset, kind, len(name)) + name)
            else:
                qid_type, path, kind = describe(self._fd, name, inode, kind)
                add(_WIRE(qid_type, 0, path, next_offset, kind, len(name)) + name)
            last = next_offset
            at += length
        self._offset = last
        self._raw, self._at = raw, at
        if not entries and raw:
            raise OSError(errno.EINVAL, "no entry fits")
        return b"".join(entries)

    def _seek(self, offset: int) -> None:
        if offset == 0 and not self._fresh:
            # Not by lseek(2): ext4 then still answers that the end is reached when the seek before it was to an end
            # that had not been read (Linux 6.18, ext4_dx_readdir).
            try:
                fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
            except PermissionError:
                # Reopening would check permissions again, perhaps as another user: the opener may continue to read.
                os.lseek(self._fd, 0, os.SEEK_SET)
            else:
                try:
                    os.dup2(fd, self._fd, inheritable=False)
                finally:
                    os.close(fd)
        elif offset:
            os.lseek(self._fd, offset, os.SEEK_SET)
        self._fresh = False
        self._raw, self._at = b"", 0
        self._offset = offset

    def fsync(self, datasync: bool) -> None:
        (os.fdatasync if datasync else os.fsync)(self._fd)

    def close(self) -> None:
        os.close(self._fd)
        self._closed()


def qid_type_of_entry(kind: int) -> int:
    """qid.type for a DT type."""
    return _QID_TYPES.get(kind, 0)


def dt_type(mode: int) -> int:
    """DT type for st_mode: its four upper bits (IFTODT of dirent.h)."""
    return (mode >> 12) & 0o17 or DT_UNKNOWN
