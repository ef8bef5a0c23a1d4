"""The `Deployment` role: what every kind of target offers the vfs and property layers once it is up.

A deployment owns processes and mounts; `stop` leaves nothing behind and may be called at any moment, twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from conformance.errors import InfrastructureError
from conformance.ground import GroundLost
from conformance.vfs.compare import Comparer
from conformance.vfs.mount_options import MountOptions
from guests.agent.hosts import Host
from guests.agent.link import AgentLink
from guests.images.store import Image
from guests.machines.spec import Multidevs, SecurityModel

Progress = Callable[[str], None]
Export = Literal["directory", "symlink", "odd-name", "same"]


class MountFailed(InfrastructureError):
    """The guest could not mount a share, or hung while it tried; a fresh machine shows whose fault it is."""

    def __init__(self, message: str, remedy: str, options: str, why: str) -> None:
        super().__init__(message, remedy)
        self.options, self.why = options, why


@dataclass(frozen=True, slots=True)
class Device:
    """The device of a share; a case may request another one. An empty security model is the target's own."""

    security_model: SecurityModel | Literal[""] = ""
    readonly: bool = False
    multidevs: Multidevs = "remap"
    export: Export = "directory"
    """The path that the hypervisor exports: the directory, a symbolic link to it, one with an odd name; or the very
    directory that the first machine exports, so that two guests share it."""

    def __str__(self) -> str:
        """How it differs from the default: readonly, mapped-xattr, multidevs=forbid."""
        parts = [
            self.security_model,
            "readonly" if self.readonly else "",
            f"multidevs={self.multidevs}" if self.multidevs != "remap" else "",
            self.export if self.export != "directory" else "",
        ]
        return ",".join(filter(None, parts)) or "second"


@dataclass(frozen=True, slots=True)
class Place:
    """A further share, mounted: beside the first in the same guest, or in another machine."""

    label: str
    deployment: Deployment
    inside_root: str
    outside_root: str
    export: str
    """The path that the hypervisor exports, as outside names it."""
    mount_line: str
    comparer: Comparer
    in_second_machine: bool


class Power(Protocol):
    """How a soak stops what runs a guest or serves its share, and resumes it."""

    def pause(self) -> dict[str, Any]:
        """Stop what serves the share: nothing is answered. Returns what to record; empty if nothing can be stopped."""

    def resume(self) -> None:
        """Resume it; a second call does nothing."""

    def cut(self) -> None:
        """End the guest at once, without any notice. `Deployment.recover` starts it again."""


class Outages(Protocol):
    """How a case takes the server or the device of a further share (1 to 3) away, and brings it back.

    Servers are killed where the feature `server-restart` is, devices unplugged where `hot-plug` is.
    """

    lost: bool
    """Whether a device is gone that this guest cannot get back: it is replaced after the case."""

    def pause(self, number: int) -> None:
        """Stop the share's server by SIGSTOP: nothing is answered. What follows is `kill`."""

    def kill(self, number: int) -> None:
        """End the share's server with SIGKILL and wait until it is gone."""

    def restart(self, number: int) -> None:
        """Start the share's server again, and wait until it listens. Raises InfrastructureError."""

    def unplug(self, number: int) -> None:
        """Request that the guest release the share's device; this does not wait."""

    def unplugged(self, number: int) -> bool:
        """Whether the guest has released the device since."""

    def plug(self, number: int) -> bool:
        """Give the guest the device again where it has lost it; whether it has it then. Nothing of the share is
        mounted. Raises InfrastructureError."""

    def restore(self, number: int) -> None:
        """Bring back what is still away when a case ends. Raises InfrastructureError."""


class HostMounts(Protocol):
    """File systems that property cases mount below the export on the host of a remote hypervisor."""

    def bind(self, path: str, flag: str) -> None:
        """Mount the directory on itself with that flag (ro, nosuid, nodev, noexec). Raises Undrivable."""

    def small(self, path: str, size: str) -> None:
        """Mount a new file system of that size (4m) on the directory. Raises Undrivable."""

    def dataset(self, path: str, setting: str) -> None:
        """Mount a new file system with that property of ZFS (quota=2m, setuid=off, devices=off). Raises Undrivable."""

    def unmount(self, path: str) -> None:
        """Unmount what is mounted there. Raises InfrastructureError."""


