"""Frames to messages and messages to frames, derived from the declarations.

The rule of this module: nothing here knows a message by name.  For every declared message and dialect a pair
of functions is generated once, from its fields, the way ``dataclasses`` generates ``__init__``; a payload is
never copied (decoding gives a view of the frame, encoding hands back the caller's own buffer).

Source: intro(5) of the Plan 9 manual: ``size[4] type[1] tag[2]`` then the fields, all integers little-endian,
``size`` counting itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from protocol import legacy, messages
from protocol.constants import HDRSZ, MAXWELEM
from protocol.fields import Buffer, Dialect, Field, Kind, Qid
from protocol.registry import Message


class ProtocolError(Exception):
    """The peer's bytes are not a frame of the dialect.  The only thing that decoding ever raises."""


class EncodeError(ValueError):
    """A message holds a value that its field cannot carry: our own mistake, never the peer's."""


class Header(NamedTuple):
    """The fields at the start of every frame."""

    size: int
    """Length of the whole frame in bytes, these four included."""
    type: int
    tag: int


_HEADER = struct.Struct("<IBH")


def header(frame: Buffer) -> Header:
    """The header of ``frame``, which need not be whole.

    Raises ProtocolError when fewer than seven bytes are there.
    """
    try:
        return Header._make(_HEADER.unpack_from(frame))
    except struct.error:
        raise ProtocolError(f"{len(frame)} bytes are too few for a header") from None


def encode(message: Message, dialect: Dialect = Dialect.L) -> list[Buffer]:
    """The frame of ``message`` as buffers to be sent one after the other; a payload is the caller's own
    buffer.

    Nothing about the values is judged but whether they fit their fields, so that a wrong message can be sent
    on purpose.  Raises EncodeError when one does not fit, or when the dialect has no such message.
    """
    try:
        return (_ENCODERS_L if dialect is _L else _ENCODERS[dialect])[type(message)](message)
    except KeyError:
        raise EncodeError(f"{dialect.value.decode()} has no {type(message).__name__}") from None
    except (struct.error, TypeError, OverflowError) as error:
        raise EncodeError(f"{message!r}: {error}") from error


def frame(message: Message, dialect: Dialect = Dialect.L) -> bytes:
    """The frame of ``message`` in one piece.  Raises as :func:`encode` does."""
    return b"".join(encode(message, dialect))


def packer(cls: type[Message]) -> Callable[..., bytes]:
    """A function of the tag and the fields of ``cls``, in their order, that makes its frame in 9P2000.L without the
    message, for a reply that is made often.

    It raises struct.error for a value that does not fit, TypeError for too few or too many.

    Raises ValueError for a message of variable length.
    """
    fields = _present(cls, _L)
    if not all(field.kind.fixed for field in fields):
        raise ValueError(f"{cls.__name__} is of variable length")
    source = _Source(f"def pack({', '.join(['tag', *(field.name for field in fields)])}):")
    codes = "".join(field.kind.code for field in fields)
    size = HDRSZ + struct.calcsize("<" + codes)
    values = ", ".join(f"*{field.name}" if field.kind is Kind.QID else field.name for field in fields)
    source.add(f"return {source.run('IBH' + codes, 'pack')}({size}, {cls.type}, tag, {values})")
    return source.function("pack")


def decode(frame: Buffer, dialect: Dialect = Dialect.L) -> Message:
    """The message that the one whole ``frame`` holds.  A payload is a view of ``frame``: copy it to keep it.

    Raises ProtocolError, and nothing else, for any other bytes: a size field that disagrees with the length,
    a type that the dialect does not have, fields that end early or leave bytes over, a vector of more than sixteen.
    What is allocated is bounded by the length of the frame, whatever its counts claim.
    """
    view = frame if type(frame) is memoryview else memoryview(frame)
    length = len(view)
    if length < HDRSZ:
        raise ProtocolError(f"{length} bytes are too few for a header")
    size, number, _tag = _HEADER.unpack_from(view)
    if size != length:
        raise ProtocolError(f"size field says {size}, the frame has {length} bytes")
    decoder = (_DECODERS_L if dialect is _L else _DECODERS[dialect]).get(number)
    if decoder is None:
        raise ProtocolError(f"{dialect.value.decode()} has no message of type {number}")
    try:
        return decoder(view)
    except struct.error:
        raise ProtocolError(f"type {number}: {length} bytes end before its fields do") from None


Encoder = Callable[[Any], list[Buffer]]
Decoder = Callable[[memoryview], Message]


