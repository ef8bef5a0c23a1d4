"""The virtio-9p device of a machine that is reached over SSH, driven from user space inside its guest.

The deployment starts as for a mounted share, which proves that the share is the directory. Then the share is unmounted,
and its device is taken from the guest's kernel until the server stops.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError
from conformance.sut.attach.deployment import AttachDeployment
from conformance.sut.servers.devices import PROGRAM, FromGuest
from conformance.sut.servers.tables import ClientTable
from conformance.virtio.device import DeviceGone
from conformance.virtio.guest_pci import GuestBus
from conformance.virtio.pci import LegacyDevice, ModernDevice
from guests.agent.link import AgentLink


class AttachedDevice(FromGuest):
    """The device of the share that a deployment attaches to."""

    export: Path | None = None

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

    @property
    def far(self) -> tuple[AgentLink, str] | None:
        if self.export is not None:
            return None
        return self._deployment.outside, self._deployment.attached.outside.path

    def start(self) -> None:
        if self._started:
            self._deployment = self._make()
        self._started = True
        try:
            self._deployment.start()
            self._take(self._deployment.free_device(PROGRAM))
        except BaseException:
            self.stop()
            raise

    def _take(self, bus: GuestBus) -> None:
        self._bus = bus
        try:
            try:
                self._device = ModernDevice(bus)
            except InfrastructureError:  # bhyve's device, for example, has only the legacy interface
                self._device = LegacyDevice(bus)
        except DeviceGone as error:
            raise InfrastructureError(str(error)) from None

    def stop(self) -> None:
        """See Server: the guest's kernel has the device again."""
        self.give_back()
        self._deployment.stop()

    def argv(self) -> list[str]:
        return self._deployment.started_by()

    def surroundings(self) -> dict[str, Any]:
        return self.about_guest(self._deployment)

    def version(self) -> str:
        version = self._deployment.version
        return "" if version == self.name else version.removeprefix(f"{self.name} ")
