"""The flow of a measurement, with the smallest sizes: no verdict here depends on a duration."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from click.testing import CliRunner

from assay9.cli import cli
from conformance.errors import UsageError
from conformance.performance import measuring
from conformance.performance.guest_side import PAYLOAD, Answer, Request
from conformance.performance.measures import ABOUT, AXES, GROUPS, MEASURES, chosen, packages
from conformance.performance.measuring import Trees, one
from conformance.performance.nfs4 import words
from conformance.performance.payload import WORK
from conformance.performance.record import CONTROL, OTHER, SHARE, load_bench
from conformance.performance.subjects import Place, check_nfs4, one_guest
from conformance.vfs.mount_options import MountOptions
from guests.agent.link import AgentLink
from tests.targets import asked

SMALL = {"files": 3, "open": 2, "mib": 1, "block": 262144, "tree": 10}
FIO = """#!{python}
import json, sys
words = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
side = {{"io_bytes": int(words["io_size"]){minus}, "runtime": 7, "clat_ns": {{"max": 9, "percentile": {{}}}}}}
side["clat_ns"]["percentile"] = {{part: 5 for part in ("50.000000", "95.000000", "99.000000")}}
print("fio: this is no JSON")
print(json.dumps({{"jobs": [{{"read": side, "write": side}}]}}))
"""
"""Takes the words of the real one, and always 7 ms."""


def perform(request: Request, path: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", PAYLOAD.read_text(), request.model_dump_json()]
    found = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    environment = os.environ | {"PATH": found}
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, env=environment)


def answer_to(request: Request, path: str = "") -> Answer:
    done = perform(request, path)
    assert done.returncode == 0, done.stderr
    return Answer.model_validate(json.loads(done.stdout))


def fio_in(directory: Path, minus: str = "") -> str:
    """A directory with a program fio."""
    directory.mkdir()
    (directory / "fio").write_text(FIO.format(python=sys.executable, minus=minus))
    (directory / "fio").chmod(0o755)
    return str(directory)


@pytest.mark.parametrize("work", sorted(set(WORK) - {"git-status"}))
def test_each_kind_of_work_is_done_in_each_place_and_leaves_nothing(work: str, tmp_path: Path) -> None:
    fio = fio_in(tmp_path / "bin")
    places = {name: str(tmp_path / name) for name in (SHARE, CONTROL)}
    request = Request(
        work=work,
        parameters=SMALL,
        processes=1,
        seconds=0.001,
        places=places,
        counts=dict.fromkeys(places, 2),
        rounds=2,
        latency=True,
    )
    answer_to(request.model_copy(update={"build": True}), fio)
    built = {name: sorted(os.listdir(where)) for name, where in places.items()}
    found = answer_to(request, fio)
    assert [set(took) for took in found.rounds] == [set(places)] * 2
    for name, where in places.items():
        assert found.units[name] > 0 and len(found.latency.get(name, [0] * 4)) == 4
        assert sorted(os.listdir(where)) == built[name], "what a turn makes is removed"


def test_fio_takes_the_time_itself(tmp_path: Path) -> None:
    places = {SHARE: str(tmp_path / "share")}
    request = Request(
        work="fio-random-write", parameters=SMALL, processes=1, seconds=1, places=places, counts={SHARE: 3}, rounds=1
    )
    found = answer_to(request, fio_in(tmp_path / "bin"))
    assert found.rounds == [{SHARE: 0.007}] and found.units == {SHARE: 0.75}
    short = perform(request, fio_in(tmp_path / "short", " - 1"))
    assert "fio moved 786431 of 786432 bytes" in short.stderr


@pytest.mark.skipif(shutil.which("fio") is None, reason="fio is not installed")
@pytest.mark.parametrize("work", [work for work in WORK if work.startswith("fio-")])
def test_the_real_fio_understands_each_pattern(work: str, tmp_path: Path) -> None:
    places = {SHARE: str(tmp_path / "share")}
    found = answer_to(
        Request(
            work=work,
            parameters=SMALL | {"block": 4096},
            processes=1,
            seconds=1,
            places=places,
            counts={SHARE: 8},
            rounds=1,
            latency=True,
        )
    )
    assert found.rounds[0][SHARE] > 0 and (SHARE in found.latency) == (work != "fio-sync-write")


def test_a_tree_is_as_large_as_it_says_and_walked_whole(tmp_path: Path) -> None:
    places = {SHARE: str(tmp_path / "share")}
    request = Request(
        work="find-tree",
        parameters={"tree": 300},
        processes=1,
        seconds=1,
        places=places,
        counts={SHARE: 3},
        rounds=1,
        build=True,
    )
    answer_to(request)
    files = [path for path in (tmp_path / "share").rglob("*") if path.is_file()]
    assert len(files) == 300
    request = request.model_copy(update={"build": False})
    assert answer_to(request).units == {SHARE: 300}
    files[-1].unlink()
    assert "lists 99 of 100 files" in perform(request).stderr, "three repetitions come by each of three directories"


def test_several_shares_work_at_once_each_in_its_own_directory(tmp_path: Path) -> None:
    also = [str(tmp_path / name) for name in ("second", "third")]
    request = Request(
        work="create",
        parameters={},
        processes=3,
        seconds=1,
        places={SHARE: str(tmp_path / "first")},
        also={SHARE: also},
        counts={SHARE: 6},
        rounds=1,
    )
    # "create" removes by number whatever was made, so a directory that has no such file tells who made it.
    done = perform(request)
    assert "new" in done.stderr and "No such file" in done.stderr
    assert sorted(p.name for p in (tmp_path / "first").iterdir()) in (["new3"], [])
    assert sorted(p.name for p in (tmp_path / "second").iterdir()) == ["new1", "new4"]
    assert sorted(p.name for p in (tmp_path / "third").iterdir()) == ["new2", "new5"]
    request = request.model_copy(update={"work": "read", "parameters": SMALL, "counts": {SHARE: 3}})
    shutil.rmtree(tmp_path / "first")
    shutil.rmtree(tmp_path / "second")
    shutil.rmtree(tmp_path / "third")
    assert answer_to(request).units == {SHARE: 0.75}


def test_places_take_the_first_turn_in_turn_and_processes_share_the_work(tmp_path: Path) -> None:
    request = Request(
        work="create",
        parameters={},
        processes=3,
        seconds=0.001,
        places={name: str(tmp_path / name) for name in "abc"},
        counts=dict.fromkeys("abc", 7),
        rounds=3,
    )
    assert [next(iter(took)) for took in answer_to(request).rounds] == ["a", "b", "c"]
    assert (tmp_path / "a").is_dir(), "what was prepared stays for the next request"
    assert list((tmp_path / "a").iterdir()) == []


def test_the_number_of_repetitions_is_found_by_trying(tmp_path: Path) -> None:
    request = Request(
        work="stat", parameters={}, processes=1, seconds=0.01, places={"a": str(tmp_path / "a")}, rounds=0
    )
    assert answer_to(request).counts["a"] >= 1


def test_every_measure_has_its_work_and_its_own_name() -> None:
    names = [measure.name for measure in MEASURES]
    assert len(set(names)) == len(names)
    assert {measure.work for measure in MEASURES} == set(WORK)
    assert {measure.group for measure in MEASURES} == set(GROUPS)
    assert set(ABOUT) == set(WORK) and {measure.axis for measure in MEASURES if measure.axis} == set(AXES)


def test_measures_are_chosen_by_work_and_group() -> None:
    assert {measure.work for measure in chosen(["read"], ["data"])} == {"read"}
    assert packages(chosen([], [])) == (), "an image of its own is built only for what is named"
    assert packages(chosen(["fio-read", "git-status"], [])) == ("fio", "git")
    assert max(measure.at for measure in chosen([], []) if measure.work == "find-tree") == 100_000
    assert max(measure.at for measure in chosen(["find-tree"], [])) == 1_000_000
    assert chosen(["git-status"], [])[0].needs == "git"
    with pytest.raises(UsageError, match="did you mean 'readdir'"):
        chosen(["readir"], [])
    with pytest.raises(UsageError, match="nothing of untar is in data"):
        chosen(["untar"], ["data"])


def test_a_benchmark_is_measured_kept_and_shown(tmp_path: Path) -> None:
    argv = ["bench", "local", "--only", "rename", "--rounds", "2", "--seconds", "0.001", "--results", str(tmp_path)]
    done = CliRunner().invoke(cli, argv)
    assert done.exit_code == 0, done.output
    (run,) = tmp_path.glob("*-bench-local")
    record = load_bench(run)
    assert [measure.name for measure in record.measures] == ["rename"]
    assert {name: len(seconds) for name, seconds in record.measures[0].seconds.items()} == {SHARE: 2, CONTROL: 2}
    assert record.environment.profiles and record.whole
    assert "rename" in (run / "bench.html").read_text() and "rename" in done.output
    assert (run / "SHA256SUMS").read_text().count("bench") == 2


def test_what_a_target_or_guest_has_not_is_left_out_with_the_reason(tmp_path: Path) -> None:
    argv = ["bench", "local", "--group", "scaling", "--only", "stat", "--rounds", "1", "--seconds", "0.001"]
    done = CliRunner().invoke(cli, [*argv, "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (run,) = tmp_path.glob("*-bench-local")
    record = load_bench(run)
    left = {measure.name: measure.left_out for measure in record.measures if measure.left_out}
    assert set(left) == {f"stat shares={n}" for n in (2, 3, 4)}
    assert "the target has one share" in left["stat shares=2"] and not any(m.failed for m in record.measures)
    assert (
        'stat shares=2 <span class="quiet">was left out: the target has one share' in (run / "bench.html").read_text()
    )


def test_a_guest_without_fio_leaves_it_out_unless_it_is_named(tmp_path: Path) -> None:
    link = SimpleNamespace(calls=SimpleNamespace(which=lambda name: None))
    place = Place(SHARE, "", cast(AgentLink, link), str(tmp_path))
    (measure,) = [one for one in chosen([], []) if one.work == "fio-read"]
    found = one([place], measure, 1, 1, Trees())
    assert "the guest has no fio: --only fio-read" in found.left_out and not found.failed
    (measure,) = chosen(["fio-read"], [])
    found = one([place], measure, 1, 1, Trees())
    assert found.failed == "share: the guest has no fio" and not found.left_out


def test_a_tree_that_takes_too_long_is_left_out_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    trees, sizes = Trees(), []
    place = Place(SHARE, "", cast(AgentLink, SimpleNamespace()), "/nowhere")

    def took(link: object, request: Request, limit: float) -> None:
        sizes.append(request.parameters["tree"])
        clock.append(clock[-1] + request.parameters["tree"] / 500)

    clock, asks = [0.0], Request(work="find-tree", parameters={}, processes=1, seconds=1, places={}, rounds=0)
    monkeypatch.setattr(measuring, "perform", took)
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    points = {measure.at: measure for measure in chosen([], []) if measure.work == "find-tree"}
    for files in (10, 1000, 1000):
        trees.check(points[files])
        trees.make(place, asks.model_copy(update={"parameters": {"tree": files}}))
    assert sizes == [10, 1000], "a tree that stands is not made again"
    with pytest.raises(Exception, match="would take about 200 s: --only find-tree"):
        trees.check(points[100_000])
    (named,) = [measure for measure in chosen(["find-tree"], []) if measure.at == 100_000]
    trees.check(named)


class Agent:
    """An agent on this host, which runs the payload; its trace says what it is given."""

    def __init__(self, *traces: str) -> None:
        self._traces = ["of the rounds", *traces]
        self.calls = self

    def which(self, name: str) -> str | None:
        return shutil.which(name)

    def calls_with(self, timeout: float) -> Agent:
        return self

    def rmtree(self, path: str) -> None:
        shutil.rmtree(path)

    def trace_end(self) -> str:
        return self._traces.pop(0)


def here(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The payload runs on this host; what it was asked to do."""
    asked_for: list[Request] = []

    def performed(link: object, request: Request, limit: float = 0) -> Answer:
        asked_for.append(request)
        return answer_to(request)

    monkeypatch.setattr(measuring, "perform", performed)
    return asked_for


