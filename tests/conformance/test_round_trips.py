"""How many requests a case sends to an agent: each takes a millisecond or more in an emulated guest."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.checks import equal, fields, findings_of
from conformance.errors import Finding
from conformance.evidence.models import CaseResult
from conformance.run.mounted import Runner
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalTarget
from conformance.vfs.mount_options import DEFAULT
from conformance.vfs.pending import results
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from guests.agent.link import AgentLink, CallError, CallHung, Unprepared
from guests.agent.local_channel import LocalChannel
from tests.cases import made_case


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
    """A call, and then a look at what it changed."""
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


def test_what_nobody_waits_for_is_sent_and_answered_with_the_next_call(
    agent: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = agent._channel
    messages: list[bytes] = []
    replies: list[bytes] = []
    send, receive = channel.send, channel._receive  # type: ignore[attr-defined]

    def sent(data: bytes) -> None:
        messages.append(data)
        send(data)

    def received(timeout: float) -> bytes:
        replies.append(receive(timeout))
        return bytes(replies[-1])

    monkeypatch.setattr(channel, "send", sent)
    monkeypatch.setattr(channel, "_receive", received)
    agent.begin_case(str(tmp_path))
    agent.spawn("other", root=str(tmp_path))
    agent.send("umask", (0o022,), {}, "main", 30.0, held=True)
    assert messages == []
    agent.calls.getpid()
    assert [one.count(b"\n") for one in messages] == [4]
    assert [one.count(b"\n") for one in replies] == [4]
    agent.send("umask", (0o022,), {}, "main", 30.0, held=True)
    agent.calls_with("other").getpid()
    assert [one.count(b"\n") for one in messages] == [4, 2]
    assert b"".join(replies).count(b"\n") == 6


def test_replies_that_were_held_back_come_with_that_of_a_call_that_hangs(agent: Counting) -> None:
    number = agent.send("umask", (0o077,), {}, "main", 30.0, held=True)
    with pytest.raises(CallHung):
        agent.calls_with(timeout=0.5).sleep(30)
    assert agent.receive(number, 30.0).value == 0o022


def test_a_further_process_costs_no_round_trip_to_make(agent: Counting, tmp_path: Path) -> None:
    waits = agent.waits
    agent.spawn("second", root=str(tmp_path))
    assert agent.calls_with("second").getpid() != agent.calls.getpid()
    assert agent.waits == waits + 2
    agent.reap()
    agent.spawn("second", root=str(tmp_path), umask=0o077)
    agent.calls_with("second").create("fred")
    assert agent.calls.lstat("fred")["st_mode"] & 0o777 == 0o600


def test_turns_of_several_processes_are_one_round_trip(agent: Counting, tmp_path: Path) -> None:
    inside = Vantage("inside", agent, str(tmp_path))
    one, two = inside.spawn("one"), inside.spawn("two")
    fd, waits = one.open("fred", os.O_WRONLY | os.O_CREAT), agent.waits
    turns = [(one.then.write(fd, b"%d" % n), two.then.slurp("fred"), inside.then.stat("fred")) for n in range(5)]
    seen = [(written.result(), read.result(), stat.result()["st_size"]) for written, read, stat in turns]
    assert seen == [(1, b"01234"[: n + 1], n + 1) for n in range(5)]
    assert agent.waits == waits + 1


def test_turns_go_on_after_a_process_that_died(agent: Counting, tmp_path: Path) -> None:
    inside = Vantage("inside", agent, str(tmp_path))
    one = inside.spawn("one")
    killed, alive = one.then.run(["sh", "-c", "kill -SEGV $PPID"]), inside.then.getpid()
    with pytest.raises(Finding, match="killed by signal 11"):
        killed.result()
    assert alive.result() == inside.getpid()


def test_a_look_at_what_a_further_process_changed_is_the_main_ones(agent: Counting, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    agent.spawn("other", root=str(tmp_path), umask=0)
    waits = agent.waits
    reply = agent.receive(agent.send("mkdir", ("locked/d", 0o700), {}, "other", 30.0, look="plain"), 30.0)
    assert reply.seen is not None and [name for name, _ in reply.seen] == ["locked/d", "locked"]
    assert agent.waits == waits + 1 and agent.asked == ["@spawn", "mkdir"]


def test_a_case_that_left_nothing_open_ends_without_a_round_trip(agent: Counting, tmp_path: Path) -> None:
    agent.begin_case(str(tmp_path))
    agent.calls.create("fred")
    waits = agent.waits
    assert agent.idle
    assert agent.end_case(wait=False) == ""
    assert agent.waits == waits
    agent.calls.getpid()
    assert not agent.idle, "no case has begun"


def test_a_case_ends_with_its_processes_in_one_round_trip(agent: Counting, tmp_path: Path) -> None:
    agent.begin_case(str(tmp_path))
    agent.spawn("other", root=str(tmp_path))
    pid, waits = agent.calls_with("other").getpid(), agent.waits
    assert not agent.idle, "a further process is there"
    assert agent.end_case() is None
    assert agent.waits == waits + 1 and not agent.spawned
    assert agent.asked[-2:] == ["end_case", "@reap"]
    agent.spawn("other", root=str(tmp_path))
    assert agent.calls_with("other").getpid() == pid, "it is as new, and another case has it"


@pytest.mark.parametrize("op", ["open", "opendir", "take_descriptor"])
def test_what_a_case_has_open_keeps_the_agent_from_being_idle(agent: Counting, tmp_path: Path, op: str) -> None:
    (tmp_path / "fred").touch()
    agent.begin_case(str(tmp_path))
    if op == "opendir":
        agent.calls.opendir(".")
    elif op == "open":
        agent.calls.open("fred")
    else:
        agent.calls.take_descriptor(os.getpid(), 0)
    assert not agent.idle
    assert agent.end_case() is None


def test_replies_that_nobody_waited_for_are_forgotten(agent: Counting, tmp_path: Path) -> None:
    inside = Vantage("inside", agent, str(tmp_path))
    inside.then.getpid()
    agent.begin_case(str(tmp_path))
    agent.calls.getpid()
    agent.begin_case(str(tmp_path))
    agent.calls.getpid()
    assert agent.idle and not agent._replies and not agent._sent


def outcome_of(tmp_path: Path, body: Callable[[Share], None]) -> tuple[BaseException | None, CaseResult]:
    """Run `body` as a case on a directory of this host; what it raises, and its evidence."""
    target = LocalTarget(name="here", kind="local", title="here")
    runner = Runner(target, LocalDeployment(target, tmp_path, print), "never", "main")
    runner.deployment.start()
    try:
        result, raised = runner.run(made_case(body), "", DEFAULT, body)
    finally:
        runner.stop()
    return raised, result


def ended(tmp_path: Path, body: Callable[[Share], None]) -> BaseException | None:
    """What the case raises."""
    return outcome_of(tmp_path, body)[0]


def driven(tmp_path: Path, body: Callable[[Share], None]) -> None:
    """Run `body` as a case that passes."""
    raised = ended(tmp_path, body)
    assert raised is None, raised


def test_what_the_guest_shows_after_the_host_s_call_comes_with_the_next_reply(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.lstat(".")
        waits, judged = share.inside.agent.waits, len(share.comparisons)
        share.outside.create("fred", b"content")
        assert (share.inside.agent.waits, len(share.comparisons)) == (waits, judged)
        share.inside.lstat("fred")
        assert (share.inside.agent.waits, len(share.comparisons)) == (waits + 1, judged + 2)
        share.outside.create("george")
        share.outside.create("henry")
        assert len(share.comparisons) == judged + 4, "before the host acts again"
        share.inside.spawn("second").unlink("henry")
        seen = [one for one in share.comparisons if one.path == "henry"]
        assert all(one.ok for one in seen) and len(seen) == 2, "no process overtakes it"

    driven(tmp_path, body)


def test_what_a_call_has_shown_is_not_asked_for_again(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("fred", b"content")
        waits = share.inside.agent.waits
        assert share.same(share.stat("fred"))["st_size"] == 7
        assert share.inside.agent.waits == waits
        share.inside.getpid()
        assert share.same(share.stat("fred"))["st_size"] == 7
        assert share.inside.agent.waits == waits + 2, "the guest has done more since"
        share.outside.truncate("fred", 3)
        assert share.same(share.stat("fred"))["st_size"] == 3

    driven(tmp_path, body)


def test_calls_without_an_answer_go_with_the_next_one(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("fred", b"content")
        waits, made = share.inside.agent.waits, len(share.calls)
        fd = share.inside.open("fred")
        share.inside.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        assert (share.inside.agent.waits, len(share.calls)) == (waits, made)
        assert share.inside.pread(fd, 3, 1) == b"ont"
        share.inside.close(fd)
        share.inside.refuses(errno.EBADF).lseek(fd, 0)
        assert share.inside.agent.waits == waits + 2
        assert [one.op for one in share.calls[made:]] == ["open", "posix_fadvise", "pread", "close", "lseek"]
        assert share.calls[made].value == int(fd) == int(share.calls[made + 2].args[0])

    driven(tmp_path, body)


def refuse(share: Share) -> None:
    share.inside.refuses(errno.ENOENT).lstat("nobody")


def swallow(share: Share) -> None:
    with contextlib.suppress(OSError):
        share.inside.lstat("nobody")


def look(share: Share) -> None:
    """The suite's own call fails, too."""
    share.content("neither")


