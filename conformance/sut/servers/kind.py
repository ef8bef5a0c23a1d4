"""Kind `server`: raw frames to a 9P server or a vhost-user back end; nothing mounts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from conformance.errors import UsageError
from conformance.profiles.model import Owner
from conformance.sut.kind import Asked, Kind, Transports, Use
from conformance.sut.options import SERVER, Flag, RunOptions
from conformance.sut.parts.backend_table import check_program
from conformance.sut.registry import register
from conformance.sut.servers.front_ends import VHOST_USER, reference_device
from conformance.sut.servers.tables import CommandTable, ReferenceTable, RunningTable, ServerTable, VhostUserTable
from conformance.sut.spec import Target

if TYPE_CHECKING:
    from conformance.raw.server import Server
    from conformance.vfs.deployment import Deployment, Progress

_ELSEWHERE = "is not a server of yours"


class ServerTarget(Target):
    """The server is `server`."""

    kind: Literal["server"]
    server: ServerTable


class ServerOptions(RunOptions):
    """Options for a server that already runs."""

    address: Annotated[
        str | None,
        Flag(
            "--address",
            "Of targets socket and vhost-user: HOST:PORT, or the path of a unix socket.",
            _ELSEWHERE,
            metavar="ADDRESS",
            group=SERVER,
            chooses=True,
        ),
    ] = None
    aname: Annotated[
        str | None,
        Flag("--aname", "The name to attach to.", _ELSEWHERE, metavar="NAME", group=SERVER, chooses=True),
    ] = None
    export: Annotated[
        str | None,
        Flag(
            "--export",
            "The exported directory, if it is on this host.",
            _ELSEWHERE,
            metavar="DIR",
            group=SERVER,
            chooses=True,
        ),
    ] = None


class ServerKind(Kind[ServerTarget, ServerOptions]):
    """See the module."""

    name = "server"
    title = "raw 9P frames to a server, or frames and rings to a vhost-user back end; nothing mounts it"
    model, options = ServerTarget, ServerOptions
    mounts = False
    owner: ClassVar[Owner] = "server"

    def transports(self, target: ServerTarget) -> Transports:
        socket: Transports = {"socket": "bytes"}
        if isinstance(target.server, ReferenceTable):
            return {**VHOST_USER, **socket} if target.server.transport == "vhost-user" else {**socket, **VHOST_USER}
        return VHOST_USER if isinstance(target.server, VhostUserTable) else socket

    def unused(self, target: ServerTarget, use: Use) -> Iterator[tuple[str, str]]:
        if not isinstance(target.server, RunningTable):
            for option in ("address", "aname", "export"):
                yield option, f"target {target.name} is started by the suite itself"

    def one_at_a_time(self, asked: Asked[ServerTarget, ServerOptions]) -> str:
        running = isinstance(asked.target.server, VhostUserTable)
        return f"the device of target {asked.target.name} has one front end at a time" if running else ""

    def check_target(self, target: ServerTarget) -> None:
        if isinstance(target.server, CommandTable):
            check_program("server.arguments", target.server.arguments[0])

    def check(self, asked: Asked[ServerTarget, ServerOptions]) -> None:
        from conformance.sut.servers.make import check  # noqa: PLC0415 - see conformance.sut.kind

        check(_as_asked(asked))

    def deployment(self, asked: Asked[ServerTarget, ServerOptions], run_dir: Path, progress: Progress) -> Deployment:
        raise UsageError(f"target {asked.target.name} is of kind {self.name}, which has no file system to mount")

    def server(
        self, asked: Asked[ServerTarget, ServerOptions], transport: str, directory: Path, progress: Progress
    ) -> Server:
        from conformance.sut.servers.make import make  # noqa: PLC0415 - see conformance.sut.kind

        table = _as_asked(asked)
        if transport in VHOST_USER and isinstance(table, ReferenceTable):
            return reference_device(transport, table.arguments, directory)
        if transport == "socket" and isinstance(table, ReferenceTable) and table.transport == "vhost-user":
            table = table.model_copy(update={"transport": "unix"})
        return make(table, directory, transport, progress)


def _as_asked(asked: Asked[ServerTarget, ServerOptions]) -> ServerTable:
    """The table, overridden by the command line; the name to attach to is used as written there."""
    given = asked.options.model_dump(include={"address", "aname", "export"}, exclude_none=True)
    if "aname" in given:
        given["aname"] = given["aname"].replace("{", "{{").replace("}", "}}")
    return asked.target.server.model_copy(update=given)


register(ServerKind())
