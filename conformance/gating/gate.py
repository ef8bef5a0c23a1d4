"""The gate: from a record to an exit status. Pure: no clock, no files.

| what the record holds, first line that fits                                         | status |
|--------------------------------------------------------------------------------------|--------|
| a `fail` whose severity is not `varies`, a `fixed` (declared failure that passes), or | 1      |
| an `unstable` case                                                                   |        |
| an `error`, be it the suite's or the infrastructure's; or a failure of the            |        |
| infrastructure outside any case; or nothing ran; or nothing that ran could be judged  |        |
| (all `undrivable`); or the run was interrupted; or entries of the record are lost     | 3      |
| else: passes, known failures, declared unsupported, undrivable cases, differences that vary | 0      |

1 wins over 3: a regression was really seen, whatever else broke. 3 is never 0: where evidence is missing, the
absence of failures says nothing. 2 (usage) is decided before there is a record.
"""

from __future__ import annotations

from dataclasses import dataclass

from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import Overview, count, known_for, overview, standing
from conformance.gating.baseline import Baseline, Key, held, name_of
from conformance.gating.moves import kind_of
from conformance.vocabulary import Standing

NOTHING_UNEXPECTED, UNEXPECTED, INCONCLUSIVE = 0, 1, 3


def exit_status(record: Record) -> int:
    """The run's exit status, by the table above."""
    return overview(record).status


def unexpected(record: Record) -> list[CaseResult]:
    """The results that make the status 1."""
    seen = overview(record)
    return [*seen["fail"], *seen["fixed"], *seen["unstable"]]


@dataclass(frozen=True, slots=True)
class Regression:
    """One case on one mount that is worse than in the baseline, or unexpected and not in the baseline."""

    key: Key
    was: Standing | None
    """None: the baseline does not have the case."""
    now: Standing | None
    """None: the run does not have it."""
    reason: str
    infrastructure: bool = False
    """The machine, SSH or a disk broke, or the case did not run: it says nothing about the target."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdict on a run compared with a baseline."""

    status: int
    why: str
    """In one line."""
    worse: list[Regression]
    better: list[Key]
    same: int
    not_asked: int
    """Cases of the baseline that the run was not asked to run (-k, --family)."""
    judged: int
    baseline: str
    """Its title; empty where none was given."""
    known_otherwise: dict[Key, str]
    """Cases that are known in both, and now for what the baseline does not have: a defect may stand behind another."""


def gate(record: Record, baseline: Baseline | None, min_judged: int = 0) -> Gate:
    """Judge a run: against a baseline if there is one, otherwise by the table above.

    With a baseline the status is 1 if a case is worse, or passes though it is declared to fail; 3 if nothing is worse
    but a machine failed and evidence is missing; 0 otherwise, even with failures that are in the baseline, too.
    `min_judged` is the number of cases that must judge the target, whatever the baseline says.
    """
    seen = overview(record)
    if baseline is None:
        worse = [Regression(r.key, None, standing(r), r.reason) for r in unexpected(record)]
        worse += [Regression(r.key, None, "error", r.reason, r.infrastructure) for r in seen["error"]]
        better: list[Key] = []
        status, same, not_asked, why = seen.status, 0, 0, seen.sentence
        known_otherwise: dict[Key, str] = {}
    else:
        worse, better, same, not_asked = _beside(record, baseline.standings)
        status, why = _status(record, seen, worse, alike=baseline.standings.keys() & {r.key for r in record.results})
        known_otherwise = _known_otherwise(record, baseline)
    if status == NOTHING_UNEXPECTED and seen.judged < min_judged:
        status, why = INCONCLUSIVE, f"no verdict: {seen.judged:,} cases judged the target, --min-judged {min_judged}"
    title = baseline.title if baseline is not None else ""
    return Gate(status, why, worse, better, same, not_asked, seen.judged, title, known_otherwise)


def _beside(record: Record, then: dict[Key, Standing]) -> tuple[list[Regression], list[Key], int, int]:
    """Regressions, improvements, the number of unchanged cases, and of those that were not selected."""
    now = {result.key: result for result in record.results}
    worse: list[Regression] = []
    better: list[Key] = []
    same = 0
    for key, result in now.items():
        stood, was = held(result), then.get(key)
        kind = kind_of(was, stood)
        new_and_wrong = was is None and stood in ("fail", "fixed", "unstable", "error")
        if kind == "worse" or stood == "fixed" or new_and_wrong:
            worse.append(Regression(key, was, stood, result.reason, result.infrastructure and stood == "error"))
        elif kind == "better":
            better.append(key)
        else:
            same += was is not None
    missing = [key for key in then if key not in now]
    scope = record.environment.scope
    if scope is not None and scope.partial:
        return worse, better, same, len(missing)
    worse += [Regression(key, then[key], None, "the run does not have it") for key in missing]
    return worse, better, same, 0


def _known_otherwise(record: Record, baseline: Baseline) -> dict[Key, str]:
    found: dict[Key, str] = {}
    for result in record.results:
        then = baseline.known.get(name_of(result.key))
        if result.verdict == "known" and then:
            new = [said for key, said in known_for(result).items() if key not in then]
            found |= {result.key: "; ".join(new)} if new else {}
    return found


def _status(record: Record, seen: Overview, worse: list[Regression], alike: set[Key]) -> tuple[int, str]:
    """The exit status with a baseline, and one line that says why. `alike`: the cases that both have."""
    ours = [one for one in worse if not one.infrastructure]
    if record.interrupted_by:
        return seen.status, f"no verdict: the run was interrupted by {record.interrupted_by}"
    if ours:
        return UNEXPECTED, f"{count(len(ours), 'case is', 'cases are')} worse than in the baseline"
    lost = len(worse)
    doubts = seen.doubts_of_run + ([f"{count(lost, 'case')} lost to the infrastructure"] if lost else [])
    doubts += [] if alike else ["the baseline has none of the cases that ran"]
    if doubts:
        return INCONCLUSIVE, f"no verdict: {', '.join(doubts)}"
    return NOTHING_UNEXPECTED, "nothing is worse than in the baseline"
