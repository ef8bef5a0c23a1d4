"""Whole runs by the command line on target `local`: finished, killed, resumed, refused."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from soak import journal as journals

QUICK = ["--set", "tree.steps=20", "--set", "tree.workers=2", "--sample", "0.5"]


def command(*args: str) -> list[str]:
    line = "from soak.cli import soak; from assay9 import cli; cli.ELSEWHERE['soak'] = 'soak.cli'; cli.main()"
    return [sys.executable, "-c", line, "soak", *args]


def soak(*args: str, limit: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*args), capture_output=True, text=True, timeout=limit, check=False)


def run_dir(results: Path) -> Path:
    (found,) = results.glob("soak-*")
    return found


def test_a_run_and_its_journal(tmp_path: Path) -> None:
    done = soak("local", "--iterations", "2", "--seed", "1", "--results", str(tmp_path), "--workload", "tree", *QUICK)
    assert done.returncode == 0, done.stderr
    with journals.open_existing(run_dir(tmp_path), writable=False) as journal:
        assert [(i.number, i.outcome) for i in journal.iterations()] == [(0, "pass"), (1, "pass")]
        assert [e.kind for e in journal.events()][-2:] == ["finished", "session-ended"]
        assert journal.samples()
    again = soak("resume", "latest", "--results", str(tmp_path))
    assert again.returncode == 2
    assert "is finished (all iterations done)" in again.stderr
    assert "2 pass" in soak("status", "--results", str(tmp_path)).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_can_be_resumed(tmp_path: Path, number: signal.Signals) -> None:
    args = ["local", "--for", "1h", "--workload", "tree", "--results", str(tmp_path), *QUICK]
    process = subprocess.Popen(command(*args), stderr=subprocess.PIPE, text=True)
    wait_for_iterations(tmp_path, 1)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    with journals.open_existing(run_dir(tmp_path), writable=False) as journal:
        assert [e.kind for e in journal.events()][-2:] == ["interrupted", "session-ended"]


def wait_for_iterations(results: Path, count: int) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        for found in results.glob(f"soak-*/{journals.FILE}"):
            with journals.open_existing(found.parent, writable=False) as journal:
                if sum(1 for i in journal.iterations() if i.outcome) >= count:
                    return
        time.sleep(0.1)
    raise AssertionError("no iteration ended")


def test_kill_9_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """A runner killed at random moments; `ASSAY9_KILLS=1000` makes it as many as the claim says."""
    kills, rng = int(os.environ.get("ASSAY9_KILLS", "4")), random.Random(5)
    args = ["local", "--iterations", "100000", "--seed", "3", "--workload", "tree", "--results", str(tmp_path), *QUICK]
    known: dict[int, float] = {}
    for turn in range(kills):
        process = subprocess.Popen(command(*(args if turn == 0 else ["resume", str(run_dir(tmp_path))])),
                                   stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
        wait_until_session(tmp_path, turn + 1)
        time.sleep(rng.uniform(0.0, 2.0))
        process.kill()
        process.wait()
        with journals.open_existing(run_dir(tmp_path), writable=False) as journal:
            ended = [i for i in journal.iterations() if i.outcome]
            assert journal.sound()
            assert [i.number for i in ended] == list(range(len(ended)))
            assert {i.outcome for i in ended} <= {"pass"}
            now = {i.number: i.seconds for i in ended}
            assert {n: now.get(n) for n in known} == known, "what was recorded is lost"
            known = now
            assert len(journal.sessions()) == turn + 1
            assert len(journal.events("resumed")) == turn


def wait_until_session(results: Path, count: int) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        for found in results.glob("soak-*/lock"):
            if (found.parent / journals.FILE).is_file():
                try:
                    with journals.open_existing(found.parent, writable=False) as journal:
                        if len(journal.sessions()) >= count:
                            return
                except Exception:  # noqa: BLE001 - it is being made at this moment
                    pass
        time.sleep(0.05)
    raise AssertionError("the runner did not begin")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["local", "--workload", "tre"], "unknown workload 'tre': did you mean tree?"),
        (["locl"], "unknown target 'locl': did you mean 'local'?"),
        (["diod"], "has no share to mount"),
        (["local", "--for", "soon"], "--for 'soon': a time such as"),
        (["local", "--set", "tree.stepz=3"], "tree has"),
        (["local", "--shares", "2"], "has one share"),
        (["resume", "nosuch"], "no run 'nosuch'"),
        (["status", "latest"], "no soak run in"),
    ],
)
def test_bad_input_is_one_line_with_its_remedy(tmp_path: Path, args: list[str], said: str) -> None:
    done = soak(*args, "--results", str(tmp_path))
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.guest
def test_a_run_in_a_guest(tmp_path: Path) -> None:
    done = soak("qemu", "--iterations", "1", "--workload", "tree", "--results", str(tmp_path), *QUICK, limit=900)
    assert done.returncode == 0, done.stderr
