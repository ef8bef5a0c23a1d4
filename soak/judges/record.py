"""A run as the judges see it: plain data, read from a journal or made by a test."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Any, Literal

from soak.journal import Event, Iteration, Journal, Sample, Session

Verdict = Literal["pass", "fail", "unknown"]

AFTERMATH = 20.0
"""Seconds after the end of a fault or a restart in which times and numbers still show its effects."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judge's verdict on one thing, with a one-line reason."""

    name: str
    verdict: Verdict
    reason: str
    figures: dict[str, float] = field(default_factory=dict)
    judge: str = ""
    """Which judge it is of."""
    accepted: bool = False
    """The user accepts that this one is unknown; any other unknown keeps the run from passing."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One recorded fault; `end` is None until it was undone."""

    number: int
    name: str
    begin: float
    end: float | None
    data: dict[str, Any]
    """What its begin recorded, and over it what its end did: found (what it saw), failed (a finding)."""


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that a journal holds."""

    plan: dict[str, Any]
    sessions: list[Session]
    events: list[Event]
    iterations: list[Iteration]
    samples: list[Sample]

    @staticmethod
    def of(journal: Journal) -> Record:
        """The current record of a journal."""
        return Record(journal.plan, journal.sessions(), journal.events(), journal.iterations(), journal.samples())

    def kind(self, *kinds: str) -> list[Event]:
        """The events of these kinds."""
        return [e for e in self.events if e.kind in kinds]

    def ended(self, workload: str | None = None) -> list[Iteration]:
        """The iterations that have an outcome, of one workload or of all."""
        return [i for i in self.iterations if i.outcome and workload in (None, i.workload)]

    def workloads(self) -> list[str]:
        """The names of the jobs."""
        return [str(job["instance"]) for job in self.plan.get("jobs", [])]

    def faults(self) -> list[Fault]:
        """Every fault that began."""
        ends = {e.data["n"]: e for e in self.kind("undone")}
        begins = {e.data["n"]: e.data for e in self.kind("fault-data")}
        made = []
        for e in self.kind("fault"):
            end = ends.get(e.data["n"])
            data = {**e.data, **begins.get(e.data["n"], {}), **(end.data if end else {})}
            begin = e.at + float(data.get("waited", 0.0))  # no fault was injected before the workloads had come to rest
            made.append(Fault(e.data["n"], e.data["name"], begin, end.at if end else None, data))
        return made

    def excluded(self) -> list[tuple[float, float]]:
        """Spans of time that judges of times and numbers leave out: faults, restarts, starts."""
        spans = [(d.begin, (d.end or d.begin + 3600.0) + AFTERMATH) for d in self.faults()]
        spans += [(e.at - 60.0, e.at + AFTERMATH) for e in self.kind("trouble", "recovered")]
        return sorted(spans)

    def series(self, name: str, quiet: bool = True) -> list[tuple[float, float]]:
        """(seconds of work since the beginning, value) of a series; gaps between sessions do not count. `quiet`:
        without the samples in `excluded`.
        """
        spans = self.excluded() if quiet else []
        clock = self.clock()
        return [
            (clock(s.at), s.values[name])
            for s in self.samples
            if name in s.values and not any(a <= s.at <= b for a, b in spans)
        ]

    def clock(self) -> Clock:
        """Converts seconds since 1970 to seconds of work since the beginning of the run."""
        return Clock(self)


class Clock:
    """The run's working time: the gaps between its sessions are left out."""

    def __init__(self, record: Record) -> None:
        last: dict[int, float] = {s.id: s.at for s in record.sessions}
        for number, at in (
            *((e.session, e.at) for e in record.events),
            *((s.session, s.at) for s in record.samples),
            *((i.session, i.ended_at or i.at) for i in record.iterations),
        ):
            last[number] = max(last.get(number, at), at)
        self._begins: list[float] = []
        self._offsets: list[float] = []
        worked = 0.0
        for session in record.sessions:
            self._begins.append(session.at)
            self._offsets.append(worked - session.at)
            worked += last[session.id] - session.at
        self.total = worked
        """Seconds that the run has worked."""

    def __call__(self, at: float) -> float:
        """Seconds of work at that moment."""
        place = bisect.bisect_right(self._begins, at) - 1
        return at + self._offsets[place] if place >= 0 else 0.0
