"""A 9P2000.L server that implements six messages, and dies or hangs on request: `fake_server.py UNIX-SOCKET`.

Tstatfs kills it. Treadlink hangs it: from then on it accepts connections and answers no request.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import threading
import time

from protocol.codec import ProtocolError, decode, frame
from protocol.constants import EOPNOTSUPP, GETATTR_BASIC
from protocol.fields import Qid
from protocol.messages import (
    Rattach,
    Rclunk,
    Rgetattr,
    Rlerror,
    Rversion,
    Rwalk,
    Tattach,
    Tclunk,
    Tgetattr,
    Treadlink,
    Tstatfs,
    Tversion,
    Twalk,
)
from protocol.registry import Message

ROOT = Qid(0x80, 0, 1)
hung = threading.Event()


def answer(request: Message) -> Message:
    """Return the reply; does not return from a fatal request."""
    if isinstance(request, Tversion):
        return Rversion(request.tag, min(request.msize, 65536), request.version)
    if isinstance(request, Tattach):
        return Rattach(request.tag, ROOT)
    if isinstance(request, Twalk):
        return Rwalk(request.tag, tuple(ROOT for _ in request.wnames))
    if isinstance(request, Tclunk):
        return Rclunk(request.tag)
    if isinstance(request, Tgetattr):
        return Rgetattr(request.tag, GETATTR_BASIC, ROOT, 0o40755, 0, 0, 2, *[0] * 14)
    if isinstance(request, Tstatfs):
        print("fake server: about to die", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGABRT)
    if isinstance(request, Treadlink):
        hung.set()
    return Rlerror(request.tag, EOPNOTSUPP)


def serve(client: socket.socket) -> None:
    """Serve one connection."""
    stream = client.makefile("rb")
    while head := stream.read(4):
        raw = head + stream.read(struct.unpack("<I", head)[0] - 4)
        try:
            reply = answer(decode(raw))
        except ProtocolError:  # the suite tests the reply to a type that does not exist
            reply = Rlerror(struct.unpack_from("<H", raw, 5)[0], EOPNOTSUPP)
        if hung.is_set():
            time.sleep(3600)
        client.sendall(frame(reply))


def main(path: str) -> None:
    """Listen forever."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
