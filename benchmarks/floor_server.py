"""A server that does nothing: it receives each request of a unix socket and sends a reply that was made beforehand.

It shows what no server in Python can go below. `benchmarks/reference_server.py --floor` starts it; its argument is the
socket.
"""

from __future__ import annotations

import socket
import sys

from protocol import codec
from protocol.constants import GETATTR_BASIC
from protocol.fields import Qid
from protocol.messages import (
    Rattach,
    Rclunk,
    Rgetattr,
    Rlopen,
    Rversion,
    Rwalk,
    Tattach,
    Tclunk,
    Tgetattr,
    Tlopen,
    Tversion,
    Twalk,
)

_QID = Qid(0, 0, 1)
REPLIES = {
    Tversion.type: codec.frame(Rversion(0, 1 << 20, b"9P2000.L")),
    Tattach.type: codec.frame(Rattach(0, _QID)),
    Twalk.type: codec.frame(Rwalk(0, (_QID, _QID))),
    Tlopen.type: codec.frame(Rlopen(0, _QID, 0)),
    Tgetattr.type: codec.frame(Rgetattr(0, GETATTR_BASIC, _QID, *[0] * 18)),
    Tclunk.type: codec.frame(Rclunk(0)),
}


def serve(peer: socket.socket) -> None:
    """Answer until the peer leaves; it has one request in flight."""
    memory = memoryview(bytearray(1 << 16))
    while peer.recv_into(memory):
        reply = REPLIES[memory[4]]
        peer.sendall(reply[:5] + bytes(memory[5:7]) + reply[7:])


def main() -> None:
    """Serve one peer after the other."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    while True:
        serve(listener.accept()[0])


if __name__ == "__main__":
    main()
