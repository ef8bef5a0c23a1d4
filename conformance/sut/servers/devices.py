"""Virtio devices as servers: what they share, whoever starts them.

Rule of this module: how a device is reached as a server; its rings are driven by `conformance.transports`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from conformance.errors import Finding, InfrastructureError
from conformance.raw.server import DeviceServer
from conformance.transports.base import Capability, Link
from conformance.transports.virtqueue import RingLink
from conformance.vfs.deployment import Deployment
from conformance.virtio import guest_pci_payload
from conformance.virtio.device import Device, DeviceGone
from conformance.virtio.guest_pci import GuestBus

TAG = b"assay9"
"""The mount tag of devices that the suite starts."""
PROGRAM = Path(guest_pci_payload.__file__)
"""What drives a device from user space inside a guest."""
_SURROUNDINGS = ("access", "guest_kernel", "guest", "outside")
"""What a record says of a guest's surroundings, whatever layer runs in it."""


class OverRings(DeviceServer):
    """The base of servers behind a device."""

    capabilities: frozenset[Capability] = RingLink.capabilities
    name = ""
    patience = 1.0

    def connect(self) -> Link:
        try:
            return RingLink(self.device())
        except (DeviceGone, Finding) as error:
            raise InfrastructureError(f"{self.name}: {error}") from None


class FromGuest(OverRings):
    """A device that is taken from a guest's kernel until `give_back`, and driven from user space inside that guest."""

    patience = 20.0
    aname = b""
    _bus: GuestBus | None = None
    _device: Device | None = None

    def device(self) -> Device:
        if self._device is None:
            raise InfrastructureError("the device is not taken from the guest's kernel")
        self._device.reset()
        return self._device

    def about_guest(self, deployment: Deployment) -> dict[str, Any]:
        """The `surroundings` of a guest that a deployment has started, or found."""
        seen = deployment.environment()
        return {name: seen[name] for name in _SURROUNDINGS if name in seen}

    def give_back(self) -> None:
        """Return it to the guest's kernel, so that a mount works."""
        device, bus, self._device, self._bus = self._device, self._bus, None, None
        if device is not None:
            with contextlib.suppress(DeviceGone):
                device.reset()
        if bus is not None:
            bus.close()
