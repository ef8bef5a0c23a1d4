"""The messages and comparisons of a record: messages by the cases that need them, fields by their rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from conformance.evidence.looked import without_numbers
from conformance.evidence.models import CaseResult
from protocol.messages import BY_NAME

_REQUESTS = tuple(name for name in BY_NAME if name.startswith("T") and name != "Tlerror")


@dataclass(slots=True)
class Message:
    """One request of 9P2000.L."""

    name: str
    times: int = 0
    """How often it was seen to cross."""
    cases: int = 0
    """Cases in which it crossed."""
    demanded: list[CaseResult] = field(default_factory=list)
    """Cases that need it to cross."""

    @property
    def missing(self) -> list[CaseResult]:
        """Those of them in which it did not cross, although the target gives a trace."""
        return [r for r in self.demanded if r.covers_ok is not None and not r.message_counts.get(self.name)]


@dataclass(slots=True)
class Compared:
    """One field of a comparison."""

    name: str
    rule: str
    times: int = 0
    equal: int = 0
    let_pass: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def messages(results: Iterable[CaseResult]) -> list[Message]:
    """Every request, including those that never crossed."""
    found = {name: Message(name) for name in _REQUESTS}
    for result in results:
        for name, number in result.message_counts.items():
            if (message := found.get(name)) is not None and number:
                message.times += number
                message.cases += 1
        for name in result.covers:
            if name in found:
                found[name].demanded.append(result)
    return list(found.values())


def fields(results: Iterable[CaseResult]) -> list[Compared]:
    """Fields of stat, statx and statvfs with the rule by which each was judged; the most compared first."""
    found: dict[tuple[str, str], Compared] = {}
    for result in results:
        for comparison in result.comparisons:
            if comparison.kind not in ("stat", "statx", "statvfs"):
                continue
            for one in comparison.fields:
                key = (one.name, one.rule)
                seen = found.get(key)
                if seen is None:
                    seen = found[key] = Compared(*key)
                seen.times += 1
                seen.equal += one.equal
                if one.tolerated is not None:
                    seen.let_pass += not one.equal
                    seen.reasons[without_numbers(one.tolerated, one.rule)] += 1
    return sorted(found.values(), key=lambda one: -one.times)


@dataclass(slots=True)
class Matrix:
    """Families by requests: how many cases of a family a request crossed in."""

    requests: list[str]
    """Those that crossed in any."""
    families: dict[str, dict[str, int]]
    """Layer and family -> request -> number of cases, those that are not 0."""


def matrix(results: Iterable[CaseResult]) -> Matrix:
    """The matrix of a record."""
    families: dict[str, dict[str, int]] = {}
    for result in results:
        row = families.setdefault(f"{result.layer}/{result.family}", {})
        for name, number in result.message_counts.items():
            if number and name in _REQUESTS:
                row[name] = row.get(name, 0) + 1
    seen = {name for row in families.values() for name in row}
    return Matrix([name for name in _REQUESTS if name in seen], {name: row for name, row in families.items() if row})
