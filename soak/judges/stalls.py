"""Stalls: no progress, and replies with unexpected errors."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from soak.judges.load import Load
from soak.judges.record import Judgement, Record

SILENT = 60.0
"""Seconds without a call of the probe coming back that are a stall."""
QUIET = 300.0
"""Seconds without a sign of life of a workload that are a stall; they say something every few seconds."""
LATE = 15.0
"""Seconds by which the runner's own sample came late: the host did not let it run, or slept."""
FULL = 0.9
"""Share of the time in which tasks of the host waited for I/O: its disk does not keep up, a sync may take minutes."""
GRAVE = {5: "EIO", 71: "EPROTO", 74: "EBADMSG", 110: "ETIMEDOUT"}
"""Errnos that no workload brings about, by their number on the wire."""


def stalls(record: Record) -> list[Judgement]:
    """Whether the share and the workloads always made progress."""
    load, held_up = Load(record), late(record)
    made = [silence(record, load, held_up, "probe.age", "the share", SILENT, "no call came back for")]
    for workload in record.workloads():
        made.append(silence(record, load, held_up, f"quiet.{workload}", workload, QUIET, "no sign of life for"))
    return made


def silence(
    record: Record, load: Load, held_up: list[tuple[float, float]], series: str, what: str, limit: float, words: str
) -> Judgement:
    """The judgement on a series of seconds since the last report."""
    name, spans = f"stall: {what}", record.excluded()
    ages = [
        (s.at, s.values[series])
        for s in record.samples
        if series in s.values and not any(a <= s.at <= b for a, b in spans)
    ]
    if not ages:
        return Judgement(name, "unknown", "no sample outside faults")
    bad = [(at, age) for at, age in ages if age >= limit]
    figures = {"longest": max(age for _, age in ages), "fault": limit}
    if not bad:
        return Judgement(name, "pass", f"longest silence {figures['longest']:.0f} s, a fault is {limit:.0f} s", figures)
    for at, age in bad:
        if not (why := excuse(load, held_up, at - age, at)):
            return Judgement(name, "fail", f"{words} {age:.0f} s", figures)
    return Judgement(name, "unknown", f"{words} {figures['longest']:.0f} s, but {why}", figures)


def late(record: Record) -> list[tuple[float, float]]:
    """The times in which the runner itself was late: between two samples too far apart."""
    every, spans = float(record.plan.get("sample_seconds", 10.0)), record.excluded()
    return [
        (a.at, b.at)
        for a, b in pairwise(record.samples)
        if a.session == b.session
        and b.at - a.at > every + LATE
        and not any(begin <= b.at and a.at <= end for begin, end in spans)
    ]


def excuse(load: Load, held_up: list[tuple[float, float]], begin: float, end: float) -> str:
    """Why silence in that time may not be the share's fault; nothing if it is."""
    if any(a <= end and begin <= b for a, b in held_up):
        return "the suite itself did not run then: the host slept, or its processors were busy"
    if (waited := load.io_pressure(begin, end)) is not None and waited >= FULL:
        return f"tasks of the host waited for I/O {waited:.0%} of that time"
    return ""


def messages(record: Record) -> list[Judgement]:
    """Replies with errors that no workload provokes. Requests without any reply are stalls."""
    if not (points := record.series("msg.total")):
        return [Judgement("messages", "unknown", "no count from the guest: its kernel may have no 9p tracepoints")]
    return [errors(record, median(y for _, y in points))]


def errors(record: Record, total: float) -> Judgement:
    """Replies with EIO and similar errors, among the counted ones: one second in some samples."""
    spans = record.excluded()
    times = [s.at for s in record.samples if "msg.total" in s.values]
    seconds = median(b - a for a, b in pairwise(times)) if len(times) > 1 else 10.0
    counts: dict[int, float] = {}
    for sample in record.samples:
        if any(a <= sample.at <= b for a, b in spans):
            continue
        for name, rate in sample.values.items():
            if name.startswith("msg.E"):
                number = int(name[5:])
                counts[number] = counts.get(number, 0.0) + rate * seconds
    bad = {GRAVE[n]: count for n, count in counts.items() if n in GRAVE and count >= 0.5}
    if bad:
        why = ", ".join(f"about {c:.0f} {n}" for n, c in sorted(bad.items()))
        return Judgement("messages: errors", "fail", why, bad)
    shown = ", ".join(f"about {c:.0f} with errno {n}" for n, c in sorted(counts.items())) or "no reply was an error"
    words = f"nothing worse than {shown}" if counts else shown
    return Judgement("messages: errors", "pass", f"{words}; {total:.0f} messages a second (median)")
