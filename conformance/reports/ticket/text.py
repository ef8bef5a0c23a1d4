"""`rti.txt`: verdict, what was tested, scope, what was seen, failures by owner, soak, how to reproduce it.

Everything else is in the HTML page; `full` includes it here, too, without a limit of lines.
"""

from __future__ import annotations

from pathlib import Path

from conformance.evidence.models import Record
from conformance.evidence.overview import Overview, overview
from conformance.gating.baseline import Baseline, name_of
from conformance.gating.gate import gate
from conformance.reports.ticket import beside, failures, full, known, scope, tested
from conformance.reports.ticket.layout import LINES, Section, fitted, sentence
from conformance.reports.ticket.soak import soak as soak_block

_FEW = 6


def text(
    record: Record,
    run_dir: Path | None = None,
    *,
    whole: bool = False,
    soak: Path | None = None,
    baseline: Baseline | None = None,
) -> str:
    """The text. `run_dir` names the place of the evidence; `soak` is the directory of a soak run to add.

    With a `baseline` the first paragraph compares the run with it. Raises UsageError if `soak` is not a soak run.
    """
    seen = overview(record)
    found = known.defects(seen)
    against = _against(seen) if baseline is None else _beside(record, baseline)
    before, after = _before(seen, against, whole=whole), _after(seen, run_dir, soak, whole=whole)
    if whole:
        return fitted([*before, *known.whole(found), *after], None)
    if (made := known.placed(found, before, after, LINES, least=len(found))) is not None:
        return made
    before = _before(seen, against, whole=False, notes=False)  # a known failure's reason says more than a note
    made = known.placed(found, before, after, LINES, least=0)
    return fitted([*before, *known.known(found, _FEW, 0), *after], LINES) if made is None else made


def _before(seen: Overview, against: list[str], *, whole: bool, notes: bool = True) -> list[Section]:
    """The sections above the known failures."""
    return [
        scope.verdict(seen, against),
        failures.unexpected(seen, {}),
        failures.errors(seen),
        tested.tested(seen, notes=notes),
        scope.scope(seen),
        *beside.beside(seen),
        scope.unsupported(seen, whole=whole),
    ]


def _after(seen: Overview, run_dir: Path | None, soak: Path | None, *, whole: bool) -> list[Section]:
    """The sections below them."""
    block = Section("SOAK", ["  none given (--soak RUN adds one)"])
    if soak is not None:
        e = seen.record.environment
        block = soak_block(soak, sentence([e.target, e.target_version]), whole=whole)
    return [
        scope.varying(seen, whole=whole),
        scope.undrivable(seen, whole=whole),
        *([full.table(seen), full.let_pass(seen), full.machines(seen)] if whole else []),
        block,
        tested.reproduce(seen, failures.one_case(seen)),
        tested.kept_at(seen, run_dir),
    ]


def write_text(record: Record, path: Path, *, soak: Path | None = None, baseline: Baseline | None = None) -> None:
    """Write the text; it names the directory of `path` as the place of the evidence."""
    path.write_text(text(record, path.absolute().parent, soak=soak, baseline=baseline), encoding="ascii")


def _beside(record: Record, baseline: Baseline) -> list[str]:
    seen = gate(record, baseline)
    undriven = [one for one in seen.worse if one.now in ("undrivable", None)]
    worse = [one for one in seen.worse if one not in undriven]
    lines = [
        f"Against baseline {baseline.title}: {len(worse)} worse, {len(seen.better)} better, {len(undriven)} no longer "
        f"driven, {seen.same:,} as before. Beside it the gate's exit status is {seen.status}."
    ]
    if seen.worse:
        shown = [f"{name_of(one.key)} ({one.was or 'new'}, now {one.now or 'missing'})" for one in seen.worse[:_FEW]]
        more = f" and {len(seen.worse) - _FEW} more" if len(seen.worse) > _FEW else ""
        lines.append(f"Worse than there: {', '.join(shown)}{more}.")
    return lines


def _against(seen: Overview) -> list[str]:
    earlier = seen.record.earlier
    if earlier is None:
        return ["Against an earlier run: none of this target is here; no baseline was given."]
    return [
        f"Against {earlier.run}: of {earlier.compared:,} cases that both selected, {earlier.judged_then:,} judged the "
        f"target then and {earlier.judged_now:,} now; {len(earlier.no_longer)} no longer, "
        f"{len(earlier.known_otherwise)} known for another reason."
    ]
