"""Stopping and killing what runs a guest or serves its share, where those are processes of this host."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

from guests.host.processes import start_time
from guests.host.waiting import happens

_GONE = 10.0
"""Seconds that a process has to be gone after SIGKILL."""


class ByProcess:
    """The `Power` of a deployment by signals; `processes` is its method of that name."""

    def __init__(self, processes: Callable[[], dict[str, int]]) -> None:
        self._processes = processes
        self._pid = self._start = 0

    def pause(self) -> dict[str, Any]:
        """See Power: SIGSTOP to the process that serves the share."""
        pid = self._processes().get("device", 0)
        if pid:
            self._pid, self._start = pid, start_time(pid) or 0
            os.kill(pid, signal.SIGSTOP)
        return {"pid": pid} if pid else {}

    def resume(self) -> None:
        """See Power: SIGCONT."""
        pid, self._pid = self._pid, 0
        if pid and start_time(pid) == self._start:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def cut(self) -> None:
        """See Power: SIGKILL, and wait until it is gone."""
        found = self._processes()
        if pid := found.get("hypervisor") or found.get("device", 0):
            started = start_time(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            happens(lambda: started is None or start_time(pid) != started, _GONE)
