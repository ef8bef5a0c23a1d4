"""A server that the suite starts as a process of its own."""

from __future__ import annotations

from conformance.ground import GroundLost
from conformance.raw.server import Server
from conformance.sut.parts.process import ServerProcess
from conformance.sut.parts.scratch import Scratch
from guests.host.endings import OutOfMemory


class OwnProcess(Server):
    """A server that is one process of the suite's own, once it is started."""

    process: ServerProcess | None
    _short: Scratch | None
    """Where its socket is, while it runs: under a short path."""

    def death(self) -> str | None:
        return self.process.death() if self.process else "not started"

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        ended = self.process.ground_lost(memory) if self.process else None
        return ended or (self._short.lost() if self._short else None)

    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def argv(self) -> list[str]:
        return self.process.argv if self.process else []

    def log_size(self) -> int:
        return self.process.log_size() if self.process else 0

    def log(self, since: int = 0) -> str:
        return self.process.tail(20000, since) if self.process else ""
