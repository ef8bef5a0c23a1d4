"""What a run shows, as pure functions over its record. One that lacks data says `unknown`, never `pass`.

A judge is a function `Record -> list[Judgement]`; `all_of` asks each of them and turns one that breaks into
`unknown`, too.
"""

from __future__ import annotations

from collections.abc import Callable

from soak.judges.disturbed import disturbances
from soak.judges.leaks import leaks
from soak.judges.outcomes import iterations, target, troubles, whole
from soak.judges.record import Judgement, Record, Verdict
from soak.judges.slowdowns import slowdowns
from soak.judges.stalls import messages, stalls

Judge = Callable[[Record], list[Judgement]]

JUDGES: tuple[Judge, ...] = (
    iterations,
    troubles,
    target,
    disturbances,
    leaks,
    slowdowns,
    stalls,
    messages,
    whole,
)


def all_of(record: Record) -> list[Judgement]:
    """Every judgement, in the order of the judges."""
    found: list[Judgement] = []
    for judge in JUDGES:
        try:
            found += judge(record)
        except Exception as e:  # noqa: BLE001 - a judge that breaks has judged nothing
            found.append(Judgement(judge.__name__, "unknown", f"the judge itself failed: {e!r}"))
    return found


def overall(judgements: list[Judgement]) -> Verdict:
    """`fail` where one fails; `pass` where all that matter pass; else `unknown`."""
    if any(j.verdict == "fail" for j in judgements):
        return "fail"
    vital = [j for j in judgements if j.vital]
    if not vital or any(j.verdict == "unknown" for j in vital):
        return "unknown"
    return "pass"


__all__ = ["JUDGES", "Judgement", "Record", "Verdict", "all_of", "overall"]
