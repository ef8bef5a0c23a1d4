"""The end of the session finds what tests leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = """
import os, subprocess, sys
from pathlib import Path

def test_leaves_a_directory_and_kills_what_has_claimed_another():
    scratch = Path(os.environ["ASSAY9_SCRATCH"])
    Path("where").write_text(str(scratch))
    (scratch / "assay9-left").mkdir()
    code = "from conformance.sut.parts.scratch import Scratch; Scratch(); import os; os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert len(list(scratch.iterdir())) == 2
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_an_export_that_is_left_fails_the_session(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """The leftovers of a killed run are removed by its claim, and fail nothing."""
    (tmp_path / "test_leaves.py").write_text(LEAVES)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", ".", "-p", "tests.conftest", "-p", "no:cacheprovider", *workers],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "ERROR: tests left exports behind: assay9-left\n" in done.stdout
    assert not Path((tmp_path / "where").read_text()).exists()
