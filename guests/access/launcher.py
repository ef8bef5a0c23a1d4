"""The fast channel into a guest: the launcher in the snapshot starts an agent on a TCP connection.

See ``images/guest/resident`` for the protocol. Compared with an agent under SSH (measured, TCG): ready 2 s
earlier, and a round trip takes 1 ms instead of 3. The image's token stands for SSH's key: other users of
this host can reach the forwarded port, and the agent is root in a guest that may have root's shares.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path

from guests.errors import InfrastructureError
from guests.host.lines import LineReader
from guests.host.waiting import happens

GUEST_PORT = 909
_ATTEMPT = 5.0
"""Seconds for one attempt; a restored guest answers within one, a booting one not at all."""


def connect(
    port: int,
    token: Path,
    limit: float,
    still_wanted: Callable[[], bool],
    *,
    source: bytes = b"",
) -> socket.socket:
    """Start ``source`` in the guest; the socket is its standard input and output.

    Tries until the guest answers. The guest's clock is not set here: a time in the request would be wrong by the time
    it takes to arrive (see ``guests.agent.clock``). Raises InfrastructureError when ``limit`` seconds pass, the token
    is refused, or ``still_wanted`` says that the machine is gone.
    """
    try:
        secret = token.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        why = f"the image's token cannot be read: {error}"
        raise InfrastructureError(why, "run again: a damaged image is built again") from error
    request = {"token": secret, "time": None, "source_size": len(source)}
    hello = json.dumps(request).encode() + b"\n" + source
    refused = 0

    def answered() -> socket.socket | None:
        nonlocal refused
        if not still_wanted():
            raise InfrastructureError("the machine ended before its guest answered")
        with contextlib.ExitStack() as unless_answered:
            connection = unless_answered.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                connection.settimeout(min(_ATTEMPT, limit))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.connect(("127.0.0.1", port))
                connection.sendall(hello)
                answer = connection.recv(3)
                if answer == b"ok\n":
                    connection.settimeout(None)
                    unless_answered.pop_all()
                    return connection
                refused += answer == b""
        return None

    if (connection := happens(answered, limit, 0.02)) is not None:
        return connection
    why = " (it ended every connection: wrong token?)" if refused > 5 else ""
    raise InfrastructureError(
        f"the guest did not answer on 127.0.0.1:{port} within {limit:.0f} s{why}",
        "see the console log of the run; `assay9 guest console` logs in there",
    )


class SocketLineChannel(LineReader):
    """A program in the guest over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._socket = connection

    def send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(60.0)
            self._socket.sendall(data)
        except OSError as error:
            raise InfrastructureError(f"the channel into the guest is gone: {error or 'closed'}") from error

    def _receive(self, timeout: float) -> bytes:
        self._socket.settimeout(max(timeout, 1e-6))  # not 0: that would mean "do not wait"
        return self._socket.recv(1 << 18)

    def _ended(self) -> InfrastructureError:
        return InfrastructureError("the program in the guest ended", "its last words are in /run/agent.err there")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
