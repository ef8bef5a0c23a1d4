"""Plots as inline SVG: a few lines or dots over the run's working time, with faults shaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH, HEIGHT = 760, 190
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 12, 30
MOST = 700
"""Points of a line; longer ones are thinned, keeping the lowest and the highest of each stretch."""
COLOURS = ("#0550ae", "#b3261e", "#1a7f37", "#7b3fb5", "#9a4f00")

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Span:
    """A marked stretch of time, in seconds of work."""

    begin: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """The content of one picture: `dots`, and `lines` that are joined."""

    title: str
    unit: str
    lines: dict[str, Points] = field(default_factory=dict)
    dots: dict[str, Points] = field(default_factory=dict)
    bad: Points = ()
    """Dots that failed."""

    @property
    def empty(self) -> bool:
        """Nothing was measured."""
        return not any(self.lines.values()) and not any(self.dots.values())


def thinned(points: Points, most: int = MOST) -> list[tuple[float, float]]:
    """At most about `most` points with the same outline."""
    if len(points) <= most:
        return list(points)
    step = math.ceil(len(points) / (most // 2))
    out: list[tuple[float, float]] = []
    for at in range(0, len(points), step):
        part = points[at : at + step]
        out += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return out


def ticks(most: float, count: int = 4) -> list[float]:
    """Round values from 0 up to `most`."""
    if most <= 0:
        return [0.0]
    raw = most / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next((s * size for s in (1, 2, 5, 10) if s * size >= raw), 10 * size)
    return [i * step for i in range(math.floor(most / step) + 1)]


def hours(seconds: float, total: float) -> str:
    """A moment on the axis."""
    if total >= 3 * 3600:
        return f"{seconds / 3600:g} h"
    return f"{seconds / 60:g} min" if total >= 180 else f"{seconds:g} s"


def time_ticks(total: float) -> list[float]:
    """Round moments up to `total` seconds."""
    steps = (1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800)
    step = next((s for s in steps if total / s <= 8), 604800)
    return [float(t) for t in range(0, int(total) + 1, step)]


def svg(plot: Plot, total: float, spans: Sequence[Span]) -> Markup:
    """The picture; its title and legend are text in it."""
    drawn = [y for points in (*plot.lines.values(), *plot.dots.values(), plot.bad) for _, y in points]
    top = max(drawn, default=1.0) * 1.06 or 1.0
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at: float) -> float:
        return LEFT + wide * min(max(at, 0.0), total) / (total or 1.0)

    def y(value: float) -> float:
        return TOP + high * (1 - max(0.0, value) / top)

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(plot.title)}">']
    for span in spans:
        width = max(1.5, x(span.end) - x(span.begin))
        out.append(
            f'<rect class="span" x="{x(span.begin):.1f}" y="{TOP}" width="{width:.1f}" height="{high}">'
            f"<title>{escape(span.label)}</title></rect>"
        )
    for value in ticks(top):
        out.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text class="y" x="{LEFT - 6}" y="{y(value) + 4:.1f}">{value:g}</text>'
        )
    for at in time_ticks(total):
        out.append(f'<text class="x" x="{x(at):.1f}" y="{HEIGHT - 12}">{hours(at, total)}</text>')
    for number, points in enumerate(plot.lines.values()):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in thinned(points))
        out.append(f'<polyline points="{path}" stroke="{COLOURS[number % len(COLOURS)]}"/>')
    for number, points in enumerate(plot.dots.values(), len(plot.lines)):
        colour = COLOURS[number % len(COLOURS)]
        out += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="2.4" fill="{colour}"/>' for a, b in thinned(points)]
    out += [f'<path class="bad" d="M{x(a) - 4:.1f} {y(b) - 4:.1f}l8 8m0 -8l-8 8"/>' for a, b in plot.bad]
    out.append("</svg>")
    return Markup("".join(out))


def legend(plot: Plot) -> list[tuple[str, str]]:
    """(name, colour) of each series."""
    names = [*plot.lines, *plot.dots]
    return [(name, COLOURS[number % len(COLOURS)]) for number, name in enumerate(names)]
