"""A tree in memory, as a store.

The rule of this module: behaves like Linux, without a kernel underneath. Permissions are not checked, as in ``hostfs``
with identity ``client``: the guest's kernel did. One lock guards the whole tree, because operations are short.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Sequence

from protocol import constants as c
from protocol.dirents import FIXED_SIZE, encode_dirent
from protocol.fields import Buffer, Qid
from reference_server.hostdir import dt_type
from reference_server.locks import HeldLocks, LockCounts
from reference_server.pace import Pace
from reference_server.qids import qid_type
from reference_server.shares import Client
from reference_server.storage import (
    NOW,
    Attributes,
    Caller,
    Changes,
    FileSystemInfo,
    Lock,
    LockOwner,
    Node,
    OpenDirectory,
    OpenFile,
    Pieces,
    Store,
)

_BLOCK = 4096
_SECOND = 1_000_000_000
_U64 = (1 << 64) - 1
_LINK_MAX = 65000


class MemoryStore(Store):
    """A tree that ends with the process.

    ``capacity`` bounds the bytes that files hold in all; beyond it writing fails with ENOSPC.
    """

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.lock = threading.RLock()
        self.capacity = capacity
        self.pace = Pace()
        self.lock_counts = LockCounts()
        self.used = 0
        self._numbers = itertools.count(1)
        self.top = self.make(c.S_IFDIR | 0o755, 0, 0)
        self.top.nlink = 2
        self.top.parent = self.top

    def make(self, mode: int, uid: int, gid: int) -> MemoryNode:
        """A new file without a name."""
        return MemoryNode(self, next(self._numbers), mode, uid, gid)

    def root(self, client: Client) -> MemoryNode:
        return self.top

    def close(self) -> None:
        """Nothing to release."""

    def take(self, count: int) -> None:
        """Account for ``count`` more bytes.  Raises OSError(ENOSPC)."""
        if self.used + count > self.capacity:
            raise OSError(errno.ENOSPC, "the store is full")
        self.used += count


class MemoryNode(Node):
    """A file of any type."""

    def __init__(self, store: MemoryStore, number: int, mode: int, uid: int, gid: int) -> None:
        self.store = store
        self.number = number
        self.type = mode & c.S_IFMT
        self.mode = mode & 0o7777
        self.uid = uid
        self.gid = gid
        self.nlink = 1
        self.rdev = 0
        self.version = 0
        self.content = bytearray()
        """Of a regular file; the target of a symbolic link."""
        self.entries: dict[bytes, tuple[int, MemoryNode]] = {}
        """Of a directory: cookie and file by name.  Cookies only grow, so that they stay valid."""
        self.cookies = itertools.count(3)
        self.parent: MemoryNode | None = None
        """Of a directory with a name."""
        self.xattrs: dict[bytes, bytes] = {}
        self.locks = HeldLocks(store.lock_counts)
        self.lockers: dict[LockOwner, set[MemoryFile]] = {}
        """Open files through which each owner took its locks; the last one closed ends them."""
        self.atime = self.mtime = self.ctime = time.time_ns()

    # Memory is given back when the last reference goes.
    def retain(self) -> None:
        """Nothing to count."""

    def release(self) -> None:
        """Nothing to count."""

    # --- looking -----------------------------------------------------------------------------------

    def qid(self) -> Qid:
        return Qid(qid_type(self.type), self.version & 0xFFFFFFFF, self.number)

    def getattr(self) -> Attributes:
        with self.store.lock:
            size = self._size()
            return Attributes(
                self.qid(),
                self.type | self.mode,
                self.uid,
                self.gid,
                self.nlink,
                self.rdev,
                size,
                _BLOCK,
                -(-size // _BLOCK) * (_BLOCK // 512),
                *_split(self.atime),
                *_split(self.mtime),
                *_split(self.ctime),
            )

    def _size(self) -> int:
        return _BLOCK if self.type == c.S_IFDIR else len(self.content)

    def statfs(self) -> FileSystemInfo:
        """statfs(2), of the store's capacity."""
        total, free = self.store.capacity // _BLOCK, (self.store.capacity - self.store.used) // _BLOCK
        return FileSystemInfo(c.V9FS_MAGIC, _BLOCK, total, free, free, 0, 0, 0, c.NAME_MAX)

    def child(self, name: bytes, caller: Caller) -> tuple[MemoryNode, Qid]:
        with self.store.lock:
            self._demand_directory()
            found = self.parent or self.store.top if name == b".." else self._entry(name)
            return found, found.qid()

    def _demand_directory(self) -> None:
        if self.type != c.S_IFDIR:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")

    def _entry(self, name: bytes) -> MemoryNode:
        try:
            return self.entries[name][1]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such name") from None

    def readlink(self) -> bytes:
        return bytes(self.content)

    def location(self, caller: Caller) -> tuple[MemoryNode, bytes]:
        """A directory and name of this file, found by searching the tree: only Tremove and Trename ask."""
        with self.store.lock:
            if self is self.store.top:
                raise OSError(errno.EBUSY, "the root of the export")
            todo = [self.store.top]
            while todo:
                directory = todo.pop()
                for name, (_cookie, node) in directory.entries.items():
                    if node is self:
                        return directory, name
                    if node.type == c.S_IFDIR:
                        todo.append(node)
        raise FileNotFoundError(errno.ENOENT, "no name any more")

    # --- opening -----------------------------------------------------------------------------------

    def open(self, flags: int, caller: Caller) -> MemoryFile:
        if self.type != c.S_IFREG:
            raise OSError(errno.ENXIO, "not a regular file")
        if flags & os.O_TRUNC:
            with self.store.lock:
                self.resize(0)
        return MemoryFile(self, flags)

    def open_directory(self, caller: Caller) -> MemoryDirectory:
        self._demand_directory()
        return MemoryDirectory(self)

    def create(
        self, name: bytes, flags: int, mode: int, gid: int, caller: Caller
    ) -> tuple[MemoryNode, Qid, MemoryFile]:
        with self.store.lock:
            self._demand_directory()
            if name in self.entries:
                if flags & os.O_EXCL:
                    raise FileExistsError(errno.EEXIST, "exists")
                node = self._entry(name)
                if node.type != c.S_IFREG:
                    refusals = {c.S_IFDIR: errno.EISDIR, c.S_IFLNK: errno.ELOOP}
                    raise OSError(refusals.get(node.type, errno.ENXIO), "not a regular file")
            else:
                node = self._add(name, c.S_IFREG | mode, gid, caller)
            return node, node.qid(), node.open(flags, caller)

    # --- changing ----------------------------------------------------------------------------------

    def _add(self, name: bytes, mode: int, gid: int, caller: Caller) -> MemoryNode:
        """A new file called ``name``. It inherits the group of a setgid directory, as on Linux."""
        self._demand_directory()
        if name in self.entries:
            raise FileExistsError(errno.EEXIST, "exists")
        if not self.nlink:
            raise FileNotFoundError(errno.ENOENT, "the directory was removed")
        if self.mode & 0o2000:
            gid = self.gid
            if mode & c.S_IFMT == c.S_IFDIR:
                mode |= 0o2000
        node = self.store.make(mode, caller.uid, gid)
        self._attach(name, node)
        return node

    def _attach(self, name: bytes, node: MemoryNode) -> None:
        self.entries[name] = (next(self.cookies), node)
        if node.type == c.S_IFDIR:
            node.parent = self
            self.nlink += 1
        self._changed()

    def _detach(self, name: bytes) -> None:
        node = self.entries.pop(name)[1]
        if node.type == c.S_IFDIR:
            self.nlink -= 1
        self._changed()

    def _changed(self) -> None:
        self.mtime = self.ctime = time.time_ns()
        self.version += 1

    def mkdir(self, name: bytes, mode: int, gid: int, caller: Caller) -> Qid:
        with self.store.lock:
            node = self._add(name, c.S_IFDIR | mode, gid, caller)
            node.nlink = 2
            return node.qid()

    def symlink(self, name: bytes, target: bytes, gid: int, caller: Caller) -> Qid:
        with self.store.lock:
            node = self._add(name, c.S_IFLNK | 0o777, gid, caller)
            node.content += target
            return node.qid()

    def mknod(self, name: bytes, mode: int, device: int, gid: int, caller: Caller) -> Qid:
        with self.store.lock:
            kind = mode & c.S_IFMT or c.S_IFREG
            node = self._add(name, kind | mode & 0o7777, gid, caller)
            node.rdev = device if kind in (c.S_IFCHR, c.S_IFBLK) else 0
            return node.qid()

    def link(self, name: bytes, file: Node, caller: Caller) -> None:
        node = self._same_store(file)
        with self.store.lock:
            self._demand_directory()
            if node.type == c.S_IFDIR:
                raise PermissionError(errno.EPERM, "a directory")
            if name in self.entries:
                raise FileExistsError(errno.EEXIST, "exists")
            if not node.nlink:
                raise FileNotFoundError(errno.ENOENT, "no name any more")
            if node.nlink >= _LINK_MAX:
                raise OSError(errno.EMLINK, "too many links")
            node.nlink += 1
            node.ctime = time.time_ns()
            self._attach(name, node)

    def _same_store(self, other: Node) -> MemoryNode:
        if not isinstance(other, MemoryNode) or other.store is not self.store:
            raise OSError(errno.EXDEV, "another export")
        return other

    def unlink(self, name: bytes, caller: Caller) -> None:
        with self.store.lock:
            self._demand_directory()
            node = self._entry(name)
            if node.type == c.S_IFDIR:
                raise IsADirectoryError(errno.EISDIR, "a directory")
            self._detach(name)
            node.unnamed()

    def rmdir(self, name: bytes, caller: Caller) -> None:
        with self.store.lock:
            self._demand_directory()
            node = self._entry(name)
            node._demand_directory()
            if node.entries:
                raise OSError(errno.ENOTEMPTY, "not empty")
            self._detach(name)
            node.unnamed()

    def unnamed(self) -> None:
        """Account for one name fewer."""
        self.nlink = 0 if self.type == c.S_IFDIR else self.nlink - 1
        self.ctime = time.time_ns()

    def __del__(self) -> None:
        self.store.used -= len(self.content)

    def rename(self, name: bytes, directory: Node, new_name: bytes, caller: Caller) -> None:
        target = self._same_store(directory)
        with self.store.lock:
            self._demand_directory()
            target._demand_directory()
            node = self._entry(name)
            self._check_not_below(node, target)
            there = target.entries.get(new_name)
            if there is not None:
                if there[1] is node:
                    return
                self._check_replaceable(node, there[1])
                target._detach(new_name)
                there[1].unnamed()
            if not target.nlink:
                raise FileNotFoundError(errno.ENOENT, "the directory was removed")
            self._detach(name)
            target._attach(new_name, node)
            node.ctime = time.time_ns()

    def _check_not_below(self, node: MemoryNode, target: MemoryNode) -> None:
        above: MemoryNode | None = target
        while above is not None:
            if above is node:
                raise OSError(errno.EINVAL, "a directory cannot move into itself")
            above = None if above is self.store.top else above.parent

    @staticmethod
    def _check_replaceable(node: MemoryNode, there: MemoryNode) -> None:
        if there.type == c.S_IFDIR:
            if node.type != c.S_IFDIR:
                raise IsADirectoryError(errno.EISDIR, "a directory is there")
            if there.entries:
                raise OSError(errno.ENOTEMPTY, "not empty")
        elif node.type == c.S_IFDIR:
            raise NotADirectoryError(errno.ENOTDIR, "the target is not a directory")

    def setattr(self, changes: Changes, opened: OpenFile | None, caller: Caller) -> None:
        with self.store.lock:
            if changes.size is not None:
                if self.type != c.S_IFREG:
                    raise OSError(errno.EISDIR if self.type == c.S_IFDIR else errno.EINVAL, "no regular file")
                self.resize(changes.size)
            if changes.uid is not None:
                self.uid = changes.uid
            if changes.gid is not None:
                self.gid = changes.gid
            if (changes.uid, changes.gid) != (None, None) and self.type == c.S_IFREG:
                # chown(2) of an executable file ends its setuid and setgid
                self.mode &= ~(0o6000 if self.mode & 0o010 else 0o4000)
            if changes.mode is not None:
                self.mode = changes.mode
            if changes.atime is not None:
                self.atime = _joined(changes.atime)
            if changes.mtime is not None:
                self.mtime = _joined(changes.mtime)
            self.ctime = time.time_ns()

    def resize(self, size: int) -> None:
        """Make the content ``size`` bytes long."""
        grow = size - len(self.content)
        if grow > 0:
            self.store.take(grow)
            self.content += bytes(grow)
        else:
            del self.content[size:]
            self.store.used += grow
        self._changed()

    # --- extended attributes -----------------------------------------------------------------------

    def getxattr(self, name: bytes, caller: Caller) -> bytes:
        try:
            return self.xattrs[name]
        except KeyError:
            raise OSError(errno.ENODATA, "no such attribute") from None

    def listxattr(self, caller: Caller) -> bytes:
        return b"".join(name + b"\0" for name in sorted(self.xattrs))

    def setxattr(self, name: bytes, value: bytes, flags: int, caller: Caller) -> None:
        """setxattr(2).  Names need a known prefix, ``user.`` ones a regular file or directory: xattr(7)."""
        prefix, dot, rest = name.partition(b".")
        if not dot or not rest or prefix not in (b"user", b"trusted", b"security", b"system"):
            raise OSError(errno.EOPNOTSUPP, "no such name space")
        if prefix == b"user" and self.type not in (c.S_IFREG, c.S_IFDIR):
            raise PermissionError(errno.EPERM, "user attributes are for files and directories")
        with self.store.lock:
            if flags & c.XATTR_CREATE and name in self.xattrs:
                raise FileExistsError(errno.EEXIST, "exists")
            if flags & c.XATTR_REPLACE and name not in self.xattrs:
                raise OSError(errno.ENODATA, "no such attribute")
            taken = sum(map(len, self.xattrs.values())) - len(self.xattrs.get(name, b""))
            if taken + len(value) > c.XATTR_SIZE_MAX:
                raise OSError(errno.ENOSPC, "attributes are full")
            self.xattrs[name] = value
            self.ctime = time.time_ns()

    def removexattr(self, name: bytes, caller: Caller) -> None:
        with self.store.lock:
            self.getxattr(name, caller)
            del self.xattrs[name]
            self.ctime = time.time_ns()


