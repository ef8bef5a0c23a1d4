"""How the raw client sends and reads."""

from __future__ import annotations

import socket
import struct
import threading

from conformance.raw.client import Core
from conformance.transports.socket import SocketLink
from protocol.codec import decode, frame
from protocol.messages import Rclunk, Tclunk


def serve_one_after_the_other(end: socket.socket) -> None:
    """Read a request, answer it, read the next; sending the answer waits for room in the socket."""
    stream = end.makefile("rb")
    while head := stream.read(4):
        request = decode(head + stream.read(struct.unpack("<I", head)[0] - 4))
        end.sendall(frame(Rclunk(request.tag)))


def test_requests_without_number_do_not_stop_a_server_that_answers_in_turn() -> None:
    """Linux reads replies while it sends. A thousand small unread replies fill a unix socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    threading.Thread(target=serve_one_after_the_other, args=(theirs,), daemon=True).start()
    client = Core(SocketLink(ours, "pair", send_timeout=60.0), timeout=60.0)
    flying = [client.send(Tclunk(client.tag(), number)) for number in range(5000)]
    assert all(isinstance(one.wait(), Rclunk) for one in flying)
    assert not client.unanswered and not client.outstanding
    ours.close()
