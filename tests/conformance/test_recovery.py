"""A case that hangs or kills its guest is charged with that, with the console as evidence, and the next case runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.run import start as starting
from conformance.run.mounted import Runner
from conformance.sut.load import load
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalTarget
from conformance.sut.qemu.deployment import QemuDeployment
from conformance.sut.qemu.tables import QemuTarget
from conformance.sut.uml import deployment as uml
from conformance.vfs.share import Share
from guests.agent.link import CallHung
from guests.agent.local_channel import LocalChannel
from guests.errors import InfrastructureError
from guests.machines.qemu import private as private_qemu
from tests.conformance.ground_cases import Run, harmless, on
from tests.targets import asked, loaded
from tests.waiting import PATIENT, eventually


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Run]:
    deployment = LocalDeployment(loaded("local", LocalTarget), tmp_path, print)
    deployment.start()
    runner = Runner(load("local"), deployment, control="never", worker="main")
    yield on(runner)
    runner.stop()


def test_a_call_that_hangs_is_bounded(local: Run) -> None:
    def hangs(share: Share) -> None:
        share.inside.timeout = 0.5
        share.inside.sleep(1000)

    hung = local(hangs)
    assert (hung.verdict, hung.calls[-1].op) == ("fail", "sleep")
    assert "hung" in hung.reason
    assert hung.seconds < PATIENT
    assert local(harmless).verdict == "pass"


@pytest.mark.parametrize("before", [False, True], ids=["in its call", "before it"])
def test_a_process_that_dies_is_a_finding(local: Run, before: bool) -> None:
    def dies(share: Share) -> None:
        other = share.inside.spawn("other")
        pid = other.getpid()
        os.kill(pid, signal.SIGSEGV)
        eventually(lambda: not before or not os.path.exists(f"/proc/{pid}"))  # until the agent has reaped it
        other.ops()

    died = local(dies)
    assert died.verdict == "fail"
    assert "killed by signal 11" in died.reason
    assert local(harmless).verdict == "pass"


@pytest.mark.parametrize("which", ["main", "other"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_somebody_else_kills_is_no_fault_of_the_target(
    local: Run, which: str, number: signal.Signals
) -> None:
    """A calling process that the OOM killer ends must not be charged to the share."""

    def killed(share: Share) -> None:
        share.inside.create("before", b"content")
        caller = share.inside if which == "main" else share.inside.spawn(which)
        os.kill(caller.getpid(), number)
        caller.stat("before")

    seen = local(killed)
    assert (seen.verdict, seen.infrastructure) == ("error", True), seen.reason
    assert f"was ended by {number.name}" in seen.reason
    assert local(harmless).verdict == "pass"


@pytest.mark.parametrize("which", ["main", "main, noticed as the next request is sent", "another"])
def test_a_crash_of_the_agent_is_a_fault_of_the_suite(local: Run, which: str) -> None:
    """The agent's silence must not be taken for a target that no longer answers."""

    def crashes(share: Share) -> None:
        share.inside.create("before", b"content")
        if which.startswith("main"):
            agent = share.inside.agent
            agent._channel.send(b"no request\n")
            channel = agent._channel
            assert isinstance(channel, LocalChannel)
            eventually(lambda: which == "main" or channel.status is not None)
            share.inside.stat("before")
        else:
            share.inside.spawn("other", uid=-7).getpid()

    crashed = local(crashes)
    assert (crashed.verdict, crashed.infrastructure) == ("error", False), crashed.reason
    assert ("JSONDecodeError" if which.startswith("main") else "OverflowError") in crashed.reason
    assert local(harmless).verdict == "pass"


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, QemuDeployment]]:
    deployment = QemuDeployment(loaded("qemu", QemuTarget), tmp_path_factory.mktemp("run"), print)
    runner = Runner(load("qemu"), deployment, control="never", worker="main")
    try:
        deployment.start()
        yield on(runner), deployment
    finally:
        runner.stop()


@pytest.mark.guest
def test_a_case_that_panics_its_guest_is_charged_and_the_guest_restored(guest: tuple[Run, QemuDeployment]) -> None:
    def panics(share: Share) -> None:
        share.inside.create("before", b"content")
        share.inside.timeout = 10.0
        share.inside.write_text("/proc/sysrq-trigger", "c")

    run, _ = guest
    charged = run(panics)
    assert charged.verdict == "fail", charged.reason
    assert "the guest's kernel panicked" in charged.reason
    assert any("sysrq triggered crash" in e.text for e in charged.log_excerpts), charged.log_excerpts
    assert run(harmless).verdict == "pass"


