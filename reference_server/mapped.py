"""A host directory served without root: extended attributes keep what only root could set.

Every operation is atomic: if a later step fails, new files are removed and recorded values restored.

The rule of this module: the format is QEMU's security_model=mapped-xattr (``hw/9pfs/9p-local.c``,
``local_set_xattrat``), so that the same directory can be served by either. Owner, mode and device number are kept in
``user.virtfs.uid``, ``.gid``, ``.mode`` (32 bits, little-endian) and ``.rdev`` (64 bits). Symbolic links, devices,
fifos and sockets are regular files on the host, a link's target being their content. The guest never sees these
attributes and cannot set them (compare CVE-2017-7493, where it could).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from protocol.constants import DT_REG, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from protocol.fields import Qid
from reference_server import linux
from reference_server.descriptors import Descriptor, Descriptors
from reference_server.hostdir import dt_type, qid_type_of_entry
from reference_server.hostfile import HostDescriber, HostFile
from reference_server.hostfs import HostNode, HostStore, demand_regular, undone
from reference_server.qids import Stat
from reference_server.shares import Share
from reference_server.storage import Caller, Changes, OpenFile

PREFIX = b"user.virtfs."
_UID, _GID, _MODE, _RDEV = (PREFIX + name for name in (b"uid", b"gid", b"mode", b"rdev"))
_ACL = b"system.posix_acl_"
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700
"""What new files and directories get on the host (QEMU SM_LOCAL_MODE_BITS, SM_LOCAL_DIR_MODE_BITS)."""


class NoUserAttributes(OSError):
    """The exported file system does not support ``user.`` attributes, so nothing can be mapped there."""


class MappedStore(HostStore):
    """The tree below one directory, with mapped ownership."""

    def __init__(self, path: str | bytes, descriptors: Descriptors | None = None) -> None:
        """Raises OSError as HostStore does, and NoUserAttributes."""
        super().__init__(path, descriptors=descriptors)
        try:
            _demand_user_attributes(self.root_fd)
        except BaseException:
            self.close()
            raise

    def node(self, fd: Descriptor, type: int, share: Share) -> HostNode:
        return MappedNode(self, fd, type, share)


class MappedNode(HostNode):
    """A file whose ownership, mode and type the guest chose."""

    __slots__ = ()

    def _seen(self, fd: int) -> Stat:
        """fstat(2) overlaid with the recorded values."""
        found = os.fstat(fd)
        return _overlaid(found, linux.path_of(fd)) if _can_hold(found.st_mode) else found

    def readlink(self) -> bytes:
        """The content of the file that stands for the link; of a real link on the host, its target."""
        here = self.hold()
        if stat.S_ISLNK(os.fstat(here).st_mode):
            return super().readlink()
        fd = Descriptor(os.open(linux.path_of(here), os.O_RDONLY | os.O_CLOEXEC))
        return os.read(fd, os.fstat(fd).st_size)

    # --- making ------------------------------------------------------------------------------------

    def create(self, name: bytes, flags: int, mode: int, gid: int, caller: Caller) -> tuple[HostNode, Qid, HostFile]:
        """Create a file that belongs to the server on the host and to the caller for the guest."""
        for _ in range(16):
            made = True
            try:
                node = self._make(name, S_IFREG | mode, gid, caller)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
                made = False
                try:
                    node, _qid = self._step(name)
                except FileNotFoundError:
                    continue
            try:
                demand_regular(node.type)
                with undone(os.unlink, name, self.hold()) if made else contextlib.nullcontext():
                    return node, node.qid(), node.open(flags, caller)
            except BaseException:
                node.release()
                raise
        raise FileNotFoundError(errno.ENOENT, "another process creates and removes it repeatedly")

    def _make(
        self, name: bytes, mode: int, gid: int, caller: Caller, device: int = 0, content: bytes = b""
    ) -> HostNode:
        """A regular file on the host that stands for a file of ``mode``; atomic."""
        here = self.hold()
        fd = Descriptor(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE, dir_fd=here))
        with undone(os.unlink, name, here):
            while content:  # on a full disk a part is written first
                content = content[os.write(fd, content) :]
            uid, gid, mode = self._inherited(mode, gid, caller)
            _record(linux.path_of(fd), _values(uid, gid, mode, device or None))
            return self.store.found(os.open(linux.path_of(fd), os.O_PATH | os.O_CLOEXEC), mode & S_IFMT, self.share)

    def _inherited(self, mode: int, gid: int, caller: Caller) -> tuple[int, int, int]:
        """Files inherit the group of a setgid directory, which the host's kernel does not know here."""
        parent = self.stat()
        if parent.st_mode & stat.S_ISGID:
            return caller.uid, parent.st_gid, mode | (stat.S_ISGID if mode & S_IFMT == S_IFDIR else 0)
        return caller.uid, gid, mode

    def mkdir(self, name: bytes, mode: int, gid: int, caller: Caller) -> Qid:
        here = self.hold()
        os.mkdir(name, _DIRECTORY_MODE, dir_fd=here)
        with undone(os.rmdir, name, here):
            node, _qid = self._step(name)
            try:
                uid, gid, mode = self._inherited(S_IFDIR | mode, gid, caller)
                fd = node.hold()
                _record(linux.path_of(fd), _values(uid, gid, mode))
                return node.qid()
            finally:
                node.release()

    def symlink(self, name: bytes, target: bytes, gid: int, caller: Caller) -> Qid:
        return self._made(name, self._make(name, S_IFLNK | 0o777, gid, caller, content=target))

    def mknod(self, name: bytes, mode: int, device: int, gid: int, caller: Caller) -> Qid:
        whole = mode if mode & S_IFMT else mode | S_IFREG
        return self._made(name, self._make(name, whole, gid, caller, device=device))

    def _made(self, name: bytes, node: HostNode) -> Qid:
        try:
            with undone(os.unlink, name, self.hold()):
                return node.qid()
        finally:
            node.release()

    # --- changing ----------------------------------------------------------------------------------

    def setattr(self, changes: Changes, opened: OpenFile | None, caller: Caller) -> None:
        """Owner and mode are recorded; size and times are the host's.

        The record is written first, because it can be undone, and a truncation cannot.
        """
        if changes.mode is not None and self.type == S_IFLNK:
            raise OSError(errno.EOPNOTSUPP, "symbolic links have no mode")
        mode = changes.mode
        if mode is None and (changes.uid is not None or changes.gid is not None) and self.type == S_IFREG:
            before = self.stat()
            mode = before.st_mode & ~(0o6000 if before.st_mode & 0o010 else 0o4000) & 0o7777
        values = _values(changes.uid, changes.gid, None if mode is None else self.type | mode)
        fd = self.hold()
        with _restored(linux.path_of(fd), values):
            super().setattr(changes._replace(mode=None, uid=None, gid=None), opened, caller)

    def open(self, flags: int, caller: Caller) -> HostFile:
        """Open a regular file; one that only stands for another type is never opened."""
        if self.type == S_IFREG:
            demand_regular(os.fstat(self.hold()).st_mode & S_IFMT)
        return super().open(flags, caller)

    def describer(self) -> HostDescriber:
        """Entries show the types that they stand for."""
        found = os.fstat(self.hold())
        return _MappedDescriber(self.store.paths, found, (found.st_dev, found.st_ino) == self.store.root_inode)

    # --- extended attributes -----------------------------------------------------------------------

    def getxattr(self, name: bytes, caller: Caller) -> bytes:
        """getxattr(2), except of recorded values. ACLs are kept under another name, because they name guest users."""
        if name.startswith(PREFIX):
            raise OSError(errno.ENODATA, "not the guest's")
        return super().getxattr(_mapped_name(name), caller)

    def listxattr(self, caller: Caller) -> bytes:
        """listxattr(2), without recorded values."""
        names = []
        for name in super().listxattr(caller).split(b"\0")[:-1]:
            if name.startswith(PREFIX + _ACL):
                names.append(name[len(PREFIX) :])
            elif not name.startswith((PREFIX, _ACL)):
                names.append(name)
        return b"".join(name + b"\0" for name in names)

    def setxattr(self, name: bytes, value: bytes, flags: int, caller: Caller) -> None:
        """setxattr(2). Raises PermissionError (EACCES, like QEMU) for recorded values."""
        if name.startswith(PREFIX):
            raise PermissionError(errno.EACCES, "not the guest's")
        super().setxattr(_mapped_name(name), value, flags, caller)

    def removexattr(self, name: bytes, caller: Caller) -> None:
        """removexattr(2). Raises PermissionError (EACCES, like QEMU) for recorded values."""
        if name.startswith(PREFIX):
            raise PermissionError(errno.EACCES, "not the guest's")
        super().removexattr(_mapped_name(name), caller)


