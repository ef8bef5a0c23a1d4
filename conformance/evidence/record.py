"""Collecting: the run directory while a run goes on, and reading it back afterwards.

Rule of this module: what was appended survives whatever happens to the run next. Every worker appends to
files of its own, one JSON line per finished case, so that a run killed at any moment keeps all up to then:

    results/<UTC time>-<target>/
        environment.json            when the run starts
        environment-<worker>.json   what a worker found out about its guest
        cases-<worker>.jsonl        one line per finished case
        troubles-<worker>.jsonl     failures of the infrastructure
        record.json                 when the run has ended: all of it; from then on the only one that is read
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from conformance.errors import InfrastructureError, SuiteError, UsageError
from conformance.evidence.host import with_host_facts
from conformance.evidence.models import (
    SCHEMA_VERSION,
    VERDICTS,
    Call,
    CaseResult,
    Comparison,
    Environment,
    FieldComparison,
    KnownFailure,
    LogExcerpt,
    Record,
    RuleKind,
    SeenFinding,
    Trouble,
    Verdict,
    printable,
)

__all__ = [
    "SCHEMA_VERSION", "VERDICTS", "Call", "CaseResult", "Comparison", "Environment", "FieldComparison",
    "KnownFailure", "LogExcerpt", "Record", "RuleKind", "RunWriter", "SeenFinding", "Trouble", "Verdict", "load_run",
    "read_json",
]  # fmt: skip

RECORD: Final = "record.json"
ENVIRONMENT: Final = "environment.json"
_SYNC_SECONDS = 1.0
_RESULT = TypeAdapter(CaseResult)
_TROUBLE = TypeAdapter(Trouble)


class RunWriter:
    """Appends to a run directory, from one process: the one that created it or one of its workers.

    A line is handed to the kernel before `append` returns, which is what survives a kill -9 of the suite;
    it is forced to the disk at most once a second and at `close`, which is what survives the host's end.
    """

    def __init__(self, run_dir: Path, worker: str) -> None:
        self.run_dir, self.worker = run_dir, worker
        self._files: dict[str, IO[bytes]] = {}
        self._synced = time.monotonic()

    @classmethod
    def create(cls, results_dir: Path, environment: Environment, worker: str = "main") -> RunWriter:
        """Begin a run: its directory, environment.json in it, and `latest` beside it pointing to it.

        What `environment` leaves empty about this host (distribution, CPUs, versions) is filled in.
        """
        with _disk(results_dir):
            results_dir.mkdir(parents=True, exist_ok=True)
            run_dir = _fresh(results_dir, environment)
            _write(run_dir / ENVIRONMENT, with_host_facts(environment).model_dump_json(indent=1).encode())
            _point_latest(results_dir, run_dir)
        return cls(run_dir, worker)

    @classmethod
    def attach(cls, run_dir: Path, worker: str) -> RunWriter:
        """Join a run that another process has created."""
        if not (run_dir / ENVIRONMENT).is_file():
            raise SuiteError(f"{run_dir} was not created by RunWriter.create")
        return cls(run_dir, re.sub(r"[^A-Za-z0-9_.]", "_", worker))

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Add what this worker knows of its deployment: fields of `Environment`; the rest goes to `other`."""
        fields = Environment.model_fields.keys()
        other = {k: str(v) for k, v in facts.items() if k not in fields}
        facts = {k: v for k, v in facts.items() if k in fields} | ({"other": other} if other else {})
        path = self.run_dir / f"environment-{self.worker}.json"
        try:
            checked = Environment.model_validate({"target": "", "started": datetime.now(UTC), **facts})
        except ValidationError as e:
            raise SuiteError(f"the environment of {self.worker}: {_first(e)}") from None
        with _disk(path):
            _write(path, checked.model_dump_json(include=set(facts), indent=1).encode())

    def append(self, result: CaseResult) -> None:
        """Keep a finished case."""
        if result.ended is None:
            result = result.model_copy(update={"ended": datetime.now(UTC)})
        self._line("cases", _as_line(result))

    def trouble(self, text: str) -> None:
        """Keep what the infrastructure did wrong outside any case, e.g. a guest that never answered."""
        found = Trouble(at=datetime.now(UTC), worker=self.worker, text=text)
        self._line("troubles", found.model_dump_json().encode())

    def finish(self, interrupted: bool = False) -> Record:
        """End the run: gather what all workers left into record.json, and return it."""
        self.close()
        gathered = _gather(self.run_dir)
        environment = gathered.environment.model_copy(update={"ended": datetime.now(UTC)})
        record = gathered.model_copy(update={"environment": environment, "interrupted": interrupted})
        path = self.run_dir / RECORD
        with _disk(path):
            _write(path, record.model_dump_json(exclude_none=True).encode())
            _Last.remember(path, record)
        return record

    def close(self) -> None:
        """Force what was appended to the disk; appending again is still possible."""
        with _disk(self.run_dir):
            for file in self._files.values():
                os.fsync(file.fileno())
                file.close()
        self._files.clear()

    def _line(self, kind: str, line: bytes) -> None:
        path = self.run_dir / f"{kind}-{self.worker}.jsonl"
        with _disk(path):
            file = self._files.get(kind)
            if file is None:
                file = self._files[kind] = path.open("ab", buffering=0)
            file.write(line + b"\n")
            now = time.monotonic()
            if now - self._synced >= _SYNC_SECONDS:
                os.fsync(file.fileno())
                self._synced = now


