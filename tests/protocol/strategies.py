"""Hypothesis strategies for messages, derived from their declarations."""

from __future__ import annotations

from hypothesis import strategies as st

from protocol import codec
from protocol.fields import Dialect, Field, Kind, Qid
from protocol.registry import Message

U8, U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
QID = st.builds(Qid, U8, U32, U64)
STRING = st.binary(max_size=40)

BY_KIND = {
    Kind.U8: U8,
    Kind.U16: U16,
    Kind.U32: U32,
    Kind.U64: U64,
    Kind.QID: QID,
    Kind.STRING: STRING,
    Kind.DATA: st.binary(max_size=100),
    Kind.STRINGS: st.lists(STRING, max_size=16).map(tuple),
    Kind.QIDS: st.lists(QID, max_size=16).map(tuple),
}


def _values(field: Field, dialect: Dialect) -> st.SearchStrategy[object]:
    if field.absent and dialect in field.absent.dialects:
        return st.just(field.absent.default)
    return BY_KIND[field.kind]


def messages(dialect: Dialect) -> st.SearchStrategy[Message]:
    """Any message of ``dialect``."""
    return st.one_of(
        [
            st.builds(cls, U16, *[_values(field, dialect) for field in cls.fields])
            for cls in codec.declared(dialect).values()
        ]
    )
