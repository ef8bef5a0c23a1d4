"""Further processes of an agent: the next case that gets one finds nothing that an earlier case left in it."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guests.agent.link import AgentLink
from guests.agent.local_channel import LocalChannel
from tests.waiting import eventually


@pytest.fixture
def agent() -> Iterator[AgentLink]:
    link = AgentLink(LocalChannel())
    yield link
    link.close()


def hired(agent: AgentLink, root: Path, **spec: Any) -> int:
    """Start a process "second" with that specification; returns its process id."""
    agent.spawn("second", root=str(root), **spec)
    pid = agent.calls_with(proc="second").getpid()
    assert isinstance(pid, int)
    return pid


def test_a_process_is_used_again_and_is_as_new(agent: AgentLink, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first = hired(agent, tmp_path / "one", umask=0o077)
    agent.calls_with(proc="second").create("fred", b"content")
    agent.calls_with(proc="second").open("fred", os.O_RDWR)
    agent.calls_with(proc="second").chdir(str(tmp_path))
    before = set(os.listdir(f"/proc/{first}/fd"))
    agent.reap()
    assert set(os.listdir(f"/proc/{first}/fd")) < before
    assert os.readlink(f"/proc/{first}/cwd") == "/"

    assert hired(agent, tmp_path / "two", umask=0o027) == first
    agent.calls_with(proc="second").create("fred", b"", 0o666)
    assert (tmp_path / "one/fred").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "two/fred").stat().st_mode & 0o777 == 0o640


def test_a_lock_that_a_case_left_is_gone(agent: AgentLink, tmp_path: Path) -> None:
    hired(agent, tmp_path)
    agent.calls_with(proc="second").create("fred")
    fd = agent.calls_with(proc="second").open("fred", os.O_RDWR)
    agent.calls_with(proc="second").flock(fd, 2 | 4)  # LOCK_EX | LOCK_NB
    agent.reap()
    mine = agent.calls.open(str(tmp_path / "fred"), os.O_RDWR)
    agent.calls.flock(mine, 2 | 4)


def test_a_process_whose_limits_were_lowered_is_not_used_again(agent: AgentLink, tmp_path: Path) -> None:
    first = hired(agent, tmp_path)
    agent.calls_with(proc="second").setrlimit(resource.RLIMIT_FSIZE, 1000)
    agent.reap()
    assert hired(agent, tmp_path) != first
    assert not Path(f"/proc/{first}").exists()


def test_a_process_that_died_while_nobody_wanted_it_is_replaced(agent: AgentLink, tmp_path: Path) -> None:
    first = hired(agent, tmp_path)
    agent.reap()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{first}/cwd").exists())
    assert hired(agent, tmp_path) != first


def test_a_process_in_the_middle_of_a_call_is_ended(agent: AgentLink, tmp_path: Path) -> None:
    first = hired(agent, tmp_path)
    agent.send("sleep", (60,), {}, "second", 90.0)
    agent.reap()
    assert not Path(f"/proc/{first}").exists()
    assert hired(agent, tmp_path) != first


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_process_of_one_user_is_never_another_users(agent: AgentLink, tmp_path: Path) -> None:
    roots = hired(agent, tmp_path)
    agent.reap()
    nobodys = hired(agent, tmp_path, uid=65534)
    assert nobodys != roots
    assert Path(f"/proc/{nobodys}").stat().st_uid == 65534
    agent.reap()
    assert hired(agent, tmp_path, uid=65534, gid=12) != nobodys
    agent.reap()
    assert hired(agent, tmp_path, uid=65534) == nobodys


def test_no_process_outlives_the_agent(tmp_path: Path) -> None:
    link = AgentLink(LocalChannel())
    pids = [hired(link, tmp_path)]
    link.reap()
    link.spawn("third", root=str(tmp_path), umask=0o022)
    pids.append(link.calls_with(proc="third").getpid())
    link.close()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
