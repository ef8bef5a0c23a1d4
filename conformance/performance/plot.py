"""A curve as inline SVG: the time of one unit against a size, on a logarithmic scale, a dot for each round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from markupsafe import Markup, escape

WIDTH, HEIGHT = 560, 242
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 12, 46
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))

Points = Mapping[int, Sequence[float]]
"""Where on the axis -> seconds of one unit in each round."""


def svg(title: str, axis: str, lines: Mapping[str, Points]) -> Markup:
    """The picture. Each step of the axis has the same width: the values are roughly powers of a number.

    The style sheet of the page colours the lines: the first has the class s0.
    """
    steps = sorted({at for points in lines.values() for at in points})
    values = [value for points in lines.values() for seconds in points.values() for value in seconds if value > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at: int) -> float:
        return LEFT + wide * (steps.index(at) + 0.5) / len(steps)

    def y(value: float) -> float:
        return TOP + tall * (high - math.log10(value)) / (high - low)

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for power in range(low, high + 1):
        at = y(10.0**power)
        out.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="y" x="{LEFT - 6}" y="{at + 4:.1f}">{_tick(power)}</text>'
        )
    out += [f'<text class="x" x="{x(at):.1f}" y="{HEIGHT - 26}">{at:,}</text>' for at in steps]
    out.append(f'<text class="x" x="{LEFT + wide / 2:.1f}" y="{HEIGHT - 5}">{escape(axis)}</text>')
    for number, points in enumerate(lines.values()):
        path = " ".join(f"{x(at):.1f},{y(median(points[at])):.1f}" for at in sorted(points))
        out.append(f'<g class="s{number}"><polyline points="{path}"/>')
        for at, seconds in points.items():
            out += [f'<circle cx="{x(at):.1f}" cy="{y(one):.1f}" r="1.8"/>' for one in seconds if one > 0]
            out.append(f'<circle class="middle" cx="{x(at):.1f}" cy="{y(median(seconds)):.1f}" r="3.2"/>')
        out.append("</g>")
    out.append("</svg>")
    return Markup("".join(out))


def _tick(power: int) -> str:
    size, unit = next(((size, unit) for size, unit in _UNITS if 10.0**power >= size * 0.999), _UNITS[-1])
    return f"{10.0**power / size:g} {unit}"
