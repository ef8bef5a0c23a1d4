"""The journal keeps everything written to it, even when its writer is killed."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import pytest
from click.testing import CliRunner

from conformance.errors import InfrastructureError, UsageError
from soak import journal as journals
from soak.cli import soak
from soak.judges.record import Record
from soak.plan import Plan, jobs_of

if TYPE_CHECKING:
    from _typeshed import TraceFunction


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    with journals.create(tmp_path / "run", {"seed": 7}) as journal:
        journal.begin_session({"pid": 1})
        journal.event("trouble", what="x")
        journal.end(journal.begin("tree", 0), "pass", 1.5, {"ops": 3})
        journal.begin("tree", 1)
        journal.sample({"a": 1.0, "b.c": 123456789.0})
        journal.sample({"b.c": 0.25})
    with journals.open_existing(tmp_path / "run", writable=False) as journal:
        assert journal.plan == {"seed": 7}
        assert [(e.kind, e.data) for e in journal.events()] == [("trouble", {"what": "x"})]
        first, second = journal.iterations()
        assert (first.outcome, first.seconds, first.data) == ("pass", 1.5, {"ops": 3})
        assert second.outcome is None
        assert journal.next_number("tree") == 1
        assert [s.values for s in journal.samples()] == [{"a": 1.0, "b.c": 123457000.0}, {"b.c": 0.25}]
        assert journal.sound()


def test_nothing_can_be_changed_or_removed(tmp_path: Path) -> None:
    with journals.create(tmp_path / "run", {}) as journal:
        journal.begin_session({})
        journal.event("note")
        journal.end(journal.begin("tree", 0), "pass", 1.0, {})
    db = sqlite3.connect(tmp_path / "run" / journals.FILE)
    for table in ("meta", "sessions", "events", "begun", "ended"):
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = rowid + 1"):
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                db.execute(statement)


def test_an_iteration_cannot_end_twice(tmp_path: Path) -> None:
    with journals.create(tmp_path / "run", {}) as journal:
        journal.begin_session({})
        row = journal.begin("tree", 0)
        journal.end(row, "pass", 1.0, {})
        with pytest.raises(sqlite3.IntegrityError):
            journal.end(row, "pass", 1.0, {})
        again = journal.begin("tree", 0)
        with pytest.raises(sqlite3.IntegrityError):
            journal.end(again, "fail", 1.0, {})
        assert len([i for i in journal.iterations() if i.outcome]) == 1


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with journals.create(tmp_path / "run", {}):
        assert journals.in_use(tmp_path / "run")
        with pytest.raises(UsageError, match="another process"):
            journals.open_existing(tmp_path / "run", writable=True)
        journals.open_existing(tmp_path / "run", writable=False).close()
    assert not journals.in_use(tmp_path / "run")


def interrupted_at(moment: int, directory: Path) -> bool:
    """Create a journal and raise KeyboardInterrupt before the line of that number. Returns whether it was reached."""
    left = moment

    def trace(frame: FrameType, event: str, _: object) -> TraceFunction | None:
        nonlocal left
        if frame.f_code.co_filename != journals.__file__:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        journals.create(directory, {"seed": 7}).close()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_a_creation_that_is_interrupted_leaves_a_whole_journal_or_nothing(tmp_path: Path) -> None:
    """Earlier, this left a directory without a journal, which no command recognised."""
    left: set[str] = set()
    moment = 0
    while interrupted_at(moment, tmp_path / f"soak-{moment}"):
        for path in tmp_path.iterdir():
            with journals.open_existing(path, writable=False) as journal:
                assert journal.plan == {"seed": 7}
            left.add(path.name)
        moment += 1
    assert moment > 20
    assert len(left) < moment / 4, "the name is given too early"


def test_a_disk_that_is_full_at_the_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(journals, "_json", full)
    with pytest.raises(InfrastructureError, match="cannot be created"):
        journals.create(tmp_path / "run", {})
    assert not list(tmp_path.iterdir())


def test_a_directory_of_that_name_is_left_alone(tmp_path: Path) -> None:
    journals.create(tmp_path / "run", {"seed": 7}).close()
    with pytest.raises(UsageError, match="cannot be created"):
        journals.create(tmp_path / "run", {"seed": 8})
    with journals.open_existing(tmp_path / "run", writable=False) as journal:
        assert journal.plan == {"seed": 7}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_another_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals.create(tmp_path / "run", {}).close()
    monkeypatch.setattr(journals, "SCHEMA", 2)
    with pytest.raises(UsageError, match="schema 1, this version reads 2"):
        journals.open_existing(tmp_path / "run", writable=False)


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a soak run"):
        journals.open_existing(tmp_path, writable=False)
    (tmp_path / journals.FILE).write_bytes(b"this is not a database, it only has its name" * 100)
    with pytest.raises(UsageError, match="not a journal of a soak run"):
        journals.open_existing(tmp_path, writable=False)


def whole(directory: Path) -> Path:
    """A run with a journal that has rows in each table."""
    plan = Plan(target="local", jobs=jobs_of(["tree"], 1, {}), seed=1, iterations=9)
    with journals.create(directory, plan.model_dump()) as journal:
        journal._db.execute("PRAGMA synchronous = OFF")
        journal.begin_session({"pid": 1})
        journal.event("environment", target_version="Linux")
        for number in range(200):
            journal.end(journal.begin("tree", number), "pass", 1.0, {"ops": 3})
            journal.sample({"host.load1": 1.0, "probe.age": float(number)})
    return directory


def flipped(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.randrange(1, 40)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def page_lost(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8192:12288] = bytes(4096)
    path.write_bytes(data)


def row_changed(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    db.execute(statement)
    db.commit()
    db.close()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda p: p.write_bytes(b""),
    "cut": lambda p: os.truncate(p, p.stat().st_size // 2),
    "cut in the header": lambda p: os.truncate(p, 50),
    "page of zeros": page_lost,
    "text": lambda p: p.write_text("no journal at all\n" * 1000),
    "no plan": lambda p: row_changed(p, "DELETE FROM meta WHERE key = 'plan'"),
    "plan is not JSON": lambda p: row_changed(p, "UPDATE meta SET value = '{' WHERE key = 'plan'"),
    "plan is not a plan": lambda p: row_changed(p, "UPDATE meta SET value = '[1]' WHERE key = 'plan'"),
    "plan of another version": lambda p: row_changed(p, "UPDATE meta SET value = '{\"seed\": 1}' WHERE key = 'plan'"),
    "event is not JSON": lambda p: row_changed(p, "UPDATE events SET data = x'ff00' WHERE kind = 'environment'"),
    "sample of no series": lambda p: row_changed(p, "UPDATE samples SET vals = '77:1' WHERE id = 3"),
    "no table": lambda p: row_changed(p, "DROP TABLE samples"),
}


@pytest.mark.parametrize("command", ["status", "report", "resume"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_journal_is_one_line(tmp_path: Path, damage: str, command: str) -> None:
    """Earlier, this was a traceback of sqlite3 and exit status 1."""
    run = whole(tmp_path / "soak-1-local")
    DAMAGE[damage](run / journals.FILE)
    result = CliRunner().invoke(soak, [command, str(run)])
    if command == "status" and damage in ("sample of no series", "event is not JSON"):
        return  # it may not have looked there
    assert isinstance(result.exception, UsageError), result.output
    said = str(result.exception)
    assert "\n" not in said and "journal" in said and ("backup" in said or "begin" in said)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a read-only directory: needs root")
def test_a_journal_where_nothing_can_be_written_is_read(tmp_path: Path) -> None:
    """With results on a read-only mount, status and report must work; resume cannot."""
    whole(tmp_path / "soak-1-local")
    script = """mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 9
        "$2" -m assay9 soak status "$1/soak-1-local"; echo "status $?"
        "$2" -m assay9 soak resume "$1/soak-1-local"; echo "resume $?" """
    done = subprocess.run(
        ["unshare", "--mount", "--", "sh", "-c", script, "sh", str(tmp_path), sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "status 0" in done.stdout and "200 pass" in done.stdout, done.stderr
    assert "resume 2" in done.stdout and "cannot be written" in done.stderr and "Traceback" not in done.stderr


def test_flipped_bits_are_never_a_traceback(tmp_path: Path) -> None:
    """Damage that SQLite cannot detect may be read as other data; it raises nothing but a UsageError."""
    run, refused = whole(tmp_path / "run"), 0
    sound = (run / journals.FILE).read_bytes()
    for seed in range(60):
        (run / journals.FILE).write_bytes(sound)
        flipped(run / journals.FILE, random.Random(seed))
        try:
            with journals.open_existing(run, writable=False) as journal:
                Record.of(journal)
        except UsageError:
            refused += 1
    assert refused > 30


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    with journals.create(tmp_path / "run", {}) as journal:
        journal.begin_session({})
        journal._db.execute("PRAGMA max_page_count = 20")
        written = 0
        with pytest.raises(InfrastructureError, match="cannot be written"):
            while True:
                journal.event("note", text="x" * 1000)
                written += 1
        assert len(journal.events()) == written > 0
        assert journal.sound()


@pytest.mark.parametrize("how", ["removed", "replaced", "moved away with its directory"])
def test_a_journal_that_is_taken_away_ends_the_run_at_once(tmp_path: Path, how: str) -> None:
    """Earlier, a soak of a day ran to its end, and nothing of it was kept."""
    run = tmp_path / "run"
    with journals.create(run, {}) as journal:
        journal.begin_session({})
        if how.startswith("moved"):
            run.rename(tmp_path / "elsewhere")
        else:
            (run / journals.FILE).unlink()
        if how == "replaced":
            (run / journals.FILE).write_bytes(b"")
        with pytest.raises(InfrastructureError, match="was removed or replaced while the run wrote to it"):
            journal.event("note")


def test_a_day_of_default_sampling_stays_under_20_mb(tmp_path: Path) -> None:
    names = [f"series.{n}" for n in range(40)]
    run = tmp_path / "run"
    ticks = 300
    with journals.create(run, {}) as journal:
        journal._db.execute("PRAGMA synchronous = OFF")
        journal.begin_session({})
        before = (run / journals.FILE).stat().st_size
        for tick in range(ticks):
            journal.sample({name: tick * 1234.567 + n for n, name in enumerate(names)})
    grown = (run / journals.FILE).stat().st_size - before
    assert grown / ticks * 86400 / 10 < 20_000_000
