"""Soaks of one target on several machines as one report: one journal per machine, one verdict for all.

Rule of this module: no journal is changed or copied. Each run is judged by itself, as by `assay9 soak report`; the
whole fails if one of them fails, and passes if each passes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.manifest import digest_of
from soak import journal as journals
from soak.judges.record import Record, Verdict
from soak.plan import duration
from soak.report.facts import Facts, facts_of
from soak.report.page import rendered
from soak.report.text import loaded_of, verdict_of, wrapped
from soak.report.write import json_of, replace


@dataclass(frozen=True, slots=True)
class Machine:
    """The run of one machine."""

    host: str
    run_dir: Path
    facts: Facts
    sha256: str
    """Of the journal."""


@dataclass(frozen=True, slots=True)
class Together:
    """All of them."""

    machines: list[Machine]

    @property
    def verdict(self) -> Verdict:
        """The gravest of the machines' verdicts."""
        seen = {machine.facts.verdict for machine in self.machines}
        return "fail" if "fail" in seen else "unknown" if "unknown" in seen else "pass"

    @property
    def loaded(self) -> float:
        """Seconds of load on all machines, by workload on average."""
        return sum(loaded_of(machine.facts) for machine in self.machines)

    def sentence(self) -> str:
        """The verdict in words."""
        facts = [machine.facts for machine in self.machines]
        failed = sum(1 for one in facts if one.verdict == "fail")
        undecided = sum(1 for one in facts if one.verdict == "unknown")
        number = f"{len(facts)} machines" if len(facts) > 1 else "one machine"
        work = f"{duration(self.loaded)} of load on {number}"
        if failed:
            return f"failed on {failed} of {number}; {work}"
        if undecided:
            return f"no verdict on {undecided} of {number}; {work}"
        open_questions = sum(1 for one in facts for j in one.judgements if j.verdict == "unknown")
        said = f", {open_questions} questions open" if open_questions else ""
        return f"{work} without a finding{said}"


def together(directories: Sequence[Path]) -> Together:
    """The runs of these directories.

    Raises UsageError, one line, if they are of different kinds, one still runs, or one is a duplicate.
    """
    machines: list[Machine] = []
    for directory in directories:
        if journals.in_use(directory):
            raise UsageError(f"{directory} is still running: wait for its end, or leave it out")
        with journals.open_existing(directory, writable=False) as journal:
            record = Record.of(journal)
        host = str(record.sessions[0].data.get("host", "")) if record.sessions else ""
        facts = facts_of(directory.name, record)
        machines.append(Machine(host, directory, facts, digest_of(directory / journals.FILE)))
    first, seen = machines[0], dict[tuple[str, int], Machine]()
    for machine in machines:
        for what, ours, theirs in zip(
            ("target", "version of the target", "list of workloads", "mount", "list of faults", "version of assay9"),
            _kind(first.facts),
            _kind(machine.facts),
            strict=True,
        ):
            if ours != theirs:
                raise UsageError(
                    f"{machine.run_dir} does not fit {first.run_dir}: its {what} is {theirs or 'none'}, "
                    f"not {ours or 'none'}"
                )
        begun = machine.facts.record.sessions[0].at if machine.facts.record.sessions else 0.0
        key = (f"{machine.host} {begun}", machine.facts.plan.seed)
        if key in seen:
            raise UsageError(f"{machine.run_dir} is the same run as {seen[key].run_dir}: leave one out")
        seen[key] = machine
    return Together(machines)


def _kind(facts: Facts) -> tuple[str, ...]:
    plan = facts.plan
    jobs = ", ".join(sorted(f"{job.instance} {job.options or ''}".strip() for job in plan.jobs))
    version = str(facts.environment.get("target_version", ""))
    return plan.target, version, jobs, plan.mount, ", ".join(sorted(plan.faults)), plan.version


