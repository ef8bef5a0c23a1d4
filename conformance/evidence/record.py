"""The run directory: written while a run goes on, and read back afterwards.

Rule of this module: appended lines survive any end of the run. Every worker appends to its own files, one JSON line per
finished case, so a run that is killed keeps everything up to then:

    results/<UTC time>-<target>/
        environment.json            when the run starts
        environment-<worker>.json   what a worker found out about its guest
        selected-<worker>.jsonl     one line per case that is to be run, written before the first one runs
        cases-<worker>.jsonl        one line per finished case
        troubles-<worker>.jsonl     failures of the infrastructure
        sequences/*.json            replay files of sequences of calls that failed
        record.json                 when the run has ended: all of it; from then on the only one that is read
        summary.json                its counts, and how each case stands

A selected case without a readable line becomes an `error`: no selected case is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from conformance.errors import InfrastructureError, SuiteError, UsageError
from conformance.evidence.earlier import SUMMARY, directory_name, earlier, summary
from conformance.evidence.gathering import ENVIRONMENT, first_problem, gather, newer, read_json
from conformance.evidence.host import with_host_facts
from conformance.evidence.manifest import check_file
from conformance.evidence.models import (
    SCHEMA_VERSION,
    CaseResult,
    Demand,
    Environment,
    Record,
    Selected,
    Trouble,
    printable,
)
from conformance.model.step import REPLAY
from guests.host.files import content

RECORD: Final = "record.json"
SEQUENCES: Final = "sequences"
"""The directory of replay files."""
_SYNC_SECONDS = 1.0
_UNFINISHED = "no result: the run has not finished"


class RunWriter:
    """Appends to a run directory, from one process: the one that created it or one of its workers.

    A line is passed to the kernel before `append` returns, so it survives a kill -9 of the suite. Lines are synced to
    disk at most once a second and at `close`, so those survive a crash of the host.
    """

    def __init__(self, run_dir: Path, worker: str) -> None:
        self.run_dir, self.worker = run_dir, worker
        self.troubled = self.finished = False
        """Whether `trouble` and `finish` were called."""
        self._files: dict[str, IO[bytes]] = {}
        self._synced = time.monotonic()

    @classmethod
    def create(cls, results_dir: Path, environment: Environment, worker: str = "main") -> RunWriter:
        """Begin a run: its directory, and environment.json in it.

        Empty fields of `environment` about this host (distribution, CPUs, versions) are filled in.
        """
        with _disk(results_dir):
            results_dir.mkdir(parents=True, exist_ok=True)
            run_dir = _fresh(results_dir, environment)
            _write(run_dir / ENVIRONMENT, with_host_facts(environment).model_dump_json(indent=1).encode())
        return cls(run_dir, worker)

    @classmethod
    def attach(cls, run_dir: Path, worker: str) -> RunWriter:
        """Join a run that another process has created."""
        if not (run_dir / ENVIRONMENT).is_file():
            raise SuiteError(f"{run_dir} was not created by RunWriter.create")
        return cls(run_dir, re.sub(r"[^A-Za-z0-9_.]", "_", worker))

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Add what this worker knows about its deployment: fields of `Environment`; the rest goes to `other`."""
        fields = Environment.model_fields.keys()
        other = {k: str(v) for k, v in facts.items() if k not in fields}
        facts = {k: v for k, v in facts.items() if k in fields} | ({"other": other} if other else {})
        path = self.run_dir / f"environment-{self.worker}.json"
        try:
            checked = Environment.model_validate({"target": "", "started": datetime.now(UTC), **facts})
        except ValidationError as e:
            raise SuiteError(f"the environment of {self.worker}: {first_problem(e)}") from None
        with _disk(path):
            _write(path, checked.model_dump_json(include=set(facts), indent=1).encode())

    def select(self, selected: Iterable[Selected]) -> None:
        """Record the selected cases before the first one runs. Each worker does; they select the same ones.

        From now on `latest` leads to the run, unless it selected nothing.
        """
        lines = b"".join(s.model_dump_json(exclude_defaults=True).encode() + b"\n" for s in selected)
        path = self.run_dir / f"selected-{self.worker}.jsonl"
        with _disk(path):
            _write(path, lines)
        if lines:
            _point_latest(self.run_dir.parent, self.run_dir)

    def abandon(self) -> None:
        """Remove the run: nothing was selected, so there is nothing to keep."""
        self.finished = True
        self.close()
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def append(self, result: CaseResult) -> None:
        """Keep a finished case."""
        if result.ended is None:
            result = result.model_copy(update={"ended": datetime.now(UTC)})
        self._line("cases", _as_line(result))
        self._keep_sequences(result)

    def _keep_sequences(self, result: CaseResult) -> None:
        """A replay file (`assay9 replay`) for each undeclared failing sequence of calls."""
        for number, one in enumerate(result.findings, 1):
            if one.known or "sequence" not in one.values:
                continue
            target = json.loads((self.run_dir / ENVIRONMENT).read_bytes())["target"]
            about = {"kind": REPLAY, "target": target, "case": result.id, "mount": result.mount, "finding": one.text}
            kept = json.dumps({**about, "steps": json.loads(one.values["sequence"])}, indent=1) + "\n"
            name = re.sub(r"[^A-Za-z0-9=_.-]+", "_", f"{result.id}-{result.mount}-{number}")
            with _disk(self.run_dir):
                (self.run_dir / SEQUENCES).mkdir(exist_ok=True)
                _write(self.run_dir / SEQUENCES / f"{name}.json", kept.encode())

    def trouble(self, text: str) -> None:
        """Keep a failure of the infrastructure outside any case, e.g. a guest that never answered."""
        self.troubled = True
        found = Trouble(at=datetime.now(UTC), worker=self.worker, text=text)
        self._line("troubles", found.model_dump_json().encode())

    def finish(self, interrupted: bool = False, interrupted_by: str = "", why_not_run: str = "") -> Record:
        """End the run: gather the files of all workers into record.json, and return it.

        `interrupted_by` names the signal that ended it; `why_not_run` is the reason of the cases that were selected and
        of which nothing was recorded.
        """
        self.finished = True
        self.close()
        reason = why_not_run or (f"not run: interrupted by {interrupted_by}" if interrupted_by else "not run")
        with _disk(self.run_dir):
            gathered = gather(self.run_dir, reason)
        environment = gathered.environment.model_copy(update={"ended": datetime.now(UTC)})
        record = gathered.model_copy(
            update={
                "environment": environment,
                "interrupted": interrupted or bool(interrupted_by),
                "interrupted_by": interrupted_by,
                "earlier": earlier(self.run_dir, environment, gathered.results),
            }
        )
        path = self.run_dir / RECORD
        with _disk(path):
            _write(path, record.model_dump_json(exclude_none=True).encode())
            _write(self.run_dir / SUMMARY, json.dumps(summary(record), indent=0).encode())
            _Last.remember(path, record)
        _point_latest(self.run_dir.parent, self.run_dir)
        return record

    def copy(self, whole: Record) -> Record:
        """Write a record that was merged from others as a new run, and end it."""
        fields = set(Demand.model_fields)
        self.select(Selected(node_id=f"{r.id}[{r.mount}]", **r.model_dump(include=fields)) for r in whole.results)
        for result in whole.results:
            self.append(result)
        for trouble in whole.troubles:
            self.trouble(trouble.text)
        return self.finish(whole.interrupted, whole.interrupted_by)

    def close(self) -> None:
        """Sync the appended lines to disk; appending is still possible afterwards."""
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
            _append(file, line + b"\n")
            now = time.monotonic()
            if now - self._synced >= _SYNC_SECONDS:
                os.fsync(file.fileno())
                self._synced = now


