"""Listening on TCP.

The rule of this module: loopback only, unless the caller allows remote addresses, because whoever can connect
can act as any user.
"""

from __future__ import annotations

import ipaddress
import socket

from protocol.constants import DEFAULT_PORT


class NotLoopback(ValueError):
    """The address could be reached from other machines."""


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[V6]:PORT``, ``HOST`` or ``:PORT``; by default loopback and 9P's port.

    Raises ValueError for a port that does not exist.
    """
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, ""
    host = host.strip("[]") or "127.0.0.1"
    number = int(port) if port else DEFAULT_PORT
    if not 0 <= number <= 65535:
        raise ValueError(f"no port {number}")
    return host, number


def bind(host: str, port: int, remote: bool = False) -> tuple[socket.socket, str]:
    """A bound socket and its address as text.  Port 0 takes a free one.

    Raises NotLoopback for an address beyond this machine unless ``remote``, OSError when it cannot be bound.
    """
    family, kind, proto, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    if not remote and not ipaddress.ip_address(address[0]).is_loopback:
        raise NotLoopback(f"{host} is not a loopback address")
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    bound = sock.getsockname()
    shown = f"[{bound[0]}]" if family == socket.AF_INET6 else bound[0]
    return sock, f"{shown}:{bound[1]}"
