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
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from conformance.compare import Comparer
from conformance.errors import InfrastructureError, Undrivable, UsageError
from conformance.features import FEATURES
from conformance.mounts import MountOptions
from conformance.servers.containment import contain
from conformance.servers.process import ServerProcess
from conformance.targets import security_models
from conformance.targets.backends import BackendTable
from conformance.targets.deployment import Device, Place, Progress
from conformance.targets.guest_mount import mount_9p, mounted, unmount
from conformance.targets.nowhere import Nowhere
from conformance.targets.scratch import Scratch
from conformance.targets.spec import Target
from guests import paths
from guests.agentlink import AgentLink, LinkLost, LocalChannel
from guests.processes import claim
from guests.v86.machine import TAG, V86Machine, V86Spec
from guests.v86.program import VERSION

NO_HOST = "a vantage outside: v86's own server keeps its files in the emulator's memory"
MOUNT_POINT = f"/mnt/{TAG}"
_START = 60.0
_ANSWER = 20.0
"""Seconds that a guest has to answer at all: one under v86 is slow, and the processor may be shared."""


class V86Deployment:
    """One machine with one share."""

    def __init__(self, target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> None:
        self.target, self.run_dir, self.progress = target, run_dir, progress
        self.base = Path(tempfile.mkdtemp(prefix="machine-", dir=run_dir))
        os.chmod(self.base, 0o755)
        self._scratch = Scratch()
        self._export = self._scratch.path / TAG
        self._server = Server(target, self.base, self._scratch.path, self._export) if target.server else None
        self.image = "debian12"
        """Its kernel's, by which known failures of Linux's client go; that it is of 32 bits is the target's name."""
        self.version = self._server.version if self._server else VERSION
        self.inside_root, self.outside_root = MOUNT_POINT, str(self._export)
        self.control_root = "/control/assay9"
        self.security_model = ""
        self.comparer = Comparer({**security_models.rules("passthrough", True), **target.profile.overrides()})
        self.traced = False
        self.features: frozenset[str] = frozenset()
        self.launcher: tuple[str, ...] = ()
        self.outside: AgentLink = Nowhere(NO_HOST)
        self._holder: AgentLink | None = None
        self._machine: V86Machine | None = None
        self._mounted: tuple[MountOptions, str] | None = None

    @property
    def machine(self) -> V86Machine:
        """The running machine."""
        if self._machine is None:
            raise InfrastructureError("the guest is not running")
        return self._machine

    def start(self) -> None:
        """See Deployment."""
        self._export.mkdir(parents=True, exist_ok=True)
        os.chmod(self._export, 0o755)
        launcher: tuple[str, ...] = ()
        if os.geteuid() == 0:
            # The namespace that the emulator and the server live in: an agent of this host, which is also the
            # vantage outside where there is one.
            writable = [self._scratch.path, self.base, paths.runtime_dir(), paths.cache_dir()]
            channel = LocalChannel(stderr=self.base / "outside-agent.log",
                                   prepare=partial(contain, [os.fsencode(p) for p in writable]))  # fmt: skip
            self._holder = AgentLink(channel)
            self._holder.call("getpid")
            launcher = ("nsenter", f"--mount=/proc/{channel.pid}/ns/mnt", "--")
        self.launcher = launcher
        host: set[str] = set()
        if self._server is not None:
            assert self._holder is not None, "kinds.check wants root"
            self.outside = self._holder
            self._server.start(launcher)
            host = {"host-root", "mount-namespace", "passthrough-ownership"}
        spec = V86Spec(run_dir=self.base, server=self._server.socket if self._server else None, launcher=launcher,
                       memory_mb=self.target.machine.memory_mb)  # fmt: skip
        self._machine = V86Machine(spec, self.progress)
        self._machine.start()
        self._connect()
        guest = {"guest-root", "remount"} | ({"trace"} if self.traced else set())
        self.features = frozenset(host | guest | set(self.target.profile.features))

    def _connect(self) -> None:
        self.inside = AgentLink(self.machine.agent_channel())
        self.control = self.inside
        self.inside.call("rmtree", self.control_root)
        self.inside.call("mkdir", self.control_root)
        self.kernel = self.inside.call("uname")[2]
        self.traced = self.inside.call("trace_begin")
        self._mounted = None

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
        }

    def mount(self, options: MountOptions) -> str:
        """See Deployment."""
        last, self._mounted = self._mounted, None
        if last is None or last[0] != options or mounted(self.inside, MOUNT_POINT) != last[1]:
            unmount(self.inside, MOUNT_POINT)
            last = (options, mount_9p(self.inside, MOUNT_POINT, options, *self.road(0)))
        self._mounted = last
        return last[1]

    def road(self, number: int) -> tuple[str, str]:
        """See Deployment."""
        if number:
            raise Undrivable(FEATURES["four-shares"])
        return TAG, "trans=virtio"

    def beside(self, number: int, options: MountOptions) -> Place:
        """See Deployment."""
        raise Undrivable(FEATURES["four-shares"])

    def another(self, device: Device, options: MountOptions) -> Place:
        """See Deployment."""
        raise Undrivable(FEATURES["qemu-machine"])

    def discard(self, place: Place) -> None:
        """See Deployment."""

    def processes(self) -> dict[str, int]:
        """See Deployment."""
        guest = self._machine.pid if self._machine is not None else 0
        if self._server is None:
            return {"device": guest} if guest else {}
        return self._server.processes() | ({"hypervisor": guest} if guest else {})

    def mark(self) -> Any:
        """See Deployment."""
        return self.machine.console.mark(), self._server.mark() if self._server else 0

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """See Deployment."""
        found = [(f"console: {event.kind}", event.text) for event in self.machine.console.since(mark[0])]
        return [*found, *(self._server.excerpts(mark[1]) if self._server else [])]

    def trouble(self) -> str | None:
        """See Deployment."""
        if self._server is not None and (death := self._server.death()) is not None:
            return death
        if not self.machine.alive():
            return self.machine.why_dead()
        try:
            self.inside.call("getpid", timeout=_ANSWER)
        except LinkLost as e:
            return f"the guest no longer answers: {e}"
        except Exception as e:  # noqa: BLE001 - whatever it is, the guest does not serve
            return f"the guest's agent does not serve: {e}"
        return None

    def recover(self) -> None:
        """See Deployment."""
        with contextlib.suppress(InfrastructureError, OSError):
            self.inside.close()
        self.machine.stop()
        if self._server is not None:
            self._server.start(self.launcher)
        self.machine.start()
        self._connect()

    def stop(self) -> None:
        """See Deployment."""
        for link in (getattr(self, "inside", None), self._holder):
            if link is not None:
                with contextlib.suppress(InfrastructureError, OSError):
                    link.close()
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.stop()
        if self._server is not None:
            self._server.remove()
        self._scratch.remove()


class Server:
    """The process behind handle9p: the reference server, or another by its command; contained."""

    def __init__(self, target: Target, base: Path, scratch: Path, export: Path) -> None:
        """Raises UsageError, one line, for a [server] that names none."""
        try:
            self._table = BackendTable(**target.server)
        except ValidationError as error:
            raise UsageError(f"target {target.name}: [server]: {error.errors()[0]['msg']}") from None
        if self._table.program != "reference" and not self._table.command:
            raise UsageError(f"target {target.name}: [server] wants program = 'reference', or a command")
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
            sys.executable, "-m", "reference_server", "serve", words["export"], "--unix", words["socket"],
            *self._table.arguments]  # fmt: skip
        self._process = ServerProcess([*launcher, *command], self._log,
                                      writable=[self._scratch, self._base, self._directory])  # fmt: skip
        self._process.wait_until(self.socket.exists, _START)

    def processes(self) -> dict[str, int]:
        """As Deployment.processes has it."""
        return {"device": self._process.pid} if self._process else {}

    def death(self) -> str | None:
        """How it ended, or None while it runs."""
        return self._process.death() if self._process else None

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
