"""A short plain text that can go into a ticket: what was tested, how, what came of it, what was not tested.

At most 78 columns, no markup: trackers quote and wrap as they like. Everything else is in the HTML page.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import (
    MEANING,
    STANDINGS,
    Overview,
    by_reason,
    count,
    duration,
    elapsed,
    overview,
    visible,
)

WIDTH = 78
_IDS_SHOWN = 6
_LISTED = 40
_FINDINGS = 5
_LONGEST = 300


def text(record: Record, run_dir: Path | None = None) -> str:
    """The text; `run_dir`, where given, is named as the place of the whole evidence."""
    seen = overview(record)
    parts = [
        _paragraph(f"virtio-9p conformance of target {record.environment.target}: {seen.sentence}."),
        *_tested(seen),
        *_section("Results", [_table(seen)] if seen.record.results else []),
        *_section("Unexpected", _unexpected(seen)),
        *_section("Errors: neither pass nor fail", _errors(seen)),
        *_section("Known failures, declared in the target's profiles", _known(seen)),
        *_section("Differences that may be: recorded, not judged", _cases(seen, seen["varies"])),
        *_section("Differences between inside and outside that were let pass, and why", _let_pass(seen)),
        *_section("Declared lacks: refused as declared", _grouped(seen, seen["unsupported"])),
        *_section("Not tested, and why", _grouped(seen, seen["undrivable"])),
    ]
    if run_dir is not None:
        where = _wrapped(f"{run_dir}: report.html for people, record.json for machines.", "  ")
        parts += _section("Every call, comparison and message that crossed", [where])
    return "\n\n".join(parts) + "\n"


def write_text(record: Record, path: Path) -> None:
    """Write the text; the evidence is said to be where `path` is."""
    path.write_text(text(record, path.absolute().parent), encoding="utf-8")


def _tested(seen: Overview) -> Iterator[str]:
    """What was tested and how, as one would say it in a ticket."""
    e = seen.record.environment
    said = ["Tested was ", e.target_title or f"target {e.target}"]
    said += [f", {e.target_version}"] if e.target_version else []
    if e.guest_image:
        said.append(f", in a guest {e.guest_image}")
        said += [f" (image {e.guest_image_hash[:16]})"] if e.guest_image_hash else []
    said += [f", guest kernel {e.guest_kernel}"] if e.guest_kernel else []
    if e.accelerator:
        said.append(f", under {e.accelerator}" + (f" ({e.accelerator_reason})" if e.accelerator_reason else ""))
    if e.access:
        said.append(f", reached by {e.access}")
    if e.security_model:
        said.append(f", security model {e.security_model}")
    host = ", ".join(part for part in (e.host_distribution, e.host_kernel) if part)
    said.append(f". Host: {host}." if host else ".")
    yield _paragraph("".join(said))
    total = count(len(seen.record.results), "case")
    ran = f"{len(seen.record.results) - seen.not_run:,} of {total}" if seen.not_run else total
    how = f"{ran} ran{_on_mounts(seen)}, {seen.effort}."
    took = elapsed(seen.record)
    begun = f"Started {e.started:%Y-%m-%d %H:%M} UTC" + (f", took {duration(took)}." if took is not None else ".")
    suite = f"assay9 {e.assay9_version}" + (f", commit {e.assay9_commit[:12]}" if e.assay9_commit else "")
    dirty = " with local changes" if e.assay9_commit.endswith("-dirty") else ""
    yield _paragraph(f"{how} {begun} Suite: {suite}{dirty}.")
    if seen.decisions:
        yield _paragraph(f"{seen.decisions[:1].upper()}{seen.decisions[1:]}.")
    if e.mounts:
        yield "\n".join(_wrapped(f"{asked}: {shown}", "  ", "      ") for asked, shown in e.mounts.items())
    if e.command:
        yield _wrapped(f"$ {e.command}", "  ", "      ")
    if e.argv:
        yield _command(e.argv)
    if notes := [*filter(None, [seen.fewer_named(_IDS_SHOWN), seen.otherwise]), *e.notes]:
        yield "\n".join(_wrapped(f"Note: {note}", "", "  ") for note in notes)


def _command(argv: list[str]) -> str:
    """A command line that breaks between words, and within a long one after commas."""
    pieces = [piece for word in argv for piece in _pieces(visible(shlex.quote(word)))]
    lines, line = [], "  "
    for piece, begins in pieces:
        gap = " " if begins and line.strip() else ""
        if len(line) + len(gap) + len(piece) > WIDTH and line.strip():
            lines.append(line)
            line, gap = "      ", ""
        line += gap + piece
    return "\n".join([*lines, line])


def _pieces(word: str) -> Iterator[tuple[str, bool]]:
    """The parts of a word that stay together, and whether one begins the word."""
    if len(word) < 40:
        yield word, True
        return
    for number, part in enumerate(re.findall(r"[^,]{1,70},?|,", word)):
        yield part, number == 0


def _on_mounts(seen: Overview) -> str:
    mounts = sorted({r.mount for r in seen.record.results if r.mount})
    return f" on the share mounted with {' and with '.join(mounts)}" if mounts else ""


def _table(seen: Overview) -> str:
    shown = [s for s in STANDINGS if seen.counts[s]]
    names = {f: f"{f[0]}/{f[1]}" for f in seen.families}
    first = max([len(n) for n in names.values()] + [len("total")])
    widths = {s: max(len(s), 5) for s in shown}
    if 2 + first + sum(w + 1 for w in widths.values()) > WIDTH:
        shorts = {"unsupported": "unsupp", "undrivable": "undriv"}
    else:
        shorts = {}
    headings = {s: shorts.get(s, s) for s in shown}

    def row(name: str, cells: dict[str, str]) -> str:
        return f"  {name:<{first}}" + "".join(f" {cells[s]:>{max(len(headings[s]), 5)}}" for s in shown)

    lines = [row("", {s: headings[s] for s in shown})]
    for family, counts in seen.families.items():
        lines.append(row(names[family], {s: str(counts[s] or ".") for s in shown}))
    lines.append(row("total", {s: str(seen.counts[s]) for s in shown}))
    explained = [s for s in shown if s not in ("pass", "fail")]
    lines += [_wrapped(f"{headings[s]}: {MEANING[s]}", "  ", "    ") for s in explained]
    return "\n".join([*lines[: len(seen.families) + 2], *([""] if explained else []), *lines[len(seen.families) + 2 :]])


def _unexpected(seen: Overview) -> Iterator[str]:
    for name, heading in (("fail", "FAILS"), ("fixed", "PASSES UNEXPECTEDLY")):
        results = seen[name]  # type: ignore[index]
        for result in results[:_LISTED]:
            yield "\n".join(
                [
                    _wrapped(f"{heading} {seen.name(result)}: {result.requirement}", "  ", "    "),
                    *_seen(result),
                    _wrapped(f"source: {result.source}", "    ", "      "),
                ]
            )
        yield from _more(results)


def _seen(result: CaseResult) -> Iterator[str]:
    """What nobody declared, each finding with its code; else the reason."""
    new = [finding for finding in result.findings if finding.known is None]
    if not new:
        yield _wrapped(f"seen: {result.reason}", "    ", "      ")
    for finding in new[:_FINDINGS]:
        yield _wrapped(f"{finding.code}: {finding.text[:_LONGEST]}", "    ", "      ")
    if len(new) > _FINDINGS:
        yield f"    ... and {len(new) - _FINDINGS} more findings"


def _errors(seen: Overview) -> Iterator[str]:
    yield from (_wrapped(text, "  ", "    ") for text in seen.troubles[:_LISTED])
    yield from _grouped(seen, seen["error"])


def _known(seen: Overview) -> Iterator[str]:
    for whose, entries in seen.known_by_owner():
        yield f"{whose[:1].upper()}{whose[1:]}:"
        for entry, having in entries:
            ids = _ids(seen, having)
            lines = [_wrapped(f"{entry.reason}: {ids}", "  ", "    ")]
            if entry.link:
                where = f" ({entry.where})" if entry.where else ""
                lines.append(f"    {visible(entry.link)}{visible(where)}")
            yield "\n".join(lines)


def _let_pass(seen: Overview) -> Iterator[str]:
    for reason, number, fields in seen.looks.reasons[:_LISTED]:
        shown = ", ".join(fields[:_IDS_SHOWN]) + (" and others" if len(fields) > _IDS_SHOWN else "")
        yield _wrapped(f"{count(number, 'difference')} of {shown}: {reason}", "  ", "    ")


def _cases(seen: Overview, results: list[CaseResult]) -> Iterator[str]:
    for result in results[:_LISTED]:
        yield _wrapped(f"{seen.name(result)}: {result.reason}", "  ", "    ")
    yield from _more(results)


def _grouped(seen: Overview, results: list[CaseResult]) -> Iterator[str]:
    for reason, having in by_reason(results):
        about = f"{count(len(having), 'case')}: {reason or 'no reason given'}"
        yield _wrapped(f"{about}: {_ids(seen, having)}", "  ", "    ")


def _ids(seen: Overview, results: list[CaseResult]) -> str:
    shown = ", ".join(seen.name(r) for r in results[:_IDS_SHOWN])
    return shown + (f" and {len(results) - _IDS_SHOWN} more" if len(results) > _IDS_SHOWN else "")


def _more(results: list[CaseResult]) -> Iterator[str]:
    if len(results) > _LISTED:
        yield f"  ... and {len(results) - _LISTED} more"


def _section(heading: str, parts: list[str] | Iterator[str]) -> list[str]:
    body = "\n".join(parts)
    return [f"{heading}:\n\n{body}"] if body else []


def _paragraph(words: str) -> str:
    return _wrapped(words, "")


def _wrapped(words: str, first: str, rest: str | None = None) -> str:
    return textwrap.fill(
        visible(words),
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_on_hyphens=False,
    )
