"""Failures: the unexpected first, then errors, then known failures by owner, worst first."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from functools import partial

from conformance.evidence.models import CaseResult, KnownFailure
from conformance.evidence.overview import OWNERS, Overview, by_reason, count
from conformance.reports.ticket.layout import WIDTH, Section, ascii_only, first_sentence, named, sentence, wrapped

_GRAVE = frozenset({"content", "escape", "changed", "died", "killed"})
"""Codes of findings in which data or another file is harmed, or something died."""
Entries = list[tuple[KnownFailure, list[CaseResult]]]
"""The profiles' entries that were met, each with the cases that met it."""
_SEVERITY = {"must": 0, "linux": 1, "varies": 2}
_MOUNTS = 3
_FINDINGS = 5


def unexpected(seen: Overview, judged: dict[tuple[str, str], str]) -> Section:
    """Undeclared failures, then declared ones that pass.

    `judged` says of a case what a baseline says of it; empty where there is none.
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
    for result in sorted(results, key=lambda r: (_SEVERITY[r.severity], not _grave(r))):
        new = [finding for finding in result.findings if finding.known is None]
        text = f"{new[0].code}: {new[0].text}" if new else result.reason
        found.setdefault((result.severity, result.case_id, text), []).append(result)
    return found


def _grave(result: CaseResult) -> bool:
    return any(finding.code.partition(":")[0] in _GRAVE for finding in result.findings)


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
    more = [f"{finding.code}: {finding.text}" for finding in first.findings if finding.known is None][1:]
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


def known(entries: Entries, detailed: int | None, *, brief: bool = False) -> list[Section]:
    """A section for each owner, the gravest entries first; of so many entries the reason, of the rest the cases.

    `brief`: an entry has one line.
    """
    order = [*OWNERS, *dict.fromkeys(entry.owner for entry, _ in entries if entry.owner not in OWNERS)]
    share = 1.0 if detailed is None else min(1.0, detailed / max(1, len(entries)))
    sections: list[Section] = []
    for owner in order:
        mine = sorted((one for one in entries if one[0].owner == owner), key=_worst)
        shown = math.ceil(len(mine) * share)
        one = _brief if brief else partial(_entry, full=detailed is None)
        lines = [line for entry, results in mine[:shown] for line in one(entry, results)]
        for severity in _SEVERITY:
            rest = [r.case_id for _, results in mine[shown:] for r in results if r.severity == severity]
            if rest:
                lines += wrapped(named(rest, 1000), f"  {severity:<5}{len(rest):>4}  also ", " " * 13)
        cases = len({id(r) for _, results in mine for r in results})
        whose = OWNERS.get(owner, f"of {owner}").upper()
        heading = f"KNOWN FAILURES {whose}: {count(len(mine), 'entry', 'entries')}, {count(cases, 'case')}"
        note = " (! = harms data)" if any(_grave(r) for _, results in mine for r in results) else ""
        sections.append(Section(heading + note, lines, least=3, what="lines of known failures", tight=bool(sections)))
    return sections


def merged(entries: Entries) -> Entries:
    """Entries that give one reason for several cases or findings, once."""
    found: dict[tuple[str, str], tuple[KnownFailure, dict[tuple[str, str], CaseResult]]] = {}
    for entry, results in entries:
        _, having = found.setdefault((entry.owner, entry.reason), (entry, {}))
        having |= {result.key: result for result in results}
    return [(entry, list(having.values())) for entry, having in found.values()]


def _worst(one: tuple[KnownFailure, list[CaseResult]]) -> tuple[int, bool, int]:
    _, results = one
    return min(_SEVERITY[r.severity] for r in results), not any(map(_grave, results)), -len(results)


def _entry(entry: KnownFailure, results: list[CaseResult], *, full: bool) -> list[str]:
    """Severity, cases and reason; below it which cases, and the link where it fits."""
    reason = entry.reason if full else first_sentence(entry.reason, 64)
    lines = wrapped(reason, _weight(results), " " * 13)
    link = entry.link.removeprefix("https://")
    ids = named((r.case_id for r in results), 1000 if full else 5)
    if full:
        return [*lines, *wrapped(ids, " " * 13), *([f"             {entry.link}"] if entry.link else [])]
    room = WIDTH - 13 - len(ids) - 2
    return [*lines, *wrapped(f"{ids}  {link}" if link and len(link) <= room else ids, " " * 13)]


def _brief(entry: KnownFailure, results: list[CaseResult]) -> list[str]:
    """Severity, number of cases, what of the reason there is room for, the first case."""
    ids = named((r.case_id for r in results), 1)
    reason = ascii_only(first_sentence(entry.reason, WIDTH - 13 - 2 - len(ids)))
    return [f"{_weight(results)}{reason}  {ids}"]


def _weight(results: list[CaseResult]) -> str:
    """The beginning of a known failure's line: the worst severity, whether data is harmed, the number of cases."""
    severity = min((r.severity for r in results), key=_SEVERITY.__getitem__)
    mark = "!" if any(map(_grave, results)) else " "
    return f"  {severity:<5}{mark}{len(results):>3}  "


def one_case(seen: Overview) -> str:
    """The id of the case that a reader would want to run alone: the first unexpected one, else a known one."""
    for results in (seen["fail"], seen["fixed"], seen["unstable"], seen["known"]):
        if results:
            return shlex.quote(results[0].case_id)
    return ""
