"""The page: one self-contained file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from conformance.evidence.templates import templates_of
from soak.judges.record import Clock
from soak.plan import duration
from soak.report.facts import Facts, when
from soak.report.plot import Plot, Span, legend, svg

ROWS = 400
"""Rows of the iterations table; of longer ones the failures, the first and the last are shown."""

_LATENCY = (
    ("stat_p50", "stat, median"),
    ("stat_p99", "stat, p99"),
    ("sync_p50", "write + fsync, median"),
    ("sync_p99", "write + fsync, p99"),
)


def plots_of(facts: Facts) -> list[Plot]:
    """Every plot that is not empty."""
    record, clock = facts.record, facts.record.clock()
    every = {name for sample in record.samples for name in sample.values}

    def line(name: str) -> list[tuple[float, float]]:
        return record.series(name, quiet=False) if name in every else []

    def lines(**names: str) -> dict[str, Any]:
        return {shown: points for name, shown in names.items() if (points := line(name.replace("__", ".")))}

    dots = {
        w: [(clock(i.ended_at or i.at), i.seconds) for i in record.ended(w) if i.outcome == "pass"]
        for w in record.workloads()
    }
    bad = [(clock(i.ended_at or i.at), i.seconds) for i in record.iterations if i.outcome in ("fail", "error")]
    rates = {
        w: [
            (clock(i.ended_at or i.at), float(i.data.get("ops", 0)) / i.seconds)
            for i in record.ended(w)
            if i.outcome == "pass" and i.seconds and i.data.get("ops")
        ]
        for w in record.workloads()
    }
    made = [
        Plot("Time of an iteration", "s", dots={w: p for w, p in dots.items() if p}, bad=bad),
        Plot(
            "Latency of calls on the share",
            "ms",
            {words: points for name, words in _LATENCY if (points := line(f"probe.{name}"))},
        ),
        Plot("Longest call of each look", "ms", lines(probe__stat_max="stat", probe__sync_max="write + fsync")),
        Plot("9P messages", "a second", lines(msg__total="requests", msg__errors="replies that are errors")),
        Plot("Work", "units a second", dots={w: p for w, p in rates.items() if p}),
        Plot("Memory of the device", "MB", lines(device__own_mb="its own", hypervisor__own_mb="the hypervisor's own")),
        Plot("Descriptors and threads of the device", "", lines(device__fds="descriptors", device__threads="threads")),
        Plot("Processors", "cores", lines(device__cpu="device", runner__cpu="runner", host__others="others")),
        Plot(
            "Memory of the guest",
            "MB",
            lines(guest__available_mb="available", guest__slab_mb="slab", guest__dirty_mb="dirty"),
        ),
        Plot("Room in the export", "MB", lines(export__free_mb="free")),
    ]
    return [plot for plot in made if not plot.empty]


def spans_of(facts: Facts, clock: Clock) -> list[Span]:
    """The shaded spans: faults, and restarts of the target."""
    spans = [Span(clock(d.begin), clock(d.end or d.begin + 60), d.name) for d in facts.record.faults()]
    return spans + [
        Span(clock(e.at), clock(e.at) + 5, f"target: {e.data.get('what')}") for e in facts.record.kind("trouble")
    ]


def rows_of(facts: Facts) -> tuple[list[dict[str, Any]], int]:
    """The rows of the iterations table, and how many were left out."""
    clock, made = facts.record.clock(), []
    for i in facts.record.iterations:
        ops = float(i.data.get("ops", 0))
        made.append(
            {
                "workload": i.workload,
                "number": i.number,
                "at": duration(clock(i.at)),
                "outcome": i.outcome or "cut off",
                "seconds": f"{i.seconds:.1f}" if i.outcome else "",
                "ops": f"{ops:g}" if ops else "",
                "rate": f"{ops / i.seconds:.1f}" if ops and i.seconds else "",
                "what": i.data.get("what", ""),
            }
        )
    if len(made) <= ROWS:
        return made, 0
    odd = [row for row in made[100:-100] if row["outcome"] != "pass"]
    shown = [*made[:100], *odd[:200], *made[-100:]]
    return shown, len(made) - len(shown)


def page_of(facts: Facts) -> str:
    """The page as text."""
    clock = facts.record.clock()
    spans = spans_of(facts, clock)
    rows, left_out = rows_of(facts)
    drawn = [(plot, svg(plot, facts.worked, spans), legend(plot)) for plot in plots_of(facts)]
    return rendered(
        "report.html",
        facts=facts,
        plots=drawn,
        rows=rows,
        left_out=left_out,
        spans=spans,
        clock=clock,
        faults=facts.record.faults(),
        sessions=facts.record.sessions,
    )


def rendered(template: str, **values: object) -> str:
    """A page rendered from a template of this package, in their common style."""
    templates = templates_of("soak.report")
    templates.filters.update(when=when, duration=duration)
    style = Markup((Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8"))
    return templates.get_template(template).render(style=style, **values)
