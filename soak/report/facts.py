"""A run as its reports show it: plain data, so page, JSON and text cannot disagree."""

from __future__ import annotations

import shlex
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from soak.journal import Iteration
from soak.judges import all_of, overall
from soak.judges.record import Judgement, Record, Verdict
from soak.plan import Plan, duration

ORDER = {"fail": 0, "unknown": 1, "pass": 2}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went wrong, with the kept files."""

    at: float
    what: str
    detail: str
    artefacts: tuple[str, ...] = ()
    replay: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """The iterations of one workload in numbers."""

    workload: str
    counts: dict[str, int]
    median_seconds: float
    fastest: float
    slowest: float
    ops: float
    rate: float
    """Work a second while it worked, in the workload's own unit."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a report says."""

    name: str
    record: Record
    plan: Plan
    verdict: Verdict
    judgements: list[Judgement]
    """Failures first, then `unknown`, then the rest."""
    work: list[Work]
    troubles: list[Trouble]
    environment: dict[str, Any]
    mounts: list[str]
    notes: list[str]
    worked: float
    """Seconds of work, without the gaps between sessions."""
    gaps: list[float]
    command: str
    """What asks for the same run again."""

    def sentence(self) -> str:
        """The verdict in words."""
        failed = [j for j in self.judgements if j.verdict == "fail"]
        unknown = [j for j in self.judgements if j.verdict == "unknown"]
        if failed:
            return (
                f"failed: {failed[0].name}, {failed[0].reason}"
                if len(failed) == 1
                else f"failed for {len(failed)} reasons"
            )
        if self.verdict == "unknown":
            first = next((j for j in unknown if not j.accepted), None)
            return f"no verdict: {first.name}, {first.reason}" if first else "no verdict"
        done = sum(w.counts.get("pass", 0) for w in self.work)
        words = f"{done} iterations in {duration(self.worked)} without a finding"
        return words + self.open_questions()

    def open_questions(self) -> str:
        """How many judgements are neither: a pass does not cover them."""
        unknown = [j for j in self.judgements if j.verdict == "unknown"]
        if not unknown:
            return ""
        accepted = sum(1 for j in unknown if j.accepted)
        how = f" ({accepted} of them accepted)" if 0 < accepted < len(unknown) else " (accepted)" if accepted else ""
        return f", {len(unknown)} {'question' if len(unknown) == 1 else 'questions'} open{how}"


def facts_of(name: str, record: Record) -> Facts:
    """Judge a record and gather what the reports say."""
    plan = Plan.of(record.plan)
    judgements = sorted(all_of(record), key=lambda j: (ORDER[j.verdict], j.accepted))
    environments = record.kind("environment")
    return Facts(
        name=name,
        record=record,
        plan=plan,
        verdict=overall(judgements),
        judgements=judgements,
        work=[work_of(record, workload) for workload in record.workloads()],
        troubles=troubles_of(record, plan),
        environment=dict(environments[-1].data) if environments else {},
        mounts=list(dict.fromkeys(str(e.data["line"]) for e in record.kind("mounted"))),
        notes=[f"{e.data.get('workload')}: {e.data.get('text')}" for e in record.kind("note")],
        worked=record.clock().total,
        gaps=[float(e.data["gap_seconds"]) for e in record.kind("resumed")],
        command=command(plan),
    )


def work_of(record: Record, workload: str) -> Work:
    """The numbers of one workload."""
    ended = record.ended(workload)
    passed = [i for i in ended if i.outcome == "pass"]
    counts: dict[str, int] = {}
    for i in ended:
        counts[str(i.outcome)] = counts.get(str(i.outcome), 0) + 1
    seconds = [i.seconds for i in passed] or [0.0]
    ops = sum(float(i.data.get("ops", 0)) for i in passed)
    return Work(
        workload,
        counts,
        statistics.median(seconds),
        min(seconds),
        max(seconds),
        ops,
        ops / sum(seconds) if sum(seconds) else 0.0,
    )


def troubles_of(record: Record, plan: Plan) -> list[Trouble]:
    """Failed iterations, crashes of the target, messages of the guest's kernel, failed faults; oldest first."""
    made = [
        Trouble(
            i.ended_at or i.at,
            f"{i.workload} {i.number}: {i.data.get('what', '')}",
            str(i.data.get("detail", "")),
            tuple(i.data.get("artefacts", ())),
            replay(plan, i),
        )
        for i in record.iterations
        if i.outcome in ("fail", "error")
    ]
    for e in record.kind("trouble", "console"):
        text = str(e.data.get("what") or e.data.get("text") or "")
        made.append(
            Trouble(
                e.at,
                f"{e.data.get('source')}: {text.splitlines()[0] if text else ''}",
                text,
                tuple(e.data.get("artefacts", ())),
            )
        )
    for d in record.faults():
        if d.data.get("failed"):
            detail = "\n".join(str(line) for line in d.data.get("broken", ()))
            made.append(Trouble(d.begin, f"fault {d.name}: {d.data['failed']}", detail))
    return sorted(made, key=lambda t: t.at)


def command(plan: Plan, *, only: Iteration | None = None) -> str:
    """The command line that repeats this run, or one of its iterations alone."""
    words = ["assay9", "soak", plan.target]
    for job in plan.jobs:
        if only is not None and job.instance != only.workload:
            continue
        words += ["--workload", job.workload]
        for key, value in job.options.items():
            words += ["--set", f"{job.workload}.{key}={value}"]
    words += ["--mount", plan.mount] if plan.mount else []
    words += ["--shares", str(max(j.share for j in plan.jobs) + 1)] if any(j.share for j in plan.jobs) else []
    words += ["--seed", str(plan.seed)]
    if only is not None:
        return shlex.join([*words, "--first", str(only.number), "--iterations", str(only.number + 1)])
    words += ["--for", f"{plan.seconds:.0f}s"] if plan.seconds is not None else []
    words += ["--iterations", str(plan.iterations)] if plan.iterations is not None else []
    for name in plan.faults:
        words += ["--fault", name]
    words += ["--fault-every", f"{plan.fault_seconds:.0f}s"] if plan.faults else []
    for judge in plan.accept_unknown:
        words += ["--accept-unknown", judge]
    return shlex.join(words)


def replay(plan: Plan, iteration: Iteration) -> str:
    """The command that repeats that iteration, exactly if the workload is the only one of its name."""
    return command(plan, only=iteration)


def when(at: float) -> str:
    """2026-11-23 00:45:10 UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
