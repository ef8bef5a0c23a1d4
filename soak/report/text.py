"""The text block for a ticket: 25 lines at most, 120 columns."""

from __future__ import annotations

from soak.judges import ACCEPTABLE
from soak.plan import duration
from soak.report.facts import Facts, when

LINES, WIDTH = 25, 120


def text_of(facts: Facts) -> str:
    """The block, ended by a newline."""
    env, plan, sessions = facts.environment, facts.plan, facts.record.sessions
    head = [f"assay9 soak, {facts.name}: {facts.verdict.upper()}{facts.open_questions()}"]
    version = str(env.get("target_version", "")) or "unknown version"
    guest = f", guest {env.get('guest_image', '')} {env.get('guest_kernel', '')}" if env.get("guest_image") else ""
    speed = f" under {env['accelerator']}" if env.get("accelerator") else ""
    reached = f", reached by {env['access']}" if env.get("access") else ""
    head.append(f"{plan.target}: {version}{speed}{guest}{reached}")
    begun = when(sessions[0].at) if sessions else "never"
    more = f", {len(sessions)} sessions" if len(sessions) > 1 else ""
    head.append(f"{begun}: {duration(facts.worked)} of work{more}; seed {plan.seed}, assay9 {plan.version}")
    for work in facts.work:
        counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(work.counts.items())) or "none ended"
        line = f"{work.workload}: {counts}"
        if work.counts.get("pass"):
            line += (
                f"; {duration(work.median_seconds)} each (median; {work.fastest:.1f} to {work.slowest:.1f} s),"
                f" {work.ops:.0f} units of work, {work.rate:.1f}/s"
            )
        head.append(line)
    kinds: dict[str, int] = {}
    for d in facts.record.faults():
        kinds[d.name] = kinds.get(d.name, 0) + 1
    if kinds:
        head.append("faults: " + ", ".join(f"{name} ({n})" for name, n in sorted(kinds.items())))
    tail = [*remedy(facts), f"replay: {facts.command}"]
    lines = [cut(line) for line in head]
    room = LINES - len(lines) - len(tail)
    reasons = [f"{j.verdict:<8} {j.name}: {j.reason}" for j in facts.judgements]
    if len(reasons) > room:
        lost = len(reasons) - room + 1
        reasons = [*reasons[: room - 1], f"... and {lost} more, see the report"]
    return "\n".join([*lines, *(cut(r) for r in reasons), *tail]) + "\n"


def remedy(facts: Facts) -> list[str]:
    """What lets a run pass that only judges of numbers over time keep from it."""
    judges = {j.judge for j in facts.judgements if j.verdict == "unknown" and not j.accepted}
    if facts.verdict != "unknown" or not judges <= set(ACCEPTABLE):
        return []
    options = " ".join(f"--accept-unknown {judge}" for judge in ACCEPTABLE if judge in judges)
    return [f"a longer run can tell; one that need not: {options}"]


def cut(line: str) -> str:
    """One line of at most WIDTH columns, without control characters."""
    shown = "".join(c if c.isprintable() else " " for c in line)
    return shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 4]} ..."
