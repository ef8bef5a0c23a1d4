"""A directory of the host as a store.

The rule of this module: nothing is opened by a path that a guest had a hand in.  A step is one component,
taken from the descriptor of the directory it stands in, without following links; what was found is held by an
O_PATH descriptor, which names the inode whatever becomes of its names.  Every later act goes through that
descriptor (/proc/self/fd), so that nothing can be swapped between a check and its use.  Only regular files
and directories are ever opened for I/O.

Source of the technique: open(2), O_PATH; openat2(2); virtiofsd does the same.
"""

from __future__ import annotations

import errno
import itertools
import os
import resource
import stat
import threading
from collections.abc import Sequence

from protocol.constants import DIRENT_TYPES, DT_UNKNOWN, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from protocol.fields import Buffer, Qid
from reference_server import linux
from reference_server.errors import WouldBlock
from reference_server.hostdir import HostDirectory, dt_type, qid_type_of_entry
from reference_server.hostlocks import HostLocks, Inode
from reference_server.identity import Identity, Unchanged
from reference_server.qids import QidPaths, Stat
from reference_server.storage import (
    Attributes,
    Caller,
    Changes,
    FileSystemInfo,
    Lock,
    LockOwner,
    Node,
    OpenFile,
    Pieces,
)

_PATH_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CONFINED = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_MAGICLINKS | linux.RESOLVE_NO_SYMLINKS
_TRIES = 16
"""How often an act is tried that a rename on the host can disturb."""
_IOV_MAX = 1024
_OMIT = (0, linux.UTIME_OMIT)
_RESERVE = 64
"""Descriptors that fids never get: half of them are for locks, with the others peers can still be accepted and
directories read."""


