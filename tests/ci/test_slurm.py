"""The lines of docs/more-machines.md on a real Slurm: Debian's, with one node, on this machine's loopback.

Its daemons run for the tests alone, with a configuration, a key and ports of their own; a Slurm that the machine has
already is not touched.
"""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

from conformance.evidence.record import load_run
from guests.host.waiting import happens
from tests.ci.test_schedulers import PAGE, block
from tests.waiting import PATIENT, eventually

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "jq")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)} here: ./setup.sh --tests installs them"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a node of Slurm starts jobs as root"),
]
CONFIGURATION = """
ClusterName=assay9
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
NodeName={node} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
"""Four jobs at a time, whatever the machine has: a job of these tests mostly waits."""
SELECTED = "--layer wire -k open"
MATRIX = f"""
[[job]]
target = "reference"
shards = 3
options = {SELECTED.split()}
tags = ["kvm"]
"""


def free_ports(number: int) -> list[int]:
    """Return ports that nobody uses now."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in taken]


def said(*words: str) -> str:
    """Return what a command prints."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of one node that takes jobs; `sbatch` finds it, and `assay9` is in its jobs' PATH."""
    place = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (place / name).mkdir()
    key = place / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    controller, daemon = free_ports(2)
    node, user = platform.node().partition(".")[0], pwd.getpwuid(os.geteuid()).pw_name
    file = place / "slurm.conf"
    file.write_text(
        CONFIGURATION.format(node=node, user=user, place=place, controller=controller, daemon=daemon), encoding="utf-8"
    )
    munge = ["munged", "-F", "-f", f"--key-file={key}", f"--socket={place}/munge.socket"]
    munge += [f"--pid-file={place}/munge.pid", f"--seed-file={place}/munge.seed", f"--log-file={place}/munge.log"]
    daemons: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> None:
        with (place / "daemons.log").open("ab") as log:
            daemons.append(subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def logs() -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(place.glob("*.log")))

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SLURM_CONF", str(file))
        environment.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        try:
            start(*munge)
            eventually((place / "munge.socket").exists, logs)
            start("slurmctld", "-D")
            start("slurmd", "-D", "-N", node)
            eventually(lambda: subprocess.run(["sinfo", "-h"], capture_output=True, check=False).returncode == 0, logs)
            eventually(lambda: said("sinfo", "-h", "-o", "%t") == "idle", logs)
            yield
        finally:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                said("scancel", f"--user={user}")
                happens(lambda: not said("squeue", "-h"), PATIENT)
            for one in reversed(daemons):
                one.terminate()
                one.wait()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def alone(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return the number of cases that one machine runs."""
    results = tmp_path_factory.mktemp("alone")
    said("assay9", "run", "reference", *SELECTED.split(), "--results", str(results))
    return judged(results / "latest")


@pytest.fixture
def plan(slurm: None, place: Path) -> int:
    """A matrix.toml with its plan.json in the working directory; returns the number of shards."""
    Path("matrix.toml").write_text(MATRIX)
    said("assay9", "plan", "matrix.toml", "plan.json")
    return int(said("jq", ".shards | length", "plan.json"))


def judged(run: Path) -> int:
    """Return the number of cases of a run. Raises AssertionError where a case is there twice."""
    ids = [(result.id, result.mount) for result in load_run(run.resolve()).results]
    assert len(ids) == len(set(ids))
    return len(ids)


def test_an_array_runs_the_shards_of_a_plan_and_their_records_are_one_run(plan: int, alone: int) -> None:
    script = block("sh", "# Slurm")
    Path("shard.sh").write_text(script)
    _, submit = script.split("# Slurm: ")
    subprocess.run(["bash", "-eu", "-c", submit.splitlines()[0].replace("--array", "--wait --array")], check=True)
    runs = [str(path.resolve()) for path in Path("results").glob("*/latest")]
    assert len(runs) == plan == 3
    said("assay9", "merge", *runs, "--results", "joined")
    assert judged(Path("joined/latest")) == alone


def test_an_array_without_a_plan_runs_every_shard_in_one_directory(slurm: None, place: Path, alone: int) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| Slurm |")]
    array, run = re.findall("`([^`]+)`", row)
    line = run.replace("run qemu", f"run reference {SELECTED}")
    subprocess.run(["bash", "-eu", "-c", f"{array} --wait --wrap {shlex.quote(line)}"], check=True)
    runs = [str(path) for path in Path("results").glob("[0-9]*-reference*")]
    assert len(runs) == 4
    said("assay9", "merge", *runs, "--results", "joined")
    assert judged(Path("joined/latest")) == alone


def test_a_fleet_on_jobs_of_slurm_survives_the_end_of_one(
    plan: int, alone: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dask.config.config, "temporary-directory", str(tmp_path))
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(tmp_path))  # of the jobs, which have the environment of sbatch
    made, _, _ = block("python", "dask_jobqueue").replace("jobs=20", "jobs=2").partition("input(")
    names: dict[str, Any] = {}
    exec(compile(made, "more-machines.md", "exec"), names)
    cluster = names["cluster"]
    try:
        eventually(lambda: len(cluster.scheduler_info["workers"]) == 2)
        first, _ = said("squeue", "-h", "-o", "%A").split()
        words = ["assay9", "fleet", "run", "matrix.toml", "--scheduler", cluster.scheduler_address]
        running = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert running.stderr is not None
        lines = [line for line in iter(running.stderr.readline, "") if not _one_ended(line, first)]
        out, _ = running.communicate()
        assert running.returncode == 0, out + "".join(lines)
        assert first not in said("squeue", "-h", "-t", "R", "-o", "%A").split()
        assert judged(Path("results/latest")) == alone
    finally:
        cluster.close()


def _one_ended(line: str, job: str) -> bool:
    """Whether a shard has ended, the first of them: then the job of a worker is killed, in the middle of its next."""
    ended = line.startswith("1/3 ")
    if ended:
        said("scancel", "--full", "--signal=KILL", job)
    return ended
