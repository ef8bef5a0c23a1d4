"""Targets of kind `uml`: a User-Mode Linux guest whose virtio-9p devices are vhost-user back ends of this host.

The devices are processes, `program = "reference"` or any other back end by its own command; each serves one share. The
server and the guest live in the mount namespace of the run, like QEMU does for targets of kind `qemu`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from functools import partial
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
from conformance.targets.deployment import Device, Place, Progress
from conformance.targets.guest_mount import mount_9p, mounted, unmount
from conformance.targets.qemu import TAGS, mount_point
from conformance.targets.scratch import Scratch
from conformance.targets.spec import Strict, Target
from guests import paths
from guests.agentlink import AgentLink, LinkLost, LocalChannel
from guests.processes import claim
from guests.uml.machine import Device as Backend
from guests.uml.machine import UmlMachine, UmlSpec
from guests.uml.memory import memory_root

_START = 60.0
"""Seconds that a back end has to make its socket; it takes about one."""


class BackendTable(Strict):
    """[server] of a target of this kind."""

    program: str = "reference"
    command: tuple[str, ...] = ()
    """argv of another back end; {export}, {socket} and {tag} are filled in."""
    arguments: tuple[str, ...] = ()
    """Further arguments for the reference server."""


class UmlDeployment:
    """One guest with four shares, each a back end process of its own."""

    def __init__(self, target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> None:
        if os.geteuid() != 0:
            raise UsageError(f"target {target.name} needs root: a server under test is contained")
        try:
            self._table = BackendTable(**target.server)
        except ValidationError as error:
            raise UsageError(f"target {target.name}: [server]: {error.errors()[0]['msg']}") from None
        if self._table.program != "reference" and not self._table.command:
            raise UsageError(f"target {target.name}: [server] wants program = 'reference', or a command")
        self.target, self.run_dir, self.progress = target, run_dir, progress
        self.base = Path(tempfile.mkdtemp(prefix="machine-", dir=run_dir))
        os.chmod(self.base, 0o755)
        self._scratch = Scratch()
        self.exports = [self._scratch.path / tag for tag in TAGS]
        # a socket's path holds 107 bytes, which a run directory easily is longer than
        self._sockets = Path(tempfile.mkdtemp(prefix="v-", dir=paths.runtime_dir()))
        self._memory = Path(tempfile.mkdtemp(prefix="assay9-", dir=memory_root(target.machine.memory_mb)))
        self._claim = claim(self._sockets.name, (self._sockets, self._memory), keep=False)
        self.image = options.get("image") or target.machine.image
        self._packages = tuple(options.get("packages", ()))
        self.version = _version() if self._table.program == "reference" else ""
        self.inside_root, self.outside_root = mount_point(0), str(self.exports[0])
        self.control_root = "/control/assay9"
        self.security_model = ""
        self.comparer = Comparer({**security_models.rules("passthrough", True), **target.profile.overrides()})
        self.traced = False
        self.features: frozenset[str] = frozenset()
        self.launcher: tuple[str, ...] = ()
        self._machine: UmlMachine | None = None
        self._backends: list[ServerProcess] = []
        self._mounted: dict[int, tuple[MountOptions, str]] = {}

    @property
    def machine(self) -> UmlMachine:
        """The running machine."""
        if self._machine is None:
            raise InfrastructureError("the guest is not running")
        return self._machine

    def start(self) -> None:
        """See Deployment."""
        for path in self.exports:
            path.mkdir(parents=True, exist_ok=True)
            os.chmod(path, 0o755)
        writable = [self._scratch.path, self.base, paths.runtime_dir(), paths.cache_dir(), self._memory]
        channel = LocalChannel(stderr=self.base / "outside-agent.log",
                               prepare=partial(contain, [os.fsencode(p) for p in writable]))  # fmt: skip
        self.outside = AgentLink(channel)
        self.outside.call("getpid")
        self.launcher = ("nsenter", f"--mount=/proc/{channel.pid}/ns/mnt", "--")
        self._serve()
        spec = UmlSpec(
            run_dir=self.base,
            devices=tuple(Backend(self._socket(number)) for number in range(len(TAGS))),
            image=self.image,
            extra_packages=self._packages,
            memory_mb=self.target.machine.memory_mb,
            launcher=self.launcher,
            memory_dir=self._memory,
            network=False,
        )
        self._machine = UmlMachine(spec, self.progress)
        self._machine.start()
        self._connect()
        host = {"host-root", "mount-namespace", "passthrough-ownership"}
        guest = {"guest-root", "remount", "four-shares"} | ({"trace"} if self.traced else set())
        self.features = frozenset(host | guest | set(self.target.profile.features))

    def _socket(self, number: int) -> Path:
        return self._sockets / TAGS[number]

    def _command(self, number: int) -> list[str]:
        words = {"export": str(self.exports[number]), "socket": str(self._socket(number)), "tag": TAGS[number]}
        if self._table.command:
            return [word.format(**words) for word in self._table.command]
        return [sys.executable, "-m", "reference_server", "serve", words["export"], "--vhost-user", words["socket"],
                "--tag", words["tag"], *self._table.arguments]  # fmt: skip

    def _serve(self) -> None:
        """Fresh back ends. Raises InfrastructureError when one does not come up."""
        self._end_backends()
        for number in range(len(TAGS)):
            self._socket(number).unlink(missing_ok=True)
            self._backends.append(ServerProcess(
                [*self.launcher, *self._command(number)], self.base / f"device-{TAGS[number]}.log",
                writable=[self._scratch.path, self.base, self._sockets],
            ))  # fmt: skip
        for number, backend in enumerate(self._backends):
            backend.wait_until(self._socket(number).exists, _START)

    def _end_backends(self) -> None:
        backends, self._backends = self._backends, []
        for backend in backends:
            backend.stop()

    def _connect(self) -> None:
        self.inside = AgentLink(self.machine.agent_channel())
        self.control = self.inside
        self.inside.call("rmtree", self.control_root)
        self.inside.call("mkdir", self.control_root)
        self.kernel = self.inside.call("uname")[2]
        self.traced = self.inside.call("trace_begin")
        self._mounted.clear()

    def environment(self) -> dict[str, Any]:
        """See Deployment."""
        name = f"reference device {self.version}" if self.version else shlex.join(self._table.command)
        return {
            "target_version": name,
            "argv": self.machine.argv,
            "server_argv": self._backends[0].argv if self._backends else [],
            "hypervisor": f"User-Mode Linux {self.machine.kernel.manifest['release']}",
            "guest_image": self.image,
            "guest_kernel": self.kernel,
            "accelerator": self.machine.accelerator,
        }

    def mount(self, options: MountOptions) -> str:
        """See Deployment."""
        return self._mount(0, options)

    def _mount(self, number: int, options: MountOptions) -> str:
        """Mount that share so, unless it is; its line of /proc/mounts."""
        last, where = self._mounted.pop(number, None), mount_point(number)
        if last is None or last[0] != options or mounted(self.inside, where) != last[1]:
            unmount(self.inside, where)
            last = (options, mount_9p(self.inside, TAGS[number], where, options, "trans=virtio"))
        self._mounted[number] = last
        return last[1]

    def beside(self, number: int, options: MountOptions) -> Place:
        """See Deployment."""
        line = self._mount(number, options)
        return Place(
            label=TAGS[number], deployment=self, inside_root=mount_point(number),
            outside_root=str(self.exports[number]), export=str(self.exports[number]), mount_line=line,
            comparer=self.comparer, in_second_machine=False,
        )  # fmt: skip

    def another(self, device: Device, options: MountOptions) -> Place:
        """See Deployment."""
        raise Undrivable(FEATURES["qemu-machine"])

    def discard(self, place: Place) -> None:
        """See Deployment."""

    def processes(self) -> dict[str, int]:
        """See Deployment."""
        guest = self._machine.pid if self._machine is not None else 0
        device = {"device": self._backends[0].pid} if self._backends else {}
        return device | ({"hypervisor": guest} if guest else {})

    def mark(self) -> Any:
        """See Deployment."""
        return self.machine.console.mark(), _size(self._log)

    @property
    def _log(self) -> Path:
        return self.base / f"device-{TAGS[0]}.log"

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """See Deployment."""
        console, size = mark
        found = [(f"console: {event.kind}", event.text) for event in self.machine.console.since(console)]
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(size)
            said = log.read(8000).decode(errors="replace").strip()
            return [*found, *([("device log", said)] if said else [])]
        return found

    def trouble(self) -> str | None:
        """See Deployment."""
        for backend in self._backends:
            if (death := backend.death()) is not None:
                return death
        if not self.machine.alive():
            return self.machine.why_dead()
        try:
            self.inside.call("getpid", timeout=5.0)
        except LinkLost as e:
            return f"the guest no longer answers: {e}"
        except Exception as e:  # noqa: BLE001 - whatever it is, the guest does not serve
            return f"the guest's agent does not serve: {e}"
        return None

    def recover(self) -> None:
        """See Deployment. A device that died cannot be had back by its guest: both are started anew."""
        with contextlib.suppress(InfrastructureError, OSError):
            self.inside.close()
        self.machine.stop()
        self._serve()
        self.machine.start()
        self._connect()

    def stop(self) -> None:
        """See Deployment."""
        for name in ("inside", "outside"):
            link = getattr(self, name, None)
            if link is not None:
                with contextlib.suppress(InfrastructureError, OSError):
                    link.close()
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.stop()
        self._end_backends()
        self._scratch.remove()
        for directory in (self._sockets, self._memory):
            with contextlib.suppress(OSError):
                for left in directory.iterdir():
                    left.unlink()
                directory.rmdir()
        self._claim.file.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415

    return version("assay9")
