"""A share that cannot be mounted is the finding of one case; the cases that need the mount are undrivable."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from conformance.case import CASES, Case
from conformance.cases.vfs.test_mountable import mounted_at_or_above
from conformance.catalogue.library import load_cases
from conformance.errors import Undrivable
from conformance.evidence.models import CaseResult
from conformance.run.mounted import Runner
from conformance.run.mounting import MOUNTABLE
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalTarget
from conformance.sut.parts import guest_mount
from conformance.sut.parts.backend_table import BackendTable
from conformance.sut.uml.deployment import UmlDeployment
from conformance.sut.uml.tables import UmlTarget
from conformance.vfs.deployment import MountFailed
from conformance.vfs.mount_options import DEFAULT, MountOptions, parse
from guests.agent.link import AgentLink, CallHung
from guests.agent.ops import Ops
from guests.images.recipe import load_recipe
from guests.images.store import find_image
from guests.machines.uml.kernel import find_kernel
from tests.conformance.ground_cases import declared, harmless
from tests.targets import loaded

MMAP = parse("cache=mmap")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root: servers under test are contained")


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    load_cases()


class Local(LocalDeployment):
    """A directory of this host whose mounts fail as configured, attempt after attempt."""

    failing: tuple[str, ...] = ()
    attempts: int
    recovered: int

    def mount(self, options: MountOptions) -> str:
        self.attempts += 1
        if self.attempts <= len(self.failing) and (why := self.failing[self.attempts - 1]):
            raise MountFailed(f"mounting failed: {why}", "", str(options), why)
        return super().mount(options)

    def recover(self) -> None:
        self.recovered += 1
        super().recover()


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[tuple[Runner, Local]]:
    deployment = Local(loaded("local", LocalTarget), tmp_path, print)
    deployment.attempts = deployment.recovered = 0
    deployment.start()
    made = Runner(loaded("local", LocalTarget), deployment, control="never", worker="main")
    yield made, deployment
    made.stop()


def run(runner: Runner, case: Case, mount: MountOptions = DEFAULT) -> CaseResult:
    return runner.run(case, "", mount, partial(case.function))[0]


@pytest.mark.parametrize(
    ("where", "kind", "shown"),
    [
        ("/mnt/assay9-1/assay9-2", "9p", True),
        ("/mnt/assay9-1", "9p", True),
        ("/mnt/assay9-1", "ext4", False),
        ("/mnt/assay9", "9p", False),
        ("/mnt", "9p", True),
    ],
)
def test_the_suite_may_work_below_the_mount(where: str, kind: str, shown: bool) -> None:
    """On targets attach and hypervisor MOUNTABLE-001 failed: their mount is above the directory of the run."""
    mounts = [["dev", "/dev", "devtmpfs", "rw"], ["share0", where, kind, "rw"]]
    assert mounted_at_or_above("/mnt/assay9-1/assay9-2", mounts) is shown


def test_what_fails_once_is_tried_again_on_a_fresh_machine(runner: tuple[Runner, Local]) -> None:
    suite, deployment = runner
    deployment.failing = ("No such file or directory",)
    assert run(suite, declared(harmless)).verdict == "pass"
    assert (deployment.attempts, deployment.recovered) == (2, 1)


def test_what_fails_twice_is_the_finding_of_its_own_case(runner: tuple[Runner, Local]) -> None:
    suite, deployment = runner
    deployment.failing = ("refused",) * 2
    suite.unmountable.judged = [DEFAULT, MMAP]
    needs = run(suite, declared(harmless))
    assert needs.verdict == "undrivable" and MOUNTABLE in needs.reason, needs.reason
    finding = run(suite, CASES[MOUNTABLE])
    assert finding.verdict == "fail" and [f.code for f in finding.findings] == ["mount"]
    assert finding.reason == "the share cannot be mounted with cache=none, nor on a fresh guest: refused"
    assert run(suite, declared(harmless)).verdict == "undrivable"
    assert deployment.attempts == 2, "nobody waits for it again"
    assert run(suite, CASES[MOUNTABLE], MMAP).verdict == "pass", "another way of mounting is another question"
    assert run(suite, declared(harmless), MMAP).verdict == "pass"


def test_without_that_case_the_first_that_needs_the_mount_is_charged(runner: tuple[Runner, Local]) -> None:
    """Otherwise a run of a few cases would end without an unexpected verdict."""
    suite, deployment = runner
    deployment.failing = ("refused",) * 2
    first, second = declared(harmless), replace(declared(harmless), id="RECOVERY-002")
    assert run(suite, first).verdict == "fail"
    assert run(suite, second).verdict == "undrivable" and "RECOVERY-001" in run(suite, second).reason
    assert run(suite, first).verdict == "undrivable", "with another parameter: one finding is enough"


@pytest.mark.parametrize("error", [CallHung("30 s"), None])
def test_a_mount_that_hangs_or_is_refused_is_distinguished_from_one_that_the_kernel_does_not_know(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    class Link(Ops):
        """A guest whose mount ends with this error."""

        log, system = "", "Linux"

        @property
        def calls(self) -> Ops:
            return self

        def start(self, op: str, *args: Any, timeout: float = 30.0) -> Callable[[], Any]:
            return partial(self.perform, op, *args)

        def calls_with(self, proc: str = "main", timeout: float = 30.0) -> Ops:
            return self

        def perform(self, op: str, *args: Any, **named: Any) -> Any:
            if op == "write_text":
                self.log += f"{args[1]}\n9pnet: unknown before\n{args[1]}\n"
            if op == "run" and args[0] == ["dmesg"]:
                return {"status": 0, "stdout": (self.log + self.after).encode(), "stderr": b""}
            if op == "run":
                if error is not None:
                    raise error
                return {"status": 32, "stdout": b"", "stderr": b"mount: Invalid argument"}
            return [] if op == "mounts" else None

        after = ""

    link = Link()
    mount = partial(guest_mount.mount_9p, cast(AgentLink, link), "/mnt", DEFAULT, "share0", "trans=virtio")
    with pytest.raises(MountFailed, match="hung" if error else "Invalid argument"):
        mount()
    if error is None:
        link.after = "9pnet: -- p9_client_version (71): server returned an unknown version: 9P2000\n"
        with pytest.raises(MountFailed):
            mount()
        link.after = "9p: Unknown cache mode or invalid value tmpfs\n"
        with pytest.raises(Undrivable, match="Unknown cache mode"):
            mount()


@needs_root
@pytest.mark.guest
@pytest.mark.skipif(find_kernel() is None, reason="the UML kernel is not built: assay9 guest build uml")
@pytest.mark.skipif(find_image(load_recipe("debian12")) is None, reason="no guest image: assay9 guest build")
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("small", "mount: "),
        ("interrupt", "hung"),
        ("once", ""),
        *[
            pytest.param(*more, marks=pytest.mark.long)
            for more in (
                ("refuse", "mount: "),
                ("unknown", "mount: "),
                ("hang", "hung"),
                ("length", "hung"),
                ("crash", "was killed by SIGABRT"),
            )
        ],
    ],
)
def test_a_device_that_cannot_be_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    # The test waits for a mount that must hang: it never completes, however busy the machine is.
    monkeypatch.setattr(guest_mount, "MOUNT_LIMIT", 3.0 if words in ("hung", "was killed by SIGABRT") else 60.0)
    program = str(Path(__file__).with_name("mount_faults.py"))
    root = str(Path(__file__).parents[2])
    argv = ["env", f"PYTHONPATH={root}", sys.executable, program, fault, "{export}", "{socket}", "{tag}"]
    back_end = BackendTable(program="command", command=tuple(argv))
    target = loaded("reference-uml", UmlTarget).model_copy(update={"server": back_end})
    deployment = UmlDeployment(target, tmp_path, print)
    runner = Runner(target, deployment, control="never", worker="main")
    try:
        deployment.start()
        mount = parse("cache=none,msize=4096") if fault == "small" else DEFAULT
        seen = run(runner, CASES[MOUNTABLE], mount)
        needs = run(runner, declared(harmless), mount)
        if fault == "small":
            assert run(runner, CASES[MOUNTABLE]).verdict == "pass", "with a larger msize it can be mounted"
    finally:
        runner.stop()
    if fault == "once":
        assert (seen.verdict, needs.verdict) == ("pass", "pass"), seen.reason
        return
    assert seen.verdict == "fail" and words in seen.reason, seen.reason
    assert [f.code for f in seen.findings] == ["mount"]
    assert needs.verdict == "undrivable" and MOUNTABLE in needs.reason


def test_what_is_open_stays_open_where_nothing_is_mounted() -> None:
    asked: list[str] = []

    class Link(Ops):
        @property
        def calls(self) -> Ops:
            return self

        def perform(self, op: str, *args: Any, **named: Any) -> Any:
            asked.append(op)
            return [["share1", "/elsewhere", "9p", "rw"]]

    guest_mount.unmount(cast(AgentLink, Link()), "/mnt")
    assert asked == ["mounts"]
