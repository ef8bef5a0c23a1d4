"""Which peers may connect.

The rule of this module: a rejected peer costs at most an occasional line in the log, never a traceback, and takes no
resources from those that are served.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable

from reference_server.descriptors import Descriptors
from reference_server.shares import Pot, Share

log = logging.getLogger("reference_server")

_QUIET = 10.0
"""Seconds between two lines of one kind."""
_UCRED = struct.Struct("3i")


class Sparing:
    """Logs one message at most every so many seconds, with the number of messages it left out."""

    def __init__(self, seconds: float = _QUIET, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._said = float("-inf")
        self._unsaid = 0

    def warn(self, text: str) -> None:
        """Log ``text`` now, or count it for the next message."""
        with self._lock:
            now = self._clock()
            if now - self._said < self._seconds:
                self._unsaid += 1
                return
            more = f" (and {self._unsaid} more in {now - self._said:.0f} s)" if self._unsaid else ""
            self._said, self._unsaid = now, 0
        log.warning("%s%s", text, more)

    def close(self) -> None:
        """Log how many messages were left out since the last one."""
        with self._lock:
            if self._unsaid:
                log.warning("the last line was left out %d more times", self._unsaid)
            self._unsaid = 0


class Door:
    """Admits peers while there is room, and no peer with more connections than it leaves for the others."""

    def __init__(self, connections: Pot, descriptors: Descriptors | None = None) -> None:
        """``connections``: at most so many.  ``descriptors``: those of the process, where something else needs them."""
        self._connections = connections
        self._descriptors = descriptors
        self._shares: dict[object, Share] = {}
        """By origin; only of those that have a connection."""

    def enter(self, sock: socket.socket) -> tuple[socket.socket, object]:
        """``sock``, perhaps under another number, and the argument for ``leave``.

        Raises OSError, after closing it, if its peer is rejected.
        """
        origin = _origin(sock)
        with self._connections.lock:
            share = self._shares.get(origin) or self._connections.share()
            if not share.take():
                sock.close()
                left = self._connections.left
                raise OSError(f"{origin} has {share.held} connections, and {left} are left for all others")
            self._shares[origin] = share
        if self._descriptors is None:
            return sock, origin
        try:
            return socket.socket(fileno=self._descriptors.keep(sock.detach())), origin
        except OSError:
            self.leave(origin)
            raise

    def make_room(self) -> None:
        """Free descriptors: there are too few to admit a peer."""
        if self._descriptors is not None:
            self._descriptors.shrink()

    def leave(self, origin: object) -> None:
        """A peer that had entered is gone."""
        with self._connections.lock:
            share = self._shares[origin]
            share.give()
            if not share.held:
                del self._shares[origin]


def _origin(sock: socket.socket) -> object:
    """The peer's origin: a process of this host for a unix socket, else a host."""
    try:
        if sock.family == socket.AF_UNIX:
            pid, _uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            return f"process {pid}"
        return f"host {sock.getpeername()[0]}"
    except OSError:
        return "a peer that is gone"
