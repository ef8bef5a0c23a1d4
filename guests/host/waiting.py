"""Waiting for a condition by polling.

A wait that has more to watch than one condition (a descriptor, several ends, a limit of the caller) has its own loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from guests.errors import InfrastructureError

_T = TypeVar("_T")

INTERVAL = 0.01
"""Seconds between two questions, where the caller does not say."""


def happens(condition: Callable[[], _T], timeout: float, interval: float = INTERVAL) -> _T:
    """Poll ``condition`` until it is true or ``timeout`` seconds have passed; returns its last value."""
    deadline = time.monotonic() + timeout
    while not (seen := condition()) and time.monotonic() < deadline:
        time.sleep(interval)
    return seen


def wait_until(
    condition: Callable[[], _T | None], timeout: float, what: str, remedy: str = "", interval: float = INTERVAL
) -> _T:
    """Poll ``condition`` until it is true; returns its value.

    Raises InfrastructureError ("``what`` within N s") after ``timeout`` seconds, and whatever ``condition`` raises,
    which it does if it can no longer become true.
    """
    if not (seen := happens(condition, timeout, interval)):
        raise InfrastructureError(f"{what} within {timeout:.0f} s", remedy)
    return seen
