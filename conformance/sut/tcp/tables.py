"""What a target of kind `tcp` may say."""

from __future__ import annotations

from typing import Literal

from conformance.sut.qemu.tables import MachineTarget
from conformance.sut.servers.tables import ReferenceTable


class ServerTable(ReferenceTable):
    """[server]: the project's own server."""

    transport: Literal["tcp"] = "tcp"


class TcpTarget(MachineTarget):
    """The server is this host's, and QEMU's own device has no part in it."""

    kind: Literal["tcp"]
    server: ServerTable = ServerTable()
