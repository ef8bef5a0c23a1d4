"""The exported directory as the host sees it: wire cases prepare files here and check the server's work.

Rule of this module: host system calls only, never the protocol, so nothing here depends on the server under test. Names
are bytes, relative to the case's own directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from conformance.errors import Finding, InfrastructureError, Undrivable

_GONE = (errno.ENOENT, errno.ENOTDIR)


@contextlib.contextmanager
def preparing(what: str) -> Iterator[None]:
    """A preparation that the host refuses is not the target's fault. Raises InfrastructureError."""
    try:
        yield
    except OSError as error:
        remedy = "check the free space and the permissions of the exported file system"
        raise InfrastructureError(f"the case's {what} cannot be made on the host: {error}", remedy) from None


@contextlib.contextmanager
def looking(name: bytes) -> Iterator[None]:
    """The target removed a missing file, or never made it: a finding that names it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise InfrastructureError(f"{name!r} cannot be examined on the host: {error}") from None
        values = {"what": repr(name), "seen": "missing", "expected": "there"}
        raise Finding(f"{name!r} does not exist on the host", "exists", values) from None


@contextlib.contextmanager
def no_symlink(name: bytes) -> Iterator[None]:
    """A file that is read as a symbolic link but is none is a finding, too."""
    try:
        yield
    except InfrastructureError as error:
        if isinstance(error.__context__, OSError) and error.__context__.errno == errno.EINVAL:
            values = {"what": repr(name), "seen": "another file", "expected": "a symbolic link"}
            raise Finding(f"{name!r} is not a symbolic link on the host", "field:mode", values) from None
        raise


class HostDirectory:
    """One case's directory on the host."""

    def __init__(self, path: Path) -> None:
        self._root = path

    @property
    def root(self) -> Path:
        """The directory itself, for a case's own calls."""
        return self._root

    def make(self, mode: int) -> None:
        """Make the directory itself. Raises OSError."""
        self.root.mkdir()
        self.root.chmod(mode)

    def path(self, name: bytes = b"") -> bytes:
        """The host's own path of `name`."""
        return os.path.join(os.fsencode(self.root), name) if name else os.fsencode(self.root)

    # ---- preparing; methods that make something return its name, so that it can be used in place

    def file(self, name: bytes, data: bytes = b"", mode: int = 0o644) -> bytes:
        """A regular file with that content."""
        with preparing(f"file {name!r}"):
            with open(self.path(name), "wb") as handle:
                handle.write(data)
            os.chmod(self.path(name), mode)
        return name

    def directory(self, name: bytes, mode: int = 0o755) -> bytes:
        """A directory."""
        with preparing(f"directory {name!r}"):
            os.mkdir(self.path(name))
            os.chmod(self.path(name), mode)
        return name

    def symlink(self, name: bytes, target: bytes) -> bytes:
        """A symbolic link."""
        with preparing(f"symbolic link {name!r}"):
            os.symlink(target, self.path(name))
        return name

    def link(self, old: bytes, new: bytes) -> bytes:
        """A hard link `new` to `old`."""
        with preparing(f"hard link {new!r}"):
            os.link(self.path(old), self.path(new))
        return new

    def fifo(self, name: bytes) -> bytes:
        """A fifo."""
        with preparing(f"fifo {name!r}"):
            os.mkfifo(self.path(name))
        return name

    def socket(self, name: bytes, mode: int = 0o666) -> bytes:
        """A socket's node."""
        with preparing(f"socket {name!r}"):
            self._mknod(name, stat.S_IFSOCK | mode, 0)
        return name

    def device(self, name: bytes, major: int, minor: int, *, block: bool = False) -> bytes:
        """A device node. Undrivable without root."""
        kind = stat.S_IFBLK if block else stat.S_IFCHR
        try:
            with preparing(f"device {name!r}"):
                self._mknod(name, kind | 0o666, os.makedev(major, minor))
        except InfrastructureError as error:
            if isinstance(error.__context__, OSError) and error.__context__.errno in (errno.EPERM, errno.EACCES):
                raise Undrivable("host root: device nodes need root on the host") from None
            raise
        return name

    def chain(self, count: int) -> list[bytes]:
        """`count` directories, each in the one before: b"0", b"0/1", ...; their single names."""
        names = [b"%d" % number for number in range(count)]
        with preparing(f"{count} directories"):
            os.makedirs(self.path(b"/".join(names)))
        return names

    def times(self, name: bytes, atime_ns: int, mtime_ns: int) -> None:
        """Set both times of the file with that name, without following links, in nanoseconds since 1970."""
        with preparing(f"times of {name!r}"):
            os.utime(self.path(name), ns=(atime_ns, mtime_ns), follow_symlinks=False)

    def owner(self, name: bytes, uid: int, gid: int, mode: int | None = None) -> None:
        """Set owner and group of the file with that name, without following links, then its permission bits."""
        with preparing(f"owner of {name!r}"):
            os.lchown(self.path(name), uid, gid)
            if mode is not None:
                os.chmod(self.path(name), mode)

    # ---- acting as another process of the host while the server runs

    def unlink(self, name: bytes) -> None:
        """Remove a file. Raises Finding if it is missing."""
        with looking(name):
            os.unlink(self.path(name))

    def rmdir(self, name: bytes) -> None:
        """Remove an empty directory. Raises Finding if it is missing."""
        with looking(name):
            os.rmdir(self.path(name))

    def rename(self, old: bytes, new: bytes) -> None:
        """Give a file another name. Raises Finding if it is missing."""
        with looking(old):
            os.rename(self.path(old), self.path(new))

    def truncate(self, name: bytes, size: int) -> None:
        """Set a file's size. Raises Finding if it is missing."""
        with looking(name):
            os.truncate(self.path(name), size)

    def write(self, name: bytes, data: bytes, offset: int | None = None) -> None:
        """Write at an offset, or append. Raises Finding if the file is missing."""
        with looking(name), open(self.path(name), "r+b") as handle:
            handle.seek(0 if offset is None else offset, os.SEEK_END if offset is None else os.SEEK_SET)
            handle.write(data)

    # ---- inspecting

    def stat(self, name: bytes = b"") -> os.stat_result:
        """lstat. Raises Finding if nothing has that name."""
        with looking(name):
            return os.lstat(self.path(name))

    def statvfs(self) -> os.statvfs_result:
        """statvfs of the directory."""
        with looking(b"."):
            return os.statvfs(self.path())

    def content(self, name: bytes) -> bytes:
        """A regular file's bytes. Raises Finding if it is missing."""
        with looking(name), open(self.path(name), "rb") as handle:
            return handle.read()

    def exists(self, name: bytes) -> bool:
        """Whether anything has that name: False for ENOENT and ENOTDIR only."""
        try:
            self.stat(name)
        except Finding:
            return False
        return True

    def names(self, name: bytes = b"") -> set[bytes]:
        """The names in a directory. Raises Finding if it is missing."""
        with looking(name):
            return set(os.listdir(self.path(name)))

    def readlink(self, name: bytes) -> bytes:
        """A symbolic link's text. Raises Finding if it is missing or no symbolic link."""
        with no_symlink(name), looking(name):
            return os.readlink(self.path(name))

    def xattr(self, name: bytes, attribute: str) -> bytes | None:
        """An extended attribute's value; None if the file does not have it (only ENODATA).

        Undrivable if the host has no such attributes; raises Finding if the file is missing.
        """
        try:
            with looking(name):
                return self._getxattr(name, attribute)
        except InfrastructureError as error:
            number = error.__context__.errno if isinstance(error.__context__, OSError) else None
            if number == errno.ENODATA:
                return None
            if number == errno.EOPNOTSUPP:
                raise Undrivable("xattr: the exported file system has no user attributes") from None
            raise

    def set_xattr(self, name: bytes, attribute: str, value: bytes) -> None:
        """Set an extended attribute. Undrivable if the host has none; raises Finding if the file is missing."""
        try:
            with looking(name):
                self._setxattr(name, attribute, value)
        except InfrastructureError as error:
            raise Undrivable(f"xattr: the exported file system refuses {attribute}: {error.__context__}") from None

    def remove(self) -> None:
        """Remove everything, whatever its modes."""
        if os.path.isdir(self.path()) and not os.path.islink(self.path()):
            shutil.rmtree(self.path(), ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path())

    # ---- calls that another machine makes in its own way

    def _mknod(self, name: bytes, mode: int, device: int) -> None:
        os.mknod(self.path(name), mode, device)

    def _getxattr(self, name: bytes, attribute: str) -> bytes:
        return os.getxattr(self.path(name), attribute, follow_symlinks=False)

    def _setxattr(self, name: bytes, attribute: str, value: bytes) -> None:
        os.setxattr(self.path(name), attribute, value, follow_symlinks=False)
