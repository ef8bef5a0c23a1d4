"""Sequences guided by what earlier ones met: a seed gives the same sequences, and they meet more pairs per call."""

from __future__ import annotations

from collections import Counter

from conformance.model.generate import Pair, pairs
from conformance.model.guided import generated
from conformance.model.step import Step

CALLS = 400


def played(number: int, *, guided: bool) -> list[tuple[Step, ...]]:
    """The sequences of a seed, up to that many calls in total."""
    seen: list[tuple[Step, ...]] = []
    for steps in generated(number, CALLS, 50, together=True, guided=guided):
        seen.append(steps)
        if sum(map(len, seen)) >= CALLS:
            break
    return seen


def met(sequences: list[tuple[Step, ...]]) -> int:
    """The pairs of operation and state in the first calls."""
    found, left = Counter[Pair](), CALLS
    for steps in sequences:
        found.update(pairs(steps[:left]))
        left = max(0, left - len(steps))
    return len(found)


def test_a_seed_makes_the_same_sequences() -> None:
    assert played(7, guided=True) == played(7, guided=True)


def test_guided_sequences_meet_more_pairs_in_as_many_calls() -> None:
    guided = sum(met(played(number, guided=True)) for number in (1, 2, 3))
    unguided = sum(met(played(number, guided=False)) for number in (1, 2, 3))
    assert guided > 1.1 * unguided, (guided, unguided)
