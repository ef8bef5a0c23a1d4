"""A later case does not fail for damage by an earlier one; an unimplemented message is reported once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import conformance.cases.wire.test_message as messages
from conformance.case import CASES, Case
from conformance.checks import equal
from conformance.evidence.models import CaseResult
from conformance.profiles.model import NotSupported, Profile
from conformance.raw.findings import NoReply
from conformance.raw.wire import Wire
from conformance.run.session import WireSession
from conformance.run.wire import WireRunner
from tests.targets import served
from tests.wire.proxy import Proxy
from tests.wire.test_survival import case_of, impatient
from tests.wire.wrong_server import HoldsALock

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="servers under test are contained, which takes root")

WRONG = Path(__file__).with_name("wrong_server.py")
DECLARED = NotSupported(feature="Tlock", errno=["EOPNOTSUPP"], reason="it keeps no locks")
Start = Callable[..., WireRunner]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Bring up a runner on the reference server with a fault, or on a server given by keywords."""
    made: list[WireRunner] = []

    def begin(fault: str = "Right", profile: Profile | None = None, **server: object) -> WireRunner:
        command = {"program": "command", "arguments": [sys.executable, str(WRONG), fault, "{unix}", "{export}"]}
        directory = tmp_path / str(len(made))
        directory.mkdir()
        runner = WireRunner(served(fault, profile, **(server or command)), directory, "main")
        made.append(runner)
        runner.start()
        assert runner.broken is None, runner.broken
        return runner

    yield begin
    for runner in made:
        runner.stop()


@pytest.fixture
def short_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe waits less for missing replies; on a busy machine it extends the wait itself."""
    monkeypatch.setattr("conformance.raw.health._WAIT", 1.0)


def run(runner: WireRunner, function: Callable[[Wire], None]) -> CaseResult:
    return runner.run_item(case_of(function), "", function, {"wire": None})[0]


def hangs(wire: Wire) -> None:
    """The server keeps this request and the lock that it took for it."""
    wire.client.symlink.send(wire.root, b"hang", b"x").result(timeout=0.5)


def hangs_unseen(wire: Wire) -> None:
    """The same, and the case does not wait for a reply."""
    wire.client.symlink.send(wire.root, b"hang", b"x")


def hangs_as_allowed(wire: Wire) -> None:
    """The same, and the case finds nothing wrong with it."""
    with pytest.raises(NoReply):
        wire.client.symlink.send(wire.root, b"hang", b"x").wait(0.5)


def renames(wire: Wire) -> None:
    """Passes when nothing holds the lock."""
    wire.host.file(b"old", b"x")
    wire.client.renameat(wire.root, b"old", wire.root, b"new")
    equal("names in the directory", wire.host.names(), {b"new"})


# ---- a server that an earlier case damaged


@pytest.mark.parametrize("hang", [hangs, hangs_unseen, hangs_as_allowed])
def test_a_request_that_hangs_with_a_lock_is_charged_to_no_later_case(
    start: Start, hang: Callable[[Wire], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = start("HoldsALock")
    assert run(runner, renames).verdict == "pass"
    impatient(monkeypatch)
    hung = run(runner, hang)
    assert (hung.verdict, hung.infrastructure) == ("fail", False), hung.reason
    assert "a new session is not served: no reply to Trenameat" in hung.reason
    for _ in range(3):
        later = run(runner, renames)
        assert later.verdict == "pass", later.reason


def test_later_cases_would_be_charged_if_only_the_version_was_asked_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail."""
    monkeypatch.setattr("conformance.run.session.serve", lambda *_: None)
    monkeypatch.setattr(WireSession, "_restartable", lambda self: False)
    runner = start("HoldsALock")
    run(runner, hangs)
    assert run(runner, renames).verdict == "fail"


def test_a_server_with_a_request_outstanding_is_started_again_though_it_serves(start: Start) -> None:
    """The server may also hold a lock that the work after a case does not touch."""
    runner = start("HoldsALock")
    runner.session.missing = {"Trenameat": "answered EOPNOTSUPP"}  # so that the health check renames in another way
    before = runner.session.server.pid()
    seen = run(runner, hangs_as_allowed)
    assert (seen.verdict, runner.session.server.pid() != before) == ("pass", True), seen.reason
    runner.session.missing = {}
    assert run(runner, renames).verdict == "pass"