def load_run(run_dir: Path) -> Record:
    """Read a run directory: record.json if the run has ended, otherwise the files of its workers so far.

    A run without record.json counts as interrupted. Lines that cannot be read are named in `damage`.
    Raises UsageError, one line, for what is not a run directory and for a record of a newer schema.
    """
    path = run_dir / RECORD
    try:
        remembered = _Last.get(path)
        return remembered if remembered is not None else _Last.remember(path, _read_record(path))
    except FileNotFoundError:
        pass
    except OSError as e:
        raise UsageError(f"{e.filename or path} cannot be read: {e.strerror}; get the run's directory again") from None
    if not (run_dir / ENVIRONMENT).is_file():
        what = "holds neither record.json nor environment.json: name the directory of a run"
        raise UsageError(f"{run_dir} {what if run_dir.is_dir() else 'does not exist'}")
    return gather(run_dir, _UNFINISHED).model_copy(update={"interrupted": True})


class _Last:
    """The record read last: the gate, the summary and every report of one process need the same."""

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
    check_file(path)
    try:
        record = Record.model_validate_json(content(path))
        if record.schema_version > SCHEMA_VERSION:
            raise UsageError(newer(path, record.schema_version))
        return record
    except ValidationError as e:
        read_json(path)  # gives a better error for a truncated or newer file
        what = f"is not a record of schema version {SCHEMA_VERSION} ({first_problem(e)})"
        raise UsageError(f"{path} {what}: name the directory of a run") from None


