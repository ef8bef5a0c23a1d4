"""A fleet: a killed worker's shard starts again elsewhere, a cancelled one ends its guests, nothing is lost or doubled.

A program of the test stands in for `assay9`. It reports that it runs, waits until it may go on, and leaves a shard's
record, which was made before.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assay9.fleet import engine, shards
from assay9.fleet.engine import Fleet
from assay9.fleet.shards import Outcome, unpacked
from assay9.fleet.work import Work
from assay9.plan import Matrix, as_bytes, planned
from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.record import load_run
from tests.cli.conftest import Command, assay9
from tests.evidence.test_baseline import kept
from tests.evidence.test_shards import shard
from tests.waiting import eventually

__all__ = ["assay9"]
PLAN = planned(Matrix.model_validate({"job": [{"target": "local", "shards": 4}]}), {})
ALL = ["1-of-4", "2-of-4", "3-of-4", "4-of-4"]
FAKE = """
import os, shutil, signal, sys, time
from pathlib import Path
place = Path({place!r})
name = sys.argv[sys.argv.index("--shard") + 1].replace("/", "-of-")
mine = place / "running" / f"{{name}}.{{os.getppid()}}"
def ended(number, frame):
    mine.rename(place / "ended" / mine.name)
    os._exit(143)
signal.signal(signal.SIGTERM, ended)
mine.touch()
while not (place / "go" / name).exists():
    time.sleep(0.05)
results = Path(sys.argv[sys.argv.index("--results") + 1])
shutil.copytree(place / "records" / name, results, symlinks=True)
mine.rename(place / "done" / mine.name)
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """The place where the program that stands in for `assay9` reports what it does; files are named SHARD.WORKER."""

    place: Path

    def program(self) -> list[str]:
        """The command line of the program."""
        return [sys.executable, "-c", FAKE.format(place=str(self.place))]

    def shards(self, what: str) -> list[str]:
        """The shards whose process is in that state: it runs, was ended, or is done."""
        return sorted(path.stem for path in (self.place / what).iterdir())

    def workers(self) -> list[int]:
        """The workers that run shards."""
        return [int(path.suffix[1:]) for path in (self.place / "running").iterdir()]

    def go(self, names: Sequence[str] = ALL) -> None:
        """Let these shards go on."""
        for name in names:
            (self.place / "go" / name).touch()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    place = tmp_path / "stage"
    for name in ("running", "ended", "done", "go"):
        (place / name).mkdir(parents=True)
    for number, name in enumerate(ALL, 1):
        kept(place / "records" / name, "local", shard(f"{number}/4", f"A-{number}", f"B-{number}"))
    return Stage(place)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(None, 2, ["root"]) as running:
        yield running


def wanted(*tags: str) -> dict[str, Sequence[str]]:
    return dict.fromkeys(PLAN["shards"], tags)


def test_a_killed_worker_loses_nothing_and_doubles_nothing(fleet: Fleet, stage: Stage, tmp_path: Path) -> None:
    outcomes = fleet.shards(as_bytes(PLAN), wanted("root"), program=stage.program())
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(list[Outcome], outcomes)
        eventually(lambda: len(stage.workers()) == 2)
        killed = stage.workers()[0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: len(stage.shards("ended")) == 1)  # its process is asked to end, which ends its guests
        stage.go()
        came = coming.result()
    assert sorted(one.name for one in came) == sorted(PLAN["shards"]) and {one.status for one in came} == {0}
    assert stage.shards("done") == ALL and stage.shards("running") == []
    assert not list((stage.place / "done").glob(f"*.{killed}"))
    places = [place for one in came if (place := unpacked(one, tmp_path / "back")) is not None]
    seen = sorted(r.id for place in places for r in load_run(place).results)
    assert seen == [f"{letter}-{number}" for letter in "AB" for number in range(1, 5)]


def test_what_is_cancelled_ends_its_shards_before_the_fleet_goes_on(fleet: Fleet, stage: Stage) -> None:
    stage.go(ALL[:1])
    outcomes = fleet.shards(as_bytes(PLAN), wanted(), program=stage.program())
    assert next(outcomes).name == "local-1"
    eventually(stage.workers)  # at least one: a worker that another test killed may not be back yet
    outcomes.close()
    assert stage.shards("running") == [] and stage.shards("ended") and stage.shards("done") == ALL[:1]


def test_what_is_taken_back_before_its_process_starts_never_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = shards.Shards("r", as_bytes(PLAN), program=["/nowhere/program"])
    alone._place = tmp_path
    (tmp_path / "plan.json").write_bytes(as_bytes(PLAN))
    seen: list[int] = []

    def while_it_begins(file: Path, name: str) -> list[str]:
        seen.append(alone.running)
        alone.end()
        return ["run", name]

    monkeypatch.setattr(shards, "command_of", while_it_begins)
    with pytest.raises(InfrastructureError, match="shard local-1 was cancelled"):
        alone.run("r-local-1", "local-1", "w")
    assert seen == [1], "it counts as running before it has a process"
    assert alone.running == 0


