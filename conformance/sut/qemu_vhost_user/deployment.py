"""Targets of kind `qemu-vhost-user`: QEMU's guest, with vhost-user back ends of this host as 9P devices. The machine is
restored without them (a snapshot cannot hold a vhost-user device) and each is plugged in afterwards, as
vhost-user-test-device-pci, which QEMU has since 11: any virtio device, chosen by its number.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from conformance.errors import InfrastructureError
from conformance.sut.options import Load
from conformance.sut.parts.linux_guest import TAGS
from conformance.sut.parts.serving import Backends
from conformance.sut.qemu.guest import QemuGuest
from conformance.sut.qemu.hot_plug import HotPlug, with_id
from conformance.sut.qemu.tables import MachineOptions
from conformance.sut.qemu_vhost_user.tables import VhostUserTarget
from conformance.vfs.deployment import Progress
from guests.host.waiting import happens

_FIRST_SLOT = 0x10
_CONFIG_SIZE = 34
"""At least 2 + the tag's length, or Linux traces in p9_virtio_probe."""
_PLUG = 20.0
"""Seconds that the guest has to find a device."""
_RECONNECT_MS = 100
"""How often QEMU tries to reach a back end that is gone."""


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
        self.outages = HotPlug(self.machine, self._path, self._plug_again, self._found, self._backends)
        for number in range(len(TAGS)):
            self._plug(number)
        super()._connect()
        if happens(lambda: not self._missing(), _PLUG, 0.1):
            return
        # Not an error of the machine: mounting will reveal a device on which the guest's driver cannot agree.
        self.progress(
            f"the guest found no {', '.join(self._missing())} within {_PLUG:.0f} s: what is missing cannot be mounted"
        )

    def _missing(self) -> list[str]:
        """The mount tags of the devices that the guest has not found."""
        found = self._tags_found()
        return [tag for tag in TAGS if tag not in found]

    def _served(self) -> set[str]:
        return {*super()._served(), "hot-plug", "server-restart"}

    def _path(self, number: int) -> str:
        return f"/machine/peripheral/p{number}"

    def _plug(self, number: int) -> str:
        """Connect QEMU with the share's back end, and plug the device in."""
        where = {"type": "unix", "data": {"path": str(self._backends.sockets[number])}}
        backend = {"addr": where, "server": False, "reconnect-ms": _RECONNECT_MS}
        self.machine.qmp("chardev-add", id=f"v{number}", backend={"type": "socket", "data": backend})
        # QEMU connects in the background where it is to connect again.
        if not happens(lambda: self._connected(number), _PLUG, 0.02):
            raise InfrastructureError(f"QEMU does not reach the back end at {self._backends.sockets[number]}")
        return with_id(
            self.machine,
            f"p{number}",
            driver="vhost-user-test-device-pci",
            chardev=f"v{number}",
            addr=f"{_FIRST_SLOT + number:#x}",
            num_vqs=1,
            config_size=_CONFIG_SIZE,
            **{"virtio-id": 9},
        )

    def _connected(self, number: int) -> bool:
        known = {one["label"]: one["filename"] for one in self.machine.qmp("query-chardev")}
        return not known[f"v{number}"].startswith("disconnected")

    def _plug_again(self, number: int) -> str:
        self.machine.qmp("chardev-remove", id=f"v{number}")
        return self._plug(number)
