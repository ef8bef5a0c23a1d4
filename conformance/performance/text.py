"""A benchmark as text for a terminal: a line for each measure."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.performance.judging import against, cliffs, to_control, typical
from conformance.performance.record import OTHER, SHARE, Bench


def text(bench: Bench) -> str:
    """The table, the cliffs, what could not be measured."""
    return "".join(f"{line}\n" for line in _lines(bench))


def _lines(bench: Bench) -> Iterator[str]:
    other = OTHER in bench.subjects
    yield f"share:  {bench.subjects[SHARE].title}"
    if other:
        yield f"other:  {bench.subjects[OTHER].title}"
    yield ""
    head = f"{'measure':<44}{'one':>6}{'share':>10}  {'share / guest own':<26}  "
    yield f"{head}{'share / other' if other else ''}".rstrip()
    for measured in bench.measures:
        if measured.failed:
            yield f"{measured.name:<44}{measured.unit:>6}  not measured: {measured.failed}"
            continue
        beside = against(measured) if other else None
        took = typical(measured.seconds[SHARE])
        row = f"{measured.name:<44}{measured.unit:>6}{took:>10}  {to_control(measured)!s:<26}  "
        yield f"{row}{beside if beside else ''}".rstrip()
    found = cliffs(bench)
    if found:
        yield ""
        yield from (f"cliff:  {one}" for one in found)
