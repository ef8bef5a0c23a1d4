"""Whether numbers rise: Theil and Sen's slope with its confidence interval from Kendall's test.

Many points are first reduced to medians of blocks, because a sample depends on the previous one. The remaining
dependence is measured (the correlation of neighbouring residuals) and widens the interval. Robust against outliers, no
assumption about their distribution.

`adjusted` removes what the load of the host explains. How much the load affects a value (`weight`) is estimated from
neighbours, between which a slow trend does not matter. Because that estimate is uncertain, the slope is also computed
for the smallest and the largest plausible weight, and its interval covers all of them. So a host that gets busier at
the same pace as the share gets slower gives a wide interval, never a wrong one.

Sources: Hollander & Wolfe, Nonparametric Statistical Methods, 9.1 and 9.3 (normal approximation); Yue & Wang, The
Mann-Kendall test modified by effective sample size (Water Resources Management 18, 2004).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, fmean, median, pstdev

BLOCKS = 60
FEWEST = 8
"""Blocks or points below which nothing is said."""
MOST_CORRELATED = 0.97
"""A correlation of neighbours above this is taken as this: the interval is as good as infinite then."""
HEAVIEST = 1.5
"""The largest plausible weight. Where processors are shared fairly a task that computes feels a weight of 1."""
ATTENUATED = 1.5
"""The weight may be so many times what neighbours show: the load is measured with an error, which hides some of it."""
FAIR = 1.2
"""Where the load itself rises or falls the largest plausible weight is at least this: what neighbours show is too low
where they differ by less than the error of the load, and a trend of the load would then pass for one of the share."""
PARTS = 8
"""Stretches of which each is left out once to see how certain the weight is (jackknife)."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through points: slope per unit of x with its interval, the median level, the covered range of x."""

    slope: float
    low: float
    high: float
    level: float
    span: float
    points: int
    late: float = 0.0
    """The slope of the second half alone."""
    scatter: float = 0.0
    """Standard deviation of the residuals, by the median of their absolute values."""
    spread: float = 0.0
    """The highest value less the lowest one."""
    step: bool = False
    """One step up explains the points clearly better than a slope."""

    @property
    def growth(self) -> float:
        """How much the values rose over the span."""
        return self.slope * self.span

    @property
    def surely(self) -> float:
        """The least rise over the span in the interval; negative if it does not exclude a fall."""
        return self.low * self.span

    @property
    def at_most(self) -> float:
        """The largest rise over the span that the interval allows."""
        return self.high * self.span

    @property
    def moved_at_most(self) -> float:
        """The same for numbers without other influences: they cannot have risen by more than they changed at all."""
        return min(self.at_most, self.spread)


def blocks(points: Points, count: int = BLOCKS) -> list[tuple[float, float]]:
    """Medians of `count` stretches of equal length in x, or fewer if there are fewer points."""
    return [(x, y) for x, y, _ in blocks_with_load([(x, y, 0.0) for x, y in points], count)]


def blocks_with_load(
    points: Sequence[tuple[float, float, float]], count: int = BLOCKS
) -> list[tuple[float, float, float]]:
    """`blocks` of points that carry a load."""
    if len(points) <= count:
        return list(points)
    begin, end = points[0][0], points[-1][0]
    width = (end - begin) / count or 1.0
    found: dict[int, list[tuple[float, float, float]]] = {}
    for point in points:
        found.setdefault(min(count - 1, int((point[0] - begin) / width)), []).append(point)
    return [
        (median(p[0] for p in b), median(p[1] for p in b), median(p[2] for p in b)) for _, b in sorted(found.items())
    ]


def trend(points: Points, confidence: float = 0.99, count: int = BLOCKS) -> Trend | None:
    """The trend of points sorted by x; None if they are too few."""
    made = blocks(points, count)
    if len(made) < FEWEST or made[-1][0] <= made[0][0]:
        return None
    xs, ys = [x for x, _ in made], [y for _, y in made]
    slope, residuals = _slope(xs, ys)
    low, high = _interval(xs, ys, confidence, _inflation(residuals))
    return _made(xs, ys, slope, low, high, residuals)


def adjusted(
    points: Sequence[tuple[float, float, float]], confidence: float = 0.99, count: int = BLOCKS
) -> Trend | None:
    """The trend of (x, y, load) sorted by x, without what the load explains; None if they are too few."""
    made = blocks_with_load(points, count)
    if len(made) < FEWEST or made[-1][0] <= made[0][0]:
        return None
    xs, ys, loads = [p[0] for p in made], [p[1] for p in made], [p[2] for p in made]
    likely, least, most = weight(ys, loads)
    moved = _interval(xs, loads, confidence, _inflation(_slope(xs, loads)[1]))
    if moved[0] > 0 or moved[1] < 0:
        most = max(most, FAIR)
    centre = median(loads)

    def rest(share: float) -> list[float]:
        return [y - share * (load - centre) for y, load in zip(ys, loads, strict=True)]

    slope, residuals = _slope(xs, rest(likely))
    inflation = _inflation(residuals)
    intervals = [_interval(xs, rest(share), confidence, inflation) for share in {least, likely, most}]
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    return _made(xs, rest(likely), slope, low, high, residuals)


