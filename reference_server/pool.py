"""Threads for jobs that may take long.

The rule of this module: it knows nothing of 9P. Threads start when there is work and end with the pool; a job that is
to run again later waits without a thread.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable

Job = Callable[[], float | None]
"""Returns None when it is over, or the seconds after which to run it again."""


class Pool:
    """At most ``size`` threads."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._ready: deque[Job] = deque()
        self._later: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def submit(self, job: Job) -> None:
        """Run ``job`` as soon as a thread is free.  After ``close`` it is dropped.

        Raises RuntimeError if there is no thread and the system does not allow one.
        """
        with self._changed:
            if self._closed:
                return
            self._ready.append(job)
            # A woken thread counts as idle until it runs: two jobs that come before that need two threads.
            if self._idle >= len(self._ready):
                self._changed.notify()
            elif len(self._threads) < self._size:
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    if not self._threads:
                        raise
                else:
                    self._threads.append(thread)

    def close(self) -> None:
        """Drop jobs that have not begun and wait for those that have."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._later.clear()
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _work(self) -> None:
        while (job := self._take()) is not None:
            delay = job()
            if delay is not None:
                with self._changed:
                    if not self._closed:
                        heapq.heappush(self._later, (time.monotonic() + delay, next(self._order), job))
                        # An idle thread may be waiting for a job that is due later than this one.
                        self._changed.notify()

    def _take(self) -> Job | None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if self._later and self._later[0][0] <= now:
                    return heapq.heappop(self._later)[2]
                if self._ready:
                    return self._ready.popleft()
                self._idle += 1
                self._changed.wait(self._later[0][0] - now if self._later else None)
                self._idle -= 1
            return None
