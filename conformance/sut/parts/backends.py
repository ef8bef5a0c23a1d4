"""Servers with a process and a socket for each share of a guest: `program = "reference"` or any by its command."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import ClassVar

from conformance.sut.parts.backend_table import BackendTable
from conformance.sut.parts.serving import Serving
from guests.host import paths
from guests.host.processes import claim
from guests.machines.spec import DEFAULT_TAGS

_START = 60.0
"""Seconds that a process has to make its socket; it takes about one."""


class Sockets(Serving):
    """One process for each share, each at a Unix socket of its own."""

    what: ClassVar[str]
    """What the reference server is here, as the evidence names it."""

    def __init__(
        self,
        table: BackendTable,
        base: Path,
        scratch: Path,
        exports: Sequence[Path],
        tags: Sequence[str] = DEFAULT_TAGS,
    ) -> None:
        self._table, self._base, self._exports, self._tags = table, base, exports, tags
        # a socket's path holds 107 bytes, which a run directory easily is longer than
        self._directory = Path(tempfile.mkdtemp(prefix="s-", dir=paths.runtime_dir()))
        self._claim = claim(self._directory.name, (self._directory,), keep=False)
        super().__init__([scratch, base, self._directory])
        self.sockets = [self._directory / tag for tag in tags]
        self.version = "" if table.command else version_of("assay9")
        self.title = f"reference {self.what} {self.version}" if self.version else shlex.join(table.command)

    @abstractmethod
    def listens(self, socket: str, tag: str) -> list[str]:
        """The arguments by which the reference server serves a share at that socket."""

    def start(self, launcher: tuple[str, ...]) -> None:
        """See Serving."""
        self.stop()
        for number, socket in enumerate(self.sockets):
            socket.unlink(missing_ok=True)
            self.run(
                [*launcher, *self._command(number)],
                self._base / f"{self.what}-{self._tags[number]}.log",
            )
        for process, socket in zip(self._running, self.sockets, strict=True):
            process.wait_until(socket.exists, _START)

    def source(self, number: int) -> tuple[str, str]:
        """See Serving."""
        return self._tags[number], "trans=virtio"

    def remove(self) -> None:
        """See Serving."""
        super().remove()
        with contextlib.suppress(OSError):
            for left in self._directory.iterdir():
                left.unlink()
            self._directory.rmdir()
        self._claim.file.unlink(missing_ok=True)

    def _command(self, number: int) -> list[str]:
        words = {"export": str(self._exports[number]), "socket": str(self.sockets[number]), "tag": self._tags[number]}
        if self._table.command:
            return [word.format(**words) for word in self._table.command]
        served = ["-m", "reference_server", "serve", words["export"], *self.listens(words["socket"], words["tag"])]
        return [sys.executable, *served, *self._table.arguments]


class Backends(Sockets):
    """vhost-user back ends."""

    log_title, what = "device log", "device"

    def listens(self, socket: str, tag: str) -> list[str]:
        """See Sockets."""
        return ["--vhost-user", socket, "--tag", tag]
