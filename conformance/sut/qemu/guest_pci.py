"""QEMU's virtio-9p device, driven from user space inside a stock guest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError
from conformance.ground import GroundLost
from conformance.sut.parts.linux_guest import TAGS
from conformance.sut.qemu.deployment import QemuDeployment
from conformance.sut.servers.devices import PROGRAM, FromGuest
from conformance.sut.servers.tables import ClientTable
from conformance.virtio.device import Device, DeviceGone
from conformance.virtio.guest_pci import GuestBus, by_shell
from conformance.virtio.pci import LegacyDevice, ModernDevice
from guests.access.shell import Shell
from guests.host.endings import OutOfMemory
from guests.machines.qemu.machine import QemuMachine


class GuestServer(FromGuest):
    """A guest as the vfs layer starts it; its first share's device is taken from the kernel."""

    def __init__(self, make: Callable[[], QemuDeployment], *, legacy: bool = False) -> None:
        """`make` gives a deployment that is not yet started; each start takes another one."""
        self.spec = ClientTable()
        self.name = "QEMU"
        self.tag: bytes | None = TAGS[0].encode()
        self._legacy = legacy
        self._make = make
        self._deployment: QemuDeployment | None = None

    @property
    def export(self) -> Path | None:
        return self._deployment.exports[0] if self._deployment is not None else None

    def start(self) -> None:
        self._deployment = self._make()
        try:
            self._deployment.start()
            self.take()
        except BaseException:
            self.stop()
            raise

    def _machine(self) -> QemuMachine:
        if self._deployment is None:
            raise InfrastructureError("the guest is not running")
        return self._deployment.machine

    def shell(self) -> Shell:
        """A root shell in the guest."""
        return self._machine().shell()

    def take(self, *, over_ssh: bool = False) -> Device:
        """Take the device from the guest's kernel. `over_ssh`: by SSH, which every guest has, not by the faster
        launcher of our own guests.
        """
        machine = self._machine()
        try:
            channel = by_shell(machine.shell()) if over_ssh else machine.python_channel(PROGRAM)
            self._bus = GuestBus(channel, TAGS[0])
            self._device = LegacyDevice(self._bus) if self._legacy else ModernDevice(self._bus)
        except DeviceGone as error:
            raise InfrastructureError(str(error)) from None
        return self._device

    def death(self) -> str | None:
        if self._deployment is None:
            return "the guest is not running"
        return None if self._deployment.machine.alive() else self._deployment.machine.why_dead()

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        return self._deployment.ground_lost() if self._deployment is not None else None

    def pid(self) -> int | None:
        return self._deployment.machine.pid if self._deployment is not None else None

    def stop(self) -> None:
        self.give_back()
        if self._deployment is not None:
            self._deployment.stop()
            self._deployment = None

    def argv(self) -> list[str]:
        return [str(word) for word in self._deployment.machine.argv] if self._deployment is not None else []

    def surroundings(self) -> dict[str, Any]:
        return self.about_guest(self._deployment) if self._deployment is not None else {}

    def version(self) -> str:
        return self._deployment.version if self._deployment is not None else ""
