"""Iterations that take longer and longer, calls that answer later and later."""

from __future__ import annotations

import math
from statistics import median

from soak.judges.record import Judgement, Record
from soak.judges.trend import FEWEST, Trend, trend

LEAST = 0.05
"""Growth over the run below which nothing is called a slowdown."""
BUSIER = 0.15
"""Cores that others use more of at the end than at the beginning; then the machine may be what got slower."""


def slowdowns(record: Record) -> list[Judgement]:
    """One for each workload, and one for each kind of latency."""
    made = [iteration_time(record, name) for name in record.workloads()]
    return made + [latency(record, kind, words) for kind, words in (("stat", "stat"), ("sync", "write and fsync"))]


def iteration_time(record: Record, workload: str) -> Judgement:
    """Whether its iterations take longer; the logarithm of the time, so that a slope is a share an iteration."""
    name = f"slowdown: iterations of {workload}"
    spans = record.disturbed()
    whole = [i for i in record.ended(workload) if i.outcome == "pass" and i.seconds > 0]
    calm = [i for i in whole if not any(i.at <= end and begin <= (i.ended_at or i.at) for begin, end in spans)]
    # the first fills caches; where iterations are few it is kept, it can only hide a slowdown
    points = [(float(i.number), math.log(i.seconds)) for i in (calm[1:] if len(calm) > 12 else calm)]
    found = trend(points, count=240)
    if found is None:
        return Judgement(name, "unknown", f"{len(points)} undisturbed iterations, {FEWEST} are the fewest that tell")
    clock = record.clock()
    return judged(name, found, "an iteration", f"median {median(i.seconds for i in calm):.1f} s, {len(points)} of them",
                  record, (clock(calm[0].at), clock(calm[-1].ended_at or calm[-1].at)))  # fmt: skip


def latency(record: Record, kind: str, words: str) -> Judgement:
    """Whether the probe's median of that call rises."""
    name = f"slowdown: latency of {words}"
    points = [(x, math.log(y)) for x, y in record.series(f"probe.{kind}_p50") if y > 0]
    points = points[len(points) // 10 :]
    found = trend([(x / 3600, y) for x, y in points]) if len(points) >= 24 else None
    if found is None:
        return Judgement(name, "unknown", f"{len(points)} undisturbed looks, 24 are the fewest that tell")
    level = f"median {math.exp(found.level):.2f} ms"
    return judged(name, found, "an hour", level, record, (points[0][0], points[-1][0]))


def judged(name: str, found: Trend, per: str, level: str, record: Record, when: tuple[float, float]) -> Judgement:
    """The judgement on a trend of logarithms."""
    share, whole = math.expm1(found.slope), math.expm1(found.growth)
    figures = {"share_per_step": share, "growth": whole, "surely": math.expm1(found.surely)}
    low, high = math.expm1(found.low), math.expm1(found.high)
    rate = f"{share:+.2%} {per} (99 %: {low:+.2%} to {high:+.2%}), {level}"
    if found.low > 0 and whole > LEAST and math.expm1(found.surely) > LEAST / 5:
        if (more := busier(record, when)) > BUSIER:
            why = f"other processes of this host used {more:.2f} cores more at the end; slower by {rate}"
            return Judgement(name, "unknown", why, figures)
        return Judgement(name, "fail", f"slower by {rate}, {whole:+.0%} over the run", figures)
    return Judgement(name, "pass", f"no slower: {rate}", figures)


def busier(record: Record, when: tuple[float, float]) -> float:
    """How many cores more others used in the last third of that time than in the first."""
    points = [y for x, y in record.series("host.others") if when[0] <= x <= when[1]]
    third = len(points) // 3
    return median(points[-third:]) - median(points[:third]) if third else 0.0