def test_further_shares_are_mounted_and_who_has_none_is_left_out_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, mounted = here(monkeypatch), []

    def further(name: str) -> Callable[[int, MountOptions], str]:
        def mount(number: int, options: MountOptions) -> str:
            mounted.append((name, number, str(options)))
            return str(tmp_path / f"{name}{number}")

        return mount

    agent = cast(AgentLink, Agent())
    places = [
        Place(name, "", agent, str(tmp_path / name), further=further(name) if name != OTHER else None)
        for name in (SHARE, CONTROL, OTHER)
    ]
    (measure,) = [one for one in MEASURES if one.name == "read shares=3"]
    small = replace(measure, parameters={"block": 65536, "mib": 1})
    found = one(places, small, 2, 0.001, Trees())
    assert not found.failed and not found.left_out
    assert found.without == {OTHER: "one share of it is mounted"}
    assert {name: len(seconds) for name, seconds in found.seconds.items()} == {SHARE: 2, CONTROL: 2}
    options = str(measure.mount)
    assert mounted == [(name, number, options) for name in (SHARE, CONTROL) for number in (1, 2)]
    assert requests[0].also == {n: [str(tmp_path / f"{n}{k}") for k in (1, 2)] for n in (SHARE, CONTROL)}
    assert list(tmp_path.iterdir()) == [], "all of it is removed"


