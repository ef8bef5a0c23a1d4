"""Memory, descriptors and threads that only grow: slope after warm-up, with its confidence, not two points."""

from __future__ import annotations

from dataclasses import dataclass

from soak.judges.record import Judgement, Record
from soak.judges.trend import trend

WARM_UP = 0.25
"""The first part of the run that does not count: caches and pools fill."""
LEVELS_OFF = 4.0
"""A growth that is so many times slower in the second half fills something up; a leak goes on as it began."""
FEWEST = 24
"""Samples after it below which nothing is said."""
TRANSLATING = 0.15
"""Memory that QEMU may take for each byte of the guest's code that it translates: nodes of the tree and the hash table
that find a block again. Measured over five minutes of a guest at work: 0.10 to 0.11; none once the buffer is full."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A series that must not grow for ever; less growth than `least` (or `share` of its level) is not one."""

    series: str
    what: str
    unit: str
    least: float
    share: float = 0.02
    always: bool = False
    """Said to be unknown where it was never seen, not left out."""


WATCHED = (
    Watched("device.own_mb", "memory of the device", "MB", 2.0, always=True),
    Watched("device.fds", "descriptors of the device", "descriptors", 8.0, always=True),
    Watched("device.threads", "threads of the device", "threads", 8.0, 0.25),
    Watched("hypervisor.own_mb", "memory of the hypervisor", "MB", 8.0, 0.05),
    Watched("guest.unreclaimable_mb", "kernel memory of the guest", "MB", 4.0, 0.05),
    Watched("runner.rss_mb", "memory of the runner", "MB", 16.0, 0.1),
)


def leaks(record: Record) -> list[Judgement]:
    """A judgement for each series of `WATCHED`; those of processes that the target does not have are left out."""
    present = {name for sample in record.samples for name in sample.values}
    judged = [w for w in WATCHED if w.series in present or w.always]
    return [leak(record, watched, present) for watched in judged]


def leak(record: Record, watched: Watched, present: set[str]) -> Judgement:
    """Whether that series grows."""
    name = f"leak: {watched.what}"
    if watched.series not in present:
        return Judgement(name, "unknown", f"{watched.series} was never seen: the target names no process of this host")
    segments = unbroken(record, watched.series)
    warm = [segment[int(len(segment) * WARM_UP) :] for segment in segments]
    points = max(warm, key=len, default=[])
    whole = trend(points)
    late = trend(points[len(points) // 2 :])
    if len(points) < FEWEST or whole is None or late is None:
        return Judgement(name, "unknown", f"{len(points)} samples after warm-up, {FEWEST} are the fewest that tell")
    translated = Translated(record, watched.series, points)
    least = max(watched.least, watched.share * abs(whole.level)) + TRANSLATING * translated.mb
    figures = {"per_hour": whole.slope * 3600, "low_per_hour": whole.low * 3600, "high_per_hour": whole.high * 3600,
               "level": whole.level, "hours": whole.span / 3600}  # fmt: skip
    rate = (f"{whole.slope * 3600:+.2f} {watched.unit} an hour (99 %: {whole.low * 3600:+.2f} to "
            f"{whole.high * 3600:+.2f}), level {whole.level:.1f}")  # fmt: skip
    if whole.surely <= 0:
        return Judgement(name, "pass", f"does not grow: {rate}", figures)
    if whole.growth <= least:
        return Judgement(
            name, "pass", f"grew by no more than {whole.growth:.2f} {watched.unit}{translated}: {rate}", figures
        )
    if late.low <= 0 or late.slope < whole.slope / LEVELS_OFF:
        late_rate = f"{late.slope * 3600:+.2f} in the second half"
        return Judgement(name, "pass", f"levels off: {rate}, {late_rate}", figures)
    per = Requests(record, points)
    return Judgement(name, "fail", f"grows by {rate}{per(whole.growth, watched.unit)}", figures)


def unbroken(record: Record, series: str) -> list[list[tuple[float, float]]]:
    """The series, cut where the process was another one: at restarts of the target and of the runner."""
    clock = record.clock()
    cuts = [clock(e.at) for e in record.kind("recovered")] + [clock(s.at) for s in record.sessions[1:]]
    parts: list[list[tuple[float, float]]] = [[]]
    waiting = sorted(cuts)
    for x, y in record.series(series, undisturbed=False):
        while waiting and x >= waiting[0]:
            waiting.pop(0)
            parts.append([])
        parts[-1].append((x, y))
    return parts


class Requests:
    """Says a growth per request where the messages were counted."""

    def __init__(self, record: Record, points: list[tuple[float, float]]) -> None:
        inside = [(x, y) for x, y in record.series("msg.total") if points and points[0][0] <= x <= points[-1][0]]
        self._count = sum(y for _, y in inside) / len(inside) * (points[-1][0] - points[0][0]) if inside else 0.0

    def __call__(self, growth: float, unit: str) -> str:
        """`, 1.02 KB a request`, or nothing."""
        if self._count < 1:
            return ""
        each = f"{growth * 1024 / self._count:.2f} KB" if unit == "MB" else f"{growth / self._count:.2g} {unit}"
        return f"; {each} a request"


class Translated:
    """How much of the guest's code QEMU translated meanwhile, where it does (without KVM)."""

    def __init__(self, record: Record, series: str, points: list[tuple[float, float]]) -> None:
        name = series.replace(".own_mb", ".translated_mb")
        found = [y for x, y in record.series(name, undisturbed=False) if points[0][0] <= x <= points[-1][0]]
        self.mb = max(found) - min(found) if found and name != series else 0.0

    def __str__(self) -> str:
        return f" while {self.mb:.0f} MB of the guest's code were translated" if self.mb >= 1 else ""
