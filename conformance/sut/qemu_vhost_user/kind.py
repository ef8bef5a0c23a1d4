"""Kind `qemu-vhost-user`: a guest under QEMU, whose 9P devices are vhost-user back ends of this host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conformance.sut.kind import Asked, Transports
from conformance.sut.parts.backend_table import check_program, check_root
from conformance.sut.qemu.tables import MachineOptions
from conformance.sut.qemu.under_qemu import UnderQemu
from conformance.sut.qemu_vhost_user.tables import VhostUserTarget
from conformance.sut.registry import register
from conformance.sut.servers.front_ends import VHOST_USER, reference_device
from guests.machines.qemu import check as qemu_check

if TYPE_CHECKING:
    from conformance.raw.server import Server
    from conformance.vfs.deployment import Deployment, Progress


class QemuVhostUser(UnderQemu[VhostUserTarget, MachineOptions]):
    """See the module."""

    name = "qemu-vhost-user"
    title = "a guest under QEMU 11 or later, whose devices are vhost-user back ends of this host"
    model, options = VhostUserTarget, MachineOptions
    needs = qemu_check.BACK_ENDS

    def transports(self, target: VhostUserTarget) -> Transports:
        """See Kind: only the project's own back end is started without a guest."""
        return {} if target.server.command else {"qtest": "virtqueues", **VHOST_USER}

    def check_target(self, target: VhostUserTarget) -> None:
        if target.server.command:
            check_program("server.command", target.server.command[0])

    def check(self, asked: Asked[VhostUserTarget, MachineOptions]) -> None:
        check_root(asked.target.name)
        super().check(asked)

    def deployment(
        self, asked: Asked[VhostUserTarget, MachineOptions], run_dir: Path, progress: Progress
    ) -> Deployment:
        from conformance.sut.qemu_vhost_user.deployment import VhostQemuDeployment  # noqa: PLC0415 - see sut.kind

        return VhostQemuDeployment(asked.target, run_dir, progress, asked.options, asked.load)

    def server(
        self, asked: Asked[VhostUserTarget, MachineOptions], transport: str, directory: Path, progress: Progress
    ) -> Server:
        from conformance.sut.qemu_vhost_user.qtest import ReferenceInQemu  # noqa: PLC0415 - see sut.kind

        machine, options, back = asked.target.machine, asked.options, asked.target.server
        if transport != "qtest":
            return reference_device(transport, back.arguments, directory)
        return ReferenceInQemu(
            directory,
            reference_device("vhost-user", back.arguments, directory),
            qemu=options.qemu or machine.program,
            arguments=(*machine.arguments, *options.qemu_args),
            progress=progress,
        )


register(QemuVhostUser())
