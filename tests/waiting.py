"""How long tests wait. A limit here decides when a test stops waiting for something that never comes; it never decides
a verdict.

On a busy machine everything may take twenty times as long as on an idle one. A wait ends as soon as its condition
holds, so a generous limit costs time only in a test that fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from guests.host.waiting import happens

_T = TypeVar("_T")
_PROGRESS = re.compile(r"\d\d:\d\d:\d\d  ")

PATIENT = 900.0
"""Seconds after which a test gives up."""


def complaint(stderr: str) -> list[str]:
    """The lines of a command's standard error, without those that show once a minute what takes long."""
    return [line for line in stderr.splitlines() if not _PROGRESS.match(line)]


def eventually(condition: Callable[[], _T], what: str | Callable[[], str] = "it never came") -> _T:
    """What ``condition`` returns once it is true. Raises AssertionError (``what``) after ``PATIENT`` seconds."""
    seen = happens(condition, PATIENT)
    assert seen, what if isinstance(what, str) else what()
    return seen