def text_of_all(whole: Together) -> str:
    """The block for a ticket: the whole, then each machine, the gravest first."""
    lines = wrapped(f"assay9 soak on {len(whole.machines)} machines: {_word(whole)}")
    facts = whole.machines[0].facts
    lines += wrapped(f"{facts.plan.target}: {facts.environment.get('target_version', '') or 'unknown version'}")
    lines += wrapped(whole.sentence())
    for machine in sorted(whole.machines, key=_gravity):
        lines += wrapped(
            f"{machine.host or 'unknown host'}: {verdict_of(machine.facts)}; {machine.run_dir.name}, "
            f"{duration(loaded_of(machine.facts))} of load, seed {machine.facts.plan.seed}"
        )
        for j in machine.facts.judgements:
            if j.verdict == "fail":
                lines += wrapped(f"    fail {j.name}: {j.reason}")
    return "\n".join(lines) + "\n"


def _word(whole: Together) -> str:
    if whole.verdict == "pass":
        asked = any(j.verdict == "unknown" for machine in whole.machines for j in machine.facts.judgements)
        return "nothing wrong was seen" if asked else "PASS"
    return "FAIL" if whole.verdict == "fail" else "NO VERDICT"


def _gravity(machine: Machine) -> int:
    return ("fail", "unknown", "pass").index(machine.facts.verdict)


def write_together(whole: Together, place: Path) -> None:
    """report.json, which `assay9 report --soak` reads, report.txt and report.html. Raises InfrastructureError."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        replace(place / "report.json", json.dumps(json_of_all(whole, place.name), indent=1, default=str))
        replace(place / "report.txt", text_of_all(whole))
        replace(place / "report.html", _page(whole))
    except OSError as e:
        raise InfrastructureError(
            f"the report cannot be written: {e}", "make room, then `assay9 soak merge` again"
        ) from e


def json_of_all(whole: Together, name: str) -> dict[str, Any]:
    """What report.json holds: that of one run, with `machines`; judgements are prefixed by their machine."""
    each = [json_of(machine.facts) for machine in whole.machines]
    hosts = _names(whole)
    made: dict[str, Any] = {**each[0], "run": name, "verdict": whole.verdict, "sentence": whole.sentence()}
    made["machines"] = [
        {
            "host": machine.host,
            "run": machine.run_dir.name,
            "verdict": machine.facts.verdict,
            "sentence": machine.facts.sentence(),
            "seconds": machine.facts.worked,
            "seed": machine.facts.plan.seed,
            "journal_sha256": machine.sha256,
        }
        for machine in whole.machines
    ]
    for key in ("iterations", "faults", "troubles", "gaps", "notes"):
        made[key] = [item for one in each for item in one[key]]
    made["judgements"] = [
        {**j, "name": f"{host}: {j['name']}"} for host, one in zip(hosts, each, strict=True) for j in one["judgements"]
    ]
    made["seconds"] = sum(one["seconds"] for one in each)
    made["work"] = _work(each)
    made["command"] = ""
    return made


def _names(whole: Together) -> list[str]:
    """A machine's name, with a number if two runs have the same host."""
    hosts = [machine.host or "unknown host" for machine in whole.machines]
    return [f"{host} ({hosts[:n].count(host) + 1})" if hosts.count(host) > 1 else host for n, host in enumerate(hosts)]


def _work(each: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by: dict[str, dict[str, Any]] = {}
    for one in each:
        for work in one["work"]:
            into = by.setdefault(
                work["workload"],
                {"workload": work["workload"], "counts": {}, "ops": 0.0, "fastest": work["fastest"], "slowest": 0.0},
            )
            for outcome, number in work["counts"].items():
                into["counts"][outcome] = into["counts"].get(outcome, 0) + number
            into["ops"] += work["ops"]
            into["fastest"] = min(into["fastest"], work["fastest"])
            into["slowest"] = max(into["slowest"], work["slowest"])
    return list(by.values())


def _page(whole: Together) -> str:
    return rendered(
        "together.html",
        whole=whole,
        machines=sorted(zip(_names(whole), whole.machines, strict=True), key=lambda pair: _gravity(pair[1])),
        loaded=loaded_of,
    )
