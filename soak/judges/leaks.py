"""Leaks: memory, descriptors and threads that only grow, by the slope after warm-up and its confidence interval.

A pass means that the growth over the judged time is below that of a fault: the whole confidence interval, of the whole
time or of its second half, lies below it. Anything between is `unknown`, with the interval.
"""

from __future__ import annotations

from dataclasses import dataclass

from soak.judges.record import Judgement, Record
from soak.judges.trend import Trend, trend

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
    """A series that must not grow forever.

    Growth below `least` (or `share` of its level) is not a leak; growth by `fault` (or `fault_share` of its level) over
    the judged time is one, and a pass must exclude it.
    """

    series: str
    what: str
    unit: str
    least: float
    fault: float
    share: float = 0.02
    fault_share: float = 0.1
    always: bool = False
    """Whether a series that was never sampled is judged `unknown` instead of left out."""


WATCHED = (
    Watched("device.own_mb", "memory of the device", "MB", 2.0, 8.0, always=True),
    Watched("device.fds", "descriptors of the device", "descriptors", 8.0, 16.0, fault_share=0.25, always=True),
    Watched("device.threads", "threads of the device", "threads", 8.0, 16.0, 0.25, 0.5),
    Watched("hypervisor.own_mb", "memory of the hypervisor", "MB", 8.0, 32.0, 0.05, 0.15),
    Watched("guest.unreclaimable_mb", "kernel memory of the guest", "MB", 4.0, 16.0, 0.05, 0.15),
    Watched("runner.rss_mb", "memory of the runner", "MB", 16.0, 32.0, 0.1, 0.2),
)


def leaks(record: Record) -> list[Judgement]:
    """A judgement for each series of `WATCHED`; series of processes that the target does not have are left out."""
    present = {name for sample in record.samples for name in sample.values}
    guest = has_guest(record)
    judged = [w for w in WATCHED if (w.series in present or w.always) and (guest or not w.series.startswith("guest."))]
    return [leak(record, watched, present) for watched in judged]


def has_guest(record: Record) -> bool:
    """Whether the kernel inside is not this host's: on target `local` it is, and its memory is the host's.

    Journals of earlier versions do not record it: there the environment of `local` has neither an image nor a machine.
    """
    environments = record.kind("environment")
    data = environments[-1].data if environments else {}
    if "guest" in data:
        return bool(data["guest"])
    return not data or bool({"guest_image", "argv"} & data.keys())


def leak(record: Record, watched: Watched, present: set[str]) -> Judgement:
    """Whether that series grows."""
    name = f"leak: {watched.what}"
    if watched.series not in present:
        return Judgement(
            name, "unknown", f"{watched.series} was never sampled: the target names no process of this host"
        )
    segments = unbroken(record, watched.series)
    warm = [segment[int(len(segment) * WARM_UP) :] for segment in segments]
    points = max(warm, key=len, default=[])
    whole = trend(points)
    late = trend(points[len(points) // 2 :])
    if len(points) < FEWEST or whole is None or late is None:
        return Judgement(name, "unknown", f"{len(points)} samples after warm-up, at least {FEWEST} are needed")
    translated = Translated(record, watched.series, points)
    least = max(watched.least, watched.share * abs(whole.level)) + TRANSLATING * translated.mb
    fault = max(watched.fault, watched.fault_share * abs(whole.level)) + TRANSLATING * translated.mb
    figures = {
        "per_hour": whole.slope * 3600,
        "low_per_hour": whole.low * 3600,
        "high_per_hour": whole.high * 3600,
        "level": whole.level,
        "hours": whole.span / 3600,
        "at_most": whole.moved_at_most,
        "fault": fault,
    }
    rate = (
        f"at most {whole.moved_at_most:+.2f} {watched.unit} in {hours(whole.span)} (a fault is {fault:+.2f}); "
        f"{slope_of(whole, watched.unit)}"
    )
    if whole.moved_at_most <= fault:
        grown = min(whole.growth, whole.moved_at_most)
        words = "does not grow" if whole.surely <= 0 else f"grew by no more than {grown:.2f} {watched.unit}"
        if whole.surely <= 0 or whole.growth <= least:
            return Judgement(name, "pass", f"{words}{translated}: {rate}", figures)
    return growing(name, watched, whole, late, least, fault, rate, figures, Requests(record, points))


def growing(
    name: str,
    watched: Watched,
    whole: Trend,
    late: Trend,
    least: float,
    fault: float,
    rate: str,
    figures: dict[str, float],
    per: Requests,
) -> Judgement:
    """The judgement on a series that grew, or whose growth cannot be excluded."""
    late_rate = f"{late.slope * 3600:+.2f} an hour in the second half (at most {late.high * 3600:+.2f})"
    slowed = late.slope < whole.slope / LEVELS_OFF
    # extrapolated over the whole time from the second half
    if late.high * whole.span <= fault and (slowed or late.low <= 0):
        return Judgement(name, "pass", f"levels off: {rate}; {late_rate}", figures)
    if whole.surely > 0 and whole.growth > least and late.low > 0 and not slowed:
        grows = f"grows by {slope_of(whole, watched.unit)}{per(whole.growth, watched.unit)}"
        return Judgement(name, "fail", grows, figures)
    if whole.surely <= 0:
        return Judgement(name, "unknown", f"it varies too much to exclude a fault: {rate}", figures)
    return Judgement(name, "unknown", f"it grew, and whether it continues is uncertain: {rate}; {late_rate}", figures)


def slope_of(found: Trend, unit: str) -> str:
    """The slope with its interval, and the level."""
    return (
        f"{found.slope * 3600:+.2f} {unit} an hour (99 %: {found.low * 3600:+.2f} to {found.high * 3600:+.2f}), "
        f"level {found.level:.1f}"
    )


def hours(seconds: float) -> str:
    """2.1 h, 34 min, 20 s."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def unbroken(record: Record, series: str) -> list[list[tuple[float, float]]]:
    """The series, split where the process changed: at restarts of the target and of the runner."""
    clock = record.clock()
    cuts = [clock(e.at) for e in record.kind("recovered")] + [clock(s.at) for s in record.sessions[1:]]
    parts: list[list[tuple[float, float]]] = [[]]
    waiting = sorted(cuts)
    for x, y in record.series(series, quiet=False):
        while waiting and x >= waiting[0]:
            waiting.pop(0)
            parts.append([])
        parts[-1].append((x, y))
    return parts


class Requests:
    """Describes a growth per request, if the messages were counted."""

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
    """How much of the guest's code QEMU translated meanwhile (without KVM)."""

    def __init__(self, record: Record, series: str, points: list[tuple[float, float]]) -> None:
        name = series.replace(".own_mb", ".translated_mb")
        found = [y for x, y in record.series(name, quiet=False) if points[0][0] <= x <= points[-1][0]]
        self.mb = max(found) - min(found) if found and name != series else 0.0

    def __str__(self) -> str:
        return f" while {self.mb:.0f} MB of the guest's code were translated" if self.mb >= 1 else ""