class Deployment(Protocol):
    """A share that is exported by the target and mounted in a guest, seen from three places.

    The defaults here hold if nothing more is known: no second machine, no log.
    """

    inside: AgentLink
    outside: AgentLink
    control: AgentLink
    inside_root: str
    """Where the share is mounted, as inside names it."""
    outside_root: str
    """The exported directory, as outside names it."""
    control_root: str
    """A directory on a native file system of the guest."""
    features: frozenset[str]
    """What cases may need (`conformance.features`): host-root, guest-root, trace, cache-mmap, ..."""
    version: str
    """The target's own version, e.g. 7.2.22: known failures may be specific to it."""
    image: str
    """Name of the guest's image (debian12), "" where there is none: known failures may be specific to it."""
    traced: bool
    """Whether the guest's 9p tracepoints report which messages crossed."""
    security_model: str
    """How the first share keeps owners and modes, "" where there is no such choice."""
    comparer: Comparer
    """The comparison rules of the first share: the target's own, and those of its security model."""
    guest_mb: int
    """Memory of the guest in MiB; 0 where the kernel inside is this host's."""
    host_mounts: HostMounts | None
    """How cases mount below the export; None where the agent outside does, in a namespace of the run's own."""
    power: Power
    """How a soak stops it and cuts its power."""
    outages: Outages
    """How a case takes the server or the device of a further share away."""

    def start(self) -> None:
        """Bring everything up, nothing mounted yet. Raises InfrastructureError or UsageError."""

    def environment(self) -> dict[str, Any]:
        """The facts for the evidence: versions, argv, image, kernel, accelerator."""

    def mount(self, options: MountOptions) -> str:
        """Mount the share with these options and return its line of /proc/mounts, which was checked against them.

        Raises Undrivable if this guest's kernel has no such option, InfrastructureError otherwise.
        """

    def source(self, number: int) -> tuple[str, str]:
        """How a guest mounts share `number`: the source (a mount tag, an address) and the transport's options.

        Raises Undrivable where there is none."""

    def outside_at(self) -> tuple[Host, str]:
        """The machine with the exported directory of the first share, and the directory's path there."""

    def suite_image(self) -> Image | None:
        """The suite's image that the guest runs; None if the guest is the user's, or there is none."""
        return None

    def logs(self) -> dict[str, Path]:
        """Log files on this host of what runs now, by name; `console` is the guest's."""
        return {}

    def beside(self, number: int, options: MountOptions) -> Place:
        """Mount a further share (1 to 3) of the same guest. Raises Undrivable if there is none."""

    def another(self, device: Device, options: MountOptions) -> Place:
        """A share with that device, in a second machine. Raises Undrivable if that is impossible."""

    def discard(self, place: Place) -> None:
        """Discard a second machine in which something hangs or died."""
        return

    def processes(self) -> dict[str, int]:
        """Process ids on this host of what runs now: `device` serves the share, `hypervisor` if that is another
        process.
        """
        return {}

    def serving(self) -> dict[str, int]:
        """The same on the host of the exported directory, which may be another machine."""
        return self.processes()

    def mark(self) -> Any:
        """A place in the logs: `excerpts(mark)` gives what came after it."""
        return None

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """(source, text) of relevant output of consoles and devices (oops, hung task, 9p warnings)."""
        return []

    def death(self) -> str | None:
        """How a device or the guest ended, or None while all run. Cheap: asked after each case."""
        return None

    def trouble(self) -> str | None:
        """Why the target has stopped serving (guest dead, device gone), or None if it serves."""

    def keep_time(self) -> None:
        """Set the guest's clock to the host's, unless that was done recently.

        Called before each case. Raises GroundLost if the guest's clock runs too fast or too slow.
        """
        return

    def without_room(self) -> GroundLost | None:
        """That this host has too little room for a case, or None. Cheap: asked before each case."""
        return None

    def ground_lost(self, *, answers: bool = True) -> GroundLost | None:
        """A failure of the suite's own ground that the target did not cause; None if there is none.

        Called after a failed case, before its files are removed, once its descriptors inside are closed. The guest is
        not queried if `answers` says that it is silent.
        """

    def recover(self) -> None:
        """Start a fresh guest after a crash or a hang; nothing is mounted."""

    def rebuild(self) -> None:
        """Start everything again after the ground was lost, including the agent outside and the exported directories.

        Raises InfrastructureError if that is impossible.
        """

    def stop(self) -> None:
        """End everything that was started, in order."""
