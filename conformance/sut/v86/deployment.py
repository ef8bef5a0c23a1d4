"""Targets of kind `v86`: a 32-bit guest under the emulator v86, whose virtio-9p device has one share.

Without [server] the device is v86's own server, which keeps files in the emulator's memory: there is no directory of
this host behind it, and nothing outside can make system calls, so the deployment has no vantage outside (`Nowhere`).
With [server] the messages go through v86's handle9p to a server of this host, contained like every server under test,
and the vantage outside is its exported directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from conformance.errors import Undrivable
from conformance.features import FEATURES
from conformance.sut.parts.devices.security_models import comparer
from conformance.sut.parts.linux_guest import GuestDeployment
from conformance.sut.parts.no_outside import Nowhere
from conformance.sut.parts.serving import Sockets
from conformance.sut.v86.tables import V86Target
from conformance.vfs.deployment import Place, Progress
from conformance.vfs.mount_options import MountOptions
from guests.agent.link import AgentLink
from guests.machines.v86.machine import TAG, V86Machine, V86Spec
from guests.machines.v86.program import VERSION

NO_HOST = "a vantage outside: v86's own server keeps its files in the emulator's memory"
MOUNT_POINT = f"/mnt/{TAG}"


class V86Deployment(GuestDeployment[V86Machine]):
    """One machine with one share."""

    answer_limit = 20.0  # a guest under v86 is slow, and the processor may be shared

    def __init__(self, target: V86Target, run_dir: Path, progress: Progress) -> None:
        super().__init__(target, run_dir, progress)
        self.exports = [self.host.scratch.path / TAG]
        self._server: Server | None = None
        if target.server is not None:
            self._server = Server(target.server, self.base, self.host.scratch.path, self.exports, (TAG,))
        self._serving = self._server
        self.guest_mb = target.machine.memory_mb
        self.image = "debian12"
        """Its kernel's, by which known failures of Linux's client go; that it is of 32 bits is the target's name."""
        self.version = self._server.version if self._server else VERSION
        self.inside_root, self.outside_root = MOUNT_POINT, str(self.exports[0])
        self.comparer = comparer("passthrough", target.profile.overrides(), host_root=True)
        self.outside: AgentLink = Nowhere(NO_HOST)

    def _bring_up(self) -> None:
        self._make_exports()
        # the emulator and the server live in its namespace
        agent = self._agent_outside() if os.geteuid() == 0 else None
        host: set[str] = set()
        if self._server is not None:
            assert agent is not None, "kinds.check demands root"
            self.outside = agent
            self._server.start(self.host.launcher)
            host = {"host-root", "mount-namespace", "passthrough-ownership"}
        spec = V86Spec(
            run_dir=self.base,
            server=self._server.sockets[0] if self._server else None,
            launcher=self.host.launcher,
            memory_mb=self.guest_mb,
        )
        self._machine = V86Machine(spec, self.progress)
        self._machine.start()
        self._connect()
        guest = {"guest-root", "remount", "mount-tags"} | ({"trace"} if self.traced else set())
        self.features = frozenset(host | guest | set(self.target.profile.features))

    def environment(self) -> dict[str, Any]:
        own = f"v86 {VERSION}'s own server"
        return {
            "target_version": self._server.title if self._server else own,
            "argv": self.machine.argv,
            **({"server_argv": self._server.argv} if self._server else {}),
            "hypervisor": f"v86 {VERSION}",
            "guest_image": "debian12 (i386)",
            "guest_kernel": self.kernel,
            "accelerator": self.machine.accelerator,
            "access": self.machine.reached_by,
        }

    def mount_point(self, number: int) -> str:
        """See GuestDeployment: there is one."""
        return MOUNT_POINT

    def source(self, number: int) -> tuple[str, str]:
        if number:
            raise Undrivable(FEATURES["four-shares"])
        return TAG, "trans=virtio"

    def beside(self, number: int, options: MountOptions) -> Place:
        raise Undrivable(FEATURES["four-shares"])

    def _restart(self) -> None:
        self.machine.stop()
        if self._server is not None:
            self._server.start(self.host.launcher)
        self.machine.start()


class Server(Sockets):
    """The process behind handle9p: the reference server, or another by its command; contained."""

    what = "server"

    def listens(self, socket: str, tag: str) -> list[str]:
        return ["--unix", socket]
