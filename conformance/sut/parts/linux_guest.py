"""The base of deployments whose share a Linux guest of this host mounts.

As root, the agent outside, the hypervisor and every server live in a mount namespace of the run's own: what property
cases mount there nobody else sees, and it is gone when they are; and a device that lets its guest out of the share
finds the rest of this host read-only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from conformance.errors import InfrastructureError, Undrivable
from conformance.features import FEATURES
from conformance.ground import GroundLost, HostGround, cache_place, lost, results_place, scratch_place
from conformance.sut.parts.containment import contain
from conformance.sut.parts.guest_mount import mount_9p, mounted, unmount
from conformance.sut.parts.power import ByProcess
from conformance.sut.parts.scratch import Scratch
from conformance.sut.parts.serving import Serving
from conformance.sut.spec import Target
from conformance.vfs.compare import Comparer
from conformance.vfs.deployment import Device, HostMounts, Place, Progress
from conformance.vfs.mount_options import MountOptions
from guests.agent.clock import GuestClock, rate_between, wrong_clock
from guests.agent.link import AgentLink, LinkLost, LocalChannel
from guests.host import paths
from guests.host.endings import sent_signal, stopped
from guests.images.store import Image
from guests.machines.base import AnyMachine
from guests.machines.spec import DEFAULT_TAGS

TAGS = DEFAULT_TAGS
"""The mount tags of a guest's shares; cases run on the first, unless they ask for another."""


_BROKEN = (errno.EIO, errno.EROFS, errno.ENOSPC, errno.ENXIO, errno.ENODEV, errno.EUCLEAN)
"""What a native file system says when its disk fails or is full; a case's own doing (EACCES, ...) is no such thing."""

KEEP_TIME = 60.0
"""Seconds after which the guest's clock is set again."""

M = TypeVar("M", bound=AnyMachine[Any])


def tell(link: AgentLink, step_ns: int) -> tuple[int, int]:
    """The clocks of the agent's machine, for `guests.agent.clock`."""
    day, monotonic = link.calls.clock(step_ns)
    return day, monotonic