def end(share: Share) -> None:
    pass


def test_what_is_not_compared_is_not_looked_at_later_either(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        waits = share.inside.agent.waits
        with share.without_comparison():
            share.inside.create("fred", b"content")
            fd = share.inside.open("george", os.O_RDWR | os.O_CREAT)
            share.inside.fchmod(fd, 0o600)
            share.inside.unlink("fred")
        share.inside.refuses(errno.ENOENT).lstat("fred")
        assert share.inside.agent.waits == waits + 1 and not share.comparisons
        share.inside.fchmod(fd, 0o640)
        assert len(share.comparisons) == 2 and all(one.ok for one in share.comparisons)

    driven(tmp_path, body)


def test_a_value_that_is_only_checked_goes_with_the_next_call(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("fred", b"content")
        waits = share.inside.agent.waits
        fd = share.inside.open("fred")
        equal("bytes of 'fred'", share.inside.soon.pread(fd, 3, 0), b"con", code="content")
        fields("'fred'", share.inside.soon.stat("fred"), size=8)
        share.inside.close(fd)
        equal("bytes of 'nobody'", share.inside.soon.slurp("fred"), b"nothing", code="content")
        assert share.inside.agent.waits == waits
        share.inside.getpid()
        assert share.inside.agent.waits == waits + 1

    found = findings_of(ended(tmp_path, body))
    assert [one.code for one in found] == ["field:size", "content"]

    def alone(share: Share) -> None:
        fields("'fred'", share.inside.soon.stat("fred"), size=1)

    missing = ended(tmp_path, alone)
    assert isinstance(missing, CallError) and missing.about["spelled"] == "inside: stat('fred')"


def test_what_was_sent_after_a_failure_is_not_judged(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("fred", b"content")
        fields("'nobody'", share.inside.soon.stat("nobody"), size=1)
        equal("bytes of 'fred'", share.inside.soon.slurp("fred"), b"other", code="content")

    raised, result = outcome_of(tmp_path, body)
    assert isinstance(raised, CallError) and [one.op for one in result.calls][-1] == "stat"


@pytest.mark.parametrize("process", ["main", "other"])
def test_a_case_ends_in_the_round_trip_of_its_last_calls(tmp_path: Path, process: str) -> None:
    def body(share: Share) -> None:
        share.inside.create("fred", b"content")
        by = share.inside if process == "main" else share.inside.spawn("other")
        fd = by.open("fred")
        equal("bytes of 'fred'", by.soon.pread(fd, 3, 0), b"con", code="content")

    raised, result = outcome_of(tmp_path, body)
    assert raised is None and result.calls[-1].op == "pread"
    assert result.round_trips == (2 if process == "main" else 3)


@pytest.mark.parametrize("then", [refuse, swallow, look, end])
def test_one_that_fails_is_charged_itself_and_not_the_next(tmp_path: Path, then: Callable[[Share], None]) -> None:
    def body(share: Share) -> None:
        share.inside.open("nothing")
        then(share)
        assert then is end, "the case is over"

    failed = ended(tmp_path, body)
    assert isinstance(failed, CallError) and failed.errno == errno.ENOENT
    assert failed.about["spelled"] == "inside: open('nothing')"


def test_a_descriptor_that_was_never_opened_is_not_the_failure(tmp_path: Path) -> None:
    failed = ended(tmp_path, lambda share: share.inside.fchmod(share.inside.open("nothing"), 0o600))
    assert isinstance(failed, CallError) and failed.about["call"] == "open"


def test_no_other_process_overtakes_them(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("fred", b"content")
        other = share.inside.spawn("other")
        mine, theirs = share.inside.open("fred", os.O_RDWR), other.open("fred", os.O_RDWR)
        share.inside.setlk(mine, "w")
        other.refuses(errno.EAGAIN).setlk(theirs, "w")
        share.inside.setlk(mine, "u")
        other.setlk(theirs, "w")
        share.inside.refuses(errno.EAGAIN).setlk(mine, "w")
        waiting = share.inside.spawn("third")
        also = waiting.open("fred", os.O_RDWR)
        pending = waiting.start.setlk(also, "w", wait=True)
        other.setlk(theirs, "u")
        assert pending.finished(30.0)
        pending.result()
        other.close(theirs)
        other.kill()
        assert share.calls[-1].op == "close" and not share.calls[-1].trouble
        taken = share.inside.take_descriptor(share.inside.getpid(), share.inside.open("fred"))
        assert share.inside.pread(taken, 7, 0) == b"content"
        share.outside.unlink("fred")

    driven(tmp_path, body)


def test_a_descriptor_has_its_number_where_it_is_shown(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("fred", b"content")
        held = share.inside.open("fred")
        assert share.inside.readlink(f"/proc/self/fd/{held}").endswith("/fred")
        assert int(held) == held.opened < 1000  # type: ignore[attr-defined]

    driven(tmp_path, body)


def test_many_large_replies_do_not_block_the_requests(agent: Counting, tmp_path: Path) -> None:
    agent.calls.create("fred", bytes(50_000))
    inside = Vantage("inside", agent, str(tmp_path))
    seen = results(inside.start.slurp("fred") for _ in range(400))
    assert [len(one) for one in seen] == [50_000] * 400


def test_a_large_request_after_large_replies_is_sent(agent: Counting, tmp_path: Path) -> None:
    agent.calls.create("fred", bytes(50_000))
    inside = Vantage("inside", agent, str(tmp_path))
    reads = [inside.start.slurp("fred") for _ in range(10)]
    inside.create("george", bytes(1 << 20))
    assert [len(one.result()) for one in reads] == [50_000] * 10
