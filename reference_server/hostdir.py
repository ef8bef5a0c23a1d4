"""Listing a host directory.

The rule of this module: the offset of an entry is the kernel's (``d_off``), which the file system keeps valid while
entries are added and removed, and which means the same in every open directory.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import accumulate
from typing import NamedTuple, Protocol

from protocol.constants import DIRENT_TYPES, DT_DIR, DT_LNK, DT_UNKNOWN, QTDIR, QTFILE, QTSYMLINK
from reference_server import linux
from reference_server.limits import Shared
from reference_server.qids import INODE_END
from reference_server.storage import OpenDirectory

# struct linux_dirent64 of getdents(2): d_ino, d_off, d_reclen, d_type, then the name and a NUL.
_KERNEL = struct.Struct("=QQHB").unpack_from
_NAME = 19
_WIRE = struct.Struct("<BIQQBH").pack
_OFFSET = struct.Struct("<Q").unpack_from
_QID = 13
"""Bytes before the offset in an entry."""
_QID_TYPES = {**dict.fromkeys(DIRENT_TYPES.values(), QTFILE), DT_DIR: QTDIR, DT_LNK: QTSYMLINK}
_OFF_MAX = (1 << 63) - 1


class Describer(Protocol):
    """Describes the entries of one directory as the guest sees them."""

    plain: frozenset[int]
    """DT types of entries that are what they seem; they are not asked about."""
    prefix: int
    """What a plain entry's inode number is to be joined with to make its qid path."""
    top: bool
    """The directory is the root of the export: ``..`` is asked about."""

    def __call__(self, directory: int, name: bytes, inode: int, kind: int) -> tuple[int, int, int]:
        """qid type, qid path and DT type of any other entry of the open ``directory``."""


class _Entries(NamedTuple):
    """What one getdents(2) returned, as Rreaddir carries it."""

    data: bytes
    ends: array[int]
    """Where each entry ends in ``data``."""

    def offset(self, number: int) -> int:
        """The offset of an entry."""
        found: int = _OFFSET(self.data, self.ends[number - 1] + _QID if number else _QID)[0]
        return found


_NONE = _Entries(b"", array("I"))


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
        self._entries = _NONE
        self._at = 0
        self._offset = 0
        """Offset of the last entry handed out; the next one is at ``_at`` in ``_entries``, or the kernel's next.
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
        taken: list[bytes] = []
        room = limit
        while True:
            if self._at == len(self._entries.data):
                raw = self._buffer.fill(self._fd)
                if not raw:
                    break
                self._entries, self._at = self._encoded(raw), 0
            part = self._take(room)
            if not part:
                if not taken:
                    raise OSError(errno.EINVAL, "no entry fits")
                break
            taken.append(part)
            room -= len(part)
        return b"".join(taken)

    def _encoded(self, raw: bytes) -> _Entries:
        describe = self._describe
        found = _plain_entries(raw, describe.plain, describe.prefix, describe.top)
        if found is None:
            found = _encode(raw, describe.plain, describe.prefix, describe.top, partial(describe, self._fd))
            assert found is not None
        return found

    def _take(self, room: int) -> bytes:
        """The next entries that were read, as many as fit."""
        entries, at = self._entries, self._at
        data, ends = entries
        if len(data) - at <= room:
            number, end = len(ends), len(data)
        else:
            number = bisect_right(ends, at + room)
            end = ends[number - 1] if number else 0
            if end <= at:
                return b""
        self._at, self._offset = end, entries.offset(number - 1)
        return data[at:end]

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
        else:  # for 0, too: it is a rewind, and btrfs shows what was made since open(2) only after one
            os.lseek(self._fd, offset, os.SEEK_SET)
        self._fresh = False
        self._entries, self._at = _NONE, 0
        self._offset = offset

    def fsync(self, datasync: bool) -> None:
        (os.fdatasync if datasync else os.fsync)(self._fd)

    def close(self) -> None:
        os.close(self._fd)
        self._closed()


Ask = Callable[[bytes, int, int], tuple[int, int, int]]
"""A Describer that knows the directory."""


def _encode(raw: bytes, plain: frozenset[int], prefix: int, top: bool, ask: Ask | None) -> _Entries | None:
    """The entries of ``raw``, which getdents(2) returned; None if ``ask`` is None and one has to be asked about."""
    entries: list[bytes] = []
    add, kernel, wire, qid_types = entries.append, _KERNEL, _WIRE, _QID_TYPES  # locals are quicker
    at, end, offset = 0, len(raw), 0
    while at < end:
        inode, offset, length, kind = kernel(raw, at)
        name = raw[at + _NAME : at + length].partition(b"\0")[0]
        if kind in plain and inode < INODE_END and not (top and name == b".."):
            add(wire(qid_types[kind], 0, prefix | inode, offset, kind, len(name)) + name)
        elif ask is None:
            return None
        else:
            qid_type, path, kind = ask(name, inode, kind)
            add(wire(qid_type, 0, path, offset, kind, len(name)) + name)
        at += length
    return _Entries(b"".join(entries), array("I", accumulate(map(len, entries))))


@lru_cache(Shared.listings)
def _plain_entries(raw: bytes, plain: frozenset[int], prefix: int, top: bool) -> _Entries | None:
    """The same where no entry has to be asked about. A directory that is listed again, unchanged, is not encoded
    again: what the kernel returned is compared, which takes a twentieth of the time.
    """
    return _encode(raw, plain, prefix, top, None)


def qid_type_of_entry(kind: int) -> int:
    """qid.type for a DT type."""
    return _QID_TYPES.get(kind, 0)


def dt_type(mode: int) -> int:
    """DT type for st_mode: its four upper bits (IFTODT of dirent.h)."""
    return (mode >> 12) & 0o17 or DT_UNKNOWN
