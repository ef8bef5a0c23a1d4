"""Directory entries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import ProtocolError
from protocol.dirents import Dirent, decode_dirents, encode_dirent
from protocol.fields import Qid
from tests.protocol.strategies import QID, U8, U64

ENTRY = st.builds(Dirent, QID, U64, U8, st.binary(max_size=255))


@given(st.lists(ENTRY, max_size=20))
def test_round_trip(entries: list[Dirent]) -> None:
    assert list(decode_dirents(b"".join(encode_dirent(*entry) for entry in entries))) == entries


@given(st.binary(max_size=100))
def test_any_bytes_decode_or_raise_the_one_error(junk: bytes) -> None:
    try:
        entries = list(decode_dirents(junk))
    except ProtocolError:
        return
    assert b"".join(encode_dirent(*entry) for entry in entries) == junk


def test_known_bytes() -> None:
    # protocol.md's sample session, first entry of the directory
    data = bytes.fromhex("80 00000000 ac1f2c0000000000 0100000000000000 04 0100 2e")
    assert list(decode_dirents(data)) == [Dirent(Qid(0x80, 0, 0x2C1FAC), 1, 4, b".")]


def test_an_entry_cut_short_is_refused() -> None:
    data = encode_dirent(Qid(0, 0, 1), 1, 8, b"name")
    for size in range(1, len(data)):
        with pytest.raises(ProtocolError):
            list(decode_dirents(data[:size]))
