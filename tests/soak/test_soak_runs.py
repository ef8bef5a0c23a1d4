"""Whole runs from the command line on target `local`: finished, killed, resumed, refused."""

from __future__ import annotations

import dataclasses
import random
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from conformance.errors import InfrastructureError, UsageError
from conformance.sut.local.deployment import LocalDeployment
from guests.agent.link import LinkLost
from soak import journal as journals
from soak.cli import soak as soak_command
from soak.jobs import RunningJob
from soak.run import ATTEMPTS, Runner
from tests.end_to_end.moments import ordinary_signals
from tests.soak.kills import ACCEPT, QUICK, command, kill_often, time_of_one
from tests.soak.runs import soaked
from tests.waiting import eventually


def soak(*args: str, limit: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*args), capture_output=True, text=True, timeout=limit, check=False)


def run_dir(results: Path) -> Path:
    (found,) = results.glob("soak-*")
    return found


def test_a_guest_that_is_described_in_words_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment as `attach` and `hypervisor` describe theirs."""
    real = LocalDeployment.environment
    monkeypatch.setattr(LocalDeployment, "environment", lambda self: {**real(self), "guest": "vm: Linux 6.1"})
    facts, _ = soaked(tmp_path, options={"steps": 5}, iterations=1)
    assert facts.record.kind("environment")[-1].data["guest"] == "vm: Linux 6.1"


def test_a_run_and_its_journal(tmp_path: Path) -> None:
    some = ["--iterations", "2", "--seed", "1", "--results", str(tmp_path), "--workload", "tree", *QUICK]
    done = soak("local", *some, *ACCEPT)
    assert done.returncode == 0, done.stderr
    assert re.search(r"nothing wrong was seen, \d+ questions open \(accepted\)", " ".join(done.stdout.split()))
    with journals.open_existing(run_dir(tmp_path), writable=False) as journal:
        assert [(i.number, i.outcome) for i in journal.iterations()] == [(0, "pass"), (1, "pass")]
        assert [e.kind for e in journal.events()][-2:] == ["finished", "session-ended"]
        assert journal.samples()
    again = soak("resume", "latest", "--results", str(tmp_path))
    assert again.returncode == 2
    assert "is finished (all iterations done)" in again.stderr
    assert "2 pass" in soak("status", "--results", str(tmp_path)).stdout


def test_a_run_whose_judges_cannot_decide_is_no_pass(tmp_path: Path) -> None:
    """Earlier, it was a pass: `PASS, 6 questions open`, exit status 0."""
    some = ["--iterations", "1", "--seed", "1", "--results", str(tmp_path), "--workload", "tree", *QUICK]
    done = soak("local", *some, "--accept-unknown", "leaks")
    assert done.returncode == 3, done.stdout
    assert re.search(r"NO VERDICT, \d+ questions open \(\d+ of them accepted\)", " ".join(done.stdout.split()))
    assert "--accept-unknown slowdowns" in done.stdout and "PASS" not in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_can_be_resumed(tmp_path: Path, number: signal.Signals) -> None:
    args = ["local", "--for", "1h", "--workload", "tree", "--results", str(tmp_path), *QUICK]
    process = subprocess.Popen(command(*args), stderr=subprocess.PIPE, text=True, preexec_fn=ordinary_signals)  # noqa: PLW1509 - system calls only
    wait_for_iterations(tmp_path, 1)
    process.send_signal(number)
    process.communicate(timeout=300)
    assert process.returncode == (130 if number is signal.SIGINT else 143)
    with journals.open_existing(run_dir(tmp_path), writable=False) as journal:
        assert [e.kind for e in journal.events()][-2:] == ["interrupted", "session-ended"]


def wait_for_iterations(results: Path, count: int) -> None:
    def enough(run: Path) -> bool:
        with journals.open_existing(run, writable=False) as journal:
            return sum(1 for i in journal.iterations() if i.outcome) >= count

    eventually(
        lambda: any(enough(found.parent) for found in results.glob(f"soak-*/{journals.FILE}")), "no iteration ended"
    )


def test_kill_9_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The runner is killed at random moments; benchmarks/soak_kill9.py does it a thousand times."""
    assert kill_often(tmp_path / "many", 10, random.Random(5), 1.5 * time_of_one(tmp_path / "one")) > 0


