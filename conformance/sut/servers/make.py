"""Makes the server that a spec describes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError, UsageError
from conformance.raw.server import Server
from conformance.sut.parts.scratch import Scratch
from conformance.sut.servers.external import ExternalServer
from conformance.sut.servers.greeting import check_greeting
from conformance.sut.servers.programs import (
    CommandServer,
    CrosvmServer,
    DiodServer,
    GaneshaServer,
    P9ufsServer,
    ReferenceServer,
)
from conformance.sut.servers.tables import (
    ClientTable,
    CommandTable,
    CrosvmTable,
    DiodTable,
    ExternalTable,
    GaneshaTable,
    P9ufsTable,
    ReferenceTable,
    RunningTable,
    VhostUserTable,
)
from conformance.sut.servers.vhost_user import Variant, VhostUserServer
from guests.host.progress import Progress, silent
from guests.words import shown

SOCKET_PATH = 107
"""Bytes of a unix socket's path, at most (sun_path of unix(7) has room for one more, its end)."""


_PROGRAMS: dict[type[ClientTable], Callable[[Any, Path, Progress], Server]] = {
    ReferenceTable: ReferenceServer,
    DiodTable: DiodServer,
    GaneshaTable: GaneshaServer,
    P9ufsTable: P9ufsServer,
    CrosvmTable: CrosvmServer,
    CommandTable: CommandServer,
}


def make(spec: ClientTable, run_dir: Path, transport: str = "socket", progress: Progress = silent) -> Server:
    """The server, not yet started. `run_dir` takes its log, its configuration and its export.

    `progress` gets a line for each slow step of its start: fetching, building.
    """
    if isinstance(spec, VhostUserTable):
        return VhostUserServer(spec, Variant.of(transport))
    if isinstance(spec, ExternalTable):
        return ExternalServer(spec)
    return _PROGRAMS[type(spec)](spec, run_dir, progress)


def check(spec: ClientTable) -> None:
    """Refuse, before anything starts, a server that is not available.

    Raises UsageError if information is missing, InfrastructureError if the program is missing or no running server
    answers at the address.
    """
    if isinstance(spec, RunningTable):
        if spec.export and not Path(spec.export).is_dir():
            raise UsageError(f"--export {spec.export} is not a directory: give the exported directory, or leave it out")
        if spec.address:
            _check_address(spec)
    if isinstance(spec, ExternalTable):
        ExternalServer(spec).check()
    if isinstance(spec, VhostUserTable):
        VhostUserServer(spec).check()
    if isinstance(spec, CommandTable):
        _check_command(spec)
    program = DiodServer if isinstance(spec, DiodTable) else GaneshaServer if isinstance(spec, GaneshaTable) else None
    if program is not None and shutil.which(program.program) is None:
        raise InfrastructureError(f"{program.program} is not installed", program.remedy())


def _check_address(spec: RunningTable) -> None:
    """Refuse anything but HOST:PORT and the path of a unix socket. Raises UsageError."""
    address = spec.address
    _, colon, port = address.rpartition(":")
    if "/" not in address and colon and isinstance(spec, ExternalTable):
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
            raise UsageError(f"--address {shown(address)}: HOST:PORT has a port from 1 to 65535, {shown(port)} is none")
        return
    if len(os.fsencode(address)) > SOCKET_PATH:
        raise UsageError(f"--address {shown(address)}: the path of a unix socket has at most {SOCKET_PATH} bytes")
    if not Path(address).exists():
        wanted = (
            "HOST:PORT, or a unix socket's path" if isinstance(spec, ExternalTable) else "the path of a unix socket"
        )
        raise UsageError(f"--address {shown(address)}: it does not exist; give {wanted}")


def _check_command(spec: CommandTable) -> None:
    """Start it once to check that it comes up and speaks 9P2000.L. Raises UsageError or InfrastructureError."""
    scratch = Scratch()
    try:
        server = CommandServer(spec, scratch.path)
        try:
            server.start()
            check_greeting(
                server.name,
                server.connect,
                msize=spec.msize,
                aname=server.aname,
                uname=spec.uname.encode(),
                hint="server.aname names the tree",
            )
        finally:
            server.stop()
    finally:
        scratch.remove()
