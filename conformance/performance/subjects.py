"""The running subjects of a benchmark: a target's share, its guest's control file system, and the other.

Two targets share one guest where QEMU can give it both devices; otherwise each has a guest of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from conformance.errors import SuiteError, UsageError
from conformance.performance.nfs4 import NAME as NFS4
from conformance.performance.nfs4 import NfsServer, mount_nfs
from conformance.performance.record import CONTROL, OTHER, OTHER_CONTROL, SHARE
from conformance.sut.kind import Asked
from conformance.sut.parts.guest_mount import mount_9p, unmount
from conformance.sut.qemu.guest import QemuGuest
from conformance.sut.qemu.tables import MachineTarget, QemuTarget
from conformance.sut.qemu_vhost_user.deployment import VhostQemuDeployment
from conformance.sut.qemu_vhost_user.tables import VhostUserTarget
from conformance.sut.registry import kind_of
from conformance.vfs.deployment import Deployment, Progress
from conformance.vfs.mount_options import MountOptions
from guests.agent.link import AgentLink
from guests.host import signals
from guests.machines.spec import MachineSpec, Share

_QEMUS = "qemu"
"""The mount tag of QEMU's own device in a guest that has two."""
_WORK = "performance"
"""The name of the directory to work in."""
_OTHER_AT, _NFS_AT = "/mnt/other", "/mnt/nfs4"
NFS_EXPORT_MB = 4096
"""Size of the export's own file system where NFS serves it, too: ganesha opens by handle, through any mount of it."""

D = TypeVar("D", bound=Deployment)


@dataclass(slots=True)
class Place:
    """One subject, running."""

    name: str
    title: str
    link: AgentLink
    directory: str
    """Where the work is done, as the guest names it."""
    mount: Callable[[MountOptions], str] | None = None
    """Mounts what is at `directory`; its line of /proc/mounts. None where nothing is to be mounted."""
    pid: Callable[[], int] = lambda: 0
    """The process of this host that serves it; 0 where none is known."""
    mounts: dict[str, str] = field(default_factory=dict)
    outside: AgentLink | None = None
    """An agent that sees the same directory natively, at `outside_directory`; None where there is none."""
    outside_directory: str = ""
    further: Callable[[int, MountOptions], str] | None = None
    """Mounts the subject's share of that number, from 1 on; the directory to work in there. Raises Undrivable."""
    traced: bool = False
    """Whether the guest tells which 9P messages crossed."""


@dataclass(frozen=True, slots=True)
class Running:
    """All subjects, and their deployments: the target's, and the other's if it has its own guest."""

    places: list[Place]
    deployments: list[Deployment]


def check_nfs4(asked: Asked[Any, Any]) -> None:
    """Refuse `--against nfs4` if the guest cannot reach a server of this host. Raises UsageError."""
    if not isinstance(asked.target, MachineTarget):
        raise UsageError(
            f"--against {NFS4} does not apply: the guest of target {asked.target.name} has no network that reaches "
            "this host; take a target with a guest under QEMU"
        )


def one_guest(target: Asked[Any, Any], other: Asked[Any, Any]) -> bool:
    """Whether one guest can have both: QEMU's own device, and one plugged into the same QEMU."""
    machines = [asked.target for asked in (target, other)]
    if {type(machine) for machine in machines} != {QemuTarget, VhostUserTarget}:
        return False
    mine, theirs = (machine.machine for machine in machines)
    same = (mine.program, mine.image, mine.memory_mb, mine.arguments) == (
        theirs.program,
        theirs.image,
        theirs.memory_mb,
        theirs.arguments,
    )
    return same and target.options.model_dump(exclude_defaults=True) == other.options.model_dump(exclude_defaults=True)


