"""Comparisons of runs as text: the gate's verdict, and the table of families by implementations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import count, visible
from conformance.gating.baseline import held, name_of
from conformance.gating.gate import Gate, Regression
from conformance.gating.moves import LEVEL
from conformance.vocabulary import Standing

_LISTED = 12
_CASES = 4
_LETTERS: dict[Standing, str] = {
    "known": "k",
    "varies": "v",
    "unsupported": "u",
    "fail": "FAIL",
    "fixed": "FIXED",
    "unstable": "unstable",
    "undrivable": "n",
    "error": "error",
}
_REASON = 160
_GRAVEST: tuple[Standing, ...] = (
    "error",
    "unstable",
    "fail",
    "fixed",
    "known",
    "varies",
    "unsupported",
    "undrivable",
    "guest",
    "pass",
)
"""The order in which standings of one case are shown; the first gives the reason."""


def verdict_text(record: Record, seen: Gate) -> str:
    """The gate's verdict: one line, then what is worse, grouped by reason."""
    e = record.environment
    version = f" ({e.target_version})" if e.target_version else ""
    beside = f" beside {seen.baseline}" if seen.baseline else ""
    lines = [
        f"gate: exit status {seen.status}: {seen.why}",
        f"  {e.target}{version} of {e.started:%Y-%m-%d %H:%M} UTC{beside}",
    ]
    numbers = [f"{len(seen.worse)} worse", f"{len(seen.better)} better", f"{seen.same:,} as before"]
    numbers = numbers if seen.baseline else [f"{len(seen.worse)} unexpected"]
    numbers += [f"{count(seen.not_asked, 'case')} of the baseline not asked for"] if seen.not_asked else []
    lines.append(f"  {', '.join(numbers)}; {seen.judged:,} cases judged the target")
    groups: dict[tuple[str, str], list[Regression]] = defaultdict(list)
    for one in seen.worse:
        move = (
            f"{one.was} -> {one.now or 'missing'}" if one.was else f"{one.now} (new)" if seen.baseline else str(one.now)
        )
        groups[move, one.reason].append(one)
    order = sorted(groups.items(), key=lambda item: (_gravity(item[1][0]), -len(item[1])))
    for (move, reason), having in order[:_LISTED]:
        lines.append(f"  {move}: {_some(name_of(one.key) for one in having)}")
        lines += [f"      {_cut(reason)}"] if reason else []
    if len(order) > _LISTED:
        rest = sum(len(having) for _, having in order[_LISTED:])
        lines.append(f"  ... and {count(rest, 'case')} more, for {count(len(order) - _LISTED, 'other reason')}")
    otherwise = list(seen.known_otherwise.items())
    for key, said in otherwise[:_LISTED]:
        lines += [f"  known for another reason: {name_of(key)}", f"      {_cut(said)}"]
    if len(otherwise) > _LISTED:
        lines.append(f"  ... and {count(len(otherwise) - _LISTED, 'other case')} known for another reason")
    if seen.better:
        lines.append(f"  better: {_some(map(name_of, seen.better))}; `assay9 baseline save` keeps that")
    return "\n".join(map(visible, lines)) + "\n"


def _gravity(one: Regression) -> int:
    return 0 if one.now is None else LEVEL[one.now]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _CASES:,} more" if len(listed) > _CASES else ""
    return ", ".join(listed[:_CASES]) + more


def _cut(text: str) -> str:
    return text if len(text) <= _REASON else f"{text[: _REASON - 3]}..."


def labels(records: Sequence[Record]) -> list[str]:
    """What distinguishes the runs in a heading: the target, and further differences if that is not enough."""
    names = [record.environment.target for record in records]
    if len(set(names)) == len(names):
        return names
    versions = [f"{r.environment.target} {r.environment.target_version}".strip() for r in records]
    if len(set(versions)) == len(versions):
        return versions
    return [f"{r.environment.target} {r.environment.started:%m-%d %H:%M:%S}" for r in records]


def side_by_side(records: Sequence[Record], names: Sequence[str]) -> str:
    """Families as rows, runs as columns; then the cases with different standings, grouped by reason."""
    families = dict.fromkeys((r.layer, r.family) for record in records for r in record.results)
    tables = [_by_family(record) for record in records]
    rows = [["", *names]]
    rows += [["/".join(f), *(_cell(table.get(f, Counter())) for table in tables)] for f in families]
    rows.append(["total", *(_cell(sum(table.values(), Counter())) for table in tables)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        f"{row[0]:<{widths[0]}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    legend = "passes of cases that judged it; k known failures, v may differ, u declared unsupported, n not drivable"
    lines += ["", legend, "", *_telling(records, names)]
    return "\n".join(line.rstrip() for line in map(visible, lines)) + "\n"


def _by_family(record: Record) -> dict[tuple[str, str], Counter[Standing]]:
    found: dict[tuple[str, str], Counter[Standing]] = defaultdict(Counter)
    for result in record.results:
        found[result.layer, result.family][held(result)] += 1
    return found


def _cell(counts: Counter[Standing]) -> str:
    """`38 2k 1FAIL`; a dot if the run has no such case."""
    if not counts:
        return "."
    marks = [f"{counts[standing]}{letter}" for standing, letter in _LETTERS.items() if counts[standing]]
    return " ".join([str(counts["pass"]), *marks])


def _telling(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """Cases that at least two runs have, with different standings: each reason once, those of failures first."""
    tables = [{result.key: result for result in record.results} for record in records]
    reasons: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    gravest: dict[str, int] = {}
    for key in dict.fromkeys(key for table in tables for key in table):
        there = [(name, r) for name, table in zip(names, tables, strict=True) if (r := table.get(key)) is not None]
        stands: dict[Standing, list[str]] = defaultdict(list)
        for name, result in sorted(there, key=lambda pair: _GRAVEST.index(held(pair[1]))):
            stands[held(result)].append(name)
        if len(stands) < 2:
            continue
        worst = next(result for _, result in there if held(result) == next(iter(stands)))
        reason = _cut(_why(worst)) or "no reason given"
        grave = _GRAVEST.index(held(worst))
        gravest[reason] = min(gravest.get(reason, grave), grave)
        reasons[reason]["; ".join(f"{', '.join(those)} {one}" for one, those in stands.items())].append(name_of(key))
    numbers = {reason: sum(map(len, groups.values())) for reason, groups in reasons.items()}
    lines = [f"{count(sum(numbers.values()), 'case', 'cases')} differ between the runs:"] if reasons else []
    for reason in sorted(reasons, key=lambda reason: (gravest[reason], -numbers[reason])):
        lines.append(f"  {numbers[reason]}  {reason}")
        lines += [f"      {stands}: {_some(cases)}" for stands, cases in reasons[reason].items()]
    return lines


def _why(result: CaseResult) -> str:
    """The profile entry's reason for a known case; the case's own reason also has the values of that case."""
    return result.known.reason if result.known is not None else result.reason
