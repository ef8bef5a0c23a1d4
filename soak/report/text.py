"""The text block for a ticket: 78 columns, with every judge; commands are not wrapped."""

from __future__ import annotations

import textwrap

from soak.judges import ACCEPTABLE
from soak.plan import duration
from soak.report.facts import Facts, when

WIDTH = 78
_WORDS = {"pass": "PASS", "fail": "FAIL", "unknown": "NO VERDICT"}


def text_of(facts: Facts) -> str:
    """The block, ended by a newline."""
    env, plan, sessions = facts.environment, facts.plan, facts.record.sessions
    lines = wrapped(f"assay9 soak, {facts.name}: {verdict_of(facts)}")
    version = str(env.get("target_version", "")) or "unknown version"
    guest = f", guest {env.get('guest_image', '')} {env.get('guest_kernel', '')}" if env.get("guest_image") else ""
    speed = f" under {env['accelerator']}" if env.get("accelerator") else ""
    reached = f", reached by {env['access']}" if env.get("access") else ""
    lines += wrapped(f"{plan.target}: {version}{speed}{guest}{reached}")
    begun = when(sessions[0].at) if sessions else "never"
    more = f", {len(sessions)} sessions" if len(sessions) > 1 else ""
    lines += wrapped(f"{begun}: {load_of(facts)}{more}; seed {plan.seed}, assay9 {plan.version}")
    for work in facts.work:
        counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(work.counts.items())) or "none ended"
        begun_only = sum(i.outcome is None and i.workload == work.workload for i in facts.record.iterations)
        counts += f", {begun_only} not ended" if begun_only else ""
        said = f"{work.workload}: {counts}"
        if work.counts.get("pass"):
            said += (
                f"; {duration(work.median_seconds)} each (median; {work.fastest:.1f} to {work.slowest:.1f} s),"
                f" {work.ops:.0f} units of work, {work.rate:.1f}/s"
            )
        lines += wrapped(said)
    kinds: dict[str, int] = {}
    for d in facts.record.faults():
        kinds[d.name] = kinds.get(d.name, 0) + 1
    if kinds:
        lines += wrapped("faults: " + ", ".join(f"{name} ({n})" for name, n in sorted(kinds.items())))
    for j in facts.judgements:
        lines += wrapped(f"{j.verdict:<8} {j.name}: {j.reason}")
    for said in remedy(facts):
        lines += wrapped(said)
    # One line, however long, so that it can be pasted.
    return "\n".join([*lines, f"replay: {facts.command}"]) + "\n"


def verdict_of(facts: Facts) -> str:
    """The verdict in a word; PASS only if no question is open."""
    if facts.verdict == "pass" and facts.open_questions():
        return f"nothing wrong was seen{facts.open_questions()}"
    return f"{_WORDS[facts.verdict]}{facts.open_questions()}"


def load_of(facts: Facts) -> str:
    """The total time of ended iterations, without set-up and gaps."""
    jobs = len(facts.record.workloads())
    number = f"{jobs} workloads" if jobs > 1 else "one workload"
    loaded, worked = duration(loaded_of(facts)), duration(facts.worked)
    return f"{loaded} of load by {number} in iterations that ended, {worked} with set-up"


def loaded_of(facts: Facts) -> float:
    """Seconds that the workloads worked, on average."""
    names = facts.record.workloads()
    return sum(i.seconds for name in names for i in facts.record.ended(name)) / max(1, len(names))


def remedy(facts: Facts) -> list[str]:
    """How a run can pass if only judges of numbers over time are open."""
    judges = {j.judge for j in facts.judgements if j.verdict == "unknown" and not j.accepted}
    if facts.verdict != "unknown" or not judges <= set(ACCEPTABLE):
        return []
    options = " ".join(f"--accept-unknown {judge}" for judge in ACCEPTABLE if judge in judges)
    return [f"a longer run decides it; to accept it: {options}"]


def wrapped(words: str) -> list[str]:
    """The words in lines of at most WIDTH columns, without control characters; further lines are indented."""
    shown = "".join(c if c.isprintable() else " " for c in words)
    return textwrap.wrap(shown, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
