"""Recorded frames: a compact file of the traffic, and a line of text for each exchange.

The rule of this module: a record holds the unchanged frames, including malformed ones, so that it can be sent again
(:mod:`reference_server.replay`); the reader decodes them.

A record is a file that begins with :data:`MAGIC`; then, for each frame, ``microseconds[4] session[2]
direction[1] length[4] frame[length]``, little-endian, the microseconds counted from the frame before it.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from typing import BinaryIO, NamedTuple

from protocol import codec, legacy, messages
from protocol import constants as c
from protocol.codec import ProtocolError
from protocol.dirents import decode_dirents
from protocol.fields import Buffer, Dialect, Qid
from protocol.registry import Message

log = logging.getLogger("reference_server")

MAGIC = b"9P frames 1\n"
_HEAD = struct.Struct("<IHBI")
_MICROSECONDS_MAX = 0xFFFFFFFF
_SHOWN = 32
"""Bytes of data shown of a read or write, as strace(1) has it."""

RECEIVED = 0
SENT = 1


class NotARecord(ValueError):
    """The file does not begin as a record does."""


class EndsWithinFrame(ValueError):
    """The record ends in the middle of a frame: it is still being written, or its writer was killed."""


class Record(NamedTuple):
    """One frame that crossed."""

    at: float
    """Seconds since the record began."""
    session: int
    sent: bool
    """By the server."""
    frame: bytes


class Recorder:
    """Writes every frame to a file.  An observer of sessions; any thread may call it.

    Each frame is passed to the kernel before it is served or sent, so a killed server leaves the frames that led to it.
    If the file cannot be written any more (a full disk), the record ends, but not the sessions; that is logged once.
    """

    def __init__(self, file: BinaryIO | FileIO, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """``file``: unbuffered, where the tail must outlive the process.  Raises OSError when it cannot be written."""
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._last = clock() // 1000
        self._failed = False
        self._put(MAGIC)

    def received(self, session: int, frame: Buffer) -> None:
        """A request arrived."""
        self._write(session, RECEIVED, [frame])

    def sent(self, session: int, frame: Sequence[Buffer]) -> None:
        """A reply leaves."""
        self._write(session, SENT, frame)

    def _write(self, session: int, direction: int, pieces: Sequence[Buffer]) -> None:
        with self._lock:
            now = self._clock() // 1000
            passed = min(now - self._last, _MICROSECONDS_MAX)
            self._last = now
            head = _HEAD.pack(passed, session & 0xFFFF, direction, sum(map(len, pieces)))
            if self._failed:
                return
            try:
                self._put(b"".join([head, *pieces]))
            except OSError as error:
                self._failed = True
                log.error("the record ends here, it cannot be written: %s", error.strerror)

    def _put(self, data: bytes) -> None:
        """Write all of it, in one call if the kernel allows, so that a reader sees whole frames."""
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) or 0 :]

    def close(self) -> None:
        """Write out what is buffered."""
        with self._lock:
            self._file.flush()


def read(file: BinaryIO) -> Iterator[Record]:
    """The frames of a record.

    Raises NotARecord; and EndsWithinFrame, once every whole frame was given.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise NotARecord("not a record of 9P frames")
    at = 0
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise EndsWithinFrame(f"{len(head)} bytes are left over")
        passed, session, direction, length = _HEAD.unpack(head)
        frame = file.read(length)
        if len(frame) < length:
            raise EndsWithinFrame(f"{len(frame)} of {length} bytes of a frame are there")
        at += passed
        yield Record(at / 1e6, session, direction == SENT, frame)


# --- lines -----------------------------------------------------------------------------------------


class Printer:
    """Prints one line for each exchange once it is answered.  An observer of sessions; any thread may call
    it.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._lines = Lines()

    def received(self, session: int, frame: Buffer) -> None:
        """A request arrived."""
        self._feed(session, False, bytes(frame))

    def sent(self, session: int, frame: Sequence[Buffer]) -> None:
        """A reply leaves."""
        self._feed(session, True, b"".join(frame))

    def _feed(self, session: int, sent: bool, frame: bytes) -> None:
        with self._lock:
            for line in self._lines.feed(Record(self._clock() - self._began, session, sent, frame)):
                self._write(line)


class Lines:
    """Turns records into lines: ``time session tag request = reply <duration>``."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], Record] = {}

    def feed(self, record: Record) -> Iterator[str]:
        """Lines that are complete with ``record``."""
        try:
            key = (record.session, codec.header(record.frame).tag)
        except ProtocolError:
            key = (record.session, -1)
        if not record.sent:
            if key in self._open:
                yield self._line(self._open[key], "(tag used again)")
            self._open[key] = record
            return
        request = self._open.pop(key, None)
        if request is None:
            yield f"{record.at:12.6f} {record.session:3d} {key[1]:5d} (no request) = {describe(record.frame)}"
        else:
            yield self._line(request, f"{describe(record.frame)} <{record.at - request.at:.6f}>")

    def rest(self) -> Iterator[str]:
        """Lines for requests that were never answered."""
        for request in self._open.values():
            yield self._line(request, "(no reply)")
        self._open.clear()

    @staticmethod
    def _line(request: Record, outcome: str) -> str:
        tag = codec.header(request.frame).tag if len(request.frame) >= c.HDRSZ else -1
        return f"{request.at:12.6f} {request.session:3d} {tag:5d} {describe(request.frame)} = {outcome}"


