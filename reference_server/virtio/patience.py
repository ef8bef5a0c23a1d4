"""Looking for the next request for a moment before waiting to be told of it (busy polling).

A driver that waits for a reply before it asks again asks soon. To sleep in between costs it a notification, and us to
be woken: more than most requests themselves. So who was woken soon after falling asleep looks for a while the next
time, and who was not does not: a quiet guest costs nothing. KVM decides the same way (halt_poll_ns, its
halt-polling.rst); vhost-net has it as VHOST_SET_VRING_BUSYLOOP_TIMEOUT.

The rule of this module: it knows no queue.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

BUSY_POLL = 400e-6
"""Seconds. Under TCG a guest asks again within 100 to 300 microseconds of a reply."""


class Patience:
    """When to look, and for how long, on one thread."""

    def __init__(self, most: float) -> None:
        """``most``: seconds to look for at a time; 0 never looks. On one processor it never does: nobody else runs."""
        self._most = most if len(os.sched_getaffinity(0)) > 1 else 0.0
        self._asleep: float | None = None
        """Since when it waits to be told."""
        self._hopes = False

    def woken(self) -> None:
        """There is something to do, be it told of or not."""
        if self._asleep is not None:
            self._hopes = time.monotonic() - self._asleep < self._most
            self._asleep = None

    def sees(self, there: Callable[[], bool]) -> bool:
        """Look until ``there`` says that something is; False when it is time to sleep."""
        if not self._most:
            return False
        now = time.monotonic()
        if self._hopes:
            end = now + self._most
            while now < end:
                if there():
                    return True
                os.sched_yield()  # who makes the request may need this processor
                now = time.monotonic()
        self._asleep = now
        return False
