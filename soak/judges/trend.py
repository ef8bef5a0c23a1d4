"""Whether numbers rise: Theil and Sen's slope with its confidence interval from Kendall's test.

Medians of blocks are taken first: a sample depends on the one before it, and without that the interval would be far
too narrow. Robust against outliers, no assumption about their distribution. Source: Hollander & Wolfe,
Nonparametric Statistical Methods, 9.1 and 9.3 (normal approximation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

BLOCKS = 60
FEWEST = 8
"""Blocks or points below which nothing is said."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through points: slope per unit of x with its interval, the median level, the x that were covered."""

    slope: float
    low: float
    high: float
    level: float
    span: float
    points: int

    @property
    def growth(self) -> float:
        """How much the values rose over the span."""
        return self.slope * self.span

    @property
    def surely(self) -> float:
        """The rise over the span that the interval vouches for; negative where it does not even vouch for one."""
        return self.low * self.span


def blocks(points: Points, count: int = BLOCKS) -> list[tuple[float, float]]:
    """Medians of `count` stretches of equal length in x, fewer where the points are fewer."""
    if len(points) <= count:
        return list(points)
    begin, end = points[0][0], points[-1][0]
    width = (end - begin) / count or 1.0
    found: dict[int, list[tuple[float, float]]] = {}
    for x, y in points:
        found.setdefault(min(count - 1, int((x - begin) / width)), []).append((x, y))
    return [(median(x for x, _ in b), median(y for _, y in b)) for _, b in sorted(found.items())]


def trend(points: Points, confidence: float = 0.99, count: int = BLOCKS) -> Trend | None:
    """The trend of points sorted by x; None where they are too few to tell."""
    made = blocks(points, count)
    n = len(made)
    if n < FEWEST or made[-1][0] <= made[0][0]:
        return None
    slopes = sorted((made[j][1] - made[i][1]) / (made[j][0] - made[i][0])
                    for i in range(n) for j in range(i + 1, n) if made[j][0] > made[i][0])  # fmt: skip
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    width = NormalDist().inv_cdf(0.5 + confidence / 2) * deviation
    total = len(slopes)
    low = slopes[max(0, math.floor((total - width) / 2))]
    high = slopes[min(total - 1, math.ceil((total + width) / 2))]
    return Trend(median(slopes), low, high, median(y for _, y in made), made[-1][0] - made[0][0], n)
