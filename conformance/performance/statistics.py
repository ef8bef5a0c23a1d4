"""Ratios with intervals that need no assumption about the distribution of times.

Two estimates of Hodges and Lehmann, with the exact intervals of Wilcoxon's tests: for pairs that were measured beside
each other (`paired`), and for two samples that were not (`unpaired`). A benchmark has few rounds, and their noise has
heavy tails: a bootstrap of ten values covers less than it promises, and a mean follows the one round in which the host
was busy. Ratios are compared as logarithms, so that "twice" and "half" are equally far from 1.

Source: Hollander & Wolfe, Nonparametric Statistical Methods, 3.2-3.3 (signed ranks) and 4.2-4.3 (rank sums). No library
that the suite depends on has these intervals.

Rule of this module: pure.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median


@dataclass(frozen=True, slots=True)
class Interval:
    """A ratio and the interval that holds the true one with the requested confidence."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        """1.31 (1.27 to 1.36)."""
        if math.isinf(self.high):
            return f"{figure(self.ratio)} (too few rounds)"
        return f"{figure(self.ratio)} ({figure(self.low)} to {figure(self.high)})"


def figure(ratio: float) -> str:
    """Three significant digits: 0.0312, 1.31, 131."""
    return f"{ratio:.{max(0, 2 - math.floor(math.log10(ratio)))}f}" if 0 < ratio < math.inf else f"{ratio:g}"


def paired(ratios: Sequence[float], confidence: float) -> Interval:
    """The ratio of pairs, each measured in one round; the interval is open if there are too few."""
    logs = [math.log(ratio) for ratio in ratios]
    means = sorted((a + b) / 2 for i, a in enumerate(logs) for b in logs[i:])
    return _interval(means, _cut(_signed_ranks(len(logs)), confidence))


def unpaired(these: Sequence[float], those: Sequence[float], confidence: float) -> Interval:
    """The ratio of two samples that were measured separately."""
    steps = sorted(math.log(a) - math.log(b) for a, b in product(these, those))
    return _interval(steps, _cut(_rank_sums(len(these), len(those)), confidence))


def rounds_needed(confidence: float) -> int:
    """The fewest rounds with which `paired` has an interval."""
    return next(count for count in range(1, 100) if _cut(_signed_ranks(count), confidence))


def for_each(confidence: float, count: int) -> float:
    """The confidence of each of so many statements that gives all together this confidence (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, count)


def _interval(ordered: Sequence[float], cut: int) -> Interval:
    if not ordered:
        return Interval(math.nan, 0.0, math.inf)
    low, high = (ordered[cut - 1], ordered[-cut]) if cut else (-math.inf, math.inf)
    return Interval(math.exp(median(ordered)), math.exp(low), math.exp(high))


def _cut(ways: Sequence[int], confidence: float) -> int:
    """Ordered values outside at either end: the largest C with P(statistic < C) <= (1 - confidence) / 2."""
    allowed, total, seen = (1 - confidence) / 2, sum(ways), 0
    for value, count in enumerate(ways):
        seen += count
        if seen / total > allowed * (1 + 1e-9):
            return value
    return len(ways)


@functools.cache
def _signed_ranks(count: int) -> tuple[int, ...]:
    """In how many ways the positive ranks of so many pairs add up to 0, 1, 2, ..."""
    ways = [1]
    for rank in range(1, count + 1):
        longer = [*ways, *[0] * rank]
        for value, number in enumerate(ways):
            longer[value + rank] += number
        ways = longer
    return tuple(ways)


@functools.cache
def _rank_sums(these: int, those: int) -> tuple[int, ...]:
    """In how many ways 0, 1, 2, ... pairs of two samples are in the wrong order (Mann and Whitney's U)."""
    if not these or not those:
        return (1,)
    with_last, without = _rank_sums(these - 1, those), _rank_sums(these, those - 1)
    ways = [0] * (these * those + 1)
    for value, number in enumerate(with_last):
        ways[value + those] += number
    for value, number in enumerate(without):
        ways[value] += number
    return tuple(ways)
