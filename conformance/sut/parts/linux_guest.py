"""The base of deployments whose share a Linux guest of this host mounts.

As root, the agent outside, the hypervisor and every server live in the run's own mount namespace. Nobody else sees what
property cases mount there, and it disappears with them. A device that lets its guest out of the share finds the rest of
this host read-only.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from conformance.errors import InfrastructureError
from conformance.ground import GroundLost, cache_place, lost
from conformance.sut.parts.base import BROKEN, ShareDeployment
from conformance.sut.parts.guest_mount import mount_9p, mounted, unmount
from conformance.sut.parts.run_host import RunHost
from conformance.sut.parts.serving import Serving
from conformance.sut.spec import Target
from conformance.vfs.deployment import Place, Progress
from conformance.vfs.mount_options import MountOptions
from guests.agent.clock import GuestClock, rate_between, wrong_clock
from guests.agent.hosts import Host, LocalHost
from guests.agent.link import AgentLink, LinkLost
from guests.host import paths
from guests.machines.base import AnyMachine
from guests.machines.spec import DEFAULT_TAGS

TAGS = DEFAULT_TAGS
"""The mount tags of a guest's shares; cases run on the first, unless they ask for another."""


KEEP_TIME = 60.0
"""Seconds after which the guest's clock is set again."""

M = TypeVar("M", bound=AnyMachine[Any])


def clocks(link: AgentLink, step_ns: int) -> tuple[int, int]:
    """The clocks of the agent's machine, for `guests.agent.clock`."""
    day, monotonic = link.calls.clock(step_ns)
    return day, monotonic