def load_run(run_dir: Path) -> Record:
    """Read a run directory: record.json where the run has ended, else what its workers left so far.

    A run without record.json counts as interrupted. Lines that cannot be read are named in `damage`.
    Raises UsageError, one line, for what is no run directory and for a record of a newer schema.
    """
    path = run_dir / RECORD
    try:
        remembered = _Last.get(path)
        return remembered if remembered is not None else _Last.remember(path, _read_record(path))
    except FileNotFoundError:
        pass
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror}") from None
    if not (run_dir / ENVIRONMENT).is_file():
        what = "is no run directory: it holds neither record.json nor environment.json"
        raise UsageError(f"{run_dir} {what if run_dir.is_dir() else 'does not exist'}")
    return _gather(run_dir).model_copy(update={"interrupted": True})


def read_json(path: Path) -> Any:
    """A JSON file of a run directory. Raises UsageError, one line, where it is damaged or newer."""
    try:
        seen = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{path} is damaged: {e}") from None
    version = seen.get("schema_version") if isinstance(seen, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(_newer(path, version))
    return seen


def _newer(path: Path, version: int) -> str:
    return f"{path} has schema version {version}, this assay9 reads up to {SCHEMA_VERSION}: use a newer one"


class _Last:
    """The record read last: the gate, the summary and every report of one process want the same."""

    _key: tuple[str, int, int] | None = None
    _record: Record | None = None

    @classmethod
    def get(cls, path: Path) -> Record | None:
        return cls._record if cls._key == cls._key_of(path) else None

    @classmethod
    def remember(cls, path: Path, record: Record) -> Record:
        cls._key, cls._record = cls._key_of(path), record
        return record

    @staticmethod
    def _key_of(path: Path) -> tuple[str, int, int]:
        seen = path.stat()
        return str(path.resolve()), seen.st_mtime_ns, seen.st_size


def _read_record(path: Path) -> Record:
    try:
        record = Record.model_validate_json(path.read_bytes())
        if record.schema_version > SCHEMA_VERSION:
            raise UsageError(_newer(path, record.schema_version))
        return record
    except ValidationError as e:
        read_json(path)  # says it better where the file is cut short or newer
        raise UsageError(f"{path} is no record of schema version {SCHEMA_VERSION}: {_first(e)}") from None


def _gather(run_dir: Path) -> Record:
    damage: list[str] = []
    results = list(_lines(run_dir, "cases", _RESULT, damage))
    troubles = list(_lines(run_dir, "troubles", _TROUBLE, damage))
    environment = _environment(run_dir, damage)
    mounts = {r.mount: r.mount_shown for r in results if r.mount and r.mount_shown}
    seen = Counter(r.verdict for r in results)
    return Record(
        environment=environment.model_copy(update={"mounts": dict(sorted(mounts.items()))}),
        counts={v: seen[v] for v in VERDICTS},
        results=sorted(results, key=lambda r: (r.layer, r.family, r.case_id, r.id, r.mount)),
        troubles=sorted(troubles, key=lambda t: t.at),
        damage=damage,
    )


def _lines(run_dir: Path, kind: str, adapter: TypeAdapter[Any], damage: list[str]) -> Iterator[Any]:
    for path in sorted(run_dir.glob(f"{kind}-*.jsonl")):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield adapter.validate_json(line)
                except ValidationError as e:
                    cut = "is cut off" if not line.endswith(b"\n") else f"cannot be read ({_first(e)})"
                    damage.append(f"{path.name}: line {number} {cut}: one entry is lost")


def _environment(run_dir: Path, damage: list[str]) -> Environment:
    try:
        whole = Environment.model_validate(read_json(run_dir / ENVIRONMENT))
    except ValidationError as e:
        raise UsageError(f"{run_dir / ENVIRONMENT} is no environment: {_first(e)}") from None
    described: dict[str, dict[str, Any]] = {}
    for path in sorted(run_dir.glob("environment-*.json")):
        worker = path.stem.removeprefix("environment-")
        try:
            described[worker] = read_json(path)
        except UsageError as e:
            damage.append(str(e))
    return _merged(whole, described)


def _merged(whole: Environment, described: Mapping[str, dict[str, Any]]) -> Environment:
    """The first worker's facts, the further ones' command lines, and a note on whatever else differs."""
    first: dict[str, Any] = {}
    notes, argv = list(whole.notes), dict(whole.other_argv)
    for worker, facts in described.items():
        if not first:
            first = facts
            continue
        argv[worker] = facts.get("argv", [])
        for name in sorted(facts.keys() - {"argv", "notes"}):
            if facts[name] != first.get(name):
                notes.append(f"{worker}: {name} is {facts[name]}, elsewhere {first.get(name, 'not known')}")
    update = {**first, "other_argv": argv, "notes": [*notes, *first.get("notes", [])]}
    return Environment.model_validate({**whole.model_dump(), **update})


def _as_line(result: CaseResult) -> bytes:
    try:
        return result.model_dump_json(exclude_defaults=True, warnings="error").encode()
    except PydanticSerializationError:
        pass  # a name that is no UTF-8 where the caller did not spell it out: rare, so paid for only here
    try:
        plain = _spelled_out(result.model_dump(warnings=False))
        return CaseResult.model_validate(plain).model_dump_json(exclude_defaults=True).encode()
    except ValidationError as e:
        raise SuiteError(f"{result.id}: its evidence is malformed: {_first(e)}") from None


def _spelled_out(value: Any) -> Any:
    if isinstance(value, dict):
        return {printable(k): _spelled_out(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_spelled_out(v) for v in value]
    return printable(value)


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"


def _fresh(results_dir: Path, environment: Environment) -> Path:
    """A new directory, named by the run's start and its target."""
    target = re.sub(r"[^A-Za-z0-9._-]", "_", environment.target) or "target"
    name = f"{environment.started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{target}"
    for attempt in range(1, 1000):
        run_dir = results_dir / (name if attempt == 1 else f"{name}-{attempt}")
        with contextlib.suppress(FileExistsError):
            run_dir.mkdir()
            return run_dir
    raise SuiteError(f"{results_dir} holds a thousand runs named {name}")


def _point_latest(results_dir: Path, run_dir: Path) -> None:
    """`latest` -> the newest run; a convenience, so a file system without symbolic links is no failure."""
    new = results_dir / f".latest-{os.getpid()}"
    with contextlib.suppress(OSError):
        new.unlink(missing_ok=True)
        new.symlink_to(run_dir.name)
        os.replace(new, results_dir / "latest")
    with contextlib.suppress(OSError):
        new.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        where = e.filename or path
        raise InfrastructureError(
            f"the evidence cannot be written: {where}: {e.strerror or e}",
            "free some space or choose another --results",
        ) from None
