"""Sending a record again.

The rule of this module: order is kept where it can matter. A request is sent only after all replies that preceded it in
the record; requests that were in flight together are in flight together.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from protocol import codec
from protocol.codec import ProtocolError
from protocol.messages import Rlerror
from reference_server.framelog import Record


class Difference(NamedTuple):
    """A reply that differs from the record."""

    at: float
    session: int
    request: bytes
    recorded: bytes
    replayed: bytes | None
    """None when no reply came."""


def replay(records: Iterable[Record], connect: Callable[[], socket.socket]) -> Iterator[Difference]:
    """Send the requests of ``records`` over a new connection for each session; yield the differences of the replies.

    Two replies agree if they have the same type and, if errors, the same errno: qids, times and data may differ in
    another tree. Raises OSError when a connection fails.
    """
    links: dict[int, _Link] = {}
    try:
        for record in records:
            link = links.get(record.session)
            if link is None:
                link = links[record.session] = _Link(connect())
            if not record.sent:
                link.send(record.frame)
                continue
            tag = codec.header(record.frame).tag
            request = link.requests.pop(tag, b"")
            again = link.reply(tag)
            if again is None or _outcome(again) != _outcome(record.frame):
                yield Difference(record.at, record.session, request, record.frame, again)
    finally:
        for link in links.values():
            link.close()


def _outcome(frame: bytes) -> tuple[int, int]:
    """Type, and errno of an error."""
    try:
        message = codec.decode(frame)
    except ProtocolError:
        return frame[4], -1
    return frame[4], message.ecode if isinstance(message, Rlerror) else 0


class _Link:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._arrived: dict[int, bytes] = {}
        self.requests: dict[int, bytes] = {}
        """By tag, those not answered yet."""

    def send(self, frame: bytes) -> None:
        if len(frame) >= 7:
            self.requests[codec.header(frame).tag] = frame
        try:
            self._sock.sendall(frame)
        except ConnectionError:
            return  # the missing replies are reported as differences

    def reply(self, tag: int) -> bytes | None:
        """The reply with ``tag``; earlier ones of other requests are kept."""
        while tag not in self._arrived:
            size = self._exactly(4)
            if size is None:
                return None
            rest = self._exactly(max(int.from_bytes(size, "little") - 4, 3))
            if rest is None:
                return None
            frame = size + rest
            self._arrived[codec.header(frame).tag] = frame
        return self._arrived.pop(tag)

    def _exactly(self, count: int) -> bytes | None:
        got = bytearray()
        while len(got) < count:
            try:
                piece = self._sock.recv(count - len(got))
            except (ConnectionError, TimeoutError):
                return None
            if not piece:
                return None
            got += piece
        return bytes(got)

    def close(self) -> None:
        self._sock.close()
