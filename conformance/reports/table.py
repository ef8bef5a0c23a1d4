"""The compatibility page: which operation works in which implementation, and whose fault a failure is.

It is made from records alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import visible
from conformance.gating.baseline import held
from conformance.gating.moves import LEVEL
from conformance.reports.table_evidence import anchor, suite_of
from protocol.messages import BY_NAME

_REQUESTS = tuple(name for name in BY_NAME if name.startswith("T") and name != "Tlerror")
_WHOSE = {"device": "the device", "server": "the server", "client": "the guest's client", "": "the target"}
_LONGEST = 150


Where = Callable[[int, str, str], str]
"""The text of a cell of the run with that number, as a link to that anchor of its evidence."""


def table(records: Sequence[Record], names: Sequence[str], pages: Sequence[str] = ()) -> str:
    """The page, as Markdown. `pages`: where the evidence of each run is, for links from each cell."""

    def where(number: int, cell: str, place: str) -> str:
        return f"[{cell}]({pages[number]}{place and '#'}{place})" if pages and cell != "-" else cell

    lines = ["# Compatibility", "", *_introduction(), *_runs(records, names, where), ""]
    lines += ["## Requests of 9P2000.L", "", *_requests(records, names, where), ""]
    lines += ["## Families of cases", "", *_families(records, names, where), ""]
    lines += ["## Behaviours that do not hold everywhere", "", *_behaviours(records, names, where)]
    return "\n".join(lines) + "\n"


def _introduction() -> list[str]:
    return [
        "Made by `assay9 table` from records of real runs; nothing in it was typed. A cell speaks of the version in",
        "the first table. A dash: the run has no such case; a target without a guest makes no system calls.",
        "",
    ]


def _runs(records: Sequence[Record], names: Sequence[str], where: Where) -> Iterator[str]:
    yield from _header(["", "implementation", "guest", "run", "cases"])
    for number, (record, name) in enumerate(zip(records, names, strict=True)):
        e = record.environment
        guest = f"{e.guest_image} Linux {e.guest_kernel}".strip() if e.guest_kernel else "none"
        cells = [where(number, f"**{name}**", ""), e.target_version or e.target_title, guest]
        yield _row([*cells, f"{e.started:%Y-%m-%d}, suite {suite_of(e)}", f"{len(record.results):,}"])


def _requests(records: Sequence[Record], names: Sequence[str], where: Where) -> Iterator[str]:
    yield "`yes`: the cases that need it hold; else how many of them do, whose fault the others are (the rest was not"
    yield "drivable, or may differ); `no`: refused, as declared."
    yield ""
    yield from _header(["request", *names])
    for request in _REQUESTS:
        cells = [_of_cases([r for r in record.results if request in r.covers]) for record in records]
        linked = [where(number, cell, anchor("request", request)) for number, cell in enumerate(cells)]
        yield _row([f"`{request}`", *linked])


def _families(records: Sequence[Record], names: Sequence[str], where: Where) -> Iterator[str]:
    families = dict.fromkeys((r.layer, r.family) for record in records for r in record.results)
    yield from _header(["family", *names])
    for family in sorted(families):
        cells = [_of_cases([r for r in record.results if (r.layer, r.family) == family]) for record in records]
        yield _row(["/".join(family), *(where(number, cell, anchor(*family)) for number, cell in enumerate(cells))])


def _of_cases(results: Sequence[CaseResult]) -> str:
    """`yes`, `no`, or how many cases fail and whose fault that is."""
    counts = Counter(held(result) for result in results)
    if not results:
        return "-"
    whose = Counter(_WHOSE.get(_owner(r), _owner(r)) for r in results if held(r) == "known")
    bad = [f"{number} {owner}" for owner, number in whose.most_common()]
    bad += [f"{counts['fail']} unexpected"] if counts["fail"] else []
    if not counts["pass"] and counts["unsupported"] and not bad:
        return "no"
    if not counts["pass"] and not bad:
        return "not driven"
    unsupported = [f"{counts['unsupported']} unsupported"] if counts["unsupported"] else []
    return (
        "yes"
        if not bad and not unsupported
        else f"{counts['pass']} of {len(results)}: {', '.join([*bad, *unsupported])}"
    )


def _owner(result: CaseResult) -> str:
    return result.known.owner if result.known is not None else ""


def _behaviours(records: Sequence[Record], names: Sequence[str], where: Where) -> Iterator[str]:
    yield "One row a case: it `holds`, `fails` (and whose fault that is), is `unsupported`, or"
    yield "`differs` where it may."
    yield ""
    yield from _header(["case", "what is required", *names])
    tables = [_by_case(record) for record in records]
    for case in sorted({case for found in tables for case in found}):
        seen = [found.get(case) for found in tables]
        if all(result is None or held(result) in ("pass", "undrivable") for result in seen):
            continue
        first = next(result for result in seen if result is not None)
        cells = [_behaviour(number, result, where) for number, result in enumerate(seen)]
        yield _row([f"`{case}`", _short(first.requirement), *cells])


def _behaviour(number: int, result: CaseResult | None, where: Where) -> str:
    """A cell. For a case that holds the link leads to its family, otherwise to what was seen.

    Without pages of evidence it leads to the link in the profile's entry.
    """
    if result is None:
        return "-"
    place = anchor(result.layer, result.family) if held(result) == "pass" else anchor(result.case_id)
    cell = _cell(result)
    linked = where(number, cell, place)
    link = result.known.link if result.known is not None else ""
    return f"[{cell}]({link})" if linked == cell and link.startswith("https://") and ")" not in link else linked


def _by_case(record: Record) -> dict[str, CaseResult]:
    """The worst result of each case over parameters and mounts; an undrivable one does not hide the others."""
    found: dict[str, CaseResult] = {}
    for result in record.results:
        if result.case_id not in found or _rank(result) < _rank(found[result.case_id]):
            found[result.case_id] = result
    return found


def _rank(result: CaseResult) -> int:
    level = LEVEL[held(result)]
    return level if level else 9


def _cell(result: CaseResult) -> str:
    stands = held(result)
    if stands == "known":
        return f"fails: {_WHOSE.get(_owner(result), _owner(result))}"
    words = {"pass": "holds", "unsupported": "unsupported", "varies": "differs", "undrivable": "not driven"}
    return words.get(stands, f"**{stands}**")


def _header(cells: Sequence[str]) -> Iterator[str]:
    yield _row(cells)
    yield "|" + " --- |" * len(cells)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(visible(cell).replace('|', '&#124;') for cell in cells)} |"


def _short(text: str) -> str:
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3].rsplit(' ', 1)[0]}..."
    return "".join(f"\\{c}" if c in "*_`[]<>" else c for c in text)
