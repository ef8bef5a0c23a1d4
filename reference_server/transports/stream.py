"""A session over a byte stream, such as TCP and unix sockets.

The rule of this module: whole frames for the session and for the peer, however the stream splits them. One thread reads
and serves; replies to requests that arrived together leave together, which makes small requests cheap.
"""

from __future__ import annotations

import logging
import mmap
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence

from protocol.constants import EMSGSIZE, HDRSZ
from protocol.fields import Buffer
from reference_server.pool import Pool
from reference_server.session import Session, Work
from reference_server.shares import Commons
from reference_server.transports.admission import Door, Sparing

log = logging.getLogger("reference_server")

_CHUNK = 64 * 1024
"""Bytes to read when the next frame's length is unknown; more would only have to be copied."""
_JOINED = 32 * 1024
"""Replies up to this many bytes in all are joined for one send; longer ones are gathered (sendmsg)."""
_IOV_MAX = 1024
_size_at = struct.Struct("<I").unpack_from
_SO_SNDBUFFORCE = 32
"""socket(7); Python has no name for it."""
_ACCEPT_PAUSE = 0.5
"""Seconds until the next try after accept(2) failed."""
_PAGE = 4096
_SKEW = 2048
"""Where in a page file data is read to.  A copy out of the page cache whose target lies 1 to 31 bytes further
into its page than the source takes eight times as long on AMD processors (520 against 60 us for 1 MiB); data
mostly
begins at the start of a page, so half a page away is safe."""


class Connection:
    """Serves one peer until it disconnects."""

    def __init__(self, sock: socket.socket, session: Session) -> None:
        self._sock = sock
        self._session = session
        self._pool = Pool(session.limits.workers, f"9p-{session.number}")
        self._sending = threading.Lock()
        self._broken = False
        self._outlet = _BatchOutlet(self)
        self._queued = 0
        """Bytes of frames that were copied for workers and are not over."""
        self._room = threading.Condition()

    def serve(self) -> None:
        """Read and serve until the peer disconnects or sends an invalid frame; then release everything."""
        try:
            self._read()
        except (ConnectionError, TimeoutError):
            pass
        except OSError as error:
            log.debug("connection ended: %s", error)
        finally:
            self._broken = True
            self._session.close()
            self._sock.close()
            self._pool.close()

    def _read(self) -> None:
        session, outlet = self._session, self._outlet
        memory = memoryview(mmap.mmap(-1, session.limits.msize_max + _CHUNK))
        start = end = 0
        while True:
            # Serve what is there.
            while end - start >= HDRSZ:
                (size,) = _size_at(memory, start)
                if size < HDRSZ:
                    return  # the start of the next frame is unknown
                if size > session.msize:
                    break
                if size > end - start:
                    break
                frame = memory[start : start + size]
                start += size
                work = session.receive(frame, outlet, end - start >= HDRSZ)
                if work is not None:
                    self._hand_over(work, frame)
            outlet.flush()
            if start == end:
                start = end = 0
            # Get more.
            have = end - start
            if have >= HDRSZ:
                (size,) = _size_at(memory, start)
                if size > session.msize:
                    tag = memory[start + 5] | memory[start + 6] << 8
                    session.refuse(tag, EMSGSIZE, outlet)
                    outlet.flush()
                    self._skip(size - have)
                    start = min(start + size, end)
                    continue
                if start + size > len(memory):
                    memory[:have] = memory[start:end]
                    start, end = 0, have
                # The rest of this frame and no more, in one call.
                count = self._sock.recv_into(memory[end:], start + size - end, socket.MSG_WAITALL)
            else:
                if start:
                    memory[:have] = memory[start:end]
                    start, end = 0, have
                count = self._sock.recv_into(memory[end:], _CHUNK)
            if not count:
                return
            end += count

    def _skip(self, count: int) -> None:
        """Discard the rest of a frame that is too long."""
        waste = bytearray(min(count, _CHUNK)) if count > 0 else bytearray()
        while count > 0:
            got = self._sock.recv_into(waste, min(count, len(waste)))
            if not got:
                raise ConnectionResetError
            count -= got

    # --- workers -----------------------------------------------------------------------------------

    def _hand_over(self, work: Work, frame: memoryview) -> None:
        """Let a worker run ``work``, with its own copy of ``frame``, to which it refers."""
        size = len(frame)
        with self._room:
            while self._queued and self._queued + size > self._session.limits.queued_bytes:
                self._room.wait()
            self._queued += size
        work.detach()

        def job() -> float | None:
            delay = work.run()
            if delay is None:
                with self._room:
                    self._queued -= size
                    self._room.notify()
            return delay

        self._pool.submit(job)

    # --- sending -----------------------------------------------------------------------------------

    def send(self, buffers: list[Buffer], size: int) -> None:
        """Send whole frames, ``size`` bytes in all. Thread-safe. Ignores a peer that is gone."""
        with self._sending:
            if self._broken:
                return
            try:
                if size <= _JOINED:
                    self._sock.sendall(b"".join(buffers))
                else:
                    self._send_gathered(buffers)
            except OSError:
                # The reading side notices it itself.
                self._broken = True

    def _send_gathered(self, buffers: list[Buffer]) -> None:
        at = 0
        while at < len(buffers):
            sent = self._sock.sendmsg(buffers[at : at + _IOV_MAX])
            while at < len(buffers) and sent >= len(buffers[at]):
                sent -= len(buffers[at])
                at += 1
            if sent:
                buffers[at] = memoryview(buffers[at])[sent:]

    def arena_size(self) -> int:
        """Bytes of memory that a batch of replies may read file data into."""
        return self._session.limits.msize_max + _CHUNK

    def end(self) -> None:
        """Make ``serve`` return soon. Thread-safe."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("peer was gone already")


class _BatchOutlet:
    """Collects the replies of the reading thread until it has nothing more to serve."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pending: list[Buffer] = []
        self._size = 0
        self._arena = memoryview(mmap.mmap(-1, connection.arena_size()))
        self._used = 0

    def payload(self, count: int) -> Sequence[memoryview]:
        start = self._start()
        if start + count > len(self._arena):
            self.flush()
            start = self._start()
        self._used = start
        return (self._arena[start : start + count],)

    def _start(self) -> int:
        """The next place with the right skew."""
        return self._used + (_SKEW - self._used) % _PAGE

    def send(self, buffers: list[Buffer]) -> None:
        self._pending += buffers
        for buffer in buffers:
            self._size += len(buffer)
        if self._size > _CHUNK:
            self.flush()

    def send_placed(self, head: bytes, count: int) -> None:
        self._pending.append(head)
        self._pending.append(self._arena[self._used : self._used + count])
        self._used += count
        self._size += len(head) + count
        if self._size > _CHUNK:
            self.flush()

    def later(self) -> _LateOutlet:
        # Replies from other threads must not overtake earlier ones.
        self.flush()
        return _LateOutlet(self._connection)

    def flush(self) -> None:
        """Send the collected replies."""
        if self._pending:
            self._connection.send(self._pending, self._size)
            self._pending = []
            self._size = 0
            self._used = 0


