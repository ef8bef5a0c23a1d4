"""From a target's kind to the code that brings it up, and from a layer to the runner of its cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from conformance.case import Case
from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.models import CaseResult, Machine
from conformance.run.mounted import Runner
from conformance.sut.check import check_spec, check_target
from conformance.sut.deployment import Deployment, Progress
from conformance.sut.layers import FLAGS, check_options
from conformance.sut.servers.make import check as check_server
from conformance.sut.servers.spec import parse
from conformance.sut.spec import Target
from conformance.sut.transport_choice import BELOW, chosen_link, reached
from guests.images.recipe import recipe_names
from guests.machines.qemu import check as qemu_check
from guests.machines.qemu import private as private_qemu
from guests.machines.v86 import program as v86_program
from guests.words import unknown


def check(
    target: Target, options: dict[str, Any], layers: Sequence[str] = ("vfs",), flags: Mapping[str, str] = FLAGS
) -> None:
    """Refuse, before anything slow starts, what cannot be: a word that names nothing, a missing program.

    `flags` has the options as the command spells them.
    """
    check_target(target)
    check_options(target, layers, options, flags)
    if target.server and target.kind in ("qemu", "tcp", "uml", "v86") and os.geteuid() != 0:
        raise UsageError(f"target {target.name} needs root: a server under test runs contained (try sudo)")
    if target.kind in ("qemu", "tcp"):
        _check_qemu(target, options, layers)
    if target.kind == "v86":
        _check_v86(target, options)
    image = options.get("image")
    if image and image not in recipe_names():
        raise UsageError(unknown("guest image", image, recipe_names()))
    if target.kind == "server":
        spec = parse(target.server).for_user(options)
        check_spec(spec)
        check_server(spec)


def _check_qemu(target: Target, options: dict[str, Any], layers: Sequence[str]) -> None:
    """Refuse a QEMU that is not there or cannot do what the run needs; each lack by name."""
    from conformance.sut.qemu.deployment import access, find_program, security_model  # noqa: PLC0415

    security_model(options.get("security_model"), target.machine)
    access(options.get("access"))
    program = options.get("qemu") or target.machine.program
    if program == private_qemu.NAME:  # what we fetch ourselves is never missing, and has all that is needed
        return
    device = qemu_check.BACK_ENDS if target.server else qemu_check.SHARES
    link = chosen_link(target, options.get("link")) if any(layer in BELOW for layer in layers) else None
    needs: list[qemu_check.Need] = []
    if link == "guest-pci" or any(layer not in BELOW for layer in layers):
        needs += [*qemu_check.MACHINE, *(device if target.kind == "qemu" else ())]
    if link in ("qtest", "qtest-legacy"):
        needs += [*qemu_check.QTEST, *device]
    path = find_program(program)
    if not needs:
        return
    try:
        qemu_check.require(
            path,
            list(dict.fromkeys(needs)),
            [*target.machine.arguments, *options.get("qemu_args", ())],
            max(target.machine.memory_mb, options.get("memory_mb", 0)),
        )
    except UsageError as error:
        if options.get("qemu") or options.get("qemu_args"):
            raise
        raise InfrastructureError(str(error)) from None


def _check_v86(target: Target, options: dict[str, Any]) -> None:
    if "packages" in options:
        raise UsageError(
            f"target {target.name} cannot be soaked: too slow under v86, and no room for workloads; "
            "take one with QEMU or User-Mode Linux"
        )
    v86_program.require_host()


def deployment(target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> Deployment:
    """The deployment of that target, not yet started."""
    if target.kind == "qemu" and target.server:
        from conformance.sut.qemu.vhost_user import VhostQemuDeployment  # noqa: PLC0415

        return VhostQemuDeployment(target, run_dir, progress, options)
    if target.kind == "qemu":
        from conformance.sut.qemu.deployment import QemuDeployment  # noqa: PLC0415

        return QemuDeployment(target, run_dir, progress, options)
    if target.kind == "tcp":
        from conformance.sut.qemu.tcp import TcpDeployment  # noqa: PLC0415

        return TcpDeployment(target, run_dir, progress, options)
    if target.kind == "uml":
        from conformance.sut.uml.deployment import UmlDeployment  # noqa: PLC0415

        return UmlDeployment(target, run_dir, progress, options)
    if target.kind == "v86":
        from conformance.sut.v86.deployment import V86Deployment  # noqa: PLC0415

        return V86Deployment(target, run_dir, progress, options)
    if target.kind == "local":
        from conformance.sut.local.deployment import LocalDeployment  # noqa: PLC0415

        return LocalDeployment(target, run_dir, progress, options)
    raise UsageError(f"target {target.name} is of kind {target.kind}, which has no file system to mount")


class CaseRunner(Protocol):
    """What runs the cases of one worker: on a share (`Runner`) or on a server (`WireRunner`)."""

    broken: InfrastructureError | None
    """Why nothing can run any more."""

    machines: dict[str, Machine]
    """What was started so far, by the names that results give it."""

    def environment(self) -> dict[str, Any]:
        """What the evidence says of the deployment."""

    def captured(self) -> dict[str, Any]:
        """What was found on the machine of what runs now: fields of `Environment` that cost a second to fill."""

    def run_item(
        self, case: Case, parameters: str, function: Callable[..., None], arguments: dict[str, Any]
    ) -> tuple[CaseResult, BaseException | None]:
        """Run a case's function with its arguments; its evidence, and what it raised."""

    def stop(self) -> None:
        """End everything that was started."""


class NotStarted:
    """The runner of a target that there is nothing to start of: a hypervisor that cannot be fetched."""

    def __init__(self, why: InfrastructureError) -> None:
        self.broken: InfrastructureError | None = why
        self._why = why
        self.machines: dict[str, Machine] = {}

    def environment(self) -> dict[str, Any]:
        """Nothing is known."""
        return {}

    def captured(self) -> dict[str, Any]:
        """Nothing is known."""
        return {}

    def run_item(
        self, case: Case, parameters: str, function: Callable[..., None], arguments: dict[str, Any]
    ) -> tuple[CaseResult, BaseException | None]:
        """No case runs."""
        raise self._why

    def stop(self) -> None:
        """Nothing was started."""


def start(
    target: Target,
    run_dir: Path,
    progress: Progress,
    options: dict[str, Any],
    worker: str,
    control_first: bool,
    layer: str,
) -> CaseRunner:
    """A runner for a layer's cases on something started. What could not start is `broken`: each case says so."""
    if layer in BELOW:
        from conformance.raw.ring import RingRunner  # noqa: PLC0415
        from conformance.run.raw import WireRunner  # noqa: PLC0415

        made_for = RingRunner if layer == "ring" else WireRunner
        on_wire = made_for(reached(target, options, layer), run_dir, options, worker)
        on_wire.start()
        if worker in ("main", "gw0"):  # the others' servers are the same
            for line in on_wire.told():
                progress(line)
        return on_wire
    try:
        made = deployment(target, run_dir, progress, options)
    except InfrastructureError as e:
        return NotStarted(e)
    runner = Runner(target, made, control_first, worker)
    try:
        made.start()
    except Exception as e:  # noqa: BLE001 - whatever it is, nothing of it may stay, and no case can run
        unexpected = f"{target.name} did not start: {type(e).__name__}: {e}"
        runner.broken = e if isinstance(e, InfrastructureError) else InfrastructureError(unexpected)
        made.stop()
    except BaseException:
        made.stop()
        raise
    return runner
