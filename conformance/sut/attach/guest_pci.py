"""The virtio-9p device of a machine that is reached over SSH, driven from user space inside its guest.

The deployment starts as for a mounted share, so that the share is shown to be the directory; then the share is
unmounted, and its device taken from the guest's kernel until the server stops.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from conformance.errors import InfrastructureError
from conformance.sut.attach.deployment import AttachDeployment
from conformance.sut.servers.devices import OverRings
from conformance.sut.servers.owners import SomebodyElses
from conformance.sut.servers.tables import ClientTable
from conformance.virtio import guest_pci_payload as guest_side
from conformance.virtio.device import Device, DeviceGone
from conformance.virtio.guest_pci import GuestBus
from conformance.virtio.pci import LegacyDevice, ModernDevice

_PROGRAM = Path(guest_side.__file__)


class AttachedDevice(SomebodyElses, OverRings):
    """The device of the share that a deployment attaches to."""

    patience = 20.0
    aname = b""

    def __init__(self, make: Callable[[], AttachDeployment]) -> None:
        """`make` gives a deployment that is not yet started; each start takes another one."""
        self.spec = ClientTable()
        self._make = make
        self._deployment = make()
        self._started = False
        attached = self._deployment.attached
        self.tag: bytes | None = attached.tag.encode()
        self.name = attached.implementation or f"the device of {attached.guest}"
        self.export = Path(attached.outside.path) if attached.outside.host is None else None
        self._bus: GuestBus | None = None
        self._device: Device | None = None

    def start(self) -> None:
        if self._started:
            self._deployment = self._make()
        self._started = True
        try:
            self._deployment.start()
            self._take(self._deployment.free_device(_PROGRAM))
        except BaseException:
            self.stop()
            raise

    def _take(self, bus: GuestBus) -> None:
        self._bus = bus
        try:
            try:
                self._device = ModernDevice(bus)
            except InfrastructureError:  # bhyve's, for one, has the legacy interface alone
                self._device = LegacyDevice(bus)
        except DeviceGone as error:
            raise InfrastructureError(str(error)) from None

    def device(self) -> Device:
        if self._device is None:
            raise InfrastructureError("the device is not taken from the guest's kernel")
        self._device.reset()
        return self._device

    def stop(self) -> None:
        """See Server: the guest's kernel has the device again."""
        device, bus, self._device, self._bus = self._device, self._bus, None, None
        if device is not None:
            with contextlib.suppress(DeviceGone):
                device.reset()
        if bus is not None:
            bus.close()
        self._deployment.stop()

    def argv(self) -> list[str]:
        return self._deployment.started_by()

    def version(self) -> str:
        version = self._deployment.version
        return "" if version == self.name else version
