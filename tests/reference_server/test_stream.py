"""Sessions over real sockets: framing, concurrency, misbehaving peers, shutdown."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from protocol import codec
from protocol import constants as c
from protocol import messages as m
from protocol.registry import Message
from reference_server.exports import Export, Exports
from reference_server.handlers import OPERATIONS
from reference_server.hostfs import HostStore
from reference_server.limits import Limits
from reference_server.outlets import Health
from reference_server.session import Session
from reference_server.transports import tcp, unix
from reference_server.transports.stream import Listener
from tests.descriptors import held, leaked
from tests.waiting import PATIENT

R = TypeVar("R", bound=Message)


class Wire:
    """A socket that speaks frames."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENT)

    def send(self, *requests: Message) -> None:
        self.sock.sendall(b"".join(codec.frame(request) for request in requests))

    def receive(self) -> Message:
        size = self._exactly(4)
        return codec.decode(size + self._exactly(int.from_bytes(size, "little") - 4))

    def _exactly(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            piece = self.sock.recv(count - len(got))
            if not piece:
                raise EOFError
            got += piece
        return bytes(got)

    def ok(self, request: Message, expected: type[R]) -> R:
        self.send(request)
        reply = self.receive()
        assert isinstance(reply, expected), reply
        assert reply.tag == request.tag
        return reply

    def begin(self, msize: int = 65536) -> Wire:
        self.ok(m.Tversion(c.NOTAG, msize, b"9P2000.L"), m.Rversion)
        self.ok(m.Tattach(1, 0, c.NOFID, b"", b"", 0), m.Rattach)
        return self

    def open(self, fid: int, name: bytes, flags: int = c.O_RDWR) -> None:
        self.ok(m.Twalk(1, 0, fid, ()), m.Rwalk)
        self.ok(m.Tlcreate(1, fid, name, flags, 0o644, 0), m.Rlcreate)


@pytest.fixture
def listener(folder: Path, health: Health) -> Iterator[Listener]:
    store = HostStore(str(folder))
    exports = Exports(Export(store))
    before = held()
    sock = unix.bind(str(folder.parent / "socket"))
    listener = Listener(sock, "unix", lambda: Session(exports, OPERATIONS, Limits(lock_wait=20), health))
    listener.start()
    yield listener
    listener.close()
    assert leaked(before) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("9p-")]
    store.close()


@pytest.fixture
def wire(listener: Listener, folder: Path) -> Iterator[Wire]:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(folder.parent / "socket"))
    yield Wire(sock)
    sock.close()


def another(folder: Path) -> Wire:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(folder.parent / "socket"))
    return Wire(sock)


def test_frames_in_every_kind_of_pieces(wire: Wire) -> None:
    wire.begin()
    wire.open(5, b"f")
    content = os.urandom(5000)
    frames = b"".join(
        codec.frame(request)
        for request in (
            m.Twrite(10, 5, 0, content),
            m.Tgetattr(11, 5, 0),
            m.Tread(12, 5, 0, 5000),
            m.Tgetattr(13, 5, 0),
        )
    )
    for piece in (1, 3, 7, 11, 1000, 4999, len(frames)):
        for at in range(0, len(frames), piece):
            wire.sock.sendall(frames[at : at + piece])
        replies = {reply.tag: reply for reply in (wire.receive() for _ in range(4))}
        assert replies[10] == m.Rwrite(10, 5000)
        assert replies[12] == m.Rread(12, content)
        assert isinstance(replies[11], m.Rgetattr) and isinstance(replies[13], m.Rgetattr)


@pytest.mark.parametrize("msize", [4096, 65536, 1 << 20])
def test_bulk_data(wire: Wire, msize: int) -> None:
    wire.begin(msize)
    wire.open(5, b"f")
    room = msize - c.IOHDRSZ
    pieces = [os.urandom(room) for _ in range(8)]

    def feed() -> None:
        wire.send(*(m.Twrite(100 + n, 5, n * room, piece) for n, piece in enumerate(pieces)))

    thread = threading.Thread(target=feed)
    thread.start()
    replies = {reply.tag: reply for reply in (wire.receive() for _ in pieces)}
    thread.join()
    wire.send(*(m.Tread(200 + n, 5, n * room, room) for n in range(8)))
    replies |= {reply.tag: reply for reply in (wire.receive() for _ in pieces)}
    for number, piece in enumerate(pieces):
        assert replies[100 + number] == m.Rwrite(100 + number, room)
        assert replies[200 + number] == m.Rread(200 + number, piece)


