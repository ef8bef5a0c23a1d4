"""Profile entries that a run suggests: undeclared failures, and declared failures that pass. Pure.

A suggestion is not an entry: its reason and link are for a person to write, and an entry without them is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from conformance.checks import CODES
from conformance.evidence.models import CaseResult, Record, SeenFinding

_TOLD = ("call", "what", "seen", "expected", "field")
"""Values of a finding that name a defect, the most telling first; others hold paths and numbers of one run."""
_LONGEST = 60


def suggestions(record: Record) -> str:
    """TOML of entries for what failed undeclared, and a comment on each declared failure that passes."""
    groups: dict[tuple[str, str, str], list[CaseResult]] = {}
    for result in record.results:
        if result.verdict != "fail" or result.severity == "varies":
            continue
        for finding in result.findings:
            if finding.known is None:
                values = _values(finding)
                groups.setdefault((result.case_id, finding.code, json.dumps(values)), []).append(result)
    lines = [line for key, results in groups.items() for line in (*_entry(*key, results), "")]
    for result in record.results:
        if result.verdict == "fixed":
            where = f" on {result.mount}" if result.mount else ""
            lines += [f"# {result.id}{where} passes: {_plain(result.reason)}", ""]
    return "\n".join(lines)


def _values(finding: SeenFinding) -> dict[str, str]:
    return {name: finding.values[name] for name in _TOLD if len(finding.values.get(name, "x" * 99)) <= _LONGEST}


def _entry(case: str, code: str, values: str, results: list[CaseResult]) -> Iterator[str]:
    first = results[0]
    mounts = sorted({r.mount for r in results if r.mount})
    finding = next(f for f in first.findings if f.code == code)
    yield f"# {_plain(first.requirement)}"
    yield f"# seen on {', '.join(mounts) or 'no mount'}: {_plain(finding.text)}"
    yield f"# {code}: {CODES.get(code.partition(':')[0], '')}"
    yield "[[profile.known]]"
    ids = list(dict.fromkeys(r.id for r in results))
    yield f"case = {json.dumps(ids[0] if len(ids) == 1 else ids)}"
    yield f"finding = {json.dumps(code)}"
    if chosen := json.loads(values):
        yield "values = { " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in chosen.items()) + " }"
    if len({mount.partition(",")[0] for mount in mounts}) == 1 and mounts:
        yield f"mount = {json.dumps(mounts[0].partition(',')[0] + '*')}"
    yield 'reason = ""  # why it fails, in one line'
    yield 'link = ""  # the report, commit or source that shows the defect'


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else "?" for c in text).split())[:200]
