"""A faulty transport: all replies of a server, over a socket or a device's rings, pass through a fault.

A `Fault` sees every request before the server and every reply before the client; other messages pass unchanged. Rule of
this module: order, not time. A message that is held back goes out after others, or when nothing else is expected.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from conformance.transports.base import Capability, Link, LinkClosed
from protocol.codec import ProtocolError, decode, frame, header
from protocol.constants import HDRSZ
from protocol.fields import Buffer
from protocol.registry import Message


class HangUp(Exception):
    """The fault ends the connection."""


class Hold(Exception):
    """The fault holds this message back until `behind` others have passed in the same direction."""

    def __init__(self, message: Message, behind: int) -> None:
        super().__init__(f"held behind {behind}")
        self.message, self.behind = message, behind


class Fault(Protocol):
    """One deliberate fault on one connection."""

    def on_request(self, request: Message) -> tuple[list[Message], list[bytes]]:
        """The frames for the server, and those that the client gets instead of an answer. Raises HangUp, Hold."""

    def on_reply(self, request: Message, reply: Message) -> list[bytes]:
        """The frames that the client gets. Raises HangUp, Hold."""


class _Held:
    """Messages that wait until others have passed."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Message]] = []

    def add(self, held: Hold) -> None:
        self._waiting.append((held.behind, held.message))

    def passed(self) -> list[Message]:
        """Another message has passed: returns those that are now due."""
        counted = [(behind - 1, message) for behind, message in self._waiting]
        self._waiting = [one for one in counted if one[0] > 0]
        return [message for behind, message in counted if behind <= 0]

    def all(self) -> list[Message]:
        """All of them, when nothing else is expected."""
        waiting, self._waiting = self._waiting, []
        return [message for _, message in waiting]

    def __len__(self) -> int:
        return len(self._waiting)


class FaultyLink(Link):
    """A link with a fault in it."""

    def __init__(self, inner: Link, fault: Fault) -> None:
        self._inner, self._fault = inner, fault
        self.name = f"{inner.name}, with a fault"
        self.capabilities: frozenset[Capability] = inner.capabilities
        self.largest, self.depth, self.reports_its_end = inner.largest, inner.depth, inner.reports_its_end
        self._asked: dict[int, Message] = {}
        """The last request with each tag."""
        self._in_flight: Counter[int] = Counter()
        self._inbox: deque[bytes | bytearray] = deque()
        self._requests, self._replies = _Held(), _Held()
        self._closed: LinkClosed | None = None

    # ---- requests

    def send(self, frame: Sequence[Buffer]) -> None:
        self.send_many([frame])

    def send_many(self, frames: Sequence[Sequence[Buffer]]) -> None:
        if self._closed is not None:
            raise self._closed
        for one in frames:
            self._request(b"".join(one))

    def _request(self, raw: bytes) -> None:
        try:
            request = decode(raw)
        except ProtocolError:  # a frame that a case broke on purpose
            self._inner.send([raw])
            return
        self._asked[request.tag] = request
        try:
            forward, answers = self._fault.on_request(request)
        except Hold as held:
            self._requests.add(held)
            return
        except HangUp:
            self._hang_up()
            return
        self._inbox.extend(answers)
        self._forward([*forward, *self._requests.passed()])

    def _forward(self, requests: Iterable[Message]) -> None:
        for one in requests:
            self._in_flight[one.tag] += 1
            self._inner.send([frame(one)])

    # ---- replies

    def recv(self, timeout: float) -> bytes | bytearray:
        deadline = time.monotonic() + timeout
        while not self._inbox:
            if self._closed is not None:
                raise self._closed
            if not self._idle():
                self._reply(self._inner.recv(max(deadline - time.monotonic(), 0.0)))
        return self._inbox.popleft()

    def ready(self) -> bool:
        try:
            while not self._inbox and (self._idle() or self._inner.ready()):
                if not self._inbox:
                    self._reply(self._inner.recv(1.0))
        except LinkClosed as error:
            self._closed = error
            return True
        return bool(self._inbox)

    def _idle(self) -> bool:
        """Whether only held messages remain; then they are released."""
        if self._inbox or sum(self._in_flight.values()) or not (len(self._requests) or len(self._replies)):
            return False
        for reply in self._replies.all():
            self._inbox.append(frame(reply))
        self._forward(self._requests.all())
        return True

    def _reply(self, raw: bytes | bytearray) -> None:
        if len(raw) < HDRSZ:
            self._inbox.append(raw)
            return
        tag = header(raw).tag
        if self._in_flight[tag]:
            self._in_flight[tag] -= 1
        try:
            reply = decode(bytes(raw))
        except ProtocolError:
            self._inbox.append(raw)
            return
        try:
            given = self._fault.on_reply(self._asked.get(reply.tag, reply), reply)
        except Hold as held:
            self._replies.add(held)
            return
        except HangUp:
            self._hang_up()
            return
        self._inbox.extend(given)
        self._inbox.extend(frame(one) for one in self._replies.passed())

    # ---- the end

    def _hang_up(self) -> None:
        self._inner.close()
        self._closed = LinkClosed("the server closed the connection")

    def close(self) -> None:
        self._inner.close()