def declared(dialect: Dialect) -> dict[int, type[Message]]:
    """The messages that ``dialect`` has, by number."""
    everything = [*messages.BY_TYPE.values(), *legacy.BY_TYPE.values()]
    return {cls.type: cls for cls in everything if dialect in cls.dialects}


# --- generation -----------------------------------------------------------------------------------
#
# A message is a sequence of runs: fixed-width fields, then at most one thing of variable length, whose count
# is the last value of the run before it.  One precompiled Struct packs and unpacks each run.  For Tsymlink
# the generated pair is:
#
#     def decode(frame):
#         fid, name_n, = run0(frame, 7)          # "<IH"
#         at = 13
#         name = bytes(frame[at:at + name_n]); at += name_n
#         symtgt_n, = run1(frame, at); at += 2   # "<H"
#         ...
#         if at != len(frame): raise left_over(...)
#         return cls(tag, fid, name, symtgt, gid)
#
# A count that lies makes ``at`` differ from the length of the frame, or the next unpack fail; a slice never
# reaches past the frame, so nothing has to be checked twice.


class _Source:
    """Lines of generated source and the objects they refer to."""

    def __init__(self, head: str) -> None:
        self.lines = [head]
        self.names: dict[str, object] = {"len": len, "bytes": bytes}

    def add(self, line: str) -> None:
        self.lines.append("    " + line)

    def run(self, codes: str, method: str) -> str:
        """Bind one method of the Struct for ``codes``; returns the name it has in the source."""
        name = f"run{len(self.names)}"
        self.names[name] = getattr(struct.Struct("<" + codes), method)
        return name

    def function(self, name: str) -> Callable[..., Any]:
        namespace = dict(self.names)
        exec("\n".join(self.lines), namespace)
        made: Callable[..., Any] = namespace[name]  # type: ignore[assignment]
        return made


def _present(cls: type[Message], dialect: Dialect) -> list[Field]:
    return [field for field in cls.fields if not (field.absent and dialect in field.absent.dialects)]


def _runs(fields: list[Field]) -> list[tuple[list[Field], Field | None]]:
    """``fields`` cut behind each field of variable length: (fixed-width fields, the variable one or None)."""
    runs: list[tuple[list[Field], Field | None]] = []
    fixed: list[Field] = []
    for field in fields:
        if field.kind.fixed:
            fixed.append(field)
        else:
            runs.append((fixed, field))
            fixed = []
    if fixed or not runs:
        runs.append((fixed, None))
    return runs


def _make_decoder(cls: type[Message], dialect: Dialect) -> Decoder:
    source = _Source("def decode(frame):")
    source.names.update(
        cls=cls,
        Qid=Qid,
        too_many=_too_many,
        left_over=_left_over,
        take_strings=_take_strings,
        take_qids=_take_qids,
    )
    present = _present(cls, dialect)
    if present and present[-1].late:
        # The frame of an old peer, which the one run of fixed-width fields would find too short.
        width = HDRSZ - 2 + struct.calcsize("<H" + "".join(field.kind.code for field in present[:-1]))
        source.add(
            f"if len(frame) == {width}: frame = bytes(frame) + {present[-1].late.default:#x}.to_bytes("
            f"{struct.calcsize('<' + present[-1].kind.code)}, 'little')"
        )
    at = str(HDRSZ - 2)
    codes, targets = "H", ["tag"]
    for fixed, variable in _runs(_present(cls, dialect)):
        for field in fixed:
            codes += field.kind.code
            targets += [f"{field.name}_{part}" for part in "tvp"] if field.kind is Kind.QID else [field.name]
        if variable:
            codes += variable.kind.code
            targets.append(f"{variable.name}_n")
        source.add(f"{', '.join(targets)}, = {source.run(codes, 'unpack_from')}(frame, {at})")
        width = struct.calcsize("<" + codes)
        source.add(f"at = {at} + {width}")
        if variable:
            name, count = variable.name, f"{variable.name}_n"
            if variable.kind is Kind.STRING:
                source.add(f"{name} = bytes(frame[at : at + {count}]); at += {count}")
            elif variable.kind is Kind.DATA:
                source.add(f"{name} = frame[at : at + {count}]; at += {count}")
            elif variable.kind is Kind.STRINGS:
                source.add(f"{name}, at = take_strings(frame, at, {count}) if {count} else ((), at)")
            else:
                source.add(f"{name}, at = take_qids(frame, at, {count}) if {count} else ((), at)")
        at, codes, targets = "at", "", []
    source.add("if at != len(frame): raise left_over(cls, frame, at)")
    values = [_decoded_value(field, dialect) for field in cls.fields]
    source.add(f"return cls({', '.join(['tag', *values])})")
    return source.function("decode")


