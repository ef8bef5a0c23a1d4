"""The open descriptors of this process, by what they refer to."""

from __future__ import annotations

import contextlib
import os
from collections import Counter

from guests.host.waiting import happens
from tests.waiting import PATIENT


def held() -> Counter[str]:
    """What the open descriptors refer to, e.g. `socket:[4711]`, and how many refer to it."""
    seen: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this listing
            seen[os.readlink(f"/proc/self/fd/{number}")] += 1
    return seen


def leaked(before: Counter[str]) -> list[str]:
    """The descriptors that stay open beyond those in `before`.

    Descriptors that another test's thread opens and closes meanwhile are no leak: a leak is still open at the next
    check.
    """
    happens(lambda: not held() - before, PATIENT)
    return sorted((held() - before).elements())