class _MappedDescriber(HostDescriber):
    plain = HostDescriber.plain - {DT_REG}

    def __call__(self, directory: int, name: bytes, inode: int, kind: int) -> tuple[int, int, int]:
        qid_kind, path, kind = super().__call__(directory, name, inode, kind)
        if kind == DT_REG:
            kind = self._recorded(directory, name)
            qid_kind = qid_type_of_entry(kind)
        return qid_kind, path, kind

    def _recorded(self, directory: int, name: bytes) -> int:
        try:
            fd = Descriptor(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))
            mode = _read(linux.path_of(fd), _MODE)
            return dt_type(mode) if mode is not None else DT_REG
        except OSError:
            return DT_REG


def _mapped_name(name: bytes) -> bytes:
    return PREFIX + name if name.startswith(_ACL) else name


def _can_hold(mode: int) -> bool:
    """Whether the host's file can have ``user.`` attributes at all: xattr(7)."""
    return mode & S_IFMT in (S_IFREG, S_IFDIR)


_UNRECORDED = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM})
"""How the host says that a file has no record: none was made, its file system keeps none, the server may not look."""


def _read(path: bytes, name: bytes) -> int | None:
    try:
        return int.from_bytes(os.getxattr(path, name), "little")
    except OSError as error:
        if error.errno in _UNRECORDED:
            return None
        raise


