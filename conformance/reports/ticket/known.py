"""KNOWN FAILURES: failures that the profiles declare and the run has met, by owner, the gravest first.

Entries with the same report are one defect. Where there is room the gravest have each entry with its reason; the next
get a reason of two lines, the next one line, and of the rest only the cases are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conformance.evidence.models import CaseResult, KnownFailure
from conformance.evidence.overview import OWNERS, Overview, count, grave, in_order, weight
from conformance.reports.ticket.layout import WIDTH, Section, ascii_only, first_sentence, fitted, named, wrapped
from conformance.vocabulary import GRAVITY

_REPORT = re.compile(r"/(issues|bugs?|pull|merge_requests|work_items)/\d+|show_bug\.cgi|[?&]id=\d")
"""Links to one report. A link to a source file or a specification does not say that two entries are one defect."""
_INDENT, _CASES = 13, 5
_LOST = 16
"""Columns of a line that may stay empty, because a word does not fit."""


@dataclass(frozen=True, slots=True)
class Defect:
    """The entries of one report, or of one reason if there is no report, with the cases that met them."""

    owner: str
    entries: list[tuple[KnownFailure, list[CaseResult]]]
    """The gravest first."""
    results: list[CaseResult]
    """The cases of all entries, each once."""


def defects(seen: Overview) -> list[Defect]:
    """All defects that were met, the gravest first; among equals those of the device first."""
    grouped: dict[tuple[str, str], list[tuple[KnownFailure, list[CaseResult]]]] = {}
    for entry, results in seen.known_reasons():
        report = entry.link if _REPORT.search(entry.link) else f"reason: {entry.reason}"
        grouped.setdefault((entry.owner, report), []).append((entry, results))
    found = []
    for (owner, _), several in grouped.items():
        every = {result.key: result for _, results in several for result in results}
        found.append(Defect(owner, several, list(every.values())))
    order = in_order(one.owner for one in found)
    return sorted(found, key=lambda one: (weight(one.results), order.index(one.owner), -len(one.results)))


def placed(
    found: Sequence[Defect], before: Sequence[Section], after: Sequence[Section], most: int, least: int
) -> str | None:
    """The whole text in `most` lines, with as many reasons as fit; None if fewer than `least` fit."""

    def tried(*numbers: int) -> str | None:
        made = fitted([*before, *known(found, *numbers), *after], None)
        return made if made.count("\n") <= most else None

    for reasons in range(min(len(found), most), least - 1, -1):
        if (fits := tried(reasons, 0)) is not None:
            numbers = [reasons]
            for _ in ("detailed", "each entry"):
                low, high = 0, numbers[-1]  # the largest number that fits: the more of them, the more lines
                while low < high:
                    middle = (low + high + 1) // 2
                    low, high = (middle, high) if tried(*numbers, middle) is not None else (low, middle - 1)
                numbers.append(low)
            return tried(*numbers) or fits
    return None


def known(found: Sequence[Defect], reasons: int, detailed: int = 0, each: int = 0) -> list[Section]:
    """A section for each owner: so many defects with reasons, so many of these in detail, the rest by their cases.

    Of `each` defects, the gravest, every entry has its reason.
    """
    sections: list[Section] = []
    level = {id(one): sum(number < n for n in (reasons, detailed, each)) for number, one in enumerate(found)}
    for owner in in_order(one.owner for one in found):
        mine = [one for one in found if one.owner == owner]
        shown = [one for one in mine if level[id(one)]]
        lines = [
            line
            for one in shown
            for line in (_each(one) if level[id(one)] > 2 else _lines(one, detailed=level[id(one)] > 1))
        ]
        lines += _also([result for one in mine if not level[id(one)] for result in one.results])
        sections.append(_section(owner, mine, lines, tight=bool(sections)))
    return sections


def whole(found: Sequence[Defect]) -> list[Section]:
    """A section for each owner, with the whole of every entry."""
    sections: list[Section] = []
    for owner in in_order(one.owner for one in found):
        mine = [one for one in found if one.owner == owner]
        lines = [line for one in mine for entry, results in one.entries for line in _entry(entry, results)]
        sections.append(_section(owner, mine, lines, tight=bool(sections)))
    return sections


def _section(owner: str, mine: Sequence[Defect], lines: list[str], *, tight: bool) -> Section:
    results = {result.key: result for one in mine for result in one.results}
    entries = sum(len(one.entries) for one in mine)
    whose = OWNERS.get(owner, f"of {owner}").upper()
    heading = f"KNOWN FAILURES {whose}: {count(entries, 'entry', 'entries')}, {count(len(results), 'case')}"
    heading += " (! = harms data)" if any(map(grave, results.values())) else ""
    return Section(heading, lines, least=3, what="lines of known failures", tight=tight)


def _lines(one: Defect, *, detailed: bool) -> Iterator[str]:
    """The reason with the first cases; below it the report's other subjects, or in detail more cases and the link."""
    entry, others = one.entries[0][0], len(one.entries) - 1
    start, ids = _start(one.results), [result.case_id for _, results in one.entries for result in results]
    link, room = entry.link.removeprefix("https://"), WIDTH - _INDENT
    cases = named(ids, _CASES)
    if not others and not _REPORT.search(entry.link) and len(entry.reason) + 2 + len(cases) <= room:
        yield f"{start}{ascii_only(entry.reason)}  {cases}"[:WIDTH]
    elif others or not detailed:
        first = named(ids, 1)
        reason = ascii_only(first_sentence(entry.reason, room - 2 - len(first)))
        yield f"{start}{reason}  {first}"[:WIDTH]
        if others:
            yield f"{'':{_INDENT}}+{count(others, 'entry', 'entries')} of {link}"[:WIDTH]
    else:
        yield f"{start}{ascii_only(first_sentence(entry.reason, room))}"[:WIDTH]
        both = f"{cases}  {link}" if link and len(cases) + 2 + len(link) <= room else cases
        yield from wrapped(both, " " * _INDENT)


