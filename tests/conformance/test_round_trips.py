"""How many requests an agent gets for what a case does: each is a millisecond or more in an emulated guest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guests.agent.link import AgentLink, CallError, LocalChannel, Unprepared


class Counting(AgentLink):
    """An agent's channel that remembers its requests."""

    def __init__(self) -> None:
        super().__init__(LocalChannel())
        self.asked: list[str] = []

    def send(self, op: str, *rest: Any, **more: Any) -> int:
        """See AgentLink."""
        self.asked.append(op)
        return super().send(op, *rest, **more)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Counting]:
    link = Counting()
    link.calls.begin_case(str(tmp_path))
    link.asked.clear()
    yield link
    link.close()


def made(agent: Counting, op: str, *args: Any) -> Any:
    """A call with a look at what it changed."""
    return agent.receive(agent.send(op, args, {}, "main", 30.0, look="plain"), 30.0)


def test_a_call_and_the_look_at_what_it_changed_are_one_request(agent: Counting, tmp_path: Path) -> None:
    reply = made(agent, "create", "fred", b"content")
    assert agent.asked == ["create"]
    assert [name for name, _ in reply.seen] == ["fred", "."]
    assert reply.seen[0][1]["st_size"] == 7
    assert reply.seen[1][1]["st_ino"] == tmp_path.stat().st_ino


def test_what_is_gone_is_seen_to_be(agent: Counting) -> None:
    made(agent, "create", "fred")
    assert made(agent, "unlink", "fred").seen[0] == ("fred", 2)


def test_a_refused_call_is_looked_after_too(agent: Counting) -> None:
    made(agent, "mkdir", "d")
    with pytest.raises(CallError) as refused:
        made(agent, "mkdir", "d")
    assert refused.value.seen is not None
    assert refused.value.seen[0][0] == "d"


def test_what_changes_nothing_is_not_looked_after(agent: Counting) -> None:
    made(agent, "create", "fred")
    assert made(agent, "lstat", "fred").seen is None


def test_a_path_that_is_too_long_from_above_is_too_long(agent: Counting, tmp_path: Path) -> None:
    made(agent, "mkdir", "d")
    path = "d/" + "./" * 2030 + "x"
    assert len(f"{tmp_path}/{path}") >= 4096 > len(path)
    assert agent.calls.look([path]) == [36]  # ENAMETOOLONG


def test_the_root_is_held_during_a_case_and_no_longer(agent: Counting, tmp_path: Path) -> None:
    def held() -> bool:
        found = False
        for number in range(3, 16):
            try:
                found |= agent.calls.readlink(f"/proc/self/fd/{number}") == str(tmp_path)
            except CallError:
                continue
        return found

    assert held()
    agent.calls.end_case()
    assert not held()


def test_several_attempts_are_one_request_and_leave_no_descriptor(agent: Counting) -> None:
    made(agent, "create", "fred")
    before = agent.calls.listdir("/proc/self/fd")
    agent.asked.clear()
    calls: list[tuple[str, list[object]]] = [("open", ["fred", 0]), ("open", ["nobody", 0]), ("rmdir", ["fred"])]
    assert agent.calls.attempts(calls) == [0, 2, 20]
    assert agent.asked == ["attempts"]
    assert agent.calls.listdir("/proc/self/fd") == before


def test_a_posted_call_is_made_before_the_next_and_not_waited_for(agent: Counting, tmp_path: Path) -> None:
    waits = agent.waits
    agent.post("mkdir", str(tmp_path / "d"))
    assert agent.calls.listdir(str(tmp_path)) == ["d"]
    assert agent.waits == waits + 1


def test_a_posted_call_that_fails_is_not_taken_for_the_next(agent: Counting, tmp_path: Path) -> None:
    agent.post("rmdir", str(tmp_path / "nothing"))
    with pytest.raises(Unprepared, match="No such file") as raised:
        agent.calls.lstat(str(tmp_path / "nobody"))
    assert isinstance(raised.value.why, CallError)
    assert not isinstance(raised.value, OSError)
    assert agent.calls.listdir(str(tmp_path)) == []


def test_a_further_process_costs_no_round_trip_to_make(agent: Counting, tmp_path: Path) -> None:
    waits = agent.waits
    agent.spawn("second", root=str(tmp_path))
    assert agent.calls_with("second").getpid() != agent.calls.getpid()
    assert agent.waits == waits + 2
    agent.reap()
    agent.spawn("second", root=str(tmp_path), umask=0o077)
    agent.calls_with("second").create("fred")
    assert agent.calls.lstat("fred")["st_mode"] & 0o777 == 0o600
