"""The shortest sequence that still fails, found by leaving steps out.

Hypothesis shrinks choices, which needs thousands of runs of several round trips each. Leaving out whole steps, ever
fewer at a time, needs some dozens (Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conformance.model.filesystem import FileSystem
from conformance.model.step import Step


def shortest(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool], runs: int) -> tuple[Step, ...]:
    """A part of `steps`, in their order, that still fails; `fails` is called at most `runs` times."""
    kept, size, left = tuple(steps), max(len(steps) // 2, 1), runs
    while size:
        at = 0
        while at < len(kept) and left:
            shorter = applicable([*kept[:at], *kept[at + size :]])
            left -= 1
            if len(shorter) < len(kept) and fails(shorter):
                kept = shorter
            else:
                at += size
        size = size // 2 if left else 0
    return kept


def applicable(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps that can still be made when others are left out: no step uses a slot that no step opens."""
    model, kept = FileSystem(), []
    for step in steps:
        if model.applies(step):
            model.step(step)
            kept.append(step)
    return tuple(kept)
