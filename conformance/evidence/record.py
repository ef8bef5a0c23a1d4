"""The machine-readable record of a run: what was tested, every case's evidence. Schema versioned.

Collecting is apart from presenting: a run appends one JSON line per finished case to
`cases-<worker>.jsonl`, so that a killed run keeps everything up to that moment; `record.json` is made from
them at the end, and every report is derived from a `Record`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from conformance.errors import InfrastructureError, UsageError

SCHEMA_VERSION = 1

Verdict = Literal["pass", "fail", "known", "fixed", "unsupported", "undrivable", "error"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Model(BaseModel):
    """A part of the record; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class Environment(Model):
    """What was tested, where and how; `deployment` holds what each worker's deployment said of itself."""

    target: str
    target_kind: str
    target_title: str
    started: datetime
    ended: datetime | None = None
    command: str = ""
    host_kernel: str = ""
    host_system: str = ""
    cpus: int = 0
    python: str = ""
    assay9: str = ""
    commit: str = ""
    deployment: dict[str, Any] = {}


class Call(Model):
    """One system call: from where, with what, and what it gave there and on the control file system."""

    index: int
    vantage: str
    process: str
    op: str
    args: list[str]
    result: str
    errno: str | None = None
    seconds: float = 0.0
    control_result: str | None = None


class FieldComparison(Model):
    """One field inside and outside; `tolerated` says why a difference is no finding."""

    name: str
    inside: str
    outside: str
    rule: str
    equal: bool
    tolerated: str | None = None


class Comparison(Model):
    """What was compared after how many calls."""

    after_call: int
    kind: str
    path: str
    ok: bool
    fields: list[FieldComparison]


class KnownFailure(Model):
    """The profile's entry that declares a failure known."""

    reason: str
    link: str


class LogExcerpt(Model):
    """What a console or device log said while the case ran."""

    source: str
    text: str


class CaseResult(Model):
    """One case's verdict with all its evidence."""

    id: str
    case_id: str
    parameters: str = ""
    layer: str
    family: str
    title: str
    requirement: str
    source: str
    severity: str
    mount: str = ""
    mount_shown: str = ""
    verdict: Verdict
    reason: str = ""
    infrastructure: bool = False
    details: str = ""
    known: KnownFailure | None = None
    seconds: float = 0.0
    guest_seconds: float = 0.0
    worker: str = "main"
    calls: list[Call] = []
    comparisons: list[Comparison] = []
    covers: list[str] = []
    covers_ok: bool | None = None
    messages: list[str] = []
    message_counts: dict[str, int] = {}
    log_excerpts: list[LogExcerpt] = []


class Record(Model):
    """A whole run."""

    schema_version: int = SCHEMA_VERSION
    environment: Environment
    results: list[CaseResult] = []
    counts: dict[str, int] = {}
    interrupted: bool = False
    troubles: list[str] = []
    """Infrastructure failures of the run as a whole, and truncated lines of a killed one."""


class RunWriter:
    """Appends to a run directory; one writer per process, all on one directory."""

    def __init__(self, run_dir: Path, worker: str) -> None:
        self.run_dir, self.worker = run_dir, worker
        self._file = (run_dir / f"cases-{worker}.jsonl").open("a", encoding="utf-8")

    @classmethod
    def create(cls, results: Path, environment: Environment) -> RunWriter:
        """Make `results/<UTC time>-<target>/`. Raises InfrastructureError where that cannot be."""
        name = f"{environment.started:%Y%m%dT%H%M%SZ}-{environment.target}"
        for attempt in range(100):
            run_dir = results / (name if attempt == 0 else f"{name}-{attempt + 1}")
            try:
                run_dir.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as e:
                raise InfrastructureError(f"cannot make {run_dir}: {e.strerror}", "name another with --results DIR") from e
            break
        (run_dir / "environment.json").write_text(environment.model_dump_json(indent=1))
        latest = results / "latest"
        temporary = results / f".latest-{os.getpid()}"
        temporary.symlink_to(run_dir.name)
        temporary.replace(latest)
        return cls(run_dir, "main")

    @classmethod
    def attach(cls, run_dir: Path, worker: str) -> RunWriter:
        """A further process's writer on a directory that `create` made."""
        return cls(run_dir, worker)

    def append(self, result: CaseResult) -> None:
        """Keep a finished case, now."""
        self._file.write(result.model_dump_json() + "\n")
        self._file.flush()

    def describe(self, deployment: dict[str, Any]) -> None:
        """Keep what this worker's deployment says of itself."""
        (self.run_dir / f"deployment-{self.worker}.json").write_text(json.dumps(deployment, indent=1, default=str))

    def trouble(self, text: str) -> None:
        """Keep a failure of the run as a whole."""
        with (self.run_dir / "troubles.txt").open("a", encoding="utf-8") as f:
            f.write(" ".join(text.split()) + "\n")

    def finish(self, interrupted: bool = False) -> Record:
        """Write record.json from what all processes appended."""
        self._file.close()
        record = _gather(self.run_dir)
        record.interrupted = interrupted
        record.environment.ended = datetime.now(UTC)
        temporary = self.run_dir / "record.json.part"
        temporary.write_text(record.model_dump_json())
        temporary.replace(self.run_dir / "record.json")
        return record


def load_run(run_dir: Path) -> Record:
    """The record of a run, finished or killed. Raises UsageError where it is none, or of a newer schema."""
    if not (run_dir / "environment.json").is_file():
        raise UsageError(f"{run_dir} is no run directory: it has no environment.json")
    whole = run_dir / "record.json"
    if not whole.is_file():
        record = _gather(run_dir)
        record.interrupted = True
        return record
    table = json.loads(whole.read_text())
    if table.get("schema_version", 0) > SCHEMA_VERSION:
        raise UsageError(f"{whole} has schema {table['schema_version']}, this assay9 reads up to {SCHEMA_VERSION}")
    return Record.model_validate(table)


def _gather(run_dir: Path) -> Record:
    environment = Environment.model_validate_json((run_dir / "environment.json").read_text())
    for path in sorted(run_dir.glob("deployment-*.json")):
        environment.deployment |= json.loads(path.read_text())
    results, troubles = [], []
    for path in sorted(run_dir.glob("cases-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                results.append(CaseResult.model_validate_json(line))
            except ValueError:
                troubles.append(f"{path.name}: a line of {len(line)} characters is cut short (the run was killed)")
    if (run_dir / "troubles.txt").is_file():
        troubles += (run_dir / "troubles.txt").read_text(encoding="utf-8").splitlines()
    results.sort(key=lambda r: (r.layer, r.family, r.id, r.mount))
    counts = dict(Counter(r.verdict for r in results))
    return Record(environment=environment, results=results, counts=counts, troubles=troubles)
