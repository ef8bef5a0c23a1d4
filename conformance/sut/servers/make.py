"""From a spec to the server it describes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from conformance.errors import InfrastructureError, UsageError
from conformance.raw.server import Server
from conformance.sut.scratch import Scratch
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
from conformance.sut.servers.qtest import QtestServer
from conformance.sut.servers.spec import ServerSpec
from conformance.sut.servers.vhost_user import ReferenceDevice, ReferenceInQemu, VhostUserServer
from guests.words import shown

SOCKET_PATH = 107
"""Bytes of a unix socket's path, at most (sun_path of unix(7) has room for one more, its end)."""


def make(spec: ServerSpec, run_dir: Path) -> Server:
    """The server, not yet started. `run_dir` takes its log, its configuration and its export."""
    makers: dict[str, Callable[[ServerSpec, Path], Server]] = {
        "reference": ReferenceServer,
        "diod": DiodServer,
        "ganesha": GaneshaServer,
        "p9ufs": P9ufsServer,
        "crosvm-p9": CrosvmServer,
        "command": CommandServer,
        "external": ExternalServer,
        "qtest": QtestServer,
        "reference-in-qemu": ReferenceInQemu,
        "vhost-user": VhostUserServer,
    }
    if spec.program == "guest-pci":
        from conformance.sut.servers.guest_pci import GuestServer  # noqa: PLC0415 - it needs the targets, which import this

        return GuestServer(spec, run_dir)
    if spec.program == "reference" and spec.transport == "vhost-user":
        return ReferenceDevice(spec, run_dir)
    return makers[spec.program](spec, run_dir)


def check(spec: ServerSpec) -> None:
    """Refuse, before anything starts, a server that cannot be had.

    Raises UsageError where the user did not say enough, InfrastructureError where the program is missing or nobody
    answers at an external server's address.
    """
    if spec.export and not Path(spec.export).is_dir():
        raise UsageError(f"--export {spec.export} is no directory: name what the server exports, or leave it out")
    if spec.address and spec.program not in ("external", "vhost-user"):
        raise UsageError(f"--address has no meaning for a server that the suite starts itself ({spec.program})")
    if spec.address:
        _check_address(spec)
    if spec.program == "external":
        ExternalServer(spec, Path()).check()
    if spec.program == "vhost-user":
        VhostUserServer(spec, Path()).check()
    if spec.program == "command":
        _check_command(spec)
    program = {"diod": DiodServer, "ganesha": GaneshaServer}.get(spec.program)
    if program is not None and shutil.which(program.program) is None:
        raise InfrastructureError(f"{program.program} is not installed", program.remedy())


def _check_address(spec: ServerSpec) -> None:
    """Refuse what is neither HOST:PORT nor the path of a unix socket. Raises UsageError."""
    address = spec.address
    _, colon, port = address.rpartition(":")
    if "/" not in address and colon and spec.program == "external":
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
            raise UsageError(f"--address {shown(address)}: HOST:PORT has a port from 1 to 65535, {shown(port)} is none")
        return
    if len(os.fsencode(address)) > SOCKET_PATH:
        raise UsageError(f"--address {shown(address)}: the path of a unix socket has at most {SOCKET_PATH} bytes")
    if not Path(address).exists():
        wanted = "HOST:PORT, or a unix socket's path" if spec.program == "external" else "the path of a unix socket"
        raise UsageError(f"--address {shown(address)}: it does not exist; give {wanted}")


def _check_command(spec: ServerSpec) -> None:
    """Start it once, to see that it comes up and speaks 9P2000.L. Raises UsageError or InfrastructureError."""
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