def test_a_matrix_comes_back_as_one_run_with_a_page_and_every_file(
    fleet: Fleet, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.go()
    monkeypatch.setattr(fleet, "shards", functools.partial(fleet.shards, program=stage.program()))
    assert Work(PLAN, tmp_path / "results").run(fleet, []) == 0
    (place,) = (tmp_path / "results").glob("fleet-*")
    page = (place / "index.html").read_text()
    assert "4 of 4 shards" in page and "http-equiv" not in page
    reports = [name for name in ALL if list(place.glob(f"local-{name[0]}/*/record.json"))]
    assert reports == ALL
    assert len(load_run((tmp_path / "results" / "latest").resolve()).results) == 8


def test_a_tag_that_no_worker_here_has_is_refused(fleet: Fleet) -> None:
    assert fleet.check(wanted("root")) == []
    with pytest.raises(UsageError, match="shard local-1 needs root, kvm, which no worker here has: add --tag"):
        fleet.check(wanted("root", "kvm"))


def test_workers_here_keep_their_files_in_a_directory_of_the_fleet_which_is_removed(tmp_path: Path) -> None:
    scratch = tmp_path / "fleet" / "scratch"
    with Fleet(None, 1, [], scratch) as running:
        (place,) = running.client.run(lambda dask_worker: dask_worker.local_directory).values()
        assert Path(place).is_relative_to(scratch) and Path(place).is_dir()
    assert not scratch.parent.exists()


WITHOUT_THE_SUITE = """
import sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("assay9", "conformance", "guests"):
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Finder)
from distributed.cli.dask_worker import main
main()
"""
SAID = " gets no shards, because it cannot import the suite (No module named 'assay9'): install assay9[fleet] there"


def workers(fleet: Fleet) -> dict[str, Any]:
    there: dict[str, Any] = fleet.client.scheduler_info(n_workers=-1)["workers"]
    return there


@pytest.fixture
def joined(fleet: Fleet, tmp_path: Path) -> Iterator[Fleet]:
    """The same cluster as a scheduler that others run; a worker without the suite has joined it."""
    address = fleet.client.scheduler.address
    words = [address, "--name", "bad", "--nthreads", "1", "--resources", "root=1", "--no-nanny", "--no-dashboard"]
    words += ["--local-directory", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", WITHOUT_THE_SUITE, *words], stderr=subprocess.DEVNULL)
    try:
        with Fleet(address, 0, []) as running:
            eventually(lambda: "bad" in [one["id"] for one in workers(running).values()] and len(workers(running)) == 3)
            yield running
    finally:
        process.kill()
        process.wait()
    eventually(lambda: len(workers(fleet)) == 2)


def test_the_shards_of_a_worker_without_the_suite_go_to_the_others(
    joined: Fleet, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.go()
    monkeypatch.setattr(joined, "shards", functools.partial(joined.shards, program=stage.program()))
    assert Work(PLAN, tmp_path / "results").run(joined, []) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "import the suite" in line]
    assert line.startswith("assay9: worker bad at tcp://127.0.0.1:") and line.endswith(SAID)
    assert stage.shards("done") == ALL


def test_shards_go_on_though_every_able_worker_comes_back_under_another_address(joined: Fleet, stage: Stage) -> None:
    before = set(workers(joined))
    joined.check(wanted("root"))
    outcomes = joined.shards(as_bytes(PLAN), wanted("root"), program=stage.program())
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(list[Outcome], outcomes)
        eventually(lambda: len(stage.workers()) == 2)
        for worker in stage.workers():
            os.kill(worker, signal.SIGKILL)
        eventually(lambda: len(stage.shards("ended")) == 2)
        stage.go()
        came = coming.result()
    assert sorted(one.name for one in came) == sorted(PLAN["shards"]) and {one.status for one in came} == {0}
    assert not before & {address for address, one in workers(joined).items() if one["id"] != "bad"}
    assert stage.shards("done") == ALL


def test_workers_none_of_which_has_the_suite_are_one_line(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    there = workers(fleet)
    monkeypatch.setattr(fleet.client, "run", lambda *_, **__: dict.fromkeys(there, ImportError("No module named 'a'")))
    monkeypatch.setattr(fleet, "unable", {})
    with pytest.raises(InfrastructureError, match=r"no worker can import the suite: .* says No module named 'a'") as e:
        fleet.check(wanted())
    assert "\n" not in str(e.value) and "install assay9[fleet] where `dask worker` runs" in str(e.value)


def test_a_refusal_on_a_worker_is_an_outcome_that_says_why(fleet: Fleet) -> None:
    other = as_bytes({**PLAN, "suite": "f00"})
    (one,) = fleet.shards(other, {"local-1": []})
    assert one.status == 2 and "is from suite commit f00" in one.said and unpacked(one, Path()) is None


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONNECT", 1)
    with pytest.raises(InfrastructureError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9: ") as refused:
        Fleet("tcp://127.0.0.1:9", 0, []).__enter__()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("m.toml", "no file m.toml: a matrix is a TOML file"),
        ("m.toml --scheduler tcp://h:1 --workers 2", "--workers and --tag describe this machine"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_starts(assay9: Command, words: str, said: str) -> None:
    seen = assay9("fleet", "run", *words.split())
    assert seen.status == 2 and said in seen.one_line()


def test_without_dask_one_line_says_how_to_get_it(
    assay9: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "m.toml").write_text('[[job]]\ntarget = "local"\n')
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    seen = assay9("fleet", "run", "m.toml")
    assert seen.status == 2 and "pip install 'assay9[fleet]'" in seen.one_line()