class GuestDeployment(ShareDeployment, Generic[M]):
    """One machine, the agent in its guest, and its mounts. Deployment describes the rest."""

    host_view = ""
    """What to put before a path of outside to see it from this process: a mount of the run's namespace."""
    control_root = "/control/assay9"
    exports: Sequence[Path]
    """The exported directories."""

    def __init__(self, target: Target, run_dir: Path, progress: Progress, export_fs: str | None = None) -> None:
        super().__init__(target, progress)
        self.run_dir = run_dir
        self.base = Path(tempfile.mkdtemp(prefix="machine-", dir=run_dir))
        os.chmod(self.base, 0o755)
        self.host = RunHost(self.base, cache_place(paths.cache_dir()), export_fs=export_fs)
        self._machine: M | None = None
        self._serving: Serving | None = None
        """What serves the shares, where it is not the hypervisor."""
        self._mounted: dict[int, tuple[MountOptions, str]] = {}

    @property
    def machine(self) -> M:
        """The running machine. Raises InfrastructureError before it is started."""
        if self._machine is None:
            raise InfrastructureError("the guest is not running")
        return self._machine

    def start(self) -> None:
        if (short := self.without_room()) is not None:
            raise short
        self._bring_up()
        self.host.ground.keep(self.exports)

    def _bring_up(self) -> None:
        """Start everything, reusing what is left of an earlier start."""
        raise NotImplementedError

    def _make_exports(self) -> None:
        for path in self.exports:
            path.mkdir(parents=True, exist_ok=True)
            os.chmod(path, 0o755)

    def _agent_outside(self, *more: Path) -> AgentLink:
        """The agent outside; as root it can write below the scratch directory and the run's, the caches, and `more`."""
        elsewhere = [path for path in self.exports if not path.is_relative_to(self.host.scratch.path)]
        writable = (self.host.scratch.path, self.base, paths.runtime_dir(), paths.cache_dir(), *more, *elsewhere)
        log = self.base / "outside-agent.log"
        return self.host.start_holder(writable=writable if os.geteuid() == 0 else (), log=log)

    def _connect(self) -> None:
        """An agent in the guest, which has nothing mounted yet."""
        self.inside = AgentLink(self.machine.agent_channel())
        self.control = self.inside
        self.inside.calls.rmtree(self.control_root)
        self.inside.calls.mkdir(self.control_root)
        self.kernel = self.inside.calls.uname()[2]
        self.traced = self.inside.calls.trace_begin()
        self._mounted.clear()
        self._clock = GuestClock(partial(clocks, self.inside))
        self._clock_set = self._clock.set()

    def mount_point(self, number: int) -> str:
        """Where the guest mounts that share."""
        return f"/mnt/{TAGS[number]}"

    def mount(self, options: MountOptions) -> str:
        return self._mount(0, options)

    def _mount(self, number: int, options: MountOptions) -> str:
        """Mount that share with these options unless it is; returns its line of /proc/mounts."""
        last, where = self._mounted.pop(number, None), self.mount_point(number)
        if last is None or last[0] != options or mounted(self.inside, where) != last[1]:
            unmount(self.inside, where)
            last = (options, mount_9p(self.inside, where, options, *self.source(number)))
        self._mounted[number] = last
        return last[1]

    def source(self, number: int) -> tuple[str, str]:
        return self._serving.source(number) if self._serving is not None else (TAGS[number], "trans=virtio")

    def processes(self) -> dict[str, int]:
        pid = self._machine.pid if self._machine is not None else 0
        if self._serving is None:
            return {"device": pid} if pid else {}
        return self._serving.processes() | ({"hypervisor": pid} if pid else {})

    def logs(self) -> dict[str, Path]:
        return dict(self._machine.logs) if self._machine is not None else {}

    def beside(self, number: int, options: MountOptions) -> Place:
        line = self._mount(number, options)
        outside = str(self.exports[number])
        return Place(
            label=TAGS[number],
            deployment=self,
            inside_root=self.mount_point(number),
            outside_root=outside,
            export=outside,
            mount_line=line,
            comparer=self.comparer,
            in_second_machine=False,
        )

    def environment(self) -> dict[str, Any]:
        raise NotImplementedError

    def mark(self) -> Any:
        return self.machine.console.mark(), self._serving.mark() if self._serving is not None else None

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        console, serving = mark
        said = [(f"console: {event.kind}", event.text) for event in self.machine.console.since(console)]
        return [*said, *(self._serving.excerpts(serving) if self._serving is not None else [])]

    def death(self) -> str | None:
        return self._server_death() or (None if self.machine.runs() else self.machine.why_dead())

    def _server_death(self) -> str | None:
        """How a device that is a process has ended, or None."""
        return self._serving.death() if self._serving is not None else None

    def trouble(self) -> str | None:
        if (death := self._server_death()) is not None:
            return death
        if not self.machine.alive():
            return self.machine.why_dead()
        try:
            self.inside.calls_with(timeout=self.answer_limit).getpid()
        except LinkLost as e:
            return f"the guest does not respond: {e}"
        except Exception as e:  # noqa: BLE001 - in any case the guest does not serve
            return f"the guest's agent does not serve: {e}"
        return None

    def outside_at(self) -> tuple[Host, str]:
        return LocalHost(), self.host_view + self.outside_root

    def keep_time(self) -> None:
        if time.monotonic() - self._clock_set.host < KEEP_TIME:
            return
        if (wrong := self._clock_lost()) is not None:
            raise wrong
        self._clock_set = self._clock.set()

    def _clock_lost(self) -> GroundLost | None:
        """Whether the guest's clock has kept step since it was last set."""
        rate = rate_between(self._clock_set, self._clock.glance())
        return lost(wrong_clock(rate)) if rate.wrong else None

    def without_room(self) -> GroundLost | None:
        return self.host.ground.without_room()

    def ground_lost(self, *, answers: bool = True) -> GroundLost | None:
        memory = self.host.ground.memory
        return (
            (self._serving.ground_lost(memory) if self._serving is not None else None)
            or (lost(self._machine.ground_lost(memory)) if self._machine is not None else None)
            or self.host.lost(self.answer_limit)
            or (self._guest_lost() if answers else None)
        )

    def _guest_lost(self) -> GroundLost | None:
        """Whether the guest's native file system can still be written, and its clock keeps step.

        A guest that does not answer is `trouble`.
        """
        if self._machine is None or not self._machine.alive():
            return None
        try:
            self._write_ground(self.control, self.control_root)
            return self._clock_lost()
        except OSError as error:
            if error.errno in BROKEN:
                return GroundLost(
                    f"the guest's own file system at {self.control_root} fails: {error.strerror}",
                    "see the guest's console log; assay9 doctor --verify looks at its image",
                )
        except Exception:  # noqa: BLE001 - in any case the guest does not respond
            return None
        return None

    def rebuild(self) -> None:
        self._close_links()
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.stop()
            machine.doubt()
        self._bring_up()
        self.host.ground.keep(self.exports)

    def recover(self) -> None:
        with contextlib.suppress(InfrastructureError, OSError):
            self.inside.close()
        self._restart()
        self._connect()

    def _restart(self) -> None:
        """A fresh guest, and fresh devices if they are processes."""
        self.machine.restore()

    def stop(self) -> None:
        self._close_links()
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.stop()
        if self._serving is not None:
            self._serving.remove()
        self.host.scratch.remove()

    def _close_links(self) -> None:
        super()._close_links()
        self.host.close()
