"""Whole runs with workers killed, and signals sent, at random times: however a run ends, no case is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.moments import ordinary_signals
from tests.evidence.reading import read_back

pytestmark = pytest.mark.long
RUN = [sys.executable, "-m", "assay9", "run", "local", "--layer", "vfs", "--jobs", "2"]
_INTERPRETERS_OWN = ("Fatal Python error: init_import_site", "Could not import runpy module")
"""Messages of Python, with status 1, about an interrupt before the program's first line."""


def start(cwd: Path, *more: str) -> subprocess.Popen[bytes]:
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*RUN, *more],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=(cwd / "stderr").open("wb"),
        preexec_fn=ordinary_signals,  # noqa: PLW1509 - system calls only
        start_new_session=True,
    )


def runs(cwd: Path) -> list[Path]:
    return [d for d in (cwd / "results").glob("2*") if d.is_dir()]


def workers(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [p for p in psutil.Process(run.pid).children() if "sys.stdin.readline" in " ".join(p.cmdline())]
    return []


def judged(cwd: Path) -> int:
    """Size of the results so far, in bytes."""
    return sum(p.stat().st_size for p in cwd.glob("results/2*/cases-*.jsonl"))


@pytest.mark.parametrize("seed", range(2))
def test_workers_killed_at_random(tmp_path: Path, seed: int) -> None:
    """Yield each time some cases were judged, however long that takes."""
    rng = random.Random(seed)
    run, killed, before = start(tmp_path), 0, 0
    while run.poll() is None:
        time.sleep(rng.uniform(0.01, 0.5))
        if (now := judged(tmp_path)) > before + 500_000 and (found := workers(run)):
            before = now
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(found).kill()
                killed += 1
    (run_dir,) = runs(tmp_path)
    record, counts, status = read_back(run_dir)
    assert killed > 3
    assert run.returncode == status == 3
    assert record.selected and record.selected > 1000
    assert not record.interrupted and not record.damage
    assert 1 <= len(record.troubles) <= killed
    others = {r.id: r.reason for r in record.results if r.verdict == "error" and "2 workers died" not in r.reason}
    assert not others
    assert set(counts) <= {"pass", "guest", "undrivable", "error"}
    assert "Traceback" not in (tmp_path / "stderr").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_time_from_the_start(tmp_path: Path, number: signal.Signals) -> None:
    """The run's whole process group gets the signal, as from a terminal, repeatedly until the run has ended."""
    expected = 130 if number is signal.SIGINT else 143
    for attempt in range(30):
        cwd = tmp_path / str(attempt)
        run = start(cwd, "--family", "mode", "--family", "io")
        time.sleep(0.05 + attempt * 0.2)
        while run.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, number)
            time.sleep(0.2)
        # Before the interpreter reaches our first line, the signal or a KeyboardInterrupt ends it. A KeyboardInterrupt
        # during the import of its own `site` or `runpy` ends it with status 1.
        early, said = not runs(cwd), (cwd / "stderr").read_text()
        begins = early and any(words in said for words in _INTERPRETERS_OWN)
        assert run.returncode in ((expected, -number, 1 if begins else expected) if early else (expected, 0)), attempt
        for run_dir in runs(cwd):
            record, _, status = read_back(run_dir)
            # A signal that comes when all cases are judged and written changes the process's status alone.
            complete = status == 0 and record.selected == len(record.results)
            assert status == run.returncode or complete, attempt
            assert record.interrupted == (status != 0), attempt
        assert early or "Traceback" not in said, attempt
        if run.returncode == 0:
            return  # the run ended before the signal
