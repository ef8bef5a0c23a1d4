"""What changed between two runs: the same case on the same mount, judged twice.

The runs may be of one target at two times, or of two targets that should agree (two versions of a hypervisor, two
guests on one device): only the ids of cases and their mounts are matched.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import count, known_for, overview, visible
from conformance.gating.baseline import held
from conformance.gating.moves import LEVEL, MEANING, Kind, kind_of
from conformance.vocabulary import Standing

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Change:
    """One case on one mount whose standing changed; None if that run has no such case."""

    kind: Kind
    id: str
    mount: str
    family: str
    severity: str
    requirement: str
    before: Standing | None
    after: Standing | None
    reason: str
    """Of the run in which the requirement does not hold, else of the second."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Two runs, compared."""

    before: Record
    after: Record
    same: int
    """Cases whose standing is the same in both."""
    differing: list[Change]

    def of(self, kind: Kind) -> list[Change]:
        """The changes of that kind, in the order of the cases."""
        return [change for change in self.differing if change.kind == kind]


def changes(before: Record, after: Record) -> Changes:
    """Match the cases of two runs by id and mount."""
    first, second = _by_case(before), _by_case(after)
    found, same = [], 0
    for key in [*first, *(key for key in second if key not in first)]:
        old, new = first.get(key), second.get(key)
        was = None if old is None else held(old)
        now = None if new is None else held(new)
        other = _known_otherwise(old, new)
        if was == now and not other:
            same += 1
            continue
        shown = old if new is None or (was is not None and now is not None and LEVEL[was] < LEVEL[now]) else new
        assert shown is not None
        found.append(
            Change(
                kind_of(was, now),
                shown.id,
                shown.mount,
                shown.family,
                shown.severity,
                shown.requirement,
                was,
                now,
                other or shown.reason,
            )
        )
    return Changes(before, after, same, found)


def _known_otherwise(old: CaseResult | None, new: CaseResult | None) -> str:
    """How a case that is known in both runs now fails for another reason; empty if it does not."""
    if old is None or new is None or not (old.verdict == new.verdict == "known" and old.findings and new.findings):
        return ""
    was, now = known_for(old), known_for(new)
    more = [said for key, said in now.items() if key not in was]
    gone = [said for key, said in was.items() if key not in now]
    parts = [f"now {', '.join(more)}" if more else "", f"no longer {', '.join(gone)}" if gone else ""]
    return f"known for another reason: {'; '.join(filter(None, parts))}" if more or gone else ""


def _by_case(record: Record) -> dict[tuple[str, str], CaseResult]:
    return {(result.id, result.mount): result for result in record.results}


def as_text(seen: Changes) -> str:
    """For a terminal or a ticket. Cases in only one run are counted by family: one run may be a part of the other."""
    lines = [_title("before", seen.before), _title("after ", seen.after), ""]
    kinds: tuple[Kind, ...] = ("worse", "better", "otherwise")
    for kind in kinds:
        if not (listed := seen.of(kind)):
            continue
        lines.append(f"{kind}: {MEANING[kind]} ({count(len(listed), 'case')})")
        for reason, those in _by_reason(listed):
            lines += [f"  {visible(reason)}"] if reason else []
            for change in those:
                where = f" on {change.mount}" if change.mount else ""
                gravity = f" [{change.severity}]" if kind == "worse" else ""
                lines.append(f"    {visible(change.id)}{where}: {change.before} -> {change.after}{gravity}")
        lines.append("")
    alone: tuple[Kind, ...] = ("only before", "only after")
    for kind in alone:
        if listed := seen.of(kind):
            families: dict[str, int] = defaultdict(int)
            for change in listed:
                families[change.family] += 1
            said = ", ".join(f"{family} {number}" for family, number in families.items())
            lines += [f"{kind}: {count(len(listed), 'case')} ({said})", ""]
    counts = ", ".join(f"{len(seen.of(kind))} {kind}" for kind in kinds)
    lines.append(f"{counts}, {seen.same} the same")
    return "\n".join(lines) + "\n"


def _by_reason(listed: list[Change]) -> list[tuple[str, list[Change]]]:
    """Changes grouped by reason, the most frequent reason first."""
    grouped: dict[str, list[Change]] = defaultdict(list)
    for change in listed:
        grouped[change.reason].append(change)
    return sorted(grouped.items(), key=lambda item: -len(item[1]))


def as_data(seen: Changes) -> dict[str, Any]:
    """For programs; `changes` in the order of the cases."""
    return {
        "schema_version": SCHEMA_VERSION,
        "before": _named(seen.before),
        "after": _named(seen.after),
        "same": seen.same,
        "changes": [asdict(change) for change in seen.differing],
    }


def _named(record: Record) -> dict[str, Any]:
    e = record.environment
    return {
        "target": e.target,
        "target_version": e.target_version,
        "guest_image": e.guest_image,
        "guest_kernel": e.guest_kernel,
        "started": e.started.isoformat(),
        "counts": {name: number for name, number in overview(record).counts.items() if number},
        "interrupted": record.interrupted,
    }


def _title(label: str, record: Record) -> str:
    e = record.environment
    said = [
        e.target,
        e.target_version,
        e.guest_kernel and f"kernel {e.guest_kernel}",
        f"{e.started:%Y-%m-%d %H:%M} UTC",
        count(len(record.results), "case"),
    ]
    return f"{label}: {', '.join(visible(part) for part in said if part)}" + (
        " (interrupted)" if record.interrupted else ""
    )
