"""The descriptors that this process holds, by what they lead to."""

from __future__ import annotations

import contextlib
import os
from collections import Counter

from guests.host.waiting import happens
from tests.waiting import PATIENT


def held() -> Counter[str]:
    """What every open descriptor leads to, e.g. `socket:[4711]`, and how many lead there."""
    seen: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of this listing
            seen[os.readlink(f"/proc/self/fd/{number}")] += 1
    return seen


def leaked(before: Counter[str]) -> list[str]:
    """What stays held beyond `before`.

    Descriptors that another test's thread opens and closes meanwhile are no leak: a leak is still there at the next
    check.
    """
    happens(lambda: not held() - before, PATIENT)
    return sorted((held() - before).elements())
