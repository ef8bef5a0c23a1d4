"""INSIDE AND OUTSIDE: one `stat` and one `df` of the run side by side, as people type them by hand."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime

from conformance.comparison import Comparison, FieldComparison
from conformance.evidence.models import CaseResult
from conformance.evidence.overview import Overview
from conformance.reports.ticket.layout import Section, ascii_only, wrapped

_STAT = (
    ("Size/Blocks", ("size", "blocks")),
    ("IO Block", ("blksize",)),
    ("Device/Inode", ("dev", "ino")),
    ("Links", ("nlink",)),
    ("Mode", ("mode",)),
    ("Uid/Gid", ("uid", "gid")),
    ("Access", ("atime_ns",)),
    ("Modify", ("mtime_ns",)),
    ("Change", ("ctime_ns",)),
    ("Birth", ("btime_ns",)),
)
"""The rows of a stat: a label, and the fields beside each other."""
_DF = (
    ("Block size", "f_frsize"),
    ("Total", "f_blocks"),
    ("Free", "f_bfree"),
    ("Available", "f_bavail"),
    ("Inodes", "f_files"),
)
_IN_BLOCKS = frozenset({"f_blocks", "f_bfree", "f_bavail"})

Look = tuple[CaseResult, Comparison[str]]


def beside(seen: Overview) -> list[Section]:
    """One comparison of a file and one of the file system; none if nothing was compared."""
    found: dict[str, Look] = {}
    most: dict[str, tuple[bool, ...]] = {}
    looks = 0
    for result in seen.record.results:
        for comparison in result.comparisons:
            looks += comparison.kind in ("stat", "statx")
            kind = "df" if comparison.kind == "statvfs" else "stat"
            if comparison.kind in ("stat", "statx", "statvfs"):
                worth = _worth((result, comparison))
                if kind not in found or worth > most[kind]:
                    found[kind], most[kind] = (result, comparison), worth
    sections = []
    if (look := found.get("stat")) is not None:
        heading = f"INSIDE AND OUTSIDE, one of {looks:,} looks: {_where(look)}"
        sections.append(Section(heading, [*_stat_lines(look[1]), *_notes(look[1])]))
    if (look := found.get("df")) is not None:
        result = look[0]
        heading = f"AND OF THE FILE SYSTEM, {result.id}{f', {result.mount}' if result.mount else ''}"
        sections.append(Section(heading, list(_df_lines(look[1])), tight=True))
    return sections


def _worth(look: Look) -> tuple[bool, ...]:
    """Sort key: an unexplained difference is worth most; then a regular file with a birth time, in a case that passed.

    Of comparisons of the file system the plain one of the share itself is shown.
    """
    result, comparison = look
    fields = {_plain(field.name): field for field in comparison.fields}
    mode = fields.get("mode")
    regular = mode is None or (mode.outside.isdigit() and stat.S_ISREG(int(mode.outside)))
    return (
        not comparison.ok and result.verdict == "fail",
        len(fields) > 8,
        result.verdict == "pass",
        regular,
        "btime_ns" in fields and fields["btime_ns"].outside not in ("0", ""),
        ":" not in comparison.path and result.family in ("stat", "statfs"),
        result.mount == "cache=none",
    )


def _where(look: Look) -> str:
    result, comparison = look
    where = f", {result.mount}" if result.mount else ""
    if comparison.ok:
        return f"{result.id}{where}"
    after = f" after call {comparison.after_call}" if comparison.after_call else ""
    made = next((call for call in result.calls if call.index == comparison.after_call), None)
    did = f" ({made.vantage}: {made.op} {' '.join(made.args)[:40]})" if made is not None else ""
    return f"{result.id}{where}, {comparison.path}{after}{did}"


def _stat_lines(comparison: Comparison[str]) -> Iterator[str]:
    fields = {_plain(field.name): field for field in comparison.fields}
    yield _row(comparison.path, "inside (guest)", "outside (host)", "")
    for label, names in _STAT:
        there = [(name, fields[name]) for name in names if name in fields]
        if not there:
            yield from [_row(label, "-", "not asked for by this look", "")] if label == "Birth" else []
            continue
        inside = "/".join(_shown(name, field.inside) for name, field in there)
        outside = "/".join(_shown(name, field.outside) for name, field in there)
        marks = dict.fromkeys(_mark(field) for _, field in there)
        yield _row(label, inside, outside, "DIFFERS" if "DIFFERS" in marks else " ".join(filter(None, marks)))


def _df_lines(comparison: Comparison[str]) -> Iterator[str]:
    fields = {field.name: field for field in comparison.fields}
    sizes = fields.get("f_frsize")
    for label, name in _DF:
        if (field := fields.get(name)) is None:
            continue
        inside, outside = field.inside, field.outside
        mark = "" if field.equal else _mark(field)
        if name in _IN_BLOCKS and sizes is not None:
            numbers = [_bytes(field.inside, sizes.inside), _bytes(field.outside, sizes.outside)]
            if None not in numbers:
                one, other = (number or 0 for number in numbers)
                inside, outside = f"{one:,} bytes", f"{other:,} bytes"
                same = abs(one - other) <= int(sizes.inside)
                mark = "< 1 block" if same and field.tolerated else mark
        yield _row(label, inside, outside, mark)


def _bytes(blocks: str, size: str) -> int | None:
    return int(blocks) * int(size) if blocks.isdigit() and size.isdigit() else None


def _row(label: str, inside: str, outside: str, mark: str) -> str:
    return ascii_only(f"  {label[:12]:<12} {inside[:26]:<26} {outside[:26]:<26} {mark}".rstrip())[:78]


def _mark(field: FieldComparison[str]) -> str:
    """DIFFERS, or a mark that says why a difference is tolerated."""
    if field.tolerated is None:
        return "" if field.equal else "DIFFERS"
    return {"identity": "(**)", "informational": "(*)"}.get(field.rule, "(***)")


def _notes(comparison: Comparison[str]) -> Iterator[str]:
    """What the marks of these fields mean."""
    marks = {_mark(field): field.tolerated for field in comparison.fields}
    said = {
        "(*)": "(*) shown, not judged",
        "(**)": "(**) numbers of the guest's own: equal stayed equal",
        "(***)": f"(***) let pass: {marks.get('(***)')}",
    }
    if shown := [text for mark, text in said.items() if mark in marks]:
        yield from wrapped("; ".join(shown), "  ")


def _shown(name: str, value: str) -> str:
    if not value.lstrip("-").isdigit():
        return value
    if name == "mode":
        return f"{int(value):07o} {stat.filemode(int(value))}"
    if name.endswith("_ns"):
        number = int(value)
        if number == 0 and name == "btime_ns":
            return "-"
        try:
            day = datetime.fromtimestamp(number // 10**9, UTC)
        except (OverflowError, ValueError, OSError):
            return value
        return f"{day:%b %d %H:%M:%S}.{number % 10**9:09d}"
    return value


def _plain(name: str) -> str:
    return name.removeprefix("stx_").removeprefix("st_")
