"""Schedules the faults by the seed, and undoes and records each of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from guests.agent.link import WorkerDied
from soak.faults import KINDS
from soak.faults.scene import Fault, Scene
from soak.inside.common import generator
from soak.journal import Journal
from soak.plan import Plan
from soak.view import View

FAILURES = (OSError, WorkerDied)
"""Calls that fail (CallError is an OSError) are findings; a guest that is gone is the runner's business."""
LIMIT = 3600.0
"""Seconds after which a fault is undone in any case."""


class Injector:
    """Injects one fault at a time. Faults of an earlier session ended with it; that is recorded first."""

    def __init__(self, journal: Journal, plan: Plan, scene: Callable[[], Scene], view: View) -> None:
        self._journal, self._plan, self._scene, self._view = journal, plan, scene, view
        begun = journal.events("fault")
        undone = {e.data["n"] for e in journal.events("undone")}
        for event in begun:
            if event.data["n"] not in undone:
                journal.event("undone", n=event.data["n"], found="ended with its session")
        self._number = len(begun)
        self.enough = False
        """Inject no further faults: the run is about to end."""
        self._active: Fault | None = None
        self._limit = 0.0
        self._next = time.monotonic() + self._gap()

    @property
    def silent(self) -> bool:
        """The guest cannot answer now."""
        return self._active is not None and self._active.silent

    def _gap(self) -> float:
        rng = generator(self._plan.seed, "gap", self._number)
        return self._plan.fault_seconds * rng.uniform(0.5, 1.5)

    def chosen(self, number: int) -> str:
        """The name of that fault: each one occurs once before any repeats, in an order given by the seed."""
        names = self._plan.faults
        order = list(names)
        generator(self._plan.seed, "order", number // len(names)).shuffle(order)
        return order[number % len(names)]

    def tick(self, now: float) -> None:
        """Begin, poll or undo. May raise what a lost guest raises; the caller then calls `abandon`."""
        if not self._plan.faults:
            return
        if self._active is not None:
            try:
                found = self._active.tick(now)
            except FAILURES as e:
                found = {"failed": f"one of its calls failed: {e}"}
            if found is None and now < self._limit:
                return
            self._end({"skipped": "given up after its limit"} if found is None else found)
        elif now >= self._next and not self.enough:
            self._begin(now)

    def _begin(self, now: float) -> None:
        name = self.chosen(self._number)
        self._active, self._limit = KINDS[name].make(), now + LIMIT
        # recorded before it begins, so that the journal has it after a kill -9
        self._journal.event("fault", n=self._number, name=name)
        self._view.fault(name)
        try:
            data = self._active.begin(self._scene(), generator(self._plan.seed, "fault", self._number))
        except FAILURES as e:
            self._end({"failed": f"it could not begin: {e}"})
            return
        self._journal.event("fault-data", n=self._number, **data)

    def _end(self, data: dict[str, object]) -> None:
        active, self._active = self._active, None
        assert active is not None
        try:
            active.undo()
        except FAILURES as e:
            data = {"failed": f"it could not be undone: {e}", **data}
        self._journal.event("undone", n=self._number, **data)
        self._view.fault("")
        if data.get("failed"):
            self._view.trouble(f"fault {self.chosen(self._number)}: {data['failed']}")
        self._number += 1
        self._next = time.monotonic() + self._gap()

    def abandon(self, why: str) -> None:
        """Undo the fault in progress, in any state of the target."""
        if self._active is None:
            return
        try:
            self._active.undo()
        except Exception as e:  # noqa: BLE001 - the target is replaced; what cannot be undone in it goes with it
            why = f"{why}; undoing it: {e!r}"
        self._active = None
        self._journal.event("undone", n=self._number, skipped=why)
        self._number += 1
        self._next = time.monotonic() + self._gap()
