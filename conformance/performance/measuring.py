"""Measures: for each kind of work, rounds in which every subject has a turn, each begun by another one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence

import psutil

from conformance.errors import Undrivable
from conformance.performance.guest_side import LIMIT, Answer, Request, WorkFailed, per_unit, perform
from conformance.performance.measures import Measure
from conformance.performance.record import SHARE, Measured
from conformance.performance.subjects import Place, Running
from conformance.vfs.deployment import MountFailed, Progress
from conformance.vfs.trace import by_phase
from guests.agent.link import AgentLink, CallHung
from guests.host.processes import scheduled

TREE_SECONDS = 120.0
"""How long making a tree may take where nobody named the kind of work."""
_TREE_LIMIT = 3600.0
_TELLING = 1000
"""Files of a tree from which on its time says how long a larger one takes."""
_COST_ROUNDS = 4
"""Turns over which processor time and messages are counted."""


class _LeftOut(Exception):
    """A measure that is not tried here. One line."""


class Trees:
    """The large trees that stand, and how long they took."""

    def __init__(self) -> None:
        self._standing: dict[str, int] = {}
        """Subject -> files of its tree."""
        self._rates: dict[str, float] = {}
        """Subject -> seconds for each file."""

    def check(self, measure: Measure) -> None:
        """Raises _LeftOut if making the measure's tree would take too long."""
        expected = sum(self._rates.values()) * measure.parameters["tree"]
        if measure.limited and expected > TREE_SECONDS:
            raise _LeftOut(f"making its tree would take about {expected:.0f} s: --only {measure.work} makes it")

    def make(self, place: Place, request: Request) -> None:
        """Make it, outside the guest where that is possible: a million files through the share take an hour.

        Raises WorkFailed, InfrastructureError.
        """
        files = request.parameters["tree"]
        if self._standing.get(place.name) == files:
            return
        begun = time.monotonic()
        outside = _native(place)
        where = place.outside_directory if outside else place.directory
        perform(outside or place.link, request.model_copy(update={"places": {place.name: where}}), _TREE_LIMIT)
        self._standing[place.name] = files
        if files >= _TELLING:
            self._rates[place.name] = (time.monotonic() - begun) / files

    def clear(self, place: Place) -> None:
        """Remove the subject's tree, if it stands."""
        if self._standing.pop(place.name, None) is not None:
            outside = _native(place)
            where = place.outside_directory if outside else place.directory
            with contextlib.suppress(OSError, CallHung):
                (outside or place.link).calls_with(timeout=_TREE_LIMIT).rmtree(where)


def _native(place: Place) -> AgentLink | None:
    """The agent outside, if there is one that can run the payload; None otherwise."""
    if place.outside is None:
        return None
    try:
        return place.outside if place.outside.calls.which("python3") else None
    except Undrivable:
        return None


def measure_all(
    running: Running,
    measures: Sequence[Measure],
    rounds: int,
    seconds: float,
    progress: Progress,
    keep: Callable[[Measured], None],
) -> None:
    """Measure one after the other, and pass each result to `keep`. Raises InfrastructureError."""
    trees = Trees()
    for number, measure in enumerate(measures, 1):
        progress(f"measure {number} of {len(measures)}: {measure.name}")
        following = measures[number].parameters.get("tree") if number < len(measures) else None
        keep(one(running.places, measure, rounds, seconds, trees, following))


def one(
    places: Sequence[Place], measure: Measure, rounds: int, seconds: float, trees: Trees, following: int | None = None
) -> Measured:
    """One measure; `failed` and `left_out` say what could not be done. Raises InfrastructureError.

    `following`: how many files the tree of the next measure has, if that works on one.
    """
    measured = Measured(
        name=measure.name,
        work=measure.work,
        group=measure.group,
        unit=measure.unit,
        mount=str(measure.mount),
        series=measure.series,
        at=measure.at,
        axis=measure.axis,
    )
    work = _Work(measure, seconds, trees)
    again = False
    try:
        if "tree" in measure.parameters:
            trees.check(measure)
        for place in places:
            work.admit(place)
        measured = work.rounds(measured, rounds)
        again = following is not None and following == measure.parameters.get("tree")
    except _LeftOut as why:
        measured = measured.model_copy(update={"left_out": str(why)})
    except (WorkFailed, Undrivable, MountFailed) as error:
        where = f"{work.at}: " if work.at else ""
        measured = measured.model_copy(update={"failed": f"{where}{error}"})
    finally:
        if not again:
            work.clear()
    return measured.model_copy(update={"without": work.without})


