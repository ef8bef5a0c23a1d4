"""`assay9 explore` and `assay9 replay` on a directory of this host, and what both refuse."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay9.explore import explore, replay
from conformance.errors import UsageError
from conformance.model.step import Step, to_replay

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the model is root's: permissions are not checked")


@needs_root
def test_one_seed_is_played_and_counted(tmp_path: Path) -> None:
    words = ["local", "--for", "1s", "--sequences", "5", "--results", str(tmp_path)]
    done = CliRunner().invoke(explore, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "pairs of operation and state" in done.output and "0 different undeclared findings" in done.output


@needs_root
@pytest.mark.parametrize(("name", "status"), [("a", 0), ("n" * 300, 1)])
def test_a_sequence_is_played_again(tmp_path: Path, name: str, status: int) -> None:
    """The model has no limit on the length of a name, so the second sequence fails on every file system."""
    step = Step("mkdir", (name, 0o755))
    file = tmp_path / "s.json"
    file.write_text(json.dumps(to_replay([step], target="local", mount="cache=none")))
    done = CliRunner().invoke(replay, [str(file)], catch_exceptions=False)
    assert done.exit_code == status, done.output


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read"),
        ("{", "not a replay file"),
        ("{}", "not a replay file"),
        ('{"kind": "assay9-sequence", "steps": []}', "target"),
    ],
)
def test_what_cannot_be_played_again(tmp_path: Path, text: str | None, why: str) -> None:
    file = tmp_path / "s.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=why):
        CliRunner().invoke(replay, [str(file)], catch_exceptions=False)
