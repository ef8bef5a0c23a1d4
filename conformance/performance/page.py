"""The page of a benchmark: one self-contained file."""

from __future__ import annotations

import math

from markupsafe import Markup

from conformance.evidence.overview import count
from conformance.evidence.templates import templates_of
from conformance.performance.judging import CONFIDENCE, against, cliffs, crossings, to_control, typical
from conformance.performance.measures import ABOUT, AXES
from conformance.performance.plot import svg
from conformance.performance.record import CONTROL, OTHER, OTHER_CONTROL, SHARE, Bench, Measured
from conformance.performance.statistics import Interval, figure, rounds_needed

LABELS = {SHARE: "share", CONTROL: "guest's own", OTHER: "other", OTHER_CONTROL: "other's guest's own"}
"""How the page calls the subjects."""


def page(bench: Bench) -> str:
    """The HTML."""
    templates = templates_of("conformance.performance")
    templates.filters.update(typical=typical, figure=figure, bar=_bar, ratio=_ratio, crossings=crossings)
    groups: dict[str, list[Measured]] = {}
    for measured in bench.measures:
        groups.setdefault(measured.group, []).append(measured)
    return templates.get_template("bench.html").render(
        bench=bench,
        environment=bench.environment,
        groups=groups,
        other=OTHER in bench.subjects,
        two_guests=OTHER_CONTROL in bench.subjects,
        against=against,
        to_control=to_control,
        to_other_control=lambda measured: to_control(measured, OTHER),
        sentence=sentence(bench),
        cliffs=cliffs(bench),
        other_cliffs=cliffs(bench, OTHER) if OTHER in bench.subjects else [],
        curves=_curves(bench),
        labels=LABELS,
        legend=[(LABELS[name], number) for number, name in enumerate(bench.subjects)],
        about={measured.work: ABOUT.get(measured.work, "") for measured in bench.measures},
        costs=_costs(bench),
        costs_none=any(measured.crossed(SHARE) == 0 for measured in bench.measures),
        confidence=f"{CONFIDENCE:.0%}",
        too_few=bench.rounds < rounds_needed(CONFIDENCE),
        needed=rounds_needed(CONFIDENCE),
        shown=[name for name in (SHARE, CONTROL, OTHER) if name in bench.subjects],
    )


def _costs(bench: Bench) -> list[tuple[Measured, str, bool]]:
    """(measure, subject, whether it is the measure's first line) where messages were counted."""
    return [
        (measured, subject, number == 0)
        for measured in bench.measures
        if measured.measured
        for number, subject in enumerate(name for name in bench.subjects if name in measured.messages)
    ]


def _ratio(found: Interval | None) -> str:
    """The interval; where there are too few rounds for one, which the page says once, the ratio alone."""
    if found is None:
        return ""
    return str(found) if found.high < math.inf else figure(found.ratio)


def sentence(bench: Bench) -> str:
    """The result in one line."""
    whole = [measured for measured in bench.measures if measured.measured]
    if OTHER not in bench.subjects:
        return f"{count(len(whole), 'measure')}, each beside the guest's own file system"
    beside = [found for measured in whole if (found := against(measured)) is not None]
    faster = sum(1 for found in beside if found.high < 1)
    slower = sum(1 for found in beside if found.low > 1)
    return (
        f"beside {bench.against}: faster in {faster}, slower in {slower}, "
        f"no significant difference in {len(beside) - faster - slower} of {count(len(beside), 'measure')}"
    )


def _bar(found: Interval | None) -> Markup:
    """A ratio as a bar about 1, each doubling 14 pixels wide; right and red is slower."""
    if found is None:
        return Markup("")
    doublings = max(-5.0, min(5.0, math.log2(found.ratio)))
    begin, width = (70.0, doublings * 14) if doublings >= 0 else (70 + doublings * 14, -doublings * 14)
    sure = found.low > 1 or found.high < 1
    kind = ("slow" if doublings > 0 else "fast") if sure else "open"
    return Markup(
        f'<svg class="bar" viewBox="0 0 140 12"><line x1="70" x2="70" y1="0" y2="12"/>'
        f'<rect class="{kind}" x="{begin:.1f}" y="2" width="{max(width, 1):.1f}" height="8"/></svg>'
    )


def _curves(bench: Bench) -> list[tuple[str, str, Markup]]:
    """(title, what it is, picture) of each series with two points or more."""
    series: dict[str, list[Measured]] = {}
    for measured in bench.measures:
        if measured.series and measured.measured:
            series.setdefault(measured.series, []).append(measured)
    return [
        (
            name,
            f"{ABOUT.get(points[0].work, points[0].work)}: time of one {points[0].unit}",
            svg(
                name,
                AXES.get(points[0].axis, points[0].axis),
                {
                    subject: {p.at: p.seconds[subject] for p in points if p.seconds.get(subject)}
                    for subject in bench.subjects
                },
            ),
        )
        for name, points in series.items()
        if len(points) > 1
    ]
