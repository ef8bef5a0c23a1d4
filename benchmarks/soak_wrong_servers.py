"""How long a soak takes to find the fault of a server: the four faults at their real rates.

    python benchmarks/soak_wrong_servers.py [leak|flip|rename|slower]...

Each fault is a run of the workload `tree` on target `local` through tests/soak/wrong_server.py (FUSE, so that a process
serves the directory). The output is the moment at which the record first held enough for the judge to fail the run.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from soak.judges import all_of
from soak.judges.record import Record
from soak.report.facts import Facts
from tests.soak.runs import soaked

FAULTS: dict[str, tuple[str, tuple[str, ...], str, dict[str, Any], dict[str, Any]]] = {
    "leak": ("1 KB a request", ("--leak", "1024"), "leak: memory", {"steps": 40}, {"seconds": 120.0}),
    "flip": (
        "one byte in 10^8",
        ("--flip", "100000000"),
        "iterations",
        {"steps": 60, "repeat": 400},
        {"seconds": 600.0},
    ),
    "rename": ("one rename in 10,000", ("--lose-rename", "10000"), "iterations", {"steps": 600}, {"seconds": 1200.0}),
    "slower": (
        "1 % an iteration",
        ("--slower", "0.01"),
        "slowdown: iterations",
        {"steps": 6, "workers": 1},
        {"iterations": 200},
    ),
}


def until(record: Record, moment: float) -> Record:
    """The record as it was at that moment."""
    return dataclasses.replace(
        record,
        events=[e for e in record.events if e.at <= moment],
        samples=[s for s in record.samples if s.at <= moment],
        iterations=[i for i in record.iterations if (i.ended_at or moment + 1) <= moment],
    )


def found_at(facts: Facts, name: str) -> tuple[float, str] | None:
    """(moment, reason) of the first failure of that judgement that is followed by failures only."""
    record, found = facts.record, None
    moments = sorted(i.ended_at for i in record.iterations if i.ended_at)
    for moment in moments:
        judged = next((j for j in all_of(until(record, moment)) if j.name.startswith(name)), None)
        if judged is None or judged.verdict != "fail":
            found = None
        elif found is None:
            found = (moment, judged.reason)
    return found


def main() -> None:
    for name in sys.argv[1:] or list(FAULTS):
        title, arguments, judgement, options, plan = FAULTS[name]
        with tempfile.TemporaryDirectory() as directory:
            facts, _ = soaked(Path(directory), *arguments, options=options, **plan)
        begun = facts.record.sessions[0].at
        found = found_at(facts, judgement)
        done = sum(1 for i in facts.record.iterations if i.outcome)
        ops = sum(w.ops for w in facts.work)
        what = "not found" if found is None else f"found after {found[0] - begun:.0f} s: {found[1]}"
        print(f"{title}: {what} [{done} iterations, {ops:.0f} calls passed, {facts.worked:.0f} s in all]", flush=True)


if __name__ == "__main__":
    main()
