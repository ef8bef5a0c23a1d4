"""Runs that go wrong, with real kills: no case is lost, and every format and the exit status say what happened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from conformance.evidence.models import Record
from tests.end_to_end.moments import ignoring_interrupts, ordinary_signals
from tests.evidence.reading import read_back

HERE = Path(__file__).parent
LONG = pytest.mark.long
OPTIONS = ["--layer", "vfs", "--family", "mode", "--family", "link", "--mount", "cache=none"]
CASES = "MODE-002 or MODE-003 or MODE-004 or LINK-00"


def broken_run(
    cwd: Path, sabotage: str, *more: str, jobs: int = 2, prepare: Callable[[], None] = ordinary_signals
) -> tuple[subprocess.CompletedProcess[str], Record, dict[str, int]]:
    """Run some cases on target local with A9_SABOTAGE; return its output, and its record as all formats show it."""
    (cwd / "tmp").mkdir(exist_ok=True)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "assay9",
            "run",
            "local",
            *OPTIONS,
            "-k",
            CASES,
            "--jobs",
            str(jobs),
            "-p",
            "saboteur",
            *more,
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        start_new_session=True,
        preexec_fn=prepare,
        env={**os.environ, "PYTHONPATH": str(HERE), "A9_SABOTAGE": sabotage, "TMPDIR": str(cwd / "tmp")},
    )
    assert "Traceback" not in done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
    assert not list((cwd / "tmp").rglob("running/*.json")), "something of the run is left"
    (run_dir,) = (d for d in (cwd / "results").iterdir() if d.is_dir() and not d.is_symlink() and d.name[0] != ".")
    assert (cwd / "results" / "latest").resolve() == run_dir
    record, counts, status = read_back(run_dir)
    assert done.returncode == status, done.stdout + done.stderr
    return done, record, counts


def errors(record: Record) -> dict[str, str]:
    return {r.id: r.reason for r in record.results if r.verdict == "error"}


def test_what_keeps_cases_from_being_judged_is_an_error_of_theirs(tmp_path: Path) -> None:
    """One run shows four ways: a fixture raises, something skips, a case is never called, a fixture does not end."""
    done, record, counts = broken_run(
        tmp_path, "fixture:MODE-002 skip:MODE-004 unjudged:LINK-002 teardown:LINK-003", jobs=1
    )
    found = errors(record)
    assert done.returncode == 3
    assert found["MODE-002[chmod]"] == "no verdict: setup: ValueError: the fixture is broken"
    assert found["MODE-004"] == "no verdict: setup: not today"
    assert found["LINK-002"] == "no verdict: it ended without a verdict"
    assert len(found) == counts["error"] == 3
    assert [t.text for t in record.troubles] == ["LINK-003: after the case: ValueError: the fixture does not end"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("kill", "was killed by SIGKILL"),
        pytest.param("exit", "ended with status 0", marks=LONG),
        pytest.param("term", "ended by SIGTERM", marks=LONG),
    ],
)
def test_a_worker_that_dies_is_replaced_and_its_case_run_once_more(tmp_path: Path, how: str, said: str) -> None:
    done, record, counts = broken_run(tmp_path, f"once-{how}:MODE-004")
    assert done.returncode == 3
    assert set(counts) == {"pass"}
    (trouble,) = record.troubles
    assert said in trouble.text and "while it ran MODE-004 on cache=none, which is run once more" in trouble.text


def test_a_case_that_lost_its_ground_is_run_once_more(tmp_path: Path) -> None:
    """The outside agent is killed: the case then proves nothing about the server, and later cases are unaffected."""
    done, record, counts = broken_run(tmp_path, "once-agent:MODE-004", jobs=1)
    assert done.returncode == 3
    assert set(counts) == {"pass"}
    (trouble,) = record.troubles
    assert "the agent outside was ended by SIGKILL" in trouble.text and "seen in MODE-004 on cache=none" in trouble.text


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_one_job_is_a_worker_too(tmp_path: Path, how: str) -> None:
    """Earlier, a case that ended its process ended the run, in one instance with exit status 0 and no report."""
    done, record, counts = broken_run(tmp_path, f"{how}:MODE-004", jobs=1)
    assert done.returncode == 3
    (reason,) = errors(record).values()
    assert "2 workers died in this case" in reason
    assert counts["error"] == 1 and counts["pass"] == len(record.results) - 1


def test_two_deaths_end_the_case_and_not_the_run(tmp_path: Path) -> None:
    done, record, counts = broken_run(tmp_path, "kill:MODE-004")
    assert done.returncode == 3
    (reason,) = errors(record).values()
    assert "was killed by SIGKILL" in reason and "2 workers died in this case" in reason
    assert counts["error"] == 1 and counts["pass"] == len(record.results) - 1
    assert len(record.troubles) == 1, "the first death; the second one is the case's"


@LONG
def test_workers_that_all_die_before_a_case_end_the_run(tmp_path: Path) -> None:
    done, record, counts = broken_run(tmp_path, "start:")
    assert done.returncode == 3
    assert counts == {}
    assert len(record.troubles) == 6 and "ended with status 1 before it began a case" in record.troubles[0].text


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=LONG)])
def test_a_target_that_cannot_start_is_the_reason_of_every_case(tmp_path: Path, jobs: int) -> None:
    done, record, counts = broken_run(tmp_path, "target:", jobs=jobs)
    assert done.returncode == 3
    assert set(errors(record).values()) == {"not run: no guest for you — buy one"}
    assert set(counts) == {"error"}


def test_cases_that_cannot_be_collected_are_said_and_the_others_run(tmp_path: Path) -> None:
    done, record, counts = broken_run(tmp_path, "collect:test_mode.py")
    assert done.returncode == 3
    (trouble,) = record.troubles
    assert trouble.text.endswith("test_mode.py cannot be collected: ImportError: no module named fred")
    assert set(counts) == {"pass"} and {r.family for r in record.results} == {"link"}


def test_an_internal_error_loses_no_case(tmp_path: Path) -> None:
    done, record, _ = broken_run(tmp_path, "internal:MODE-004")
    assert done.returncode == 3
    (trouble,) = record.troubles
    said = "internal error, a defect of assay9 and not of the target: RuntimeError: a hook is broken"
    assert trouble.text == f"{said}; its traceback is in internal-error.txt"
    assert "MODE-004" in errors(record)
    assert trouble.text in done.stdout.replace("\n", "")


def test_lines_that_cannot_be_read_are_missed(tmp_path: Path) -> None:
    done, record, counts = broken_run(tmp_path, "damage:", jobs=1)
    assert done.returncode == 3
    (reason,) = errors(record).values()
    assert reason == "not run, or its entry is one of those that cannot be read"
    assert len(record.damage) == 1
    assert counts["pass"] == len(record.results) - 1


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=LONG), 2])
def test_an_interrupt_from_the_terminal_reaches_all_processes(tmp_path: Path, jobs: int) -> None:
    done, record, _ = broken_run(tmp_path, "interrupt:MODE-004", jobs=jobs)
    assert done.returncode == 130
    assert record.interrupted and record.interrupted_by == "SIGINT"
    assert errors(record)["MODE-004"] == "not run: interrupted by SIGINT"
    assert "was interrupted by SIGINT" in done.stdout.replace("\n", " ")


def test_a_run_in_the_background_of_a_shell_ignores_the_terminals_interrupt(tmp_path: Path) -> None:
    """Its workers ignore it, too: SIGINT was ignored when it started."""
    done, record, counts = broken_run(tmp_path, "interrupt:MODE-004", prepare=ignoring_interrupts)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(counts) <= {"pass", "guest"} and not record.troubles


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGHUP", marks=LONG)])
def test_a_signal_to_the_run_alone_ends_its_workers(tmp_path: Path, name: str) -> None:
    done, record, _ = broken_run(tmp_path, f"parent-{name}:MODE-004")
    assert done.returncode == 143
    assert record.interrupted_by == name
    assert f"not run: interrupted by {name}" in errors(record).values()
    left = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(tmp_path)]
    assert not left


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=LONG)])
def test_a_run_that_stops_at_the_first_failure_says_what_did_not_run(tmp_path: Path, jobs: int) -> None:
    done, record, _ = broken_run(tmp_path, "fixture:LINK-002 fixture:MODE-002", "-x", jobs=jobs)
    assert done.returncode == 3
    # two workers may fail before the run learns of the first failure
    assert any(re.fullmatch(r"not run: stopping after [12] failures", why) for why in errors(record).values())
    assert not record.interrupted
