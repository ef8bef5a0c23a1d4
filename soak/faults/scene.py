"""The interface of a fault, and the part of a run that it may use."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from conformance.vfs.deployment import Deployment
from soak.inside.common import MARK
from soak.jobs import RunningJob
from soak.outside import Outside
from soak.program import InsideProgram
from soak.watching import Watching


class Scene:
    """The first share of the run, its jobs, and functions to hold and restart them."""

    def __init__(
        self,
        deployment: Deployment,
        outside: Callable[[], Outside],
        jobs: Callable[[], list[RunningJob]],
        watching: Callable[[], Watching],
        restart: Callable[[], None],
        remount: Callable[[], str],
    ) -> None:
        self.deployment, self._outside = deployment, outside
        self._jobs, self._watching = jobs, watching
        self._probe_held = False
        self.restart = restart
        """Start a fresh guest after it was killed; the jobs continue."""
        self.remount = remount
        """Unmount and mount the first share; only while everything is at rest. Its new line of /proc/mounts."""

    @property
    def outside(self) -> Outside:
        """The exported directory of the first share, on its host."""
        return self._outside()

    def directory(self, name: str) -> str:
        """The name of our own directory on the share."""
        return f"{MARK}-{name}"

    def program(self, module: str, name: str, **config: Any) -> InsideProgram:
        """Start a program of `soak.inside` in the guest, beside the jobs."""
        place = f"{self.deployment.control_root}/soak-fault-{name}"
        config["root"] = f"{self.deployment.inside_root}/{self.directory(name)}"
        program = InsideProgram(self.deployment.inside, module, place, config)
        program.place()
        program.start()
        return program

    def hold(self) -> None:
        """Request every workload on the first share to pause after its current iteration."""
        self._probe_held = False
        for job in self.on_first():
            job.program.hold()

    def at_rest(self) -> bool:
        """Whether all workloads there have paused. The probe continues until the last workload has."""
        if not all(job.held or job.done for job in self.on_first()):
            return False
        if not self._probe_held:
            self._probe_held = True
            self._watching().inside.hold()
        return self._watching().inside.held

    def release(self) -> None:
        """Let the workloads continue."""
        for job in self.on_first():
            job.held = False
            job.program.release()
        self._watching().inside.release()

    def forget_descriptors(self) -> None:
        """The agent has closed its descriptors: forget them."""
        for job in self._jobs():
            job.program.forget()
        self._watching().inside.program.forget()

    def no_space(self, expected: bool) -> None:
        """Whether jobs may fail with ENOSPC from now on."""
        for job in self.on_first():
            job.expect_no_space(expected)

    def on_first(self) -> list[RunningJob]:
        """The jobs on the first share."""
        return [job for job in self._jobs() if job.job.share == 0]


class Fault(Protocol):
    """One fault, from its beginning to its end."""

    silent: bool
    """The guest cannot answer meanwhile: the runner does not call it."""

    def begin(self, scene: Scene, rng: random.Random) -> dict[str, Any]:
        """Start it; the data to record."""

    def tick(self, now: float) -> dict[str, Any] | None:
        """None while it lasts (`now` is monotonic). When it is over: its result; `failed` in it is a finding."""

    def undo(self) -> None:
        """Undo it in any state; a second call does nothing."""
