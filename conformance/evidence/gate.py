"""The gate: from a record to an exit status. Pure: no clock, no files.

| what the record holds, first line that fits                                         | status |
|--------------------------------------------------------------------------------------|--------|
| a `fail` whose severity is not `varies`, or a `fixed` (declared failure that passes)  | 1      |
| an `error`, be it the suite's or the infrastructure's; or a failure of the            |        |
| infrastructure outside any case; or nothing ran; or nothing that ran could be judged  |        |
| (all `undrivable`); or the run was interrupted; or entries of the record are lost     | 3      |
| else: passes, known failures, declared lacks, undrivable cases, differences that vary | 0      |

1 wins over 3: a regression was really seen, whatever else broke. 3 is never 0: where evidence is missing, the
absence of failures says nothing. 2 (usage) is decided before there is a record.
"""

from __future__ import annotations

from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import overview

NOTHING_UNEXPECTED, UNEXPECTED, INCONCLUSIVE = 0, 1, 3


def exit_status(record: Record) -> int:
    """The run's exit status, by the table above."""
    return overview(record).status


def unexpected(record: Record) -> list[CaseResult]:
    """The results that make the status 1."""
    seen = overview(record)
    return [*seen["fail"], *seen["fixed"]]
