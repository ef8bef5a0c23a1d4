"""One benchmark from its request to its record, page and manifest."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError
from conformance.evidence.earlier import directory_name
from conformance.evidence.host import with_host_facts
from conformance.evidence.manifest import write_manifest
from conformance.evidence.models import Environment
from conformance.performance.measures import Measure
from conformance.performance.measuring import measure_all
from conformance.performance.page import page
from conformance.performance.record import RECORD, Bench, Measured, Subject
from conformance.performance.subjects import running
from conformance.sut.kind import Asked
from conformance.sut.load import files_of
from conformance.vfs.deployment import Deployment, Progress

PAGE = "bench.html"
_REPORTS = frozenset({PAGE})


def bench(
    target: Asked[Any, Any],
    against: Asked[Any, Any] | str | None,
    measures: Sequence[Measure],
    *,
    name: str,
    rounds: int,
    seconds: float,
    results: Path,
    progress: Progress,
) -> Path:
    """Measure and keep the result; returns the run's directory. `name` is the target as the user wrote it.

    When it is interrupted or the machine breaks, the measures so far are kept, and the exception is raised.
    """
    started = datetime.now(UTC)
    run_dir = _directory(results, f"{started:%Y%m%dT%H%M%SZ}-bench-{directory_name(target.target.name)}")
    measured: list[Measured] = []
    whole = False
    with running(target, against, run_dir, progress) as found:
        environments = [_environment(one, started) for one in found.deployments]
        facts = {
            "target": target.target.name,
            "target_kind": target.target.kind,
            "target_title": target.target.title,
            "profiles": files_of(name),
            "command": shlex.join(["assay9", *sys.argv[1:]]),
        }
        environments[0] = with_host_facts(environments[0].model_copy(update=facts))
        try:
            measure_all(found, measures, rounds, seconds, progress, measured.append)
            whole = True
        finally:
            other = against.target.name if isinstance(against, Asked) else against or ""
            record = Bench(
                environment=environments[0].model_copy(update={"ended": datetime.now(UTC)}),
                other_environment=environments[1] if len(environments) > 1 else None,
                against=other,
                rounds=rounds,
                seconds=seconds,
                subjects={p.name: Subject(title=p.title, mounts=p.mounts) for p in found.places},
                measures=measured,
                whole=whole,
            )
            (run_dir / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
            write_page(run_dir, record)
    write_manifest(run_dir, _REPORTS)
    return run_dir


def write_page(run_dir: Path, record: Bench) -> Path:
    """Write the page of a benchmark; returns its path. Raises InfrastructureError."""
    path = run_dir / PAGE
    try:
        path.write_text(page(record), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InfrastructureError(f"{path} cannot be written: {error.strerror}", "make room there") from None
    return path


def _environment(deployment: Deployment, started: datetime) -> Environment:
    facts: Mapping[str, Any] = deployment.environment()
    known = {key: value for key, value in facts.items() if key in Environment.model_fields}
    rest = {key: str(value) for key, value in facts.items() if key not in Environment.model_fields}
    return Environment.model_validate({"target": "", "started": started, **known, "other": rest})


def _directory(results: Path, name: str) -> Path:
    for attempt in range(1, 1000):
        run_dir = results / (name if attempt == 1 else f"{name}-{attempt}")
        with contextlib.suppress(FileExistsError):
            os.makedirs(run_dir)
            return run_dir
    raise InfrastructureError(f"{results} has a thousand runs named {name}", "remove some")
