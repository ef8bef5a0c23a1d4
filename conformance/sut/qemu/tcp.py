"""Targets of kind `tcp`: a stock Linux guest under QEMU mounts a 9P server of this host over TCP.

The guest reaches the server through QEMU's user network; QEMU's own virtio-9p device has no part in it. The server runs
contained, in the mount namespace of the run, like QEMU does for targets of kind `qemu`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError, Undrivable, UsageError
from conformance.features import FEATURES
from conformance.ground import GroundLost
from conformance.sut.linux_guest import TAGS
from conformance.sut.process import ServerProcess, free_port
from conformance.sut.qemu.deployment import QemuDeployment
from conformance.sut.servers.programs import ReferenceServer
from conformance.sut.servers.spec import parse
from conformance.sut.spec import Target
from conformance.vfs.deployment import Device, Place, Progress
from conformance.vfs.mount_options import MountOptions
from guests.machines.qemu.machine import MachineSpec

HOST = "10.0.2.2"
"""This host as a guest of QEMU's user network sees it; what the guest sends there arrives on 127.0.0.1."""
_START = 30.0


class TcpDeployment(QemuDeployment):
    """One machine without any virtio-9p device; its four shares are exports of one server."""

    def __init__(self, target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> None:
        spec = parse({"transport": "tcp", **target.server})
        if spec.program != "reference":
            raise UsageError(f"target {target.name}: of kind tcp there is only program = 'reference'")
        super().__init__(target, run_dir, progress, options)
        self._server = ReferenceServer(spec, self.base)
        self._server.exported = self.exports[0]
        self.version = self._server.version()
        self._process: ServerProcess | None = None

    def machine_spec(self, launcher: tuple[str, ...]) -> MachineSpec:
        """See QemuDeployment."""
        return replace(super().machine_spec(launcher), shares=(), reaches_host=True)

    def _bring_up(self) -> None:
        super()._bring_up()
        self.features -= {"qemu-machine", "mount-tags"}

    def _connect(self) -> None:
        self._serve()
        super()._connect()

    def _serve(self) -> None:
        """A fresh server."""
        self._end_server()
        self._server.port = free_port()
        more = [f"--export={tag}={path}" for tag, path in zip(TAGS[1:], self.exports[1:], strict=True)]
        self._process = ServerProcess(
            [*self.launcher, *self._server.command(), *more],
            self.base / "server.log",
            writable=[self._scratch.path, self.base],
        )
        limit = time.monotonic() + _START
        while f"listening on tcp 127.0.0.1:{self._server.port}" not in self._process.tail():
            if self._process.death() is not None or time.monotonic() > limit:
                raise InfrastructureError(f"the server did not come up: {self._process.tail(400)}")
            time.sleep(0.02)

    def _end_server(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def environment(self) -> dict[str, Any]:
        """See Deployment."""
        said = super().environment()
        said["hypervisor"] = said["target_version"]
        said["target_version"] = f"reference server {self.version}"
        said["server_argv"] = self._process.argv if self._process else []
        return said

    def road(self, number: int) -> tuple[str, str]:
        """See Deployment."""
        return HOST, f"trans=tcp,port={self._server.port},aname={TAGS[number] if number else '/'}"

    def another(self, device: Device, options: MountOptions) -> Place:
        """See Deployment."""
        raise Undrivable(FEATURES["qemu-machine"])

    def processes(self) -> dict[str, int]:
        """See Deployment."""
        hypervisor = super().processes().get("device")
        found = {"hypervisor": hypervisor} if hypervisor else {}
        return found | ({"device": self._process.pid} if self._process else {})

    def mark(self) -> Any:
        """See Deployment."""
        log = self.base / "server.log"
        return super().mark(), log.stat().st_size if log.exists() else 0

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """See Deployment."""
        console, size = mark
        with contextlib.suppress(OSError), (self.base / "server.log").open("rb") as log:
            log.seek(size)
            said = log.read(8000).decode(errors="replace").strip()
            return [*super().excerpts(console), *([("server log", said)] if said else [])]
        return super().excerpts(console)

    def _server_death(self) -> str | None:
        return self._process.death() if self._process else "the server is not running"

    def _servers_lost(self) -> GroundLost | None:
        return self._process.ground_lost(self._ground.memory) if self._process is not None else None

    def _end_servers(self) -> None:
        self._end_server()
