"""The exported directory on another machine: the same calls as `HostDirectory`, made by an agent there.

Rule of this module: see `conformance.raw.host_directory`.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from conformance.errors import Undrivable
from conformance.raw.host_directory import HostDirectory, looking, no_symlink, preparing
from conformance.raw.server import Server
from guests.agent.link import AgentLink

_NOFOLLOW = 0x100
"""AT_SYMLINK_NOFOLLOW of Linux, which the agent translates."""
_PART = 1 << 20
_MOST = 1 << 28
"""Bytes of a file that are read at most."""


class FarDirectory(HostDirectory):
    """One case's directory on another machine."""

    def __init__(self, agent: AgentLink, path: str) -> None:
        self._calls, self._path = agent.calls, path

    @property
    def root(self) -> Path:
        """Undrivable: the case's own calls need the directory on this machine."""
        raise Undrivable("the exported directory is on another machine")

    def path(self, name: bytes = b"") -> bytes:
        """Undrivable, like `root`."""
        return os.fsencode(self.root)

    def _at(self, name: bytes = b"") -> str:
        return f"{self._path}/{os.fsdecode(name)}" if name else self._path

    def _write(self, fd: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._calls.write(fd, bytes(left[:_PART])) :]

    def make(self, mode: int) -> None:
        self._calls.mkdir(self._path)
        self._calls.chmod(self._path, mode)

    def file(self, name: bytes, data: bytes = b"", mode: int = 0o644) -> bytes:
        with preparing(f"file {name!r}"):
            fd = self._calls.open(self._at(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                self._write(fd, data)
                self._calls.fchmod(fd, mode)
            finally:
                self._calls.close(fd)
        return name

    def directory(self, name: bytes, mode: int = 0o755) -> bytes:
        with preparing(f"directory {name!r}"):
            self._calls.mkdir(self._at(name))
            self._calls.chmod(self._at(name), mode)
        return name

    def symlink(self, name: bytes, target: bytes) -> bytes:
        with preparing(f"symbolic link {name!r}"):
            self._calls.symlink(target, self._at(name))
        return name

    def link(self, old: bytes, new: bytes) -> bytes:
        with preparing(f"hard link {new!r}"):
            self._calls.link(self._at(old), self._at(new))
        return new

    def fifo(self, name: bytes) -> bytes:
        with preparing(f"fifo {name!r}"):
            self._calls.mkfifo(self._at(name))
        return name

    def chain(self, count: int) -> list[bytes]:
        names = [b"%d" % number for number in range(count)]
        with preparing(f"{count} directories"):
            for depth in range(count):
                self._calls.mkdir(self._at(b"/".join(names[: depth + 1])))
        return names

    def times(self, name: bytes, atime_ns: int, mtime_ns: int) -> None:
        with preparing(f"times of {name!r}"):
            self._calls.utimensat(self._at(name), atime_ns, mtime_ns, _NOFOLLOW)

    def owner(self, name: bytes, uid: int, gid: int, mode: int | None = None) -> None:
        with preparing(f"owner of {name!r}"):
            self._calls.lchown(self._at(name), uid, gid)
            if mode is not None:
                self._calls.chmod(self._at(name), mode)

    def unlink(self, name: bytes) -> None:
        with looking(name):
            self._calls.unlink(self._at(name))

    def rmdir(self, name: bytes) -> None:
        with looking(name):
            self._calls.rmdir(self._at(name))

    def rename(self, old: bytes, new: bytes) -> None:
        with looking(old):
            self._calls.rename(self._at(old), self._at(new))

    def truncate(self, name: bytes, size: int) -> None:
        with looking(name):
            self._calls.truncate(self._at(name), size)

    def write(self, name: bytes, data: bytes, offset: int | None = None) -> None:
        with looking(name):
            fd = self._calls.open(self._at(name), os.O_WRONLY | (os.O_APPEND if offset is None else 0))
            try:
                self._calls.lseek(fd, offset or 0)
                self._write(fd, data)
            finally:
                self._calls.close(fd)

    def stat(self, name: bytes = b"") -> os.stat_result:
        with looking(name):
            return cast(os.stat_result, SimpleNamespace(**self._calls.lstat(self._at(name))))

    def statvfs(self) -> os.statvfs_result:
        with looking(b"."):
            return cast(os.statvfs_result, SimpleNamespace(**self._calls.statvfs(self._path)))

    def content(self, name: bytes) -> bytes:
        with looking(name):
            return bytes(self._calls.slurp(self._at(name), _MOST))

    def names(self, name: bytes = b"") -> set[bytes]:
        with looking(name):
            return {os.fsencode(one) for one in self._calls.listdir(self._at(name))}

    def readlink(self, name: bytes) -> bytes:
        with no_symlink(name), looking(name):
            return os.fsencode(self._calls.readlink(self._at(name)))

    def remove(self) -> None:
        self._calls.rmtree(self._path)

    def _mknod(self, name: bytes, mode: int, device: int) -> None:
        self._calls.mknod(self._at(name), mode, device)

    def _getxattr(self, name: bytes, attribute: str) -> bytes:
        return bytes(self._calls.getxattr(self._at(name), attribute, follow_symlinks=False))

    def _setxattr(self, name: bytes, attribute: str, value: bytes) -> None:
        self._calls.setxattr(self._at(name), attribute, value, follow_symlinks=False)


def on_host(server: Server, name: str = "") -> HostDirectory:
    """A directory in that server's export as its host sees it; without a name the export itself.

    Undrivable if nobody can see it.
    """
    if server.export is not None:
        return HostDirectory(server.export / name)
    if server.far is not None:
        agent, path = server.far
        return FarDirectory(agent, f"{path}/{name}".rstrip("/"))
    raise Undrivable("the exported directory is not on this host: name it with --export")
