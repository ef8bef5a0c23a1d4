"""KTAP, the kernel's Test Anything Protocol (Documentation/dev-tools/ktap.rst): a subtest for each layer and family.

`known` and `varies` are `ok ... # XFAIL`, `unsupported` and `undrivable` `ok ... # SKIP`; `fail`, `fixed`, `unstable`
and `error` are `not ok`, with what was wrong as diagnostic lines before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import HELD, overview, standing, visible
from conformance.vocabulary import Standing

_DIRECTIVES: dict[Standing, str] = {
    "known": "XFAIL",
    "varies": "XFAIL",
    "unsupported": "SKIP",
    "undrivable": "SKIP",
    "error": "ERROR",
}
_FAILED: frozenset[Standing] = frozenset({"fail", "fixed", "unstable", "error"})
_LONGEST = 300


def write_ktap(record: Record, path: Path) -> None:
    """Write the stream."""
    with path.open("w", encoding="utf-8") as out:
        out.writelines(f"{line}\n" for line in _lines(record))


def _lines(record: Record) -> Iterator[str]:
    families: dict[str, list[CaseResult]] = {}
    for result in record.results:
        families.setdefault(f"{result.layer}.{result.family}", []).append(result)
    doubts = overview(record).doubts_of_run
    e = record.environment
    yield "KTAP version 1"
    yield f"1..{len(families) + bool(doubts)}"
    yield f"# {_plain(f'{e.target} {e.target_version}, guest {e.guest_image} {e.guest_kernel}')}"
    for number, (family, results) in enumerate(families.items(), 1):
        yield "  KTAP version 1"
        yield f"  # Subtest: {_plain(family)}"
        yield f"  1..{len(results)}"
        for place, result in enumerate(results, 1):
            yield from (f"  {line}" for line in _case(place, result))
        failed = any(standing(result) in _FAILED for result in results)
        yield f"{'not ok' if failed else 'ok'} {number} {_plain(family)}"
    if doubts:
        yield f"# {_plain('; '.join(doubts))}"
        yield f"not ok {len(families) + 1} the run itself # ERROR {_plain('; '.join(doubts))}"


def _case(number: int, result: CaseResult) -> Iterator[str]:
    stands = standing(result)
    name = f"{result.id} on {result.mount}" if result.mount else result.id
    if stands in _FAILED:
        yield f"# {_plain(result.requirement)}"
        yield f"# {_plain(result.reason)}"
    directive = _DIRECTIVES.get(stands)
    said = f" # {directive} {_plain(result.reason)}" if directive and stands not in HELD else ""
    yield f"{'not ok' if stands in _FAILED else 'ok'} {number} {_plain(name)}{said}"


def _plain(text: str) -> str:
    """One line without the character that begins a directive."""
    return " ".join(visible(text).replace("#", "No.").split())[:_LONGEST]
