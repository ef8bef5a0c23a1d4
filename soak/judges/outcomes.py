"""The outcomes of the iterations, the consoles and the target."""

from __future__ import annotations

from collections import Counter

from soak.judges.record import AFTERMATH, Judgement, Record

DAMNING = ("panic", "lockup", "oops", "bug", "hung-task", "9p", "warning")
"""Kinds of console messages that fail a run (`guests.machines.console`)."""


def iterations(record: Record) -> list[Judgement]:
    """For each workload: every iteration passed."""
    made = []
    for workload in record.workloads():
        mine = record.ended(workload)
        counts = Counter(i.outcome for i in mine)
        name = f"iterations of {workload}"
        figures = {str(outcome): float(n) for outcome, n in counts.items()}
        if counts["fail"]:
            first = next(i for i in mine if i.outcome == "fail")
            why = f"{counts['fail']} of {len(mine)} failed, first number {first.number}: {first.data.get('what')}"
            made.append(Judgement(name, "fail", why, figures))
        elif counts["error"]:
            first = next(i for i in mine if i.outcome == "error")
            why = f"{counts['error']} of {len(mine)} failed for a reason outside the share: {first.data.get('what')}"
            made.append(Judgement(name, "unknown", why, figures))
        elif not counts["pass"]:
            made.append(Judgement(name, "unknown", "none was completed", figures))
        else:
            cut = f", {counts['cut']} cut off by a fault" if counts["cut"] else ""
            made.append(Judgement(name, "pass", f"{counts['pass']} passed{cut}", figures))
    return made


def troubles(record: Record) -> list[Judgement]:
    """Messages on the guest's console: oops, hung task, 9p error, out of memory."""
    excused = [
        (d.begin, (d.end or d.begin) + AFTERMATH)
        for d in record.faults()
        if d.name in ("guest-memory", "power-cut", "pause")
    ]
    bad: list[tuple[str, str]] = []
    seen: list[tuple[str, str]] = []
    for event in record.kind("console"):
        kind = str(event.data.get("source", "")).rpartition(": ")[2]
        during = any(a <= event.at <= b for a, b in excused)
        (seen if during or kind not in DAMNING else bad).append((kind, str(event.data.get("text", ""))))
    if bad:
        kind, text = bad[0]
        line = text.splitlines()[0][:120] if text else ""
        why = f"{len(bad)} messages of the guest's kernel, the first is {kind}: {line}"
        return [Judgement("console", "fail", why, {"messages": float(len(bad))})]
    if not record.samples:
        return [Judgement("console", "unknown", "the console was not watched")]
    more = f" ({len(seen)} that a fault explains or that are not findings)" if seen else ""
    return [Judgement("console", "pass", f"silent{more}")]


def target(record: Record) -> list[Judgement]:
    """Whether the target stayed up: every restart without an injected fault is a finding."""
    troubles = record.kind("trouble")
    deaths = [event for event in troubles if event.data.get("source") != "ground"]
    if deaths:
        why = f"{len(deaths)} times it died or hung, the first time: {deaths[0].data.get('what')}"
        return [Judgement("target", "fail", why, {"times": float(len(deaths))})]
    if troubles:
        first = troubles[0].data.get("what")
        why = f"{len(troubles)} times the suite or this host broke it, not the target itself: {first}"
        return [Judgement("target", "unknown", why, {"times": float(len(troubles))})]
    if not record.kind("environment"):
        return [Judgement("target", "unknown", "it never started")]
    return [Judgement("target", "pass", "it never died or hung")]


def whole(record: Record) -> list[Judgement]:
    """Whether the run itself was complete."""
    finished, sessions = record.kind("finished"), len(record.sessions)
    more = f" in {sessions} sessions" if sessions > 1 else ""
    if finished:
        return [Judgement("the run", "pass", f"{finished[-1].data['why']}{more}")]
    return [Judgement("the run", "unknown", f"not finished{more}")]
