"""A device of QEMU as a server of raw frames: QEMU runs under qtest, and its processor is never started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from conformance.errors import InfrastructureError
from conformance.sut.parts.process import ServerProcess
from conformance.sut.parts.scratch import Scratch
from conformance.sut.qemu.program import find_program, program_version
from conformance.sut.servers.devices import TAG, OverRings
from conformance.sut.servers.owners import OwnProcess
from conformance.sut.servers.tables import ClientTable
from conformance.virtio.device import Device, DeviceGone
from conformance.virtio.pci import LegacyDevice, ModernDevice
from conformance.virtio.qtest import QtestBus
from guests.host.progress import Progress, silent
from guests.host.waiting import wait_until

_START = 20.0
SLOT = 4
MEGABYTES = 256
_DESCRIPTORS = 1024
"""As processes have them by default. QEMU keeps so many files open at most and closes others behind their fids: with a
higher limit no case would meet that."""


class QtestServer(OwnProcess, OverRings):
    """QEMU's own virtio-9p device, in a machine whose processor is never started."""

    shows_reset = True
    """See Device."""
    export: Path | None = None

    def __init__(
        self,
        run_dir: Path,
        *,
        qemu: str = "qemu-system-x86_64",
        arguments: Sequence[str] = (),
        security_model: str = "passthrough",
        legacy: bool = False,
        packed: bool = True,
        progress: Progress = silent,
    ) -> None:
        self.spec = ClientTable()
        self._qemu, self._progress = qemu, progress
        self.program = ""
        self.arguments, self.security_model, self.legacy, self.packed = arguments, security_model, legacy, packed
        self.name = "QEMU"
        self.aname = b""
        self.tag: bytes | None = TAG
        self.run_dir = run_dir
        self.export = run_dir / "export"
        self.process: ServerProcess | None = None
        self._short: Scratch | None = None
        self._device: Device | None = None

    def start(self) -> None:
        assert self.export is not None
        self.program = find_program(self._qemu, self._progress)
        self.export.mkdir(parents=True, exist_ok=True)
        os.chmod(self.run_dir, 0o755)
        if self._short is None:
            self._short = Scratch()
        path = self._short.path / "q"
        path.unlink(missing_ok=True)
        self.process = ServerProcess(
            self._command(path),
            self.run_dir / "server.log",
            writable=(self.run_dir, self._short.path),
            descriptors=_DESCRIPTORS,
        )
        self.process.wait_until_listening(path, _START)
        self._open(path)

    def _command(self, path: Path) -> list[str]:
        return [
            self.program,
            "-M",
            "pc",
            "-accel",
            "tcg",
            "-m",
            str(MEGABYTES),
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-qtest",
            f"unix:{path},server=on,wait=off",
            "-qtest-log",
            "/dev/null",
            *self.devices(),
            *self.arguments,
        ]

    def devices(self) -> list[str]:
        """QEMU's arguments for the device in `SLOT`, and for a processor that does nothing."""
        only = "disable-modern=on,disable-legacy=off" if self.legacy else "disable-legacy=on,disable-modern=off"
        packed = ",packed=on" if self.packed else ""
        return [
            "-S",
            "-fsdev",
            f"local,id=f,path={self.export},security_model={self.security_model}",
            "-device",
            f"virtio-9p-pci,fsdev=f,mount_tag={TAG.decode()},addr={SLOT:#x},{only}{packed}",
        ]

    def _open(self, path: Path) -> None:
        def connected() -> QtestBus | None:
            try:
                return QtestBus(str(path), SLOT, MEGABYTES, "qtest virtio-9p-pci")
            except (OSError, DeviceGone):
                if (death := self.death()) is not None:
                    raise InfrastructureError(f"QEMU over qtest: {death}: {self.log()[-300:]}") from None
                return None

        bus = wait_until(connected, _START, "QEMU did not answer over qtest", interval=0.005)
        self._device = LegacyDevice(bus) if self.legacy else ModernDevice(bus, shows_reset=self.shows_reset)

    def device(self) -> Device:
        if self._device is None:
            raise InfrastructureError("QEMU is not running")
        self._device.reset()
        return self._device

    def stop(self) -> None:
        if self._device is not None:
            self._device.close()
            self._device = None
        if self.process is not None:
            self.process.stop()
        if self._short is not None:
            self._short.remove()
            self._short = None

    def version(self) -> str:
        with contextlib.suppress(InfrastructureError):
            return program_version(self.program)
        return ""