def _decoded_value(field: Field, dialect: Dialect) -> str:
    if field.absent and dialect in field.absent.dialects:
        return repr(field.absent.default)
    if field.kind is Kind.QID:
        return f"Qid({field.name}_t, {field.name}_v, {field.name}_p)"
    return field.name


def _make_encoder(cls: type[Message], dialect: Dialect) -> Encoder:
    source = _Source("def encode(message):")
    source.names.update(give_strings=_give_strings, give_qids=_give_qids)
    runs = _runs(_present(cls, dialect))
    # The size has to be known before the first run is packed, so first gather what is of variable length.
    sizes = [str(sum(struct.calcsize("<" + f.kind.code) for f in _present(cls, dialect)) + HDRSZ)]
    pieces: list[str] = []
    codes, values = "IBH", ["size", str(cls.type), "message.tag"]
    packs: list[str] = []
    for fixed, variable in runs:
        for field in fixed:
            codes += field.kind.code
            values.append(f"*message.{field.name}" if field.kind is Kind.QID else f"message.{field.name}")
        if variable:
            name = variable.name
            codes += variable.kind.code
            values.append(f"len(message.{name})")
            if variable.kind is Kind.STRINGS:
                source.add(f"{name} = give_strings(message.{name})")
            elif variable.kind is Kind.QIDS:
                source.add(f"{name} = give_qids(message.{name})")
            else:
                source.add(f"{name} = message.{name}")
            sizes.append(f"len({name})")
        packs.append(f"{source.run(codes, 'pack')}({', '.join(values)})")
        pieces.append(packs[-1])
        if variable:
            pieces.append(variable.name)
        codes, values = "", []
    source.add(f"size = {' + '.join(sizes)}")
    if runs[-1][1] and runs[-1][1].kind is Kind.DATA:
        source.add(f"return [{' + '.join(pieces[:-1])}, {pieces[-1]}]")
    else:
        source.add(f"return [{' + '.join(pieces)}]")
    return source.function("encode")


def _take_strings(frame: memoryview, at: int, count: int) -> tuple[tuple[bytes, ...], int]:
    if count > MAXWELEM:
        raise _too_many(count)
    found = []
    for _ in range(count):
        (length,) = _STRING_LENGTH.unpack_from(frame, at)
        at += 2
        found.append(bytes(frame[at : at + length]))
        at += length
    return tuple(found), at


def _take_qids(frame: memoryview, at: int, count: int) -> tuple[tuple[Qid, ...], int]:
    if count > MAXWELEM:
        raise _too_many(count)
    end = at + count * _QID.size
    if end > len(frame):
        raise ProtocolError(f"{count} qids do not fit into what is left of the frame")
    return tuple(map(Qid._make, _QID.iter_unpack(frame[at:end]))), end


def _give_strings(names: tuple[bytes, ...]) -> bytes:
    return b"".join(_STRING_LENGTH.pack(len(name)) + name for name in names)


def _give_qids(found: tuple[Qid, ...]) -> bytes:
    return b"".join(_QID.pack(*one) for one in found)


def _too_many(count: int) -> ProtocolError:
    return ProtocolError(f"{count} elements where {MAXWELEM} are the most")


def _left_over(cls: type[Message], frame: memoryview, at: int) -> ProtocolError:
    if at > len(frame):
        return ProtocolError(f"{cls.__name__}: a count reaches {at - len(frame)} bytes past the frame")
    return ProtocolError(f"{cls.__name__}: {len(frame) - at} bytes left over after its fields")


_STRING_LENGTH = struct.Struct("<H")
_QID = struct.Struct("<BIQ")

_ENCODERS: dict[Dialect, dict[type[Message], Encoder]] = {
    dialect: {cls: _make_encoder(cls, dialect) for cls in declared(dialect).values()} for dialect in Dialect
}
_DECODERS: dict[Dialect, dict[int, Decoder]] = {
    dialect: {number: _make_decoder(cls, dialect) for number, cls in declared(dialect).items()} for dialect in Dialect
}
# The common case by itself: finding an enum's member in a dictionary takes longer than all else of it.
_L = Dialect.L
_ENCODERS_L = _ENCODERS[_L]
_DECODERS_L = _DECODERS[_L]
