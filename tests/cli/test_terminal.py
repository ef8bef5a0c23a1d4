"""Whole runs: what is shown on a terminal, and the same run started by pytest itself."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import conformance.catalogue.index
from conformance.evidence.record import load_run

FAMILY = "link"
RUN = [sys.executable, "-m", "assay9", "run", "reference", "--family", FAMILY]


def on_a_terminal(argv: list[str], where: Path) -> tuple[int, str]:
    """Run it with a terminal as all three streams; return its exit status and its output."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv, cwd=where, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:  # EIO: no process has the other end open any more
            pass
        finally:
            os.close(ours)
        return process.wait(), said.decode(errors="replace")


def test_a_terminal_shows_each_phase_and_the_cases_that_run(tmp_path: Path) -> None:
    status, said = on_a_terminal([*RUN, "--jobs", "2"], tmp_path)
    assert status == 0, said
    record = load_run(tmp_path / "results" / "latest")
    total = len(record.results)
    places = [
        said.index(words)
        for words in (
            "checking the command line (",
            "collecting cases (",
            f"running {total} cases",
            f" of {total} cases",
            "wire/link",
            "nothing unexpected",
        )
    ]
    assert places == sorted(places), said
    assert "\x1b[?25l" not in said, "the cursor is never hidden"
    assert "passed" not in said and "====" not in said, "pytest says nothing of its own"


def test_with_v_there_is_a_line_for_each_case(tmp_path: Path) -> None:
    done = subprocess.run([*RUN, "--jobs", "1", "-v"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = load_run(tmp_path / "results" / "latest")
    lines = [line.split()[:2] for line in done.stderr.splitlines()]
    assert all([result.verdict, result.id.split()[0]] in lines for result in record.results)


def cases_by_pytest(*arguments: str, where: Path) -> subprocess.CompletedProcess[str]:
    argv = [
        sys.executable,
        "-m",
        "pytest",
        str(conformance.catalogue.index.CASES),
        "--target",
        "reference",
        "--family",
        FAMILY,
    ]
    quiet = ["-p", "no:hypothesispytest"]
    return subprocess.run([*argv, *quiet, *arguments], cwd=where, capture_output=True, text=True, check=False)


def test_pytest_itself_takes_jobs(tmp_path: Path) -> None:
    done = cases_by_pytest("--jobs", "2", where=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    workers = {result.worker for result in load_run(tmp_path / "results" / "latest").results}
    assert workers and workers <= {"gw0", "gw1"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--jobs", "0"], "--jobs 0: give a number of jobs, 1 or more"),
        (["--layr", "wire"], "unknown option '--layr': did you mean '--layer'?"),
        (["--layer", "wier"], "unknown layer 'wier': did you mean 'wire'?"),
        (["-k", "NOSUCHCASE"], "matches -k 'NOSUCHCASE'"),
    ],
)
def test_pytest_itself_is_refused_in_one_line_too(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = cases_by_pytest(*arguments, where=tmp_path)
    assert done.returncode in (2, 4)
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert said in line and "Traceback" not in done.stdout
    assert not (tmp_path / "results").exists()
