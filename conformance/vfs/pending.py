"""A call that was started and is waited for later."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def results(calls: Iterable[Pending[T]]) -> list[T]:
    """Start the calls one after the other, and wait for all of them: their values, in one round trip if they are small.

    Raises OSError as the first of them that failed.
    """
    return [call.result() for call in list(calls)]
