"""The report as one self-contained HTML page: no network, no other file, no server.

Rule of this module: the verdict and everything a reader must see is plain HTML, made by the template. The evidence is
embedded as JSON of the results, one element per family, compressed with gzip: otherwise the page would be too large for
a mail. `templates/report.js` decompresses it (`DecompressionStream`) and renders a case when it is opened, so a
thousand cases of forty calls stay usable.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pydantic import TypeAdapter

from conformance.catalogue.decided import MEANING as DECIDED
from conformance.comparison import Comparison
from conformance.evidence.models import CaseResult, Record
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
from conformance.evidence.templates import Templates, templates_of
from conformance.reports import crossed
from conformance.vfs.compare import RULES

_RESULTS = TypeAdapter(list[CaseResult])
_SEVERITIES = {
    "must": "the specification is broken, data lost or confinement broken",
    "linux": "real Linux guests rely on it",
    "varies": "implementations legitimately differ",
}
_PAGE = Path(__file__).with_name("templates") / "report.html"


def html(record: Record) -> str:
    """The page."""
    templates = templates_of("conformance.reports")
    templates.filters.update(
        visible=lambda text: visible(str(text), keep="\n\t"),
        duration=duration,
        link=_link,
        plural=count,
        shell=shlex.join,
    )
    seen = overview(record)
    families: dict[str, list[CaseResult]] = {}
    for result in record.results:
        families.setdefault(f"{result.layer}/{result.family}", []).append(result)
    anchors = _anchors(record)
    source = _source(templates)
    script = source("report.js")
    return templates.get_template("report.html").render(
        record=record,
        seen=seen,
        environment=record.environment,
        families=families,
        evidence=evidence,
        standing=standing,
        decided=DECIDED,
        standings=[s for s in STANDINGS if seen.counts[s]],
        meaning=MEANING,
        verdict={0: "good", 1: "bad"}.get(seen.status, "doubt"),
        took=elapsed(record),
        guest_seconds=sum(r.guest_seconds for r in record.results),
        anchor_of=lambda result: anchors[id(result)],
        by_reason=by_reason,
        exhibits=_exhibits,
        messages=crossed.messages(record.results),
        compared=crossed.fields(record.results),
        crossing=crossed.matrix(record.results),
        because=_because,
        script=Markup(script),
        style=Markup(source("report.css")),
        severities=_SEVERITIES,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        argv=shlex.join(record.environment.argv),
        several_mounts=not seen.one_mount,
    )


def _because(field: str) -> str:
    """Why a field has its rule."""
    rule = RULES.get(field.removeprefix("st_").removeprefix("stx_"))
    return rule.reason if rule is not None else ""


def write_html(record: Record, path: Path) -> None:
    """Write the page."""
    path.write_text(html(record), encoding="utf-8", errors="backslashreplace")


def evidence(results: list[CaseResult]) -> str:
    """Results as JSON, compressed with gzip, in base64."""
    data = _RESULTS.dump_json(results)
    # The time in the header of gzip would make every derived report a different file.
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()


def _anchors(record: Record) -> dict[int, str]:
    """For each result (by identity) its anchor: id and mount, whatever else ran.

    The id alone leads to the first of its mounts (`report.js`).
    """
    anchors: dict[int, str] = {}
    taken: set[str] = set()
    for result in record.results:
        parts = [re.sub(r"[^A-Za-z0-9_.-]+", "_", part).strip("_") for part in (result.id, result.mount)]
        base = name = "~".join(filter(None, parts)) or "case"
        number = 1
        while name in taken or name in _page_ids():
            number += 1
            name = f"{base}.{number}"
        taken.add(name)
        anchors[id(result)] = name
    return anchors


@cache
def _page_ids() -> frozenset[str]:
    """The ids of the page's own elements."""
    return frozenset(re.findall(r'\bid="([\w-]+)"', _PAGE.read_text(encoding="utf-8")))


def _source(templates: Templates) -> Callable[[str], str]:
    """Reads a template's text unchanged."""

    def read(name: str) -> str:
        assert templates.loader is not None
        return templates.loader.get_source(templates, name)[0]

    return read


def _exhibits(result: CaseResult) -> list[tuple[Comparison[str], list[Any]]]:
    """The first failed comparisons, each with the fields that differ without a reason."""
    found = []
    for c in result.comparisons:
        wrong = [f for f in c.fields if not f.equal and f.tolerated is None]
        if wrong:
            found.append((c, wrong))
    return found[:3]


def _link(address: str) -> Markup:
    """A link if the address may be linked from a page, otherwise the text."""
    shown = Markup.escape(visible(address))
    if address.startswith(("https://", "http://")):
        return Markup('<a href="{}" rel="noreferrer">{}</a>').format(address, address)
    return shown