def test_small_and_large_replies_together(wire: Wire) -> None:
    wire.begin(1 << 20)
    wire.open(5, b"f")
    content = os.urandom(300_000)
    wire.ok(m.Twrite(1, 5, 0, content), m.Rwrite)
    requests: list[Message] = []
    for number in range(30):
        requests += [m.Tread(1000 + number, 5, number, 290_000), m.Tgetattr(2000 + number, 5, 0)]
    wire.send(*requests)
    replies = {reply.tag: reply for reply in (wire.receive() for _ in requests)}
    for number in range(30):
        assert replies[1000 + number] == m.Rread(1000 + number, content[number : number + 290_000])


def test_a_slow_request_does_not_hold_up_the_others(wire: Wire, folder: Path) -> None:
    wire.begin()
    wire.open(5, b"f")
    other = another(folder).begin()
    other.open(5, b"f")
    other.ok(m.Tlock(1, 5, c.LOCK_TYPE_WRLCK, 0, 0, 0, 1, b"other"), m.Rlock)
    wire.send(m.Tlock(100, 5, c.LOCK_TYPE_WRLCK, c.LOCK_FLAGS_BLOCK, 0, 0, 1, b"me"))
    wire.send(m.Tlock(101, 5, c.LOCK_TYPE_WRLCK, c.LOCK_FLAGS_BLOCK, 0, 0, 2, b"me"))
    for tag in range(1, 20):
        wire.ok(m.Tgetattr(tag, 5, 0), m.Rgetattr)
    wire.ok(m.Tfsync(50, 5, 0), m.Rfsync)
    wire.ok(m.Tflush(51, 101), m.Rflush)
    other.ok(m.Tlock(1, 5, c.LOCK_TYPE_UNLCK, 0, 0, 0, 1, b"other"), m.Rlock)
    assert wire.receive() == m.Rlock(100, c.LOCK_SUCCESS)
    other.sock.close()


def test_many_locks_can_be_waited_for_at_once(wire: Wire, folder: Path) -> None:
    """There are more blocked requests than workers; still, a worker is left for the other clients."""
    wire.begin()
    wire.open(5, b"f")
    wire.ok(m.Tlock(1, 5, c.LOCK_TYPE_WRLCK, 0, 0, 0, 0, b"me"), m.Rlock)
    waiting = range(100, 200)
    wire.send(*(m.Tlock(tag, 5, c.LOCK_TYPE_RDLCK, c.LOCK_FLAGS_BLOCK, 0, 0, tag, b"me") for tag in waiting))
    wire.ok(m.Tfsync(50, 5, 0), m.Rfsync)
    wire.send(m.Tlock(1, 5, c.LOCK_TYPE_UNLCK, 0, 0, 0, 0, b"me"))
    replies = {reply.tag: reply for reply in (wire.receive() for _ in range(101))}
    assert all(replies[tag] == m.Rlock(tag, c.LOCK_SUCCESS) for tag in waiting)


def test_a_frame_over_msize_is_refused_and_the_stream_goes_on(wire: Wire) -> None:
    wire.begin(8192)
    wire.open(5, b"f")
    for size in (8193, 20000, 100_000, 5 << 20):
        body = struct.pack("<IBHIQI", size, m.Twrite.type, 77, 5, 0, size - 23) + bytes(size - 23)
        wire.sock.sendall(body + codec.frame(m.Tgetattr(78, 5, 0)))
        assert wire.receive() == m.Rlerror(77, c.EMSGSIZE)
        reply = wire.receive()
        assert isinstance(reply, m.Rgetattr) and reply.size == 0


def test_a_frame_of_exactly_msize_is_served(wire: Wire) -> None:
    wire.begin(8192)
    wire.open(5, b"f")
    wire.ok(m.Twrite(1, 5, 0, bytes(8192 - c.TWRITE_HDRSZ)), m.Rwrite)


