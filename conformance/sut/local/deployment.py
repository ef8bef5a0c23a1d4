"""Target `local`: no hypervisor, a directory of this host seen twice.

It tests the suite: a case that does not pass here is wrong. With the option `through` (the words of a command, in
tests) a file system in user space stands between inside and outside: the command is started with the exported directory
and a mount point, and is what `processes` calls the device.
"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError
from conformance.ground import GroundLost, ended_by_another
from conformance.sut.local.tables import LocalOptions, LocalTarget
from conformance.sut.parts.base import ShareDeployment
from conformance.sut.parts.run_host import RunHost
from conformance.vfs.deployment import Progress
from conformance.vfs.mount_options import MountOptions
from guests.agent.link import AgentLink
from guests.agent.local_channel import LocalChannel
from guests.host.endings import sent_signal
from guests.host.processes import dying_with_parent, end, reap, stopped
from guests.host.waiting import happens


class LocalDeployment(ShareDeployment):
    """Inside and outside are two agents of this host on one directory."""

    def __init__(
        self,
        target: LocalTarget,
        run_dir: Path,
        progress: Progress,
        options: LocalOptions = LocalOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(target, progress)
        self.run_dir = run_dir
        self.host = RunHost(run_dir, export_fs=options.export_fs)
        self._base = self.host.scratch.path
        self.outside_root = str(self._base / "export")
        self.inside_root = options.inside_root or self.outside_root
        self.control_root = str(self._base / "control")
        root = {"host-root", "guest-root", "passthrough-ownership", "mount-namespace"} if os.geteuid() == 0 else set()
        self.features = frozenset(root | set(target.profile.features))
        self.version = platform.release()
        self._within: LocalChannel | None = None
        """The agent inside."""
        self._through = options.through
        self._server: subprocess.Popen[bytes] | None = None
        if self._through:
            self.inside_root = str(self._base / "mounted")

    def start(self) -> None:
        if (short := self.without_room()) is not None:
            raise short
        self._bring_up()

    def _bring_up(self) -> None:
        for root in (self.outside_root, self.control_root):
            Path(root).mkdir(mode=0o755, parents=True, exist_ok=True)
        self._connect()
        self.host.ground.keep([Path(self.outside_root)])

    def _connect(self) -> None:
        # as root both agents live in one mount namespace: see conformance.sut.parts.run_host
        enter = self._mount_through() if self._through else ("unshare", "--mount", "--propagation", "slave", "--")
        self.outside = self.host.start_holder(enter if os.geteuid() == 0 else ())
        self._within = self.host.start_agent()
        self.inside = self.control = AgentLink(self._within)

    def _mount_through(self) -> tuple[str, ...]:
        """Start the file system in user space, in a mount namespace of its own; how to enter that."""
        Path(self.inside_root).mkdir(exist_ok=True)
        argv = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--",
            *self._through,
            self.outside_root,
            self.inside_root,
        ]
        with (self._base / "through.log").open("ab") as log:
            self._server = subprocess.Popen(dying_with_parent(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        server, mounts = self._server, Path(f"/proc/{self._server.pid}/mounts")
        happens(lambda: self.inside_root in mounts.read_text() or server.poll() is not None, 30.0)
        if server.poll() is not None or self.inside_root not in mounts.read_text():
            said = (self._base / "through.log").read_text(errors="replace")[-500:]
            raise InfrastructureError(f"{self._through[0]} mounts nothing at {self.inside_root}: {said}")
        return ("nsenter", f"--mount=/proc/{self._server.pid}/ns/mnt", "--")

    def environment(self) -> dict[str, Any]:
        kernel = platform.release()
        return {"target_version": f"Linux {kernel}", "guest_kernel": kernel, "access": "processes of this host"}

    def mount(self, options: MountOptions) -> str:
        return f"none {self.inside_root} local (a directory of this host; requested: {options})"

    def processes(self) -> dict[str, int]:
        return {"device": self._server.pid} if self._server is not None else {}

    def death(self) -> str | None:
        return self.trouble()

    def trouble(self) -> str | None:
        dead = self._server is not None and self._server.poll() is not None
        return "the server died" if dead else None

    def without_room(self) -> GroundLost | None:
        return self.host.ground.without_room()

    def ground_lost(self, *, answers: bool = True) -> GroundLost | None:
        memory = self.host.ground.memory
        within = sent_signal(self._within.status) if self._within is not None else None
        served = reap(self._server) if self._server is not None else None
        return (
            ended_by_another("the agent inside", within, memory)
            or ended_by_another("the server", sent_signal(served), memory)
            or self._stopped()
            or self.host.lost(self.answer_limit)
        )

    def _stopped(self) -> GroundLost | None:
        """The error when another process stopped the agent inside or the server."""
        agent, server = self._within, self._server
        why = stopped("the agent inside", agent.pid) if agent is not None else None
        why = why or (stopped("the server", server.pid) if server is not None else None)
        return None if why is None else GroundLost(*why)

    def recover(self) -> None:
        self._end()
        self._connect()

    def rebuild(self) -> None:
        self._end()
        self._bring_up()

    def _end(self) -> None:
        self._close_links()
        self.host.close()
        server, self._server = self._server, None
        if server is not None:
            end(server)

    def stop(self) -> None:
        self._end()
        self.host.scratch.remove()
