"""Markdown for a pull request: the verdict, counts and unexpected results in fewer than 60 lines; and annotations.

GitHub shows `$GITHUB_STEP_SUMMARY` and any comment as Markdown, and lines `::error ...` of a log as annotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import MEANING, STANDINGS, Overview, by_reason, count, overview, visible
from conformance.vocabulary import Standing

_UNEXPECTED: tuple[Standing, ...] = ("fail", "fixed", "unstable")
_ROWS, _GROUPS, _NAMED, _LONGEST = 20, 8, 4, 160
_ANNOTATED = 10
"""GitHub shows ten errors of a step, no more."""


def write_markdown(record: Record, path: Path) -> None:
    """Write the text."""
    path.write_text(markdown(record), encoding="utf-8")


def markdown(record: Record) -> str:
    """The text, fewer than 60 lines."""
    seen, e = overview(record), record.environment
    mark = {0: "\N{WHITE HEAVY CHECK MARK}", 1: "\N{CROSS MARK}"}.get(seen.status, "\N{WARNING SIGN}\ufe0f")
    version = f", {_cell(e.target_version)}" if e.target_version else ""
    guest = f", guest {_cell(f'{e.guest_image} {e.guest_kernel}'.strip())}" if e.guest_kernel else ""
    lines = [f"### {mark} assay9: {_cell(e.target)}{version}{guest}", "", f"**{_cell(seen.sentence)}.**", ""]
    shown = [s for s in STANDINGS if seen.counts[s]]
    if shown:
        lines += ["| " + " | ".join(shown) + " |", "|" + " ---: |" * len(shown)]
        lines += ["| " + " | ".join(f"{seen.counts[s]:,}" for s in shown) + " |", ""]
    lines += _unexpected(seen)
    lines += _errors(seen)
    facts = [
        f"change `{_code(e.build_id)}`" if e.build_id else "",
        f"base `{_code(e.base)}`" if e.base else "",
        f"suite `{_code(e.assay9_commit[:12])}`" if e.assay9_commit else "",
        f"[job]({e.job_url})" if e.job_url.startswith("https://") else "",
    ]
    lines += [", ".join(filter(None, facts)), ""] if any(facts) else []
    lines += ["<details><summary>What the words mean</summary>", ""] if shown else []
    lines += [f"- **{s}**: {_cell(MEANING[s])}" for s in shown]
    lines += ["", "</details>"] if shown else []
    return "\n".join(lines) + "\n"


def _unexpected(seen: Overview) -> list[str]:
    rows = [(stands, result) for stands in _UNEXPECTED for result in seen[stands]]
    if not rows:
        return []
    lines = ["| | case | mount | seen |", "| --- | --- | --- | --- |"]
    for stands, result in rows[:_ROWS]:
        lines.append(
            f"| {stands} {result.severity} | `{_code(result.id)}` | {_cell(result.mount)} | {_cell(result.reason)} |"
        )
    lines += [f"| | {count(len(rows) - _ROWS, 'more case')} | | |"] if len(rows) > _ROWS else []
    return [*lines, ""]


def _errors(seen: Overview) -> list[str]:
    groups = by_reason(seen["error"])
    lines = [f"- trouble: {_cell(text)}" for text in seen.troubles[:_GROUPS]]
    for reason, having in groups[:_GROUPS]:
        names = ", ".join(f"`{_code(r.id)}`" for r in having[:_NAMED])
        lines.append(
            f"- {count(len(having), 'error')}: {_cell(reason)}: {names}{' ...' if len(having) > _NAMED else ''}"
        )
    lines += [f"- and {count(len(groups) - _GROUPS, 'other reason')}"] if len(groups) > _GROUPS else []
    return [*lines, ""] if lines else []


def workflow_commands(record: Record) -> Iterator[str]:
    """GitHub's workflow commands: for the first ten unexpected results, and one warning for errors."""
    seen = overview(record)
    rows: list[CaseResult] = [result for stands in _UNEXPECTED for result in seen[stands]]
    for result in rows[:_ANNOTATED]:
        title = _property(f"{result.id} {result.mount}".strip())
        yield f"::error title={title}::{_message(f'{result.requirement} {result.reason}')}"
    if seen.doubts:
        yield f"::warning title=assay9 {_property(record.environment.target)}::{_message('; '.join(seen.doubts))}"


def _cell(text: str) -> str:
    """Text of a cell: one line, without markup."""
    text = " ".join(visible(text).split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    for character in "\\`*_[]<>|#@":
        text = text.replace(character, f"\\{character}" if character not in "<>@" else f"&#{ord(character)};")
    return text


def _code(text: str) -> str:
    return visible(text).replace("`", "'").replace("|", "\\|")[:_LONGEST]


def _message(text: str) -> str:
    return visible(" ".join(text.split())).replace("%", "%25")[:600]


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
