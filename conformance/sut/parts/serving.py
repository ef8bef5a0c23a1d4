"""What answers the guest's 9P messages, where it is a process of its own and not the hypervisor: the `Serving` role."""

from __future__ import annotations

from typing import Any, Protocol

from conformance.ground import GroundLost
from guests.host.endings import OutOfMemory


class Serving(Protocol):
    """A server of this host behind the shares of one guest."""

    @property
    def version(self) -> str:
        """The program's own version, "" where it is not known."""

    @property
    def title(self) -> str:
        """The program, as the evidence names it."""

    @property
    def argv(self) -> list[str]:
        """How it was started."""

    def start(self, launcher: tuple[str, ...]) -> None:
        """A fresh one, in the namespace of `launcher`. Raises InfrastructureError when it does not come up."""

    def source(self, number: int) -> tuple[str, str]:
        """What the guest mounts share `number` by; see Deployment.source."""

    def processes(self) -> dict[str, int]:
        """As Deployment.processes has it: `device` serves the first share."""

    def death(self) -> str | None:
        """How it ended, or None while it runs."""

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """That somebody else ended it, or None."""

    def mark(self) -> Any:
        """A place in its log."""

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """(source, text) of what it said after that."""

    def remove(self) -> None:
        """End it and remove what it left; a second call does nothing."""
