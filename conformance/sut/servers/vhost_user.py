"""vhost-user back ends as servers: one that somebody else runs, and the reference's own device, alone and in QEMU.

Rule of this module: how a back end is started and reached; the front end is `conformance.virtio.vhost_user`, or QEMU's.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from conformance.errors import InfrastructureError, UsageError
from conformance.ground import GroundLost
from conformance.sut.servers.programs import ReferenceServer
from conformance.sut.servers.qtest import MEGABYTES, SLOT, TAG, OverRings, QtestServer
from conformance.sut.servers.spec import ServerSpec
from conformance.transports.virtqueue import RingLink
from conformance.virtio.device import Device, DeviceGone
from conformance.virtio.vhost_user import VhostUserDevice
from guests.host.endings import OutOfMemory


class _FrontEnd(OverRings):
    """What has a back end at a socket: one connection, made when it is first wanted and again after it broke."""

    spec: ServerSpec
    tag: bytes | None = None
    _device: VhostUserDevice | None = None

    def _path(self) -> str:
        raise NotImplementedError

    def device(self) -> Device:
        """See DeviceServer."""
        other = _served.get(self._path())
        if other is not None and other is not self:
            other.hang_up()  # the other layer's, whose turn is over: a back end has one front end at a time
        _served[self._path()] = self
        if self._device is not None:
            try:
                self._device.reset()
                return self._device
            except DeviceGone:
                self.hang_up()
        try:
            told = self.spec.options
            self._device = VhostUserDevice(
                self._path(), inband=bool(told.get("inband")), legacy=bool(told.get("legacy"))
            )
        except (OSError, DeviceGone) as error:
            raise InfrastructureError(
                f"no vhost-user back end answers at {self._path()}: {error}", "start the device, then run again"
            ) from None
        return self._device

    def hang_up(self) -> None:
        """Give the connection up."""
        _served.pop(self._path(), None)
        if self._device is not None:
            self._device.close()
            self._device = None


_served: dict[str, _FrontEnd] = {}
"""Socket -> who of this process is its front end."""


class VhostUserServer(_FrontEnd):
    """A back end at a socket of the user's; never started nor ended from here."""

    def __init__(self, spec: ServerSpec, run_dir: Path) -> None:
        if not spec.address:
            raise UsageError("say where the vhost-user back end listens: --address PATH of its unix socket")
        self.spec = spec
        self.name = f"vhost-user {spec.address}"
        self.export = Path(spec.export).resolve() if spec.export else None
        self.aname = os.fsencode(spec.aname.format(export=self.export or ""))

    def check(self) -> None:
        """Refuse in one line, before a run begins, what is no back end of a 9P device. Raises InfrastructureError."""
        try:
            self.device().config(0, 2)
        except DeviceGone as error:
            raise InfrastructureError(f"{self.name}: {error}", "start a vhost-user back end there") from None
        finally:
            self.hang_up()

    def _path(self) -> str:
        return self.spec.address

    def start(self) -> None:
        """See Server."""
        self.device()

    def stop(self) -> None:
        """See Server."""
        self.hang_up()

    def pid(self) -> int | None:
        """See Server."""
        return None

    def argv(self) -> list[str]:
        """See Server."""
        return []

    def log_size(self) -> int:
        """See Server."""
        return 0

    def log(self, since: int = 0) -> str:
        """See Server."""
        return ""

    def version(self) -> str:
        """See Server."""
        return ""


class ReferenceDevice(_FrontEnd, ReferenceServer):
    """The project's own device, started as a user would."""

    capabilities = RingLink.capabilities

    def __init__(self, spec: ServerSpec, run_dir: Path) -> None:
        ReferenceServer.__init__(self, spec, run_dir)
        self.name = "reference device"
        self.tag = TAG

    def command(self) -> list[str]:
        """See ReferenceServer."""
        return [
            sys.executable,
            "-m",
            "reference_server",
            "serve",
            str(self.exported),
            "--vhost-user",
            self.socket_path,
            "--tag",
            TAG.decode(),
            *self.spec.arguments,
        ]

    def _path(self) -> str:
        return self.socket_path

    def _listens(self) -> bool:
        # Not the path alone: it is there before anybody listens.  The probe is a front end that leaves at once.
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.socket_path) == 0

    def stop(self) -> None:
        """See Server."""
        self.hang_up()
        ReferenceServer.stop(self)

    def death(self) -> str | None:
        """See Server."""
        return ReferenceServer.death(self)

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """See Server."""
        return ReferenceServer.ground_lost(self, memory)


_RESET_VECTOR = b"\xf4\xeb\xfd"
"""hlt, and hlt again: interrupts are off after a reset, so the processor never does anything."""
_ROM = 1 << 16
_CONFIG_SIZE = 2 + 32


class ReferenceInQemu(QtestServer):
    """The project's own device as a PCI function of QEMU (vhost-user-test-device-pci, since 11.0), driven over qtest.

    QEMU starts a vhost device only while its machine runs, so that the processor cannot be stopped as it is for
    QEMU's own device: it runs a ROM that halts it.
    """

    def __init__(self, spec: ServerSpec, run_dir: Path) -> None:
        super().__init__(spec, run_dir)
        self.name = "reference device in QEMU"
        self._back = ReferenceDevice(spec.model_copy(update={"arguments": []}), run_dir)

    def start(self) -> None:
        """See Server."""
        self._back.start()
        (self.run_dir / "halt.rom").write_bytes(_RESET_VECTOR.rjust(_ROM - 13, b"\xf4").ljust(_ROM, b"\xf4"))
        super().start()

    def devices(self) -> list[str]:
        """See QtestServer."""
        return [
            "-bios",
            str(self.run_dir / "halt.rom"),
            "-machine",
            "memory-backend=mem",
            "-object",
            f"memory-backend-memfd,id=mem,size={MEGABYTES}M,share=on",
            "-chardev",
            f"socket,id=back,path={self._back.socket_path}",
            "-device",
            f"vhost-user-test-device-pci,virtio-id=9,num_vqs=1,chardev=back,config_size={_CONFIG_SIZE},addr={SLOT:#x}",
        ]

    def death(self) -> str | None:
        """See Server."""
        return self._back.death() or super().death()

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """See Server."""
        return self._back.ground_lost(memory) or super().ground_lost(memory)

    def pid(self) -> int | None:
        """See Server: the device's process, not QEMU's."""
        return self._back.pid()

    def stop(self) -> None:
        """See Server."""
        super().stop()
        self._back.stop()

    def version(self) -> str:
        """See Server."""
        return self._back.version()
