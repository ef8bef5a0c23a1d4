"""The record of a soak run: one append-only SQLite file. Everything else is derived from it.

Rule of this module: it knows nothing of targets, workloads or judges. Rows are never changed or removed; triggers in
the database refuse that. Every write is its own transaction and is on the disk when the method returns, so kill -9, a
full disk or a power cut costs at most the iteration in progress.

An iteration is two rows, its beginning and its end. One without an end was cut off, and `resume` begins it again under
the same number, and so with the same seed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from conformance.errors import InfrastructureError, UsageError

SCHEMA = 1
"""Version of the tables below. A journal of another version is refused, never guessed at."""

FILE = "journal.sqlite"
NO_PLACE = frozenset({"EACCES", "EPERM", "ENOENT", "ENOTDIR", "EEXIST", "ENOTEMPTY", "EROFS", "ELOOP", "ENAMETOOLONG"})
"""Errnos of a wrong results directory; other errors are the machine's."""

Row = TypeVar("Row")
Outcome = Literal["pass", "fail", "error", "cut"]
"""`cut`: ended by the expected effect of a fault (ENOSPC while the export is full); not judged."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sessions (id INTEGER PRIMARY KEY, at REAL NOT NULL, data TEXT NOT NULL);
CREATE TABLE events (id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions, at REAL NOT NULL,
                     kind TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE begun (id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions, at REAL NOT NULL,
                    workload TEXT NOT NULL, number INTEGER NOT NULL);
CREATE TABLE ended (begun INTEGER PRIMARY KEY REFERENCES begun, workload TEXT NOT NULL, number INTEGER NOT NULL,
                    at REAL NOT NULL, outcome TEXT NOT NULL, seconds REAL NOT NULL, data TEXT NOT NULL,
                    UNIQUE (workload, number));
CREATE TABLE series (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE samples (id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions, at REAL NOT NULL,
                      vals TEXT NOT NULL);
"""
# Journals of version 0.1.0 have these names; reading translates them to today's.
_EARLIER_KINDS = {"disturb": "fault", "disturb-data": "fault-data"}  # codespell:ignore
_EARLIER_PLAN = {"disturbances": "faults", "disturb_seconds": "fault_seconds"}  # codespell:ignore
_NAMES = ("meta", "sessions", "events", "begun", "ended", "series", "samples")


@dataclass(frozen=True, slots=True)
class Session:
    """One process that worked on the run: the first, and one for each `resume`."""

    id: int
    at: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, with its time in seconds since 1970."""

    id: int
    session: int
    at: float
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Iteration:
    """One unit of work. Without an outcome it was cut off; `seconds` was measured by the guest."""

    id: int
    session: int
    workload: str
    number: int
    at: float
    ended_at: float | None
    outcome: Outcome | None
    seconds: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """The monitors' values at one moment, by the name of the series."""

    session: int
    at: float
    values: dict[str, float]


