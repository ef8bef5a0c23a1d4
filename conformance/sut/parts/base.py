"""The base of all deployments: the defaults for a share about which nothing more is known.

A deployment is composed: the host of the exported directory (`RunHost`, or any `guests.agent.hosts.Host`), what runs
the guest (a machine of `guests.machines`, commands, nothing of ours), what serves 9P if not the hypervisor (`Serving`),
and how the guest is reached (`guests.access`).
"""

from __future__ import annotations

import contextlib
import errno

from conformance.errors import InfrastructureError, Undrivable
from conformance.features import FEATURES
from conformance.sut.parts.power import ByProcess, NoOutages
from conformance.sut.spec import Target
from conformance.vfs.compare import Comparer
from conformance.vfs.deployment import Deployment, Device, HostMounts, Outages, Place, Power, Progress
from conformance.vfs.mount_options import MountOptions
from guests.agent.hosts import Host, LocalHost
from guests.agent.link import AgentLink

BROKEN = (errno.EIO, errno.EROFS, errno.ENOSPC, errno.ENXIO, errno.ENODEV, errno.EUCLEAN)
"""What a native file system says when its disk fails or is full; a case's own doing (EACCES, ...) is no such thing."""


_ROOM = 1 << 16
"""Bytes that must find room: on a full file system an empty file can still be made."""


class ShareDeployment(Deployment):
    """One share and no second machine."""

    version = ""
    image = ""
    security_model = ""
    traced = False
    guest_mb = 0
    answer_limit = 5.0
    """Seconds that a guest has to answer at all."""

    def __init__(self, target: Target, progress: Progress) -> None:
        self.target, self.progress = target, progress
        self.features: frozenset[str] = frozenset()
        self.comparer = Comparer(target.profile.overrides())
        self.power: Power = ByProcess(self.processes)
        self.host_mounts: HostMounts | None = None
        self.outages: Outages = NoOutages()

    def source(self, number: int) -> tuple[str, str]:
        raise Undrivable(FEATURES["four-shares"])

    def beside(self, number: int, options: MountOptions) -> Place:
        raise Undrivable(FEATURES["four-shares"])

    def another(self, device: Device, options: MountOptions) -> Place:
        raise Undrivable(FEATURES["another-device"])

    def outside_at(self) -> tuple[Host, str]:
        """See Deployment: this host."""
        return LocalHost(), self.outside_root

    def _write_ground(self, link: AgentLink, directory: str) -> None:
        """Write and remove a file to test whether that works; raises what the agent raises."""
        calls, path = link.calls_with(timeout=self.answer_limit), f"{directory}/.ground"
        try:
            calls.create(path, bytes(_ROOM))
        finally:
            with contextlib.suppress(OSError):
                calls.unlink(path)

    def _close_links(self) -> None:
        """End the agents that were started."""
        for name in ("inside", "outside"):
            link: AgentLink | None = getattr(self, name, None)
            if link is not None:
                with contextlib.suppress(InfrastructureError, OSError):
                    link.close()
