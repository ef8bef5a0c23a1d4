"""The guest's virtio-console device with several ports, served from this process over vhost-user.

Each port carries one program's standard input and output: `ConsoleServer.open` gives the host's end of one as a
socket. A thread moves the bytes; when the guest dies the sockets end.

Source: virtio 1.3, 5.3 (multiport); drivers/char/virtio_console.c for Linux's behaviour: bytes that come before the
guest has opened a port are dropped, and reading a port that the host has not opened ends at once.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from guests.errors import InfrastructureError
from guests.machines.uml.backend import Backend
from guests.machines.uml.ring import Broken, Queue
from protocol.vhost_user import Malformed

VIRTIO_ID_CONSOLE = 3
PORTS = 8
"""Programs in the guest at one time."""

_F_MULTIPORT = 1 << 1
_CONFIG = struct.Struct("<HHII")
"""cols, rows, max_nr_ports, emerg_wr."""
_CONTROL = struct.Struct("<IHH")
"""port, event, value."""
_DEVICE_READY, _PORT_ADD, _PORT_READY, _PORT_OPEN = 0, 1, 3, 6
_CONTROL_RX, _CONTROL_TX = 2, 3
_PART = 1 << 18
"""Bytes taken from a socket at a time."""
_FULL = 1 << 20
"""Bytes that may wait for a slow reader before its writer is made to wait, too."""


def _queues_of(port: int) -> tuple[int, int]:
    """Indices of a port's queues, to the guest and from it (virtio 1.3, 5.3.2)."""
    return (0, 1) if port == 0 else (2 * port + 2, 2 * port + 3)


class _Port:
    """One port: its state in the guest, and the host's socket while it is in use."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.receive, self.transmit = _queues_of(number)
        self.guest_open = False
        self.socket: socket.socket | None = None
        self.to_guest = bytearray()
        self.to_host = bytearray()
        self.ended = False
        """The host's side has closed; what it sent last is still on its way."""


