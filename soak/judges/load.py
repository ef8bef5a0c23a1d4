"""How busy the host was while something was timed, as one number, so that times can be compared.

The number is the logarithm of the factor by which a task that only computes takes longer: by the tasks that wait for
each processor, and by the processor time of a fixed computation.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from soak.judges.record import Record

KNOWN = 0.8
"""Share of the timed things whose load must be known."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The host's load in one sample, from `begin` to `end` (seconds since 1970)."""

    begin: float
    end: float
    load: float
    cpu_pressure: float | None
    io_pressure: float | None


class Load:
    """The host's load over a run."""

    def __init__(self, record: Record) -> None:
        self._stretches = _stretches(record)
        self._ends = [s.end for s in self._stretches]
        self._loads: list[float | None] = [s.load for s in self._stretches]
        self._cpu, self._io = [s.cpu_pressure for s in self._stretches], [s.io_pressure for s in self._stretches]

    def during(self, begin: float, end: float) -> float | None:
        """The mean load of that time (seconds since 1970); None if the record does not cover most of it."""
        return self._mean(begin, end, self._loads)

    def io_pressure(self, begin: float, end: float) -> float | None:
        """The fraction of that time in which a task waited for I/O."""
        return self._mean(begin, end, self._io)

    def cpu_pressure(self, begin: float, end: float) -> float | None:
        """The fraction of that time in which a task waited for a processor."""
        return self._mean(begin, end, self._cpu)

    def _mean(self, begin: float, end: float, values: Sequence[float | None]) -> float | None:
        total = weight = 0.0
        first = bisect.bisect_left(self._ends, begin)
        for place in range(first, len(self._stretches)):
            stretch, value = self._stretches[place], values[place]
            if stretch.begin >= end > begin:
                break
            share = min(end, stretch.end) - max(begin, stretch.begin) if end > begin else 1.0
            if value is not None and share > 0:
                total, weight = total + share * value, weight + share
            if end <= begin:
                break
        return total / weight if weight > 0 and weight >= 0.5 * (end - begin) else None


def _stretches(record: Record) -> list[Stretch]:
    found, last = [], {s.id: s.at for s in record.sessions}
    for sample in record.samples:
        values = sample.values
        if "host.waiting" not in values and "host.yardstick_ms" not in values:
            continue
        begin = last.get(sample.session, sample.at)
        last[sample.session] = sample.at
        crowd = (values.get("host.waiting", 0.0) + values.get("host.steal", 0.0)) / max(1.0, values.get("host.cpus", 1))
        load = math.log1p(crowd) + math.log(max(1e-6, values.get("host.yardstick_ms", 1.0)))
        found.append(Stretch(begin, sample.at, load, values.get("host.cpu_pressure"), values.get("host.io_pressure")))
    return found


def pressure(load: Load, begin: float, end: float) -> str:
    """Words for how busy the host was."""
    cpu, io = load.cpu_pressure(begin, end), load.io_pressure(begin, end)
    parts = [
        f"{share:.0%} of the time for {what}"
        for share, what in ((cpu, "a processor"), (io, "I/O"))
        if share is not None
    ]
    return f"its tasks waited {' and '.join(parts)}" if parts else ""


def rise(values: Sequence[float | None]) -> float:
    """By how much the mean of the last third is above that of the first; 0 if too little is known."""
    known = [v for v in values if v is not None]
    third = len(known) // 3
    return fmean(known[-third:]) - fmean(known[:third]) if third else 0.0