def test_a_server_of_somebody_else_that_hangs_is_an_error_from_then_on(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cannot be restarted; later cases on it give no verdict."""
    ours = start("Right")
    export, address = ours.session.server.export, tmp_path / "s"
    assert export is not None
    proxy = Proxy(HoldsALock, ours.session.server.socket_path, address, export)  # type: ignore[attr-defined]
    HoldsALock.held.clear()
    try:
        runner = start("theirs", program="external", address=str(address), export=str(export))
        assert run(runner, renames).verdict == "pass"
        monkeypatch.setattr("conformance.run.session._ALIVE", 0.5)  # from here on it never serves again
        assert run(runner, hangs).verdict == "fail"
        for _ in range(2):
            later = run(runner, renames)
            assert (later.verdict, later.infrastructure) == ("error", True), later.reason
            assert "has not served since FAKE-005" in later.reason
    finally:
        proxy.close()


def test_last_words_are_those_of_the_case(start: Start) -> None:
    def is_loud(wire: Wire) -> None:
        """Writes more to the log than the suite keeps."""
        wire.client.statfs(wire.root)

    def dies(wire: Wire) -> None:
        """The server writes a few words to its log and dies."""
        wire.client.readlink.send(wire.root).wait()

    runner = start("Talks")
    loud = run(runner, is_loud)
    assert loud.verdict == "pass"
    assert "last" in loud.log_excerpts[0].text and "first" not in loud.log_excerpts[0].text
    dead = run(runner, dies)
    assert (dead.verdict, "words of this case" in dead.reason) == ("fail", True), dead.reason
    assert "xxx" not in dead.reason and "xxx" not in str(dead.log_excerpts)


# ---- a message that the server does not have


def locks(wire: Wire) -> None:
    """A case that needs Tlock."""
    wire.host.file(b"fred")
    wire.client.lock(wire.client.open(b"fred"))


def judged(runner: WireRunner, case: Case, **parameters: str) -> CaseResult:
    return runner.run_item(case, ",".join(parameters.values()), case.function, {**parameters, "wire": None})[0]


def each_message(runner: WireRunner) -> dict[str, str]:
    """The verdict of WIRE-MESSAGE-001 for every message."""
    case = CASES["WIRE-MESSAGE-001"]
    return {name: judged(runner, case, name=name).verdict for name in messages.ALONE}


WAYS = {
    "NoLocks": "answered EOPNOTSUPP",
    "HangsUp": "the server closed the connection",
    "PassesOver": "left without a reply",
}


@pytest.mark.usefixtures("short_probes")
@pytest.mark.parametrize("fault", WAYS)
def test_a_message_that_is_not_implemented_fails_once(start: Start, fault: str) -> None:
    runner = start(fault)
    assert runner.not_implemented() == [f"Tlock: not implemented, {WAYS[fault]}"]
    assert runner.environment()["messages not implemented"] == f"Tlock: not implemented, {WAYS[fault]}"
    verdicts = each_message(runner)
    assert {name for name, verdict in verdicts.items() if verdict != "pass"} == {"Tlock"}
    assert verdicts["Tlock"] == "fail"
    seen = run(runner, locks)
    assert (seen.verdict, seen.reason) == ("undrivable", f"needs Tlock: not implemented, {WAYS[fault]}")


def test_a_message_that_is_declared_unsupported_is_unsupported(start: Start) -> None:
    runner = start("NoLocks", Profile(unsupported=[DECLARED]))
    assert each_message(runner)["Tlock"] == "unsupported"
    seen = run(runner, locks)
    assert (seen.verdict, "it keeps no locks" in seen.reason) == ("unsupported", True), seen.reason


@pytest.mark.usefixtures("short_probes")
def test_a_message_that_is_missing_in_another_way_than_declared_is_not_excused(start: Start) -> None:
    runner = start("HangsUp", Profile(unsupported=[DECLARED]))
    assert each_message(runner)["Tlock"] == "fail"
    assert run(runner, locks).verdict == "undrivable"


def test_a_message_that_is_declared_unsupported_and_is_there_is_reported(start: Start) -> None:
    runner = start("Right", Profile(unsupported=[DECLARED]))
    assert runner.not_implemented() == []
    assert {name for name, verdict in each_message(runner).items() if verdict != "pass"} == {"Tlock"}
    assert each_message(runner)["Tlock"] == "fixed"
    assert run(runner, locks).verdict == "pass"


@pytest.mark.usefixtures("short_probes")
def test_a_server_that_hangs_up_on_a_message_only_has_it_and_serves_it_wrongly(start: Start) -> None:
    """The server answers this message differently from a message of an unknown type."""
    runner = start("HangsUpOnTlock")
    assert runner.not_implemented() == []
    assert run(runner, locks).verdict == "fail"
