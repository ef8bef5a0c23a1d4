"""The roles of a server, and of the session that keeps it running, for the layers wire and ring.

`conformance.sut` implements the servers, `conformance.run` the sessions. Rule of this module: how a server is started
and reached, never what it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from conformance.ground import GroundLost
from conformance.profiles.model import NotSupported
from conformance.transports.base import Capability, Link
from conformance.virtio.device import Device
from guests.agent.link import AgentLink
from guests.host.endings import OutOfMemory


class Server(Protocol):
    """A 9P server with one exported directory. The defaults are for a process that the suite cannot watch."""

    name: str
    aname: bytes
    """What Tattach names to reach it."""
    capabilities: frozenset[Capability]
    """Of the transport to it."""
    spec: Settings
    """How a client has to speak to it."""

    @property
    def export(self) -> Path | None:
        """The exported directory on this host, which may change with each start; None if it is not on this host."""

    @property
    def far(self) -> tuple[AgentLink, str] | None:
        """If `export` is None: an agent on the machine with the exported directory, and its path there. None if there
        is no such agent either.
        """
        return None

    def start(self) -> None:
        """Bring it up and wait until it accepts connections. Raises InfrastructureError."""

    def connect(self) -> Link:
        """A new connection. Raises InfrastructureError when no server listens."""

    def death(self) -> str | None:
        """How the process ended, or None while it runs (or cannot be watched)."""
        return None

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """The error if another process ended or stopped a process of the target, or if its ground failed; None if all
        is well, or if no process can be watched.
        """
        return None

    def pid(self) -> int | None:
        """The process, if the suite started it."""
        return None

    def stop(self) -> None:
        """End it and remove its files; may be called twice."""

    def reading_only(self, directory: Path) -> Server | None:
        """A further server of the same program with a read-only export of its own, not yet started, whose files go into
        that directory. None where the suite cannot ask this program for one."""
        return None

    def version(self) -> str:
        """The program's version, e.g. 1.0.24; empty if unknown."""
        return ""

    def argv(self) -> list[str]:
        """How it was started; empty if the suite did not start it."""
        return []

    def surroundings(self) -> dict[str, Any]:
        """For a device that is driven in a guest: how that guest is reached, and facts about the machines, for the
        run's environment.
        """
        return {}

    def log_size(self) -> int:
        """The size of its output so far, in bytes."""
        return 0

    def log(self, since: int = 0) -> str:
        """Its output after the first `since` bytes, at most the last 20,000 bytes."""
        return ""


class DeviceServer(Server, Protocol):
    """A server that is reached through a virtio device: raw rings, too."""

    tag: bytes | None
    """The mount tag that its configuration space must hold, where that is known."""

    def device(self) -> Device:
        """The device, reset. The transport is reused: results of earlier calls must not be used any more."""


class Settings(Protocol):
    """How a client has to speak to the server."""

    @property
    def msize(self) -> int:
        """The msize that cases propose unless they are about msize, in bytes."""

    @property
    def msize_max(self) -> int:
        """The largest msize that the server is known to grant or to survive, in bytes."""

    @property
    def reads_rerror(self) -> bool:
        """Whether the errno of an error is also read from an Rerror."""

    @property
    def uname(self) -> str:
        """The user that Tattach names."""


class Session(Protocol):
    """Keeps one server running for one case after the other."""

    base: Path
    """The session's own directory, in which the export is."""
    features: frozenset[str]
    """What the target declares to have (`conformance.features`)."""
    capabilities: frozenset[Capability]
    missing: dict[str, str]
    """The messages that the server does not implement, and how it answered them."""
    requests: int
    """How often a case repeats what it is there to repeat; 0: as often as the case says."""

    @property
    def server(self) -> Server:
        """The running server."""

    @property
    def spec(self) -> Settings:
        """How to speak to it."""

    @property
    def unsupported(self) -> Sequence[NotSupported]:
        """The features that the target declares as unsupported."""

    def connect(self) -> Link:
        """A new connection. Raises InfrastructureError when no server listens."""

    def trouble(self) -> str | None:
        """Why the server has stopped serving, or None if a small piece of work succeeds."""

    def recover(self) -> None:
        """Start the same server again after a crash or a hang."""


class DeviceSession(Session, Protocol):
    """Keeps one virtio device for one ring case after the other."""

    def device_server(self) -> DeviceServer:
        """The server, as one with a device. Undrivable if it has none."""
