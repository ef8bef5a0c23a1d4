"""The exported directory as the host sees it: where wire cases prepare and look behind the server's back.

Rule of this module: host system calls only, never the protocol: what a case prepared or found here does not
depend on the server it judges. Names are bytes, relative to the case's own directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from conformance.errors import Undrivable


class HostDirectory:
    """One case's directory on the host."""

    def __init__(self, path: Path) -> None:
        self.root = path

    def path(self, name: bytes = b"") -> bytes:
        """The host's own path of `name`."""
        return os.path.join(os.fsencode(self.root), name) if name else os.fsencode(self.root)

    # ---- preparing; each returns the name, so that it can be used in place

    def file(self, name: bytes, data: bytes = b"", mode: int = 0o644) -> bytes:
        """A regular file with that content."""
        with open(self.path(name), "wb") as handle:
            handle.write(data)
        os.chmod(self.path(name), mode)
        return name

    def directory(self, name: bytes, mode: int = 0o755) -> bytes:
        """A directory."""
        os.mkdir(self.path(name))
        os.chmod(self.path(name), mode)
        return name

    def symlink(self, name: bytes, target: bytes) -> bytes:
        """A symbolic link."""
        os.symlink(target, self.path(name))
        return name

    def link(self, old: bytes, new: bytes) -> bytes:
        """A hard link `new` to `old`."""
        os.link(self.path(old), self.path(new))
        return new

    def fifo(self, name: bytes) -> bytes:
        """A fifo."""
        os.mkfifo(self.path(name))
        return name

    def device(self, name: bytes, major: int, minor: int, *, block: bool = False) -> bytes:
        """A device node. Undrivable without root."""
        kind = stat.S_IFBLK if block else stat.S_IFCHR
        try:
            os.mknod(self.path(name), kind | 0o666, os.makedev(major, minor))
        except PermissionError:
            raise Undrivable("host root: device nodes need it") from None
        return name

    def chain(self, count: int) -> list[bytes]:
        """`count` directories, each in the one before: b"0", b"0/1", ...; their single names."""
        names = [b"%d" % number for number in range(count)]
        os.makedirs(self.path(b"/".join(names)))
        return names

    # ---- looking

    def stat(self, name: bytes = b"") -> os.stat_result:
        """lstat."""
        return os.lstat(self.path(name))

    def content(self, name: bytes) -> bytes:
        """A regular file's bytes."""
        with open(self.path(name), "rb") as handle:
            return handle.read()

    def exists(self, name: bytes) -> bool:
        """Whether anything has that name."""
        return os.path.lexists(self.path(name))

    def names(self, name: bytes = b"") -> set[bytes]:
        """What a directory holds."""
        return set(os.listdir(self.path(name)))

    def readlink(self, name: bytes) -> bytes:
        """A symbolic link's text."""
        return os.readlink(self.path(name))

    def xattr(self, name: bytes, attribute: str) -> bytes | None:
        """An extended attribute's value, None where it is not set. Undrivable where the host has none."""
        try:
            return os.getxattr(self.path(name), attribute, follow_symlinks=False)
        except OSError as error:
            if error.strerror and "supported" in error.strerror:
                raise Undrivable("xattr: the exported file system has no user attributes") from None
            return None

    def set_xattr(self, name: bytes, attribute: str, value: bytes) -> None:
        """Set an extended attribute. Undrivable where the host has none."""
        try:
            os.setxattr(self.path(name), attribute, value, follow_symlinks=False)
        except OSError as error:
            raise Undrivable(f"xattr: the exported file system refuses {attribute}: {error}") from None

    def remove(self) -> None:
        """Everything, whatever its modes."""
        if os.path.isdir(self.path()) and not os.path.islink(self.path()):
            shutil.rmtree(self.path(), ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path())
