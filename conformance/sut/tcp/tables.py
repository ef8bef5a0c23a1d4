"""The tables of kind `tcp`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from conformance.sut.qemu.tables import MachineTarget
from conformance.sut.servers.tables import DiodTable, GaneshaTable, P9ufsTable, ReferenceTable


class TcpReferenceTable(ReferenceTable):
    """The project's own server."""

    transport: Literal["tcp"] = "tcp"


class TcpDiodTable(DiodTable):
    """diod, with the guest's users as they are."""

    transport: Literal["tcp"] = "tcp"
    aname: str = "{export}"
    squash: bool = False


class TcpGaneshaTable(GaneshaTable):
    """nfs-ganesha."""

    aname: str = "{export}"
    tcp_msize: int = Field(default=65536, ge=4096)
    """Its own limit on msize. With more it dies: see its profile."""


class TcpP9ufsTable(P9ufsTable):
    """p9ufs."""


TcpServerTable = Annotated[
    TcpReferenceTable | TcpDiodTable | TcpGaneshaTable | TcpP9ufsTable, Field(discriminator="program")
]


class TcpTarget(MachineTarget):
    """The servers are this host's, one for each share, and QEMU's own device has no part in it."""

    kind: Literal["tcp"]
    server: TcpServerTable = TcpReferenceTable()
