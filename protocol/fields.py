"""What a message may be made of: the field kinds of 9P, as annotations.

The rule of this module: a kind says how wide a field is on the wire and nothing about what it means.  Wire
strings are ``bytes`` here and everywhere else in this project: a hostile peer need not send UTF-8, and file
names on Linux are not text.

Source: intro(5) of the Plan 9 manual and chaos/diod ``protocol.md``, "Data Structures".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, NamedTuple


class Dialect(enum.Enum):
    """A protocol version, by the string that Tversion carries."""

    BASE = b"9P2000"
    U = b"9P2000.u"
    L = b"9P2000.L"


class Qid(NamedTuple):
    """The server's name for a file: 13 bytes, ``type[1] version[4] path[8]``."""

    type: int
    """Bits of :data:`protocol.constants.QID_TYPES`."""
    version: int
    """Changes when the content changes; 0 where a server does not track it."""
    path: int
    """Unique among the files of the server for as long as the file exists."""


class Kind(enum.Enum):
    """How a field is laid out: the ``struct`` code of the field, or of the count that stands before it."""

    U8 = ("u8", "B")
    U16 = ("u16", "H")
    U32 = ("u32", "I")
    U64 = ("u64", "Q")
    QID = ("qid", "BIQ")
    STRING = ("string", "H")
    """length[2] then that many bytes."""
    DATA = ("data", "I")
    """count[4] then that many bytes; the last field of its message, and never copied."""
    STRINGS = ("strings", "H")
    """n[2] then n strings; n at most MAXWELEM."""
    QIDS = ("qids", "H")
    """n[2] then n qids; n at most MAXWELEM."""

    @property
    def code(self) -> str:
        """``struct`` code of what is of fixed width."""
        return self.value[1]

    @property
    def fixed(self) -> bool:
        """Whether nothing of variable length follows."""
        return self in (Kind.U8, Kind.U16, Kind.U32, Kind.U64, Kind.QID)


@dataclass(frozen=True)
class Absent:
    """Marks a field that some dialects leave out; ``default`` is what decoding gives there."""

    dialects: frozenset[Dialect]
    default: int | bytes


@dataclass(frozen=True)
class Late:
    """Marks the last field of a message that had none when it was first implemented: a frame may end before it.
    ``default`` is what decoding gives there; encoding always writes the field.
    """

    default: int


@dataclass(frozen=True)
class Field:
    """One declared field of a message."""

    name: str
    kind: Kind
    absent: Absent | None
    """Set where some dialect leaves the field out."""
    late: Late | None = None
    """Set where old peers leave it out."""


Buffer = bytes | bytearray | memoryview
"""What may stand for the payload of a data field."""

u8 = Annotated[int, Kind.U8]
u16 = Annotated[int, Kind.U16]
u32 = Annotated[int, Kind.U32]
u64 = Annotated[int, Kind.U64]
qid13 = Annotated[Qid, Kind.QID]
string = Annotated[bytes, Kind.STRING]
payload = Annotated[Buffer, Kind.DATA]
strings = Annotated[tuple[bytes, ...], Kind.STRINGS]
qids = Annotated[tuple[Qid, ...], Kind.QIDS]