class HostStore:
    """The tree below one directory."""

    def __init__(self, path: str | bytes, identity: Identity | None = None) -> None:
        """Raises OSError when ``path`` is no directory or /proc is not mounted."""
        self.identity: Identity = identity or Unchanged()
        self.fd_end = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVE
        """Fids get descriptors below this one."""
        self.locks = HostLocks(self.fd_end + _RESERVE // 2)
        self.root_fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.stat(linux.path_of(self.root_fd))
        except OSError as error:
            os.close(self.root_fd)
            raise OSError(errno.ENOENT, "/proc is not mounted, and files are reached through it") from error
        found = os.fstat(self.root_fd)
        self.root_inode: Inode = (found.st_dev, found.st_ino)
        self.paths = QidPaths(found.st_dev)

    def root(self) -> HostNode:
        """The exported directory itself."""
        return self.node(os.open(b".", _PATH_FLAGS, dir_fd=self.root_fd), S_IFDIR)

    def node(self, fd: int, type: int) -> HostNode:
        """The node that ``fd`` is to be, which takes the descriptor over."""
        return HostNode(self, self.afford(fd), type)

    def afford(self, fd: int) -> int:
        """``fd``, if a fid may keep it.  Raises OSError(EMFILE), having closed it, when descriptors are short."""
        if fd >= self.fd_end:  # the kernel gives the lowest number that is free
            os.close(fd)
            raise OSError(errno.EMFILE, "no descriptor is left for fids")
        return fd

    def demand_room(self) -> None:
        """Raises OSError(EMFILE) when ``afford`` soon would: to be asked before something is made."""
        self.afford(probe := os.dup(self.root_fd))
        os.close(probe)

    def close(self) -> None:
        """Close the directory; nodes stay good."""
        os.close(self.root_fd)


# A node is shared by the fids cloned from it, and the last of them may be released by a worker.
_counting = threading.Lock()


class HostNode:
    """A host file of any type, held by an O_PATH descriptor."""

    __slots__ = ("_users", "fd", "store", "type")

    def __init__(self, store: HostStore, fd: int, type: int) -> None:
        self.store = store
        self.fd = fd
        self.type = type
        self._users = 1

    def retain(self) -> None:
        """One more user."""
        with _counting:
            self._users += 1

    def release(self) -> None:
        """One user fewer; the last one closes the descriptor."""
        with _counting:
            self._users -= 1
            if self._users:
                return
        os.close(self.fd)

    # --- looking -----------------------------------------------------------------------------------

    def stat(self) -> Stat:
        """stat(2), as the guest is to see it."""
        return os.fstat(self.fd)

    def qid(self) -> Qid:
        """The qid as of now."""
        return self.store.paths.qid(self.stat())

    def getattr(self) -> Attributes:
        """stat(2)."""
        found = self.stat()
        atime, mtime, ctime = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns
        return Attributes(
            self.store.paths.qid(found),
            found.st_mode,
            found.st_uid,
            found.st_gid,
            found.st_nlink,
            found.st_rdev,
            found.st_size,
            found.st_blksize,
            found.st_blocks,
            (atime // 1_000_000_000) & _U64,
            atime % 1_000_000_000,
            (mtime // 1_000_000_000) & _U64,
            mtime % 1_000_000_000,
            (ctime // 1_000_000_000) & _U64,
            ctime % 1_000_000_000,
        )

    def statfs(self) -> FileSystemInfo:
        """statfs(2); counted in fragments, since the guest's kernel takes bsize for the unit of the counts."""
        found = linux.fstatfs(self.fd)
        return FileSystemInfo(
            found.type,
            found.frsize or found.bsize,
            found.blocks,
            found.bfree,
            found.bavail,
            found.files,
            found.ffree,
            found.fsid,
            found.namelen,
        )

    def child(self, name: bytes, caller: Caller) -> tuple[HostNode, Qid]:
        """One step down, or up for ``..``."""
        self.store.identity.use(caller)
        if name == b"..":
            node = self._parent(caller)
            return node, node.qid()
        return self._step(name)

    def _step(self, name: bytes) -> tuple[HostNode, Qid]:
        """``name`` is a single component and no link is followed, so the step cannot leave this directory."""
        fd = os.open(name, _PATH_FLAGS, dir_fd=self.fd)
        node = self.store.node(fd, 0)
        try:
            found = node.stat()
        except BaseException:
            node.release()
            raise
        node.type = found.st_mode & S_IFMT
        return node, self.store.paths.qid(found)

    def readlink(self) -> bytes:
        """readlink(2)."""
        return os.readlink(b"", dir_fd=self.fd)

    # --- finding one's own name --------------------------------------------------------------------

    def _is_root(self) -> bool:
        found = os.fstat(self.fd)
        return (found.st_dev, found.st_ino) == self.store.root_inode

    def _parent(self, caller: Caller) -> HostNode:
        if self.type != S_IFDIR:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        if self._is_root():
            return self.store.root()
        return self.location(caller)[0]

    def location(self, caller: Caller) -> tuple[HostNode, bytes]:
        """The directory and name of this file now: the kernel tells its path, which is walked again from the
        root.

        The path is only a hint.  The walk is confined by openat2(2), and counts only if it arrives at this
        very inode; else the file was moved meanwhile and it is tried again.  Raises OSError: ENOENT when the
        file has no name, or none under the root any more, ENAMETOOLONG when its path is longer than the
        kernel can tell.
        """
        self.store.identity.use(caller)
        mine = os.fstat(self.fd)
        if (mine.st_dev, mine.st_ino) == self.store.root_inode:
            raise OSError(errno.EBUSY, "the root of the export")
        for _ in range(_TRIES):
            root = os.readlink(linux.path_of(self.store.root_fd)).rstrip(b"/")
            path = os.readlink(linux.path_of(self.fd))
            if not path.startswith(root + b"/"):
                break
            above, _slash, name = path[len(root) + 1 :].rpartition(b"/")
            try:
                directory = linux.openat2(self.store.root_fd, above or b".", _PATH_FLAGS | os.O_DIRECTORY, _CONFINED)
            except (FileNotFoundError, NotADirectoryError, BlockingIOError):
                continue
            node = self.store.node(directory, S_IFDIR)
            try:
                there = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                    return node, name
            except FileNotFoundError:
                pass
            except BaseException:
                node.release()
                raise
            node.release()
        raise FileNotFoundError(errno.ENOENT, "no name under the export")

    # --- opening -----------------------------------------------------------------------------------

    def open(self, flags: int, caller: Caller) -> HostFile:
        """Open the regular file, never anything else."""
        if self.type != S_IFREG:
            raise OSError(errno.ENXIO, "not a regular file")
        self.store.identity.use(caller)
        return HostFile(self.store, self.store.afford(_reopen(self.fd, flags)), flags)

    def open_directory(self, caller: Caller) -> HostDirectory:
        """Open the directory."""
        self.store.identity.use(caller)
        fd = os.open(linux.path_of(self.fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return HostDirectory(self.store.afford(fd), self.describer())

    def describer(self) -> HostDescriber:
        found = os.fstat(self.fd)
        return HostDescriber(self, found, (found.st_dev, found.st_ino) == self.store.root_inode)

    def create(self, name: bytes, flags: int, mode: int, gid: int, caller: Caller) -> tuple[HostNode, Qid, HostFile]:
        """Create and open; what exists is opened only if it is a regular file, and through its own
        descriptor.
        """
        self.store.demand_room()
        self.store.identity.use(caller, gid)
        for _ in range(_TRIES):
            try:
                fd = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=self.fd)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
                try:
                    node, qid = self._step(name)
                except FileNotFoundError:
                    continue  # removed between the two calls
                try:
                    demand_regular(node.type)
                    return node, qid, node.open(flags, caller)
                except BaseException:
                    node.release()
                    raise
            file = HostFile(self.store, fd, flags)
            try:
                node = HostNode(self.store, os.open(linux.path_of(fd), os.O_PATH | os.O_CLOEXEC), S_IFREG)
            except BaseException:
                file.close()
                raise
            return node, node.qid(), file
        raise FileNotFoundError(errno.ENOENT, "created and removed by somebody else, again and again")

    # --- changing ----------------------------------------------------------------------------------

    def mkdir(self, name: bytes, mode: int, gid: int, caller: Caller) -> Qid:
        """mkdir(2)."""
        self.store.identity.use(caller, gid)
        os.mkdir(name, mode, dir_fd=self.fd)
        return self._qid_of(name)

    def symlink(self, name: bytes, target: bytes, gid: int, caller: Caller) -> Qid:
        """symlink(2)."""
        self.store.identity.use(caller, gid)
        os.symlink(target, name, dir_fd=self.fd)
        return self._qid_of(name)

    def mknod(self, name: bytes, mode: int, device: int, gid: int, caller: Caller) -> Qid:
        """mknod(2)."""
        self.store.identity.use(caller, gid)
        os.mknod(name, mode, device, dir_fd=self.fd)
        return self._qid_of(name)

    def _qid_of(self, name: bytes) -> Qid:
        return self.store.paths.qid(os.stat(name, dir_fd=self.fd, follow_symlinks=False))

    def link(self, name: bytes, file: Node, caller: Caller) -> None:
        """link(2) of the inode itself."""
        if not isinstance(file, HostNode) or file.store is not self.store:
            raise OSError(errno.EXDEV, "another export")
        self.store.identity.use(caller)
        os.link(linux.path_of(file.fd), name, dst_dir_fd=self.fd, follow_symlinks=True)

    def unlink(self, name: bytes, caller: Caller) -> None:
        """unlink(2)."""
        self.store.identity.use(caller)
        os.unlink(name, dir_fd=self.fd)

    def rmdir(self, name: bytes, caller: Caller) -> None:
        """rmdir(2)."""
        self.store.identity.use(caller)
        os.rmdir(name, dir_fd=self.fd)

    def rename(self, name: bytes, directory: Node, new_name: bytes, caller: Caller) -> None:
        """rename(2)."""
        if not isinstance(directory, HostNode) or directory.store is not self.store:
            raise OSError(errno.EXDEV, "another export")
        self.store.identity.use(caller)
        os.rename(name, new_name, src_dir_fd=self.fd, dst_dir_fd=directory.fd)

    def setattr(self, changes: Changes, opened: OpenFile | None, caller: Caller) -> None:
        """In an order in which no change undoes another: truncation moves the times, chown(2) clears setuid."""
        self.store.identity.use(caller)
        path = linux.path_of(self.fd)
        if changes.size is not None:
            self._truncate(changes.size, opened)
        if changes.uid is not None or changes.gid is not None or changes.touch:
            self._chown(path, changes.uid, changes.gid)
        if changes.mode is not None:
            self._chmod(path, changes.mode)
        if changes.atime is not None or changes.mtime is not None:
            linux.utimensat(path, changes.atime or _OMIT, changes.mtime or _OMIT)

    def _truncate(self, size: int, opened: OpenFile | None) -> None:
        if self.type != S_IFREG:
            raise OSError(errno.EISDIR if self.type == S_IFDIR else errno.EINVAL, "not a regular file")
        if isinstance(opened, HostFile) and opened.writable:
            # ftruncate(2) asks how the file was opened, truncate(2) what its mode says by now.
            os.ftruncate(opened.fd, size)
        else:
            os.truncate(linux.path_of(self.fd), size)

    def _chown(self, path: bytes, uid: int | None, gid: int | None) -> None:
        os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)

    def _chmod(self, path: bytes, mode: int) -> None:
        if self.type == S_IFLNK:
            raise OSError(errno.EOPNOTSUPP, "symbolic links have no mode")
        os.chmod(path, mode)

    # --- extended attributes -----------------------------------------------------------------------

    def getxattr(self, name: bytes, caller: Caller) -> bytes:
        """getxattr(2)."""
        self.store.identity.use(caller)
        return os.getxattr(linux.path_of(self.fd), name)

    def listxattr(self, caller: Caller) -> bytes:
        """listxattr(2)."""
        self.store.identity.use(caller)
        return b"".join(os.fsencode(name) + b"\0" for name in os.listxattr(linux.path_of(self.fd)))

    def setxattr(self, name: bytes, value: bytes, flags: int, caller: Caller) -> None:
        """setxattr(2)."""
        self.store.identity.use(caller)
        os.setxattr(linux.path_of(self.fd), name, value, flags)

    def removexattr(self, name: bytes, caller: Caller) -> None:
        """removexattr(2)."""
        self.store.identity.use(caller)
        os.removexattr(linux.path_of(self.fd), name)


_U64 = (1 << 64) - 1
_file_numbers = itertools.count(1)


class HostFile:
    """An open regular file."""

    __slots__ = ("_inode", "_nowait", "_number", "_slow_write", "fd", "readable", "store", "writable")

    def __init__(self, store: HostStore, fd: int, flags: int) -> None:
        access = flags & os.O_ACCMODE
        self.store = store
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
        """preadv(2); without waiting, only what the page cache holds (RWF_NOWAIT)."""
        if len(views) > _IOV_MAX:
            return self._read_many(views, offset, wait)
        if wait or not self._nowait:
            return os.preadv(self.fd, views, offset)
        try:
            count = os.preadv(self.fd, views, offset, os.RWF_NOWAIT)
        except BlockingIOError:
            raise WouldBlock from None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._nowait = False
            return os.preadv(self.fd, views, offset)
        if count < sum(map(len, views)) and offset + count < os.fstat(self.fd).st_size:
            # Short because the rest is not cached, and a short answer would look like the end of the file.
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
        """fsync(2) or fdatasync(2)."""
        (os.fdatasync if datasync else os.fsync)(self.fd)

    def set_lock(self, owner: LockOwner, lock: Lock | None, start: int, length: int) -> bool:
        """See :class:`HostLocks`."""
        return self.store.locks.set(
            self.fd, self._number, self._locked_inode(), owner=owner, wanted=lock, start=start, length=length
        )

    def release_whole(self, owner: LockOwner) -> None:
        """See :class:`HostLocks`."""
        self.store.locks.release_whole(self._number, self._locked_inode(), owner)

    def get_lock(self, owner: LockOwner, lock: Lock) -> Lock | None:
        """See :class:`HostLocks`."""
        return self.store.locks.get(self.fd, self._locked_inode(), owner, lock)

    def _locked_inode(self) -> Inode:
        if self._inode is None:
            found = os.fstat(self.fd)
            self._inode = (found.st_dev, found.st_ino)
        return self._inode

    def close(self) -> None:
        """Close it."""
        if self._inode is not None:
            self.store.locks.closed(self._number, self._inode)
        os.close(self.fd)


class HostDescriber:
    """Says how an entry of one directory looks to the guest."""

    plain = frozenset(DIRENT_TYPES.values()) - {DT_UNKNOWN}

    def __init__(self, node: HostNode, found: os.stat_result, is_root: bool) -> None:
        self._paths = node.store.paths
        self._device = found.st_dev
        self.fd = node.fd
        self.prefix = self._paths.prefix(found.st_dev)
        self._own_path = self._paths.path(found.st_dev, found.st_ino) if is_root else None

    def __call__(self, name: bytes, inode: int, kind: int) -> tuple[int, int, int]:
        if self._own_path is not None and name == b"..":
            # What lies above the export is not the guest's to know.
            return qid_type_of_entry(kind), self._own_path, kind
        if kind == DT_UNKNOWN:
            kind = self._look(name)
        return qid_type_of_entry(kind), self._paths.path(self._device, inode), kind

    def _look(self, name: bytes) -> int:
        try:
            return dt_type(os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode)
        except OSError:
            return DT_UNKNOWN


def _reopen(fd: int, flags: int) -> int:
    path = linux.path_of(fd)
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except PermissionError:
        if not flags & os.O_NOATIME:
            raise
        # O_NOATIME is a hint that only the owner may give; the guest's kernel let its user give it.
        return os.open(path, (flags & ~os.O_NOATIME) | os.O_CLOEXEC)


def demand_regular(type: int) -> None:
    if type == S_IFREG:
        return
    if type == S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, "a directory")
    raise OSError(errno.ELOOP if stat.S_ISLNK(type) else errno.ENXIO, "not a regular file")
