"""Busy polling: poll for the next request for a moment before waiting for its notification.

A driver that waits for a reply before its next request sends that request soon. Sleeping in between costs a
notification and a wake-up: more than most requests themselves. So a thread that was woken soon after it fell asleep
polls the next time, and others do not: an idle guest costs nothing. KVM decides the same way (halt_poll_ns, its
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
    """When one thread polls, and for how long."""

    def __init__(self, most: float) -> None:
        """``most``: seconds to poll at a time; 0 never polls. On one processor it never polls: the driver could not
        run."""
        self._most = most if len(os.sched_getaffinity(0)) > 1 else 0.0
        self._asleep: float | None = None
        """When it began to wait for a notification."""
        self._hopes = False

    def woken(self) -> None:
        """A request arrived, with or without a notification."""
        if self._asleep is not None:
            self._hopes = time.monotonic() - self._asleep < self._most
            self._asleep = None

    def sees(self, there: Callable[[], bool]) -> bool:
        """Poll ``there`` until it is true; returns False when it is time to sleep."""
        if not self._most:
            return False
        now = time.monotonic()
        if self._hopes:
            end = now + self._most
            while now < end:
                if there():
                    return True
                os.sched_yield()  # the sender of the request may need this processor
                now = time.monotonic()
        self._asleep = now
        return False
