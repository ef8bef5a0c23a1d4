"""The project's own device in QEMU, driven over qtest: for raw frames and rings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from conformance.ground import GroundLost
from conformance.sut.qemu.qtest import MEGABYTES, SLOT, QtestServer
from conformance.sut.servers.vhost_user import ReferenceDevice
from guests.host.endings import OutOfMemory
from guests.host.progress import Progress, silent

_RESET_VECTOR = b"\xf4\xeb\xfd"
"""hlt, and hlt again: interrupts are off after a reset, so the processor never does anything."""
_ROM = 1 << 16
_CONFIG_SIZE = 2 + 32


class ReferenceInQemu(QtestServer):
    """The project's own device as a PCI function of QEMU (vhost-user-test-device-pci, since 11.0), driven over qtest.

    QEMU starts a vhost device only while its machine runs, so that the processor cannot be stopped as it is for
    QEMU's own device: it runs a ROM that halts it.
    """

    shows_reset = False
    """QEMU keeps the status of a vhost-user device itself (vub_set_status in hw/virtio/vhost-user-base.c)."""

    def __init__(
        self,
        run_dir: Path,
        back: ReferenceDevice,
        *,
        qemu: str = "qemu11",
        arguments: Sequence[str] = (),
        progress: Progress = silent,
    ) -> None:
        super().__init__(run_dir, qemu=qemu, arguments=arguments, progress=progress)
        self.name = "reference device in QEMU"
        self._back = back

    def start(self) -> None:
        self._back.start()
        (self.run_dir / "halt.rom").write_bytes(_RESET_VECTOR.rjust(_ROM - 13, b"\xf4").ljust(_ROM, b"\xf4"))
        super().start()

    def devices(self) -> list[str]:
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
        return self._back.death() or super().death()

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        return self._back.ground_lost(memory) or super().ground_lost(memory)

    def pid(self) -> int | None:
        """See Server: the device's process, not QEMU's."""
        return self._back.pid()

    def stop(self) -> None:
        super().stop()
        self._back.stop()

    def version(self) -> str:
        return self._back.version()
