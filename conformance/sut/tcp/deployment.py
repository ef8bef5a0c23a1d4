"""Targets of kind `tcp`: a stock Linux guest under QEMU mounts a 9P server of this host over TCP.

The guest reaches the server through QEMU's user network; QEMU's own virtio-9p device has no part in it. The server runs
contained, in the mount namespace of the run, like QEMU does for targets of kind `qemu`.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.ground import GroundLost
from conformance.sut.options import Load
from conformance.sut.parts.linux_guest import TAGS
from conformance.sut.parts.process import ServerProcess, free_port
from conformance.sut.qemu.guest import QemuGuest
from conformance.sut.qemu.tables import MachineOptions
from conformance.sut.servers.programs import ReferenceServer
from conformance.sut.servers.tables import ReferenceTable
from conformance.sut.tcp.tables import TcpTarget
from conformance.vfs.deployment import Progress
from guests.host.endings import OutOfMemory
from guests.machines.qemu.machine import MachineSpec

HOST = "10.0.2.2"
"""This host as a guest of QEMU's user network sees it; what the guest sends there arrives on 127.0.0.1."""
_START = 30.0


class TcpDeployment(QemuGuest):
    """One machine without any virtio-9p device; its four shares are exports of one server."""

    def __init__(
        self,
        target: TcpTarget,
        run_dir: Path,
        progress: Progress,
        options: MachineOptions = MachineOptions(),  # noqa: B008 - frozen
        load: Load | None = None,
    ) -> None:
        super().__init__(target, run_dir, progress, options, load)
        self._server = TcpServer(target.server, self.base, self._scratch.path, self.exports)
        self._serving, self.version = self._server, self._server.version

    def _machine_spec(self) -> MachineSpec:
        return replace(super()._machine_spec(), reaches_host=True)

    def _served(self) -> set[str]:
        return {"passthrough-ownership"}

    def _connect(self) -> None:
        self._server.start(self.launcher)
        super()._connect()


class TcpServer:
    """The reference server with an export for each share."""

    def __init__(self, table: ReferenceTable, base: Path, scratch: Path, exports: list[Path]) -> None:
        self._program = ReferenceServer(table, base)
        self._program.exported = exports[0]
        self._base, self._scratch, self._exports = base, scratch, exports
        self._log = base / "server.log"
        self.version = self._program.version()
        self.title = f"reference server {self.version}"
        self._process: ServerProcess | None = None

    @property
    def argv(self) -> list[str]:
        """See Serving."""
        return self._process.argv if self._process else []

    def start(self, launcher: tuple[str, ...]) -> None:
        """See Serving."""
        self.remove()
        self._program.port = free_port()
        more = [f"--export={tag}={path}" for tag, path in zip(TAGS[1:], self._exports[1:], strict=True)]
        self._process = ServerProcess(
            [*launcher, *self._program.command(), *more], self._log, writable=[self._scratch, self._base]
        )
        ready, process = f"listening on tcp 127.0.0.1:{self._program.port}", self._process
        process.wait_until(lambda: ready in process.tail(), _START)

    def source(self, number: int) -> tuple[str, str]:
        """See Serving."""
        return HOST, f"trans=tcp,port={self._program.port},aname={TAGS[number] if number else '/'}"

    def processes(self) -> dict[str, int]:
        """See Serving."""
        return {"device": self._process.pid} if self._process else {}

    def death(self) -> str | None:
        """See Serving."""
        return self._process.death() if self._process else "the server is not running"

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """See Serving."""
        return self._process.ground_lost(memory) if self._process is not None else None

    def mark(self) -> Any:
        """See Serving."""
        return self._log.stat().st_size if self._log.exists() else 0

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """See Serving."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(mark)
            said = log.read(8000).decode(errors="replace").strip()
            return [("server log", said)] if said else []
        return []

    def remove(self) -> None:
        """See Serving."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()
