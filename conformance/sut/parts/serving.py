"""What answers the guest's 9P messages where it is not the hypervisor: processes of this host, contained."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from conformance.ground import GroundLost
from conformance.sut.parts.process import ServerProcess
from guests.host.endings import OutOfMemory

_SHOWN = 8000
"""Bytes of a log that the evidence of a case holds at most."""


class Serving(ABC):
    """The processes behind the shares of one guest. They can write `writable`, and nothing else."""

    log_title: ClassVar[str] = "server log"
    version: str
    """The program's own version, "" where it is not known."""
    title: str
    """The program, as the evidence names it."""

    def __init__(self, writable: list[Path]) -> None:
        self._writable = writable
        self._running: list[ServerProcess] = []

    @abstractmethod
    def start(self, launcher: tuple[str, ...]) -> None:
        """Start fresh ones, in the namespace of `launcher`. Raises InfrastructureError when one does not come up."""

    @abstractmethod
    def source(self, number: int) -> tuple[str, str]:
        """What the guest mounts share `number` by; see Deployment.source."""

    def run(self, argv: list[str], log: Path) -> ServerProcess:
        """Start a process; the first one serves the first share."""
        self._running.append(ServerProcess(argv, log, writable=self._writable))
        return self._running[-1]

    @property
    def argv(self) -> list[str]:
        """How the first one was started."""
        return self._running[0].argv if self._running else []

    def processes(self) -> dict[str, int]:
        """As Deployment.processes has it: `device` serves the first share."""
        return {"device": self._running[0].pid} if self._running else {}

    def death(self) -> str | None:
        """How one of them ended, or None while all run."""
        return next((death for one in self._running if (death := one.death()) is not None), None)

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """That somebody else ended one of them, or None."""
        return next((lost for one in self._running if (lost := one.ground_lost(memory)) is not None), None)

    def mark(self) -> int:
        """A place in the log of the first one."""
        return self._running[0].log_size() if self._running else 0

    def excerpts(self, mark: int) -> list[tuple[str, str]]:
        """(source, text) of what the first one said after that."""
        with contextlib.suppress(OSError, IndexError), self._running[0].log_path.open("rb") as log:
            log.seek(mark)
            said = log.read(_SHOWN).decode(errors="replace").strip()
            return [(self.log_title, said)] if said else []
        return []

    def stop(self) -> None:
        """End them."""
        running, self._running = self._running, []
        for one in running:
            one.stop()

    def remove(self) -> None:
        """End them and remove what they left; a second call does nothing."""
        self.stop()