@pytest.mark.parametrize("size", [0, 1, 4, 6])
def test_a_size_that_cannot_be_ends_the_connection_alone(wire: Wire, folder: Path, size: int) -> None:
    wire.begin()
    wire.sock.sendall(struct.pack("<IBH", size, 24, 1) + bytes(100))
    with pytest.raises((EOFError, ConnectionError)):
        wire.receive()
    another(folder).begin().sock.close()


def test_peers_that_go_in_the_middle(listener: Listener, folder: Path) -> None:
    whole = codec.frame(m.Tversion(c.NOTAG, 8192, b"9P2000.L"))
    for length in range(len(whole)):
        wire = another(folder)
        wire.sock.sendall(whole[:length])
        wire.sock.close()
    for _ in range(10):
        wire = another(folder).begin()
        wire.open(5, b"f")
        wire.send(*(m.Tread(tag, 5, 0, 60000) for tag in range(50)))
        wire.send(m.Tlock(100, 5, c.LOCK_TYPE_WRLCK, 1, 0, 0, 1, b""), m.Tfsync(101, 5, 0))
        wire.sock.close()
    another(folder).begin().sock.close()


def test_a_peer_that_does_not_read_stops_being_read(listener: Listener, folder: Path) -> None:
    """Its requests stay in the socket, not in the server's memory."""
    idle, busy = another(folder).begin(1 << 20), another(folder).begin()
    idle.open(5, b"f")
    idle.ok(m.Twrite(1, 5, 0, bytes(1_000_000)), m.Rwrite)
    idle.sock.setblocking(False)
    frame = codec.frame(m.Tread(2, 5, 0, 1_000_000))
    sent = 0
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            sent += idle.sock.send(frame * 100)
        except BlockingIOError:
            time.sleep(0.05)
    assert sent < 2 << 20
    busy.ok(m.Tgetattr(1, 0, 0), m.Rgetattr)
    idle.sock.close()
    busy.sock.close()


def test_a_peer_for_whom_there_is_no_thread_is_turned_away_alone(
    listener: Listener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        wire = another(folder)
        assert wire.sock.recv(1) == b""
        wire.sock.close()
    another(folder).begin().sock.close()


def test_closing_ends_everything_in_the_middle(folder: Path, health: Health) -> None:
    store = HostStore(str(folder))
    exports = Exports(Export(store))
    listener = Listener(unix.bind(str(folder.parent / "socket")), "x", lambda: Session(exports, OPERATIONS))
    listener.start()
    wires = [another(folder).begin() for _ in range(5)]
    for wire in wires:
        wire.open(5, b"f")
        wire.send(m.Tlock(100, 5, c.LOCK_TYPE_WRLCK, 1, 0, 0, 1, b""), m.Tfsync(101, 5, 0))
    started = time.monotonic()
    listener.close()
    assert time.monotonic() - started < PATIENT, "it waited for requests that nobody answers"
    for wire in wires:
        wire.sock.close()
    store.close()


# --- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:99", ("127.0.0.1", 99)),
        ("[::1]:99", ("::1", 99)),
        ("[::1]", ("::1", 564)),
        ("localhost", ("localhost", 564)),
        (":0", ("127.0.0.1", 0)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert tcp.parse_address(text) == address


@pytest.mark.parametrize("text", ["127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1"])
def test_ports_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        tcp.parse_address(text)


def test_only_loopback_unless_remote_is_allowed() -> None:
    for host in ("0.0.0.0", "8.8.8.8", "::"):
        with pytest.raises(tcp.NotLoopback):
            tcp.bind(host, 0)
    sock, shown = tcp.bind("0.0.0.0", 0, remote=True)
    assert shown.startswith("0.0.0.0:")
    sock.close()


def test_a_unix_socket_is_its_owners_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    sock = unix.bind(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    sock.listen()
    with pytest.raises(OSError, match="listens there already"):
        unix.bind(path)
    sock.close()
    unix.bind(path).close()  # a dead socket is replaced
    unix.unbind(path)
    (tmp_path / "s").write_text("not a socket")
    with pytest.raises(FileExistsError):
        unix.bind(path)
    unix.unbind(path)
    assert (tmp_path / "s").exists()
