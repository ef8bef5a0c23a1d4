"""9P servers brought up by the suite as processes, on loopback or in a network namespace of their own.

`conformance.sut.servers.spec.ServerSpec` is the `[server]` table of a target; `make` gives the `Server` for it.
Nothing of a server is imported: it is judged from outside.
"""

from conformance.sut.servers.base import Server
from conformance.sut.servers.make import make
from conformance.sut.servers.spec import ServerSpec

__all__ = ["Server", "ServerSpec", "make"]
