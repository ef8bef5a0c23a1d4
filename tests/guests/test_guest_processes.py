"""The next run ends and removes what a killed run leaves; it never touches what is not the suite's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.files import mounts_below, remove_tree, require_space
from guests.host.locks import appearing, exclusive
from guests.host.processes import (
    claim,
    claimed,
    clean_left_over,
    dying_with_parent,
    end,
    end_session,
    end_tree,
    read_states,
    start_time,
)
from guests.host.progress import silent
from tests.waiting import PATIENT, eventually

pytestmark = pytest.mark.usefixtures("private_runtime", "private_cache")


@pytest.fixture
def sleeper() -> object:
    process = subprocess.Popen(["sleep", "100"])
    yield process
    process.kill()
    process.wait()


def left_by_a_dead_run(process: subprocess.Popen[bytes], directory: Path, keep: bool = False) -> None:
    """A state file as a killed run leaves it: its owner's pid exists again, as another process."""
    state = claim("m-test", (directory,), keep).with_process(process.pid)
    replace(state, owner_start=state.owner_start + 1).write()


def test_a_machine_whose_run_is_gone_is_ended_and_reported(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    left_by_a_dead_run(sleeper, disk)
    reported = clean_left_over()
    assert sleeper.wait(PATIENT) == -9
    assert not disk.exists() and read_states() == []
    assert f"pid {sleeper.pid}" in reported[0] and str(disk) in reported[1]
    assert clean_left_over() == []


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    left_by_a_dead_run(sleeper, tmp_path / "absent")
    state = read_states()[0]
    replace(state, start=state.start - 1).write()
    assert clean_left_over() == []
    assert sleeper.poll() is None and read_states() == []


def test_a_machine_of_a_living_run_is_left_alone(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    claim("m-test", (tmp_path,), keep=False).with_process(sleeper.pid).write()
    assert clean_left_over(also_kept=True) == []
    assert sleeper.poll() is None and len(read_states()) == 1


def test_a_kept_machine_stays_until_it_is_asked_for(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    left_by_a_dead_run(sleeper, tmp_path / "absent", keep=True)
    assert clean_left_over() == [] and sleeper.poll() is None
    assert len(clean_left_over(also_kept=True)) == 1
    assert sleeper.wait(PATIENT) == -9


def test_a_damaged_state_file_is_dropped() -> None:
    (paths.running_dir() / "m-bad.json").write_text("{")
    assert read_states() == [] and not list(paths.running_dir().iterdir())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temporary", [""]),
        ("temporary", ["."]),
        ("temporary", ["users"]),
        ("temporary", "users"),
        ("temporary", [["/nowhere"]]),
        ("temporary", ["\0"]),
        ("name", "../users"),
        ("name", "\0"),
        ("owner_pid", "\0"),
        ("pid", None),
        ("keep", {}),
        ("more", 5),
    ],
)
def test_nothing_that_a_damaged_state_file_names_is_removed(
    field: str, value: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An empty path would mean the working directory."""
    (tmp_path / "users" / "work").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    state = claim("m-bad", (tmp_path / "ours",), keep=False)
    state.file.write_text(json.dumps({**json.loads(state.file.read_text()), "owner_pid": 0, field: value}))
    assert clean_left_over() == [] and (tmp_path / "users" / "work").is_dir()
    assert not state.file.exists()


def test_a_child_dies_with_its_parent_even_by_kill_9() -> None:
    program = (
        "import subprocess, sys, time; sys.path.insert(0, '.')\n"
        "from guests.host.processes import dying_with_parent\n"
        "print(subprocess.Popen(dying_with_parent(['sleep', '100'])).pid, flush=True); time.sleep(100)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    eventually(lambda: Path(f"/proc/{child}/comm").read_text().strip() == "sleep")
    parent.kill()
    parent.wait()
    eventually(lambda: start_time(child) is None)


def test_ending_is_patient_and_then_not() -> None:
    trap = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]
    stubborn = subprocess.Popen(dying_with_parent(trap), stdout=subprocess.PIPE)
    assert stubborn.stdout is not None and stubborn.stdout.readline() == b"up\n"
    end(stubborn, patience=0.2)
    assert stubborn.returncode == -9


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The leader of a new session, and its child, which does not end with it."""
    words = ["sh", "-c", "sleep 600 > /dev/null 2>&1 & echo $!; read -r line"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        started = start_time(child)
        yield leader, child
        leader.kill()
    if start_time(child) == started is not None:
        os.kill(child, signal.SIGKILL)


@pytest.fixture
def slow_deaths(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes end some time after they are killed, as on a busy machine."""
    kill = os.kill
    under_way: dict[int, threading.Timer] = {}

    def late(pid: int, number: int) -> None:
        if pid not in under_way:
            under_way[pid] = threading.Timer(0.3, kill, (pid, number))
            under_way[pid].start()

    with monkeypatch.context() as changed:
        changed.setattr(os, "kill", late)
        yield
    for timer in under_way.values():
        timer.join()


def test_the_rest_of_a_session_is_gone_when_it_was_ended(
    family: tuple[subprocess.Popen[str], int], slow_deaths: None
) -> None:
    leader, child = family
    leader.communicate("\n")
    assert start_time(child) is not None
    assert end_session(leader.pid) == 1
    assert start_time(child) is None


def test_a_tree_is_gone_when_it_was_ended(family: tuple[subprocess.Popen[str], int], slow_deaths: None) -> None:
    leader, child = family
    started = start_time(leader.pid)
    assert started is not None
    end_tree(leader.pid, started)
    assert start_time(leader.pid) is None and start_time(child) is None


def test_a_claimed_directory_goes_with_the_block(tmp_path: Path) -> None:
    directory = tmp_path / "scratch"
    with pytest.raises(ZeroDivisionError), claimed(directory):
        directory.mkdir()
        raise ZeroDivisionError
    assert not directory.exists() and read_states() == []


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "image"
    with pytest.raises(ZeroDivisionError), appearing(target) as temporary:
        (temporary / "half").touch()
        raise ZeroDivisionError
    assert list(tmp_path.glob("*image*")) == []
    with appearing(target) as temporary:
        (temporary / "whole").touch()
        assert not target.exists()
    assert [file.name for file in target.iterdir()] == ["whole"]


def test_the_second_builder_waits_says_so_and_gives_up(tmp_path: Path) -> None:
    lock, reported = tmp_path / "lock", list[str]()
    with exclusive(lock, "image x", silent):
        started = time.monotonic()
        with (
            pytest.raises(InfrastructureError, match="has been making image x"),
            exclusive(lock, "image x", reported.append, limit=0.3),
        ):
            pass
        assert time.monotonic() - started < PATIENT, "it gives up after its limit"
    assert reported == ["waiting: another run is making image x"]
    with exclusive(lock, "image x", reported.append):
        assert len(reported) == 1


def test_too_little_space_is_reported_before_it_hurts(tmp_path: Path) -> None:
    require_space(tmp_path, 0, "nothing")
    with pytest.raises(InfrastructureError, match=r"needs \d+ MB in .* MB are free — free some space"):
        require_space(tmp_path, 10**9, "building")


def test_a_runtime_directory_of_a_stranger_is_refused(private_runtime: Path) -> None:
    (private_runtime / "assay9").mkdir(mode=0o755)
    (private_runtime / "assay9").chmod(0o755)
    with pytest.raises(InfrastructureError, match="not a directory private to you"):
        paths.runtime_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_removing_a_tree_detaches_what_is_mounted_in_it(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").touch()
    tree = tmp_path / "a tree"
    (tree / "mnt").mkdir(parents=True)
    subprocess.run(["mount", "--bind", precious, tree / "mnt"], check=True)
    assert mounts_below(tree) == [str(tree / "mnt")]
    remove_tree(tree)
    assert not tree.exists() and (precious / "data").exists()
