"""Calls and looks that were sent and are waited for later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class Pending(Generic[T]):
    """A call that was started and not yet waited for (a blocking lock, a fifo)."""

    def __init__(self, ready: Callable[[float], bool], finish: Callable[[], T]) -> None:
        self._ready, self._finish = ready, finish

    def finished(self, within: float = 0.0) -> bool:
        """Whether the call has returned, or does so within so many seconds."""
        return self._ready(within)

    def result(self) -> T:
        """The call's value; raises OSError as the call itself would have."""
        return self._finish()


class Late(Exception):
    """A call failed that nobody waited for at once. `why` is its error.

    Not an OSError: it is raised by a later call, whose errno this is not.
    """

    def __init__(self, why: OSError) -> None:
        super().__init__(str(why))
        self.why = why


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A call or a look of that process of that agent, on its way."""

    agent: object
    process: str
    finish: Callable[[], object]


class OnTheWay:
    """What a case has sent and not waited for, in order. An agent makes the calls of its main process in the order in
    which it gets them, before it passes on those of others that came after.
    """

    def __init__(self) -> None:
        self._sent: deque[_Awaited] = deque()
        self._waiting = False

    def add(self, agent: object, process: str, finish: Callable[[], object]) -> None:
        """Something was sent; `finish` waits for it and judges it."""
        self._sent.append(_Awaited(agent, process, finish))

    @property
    def in_order(self) -> bool:
        """Whether there is anything to wait for, and what is sent now is made after it: it is the main processes'."""
        return bool(self._sent) and all(one.process == "main" for one in self._sent)

    def wait(self) -> None:
        """Wait for all of it. Raises Finding, and Late for a call that failed: what was sent after it is not judged."""
        if self._waiting:  # it is being judged, all before it has been
            return
        self._waiting = True
        try:
            while self._sent:
                self._sent.popleft().finish()
        except Late:
            self._sent.clear()
            raise
        finally:
            self._waiting = False

    def wait_for(self, agent: object, process: str) -> None:
        """The same, if that process has not answered everything."""
        if any(one.agent is agent and one.process == process for one in self._sent):
            self.wait()

    def wait_before(self, agent: object, process: str) -> None:
        """The same, if a call that this process makes now could overtake some of it."""
        if any(one.agent is not agent or one.process not in ("main", process) for one in self._sent):
            self.wait()


def results(calls: Iterable[Pending[T]]) -> list[T]:
    """Start the calls one after the other, and wait for all of them: their values, in one round trip if they are small.

    Raises OSError as the first of them that failed.
    """
    return [call.result() for call in list(calls)]
