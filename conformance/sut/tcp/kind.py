"""Kind `tcp`: a guest under QEMU that mounts servers of this host over TCP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conformance.sut.kind import Asked
from conformance.sut.parts.backend_table import check_root
from conformance.sut.qemu.tables import MachineOptions
from conformance.sut.qemu.under_qemu import UnderQemu
from conformance.sut.registry import register
from conformance.sut.tcp.tables import TcpTarget

if TYPE_CHECKING:
    from conformance.vfs.deployment import Deployment, Progress


class Tcp(UnderQemu[TcpTarget, MachineOptions]):
    """See the module."""

    name = "tcp"
    title = "a guest under QEMU that mounts a server of this host over TCP"
    model, options = TcpTarget, MachineOptions

    def check(self, asked: Asked[TcpTarget, MachineOptions]) -> None:
        from conformance.sut.servers.make import check as check_server  # noqa: PLC0415 - see conformance.sut.kind

        check_root(asked.target.name)
        check_server(asked.target.server)
        super().check(asked)

    def deployment(self, asked: Asked[TcpTarget, MachineOptions], run_dir: Path, progress: Progress) -> Deployment:
        from conformance.sut.tcp.deployment import TcpDeployment  # noqa: PLC0415 - see conformance.sut.kind

        return TcpDeployment(asked.target, run_dir, progress, asked.options, asked.load)


register(Tcp())
