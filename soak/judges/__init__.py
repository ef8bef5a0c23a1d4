"""The judgement of a run, as pure functions over its record. A judge without data says `unknown`, never `pass`.

A judge is a function `Record -> list[Judgement]`; `all_of` calls each of them and turns a crash into `unknown`, too. A
run passes if every judgement is a pass. The user may accept `unknown` from judges of `ACCEPTABLE`, because the run is
short or the target gives them no data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from soak.judges.faults import faults
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
    faults,
    leaks,
    slowdowns,
    stalls,
    messages,
    whole,
)

ACCEPTABLE = ("leaks", "slowdowns", "stalls", "messages")
"""Judges of numbers over time, which `--accept-unknown` names. What the others look at every run must show."""


def all_of(record: Record) -> list[Judgement]:
    """Every judgement, in the order of the judges."""
    found: list[Judgement] = []
    accepted = record.plan.get("accept_unknown", ())
    for judge in JUDGES:
        try:
            found += [
                dataclasses.replace(
                    j, judge=judge.__name__, accepted=j.verdict == "unknown" and judge.__name__ in accepted
                )
                for j in judge(record)
            ]
        except Exception as e:  # noqa: BLE001 - a judge that breaks has judged nothing
            found.append(Judgement(judge.__name__, "unknown", f"the judge itself failed: {e!r}"))
    return found


def overall(judgements: list[Judgement]) -> Verdict:
    """`fail` if one fails; `pass` if each passes, or is unknown and that is accepted; else `unknown`."""
    if any(j.verdict == "fail" for j in judgements):
        return "fail"
    if any(j.verdict == "unknown" and not j.accepted for j in judgements):
        return "unknown"
    return "pass" if any(j.verdict == "pass" for j in judgements) else "unknown"