def test_the_messages_of_the_timed_work_are_counted_for_one_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (measure,) = [one for one in MEASURES if one.name == "rename"]
    counts: dict[str, int] = {}

    def performed(link: object, request: Request, limit: float = 0) -> Answer:
        answer = answer_to(request)
        counts.update(answer.counts)
        return answer

    monkeypatch.setattr(measuring, "perform", performed)
    phases = {"around": Counter(Tclunk=5), "timed": Counter(Trenameat=40)}
    monkeypatch.setattr(measuring, "by_phase", lambda text: phases if text == "of the work" else None)
    clock = iter([1.0, 1.5, 1.5 + 0.5 + 0.9])  # starting takes 0.5 s, so the work has used 0.9 s
    monkeypatch.setattr(measuring, "spent", lambda pid: next(clock))
    place = Place(SHARE, "", cast(AgentLink, Agent("of the work")), str(tmp_path / "d"), pid=lambda: 7, traced=True)
    found = one([place], measure, 1, 0.001, Trees())
    assert found.failed == ""
    turns = 4 * counts[SHARE]
    assert found.messages == {SHARE: {"Trenameat": 40 / turns}}
    assert found.processor_by_message[SHARE] == pytest.approx(0.9 / 45), "those around the work are paid for, too"
    assert found.processor[SHARE] == pytest.approx(0.9 / 45 * 40 / turns)


