"""The shortest sequence that fails."""

from __future__ import annotations

import os
from collections.abc import Sequence

from conformance.model.shrink import shortest
from conformance.model.step import Step

FILLING = [Step("mkdir", (name, 0o755)) for name in "abcdefgh"]
OPENED = Step("open", ("x", os.O_RDWR | os.O_CREAT, 0o600), 0)
USED = Step("write", (b"x",), 0)


def writes(steps: Sequence[Step]) -> bool:
    return USED in steps


def test_only_what_is_needed_stays() -> None:
    assert shortest([*FILLING, OPENED, *FILLING, USED, *FILLING], writes, 100) == (OPENED, USED)


def test_a_slot_is_not_used_before_it_is_open() -> None:
    asked: list[Sequence[Step]] = []

    def fails(steps: Sequence[Step]) -> bool:
        asked.append(steps)
        return writes(steps)

    shortest([OPENED, USED], fails, 100)
    assert (USED,) not in asked


def test_it_ends_after_so_many_runs() -> None:
    asked: list[Sequence[Step]] = []

    def fails(steps: Sequence[Step]) -> bool:
        asked.append(steps)
        return True

    shortest(FILLING, fails, 2)
    assert len(asked) == 2
