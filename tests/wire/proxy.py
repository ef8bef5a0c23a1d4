"""A proxy between a client and the reference server that makes the server deliberately wrong.

A `Fault` sees every request before the server does and every reply before the client does; all other frames pass
unchanged. This module knows only connections and frames; the faults are in `tests.wire.wrong_server` and its tests.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from protocol.codec import ProtocolError, decode, frame
from protocol.registry import Message

HANG_UP = b"hang up"
"""A fault returns this in place of a request to end the connection."""


class Fault:
    """One deliberate fault; an instance serves one connection."""

    export: Path
    """The exported directory, by its path on the host."""

    def on_request(self, request: Message) -> Message | bytes | None:
        """Return the message for the server; bytes go to the client as the reply instead, None drops the request."""
        return request

    def on_undecoded(self, raw: bytes) -> bytes | None:
        """Return what the server gets for a frame that is not a valid request; None drops the frame."""
        return raw

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        """Return what the client gets: one reply, several, raw bytes, or nothing."""
        return reply


class Proxy:
    """Listens on `address` and forwards everything to `upstream`, through the fault."""

    def __init__(self, fault: type[Fault], upstream: str, address: Path, export: Path) -> None:
        self.fault, self.upstream, self.export = fault, upstream, export
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(address))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.upstream)
                self._sockets += [client, server]
                fault = self.fault()
                fault.export = self.export
                connection = _Connection(fault, client, server)
                for run in (connection.forth, connection.back):
                    threading.Thread(target=run, daemon=True).start()


class _Connection:
    def __init__(self, fault: Fault, client: socket.socket, server: socket.socket) -> None:
        self.fault, self.client, self.server = fault, client, server
        self._asked: dict[int, Message] = {}
        """The last request with each tag."""
        self._lock = threading.Lock()

    def forth(self) -> None:
        """Forward requests until the client disconnects."""
        for raw in _frames(self.client):
            try:
                request = decode(raw)
            except ProtocolError:  # a frame that a case broke on purpose
                passed = self.fault.on_undecoded(raw)
                if passed is HANG_UP:
                    break
                if passed is not None:
                    self.server.sendall(passed)
                continue
            sent = self.fault.on_request(request)
            if sent is HANG_UP:
                break
            if isinstance(sent, bytes):
                self._to_client(sent)
            elif sent is not None:
                with self._lock:
                    self._asked[sent.tag] = request
                self.server.sendall(frame(sent))
        _end(self.client, self.server)

    def back(self) -> None:
        """Forward replies until the server disconnects."""
        for raw in _frames(self.server):
            reply = decode(bytes(raw))
            with self._lock:
                request = self._asked.get(reply.tag, reply)
            given = self.fault.on_reply(request, reply)
            for one in given if isinstance(given, list) else [given]:
                if one is not None:
                    self._to_client(one if isinstance(one, bytes) else frame(one))
        _end(self.client, self.server)

    def _to_client(self, raw: bytes) -> None:
        with contextlib.suppress(OSError):
            self.client.sendall(raw)


def _frames(stream: socket.socket) -> Iterator[bytes]:
    """Yield whole frames until the end of the stream."""
    with contextlib.suppress(OSError), stream.makefile("rb") as source:
        while head := source.read(4):
            yield head + source.read(struct.unpack("<I", head)[0] - 4)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
