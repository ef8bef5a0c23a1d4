"""`assay9 explore` and `assay9 replay` on a directory of this host, and what both refuse."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay9.explore import explore, replay
from conformance.errors import UsageError
from conformance.model.step import Step, to_replay
from conformance.selftest.bench import imported_from, made
from conformance.selftest.declared import SourceFault

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the model is root's: permissions are not checked")


@needs_root
def test_one_seed_is_played_and_counted(tmp_path: Path) -> None:
    words = ["local", "--for", "1s", "--sequences", "5", "--results", str(tmp_path)]
    done = CliRunner().invoke(explore, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "pairs of operation and state" in done.output and "0 different undeclared findings" in done.output


@needs_root
def test_messages_are_played_where_there_is_no_share(tmp_path: Path) -> None:
    """A seed makes the same requests and reaches the same lines again, whatever the machine does beside."""

    def said(*more: str) -> list[str]:
        words = ["reference", "--for", "0.001s", "--sequences", "8", "--results", str(tmp_path), *more]
        done = CliRunner().invoke(explore, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return [line for line in done.stdout.splitlines() if " an hour" not in line]

    once = said()
    assert any(re.fullmatch(r"\d+ lines of the server", line) for line in once)
    assert once == said()
    assert once != said("--seed", "2") and once != said("--no-guide")


@needs_root
def test_a_message_that_the_model_does_not_allow_is_shown(tmp_path: Path) -> None:
    fault = SourceFault(
        name="writes-are-counted-short",
        file="handlers/io.py",
        before="    return Rwrite(request.tag, file.write(",
        after="    return Rwrite(request.tag, -1 + file.write(",
        caught=("WIRE-STATES-001",),
    )
    words = ["reference", "--for", "0.001s", "--results", str(tmp_path)]
    with made(fault) as directory, imported_from(directory):
        done = CliRunner().invoke(explore, words, catch_exceptions=False)
    assert done.exit_code == 1, done.output
    assert re.search(
        r"^fail seed 1: write\(fid .* ended with success with .*, allowed is success with", done.output, re.M
    )


def test_a_mount_of_what_has_no_share_is_refused(tmp_path: Path) -> None:
    words = ["reference", "--mount", "cache=mmap", "--results", str(tmp_path)]
    with pytest.raises(UsageError, match="--mount does not apply: target reference has no mounted share"):
        CliRunner().invoke(explore, words, catch_exceptions=False)


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
