"""rti.txt, the text for an approver: at most 120 lines of 78 ASCII columns, whatever the record holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from conformance.errors import UsageError
from conformance.evidence.models import CaseResult, KnownFailure, Record, SeenFinding, Trouble
from conformance.evidence.overview import tally
from conformance.evidence.record import load_run
from conformance.gating.baseline import baseline_of, save
from conformance.reports.cli import report
from conformance.reports.ticket.layout import Section, first_sentence, fitted, labelled, named
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
    """Eighty profile entries of three owners, each met once."""
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


def test_a_reader_sees_what_was_tested_and_what_failed() -> None:
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
    grew = "grows by 0.1 MB an hour at most (99 %: 0.0 to 0.1)"
    judgements = [
        {"name": "iterations of tree", "verdict": "pass", "reason": "2 passed", "figures": {"pass": 2.0}},
        {"name": "memory of the device", "verdict": "pass", "reason": grew, "figures": {"slope": 0.1}},
        {"name": "stalls of tree", "verdict": "pass", "reason": "longest silence 3 s", "figures": {"longest": 3.0}},
    ]
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
    assert "PASS" not in block and "9 of 12 questions open" in block
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


def one_report(entries: int) -> Record:
    """Entries that link to one bug report, with a case each, and one entry that links to a source file instead."""
    made = sample.record(entries + 1)
    results = []
    for number, r in enumerate(made.results):
        link = "https://gitlab.com/qemu-project/qemu/-/" + ("issues/103" if number else "blob/v7.2.0/hw/9pfs/9p.c")
        entry = KnownFailure(reason=f"operation {number} goes by the path", link=link, owner="device")
        finding = SeenFinding(code="content" if number == 3 else "errno", text="differs", known=entry)
        changed = {"verdict": "known", "severity": "must", "findings": [finding], "known": entry}
        results.append(r.model_copy(update=changed))
    return with_results(made, results)


def test_the_entries_of_one_report_are_one_defect_the_gravest_reason_first() -> None:
    said = text(one_report(70))
    assert "KNOWN FAILURES OF THE DEVICE: 71 entries, 71 cases (! = harms data)\n  must ! 70  operation 3 goes" in said
    assert "+69 entries of gitlab.com/qemu-project/qemu/-/issues/103" in said
    assert "  must    1  operation 0 goes by the path" in said


def test_each_entry_of_a_report_has_its_reason_where_there_is_room() -> None:
    lines = text(one_report(14)).splitlines()
    assert len(lines) <= 120
    at = lines.index("KNOWN FAILURES OF THE DEVICE: 15 entries, 15 cases (! = harms data)")
    assert lines[at + 1].startswith("  must !  1  operation 3 goes by the path  ")
    assert lines[at + 15] == "             gitlab.com/qemu-project/qemu/-/issues/103"
    seen = re.findall(r"^  must [ !]  1  operation (\d+) goes by the path", "\n".join(lines[at + 1 : at + 15]), re.M)
    assert sorted(map(int, seen)) == list(range(1, 15))


def test_every_defect_has_its_reason_in_a_line_though_a_soak_takes_room(tmp_path: Path) -> None:
    """Not every defect has room for two lines: there are 14 entries of one report, and 40 other reports."""
    made = one_report(14)
    more = []
    for n in range(40):
        entry = KnownFailure(reason=f"reason {n}: and why", link=f"https://example.org/issues/{n}", owner="client")
        named_so = {"id": f"K{n}-001", "case_id": f"K{n}-001", "findings": [], "known": entry}
        more.append(made.results[0].model_copy(update=named_so))
    said = text(with_results(made, [*made.results, *more]), soak=soak_report(tmp_path, "pass", 9))
    assert len(said.splitlines()) <= 120
    assert all(f"  must    1  reason {n}: and why  K{n}-001" in said for n in range(20, 40)), said
    assert "more lines" not in said
    assert "             K0-001  example.org/issues/0" in said


@pytest.mark.parametrize(
    ("most", "shown"),
    [
        (80, "ftruncate goes by the path: ENOENT when the name is gone, and another is cut"),
        (70, "ftruncate goes by the path: ENOENT when the name is gone"),
        (40, "ftruncate goes by the path"),
        (20, "ftruncate goes..."),
    ],
)
def test_a_reason_is_cut_where_a_clause_ends(most: int, shown: str) -> None:
    said = "ftruncate goes by the path: ENOENT when the name is gone, and another is cut. Then more."
    assert first_sentence(said, most) == shown


def test_what_has_most_to_give_is_cut_first() -> None:
    made = fitted([Section("A", ["a"] * 5), Section("B", ["b"] * 50, least=3)], 20).splitlines()
    assert len(made) <= 20 and made.count("a") == 5 and "more lines" in made[-1]


QUESTIONS = {
    "what is the verdict, and the gate's": "VERDICT: .* Gate: exit status 1",
    "how many cases, by verdict and severity": r"300 cases: \d+ unexpected, \d+ FAIL .* fail as declared \(",
    "did the run come to its end": "Run complete|did not finish",
    "how does it stand beside the baseline": "Against baseline qemu .*: 2 worse, 0 better, 0 no longer driven",
    "and what is worse there": r"Worse than there: .*\(pass, now fail\)",
    "which program of which package was it": r"program /usr/bin/qemu-system-x86_64 \(qemu-system-x86 1:7",
    "what are its bytes": "sha256 (1493008b){8}",
    "which change is under test, on what base": "change gate 7, based on v7.2.22",
    "how is the device configured": "device .*security_model=passthrough,multidevs=remap.*virtio-9p-pci",
    "which guest, kernel and image, how fast": "guest debian12 image 9b1c0e7a55d2, Linux 6.1.0-41-amd64, .*512 MB, TCG",
    "why not KVM": "did not boot on it",
    "which host, CPU and kernel": "host Debian GNU/Linux 12 .*2 CPUs AMD EPYC",
    "what was exported, how mounted": r"export zfs tank \(rw\); setuid=off",
    "which suite, was it clean": "suite assay9 0.1.0, commit 1f8113ea446d, clean",
    "which profiles, how many entries, how many met": "qemu.toml 0a3f46aa.*94 known failures declared, 1 met",
    "when, how long, in which CI job": r"when 2026-11-20 .* UTC, took .* min, https://ci\.example\.org/job/7",
    "what ran": "run cases of layers",
    "what did not": r"not run layers? .*wire \(398 case functions\).*the default set, not the 25 of --mounts all",
    "with which mounts": "mounts cache=none",
    "how closely was looked": r"looked .* calls; [\d,]+ comparisons inside against outside of [\d,]+ fields",
    "did it hold on a native file system": "first held on the guest's own file system",
    "which messages crossed": r"9P [\d,]+ messages crossed, \d+ of the \d+ requests",
    "what does a stat look like on both sides": r"inside \(guest\) outside \(host\) Size/Blocks .* Mode .* Birth",
    "what is the device's fault, what the client's": "KNOWN FAILURES OF THE (DEVICE|SERVER|GUEST|TARGET)",
    "what is not supported": "NOT SUPPORTED BY THIS IMPLEMENTATION",
    "what was not drivable": "NOT DRIVABLE HERE",
    "how long was the soak's load": "SOAK .*soak-x: PASS .*1 h 0+ min of load in each of 1 workload, set-up",
    "what did it come to": "tree: 2 pass, 1,800 units of work",
    "what was injected": "faults kill",
    "how did memory and stalls behave": "device: memory .*longest silence 3 s",
    "how is it seen again": "assay9 run qemu --jobs 2 one case: assay9 run qemu -k",
    "where is the evidence, by what hash": r"record\.json \(.*schema \d+\).* sha256 [0-9a-f]{64}",
    "what holds the evidence together": "SHA256SUMS there has the hash of every file",
}


@pytest.fixture(scope="module")
def ticket(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a run with a soak, compared with a baseline in which one of its failures passed.

    That case is worse, and so is the case that passes although it is declared to fail.
    """
    place = tmp_path_factory.mktemp("ticket")
    run_dir = sample.write(place, 300)
    made = load_run(run_dir)
    failing = next(r for r in made.results if r.verdict == "fail" and r.severity == "must")
    passed = [r.model_copy(update={"verdict": "pass"}) if r is failing else r for r in made.results]
    then = baseline_of(with_results(made, passed))
    file = place / "qemu.baseline.json"
    save(then, file)
    words = [str(run_dir), "--soak", str(soak_report(place, "pass", 0)), "--baseline", str(file), "--kind", "rti"]
    done = CliRunner().invoke(report, words)
    assert done.exit_code == 0, done.output
    return (run_dir / "rti.txt").read_text()


