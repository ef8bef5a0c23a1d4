"""Silence where there should be work, and messages that do not add up."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from soak.judges.record import Judgement, Record

SILENT = 60.0
"""Seconds without a call of the probe coming back that are a stall."""
QUIET = 300.0
"""Seconds without a sign of life of a workload that are a stall; they say something every few seconds."""
GRAVE = {5: "EIO", 71: "EPROTO", 74: "EBADMSG", 110: "ETIMEDOUT"}
"""Errnos that no workload brings about, by their number on the wire."""


def stalls(record: Record) -> list[Judgement]:
    """Whether the share and the workloads always went on."""
    ages = record.series("probe.age")
    if not ages:
        first = Judgement("stall: the share", "unknown", "no undisturbed look of the probe inside")
    else:
        longest = max(y for _, y in ages)
        verdict, words = ("fail", "no call came back for") if longest >= SILENT else ("pass", "longest silence")
        first = Judgement("stall: the share", "fail" if verdict == "fail" else "pass", f"{words} {longest:.0f} s",
                          {"longest": longest})  # fmt: skip
    made = [first]
    for workload in record.workloads():
        quiet = [y for _, y in record.series(f"quiet.{workload}")]
        name = f"stall: {workload}"
        if not quiet:
            made.append(Judgement(name, "unknown", "no sample tells"))
        elif max(quiet) >= QUIET:
            made.append(Judgement(name, "fail", f"no sign of life for {max(quiet):.0f} s", {"longest": max(quiet)}))
        else:
            made.append(Judgement(name, "pass", f"longest silence {max(quiet):.0f} s", {"longest": max(quiet)}))
    return made


def messages(record: Record) -> list[Judgement]:
    """Replies with errors that nobody asked for. Requests without any reply are stalls."""
    if not (points := record.series("msg.total")):
        return [Judgement("messages", "unknown", "no undisturbed count of the guest (has it the 9p tracepoints?)")]
    return [errors(record, median(y for _, y in points))]


def errors(record: Record, total: float) -> Judgement:
    """Replies with EIO and its like, among those that were counted: a second of some samples."""
    spans = record.disturbed()
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
