"""Records of frames: written, read, printed, sent again."""

from __future__ import annotations

import errno
import io
import socket
import struct
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, messages
from protocol import constants as c
from protocol import messages as m
from protocol.dirents import encode_dirent
from protocol.fields import Buffer, Dialect, Qid
from protocol.registry import Message
from reference_server import framelog, replay
from reference_server.exports import Export, Exports
from reference_server.framelog import EndsWithinFrame, Lines, NotARecord, Record, Recorder
from reference_server.handlers import OPERATIONS
from reference_server.memfs import MemoryStore
from reference_server.session import Session
from reference_server.transports import unix
from reference_server.transports.stream import Listener
from tests.golden.frames import read as golden_frames
from tests.protocol.strategies import messages as any_message
from tests.waiting import PATIENT


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.binary(max_size=50)), max_size=20))
def test_a_record_gives_back_what_was_recorded(crossed: list[tuple[int, bool, bytes]]) -> None:
    file, times = io.BytesIO(), iter(range(0, 10**9, 1_000_000))
    recorder = Recorder(file, lambda: next(times))
    for session, sent, frame in crossed:
        if sent:
            recorder.sent(session, [frame[:3], frame[3:]])
        else:
            recorder.received(session, frame)
    recorder.close()
    file.seek(0)
    found = list(framelog.read(file))
    assert [(one.session, one.sent, one.frame) for one in found] == crossed
    assert [round(one.at, 6) for one in found] == [round((n + 1) / 1000, 6) for n in range(len(crossed))]


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(NotARecord):
        list(framelog.read(io.BytesIO(b"something else")))
    file = io.BytesIO()
    recorder = Recorder(file)
    recorder.received(1, b"0123456789")
    recorder.received(1, b"0123456789")
    for cut in (1, 5, 12):
        records = framelog.read(io.BytesIO(file.getvalue()[:-cut]))
        assert next(records).frame == b"0123456789"
        with pytest.raises(EndsWithinFrame):
            next(records)


class Full:
    """A file on a disk with room for ``room`` bytes; it takes a few at a time."""

    def __init__(self, room: int) -> None:
        self.kept, self.room = bytearray(), room

    def write(self, data: Buffer) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = bytes(data[: min(self.room, 7)])
        self.kept += taken
        self.room -= len(taken)
        return len(taken)


def test_a_record_that_has_no_more_room_ends_and_nothing_else_does(caplog: pytest.LogCaptureFixture) -> None:
    """Earlier, the recorder's exception on a full disk ended each session."""
    file = Full(40)
    recorder = Recorder(cast(Any, file))
    for _ in range(5):
        recorder.received(1, b"0123456789")
        recorder.sent(1, [b"0123456789"])
    assert [record.message for record in caplog.records] == [
        "the record ends here, it cannot be written: No space left on device"
    ]
    records = framelog.read(io.BytesIO(bytes(file.kept)))
    assert next(records).frame == b"0123456789"
    with pytest.raises(EndsWithinFrame):
        next(records)


@given(any_message(Dialect.L))
def test_every_message_can_be_described(message: Message) -> None:
    line = framelog.describe_message(message)
    assert line.startswith(type(message).__name__)
    assert "\n" not in line


@given(st.binary(max_size=60))
def test_any_bytes_can_be_described(junk: bytes) -> None:
    assert "\n" not in framelog.describe(junk)
    list(Lines().feed(Record(0, 1, False, junk)))


