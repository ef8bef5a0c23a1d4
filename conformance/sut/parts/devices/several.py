"""Guests whose devices have options: other exports and security models, and second machines with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conformance.sut.parts.devices.second_vm import SecondMachines
from conformance.sut.parts.devices.security_models import comparer
from conformance.sut.parts.linux_guest import TAGS, GuestDeployment, M
from conformance.vfs.deployment import Device, Place
from conformance.vfs.mount_options import MountOptions
from guests.machines.spec import SecurityModel

ODD_NAME = "a name, with=odd 'characters' \N{LATIN SMALL LETTER U WITH DIAERESIS}"

_NAMES = {"odd-name": ODD_NAME}


class SeveralDevices(GuestDeployment[M]):
    """Four devices; cases run on `share0` unless they request another."""

    devices: Sequence[Device]
    """Each with the security model that it has."""
    served: Sequence[Path]
    """What each device exports: its directory, or a symbolic link to it."""
    _second: SecondMachines

    def _lay_out(
        self,
        given: Sequence[Device],
        model: SecurityModel,
        plain: Device = Device(),  # noqa: B008 - frozen
        same: Path | None = None,
    ) -> None:
        """Name the exports: for the devices `given`, then for `plain` ones, one for each tag.

        `model`: the security model of devices that request none. `same`: what the first machine exports.
        """
        scratch = self.host.scratch.path
        devices = [*given, *[plain] * (len(TAGS) - len(given))]
        self.devices = [replace(one, security_model=one.security_model or model) for one in devices]
        self.exports = [
            same if same is not None and device.export == "same" else scratch / _NAMES.get(device.export, tag)
            for tag, device in zip(TAGS, self.devices, strict=True)
        ]
        self.served = [
            path.with_name(f"{path.name}-link") if device.export == "symlink" else path
            for path, device in zip(self.exports, self.devices, strict=True)
        ]
        self.outside_root = str(self.exports[0])

    def _make_exports(self) -> None:
        super()._make_exports()
        for path, served in zip(self.exports, self.served, strict=True):
            if served != path:
                served.unlink(missing_ok=True)
                served.symlink_to(path)

    def place(self, number: int, label: str, options: MountOptions, *, in_second_machine: bool) -> Place:
        """A share of this machine, mounted with these options."""
        return replace(
            super().beside(number, options),
            label=label,
            export=str(self.served[number]),
            comparer=comparer(self.devices[number].security_model, self.target.profile.overrides()),
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
