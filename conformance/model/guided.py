"""Sequences of one seed, each guided by what earlier ones have covered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from conformance.model.generate import Pair, pairs, sequences
from conformance.model.step import Step

_MANY = 100_000
"""More sequences than one seed has: the seeds of Hypothesis are apart."""


def generated(
    number: int,
    examples: int,
    steps: int,
    *,
    outside: bool = True,
    without: frozenset[str] = frozenset(),
    together: bool = False,
    guided: bool = True,
) -> Iterator[tuple[Step, ...]]:
    """`examples` sequences of at most `steps` steps, each made when it is asked for.

    The sequences of a `number` are the same each time: the model guides them, never a target's answers. Each has its
    own generator, because Hypothesis demands that the same draws lead to the same choices.
    """
    met = Counter[Pair]()
    for turn in range(examples):
        guide = Counter(met) if guided else None
        strategy = sequences(steps, outside=outside, without=without, together=together, guide=guide)
        drawn: list[tuple[Step, ...]] = []

        @seed(number * _MANY + turn)
        @settings(
            max_examples=2,  # the first one of each generator is the simplest possible
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @given(strategy)
        def draw(played: tuple[Step, ...]) -> None:
            drawn.append(played)  # noqa: B023 - called in this turn

        draw()
        met.update(pairs(drawn[-1]))
        yield drawn[-1]
