"""A deliberately broken share is caught by the comparison: the verdict is fail, and the field is named.

A FUSE layer between inside and outside really breaks the share (this needs root and /dev/fuse). Where it is not
available, an agent's answers are altered on their way.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.case import CASES, case
from conformance.errors import Undrivable
from conformance.evidence.models import CaseResult
from conformance.run.controls import ControlMode
from conformance.run.mounted import Runner
from conformance.sut.load import load
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalOptions, LocalTarget
from conformance.vfs.mount_options import DEFAULT
from conformance.vfs.share import Share, preparing
from guests.agent.link import AgentLink, Reply
from tests.targets import loaded

LAYER = Path(__file__).with_name("fuse_passthrough.py")
FAULTS = {
    "st_size": "+1",
    "st_mode": "^2",
    "st_mtime_ns": "+1",
    "st_ctime_ns": "+1000",
    "st_uid": "+1",
    "st_nlink": "+1",
    "st_blocks": "+8",
}
needs_fuse = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="root and /dev/fuse")


def body(share: Share) -> None:
    """A case that is independent of the fault: it makes calls and asserts nothing about any field."""
    share.inside.create("fred", b"some content", 0o644)
    share.inside.chmod("fred", 0o640)


@pytest.fixture
def declared() -> Iterator[Any]:
    """The body as a case of the vfs layer; it is removed from the list of cases afterwards."""
    function = compile_as("conformance/cases/vfs/test_broken.py", body)
    case("BROKEN-001", covers=())(function)
    yield CASES["BROKEN-001"]
    CASES.pop("BROKEN-001", None)


def compile_as(path: str, function: Callable[[Share], None]) -> Callable[[Share], None]:
    """The function as if it were in that file, which gives a case its layer and family."""

    def stand_in(share: Share) -> None:
        function(share)

    stand_in.__code__ = stand_in.__code__.replace(co_filename=str(Path(path).absolute()))
    stand_in.__doc__ = "A share shows inside what is there outside.  Source: this test."
    return stand_in


@contextmanager
def layered(deployment: LocalDeployment, mountpoint: Path, fault: str) -> Iterator[None]:
    """The FUSE layer, mounted between the deployment's export and its inside vantage."""
    os.makedirs(deployment.outside_root, exist_ok=True)
    mountpoint.mkdir()
    with subprocess.Popen(
        [sys.executable, "-I", str(LAYER), deployment.outside_root, str(mountpoint), fault], stdout=subprocess.PIPE
    ) as layer:
        try:
            assert layer.stdout is not None and layer.stdout.readline() == b"mounted\n"
            yield
        finally:
            subprocess.run(["umount", "-l", str(mountpoint)], check=False)
            layer.kill()


def run(deployment: LocalDeployment, declared: Any, control: ControlMode = "first") -> CaseResult:
    """The judged result of one case on that deployment."""
    runner = Runner(load("local"), deployment, control, "main")
    try:
        deployment.start()
        return runner.run(declared, "", DEFAULT, declared.function)[0]
    finally:
        runner.stop()


def through_fuse(tmp_path: Path, declared: Any, fault: str) -> CaseResult:
    """The case's result on a share behind the FUSE layer with that fault."""
    mountpoint = tmp_path / "inside"
    deployment = LocalDeployment(
        loaded("local", LocalTarget), tmp_path, print, LocalOptions(inside_root=str(mountpoint))
    )
    with layered(deployment, mountpoint, fault):
        return run(deployment, declared)


def assert_found(result: CaseResult, field: str) -> None:
    """The only finding names, by code, values and text, the field, the file and the call after which they differ."""
    plain = field.removeprefix("st_")
    first = result.findings[0]
    assert {finding.code for finding in result.findings} == {f"field:{plain}"}
    assert len({finding.values["path"] for finding in result.findings}) == len(result.findings), "each path once"
    assert first.values["field"] == plain and first.values["inside"] != first.values["outside"]
    assert f"{plain} of 'fred': inside" in result.reason and "after call 1, inside " in result.reason


@needs_fuse
@pytest.mark.parametrize("field", FAULTS)
def test_a_layer_that_lies_is_caught(tmp_path: Path, declared: Any, field: str) -> None:
    result = through_fuse(tmp_path, declared, f"{field}={FAULTS[field]}")
    assert result.verdict == "fail", result.reason
    assert_found(result, field)
    wrong = {f.name for c in result.comparisons for f in c.fields if not f.equal and not f.tolerated}
    assert wrong == {field}


@needs_fuse
def test_a_truthful_layer_is_not(tmp_path: Path, declared: Any) -> None:
    result = through_fuse(tmp_path, declared, "")
    assert result.verdict == "pass", result.reason
    assert len(result.comparisons) >= 4


class LyingLink(AgentLink):
    """An agent's channel that alters one field of every stat of a regular file."""

    field, change = "", ""

    def receive(self, number: int, timeout: float) -> Reply:
        reply = super().receive(number, timeout)
        values = reply.value if isinstance(reply.value, list) else [reply.value]
        for seen in [*values, *(value for _, value in reply.seen or ())]:
            if isinstance(seen, dict) and seen.get("st_mode", 0) & 0o170000 == 0o100000:
                by = int(self.change[1:])
                seen[self.field] = seen[self.field] + by if self.change[0] == "+" else seen[self.field] ^ by
        return reply


@pytest.mark.parametrize("field", FAULTS)
def test_an_agent_that_lies_is_caught(
    tmp_path: Path, declared: Any, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = LocalDeployment(loaded("local", LocalTarget), tmp_path, print)
    start = deployment.start

    def start_lying() -> None:
        start()
        deployment.inside.__class__ = LyingLink
        deployment.inside.field, deployment.inside.change = field, FAULTS[field]  # type: ignore[attr-defined]

    monkeypatch.setattr(deployment, "start", start_lying)
    result = run(deployment, declared, control="never")
    assert result.verdict == "fail", result.reason
    assert_found(result, field)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENAMETOOLONG, Undrivable), (errno.EINVAL, Undrivable), (errno.EACCES, PermissionError)],
)
def test_what_the_exported_file_system_cannot_have(number: int, expected: type[Exception]) -> None:
    """xfs refuses symbolic links over 1,024 bytes and major numbers over 9 bits, which runs reported as failures."""
    with (
        pytest.raises(expected, match="refuses a long link" if expected is Undrivable else ""),
        preparing("a long link"),
    ):
        raise OSError(number, "refused")
