"""The flow of a measurement, with the smallest sizes: no verdict here depends on a duration."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay9.cli import cli
from conformance.errors import UsageError
from conformance.performance.guest_side import PAYLOAD, Answer, Request
from conformance.performance.measures import GROUPS, MEASURES, chosen
from conformance.performance.nfs4 import words
from conformance.performance.payload import WORK
from conformance.performance.record import CONTROL, SHARE, load_bench
from conformance.performance.subjects import check_nfs4, one_guest
from conformance.vfs.mount_options import MountOptions
from tests.targets import asked

SMALL = {"files": 3, "open": 2, "mib": 1, "block": 262144}


def answer_to(request: Request) -> Answer:
    argv = [sys.executable, "-c", PAYLOAD.read_text(), request.model_dump_json()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return Answer.model_validate(json.loads(done.stdout))


@pytest.mark.parametrize("work", sorted(set(WORK) - {"git-status"}))
def test_each_kind_of_work_is_done_in_each_place_and_leaves_nothing(work: str, tmp_path: Path) -> None:
    places = {name: str(tmp_path / name) for name in (SHARE, CONTROL)}
    found = answer_to(
        Request(
            work=work,
            parameters=SMALL,
            processes=1,
            seconds=0.001,
            places=places,
            counts=dict.fromkeys(places, 2),
            rounds=2,
            latency=True,
            last=True,
        )
    )
    assert [set(took) for took in found.rounds] == [set(places)] * 2
    assert all(found.units[name] > 0 and len(found.latency[name]) == 4 for name in places)
    assert list(tmp_path.iterdir()) == []


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


def test_measures_are_chosen_by_work_and_group() -> None:
    assert {measure.work for measure in chosen(["read"], ["data"])} == {"read"}
    assert all(not measure.needs for measure in chosen([], []))
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
