"""Targets of kind `qemu-vhost-user`: QEMU's guest, with vhost-user back ends of this host as 9P devices. The machine is
restored without them (a snapshot cannot hold a vhost-user device) and each is plugged in afterwards, as
vhost-user-test-device-pci, which QEMU has since 11: any virtio device, chosen by its number.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from conformance.sut.options import Load
from conformance.sut.parts.linux_guest import TAGS
from conformance.sut.parts.serving import Backends
from conformance.sut.qemu.guest import QemuGuest
from conformance.sut.qemu.tables import MachineOptions
from conformance.sut.qemu_vhost_user.tables import VhostUserTarget
from conformance.vfs.deployment import Progress
from guests.host.waiting import happens

_FIRST_SLOT = 0x10
_CONFIG_SIZE = 34
"""At least 2 + the tag's length, or Linux traces in p9_virtio_probe."""
_PLUG = 20.0
"""Seconds that the guest has to find a device."""


class VhostQemuDeployment(QemuGuest):
    """One machine of QEMU without any virtio-9p device of its own; its four are plugged in."""

    def __init__(
        self,
        target: VhostUserTarget,
        run_dir: Path,
        progress: Progress,
        options: MachineOptions = MachineOptions(),  # noqa: B008 - frozen
        load: Load | None = None,
    ) -> None:
        super().__init__(target, run_dir, progress, options, load)
        self._backends = Backends(target.server, self.base, self.host.scratch.path, self.exports)
        self._serving, self.version = self._backends, self._backends.version
        memory = f"memory-backend-memfd,id=mem,size={self.spec.memory_mb}M,share=on"
        self.spec = replace(
            self.spec, qemu_args=("-object", memory, "-machine", "memory-backend=mem", *self.spec.qemu_args)
        )

    def _connect(self) -> None:
        self._backends.start(self.host.launcher)
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
        missing = [*TAGS]

        def all_found() -> bool:
            # Some kernels print the tags without a separator.
            tags = "cat /sys/bus/virtio/drivers/9pnet_virtio/virtio*/mount_tag"
            said = self.inside.calls.run(["sh", "-c", tags])["stdout"]
            missing[:] = [tag for tag in TAGS if tag.encode() not in said]
            return not missing

        if happens(all_found, _PLUG, 0.1):
            return
        # Not an error of the machine: mounting will reveal a device on which the guest's driver cannot agree.
        self.progress(
            f"the guest found no {', '.join(missing)} within {_PLUG:.0f} s: what is missing cannot be mounted"
        )
