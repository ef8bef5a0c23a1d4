"""Workload `tree` passes on a sound file system and finds what is wrong with a broken one."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soak.inside import common, tree
from tests.waiting import PATIENT


def context(tmp_path: Path, **more: Any) -> common.Context:
    (tmp_path / "keep").mkdir()
    config = {
        "root": str(tmp_path / "assay9-soak-x"),
        "dir": str(tmp_path),
        "out": str(tmp_path / "out"),
        "keep": str(tmp_path / "keep"),
        "steps": 60,
        "workers": 2,
        "check_seconds": PATIENT,
        **more,
    }
    made = common.Context(config)
    common.fresh(made.root)
    return made


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Play the runner's part of checks from outside until the test ends."""
    ended, threads = threading.Event(), list[threading.Thread]()

    def run(text: str) -> None:
        while not any(json.loads(line)["e"] == "ask" for line in (tmp_path / "out").read_text().splitlines()):
            if ended.wait(0.01):
                return
        (tmp_path / "answer.new").write_text(json.dumps({"answer": text}))
        (tmp_path / "answer.new").rename(tmp_path / "answer-0-1")

    def start(text: str) -> None:
        threads.append(threading.Thread(target=run, args=(text,)))
        threads[-1].start()

    yield start
    ended.set()
    for thread in threads:
        thread.join()


def test_a_sound_file_system_passes(tmp_path: Path, answering: Callable[[str], None]) -> None:
    made = context(tmp_path)
    answering("")
    data = tree.iterate(made, common.generator(1))
    assert data["ops"] == 120
    assert data["entries"] > 5


def test_what_outside_sees_otherwise_is_a_finding(tmp_path: Path, answering: Callable[[str], None]) -> None:
    made = context(tmp_path)
    answering("outside sees: nothing")
    with pytest.raises(common.Finding, match="outside sees something else"):
        tree.iterate(made, common.generator(1))


@pytest.mark.parametrize("call", ["rename", "unlink", "link"])
def test_a_call_that_is_swallowed_is_found(
    tmp_path: Path, answering: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real, calls = getattr(os, call), [0]

    def swallowing(*args: Any, **kw: Any) -> Any:
        calls[0] += 1
        return None if calls[0] == 3 else real(*args, **kw)

    made = context(tmp_path)
    monkeypatch.setattr(os, call, swallowing)
    answering("")
    with pytest.raises(common.Finding):
        tree.iterate(made, common.generator(2))


def test_no_directory_but_our_own_is_emptied(tmp_path: Path) -> None:
    made = context(tmp_path)
    made.root = str(tmp_path / "precious")
    (tmp_path / "precious").mkdir()
    with pytest.raises(RuntimeError, match="refusing"):
        common.fresh(made.root)
    assert (tmp_path / "precious").is_dir()
