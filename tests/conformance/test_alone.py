"""A share that nothing outside the guest can look at: what runs, what is undrivable and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conformance.case import Case
from conformance.checks import equal, fields
from conformance.errors import UsageError
from conformance.run.mounted import Runner
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalTarget
from conformance.sut.no_outside import Nowhere
from conformance.vfs.mount_options import DEFAULT
from conformance.vfs.share import Share
from conformance.vfs.without_outside import only_compares
from tests.targets import asked

WHY = "a vantage outside: nobody is there"


class Alone(LocalDeployment):
    """The directory of this host, seen from inside only."""

    def start(self) -> None:
        super().start()
        self.inside.call("getpid")  # it has entered the other's mount namespace, which ends now
        self.outside.close()
        self._links.remove(self.outside)
        self.outside = Nowhere(WHY)


def run(tmp_path: Path, body: Any, function: Any = None) -> tuple[str, str, Any]:
    target = LocalTarget(name="alone", kind="local", title="alone")
    runner = Runner(target, Alone(target, tmp_path, lambda _: None), False, "main")
    runner.deployment.start()
    case = Case(
        id="X-001",
        layer="vfs",
        family="x",
        requirement="r",
        source="s",
        severity="must",
        covers=(),
        caches=("none",),
        cached_too=False,
        needs=(),
        mount="",
        control=True,
        seconds=60.0,
        function=function or body,
    )
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
        fields("'f'", share.same_stat("f").inside, permissions=0o640)
        equal("size of 'f'", share.same_content("f")[0], 3)
        equal("names", share.same_directory(), ["f"])
        share.inside.unlink("f")
        share.gone("f")

    verdict, reason, result = run(tmp_path, body)
    assert (verdict, reason) == ("pass", "")
    assert result.comparisons == [], "nothing was compared"


def test_what_is_wrong_inside_is_a_finding(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("f")
        fields("'f'", share.same_stat("f").inside, size=1)

    assert run(tmp_path, body)[0] == "fail"


def test_a_case_that_needs_the_outside_is_undrivable_and_says_why(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.outside.create("f")

    assert run(tmp_path, body)[:2] == ("undrivable", WHY)


def bare(share: Share) -> None:
    share.inside.create("f")
    share.same_stat("f")


def used(share: Share) -> None:
    share.inside.create("f")
    fields("'f'", share.same_stat("f").inside, size=0)


def test_a_case_whose_judgement_is_a_comparison_does_not_pass_without_one(tmp_path: Path) -> None:
    assert only_compares(bare) and not only_compares(used)
    assert run(tmp_path, bare)[:2] == ("undrivable", WHY)
    assert run(tmp_path, used)[0] == "pass"


def test_a_case_that_leaves_the_judging_to_comparisons_after_calls_does_not_pass(tmp_path: Path) -> None:
    def body(share: Share) -> None:
        share.inside.create("f")

    verdict, reason, _ = run(tmp_path, body)
    assert verdict == "undrivable" and "nothing outside can look at the files" in reason


def test_helpers_of_the_case_library_are_looked_into() -> None:
    """By name, at any depth: a case that leaves the comparing to a helper is no different."""
    from conformance.cases.vfs import outcomes  # noqa: PLC0415 - any module of the library would do

    scope: dict[str, Any] = {"__name__": outcomes.__name__}
    source = "def deep(share):\n    share.same_content('f')\n\ndef helper(share):\n    deep(share)\n"
    helpers = Path(outcomes.__file__).with_name("_no_such_file.py")
    import linecache  # noqa: PLC0415

    linecache.cache[str(helpers)] = (len(source), None, source.splitlines(keepends=True), str(helpers))
    exec(compile(source, str(helpers), "exec"), scope)
    assert only_compares(scope["helper"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "debian11"}, "--image means nothing here: target v86 has no guest to choose"),
        ({"qemu": "x"}, "runs no QEMU"),
    ],
)
def test_options_that_mean_nothing_under_v86_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked("v86", **options)
