"""Targets of kind `uml`: a User-Mode Linux guest whose virtio-9p devices are vhost-user back ends of this host.

The devices are processes, `program = "reference"` or any other back end by its own command; each serves one share. The
server and the guest live in the run's mount namespace, like QEMU for targets of kind `qemu`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from conformance.errors import Undrivable
from conformance.ground import memory_place
from conformance.sut.options import Load
from conformance.sut.parts.devices.second_vm import Devices, SecondMachines
from conformance.sut.parts.devices.security_models import comparer
from conformance.sut.parts.devices.several import SeveralDevices
from conformance.sut.parts.guest_tables import GuestOptions
from conformance.sut.parts.serving import Backends
from conformance.sut.uml.outage import UmlOutages
from conformance.sut.uml.tables import UmlTarget
from conformance.vfs.deployment import Device, Place, Progress
from conformance.vfs.mount_options import MountOptions
from guests.host.files import remove_tree
from guests.host.processes import Running, claim
from guests.images.store import Image
from guests.machines.uml.machine import UmlMachine
from guests.machines.uml.memory import memory_root
from guests.machines.uml.spec import Device as Backend
from guests.machines.uml.spec import UmlSpec

SETS: tuple[Devices, ...] = (
    (Device("passthrough"), Device("mapped-xattr")),
    (Device(readonly=True), Device(export="symlink"), Device(export="odd-name")),
    (Device(export="same"),),
)
"""Devices that share a machine; see `second_vm`."""


def _arguments(device: Device) -> list[str]:
    """The options of the reference server for it."""
    mapped = ["--mapped"] if device.security_model == "mapped-xattr" else []
    return mapped + (["--readonly"] if device.readonly else [])


class UmlDeployment(SeveralDevices[UmlMachine]):
    """One guest with four shares, each a back end process of its own."""

    def __init__(
        self,
        target: UmlTarget,
        run_dir: Path,
        progress: Progress,
        options: GuestOptions = GuestOptions(),  # noqa: B008 - frozen
        load: Load | None = None,
        devices: Devices = (),
        same: Path | None = None,
    ) -> None:
        super().__init__(target, run_dir, progress, options.export_fs)
        self._lay_out(devices, "passthrough", same=same)
        more = [_arguments(device) for device in self.devices]
        self._backends = Backends(target.server, self.base, self.host.scratch.path, self.served, more=more)
        self._serving = self._backends
        self._foreign = bool(target.server.command)
        """The back ends are not the project's own."""
        self.guest_mb = target.machine.memory_mb
        self._memory: Path | None = None
        self._claim: Running | None = None
        self._root = options.image or target.machine.image
        self.image = f"uml-{self._root}"
        """Not the image's name alone: the kernel is another, and known failures are mostly the kernel's."""
        self._packages = load.packages if load is not None else ()
        self.version = self._backends.version
        self.inside_root = self.mount_point(0)
        self.comparer = comparer("passthrough", target.profile.overrides())
        self._second = SecondMachines(
            lambda devices: UmlDeployment(target, run_dir, progress, options, load, devices, self.exports[0]), SETS
        )

    def _bring_up(self) -> None:
        self._make_exports()
        if self._memory is None:
            self._memory = Path(tempfile.mkdtemp(prefix="assay9-", dir=memory_root(self.guest_mb)))
            self._claim = claim(f"memory-{self._memory.name}", (self._memory,), keep=False)
            self.host.ground.places += (memory_place(self._memory),)
        self.outside = self._agent_outside(self._memory)
        self._backends.start(self.host.launcher)
        spec = UmlSpec(
            run_dir=self.base,
            devices=tuple(Backend(socket) for socket in self._backends.sockets),
            image=self._root,
            extra_packages=self._packages,
            memory_mb=self.guest_mb,
            launcher=self.host.launcher,
            memory_dir=self._memory,
            network=False,
        )
        self._machine = UmlMachine(spec, self.progress)
        self._machine.start()
        self._connect()
        host = {"host-root", "mount-namespace", "passthrough-ownership"}
        own = {"server-restart", "server-loss-seen"}
        guest = {"guest-root", "remount", "four-shares", "mount-tags"} | own | ({"trace"} if self.traced else set())
        other = set() if self._foreign else {"another-device"}
        self.features = frozenset(host | guest | other | set(self.target.profile.features))

    def _connect(self) -> None:
        self.outages = UmlOutages(self._backends)
        super()._connect()

    def suite_image(self) -> Image:
        return self.machine.image

    def environment(self) -> dict[str, Any]:
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

    def another(self, device: Device, options: MountOptions) -> Place:
        if self._foreign:
            raise Undrivable("the options of a back end that is started by its own command are not known")
        if device.security_model not in ("", "passthrough", "mapped-xattr"):
            raise Undrivable(f"the reference server has no security_model={device.security_model}")
        if device.multidevs != "remap":
            raise Undrivable("multidevs is an option of QEMU")
        return super().another(device, options)

    def _restart(self) -> None:
        """A guest cannot get a dead device back: both are started again."""
        self.machine.stop()
        self._backends.start(self.host.launcher)
        self.machine.start()

    def stop(self) -> None:
        super().stop()
        if self._memory is not None and self._claim is not None:
            remove_tree(self._memory)
            self._claim.file.unlink(missing_ok=True)