class ConsoleServer:
    """The device of one guest. Made before the guest starts; `close` ends its thread."""

    def __init__(self, path: Path) -> None:
        """Listen at ``path``. Raises InfrastructureError if that fails."""
        self.features = _F_MULTIPORT
        self.config = _CONFIG.pack(0, 0, PORTS, 0)
        self.queues = [Queue() for _ in range(2 * PORTS + 2)]
        self._ports = [_Port(number) for number in range(PORTS)]
        self._backend: Backend | None = None
        self._control: list[tuple[int, int, int]] = []
        self._selector = selectors.DefaultSelector()
        self._state = threading.Condition()
        self._closing = False
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(str(path))
            self._listener.listen(1)
        except OSError as error:
            self._listener.close()
            raise InfrastructureError(
                f"socket {path} for the guest's console: {error.strerror or error}",
                "set XDG_RUNTIME_DIR to a directory with a short name that you can write",
            ) from error
        self._wake_out, self._wake = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_out, selectors.EVENT_READ, self._woken)
        self._thread = threading.Thread(target=self._run, name="uml-console", daemon=True)
        self._thread.start()

    def wait(self, limit: float, still_wanted: Callable[[], bool]) -> None:
        """Return when the guest waits at a port. Raises InfrastructureError like ``open``."""
        with self._state:
            self._free(limit, still_wanted)

    def open(self, limit: float, still_wanted: Callable[[], bool]) -> socket.socket:
        """The host's end of a port behind which the guest waits.

        Raises InfrastructureError after ``limit`` seconds, or as soon as ``still_wanted`` returns false.
        """
        with self._state:
            free = self._free(limit, still_wanted)
            ours, free.socket = socket.socketpair()
            free.socket.setblocking(False)
            free.ended = False
            self._control.append((free.number, _PORT_OPEN, 1))
        self._poke()
        return ours

    def _free(self, limit: float, still_wanted: Callable[[], bool]) -> _Port:
        """A free port that the guest has open."""
        deadline = time.monotonic() + limit
        while True:
            free = next((p for p in self._ports if p.guest_open and p.socket is None), None)
            if free is not None:
                return free
            if not still_wanted():
                raise InfrastructureError("the machine ended before its guest answered")
            if time.monotonic() > deadline:
                busy = sum(p.socket is not None for p in self._ports)
                raise InfrastructureError(
                    f"the guest opened no port within {limit:.0f} s ({busy} of {PORTS} are in use)",
                    "see its console log",
                )
            self._state.wait(min(0.2, limit))

    def close(self) -> None:
        """End the device: the guest's console is dead. Never raises."""
        self._closing = True
        self._poke()
        self._thread.join(10)

    # --- the thread ---------------------------------------------------------------------------------

    def _poke(self) -> None:
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def _run(self) -> None:
        try:
            while not self._closing:
                for key, _ in self._selector.select():
                    key.data()
                if self._backend is not None:
                    self._serve()
        finally:
            self._forget()
            self._selector.close()
            for end in (self._listener, self._wake, self._wake_out):
                end.close()

    def _serve(self) -> None:
        """Move all available bytes; a guest that breaks the protocol loses its console."""
        try:
            with self._state:
                self._send_control()
                for port in self._ports:
                    self._move(port)
        except (Broken, Malformed):
            self._forget()

    def _woken(self) -> None:
        self._wake_out.recv(4096)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        if self._backend is not None:
            connection.close()
            return
        self._backend = Backend(connection, self)
        self._selector.register(connection, selectors.EVENT_READ, self._message)

    def _message(self) -> None:
        if self._backend is None:
            return  # what came before it in the same round ended the connection
        before = [queue.kick for queue in self.queues]
        try:
            there = self._backend.receive()
        except (Broken, Malformed):
            there = False
        for number, (old, queue) in enumerate(zip(before, self.queues, strict=True)):
            if old != queue.kick:
                if old >= 0:
                    with contextlib.suppress(KeyError, ValueError, OSError):
                        self._selector.unregister(old)
                if queue.kick >= 0:
                    os.set_blocking(queue.kick, False)
                    self._selector.register(queue.kick, selectors.EVENT_READ, self._kick_of(number))
        if not there:
            self._forget()

    def _kick_of(self, number: int) -> Callable[[], None]:
        def kicked() -> None:
            queue = self.queues[number]
            if queue.kick < 0:
                return  # as in _message
            with contextlib.suppress(BlockingIOError):
                os.read(queue.kick, 8)
            self.kicked(number)

        return kicked

    def kicked(self, queue: int) -> None:
        """See Device. The ports' queues are processed after every event."""
        if queue == _CONTROL_TX and self._backend is not None:
            try:
                with self._state:
                    while (chain := self.queues[queue].pop(self._backend.memory)) is not None:
                        self._control_message(b"".join(chain.readable))
                        self.queues[queue].push(chain, 0)
                    self.queues[queue].signal()
            except Broken:
                self._forget()

    def _control_message(self, message: bytes) -> None:
        number, event, value = _CONTROL.unpack_from(message.ljust(_CONTROL.size, b"\0"))
        if event == _DEVICE_READY:
            self._control += [(port.number, _PORT_ADD, 1) for port in self._ports]
        elif event == _PORT_OPEN and number < len(self._ports):
            port = self._ports[number]
            port.guest_open = bool(value)
            if not value and port.socket is not None:
                # The program has ended. Its last output is still in the queue.
                self._from_guest(port)
                self._hang_up(port)
            self._state.notify_all()

    def _send_control(self) -> None:
        queue, sent = self.queues[_CONTROL_RX], False
        while self._control and self._backend is not None:
            chain = queue.pop(self._backend.memory)
            if chain is None:
                break
            message = _CONTROL.pack(*self._control.pop(0))
            chain.writable[0][: len(message)] = message
            queue.push(chain, len(message))
            sent = True
        if sent:
            queue.signal()

    def _move(self, port: _Port) -> None:
        """Both directions of one port, as far as possible without waiting."""
        if port.socket is None:
            return
        self._watch(port)
        self._from_guest(port)
        if port.socket is not None:
            self._from_host(port)

    def _watch(self, port: _Port) -> None:
        """Watch its socket: for reading unless enough is queued for the guest, for writing if something is queued."""
        assert port.socket is not None
        wanted = 0 if port.ended or len(port.to_guest) > _FULL else selectors.EVENT_READ
        wanted |= selectors.EVENT_WRITE if port.to_host else 0
        try:
            known = self._selector.get_key(port.socket).events
        except KeyError:
            known = 0
        if wanted and not known:
            self._selector.register(port.socket, wanted, lambda: None)
        elif known and not wanted:
            self._selector.unregister(port.socket)
        elif known != wanted:
            self._selector.modify(port.socket, wanted, lambda: None)

    def _from_guest(self, port: _Port) -> None:
        assert self._backend is not None and port.socket is not None
        queue, taken = self.queues[port.transmit], False
        while len(port.to_host) < _FULL:
            chain = queue.pop(self._backend.memory)
            if chain is None:
                break
            for part in chain.readable:
                port.to_host += part
            queue.push(chain, 0)
            taken = True
        # Linux's driver has no use for this interrupt (virtio_console.c gives these queues no callback) and suppresses
        # it for good; under User-Mode Linux it would cost a signal for every message.
        if taken and not queue.mute:
            queue.signal()
        try:
            while port.to_host:
                del port.to_host[: port.socket.send(port.to_host)]
        except BlockingIOError:
            self._watch(port)
        except OSError:
            self._no_host(port)

    def _from_host(self, port: _Port) -> None:
        assert self._backend is not None and port.socket is not None
        while not port.ended and len(port.to_guest) < _FULL:
            try:
                data = port.socket.recv(_PART)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            port.to_guest += data
            if not data:
                self._no_host(port)
        queue, given = self.queues[port.receive], False
        while port.to_guest:
            chain = queue.pop(self._backend.memory)
            if chain is None:
                break
            written = 0
            for part in chain.writable:
                piece = port.to_guest[: len(part)]
                part[: len(piece)] = piece
                del port.to_guest[: len(piece)]
                written += len(piece)
            queue.push(chain, written)
            given = True
        if given:
            queue.signal()
        if port.ended and not port.to_guest:
            # The guest reads an end of file; it sends PORT_OPEN 0 when its program is gone.
            self._control.append((port.number, _PORT_OPEN, 0))
            self._hang_up(port)
            port.guest_open = False
            self._send_control()

    def _no_host(self, port: _Port) -> None:
        """The host has closed its end."""
        port.ended = True
        port.to_host.clear()
        self._watch(port)

    def _hang_up(self, port: _Port) -> None:
        """Close the host's socket after delivering what it accepts at once."""
        assert port.socket is not None
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(port.socket)
        if port.to_host:
            with contextlib.suppress(OSError):
                port.socket.settimeout(5)
                port.socket.sendall(port.to_host)
        port.socket.close()
        if not port.ended:
            self._control.append((port.number, _PORT_OPEN, 0))
        port.socket, port.ended = None, False
        port.to_guest.clear()
        port.to_host.clear()

    def _forget(self) -> None:
        """The guest is gone: every channel into it ends."""
        with self._state:
            backend, self._backend = self._backend, None
            for queue in self.queues:
                if queue.kick >= 0:
                    with contextlib.suppress(KeyError, ValueError):
                        self._selector.unregister(queue.kick)
            if backend is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(backend.connection)
                backend.close()
            for port in self._ports:
                if port.socket is not None:
                    self._hang_up(port)
                port.guest_open = False
            self._control.clear()
            self._state.notify_all()