class _Work:
    """One measure on the subjects that can do it."""

    def __init__(self, measure: Measure, seconds: float, trees: Trees) -> None:
        self._measure, self._seconds, self._trees = measure, seconds, trees
        self._places: list[Place] = []
        self._touched: list[Place] = []
        """Those, and the ones where something may lie that was begun."""
        self._also: dict[str, list[str]] = {}
        """Subject -> where its further shares are worked on."""
        self.without: dict[str, str] = {}
        """Subject -> why it is left out."""
        self.at = ""
        """The subject that is being prepared."""

    def admit(self, place: Place) -> None:
        """Mount what the place needs, and make its tree.

        Raises _LeftOut, WorkFailed, Undrivable, MountFailed; InfrastructureError.
        """
        measure, self.at = self._measure, place.name
        if measure.needs and place.link.calls.which(measure.needs) is None:
            if measure.optional:
                raise _LeftOut(f"the guest has no {measure.needs}: --only {measure.work} takes an image that has it")
            raise WorkFailed(f"the guest has no {measure.needs}")
        self._touched.append(place)
        if place.mount is not None:
            place.mounts[str(measure.mount)] = place.mount(measure.mount)
        try:
            if measure.shares:
                self._also[place.name] = self._further(place)
            if "tree" in measure.parameters:
                self._trees.make(place, self._asks([place], rounds=0, build=True))
        except (Undrivable, WorkFailed) as error:
            if place.name == SHARE and isinstance(error, Undrivable):
                raise _LeftOut(f"the target has one share: {error}") from None
            if place.name == SHARE:
                raise
            self.without[place.name] = str(error)
        else:
            self._places.append(place)
        self.at = ""

    def _further(self, place: Place) -> list[str]:
        if place.further is None:
            raise Undrivable("one share of it is mounted")
        return [place.further(number, self._measure.mount) for number in range(1, self._measure.shares)]

    def _asks(self, places: Iterable[Place], **more: object) -> Request:
        directories = {place.name: place.directory for place in places}
        return Request(
            work=self._measure.work,
            parameters=dict(self._measure.parameters),
            processes=self._measure.processes,
            seconds=self._seconds,
            places=directories,
            also={name: self._also[name] for name in directories if name in self._also},
            **more,
        )

    def rounds(self, measured: Measured, rounds: int) -> Measured:
        """The rounds, and then what the work costs. Raises WorkFailed, InfrastructureError."""
        guests = list({id(p.link): [q for q in self._places if q.link is p.link] for p in self._places}.values())
        found: dict[str, list[float]] = {place.name: [] for place in self._places}

        def take(answer: Answer) -> None:
            for took in answer.rounds:
                for name, value in per_unit(answer, took).items():
                    found[name].append(value)

        counts: dict[str, int] = {}
        latency: dict[str, list[float]] = {}
        alone = len(guests) == 1
        for guest in guests:  # alone: all rounds at once; otherwise this determines the counts
            answer = perform(guest[0].link, self._asks(guest, rounds=rounds if alone else 0, latency=True))
            take(answer)
            counts |= answer.counts
            latency |= answer.latency
        for number in range(0 if alone else rounds):
            for guest in guests if number % 2 else reversed(guests):
                take(perform(guest[0].link, self._asks(guest, rounds=1, first=number, counts=counts)))
        measured = measured.model_copy(update={"seconds": found, "counts": counts, "latency": latency})
        for place in self._places:
            self._cost(place, measured)
        return measured

    def _cost(self, place: Place, measured: Measured) -> None:
        """Count messages and processor time, in turns of their own: the trace takes time.

        What starting the payload costs is taken off. What is done between turns (files made and removed) is in both
        counts, so the processor time of a message is known, and that of a unit follows from its messages.
        """
        counts = {place.name: measured.counts[place.name]}
        if not place.traced and not place.pid():
            return
        begun = spent(place.pid())
        perform(place.link, self._asks([place], rounds=0, counts=counts))
        between = spent(place.pid())
        if place.traced:
            place.link.calls.trace_end()
        answer = perform(place.link, self._asks([place], rounds=_COST_ROUNDS, counts=counts, trace=place.traced))
        ended = spent(place.pid())
        units = _COST_ROUNDS * answer.units[place.name]
        phases = by_phase(place.link.calls.trace_end()) if place.traced else None
        timed = sorted(phases.get("timed", {}).items()) if phases is not None else []
        if phases is not None:
            measured.messages[place.name] = {message: count / units for message, count in timed}
        if begun is None or between is None or ended is None or (used := ended - between - (between - begun)) <= 0:
            return
        if timed and phases is not None:
            each = used / sum(sum(phases.get(phase, {}).values()) for phase in ("timed", "around"))
            measured.processor_by_message[place.name] = each
            measured.processor[place.name] = each * sum(count for _, count in timed) / units
        else:
            measured.processor[place.name] = used / units

    def clear(self) -> None:
        """Remove what was worked on."""
        for place in self._touched:
            self._trees.clear(place)
            for directory in [place.directory, *self._also.get(place.name, [])]:
                with contextlib.suppress(OSError, CallHung):
                    place.link.calls_with(timeout=LIMIT).rmtree(directory)


def spent(pid: int) -> float | None:
    """Processor seconds that a process of this host has used so far; None if there is none."""
    if not pid:
        return None
    if ran := scheduled(pid).ran:  # to the nanosecond, but some kernels do not count it
        return ran
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return times.user + times.system
