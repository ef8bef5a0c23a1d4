"""Makes and starts the runner of a layer's cases on a target."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from conformance.case import Case
from conformance.errors import InfrastructureError
from conformance.evidence.models import CaseResult, Machine
from conformance.run.controls import ControlMode
from conformance.run.mounted import Runner
from conformance.run.ring import RingRunner
from conformance.run.wire import WireRunner
from conformance.sut.kind import Asked
from conformance.sut.layers import BELOW
from conformance.sut.registry import kind_of
from conformance.vfs.deployment import Progress
from guests.host import signals


class CaseRunner(Protocol):
    """The runner of one worker's cases: on a share (`Runner`) or on a server (`WireRunner`)."""

    broken: InfrastructureError | None
    """Why no further case can run."""

    machines: dict[str, Machine]
    """What was started so far, by the names that results give it."""

    def environment(self) -> dict[str, Any]:
        """The deployment's description for the evidence."""

    def captured(self) -> dict[str, Any]:
        """Facts about the running processes: fields of `Environment` that cost a second to fill."""

    def run_item(
        self, case: Case, parameters: str, function: Callable[..., None], arguments: dict[str, Any]
    ) -> tuple[CaseResult, BaseException | None]:
        """Run a case's function with its arguments; its evidence, and what it raised."""

    def stop(self) -> None:
        """End everything that was started."""


class NotStarted:
    """The runner of a target that cannot start: a hypervisor that cannot be fetched."""

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
    asked: Asked[Any, Any], run_dir: Path, progress: Progress, worker: str, control: ControlMode, layer: str
) -> CaseRunner:
    """A started runner for a layer's cases. If it did not start it is `broken`, and each of its cases reports that."""
    target = asked.target
    if layer in BELOW:
        on_wire = (RingRunner if layer == "ring" else WireRunner)(asked, run_dir, worker, progress)
        on_wire.start()
        if worker in ("main", "gw0"):  # the other workers' servers are the same
            for line in on_wire.not_implemented():
                progress(line)
        return on_wire
    with contextlib.ExitStack() as unfinished:
        try:
            with signals.deferred():  # a half-made runner cannot be stopped
                made = kind_of(target).deployment(asked, run_dir, progress)
                unfinished.callback(made.stop)
        except InfrastructureError as e:
            return NotStarted(e)
        runner = Runner(target, made, control, worker)
        try:
            made.start()
        except Exception as e:  # noqa: BLE001 - in any case nothing may stay behind, and no case can run
            remedy = f"run it again while the host is less busy, or with --jobs 1; its logs are in {run_dir}"
            other = InfrastructureError(f"{target.name} did not start: {type(e).__name__}: {e}", remedy)
            runner.broken = e if isinstance(e, InfrastructureError) else other
            made.stop()
        unfinished.pop_all()
    return runner
