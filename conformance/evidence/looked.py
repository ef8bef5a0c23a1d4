"""How closely a run looked: changing calls without a comparison, and differences tolerated for a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from conformance.evidence.models import CaseResult
from conformance.vocabulary import RuleKind


@dataclass(frozen=True, slots=True)
class Looks:
    """Counts over all results."""

    changing: int
    """Calls that may have changed files of the share."""
    uncompared: int
    """Of these, those without a comparison directly afterwards: another call's or the end of the case's has to do."""
    differing: int
    """Fields whose rule is `exact` that differed in a comparison."""
    let_pass: int
    """Of these, those for which a reason is declared."""
    reasons: tuple[tuple[str, int, tuple[str, ...]], ...]
    """(reason, differences let pass for it, names of the fields), the most frequent first; rules of all kinds but
    those that never judge (informational)."""

    @property
    def sentence(self) -> str:
        """Both counts in one line; empty if nothing was compared."""
        said = []
        if self.changing:
            said.append(f"{self.uncompared:,} of {self.changing:,} changing calls have no comparison at that call")
        if self.differing:
            passed = f"{self.let_pass:,} of {self.differing:,} differences of exact fields"
            said.append(f"{passed} were tolerated for a reason")
        return "; ".join(said)


def without_numbers(reason: str, rule: RuleKind) -> str:
    """Why a difference was tolerated, without the numbers of a rescaled value, which follow a colon."""
    return reason.partition(": ")[0] if rule == "rescaled" else reason


def looks(results: Iterable[CaseResult]) -> Looks:
    """Count them."""
    changing = uncompared = differing = let_pass = 0
    reasons: Counter[str] = Counter()
    fields: dict[str, Counter[str]] = {}
    for result in results:
        for call in result.calls:
            changing += call.changes
            uncompared += call.changes and not call.compared
        for comparison in result.comparisons:
            for field in comparison.fields:
                if field.equal or field.rule == "informational":
                    continue
                differing += field.rule == "exact"
                if field.tolerated is not None:
                    let_pass += field.rule == "exact"
                    why = without_numbers(field.tolerated, field.rule)
                    reasons[why] += 1
                    fields.setdefault(why, Counter())[field.name] += 1
    counted = tuple((reason, number, tuple(sorted(fields[reason]))) for reason, number in reasons.most_common())
    return Looks(changing, uncompared, differing, let_pass, counted)