def weight(ys: Sequence[float], loads: Sequence[float]) -> tuple[float, float, float]:
    """How much the load affects the values: the likely weight, and the smallest and the largest plausible one.

    From the differences of neighbours, by the weighted median of their ratios (the line through the origin with the
    least absolute deviations).
    """
    steps = [(b - a, d - c) for a, b, c, d in zip(ys, ys[1:], loads, loads[1:], strict=False)]
    if not any(abs(load) > 1e-9 for _, load in steps):
        # the load never changed: no weight changes anything
        return 0.0, 0.0, 0.0
    found = _through_origin(steps)
    size = max(1, math.ceil(len(steps) / PARTS))
    without = [_through_origin(steps[:k] + steps[k + size :]) for k in range(0, len(steps), size)]
    mean, n = fmean(without), len(without)
    error = math.sqrt((n - 1) / n * sum((w - mean) ** 2 for w in without))
    # the jackknife of a median is rough, and few differences prove little: never claim more than the scatter allows
    scatter = 1.4826 * median(abs(y - found * load) for y, load in steps)
    size_of_loads = math.sqrt(sum(load * load for _, load in steps))
    error = max(error, 1.25 * scatter / size_of_loads)
    likely = min(HEAVIEST, max(0.0, found))
    return likely, max(0.0, likely - 2 * error), min(HEAVIEST, max(ATTENUATED * likely, likely + 2 * error))


def _through_origin(steps: Sequence[tuple[float, float]]) -> float:
    """The weighted median of y / load with weights |load|."""
    ratios = sorted((y / load, abs(load)) for y, load in steps if abs(load) > 1e-9)
    half, reached = sum(w for _, w in ratios) / 2, 0.0
    for ratio, size in ratios:
        reached += size
        if reached >= half:
            return ratio
    return 0.0


def _slope(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, list[float]]:
    """Theil and Sen's slope, and the residuals of that line."""
    slope = median(_slopes(xs, ys))
    level = median(y - slope * x for x, y in zip(xs, ys, strict=True))
    return slope, [y - slope * x - level for x, y in zip(xs, ys, strict=True)]


def _slopes(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    """The slope of each pair of points."""
    n = len(xs)
    return [(ys[j] - ys[i]) / (xs[j] - xs[i]) for i in range(n) for j in range(i + 1, n) if xs[j] > xs[i]]


def _interval(xs: Sequence[float], ys: Sequence[float], confidence: float, inflation: float) -> tuple[float, float]:
    """The interval of the slope: from the distribution of Kendall's statistic, then widened if points are dependent.

    It is stretched about the slope by the root of the inflation of the variance. Inflating the variance of Kendall's
    statistic instead would leave even a line without noise open if neighbours are strongly correlated.
    """
    n, slopes = len(xs), sorted(_slopes(xs, ys))
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    width, total = NormalDist().inv_cdf(0.5 + confidence / 2) * deviation, len(slopes)
    low, high = max(0, math.floor((total - width) / 2)), min(total - 1, math.ceil((total + width) / 2))
    slope, stretch = median(slopes), math.sqrt(inflation)
    return slope - stretch * (slope - slopes[low]), slope + stretch * (slopes[high] - slope)


def _inflation(residuals: Sequence[float]) -> float:
    """By which factor correlated neighbours increase the variance; 1 if they are not correlated."""
    n, bent = len(residuals), _unbent(residuals)
    if pstdev(bent) == 0:
        return 1.0
    # outliers are clipped, or one of them would hide the correlation of its neighbours
    most = 3 * 1.4826 * median(abs(r) for r in bent) or pstdev(bent)
    cut = [max(-most, min(most, r)) for r in bent]
    total = sum(r * r for r in cut)
    alike = sum(a * b for a, b in pairwise(cut)) / total if total else 0.0
    # residuals of a fitted curve look less correlated than they are, by one in n for each of its coefficients (Marriott
    # & Pope, Bias in the estimation of autocorrelations, Biometrika 41, 1954)
    alike = min(MOST_CORRELATED, (alike * n + 3) / (n - 3))
    return (1 + alike) / (1 - alike) if alike > 0 else 1.0


def _unbent(residuals: Sequence[float]) -> list[float]:
    """Without their curvature: the logarithm of a steady rise is curved, which is not a correlation of neighbours."""
    n = len(residuals)
    xs = [2 * i / (n - 1) - 1 for i in range(n)]
    mean = fmean(x * x for x in xs)
    curve = [x * x - mean for x in xs]
    level = fmean(residuals)
    bend = sum(c * r for c, r in zip(curve, residuals, strict=True)) / sum(c * c for c in curve)
    flat = [r - level - bend * c for c, r in zip(curve, residuals, strict=True)]
    tilt = sum(x * r for x, r in zip(xs, flat, strict=True)) / sum(x * x for x in xs)
    return [r - tilt * x for x, r in zip(xs, flat, strict=True)]


def _made(
    xs: Sequence[float], ys: Sequence[float], slope: float, low: float, high: float, residuals: Sequence[float]
) -> Trend:
    half = len(xs) // 2
    late, _ = _slope(xs[half:], ys[half:])
    return Trend(
        slope=slope,
        low=low,
        high=high,
        level=median(ys),
        span=xs[-1] - xs[0],
        points=len(xs),
        late=late,
        scatter=1.4826 * median(abs(r) for r in residuals),
        spread=max(ys) - min(ys),
        step=_stepped(ys, residuals),
    )


STEPPED = 0.75
"""A step explains points better than a slope where it leaves less than this share of the absolute residuals."""


def _stepped(ys: Sequence[float], residuals: Sequence[float]) -> bool:
    """Whether two levels fit clearly better than the line."""
    n, line = len(ys), sum(abs(r) for r in residuals)
    least = math.inf
    for cut in range(3, n - 2):
        before, after = median(ys[:cut]), median(ys[cut:])
        left = sum(abs(y - before) for y in ys[:cut]) + sum(abs(y - after) for y in ys[cut:])
        least = min(least, left)
    return least < STEPPED * line
