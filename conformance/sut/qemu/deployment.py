"""Targets of kind `qemu`: a guest under QEMU, with QEMU's own virtio-9p device under test."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from conformance.sut.options import Load
from conformance.sut.parts.devices.second_vm import Devices, SecondMachines
from conformance.sut.parts.devices.security_models import comparer
from conformance.sut.parts.devices.several import SeveralDevices
from conformance.sut.parts.linux_guest import TAGS
from conformance.sut.qemu.guest import QemuGuest
from conformance.sut.qemu.hot_plug import HotPlug, with_id, without_id
from conformance.sut.qemu.program import security_model
from conformance.sut.qemu.tables import DeviceOptions, DeviceTarget
from conformance.vfs.deployment import Device, Progress
from guests.machines.qemu.argv import FIRST_SHARE_SLOT
from guests.machines.qemu.machine import QemuMachine
from guests.machines.spec import SecurityModel, Share

_DRIVER = "virtio-9p-pci"


class QemuDeployment(SeveralDevices[QemuMachine], QemuGuest):
    """One machine with four shares."""

    def __init__(
        self,
        target: DeviceTarget,
        run_dir: Path,
        progress: Progress,
        options: DeviceOptions = DeviceOptions(),  # noqa: B008 - frozen
        load: Load | None = None,
        devices: Devices = (),
        same: Path | None = None,
    ) -> None:
        model = security_model(options.security_model, target.machine.security_model)
        super().__init__(target, run_dir, progress, options, load)
        self.security_model: str = model
        self._lay_out(devices, model, Device(multidevs=target.machine.multidevs), same)
        self.spec = replace(
            self.spec,
            shares=tuple(
                Share(
                    tag=tag,
                    path=path,
                    multidevs=device.multidevs,
                    readonly=device.readonly,
                    security_model=cast(SecurityModel, device.security_model),
                )
                for tag, path, device in zip(TAGS, self.served, self.devices, strict=True)
            ),
        )
        self.comparer = comparer(model, target.profile.overrides())
        alone = options.model_copy(update={"keep_guest": False})
        self._second = SecondMachines(
            lambda devices: QemuDeployment(target, run_dir, progress, alone, load, devices, self.exports[0])
        )

    def _connect(self) -> None:
        self.outages = HotPlug(self.machine, self._path, self._plug, self._found)
        super()._connect()

    def _path(self, number: int) -> str:
        return without_id(self.machine, _DRIVER, "mount_tag", TAGS[number])

    def _plug(self, number: int) -> str:
        """Plug the share's device in again; its fsdev is still there."""
        where = {"mount_tag": TAGS[number], "addr": f"{FIRST_SHARE_SLOT + number:#x}"}
        return with_id(self.machine, f"plugged{number}", driver=_DRIVER, fsdev=f"fs{number}", **where)

    def _served(self) -> set[str]:
        owners = self.security_model == "passthrough" and os.geteuid() == 0
        return {"mount-tags", "another-device", "hot-plug"} | ({"passthrough-ownership"} if owners else set())

    def environment(self) -> dict[str, Any]:
        return {**super().environment(), "security_model": self.security_model}
