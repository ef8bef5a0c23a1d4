"""Iterations that take longer and longer, calls whose latency rises.

A pass means that the slowdown is below that of a fault: the whole interval lies below `FAULT`. A failure means that the
share certainly and steadily gets slower at equal load of the host. Anything between is `unknown`, with what would be
needed to decide.
"""

from __future__ import annotations

import math
from statistics import median

from soak.judges.load import KNOWN, Load, pressure, rise
from soak.judges.record import Judgement, Record
from soak.judges.trend import FEWEST, Trend, adjusted

FAULT = 0.25
"""Growth over the run that is a fault: a pass has to exclude it."""
LEAST = 0.05
"""Growth over the run below which nothing is called a slowdown."""
STEADY = 4.0
"""A slowdown goes on: where the second half rises so many times less than the whole, something filled up."""
MORE_IO = 0.1
"""Share of the time by which more was waited for I/O at the end; then the host's disk may be what got slower."""
ROUNDS = 2
"""Iterations of each workload after which the load of the share is the same over and over: latencies compare."""
FIRST_KEPT = 20
"""Up to so many iterations the first counts, too, though it fills caches: it can only hide a slowdown."""

STEP = "one step up explains it better than a steady rise, and so does a host that changed"

Timed = list[tuple[float, float, float | None, tuple[float, float]]]
"""(x, logarithm of the time, load of the host, begin and end since 1970)"""


def slowdowns(record: Record) -> list[Judgement]:
    """One for each workload, and one for each kind of latency."""
    load = Load(record)
    made = [iteration_time(record, load, name) for name in record.workloads()]
    return [*made, latency(record, load, "stat", "stat"), latency(record, load, "sync", "write and fsync")]


def iteration_time(record: Record, load: Load, workload: str) -> Judgement:
    """Whether its iterations take longer; uses the logarithm of the time, so a slope is relative per iteration."""
    name = f"slowdown: iterations of {workload}"
    spans = record.excluded()
    whole = [i for i in record.ended(workload) if i.outcome == "pass" and i.seconds > 0]
    calm = [i for i in whole if not any(i.at <= end and begin <= (i.ended_at or i.at) for begin, end in spans)]
    kept = calm[1:] if len(calm) > FIRST_KEPT else calm
    points: Timed = []
    for i in kept:
        end = i.ended_at or i.at
        points.append((float(i.number), math.log(i.seconds), load.during(i.at, end), (i.at, end)))
    if len(points) < FEWEST:
        return Judgement(name, "unknown", f"{len(points)} iterations without a fault, at least {FEWEST} are needed")
    level = f"median {median(i.seconds for i in kept):.1f} s, {len(points)} of them"
    return judged(name, points, load, "an iteration", level, "iterations", 240)


def latency(record: Record, load: Load, kind: str, words: str) -> Judgement:
    """Whether the probe's median of that call rises."""
    name, series = f"slowdown: latency of {words}", f"probe.{kind}_p50"
    spans, clock = record.excluded(), record.clock()
    seen = [s for s in record.samples if s.values.get(series, 0) > 0 and not any(a <= s.at <= b for a, b in spans)]
    seen = seen[len(seen) // 10 :]
    if len(seen) < 24:
        return Judgement(name, "unknown", f"{len(seen)} samples without a fault, at least 24 are needed")
    every = float(record.plan.get("sample_seconds", 10.0))
    points: Timed = [
        (clock(s.at) / 3600, math.log(s.values[series]), load.during(s.at - every, s.at), (s.at - every, s.at))
        for s in seen
    ]
    level = f"median {median(s.values[series] for s in seen):.2f} ms"
    return judged(name, points, load, "an hour", level, "samples", 60, doubt=uneven(record))


def uneven(record: Record) -> str:
    """Why the load of the share may vary over the run; nothing if each workload has run a full cycle."""
    for workload in record.workloads():
        if len(record.ended(workload)) < ROUNDS:
            return f"{workload} has not come round {ROUNDS} times: one part of it may load the share more than another"
    return ""


def judged(
    name: str, points: Timed, load: Load, per: str, level: str, units: str, count: int, *, doubt: str = ""
) -> Judgement:
    """The judgement on logarithms of times. `doubt`: why a rise may not be the share's fault."""
    known = [x for x in points if x[2] is not None]
    blind = len(known) < KNOWN * len(points)
    found = adjusted([(x, y, 0.0 if blind else z or 0.0) for x, y, z, _ in (points if blind else known)], count=count)
    if found is None:
        return Judgement(name, "unknown", f"{len(points)} {units}, all at one moment")
    figures = figures_of(found)
    rate = (
        f"{percent(found.growth, 0)} over the run, at most {percent(found.at_most, 0)} (a fault is {FAULT:+.0%}); "
        f"{percent(found.slope)} {per} (99 %: {percent(found.low)} to {percent(found.high)}), {level}"
    )
    if found.surely > math.log1p(LEAST / 5) and found.growth > math.log1p(LEAST):
        if why := excuse(found, points, load, blind) or doubt:
            return Judgement(name, "unknown", f"{why}; slower by {rate}", figures)
        return Judgement(name, "fail", f"slower by {rate}", figures)
    if found.at_most < math.log1p(FAULT):
        return Judgement(name, "pass", f"no slower: {rate}", figures)
    if found.step and found.growth > math.log1p(LEAST):
        return Judgement(name, "unknown", f"{STEP}: {rate}", figures)
    busy = "" if blind else pressure(load, points[0][3][0], points[-1][3][1])
    needed = f"about {more(found, len(points))} {units} are needed"
    why = f"they scatter too much to exclude it, {needed}" + (f"; on the host {busy}" if busy else "")
    return Judgement(name, "unknown", f"{why}: {rate}", figures)


def excuse(found: Trend, points: Timed, load: Load, blind: bool) -> str:
    """Why a certain rise may not be the share's fault; nothing if it is."""
    if blind:
        return "how busy the host was is not recorded"
    waited = [load.io_pressure(*when) for *_, when in points]
    if (risen := rise(waited)) > MORE_IO:
        return f"the host waited for I/O {risen:.0%} more of the time at the end than at the beginning"
    if found.step:
        return STEP
    if found.late < found.slope / STEADY:
        return "it does not go on in the second half: something may have filled up"
    return ""


def more(found: Trend, count: int) -> int:
    """How many points would make the interval narrow enough: over the same span its width goes with the root."""
    half = max(found.at_most - found.growth, 1e-9)
    room = math.log1p(FAULT) - max(0.0, min(found.growth, math.log1p(LEAST)))
    needed = count * (half / room) ** 2 if math.isfinite(half) else 4.0 * count
    return max(count + 1, math.ceil(min(needed, 1e6) / 10) * 10)


def percent(logarithm: float, digits: int = 2) -> str:
    """A logarithm as a percentage: +3.10%; words if it is too large to be meaningful."""
    if logarithm > math.log(100):
        return "more than a hundredfold"
    return f"{math.expm1(logarithm):+.{digits}%}"


def figures_of(found: Trend) -> dict[str, float]:
    """The numbers of a judgement, as fractions."""

    def share(logarithm: float) -> float:
        return math.expm1(min(logarithm, 50.0))

    return {
        "share_per_step": share(found.slope),
        "low_per_step": share(found.low),
        "high_per_step": share(found.high),
        "growth": share(found.growth),
        "surely": share(found.surely),
        "at_most": share(found.at_most),
        "fault": FAULT,
        "points": float(found.points),
    }