def _as_line(result: CaseResult) -> bytes:
    try:
        return result.model_dump_json(exclude_defaults=True, warnings="error").encode()
    except PydanticSerializationError:
        pass  # a name that is not UTF-8 where the caller did not spell it out: rare, so paid for only here
    try:
        plain = _spelled_out(result.model_dump(warnings=False))
        return CaseResult.model_validate(plain).model_dump_json(exclude_defaults=True).encode()
    except ValidationError as e:
        raise SuiteError(f"{result.id}: its evidence is malformed: {first_problem(e)}") from None


def _spelled_out(value: Any) -> Any:
    if isinstance(value, dict):
        return {printable(k): _spelled_out(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_spelled_out(v) for v in value]
    return printable(value)


def _fresh(results_dir: Path, environment: Environment) -> Path:
    """A new directory, named by the run's start and its target."""
    name = f"{environment.started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{directory_name(environment.target)}"
    for attempt in range(1, 1000):
        run_dir = results_dir / (name if attempt == 1 else f"{name}-{attempt}")
        with contextlib.suppress(FileExistsError):
            run_dir.mkdir()
            return run_dir
    raise SuiteError(f"{results_dir} holds a thousand runs named {name}")


def _point_latest(results_dir: Path, run_dir: Path) -> None:
    """`latest` -> the newest run; a convenience, so a file system without symbolic links is not a failure."""
    new = results_dir / f".latest-{os.getpid()}"
    with contextlib.suppress(OSError):
        new.unlink(missing_ok=True)
        new.symlink_to(run_dir.name)
        os.replace(new, results_dir / "latest")
    with contextlib.suppress(OSError):
        new.unlink(missing_ok=True)


def _append(file: IO[bytes], data: bytes) -> None:
    """Write the whole line or nothing: after a partial write on a full disk the next line must not begin there."""
    begun, left = os.fstat(file.fileno()).st_size, memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        os.ftruncate(file.fileno(), begun)
        raise


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically."""
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
            f"the evidence cannot be kept: {where}: {e.strerror or e}",
            "free some space, leave the directory of a run alone, or choose another --results",
        ) from None


def find_run(name: str, results: Path) -> Path:
    """The directory of a run. Raises UsageError if there is none of that name."""
    of_target = sorted(results.glob(f"*Z-{name}")) if "/" not in name else []
    for path in (results / name, *of_target[-1:], Path(name)):
        if path.is_dir():
            return path.resolve()
    if name == "latest":
        raise UsageError(f"no run in {results}: start one with `assay9 run TARGET`, or name another --results")
    raise UsageError(f"no run {name!r} here or in {results}: `ls {results}` lists the runs")
