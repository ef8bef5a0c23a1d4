"""Bodies of cases and a way to run them, for tests that check who is charged with a failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from conformance.case import CASES, Case, case
from conformance.evidence.models import CaseResult
from conformance.run.mounted import Runner
from conformance.vfs.mount_options import DEFAULT, MountOptions
from conformance.vfs.share import Share


class Run(Protocol):
    """Runs a body as a case on a share that is mounted with these options."""

    def __call__(self, body: Callable[[Share], None], mount: MountOptions = DEFAULT) -> CaseResult: ...


def harmless(share: Share) -> None:
    """Makes calls that any case may make."""
    share.inside.create("fred", b"content")
    assert share.same(share.content("fred"))[0] == 7


def declared(body: Callable[[Share], None]) -> Case:
    """The body as a case of the vfs layer: its file gives a function its layer and family."""

    def function(share: Share) -> None:
        body(share)

    where = Path("conformance/cases/vfs/test_recovery.py").absolute()
    function.__code__ = function.__code__.replace(co_filename=str(where))
    function.__doc__ = "A requirement.  Source: this test."
    made: Case = case("RECOVERY-001")(function).assay9_case  # type: ignore[attr-defined]
    CASES.pop("RECOVERY-001")
    return made


def on(runner: Runner) -> Run:
    """A function that runs a body on the runner's share."""

    def run(body: Callable[[Share], None], mount: MountOptions = DEFAULT) -> CaseResult:
        made = declared(body)
        return runner.run(made, "", mount, made.function)[0]

    return run
