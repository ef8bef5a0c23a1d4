"""The tables of kind `uml`."""

from __future__ import annotations

from typing import Literal

from conformance.sut.parts.backend_table import BackendTable
from conformance.sut.parts.guest_tables import GuestTable
from conformance.sut.spec import Target


class UmlTarget(Target):
    """The back ends are `server`."""

    kind: Literal["uml"]
    machine: GuestTable = GuestTable()
    server: BackendTable = BackendTable()