def test_two_targets_without_a_common_guest_are_measured_beside_each_other(tmp_path: Path) -> None:
    argv = ["bench", "local", "--against", "local", "--only", "rename", "--rounds", "2", "--seconds", "0.001"]
    done = CliRunner().invoke(cli, [*argv, "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (run,) = tmp_path.glob("*-bench-local")
    seconds = load_bench(run).measures[0].seconds
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys(
        (SHARE, CONTROL, "other", "other control"), 2
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["bench", "qmeu"], "did you mean"),
        (["bench", "reference"], "has no share to mount"),
        (["bench", "local", "--only", "statt"], "unknown kind of work"),
        (["bench", "local", "--against", "nfs4"], "no network that reaches this host"),
        (["bench", "local", "--baseline", "nothing"], "no run 'nothing'"),
        (["bench", "local", "--image", "debian12"], "--image does not apply"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(argv: list[str], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, [*argv, "--results", str(tmp_path)])
    assert isinstance(done.exception, UsageError) and said in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_one_guest_has_both_devices_where_the_machines_are_the_same() -> None:
    assert one_guest(asked("qemu-next"), asked("reference-qemu"))
    assert one_guest(asked("reference-qemu"), asked("qemu-next"))
    assert not one_guest(asked("qemu"), asked("reference-qemu")), "they name two versions of QEMU"
    assert not one_guest(asked("qemu"), asked("qemu"))
    assert not one_guest(asked("qemu-next", image="debian13"), asked("reference-qemu"))
    check_nfs4(asked("qemu"))
    with pytest.raises(UsageError, match="no network"):
        check_nfs4(asked("reference-uml"))


def test_nfs_is_mounted_as_near_to_the_9p_mount_as_it_can_be() -> None:
    assert "actimeo=0,lookupcache=none" in words(MountOptions(), 2049)
    assert "actimeo" not in words(MountOptions(cache="mmap"), 2049)
    assert "rsize=512000,wsize=512000" in words(MountOptions(msize=512000), 2049)