class MemoryFile(OpenFile):
    """An open regular file."""

    def __init__(self, node: MemoryNode, flags: int) -> None:
        access = flags & os.O_ACCMODE
        self._node = node
        self._append = bool(flags & os.O_APPEND)
        self.readable = access != os.O_WRONLY
        self.writable = access != os.O_RDONLY

    def read_into(self, views: Sequence[memoryview], offset: int, wait: bool) -> int:
        """Copy the data; it never waits."""
        done = 0
        with self._node.store.lock:
            content = memoryview(self._node.content)
            try:
                for view in views:
                    piece = content[offset + done : offset + done + len(view)]
                    view[: len(piece)] = piece
                    done += len(piece)
            finally:
                content.release()  # or the content could not be resized
            self._node.atime = time.time_ns()
        return done

    def write(self, data: Buffer | Pieces, offset: int, caller: Caller, wait: bool) -> int:
        """Copy it in; a hole reads as zeros."""
        node = self._node
        with node.store.lock:
            if self._append:
                offset = len(node.content)
            end = offset + len(data)
            if end > len(node.content) and data:
                node.resize(end)
            node.content[offset:end] = bytes(data) if isinstance(data, Pieces) else data
            node._changed()
            if caller.uid:
                node.mode &= ~(0o6000 if node.mode & 0o010 else 0o4000)
        return len(data)

    def fsync(self, datasync: bool) -> None:
        """Nothing is more stable than this."""

    def set_lock(self, owner: LockOwner, lock: Lock | None, start: int, length: int) -> bool:
        with self._node.store.lock:
            locks = self._node.locks
            if lock is not None:
                if locks.conflict(owner, lock):
                    return False
                self._node.store.lock_counts.demand_room(owner)
                self._node.lockers.setdefault(owner, set()).add(self)
            self._set(owner, lock.type if lock else None, start, length)
            return True

    def _set(self, owner: LockOwner, type: int | None, start: int, length: int) -> None:
        self._node.locks.set(owner, type, start, length)
        if not self._node.locks.holds(owner):
            self._node.lockers.pop(owner, None)

    def release_whole(self, owner: LockOwner) -> None:
        """Like flock(2) with LOCK_UN of an inherited descriptor."""
        with self._node.store.lock:
            for other, files in list(self._node.lockers.items()):
                if other.is_beside(owner) and files == {self} and self._node.locks.holds_whole(other):
                    self._set(other, None, 0, 0)

    def get_lock(self, owner: LockOwner, lock: Lock) -> Lock | None:
        with self._node.store.lock:
            return self._node.locks.conflict(owner, lock)

    def close(self) -> None:
        """Release the locks taken only through it."""
        with self._node.store.lock:
            for owner, files in list(self._node.lockers.items()):
                files.discard(self)
                if not files:
                    self._set(owner, None, 0, 0)


