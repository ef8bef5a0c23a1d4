"""rti.txt: what an approver reads. At most 120 lines of 78 ASCII columns, whatever the record holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from conformance.errors import UsageError
from conformance.evidence.models import CaseResult, KnownFailure, Record, SeenFinding, Trouble
from conformance.evidence.overview import tally
from conformance.evidence.record import load_run
from conformance.reports.cli import report
from conformance.reports.ticket.layout import Section, fitted, named
from conformance.reports.ticket.text import text
from tests.evidence import sample


def with_results(made: Record, results: list[CaseResult], **more: Any) -> Record:
    return made.model_copy(update={"results": results, "counts": tally(results), "selected": len(results), **more})


def many_failures() -> Record:
    made = sample.record(400)
    results = [
        r.model_copy(update={"verdict": "fail", "severity": "must", "reason": f"{r.reason} {n} " + "long " * 60})
        for n, r in enumerate(made.results)
    ]
    return with_results(made, results)


def many_entries() -> Record:
    """Eighty entries of profiles, each met once, of three owners."""
    made = sample.record(80)
    results = []
    for number, r in enumerate(made.results):
        entry = KnownFailure(
            reason=f"reason {number} " + "and why " * 40,
            link=f"https://example.org/{'x' * 80}/{number}",
            owner=("device", "server", "client")[number % 3],
        )
        finding = SeenFinding(code="content", text="bytes differ", known=entry)
        results.append(r.model_copy(update={"verdict": "known", "findings": [finding], "known": entry}))
    return with_results(made, results)


def nothing_ran() -> Record:
    return with_results(
        sample.record(0), [], troubles=[Trouble(at=sample.STARTED, worker="gw0", text="no guest " * 99)]
    )


def hostile() -> Record:
    made = sample.record(40)
    results = [
        r.model_copy(
            update={"requirement": sample.HOSTILE * 9, "reason": "\u65e5\u672c\u8a9e" * 90, "verdict": "error"}
        )
        for r in made.results
    ]
    environment = made.environment.model_copy(
        update={"target_title": sample.HOSTILE, "command": "assay9 run 'unclosed"}
    )
    return with_results(made, results, environment=environment, interrupted=True, interrupted_by="SIGTERM")


RECORDS: dict[str, Callable[[], Record]] = {
    "ordinary": lambda: sample.record(300),
    "one case": lambda: sample.record(1),
    "many failures": many_failures,
    "many entries": many_entries,
    "nothing ran": nothing_ran,
    "hostile and interrupted": hostile,
}


@pytest.mark.parametrize("make", RECORDS.values(), ids=RECORDS)
def test_it_fits_whatever_the_record_holds(make: Callable[[], Record]) -> None:
    said = text(make())
    lines = said.splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 78
    assert said.isascii() and all(line.isprintable() for line in lines)
    assert lines[0].startswith("VERDICT: ")


def test_a_reader_can_tell_what_was_tested_and_what_failed() -> None:
    said = " ".join(text(sample.record(300)).split())
    for fact in (
        "Gate: exit status 1",
        "UNEXPECTED",
        "/usr/bin/qemu-system-x86_64 (qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3)",
        "sha256 " + "1493008b" * 8,
        "change gate 7, based on v7.2.22",
        "security_model=passthrough,multidevs=remap",
        "zfs tank (rw); setuid=off",
        "image 9b1c0e7a55d2",
        "did not boot on it",
        "2 CPUs AMD EPYC",
        "qemu.toml 0a3f46aa",
        "94 known failures declared, 1 met",
        "https://ci.example.org/job/7",
        "layer wire (398 case functions)",
        "the default set, not the 25 of --mounts all",
        "first held on the guest's own file system",
        "inside (guest) outside (host)",
        "KNOWN FAILURES",
        "NOT DRIVABLE HERE",
        "assay9 run qemu --jobs 2",
        "one case: assay9 run qemu -k",
    ):
        assert fact in said, fact


def test_the_unexpected_comes_before_all_else_and_the_gravest_first() -> None:
    said = text(sample.record(300))
    order = ("VERDICT", "UNEXPECTED", "ERRORS", "WHAT WAS TESTED", "SCOPE", "INSIDE AND OUTSIDE", "KNOWN", "REPRODUCE")
    places = [said.index(word) for word in order]
    assert places == sorted(places)
    block = said[places[1] : places[2]]
    shown = [line.split()[1] for line in block.splitlines() if line.startswith("  FAIL")]
    assert shown == sorted(shown, key=["must", "linux", "varies"].index)


def test_a_failure_is_reported_once_for_all_mounts_that_show_it() -> None:
    made = sample.record(20)
    fail = next(r for r in made.results if r.verdict == "fail")
    both = [fail.model_copy(update={"mount": mount}) for mount in ("cache=none", "cache=loose")]
    said = " ".join(text(with_results(made, both)).split())
    assert said.count(f"FAIL {fail.severity} {fail.case_id}") == 1
    assert "on cache=none and cache=loose" in said


def test_an_entry_that_finds_no_room_still_has_its_cases_named() -> None:
    made = many_entries()
    said = text(made)
    shown = " ".join(said[said.index("KNOWN FAILURES OF THE DEVICE") :].split())
    for family in {r.case_id.rpartition("-")[0] for r in made.results}:
        assert family in shown
    assert "reason 79" in text(made, whole=True)


def test_the_whole_text_has_every_family_and_every_machine() -> None:
    said = text(sample.record(300), whole=True)
    assert "RESULTS" in said and "vfs/open" in said
    assert len(said.splitlines()) > 120
    assert max(map(len, said.splitlines())) <= 78


def test_a_stat_that_differs_is_the_one_that_is_shown() -> None:
    said = text(sample.record(60))
    assert "DIFFERS" in said


def soak_report(tmp_path: Path, verdict: str, unknown: int) -> Path:
    judgements = [{"name": "iterations of tree", "verdict": "pass", "reason": "2 passed", "figures": {}}]
    judgements += [
        {"name": f"leak {n}", "verdict": "unknown", "reason": "too short", "figures": {}} for n in range(unknown)
    ]
    run_dir = tmp_path / "soak-x"
    run_dir.mkdir()
    (run_dir / "report.json").write_text(
        json.dumps(
            {
                "schema": 2,
                "run": "soak-x",
                "verdict": verdict,
                "judgements": judgements,
                "plan": {"target": "qemu"},
                "environment": {"target_version": "QEMU 7.2.22"},
                "work": [{"workload": "tree", "counts": {"pass": 2}, "ops": 1800.0}],
                "iterations": [{"outcome": "pass", "seconds": 1800.0}, {"outcome": "pass", "seconds": 1800.0}],
                "faults": [{"name": "kill"}],
            }
        )
    )
    return run_dir


def test_a_soak_with_open_questions_is_never_a_pass(tmp_path: Path) -> None:
    said = " ".join(text(sample.record(60), soak=soak_report(tmp_path, "pass", 9)).split())
    block = said[said.index("SOAK") : said.index("REPRODUCE")]
    assert "PASS" not in block and "9 of 10 questions open" in block
    assert "1 h 0 min of load" in block and "kill" in block


def test_a_soak_without_open_questions_passes(tmp_path: Path) -> None:
    assert "soak-x: PASS" in text(sample.record(60), soak=soak_report(tmp_path, "pass", 0))


def test_what_is_no_soak_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="assay9 soak report"):
        text(sample.record(10), soak=tmp_path)
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(UsageError, match="is not a soak report"):
        text(sample.record(10), soak=tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UsageError, match="is damaged"):
        text(sample.record(10), soak=tmp_path)


def test_the_command_prints_it_whole_and_writes_it_with_the_soak(tmp_path: Path) -> None:
    run_dir = sample.write(tmp_path, 30)
    soak = soak_report(tmp_path, "pass", 0)
    done = CliRunner().invoke(report, [str(run_dir), "--kind", "rti", "--soak", str(soak)])
    assert done.exit_code == 0, done.output
    assert "soak-x: PASS" in (run_dir / "rti.txt").read_text()
    whole = CliRunner().invoke(report, [str(run_dir), "--print", "--full"])
    assert "RESULTS" in whole.output
    assert load_run(run_dir).results


def test_ids_are_listed_with_their_beginning_once() -> None:
    assert named(["NODE-001", "NODE-002[fifo]", "MODE-010", "NODE-001"]) == "NODE-001 002, MODE-010"
    assert named([f"A-{n:03d}" for n in range(5)], 3) == "A-000 001 002 +2"


def test_what_has_most_to_give_is_cut_first() -> None:
    made = fitted([Section("A", ["a"] * 5), Section("B", ["b"] * 50, least=3)], 20).splitlines()
    assert len(made) <= 20 and made.count("a") == 5 and "more lines" in made[-1]
