"""Targets of kind `uml`: a User-Mode Linux guest whose virtio-9p devices are vhost-user back ends of this host.

The devices are processes, `program = "reference"` or any other back end by its own command; each serves one share. The
server and the guest live in the mount namespace of the run, like QEMU does for targets of kind `qemu`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from conformance.compare import Comparer
from conformance.errors import InfrastructureError, Undrivable
from conformance.features import FEATURES
from conformance.mounts import MountOptions
from conformance.servers.containment import contain
from conformance.targets import security_models
from conformance.targets.backends import Backends
from conformance.targets.deployment import Device, Place, Progress
from conformance.targets.guest_mount import mount_9p, mounted, unmount
from conformance.targets.qemu import TAGS, mount_point
from conformance.targets.scratch import Scratch
from conformance.targets.spec import Target
from guests import paths
from guests.agentlink import AgentLink, LinkLost, LocalChannel
from guests.files import remove_tree
from guests.processes import claim
from guests.uml.machine import Device as Backend
from guests.uml.machine import UmlMachine, UmlSpec
from guests.uml.memory import memory_root


class UmlDeployment:
    """One guest with four shares, each a back end process of its own."""

    def __init__(self, target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> None:
        self.target, self.run_dir, self.progress = target, run_dir, progress
        self.base = Path(tempfile.mkdtemp(prefix="machine-", dir=run_dir))
        os.chmod(self.base, 0o755)
        self._scratch = Scratch()
        self.exports = [self._scratch.path / tag for tag in TAGS]
        self._backends = Backends(target, self.base, self._scratch.path, self.exports)
        self._memory = Path(tempfile.mkdtemp(prefix="assay9-", dir=memory_root(target.machine.memory_mb)))
        self._claim = claim(f"memory-{self._memory.name}", (self._memory,), keep=False)
        self._root = options.get("image") or target.machine.image
        self.image = f"uml-{self._root}"
        """Not the image's name alone: the kernel is another, and known failures are mostly the kernel's."""
        self._packages = tuple(options.get("packages", ()))
        self.version = self._backends.version
        self.inside_root, self.outside_root = mount_point(0), str(self.exports[0])
        self.control_root = "/control/assay9"
        self.security_model = ""
        self.comparer = Comparer({**security_models.rules("passthrough", True), **target.profile.overrides()})
        self.traced = False
        self.features: frozenset[str] = frozenset()
        self.launcher: tuple[str, ...] = ()
        self._machine: UmlMachine | None = None
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
        self._backends.start(self.launcher)
        spec = UmlSpec(
            run_dir=self.base,
            devices=tuple(Backend(socket) for socket in self._backends.sockets),
            image=self._root,
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
        return {
            "target_version": self._backends.title,
            "argv": self.machine.argv,
            "server_argv": self._backends.argv,
            "hypervisor": f"User-Mode Linux {self.machine.kernel.manifest['release']}",
            "guest_image": self._root,
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
            last = (options, mount_9p(self.inside, where, options, *self.road(number)))
        self._mounted[number] = last
        return last[1]

    def road(self, number: int) -> tuple[str, str]:
        """See Deployment."""
        return TAGS[number], "trans=virtio"

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
        return self._backends.processes() | ({"hypervisor": guest} if guest else {})

    def mark(self) -> Any:
        """See Deployment."""
        return self.machine.console.mark(), self._backends.mark()

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """See Deployment."""
        found = [(f"console: {event.kind}", event.text) for event in self.machine.console.since(mark[0])]
        return [*found, *self._backends.excerpts(mark[1])]

    def trouble(self) -> str | None:
        """See Deployment."""
        if (death := self._backends.death()) is not None:
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
        self._backends.start(self.launcher)
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
        self._backends.remove()
        self._scratch.remove()
        remove_tree(self._memory)
        self._claim.file.unlink(missing_ok=True)
