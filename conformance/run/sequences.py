"""Random sequences for any length of time, and one sequence again: for `assay9 explore` and `assay9 replay`.

The cases of layer sequence, and of family states of layer wire, play a fixed number of sequences. Here the same players
continue from seed to seed, on one machine or server, until their time is over.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from conformance.case import CASES
from conformance.catalogue.library import load_cases
from conformance.checks import report_all
from conformance.errors import InfrastructureError
from conformance.evidence.models import CaseResult
from conformance.model.corpus import Corpus
from conformance.model.protocol import Ask
from conformance.model.step import Step, from_replay
from conformance.raw.sequences import Requests
from conformance.raw.wire import Wire
from conformance.run.mounted import Body, Runner
from conformance.run.wire import WireRunner
from conformance.vfs.mount_options import MountOptions
from conformance.vfs.sequences import Player
from conformance.vfs.share import Share
from guests.host.waiting import happens

TOGETHER, ALONE = "CALLS-003", "CALLS-002"
"""The cases whose requirements are judged: two processes with the host beside, where the guest asks the server each
time."""
REQUESTS = "WIRE-STATES-001"
"""The case whose requirement is judged at the wire."""
AGAIN = "again"
"""What stands in the file where lines count as new again (reference_server/commands/lines.py)."""
TIMED = ("session.py", "pace.py", "pool.py", "outlets.py", "transports/", "virtio/", "commands/")
"""Modules of the server whose lines depend on when a request comes, not only on what it is: they guide nothing."""
_AGAIN = 30.0
"""Seconds that the server has for that; it takes none."""
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


class Explorer(Protocol):
    """Plays seed after seed."""

    met: Counter[tuple[str, str, str]]
    """Calls or requests that were judged: operation, state of what it is about, outcome."""
    lines: LinesSeen | None
    """The server's own lines, where it writes them down."""

    def until(self, deadline: float, seed: int, *, examples: int, steps: int) -> Iterator[Played]:
        """Play one seed after the other, from `seed` on, until the deadline (time.monotonic); at least one.

        Raises InfrastructureError if the machine or the server cannot be restored.
        """


class LinesSeen:
    """The lines of the reference server that ran, as it writes them down (its option --lines)."""

    def __init__(self, file: Path, pid: Callable[[], int | None]) -> None:
        """`pid`: the server's process, which a restart changes."""
        self._file, self._pid, self._at = file, pid, 0
        self.now: set[str] = set()
        """Since `again`."""
        self.all: set[str] = set()

    def again(self) -> None:
        """Let each line count as new. Raises InfrastructureError if the server does not do so."""
        if (pid := self._pid()) is None:
            raise InfrastructureError("the server that writes its lines down is not running")
        self.more()
        os.kill(pid, signal.SIGUSR1)
        if not happens(lambda: AGAIN in self._read(), _AGAIN):
            raise InfrastructureError(f"the server does not write its lines down any more: {self._file}")
        self.now.clear()

    def more(self) -> int:
        """How many lines have run for the first time since `again` that had not when this was last asked."""
        before = len(self.now)
        self._read()
        return len(self.now) - before

    def _read(self) -> set[str]:
        with self._file.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._at += len(whole)
        found = {line for line in whole.decode().splitlines() if not line.startswith(TIMED)}
        self.now |= found - {AGAIN}
        self.all |= found - {AGAIN}
        return found


@dataclass
class WireExploration:
    """Plays requests on one server, one at a time, so that a seed reaches the same lines each time."""

    runner: WireRunner
    lines: LinesSeen | None
    guided: bool = True
    """By the lines, where the server writes them down."""
    met: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        load_cases()

    def until(self, deadline: float, seed: int, *, examples: int, steps: int) -> Iterator[Played]:
        """See Explorer."""
        while True:
            yield self._seed(seed, examples, steps)
            seed += 1
            if time.monotonic() > deadline:
                return

    def _seed(self, number: int, examples: int, steps: int) -> Played:
        def body(wire: Wire) -> None:
            corpus = Corpus(number, steps, guided=self.guided)
            player = self.player(wire, corpus)
            try:
                found = next((one for _ in range(examples) if (one := player.judged(corpus.following()))), None)
            finally:
                self.met.update({(op, state, ""): count for (op, state), count in player.met.items()})
            report_all([found] if found is not None else [])

        case = dataclasses.replace(CASES[REQUESTS], seconds=_LONGEST, covers=())
        result, _ = self.runner.run_item(case, str(number), body, {})
        if self.runner.broken is not None:
            raise self.runner.broken
        return Played(str(number), result, (), self.met.total(), len(pairs(self.met)))

    def player(self, wire: Wire, corpus: Corpus) -> Requests:
        """What plays sequences, and tells the corpus which have reached new lines; each line is new at first."""
        lines = self.lines
        if lines is None:
            return Requests(wire.client, 1)
        lines.again()

        def after(played: Sequence[Ask]) -> None:
            if lines.more():
                corpus.reached(played)

        return Requests(wire.client, 1, after)


@dataclass
class Exploration:
    """Plays on one started machine, and counts the pairs that it has covered."""

    runner: Runner
    mount: MountOptions
    met: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    lines: LinesSeen | None = None

    def __post_init__(self) -> None:
        load_cases()

    @property
    def outside(self) -> bool:
        """Whether the host takes part: only if the guest sees its changes at once."""
        return self.mount.cache in _FRESH

    def until(self, deadline: float, seed: int, *, examples: int, steps: int) -> Iterator[Played]:
        """See Explorer."""
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
