"""Open files and directories of a host store.

The rule of this module: I/O uses the file's own descriptor. Its node keeps its own descriptor meanwhile.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Sequence
from typing import Protocol

from protocol.constants import DIRENT_TYPES, DT_UNKNOWN
from protocol.fields import Buffer
from reference_server.errors import WouldBlock
from reference_server.hostdir import dt_type, qid_type_of_entry
from reference_server.hostlocks import HostLocks, Inode
from reference_server.identity import Identity
from reference_server.qids import QidPaths
from reference_server.shares import Share
from reference_server.storage import Caller, Lock, LockOwner, OpenFile, Pieces

_IOV_MAX = 1024
_file_numbers = itertools.count(1)


class FileStore(Protocol):
    """What an open file needs of its store."""

    @property
    def identity(self) -> Identity:
        """How a thread takes the identity of a request's caller."""

    @property
    def locks(self) -> HostLocks:
        """The record locks of all clients."""

    def in_memory(self, fd: int) -> bool:
        """Whether a read from ``fd`` never waits, though its file system cannot report that (tmpfs)."""


class FileNode(Protocol):
    """What an open file needs of the node that it was opened from."""

    @property
    def store(self) -> FileStore:
        """The store that the file is in."""

    @property
    def share(self) -> Share:
        """The client's share of pinned descriptors."""

    def end_use(self) -> None:
        """The file is closed."""


class HostFile(OpenFile):
    """An open regular file."""

    __slots__ = ("_inode", "_node", "_nowait", "_number", "_slow_write", "fd", "readable", "store", "writable")

    def __init__(self, node: FileNode, fd: int, flags: int) -> None:
        """The caller has called ``begin_use`` of ``node``."""
        access = flags & os.O_ACCMODE
        self._node = node
        self.store = node.store
        self.fd = fd
        self.readable = access != os.O_WRONLY
        self.writable = access != os.O_RDONLY
        self._slow_write = bool(flags & (os.O_SYNC | os.O_DSYNC))
        self._nowait = True
        """Until the file system says that it knows no RWF_NOWAIT."""
        self._number = next(_file_numbers)
        self._inode: Inode | None = None
        """Known once a lock was asked for."""

    def read_into(self, views: Sequence[memoryview], offset: int, wait: bool) -> int:
        """preadv(2); without waiting, only what the page cache holds (RWF_NOWAIT), and nothing if the file system
        cannot report that.
        """
        if len(views) > _IOV_MAX:
            return self._read_many(views, offset, wait)
        if wait:
            return os.preadv(self.fd, views, offset)
        if not self._nowait:
            raise WouldBlock
        try:
            count = os.preadv(self.fd, views, offset, os.RWF_NOWAIT)
        except BlockingIOError:
            raise WouldBlock from None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            if not self.store.in_memory(self.fd):
                self._nowait = False
                raise WouldBlock from None
            count = os.preadv(self.fd, views, offset)
        if count < sum(map(len, views)) and offset + count < os.fstat(self.fd).st_size:
            # Short because the rest is not cached; a short reply would look like the end of the file.
            raise WouldBlock
        return count

    def _read_many(self, views: Sequence[memoryview], offset: int, wait: bool) -> int:
        """More pieces than one preadv(2) takes."""
        total = 0
        for at in range(0, len(views), _IOV_MAX):
            part = views[at : at + _IOV_MAX]
            count = self.read_into(part, offset + total, wait)
            total += count
            if count < sum(map(len, part)):
                break
        return total

    def write(self, data: Buffer | Pieces, offset: int, caller: Caller, wait: bool) -> int:
        """pwrite(2); O_SYNC and O_DSYNC wait."""
        if self._slow_write and not wait:
            raise WouldBlock
        self.store.identity.use_for_writing(caller, os.fstat(self.fd).st_gid if caller.uid else 0)
        if isinstance(data, Pieces):
            return os.pwritev(self.fd, data.views[:_IOV_MAX], offset)
        return os.pwrite(self.fd, data, offset)

    def fsync(self, datasync: bool) -> None:
        (os.fdatasync if datasync else os.fsync)(self.fd)

    def set_lock(self, owner: LockOwner, lock: Lock | None, start: int, length: int) -> bool:
        return self.store.locks.set(
            self.fd,
            self._number,
            self._locked_inode(),
            owner=owner,
            wanted=lock,
            start=start,
            length=length,
            share=self._node.share,
        )

    def release_whole(self, owner: LockOwner) -> None:
        self.store.locks.release_whole(self._number, self._locked_inode(), owner)

    def get_lock(self, owner: LockOwner, lock: Lock) -> Lock | None:
        return self.store.locks.get(self.fd, self._locked_inode(), owner, lock)

    def _locked_inode(self) -> Inode:
        if self._inode is None:
            found = os.fstat(self.fd)
            self._inode = (found.st_dev, found.st_ino)
        return self._inode

    def close(self) -> None:
        if self._inode is not None:
            self.store.locks.closed(self._number, self._inode)
        os.close(self.fd)
        self._node.end_use()


class HostDescriber:
    """Describes an entry of one directory as the guest sees it."""

    plain = frozenset(DIRENT_TYPES.values()) - {DT_UNKNOWN}

    def __init__(self, paths: QidPaths, found: os.stat_result, is_root: bool) -> None:
        self._paths = paths
        self._device = found.st_dev
        prefix = paths.prefix(found.st_dev)
        if prefix is None:
            self.plain = frozenset()
        self.prefix = prefix or 0
        self.top = is_root
        self._own_path = paths.path(found.st_dev, found.st_ino) if is_root else None

    def __call__(self, directory: int, name: bytes, inode: int, kind: int) -> tuple[int, int, int]:
        if self._own_path is not None and name == b"..":
            # The guest must not learn about anything above the export.
            return qid_type_of_entry(kind), self._own_path, kind
        if kind == DT_UNKNOWN:
            kind = self._look(directory, name)
        return qid_type_of_entry(kind), self._paths.path(self._device, inode), kind

    def _look(self, directory: int, name: bytes) -> int:
        try:
            return dt_type(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
        except OSError:
            return DT_UNKNOWN
