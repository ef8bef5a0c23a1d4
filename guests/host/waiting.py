"""Waiting for a condition by asking for it again and again: the only such loop of this project."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from guests.errors import InfrastructureError

_T = TypeVar("_T")

INTERVAL = 0.01
"""Seconds between two questions, where the caller does not say."""


def happens(condition: Callable[[], _T], timeout: float, interval: float = INTERVAL) -> _T:
    """What ``condition`` returned last: true as soon as it is, false when ``timeout`` seconds have passed."""
    deadline = time.monotonic() + timeout
    while not (seen := condition()) and time.monotonic() < deadline:
        time.sleep(interval)
    return seen


def wait_until(
    condition: Callable[[], _T | None], timeout: float, what: str, remedy: str = "", interval: float = INTERVAL
) -> _T:
    """What ``condition`` returns once it is true.

    Raises InfrastructureError ("``what`` within N s") when ``timeout`` seconds have passed, and whatever
    ``condition`` raises: that is how one ends that can no longer come true.
    """
    if not (seen := happens(condition, timeout, interval)):
        raise InfrastructureError(f"{what} within {timeout:.0f} s", remedy)
    return seen