FAR = ["attach", "--guest=root@nowhere.invalid", "--tag=share0", "--outside=/tmp"]
"""A machine that is contacted only after all checks that need no machine have passed."""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["local", "--workload", "tre"], "unknown workload 'tre': did you mean 'tree'?"),
        (["locl"], "unknown target 'locl': did you mean 'local'?"),
        (["diod"], "has no share to mount"),
        (["local", "--for", "soon"], "--for 'soon': give a time such as"),
        ([*FAR, "--for", "soon"], "--for 'soon': give a time such as"),
        ([*FAR, "--first", "9", "--iterations", "9"], "iteration 9 alone is --first 9 --iterations 10"),
        ([*FAR, "--results", "/dev/null"], "nothing can be written there"),
        (["local", "--for", "0m"], "--for '0m': give more than 0s"),
        (["local", "--for", ""], "--for '': give a time such as"),
        (["local", "--fault", "pause", "--fault-every", "often"], "--fault-every 'often': give a time such as"),
        (["local", "--fault-every", "3m"], "--fault-every has no effect without --fault"),
        (["local", "--set", "tree.stepz=3"], "unknown option of tree 'stepz': did you mean 'steps'?"),
        (["local", "--workload", "tree", "--set", "tree.steps=many"], "give a whole number, e.g. tree.steps=300"),
        (["local", "--workload", "tree", "--set", "tree.steps=-3"], "give a whole number"),
        (["local", "--workload", "tree", "--set", "git.commits=3"], "add --workload git"),
        (["local", "--workload", "tree", "--set", "steps=3"], "give WORKLOAD.KEY=VALUE"),
        (["local", "--shares", "2"], "has one share"),
        (["qemu", "--workload", "tree", "--shares", "3"], "1 workloads leave some shares idle"),
        (["local", "--first", "9", "--iterations", "9"], "iteration 9 alone is --first 9 --iterations 10"),
        (["local", "--unit", "nope"], "--unit 'nope': unknown unit 'nope': "),
        (["local", "--unit", "libs"], "--unit 'libs': unknown unit 'libs': did you mean 'lib'?"),
        (["local", "--unit", "lib,kernle"], "did you mean 'kernel'?"),
        (["local", "--unit", "vmlinux.o"], "did you mean 'vmlinux'?"),
        (["local", "--unit", "objects:0"], "give at least one object"),
        (["local", "--unit", "../lib"], "directories of the tree"),
        (["local", "--unit", "lib/../../etc"], "directories of the tree"),
        (["local", "--workload", "tree", "--unit", "lib"], "--unit 'lib' applies to workload kernel-build"),
        (["local", "--set", "kernel-build.config=tinyconfg"], "did you mean 'tinyconfig'?"),
        (["local", "--set", "kernel-build.config=/nowhere"], "/nowhere: no such file"),
        (["local", "--set", "kernel-build.source=/nowhere"], "no kernel source '/nowhere'"),
        (["local", "--set", "kernel-build.unpack_every=0"], "1 unpacks the tree before each build"),
        (["local", "--results", "/dev/null"], "nothing can be written there"),
        (["local", "--results", "/proc"], "nothing can be written there"),
        (["resume", "nosuch"], "no run 'nosuch'"),
        (["status", "latest"], "no soak run in"),
    ],
)
def test_bad_input_is_one_line_with_its_remedy(tmp_path: Path, args: list[str], said: str) -> None:
    refused = CliRunner().invoke(soak_command, args if "--results" in args else [*args, "--results", str(tmp_path)])
    assert isinstance(refused.exception, UsageError), refused.output
    assert said in str(refused.exception)
    assert "\n" not in str(refused.exception)
    assert not list(tmp_path.iterdir())


