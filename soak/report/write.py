"""From the journal to report.html, report.json and report.txt in the run's directory."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError
from soak.journal import Iteration, Journal
from soak.judges.record import Record
from soak.report.facts import Facts, facts_of
from soak.report.page import page_of
from soak.report.text import text_of

SCHEMA = 2
"""Version of report.json. 2: `faults` is the former `disturbances`."""  # codespell:ignore


def _iteration(one: Iteration) -> dict[str, Any]:
    row = {"workload": one.workload, "number": one.number, "at": one.at}
    return {**row, "outcome": one.outcome, "seconds": one.seconds, "data": one.data}


def json_of(facts: Facts) -> dict[str, Any]:
    """What report.json holds."""
    return {
        "schema": SCHEMA,
        "run": facts.name,
        "verdict": facts.verdict,
        "sentence": facts.sentence(),
        "judgements": [
            {"name": j.name, "verdict": j.verdict, "reason": j.reason, "figures": j.figures} for j in facts.judgements
        ],
        "plan": facts.plan.model_dump(),
        "command": facts.command,
        "environment": facts.environment,
        "mounts": facts.mounts,
        "notes": facts.notes,
        "seconds": facts.worked,
        "gaps": facts.gaps,
        "work": [asdict(w) for w in facts.work],
        "iterations": [_iteration(i) for i in facts.record.iterations],
        "faults": [asdict(f) for f in facts.record.faults()],
        "troubles": [asdict(t) for t in facts.troubles],
    }


def write(journal: Journal) -> Facts:
    """Write the three files. Raises InfrastructureError if they cannot be written."""
    facts = facts_of(journal.run_dir.name, Record.of(journal))
    try:
        replace(journal.run_dir / "report.json", json.dumps(json_of(facts), indent=1, default=str))
        replace(journal.run_dir / "report.txt", text_of(facts))
        replace(journal.run_dir / "report.html", page_of(facts))
    except OSError as e:
        raise InfrastructureError(
            f"the report cannot be written: {e}", f"make room, then `assay9 soak report {journal.run_dir}`"
        ) from e
    return facts


def replace(path: Path, text: str) -> None:
    """Write it atomically: an earlier report stays until then."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8", errors="backslashreplace")
    new.replace(path)
