"""From a spec to the server it describes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conformance.servers.base import Server
from conformance.servers.external import ExternalServer
from conformance.servers.programs import CommandServer, DiodServer, GaneshaServer, ReferenceServer
from conformance.servers.spec import ServerSpec


def make(spec: ServerSpec, run_dir: Path) -> Server:
    """The server, not yet started. `run_dir` takes its log, its configuration and its export."""
    makers: dict[str, Callable[[ServerSpec, Path], Server]] = {
        "reference": ReferenceServer,
        "diod": DiodServer,
        "ganesha": GaneshaServer,
        "command": CommandServer,
        "external": ExternalServer,
    }
    return makers[spec.program](spec, run_dir)
