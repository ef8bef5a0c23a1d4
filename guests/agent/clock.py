"""The guest's clock against this host's: its offset, its rate, and setting it.

The kernel of a guest counts time with a counter whose speed it measures while it boots. On a busy host that measurement
can be wrong by a factor of several, and ``tsc=reliable`` keeps the wrong speed, even in a saved machine. Then times in
evidence are wrong, and limits in the guest end calls too early. So the rate is checked first.

The two clocks cannot be read at once: the guest's is read between two readings of the host's, and half the time between
those is the uncertainty. Rates are of monotonic clocks, offsets of the time of day.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from guests.errors import InfrastructureError
from guests.host.lines import LineChannel

MOST_RATE = 0.01
"""A clock that gains or loses more than this share of the time is wrong: 1 %."""
MOST_OFFSET = 0.010
"""Seconds by which the guest's time of day may differ from the host's."""

PROGRAM = b"""\
import os, time
left = b""
while True:
    part = os.read(0, 4096)
    if not part:
        break
    *lines, left = (left + part).split(b"\\n")
    for line in lines:
        if line:
            time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + int(line))
        os.write(1, b"%d %d\\n" % (time.time_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC)))
"""
"""Runs in the guest: for each line it moves its time of day by the nanoseconds in it, and then reports its clocks.
The same as the op ``clock`` of the agent."""

_SURE = 0.002
"""Seconds of uncertainty that are good enough for a reading; on an idle machine it is half of that."""
_TRIES = 20
_STEP = 0.05
"""Seconds between two readings while the rate is measured."""
_ENOUGH = 20.0
"""Seconds after which the measurement of a rate ends with the precision it has."""


class WrongClock(InfrastructureError):
    """The guest's clock runs too fast or too slow."""


class Host(Protocol):
    """The host's clocks in nanoseconds; tests replace them."""

    def time_ns(self) -> int: ...
    def monotonic_ns(self) -> int: ...
    def sleep(self, seconds: float, /) -> None: ...


_SETTINGS = 25
"""Attempts to set the clock."""

Clocks = Callable[[int], tuple[int, int]]
"""Moves the guest's time of day by so many nanoseconds, then reads its clocks: time of day, monotonic."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks at one moment; seconds."""

    host: float
    """The host's monotonic clock."""
    guest: float
    """The guest's."""
    offset: float
    """The guest's time of day less the host's."""
    unsure: float
    """``guest`` and ``offset`` may be off by so much."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast the guest's clock runs: 1.0 is as fast as the host's."""

    value: float
    unsure: float

    @property
    def wrong(self) -> bool:
        """It is certainly off by more than 1 %."""
        return abs(self.value - 1) - self.unsure > MOST_RATE

    @property
    def right(self) -> bool:
        """It is certainly not off by more than 1 %."""
        return abs(self.value - 1) + self.unsure <= MOST_RATE

    def __str__(self) -> str:
        return f"{self.value:.4f} times as fast as this host's (+-{self.unsure:.4f})"


class GuestClock:
    """The clock of one guest."""

    def __init__(self, clocks: Clocks, host: Host = time, resolution: float = 0.0) -> None:
        """`resolution`: seconds by which a reading may differ from the clock itself."""
        self._clocks, self._host, self._resolution = clocks, host, resolution

    def read(self) -> Reading:
        """Read both clocks; the best of several attempts on a busy machine."""
        best: Reading | None = None
        for _ in range(_TRIES):
            now = self._once(0)
            if best is None or now.unsure < best.unsure:
                best = now
            if best.unsure <= _SURE:
                break
        assert best is not None
        return best

    def glance(self) -> Reading:
        """Read both clocks once, with whatever uncertainty."""
        return self._once(0)

    def set(self) -> Reading:
        """Set the guest's time of day to the host's; returns the remaining offset.

        Raises InfrastructureError if it does not keep the time that was set.
        """
        # A guest that counts ticks loses some while this host is busy: set it again.
        for _ in range(_SETTINGS):
            seen = self.read()
            if abs(seen.offset) <= MOST_OFFSET / 2:
                return seen
            self._once(-round(seen.offset * 1e9))
        seen = self.read()
        if abs(seen.offset) - seen.unsure > MOST_OFFSET:
            raise InfrastructureError(
                f"the guest's clock cannot be set: it is off by {seen.offset:.3f} s again",
                "check whether a program in the guest sets it",
            )
        return seen

    def rate(self, since: Reading | None = None, unsure: float | None = None) -> Rate:
        """Its rate, measured from an earlier reading or from now on.

        Measures until it is certain whether the rate is right, or until the uncertainty is ``unsure``; at most 20 s.
        """
        first = since or self.read()
        deadline = self._host.monotonic_ns() / 1e9 + _ENOUGH
        while True:
            rate = rate_between(first, self.read())
            known = rate.wrong or rate.right if unsure is None else rate.unsure <= unsure
            if known or self._host.monotonic_ns() / 1e9 > deadline:
                return rate
            self._host.sleep(_STEP)

    def _once(self, step_ns: int) -> Reading:
        day, begun = self._host.time_ns(), self._host.monotonic_ns()
        guest_day, guest = self._clocks(step_ns)
        half = (self._host.monotonic_ns() - begun) / 2
        return Reading(
            host=(begun + half) / 1e9,
            guest=guest / 1e9,
            offset=(guest_day - day - half) / 1e9,
            unsure=half / 1e9 + self._resolution,
        )


def rate_between(first: Reading, last: Reading) -> Rate:
    """How fast the guest's clock ran from one reading to a later one."""
    span = max(last.host - first.host, 1e-9)
    value = (last.guest - first.guest) / span
    error = (first.unsure + last.unsure) / span  # relative to the span between the guest's own readings
    return Rate(value, abs(value) * error / (1 - error) if error < 1 else float("inf"))


def over(channel: LineChannel, limit: float = 60.0) -> Clocks:
    """The clocks of a guest that runs ``PROGRAM`` at the other end of a channel."""

    def clocks(step_ns: int) -> tuple[int, int]:
        channel.send(b"%d\n" % step_ns if step_ns else b"\n")
        try:
            day, monotonic = channel.recv_line(limit).split()
        except TimeoutError:
            raise InfrastructureError(f"the guest did not report its time within {limit:.0f} s") from None
        return int(day), int(monotonic)

    return clocks


def check_and_set(channel: LineChannel) -> Rate:
    """Check the rate of a guest's clock (the guest runs ``PROGRAM``), and set it. Closes the channel.

    Raises WrongClock, whose remedy is to boot the guest again, and InfrastructureError.
    """
    try:
        clock = GuestClock(over(channel))
        rate = clock.rate()
        if rate.wrong:  # it would not keep the time
            raise wrong_clock(rate)
        clock.set()
        return rate
    finally:
        channel.close()


def wrong_clock(rate: Rate, remedy: str = "run again") -> WrongClock:
    """The error for a guest whose clock runs at the wrong rate."""
    return WrongClock(f"the guest's clock runs {rate}", f"its kernel measured it on a busy machine: {remedy}")
