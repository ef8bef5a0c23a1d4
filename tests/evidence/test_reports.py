"""Reports of a made-up run: their readers elsewhere must be able to read them."""

from __future__ import annotations

import json
import re
import resource
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.errors import InfrastructureError, SuiteError, UsageError
from conformance.evidence.overview import STANDINGS, overview
from conformance.evidence.record import RunWriter, load_run
from conformance.reports import html
from conformance.reports.cli import report
from conformance.reports.ticket.text import text
from conformance.reports.write import REPORTS, write_reports
from tests.evidence import sample
from tests.evidence.reading import embedded, read_back

CASES = 120


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = sample.write(tmp_path_factory.mktemp("results"), CASES)
    write_reports(run_dir, tuple(REPORTS))
    return run_dir


def test_every_kind_is_there(run: Path) -> None:
    for name, _ in REPORTS.values():
        assert (run / name).exists(), name


def test_every_format_counts_alike(run: Path) -> None:
    _, counts, status = read_back(run)
    assert status == 1
    assert set(counts) == set(STANDINGS), "a standing that no test counts"


class _Page(HTMLParser):
    """Collects what a page fetches from elsewhere, and the text of its first heading."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.heading = ""
        self._in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "link", "source"):
            self.fetched += [v for k in ("src", "href") if (v := given.get(k)) and not v.startswith("data:")]
        self._in_heading = tag == "h1" or (self._in_heading and tag != "p")

    def handle_endtag(self, tag: str) -> None:
        if tag == "h1":
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.heading += data


def test_page_is_self_contained_and_opens_with_the_verdict(run: Path) -> None:
    page = _Page()
    source = (run / "report.html").read_text()
    page.feed(source)
    assert page.fetched == []
    assert "url(http" not in source
    assert "qemu" in page.heading and "unexpected" in page.heading


def test_page_holds_hostile_names_as_text(run: Path) -> None:
    source = (run / "report.html").read_text()
    assert sample.HOSTILE not in source, "it would be markup"
    assert source.count("<script") == source.count("</script>")


def test_page_holds_the_evidence_of_every_case(run: Path) -> None:
    source = (run / "report.html").read_text()
    assert source.count('class="case"') == CASES
    held = embedded(source)
    record = load_run(run)
    assert sum(len(results) for results in held.values()) == CASES
    for family, results in held.items():
        of_family = [r for r in record.results if f"{r.layer}/{r.family}" == family]
        assert results == [r.model_dump(mode="json") for r in of_family]


def test_junit_counts_as_the_record_does(run: Path) -> None:
    root = ET.parse(run / "junit.xml").getroot()
    record = load_run(run)
    cases = root.findall(".//testcase")
    judged_wrong = [r for r in record.results if r.verdict in ("fail", "fixed", "unstable") and r.severity != "varies"]
    assert len([c for c in cases if c.get("name", "").strip()]) >= CASES
    assert len(root.findall(".//failure")) == len(judged_wrong)
    assert len(root.findall(".//error")) == sum(r.verdict == "error" for r in record.results)
    assert all(skipped.get("message") for skipped in root.findall(".//skipped")), "a skip that does not say why"


def test_allure_has_epic_feature_story_and_a_step_per_call(run: Path) -> None:
    record = load_run(run)
    results = [json.loads(p.read_text()) for p in (run / "allure-results").glob("*-result.json")]
    results = [r for r in results if r["name"] != "the run itself"]
    assert len(results) == CASES
    labels = [{label["name"]: label["value"] for label in r["labels"]} for r in results]
    assert {entry["epic"] for entry in labels} == {r.layer for r in record.results}
    assert {entry["feature"] for entry in labels} == {r.family for r in record.results}
    assert all(entry["story"] and entry["severity"] for entry in labels)
    assert sum(len(r.get("steps", [])) for r in results) >= sum(len(r.calls) for r in record.results)
    for result in results:
        for attachment in result.get("attachments", []):
            assert (run / "allure-results" / attachment["source"]).is_file()


def test_text_fits_a_ticket(run: Path) -> None:
    lines = (run / "rti.txt").read_text(encoding="ascii").splitlines()
    assert len(lines) <= 120 and max(len(line) for line in lines) <= 78


def test_reports_again_are_the_same(run: Path) -> None:
    before = {name: (run / name).read_bytes() for name in ("report.html", "junit.xml", "rti.txt")}
    write_reports(run)
    assert before == {name: (run / name).read_bytes() for name in before}


def test_report_that_cannot_be_written_leaves_the_others(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_record: object, path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(html, "write_html", full)
    (run / "rti.txt").unlink()
    with pytest.raises(InfrastructureError, match="No space left"):
        write_reports(run)
    assert (run / "rti.txt").exists()


def test_a_defect_of_one_report_leaves_the_others(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(_record: object, _path: Path) -> None:
        raise KeyError("colour")

    monkeypatch.setattr(html, "write_html", defective)
    (run / "rti.txt").unlink()
    with pytest.raises(SuiteError, match=r"report.html not written: KeyError: 'colour'"):
        write_reports(run)
    assert (run / "rti.txt").exists()


def test_a_report_is_there_whole_or_not_at_all(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_record: object, path: Path) -> None:
        path.write_text("<html>half of it")
        raise OSError(28, "No space left on device", str(path))

    before = (run / "report.html").read_bytes()
    monkeypatch.setattr(html, "write_html", full)
    with pytest.raises(InfrastructureError, match="No space left"):
        write_reports(run)
    assert (run / "report.html").read_bytes() == before
    assert not list(run.glob(".report.html*"))


def test_nobody_gets_allure_files_who_did_not_ask(tmp_path: Path) -> None:
    run_dir = sample.write(tmp_path, 12)
    write_reports(run_dir)
    assert not (run_dir / "allure-results").exists()
    assert CliRunner().invoke(report, ["--results", str(tmp_path)]).exit_code == 0
    assert not (run_dir / "allure-results").exists()


def test_killed_run_is_reported_as_far_as_it_came(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, sample.environment())
    results = sample.results(12)
    writer.select(sample.selected(results))
    for result in results:
        writer.append(result)
    writer.close()
    cut = writer.run_dir / "cases-main.jsonl"
    cut.write_bytes(cut.read_bytes()[:-40])
    record = load_run(writer.run_dir)
    assert record.interrupted and [r.id for r in record.results if not r.ran] == [results[-1].id]
    assert len(record.damage) == 1 and "cut off" in record.damage[0]
    reported = CliRunner().invoke(report, ["latest", "--results", str(tmp_path), "--gate"])
    assert reported.exit_code == 1, "a failure that was really seen wins over the interruption"
    assert "did not finish" in " ".join(text(record).split())
    read_back(writer.run_dir)


def test_a_full_disk_loses_one_line_and_damages_none(tmp_path: Path) -> None:
    """The disk takes half a line. That half was kept as if it were whole, and the next line began right after it."""
    writer = RunWriter.create(tmp_path, sample.environment())
    first, second, third = sample.results(3)
    writer.append(first)
    full = (writer.run_dir / "cases-main.jsonl").stat().st_size + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, hard))
    try:
        with pytest.raises(InfrastructureError, match=r"cannot be kept: .*cases-main\.jsonl.*free some space"):
            writer.append(second)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.append(third)
    record = writer.finish()
    assert [r.id for r in record.results] == [first.id, third.id] and not record.damage


def test_command_names_what_is_missing(tmp_path: Path) -> None:
    for name in ("latest", "20260101T000000Z-qemu"):
        reported = CliRunner().invoke(report, [name, "--results", str(tmp_path)])
        assert isinstance(reported.exception, UsageError) and str(tmp_path) in str(reported.exception)


def test_a_record_of_the_first_schema_version_is_read_and_counted_as_ever(run: Path, tmp_path: Path) -> None:
    """Such a record has no selection, and its counts took an allowed difference for a failure."""
    record = json.loads((run / "record.json").read_text())
    record["schema_version"] = record["environment"]["schema_version"] = 1
    for name in ("selected", "interrupted_by", "earlier"):
        record.pop(name, None)
    del record["environment"]["asked"]
    record["counts"]["fail"] += record["counts"].pop("varies")
    (tmp_path / "record.json").write_text(json.dumps(record))
    seen = overview(load_run(tmp_path))
    assert seen.counts == overview(load_run(run)).counts
    assert seen.status == 1


def test_newer_schema_is_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    record = json.loads((run / "record.json").read_text())
    record["schema_version"] += 1
    (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=re.escape("schema version")) as refused:
        load_run(tmp_path)
    assert "\n" not in str(refused.value)