class _LateOutlet:
    """Sends one reply from any thread, from its own memory."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._memory = memoryview(b"")

    def payload(self, count: int) -> Sequence[memoryview]:
        # Large allocations begin 16 bytes into a page; see _SKEW.
        self._memory = memoryview(bytearray(count + _SKEW))[_SKEW:]
        return (self._memory,)

    def send(self, buffers: list[Buffer]) -> None:
        self._connection.send(list(buffers), sum(map(len, buffers)))

    def send_placed(self, head: bytes, count: int) -> None:
        self._connection.send([head, self._memory[:count]], len(head) + count)

    def later(self) -> _LateOutlet:
        return self


class Listener:
    """Accepts peers on one bound socket and serves each on its own thread."""

    def __init__(
        self, sock: socket.socket, name: str, make_session: Callable[[], Session], door: Door | None = None
    ) -> None:
        self._sock = sock
        self._door = door or Door(Commons().connections)
        self._refused = Sparing()
        self.name = name
        """How a user would write the address."""
        self._make_session = make_session
        self._connections: dict[Connection, threading.Thread] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name=f"accept {name}", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._sock.listen(128)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _peer = self._sock.accept()
            except OSError as error:
                if self._closed:
                    return
                # Descriptors or memory are short; the peer waits in the queue meanwhile.
                self._refused.warn(f"{self.name}: accept failed, a peer waits: {error.strerror}")
                self._door.make_room()
                time.sleep(_ACCEPT_PAUSE)
                continue
            try:
                if not self._begin(sock):
                    return
            except (
                OSError,
                MemoryError,
                RuntimeError,
            ) as error:  # no room, no memory, no thread: reject this peer
                sock.close()
                self._refused.warn(f"{self.name}: a peer was turned away: {error}")

    def _begin(self, sock: socket.socket) -> bool:
        """Serve a new peer; false if the listener has been closed."""
        sock, origin = self._door.enter(sock)
        try:
            session = self._make_session()
            _tune(sock, session.limits.msize_max)
            connection = Connection(sock, session)
            thread = threading.Thread(
                target=self._serve, args=(connection, origin), name=f"serve {self.name}", daemon=True
            )
            with self._lock:
                if self._closed:
                    sock.close()
                    self._door.leave(origin)
                    return False
                self._connections[connection] = thread
            try:
                thread.start()
            except RuntimeError:
                with self._lock:
                    del self._connections[connection]
                raise
        except BaseException:
            sock.close()
            self._door.leave(origin)
            raise
        return True

    def _serve(self, connection: Connection, origin: object) -> None:
        try:
            connection.serve()
        except (MemoryError, RuntimeError) as error:
            self._refused.warn(f"{self.name}: a connection was given up: {error}")
        finally:
            self._door.leave(origin)
            with self._lock:
                self._connections.pop(connection, None)

    def close(self) -> None:
        """Stop accepting, end every connection and wait until all is released."""
        with self._lock:
            self._closed = True
            serving = list(self._connections.items())
        # shutdown wakes accept(2); close alone would leave it waiting.
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("listener was not listening")
        self._sock.close()
        for connection, _thread in serving:
            connection.end()
        for _connection, thread in serving:
            thread.join()
        self._refused.close()


def _tune(sock: socket.socket, msize: int) -> None:
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return
    # Room for the largest reply, so that one send need not wait for the peer several times. TCP sizes its buffer
    # itself. Only root may exceed net.core.wmem_max.
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * msize)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * msize)
