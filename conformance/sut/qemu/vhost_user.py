"""Targets of kind `qemu` with a [server]: QEMU's guest, but the 9P devices are vhost-user back ends of this host.

The machine is restored without them (a snapshot cannot hold a vhost-user device) and each is plugged in afterwards,
as vhost-user-test-device-pci, which QEMU has since 11: any virtio device, told by its number.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.errors import Undrivable
from conformance.features import FEATURES
from conformance.ground import GroundLost
from conformance.sut.backends import Backends
from conformance.sut.linux_guest import TAGS
from conformance.sut.qemu.deployment import QemuDeployment
from conformance.sut.spec import Target
from conformance.vfs.deployment import Device, Place, Progress
from conformance.vfs.mount_options import MountOptions
from guests.machines.qemu.machine import MachineSpec

_FIRST_SLOT = 0x10
_CONFIG_SIZE = 34
"""At least 2 + the tag's length, or Linux traces in p9_virtio_probe."""
_PLUG = 20.0
"""Seconds that the guest has to find a device."""


class VhostQemuDeployment(QemuDeployment):
    """One machine of QEMU without any virtio-9p device of its own; its four are plugged in."""

    def __init__(self, target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> None:
        super().__init__(target, run_dir, progress, options)
        self._backends = Backends(target, self.base, self._scratch.path, self.exports)
        self.hypervisor, self.version = f"QEMU {self.version}", self._backends.version
        memory = f"memory-backend-memfd,id=mem,size={self.spec.memory_mb}M,share=on"
        self.spec = replace(
            self.spec, qemu_args=("-object", memory, "-machine", "memory-backend=mem", *self.spec.qemu_args)
        )

    def machine_spec(self, launcher: tuple[str, ...]) -> MachineSpec:
        """See QemuDeployment."""
        return replace(super().machine_spec(launcher), shares=())

    def _bring_up(self) -> None:
        super()._bring_up()
        self.features -= {"qemu-machine"}

    def _connect(self) -> None:
        self._backends.start(self.launcher)
        for number, socket in enumerate(self._backends.sockets):
            where = {"type": "unix", "data": {"path": str(socket)}}
            backend = {"type": "socket", "data": {"addr": where, "server": False}}
            self.machine.qmp("chardev-add", id=f"v{number}", backend=backend)
            self.machine.qmp(
                "device_add",
                driver="vhost-user-test-device-pci",
                id=f"p{number}",
                chardev=f"v{number}",
                addr=f"{_FIRST_SLOT + number:#x}",
                num_vqs=1,
                config_size=_CONFIG_SIZE,
                **{"virtio-id": 9},
            )
        super()._connect()
        deadline, tags = time.monotonic() + _PLUG, "cat /sys/bus/virtio/drivers/9pnet_virtio/virtio*/mount_tag"
        found = b""
        while time.monotonic() < deadline:
            found = self.inside.call("run", ["sh", "-c", tags])["stdout"]
            if all(tag.encode() in found for tag in TAGS):
                return
            self.inside.call("sleep", 0.1)
        # No error of the machine's: a device with which the guest's driver cannot agree is found by mounting it.
        self.progress(
            f"the guest found {found.decode(errors='replace').split()} of {', '.join(TAGS)} within "
            f"{_PLUG:.0f} s: what is missing cannot be mounted"
        )

    def environment(self) -> dict[str, Any]:
        """See Deployment."""
        return {
            **super().environment(),
            "target_version": self._backends.title,
            "hypervisor": self.hypervisor,
            "server_argv": self._backends.argv,
        }

    def another(self, device: Device, options: MountOptions) -> Place:
        """See Deployment."""
        raise Undrivable(FEATURES["qemu-machine"])

    def processes(self) -> dict[str, int]:
        """See Deployment."""
        hypervisor = super().processes().get("device")
        return self._backends.processes() | ({"hypervisor": hypervisor} if hypervisor else {})

    def mark(self) -> Any:
        """See Deployment."""
        return super().mark(), self._backends.mark()

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """See Deployment."""
        return [*super().excerpts(mark[0]), *self._backends.excerpts(mark[1])]

    def _server_death(self) -> str | None:
        return self._backends.death()

    def _servers_lost(self) -> GroundLost | None:
        return self._backends.ground_lost(self._ground.memory)

    def _end_servers(self) -> None:
        self._backends.remove()
