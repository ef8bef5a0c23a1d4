"""An interrupted self test resumes, and `--alone` tries every family that has its own faults."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from assay9 import selftest
from assay9.selftest import Outcome, Task
from conformance.errors import UsageError
from conformance.selftest.alone import families_of
from conformance.selftest.declared import declared
from conformance.selftest.progress import Progress


def tried_at_once(task: Task) -> list[Outcome]:
    return [Outcome(name, "wire", "") for name in task.names]


OUTCOME = {"layer": "wire", "missed": "", "left_out": ""}


def test_what_was_tried_is_there_at_the_next_call(tmp_path: Path) -> None:
    file = tmp_path / "progress"
    first = Progress(file, "wire")
    assert first.done == {}
    first.keep("one", OUTCOME)
    with file.open("a") as torn:
        torn.write('{"name": "two", "lay')
    assert Progress(file, "wire").done == {"one": {"name": "one", **OUTCOME}}


def test_a_file_of_another_command_line_is_refused(tmp_path: Path) -> None:
    Progress(tmp_path / "progress", "wire")
    with pytest.raises(UsageError, match="written for other sources or another command line"):
        Progress(tmp_path / "progress", "vfs")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "progress").write_text("words\n")
    with pytest.raises(UsageError, match="cannot be used for progress"):
        Progress(tmp_path / "progress", "wire")


def test_every_family_is_asked_with_the_faults_that_it_alone_is_there_for() -> None:
    found = {
        (one.layer, one.name): one for one in families_of(declared(sorted(Path(__file__).parent.glob("*.toml")))[0])
    }
    assert ("vfs", "stacked") in found and ("property", "four_shares") in found
    assert all(fault.layer == layer for (layer, _), one in found.items() for fault in one.faults)


def test_nothing_of_the_pool_is_left_when_all_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that is still being shut down when Python ends prints a traceback now and then: one call in nine."""
    monkeypatch.setattr(selftest, "_try", tried_at_once)
    before = set(threading.enumerate())
    faults = declared(sorted(Path(__file__).parent.glob("*.toml")))[0][:5]
    found = list(selftest._run([Task("reference", (one,)) for one in faults], 2, Progress(None, "")))
    assert {one.name for one in found} == {one.name for one in faults}
    assert set(threading.enumerate()) <= before


def test_faults_that_need_another_target_come_last_in_their_family() -> None:
    source, _ = declared(sorted(Path(__file__).parent.glob("*.toml")))
    outage = next(one for one in families_of(source) if one.name == "outage")
    elsewhere = [bool(fault.target) for fault in outage.faults]
    assert elsewhere == sorted(elsewhere) and any(elsewhere) and not all(elsewhere)
