"""Evaluates the times of a benchmark: ratios, cliffs, and whether a threshold is passed with confidence.

Rule of this module: pure; a record in, statements out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from conformance.performance.record import CONTROL, OTHER, OTHER_CONTROL, SHARE, Bench, Measured
from conformance.performance.statistics import Interval, figure, for_each, paired, rounds_needed, unpaired

CONFIDENCE = 0.99
SLOWER = 0.20
CLIFF = 2.0
"""Between neighbours of a curve one unit may take so many times as long before the place is pointed out."""


def ratio(measured: Measured, of: str, to: str, confidence: float = CONFIDENCE) -> Interval | None:
    """The ratio of the times of `of` and `to`; None if one of them was not measured."""
    these, those = measured.seconds.get(of), measured.seconds.get(to)
    if not these or not those:
        return None
    return paired([a / b for a, b in zip(these, those, strict=False)], confidence)


def to_control(measured: Measured, share: str = SHARE, confidence: float = CONFIDENCE) -> Interval | None:
    """The ratio of a share's time to that of the file system of its own guest."""
    control = OTHER_CONTROL if share == OTHER and OTHER_CONTROL in measured.seconds else CONTROL
    return ratio(measured, share, control, confidence)


def against(measured: Measured, confidence: float = CONFIDENCE) -> Interval | None:
    """The ratio of the share's time to the other's."""
    return ratio(measured, SHARE, OTHER, confidence)


@dataclass(frozen=True, slots=True)
class Cliff:
    """Two neighbouring points of a curve between which the cost of one unit jumps."""

    series: str
    subject: str
    at: str
    beside: str
    times: Interval

    def __str__(self) -> str:
        """One line."""
        return f"{self.series}: at {self.at} one takes {self.times} times as long as at {self.beside}"


def cliffs(bench: Bench, subject: str = SHARE, confidence: float = CONFIDENCE) -> list[Cliff]:
    """The cliffs of a subject's curves, the confidence holding for all of them together."""
    curves: dict[str, list[Measured]] = {}
    for measured in bench.measures:
        if measured.series and measured.seconds.get(subject):
            curves.setdefault(measured.series, []).append(measured)
    steps = [(name, pair) for name, points in curves.items() for pair in pairwise(sorted(points, key=lambda p: p.at))]
    each, found = for_each(confidence, len(steps)), []
    for name, (lower, upper) in steps:
        rise = unpaired(upper.seconds[subject], lower.seconds[subject], each)
        fall = unpaired(lower.seconds[subject], upper.seconds[subject], each)
        for times, worse, better in ((rise, upper, lower), (fall, lower, upper)):
            if times.low > CLIFF:
                found.append(Cliff(name, subject, f"{worse.axis} {worse.at:,}", f"{better.at:,}", times))
    return found


@dataclass(frozen=True, slots=True)
class Slower:
    """One measure and its reference."""

    name: str
    times: Interval
    """How many times as long it takes."""
    surely: bool
    """The whole interval is past the threshold."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The gate's verdict on a benchmark."""

    status: int
    """0 nothing is surely slower; 1 something is; 3 the measurements do not decide it."""
    why: str
    judged: list[Slower]

    @property
    def slower(self) -> list[Slower]:
        """What is slower with confidence."""
        return [one for one in self.judged if one.surely]


def judge(
    bench: Bench, baseline: Bench | None = None, slower: float = SLOWER, confidence: float = CONFIDENCE
) -> Judgement:
    """Whether something is slower, with confidence and by more than `slower`, than the other (--against) or before.

    "Before" means a baseline, compared by the ratios to the guests' own file systems. The confidence holds for all
    measures together, so noise fails a gate in at most one of a hundred runs, however many measures there are.
    """
    named = {measured.name: measured for measured in baseline.measures} if baseline is not None else {}
    pairs = [
        (measured, named.get(measured.name))
        for measured in bench.measures
        if SHARE in measured.seconds and (OTHER in measured.seconds if baseline is None else measured.name in named)
    ]
    each = for_each(confidence, len(pairs))
    judged = []
    for measured, then in pairs:
        times = against(measured, each) if then is None else _since(measured, then, each)
        if times is not None:
            judged.append(Slower(measured.name, times, times.low > 1 + slower))
    lost = [measured for measured in bench.measures if measured.failed]
    here = {measured.name for measured in bench.measures if not measured.left_out}
    missing = [name for name, then in named.items() if name not in here and not then.left_out]
    limit = f"{slower:.0%} slower with {confidence:.0%} confidence"
    if surely := [one for one in judged if one.surely]:
        worst = max(surely, key=lambda one: one.times.low)
        return Judgement(1, f"{len(surely)} of {len(judged)} are {limit}: {worst.name} by {worst.times}", judged)
    if not judged:
        wants = "no measure is in both runs" if baseline is not None else "run it with --against, or give a --baseline"
        return Judgement(3, f"no verdict: there is nothing to compare with: {wants}", judged)
    if not bench.whole or lost or missing:
        what = [f"{len(lost)} could not be measured"] if lost else []
        what += [f"{len(missing)} of the baseline were not measured"] if missing else []
        what += [] if bench.whole else ["the benchmark did not finish"]
        return Judgement(3, f"no verdict: {', '.join(what)}", judged)
    if any(one.times.high == float("inf") for one in judged):
        return Judgement(3, f"no verdict: {len(judged)} measures need {rounds_needed(each)} rounds or more", judged)
    return Judgement(0, f"nothing of {len(judged)} is {limit}", judged)


def _since(measured: Measured, then: Measured, confidence: float) -> Interval | None:
    now, before = _to_control(measured), _to_control(then)
    return unpaired(now, before, confidence) if now and before else None


def _to_control(measured: Measured) -> list[float]:
    share, control = measured.seconds.get(SHARE, []), measured.seconds.get(CONTROL, [])
    return [a / b for a, b in zip(share, control, strict=False)]


def typical(seconds: Sequence[float]) -> str:
    """The median as a person reads it: 214 µs, 1.2 ms."""
    value = median(seconds)
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{figure(value / size)} {unit}"
    return f"{figure(value / 1e-9)} ns"


def crossings(messages: Mapping[str, float]) -> str:
    """The messages of one unit, the most frequent first: 'Twalk 1, Tclunk 1'."""
    ordered = sorted(messages.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{name} {count:.3g}" for name, count in ordered)
