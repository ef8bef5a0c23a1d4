"""Random sequences for any length of time, and one sequence again: for `assay9 explore` and `assay9 replay`.

The cases of layer sequence play a fixed number of sequences. Here the same player continues from seed to seed, on one
machine, until its time is over.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from conformance.case import CASES
from conformance.catalogue.library import load_cases
from conformance.checks import report_all
from conformance.errors import InfrastructureError
from conformance.evidence.models import CaseResult
from conformance.model.step import Step, from_replay
from conformance.run.mounted import Body, Runner
from conformance.vfs.mount_options import MountOptions
from conformance.vfs.sequences import Player
from conformance.vfs.share import Share

TOGETHER, ALONE = "CALLS-003", "CALLS-002"
"""The cases whose requirements are judged: two processes with the host beside, where the guest asks the server each
time."""
_FRESH = ("none", "readahead")
_LONGEST = 3600.0
"""Seconds for one seed: far more than any machine takes."""


class Report(Protocol):
    """Receives the result of each seed."""

    def __call__(self, played: Played) -> None:
        """One seed was played."""


@dataclass(frozen=True, slots=True)
class Played:
    """The result of one seed, or of one sequence."""

    name: str
    result: CaseResult
    steps: tuple[Step, ...]
    """The shortest sequence that fails; empty where none did."""
    calls: int
    """Calls that were judged until then."""
    met: int
    """Pairs of operation and state that were met until then."""


@dataclass
class Exploration:
    """Plays on one started machine, and counts the pairs that it has covered."""

    runner: Runner
    mount: MountOptions
    met: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        load_cases()

    @property
    def outside(self) -> bool:
        """Whether the host takes part: only if the guest sees its changes at once."""
        return self.mount.cache in _FRESH

    def until(self, deadline: float, seed: int, *, examples: int, steps: int) -> Iterator[Played]:
        """Play one seed after the other, from `seed` on, until the deadline (time.monotonic); at least one.

        Raises InfrastructureError if the machine cannot be restored.
        """
        while True:
            number = seed

            def body(share: Share, number: int = number) -> None:
                player = Player(share, outside=self.outside, together=self.outside)
                try:
                    found = player.search(number, examples=examples, steps=steps)
                finally:
                    self.met.update(player.met)
                report_all([*player.deviations.values(), *([found] if found is not None else [])])

            yield self._run(str(number), body)
            seed += 1
            if time.monotonic() > deadline:
                return

    def again(self, steps: Sequence[Step]) -> Played:
        """Play one sequence again."""

        def body(share: Share) -> None:
            player = Player(share, outside=self.outside, together=any(step.where == "second" for step in steps))
            try:
                player.play(steps)
            finally:
                self.met.update(player.met)
            report_all(list(player.deviations.values()))

        return self._run("replay", body)

    def _run(self, name: str, body: Body) -> Played:
        case = dataclasses.replace(CASES[TOGETHER if self.outside else ALONE], seconds=_LONGEST, covers=())
        result, _ = self.runner.run(case, name, self.mount, body)
        if self.runner.broken is not None:
            raise self.runner.broken
        return Played(name, result, _sequence_of(result), self.met.total(), len(pairs(self.met)))


def pairs(met: Counter[tuple[str, str, str]]) -> set[tuple[str, str]]:
    """The pairs of operation and state, whatever the outcomes."""
    return {(op, state) for op, state, _ in met}


def _sequence_of(result: CaseResult) -> tuple[Step, ...]:
    """The sequence of the undeclared finding."""
    for one in result.findings:
        if not one.known and "sequence" in one.values:
            return from_replay({"kind": "assay9-sequence", "steps": json.loads(one.values["sequence"])})
    return ()


def started(runner: object) -> Runner:
    """The runner, if it has a mounted share. Raises InfrastructureError if it did not start."""
    if not isinstance(runner, Runner):
        raise InfrastructureError(str(getattr(runner, "broken", None) or "there is no share to run the sequence on"))
    if runner.broken is not None:
        raise runner.broken
    return runner
