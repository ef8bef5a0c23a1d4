"""Kind `qemu`: a guest under QEMU, and QEMU's own virtio-9p device under test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.sut.kind import Asked, Transports
from conformance.sut.layers import BELOW
from conformance.sut.qemu.program import security_model
from conformance.sut.qemu.tables import DeviceOptions, QemuTarget
from conformance.sut.qemu.under_qemu import UnderQemu
from conformance.sut.registry import register
from guests.machines.qemu import check as qemu_check

if TYPE_CHECKING:
    from conformance.raw.server import Server
    from conformance.vfs.deployment import Deployment, Progress


class Qemu(UnderQemu[QemuTarget, DeviceOptions]):
    """See the module."""

    name = "qemu"
    title = "a guest under QEMU, with QEMU's own virtio-9p device under test"
    model, options = QemuTarget, DeviceOptions
    needs = qemu_check.SHARES

    def transports(self, target: QemuTarget) -> Transports:
        return dict.fromkeys(("qtest", "qtest-legacy", "guest-pci"), "virtqueues")

    def leaves_out(self, target: QemuTarget, options: Mapping[str, object]) -> dict[str, str]:
        asked = options.get("security_model")
        model = security_model(str(asked) if asked else None, target.machine.security_model)
        if not model.startswith("mapped"):
            return {}
        why = f"its cases look for the guest's owners and modes on the host, and {model} keeps them elsewhere"
        return dict.fromkeys(map(str, BELOW), why)

    def check(self, asked: Asked[QemuTarget, DeviceOptions]) -> None:
        security_model(asked.options.security_model, asked.target.machine.security_model)
        super().check(asked)

    def deployment(self, asked: Asked[QemuTarget, DeviceOptions], run_dir: Path, progress: Progress) -> Deployment:
        from conformance.sut.qemu.deployment import QemuDeployment  # noqa: PLC0415 - see conformance.sut.kind

        return QemuDeployment(asked.target, run_dir, progress, asked.options, asked.load)

    def server(
        self, asked: Asked[QemuTarget, DeviceOptions], transport: str, directory: Path, progress: Progress
    ) -> Server:
        from conformance.sut.qemu.deployment import QemuDeployment  # noqa: PLC0415 - see conformance.sut.kind
        from conformance.sut.qemu.guest_pci import GuestServer  # noqa: PLC0415 - as above
        from conformance.sut.qemu.qtest import QtestServer  # noqa: PLC0415 - as above

        machine, options = asked.target.machine, asked.options
        alone = options.model_copy(update={"keep_guest": False})
        if transport == "guest-pci":
            return GuestServer(lambda: QemuDeployment(asked.target, directory, progress, alone))
        return QtestServer(
            directory,
            qemu=options.qemu or machine.program,
            arguments=(*machine.arguments, *options.qemu_args),
            security_model=options.security_model or machine.security_model,
            legacy=transport == "qtest-legacy",
            progress=progress,
        )


register(Qemu())
