"""A run shows its progress, the messages of workers, and one line for an unexpected exception."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from conformance.pytest_session.lines import Messages, send
from conformance.pytest_session.reporter import Course
from tests.waiting import eventually

NODE = "conformance/cases/vfs/test_open.py::test_creat[cache=none]"


class Report:
    """The part of a TestReport that the reporter reads."""

    def __init__(self, when: str = "call", failed: bool = False, skipped: bool = False) -> None:
        self.when, self.failed, self.skipped = when, failed, skipped


class Session:
    testscollected = 40


def course(done: int, failed: int = 0) -> Course:
    made = Course()
    made.session = cast(pytest.Session, Session())
    made.began(NODE)
    for number in range(done):
        made.ended(cast(pytest.TestReport, Report(failed=number < failed)))
    return made


def test_before_the_first_case_it_is_what_is_being_done() -> None:
    made = Course()
    made.phase("collecting cases")
    assert made.picture() == "collecting cases (0 s)"


def test_while_cases_run_it_is_how_many_and_which() -> None:
    assert course(3, failed=1).picture() == "3 of 40 cases, 1 unexpected; running vfs/open: creat[cache=none] (0 s)"


def test_the_time_left_is_estimated_once_enough_cases_have_ended() -> None:
    assert "left" not in course(19).picture()
    some = course(20)
    assert some.first is not None
    some.first = time.monotonic() - 100
    assert ", about 1 min 40 s left;" in some.picture()
    assert "left" not in course(40).picture()


def test_until_a_case_has_ended_what_a_worker_said_is_shown() -> None:
    made = course(0)
    made.said = ("gw0: booting debian12 once", time.monotonic())
    assert made.picture().startswith("0 of 40 cases; gw0: booting debian12 once (0 s); running vfs/open")


def test_what_a_worker_sends_arrives() -> None:
    said: list[str] = []
    messages = Messages(said.append)
    try:
        assert send(messages.address, "gw0: building") and send(messages.address, "x" * 5000)
        eventually(lambda: len(said) >= 2)
        assert said[0] == "gw0: building" and len(said[1]) == 2000
    finally:
        messages.close()
    assert not Path(messages.address).exists()
    assert not send(messages.address, "nobody hears it") and not send("", "nor this")


BROKEN = "def pytest_collection_modifyitems(items):\n    raise ValueError('nobody expected this')\n"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_internal_error_is_one_line_and_a_file(tmp_path: Path, jobs: str) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-m", "assay9", "run", "reference", "--family", "link", "--jobs", jobs, "-p", "broken"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    said = " ".join(f"{done.stdout}{done.stderr}".split())
    assert done.returncode == 3, said
    assert "Traceback" not in said and "INTERNALERROR" not in said
    assert "internal error, a defect of assay9 and not of the target: ValueError: nobody expected this" in said
    (kept,) = tmp_path.glob("results/latest/internal-error.txt")
    assert kept.name in said and "modifyitems" in kept.read_text()


def test_a_defect_of_a_report_costs_neither_the_summary_nor_the_other_reports(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("from conformance.reports import html\nhtml.write_html = None\n")
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(tmp_path)}
    argv = [sys.executable, "-m", "assay9", "run", "reference", "-k", "WIRE-LINK-001", "--jobs", "1", "-p", "broken"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "nothing unexpected" in done.stdout, done
    assert "internal error, a defect of assay9 and not of the target: report.html not written: TypeError" in done.stderr
    latest = tmp_path / "results" / "latest"
    assert (latest / "rti.txt").is_file() and "Traceback" in (latest / "internal-error.txt").read_text()


def test_an_internal_error_before_there_is_a_reporter_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text("def pytest_configure():\n    raise ValueError('nobody expected this')\n")
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-m", "assay9", "run", "reference", "--family", "link", "--jobs", "1", "-p", "early"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1, done
    assert "not of the target: ValueError: nobody expected this; the details are in " in done.stderr
    assert "pytest_configure" in (tmp_path / "internal-error.txt").read_text()


def test_what_the_machine_does_not_have_is_no_internal_error(tmp_path: Path) -> None:
    """A runtime directory that cannot be made is reported with its remedy, and is no defect of assay9."""
    (tmp_path / "file").touch()
    environment: dict[str, Any] = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-m", "assay9", "run", "local", "--layer", "vfs", "--family", "link", "--jobs", "1"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("assay9: ")]
    assert "Not a directory" in line and "set XDG_RUNTIME_DIR to a directory that you can write" in line
    assert "internal error" not in done.stdout + done.stderr and not list(tmp_path.glob("internal-error*"))
