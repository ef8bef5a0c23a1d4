"""A server that dies or hangs is restarted, the case fails for it, and the run goes on."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.case import Case
from conformance.errors import Finding
from conformance.evidence.models import CaseResult
from conformance.raw.wire import Wire
from conformance.run.session import WireSession
from conformance.run.wire import WireRunner
from conformance.sut.servers.programs import CommandServer
from guests.host.endings import OutOfMemory
from tests.cases import made_case
from tests.targets import served
from tests.waiting import PATIENT, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="servers under test are contained, which takes root")

FAKE = Path(__file__).with_name("fake_server.py")


def asks(wire: Wire) -> None:
    """Passes on a server that answers."""
    wire.client.getattr(wire.root)


def kills(wire: Wire) -> None:
    """The fake server dies of it."""
    wire.client.statfs(wire.root)


def hangs(wire: Wire) -> None:
    """The fake server never answers anybody again."""
    wire.client.readlink.send(wire.root).wait(0.3)


def kills_unseen(wire: Wire) -> None:
    """The case itself does not wait for the answer, and so notices nothing."""
    wire.client.statfs.send(wire.root)


def case_of(function: Callable[[Wire], None]) -> Case:
    """`function` as a case outside the catalogue."""
    return made_case(
        function,
        id=f"FAKE-{len(function.__name__):03}",
        layer="wire",
        family="fake",
        requirement=function.__doc__ or "",
        caches=(),
        control=False,
        seconds=20.0,
    )


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[WireRunner]:
    asked = served("dies and hangs", program="command", arguments=[sys.executable, str(FAKE), "{unix}"])
    made = WireRunner(asked, tmp_path, "main")
    made.start()
    assert made.broken is None, made.broken
    yield made
    made.stop()


def run(runner: WireRunner, function: Callable[[Wire], None]) -> CaseResult:
    return runner.run_item(case_of(function), "", function, {"wire": None})[0]


def impatient(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.5) -> None:
    """The suite soon gives up a server that hangs. From its next start, the server has the full time limit again."""
    real = WireSession.recover

    def recover(session: WireSession) -> None:
        monkeypatch.setattr("conformance.run.session._ALIVE", PATIENT)
        real(session)

    monkeypatch.setattr("conformance.run.session._ALIVE", seconds)
    monkeypatch.setattr(WireSession, "recover", recover)


def pid(runner: WireRunner) -> int | None:
    return runner.session.server.pid()


@pytest.mark.parametrize("fatal", [kills, kills_unseen])
def test_death_is_charged_to_the_case_and_the_run_goes_on(runner: WireRunner, fatal: Callable[[Wire], None]) -> None:
    first = pid(runner)
    assert run(runner, asks).verdict == "pass"
    assert pid(runner) == first
    dead = run(runner, fatal)
    assert (dead.verdict, "killed by SIGABRT" in dead.reason) == ("fail", True), dead.reason
    assert "about to die" in dead.reason, "its last words are kept"
    assert pid(runner) != first
    assert run(runner, asks).verdict == "pass"


def test_hanging_is_charged_to_the_case_and_the_run_goes_on(
    runner: WireRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    first = pid(runner)
    hung = run(runner, hangs)
    assert (hung.verdict, "a new session is not served" in hung.reason) == ("fail", True), hung.reason
    assert pid(runner) != first
    assert run(runner, asks).verdict == "pass"


def test_a_server_that_never_comes_back_ends_as_infrastructure(runner: WireRunner) -> None:
    FAKE_GONE = [sys.executable, "-c", "raise SystemExit('no more')"]
    assert run(runner, asks).verdict == "pass"
    runner.session.server.command = lambda: FAKE_GONE  # type: ignore[attr-defined]
    result = run(runner, kills)
    assert result.verdict == "error"
    assert runner.broken is not None
    assert run(runner, asks).verdict == "error"


def sent(runner: WireRunner, number: signal.Signals) -> CaseResult:
    """The result of a case during which another process signalled the server."""

    def is_sent_one(wire: Wire) -> None:
        """Asks a server that somebody has just ended."""
        before = wire.client
        before.timeout = 1.0 if number == signal.SIGSTOP else before.timeout
        os.kill(pid(runner) or 0, number)
        before.getattr(wire.root)
        eventually(lambda: number == signal.SIGSTOP or runner.session.server.death() is not None)
        before.getattr(wire.root)

    return run(runner, is_sent_one)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_signal_that_somebody_else_sent_is_no_fault_of_the_server(
    runner: WireRunner, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    first = pid(runner)
    seen = sent(runner, number)
    assert (seen.verdict, seen.infrastructure, number.name in seen.reason) == ("error", True, True), seen.reason
    assert pid(runner) != first and run(runner, asks).verdict == "pass"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_signal_that_a_crash_raises_is_the_servers(runner: WireRunner, number: signal.Signals) -> None:
    seen = sent(runner, number)
    assert (seen.verdict, number.name in seen.reason) == ("fail", True), seen.reason
    assert run(runner, asks).verdict == "pass"


def test_a_kill_for_want_of_memory_is_called_so(
    runner: WireRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 4\n")
    monkeypatch.setattr("guests.host.endings._VMSTAT", tmp_path / "vmstat")
    monkeypatch.setattr("guests.host.endings._CGROUP", tmp_path / "none")
    monkeypatch.setattr(runner.session._ground, "memory", OutOfMemory())
    (tmp_path / "vmstat").write_text("pgfault 9\noom_kill 5\n")
    seen = sent(runner, signal.SIGKILL)
    assert (seen.verdict, seen.infrastructure) == ("error", True)
    assert "the kernel was out of memory" in seen.reason and "--jobs" in seen.reason


def test_an_export_that_somebody_removes_is_made_again(runner: WireRunner) -> None:
    export = runner.session.server.export
    assert export is not None

    def loses_it(wire: Wire) -> None:
        """Its directory goes while it runs."""
        wire.client.getattr(wire.root)
        shutil.rmtree(export)
        wire.host.root.stat()

    seen = run(runner, loses_it)
    assert (seen.verdict, seen.infrastructure) == ("error", True), seen.reason
    assert f"the exported directory {export} was removed" in seen.reason
    assert run(runner, asks).verdict == "pass"
    shutil.rmtree(export)  # between two cases
    seen = run(runner, asks)
    assert (seen.verdict, seen.infrastructure) == ("error", True), seen.reason
    assert run(runner, asks).verdict == "pass"


@pytest.mark.parametrize("family", ["fake", "confinement"])
def test_a_scratch_directory_that_somebody_removes_is_made_again(runner: WireRunner, family: str) -> None:
    """systemd-tmpfiles does this. Earlier, the socket went, too, and the server failed for refusing connections."""
    server = runner.session.server
    assert isinstance(server, CommandServer) and server._short is not None
    scratch = server._short.path

    def loses_it(wire: Wire) -> None:
        """Opens a further connection."""
        wire.client.getattr(wire.root)
        shutil.rmtree(scratch)
        wire.connect()

    made = dataclasses.replace(case_of(loses_it), family=family)
    seen = runner.run_item(made, "", loses_it, {"wire": None})[0]
    assert (seen.verdict, seen.infrastructure) == ("error", True), seen.reason
    assert f"the scratch directory {scratch} was removed" in seen.reason
    assert run(runner, asks).verdict == "pass"


def test_an_export_that_goes_in_a_case_of_confinement_is_the_servers_fault(runner: WireRunner) -> None:
    """Such a case tests exactly this; the server may have moved the directory."""
    export = runner.session.server.export
    assert export is not None

    def escapes(wire: Wire) -> None:
        """Nothing above the export is reached."""
        export.rename(export.with_name("elsewhere"))
        raise Finding("the exported directory was moved", "escape")

    made = dataclasses.replace(case_of(escapes), family="confinement")
    assert runner.run_item(made, "", escapes, {"wire": None})[0].verdict == "fail"
    assert run(runner, asks).verdict == "error"
    assert run(runner, asks).verdict == "pass"
