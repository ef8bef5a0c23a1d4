"""A directory of the host as a store.

The rule of this module: nothing is opened by a path that a guest supplied. A step is one component, opened from the
descriptor of its directory without following links; the file found is held by an O_PATH descriptor, which stays on the
inode whatever happens to its names. Every later operation uses that descriptor (/proc/self/fd), so nothing can be
swapped between a check and its use. Only regular files and directories are ever opened for I/O.

Descriptors of files that are not open may be closed and reopened (:mod:`reference_server.descriptors`); so each
operation begins with :meth:`HostNode.hold`, and keeps its result in a variable until it is over.

Source of the technique: open(2), O_PATH; openat2(2); virtiofsd does the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator

from protocol.constants import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from protocol.fields import Qid
from reference_server import linux
from reference_server.absent import CONFINED, PATH_FLAGS, Places, Whereabouts
from reference_server.descriptors import KEPT, RELEASED, Descriptor, Descriptors, Outcome
from reference_server.hostdir import HostDirectory
from reference_server.hostfile import HostDescriber, HostFile
from reference_server.hostlocks import HostLocks, Inode
from reference_server.identity import Identity, Unchanged
from reference_server.pace import IN_MEMORY, Pace, all_prompt, is_prompt, type_of
from reference_server.qids import QidPaths, Stat
from reference_server.shares import Client, Share
from reference_server.storage import Attributes, Caller, Changes, FileSystemInfo, Node, OpenFile, Store

_TRIES = 16
"""How often an operation is retried that races with a rename on the host."""
_OMIT = (0, linux.UTIME_OMIT)
_OPEN = 2
"""Descriptors that an open file takes: its own, and the node's."""


