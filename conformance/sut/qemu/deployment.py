"""Targets of kind `qemu`: a guest under QEMU, with QEMU's own virtio-9p device under test."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from conformance.sut.options import Load
from conformance.sut.parts.linux_guest import TAGS
from conformance.sut.qemu import security_models
from conformance.sut.qemu.guest import QemuGuest
from conformance.sut.qemu.program import security_model
from conformance.sut.qemu.second_vm import Devices, SecondMachines
from conformance.sut.qemu.tables import DeviceOptions, DeviceTarget
from conformance.vfs.compare import Comparer
from conformance.vfs.deployment import Device, Place, Progress
from conformance.vfs.mount_options import MountOptions
from guests.machines.spec import SecurityModel, Share

ODD_NAME = "a name, with=odd 'characters' \N{LATIN SMALL LETTER U WITH DIAERESIS}"


class QemuDeployment(QemuGuest):
    """One machine with four shares; `share0` is the one that cases run on, unless they ask for another."""

    def __init__(
        self,
        target: DeviceTarget,
        run_dir: Path,
        progress: Progress,
        options: DeviceOptions = DeviceOptions(),  # noqa: B008 - frozen
        load: Load | None = None,
        devices: Devices = (),
    ) -> None:
        model = security_model(options.security_model, target.machine.security_model)
        super().__init__(target, run_dir, progress, options, load)
        self.security_model: str = model
        given = [*devices, *[Device(multidevs=target.machine.multidevs)] * (len(TAGS) - len(devices))]
        self.devices = [replace(d, security_model=d.security_model or model) for d in given]
        self.exports = [
            self.host.scratch.path / (ODD_NAME if device.export == "odd-name" else tag)
            for tag, device in zip(TAGS, self.devices, strict=True)
        ]
        self.spec = replace(
            self.spec,
            shares=tuple(
                Share(
                    tag=tag,
                    path=export.with_name(f"{export.name}-link") if device.export == "symlink" else export,
                    multidevs=device.multidevs,
                    readonly=device.readonly,
                    security_model=cast(SecurityModel, device.security_model),
                )
                for tag, export, device in zip(TAGS, self.exports, self.devices, strict=True)
            ),
        )
        self.outside_root = str(self.exports[0])
        self.comparer = self.comparer_for(model)
        alone = options.model_copy(update={"keep_guest": False})
        self._second = SecondMachines(lambda devices: QemuDeployment(target, run_dir, progress, alone, load, devices))

    def comparer_for(self, model: str) -> Comparer:
        """See QemuGuest; the files in which a model keeps what it maps are hidden."""
        rules = security_models.rules(model, os.geteuid() == 0)
        return Comparer({**rules, **self.target.profile.overrides()}, partial(security_models.hidden, model))

    def _bring_up(self) -> None:
        for path, share in zip(self.exports, self.spec.shares, strict=True):
            if share.path != path:
                share.path.unlink(missing_ok=True)
                share.path.symlink_to(path)
        super()._bring_up()

    def _served(self) -> set[str]:
        owners = self.security_model == "passthrough" and os.geteuid() == 0
        return {"mount-tags", "another-device"} | ({"passthrough-ownership"} if owners else set())

    def environment(self) -> dict[str, Any]:
        return {**super().environment(), "security_model": self.security_model}

    def place(self, number: int, label: str, options: MountOptions, *, in_second_machine: bool) -> Place:
        """A share of this machine, mounted so."""
        return replace(
            super().beside(number, options),
            label=label,
            export=str(self.spec.shares[number].path),
            comparer=self.comparer_for(self.devices[number].security_model),
            in_second_machine=in_second_machine,
        )

    def beside(self, number: int, options: MountOptions) -> Place:
        return self.place(number, TAGS[number], options, in_second_machine=False)

    def another(self, device: Device, options: MountOptions) -> Place:
        return self._second.place(device, options)

    def discard(self, place: Place) -> None:
        self._second.discard()

    def stop(self) -> None:
        self._second.discard()
        super().stop()