class Journal:
    """An open journal; `writable` by one process at a time (a lock ensures it, and ends with the process)."""

    def __init__(self, run_dir: Path, connection: sqlite3.Connection, lock: int | None) -> None:
        self.run_dir = run_dir
        self._db, self._lock = connection, lock
        self._file = _identity(run_dir / FILE)
        self.session = 0
        self._series: dict[str, int] = {}

    @property
    def plan(self) -> dict[str, Any]:
        """What the run was requested to do."""
        found = self._read("SELECT value FROM meta WHERE key = 'plan'", _loads)
        if not found:
            raise damaged(self.run_dir / FILE, ValueError("it holds no plan"))
        return {_EARLIER_PLAN.get(key, key): value for key, value in found[0].items()}

    # ------------------------------------------------------------ writing

    def begin_session(self, data: dict[str, Any]) -> int:
        """This process works on the run from now on."""
        self.session = self._add("INSERT INTO sessions (at, data) VALUES (?, ?)", time.time(), _json(data))
        return self.session

    def event(self, kind: str, **data: Any) -> None:
        """Record that something happened."""
        statement = "INSERT INTO events (session, at, kind, data) VALUES (?, ?, ?, ?)"
        self._add(statement, self.session, time.time(), kind, _json(data))

    def begin(self, workload: str, number: int) -> int:
        """An iteration begins; returns the number for `end`."""
        statement = "INSERT INTO begun (session, at, workload, number) VALUES (?, ?, ?, ?)"
        return self._add(statement, self.session, time.time(), workload, number)

    def end(self, begun: int, outcome: Outcome, seconds: float, data: dict[str, Any]) -> None:
        """An iteration ended. The database refuses a second end."""
        statement = "INSERT INTO ended SELECT id, workload, number, ?, ?, ?, ? FROM begun WHERE id = ?"
        self._add(statement, time.time(), outcome, seconds, _json(data), begun)

    def sample(self, values: dict[str, float]) -> None:
        """Add the monitors' current values."""
        with self._writing():
            for name in values.keys() - self._series.keys():
                self._db.execute("INSERT OR IGNORE INTO series (name) VALUES (?)", (name,))
                found = self._db.execute("SELECT id FROM series WHERE name = ?", (name,)).fetchone()
                self._series[name] = int(found[0])
            packed = ",".join(f"{self._series[name]}:{value:.6g}" for name, value in values.items())
            self._db.execute(
                "INSERT INTO samples (session, at, vals) VALUES (?, ?, ?)",
                (self.session, round(time.time(), 2), packed),
            )

    # ------------------------------------------------------------ reading

    def sessions(self) -> list[Session]:
        """Every session, oldest first."""
        return self._read(
            "SELECT id, at, data FROM sessions ORDER BY id", lambda i, at, data: Session(i, at, _loads(data))
        )

    def events(self, *kinds: str, after: int = 0) -> list[Event]:
        """Every event of these kinds (of all kinds when none is named), oldest first."""
        made = self._read(
            "SELECT id, session, at, kind, data FROM events WHERE id > ? ORDER BY id",
            lambda i, s, at, kind, data: Event(i, s, at, _EARLIER_KINDS.get(str(kind), str(kind)), _loads(data)),
            after,
        )
        return [event for event in made if not kinds or event.kind in kinds]

    def iterations(self) -> list[Iteration]:
        """Every iteration that began, oldest first."""
        return self._read(
            "SELECT b.id, b.session, b.workload, b.number, b.at, e.at, e.outcome, e.seconds, e.data"
            " FROM begun b LEFT JOIN ended e ON e.begun = b.id ORDER BY b.id",
            lambda i, s, w, n, at, ended, outcome, seconds, data: Iteration(
                i, s, w, n, at, ended, outcome, seconds or 0.0, _loads(data or "{}")
            ),
        )

    def next_number(self, workload: str) -> int:
        """The first number of that workload whose iteration has not ended."""
        (newest,) = self._read("SELECT max(number) FROM ended WHERE workload = ?", lambda number: number, workload)
        return 0 if newest is None else int(newest) + 1

    def samples(self) -> list[Sample]:
        """Every sample, oldest first."""
        names = dict(self._read("SELECT id, name FROM series", lambda i, name: (i, str(name))))

        def sample(session: int, at: float, packed: str) -> Sample:
            pairs = (part.split(":") for part in packed.split(",") if part)
            return Sample(session, at, {names[int(i)]: float(v) for i, v in pairs})

        return self._read("SELECT session, at, vals FROM samples ORDER BY id", sample)

    def sound(self) -> bool:
        """SQLite's own check of the file."""
        return self._read("PRAGMA integrity_check", str) == ["ok"]

    def _read(self, query: str, made: Callable[..., Row], *parameters: Any) -> list[Row]:
        """The result of `made` for each row. Raises UsageError if the file is damaged."""
        try:
            return [made(*row) for row in self._db.execute(query, parameters)]
        except (sqlite3.DatabaseError, ValueError, TypeError, KeyError, AttributeError) as e:
            raise damaged(self.run_dir / FILE, e) from e

    def close(self) -> None:
        """Close it."""
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add(self, statement: str, *values: Any) -> int:
        """Add a row in its own transaction; returns its number."""
        with self._writing():
            return int(self._db.execute(statement, values).lastrowid or 0)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
            if _identity(self.run_dir / FILE) != self._file:
                raise InfrastructureError(
                    f"the journal {self.run_dir / FILE} was removed or replaced while the run wrote to it",
                    "leave the directory of a run alone; start another run",
                )
        except BaseException as e:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            if isinstance(e, sqlite3.OperationalError):
                raise InfrastructureError(
                    f"the journal {self.run_dir / FILE} cannot be written: {e}",
                    "make room on its disk, then `assay9 soak resume`; what it holds is intact",
                ) from e
            if isinstance(e, sqlite3.DatabaseError) and not isinstance(e, sqlite3.IntegrityError):
                raise damaged(self.run_dir / FILE, e) from e
            raise  # IntegrityError: an invalid row, a defect of the suite