class HostStore(Store):
    """The tree below one directory."""

    def __init__(
        self, path: str | bytes, identity: Identity | None = None, descriptors: Descriptors | None = None
    ) -> None:
        """``descriptors``: those of the process; stores that share them free descriptors for each other.

        Raises OSError when ``path`` is not a directory or /proc is not mounted.
        """
        self.identity: Identity = identity or Unchanged()
        self.descriptors = descriptors or Descriptors()
        self.locks = HostLocks(self.descriptors)
        root = Descriptor(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        try:
            os.stat(linux.path_of(root))
        except OSError as error:
            raise OSError(errno.ENOENT, "/proc is not mounted, and files are reached through it") from error
        found = os.fstat(root)
        self.root_fd = root
        self.root_inode: Inode = (found.st_dev, found.st_ino)
        self.paths = QidPaths(found.st_dev)
        self.places = Places(root, self.descriptors, self.identity)
        self.pace = Pace(all_prompt(path, root))
        self._devices = {found.st_dev}
        self._in_memory: dict[int, bool] = {}

    def root(self, client: Client) -> HostNode:
        """The exported directory itself."""
        node = self.node(self.root_fd, S_IFDIR, client.of(self.descriptors.pinned))
        node.pins = 1  # the descriptor belongs to the store
        return node

    def node(self, fd: Descriptor, type: int, share: Share) -> HostNode:
        return HostNode(self, fd, type, share)

    def found(self, fd: int, type: int, share: Share) -> HostNode:
        """The node for ``fd``, just opened, which takes ownership of it. Raises OSError(EMFILE)."""
        descriptors = self.descriptors
        node = self.node(Descriptor(fd if fd < descriptors.alert else descriptors.keep(fd)), type, share)
        descriptors.cached[node] = None
        return node

    def met(self, fd: int, device: int) -> None:
        """A step led to ``device``, where ``fd`` is. A file system mounted after the start may not be prompt."""
        if device not in self._devices:
            self._devices.add(device)
            if not is_prompt(fd):
                self.pace.prompt = False

    def in_memory(self, fd: int) -> bool:
        """Whether a read from ``fd`` waits for nothing, though its file system cannot say so (tmpfs)."""
        if not self.pace.prompt:
            return False
        device = os.fstat(fd).st_dev
        known = self._in_memory.get(device)
        if known is None:
            known = self._in_memory[device] = type_of(fd) in IN_MEMORY
        return known

    def close(self) -> None:
        """Close the directory. Nodes that have a descriptor stay usable."""
        self.places.close()
        del self.root_fd


class HostNode(Node):
    """A host file of any type, held by an O_PATH descriptor or, while that is closed, by data to find it again."""

    __slots__ = ("_users", "descriptor", "pins", "share", "store", "type", "used", "where")

    def __init__(self, store: HostStore, fd: Descriptor, type: int, share: Share) -> None:
        self.store = store
        self.type = type
        self.share = share
        """The client's part of the descriptors that are not given up."""
        self.descriptor: Descriptor | None = fd
        self.where: Whereabouts | None = None
        self.used = True
        self.pins = 0
        self._users = 1

    # The lock is taken here as it is because "with" takes five times as long, and these are called for each request.

    def retain(self) -> None:
        lock = self.store.descriptors.lock
        lock.acquire()
        self._users += 1
        lock.release()

    def release(self) -> None:
        """One user fewer; the last one closes the descriptor."""
        descriptors = self.store.descriptors
        lock = descriptors.lock
        lock.acquire()
        self._users -= 1
        if self._users:
            lock.release()
            return
        if self.pins & KEPT:
            self.share.give()
        self.pins += RELEASED
        descriptors.cached.pop(self, None)
        lock.release()
        if self.descriptor is None:
            self.store.places.forget(self)
        self.descriptor = None

    # --- the descriptor ----------------------------------------------------------------------------

    def hold(self) -> Descriptor:
        """The descriptor, valid for as long as the caller refers to it.

        Raises OSError: ESTALE if the file no longer exists or cannot be found, EMFILE.
        """
        self.used = True
        fd = self.descriptor
        return self.store.places.find(self) if fd is None else fd

    def give_up(self) -> Outcome:
        """See :class:`Cached`. A file that could not be found again keeps its descriptor, which counts against its
        client's share; if that is used up, the client loses the file (ESTALE).
        """
        outcome = self.store.places.give_up(self)
        if outcome is not Outcome.PINNED:
            return outcome
        with self.store.descriptors.lock:
            if self.pins:
                return Outcome.BUSY
            if self.share.take():
                self.pins |= KEPT
                return outcome
        self.store.places.lose(self)
        return Outcome.GONE

    def begin_use(self) -> None:
        """The node's file is being opened: it keeps its descriptor. Raises OSError(EMFILE)."""
        lock = self.store.descriptors.lock
        lock.acquire()
        taken = self.share.take(_OPEN)
        self.pins += taken
        lock.release()
        if not taken:
            raise OSError(errno.EMFILE, "the client holds its share of the descriptors")

    def end_use(self) -> None:
        """It is closed."""
        descriptors = self.store.descriptors
        lock = descriptors.lock
        lock.acquire()
        self.share.give(_OPEN)
        self.pins -= 1
        if not self.pins:
            descriptors.cached[self] = None
        lock.release()

    # --- inspecting -----------------------------------------------------------------------------------

    def stat(self) -> Stat:
        """stat(2), as the guest is to see it."""
        return self._seen(self.hold())

    def _seen(self, fd: int) -> Stat:
        """The same through ``fd``, a descriptor of the file."""
        return os.fstat(fd)

    def qid(self) -> Qid:
        return self.store.paths.qid(self.stat())

    def getattr(self) -> Attributes:
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
        """statfs(2); counted in fragments, because the guest's kernel uses bsize as the unit of the counts."""
        found = linux.fstatfs(self.hold())
        return FileSystemInfo(
            found.type & 0xFFFFFFFF,
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
        self.store.identity.use(caller)
        if name == b"..":
            node = self._parent(caller)
            return node, node.qid()
        return self._step(name)

    def walk(self, names: Iterable[bytes], caller: Caller, qids: list[Qid]) -> HostNode:
        """See :meth:`Node.walk`.  A file on the way gets no node: its descriptor is closed after the next step."""
        store = self.store
        store.identity.use(caller)
        device, open_, close, qid = store.root_inode[0], os.open, os.close, store.paths.qid
        node, fd, type = self, -1, 0
        node.retain()
        try:
            for name in names:
                if name == b"..":
                    if fd >= 0:
                        made, fd = fd, -1
                        node = node.replaced(store.found(made, type, self.share))
                    node = node.replaced(node._parent(caller))
                    qids.append(node.qid())
                    continue
                here: int = fd if fd >= 0 else node.hold()
                made = open_(name, PATH_FLAGS, dir_fd=here)
                if fd >= 0:
                    close(fd)
                fd = made
                found = self._seen(fd)
                type = found.st_mode & S_IFMT
                if found.st_dev != device:
                    store.met(fd, found.st_dev)
                qids.append(qid(found))
            if fd < 0:
                return node
            made, fd = fd, -1
            return node.replaced(store.found(made, type, self.share))
        except BaseException:
            if fd >= 0:
                close(fd)
            node.release()
            raise

    def replaced(self, node: HostNode) -> HostNode:
        """``node``, after one use of this one was given up."""
        self.release()
        return node

    def _step(self, name: bytes) -> tuple[HostNode, Qid]:
        """``name`` is a single component and no link is followed, so the step cannot leave this directory."""
        node = self.store.found(os.open(name, PATH_FLAGS, dir_fd=self.hold()), 0, self.share)
        try:
            found = node.stat()
        except BaseException:
            node.release()
            raise
        node.type = found.st_mode & S_IFMT
        if found.st_dev != self.store.root_inode[0]:
            self.store.met(node.hold(), found.st_dev)
        return node, self.store.paths.qid(found)

    def readlink(self) -> bytes:
        return os.readlink(b"", dir_fd=self.hold())

    # --- finding the node's name --------------------------------------------------------------------

    def _is_root(self) -> bool:
        found = os.fstat(self.hold())
        return (found.st_dev, found.st_ino) == self.store.root_inode

    def _parent(self, caller: Caller) -> HostNode:
        if self.type != S_IFDIR:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        if self._is_root():
            node = self.store.node(self.store.root_fd, S_IFDIR, self.share)
            node.pins = 1
            return node
        return self.location(caller)[0]

    def location(self, caller: Caller) -> tuple[HostNode, bytes]:
        """The directory and name of this file now: the kernel reports its path, which is walked again from the root.

        The path is only a hint. The walk is confined by openat2(2), and counts only if it arrives at this inode;
        otherwise the file was moved meanwhile and it is tried again. Raises OSError: ENOENT if the file has no name, or
        none below the root any more, ENAMETOOLONG if its path is longer than the kernel can report.
        """
        self.store.identity.use(caller)
        here = self.hold()
        mine = os.fstat(here)
        if (mine.st_dev, mine.st_ino) == self.store.root_inode:
            raise OSError(errno.EBUSY, "the root of the export")
        for _ in range(_TRIES):
            root = os.readlink(linux.path_of(self.store.root_fd)).rstrip(b"/")
            path = os.readlink(linux.path_of(here))
            if not path.startswith(root + b"/"):
                break
            above, _slash, name = path[len(root) + 1 :].rpartition(b"/")
            try:
                directory = linux.openat2(self.store.root_fd, above or b".", PATH_FLAGS | os.O_DIRECTORY, CONFINED)
            except (FileNotFoundError, NotADirectoryError, BlockingIOError):
                continue
            node = self.store.found(directory, S_IFDIR, self.share)
            try:
                there = os.stat(name, dir_fd=node.hold(), follow_symlinks=False)
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
        if self.type != S_IFREG:
            raise OSError(errno.ENXIO, "not a regular file")
        self.store.identity.use(caller)
        self.begin_use()
        try:
            return HostFile(self, self.store.descriptors.keep(_reopen(self.hold(), flags)), flags)
        except BaseException:
            self.end_use()
            raise

    def open_directory(self, caller: Caller) -> HostDirectory:
        self.store.identity.use(caller)
        self.begin_use()
        try:
            here, describer = self.hold(), self.describer()
            fd = os.open(linux.path_of(here), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return HostDirectory(self.store.descriptors.keep(fd), describer, self.end_use)
        except BaseException:
            self.end_use()
            raise

    def describer(self) -> HostDescriber:
        found = os.fstat(self.hold())
        return HostDescriber(self.store.paths, found, (found.st_dev, found.st_ino) == self.store.root_inode)

    def create(self, name: bytes, flags: int, mode: int, gid: int, caller: Caller) -> tuple[HostNode, Qid, HostFile]:
        """Create and open; what exists is opened only if it is a regular file, and through its own
        descriptor.
        """
        self.store.identity.use(caller, gid)
        here = self.hold()
        for _ in range(_TRIES):
            try:
                new = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=here)
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
            try:
                return self._created(new, flags)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=here)
                raise
        raise FileNotFoundError(errno.ENOENT, "another process creates and removes it repeatedly")

    def _created(self, new: int, flags: int) -> tuple[HostNode, Qid, HostFile]:
        fd = self.store.descriptors.keep(new)
        try:
            node = self.store.found(os.open(linux.path_of(fd), os.O_PATH | os.O_CLOEXEC), S_IFREG, self.share)
            try:
                qid = node.qid()
                node.begin_use()
            except BaseException:
                node.release()
                raise
        except BaseException:
            os.close(fd)
            raise
        return node, qid, HostFile(node, fd, flags)

    # --- changing ----------------------------------------------------------------------------------

    def mkdir(self, name: bytes, mode: int, gid: int, caller: Caller) -> Qid:
        self.store.identity.use(caller, gid)
        os.mkdir(name, mode, dir_fd=self.hold())
        return self._qid_of(name)

    def symlink(self, name: bytes, target: bytes, gid: int, caller: Caller) -> Qid:
        self.store.identity.use(caller, gid)
        os.symlink(target, name, dir_fd=self.hold())
        return self._qid_of(name)

    def mknod(self, name: bytes, mode: int, device: int, gid: int, caller: Caller) -> Qid:
        self.store.identity.use(caller, gid)
        os.mknod(name, mode, device, dir_fd=self.hold())
        return self._qid_of(name)

    def _qid_of(self, name: bytes) -> Qid:
        return self.store.paths.qid(os.stat(name, dir_fd=self.hold(), follow_symlinks=False))

    def link(self, name: bytes, file: Node, caller: Caller) -> None:
        """link(2) of the inode itself."""
        if not isinstance(file, HostNode) or file.store is not self.store:
            raise OSError(errno.EXDEV, "another export")
        self.store.identity.use(caller)
        fd = file.hold()
        os.link(linux.path_of(fd), name, dst_dir_fd=self.hold(), follow_symlinks=True)

    def unlink(self, name: bytes, caller: Caller) -> None:
        self.store.identity.use(caller)
        here = self.hold()
        self.store.places.change(lambda: os.unlink(name, dir_fd=here), here, name)

    def rmdir(self, name: bytes, caller: Caller) -> None:
        self.store.identity.use(caller)
        here = self.hold()
        self.store.places.change(lambda: os.rmdir(name, dir_fd=here), here, name)

    def rename(self, name: bytes, directory: Node, new_name: bytes, caller: Caller) -> None:
        if not isinstance(directory, HostNode) or directory.store is not self.store:
            raise OSError(errno.EXDEV, "another export")
        self.store.identity.use(caller)
        here, there = self.hold(), directory.hold()

        def act() -> None:
            os.rename(name, new_name, src_dir_fd=here, dst_dir_fd=there)

        self.store.places.rename(act, here, name, there, new_name)

    def setattr(self, changes: Changes, opened: OpenFile | None, caller: Caller) -> None:
        """In an order in which no change undoes another: truncation moves the times, chown(2) clears setuid."""
        self.store.identity.use(caller)
        fd = self.hold()
        path = linux.path_of(fd)
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
            # ftruncate(2) checks how the file was opened, truncate(2) its current mode.
            os.ftruncate(opened.fd, size)
        else:
            fd = self.hold()
            os.truncate(linux.path_of(fd), size)

    def _chown(self, path: bytes, uid: int | None, gid: int | None) -> None:
        os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)

    def _chmod(self, path: bytes, mode: int) -> None:
        if self.type == S_IFLNK:
            raise OSError(errno.EOPNOTSUPP, "symbolic links have no mode")
        os.chmod(path, mode)

    # --- extended attributes -----------------------------------------------------------------------

    def getxattr(self, name: bytes, caller: Caller) -> bytes:
        self.store.identity.use(caller)
        fd = self.hold()
        return os.getxattr(linux.path_of(fd), name)

    def listxattr(self, caller: Caller) -> bytes:
        self.store.identity.use(caller)
        fd = self.hold()
        return b"".join(os.fsencode(name) + b"\0" for name in os.listxattr(linux.path_of(fd)))

    def setxattr(self, name: bytes, value: bytes, flags: int, caller: Caller) -> None:
        self.store.identity.use(caller)
        fd = self.hold()
        os.setxattr(linux.path_of(fd), name, value, flags)

    def removexattr(self, name: bytes, caller: Caller) -> None:
        self.store.identity.use(caller)
        fd = self.hold()
        os.removexattr(linux.path_of(fd), name)


_U64 = (1 << 64) - 1


@contextlib.contextmanager
def undone(remove: Callable[..., None], name: bytes, directory: Descriptor) -> Iterator[None]:
    """``name`` in ``directory`` was just made, and is removed if the block fails."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            remove(name, dir_fd=directory)
        raise


def _reopen(fd: Descriptor, flags: int) -> int:
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
