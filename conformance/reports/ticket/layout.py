"""Columns, lines and their limit: a ticket is plain ASCII, 78 columns, 120 lines. Pure."""

from __future__ import annotations

import re
import shlex
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from conformance.evidence.overview import visible

WIDTH, LINES = 78, 120
_LABEL = 9
_CLAUSE = re.compile(r"[:;] | \(|,(?= (and|but|so|which|where|when|because|as|until|though|not)\b)")
"""The end of a clause: what stands before it says something without what follows."""
_PUNCTUATION = str.maketrans({"\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{RIGHT SINGLE QUOTATION MARK}": "'"})


@dataclass(slots=True)
class Section:
    """A heading with lines below it. If not all fit, it keeps at least `least` of them."""

    heading: str
    lines: list[str] = field(default_factory=list)
    least: int = 1000
    what: str = "lines"
    tight: bool = False
    """It follows the section before it without an empty line."""

    def shown(self, room: int) -> list[str]:
        """The section in so many lines, including the heading; empty if it has no content."""
        if not self.lines:
            return []
        lines = self.lines
        if len(lines) > room:
            lines = [*lines[: room - 1], f"  ... {len(lines) - room + 1} more {self.what}: report RUN --print --full"]
        return [*wrapped(self.heading), *lines] if self.heading else lines


def fitted(sections: Sequence[Section], most: int | None = LINES) -> str:
    """All sections with an empty line between them, in at most `most` lines.

    Excess lines are cut from the section that can spare most, the last of these first.
    """
    rooms = [max(len(section.lines), 1) for section in sections]

    def total() -> int:
        shown = [section.shown(room) for section, room in zip(sections, rooms, strict=True) if section.lines]
        gaps = sum(not section.tight for section in sections if section.lines) - 1
        return sum(map(len, shown)) + gaps

    while most is not None and (over := total() - most) > 0:
        give = [room - section.least for section, room in zip(sections, rooms, strict=True)]
        if max(give) <= 0:
            break
        at = max(range(len(rooms)), key=lambda number: (give[number], number))
        second = max((g for number, g in enumerate(give) if number != at), default=0)
        rooms[at] -= max(1, min(over, give[at], give[at] - second))
    lines: list[str] = []
    for section, room in zip(sections, rooms, strict=True):
        block = section.shown(room)
        lines += ([""] if lines and block and not section.tight else []) + block
    return "\n".join(lines) + "\n"


def ascii_only(text: str) -> str:
    """The text in printable ASCII: accents dropped, everything else that is not ASCII spelled out."""
    text = visible(text).translate(_PUNCTUATION)
    if text.isascii():
        return text
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "backslashreplace").decode()


def wrapped(words: str, first: str = "", rest: str | None = None) -> list[str]:
    """The words in lines of at most 78 columns; a word that is longer is broken."""
    return textwrap.wrap(
        ascii_only(words),
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_on_hyphens=False,
    )


def labelled(label: str, words: str) -> list[str]:
    """` build QEMU 7.2.22`; nothing for an empty value."""
    return wrapped(words, f"  {label + ' ':<{_LABEL}}", " " * (_LABEL + 2)) if words.strip(" .,;") else []


def sentence(parts: Iterable[str], gap: str = ", ") -> str:
    """The non-empty parts, joined."""
    return gap.join(part for part in parts if part)


def command(argv: Sequence[str], most: int | None = None) -> list[str]:
    """A command line that breaks between words, each further line indented; no more than `most` lines."""
    lines = wrapped(shlex.join(argv), "  ", "      ")
    return lines if most is None or len(lines) <= most else [*lines[: most - 1], f"      ... ({len(argv)} words)"]


def named(ids: Iterable[str], most: int = 8) -> str:
    """`NODE-001 002 005, MODE-010`: ids with their common beginning once, `+3` for those left out."""
    seen = list(dict.fromkeys(one.partition("[")[0] for one in ids))
    families: dict[str, list[str]] = {}
    for one in seen[:most]:
        stem, _, number = one.rpartition("-")
        families.setdefault(stem, []).append(number)
    shown = ", ".join(f"{stem}-{' '.join(numbers)}" for stem, numbers in families.items())
    return f"{shown} +{len(seen) - most}" if len(seen) > most else shown


def first_sentence(text: str, most: int) -> str:
    """The beginning of a text up to the end of its first sentence.

    If that is too long, up to the end of a clause that fills most of the space, else cut between words.
    """
    text = " ".join(text.split())
    found = re.match(r"(.+?[^.A-Z])\.(?: |$)", text)
    text = found[1] if found else text.removesuffix(".")
    if len(text) <= most:
        return text
    if ends := [end.start() for end in _CLAUSE.finditer(text, most * 3 // 5, most + 2)]:
        return text[: ends[-1]]
    return text[: most - 3].rsplit(" ", 1)[0].rstrip(",;:") + "..."
