"""The transport over a connected TCP or unix socket.

Rule of this module: bytes only. One system call per batch in each direction wherever that is possible: the
pipelined rate of the whole wire layer depends on it.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Sequence
from functools import partial

from conformance.transports.base import Capability, Link, LinkClosed, LinkTimeout
from guests.host.waiting import happens
from protocol.constants import HDRSZ
from protocol.fields import Buffer

_SIZE = struct.Struct("<I")
_CHUNK = 1 << 18
"""Read ahead at most so much: large enough that small replies come in one call by the hundred."""
_LARGE = 1 << 14
"""A frame longer than this is received into memory of its own instead of through the read-ahead."""
_MOST = 1 << 26
"""A size field above this is a lie: no memory is set aside for it."""
_IOV = 512
"""Pieces per sendmsg; Linux takes 1024."""


class SocketLink(Link):
    """Frames over one connected stream socket."""

    capabilities = frozenset({Capability.STREAM, Capability.SESSIONS, Capability.HANGUP})
    largest = _MOST
    depth = 1 << 16
    reports_its_end = True

    def __init__(self, connected: socket.socket, name: str, send_timeout: float = 10.0) -> None:
        self.name = name
        self._socket = connected
        self._timeout = -1.0
        self._ahead = bytearray(_CHUNK)
        self._view = memoryview(self._ahead)
        self._start = self._end = 0
        self._closed = False
        if connected.family in (socket.AF_INET, socket.AF_INET6):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(None)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(send_timeout))

    # ---- sending

    def send(self, frame: Sequence[Buffer]) -> None:
        try:
            if len(frame) == 1:
                sent, total = self._socket.send(frame[0]), len(frame[0])
            else:
                sent, total = self._socket.sendmsg(frame[:_IOV]), sum(map(len, frame))
            if sent != total:
                self._send_rest(frame, sent)
        except OSError as error:
            raise self._broken(error) from None

    def send_many(self, frames: Sequence[Sequence[Buffer]]) -> None:
        self.send([b"".join([piece for frame in frames for piece in frame])])

    def _send_rest(self, frame: Sequence[Buffer], sent: int) -> None:
        for piece in frame:
            if sent >= len(piece):
                sent -= len(piece)
                continue
            self._socket.sendall(memoryview(piece)[sent:])
            sent = 0

    # ---- receiving

    def recv(self, timeout: float) -> bytes | bytearray:
        start, have = self._start, self._end - self._start
        if have >= 4:
            (size,) = _SIZE.unpack_from(self._ahead, start)
            if HDRSZ <= size <= have:
                self._start = start + size
                return bytes(self._view[start : start + size])
        return self._recv_more(time.monotonic() + timeout)

    def _recv_more(self, deadline: float) -> bytes | bytearray:
        while True:
            have = self._end - self._start
            if have >= 4:
                (size,) = _SIZE.unpack_from(self._ahead, self._start)
                if size < HDRSZ:
                    stump = bytes(self._view[self._start : self._start + 4])
                    self.close()
                    return stump
                if size <= have:
                    start = self._start
                    self._start += size
                    return bytes(self._view[start : start + size])
                if size > _MOST:
                    self.close()
                    raise LinkClosed(f"a size field says {size} bytes: closed")
                if size > _LARGE:
                    return self._recv_large(size, deadline)
            if self._start:
                self._ahead[:have] = self._view[self._start : self._end].tobytes()
                self._start, self._end = 0, have
            self._end += self._recv_into(self._view[self._end :], deadline)

    def _recv_large(self, size: int, deadline: float) -> bytearray:
        frame = bytearray(size)
        view = memoryview(frame)
        have = self._end - self._start
        view[:have] = self._view[self._start : self._end]
        self._start = self._end = 0
        while have < size:
            try:
                have += self._recv_into(view[have:], deadline)
            except LinkTimeout:
                self._keep(view[:have])
                raise LinkTimeout(f"{have} of a reply's {size} bytes came, then nothing") from None
        return frame

    def _keep(self, part: memoryview) -> None:
        """Keep the received part of a large frame, so that a later recv can continue."""
        if len(part) > len(self._ahead):
            self._ahead = bytearray(len(part) + _CHUNK)
            self._view = memoryview(self._ahead)
        self._view[: len(part)] = part
        self._end = len(part)

    def _recv_into(self, room: memoryview, deadline: float) -> int:
        if self._closed:
            raise LinkClosed("closed on our side")
        left = deadline - time.monotonic()
        left = max(left, 0.001)
        # One timeout serves many calls: setting it for each would double the system calls.
        if not self._timeout * 0.9 <= left <= self._timeout:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(left))
            self._timeout = left
        while True:
            try:
                got = self._socket.recv_into(room)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                    if time.monotonic() < deadline - 0.002:
                        continue
                    raise LinkTimeout("no reply came") from None
                raise self._broken(error) from None
            if not got:
                raise LinkClosed("the server closed the connection")
            return got

    def ready(self) -> bool:
        if self._end - self._start >= 4:
            (size,) = _SIZE.unpack_from(self._ahead, self._start)
            if size <= self._end - self._start:
                return True
        return not self._closed and bool(select.select([self._socket], [], [], 0)[0])

    # ---- the end

    def shut_writing(self) -> None:
        """Shut down sending, like a client that disappears in the middle of a frame."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._closed = True
        self._socket.close()

    def _broken(self, error: OSError) -> LinkClosed | LinkTimeout:
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
            return LinkTimeout("the server accepts no further requests")
        return LinkClosed(f"the connection broke: {error.strerror or error}")


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("@ll", whole, max(int((seconds - whole) * 1e6), 1000 if not whole else 0))


def connect_unix(path: str, timeout: float = 5.0) -> SocketLink:
    """A link to the unix socket at `path`. Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    return _connected(made, path, f"unix:{path}", timeout)


def connect_tcp(host: str, port: int, timeout: float = 5.0) -> SocketLink:
    """A link to a TCP server. Raises OSError."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    return _connected(made, (host, port), f"tcp:{host}:{port}", timeout)


def _taken(made: socket.socket, address: str | tuple[str, int]) -> bool:
    try:
        made.connect(address)
    except BlockingIOError:
        return False
    return True


def _connected(made: socket.socket, address: str | tuple[str, int], name: str, timeout: float) -> SocketLink:
    try:
        made.settimeout(timeout)
        # A unix socket with a full queue of connections fails at once instead of waiting.
        if not happens(partial(_taken, made, address), timeout, 0.005):
            raise BlockingIOError(errno.EAGAIN, "the queue of connections is full")
    except OSError:
        made.close()
        raise
    return SocketLink(made, name)
