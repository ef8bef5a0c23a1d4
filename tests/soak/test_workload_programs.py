"""The workloads that run real programs: they pass on a sound file system, and report a program's messages."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soak.inside import git_work, sqlite_work, tar_work
from soak.inside.common import Finding, generator
from soak.jobs import out_of_space
from tests.soak.inside_context import Alone


@pytest.mark.parametrize(
    ("program", "iterate", "options"),
    [
        ("git", git_work.iterate, {"commits": 2}),
        ("sh", sqlite_work.iterate, {"kills": 1, "seconds": 0.3}),
        ("tar", tar_work.iterate, {"entries": 60}),
    ],
)
def test_one_iteration_on_a_sound_file_system(
    tmp_path: Path, program: str, iterate: Callable[..., dict[str, Any]], options: dict[str, Any]
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"this host has no {program}")
    assert iterate(Alone(tmp_path, **options), generator(1))["ops"] > 0


def test_a_database_that_has_no_room_is_not_accused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is expected to be full, the runner turns such a failure into `cut`."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    for name in ("transfers", "made"):
        with monkeypatch.context() as patched, pytest.raises(Finding, match=r"SQLite .* in journal mode") as found:
            patched.setattr(sqlite_work, name, full)
            sqlite_work.iterate(Alone(tmp_path / name, kills=1), generator(1))
        assert out_of_space({"what": found.value.what, "detail": found.value.detail}), name
    assert not out_of_space({"what": "make failed with status 2", "detail": "Input/output error"})


def test_trees_without_what_a_target_is_known_not_to_keep(tmp_path: Path) -> None:
    tar_work.tree(str(tmp_path / "tree"), generator(3), 150, fifos=False, empty=False, nanoseconds=False)
    entries = tar_work.described(str(tmp_path / "tree"))
    assert not [line for line in entries if line.split("' ")[1].startswith("10644 ")], "no fifo"
    times = [os.lstat(os.path.join(d, n)).st_mtime_ns for d, _, names in os.walk(tmp_path / "tree") for n in names]
    assert times and not any(t % 10**9 for t in times)
    assert not [line for line in entries if line.endswith("user.soak=")], "no empty attribute"
