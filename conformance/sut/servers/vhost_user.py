"""vhost-user back ends as servers: one that somebody else runs, and the reference's own device.

Rule of this module: how a back end is started and reached; the front end is `conformance.virtio.vhost_user`, or QEMU's.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from conformance.errors import InfrastructureError, UsageError
from conformance.sut.servers.devices import TAG, OverRings
from conformance.sut.servers.programs import ReferenceServer
from conformance.sut.servers.tables import ReferenceTable, VhostUserTable
from conformance.transports.virtqueue import RingLink
from conformance.virtio.device import Device, DeviceGone
from conformance.virtio.vhost_user import VhostUserDevice


@dataclass(frozen=True, slots=True)
class Variant:
    """How the front end differs from Linux's drivers."""

    inband: bool = False
    """Notifications in messages, where the back end offers them."""
    legacy: bool = False
    """A driver from before virtio 1."""

    @staticmethod
    def of(transport: str) -> Variant:
        """The variant that a transport's name says: vhost-user-inband, vhost-user-legacy."""
        return Variant(inband=transport.endswith("-inband"), legacy=transport.endswith("-legacy"))


class _FrontEnd(OverRings):
    """The connection to a back end at a socket, made on first use and again after it broke."""

    variant: Variant
    tag: bytes | None = None
    _device: VhostUserDevice | None = None

    def _path(self) -> str:
        raise NotImplementedError

    def device(self) -> Device:
        other = _served.get(self._path())
        if other is not None and other is not self:
            other.hang_up()  # the other layer's, which is finished: a back end has one front end at a time
        _served[self._path()] = self
        if self._device is not None:
            try:
                self._device.reset()
                return self._device
            except DeviceGone:
                self.hang_up()
        try:
            self._device = VhostUserDevice(self._path(), inband=self.variant.inband, legacy=self.variant.legacy)
        except (OSError, DeviceGone) as error:
            raise InfrastructureError(
                f"no vhost-user back end answers at {self._path()}: {error}", "start the device, then run again"
            ) from None
        return self._device

    def hang_up(self) -> None:
        """Close the connection."""
        _served.pop(self._path(), None)
        if self._device is not None:
            self._device.close()
            self._device = None


_served: dict[str, _FrontEnd] = {}
"""Socket -> who of this process is its front end."""


class VhostUserServer(_FrontEnd):
    """A back end at the user's socket, which this module neither starts nor ends."""

    export: Path | None = None

    def __init__(self, spec: VhostUserTable, variant: Variant = Variant()) -> None:
        if not spec.address:
            raise UsageError("say where the vhost-user back end listens: --address PATH of its unix socket")
        self.spec, self.variant = spec, variant
        self.name = f"vhost-user {spec.address}"
        self.export = Path(spec.export).resolve() if spec.export else None
        self.aname = spec.attached(self.export)

    def check(self) -> None:
        """Refuse anything but a back end of a 9P device, before a run begins. Raises InfrastructureError."""
        try:
            self.device().config(0, 2)
        except DeviceGone as error:
            raise InfrastructureError(f"{self.name}: {error}", "start a vhost-user back end there") from None
        finally:
            self.hang_up()

    def _path(self) -> str:
        return self.spec.address

    def start(self) -> None:
        self.device()

    def stop(self) -> None:
        self.hang_up()


class ReferenceDevice(_FrontEnd, ReferenceServer):
    """The project's own device, started as a user would."""

    capabilities = RingLink.capabilities

    def __init__(self, spec: ReferenceTable, run_dir: Path, variant: Variant = Variant()) -> None:
        ReferenceServer.__init__(self, spec, run_dir)
        self.variant = variant
        self.name = "reference device"
        self.tag = TAG

    def _further(self, directory: Path) -> Self:
        return type(self)(self.spec, directory, self.variant)

    def _listening(self) -> list[str]:
        return ["--vhost-user", self.socket_path, "--tag", TAG.decode()]

    def _path(self) -> str:
        return self.socket_path

    def _listens(self) -> bool:
        # The path alone is not enough: it exists before anybody listens. The probe is a front end that disconnects at
        # once.
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.socket_path) == 0

    def stop(self) -> None:
        self.hang_up()
        ReferenceServer.stop(self)
