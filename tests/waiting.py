"""How long tests wait. A limit here decides when a test gives up on what never comes; it never decides a verdict.

On a machine with much else to do everything may take twenty times as long as on an idle one. What is waited for comes
at once where it can, so a generous limit costs nothing but in a test that fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENT = 300.0
"""Seconds after which a test gives up."""


def eventually(true: Callable[[], object], what: str = "") -> None:
    """Wait until ``true()`` is. Raises AssertionError after ``PATIENT`` seconds."""
    deadline = time.monotonic() + PATIENT
    while not true():
        assert time.monotonic() < deadline, what or "it never came"
        time.sleep(0.01)