def create(run_dir: Path, plan: dict[str, Any]) -> Journal:
    """A new journal in a new directory, open for writing.

    The directory gets its name when the journal is complete. An earlier end, even by a signal, leaves nothing.
    """
    new = run_dir.with_name(f".{run_dir.name}.{os.getpid()}.new")
    try:
        new.mkdir(parents=True)
        lock = _lock(new)
        _write_new(new / FILE, plan)
        new.rename(run_dir)
        db = _connect(run_dir / FILE)
    except (OSError, sqlite3.OperationalError) as e:
        shutil.rmtree(new, ignore_errors=True)
        if isinstance(e, OSError) and errno.errorcode.get(e.errno or 0) in NO_PLACE:
            raise UsageError(
                f"{run_dir} cannot be created ({e.strerror}): name another directory with --results"
            ) from e
        raise InfrastructureError(
            f"the journal in {run_dir} cannot be created: {e}", "name another directory with --results"
        ) from e
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return Journal(run_dir, db, lock)


def _write_new(path: Path, plan: dict[str, Any]) -> None:
    """An empty journal of that plan."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";"):
            db.execute(statement)
        for name in _NAMES:
            for verb in ("UPDATE", "DELETE"):
                db.execute(
                    f"CREATE TRIGGER {name}_{verb.lower()} BEFORE {verb} ON {name} "
                    f"BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
                )
        db.execute("INSERT INTO meta VALUES ('schema', ?), ('plan', ?)", (str(SCHEMA), _json(plan)))
        db.execute("COMMIT")


def open_existing(run_dir: Path, *, writable: bool) -> Journal:
    """The journal of a run. Raises UsageError if there is none that this version can read, or it is damaged.

    A journal that is only read may be in a read-only place.
    """
    path = run_dir / FILE
    if not path.is_file():
        raise UsageError(f"{run_dir} is not a soak run (it has no {FILE}): name another directory")
    try:
        lock = _lock(run_dir) if writable else None
    except OSError as e:
        raise UsageError(f"{run_dir} cannot be written ({e.strerror}): a run can only be resumed where it can") from e
    try:
        db = _connect(path) if os.access(run_dir, os.W_OK) else _only_read(path)
        row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        wrong = [] if row is None else [str(r[0]) for r in db.execute("PRAGMA quick_check(1)")]
    except (sqlite3.DatabaseError, ValueError) as e:
        if lock is not None:
            os.close(lock)
        raise damaged(path, e) from e
    found = "none" if row is None else row[0]
    if found != str(SCHEMA):
        raise UsageError(f"{path} has schema {found}, this version reads {SCHEMA}: use the assay9 that wrote it")
    journal = Journal(run_dir, db, lock)
    if wrong != ["ok"]:
        journal.close()
        raise damaged(path, ValueError(" ".join(wrong[0].split())))
    return journal


def damaged(path: Path, why: Exception) -> UsageError:
    """The error for a damaged journal."""
    return UsageError(
        f"the journal {path} is damaged or is not a journal of a soak run ({why}): restore a backup, or start another "
        f"run; `sqlite3 {path.name} .recover` shows what is left of it"
    )


def in_use(run_dir: Path) -> bool:
    """Whether a process has the journal open for writing now."""
    try:
        os.close(_lock(run_dir))
    except UsageError:
        return True
    except OSError:
        return False  # it cannot be locked on that file system
    return False


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file that is; None where there is none."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino


def _lock(run_dir: Path) -> int:
    fd = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(fd)
        raise UsageError(f"{run_dir} is in use by another process: `assay9 soak status {run_dir.name}`") from e
    return fd


def _connect(path: Path) -> sqlite3.Connection:
    # autocommit: transactions are begun explicitly, one for each write
    db = sqlite3.connect(path, isolation_level=None, timeout=30.0)
    db.execute("PRAGMA journal_mode = WAL")
    # NORMAL survives kill -9; FULL also survives a power cut, for one fsync per write
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _only_read(path: Path) -> sqlite3.Connection:
    # SQLite cannot create the index of the WAL in a read-only directory; no process changes the file, so it is read
    # without one
    return sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)


def _loads(text: str) -> dict[str, Any]:
    made = json.loads(text)
    if not isinstance(made, dict):
        raise ValueError(f"{text[:40]!r} is not a JSON object")
    return made


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, default=str)
