"""The model against a real file system of this host: it must allow the kernel's answers, with equal trees."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from conformance.model.filesystem import FileSystem
from conformance.model.generate import sequences
from conformance.model.step import Allowed, Step, listing
from conformance.model.survey import expected_survey
from guests.agent.payload.sequences import close_slots, play

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the model is root's: permissions are not checked")


@given(sequences(60))
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_linux_does_what_the_model_allows(steps: tuple[Step, ...]) -> None:
    model, root = FileSystem(), Path(tempfile.mkdtemp())
    before = os.umask(0o022)
    try:
        calls = [[step.op, step.slot, list(step.operands)] for step in steps]
        outcomes, seen = play(os.fsencode(root), calls, fresh=True)
        for step, (value, error) in zip(steps, outcomes, strict=True):
            allowed = model.step(step)
            assert allowed.holds(value, error), (step, value, error, allowed, "\n".join(listing(steps)))
        assert seen == expected_survey(model)
    finally:
        close_slots()
        os.umask(before)
        shutil.rmtree(root)


def played(*steps: Step) -> list[Allowed]:
    model = FileSystem()
    return [model.step(step) for step in steps]


def test_a_second_name_is_said_of_an_open_file() -> None:
    model = FileSystem()
    model.step(Step("open", ("a", os.O_RDWR | os.O_CREAT, 0o644), 0))
    model.step(Step("link", ("a", "b")))
    assert model.step(Step("lseek", (0, os.SEEK_END), 0)).state == ("linked", "file")
    model.step(Step("unlink", ("a",)))
    assert model.step(Step("lseek", (0, os.SEEK_END), 0)).state == ("moved", "linked", "file")


def test_an_unlinked_file_lives_while_it_is_open() -> None:
    *_, written, seen = played(
        Step("open", ("a", os.O_RDWR | os.O_CREAT, 0o644), 0),
        Step("unlink", ("a",)),
        Step("write", (b"abc",), 0),
        Step("fstat", (), 0),
    )
    assert written.holds(3, "")
    assert not written.holds(None, "ENOENT")
    assert written.state == ("unlinked", "file")
    assert seen.holds({"kind": "file", "mode": 0o644, "nlink": 0, "size": 3}, "")


def test_what_is_not_allowed_does_not_hold() -> None:
    model = FileSystem()
    model.step(Step("open", ("a", os.O_WRONLY | os.O_CREAT, 0o644), 0))
    read = model.step(Step("read", (5,), 0))
    assert read.holds(None, "EBADF")
    assert not read.holds(None, "EISDIR")
    assert not read.holds(b"", "")
    seek = model.step(Step("lseek", (7, os.SEEK_SET), 0))
    assert seek.holds(7, "")
    assert not seek.holds(0, "")


def test_a_gap_reads_as_zeros() -> None:
    *_, read = played(
        Step("open", ("a", os.O_RDWR | os.O_CREAT, 0o644), 0),
        Step("pwrite", (b"x", 3), 0),
        Step("pread", (9, 0), 0),
    )
    assert read.value == b"\0\0\0x"