def test_golden_frames_can_be_described() -> None:
    for golden in golden_frames():
        assert framelog.describe(golden.frame).startswith(type(golden.message).__name__)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (m.Tlopen(1, 3, 0x8002), "Tlopen(fid=3, flags=RDWR|LARGEFILE)"),
        (m.Tlopen(1, 3, 0x80000000), "Tlopen(fid=3, flags=0x80000000)"),
        (
            m.Tattach(1, 0, c.NOFID, b'a"b', b"", c.NONUNAME),
            'Tattach(fid=0, afid=NOFID, uname="a\\"b", aname="", n_uname=NONUNAME)',
        ),
        (m.Twalk(1, 0, 1, (b"usr", b"\xff")), 'Twalk(fid=0, newfid=1, wnames=["usr", "\\xff"])'),
        (m.Rlerror(1, 2), "Rlerror ENOENT"),
        (m.Rlerror(1, 9999), "Rlerror 9999"),
        (m.Rwalk(1, (Qid(0x80, 1, 0x2A),)), "Rwalk(wqids=[2a.1.DIR])"),
        (m.Twrite(1, 2, 3, b"x" * 40), f'Twrite(fid=2, offset=3, data="{"x" * 32}"...40 bytes)'),
        (m.Tgetattr(1, 2, 0x7FF), "Tgetattr(fid=2, request_mask=BASIC)"),
        (m.Tgetattr(1, 2, 3), "Tgetattr(fid=2, request_mask=MODE|NLINK)"),
        (m.Rreaddir(1, encode_dirent(Qid(0, 0, 1), 1, 8, b"name")), 'Rreaddir(data=["name"])'),
        (m.Tunlinkat(1, 2, b"d", 0x200), 'Tunlinkat(dirfd=2, name="d", flags=REMOVEDIR)'),
        (
            m.Tlock(1, 2, 1, 1, 0, 0, 5, b"me"),
            'Tlock(fid=2, locktype=WRLCK, flags=BLOCK, start=0, length=0, proc_id=5, client_id="me")',
        ),
    ],
)
def test_lines(message: Message, line: str) -> None:
    assert framelog.describe_message(message) == line


def test_malformed_frames_say_why() -> None:
    line = framelog.describe(struct.pack("<IBHI", 11, messages.Tread.type, 1, 5))
    assert line.startswith("Tread(malformed: type 116: 11 bytes end before its fields do; 0b00")
    assert framelog.describe(b"\x07\0\0\0\xfe\0\0").startswith("type 254(malformed")


def test_exchanges_are_paired_by_tag() -> None:
    lines = Lines()

    def feed(at: float, sent: bool, message: Message) -> list[str]:
        return list(lines.feed(Record(at, 1, sent, codec.frame(message))))

    assert feed(0.0, False, m.Tclunk(1, 5)) == feed(0.1, False, m.Tclunk(2, 6)) == []
    assert feed(0.2, True, m.Rclunk(2)) == ["    0.100000   1     2 Tclunk(fid=6) = Rclunk() <0.100000>"]
    assert feed(0.3, True, m.Rclunk(9)) == ["    0.300000   1     9 (no request) = Rclunk()"]
    assert feed(0.4, False, m.Tclunk(1, 7)) == ["    0.000000   1     1 Tclunk(fid=5) = (tag used again)"]
    assert list(lines.rest()) == ["    0.400000   1     1 Tclunk(fid=7) = (no reply)"]


# --- sent again ------------------------------------------------------------------------------------


def serve(path: str, store: MemoryStore, observer: Recorder | None = None) -> Listener:
    exports = Exports(Export(store))
    listener = Listener(unix.bind(path), "x", lambda: Session(exports, OPERATIONS, observer=observer))
    listener.start()
    return listener


def connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENT)
    sock.connect(path)
    return sock


def test_a_recorded_session_can_be_sent_again(tmp_path: Path) -> None:
    file, path = io.BytesIO(), str(tmp_path / "s")
    listener = serve(path, MemoryStore(), Recorder(file))
    sock = connect(path)
    requests: list[Message] = [
        m.Tversion(c.NOTAG, 8192, b"9P2000.L"),
        m.Tattach(1, 0, c.NOFID, b"", b"", 0),
        m.Tmkdir(2, 0, b"d", 0o755, 0),
        m.Twalk(3, 0, 1, (b"d",)),
        m.Tlcreate(4, 1, b"f", c.O_RDWR, 0o644, 0),
        m.Twrite(5, 1, 0, b"content"),
        m.Twalk(6, 0, 2, (b"no",)),
    ]
    for request in requests:
        sock.sendall(codec.frame(request))
        assert sock.recv(8192)
    sock.sendall(b"".join(codec.frame(m.Tread(tag, 1, 0, 100)) for tag in range(10)))
    got = b""
    while len(got) < 10 * (11 + 7):
        got += sock.recv(8192)
    sock.close()
    listener.close()

    def again(store: MemoryStore) -> list[replay.Difference]:
        listener = serve(path, store)
        file.seek(0)
        try:
            return list(replay.replay(framelog.read(file), lambda: connect(path)))
        finally:
            listener.close()

    assert again(MemoryStore()) == []
    used = MemoryStore()
    assert again(used) == []
    differences = again(used)
    assert codec.decode(differences[0].request) == requests[2]
    assert codec.decode(differences[0].replayed or b"") == m.Rlerror(2, c.EEXIST)
