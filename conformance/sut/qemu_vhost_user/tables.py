"""The tables of kind `qemu-vhost-user`."""

from __future__ import annotations

from typing import Literal

from conformance.sut.parts.backend_table import BackendTable
from conformance.sut.qemu.tables import MachineTarget


class VhostUserTarget(MachineTarget):
    """The back ends are `server`."""

    kind: Literal["qemu-vhost-user"]
    server: BackendTable
