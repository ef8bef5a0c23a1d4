"""The tables of kind `v86`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conformance.sut.parts.backend_table import BackendTable
from conformance.sut.spec import Target
from conformance.tables import Strict


class MachineTable(Strict):
    """[machine]: the image is one of its own."""

    memory_mb: int = Field(default=512, ge=1)


class V86Target(Target):
    """Without `server` the device is v86's own, which keeps its files in the emulator's memory."""

    kind: Literal["v86"]
    machine: MachineTable = MachineTable()
    server: BackendTable | None = None