def describe(frame: Buffer) -> str:
    """``frame`` in words: name and fields, numbers with a meaning by name, data cut short."""
    for dialect in (Dialect.L, Dialect.U, Dialect.BASE):
        try:
            return describe_message(codec.decode(frame, dialect))
        except ProtocolError as error:
            if dialect is Dialect.L:
                why = error
    name = _name(frame)
    return f"{name}(malformed: {why}; {bytes(frame[:_SHOWN]).hex()}{'...' if len(frame) > _SHOWN else ''})"


def _name(frame: Buffer) -> str:
    number = frame[4] if len(frame) > 4 else -1
    declared = messages.BY_TYPE.get(number) or legacy.BY_TYPE.get(number)
    return declared.__name__ if declared else f"type {number}"


def describe_message(message: Message) -> str:
    """``message`` in words."""
    name = type(message).__name__
    if isinstance(message, messages.Rlerror):
        return f"{name} {c.ERRNO_NAMES.get(message.ecode, message.ecode)}"
    fields = [f"{field.name}={_value(name, field.name, getattr(message, field.name))}" for field in message.fields]
    return f"{name}({', '.join(fields)})"


def _value(message: str, field: str, value: object) -> str:
    named = _NAMED.get((message, field)) or _NAMED.get(("", field))
    if named is not None and isinstance(value, int):
        return named(value)
    if isinstance(value, Qid):
        return f"{value.path:x}.{value.version:x}.{_bits(c.QID_TYPES)(value.type) if value.type else 'FILE'}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(message, "", one) for one in value) + "]"
    if message == "Rreaddir" and field == "data":
        return _entries(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _text(bytes(value[:_SHOWN])) + (f"...{len(value)} bytes" if len(value) > _SHOWN else "")
    return str(value)


def _entries(data: object) -> str:
    assert isinstance(data, bytes | bytearray | memoryview)
    try:
        names = [entry.name for entry in decode_dirents(data)]
    except ProtocolError as error:
        return f"(malformed: {error})"
    shown = ", ".join(_text(name) for name in names[:8])
    return f"[{shown}{f', ...{len(names)} entries' if len(names) > 8 else ''}]"


def _text(value: bytes) -> str:
    """In double quotes, as C would write it."""
    return '"' + "".join(map(_character, value)) + '"'


def _character(byte: int) -> str:
    if byte in b'"\\':
        return "\\" + chr(byte)
    return chr(byte) if 32 <= byte < 127 else _ESCAPES.get(byte) or f"\\x{byte:02x}"


_ESCAPES = {0: "\\0", 9: "\\t", 10: "\\n", 13: "\\r"}


def _bits(names: dict[str, int], none: str = "0") -> Callable[[int], str]:
    def show(value: int) -> str:
        found = [name for name, bit in names.items() if value & bit]
        left = value & ~sum(names.values())
        return "|".join([*found, *([hex(left)] if left else [])]) or none

    return show


def _one(names: dict[str, int]) -> Callable[[int], str]:
    by_value = {value: name for name, value in names.items()}
    return lambda value: by_value.get(value, str(value))


def _mode(value: int) -> str:
    return oct(value).replace("0o", "0")


def _fid(value: int) -> str:
    return "NOFID" if value == c.NOFID else str(value)


def _getattr_mask(value: int) -> str:
    return "BASIC" if value == c.GETATTR_BASIC else _bits(c.GETATTR_MASK)(value)


_NAMED: dict[tuple[str, str], Callable[[int], str]] = {
    ("", "fid"): _fid,
    ("", "afid"): _fid,
    ("", "newfid"): _fid,
    ("", "mode"): _mode,
    ("", "n_uname"): lambda value: "NONUNAME" if value == c.NONUNAME else str(value),
    ("", "locktype"): _one(c.LOCK_TYPES),
    ("", "fstype"): hex,
    ("Tlopen", "flags"): _bits(c.OPEN_FLAGS, "RDONLY"),
    ("Tlcreate", "flags"): _bits(c.OPEN_FLAGS, "RDONLY"),
    ("Tgetattr", "request_mask"): _getattr_mask,
    ("Rgetattr", "valid"): _getattr_mask,
    ("Tsetattr", "valid"): _bits(c.SETATTR_MASK),
    ("Tlock", "flags"): _bits(c.LOCK_FLAGS),
    ("Rlock", "status"): _one(c.LOCK_STATUS),
    ("Txattrcreate", "flags"): _bits(c.XATTR_FLAGS),
    ("Tunlinkat", "flags"): _bits({"REMOVEDIR": c.AT_REMOVEDIR}),
}
