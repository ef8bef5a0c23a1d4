"""Stands in for the agent outside where nothing outside the guest can make system calls on the exported files."""

from __future__ import annotations

from typing import NoReturn

from conformance.errors import Undrivable
from guests.agent.link import AgentLink
from guests.host.lines import LineChannel


class Nowhere(AgentLink):
    """Any call ends the case as undrivable, with the reason."""

    def __init__(self, why: str) -> None:
        super().__init__(_Nobody(why))
        self.why = why


class _Nobody(LineChannel):
    """A LineChannel to no agent."""

    def __init__(self, why: str) -> None:
        self._why = why

    def send(self, data: bytes) -> NoReturn:
        raise Undrivable(self._why)

    def recv_line(self, timeout: float) -> NoReturn:
        raise Undrivable(self._why)

    def close(self) -> None:
        """There is nothing to end."""