class GuestDeployment(Generic[M]):
    """One machine, the agent in its guest, and what is mounted there. See Deployment for what is not described here."""

    outside: AgentLink
    inside: AgentLink
    control: AgentLink
    version: str
    image: str
    security_model: str
    inside_root: str
    outside_root: str
    comparer: Comparer
    host_view = ""
    """What to put before a path of outside to see it from this process: a mount of the run's namespace."""
    guest_mb = 0
    host_mounts: HostMounts | None = None
    """Memory of the guest in MiB."""
    control_root = "/control/assay9"
    answer_limit = 5.0
    """Seconds that a guest has to answer at all."""

    def __init__(self, target: Target, run_dir: Path, progress: Progress) -> None:
        self.target, self.run_dir, self.progress = target, run_dir, progress
        self.base = Path(tempfile.mkdtemp(prefix="machine-", dir=run_dir))
        os.chmod(self.base, 0o755)
        self._scratch = Scratch()
        self.traced = False
        self.features: frozenset[str] = frozenset()
        self.launcher: tuple[str, ...] = ()
        """Words before a command that make it run in the mount namespace of the run."""
        self.power = ByProcess(self.processes)
        self._machine: M | None = None
        self._serving: Serving | None = None
        """What serves the shares, where it is not the hypervisor."""
        self._ground = HostGround(
            [scratch_place(self._scratch.path), results_place(self.base), cache_place(paths.cache_dir())]
        )
        self._outside_channel: LocalChannel | None = None
        self._mounted: dict[int, tuple[MountOptions, str]] = {}

    @property
    def machine(self) -> M:
        """The running machine. Raises InfrastructureError before it is started."""
        if self._machine is None:
            raise InfrastructureError("the guest is not running")
        return self._machine

    def start(self) -> None:
        """See Deployment."""
        if (short := self.without_room()) is not None:
            raise short
        self._bring_up()
        self._ground.keep(self._directories())

    def _bring_up(self) -> None:
        """Start everything, on what is there already of an earlier time."""
        raise NotImplementedError

    def _directories(self) -> Sequence[Path]:
        """The exported directories, once they are made."""
        raise NotImplementedError

    def _agent_outside(self, *more: Path, contained: bool = True) -> tuple[AgentLink, int]:
        """An agent of this host and its pid; contained in the namespace that `launcher` leads to from then on.

        It can write below the scratch directory and the run's, the caches, and `more`.
        """
        writable = (self._scratch.path, self.base, paths.runtime_dir(), paths.cache_dir(), *more)
        prepare = partial(contain, [os.fsencode(path) for path in writable]) if contained else None
        channel = self._outside_channel = LocalChannel(stderr=self.base / "outside-agent.log", prepare=prepare)
        link = AgentLink(channel)
        link.calls.getpid()
        self.launcher = ("nsenter", f"--mount=/proc/{channel.pid}/ns/mnt", "--") if contained else ()
        return link, channel.pid

    def _connect(self) -> None:
        """An agent in the guest, which has nothing mounted yet."""
        self.inside = AgentLink(self.machine.agent_channel())
        self.control = self.inside
        self.inside.calls.rmtree(self.control_root)
        self.inside.calls.mkdir(self.control_root)
        self.kernel = self.inside.calls.uname()[2]
        self.traced = self.inside.calls.trace_begin()
        self._mounted.clear()
        self._clock = GuestClock(partial(tell, self.inside))
        self._clock_set = self._clock.set()

    def mount_point(self, number: int) -> str:
        """Where the guest mounts that share."""
        return f"/mnt/{TAGS[number]}"

    def mount(self, options: MountOptions) -> str:
        """See Deployment."""
        return self._mount(0, options)

    def _mount(self, number: int, options: MountOptions) -> str:
        """Mount that share so, unless it is; its line of /proc/mounts."""
        last, where = self._mounted.pop(number, None), self.mount_point(number)
        if last is None or last[0] != options or mounted(self.inside, where) != last[1]:
            unmount(self.inside, where)
            last = (options, mount_9p(self.inside, where, options, *self.source(number)))
        self._mounted[number] = last
        return last[1]

    def source(self, number: int) -> tuple[str, str]:
        """See Deployment."""
        return self._serving.source(number) if self._serving is not None else (TAGS[number], "trans=virtio")

    def processes(self) -> dict[str, int]:
        """See Deployment."""
        pid = self._machine.pid if self._machine is not None else 0
        if self._serving is None:
            return {"device": pid} if pid else {}
        return self._serving.processes() | ({"hypervisor": pid} if pid else {})

    def suite_image(self) -> Image | None:
        """See Deployment."""
        return None

    def logs(self) -> dict[str, Path]:
        """See Deployment."""
        return dict(self._machine.logs) if self._machine is not None else {}

    def another(self, device: Device, options: MountOptions) -> Place:
        """See Deployment."""
        raise Undrivable(FEATURES["qemu-machine"])

    def discard(self, place: Place) -> None:
        """See Deployment."""

    def beside(self, number: int, options: MountOptions) -> Place:
        """See Deployment."""
        line = self._mount(number, options)
        outside = str(self._directories()[number])
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
        """See Deployment."""
        raise NotImplementedError

    def mark(self) -> Any:
        """See Deployment."""
        return self.machine.console.mark(), self._serving.mark() if self._serving is not None else None

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """See Deployment."""
        console, serving = mark
        said = [(f"console: {event.kind}", event.text) for event in self.machine.console.since(console)]
        return [*said, *(self._serving.excerpts(serving) if self._serving is not None else [])]

    def death(self) -> str | None:
        """See Deployment."""
        return self._server_death() or (None if self.machine.runs() else self.machine.why_dead())

    def _server_death(self) -> str | None:
        """How a device ended that is a process of its own, or None."""
        return self._serving.death() if self._serving is not None else None

    def trouble(self) -> str | None:
        """See Deployment."""
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

    def outside_here(self) -> Path:
        """See Deployment."""
        return Path(self.host_view + self.outside_root)

    def keep_time(self) -> None:
        """See Deployment."""
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
        """See Deployment."""
        return self._ground.without_room()

    def ground_lost(self, *, answers: bool = True) -> GroundLost | None:
        """See Deployment."""
        return (
            (self._serving.ground_lost(self._ground.memory) if self._serving is not None else None)
            or (lost(self._machine.ground_lost(self._ground.memory)) if self._machine is not None else None)
            or self._ground.lost()
            or self._agent_outside_lost()
            or (self._guest_lost() if answers else None)
        )

    def _agent_outside_lost(self) -> GroundLost | None:
        channel = self._outside_channel
        if channel is None:
            return None
        if (status := channel.status) is not None:
            how = sent_signal(status) or f"status {status}"
            return GroundLost(
                f"the agent outside was ended by {how}, and the mount namespace of the run with it",
                "it is started again; find the process that ended it",
            )
        if stopped(channel.pid):
            return GroundLost(
                f"the agent outside is stopped: process {channel.pid} got SIGSTOP",
                "it is started again; find the sender",
            )
        try:
            self._holder().calls_with(timeout=self.answer_limit).getpid()
        except Exception as error:  # noqa: BLE001 - in any case it makes no further calls
            return GroundLost(f"the agent outside does not answer: {error}", "it is started again")
        return None

    def _holder(self) -> AgentLink:
        """The agent that holds the run's mount namespace."""
        return self.outside

    def _guest_lost(self) -> GroundLost | None:
        """Whether the guest's native file system can still be written, and its clock keeps step.

        A guest that does not answer is `trouble`.
        """
        if self._machine is None or not self._machine.alive():
            return None
        path = f"{self.control_root}/.ground"
        try:
            self.control.calls_with(timeout=self.answer_limit).write_text(path, "")
            self.control.calls_with(timeout=self.answer_limit).unlink(path)
            return self._clock_lost()
        except OSError as error:
            if error.errno in _BROKEN:
                return GroundLost(
                    f"the guest's own file system at {self.control_root} fails: {error.strerror}",
                    "see the guest's console log; assay9 doctor --verify looks at its image",
                )
        except Exception:  # noqa: BLE001 - in any case the guest does not respond
            return None
        return None

    def rebuild(self) -> None:
        """See Deployment."""
        self._close_links()
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.stop()
            machine.doubt()
        self._bring_up()
        self._ground.keep(self._directories())

    def recover(self) -> None:
        """See Deployment."""
        with contextlib.suppress(InfrastructureError, OSError):
            self.inside.close()
        self._restart()
        self._connect()

    def _restart(self) -> None:
        """A fresh guest, and fresh devices where they are processes of their own."""
        self.machine.restore()

    def stop(self) -> None:
        """See Deployment."""
        self._close_links()
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.stop()
        if self._serving is not None:
            self._serving.remove()
        self._scratch.remove()

    def _close_links(self) -> None:
        for link in self._links():
            if link is not None:
                with contextlib.suppress(InfrastructureError, OSError):
                    link.close()

    def _links(self) -> Sequence[AgentLink | None]:
        """The agents that were started."""
        return [getattr(self, name, None) for name in ("inside", "outside")]
