"""The exerciser finds wrong file systems, and shrinks the failing sequences."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from soak.inside.common import Finding
from soak.inside.fileops import PAGE, Calls, generate
from soak.inside.integrity import attempt, iterate, shrink
from tests.soak.inside_context import Alone

SIZE = 1 << 16


class LosesTheTail(Calls):
    """A write that crosses a page boundary loses its last byte."""

    @staticmethod
    def pwrite(fd: int, data: Any, at: int, /) -> int:
        written = bytes(data)
        crosses = at // PAGE != (at + len(written) - 1) // PAGE and len(written) > 1
        os.pwrite(fd, written[:-1] + b"\0" if crosses else written, at)
        return len(written)


class CutsBadly(Calls):
    """Extending a file leaves garbage where zeros belong."""

    @staticmethod
    def ftruncate(fd: int, size: int) -> None:
        before = os.fstat(fd).st_size
        os.ftruncate(fd, size)
        if size > before:
            os.pwrite(fd, b"x", size - 1)


class CopiesShort(Calls):
    """copy_file_range reports more bytes than it copied."""

    @staticmethod
    def copy_file_range(
        src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
    ) -> int:
        assert offset_dst is not None
        if count > 1:
            os.copy_file_range(src, dst, count - 1, offset_src, offset_dst)
            os.pwrite(dst, b"\0", offset_dst + count - 1)
            return count
        return os.copy_file_range(src, dst, count, offset_src, offset_dst)


class FailsSometimes(Calls):
    """Every 50th read fails."""

    def __init__(self) -> None:
        self.count = 0

    def pread(self, fd: int, length: int, at: int, /) -> bytes:
        self.count += 1
        if self.count % 50 == 0:
            raise OSError(5, "Input/output error")
        return os.pread(fd, length, at)


def test_a_right_file_system_passes(tmp_path: Path) -> None:
    context = Alone(tmp_path, ops=300, sequences=2, size=SIZE)
    assert iterate(context, random.Random(1))["ops"] == 600


@pytest.mark.parametrize(("calls", "most"), [(LosesTheTail, 2), (CutsBadly, 2), (CopiesShort, 3)])
def test_a_wrong_file_system_is_found_and_the_sequence_made_minimal(
    tmp_path: Path, calls: type[Calls], most: int
) -> None:
    context = Alone(tmp_path, ops=300, sequences=3, size=SIZE, shrink_seconds=60)
    with pytest.raises(Finding) as found:
        iterate(context, random.Random(2), calls())
    kept = json.loads(Path(found.value.files[1]).read_text())
    assert 1 <= len(kept["ops"]) <= most, kept
    again, _ = attempt(context.root, kept["ops"], kept["size"], calls())
    assert again is not None
    right, _ = attempt(context.root, kept["ops"], kept["size"])
    assert right is None, "the sequence is wrong by itself"


def test_a_failure_that_does_not_come_back_is_said_to_be_one(tmp_path: Path) -> None:
    context = Alone(tmp_path, ops=60, sequences=1, size=SIZE)
    calls = FailsSometimes()
    calls.count = 40
    with pytest.raises(Finding, match="Input/output error") as found:
        iterate(context, random.Random(3), calls)
    assert "not seen again" in found.value.detail
    assert len(found.value.files) == 1


def test_sequences_depend_on_the_seed_alone() -> None:
    assert generate(random.Random(7), 200, SIZE, 2) == generate(random.Random(7), 200, SIZE, 2)
    assert generate(random.Random(7), 200, SIZE, 2) != generate(random.Random(8), 200, SIZE, 2)


def test_shrinking_ends_at_its_time() -> None:
    ops = generate(random.Random(1), 50, SIZE, 2)
    assert shrink(ops, lambda _: True, time.monotonic() - 1) == ops
    assert shrink(ops, lambda some: ops[17] in some and ops[31] in some, time.monotonic() + 60) == [ops[17], ops[31]]


def test_replay_by_hand(tmp_path: Path) -> None:
    sequence = tmp_path / "minimal.json"
    ops = generate(random.Random(1), 20, SIZE, 2)
    sequence.write_text(json.dumps({"size": SIZE, "ops": ops}))
    argv = [sys.executable, "-m", "soak.inside.integrity", "--replay", str(sequence), str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout[:27]) == (0, "20 operations, nothing wron")  # codespell:ignore wron
