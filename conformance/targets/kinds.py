"""From a target's kind to the code that brings it up, and from a layer to the runner of its cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.case import Case
from conformance.errors import InfrastructureError, SuiteError, UsageError
from conformance.evidence.record import CaseResult
from conformance.mounts import DEFAULT, MountOptions
from conformance.runner import Runner
from conformance.share import Share
from conformance.targets.deployment import Deployment, Progress
from conformance.targets.spec import Target


def check(target: Target, options: dict[str, Any]) -> None:
    """Refuse, before anything slow starts, what cannot be: a missing program, options of another kind."""
    if target.kind == "qemu":
        from conformance.targets.qemu import find_program  # noqa: PLC0415

        find_program(options.get("qemu") or target.machine.program)
    elif options.get("qemu"):
        raise UsageError(f"--qemu has no meaning for target {target.name}, which is of kind {target.kind}")


def deployment(target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> Deployment:
    """The deployment of that target, not yet started."""
    if target.kind == "qemu":
        from conformance.targets.qemu import QemuDeployment  # noqa: PLC0415

        return QemuDeployment(target, run_dir, progress, options)
    if target.kind == "local":
        from conformance.targets.local import LocalDeployment  # noqa: PLC0415

        return LocalDeployment(target, run_dir, progress, options)
    raise UsageError(f"target {target.name} is of kind {target.kind}, which has no file system to mount")


def start(
    target: Target, run_dir: Path, progress: Progress, options: dict[str, Any], worker: str, control_first: bool
) -> Runner:
    """A runner on a started deployment; one that could not start is `broken` and says so for every case."""
    made = deployment(target, run_dir, progress, options)
    runner = Runner(target, made, control_first, worker)
    try:
        made.start()
    except InfrastructureError as e:
        runner.broken = e
        made.stop()
    return runner


def run_case(
    runner: Runner, case: Case, parameters: str, function: Callable[..., None], arguments: dict[str, Any]
) -> tuple[CaseResult, BaseException | None]:
    """Run a case's function with its arguments, the share among them replaced by the real one."""
    mount = arguments.get("share", DEFAULT)
    if not isinstance(mount, MountOptions):
        raise SuiteError(f"{case.id}: its share fixture is not the suite's own")

    def body(share: Share) -> None:
        function(**{**arguments, "share": share})

    return runner.run(case, parameters, mount, body)
