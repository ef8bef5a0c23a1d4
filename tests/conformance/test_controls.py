"""A case that passed its control run is not run there again, except before a failure is charged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.case import CASES, case
from conformance.evidence.models import CaseResult
from conformance.run.controls import ControlMode
from conformance.run.mounted import Runner
from conformance.sut.load import load
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalTarget
from conformance.vfs.mount_options import DEFAULT
from conformance.vfs.share import Share
from tests.conformance.test_broken_share import compile_as
from tests.targets import loaded

ran_on: list[str] = []


def holds(share: Share) -> None:
    ran_on.append("control" if share.on_control else "share")
    share.inside.create("fred", b"some content", 0o644)


def fails_on_the_share(share: Share) -> None:
    holds(share)
    share.inside.refuses().stat("fred") if not share.on_control else share.inside.stat("fred")


def fails_on_the_control_now(share: Share) -> None:
    holds(share)
    share.inside.refuses().stat("fred")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    CASES.pop("HELD-001", None)


def run(tmp_path: Path, body: Callable[[Share], None], mode: ControlMode = "first") -> tuple[list[str], CaseResult]:
    """The vantages of one run of the case, in order, and its result. Each run is like one of a new process."""
    CASES.pop("HELD-001", None)
    function = compile_as("conformance/cases/vfs/test_held.py", body)
    function.__module__ = "conformance.cases.vfs.test_held"
    case("HELD-001", covers=())(function)
    declared = CASES["HELD-001"]
    ran_on.clear()
    deployment = LocalDeployment(loaded("local", LocalTarget), tmp_path, print)
    runner = Runner(load("local"), deployment, mode, "main")
    try:
        deployment.start()
        result, _ = runner.run(declared, "", DEFAULT, declared.function)
    finally:
        runner.stop()
    return list(ran_on), result


def test_a_case_that_has_held_in_an_earlier_run_is_not_asked_again(tmp_path: Path) -> None:
    first, result = run(tmp_path, holds)
    again, less = run(tmp_path, holds)
    assert (first, again) == (["control", "share"], ["share"])
    assert result.verdict == less.verdict == "pass"
    assert less.round_trips < result.round_trips


def test_what_is_remembered_may_be_damaged(tmp_path: Path) -> None:
    assert run(tmp_path, holds)[0] == ["control", "share"]
    (kept,) = (tmp_path / "cache").glob("assay9/controls-*.txt")
    kept.write_bytes(b"\xff\x00" + kept.read_bytes())
    assert run(tmp_path, holds)[0] == ["control", "share"], "asked again"


def test_always_asks_each_time_and_never_not_at_all(tmp_path: Path) -> None:
    run(tmp_path, holds)
    assert run(tmp_path, holds, "always")[0] == ["control", "share"]
    assert run(tmp_path, holds, "never")[0] == ["share"]


def test_a_failure_is_charged_once_the_control_has_held_in_this_run(tmp_path: Path) -> None:
    run(tmp_path, holds)
    seen, result = run(tmp_path, fails_on_the_share)
    assert seen == ["share", "control"]
    assert result.verdict == "fail"


def test_a_case_that_does_not_hold_any_more_is_wrong_and_charges_nobody(tmp_path: Path) -> None:
    run(tmp_path, holds)
    seen, result = run(tmp_path, fails_on_the_control_now)
    assert seen == ["share", "control"]
    assert result.verdict == "error"
    assert "fails on the control file system too" in result.reason


def test_a_case_that_fails_on_the_control_is_asked_again(tmp_path: Path) -> None:
    for _ in range(2):
        seen, result = run(tmp_path, fails_on_the_control_now)
        assert seen == ["control"]
        assert result.verdict == "error"


def test_beginning_and_ending_a_case_costs_the_guest_no_round_trip(tmp_path: Path) -> None:
    """The first call carries the beginning, whose failure is not the call's own; the last reply has the trace."""
    run(tmp_path, holds)
    assert run(tmp_path, holds)[1].round_trips == 1
