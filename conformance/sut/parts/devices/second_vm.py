"""Second machines: the same hypervisor and guest with other devices, for cases that need another share.

One worker has at most one of them beside its own machine. It is started (under QEMU restored from the same snapshot:
the guest does not see the host's side of a device) when a case first requests one of its devices. It serves the
following cases, and is ended when another set is requested or the run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from conformance.vfs.deployment import Device, Place
from conformance.vfs.mount_options import MountOptions

Devices = tuple[Device, ...]

SETS: tuple[Devices, ...] = (
    (Device("passthrough"), Device("mapped-xattr"), Device("mapped-file"), Device("none")),
    (Device(readonly=True), Device(export="symlink"), Device(multidevs="forbid"), Device(export="odd-name")),
    (Device(export="same"),),
)
"""Devices that share a machine, so that cases that ask for one after the other cost one start."""


class Machine(Protocol):
    """A machine with shares: a deployment of the same kind."""

    def start(self) -> None:
        """Bring it up. Raises InfrastructureError."""

    def place(self, number: int, label: str, options: MountOptions, *, in_second_machine: bool) -> Place:
        """Mount its share `number` with these options."""

    def stop(self) -> None:
        """End it."""


class SecondMachines:
    """The second machine of one worker."""

    def __init__(self, make: Callable[[Devices], Machine], sets: Sequence[Devices] = SETS) -> None:
        self._make, self._sets = make, sets
        self._devices: Devices = ()
        self._machine: Machine | None = None

    def place(self, device: Device, options: MountOptions) -> Place:
        """A share with that device, mounted with these options."""
        machine = self._with(device)
        number = self._devices.index(device)
        return machine.place(number, str(device), options, in_second_machine=True)

    def discard(self) -> None:
        """End the machine, if there is one."""
        if self._machine is not None:
            machine, self._machine, self._devices = self._machine, None, ()
            machine.stop()

    def _with(self, device: Device) -> Machine:
        if self._machine is None or device not in self._devices:
            self.discard()
            self._devices = next((devices for devices in self._sets if device in devices), (device,))
            self._machine = self._make(self._devices)
            try:
                self._machine.start()
            except BaseException:
                self.discard()
                raise
        return self._machine
