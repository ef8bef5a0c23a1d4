"""The codec against bytes that it did not produce."""

from __future__ import annotations

import pytest

from protocol import codec, legacy, messages
from tests.golden.frames import Golden, read

GOLDEN = list(read())


@pytest.mark.parametrize("golden", GOLDEN, ids=[f"{g.origin} {type(g.message).__name__}" for g in GOLDEN])
def test_golden_frame(golden: Golden) -> None:
    assert codec.frame(golden.message, golden.dialect) == golden.frame
    assert codec.decode(golden.frame, golden.dialect) == golden.message


def test_every_message_has_a_golden_frame() -> None:
    have = {type(golden.message) for golden in GOLDEN}
    declared = {*messages.BY_TYPE.values(), *legacy.BY_TYPE.values()}
    assert not {cls.__name__ for cls in declared - have}
