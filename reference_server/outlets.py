"""Whom a session talks to: where its replies go, who sees its frames, who hears of errors in the server itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NoReturn, Protocol

from protocol.fields import Buffer

log = logging.getLogger("reference_server")


class Outlet(Protocol):
    """Where the reply to one request goes, and where its data may be put beforehand."""

    def payload(self, count: int) -> Sequence[memoryview]:
        """Writable memory for ``count`` bytes of data, in order; used by at most one reply."""

    def send(self, buffers: list[Buffer]) -> None:
        """Send one reply frame."""

    def send_placed(self, head: bytes, count: int) -> None:
        """Send one reply frame: ``head``, then the first ``count`` bytes of what ``payload`` gave."""

    def later(self) -> Outlet:
        """An outlet for the same reply that may be used from any thread at any time."""


class Observer(Protocol):
    """Sees every frame; for logs and records."""

    def received(self, session: int, frame: Buffer) -> None:
        """A request arrived."""

    def sent(self, session: int, frame: Sequence[Buffer]) -> None:
        """A reply leaves."""


class Health:
    """Errors inside the server itself, as opposed to in a request."""

    def __init__(self) -> None:
        self.unexpected: list[BaseException] = []
        """Exceptions that no handler should raise; each was answered EIO and logged."""

    def report(self, request: object, error: BaseException) -> None:
        """Keep and log ``error``, raised while ``request`` was served."""
        if len(self.unexpected) < 1000:
            self.unexpected.append(error)
        log.error("unexpected exception while serving %r", request, exc_info=error)


class Observed:
    """An outlet that reports to an observer."""

    def __init__(self, outlet: Outlet, observer: Observer, session: int) -> None:
        self._outlet = outlet
        self._observer = observer
        self._session = session
        self._views: Sequence[memoryview] = ()

    def payload(self, count: int) -> Sequence[memoryview]:
        self._views = self._outlet.payload(count)
        return self._views

    def send(self, buffers: list[Buffer]) -> None:
        self._observer.sent(self._session, buffers)
        self._outlet.send(buffers)

    def send_placed(self, head: bytes, count: int) -> None:
        left = count
        placed: list[Buffer] = [head]
        for view in self._views:
            placed.append(view[:left])
            left -= len(placed[-1])
        self._observer.sent(self._session, placed)
        self._outlet.send_placed(head, count)

    def later(self) -> Outlet:
        return Observed(self._outlet.later(), self._observer, self._session)


class Nowhere:
    """A placeholder until there is an outlet."""

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError("no request is being served")

    payload = send = send_placed = later = _refuse


NOWHERE: Outlet = Nowhere()
