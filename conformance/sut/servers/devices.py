"""Virtio devices as servers: what all of them offer, whoever starts them.

Rule of this module: how a device is reached as a server; its rings are driven by `conformance.transports`.
"""

from __future__ import annotations

from conformance.errors import Finding, InfrastructureError
from conformance.ground import GroundLost
from conformance.transports.base import Capability, Link
from conformance.transports.virtqueue import RingLink
from conformance.virtio.device import Device, DeviceGone
from guests.host.endings import OutOfMemory

TAG = b"assay9"
"""The mount tag of devices that the suite starts."""


class OverRings:
    """What servers behind a device have in common."""

    capabilities: frozenset[Capability] = RingLink.capabilities
    name = ""
    patience = 1.0

    def device(self) -> Device:
        """See DeviceServer."""
        raise NotImplementedError

    def death(self) -> str | None:
        """See Server."""
        return None

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """See Server."""
        return None

    def connect(self) -> Link:
        """See Server."""
        try:
            return RingLink(self.device())
        except (DeviceGone, Finding) as error:
            raise InfrastructureError(f"{self.name}: {error}") from None
