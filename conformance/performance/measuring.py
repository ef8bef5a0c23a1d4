"""Measures: for each kind of work, rounds in which every subject has a turn, each begun by another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import psutil

from conformance.errors import Undrivable
from conformance.performance.guest_side import Answer, Request, WorkFailed, per_unit, perform
from conformance.performance.measures import Measure
from conformance.performance.record import Measured
from conformance.performance.subjects import Place, Running
from conformance.vfs.deployment import MountFailed, Progress


def measure_all(
    running: Running,
    measures: Sequence[Measure],
    rounds: int,
    seconds: float,
    progress: Progress,
    keep: Callable[[Measured], None],
) -> None:
    """Measure one after the other, and pass each result to `keep`. Raises InfrastructureError."""
    for number, measure in enumerate(measures, 1):
        progress(f"measure {number} of {len(measures)}: {measure.name}")
        keep(one(running.places, measure, rounds, seconds))


def one(places: Sequence[Place], measure: Measure, rounds: int, seconds: float) -> Measured:
    """One measure; `failed` says what could not be done. Raises InfrastructureError."""
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
    name = ""
    try:
        for place in places:
            name = place.name
            if measure.needs and place.link.calls.which(measure.needs) is None:
                return measured.model_copy(update={"failed": f"{name}: the guest has no {measure.needs}"})
            if place.mount is not None:
                place.mounts[str(measure.mount)] = place.mount(measure.mount)
        name = ""
        return _rounds(places, measure, measured, rounds, seconds)
    except (WorkFailed, Undrivable, MountFailed) as error:
        _removed(places)
        return measured.model_copy(update={"failed": f"{name}: {error}" if name else str(error)})


def _rounds(places: Sequence[Place], measure: Measure, measured: Measured, rounds: int, seconds: float) -> Measured:
    def asks(some: Iterable[Place], **more: object) -> Request:
        directories = {place.name: place.directory for place in some}
        return Request(
            work=measure.work,
            parameters=dict(measure.parameters),
            processes=measure.processes,
            seconds=seconds,
            places=directories,
            **more,
        )

    guests = list({id(place.link): [p for p in places if p.link is place.link] for place in places}.values())
    found: dict[str, list[float]] = {place.name: [] for place in places}

    def take(answer: Answer) -> None:
        for took in answer.rounds:
            for name, value in per_unit(answer, took).items():
                found[name].append(value)

    counts: dict[str, int] = {}
    latency: dict[str, list[float]] = {}
    alone = len(guests) == 1
    for guest in guests:  # alone: all rounds at once; otherwise this determines the counts
        answer = perform(guest[0].link, asks(guest, rounds=rounds if alone else 0, latency=True))
        take(answer)
        counts |= answer.counts
        latency |= answer.latency
    for number in range(0 if alone else rounds):
        for guest in guests if number % 2 else reversed(guests):
            take(perform(guest[0].link, asks(guest, rounds=1, first=number, counts=counts)))
    processor: dict[str, float] = {}
    for place in places:
        before = spent(place.pid())
        answer = perform(place.link, asks([place], rounds=1, counts=counts, last=True))
        if before is not None and (after := spent(place.pid())) is not None:
            processor[place.name] = (after - before) / answer.units[place.name]
    return measured.model_copy(update={"seconds": found, "counts": counts, "latency": latency, "processor": processor})


def spent(pid: int) -> float | None:
    """Processor seconds that a process of this host has used so far; None if there is none."""
    try:
        times = psutil.Process(pid).cpu_times() if pid else None
    except psutil.Error:
        return None
    return times.user + times.system if times is not None else None


def _removed(places: Iterable[Place]) -> None:
    """Remove the files of a failed measure, so that the next one prepares its own."""
    for place in places:
        try:
            place.link.calls.rmtree(place.directory)
        except OSError:
            continue
