"""Targets of kind `v86`: a 32-bit guest under the emulator v86, whose virtio-9p device has one share.

Without [server] the device is v86's own server, which keeps files in the emulator's memory: there is no directory of
this host behind it and nothing outside that could make system calls, so the deployment has no vantage outside
(`Nowhere`). With [server] the messages go through v86's handle9p to a server of this host, contained like every server
under test, and the vantage outside is the directory that it exports.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from conformance.errors import Undrivable
from conformance.features import FEATURES
from conformance.ground import GroundLost
from conformance.sut.parts.backend_table import BackendTable
from conformance.sut.parts.linux_guest import GuestDeployment
from conformance.sut.parts.no_outside import Nowhere
from conformance.sut.parts.process import ServerProcess
from conformance.sut.qemu import security_models
from conformance.sut.v86.tables import V86Target
from conformance.vfs.compare import Comparer
from conformance.vfs.deployment import Place, Progress
from conformance.vfs.mount_options import MountOptions
from guests.agent.link import AgentLink
from guests.host import paths
from guests.host.endings import OutOfMemory
from guests.host.processes import claim
from guests.machines.v86.machine import TAG, V86Machine, V86Spec
from guests.machines.v86.program import VERSION

NO_HOST = "a vantage outside: v86's own server keeps its files in the emulator's memory"
MOUNT_POINT = f"/mnt/{TAG}"
_START = 60.0


class V86Deployment(GuestDeployment[V86Machine]):
    """One machine with one share."""

    answer_limit = 20.0  # a guest under v86 is slow, and the processor may be shared

    def __init__(self, target: V86Target, run_dir: Path, progress: Progress) -> None:
        super().__init__(target, run_dir, progress)
        self._export = self._scratch.path / TAG
        self._server = (
            Server(target.server, self.base, self._scratch.path, self._export) if target.server is not None else None
        )
        self._serving = self._server
        self.guest_mb = target.machine.memory_mb
        self.image = "debian12"
        """Its kernel's, by which known failures of Linux's client go; that it is of 32 bits is the target's name."""
        self.version = self._server.version if self._server else VERSION
        self.inside_root, self.outside_root = MOUNT_POINT, str(self._export)
        self.security_model = ""
        self.comparer = Comparer({**security_models.rules("passthrough", True), **target.profile.overrides()})
        self.outside: AgentLink = Nowhere(NO_HOST)
        self._contained: AgentLink | None = None
        """The agent whose namespace the emulator and the server live in; the vantage outside where there is one."""

    def _directories(self) -> Sequence[Path]:
        return (self._export,)

    def _bring_up(self) -> None:
        self._export.mkdir(parents=True, exist_ok=True)
        os.chmod(self._export, 0o755)
        if os.geteuid() == 0:
            self._contained, _ = self._agent_outside()
        host: set[str] = set()
        if self._server is not None:
            assert self._contained is not None, "kinds.check wants root"
            self.outside = self._contained
            self._server.start(self.launcher)
            host = {"host-root", "mount-namespace", "passthrough-ownership"}
        spec = V86Spec(
            run_dir=self.base,
            server=self._server.socket if self._server else None,
            launcher=self.launcher,
            memory_mb=self.guest_mb,
        )
        self._machine = V86Machine(spec, self.progress)
        self._machine.start()
        self._connect()
        guest = {"guest-root", "remount", "mount-tags"} | ({"trace"} if self.traced else set())
        self.features = frozenset(host | guest | set(self.target.profile.features))

    def environment(self) -> dict[str, Any]:
        """See Deployment."""
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
        """See Deployment."""
        if number:
            raise Undrivable(FEATURES["four-shares"])
        return TAG, "trans=virtio"

    def beside(self, number: int, options: MountOptions) -> Place:
        """See Deployment."""
        raise Undrivable(FEATURES["four-shares"])

    def _restart(self) -> None:
        self.machine.stop()
        if self._server is not None:
            self._server.start(self.launcher)
        self.machine.start()

    def _holder(self) -> AgentLink:
        assert self._contained is not None, "asked only where there is an agent"
        return self._contained

    def _links(self) -> Sequence[AgentLink | None]:
        return [getattr(self, "inside", None), self._contained]


class Server:
    """The process behind handle9p: the reference server, or another by its command; contained."""

    def __init__(self, table: BackendTable, base: Path, scratch: Path, export: Path) -> None:
        self._table = table
        # a socket's path holds 107 bytes, which a run directory easily is longer than
        self._directory = Path(tempfile.mkdtemp(prefix="s-", dir=paths.runtime_dir()))
        self._claim = claim(self._directory.name, (self._directory,), keep=False)
        self.socket = self._directory / "9p"
        self._log, self._base, self._scratch, self._export = base / "server.log", base, scratch, export
        self.version = "" if self._table.command else version_of("assay9")
        self.title = f"reference server {self.version}" if self.version else shlex.join(self._table.command)
        self._process: ServerProcess | None = None

    @property
    def argv(self) -> list[str]:
        """How it was started."""
        return self._process.argv if self._process else []

    def start(self, launcher: tuple[str, ...]) -> None:
        """A fresh one, in the namespace of `launcher`. Raises InfrastructureError when it does not come up."""
        self.stop()
        self.socket.unlink(missing_ok=True)
        words = {"export": str(self._export), "socket": str(self.socket), "tag": TAG}
        command = [word.format(**words) for word in self._table.command] or [
            sys.executable,
            "-m",
            "reference_server",
            "serve",
            words["export"],
            "--unix",
            words["socket"],
            *self._table.arguments,
        ]
        self._process = ServerProcess(
            [*launcher, *command], self._log, writable=[self._scratch, self._base, self._directory]
        )
        self._process.wait_until_listening(self.socket, _START)

    def source(self, number: int) -> tuple[str, str]:
        """See Serving."""
        return TAG, "trans=virtio"

    def processes(self) -> dict[str, int]:
        """As Deployment.processes has it."""
        return {"device": self._process.pid} if self._process else {}

    def death(self) -> str | None:
        """How it ended, or None while it runs."""
        return self._process.death() if self._process else None

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """That somebody else ended it, or None."""
        return self._process.ground_lost(memory) if self._process is not None else None

    def mark(self) -> int:
        """A place in its log."""
        return self._log.stat().st_size if self._log.exists() else 0

    def excerpts(self, mark: int) -> list[tuple[str, str]]:
        """What it said after that."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(mark)
            said = log.read(8000).decode(errors="replace").strip()
            return [("server log", said)] if said else []
        return []

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def remove(self) -> None:
        """End it and remove its socket; a second call does nothing."""
        self.stop()
        with contextlib.suppress(OSError):
            self.socket.unlink(missing_ok=True)
            self._directory.rmdir()
        self._claim.file.unlink(missing_ok=True)
