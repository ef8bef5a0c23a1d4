"""Targets of kind `uml`: a User-Mode Linux guest whose virtio-9p devices are vhost-user back ends of this host.

The devices are processes, `program = "reference"` or any other back end by its own command; each serves one share. The
server and the guest live in the mount namespace of the run, like QEMU does for targets of kind `qemu`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conformance.errors import Undrivable
from conformance.features import FEATURES
from conformance.ground import GroundLost, memory_place
from conformance.sut.backends import Backends
from conformance.sut.linux_guest import TAGS, GuestDeployment
from conformance.sut.qemu import security_models
from conformance.sut.spec import Target
from conformance.vfs.compare import Comparer
from conformance.vfs.deployment import Device, Place, Progress
from conformance.vfs.mount_options import MountOptions
from guests.host.files import remove_tree
from guests.host.processes import Running, claim
from guests.machines.uml.machine import Device as Backend
from guests.machines.uml.machine import UmlMachine, UmlSpec
from guests.machines.uml.memory import memory_root


class UmlDeployment(GuestDeployment[UmlMachine]):
    """One guest with four shares, each a back end process of its own."""

    def __init__(self, target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> None:
        super().__init__(target, run_dir, progress)
        self.exports = [self._scratch.path / tag for tag in TAGS]
        self._backends = Backends(target, self.base, self._scratch.path, self.exports)
        self._memory: Path | None = None
        self._claim: Running | None = None
        self._root = options.get("image") or target.machine.image
        self.image = f"uml-{self._root}"
        """Not the image's name alone: the kernel is another, and known failures are mostly the kernel's."""
        self._packages = tuple(options.get("packages", ()))
        self.version = self._backends.version
        self.inside_root, self.outside_root = self.mount_point(0), str(self.exports[0])
        self.security_model = ""
        self.comparer = Comparer({**security_models.rules("passthrough", True), **target.profile.overrides()})

    def _directories(self) -> Sequence[Path]:
        return self.exports

    def _bring_up(self) -> None:
        for path in self.exports:
            path.mkdir(parents=True, exist_ok=True)
            os.chmod(path, 0o755)
        if self._memory is None:
            self._memory = Path(tempfile.mkdtemp(prefix="assay9-", dir=memory_root(self.target.machine.memory_mb)))
            self._claim = claim(f"memory-{self._memory.name}", (self._memory,), keep=False)
            self._ground.places += (memory_place(self._memory),)
        self.outside, _ = self._agent_outside(self._memory)
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
        guest = {"guest-root", "remount", "four-shares", "mount-tags"} | ({"trace"} if self.traced else set())
        self.features = frozenset(host | guest | set(self.target.profile.features))

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
            "access": self.machine.reached_by,
        }

    def beside(self, number: int, options: MountOptions) -> Place:
        """See Deployment."""
        line = self._mount(number, options)
        return Place(
            label=TAGS[number],
            deployment=self,
            inside_root=self.mount_point(number),
            outside_root=str(self.exports[number]),
            export=str(self.exports[number]),
            mount_line=line,
            comparer=self.comparer,
            in_second_machine=False,
        )

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
        return super().mark(), self._backends.mark()

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """See Deployment."""
        return [*super().excerpts(mark[0]), *self._backends.excerpts(mark[1])]

    def _server_death(self) -> str | None:
        return self._backends.death()

    def _restart(self) -> None:
        """A device that died cannot be had back by its guest: both are started anew."""
        self.machine.stop()
        self._backends.start(self.launcher)
        self.machine.start()

    def _servers_lost(self) -> GroundLost | None:
        return self._backends.ground_lost(self._ground.memory)

    def _end_servers(self) -> None:
        self._backends.remove()
        if self._memory is not None and self._claim is not None:
            remove_tree(self._memory)
            self._claim.file.unlink(missing_ok=True)
