"""A slow network: connections to a test's server go through a proxy that delays every byte."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator

from tests.ssh_server import SshServer


@contextlib.contextmanager
def proxied(port: int, round_trip: float) -> Iterator[int]:
    """A port of this host that forwards to that one, with that round-trip time in seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, port, round_trip / 2), daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def slow(server: SshServer, round_trip: float) -> Iterator[None]:
    """Change the client's configuration to go through the proxy, with that round-trip time in seconds."""
    real = server.port
    with proxied(real, round_trip) as server.port:
        with server.known_hosts.open("a") as file:
            file.write(server.known_line())
        try:
            yield
        finally:
            server.port = real


def _accept(listener: socket.socket, port: int, delay: float) -> None:
    with contextlib.suppress(OSError):
        while True:
            near = listener.accept()[0]
            far = socket.create_connection(("127.0.0.1", port))
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                threading.Thread(target=_take, args=(one, waiting, delay), daemon=True).start()
                threading.Thread(target=_give, args=(other, waiting), daemon=True).start()


def _take(source: socket.socket, waiting: queue.SimpleQueue[tuple[float, bytes]], delay: float) -> None:
    data = b"x"
    while data:
        try:
            data = source.recv(1 << 16)
        except OSError:
            data = b""
        waiting.put((time.monotonic() + delay, data))


def _give(target: socket.socket, waiting: queue.SimpleQueue[tuple[float, bytes]]) -> None:
    with contextlib.suppress(OSError):
        while True:
            due, data = waiting.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(data)
