"""Soak runs within a test: a plan, a journal, the runner, its judges."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soak import journal as journals
from soak.judges import all_of
from soak.judges.record import Judgement, Record
from soak.plan import Plan, jobs_of
from soak.report.facts import Facts
from soak.report.write import write
from soak.run import Runner
from soak.view import View

SERVER = Path(__file__).with_name("wrong_server.py")


LOOK = 2.0
"""Seconds between two looks at the record of a run that ends by its record."""
ENOUGH = 900.0
"""Seconds after which such a run ends in any case, even on the busiest machine."""


class UntilThen(Runner):
    """A run that ends when its record holds what a test waits for, however long the machine takes."""

    def __init__(self, journal: journals.Journal, until: Callable[[Record], bool]) -> None:
        super().__init__(journal, View(io.StringIO()))
        self._until, self._look, self._asked = until, time.monotonic() + LOOK, False
        self._limit = time.monotonic() + ENOUGH

    def _poll(self, now: float) -> None:
        super()._poll(now)
        if self._asked or now < self._look or self._silent:
            return
        self._look = now + LOOK
        if now > self._limit or self._until(Record.of(self.journal)):
            self._asked = True
            for job in self._jobs:
                job.program.finish_soon()


class Killing(UntilThen):
    """A run that signals its file server once, when an iteration has ended, and ends after the next iteration."""

    def __init__(self, journal: journals.Journal, number: signal.Signals) -> None:
        super().__init__(journal, lambda record: len(record.ended()) > self._before >= 0)
        self._number, self._before = number, -1

    def _poll(self, now: float) -> None:
        if self._before < 0 and (ended := [i for i in self.journal.iterations() if i.outcome]):
            os.kill(self.deployment.processes()["device"], self._number)
            self._before = len(ended) + 1
        super()._poll(now)


def judged(name: str, verdict: str) -> Callable[[Record], bool]:
    """Whether a judgement whose name has that prefix has that verdict."""
    return lambda record: any(j.name.startswith(name) and j.verdict == verdict for j in all_of(record))


def plan(*faults: str, options: dict[str, Any] | None = None, workload: str = "tree", **more: Any) -> Plan:
    """A run on target `local` through the wrong server with those faults."""
    return Plan(
        target="local",
        options={"through": [sys.executable, str(SERVER), *faults]},
        jobs=jobs_of([workload], 1, {workload: options or {}}),
        **{"seed": 1, "sample_seconds": 0.5, **more},
    )


def soaked(
    directory: Path,
    *faults: str,
    options: dict[str, Any] | None = None,
    workload: str = "tree",
    until: Callable[[Record], bool] | None = None,
    **more: Any,
) -> tuple[Facts, float]:
    """Run on target `local` through the wrong server with those faults. Returns the facts and the duration in seconds.

    The run ends by its plan, or when `until` is true of its record.
    """
    made = plan(*faults, options=options, workload=workload, **more)
    begun = time.monotonic()
    with journals.create(directory / "run", made.model_dump()) as journal:
        (UntilThen(journal, until) if until is not None else Runner(journal, View(io.StringIO()))).run()
        return write(journal), time.monotonic() - begun


def judgement(facts: Facts, name: str) -> Judgement:
    """The judgement whose name has that prefix."""
    return next(j for j in facts.judgements if j.name.startswith(name))
