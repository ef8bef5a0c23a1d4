"""Steps of a sequence: how they are printed and kept."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given

from conformance.model.filesystem import FileSystem
from conformance.model.generate import sequences
from conformance.model.step import REPLAY, Step, as_case, from_replay, listing, to_replay


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step("open", ("a/b", os.O_RDWR | os.O_CREAT, 0o640), 1), "f1 = open('a/b', O_RDWR|O_CREAT, 0o640)"),
        (Step("pwrite", (b"x", 9), 0), "pwrite(f0, b'x', 9)"),
        (Step("fchmod", (0o600,), 2), "fchmod(f2, 0o600)"),
        (Step("rename", ("a", "b"), where="outside"), "outside: rename('a', 'b')"),
        (Step("close", (), 0), "close(f0)"),
    ],
)
def test_a_step_reads_as_a_call(step: Step, text: str) -> None:
    assert str(step) == text


@given(sequences(30))
def test_a_sequence_survives_its_replay_file(steps: tuple[Step, ...]) -> None:
    kept = json.loads(json.dumps([step.to_json() for step in steps]))
    assert tuple(Step.from_json(one) for one in kept) == steps


@given(sequences(30))
def test_every_generated_step_applies_where_it_stands(steps: tuple[Step, ...]) -> None:
    model = FileSystem()
    for step in steps:
        assert model.applies(step), "\n".join(listing(steps))
        model.step(step)


def test_a_replay_file_holds_the_sequence() -> None:
    steps = (Step("open", ("a", os.O_RDWR | os.O_CREAT, 0o640), 1), Step("write", (b"\0\xff",), 1))
    said = json.loads(json.dumps(to_replay(steps, target="local")))
    assert said["target"] == "local"
    assert from_replay(said) == steps


@pytest.mark.parametrize("said", [[], {}, {"kind": "other", "steps": []}, {"kind": REPLAY, "steps": [{"op": "open"}]}])
def test_what_is_no_replay_file(said: object) -> None:
    with pytest.raises(ValueError, match=r"kind|step 1"):
        from_replay(said)


def test_a_sequence_is_printed_as_a_case() -> None:
    steps = (Step("mkdir", ("a", 0o755)), Step("rmdir", ("a",)))
    text = as_case(steps)
    compile(text, "case", "exec")
    assert "Step(op='mkdir', operands=('a', 493)" in text
