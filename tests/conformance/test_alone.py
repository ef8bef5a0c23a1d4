"""A share that is visible only in the guest: which cases run, which are undrivable, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conformance.case import About
from conformance.checks import equal, fields
from conformance.errors import UsageError
from conformance.run.mounted import Runner
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalTarget
from conformance.sut.parts.no_outside import Nowhere
from conformance.vfs.mount_options import DEFAULT
from conformance.vfs.share import Share
from tests.cases import made_case
from tests.targets import asked

WHY = "a vantage outside: nobody is there"


class Alone(LocalDeployment):
    """The directory of this host, seen from inside only."""

    def start(self) -> None:
        super().start()
        self.inside.calls.getpid()  # it has entered the mount namespace of the host agent, which ends now
        self.host.close()
        self.host._holder = None
        self.outside = Nowhere(WHY)


def run(tmp_path: Path, body: Any, about: About = "behaviour") -> tuple[str, str, Any]:
    target = LocalTarget(name="alone", kind="local", title="alone")
    runner = Runner(target, Alone(target, tmp_path, lambda _: None), "never", "main")
    runner.deployment.start()
    case = made_case(body, caches=("none",), about=about)
    try:
        result, _ = runner.run(case, "", DEFAULT, body)
        left = list(Path(runner.deployment.inside_root).iterdir())
    finally:
        runner.stop()
    assert not left, "the case's directory is removed, from inside"
    return result.verdict, result.reason, result


def test_what_inside_shows_is_judged_and_no_comparison_is_claimed(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("f", b"abc")
        share.inside.chmod("f", 0o640)
        fields("'f'", share.same(share.stat("f")), permissions=0o640)
        equal("size of 'f'", share.same(share.content("f"))[0], 3)
        equal("names", share.same(share.directory()), ["f"])
        share.inside.unlink("f")
        share.gone("f")

    verdict, reason, result = run(tmp_path, body)
    assert (verdict, reason) == ("pass", "")
    assert result.comparisons == [], "nothing was compared"


def test_what_is_wrong_inside_is_a_finding(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("f")
        fields("'f'", share.same(share.stat("f")), size=1)

    assert run(tmp_path, body)[0] == "fail"


@pytest.mark.parametrize(
    "body", [lambda share: share.outside.create("f"), lambda share: share.outside.spawn("second", uid=1000).create("f")]
)
def test_a_case_that_needs_the_outside_is_undrivable_and_says_why(tmp_path: Path, body: Any) -> None:
    assert run(tmp_path, body)[:2] == ("undrivable", WHY)


def test_a_case_that_is_about_an_agreement_is_undrivable(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("f")
        share.same(share.stat("f"))
        fields("'f'", share.inside.stat("f"), size=0)

    assert run(tmp_path, body, about="agreement")[:2] == ("undrivable", WHY)
    assert run(tmp_path, body)[0] == "pass"


def test_a_case_that_leaves_the_judging_to_comparisons_after_calls_does_not_pass(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("f")

    verdict, reason, _ = run(tmp_path, body)
    assert verdict == "undrivable" and "no vantage outside" in reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "debian11"}, "--image does not apply: target v86 has no guest to choose"),
        ({"qemu": "x"}, "runs no QEMU"),
    ],
)
def test_options_that_mean_nothing_under_v86_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked("v86", **options)
