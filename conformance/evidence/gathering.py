"""Reads back what the workers of a run wrote: lines and descriptions, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from conformance.errors import UsageError
from conformance.evidence.models import SCHEMA_VERSION, CaseResult, Environment, Record, Selected, Trouble
from conformance.evidence.overview import tally
from guests.host.files import content, opened

ENVIRONMENT: Final = "environment.json"
_RESULT = TypeAdapter(CaseResult)
_TROUBLE = TypeAdapter(Trouble)
_SELECTED = TypeAdapter(Selected)


def gather(run_dir: Path, why_not_run: str) -> Record:
    """A record of all that can be read; `why_not_run` is the reason of cases that were selected and have no result."""
    damage: list[str] = []
    results = list(_lines(run_dir, "cases", _RESULT, damage))
    troubles = list(_lines(run_dir, "troubles", _TROUBLE, damage))
    selected = {s.key: s for s in read_selected(run_dir, damage)}
    there = {r.key for r in results}
    if damage:
        why_not_run += ", or its entry is one of those that cannot be read"
    results += [_not_run(s, why_not_run) for key, s in selected.items() if key not in there]
    if doubled := len(results) - len({r.key for r in results}):
        damage.append(f"{doubled} results are there more than once")
    environment = _environment(run_dir, damage)
    mounts = {r.mount: r.mount_shown for r in results if r.mount and r.mount_shown}
    return Record(
        environment=environment.model_copy(update={"mounts": dict(sorted(mounts.items()))}),
        counts=tally(results),
        selected=len(selected),
        results=sorted(results, key=lambda r: (r.layer, r.family, r.case_id, r.id, r.mount)),
        troubles=sorted(troubles, key=lambda t: t.at),
        damage=damage,
    )


def read_selected(run_dir: Path, damage: list[str]) -> Iterator[Selected]:
    """The selected cases, once for each worker; unreadable lines are reported in `damage`."""
    return _lines(run_dir, "selected", _SELECTED, damage)


def read_results(run_dir: Path, worker: str = "*") -> Iterator[CaseResult]:
    """The results that a worker, or all of them, have left so far."""
    return _lines(run_dir, "cases", _RESULT, [], worker)


def not_run(selected: Selected, reason: str, details: str = "", worker: str = "main") -> CaseResult:
    """The `error` for a case that ended without a result of its own."""
    return CaseResult(
        **selected.model_dump(exclude={"node_id"}),
        verdict="error",
        infrastructure=True,
        reason=reason,
        details=details,
        worker=worker,
    )


def _not_run(selected: Selected, reason: str) -> CaseResult:
    return not_run(selected, reason).model_copy(update={"ran": False})


def _lines(run_dir: Path, kind: str, adapter: TypeAdapter[Any], damage: list[str], worker: str = "*") -> Iterator[Any]:
    for path in sorted(run_dir.glob(f"{kind}-{worker}.jsonl")):
        try:
            file = opened(path)
        except OSError as e:
            damage.append(f"{path.name} cannot be read ({e.strerror}): its entries are lost")
            continue
        with file:
            for number, line in enumerate(file, 1):
                try:
                    yield adapter.validate_json(line)
                except ValidationError as e:
                    cut = "is cut off" if not line.endswith(b"\n") else f"cannot be read ({first_problem(e)})"
                    damage.append(f"{path.name}: line {number} {cut}: one entry is lost")


def _environment(run_dir: Path, damage: list[str]) -> Environment:
    try:
        whole = Environment.model_validate(read_json(run_dir / ENVIRONMENT))
    except ValidationError as e:
        raise UsageError(f"{run_dir / ENVIRONMENT} is not an environment: {first_problem(e)}") from None
    described: dict[str, dict[str, Any]] = {}
    for path in sorted(run_dir.glob("environment-*.json")):
        worker = path.stem.removeprefix("environment-")
        try:
            described[worker] = read_json(path)
        except UsageError as e:
            damage.append(str(e))
    return _merged(whole, described)


_OF_EACH_WORKER = frozenset({"argv", "notes", "machines", "other", "exported", "left_out", "access"})
"""Facts that differ from worker to worker by nature: directories, ports and pids of their own."""


def _merged(whole: Environment, described: Mapping[str, dict[str, Any]]) -> Environment:
    """The first worker's facts, the machines of all workers, and a note on whatever else differs."""
    first: dict[str, Any] = {}
    notes, machines = list(whole.notes), dict(whole.model_dump()["machines"])
    for worker, facts in described.items():
        machines |= facts.get("machines", {})
        if not first:
            first = facts
            continue
        for name in sorted(facts.keys() - _OF_EACH_WORKER):
            if name in first and facts[name] != first[name]:
                notes.append(f"{worker}: {name} is {facts[name]}, elsewhere {first[name]}")
    missing = {k: v for facts in described.values() for k, v in facts.items() if k not in first}
    update = {**missing, **first, "machines": machines, "notes": [*notes, *first.get("notes", [])]}
    return Environment.model_validate({**whole.model_dump(), **update})


def read_json(path: Path) -> Any:
    """A JSON file of a run directory. Raises UsageError, one line, if it is damaged or of a newer version."""
    try:
        seen = json.loads(content(path))
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror}; get the run's directory again, or run again") from None
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{path} is damaged ({e}): get the run's directory again, or run again") from None
    version = seen.get("schema_version") if isinstance(seen, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(newer(path, version))
    return seen


def newer(path: Path, version: int) -> str:
    return f"{path} has schema version {version}, this assay9 reads up to {SCHEMA_VERSION}: use a newer assay9"


def first_problem(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, [".".join(str(part) for part in found["loc"]), found["msg"]]))
