"""Several runs of the same cases as one record: a case with different outcomes is `unstable`. Pure.

Rule of this module: no run is forgotten. A fail never becomes a pass because a later run passed.
"""

from __future__ import annotations

from collections.abc import Sequence

from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import tally
from conformance.gating.baseline import held
from conformance.gating.moves import LEVEL

_REASON = 120


def joined(records: Sequence[Record]) -> Record:
    """One record of all runs: the environment and order of the first, each case judged over all runs."""
    tries: dict[tuple[str, str], list[CaseResult]] = {}
    for record in records:
        for result in record.results:
            tries.setdefault(result.key, []).append(result)
    results = [judged(of_case) for of_case in tries.values()]
    first = records[0]
    return first.model_copy(
        update={
            "results": results,
            "counts": tally(results),
            "selected": len(results),
            "troubles": [trouble for record in records for trouble in record.troubles],
            "damage": [line for record in records for line in record.damage],
            "interrupted": any(record.interrupted for record in records),
            "interrupted_by": next((r.interrupted_by for r in records if r.interrupted_by), ""),
        }
    )


def judged(tries: Sequence[CaseResult]) -> CaseResult:
    """The outcome of a case that ran several times, with each result.

    A run that the infrastructure broke says nothing about the target: the others decide, if there are any.
    """
    if len(tries) == 1:
        return tries[0]
    said = [_ended(one) for one in tries]
    telling = [one for one in tries if not (one.verdict == "error" and one.infrastructure)] or list(tries)
    worst = min(telling, key=lambda one: LEVEL[held(one)])
    stands = {held(one) for one in telling}
    if len(stands) == 1:
        return worst.model_copy(update={"tries": said})
    passed = sum(held(one) == "pass" for one in telling)
    reason = f"{passed} of {len(telling)} tries passed: {'; '.join(said)}"
    return worst.model_copy(update={"verdict": "unstable", "infrastructure": False, "reason": reason, "tries": said})


def _ended(result: CaseResult) -> str:
    """`pass`; `fail: EIO, expected ENOENT`."""
    stands = held(result)
    return stands if stands == "pass" or not result.reason else f"{stands}: {result.reason[:_REASON]}"
