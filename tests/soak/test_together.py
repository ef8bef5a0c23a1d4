"""Soaks of several machines as one report: one journal for each machine, one verdict; mismatches are refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from conformance.errors import UsageError
from conformance.reports.ticket.text import text
from soak import journal as journals
from soak.cli import merge
from soak.plan import Plan, jobs_of
from soak.report.text import WIDTH
from soak.report.together import json_of_all, text_of_all, together, write_together
from tests.evidence import sample


def machine(place: Path, host: str, *outcomes: str, **more: Any) -> Path:
    """The run of one machine, with these outcomes of iterations of 30 minutes each."""
    words = {"target": "qemu", "jobs": jobs_of(["tree"], 1, {}), "seconds": 3600.0, "version": "1"} | more
    run_dir = place / f"soak-{host}"
    with journals.create(run_dir, Plan(seed=sum(map(ord, host)), **words).model_dump()) as journal:
        journal.begin_session({"host": host})
        journal.event("environment", target_version="QEMU 9")
        for number, outcome in enumerate(outcomes):
            row = journal.begin("tree", number)
            journal.end(row, outcome, 1800.0, {"ops": 100, "what": "byte 7 differs"})  # type: ignore[arg-type]
        journal.event("finished", why="done")
        journal.event("session-ended", why="done")
    return run_dir


def test_one_report_has_every_machine_and_the_gravest_verdict(tmp_path: Path) -> None:
    one, two = machine(tmp_path, "one", "pass", "pass"), machine(tmp_path, "two", "pass", "fail")
    whole = together([one, two])
    assert whole.verdict == "fail" and whole.loaded == 4 * 1800
    assert "failed on 1 of 2 machines" in whole.sentence() and "2 h 00 min of load" in whole.sentence()
    said = text_of_all(whole)
    assert max(map(len, said.splitlines())) <= WIDTH and said.index("two: FAIL") < said.index("one: ")
    data = json_of_all(whole, "all")
    assert len(data["iterations"]) == 4 and data["work"][0]["counts"] == {"pass": 3, "fail": 1}
    assert {m["host"]: m["verdict"] for m in data["machines"]}["two"] == "fail"
    journal = hashlib.sha256((one / journals.FILE).read_bytes()).hexdigest()
    assert data["machines"][0]["journal_sha256"] == journal


def test_the_ticket_takes_the_joined_report(tmp_path: Path) -> None:
    whole = together([machine(tmp_path, host, "pass") for host in ("one", "two", "three")])
    write_together(whole, tmp_path / "all")
    assert "three" in (tmp_path / "all" / "report.html").read_text()
    said = text(sample.record(30), soak=tmp_path / "all")
    block = " ".join(said[said.index("SOAK") :].split())
    assert "1 h 30 min of load in each of 1 workload on 3 machines together" in block
    assert "PASS" not in block and "questions open" in block


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"target": "other"}, "its target is other, not qemu"),
        ({"jobs": jobs_of(["git"], 1, {})}, "its list of workloads is git, not tree"),
        ({"mount": "cache=loose"}, "its mount is cache=loose, not none"),
        ({"faults": ["kill"]}, "its list of faults is kill, not none"),
        ({"version": "2"}, "its version of assay9 is 2, not 1"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        together([machine(tmp_path, "one", "pass"), machine(tmp_path, "two", "pass", **more)])
    assert "\n" not in str(refused.value)


def test_a_run_that_is_there_twice_or_still_runs_is_refused(tmp_path: Path) -> None:
    one = machine(tmp_path, "one", "pass")
    with pytest.raises(UsageError, match="is the same run as"):
        together([one, one])
    with journals.open_existing(one, writable=True), pytest.raises(UsageError, match="is still running"):
        together([one])


def test_the_command_ends_with_the_status_of_the_whole(tmp_path: Path) -> None:
    runs = [machine(tmp_path, "one", "pass"), machine(tmp_path, "two", "fail")]
    done = CliRunner().invoke(merge, [*map(str, runs), "--results", str(tmp_path)])
    assert done.exit_code == 1, done.output
    (place,) = tmp_path.glob("soak-*-together")
    assert json.loads((place / "report.json").read_text())["verdict"] == "fail"