def _each(one: Defect) -> Iterator[str]:
    """Every entry with its reason, the first and those of few in at most two lines, and the report of them all."""
    for number, (entry, results) in enumerate(one.entries):
        lines = 2 if number == 0 or len(one.entries) <= _CASES else 1
        cases = named((result.case_id for result in results), _CASES if lines > 1 else 1)
        room = lines * (WIDTH - _INDENT) - 2 - len(cases) - (_LOST if lines > 1 else 0)
        yield from wrapped(f"{first_sentence(entry.reason, room)}  {cases}", _start(results), " " * _INDENT)
    if link := one.entries[0][0].link.removeprefix("https://"):
        yield f"{'':{_INDENT}}{link}"[:WIDTH]


def _also(results: Sequence[CaseResult]) -> Iterator[str]:
    """The cases whose reasons do not fit, by severity."""
    said = []
    for severity in GRAVITY:
        if rest := [result.case_id for result in results if result.severity == severity]:
            said.append(f"{len(rest)} {severity}: {named(rest, 1000)}")
    yield from wrapped("; ".join(said), "  also       ", " " * _INDENT)


def _entry(entry: KnownFailure, results: list[CaseResult]) -> Iterator[str]:
    yield from wrapped(entry.reason, _start(results), " " * _INDENT)
    yield from wrapped(named((r.case_id for r in results), 1000), " " * _INDENT)
    if entry.link:
        yield f"{'':{_INDENT}}{entry.link}"


def _start(results: list[CaseResult]) -> str:
    """The beginning of a known failure's line: the worst severity, whether data is harmed, the number of cases."""
    severity = min((r.severity for r in results), key=GRAVITY.__getitem__)
    return f"  {severity:<5}{'!' if any(map(grave, results)) else ' '}{len(results):>3}  "
