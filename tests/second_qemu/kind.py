"""Kind `second-qemu`: QEMU with a CPU model that the user chooses; it has a key and an option of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from conformance.raw.server import Server
from conformance.sut.kind import Asked, Transports
from conformance.sut.options import Flag
from conformance.sut.qemu.deployment import QemuDeployment
from conformance.sut.qemu.qtest import QtestServer
from conformance.sut.qemu.tables import DeviceOptions, DeviceTable, DeviceTarget
from conformance.sut.qemu.under_qemu import UnderQemu
from conformance.sut.registry import register
from conformance.vfs.deployment import Deployment, Progress
from guests.machines.qemu import check as qemu_check


class ProcessorTable(DeviceTable):
    """[machine], with the CPU model."""

    cpu: str = "max"


class SecondTarget(DeviceTarget):
    """QEMU's own virtio-9p device, again."""

    kind: Literal["second-qemu"]
    machine: ProcessorTable = ProcessorTable()


class SecondOptions(DeviceOptions):
    """QEMU's options, and the CPU model."""

    cpu: Annotated[
        str | None,
        Flag(
            "--cpu", "The model of the guest's processor.", "has no processor to choose", metavar="MODEL", chooses=True
        ),
    ] = None


class SecondQemu(UnderQemu[SecondTarget, SecondOptions]):
    """See the module."""

    name = "second-qemu"
    title = "QEMU again, with a processor of the user's choice"
    model, options = SecondTarget, SecondOptions
    needs = qemu_check.SHARES

    def transports(self, target: SecondTarget) -> Transports:
        """See Kind."""
        return {"qtest": "virtqueues"}

    def deployment(self, asked: Asked[SecondTarget, SecondOptions], run_dir: Path, progress: Progress) -> Deployment:
        """See Kind."""
        machine, cpu = asked.target.machine, asked.options.cpu or asked.target.machine.cpu
        more = ("-cpu", cpu) if cpu != "max" else ()  # the suite's default
        table = machine.model_copy(update={"arguments": (*machine.arguments, *more)})
        target = asked.target.model_copy(update={"machine": table})
        return QemuDeployment(target, run_dir, progress, asked.options, asked.load)

    def server(
        self, asked: Asked[SecondTarget, SecondOptions], transport: str, directory: Path, progress: Progress
    ) -> Server:
        """See Kind."""
        return QtestServer(directory, qemu=asked.options.qemu or asked.target.machine.program, progress=progress)


register(SecondQemu())
