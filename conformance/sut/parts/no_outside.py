"""In the place of the agent outside, where nothing outside the guest can make system calls on the exported files."""

from __future__ import annotations

from typing import Any

from conformance.errors import Undrivable
from guests.agent.link import AgentLink


class Nowhere(AgentLink):
    """Any call ends the case as undrivable, with the reason."""

    def __init__(self, why: str) -> None:
        self.why = why
        self.seconds = 0.0
        self.spawned = False

    def send(self, *_args: Any, **_kw: Any) -> int:
        """See AgentLink; there is nobody to send to."""
        raise Undrivable(self.why)

    def close(self) -> None:
        """There is nothing to end."""
