"""Whose process a server is: one that the suite starts, or one that somebody else runs."""

from __future__ import annotations

from conformance.ground import GroundLost
from conformance.sut.parts.process import ServerProcess
from guests.agent.link import AgentLink
from guests.host.endings import OutOfMemory


class OwnProcess:
    """A server that is one process of the suite's own, once it is started."""

    process: ServerProcess | None

    @property
    def far(self) -> tuple[AgentLink, str] | None:
        """See Server: nobody else looks at the export."""
        return None

    def death(self) -> str | None:
        """See Server."""
        return self.process.death() if self.process else "not started"

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """See Server."""
        return self.process.ground_lost(memory) if self.process else None

    def pid(self) -> int | None:
        """See Server."""
        return self.process.pid if self.process else None

    def argv(self) -> list[str]:
        """See Server."""
        return self.process.argv if self.process else []

    def log_size(self) -> int:
        """See Server."""
        return self.process.log_size() if self.process else 0

    def log(self, since: int = 0) -> str:
        """See Server."""
        return self.process.tail(20000, since) if self.process else ""


class SomebodyElses:
    """A server that the suite neither starts nor ends, and whose process it does not know."""

    @property
    def far(self) -> tuple[AgentLink, str] | None:
        """See Server: nobody else looks at the export."""
        return None

    def death(self) -> str | None:
        """See Server."""
        return None

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """See Server."""
        return None

    def pid(self) -> int | None:
        """See Server."""
        return None

    def argv(self) -> list[str]:
        """See Server."""
        return []

    def log_size(self) -> int:
        """See Server."""
        return 0

    def log(self, since: int = 0) -> str:
        """See Server."""
        return ""

    def version(self) -> str:
        """See Server."""
        return ""
