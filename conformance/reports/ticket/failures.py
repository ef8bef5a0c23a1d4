"""Unexpected results, and errors, which are neither pass nor fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conformance.evidence.models import CaseResult
from conformance.evidence.overview import Overview, by_reason, count, weight
from conformance.reports.ticket.layout import Section, first_sentence, named, sentence, wrapped

_MOUNTS = 3
_FINDINGS = 5


def unexpected(seen: Overview, judged: dict[tuple[str, str], str]) -> Section:
    """Undeclared failures, then declared ones that pass.

    `judged` is what a baseline says about a case; empty if there is none.
    """
    lines: list[str] = []
    for (name, ids, text), results in _alike(seen["fail"]).items():
        lines += _lines_of("FAIL", name, ids, text, results, judged)
    for (name, ids, text), results in _alike(seen["fixed"]).items():
        lines += _lines_of("PASSES", name, ids, text, results, judged)
    for (name, ids, text), results in _alike(seen["unstable"]).items():
        lines += _lines_of("UNSTABLE", name, ids, text, results, judged)
    number = len(seen["fail"]) + len(seen["fixed"]) + len(seen["unstable"])
    return Section(f"UNEXPECTED ({number})", lines, least=12)


def _alike(results: Iterable[CaseResult]) -> dict[tuple[str, str, str], list[CaseResult]]:
    """The same case with the same finding, on whatever mount; the gravest first."""
    found: dict[tuple[str, str, str], list[CaseResult]] = {}
    for result in sorted(results, key=lambda result: weight([result])):
        new = [finding for finding in result.findings if finding.known is None]
        text = f"{new[0].code}: {_in_line(new[0].text)}" if new else result.reason
        found.setdefault((result.severity, result.case_id, text), []).append(result)
    return found


def _lines_of(
    how: str, severity: str, case: str, text: str, results: Sequence[CaseResult], judged: dict[tuple[str, str], str]
) -> list[str]:
    first = results[0]
    parameters = list(dict.fromkeys(r.parameters for r in results if r.parameters))
    mounts = list(dict.fromkeys(r.mount for r in results if r.mount))
    where = f" on {sentence(mounts[:_MOUNTS], ' and ')}" if mounts else ""
    where += f" and {len(mounts) - _MOUNTS} more" if len(mounts) > _MOUNTS else ""
    which = f"[{sentence(parameters[:4])}{', ...' if len(parameters) > 4 else ''}]" if parameters else ""
    lines = wrapped(f"{how} {severity} {case}{which}{where}: {first_sentence(first.requirement, 200)}", "  ", "    ")
    more = [f"{finding.code}: {_in_line(finding.text)}" for finding in first.findings if finding.known is None][1:]
    for said in [text, *more[: _FINDINGS - 1]]:
        lines += wrapped(said[:300], "    ", "      ")
    lines += [f"    ... and {len(more) - _FINDINGS + 1} more findings"] if len(more) >= _FINDINGS else []
    if any(call.control_result is not None for call in first.calls):
        lines += wrapped("The same calls held on the guest's own file system first.", "    ")
    if judged:
        stood = dict.fromkeys(judged.get(r.key, "not run") for r in results)
        lines += wrapped(f"In the baseline: {sentence(stood)}", "    ", "      ")
    return lines + wrapped(f"source: {first.source}", "    ", "      ")[:2]


def errors(seen: Overview) -> Section:
    """Failures of the suite or the machine: neither pass nor fail."""
    lines: list[str] = []
    for text in seen.troubles:
        lines += wrapped(text, "  ", "    ")
    for reason, having in by_reason(seen["error"]):
        said = f"{count(len(having), 'case')}: {reason[:300] or 'no reason given'}: {named(r.case_id for r in having)}"
        lines += wrapped(said, "  ", "    ")
    for note in filter(None, [seen.fewer_named(6), seen.otherwise]):
        lines += wrapped(note, "  ", "    ")
    return Section("ERRORS AND DOUBTS: neither pass nor fail", lines, least=6)


def one_case(seen: Overview) -> CaseResult | None:
    """The case that a reader would run alone: the gravest unexpected one, else the gravest known one."""
    for results in (seen["fail"], seen["fixed"], seen["unstable"], seen["known"]):
        if results:
            return min(results, key=lambda result: weight([result]))
    return None


def _in_line(text: str) -> str:
    """A finding's text on one line; it may list the calls of a sequence on several."""
    return " ".join(text.split())
