"""Checks the known failures of profiles: which never match, which match too much, what they would hide.

Records of runs show what an entry has really covered; without them only its text is checked. Pure: no files, no
network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from conformance.checks import CODES
from conformance.errors import Finding
from conformance.evidence.models import CaseResult, Record
from conformance.profiles.model import Known, Setting, VersionOf

Width = Literal["narrow", "medium", "wide"]

WIDTHS: dict[Width, str] = {
    "narrow": "one code, and a value or a field is named to the letter",
    "medium": "codes without *, and a field, or a value by a pattern",
    "wide": "codes alone, or nothing but patterns of *: another fault of these cases may be masked",
}

MANY_FINDINGS = 20
"""Findings of one result; an entry that covers more than so many of one case is said to match much."""

_LETTERS = 4
"""Letters other than * that a pattern has to name to count as one."""

_FAULTS: tuple[tuple[str, dict[str, str]], ...] = (
    *(("errno", {"seen": name, "call": "another"}) for name in ("EIO", "EACCES", "EINVAL", "ENOENT", "success")),
    *((f"field:{name}", {"seen": "1", "field": name}) for name in ("size", "mode", "uid", "nlink", "mtime_ns", "ino")),
    *((code, {"seen": "another", "call": "another"}) for code in CODES if code not in ("errno", "field")),
)
"""Faults that may come to stand in an entry's place: what it would cover of them, it would mask."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The check of one entry."""

    entry: Known
    width: Width
    cases: tuple[str, ...]
    """Ids of the cases that it names."""
    covered: int = 0
    """Findings in the records that it covers."""
    results: int = 0
    """Results in which it covers something."""
    applied: int = 0
    """Results of its cases that it holds for: mount, model and versions are right."""
    passed: int = 0
    """Of these, those that passed."""
    hidden: int = 0
    """Of these, those in which it covers nothing, and other entries everything: the case may not have come so far."""
    masks: tuple[str, ...] = ()
    """Other faults of its cases that it would cover: `errno EIO`, `hung`."""
    unreached: int = 0
    """Calls of its cases that were not made because the known failure ended the case."""
    problems: tuple[str, ...] = ()
    """The problems to fix; empty where there are none."""


@dataclass(slots=True)
class _Seen:
    covered: int = 0
    results: int = 0
    applied: int = 0
    passed: int = 0
    hidden: int = 0
    unreached: int = 0
    most: int = 0
    signatures: Counter[str] = field(default_factory=Counter)


def check(entries: Sequence[Known], ids: Iterable[str], records: Sequence[Record] = ()) -> list[Verdict]:
    """Judge each entry, with the ids of all cases and with what the records show."""
    known_ids = sorted(ids)
    return [_verdict(entry, known_ids, records) for entry in entries]


def _verdict(entry: Known, ids: list[str], records: Sequence[Record]) -> Verdict:
    cases = tuple(case for case in ids if entry.names(case, "") or any(_names(one, case) for one in entry.cases))
    seen = _Seen()
    for record in records:
        for result in record.results:
            if entry.names(result.case_id, result.parameters) and entry.applies(setting_of(record, result)):
                _look(entry, result, seen)
    masks = masked(entry, seen.signatures)
    problems = [] if cases else ["names no case"]
    if not is_url(entry.link):
        problems.append(f"its link is not a URL: {entry.link}")
    if records and seen.applied > seen.hidden and not seen.covered and not entry.sometimes:
        problems.append(f"never matches: {seen.applied} results of its cases in these runs, {seen.passed} passed")
    if seen.most > MANY_FINDINGS:
        problems.append(f"matches much: {seen.most} findings of one result")
    width = width_of(entry)
    if width == "wide":
        problems.append(f"is wide: it would mask {', '.join(masks[:6])}{' and more' if len(masks) > 6 else ''}")
    return Verdict(
        entry,
        width,
        cases,
        seen.covered,
        seen.results,
        seen.applied,
        seen.passed,
        seen.hidden,
        masks,
        seen.unreached,
        tuple(problems),
    )


def _names(pattern: str, case: str) -> bool:
    """Whether a pattern with parameters is about the case, whatever its parameters."""
    return Known.model_construct(case=pattern.partition("[")[0], finding="", reason="", link="").names(case, "")


def _look(entry: Known, result: CaseResult, seen: _Seen) -> None:
    if result.verdict in ("undrivable", "error"):
        return
    seen.applied += 1
    seen.passed += result.verdict in ("pass", "fixed")
    found = [one for one in result.findings if entry.covers(Finding(one.text, one.code, one.values))]
    seen.hidden += not found and result.verdict == "known"
    if found:
        seen.results += 1
        seen.covered += len(found)
        seen.most = max(seen.most, len(found))
        seen.unreached += result.unreached
        seen.signatures.update(_signature(one.code, one.values.get("seen", "")) for one in found)


def setting_of(record: Record, result: CaseResult) -> Setting:
    """The setting of a result, which restrictions of entries are compared with."""
    e = record.environment
    versions: dict[VersionOf, str] = {
        "target": e.target_version,
        "kernel": e.guest_kernel,
        "hypervisor": e.other.get("hypervisor", ""),
    }
    return Setting(result.mount, e.security_model, versions)


def masked(entry: Known, signatures: Iterable[str] = ()) -> tuple[str, ...]:
    """The faults that the entry would cover beyond those that it has covered."""
    meant = set(signatures)
    found = []
    for code, values in _FAULTS:
        fault = Finding("another fault", code, {"what": "another", **values})
        said = _signature(code, values["seen"])
        if said not in meant and entry.covers(fault):
            found.append(said)
    return tuple(found)


def _signature(code: str, seen: str) -> str:
    return f"{code} {seen}" if code.partition("-")[0] == "errno" else code


def width_of(entry: Known) -> Width:
    """How narrow the entry is; see WIDTHS."""
    if any("*" in code for code in entry.codes):
        return "wide"
    named = [wanted if isinstance(wanted, list) else [wanted] for wanted in entry.values.values()]
    detailed = all(":" in code for code in entry.codes)
    if len(entry.codes) == 1 and (any(all("*" not in one for one in value) for value in named) or detailed):
        return "narrow"
    if detailed or any(all(len(one.replace("*", "")) >= _LETTERS or "*" not in one for one in v) for v in named):
        return "medium"
    return "wide"


def is_url(link: str) -> bool:
    """Whether the link is a URL that a browser opens, and nothing else."""
    parts = urlsplit(link)
    return parts.scheme in ("http", "https") and "." in parts.netloc and not any(c.isspace() for c in link)
