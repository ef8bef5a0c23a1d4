"""A server that somebody else runs: the target `socket`.

Rule of this module: this module neither starts nor ends it.
"""

from __future__ import annotations

from pathlib import Path

from conformance.errors import InfrastructureError, UsageError
from conformance.raw.server import Server
from conformance.sut.servers.greeting import check_greeting
from conformance.sut.servers.tables import ExternalTable
from conformance.transports.base import Link
from conformance.transports.socket import SocketLink, connect_tcp, connect_unix


class ExternalServer(Server):
    """An address."""

    capabilities = SocketLink.capabilities
    export: Path | None = None

    def __init__(self, spec: ExternalTable) -> None:
        if not spec.address:
            raise UsageError("say where the server listens: --address HOST:PORT, or a unix socket's path")
        self.spec = spec
        self.name = f"socket {spec.address}"
        self.export = Path(spec.export).resolve() if spec.export else None
        self.aname = spec.attached(self.export)

    def start(self) -> None:
        self.connect().close()

    def check(self) -> None:
        """Refuse in one line, before a run begins, a server on which no case can run.

        Raises InfrastructureError if nobody listens; UsageError if the server does not speak 9P2000.L, or the tree
        cannot be attached.
        """
        check_greeting(
            self.spec.address,
            self.connect,
            msize=self.spec.msize,
            aname=self.aname,
            uname=self.spec.uname.encode(),
            hint="name the tree to test with --aname",
        )

    def connect(self) -> Link:
        try:
            host, colon, port = self.spec.address.rpartition(":")
            if colon and port.isdigit() and "/" not in self.spec.address:
                return connect_tcp(host.strip("[]") or "127.0.0.1", int(port))
            return connect_unix(self.spec.address)
        except OSError as error:
            raise InfrastructureError(
                f"no server answers at {self.spec.address}: {error}", "start the server, then run again"
            ) from None

    def stop(self) -> None:
        """See Server."""
