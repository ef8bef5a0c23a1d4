"""The tables and options of kinds whose guest runs under QEMU."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from conformance.sut.options import Flag
from conformance.sut.parts.guest_tables import GuestOptions, GuestTable
from conformance.sut.spec import Target
from conformance.tables import word
from guests.machines.spec import Access, Multidevs, SecurityModel


class MachineTable(GuestTable):
    """[machine] of a guest under QEMU."""

    program: str = "qemu-system-x86_64"
    """A path, a name, or `qemu11`: the QEMU that the suite fetches itself."""
    arguments: tuple[str, ...] = ()
    """Further arguments for it."""


class DeviceTable(MachineTable):
    """The same with QEMU's own virtio-9p device under test."""

    security_model: SecurityModel = "passthrough"
    multidevs: Multidevs = "remap"


class MachineOptions(GuestOptions):
    """Another QEMU, or more of it."""

    qemu: Annotated[
        str | None,
        Flag("--qemu", "The QEMU to test instead of the target's own.", "runs no QEMU", metavar="PATH", soak=True),
    ] = None
    qemu_args: Annotated[
        tuple[str, ...],
        Flag(
            "--qemu-arg",
            "A further argument for QEMU, e.g. -L, then its directory (repeatable).",
            "runs no QEMU",
            metavar="ARG",
        ),
    ] = ()
    access: Annotated[
        Annotated[str, word("access", get_args(Access))] | None,
        Flag(
            "--access",
            "How the guest is reached: ssh (the default), or launcher: faster, and only in the suite's own images.",
            "has one way into its guest",
            metavar="WAY",
        ),
    ] = None
    keep_guest: Annotated[
        bool,
        Flag(
            "--keep-guest",
            "Leave the guest running at the end (assay9 guest ssh).",
            "starts no guest that could stay",
        ),
    ] = False


class DeviceOptions(MachineOptions):
    """The same with QEMU's own device under test."""

    security_model: Annotated[
        str | None,
        Flag(
            "--security-model",
            "QEMU's security model: passthrough, mapped-xattr, mapped-file, none. A mapped one "
            "leaves the layers wire and ring out.",
            "does not serve from QEMU's own device",
            metavar="MODEL",
            chooses=True,
        ),
    ] = None


class MachineTarget(Target):
    """The base of targets with a guest under QEMU."""

    machine: MachineTable = MachineTable()


class DeviceTarget(MachineTarget):
    """The base of targets that test QEMU's own virtio-9p device."""

    machine: DeviceTable = DeviceTable()


class QemuTarget(DeviceTarget):
    """Such a target, with nothing added."""

    kind: Literal["qemu"]