@pytest.mark.guest
def test_a_case_that_crashes_its_hypervisor_is_charged(guest: tuple[Run, QemuDeployment]) -> None:
    run, deployment = guest

    def crashes(share: Share) -> None:
        os.kill(deployment.machine.pid, signal.SIGSEGV)
        share.inside.create("after", b"content")

    charged = run(crashes)
    assert charged.verdict == "fail", charged.reason
    assert "QEMU was killed by SIGSEGV" in charged.reason
    assert run(harmless).verdict == "pass"


@pytest.mark.guest
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_hypervisor_that_somebody_else_ends_is_no_fault_of_the_target(
    guest: tuple[Run, QemuDeployment], number: signal.Signals
) -> None:
    run, deployment = guest

    def is_killed(share: Share) -> None:
        share.inside.timeout = 1.0
        os.kill(deployment.machine.pid, number)
        share.inside.create("after", b"content")

    seen = run(is_killed)
    assert (seen.verdict, seen.infrastructure) == ("error", True), seen.reason
    assert number.name in seen.reason and "QEMU" in seen.reason
    if number == signal.SIGTERM:
        assert f"from process {os.getpid()}" in seen.reason
    assert run(harmless).verdict == "pass"


@pytest.mark.guest
def test_a_killed_agent_outside_is_an_error_and_the_machine_moves_into_a_new_namespace(
    guest: tuple[Run, QemuDeployment],
) -> None:
    run, deployment = guest
    before = deployment.machine.pid

    def is_killed(share: Share) -> None:
        os.kill(deployment.host.pid, signal.SIGKILL)
        share.outside.create("after", b"content")

    seen = run(is_killed)
    assert (seen.verdict, seen.infrastructure) == ("error", True), seen.reason
    assert "the agent outside was ended by SIGKILL" in seen.reason
    assert run(harmless).verdict == "pass" and deployment.machine.pid != before


@pytest.mark.guest
def test_a_guest_that_answers_no_more_is_charged_and_restored(guest: tuple[Run, QemuDeployment]) -> None:
    run, deployment = guest

    def stops(share: Share) -> None:
        share.inside.timeout = 1.0
        deployment.machine.qmp("stop")
        share.inside.create("after", b"content")

    charged = run(stops)
    assert charged.verdict == "fail", charged.reason
    assert "does not respond" in charged.reason
    assert run(harmless).verdict == "pass"


@pytest.mark.parametrize("raised", [CallHung("trace_begin did not return"), ValueError("a fault of ours")])
def test_a_target_that_fails_halfway_up_leaves_nothing_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    """This holds for any error: otherwise each case starts another target, and the first is never stopped."""
    stopped = []

    def start(self: LocalDeployment) -> None:
        raise raised

    def stop(self: LocalDeployment) -> None:
        stopped.append(self)

    monkeypatch.setenv("ASSAY9_SCRATCH", str(tmp_path))  # the replaced stop removes nothing
    monkeypatch.setattr(LocalDeployment, "start", start)
    monkeypatch.setattr(LocalDeployment, "stop", stop)
    runner = starting.start(asked("local"), tmp_path, lambda _: None, "main", "never", "vfs")
    assert stopped and runner.broken is not None
    assert f"local did not start: {type(raised).__name__}: {raised}" in str(runner.broken)


@pytest.mark.skipif(os.geteuid() != 0, reason="the server under test is contained, which needs root")
def test_no_room_for_the_memory_of_a_guest_is_reported_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(needed_mb: int) -> Path:
        raise InfrastructureError(f"/dev/shm has 1 MB free and the guest's memory needs {needed_mb} MB")

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("ASSAY9_SCRATCH", str(scratch))
    monkeypatch.setattr(uml, "memory_root", no_room)
    runner = starting.start(asked("reference-uml"), tmp_path, lambda _: None, "main", "never", "vfs")
    assert "/dev/shm has 1 MB free" in str(runner.broken)
    assert not list(scratch.iterdir())


def test_a_hypervisor_that_cannot_be_had_is_reported_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(progress: object) -> Path:
        raise InfrastructureError("mmdebstrap trixie failed", "check the network")

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("ASSAY9_SCRATCH", str(scratch))
    monkeypatch.setattr(private_qemu, "ensure_private_qemu", no_network)
    runner = starting.start(asked("qemu-next"), tmp_path, lambda _: None, "main", "never", "vfs")
    assert str(runner.broken) == "mmdebstrap trixie failed — check the network"
    assert not list(scratch.iterdir())
    runner.stop()
