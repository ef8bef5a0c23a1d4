"""Encoding and decoding: round trips, hostile bytes, no copies."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import codec
from protocol.codec import EncodeError, ProtocolError
from protocol.fields import Dialect, Kind, Late, Qid, string, u32
from protocol.messages import Rread, Rwalk, Tclunk, Tfsync, Tsymlink, Tversion, Twalk, Twrite
from protocol.registry import Message, Registry
from tests.protocol.strategies import messages

OLD_FSYNC = 11
"""Bytes of a Tfsync without datasync."""
DIALECTS = st.sampled_from(list(Dialect))


@st.composite
def dialect_and_message(draw: st.DrawFn) -> tuple[Dialect, Message]:
    dialect = draw(DIALECTS)
    return dialect, draw(messages(dialect))


@settings(max_examples=1000)
@given(dialect_and_message())
def test_what_was_encoded_decodes_to_the_same(case: tuple[Dialect, Message]) -> None:
    dialect, message = case
    assert codec.decode(codec.frame(message, dialect), dialect) == message


@settings(max_examples=2000)
@given(DIALECTS, st.binary(max_size=200))
def test_any_bytes_decode_or_raise_the_one_error(dialect: Dialect, junk: bytes) -> None:
    decode_or_refuse(junk, dialect)


@settings(max_examples=2000)
@given(DIALECTS, st.integers(0, 130), st.binary(max_size=200))
def test_any_fields_under_a_right_header(dialect: Dialect, number: int, body: bytes) -> None:
    decode_or_refuse(struct.pack("<IBH", 7 + len(body), number, 1) + body, dialect)


@settings(max_examples=1000)
@given(dialect_and_message(), st.data())
def test_a_frame_with_one_part_changed(case: tuple[Dialect, Message], data: st.DataObject) -> None:
    dialect, message = case
    frame = bytearray(codec.frame(message, dialect))
    at = data.draw(st.integers(0, len(frame) - 1))
    piece = data.draw(st.binary(min_size=1, max_size=4))
    frame[at : at + len(piece)] = piece
    decode_or_refuse(bytes(frame), dialect)


@settings(max_examples=500)
@given(dialect_and_message(), st.data())
def test_a_frame_cut_short_or_with_bytes_over_is_refused(case: tuple[Dialect, Message], data: st.DataObject) -> None:
    dialect, message = case
    frame = codec.frame(message, dialect)
    size = data.draw(st.integers(7, len(frame) + 5).filter(lambda n: n != len(frame)))
    changed = struct.pack("<I", size) + (frame + b"\0" * 5)[4:size]
    if isinstance(message, Tfsync) and size == OLD_FSYNC:
        assert codec.decode(changed, dialect) == replace(message, datasync=0)
        return
    with pytest.raises(ProtocolError):
        codec.decode(changed, dialect)


def decode_or_refuse(frame: bytes, dialect: Dialect) -> None:
    try:
        message = codec.decode(frame, dialect)
    except ProtocolError:
        return
    if isinstance(message, Tfsync) and len(frame) == OLD_FSYNC:
        frame = struct.pack("<I", OLD_FSYNC + 4) + frame[4:] + bytes(4)
    assert codec.frame(message, dialect) == frame


def test_an_old_tfsync_ends_before_datasync() -> None:
    """Clients sent this before the field was added to the specification; no other length in between is valid."""
    old = bytes.fromhex("0b000000 32 0700 02000000")
    assert codec.decode(old) == Tfsync(7, 2, 0)
    assert codec.decode(memoryview(bytearray(old))) == Tfsync(7, 2, 0)
    assert codec.frame(Tfsync(7, 2, 0)) == bytes.fromhex("0f000000 32 0700 02000000 00000000")
    for size in (7, 8, 9, 10, 12, 13, 14, 16):
        with pytest.raises(ProtocolError):
            codec.decode(struct.pack("<I", size) + (old + bytes(5))[4:size])


def test_only_the_last_of_fixed_width_fields_may_be_late() -> None:
    for fields in ({"one": Annotated[u32, Late(0)], "two": u32}, {"name": string, "one": Annotated[u32, Late(0)]}):
        declared = type("Tnew", (Message,), {"__annotations__": fields, "__module__": __name__})
        with pytest.raises(TypeError, match="may be late"):
            Registry().message(200, "x")(declared)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"", "too few"),
        (b"\x07\0\0\0\x6d\0", "too few"),
        (b"\x08\0\0\0\x6d\0\0", "size field"),
        (b"\x07\0\0\0\x6d\0\0\0", "size field"),
        (b"\x07\0\0\0\xff\0\0", "no message of type 255"),
        (b"\x08\0\0\0\x6d\0\0\0", "left over"),
        (b"\x0a\0\0\0\x78\0\0\0\0\0", "end before"),
        # Rread that claims 4 GiB
        (b"\x0b\0\0\0\x75\0\0\xff\xff\xff\xff", "past the frame"),
        # Twalk that claims 17 and 65,535 names
        (b"\x11\0\0\0\x6e\0\0\0\0\0\0\1\0\0\0\x11\0", "17 elements"),
        (b"\x11\0\0\0\x6e\0\0\0\0\0\0\1\0\0\0\xff\xff", "65535 elements"),
        # Rwalk of two qids with room for one
        (b"\x16\0\0\0\x6f\0\0\2\0" + b"\0" * 13, "do not fit"),
        # Tversion whose string is one byte too long
        (b"\x0e\0\0\0\x64\xff\xff\0\0\0\0\2\0x", "past the frame"),
    ],
)
def test_the_error_names_what_is_wrong(frame: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        codec.decode(frame)


def test_legacy_messages_are_not_of_the_dialect() -> None:
    with pytest.raises(ProtocolError, match="no message of type 107"):
        codec.decode(b"\x0b\0\0\0\x6b\0\0\2\0ab")
    assert codec.decode(b"\x0b\0\0\0\x6b\0\0\2\0ab", Dialect.BASE).tag == 0


@pytest.mark.parametrize(
    "message",
    [
        Tclunk(1, -1),
        Tclunk(1, 1 << 32),
        Tclunk(1 << 16, 0),
        Tversion(1, 2, b"x" * 65536),
        Tversion(1, 2, "text"),  # type: ignore[arg-type]
        Twalk(1, 2, 3, (b"x" * 65536,)),
        Twalk(1, 2, 3, ("text",)),  # type: ignore[arg-type]
        Rwalk(1, (Qid(256, 0, 0),)),
    ],
)
def test_values_that_do_not_fit_are_our_mistake(message: Message) -> None:
    with pytest.raises(EncodeError):
        codec.encode(message)


def test_a_walk_of_seventeen_can_be_sent_on_purpose() -> None:
    frame = codec.frame(Twalk(1, 2, 3, (b"a",) * 17))
    assert frame[15:17] == b"\x11\0"
    assert len(frame) == 17 + 17 * 3


def test_payloads_are_not_copied() -> None:
    payload = bytearray(b"payload")
    assert codec.encode(Rread(1, payload))[1] is payload
    frame = bytearray(codec.frame(Twrite(1, 2, 3, b"payload")))
    message = codec.decode(frame)
    assert isinstance(message, Twrite)
    frame[-1:] = b"!"
    assert message.data == b"payloa!"


def test_strings_are_kept_when_the_frame_is_used_again() -> None:
    frame = bytearray(codec.frame(Tsymlink(1, 2, b"name", b"target", 0)))
    message = codec.decode(frame)
    frame[7:] = bytes(len(frame) - 7)
    assert isinstance(message, Tsymlink)
    assert (message.name, message.symtgt) == (b"name", b"target")


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("<IBHI", 4096, 117, 1, 0xFFFFFFFF) + bytes(4085),  # Rread
        struct.pack("<IBHIIH", 4096, 110, 1, 1, 2, 0xFFFF) + bytes(4079),  # Twalk
        struct.pack("<IBHH", 4096, 111, 1, 0xFFFF) + bytes(4087),  # Rwalk
        struct.pack("<IBHIIH", 4096, 30, 1, 1, 2, 0xFFFF) + bytes(4079),  # Txattrwalk
    ],
)
def test_a_lying_count_does_not_make_memory_be_taken(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        codec.decode(frame)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            codec.decode(frame)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(frame) + 4096  # the exception and its text are part of it


@settings(max_examples=500)
@given(DIALECTS, st.integers(0, 130), st.binary(max_size=2000))
def test_no_frame_makes_more_memory_be_taken_than_it_is_long(dialect: Dialect, number: int, body: bytes) -> None:
    """Memory besides the message and its parts, or the exception and its text; the fuzzer measures the same."""
    frame = struct.pack("<IBH", 7 + len(body), number, 1) + body
    decode_only(frame, dialect)  # allocate what is made once and kept
    tracemalloc.start()
    try:
        decode_only(frame, dialect)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= len(frame) + 4096


def decode_only(frame: bytes, dialect: Dialect) -> None:
    try:
        codec.decode(frame, dialect)
    except ProtocolError:
        return


@pytest.mark.parametrize("cls", codec.declared(Dialect.L).values(), ids=lambda cls: cls.__name__)
def test_a_packer_makes_the_frame_that_encoding_the_message_makes(cls: type[Message]) -> None:
    values = [
        Qid(0x80, at, 1 << 40) if field.kind is Kind.QID else at + 1
        for at, field in enumerate(cls.fields)
        if field.kind.fixed
    ]
    if len(values) < len(cls.fields):
        with pytest.raises(ValueError, match="variable length"):
            codec.packer(cls)
        return
    pack = codec.packer(cls)
    assert pack(0x1234, *values) == codec.frame(cls(0x1234, *values))
    with pytest.raises(struct.error):
        pack(1 << 16, *values)
