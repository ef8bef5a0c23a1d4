"""Synthetic records of runs: the behaviour of share and host is known, so a verdict can be checked.

A `Share` describes the server, and a `Machine` describes the load of the host. From a seed, `run` makes the record
that a soak of them would have written. Times grow with the load as on processors that are shared fairly.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from soak.journal import Event, Iteration, Sample, Session
from soak.judges.record import Record

START = 1_800_000_000.0
CPUS = 2


@dataclass(frozen=True)
class Share:
    """The behaviour of the server; the defaults are those of a correct one."""

    seconds: float = 60.0
    """The time of the first iteration on an idle host."""
    slower: float = 0.0
    """Fraction of that time by which each iteration takes longer than the previous one."""
    creep: float = 0.0
    """Seconds by which each iteration takes longer than the previous one."""
    filled: float = 0.0
    """Fraction by which it gets slower until its cache is full, after a third of the run."""
    scatter: float = 0.05
    """Standard deviation of the logarithm of the time: the variation between iterations."""
    alike: float = 0.0
    """How much that depends on the previous iteration: a slow change that is not measured."""
    computes: float = 0.7
    """How much the host's load affects it: 1 only computes, 0 only sleeps."""
    leak_mb: float = 0.0
    """Leaked memory, in MB per hour."""
    leak_fds: float = 0.0


@dataclass(frozen=True)
class Machine:
    """The load of the host: tasks that wait for each processor, over time."""

    name: str
    waiting: Callable[[float, float, random.Random], float]
    """(seconds since the beginning, seconds of the whole run, generator) -> tasks that wait on this host."""
    io: float = 0.02
    others: float = 0.1
    """Cores that others use; the judges of an earlier version used only this."""
    seen: float = 0.15
    """Standard deviation of the monitor's error, on the logarithm of the load."""


class Wandering:
    """A load that depends on its previous value, as real loads do."""

    def __init__(self, level: float, size: float, alike: float = 0.9) -> None:
        self._level, self._size, self._alike, self._now = level, size, alike, 0.0

    def __call__(self, at: float, whole: float, rng: random.Random) -> float:
        """Number of tasks that wait now."""
        fresh = math.sqrt(1 - self._alike**2)
        self._now = self._alike * self._now + rng.gauss(0, self._size * fresh)
        return max(0.0, self._level * math.exp(self._now))


def machines() -> dict[str, Machine]:
    """The hosts that the tests use."""
    return {
        "idle": Machine("idle", lambda at, whole, rng: abs(rng.gauss(0, 0.05))),
        "saturated": Machine("saturated", Wandering(6.0, 0.3), others=1.9),
        "busier and busier": Machine(
            "busier and busier", lambda at, whole, rng: 8 * at / whole * rng.uniform(0.8, 1.2), others=1.9
        ),
        "less and less busy": Machine(
            "less and less busy", lambda at, whole, rng: 8 * (1 - at / whole) * rng.uniform(0.8, 1.2), others=1.9
        ),
        "a job comes in the middle": Machine(
            "a job comes in the middle",
            lambda at, whole, rng: (6 if at > whole / 2 else 0.5) * rng.uniform(0.7, 1.3),
            others=1.9,
        ),
    }


def run(share: Share, machine: Machine, iterations: int, seed: int, every: float = 10.0) -> Record:
    """The record of the given number of iterations of that share on that host."""
    return _Run(share, machine, iterations, random.Random(seed), every).record()


class _Run:
    """A run in progress: its clock, the load at this moment, and what has been recorded."""

    def __init__(self, share: Share, machine: Machine, iterations: int, rng: random.Random, every: float) -> None:
        self._share, self._machine, self._rng = share, machine, rng
        self._number, self._every = iterations, every
        self._length = iterations * (share.seconds * (1 + share.computes) + 1)
        self._waiting = 0.0
        """Tasks that wait for a processor now."""
        self._noise = rng.gauss(0, share.scatter)
        self._held = 0.0
        """Memory that the allocator keeps, in MB."""
        self._clock = self._last = 0.0
        """The end of the last iteration, and its last full sample, in seconds since the beginning."""
        self._iterations: list[Iteration] = []
        self._samples: list[Sample] = []

    def record(self) -> Record:
        """Every iteration, with the samples taken during it and at its end."""
        for number in range(self._number):
            self._iterate(number)
        events = [
            Event(0, 1, START, "environment", {"guest": True}),
            Event(1, 1, START + self._clock, "finished", {"why": "all iterations done"}),
        ]
        plan = {"jobs": [{"instance": "tree"}], "sample_seconds": self._every}
        return Record(plan, [Session(1, START, {})], events, self._iterations, self._samples)

    def _iterate(self, number: int) -> None:
        share, begin = self._share, self._clock
        self._waiting = max(0.0, self._machine.waiting(begin, self._length, self._rng))
        fresh = self._rng.gauss(0, share.scatter * math.sqrt(1 - share.alike**2))
        self._noise = share.alike * self._noise + fresh
        took = share.seconds * self._stretched(share.computes) * self._slowed() * math.exp(self._noise)
        while self._last + self._every < begin + took:
            self._last += self._every
            if self._last > begin:
                self._sample(self._last, self._host() | self._device(self._last))
        end = begin + took
        self._sample(end, self._host())
        self._iterations.append(
            Iteration(number, 1, "tree", number, START + begin, START + end, "pass", took, {"ops": 900})
        )
        self._clock = end + 0.5

    def _stretched(self, computes: float) -> float:
        """The factor by which work takes longer under the present load."""
        return float((1 + self._waiting / CPUS) ** computes)

    def _slowed(self) -> float:
        """The factor by which the share has become slower."""
        share, number = self._share, len(self._iterations)
        full = min(1.0, number / (self._number / 3))
        grown = (1 + share.slower) ** number * (1 + share.filled * full)
        return grown + share.creep * number / share.seconds

    def _sample(self, at: float, values: dict[str, float]) -> None:
        self._samples.append(Sample(1, START + at, values))

    def _host(self) -> dict[str, float]:
        seen = self._waiting * math.exp(self._rng.gauss(0, self._machine.seen))
        return {
            "host.waiting": seen,
            "host.cpus": float(CPUS),
            "host.yardstick_ms": 0.144 * self._rng.uniform(1, 1.03),
            "host.cpu_pressure": min(1.0, seen / 2),
            "host.io_pressure": self._machine.io,
        }

    def _device(self, at: float) -> dict[str, float]:
        share, rng = self._share, self._rng
        # memory use varies: the allocator keeps freed memory and reuses it
        self._held = 0.95 * self._held + rng.gauss(0, 0.4)
        slower = self._stretched(share.computes) * self._slowed()
        return {
            "host.others": self._machine.others,
            "device.own_mb": 120 + self._held + share.leak_mb * at / 3600,
            "device.fds": 30 + rng.choice((0, 0, 1, 2)) + math.floor(share.leak_fds * at / 3600),
            "device.threads": 4.0,
            "probe.stat_p50": 0.3 * slower * rng.lognormvariate(0, 0.25),
            "probe.sync_p50": 2.0 * slower * rng.lognormvariate(0, 0.4),
            "probe.age": rng.uniform(0, 10),
            "msg.total": 900.0,
        }
