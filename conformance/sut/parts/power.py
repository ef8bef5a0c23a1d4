"""Stopping and killing what runs a guest or serves its share, where those are processes of this host."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

from conformance.errors import Undrivable
from conformance.features import FEATURES
from conformance.sut.parts.serving import Serving
from conformance.vfs.deployment import Outages
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


class NoOutages(Outages):
    """Nothing can be taken away."""

    lost = False

    def pause(self, number: int) -> None:
        raise Undrivable(FEATURES["server-restart"])

    def kill(self, number: int) -> None:
        raise Undrivable(FEATURES["server-restart"])

    def restart(self, number: int) -> None:
        raise Undrivable(FEATURES["server-restart"])

    def unplug(self, number: int) -> None:
        raise Undrivable(FEATURES["hot-plug"])

    def unplugged(self, number: int) -> bool:
        raise Undrivable(FEATURES["hot-plug"])

    def plug(self, number: int) -> bool:
        return True

    def restore(self, number: int) -> None:
        return


class ServerOutages(NoOutages):
    """The servers of `serving` can be killed."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._down: set[int] = set()

    def pause(self, number: int) -> None:
        self._down.add(number)
        self._serving.pause(number)

    def kill(self, number: int) -> None:
        self._down.add(number)
        self._serving.kill(number)

    def restart(self, number: int) -> None:
        self._serving.restart(number)
        self._down.discard(number)

    def restore(self, number: int) -> None:
        if number in self._down:
            self._serving.kill(number)
            self.restart(number)
