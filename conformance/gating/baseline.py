"""A baseline: the standing of each case of a run, in a small file to commit.

It has one line per case, sorted, so its changes can be reviewed like those of a source file. A run's directory also
serves as a baseline.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from conformance.errors import UsageError
from conformance.evidence.gathering import first_problem
from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import known_for, standing
from conformance.evidence.record import load_run
from conformance.vocabulary import Standing
from guests.host.files import content, put

KIND: Final = "assay9-baseline"
SCHEMA_VERSION = 1

Key = tuple[str, str]
"""Id and mount."""


class Baseline(BaseModel):
    """The standings of one run's cases."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["assay9-baseline"] = KIND
    schema_version: int = SCHEMA_VERSION
    target: str
    target_version: str = ""
    guest: str = ""
    assay9_commit: str = ""
    started: datetime
    cases: dict[str, dict[str, Standing]]
    """Mount (empty for cases that need none) -> id -> standing."""
    known: dict[str, list[str]] = {}
    """Of a known case, `id` or `id on mount`: what it is known for, see `conformance.evidence.overview.known_for`."""

    @property
    def standings(self) -> dict[Key, Standing]:
        """The standing of every case."""
        return {(case, mount): stood for mount, cases in self.cases.items() for case, stood in cases.items()}

    @property
    def title(self) -> str:
        """Its target, version and date."""
        version = f" ({self.target_version})" if self.target_version else ""
        return f"{self.target}{version} of {self.started:%Y-%m-%d %H:%M} UTC"


def baseline_of(record: Record) -> Baseline:
    """The baseline made from a record. A pass counts, whoever decided it."""
    e = record.environment
    cases: dict[str, dict[str, Standing]] = {}
    for result in sorted(record.results, key=lambda r: (r.mount, r.id)):
        cases.setdefault(result.mount, {})[result.id] = held(result)
    return Baseline(
        target=e.target,
        target_version=e.target_version,
        guest=f"{e.guest_image} {e.guest_kernel}".strip(),
        assay9_commit=e.assay9_commit,
        started=e.started,
        cases=cases,
        known={name_of(r.key): sorted(known_for(r)) for r in record.results if r.verdict == "known"},
    )


def held(result: CaseResult) -> Standing:
    """Its standing; a pass counts, whoever decided it."""
    stands = standing(result)
    return "pass" if stands == "guest" else stands


def name_of(key: Key) -> str:
    """`OPEN-004 on cache=none`."""
    return f"{key[0]} on {key[1]}" if key[1] else key[0]


def save(baseline: Baseline, path: Path) -> None:
    """Write it. Raises OSError."""
    put(path, (json.dumps(baseline.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode())


def load_baseline(path: Path) -> Baseline:
    """The baseline that a run's directory or a file holds. Raises UsageError, one line, for anything else."""
    if path.is_dir():
        return baseline_of(load_run(path))
    try:
        data = json.loads(content(path))
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror}: a run, or a file of `assay9 baseline save`") from None
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{path} is damaged: {e}: write it again with `assay9 baseline save`") from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise UsageError(f"{path} is not a baseline: `assay9 baseline save RUN {path}` makes one")
    version = data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(f"{path} has schema version {version}, this assay9 reads up to {SCHEMA_VERSION}")
    try:
        return Baseline.model_validate(data)
    except ValidationError as e:
        raise UsageError(f"{path} is damaged: {first_problem(e)}: write it again with `assay9 baseline save`") from None
