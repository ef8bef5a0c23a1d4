"""The report as one HTML page that needs nothing else: no network, no other file, no server.

Rule of this module: the verdict and everything a reader must see is plain HTML, made here by the template.
The evidence of each case is embedded as JSON, one element per case, and becomes HTML only when somebody
opens the case, so that a thousand cases of forty calls stay usable.

The JSON is packed, or a page of that size would not fit in a mail: strings that recur within a case are kept
once (`s`) and named by number; what comparisons have in common (field names, rules, reasons of tolerated
differences) is kept once for the page. `templates/report.js` is the other end of `_Packer`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined
from markupsafe import Markup

from conformance.cases.decided import MEANING as DECIDED
from conformance.evidence.models import CaseResult, Comparison, Record
from conformance.evidence.overview import (
    MEANING,
    STANDINGS,
    by_reason,
    count,
    duration,
    elapsed,
    overview,
    standing,
    visible,
)

_SEVERITIES = {
    "must": "the specification is broken, data lost or confinement broken",
    "linux": "real Linux guests rely on it",
    "varies": "implementations legitimately differ",
}
_PAGE_IDS = frozenset(
    {
        "unexpected",
        "cases",
        "environment",
        "filter",
        "words",
        "deep",
        "family",
        "mount",
        "shown",
        "open",
        "close",
        "list",
        "none",
        "reset",
        "shared",
    }
)


def html(record: Record) -> str:
    """The page."""
    templates = Templates(
        loader=PackageLoader("conformance.evidence", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        visible=lambda text: visible(str(text), keep="\n\t"),
        duration=duration,
        link=_link,
        plural=count,
        shell=shlex.join,
    )
    seen = overview(record)
    packer = _Packer()
    cases = [
        (number, result, standing(result), embedded(packer.case(result)))
        for number, result in enumerate(record.results)
    ]
    anchors = _anchors(record)
    source = _source(templates)
    script = source("report.js")
    return templates.get_template("report.html").render(
        record=record,
        seen=seen,
        environment=record.environment,
        cases=cases,
        standings=[s for s in STANDINGS if seen.counts[s]],
        meaning=MEANING,
        verdict={0: "good", 1: "bad"}.get(seen.status, "doubt"),
        took=elapsed(record),
        guest_seconds=sum(r.guest_seconds for r in record.results),
        anchor_of=lambda result: anchors[id(result)],
        by_reason=by_reason,
        exhibits=_exhibits,
        script=Markup(script),
        style=Markup(source("report.css")),
        severities=_SEVERITIES,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        argv=shlex.join(record.environment.argv),
        shared=embedded(packer.shared()),
        several_mounts=not seen.one_mount,
    )


def write_html(record: Record, path: Path) -> None:
    """Write the page."""
    path.write_text(html(record), encoding="utf-8", errors="backslashreplace")


def embedded(value: Any) -> Markup:
    """JSON that is safe within a script element: no `<` means no end tag and no comment can begin."""
    made = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(made.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


class _Packer:
    """Packs cases for the page; what they share is gathered meanwhile."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[tuple[str, str], ...], int] = {}
        self._reasons: dict[str, int] = {}

    def shared(self) -> dict[str, Any]:
        """What the packed cases refer to. Asked for last."""
        return {"shapes": [list(shape) for shape in self._shapes], "reasons": list(self._reasons)}

    def case(self, result: CaseResult) -> dict[str, Any]:
        """The evidence of one case; keys are single letters, absent where there is nothing."""
        strings = _Strings()
        calls = [
            [
                strings[c.vantage],
                strings[c.process],
                strings[c.op],
                [strings[a] for a in c.args],
                strings[c.result],
                1 if c.errno else 0,
                round(c.seconds * 1e6),
                -1 if c.control_result is None else strings[c.control_result],
                *([[strings[m] for m in c.messages]] if c.messages else []),
            ]
            for c in result.calls
        ]
        packed = {
            "r": result.requirement,
            "o": result.source,
            "v": result.severity,
            "t": result.title,
            "m": result.mount_shown or result.mount,
            "y": result.reason,
            "d": result.details,
            "k": [result.known.reason, result.known.link] if result.known else None,
            "q": [
                [f.code, f.text, f"{f.known.reason} ({f.known.component})" if f.known else ""] for f in result.findings
            ],
            "b": "" if result.decided_by == "server" else DECIDED[result.decided_by],
            "w": result.worker,
            "e": [round(result.seconds, 4), round(result.guest_seconds, 4)],
            "c": calls,
            "f": [self._comparison(c, strings) for c in result.comparisons],
            "n": [result.covers, result.covers_ok],
            "g": [strings[m] for m in result.messages],
            "h": result.message_counts,
            "l": [[x.source, x.text] for x in result.log_excerpts],
            "s": strings.all,
        }
        return {key: value for key, value in packed.items() if value or key in ("c", "f", "s")}

    def _comparison(self, c: Comparison, strings: _Strings) -> list[Any]:
        """[after call, kind, path, ok, shape, values inside, {field: what is not plainly equal}]."""
        shape = tuple((f.name, f.rule) for f in c.fields)
        odd = {
            number: [
                strings[f.outside],
                int(f.equal),
                -1 if f.tolerated is None else self._reasons.setdefault(f.tolerated, len(self._reasons)),
            ]
            for number, f in enumerate(c.fields)
            if f.inside != f.outside or not f.equal or f.tolerated is not None
        }
        return [
            c.after_call,
            strings[c.kind],
            strings[c.path],
            int(c.ok),
            self._shapes.setdefault(shape, len(self._shapes)),
            [strings[f.inside] for f in c.fields],
            *([odd] if odd else []),
        ]


class _Strings(dict[str, int]):
    """Strings by number, numbered as they are met."""

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        return number

    @property
    def all(self) -> list[str]:
        """The strings in the order of their numbers."""
        return list(self)


def _anchors(record: Record) -> dict[int, str]:
    """For each result (by identity) the name that links lead to: its id, so that a ticket can point to it."""
    anchors: dict[int, str] = {}
    taken: set[str] = set()
    for result in record.results:
        base = name = re.sub(r"[^A-Za-z0-9_.-]+", "_", result.id).strip("_") or "case"
        number = 1
        while name in taken or name in _PAGE_IDS:
            number += 1
            name = f"{base}.{number}"
        taken.add(name)
        anchors[id(result)] = name
    return anchors


def _source(templates: Templates) -> Callable[[str], str]:
    """Reads a template's text as it stands."""

    def read(name: str) -> str:
        assert templates.loader is not None
        return templates.loader.get_source(templates, name)[0]

    return read


def _exhibits(result: CaseResult) -> list[tuple[Comparison, list[Any]]]:
    """The first comparisons that failed, each with the fields that differ without a reason."""
    found = []
    for c in result.comparisons:
        wrong = [f for f in c.fields if not f.equal and f.tolerated is None]
        if wrong:
            found.append((c, wrong))
    return found[:3]


def _link(address: str) -> Markup:
    """A link, where the address is one that a page may lead to; else the text."""
    shown = Markup.escape(visible(address))
    if address.startswith(("https://", "http://")):
        return Markup('<a href="{}" rel="noreferrer">{}</a>').format(address, address)
    return shown
