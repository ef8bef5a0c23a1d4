"""The journal keeps what it was told, whatever happens to who tells it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from conformance.errors import InfrastructureError, UsageError
from soak import journal as journals


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


def test_another_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals.create(tmp_path / "run", {}).close()
    monkeypatch.setattr(journals, "SCHEMA", 2)
    with pytest.raises(UsageError, match="schema 1, this version reads 2"):
        journals.open_existing(tmp_path / "run", writable=False)


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no soak run"):
        journals.open_existing(tmp_path, writable=False)
    (tmp_path / journals.FILE).write_bytes(b"this is not a database, it only has its name" * 100)
    with pytest.raises(UsageError, match="not a journal"):
        journals.open_existing(tmp_path, writable=False)


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
