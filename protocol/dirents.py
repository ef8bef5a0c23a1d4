"""Directory entries as Rreaddir carries them.

The rule of this module: whole entries only; an entry that does not fit waits for the next Treaddir.

Source: chaos/diod ``protocol.md``, readdir: ``qid[13] offset[8] type[1] name[s]``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from protocol.codec import ProtocolError
from protocol.fields import Buffer, Qid

_FIXED = struct.Struct("<BIQQBH")
FIXED_SIZE = _FIXED.size
"""Bytes that an entry takes beside its name."""


class Dirent(NamedTuple):
    """One entry of a directory."""

    qid: Qid
    """Some servers fill in only the path (QEMU: type and version 0)."""
    offset: int
    """To be given to Treaddir to go on after this entry; opaque, not a count."""
    type: int
    """One of :data:`protocol.constants.DIRENT_TYPES`."""
    name: bytes


def encode_dirent(qid: Qid, offset: int, type: int, name: bytes) -> bytes:
    """One entry as it stands in ``Rreaddir.data``."""
    return _FIXED.pack(*qid, offset, type, len(name)) + name


def decode_dirents(data: Buffer) -> Iterator[Dirent]:
    """The entries in ``Rreaddir.data``.

    Raises ProtocolError when it does not end with a whole entry.
    """
    view = memoryview(data)
    at, end = 0, len(view)
    while at < end:
        try:
            kind, version, path, offset, type_, length = _FIXED.unpack_from(view, at)
        except struct.error:
            raise ProtocolError(f"Rreaddir: {end - at} bytes are too few for an entry") from None
        at += FIXED_SIZE
        if at + length > end:
            raise ProtocolError(f"Rreaddir: a name of {length} bytes where {end - at} are left")
        yield Dirent(Qid(kind, version, path), offset, type_, bytes(view[at : at + length]))
        at += length