class MemoryDirectory(OpenDirectory):
    """An open directory."""

    def __init__(self, node: MemoryNode) -> None:
        self._node = node

    def read_entries(self, offset: int, limit: int) -> bytes:
        """Entries in the order of their cookies; ``.`` has 1 and ``..`` has 2."""
        if offset >> 63:
            raise OSError(errno.EINVAL, "offset beyond off_t")
        node, room = self._node, limit
        found: list[bytes] = []
        with node.store.lock:
            everything: list[tuple[int, bytes, MemoryNode]] = [
                (1, b".", node),
                (2, b"..", node.parent or node.store.top),
                *((cookie, name, child) for name, (cookie, child) in node.entries.items()),
            ]
            for cookie, name, child in everything:
                if cookie <= offset:
                    continue
                room -= FIXED_SIZE + len(name)
                if room < 0:
                    if not found:
                        raise OSError(errno.EINVAL, "no entry fits")
                    break
                found.append(encode_dirent(child.qid(), cookie, dt_type(child.type), name))
        return b"".join(found)

    def fsync(self, datasync: bool) -> None:
        """Nothing is more stable than this."""

    def close(self) -> None:
        """Nothing to release."""


def _split(nanoseconds: int) -> tuple[int, int]:
    return (nanoseconds // _SECOND) & _U64, nanoseconds % _SECOND


def _joined(given: tuple[int, int]) -> int:
    return time.time_ns() if given == NOW else given[0] * _SECOND + given[1]
