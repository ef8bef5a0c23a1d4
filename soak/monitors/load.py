"""How busy this host is, from the kernel's own counters: what an iteration had to wait for.

Processor time used by others does not show it: when all processors are in use it stays the same however many tasks
wait. Pressure (the fraction of time in which some task waited) and the run queue (how many waited) do. Sources:
Documentation/accounting/psi.rst; Documentation/scheduler/sched-stats.rst; proc(5), loadavg.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import psutil

LOOK = 0.2
"""Seconds between two looks at the run queue, at least."""
YARDSTICK_ROUNDS, YARDSTICK_BYTES = 3, 1 << 18
"""How often, and over how many bytes, the fixed computation runs; some 0.3 ms each."""


class LoadMonitor:
    """The host's load since the last sample.

    host.cpu_pressure, host.io_pressure: the fraction of time in which at least one task waited for a processor, for
    I/O. host.waiting: tasks that waited for a processor, on average. host.cpus: how many processors there are.
    host.steal: cores that an underlying hypervisor gave to others. host.yardstick_ms: processor time that a fixed
    computation takes: clock rate, caches, steal time that is not reported. A source that this kernel does not have
    gives no number.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._cpus = os.cpu_count() or 1
        self._queue: list[int] = []
        self._looked = self._sampled = 0.0
        self._last: dict[str, float] = {}
        self.restart()

    @property
    def age(self) -> float:
        """Seconds since the last sample."""
        return time.monotonic() - self._sampled

    def restart(self) -> None:
        """Start over: the next sample covers the time from now on."""
        self._queue.clear()
        self._sampled = time.monotonic()
        self._last = self._totals()

    def look(self) -> None:
        """Read the run queue; cheap, and does nothing within `LOOK` of the last call."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        try:
            running = int((self._proc / "loadavg").read_text().split()[3].partition("/")[0])
        except (OSError, ValueError, IndexError):
            return
        # the reading task itself is running
        self._queue.append(max(0, running - 1))

    def sample(self) -> dict[str, float]:
        """See Monitor. The numbers are for the time since the last sample."""
        self._looked = 0.0
        self.look()
        now, totals = time.monotonic(), self._totals()
        passed = now - self._sampled
        values = {"host.cpus": float(self._cpus), "host.yardstick_ms": yardstick()}
        if passed > 0:
            rates = {key: (totals[key] - self._last[key]) / passed for key in totals.keys() & self._last.keys()}
            values |= {f"host.{key}": max(0.0, rate) for key, rate in rates.items()}
        if "host.waiting" not in values and self._queue:
            values["host.waiting"] = sum(max(0, n - self._cpus) for n in self._queue) / len(self._queue)
        self._queue.clear()
        self._sampled, self._last = now, totals
        return values

    def _totals(self) -> dict[str, float]:
        """Seconds since boot, by name."""
        totals = {"steal": float(getattr(psutil.cpu_times(), "steal", 0.0))}
        for kind in ("cpu", "io"):
            if (pressure := self._pressure(kind)) is not None:
                totals[f"{kind}_pressure"] = pressure
        if (waited := self._waited()) is not None:
            totals["waiting"] = waited
        return totals

    def _pressure(self, kind: str) -> float | None:
        try:
            line = (self._proc / "pressure" / kind).read_text().splitlines()[0]
            return int(line.rpartition("total=")[2]) / 1e6
        except (OSError, ValueError, IndexError):
            return None

    def _waited(self) -> float | None:
        """Seconds that all tasks have waited in the run queues; the kernel counts them with CONFIG_SCHEDSTATS only."""
        try:
            lines = (self._proc / "schedstat").read_text().splitlines()
            fields = [line.split() for line in lines if line.startswith("cpu")]
            return sum(int(f[8]) for f in fields) / 1e9 if fields else None
        except (OSError, ValueError, IndexError):
            return None


def yardstick() -> float:
    """Milliseconds of this thread's processor time that the fixed computation takes; the fastest of a few rounds."""
    data = bytes(YARDSTICK_BYTES)
    took = []
    for _ in range(YARDSTICK_ROUNDS):
        begun = time.thread_time_ns()
        hashlib.sha256(data).digest()
        took.append(time.thread_time_ns() - begun)
    return min(took) / 1e6
