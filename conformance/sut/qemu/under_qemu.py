"""The base of kinds whose guest runs under QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, TypeVar

from conformance.errors import InfrastructureError, UsageError
from conformance.sut.kind import Asked, Capability, Kind, Use
from conformance.sut.qemu.program import find_program
from conformance.sut.qemu.tables import MachineOptions, MachineTarget
from guests.machines.qemu import check as qemu_check
from guests.machines.qemu import private as private_qemu

T = TypeVar("T", bound=MachineTarget)
O = TypeVar("O", bound=MachineOptions)  # noqa: E741 - of `Kind`


class UnderQemu(Kind[T, O]):
    """A kind with a guest under QEMU."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"guest", "soak", "several-shares", "own-file-system", "pause", "power-cut"}
    )
    needs: ClassVar[tuple[qemu_check.Need, ...]] = ()
    """What QEMU must have for the device under test, beside what every machine needs."""

    def unused(self, target: T, use: Use) -> Iterator[tuple[str, str]]:
        if use.mounted:
            return
        yield "keep_guest", use.mounts_nothing
        yield "access", use.mounts_nothing
        yield "export_fs", use.mounts_nothing
        if use.link != "guest-pci":
            yield "image", f"the layers {' and '.join(use.below)} boot no guest over {use.link}"
        if use.link is not None and use.link.startswith("vhost-user"):
            for option in ("qemu", "qemu_args", "security_model"):
                yield option, f"--link {use.link} leads past QEMU"

    def one_at_a_time(self, asked: Asked[T, O]) -> str:
        return "--keep-guest keeps one guest" if asked.options.keep_guest else ""

    def check(self, asked: Asked[T, O]) -> None:
        """Refuse a QEMU that is missing or cannot do what the run needs; the error names all that is missing."""
        options, machine = asked.options, asked.target.machine
        program = options.qemu or machine.program
        if program == private_qemu.NAME:  # the suite fetches it, and it has everything that is needed
            return
        needs: list[qemu_check.Need] = []
        if asked.use.mounted or asked.use.link == "guest-pci":
            needs += [*qemu_check.MACHINE, *self.needs]
        if asked.use.link in ("qtest", "qtest-legacy"):
            needs += [*qemu_check.QTEST, *self.needs]
        path = find_program(program)
        if not needs:
            return
        try:
            qemu_check.require(
                path,
                list(dict.fromkeys(needs)),
                [*machine.arguments, *options.qemu_args],
                max(machine.memory_mb, asked.load.memory_mb if asked.load else 0),
            )
        except UsageError as error:
            if options.qemu or options.qemu_args:
                raise
            raise InfrastructureError(str(error)) from None
