"""How many cases judged the target in an earlier run: `summary.json` of each run, and the run to compare with.

A record has tens of megabytes; its summary has what another run or a script needs of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from conformance.evidence.models import SCHEMA_VERSION, CaseResult, Earlier, Environment, Record
from conformance.evidence.overview import JUDGED, known_for, overview, standing
from guests.host.files import content

SUMMARY: Final = "summary.json"
_LOOKED_AT = 20
"""Earlier runs of the target that are looked at, the newest first."""
_SAME = 0.9
"""A run that selected at least this share of our cases is the one to compare with."""


def directory_name(target: str) -> str:
    """The end of the directory names of runs on a target."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", target) or "target"


def summary(record: Record) -> dict[str, Any]:
    """What other runs and scripts need to know about a run."""
    seen, e = overview(record), record.environment
    return {
        "schema_version": SCHEMA_VERSION,
        "target": e.target,
        "asked": e.asked,
        "started": e.started.isoformat(),
        "ended": e.ended.isoformat() if e.ended else None,
        "interrupted": record.interrupted,
        "exit_status": seen.status,
        "sentence": seen.sentence,
        "selected": record.selected,
        "judged": seen.judged,
        "counts": seen.counts,
        "cases": {_name(r): standing(r) for r in record.results},
        "known": {_name(r): sorted(known_for(r)) for r in record.results if r.verdict == "known"},
    }


def earlier(run_dir: Path, environment: Environment, results: list[CaseResult]) -> Earlier | None:
    """The newest run before `run_dir` in the same directory to compare with; None where there is none.

    It has the same target and options, ended with a verdict, and selected nine tenths of our cases; if no run did, it
    is the one that selected most of them.
    """
    now = {_name(r): standing(r) in JUDGED for r in results}
    best: tuple[int, str, _Then] | None = None
    for name, then in _summaries(run_dir, environment):
        common = len(now.keys() & then.cases.keys())
        if common > (best[0] if best else 0):
            best = common, name, then
        if common >= _SAME * len(now):
            break
    if best is None:
        return None
    common, name, then = best
    judged_then = {case for case, stood in then.cases.items() if case in now and stood in JUDGED}
    return Earlier(
        run=name,
        started=then.started,
        compared=common,
        judged_then=len(judged_then),
        judged_now=sum(judged for case, judged in now.items() if case in then.cases),
        no_longer=sorted(case for case in judged_then if not now[case]),
        known_otherwise=[
            f"{_name(r)}: {', '.join(said for key, said in known_for(r).items() if key not in then.known[_name(r)])}"
            for r in results
            if r.verdict == "known" and then.known.get(_name(r)) and set(known_for(r)) - set(then.known[_name(r)])
        ],
    )


class _Then(BaseModel):
    """What is read of an earlier run's summary."""

    target: str
    asked: dict[str, Any]
    started: datetime
    interrupted: bool
    exit_status: int
    cases: dict[str, str]
    known: dict[str, list[str]] = {}


def _summaries(run_dir: Path, environment: Environment) -> Iterator[tuple[str, _Then]]:
    """Comparable earlier runs, the newest first."""
    wanted = re.compile(rf"\d{{8}}T\d{{6}}Z-{re.escape(directory_name(environment.target))}(-\d+)?")
    names = sorted((d.name for d in run_dir.parent.iterdir() if wanted.fullmatch(d.name)), key=_age, reverse=True)
    ours = _age(run_dir.name)
    for name in [n for n in names if _age(n) < ours][:_LOOKED_AT]:
        try:
            found = _Then.model_validate_json(content(run_dir.parent / name / SUMMARY))
            fits = found.target == environment.target and found.asked == environment.asked
            if fits and not found.interrupted and found.exit_status in (0, 1) and found.cases:
                yield name, found
        except (OSError, ValueError):
            continue  # killed before its end, of an older version, or damaged: nothing to compare with


def _age(name: str) -> tuple[str, int]:
    """Runs of one second are numbered from 2."""
    stamp, _, rest = name.partition("Z-")
    number = re.search(r"-(\d+)$", rest)
    return stamp, int(number[1]) if number else 1


def _name(result: CaseResult) -> str:
    return f"{result.id} on {result.mount}" if result.mount else result.id
