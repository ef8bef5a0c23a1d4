"""The `Link` role: a transport for raw 9P frames.

Rule of this module: a link moves frames and knows nothing of their meaning; `conformance.raw.client` handles tags,
dialects and judgement. It must not import a client, a server or a target.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from protocol.fields import Buffer


class Capability(enum.Enum):
    """What a transport can express beside whole frames. A case that needs one is `undrivable` without it."""

    STREAM = "stream"
    """Bytes without boundaries: a frame may be cut, delayed or glued, and its size field alone says where
    it ends (sockets; on virtqueues the descriptors say so too)."""
    SESSIONS = "sessions"
    """Several independent sessions at once on the same export (sockets; a virtio device has one)."""
    HANGUP = "hangup"
    """The peer can close the transport, and the other side sees that (sockets)."""


class LinkClosed(Exception):
    """The peer closed the transport: end of file, reset, device gone. The text says which."""


class LinkTimeout(Exception):
    """No whole frame came, or none could be sent, in the time allowed."""


class Link(Protocol):
    """One transport to one session of a device or server."""

    name: str
    """For reports: `unix:/run/x.sock`, `tcp:127.0.0.1:5640`, `qtest virtio-9p-pci`."""
    capabilities: frozenset[Capability]
    largest: int
    """The largest frame that the transport itself can carry, in bytes."""
    depth: int
    """How many requests may be in flight at once."""
    reports_its_end: bool
    """Whether it is seen when the other side serves no request any more (`LinkClosed`): not where a device has no way
    to say that it needs a reset (`Device.shows_reset`)."""

    def send(self, frame: Sequence[Buffer]) -> None:
        """Send the one frame in `frame`, piece after piece, unchanged. Raises LinkClosed, LinkTimeout."""

    def send_many(self, frames: Sequence[Sequence[Buffer]]) -> None:
        """Send several frames, in as few steps as the transport allows."""

    def recv(self, timeout: float) -> bytes | bytearray:
        """The next whole frame, in memory of its own. Raises LinkClosed, LinkTimeout.

        A stream's size field below seven cannot be skipped: the four bytes are returned unchanged, and the stream is
        closed.
        """

    def ready(self) -> bool:
        """Whether `recv` would return at once."""

    def close(self) -> None:
        """Close the transport. May be called twice."""
