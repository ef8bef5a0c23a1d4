"""What every server offers the wire layer: the `Server` role.

Rule of this module: how a server is started and reached, never what it answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from conformance.run.ground import GroundLost
from conformance.transports.base import Capability, Link
from guests.host.endings import OutOfMemory


class Server(Protocol):
    """A 9P server with one exported directory."""

    name: str
    aname: bytes
    """What Tattach names to reach it."""
    capabilities: frozenset[Capability]
    """Of the road to it."""

    @property
    def export(self) -> Path | None:
        """The exported directory as this host names it, which may change with each start; None where it is not on
        this host."""

    def start(self) -> None:
        """Bring it up and wait until it takes connections. Raises InfrastructureError."""

    def connect(self) -> Link:
        """A new connection. Raises InfrastructureError when nobody listens."""

    def death(self) -> str | None:
        """How the process ended, or None while it runs (or is not ours to watch)."""

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """That somebody else ended or stopped what was started for it, or broke what that stands on; None where all
        holds, or nothing of it is ours to watch."""

    def pid(self) -> int | None:
        """The process, where it is ours."""

    def stop(self) -> None:
        """End it and remove what it left; may be called twice."""

    def version(self) -> str:
        """The program's own version, e.g. 1.0.24."""

    def argv(self) -> list[str]:
        """How it was started; empty when it is not ours."""

    def log_size(self) -> int:
        """Bytes that it has said so far."""

    def log(self, since: int = 0) -> str:
        """What it has said after its first `since` bytes, at most the last 20,000 of them."""
