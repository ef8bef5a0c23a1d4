"""The `[server]` table of a target for raw frames: one model for each program, distinguished by `program`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from conformance.tables import Strict, placeholders
from guests.words import unknown

COMMAND_PLACEHOLDERS = ("unix", "port", "export")


def _aname(text: str) -> str:
    return placeholders(text, ("export",))


class ClientTable(Strict):
    """How cases speak raw frames with a server."""

    msize: int = Field(default=65536, ge=4096)
    """What they propose unless they are about msize."""
    msize_max: int = Field(default=1 << 20, ge=4096)
    """The most that the server is known to grant or to survive."""
    reads_rerror: bool = False
    """The server answers errors as type 107: a case of its own judges that, the others read the errno from it."""
    uname: str = ""
    """Who attaches; empty, as Linux's client has it."""
    aname: Annotated[str, AfterValidator(_aname)] = ""
    """What Tattach names; `{export}` stands for the exported directory."""

    def attached(self, export: Path | None) -> bytes:
        """The name in Tattach for that exported directory."""
        return os.fsencode(self.aname.format(export=export or ""))


class StartedTable(ClientTable):
    """A server that the suite starts."""

    transport: Literal["unix", "tcp", "vhost-user"] = "unix"
    arguments: tuple[str, ...] = Field(default=(), validate_default=True)
    """Further arguments for it."""
    ignore_sigpipe: bool = False
    """Start it as systemd does (IgnoreSIGPIPE=yes) instead of as a shell does."""


class ReferenceTable(StartedTable):
    """The project's own server, also as a vhost-user back end."""

    program: Literal["reference"] = "reference"
    lines: bool = False
    """It writes down which of its own lines run: `assay9 explore` is guided by them."""


class DiodTable(StartedTable):
    """diod of the Debian package."""

    program: Literal["diod"]
    transport: Literal["unix", "tcp"] = "unix"
    squash: bool = True
    """Whoever attaches is root; else it is the user of this host with the uid that the client names."""


class GaneshaTable(StartedTable):
    """nfs-ganesha's 9P front end."""

    program: Literal["ganesha"]
    transport: Literal["tcp"] = "tcp"
    tcp_msize: int = Field(default=1 << 20, ge=4096)
    """Its own limit on msize."""


class P9ufsTable(StartedTable):
    """p9ufs of hugelgupf/p9."""

    program: Literal["p9ufs"]
    transport: Literal["tcp"] = "tcp"


class CrosvmTable(StartedTable):
    """crosvm's own server."""

    program: Literal["crosvm-p9"]
    transport: Literal["unix"] = "unix"
    released: bool = False
    """The crate as released, without Debian's patch."""


class CommandTable(StartedTable):
    """Any server by its command line, `arguments`, in which {unix} or {port}, and {export}, are filled in."""

    program: Literal["command"]
    transport: Literal["unix", "tcp"] = "unix"

    @field_validator("arguments")
    @classmethod
    def _whole(cls, arguments: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not arguments:
            raise ValueError("program 'command' needs the command line, with {unix} or {port}, and {export}")
        named = {name for word in arguments for name in re.findall(r"\{(\w*)\}", word)}
        for name in sorted(named):
            if name not in COMMAND_PLACEHOLDERS:
                valid = [f"{{{one}}}" for one in COMMAND_PLACEHOLDERS]
                raise ValueError(unknown("placeholder", f"{{{name}}}", valid))
        transport = info.data.get("transport", "unix")
        listens = "port" if transport == "tcp" else "unix"
        if listens not in named:
            raise ValueError(
                f"transport {transport} needs {{{listens}}} in the command line: the place where the server listens"
            )
        return arguments


class RunningTable(ClientTable):
    """A server that somebody else started."""

    address: str = ""
    """Where it listens."""
    export: str = ""
    """The directory that it exports, where that is on this host."""


class ExternalTable(RunningTable):
    """A 9P server at HOST:PORT or at a unix socket."""

    program: Literal["external"]


class VhostUserTable(RunningTable):
    """A vhost-user back end at a unix socket."""

    program: Literal["vhost-user"]


ServerTable = Annotated[
    ReferenceTable
    | DiodTable
    | GaneshaTable
    | P9ufsTable
    | CrosvmTable
    | CommandTable
    | ExternalTable
    | VhostUserTable,
    Field(discriminator="program"),
]
