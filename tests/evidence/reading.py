"""Reads the counts of a run back from every format, and demands that they agree."""

from __future__ import annotations

import base64
import gzip
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

from conformance.evidence.models import Record
from conformance.evidence.overview import STANDINGS, overview
from conformance.evidence.record import load_run
from conformance.gating.gate import exit_status
from conformance.reports.terminal import summary as terminal_summary
from conformance.reports.ticket.text import text
from conformance.reports.write import REPORTS, write_reports

Counts = dict[str, int]
SKIPPED = ("known", "varies", "unsupported", "undrivable")
ALLURE = {
    "pass": "passed",
    "guest": "passed",
    "error": "broken",
    "fail": "failed",
    "fixed": "failed",
    "unstable": "failed",
    **dict.fromkeys(SKIPPED, "skipped"),
}


def read_back(run_dir: Path) -> tuple[Record, Counts, int]:
    """The record of a run, its counts (those that are not 0) and its exit status. Asserts that all formats agree."""
    write_reports(run_dir, tuple(REPORTS))
    record = load_run(run_dir)
    seen = overview(record)
    counts: Counts = {standing: number for standing, number in seen.counts.items() if number}
    total = sum(counts.values())
    assert total == len(record.results)
    assert record.selected in (None, total), "a case that was selected has no result, or has two"
    written = json.loads((run_dir / "record.json").read_bytes()) if (run_dir / "record.json").exists() else None
    if written is not None:
        summary = json.loads((run_dir / "summary.json").read_bytes())
        assert _some(written["counts"]) == _some(summary["counts"]) == counts
        assert summary["exit_status"] == seen.status
        assert _some(dict(Counter(summary["cases"].values()))) == counts
    assert _ticket((run_dir / "rti.txt").read_text(encoding="ascii")) == counts
    assert _text(text(record, whole=True)) == counts
    assert _html((run_dir / "report.html").read_text()) == counts
    assert _text(terminal_summary(record, run_dir, colour=False, width=200)) == counts
    _junit(run_dir / "junit.xml", counts, broken=bool(seen.doubts_of_run))
    _allure(run_dir / "allure-results", counts, broken=bool(seen.doubts_of_run))
    for said in (
        " ".join((run_dir / "rti.txt").read_text().split()),
        (run_dir / "report.html").read_text(),
        terminal_summary(record, run_dir, colour=False, width=1000),
    ):
        assert seen.sentence in said
    return record, counts, exit_status(record)


def embedded(page: str) -> dict[str, list[dict[str, Any]]]:
    """The results that an HTML report holds, by family."""
    packed = re.findall(r'<script type="application/gzip" data-family="([^"]+)">([^<]+)</script>', page)
    return {family: json.loads(gzip.decompress(base64.b64decode(text))) for family, text in packed}


def _some(counts: Counts) -> Counts:
    return {standing: number for standing, number in counts.items() if number}


def _text(text: str) -> Counts:
    """The totals of a text table, whose heading names the standings."""
    lines = [line.split() for line in text.splitlines()]
    totals = [line for line in lines if line[:1] == ["total"]]
    if not totals:
        return {}
    short = {"unsup": "unsupported", "undrv": "undrivable", "unstb": "unstable"}
    for line in lines:
        names = [short.get(word, word) for word in line if word != "family"]
        if names and set(names) <= set(STANDINGS):
            return _some(dict(zip(names, map(int, totals[0][1:]), strict=True)))
    raise AssertionError(f"no heading in {text}")


def _ticket(ticket: str) -> Counts:
    """The counts of the first paragraph of rti.txt."""
    head = " ".join(ticket.split("\n\n", maxsplit=1)[0].split())
    words = {
        "pass": "pass",
        "FAIL": "fail",
        "declared to fail and PASS": "fixed",
        "UNSTABLE": "unstable",
        "errors": "error",
        "fail as declared": "known",
        "may differ": "varies",
        "decided by the guest's kernel alone": "guest",
        "declared unsupported": "unsupported",
        "not drivable": "undrivable",
    }
    found = {standing: re.findall(rf"(\d+) {said}[ ,.]", head) for said, standing in words.items()}
    assert all(len(numbers) < 2 for numbers in found.values()), head
    return _some({standing: int(numbers[0]) for standing, numbers in found.items() if numbers})


def _html(page: str) -> Counts:
    footer = re.search(r"<tfoot>.*?</tfoot>", page, re.DOTALL)
    if footer is None:
        return {}
    cells = [
        (n, int(text.replace(",", ""))) for n, text in re.findall(r'class="num (\w+)"><a [^>]*>([\d,]+)</a>', footer[0])
    ]
    rows = Counter(re.findall(r'<details class="case"[^>]* data-verdict="(\w+)"', page))
    assert rows == Counter(_some(dict(cells)))
    return _some(dict(cells))


def _junit(path: Path, counts: Counts, broken: bool) -> None:
    root = ET.parse(path).getroot()
    cases = root.findall(".//testcase")
    of_run = [c for c in cases if c.get("classname") == "run"]
    assert bool([c for c in of_run if c.find("error") is not None]) == broken
    expected = {
        "tests": sum(counts.values()) + len(of_run),
        "failures": sum(counts.get(s, 0) for s in ("fail", "fixed", "unstable")),
        "errors": counts.get("error", 0) + broken,
        "skipped": sum(counts.get(s, 0) for s in SKIPPED),
    }
    suites = root.findall("testsuite")
    for name, number in expected.items():
        if name != "skipped":  # Jenkins's schema does not allow "skipped" there
            assert int(root.get(name, "-1")) == number, name
        assert sum(int(s.get(name, "-1")) for s in suites) == number, name
    assert len(cases) == expected["tests"]
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert len(root.findall(f".//testcase/{tag}")) == expected[name], name


def _allure(directory: Path, counts: Counts, broken: bool) -> None:
    results = [json.loads(p.read_bytes()) for p in directory.glob("*-result.json")]
    of_run = [r for r in results if r["name"] == "the run itself"]
    assert [r["status"] for r in of_run] == ["broken"] * broken
    tags: Counter[str] = Counter()
    for result in results:
        if result not in of_run:
            (tag,) = (label["value"] for label in result["labels"] if label["name"] == "tag")
            tags[tag] += 1
            assert result["status"] == ALLURE[tag]
    assert dict(tags) == counts
