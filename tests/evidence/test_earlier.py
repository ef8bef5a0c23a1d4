"""The number of cases that judged the target, and whether it was higher in an earlier run."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from conformance.evidence.models import CaseResult, KnownFailure, Record, SeenFinding
from conformance.evidence.overview import overview
from conformance.evidence.record import RunWriter
from conformance.reports.terminal import summary as terminal_summary
from conformance.reports.write import write_reports
from conformance.vocabulary import Verdict
from tests.evidence import sample
from tests.evidence.reading import read_back


def ended(name: str, verdict: Verdict, **more: Any) -> CaseResult:
    """The result of a case of that name."""
    return CaseResult(
        id=name,
        case_id=name,
        layer="vfs",
        family="x",
        title="t",
        requirement="r",
        source="s",
        severity="must",
        mount="cache=none",
        verdict=verdict,
        **more,
    )


def run(results: Path, day: int, verdicts: dict[str, str], **about: Any) -> Record:
    """A run on that day in which the named cases ended so; `about`: `interrupted_by` and fields of the environment."""
    interrupted_by = about.pop("interrupted_by", "")
    made = sample.environment().model_copy(update={"started": sample.STARTED + timedelta(days=day), **about})
    writer = RunWriter.create(results, made)
    found = [ended(name, cast(Verdict, verdict)) for name, verdict in verdicts.items()]
    writer.select(sample.selected(found))
    for result in found:
        writer.append(result)
    return writer.finish(interrupted_by=interrupted_by)


FULL = {"A": "pass", "B": "known", "C": "pass", "D": "unsupported", "E": "undrivable"}
FEWER = {**FULL, "C": "undrivable"}


def test_fewer_than_before_is_named_in_every_format(tmp_path: Path) -> None:
    before = run(tmp_path, 1, FULL)
    assert before.earlier is None
    now = run(tmp_path, 2, FEWER)
    assert now.earlier is not None
    assert (now.earlier.judged_then, now.earlier.judged_now, now.earlier.compared) == (4, 3, 5)
    assert now.earlier.no_longer == ["C on cache=none"]
    assert overview(now).status == 0
    run_dir = (tmp_path / "latest").resolve()
    read_back(run_dir)
    for name in ("rti.txt", "report.html", "junit.xml", "allure-results/environment.properties", "summary.json"):
        text = " ".join((run_dir / name).read_text().split())
        said = "3 of 5 cases judged the target" if name == "summary.json" else "fewer cases judged the target than in"
        assert said in text, name


def test_less_than_half_of_before_is_no_verdict(tmp_path: Path) -> None:
    run(tmp_path, 1, FULL)
    now = run(tmp_path, 2, dict.fromkeys(FULL, "undrivable") | {"A": "pass"})
    assert overview(now).status == 3
    assert "only 1 of 4 cases that judged the target in" in overview(now).sentence


def test_a_run_without_a_verdict_is_not_compared_with(tmp_path: Path) -> None:
    """Otherwise the second run on a broken target would find nothing wrong."""
    run(tmp_path, 1, FULL)
    for day in (2, 3):
        now = run(tmp_path, day, dict.fromkeys(FULL, "undrivable") | {"A": "pass"})
        assert overview(now).status == 3
        assert now.earlier is not None and now.earlier.judged_then == 4


@pytest.mark.parametrize("other", [{"target": "diod"}, {"asked": {"image": "debian11"}}, {"interrupted_by": "SIGINT"}])
def test_only_whole_runs_on_the_same_target_are_compared(tmp_path: Path, other: dict[str, Any]) -> None:
    run(tmp_path, 1, FULL, **other)
    assert run(tmp_path, 2, FEWER).earlier is None


@pytest.mark.parametrize(
    "wrong",
    [{"cases": ["A"]}, {"cases": {"A": {}}}, {"known": {"B": 5}}, {"known": []}, {"started": "then"}, {"asked": 5}],
)
def test_a_damaged_summary_of_an_earlier_run_is_passed_over(tmp_path: Path, wrong: dict[str, Any]) -> None:
    run(tmp_path, 1, FULL)
    kept = (tmp_path / "latest").resolve() / "summary.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), **wrong}))
    assert run(tmp_path, 2, FEWER).earlier is None


def test_a_run_of_a_few_cases_does_not_hide_the_whole_one(tmp_path: Path) -> None:
    run(tmp_path, 1, FULL)
    run(tmp_path, 2, {"A": "pass"})
    now = run(tmp_path, 3, FEWER)
    assert now.earlier is not None and now.earlier.compared == 5
    few = run(tmp_path, 4, {"A": "pass", "C": "pass"})
    assert few.earlier is not None
    assert (few.earlier.compared, few.earlier.judged_then, few.earlier.judged_now) == (2, 1, 2)


def test_what_others_left_beside_the_runs_is_passed_over(tmp_path: Path) -> None:
    run(tmp_path, 1, FULL)
    for name, content in (("20261122T093015Z-qemu", b""), ("20261122T093016Z-qemu", b"[]"), ("notes", b"{}")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "summary.json").write_bytes(content)
    now = run(tmp_path, 5, FEWER)
    assert now.earlier is not None and now.earlier.judged_then == 4


def known(results: Path, day: int, code: str, link: str = "https://example.org/1") -> Record:
    """A run in which one case is a known failure with that finding and entry."""
    entry = KnownFailure(reason="a reason", link=link, component="qemu-device")
    made = sample.environment().model_copy(update={"started": sample.STARTED + timedelta(days=day)})
    writer = RunWriter.create(results, made)
    result = ended("A", "known", known=entry, findings=[SeenFinding(code=code, text="t", known=entry)])
    writer.select(sample.selected([result]))
    writer.append(result)
    return writer.finish()


def test_a_known_case_that_fails_for_another_reason_is_named(tmp_path: Path) -> None:
    known(tmp_path, 1, "field:size")
    assert overview(known(tmp_path, 2, "field:size")).otherwise == ""
    now = known(tmp_path, 3, "content")
    name = (tmp_path / "latest").resolve()
    write_reports(name)
    line = "1 known case fails for another reason than in"
    assert overview(now).otherwise.startswith(line) and "content (qemu-device: a reason)" in overview(now).otherwise
    assert line in " ".join((name / "rti.txt").read_text().split())
    assert line in " ".join(terminal_summary(now, name).split()) and line in (name / "report.html").read_text()
    assert overview(known(tmp_path, 4, "content", "https://example.org/2")).otherwise.startswith(line)
