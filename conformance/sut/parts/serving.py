"""What answers the guest's 9P messages if not the hypervisor: contained processes of this host.

Either a server of a certain kind, or a process for each share: `program = "reference"`, or any by its command.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import ClassVar, Protocol

from conformance.ground import GroundLost
from conformance.sut.parts.backend_table import LINES, BackendTable
from conformance.sut.parts.process import ServerProcess
from guests.host import paths
from guests.host.endings import OutOfMemory
from guests.host.processes import claim
from guests.machines.spec import DEFAULT_TAGS

_START = 60.0
"""Seconds that a process has to listen on its socket; it takes about one."""
_SHOWN = 8000
"""Bytes of a log that the evidence of a case holds at most."""


class Serving(Protocol):
    """The processes behind the shares of one guest."""

    version: str
    """The program's own version, "" where it is not known."""
    title: str
    """The program, as the evidence names it."""

    @property
    def argv(self) -> list[str]:
        """How the first one was started."""

    def start(self, launcher: tuple[str, ...]) -> None:
        """Start fresh ones, in the namespace of `launcher`. Raises InfrastructureError when one does not come up."""

    def pause(self, number: int) -> None:
        """Stop the one of that share by SIGSTOP."""

    def kill(self, number: int) -> None:
        """End the one of that share with SIGKILL."""

    def restart(self, number: int) -> None:
        """Start the one of that share again. Raises InfrastructureError when it does not come up."""

    def source(self, number: int) -> tuple[str, str]:
        """How the guest mounts share `number`; see Deployment.source."""

    def processes(self) -> dict[str, int]:
        """See Deployment.processes: `device` serves the first share."""

    def death(self) -> str | None:
        """How one of them ended, or None while all run."""

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """The error if another process ended one of them, or None."""

    def mark(self) -> int:
        """A place in the log of the first one."""

    def excerpts(self, mark: int) -> list[tuple[str, str]]:
        """(source, text) of the first one's log after that."""

    def remove(self) -> None:
        """End them and remove their files; a second call does nothing."""


class Sockets(ABC, Serving):
    """One process for each share, each at its own Unix socket."""

    what: ClassVar[str]
    """What the reference server is here, as the evidence names it."""

    def __init__(
        self,
        table: BackendTable,
        base: Path,
        scratch: Path,
        exports: Sequence[Path],
        tags: Sequence[str] = DEFAULT_TAGS,
        more: Sequence[Sequence[str]] = (),
    ) -> None:
        """`more`: further arguments for the reference server, for each share."""
        self._table, self._base, self._exports, self._tags = table, base, exports, tags
        self._more = more or [()] * len(tags)
        # a socket's path holds 107 bytes, and a run directory is easily longer
        self._directory = Path(tempfile.mkdtemp(prefix="s-", dir=paths.runtime_dir()))
        self._claim = claim(self._directory.name, (self._directory,), keep=False)
        elsewhere = [path for path in exports if not path.is_relative_to(scratch)]
        self._writable = [scratch, base, self._directory, *elsewhere]
        self._running: list[ServerProcess] = []
        self._launcher: tuple[str, ...] = ()
        self.sockets = [self._directory / tag for tag in tags]
        self.version = "" if table.command else version_of("assay9")
        self.title = f"reference {self.what} {self.version}" if self.version else shlex.join(table.command)

    @abstractmethod
    def listens(self, socket: str, tag: str) -> list[str]:
        """The arguments by which the reference server serves a share at that socket."""

    def start(self, launcher: tuple[str, ...]) -> None:
        self._stop()
        self._launcher = launcher
        for number in range(len(self.sockets)):
            self._running.append(self._started(number))
        for process, socket in zip(self._running, self.sockets, strict=True):
            process.wait_until_listening(socket, _START)

    def pause(self, number: int) -> None:
        self._running[number].pause()

    def kill(self, number: int) -> None:
        self._running[number].kill()

    def restart(self, number: int) -> None:
        self._running[number] = self._started(number)
        self._running[number].wait_until_listening(self.sockets[number], _START)

    def _started(self, number: int) -> ServerProcess:
        self.sockets[number].unlink(missing_ok=True)
        argv = [*self._launcher, *self._command(number)]
        return ServerProcess(argv, self._log(number), writable=self._writable)

    def source(self, number: int) -> tuple[str, str]:
        return self._tags[number], "trans=virtio"

    @property
    def argv(self) -> list[str]:
        return self._running[0].argv if self._running else []

    def processes(self) -> dict[str, int]:
        return {"device": self._running[0].pid} if self._running else {}

    def death(self) -> str | None:
        return next((death for one in self._running if (death := one.death()) is not None), None)

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        return next((lost for one in self._running if (lost := one.ground_lost(memory)) is not None), None)

    def mark(self) -> int:
        log = self._log(0)
        return log.stat().st_size if log.exists() else 0

    def excerpts(self, mark: int) -> list[tuple[str, str]]:
        with contextlib.suppress(OSError), self._log(0).open("rb") as log:
            log.seek(mark)
            said = log.read(_SHOWN).decode(errors="replace").strip()
            return [(f"{self.what} log", said)] if said else []
        return []

    def remove(self) -> None:
        self._stop()
        with contextlib.suppress(OSError):
            for left in self._directory.iterdir():
                left.unlink()
            self._directory.rmdir()
        self._claim.file.unlink(missing_ok=True)

    def _stop(self) -> None:
        running, self._running = self._running, []
        for one in running:
            one.stop()

    def _log(self, number: int) -> Path:
        return self._base / f"{self.what}-{self._tags[number]}.log"

    def _command(self, number: int) -> list[str]:
        words = {"export": str(self._exports[number]), "socket": str(self.sockets[number]), "tag": self._tags[number]}
        if self._table.command:
            return [word.format(**words) for word in self._table.command]
        served = ["-m", "reference_server", "serve", words["export"], *self.listens(words["socket"], words["tag"])]
        lines = ["--lines", str(self._base / LINES)] if self._table.lines else []
        return [sys.executable, *served, *lines, *self._table.arguments, *self._more[number]]


class Backends(Sockets):
    """vhost-user back ends."""

    what = "device"

    def listens(self, socket: str, tag: str) -> list[str]:
        return ["--vhost-user", socket, "--tag", tag]
