"""A server that dies or hangs is started anew, the case is charged with it, and the run goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.case import Case
from conformance.evidence.record import CaseResult
from conformance.targets.spec import Target
from conformance.wire import Wire
from conformance.wire_runner import WireRunner

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
    wire.client.send_readlink(wire.root).wait(0.3)


def kills_unseen(wire: Wire) -> None:
    """The case itself notices nothing: it does not wait for the answer."""
    wire.client.send_statfs(wire.root)


def case_of(function: Callable[[Wire], None]) -> Case:
    """`function` as a case, outside of the library."""
    return Case(
        id=f"FAKE-{len(function.__name__):03}", layer="wire", family="fake", requirement=function.__doc__ or "",
        source="-", severity="must", covers=(), caches=(), cached_too=False, needs=(), mount="", control=False,
        seconds=20.0, function=function,
    )  # fmt: skip


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[WireRunner]:
    target = Target(
        name="fake", kind="server", title="dies and hangs",
        server={"program": "command", "arguments": [sys.executable, str(FAKE), "{unix}"]},
    )  # fmt: skip
    made = WireRunner(target, tmp_path, {}, "main")
    made.start()
    assert made.broken is None, made.broken
    yield made
    made.stop()


def run(runner: WireRunner, function: Callable[[Wire], None]) -> CaseResult:
    return runner.run_item(case_of(function), "", function, {"wire": None})[0]


def pid(runner: WireRunner) -> int | None:
    return runner.session.server.pid()


@pytest.mark.parametrize("fatal", [kills, kills_unseen])
def test_death_is_charged_to_the_case_and_the_run_goes_on(
    runner: WireRunner, fatal: Callable[[Wire], None]
) -> None:
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
    monkeypatch.setattr("conformance.wire._ALIVE", 0.5)  # the fake answers in microseconds or never
    first = pid(runner)
    hung = run(runner, hangs)
    assert (hung.verdict, "gets no answer" in hung.reason) == ("fail", True), hung.reason
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
