"""A benchmark as text for a terminal: a line for each measure."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.performance.judging import against, cliffs, crossings, to_control, typical
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
        if measured.left_out:
            yield f"{measured.name:<44}{measured.unit:>6}  left out: {measured.left_out}"
            continue
        beside = against(measured) if other else None
        took = typical(measured.seconds[SHARE])
        own = to_control(measured) or "-"
        row = f"{measured.name:<44}{measured.unit:>6}{took:>10}  {own!s:<26}  "
        yield f"{row}{beside if beside else ''}".rstrip()
    yield from _messages(bench)
    found = cliffs(bench)
    if found:
        yield ""
        yield from (f"cliff:  {one}" for one in found)


def _messages(bench: Bench) -> Iterator[str]:
    """The cost per 9P message, where some crossed."""
    counted = [(measured, measured.by_message(SHARE)) for measured in bench.measures if measured.messages.get(SHARE)]
    if counted:
        yield ""
        yield f"{'messages of one':<44}{'':>6}{'each':>10}  {'processor':<11} which"
    for measured, each in counted:
        used = measured.processor_by_message.get(SHARE)
        row = f"{measured.name:<44}{measured.unit:>6}{typical(each):>10}  {typical([used]) if used else '-':<11} "
        yield f"{row}{crossings(measured.messages[SHARE])}"
