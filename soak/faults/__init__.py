"""Fault injection: what the soak does to a target while it works. Each fault has a start and an undo.

A fault begins, is polled until it is over, and is undone, even if the run is interrupted. Its effects end with the
session: the processes that it starts or stops end with the runner, and its mounts and files belong to the run and are
removed. So nothing is left after kill -9, and `resume` records that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conformance.errors import UsageError
from conformance.sut.kind import CAPABILITIES, Capability
from conformance.sut.registry import AnyKind
from guests.words import unknown
from soak.faults import host, inside, power, space
from soak.faults.scene import Fault


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault's description for the command line, and its needs."""

    name: str
    title: str
    make: Callable[[], Fault]
    needs: Capability | None = None
    """What the target's kind must be able to do."""
    root: bool = False
    """Needs root on this host."""


KINDS = {
    k.name: k
    for k in (
        Kind("pause", "the process that serves the share is stopped for some seconds", host.Pause, needs="pause"),
        Kind("drop-caches", "this host forgets its page cache", host.DropCaches, root=True),
        Kind("busy", "every core of this host is busy, and some memory taken", host.Busy),
        Kind(
            "full", "the exported file system is full for some seconds", space.Full, needs="own-file-system", root=True
        ),
        Kind("remount", "the share is unmounted and mounted between two iterations", space.Remount, needs="guest"),
        Kind(
            "power-cut",
            "the guest is killed and started again; what fsync promised must be there",
            power.PowerCut,
            needs="power-cut",
        ),
        Kind("guest-memory", "the guest's memory is nearly used up", inside.GuestMemory, needs="guest"),
        Kind("signals", "processes on the share are killed in the middle of their calls (Tflush)", inside.Signals),
    )
}


def check(names: list[str], kind: AnyKind, is_root: bool) -> None:
    """Raise UsageError for a fault that does not exist or that a target of this kind cannot have."""
    for name in names:
        if name not in KINDS:
            raise UsageError(unknown("fault", name, KINDS))
        need = KINDS[name].needs
        if need is not None and need not in kind.capabilities:
            raise UsageError(
                f"fault {name} needs {CAPABILITIES[need]}, and a target of kind {kind.name} has none: "
                "leave it out, or take another target"
            )
        if KINDS[name].root and not is_root:
            raise UsageError(f"fault {name} needs root on this host: leave it out, or run as root")