def test_the_worst_known_failures_have_reasons_though_a_soak_takes_room(tmp_path: Path) -> None:
    made = sample.record(300)
    known = next(r for r in made.results if r.verdict == "known")
    many = [
        known.model_copy(
            update={
                "id": f"K{n}-001",
                "case_id": f"K{n}-001",
                "known": KnownFailure(reason=f"reason number {n} of many", link="", owner="qemu-device"),
            }
        )
        for n in range(40)
    ]
    notes = made.environment.model_copy(update={"notes": ["a note that is long enough to fill its own line"] * 6})
    full = made.model_copy(update={"results": [*made.results, *many], "environment": notes})
    said = text(full, soak=soak_report(tmp_path, "pass", 9))
    assert len(said.splitlines()) <= 120
    assert said.count("reason number") >= 2
    assert "stalls of tree: longest silence 3 s" in " ".join(said.split())


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_reader_of_the_text_alone_finds_the_answer(ticket: str, question: str) -> None:
    assert re.search(QUESTIONS[question], " ".join(ticket.split())), ticket


def test_with_soak_and_baseline_it_still_fits(ticket: str) -> None:
    assert len(ticket.splitlines()) <= 120
    assert max(map(len, ticket.splitlines())) <= 78


@pytest.mark.parametrize(
    ("access", "shown"),
    [
        (
            "SSH to root@vm:2222, no Python (its shell makes 41 of 158 operations)",
            "reached by SSH to root@vm, no Python",
        ),
        ("SSH to root@127.0.0.1:40123", "reached by SSH to root@127.0.0.1"),
        ("the launcher in its image", "reached by the launcher in its image"),
    ],
)
def test_the_ticket_says_how_the_guest_was_reached(access: str, shown: str) -> None:
    made = many_failures()
    of = made.environment.model_copy(update={"access": access})
    assert shown in " ".join(text(made.model_copy(update={"environment": of})).split())


def test_why_kvm_was_not_used_is_what_qemu_said_without_its_source_line() -> None:
    made = sample.record(5)
    said = (
        "no KVM: qemu-system-x86_64: ../../target/i386/kvm/kvm.c:3183: kvm_buf_set_msrs: Assertion `ret == n' failed."
    )
    of = made.environment.model_copy(update={"accelerator": "tcg", "accelerator_reason": said})
    shown = " ".join(text(made.model_copy(update={"environment": of})).split())
    assert "TCG (no KVM: kvm_buf_set_msrs: Assertion `ret == n' failed)" in shown


def test_the_module_that_python_runs_is_not_the_memory_of_a_guest() -> None:
    made = sample.record(5)
    of = made.environment.model_copy(update={"argv": ["python3", "-m", "reference_server", "serve", "/srv"]})
    assert "reference_server MB" not in text(made.model_copy(update={"environment": of}))


@pytest.mark.parametrize("label", ["guest", "hypervisor", "what is longer"])
def test_a_label_and_its_words_are_apart(label: str) -> None:
    assert labelled(label, "/usr/bin/x")[0].split(label)[1].startswith(" ")
