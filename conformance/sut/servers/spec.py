"""The `[server]` table of a target: which server, how it is reached, what it is asked for.

Rule of this module: data only; `conformance.sut.servers.make` turns it into something that runs.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.errors import UsageError
from conformance.raw.operations import UNAME
from conformance.tables import problem

Program = Literal[
    "reference",
    "diod",
    "ganesha",
    "p9ufs",
    "crosvm-p9",
    "command",
    "external",
    "qtest",
    "reference-in-qemu",
    "guest-pci",
    "vhost-user",
]


class ServerSpec(BaseModel):
    """One server as deployed.

    `msize` is what cases propose unless they are about msize, `msize_max` the most that the server is
    known to grant or to survive. `reads_rerror`: the server answers errors as type 107; a case of its own
    judges that, the others read the errno from it so that they still say something.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    program: Program
    transport: Literal["unix", "tcp", "vhost-user"] = "unix"
    arguments: list[str] = []
    """Further arguments; of program `command` the whole command line, in which {unix}, {port} and {export} stand for
    where to listen and what to serve."""
    msize: int = Field(65536, ge=4096)
    msize_max: int = Field(1 << 20, ge=4096)
    reads_rerror: bool = False
    ignore_sigpipe: bool = False
    """Start it as systemd does (IgnoreSIGPIPE=yes) instead of as a shell does."""
    aname: str = ""
    """What Tattach names; `{export}` stands for the exported directory."""
    uname: str = UNAME.decode()
    address: str = ""
    """Where an `external` server listens: HOST:PORT, or the path of a unix socket."""
    export: str = ""
    """The directory that an `external` server exports, where it is on this host."""
    options: dict[str, int | str | bool] = {}
    """What only this program knows, e.g. ganesha's own limit on msize."""

    def for_user(self, given: dict[str, Any]) -> ServerSpec:
        """With what the command line says (address, aname, export) in place of the table's values."""
        chosen = {k: given[k] for k in ("address", "aname", "export") if given.get(k)}
        return self.model_copy(update=chosen)


def parse(table: dict[str, Any]) -> ServerSpec:
    """The spec that a `[server]` table holds. Raises UsageError, one line."""
    try:
        return ServerSpec(**table)
    except ValidationError as error:
        raise UsageError(problem(error, ServerSpec, "server")) from None
