"""Each format is checked against what its readers demand, not with the code that writes it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from junitparser import JUnitXml
from xmlschema import XMLSchema

from conformance.evidence.models import Record
from conformance.evidence.overview import overview
from conformance.reports.formats.ctrf import write_ctrf
from conformance.reports.formats.jsonl import write_jsonl
from conformance.reports.formats.junit import write_junit
from conformance.reports.formats.ktap import write_ktap
from conformance.reports.markdown import markdown, workflow_commands
from tests.evidence import sample


@pytest.fixture(scope="module")
def record() -> Record:
    return sample.record(300)


def test_junit_is_valid_by_the_schema_of_jenkins(record: Record, tmp_path: Path) -> None:
    write_junit(record, tmp_path / "junit.xml")
    # junit-10.xsd of Jenkins's xunit plugin, as pytest 8.3.5 ships it (MIT licence, its text is in the file)
    schema = XMLSchema(Path(__file__).parent / "junit-10.xsd")
    assert [error.reason for error in schema.iter_errors(tmp_path / "junit.xml")] == []
    text = (tmp_path / "junit.xml").read_text()
    (tmp_path / "junit.xml").write_text(text.replace("<testcase ", '<testcase owner="me" ', 1))
    assert not schema.is_valid(tmp_path / "junit.xml")


def test_junit_is_read_by_another_library_with_what_was_tested(record: Record, tmp_path: Path) -> None:
    write_junit(record, tmp_path / "junit.xml")
    read = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert sum(suite.tests for suite in read) == len(record.results)
    properties = {p.name: p.value for p in next(iter(read)).properties()}
    assert properties["change"] == "gate 7" and properties["guest"] == "debian12 6.1.0-41-amd64"
    assert properties["program.sha256"] == "1493008b" * 8


def test_junit_names_a_case_alike_whether_or_not_other_mounts_ran(record: Record, tmp_path: Path) -> None:
    first = record.results[0]
    alone = record.model_copy(update={"results": [first]})
    both = record.model_copy(update={"results": [first, first.model_copy(update={"mount": "cache=loose"})]})
    names = []
    for made in (alone, both):
        write_junit(made, tmp_path / "junit.xml")
        names.append([case.get("name") for case in ET.parse(tmp_path / "junit.xml").iter("testcase")])
    assert names[0][0] == names[1][0] and len(set(names[1])) == 2


def ktap(lines: Iterator[str], indent: str = "") -> tuple[int, list[tuple[bool, int, str, str]]]:
    """Read KTAP as Documentation/dev-tools/ktap.rst says: the plan, and (ok, number, name, directive) of each result.

    Subtests are read by the same rules; a test with subtests is ok only if all of them are, as that text demands.
    """
    version, plan = next(lines), -1
    assert version == f"{indent}KTAP version 1"
    results: list[tuple[bool, int, str, str]] = []
    for line in lines:
        assert line.startswith(indent), line
        text = line.removeprefix(indent)
        if text.startswith("#"):
            continue
        if found := re.fullmatch(r"1\.\.(\d+)", text):
            plan = int(found[1])
        elif found := re.fullmatch(r"(not )?ok (\d+) ([^#]*?)(?: # (SKIP|TODO|XFAIL|TIMEOUT|ERROR)(?: .*)?)?", text):
            results.append((found[1] is None, int(found[2]), found[3], found[4] or ""))
            if indent and len(results) == plan:
                break
        else:
            assert text == "  KTAP version 1", line
            inner, nested = ktap(_first(line, lines), indent + "  ")
            assert [number for _, number, _, _ in nested] == list(range(1, inner + 1))
            closing = next(lines).removeprefix(indent)
            assert closing.startswith("ok") == all(ok for ok, *_ in nested), closing
            match = re.fullmatch(r"(not )?ok (\d+) ([^#]*)", closing)
            assert match is not None
            results.append((match[1] is None, int(match[2]), match[3], f"{inner}"))
    return plan, results


def _first(line: str, rest: Iterator[str]) -> Iterator[str]:
    yield line
    yield from rest


def test_ktap_is_read_by_the_rules_of_the_kernel(record: Record, tmp_path: Path) -> None:
    write_ktap(record, tmp_path / "x.ktap")
    text = (tmp_path / "x.ktap").read_text()
    plan, results = ktap(iter(text.splitlines()))
    assert plan == len(results) == len({(r.layer, r.family) for r in record.results})
    assert sum(int(directive) for *_, directive in results) == len(record.results)
    directives = Counter(re.findall(r"# (XFAIL|SKIP|ERROR)", text))
    counts = overview(record).counts
    assert directives["XFAIL"] == counts["known"] + counts["varies"]
    assert directives["SKIP"] == counts["unsupported"] + counts["undrivable"]
    assert text.isprintable() or all(line.isprintable() for line in text.splitlines())


def test_json_lines_are_one_object_a_line_with_every_case(record: Record, tmp_path: Path) -> None:
    write_jsonl(record, tmp_path / "x.jsonl")
    head, *cases = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert head["kind"] == "run" and head["exit_status"] == 1 and head["environment"]["build_id"] == "gate 7"
    assert Counter(case["standing"] for case in cases) == Counter(
        {name: number for name, number in overview(record).counts.items() if number}
    )
    assert all("calls" not in case for case in cases)


def test_ctrf_is_valid_by_the_schema_of_its_project(record: Record, tmp_path: Path) -> None:
    write_ctrf(record, tmp_path / "ctrf.json")
    # dist/ctrf-schema-0.0.json of the npm package ctrf 0.3.0 (MIT licence, Matthew Poulton-White)
    schema = json.loads((Path(__file__).parent / "ctrf.schema.json").read_text())
    validator = Draft7Validator(schema)
    assert [error.message for error in validator.iter_errors(json.loads((tmp_path / "ctrf.json").read_text()))] == []
    assert not validator.is_valid({"reportFormat": "CTRF"}), "it demands something"


def test_ctrf_has_what_its_specification_demands(record: Record, tmp_path: Path) -> None:
    write_ctrf(record, tmp_path / "ctrf.json")
    report = json.loads((tmp_path / "ctrf.json").read_text())
    assert report["reportFormat"] == "CTRF" and re.fullmatch(r"\d+\.\d+\.\d+", report["specVersion"])
    results = report["results"]
    summary, tests = results["summary"], results["tests"]
    assert results["tool"]["name"] == "assay9"
    statuses = ("passed", "failed", "skipped", "pending", "other")
    assert summary["tests"] == len(tests) == sum(summary[name] for name in statuses)
    assert Counter(test["status"] for test in tests) == Counter({n: summary[n] for n in statuses if summary[n]})
    assert all(isinstance(test["duration"], int) and test["name"] for test in tests)
    assert all(isinstance(test.get("suite", []), list) for test in tests)
    assert summary["start"] <= summary["stop"]


def test_markdown_is_short_and_no_name_of_a_file_is_markup(record: Record) -> None:
    hostile = record.results[0].model_copy(
        update={
            "verdict": "fail",
            "severity": "must",
            "reason": sample.HOSTILE + "| ![x](http://e) @team",
            "id": "A|`x",
        }
    )
    made = record.model_copy(update={"results": [hostile] * 300})
    for said in (markdown(record), markdown(made)):
        assert len(said.splitlines()) < 60
        assert "<img" not in said and "![x](" not in said and "@team" not in said
    for line in markdown(made).splitlines():
        if line.startswith("| fail must"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line


def test_annotations_are_one_line_each_and_at_most_ten(record: Record) -> None:
    failed = record.results[1].model_copy(update={"verdict": "fail", "severity": "must", "reason": "a\nb % c, d: e"})
    lines = list(workflow_commands(record.model_copy(update={"results": [failed] * 30})))
    assert len(lines) == 10
    assert all(re.fullmatch(r"::error title=[^:,\n]+::[^\n]+", line) for line in lines)
    assert "%25" in lines[0]