@contextlib.contextmanager
def running(
    target: Asked[Any, Any], against: Asked[Any, Any] | str | None, run_dir: Path, progress: Progress
) -> Iterator[Running]:
    """Bring everything up, and stop it at the end. `against` is another target, `nfs4`, or None.

    Raises InfrastructureError.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(against, Asked) and one_guest(target, against):
            yield _together(target, against, run_dir, progress, stack)
            return
        deployment = _started(stack, lambda: kind_of(target.target).deployment(target, run_dir, progress))
        places = _of(deployment, target, SHARE, CONTROL)
        deployments = [deployment]
        if isinstance(against, Asked):
            also = against
            other = _started(stack, lambda: kind_of(also.target).deployment(also, run_dir, progress))
            deployments.append(other)
            places += _of(other, against, OTHER, OTHER_CONTROL)
        elif against is not None:
            places.append(_nfs(deployment, stack))
        yield Running(places, deployments)


def _started(stack: contextlib.ExitStack, make: Callable[[], D]) -> D:
    """A deployment from `make`, started; it is stopped with the stack."""
    with signals.deferred():  # a half-made deployment cannot be stopped
        made = make()
        stack.callback(made.stop)
    made.start()
    return made


def _of(deployment: Deployment, asked: Asked[Any, Any], share: str, control: str) -> list[Place]:
    """The share of a deployment, and the control file system of its guest."""
    version = str(deployment.environment().get("target_version", ""))

    def further(number: int, options: MountOptions) -> str:
        return f"{deployment.beside(number, options).inside_root}/{_WORK}"

    return [
        Place(
            share,
            f"{asked.target.name} ({version})" if version else asked.target.name,
            deployment.inside,
            f"{deployment.inside_root}/{_WORK}",
            deployment.mount,
            lambda: deployment.processes().get("device", 0),
            outside=deployment.outside,
            outside_directory=f"{deployment.outside_root}/{_WORK}",
            further=further,
            traced=deployment.traced,
        ),
        Place(
            control,
            "the guest's own file system",
            deployment.control,
            f"{deployment.control_root}/{_WORK}",
            further=lambda number, options: f"{deployment.control_root}/{_WORK}{number}",
        ),
    ]


def _nfs(deployment: Deployment, stack: contextlib.ExitStack) -> Place:
    if not isinstance(deployment, QemuGuest):
        raise SuiteError(f"{type(deployment).__name__} has no network that reaches this host")
    export = deployment.exports[0]
    server = NfsServer(deployment.base, export, [export.parent])
    stack.callback(server.stop)
    server.start(deployment.host.launcher)
    return Place(
        OTHER,
        "NFS 4.2 (nfs-ganesha), the same directory",
        deployment.inside,
        f"{_NFS_AT}/nfs",
        lambda options: mount_nfs(deployment.inside, _NFS_AT, options, server.port),
        lambda: server.pid,
        outside=deployment.outside,
        outside_directory=f"{export}/nfs",
    )


class _Both(VhostQemuDeployment):
    """The plugged-in devices, and one of QEMU's own beside them."""

    def _machine_spec(self) -> MachineSpec:
        return replace(super()._machine_spec(), shares=(Share(_QEMUS, self.exports[3]),))


def _together(
    target: Asked[Any, Any],
    other: Asked[Any, Any],
    run_dir: Path,
    progress: Progress,
    stack: contextlib.ExitStack,
) -> Running:
    plugged = target if isinstance(target.target, VhostUserTarget) else other
    deployment = _started(stack, lambda: _Both(plugged.target, run_dir, progress, plugged.options))
    inside = deployment.inside

    def mount(options: MountOptions) -> str:
        unmount(inside, _OTHER_AT)
        return mount_9p(inside, _OTHER_AT, options, _QEMUS, "trans=virtio")

    share, control = _of(deployment, plugged, SHARE, CONTROL)
    qemus = target if plugged is other else other
    own = Place(
        OTHER,
        f"{qemus.target.name} ({deployment.hypervisor}'s own device)",
        inside,
        f"{_OTHER_AT}/{_WORK}",
        mount,
        lambda: deployment.machine.pid,
        outside=deployment.outside,
        outside_directory=f"{deployment.exports[3]}/{_WORK}",
        traced=deployment.traced,
    )
    if plugged is other:
        share.name, own.name = OTHER, SHARE
    return Running([share, control, own] if plugged is target else [own, control, share], [deployment])
