"""The comparison of two runs."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from conformance.evidence.models import KnownFailure, Record, SeenFinding
from conformance.evidence.record import RunWriter
from conformance.gating.changes import as_text, changes
from conformance.reports.cli import compare
from tests.evidence import sample


def pair() -> tuple[Record, Record]:
    """The second run repairs the first failure, breaks the first pass, cannot drive the second, omits the last case."""
    before = sample.record(60)
    later = list(before.results[:-1])
    passed = [n for n, result in enumerate(later) if result.verdict == "pass"]
    failed = next(n for n, result in enumerate(later) if result.verdict == "fail" and result.severity != "varies")
    for number, verdict in ((failed, "pass"), (passed[0], "fail"), (passed[1], "undrivable")):
        later[number] = later[number].model_copy(
            update={"verdict": verdict, "reason": f"now {verdict}", "severity": "must"}
        )
    return before, before.model_copy(update={"results": later})


def test_each_change_is_of_its_kind() -> None:
    before, after = pair()
    seen = changes(before, after)
    assert [len(seen.of(kind)) for kind in ("worse", "better", "otherwise", "only before", "only after")] == [
        2,
        1,
        0,
        1,
        0,
    ]
    assert seen.same == 56
    (worse, undriven), (better,) = seen.of("worse"), seen.of("better")
    assert (worse.before, worse.after, worse.reason) == ("pass", "fail", "now fail")
    assert (undriven.before, undriven.after) == ("pass", "undrivable")
    assert (better.before, better.after) == ("fail", "pass")
    assert better.reason not in ("", "now pass"), "what was wrong before says what was repaired"
    assert changes(after, before).of("only after") and not changes(before, before).differing


def test_text_has_no_control_characters_and_ends_with_the_counts() -> None:
    before, after = pair()
    reported = as_text(changes(before, after))
    assert all(line.isprintable() for line in reported.splitlines())
    assert reported.endswith("2 worse, 1 better, 0 otherwise, 56 the same\n")


def test_command_takes_targets_and_gives_json(tmp_path: Path) -> None:
    for target, record in zip(("qemu", "qemu-next"), pair(), strict=True):
        writer = RunWriter.create(tmp_path, sample.environment(target))
        for result in record.results:
            writer.append(result)
        writer.finish()
    reported = CliRunner().invoke(compare, ["qemu", "qemu-next", "--json", "--results", str(tmp_path)])
    assert reported.exit_code == 0, reported.output
    found = json.loads(reported.output)
    assert (found["before"]["target"], found["after"]["target"]) == ("qemu", "qemu-next")
    assert found["same"] == 56 and len(found["changes"]) == 4


def test_a_known_case_that_fails_for_another_reason_is_reported() -> None:
    entry = KnownFailure(reason="cut to 32 bits", link="https://example.org/1", component="qemu-device")
    other = entry.model_copy(update={"reason": "lost", "link": "https://example.org/2"})

    def run(code: str, known: KnownFailure) -> Record:
        record = sample.record(60)
        at = next(n for n, one in enumerate(record.results) if one.verdict == "known")
        finding = SeenFinding(code=code, text="t", known=known)
        record.results[at] = record.results[at].model_copy(update={"findings": [finding], "known": known})
        return record

    before = run("field:size", entry)
    assert not changes(before, run("field:size", entry.model_copy(update={"reason": "in other words"}))).differing
    for after in (run("content", entry), run("field:size", other)):
        (change,) = changes(before, after).differing
        assert (change.kind, change.before, change.after) == ("otherwise", "known", "known")
        assert change.reason.startswith("known for another reason: now ")
    reported = as_text(changes(before, run("content", entry)))
    assert "now content (qemu-device: cut to 32 bits); no longer field:size" in reported
