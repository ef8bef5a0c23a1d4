"""Reports come from the record alone, stay within their limits, and are safe to open."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from soak import journal as journals
from soak.journal import Journal
from soak.judges.record import Record
from soak.plan import Plan, jobs_of
from soak.report.facts import facts_of
from soak.report.page import ROWS, page_of
from soak.report.plot import Plot, Span, svg, thinned, ticks, time_ticks
from soak.report.text import WIDTH, text_of
from soak.report.write import write

EVIL = "<script>alert(1)</script>\x1b[31m"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A run with some data of every kind."""
    names = ["tree", "integrity", "git", "tar"]
    plan = Plan(
        target="qemu",
        jobs=jobs_of(names, 2, {"tree": {"steps": 7}}),
        seed=5,
        seconds=3600.0,
        mount="cache=mmap",
        faults=["pause", "full"],
        version="1.2.3",
    )
    made = journals.create(tmp_path / "soak-x", plan.model_dump())
    made._db.execute("PRAGMA synchronous = OFF")
    made.begin_session({})
    made.event(
        "environment",
        target_version="QEMU 9",
        accelerator="tcg",
        guest_image="debian12",
        guest_kernel="6.1",
        argv=["qemu", "-m", "512"],
    )
    made.event("mounted", share=0, line="share0 /mnt/share0 9p rw")
    for number in range(ROWS // 2):
        for name in names:
            row = made.begin(name, number)
            if name == "tree" and number == 3:
                seen = {"what": EVIL, "detail": EVIL * 3, "artefacts": ["artefacts/tree-3/what.txt"]}
                made.end(row, "fail", 1.0, seen)
            else:
                made.end(row, "pass", 1.0 + number / 100, {"ops": 100})
        made.sample({"probe.stat_p50": 1.0, "device.own_mb": 100.0 + number, "device.fds": 30.0, "msg.total": 10.0})
    made.event("fault", n=0, name="pause")
    made.event("undone", n=0)
    made.event("console", source="console: oops", text=EVIL)
    made.begin_session({})
    made.event("resumed", gap_seconds=33.0)
    made.begin("tar", ROWS // 2)  # cut off
    made.event("finished", why="time is up")
    return made


def test_the_text_block_fits_a_ticket_and_has_every_judge(journal: Journal) -> None:
    facts = facts_of("soak-x", Record.of(journal))
    text = text_of(facts)
    lines, unknown = text.splitlines(), sum(1 for j in facts.judgements if j.verdict == "unknown")
    assert all(len(line) <= WIDTH == 78 and line.isprintable() for line in lines[:-1])
    assert lines[0] == f"assay9 soak, soak-x: FAIL, {unknown} questions open"
    verdicts = [found[1] for line in lines[:-1] if (found := re.match(r"(fail|unknown|pass) {2,}", line))]
    assert len(verdicts) == len(facts.judgements)
    assert verdicts == sorted(verdicts, key=["fail", "unknown", "pass"].index), "failures come first"
    whole = " ".join(text.split())
    for judgement in facts.judgements:
        assert " ".join(judgement.reason.replace("\x1b", " ").split()) in whole, "no end of a line is lost"
    assert "of load by 4 workloads in iterations that ended" in whole
    assert f"tar: {ROWS // 2} pass, 1 not ended" in whole
    assert lines[-1].startswith("replay: assay9 soak qemu --workload tree --set tree.steps=7 ")
    assert "--seed 5" in lines[-1] and "--fault full" in lines[-1] and "--shares 2" in lines[-1]


def test_a_run_with_open_questions_is_never_called_a_pass(journal: Journal) -> None:
    facts = replace(facts_of("soak-x", Record.of(journal)), verdict="pass")
    assert facts.open_questions()
    assert "PASS" not in text_of(facts)
    closed = replace(facts, judgements=[j for j in facts.judgements if j.verdict == "pass"])
    assert text_of(closed).splitlines()[0].endswith("soak-x: PASS")


def test_the_page_is_one_file_and_nothing_in_it_is_taken_for_markup(journal: Journal) -> None:
    page = page_of(facts_of("soak-x", Record.of(journal)))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "url(" not in page
    assert page.count("<svg") >= 5
    assert "artefacts/tree-3/what.txt" in page
    assert "--first 3 --iterations 4" in page
    assert "more are in report.json" in page
    assert "33 s" in page, "the gap between the sessions"


def test_the_json_holds_every_iteration(journal: Journal) -> None:
    facts = write(journal)
    loaded = json.loads((journal.run_dir / "report.json").read_text())
    assert loaded["verdict"] == facts.verdict == "fail"
    assert len(loaded["iterations"]) == 4 * (ROWS // 2) + 1
    assert loaded["work"][0]["counts"] == {"pass": ROWS // 2 - 1, "fail": 1}
    assert {p.name for p in journal.run_dir.iterdir()} >= {"report.html", "report.json", "report.txt"}


def test_a_run_that_did_nothing_has_a_report(tmp_path: Path) -> None:
    plan = Plan(target="local", jobs=jobs_of(["tree"], 1, {}), seed=1)
    with journals.create(tmp_path / "run", plan.model_dump()) as journal:
        assert write(journal).verdict == "unknown"
        assert "none was completed" in (journal.run_dir / "report.txt").read_text()


def test_plots_keep_their_extremes() -> None:
    points = [(float(n), 1.0) for n in range(10_000)]
    points[5000] = (5000.0, 99.0)
    kept = thinned(points)
    assert len(kept) < 1500
    assert (5000.0, 99.0) in kept
    assert kept == sorted(kept)
    drawn = svg(Plot("t", "s", {"a": points}), 10_000, [Span(1, 2, '"><script>')])
    assert "<script>" not in drawn


@pytest.mark.parametrize("most", [0.0, 0.003, 1.0, 7.0, 99.0, 123456.0])
def test_ticks_are_few_and_within(most: float) -> None:
    made = ticks(most)
    assert 1 <= len(made) <= 6
    assert all(0 <= t <= most for t in made)


@pytest.mark.parametrize("total", [0.5, 20.0, 700.0, 7200.0, 86400.0, 900000.0])
def test_moments_are_few_and_within(total: float) -> None:
    made = time_ticks(total)
    assert 1 <= len(made) <= 9
    assert all(0 <= t <= total for t in made)
