"""Virtio devices as servers: QEMU's over qtest, anybody's vhost-user back end, the reference's own.

Rule of this module: how a device is started and reached; its rings are driven by `conformance.transports`.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from conformance.errors import Finding, InfrastructureError
from conformance.ground import GroundLost
from conformance.sut.process import ServerProcess
from conformance.sut.scratch import Scratch
from conformance.sut.servers.spec import ServerSpec
from conformance.transports.base import Capability, Link
from conformance.transports.virtqueue import RingLink
from conformance.virtio.device import Device, DeviceGone
from conformance.virtio.pci import LegacyDevice, ModernDevice
from conformance.virtio.qtest import QtestBus
from guests.host.endings import OutOfMemory

TAG = b"assay9"
"""The mount tag of devices that the suite starts."""
_START = 20.0
SLOT = 4
MEGABYTES = 256


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


class QtestServer(OverRings):
    """QEMU's own virtio-9p device, in a machine whose processor is never started."""

    def __init__(self, spec: ServerSpec, run_dir: Path) -> None:
        self.spec = spec
        from conformance.sut.qemu.deployment import find_program  # noqa: PLC0415 - it imports this package

        self.program = find_program(str(spec.options.get("qemu", "qemu-system-x86_64")))
        self.legacy = bool(spec.options.get("legacy", False))
        self.name = "QEMU"
        self.aname = b""
        self.tag: bytes | None = TAG
        self.run_dir = run_dir
        self.export: Path | None = run_dir / "export"
        self.process: ServerProcess | None = None
        self._short: Scratch | None = None
        self._device: Device | None = None

    def start(self) -> None:
        """See Server."""
        assert self.export is not None
        self.export.mkdir(parents=True, exist_ok=True)
        os.chmod(self.run_dir, 0o755)
        if self._short is None:
            self._short = Scratch()
        path = self._short.path / "q"
        path.unlink(missing_ok=True)
        self.process = ServerProcess(
            self._command(path), self.run_dir / "server.log", writable=(self.run_dir, self._short.path)
        )
        self.process.wait_until(path.exists, _START)
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
            *self.spec.arguments,
        ]

    def devices(self) -> list[str]:
        """QEMU's arguments for the device in `SLOT`, and for a processor that does nothing."""
        model = str(self.spec.options.get("security_model", "passthrough"))
        only = "disable-modern=on,disable-legacy=off" if self.legacy else "disable-legacy=on,disable-modern=off"
        packed = ",packed=on" if self.spec.options.get("packed", True) else ""
        return [
            "-S",
            "-fsdev",
            f"local,id=f,path={self.export},security_model={model}",
            "-device",
            f"virtio-9p-pci,fsdev=f,mount_tag={TAG.decode()},addr={SLOT:#x},{only}{packed}",
        ]

    def _open(self, path: Path) -> None:
        deadline = time.monotonic() + _START
        while True:
            try:
                bus = QtestBus(str(path), SLOT, MEGABYTES, "qtest virtio-9p-pci")
                break
            except (OSError, DeviceGone) as error:
                death = self.death()
                if death is not None or time.monotonic() > deadline:
                    raise InfrastructureError(f"QEMU over qtest: {death or error}: {self.log()[-300:]}") from None
                time.sleep(0.005)
        self._device = LegacyDevice(bus) if self.legacy else ModernDevice(bus)

    def device(self) -> Device:
        """See DeviceServer."""
        if self._device is None:
            raise InfrastructureError("QEMU is not running")
        self._device.reset()
        return self._device

    def death(self) -> str | None:
        """See Server."""
        return self.process.death() if self.process else "not started"

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """See Server."""
        return self.process.ground_lost(memory) if self.process else None

    def pid(self) -> int | None:
        """See Server."""
        return self.process.pid if self.process else None

    def stop(self) -> None:
        """See Server."""
        if self._device is not None:
            self._device.close()
            self._device = None
        if self.process is not None:
            self.process.stop()
        if self._short is not None:
            self._short.remove()
            self._short = None

    def argv(self) -> list[str]:
        """See Server."""
        return self.process.argv if self.process else []

    def log_size(self) -> int:
        """See Server."""
        return self.process.log_size() if self.process else 0

    def log(self, since: int = 0) -> str:
        """See Server."""
        return self.process.tail(20000, since) if self.process else ""

    def version(self) -> str:
        """See Server."""
        from conformance.sut.qemu.deployment import program_version  # noqa: PLC0415 - it imports this package

        with contextlib.suppress(InfrastructureError):
            return program_version(self.program)
        return ""