def test_a_refusal_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    done = soak("local", "--unit", "nope", "--results", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("assay9: --unit 'nope'") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_export_that_vanishes_is_one_line(tmp_path: Path) -> None:
    args = ["local", "--for", "1h", "--workload", "tree", "--results", str(tmp_path), *QUICK]
    process = subprocess.Popen(command(*args), stderr=subprocess.PIPE, text=True)
    wait_for_iterations(tmp_path, 1)
    with journals.open_existing(run_dir(tmp_path), writable=False) as journal:
        (export,) = (Path(e.data["outside"]) for e in journal.events("mounted"))
    assert export.name == "export" and "assay9-" in export.parent.name
    export.rename(export.with_name("taken-away"))
    try:
        said = process.communicate(timeout=300)[1].splitlines()[-1]
    finally:
        process.kill()
    assert process.returncode == 3
    assert f"the exported directory {export} is gone" in said and "assay9 soak resume" in said
    with journals.open_existing(run_dir(tmp_path), writable=False) as journal:
        assert journal.sound()
        assert [e.kind for e in journal.events()][-2:] == ["broken", "session-ended"]
        assert not journal.events("finished"), "it can be resumed"


def test_a_workload_that_somebody_kills_is_no_death_of_the_target(tmp_path: Path) -> None:
    """The OOM killer does this, for instance. Earlier, the soak failed the target for it."""
    args = ["local", "--iterations", "1000000", "--workload", "tree", "--results", str(tmp_path), *QUICK]
    process = subprocess.Popen(command(*args), stderr=subprocess.DEVNULL)
    try:
        wait_for_iterations(tmp_path, 1)
        children = psutil.Process(process.pid).children(recursive=True)
        program = next(child for child in children if "soak.inside.tree" in child.cmdline())  # its own come after it
        program.kill()
        eventually(lambda: bool(troubles(tmp_path)))
        assert [said["source"] for said in troubles(tmp_path)] == ["ground"]
        assert "the program of workload tree was ended by SIGKILL" in troubles(tmp_path)[0]["what"]
    finally:
        process.terminate()
        process.wait()


def troubles(results: Path) -> list[dict[str, Any]]:
    """The troubles that the run in that directory has recorded so far."""
    with journals.open_existing(run_dir(results), writable=False) as journal:
        return [event.data for event in journal.events("trouble")]


def test_a_program_that_the_guest_does_not_have_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = RunningJob.start

    def without_the_program(job: RunningJob) -> None:
        monkeypatch.setattr(job, "workload", dataclasses.replace(job.workload, programs=("gcc-of-nobody",)))
        started(job)

    monkeypatch.setattr(RunningJob, "start", without_the_program)
    with pytest.raises(InfrastructureError, match="the guest has no gcc-of-nobody, which workload tree needs — take"):
        soaked(tmp_path, iterations=1)
    with journals.open_existing(tmp_path / "run", writable=False) as journal:
        assert [e.kind for e in journal.events()][-2:] == ["broken", "session-ended"]


def test_a_target_that_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> None:
        raise LinkLost("the guest is gone")

    monkeypatch.setattr(RunningJob, "check", gone)
    monkeypatch.setattr(Runner, "_restart", gone)
    with pytest.raises(
        InfrastructureError, match=r"does not start again: after the restart: .* then `assay9 soak resume`"
    ):
        soaked(tmp_path, iterations=1000)
    with journals.open_existing(tmp_path / "run", writable=False) as journal:
        assert len(journal.events("trouble")) == ATTEMPTS + 1
        assert journal.sound() and not journal.events("finished", "recovered")


@pytest.mark.guest
def test_a_run_in_a_guest(tmp_path: Path) -> None:
    done = soak(
        "qemu", "--iterations", "1", "--workload", "tree", "--results", str(tmp_path), *QUICK, *ACCEPT, limit=900
    )
    assert done.returncode == 0, done.stderr