def _values(
    uid: int | None = None, gid: int | None = None, mode: int | None = None, rdev: int | None = None
) -> dict[bytes, bytes]:
    """The attributes that record what is not None."""
    sized = ((_UID, uid, 4), (_GID, gid, 4), (_MODE, mode, 4), (_RDEV, rdev, 8))
    return {name: value.to_bytes(size, "little") for name, value, size in sized if value is not None}


def _record(path: bytes, values: dict[bytes, bytes]) -> None:
    for name, value in values.items():
        os.setxattr(path, name, value)


@contextlib.contextmanager
def _restored(path: bytes, values: dict[bytes, bytes]) -> Iterator[None]:
    """Record ``values``; if the block fails, restore the previous ones."""
    before = {name: _read_raw(path, name) for name in values}
    try:
        _record(path, values)
        yield
    except BaseException:
        for name, value in before.items():
            with contextlib.suppress(OSError):
                if value is None:
                    os.removexattr(path, name)
                else:
                    os.setxattr(path, name, value)
        raise


def _read_raw(path: bytes, name: bytes) -> bytes | None:
    try:
        return os.getxattr(path, name)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise


def _demand_user_attributes(root: Descriptor) -> None:
    """Raises NoUserAttributes if files below ``root`` cannot have our attributes.

    Tried on an unnamed file if the file system has these, so that the export does not change. If nothing may be
    written, an attribute is only read: a file system without attributes answers differently from one with them.
    """
    path = linux.path_of(root)
    fd: Descriptor | None = None
    with contextlib.suppress(OSError):
        fd = Descriptor(os.open(path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, _FILE_MODE))
    try:
        if fd is not None:
            os.setxattr(linux.path_of(fd), _UID, bytes(4))
        else:
            _read_raw(path, _UID)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS):
            raise NoUserAttributes(error.errno, "the file system keeps no extended attributes of users") from error
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            raise


def _overlaid(found: os.stat_result, path: bytes) -> Stat:
    """``found`` with the recorded values in place of the host's."""
    uid, gid, mode, rdev = (_read(path, name) for name in (_UID, _GID, _MODE, _RDEV))
    return _GuestStat(
        found.st_mode if mode is None else mode,
        found.st_uid if uid is None else uid,
        found.st_gid if gid is None else gid,
        rdev or 0,
        *(getattr(found, name) for name in _GuestStat._fields[4:]),
    )


class _GuestStat(NamedTuple):
    """The fields of a stat_result that the store uses."""

    st_mode: int
    st_uid: int
    st_gid: int
    st_rdev: int
    st_dev: int
    st_ino: int
    st_nlink: int
    st_size: int
    st_blksize: int
    st_blocks: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
