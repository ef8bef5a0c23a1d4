"""The vhost-user back ends of one guest: a process for each share, `program = "reference"` or any by its command."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from importlib.metadata import version as version_of
from pathlib import Path

from conformance.ground import GroundLost
from conformance.sut.parts.backend_table import BackendTable
from conformance.sut.parts.linux_guest import TAGS
from conformance.sut.parts.process import ServerProcess
from guests.host import paths
from guests.host.endings import OutOfMemory
from guests.host.processes import claim

_START = 60.0
"""Seconds that a back end has to make its socket; it takes about one."""


class Backends:
    """One process for each share, contained: they can write their exports, the run directory and nothing else."""

    def __init__(self, table: BackendTable, base: Path, scratch: Path, exports: list[Path]) -> None:
        self._table = table
        self._base, self._scratch, self._exports = base, scratch, exports
        # a socket's path holds 107 bytes, which a run directory easily is longer than
        self._directory = Path(tempfile.mkdtemp(prefix="v-", dir=paths.runtime_dir()))
        self._claim = claim(self._directory.name, (self._directory,), keep=False)
        self.sockets = [self._directory / tag for tag in TAGS]
        self.version = "" if self._table.command else version_of("assay9")
        self.title = f"reference device {self.version}" if self.version else shlex.join(self._table.command)
        self._running: list[ServerProcess] = []

    def start(self, launcher: tuple[str, ...]) -> None:
        """Fresh ones, in the namespace of `launcher`. Raises InfrastructureError when one does not come up."""
        self.stop()
        for number, socket in enumerate(self.sockets):
            socket.unlink(missing_ok=True)
            self._running.append(
                ServerProcess(
                    [*launcher, *self._command(number)],
                    self._log(number),
                    writable=[self._scratch, self._base, self._directory],
                )
            )
        for backend, socket in zip(self._running, self.sockets, strict=True):
            backend.wait_until_listening(socket, _START)

    @property
    def argv(self) -> list[str]:
        """How the first share's was started."""
        return self._running[0].argv if self._running else []

    def source(self, number: int) -> tuple[str, str]:
        """See Serving."""
        return TAGS[number], "trans=virtio"

    def processes(self) -> dict[str, int]:
        """As Deployment.processes has it: `device` serves the first share."""
        return {"device": self._running[0].pid} if self._running else {}

    def death(self) -> str | None:
        """How one of them ended, or None while all run."""
        return next((death for backend in self._running if (death := backend.death()) is not None), None)

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """That somebody else ended one of them, or None."""
        return next((lost for backend in self._running if (lost := backend.ground_lost(memory)) is not None), None)

    def mark(self) -> int:
        """A place in the first share's log."""
        log = self._log(0)
        return log.stat().st_size if log.exists() else 0

    def excerpts(self, mark: int) -> list[tuple[str, str]]:
        """What the first share's device said after that."""
        with contextlib.suppress(OSError), self._log(0).open("rb") as log:
            log.seek(mark)
            said = log.read(8000).decode(errors="replace").strip()
            return [("device log", said)] if said else []
        return []

    def stop(self) -> None:
        """End them."""
        running, self._running = self._running, []
        for backend in running:
            backend.stop()

    def remove(self) -> None:
        """End them and remove their sockets; a second call does nothing."""
        self.stop()
        with contextlib.suppress(OSError):
            for left in self._directory.iterdir():
                left.unlink()
            self._directory.rmdir()
        self._claim.file.unlink(missing_ok=True)

    def _log(self, number: int) -> Path:
        return self._base / f"device-{TAGS[number]}.log"

    def _command(self, number: int) -> list[str]:
        words = {"export": str(self._exports[number]), "socket": str(self.sockets[number]), "tag": TAGS[number]}
        if self._table.command:
            return [word.format(**words) for word in self._table.command]
        return [
            sys.executable,
            "-m",
            "reference_server",
            "serve",
            words["export"],
            "--vhost-user",
            words["socket"],
            "--tag",
            words["tag"],
            *self._table.arguments,
        ]
