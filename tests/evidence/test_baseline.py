"""The gate with a baseline: each way in which a case may be worse, differences not due to the target, and the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from conformance.errors import UsageError
from conformance.evidence.models import CaseResult, KnownFailure, Record, Scope, SeenFinding, Trouble
from conformance.evidence.overview import STANDINGS
from conformance.evidence.record import RunWriter
from conformance.gating.baseline import baseline_of, load_baseline, save
from conformance.gating.gate import gate as judge
from conformance.gating.moves import LEVEL
from conformance.reports.beside import labels, side_by_side, verdict_text
from conformance.reports.cli import baseline, compare, gate, report
from tests.evidence import sample

TROUBLE = [Trouble(at=sample.STARTED, worker="gw0", text="no guest")]


def case(name: str, stands: str, **more: Any) -> CaseResult:
    """A result with that standing."""
    update: dict[str, Any] = {
        "id": name,
        "case_id": name,
        "mount": "",
        "verdict": {"guest": "pass", "varies": "fail"}.get(stands, stands),
        "severity": "varies" if stands == "varies" else "must",
        "decided_by": "guest" if stands == "guest" else "server",
        "reason": f"reason of {name}",
        "findings": [],
    }
    return sample.record(1).results[0].model_copy(update={**update, **more})


def run(*extra: CaseResult, **stands: str) -> Record:
    """A run of these cases and of nine that pass: enough for a verdict on the target."""
    results = [case(name, stood) for name, stood in stands.items()] + [case(f"ok{n}", "pass") for n in range(9)]
    results += extra
    return Record(environment=sample.environment(), results=results, selected=len(results))


def status(before: Record, after: Record) -> int:
    return judge(after, baseline_of(before)).status


@pytest.mark.parametrize("now", ["known", "fail", "undrivable", "error", "unstable", "varies", "unsupported", "fixed"])
def test_a_pass_that_became_anything_else_is_a_regression(now: str) -> None:
    seen = judge(run(A=now), baseline_of(run(A="pass")))
    assert seen.status == 1
    assert [(one.key, one.was, one.now) for one in seen.worse] == [(("A", ""), "pass", now)]


def test_a_pass_that_is_missing_is_a_regression() -> None:
    seen = judge(run(), baseline_of(run(A="pass")))
    assert seen.status == 1 and [(one.key[0], one.now) for one in seen.worse] == [("A", None)]


@pytest.mark.parametrize("was", ["known", "varies", "unsupported"])
@pytest.mark.parametrize("now", ["fail", "undrivable", "error"])
def test_what_was_declared_and_is_worse_now_is_a_regression(was: str, now: str) -> None:
    assert status(run(A=was), run(A=now)) == 1


@pytest.mark.parametrize("stands", STANDINGS)
def test_what_stands_as_before_is_none(stands: str) -> None:
    assert status(run(A=stands), run(A=stands)) == (1 if stands == "fixed" else 0)


@pytest.mark.parametrize(
    ("was", "now"), [("fail", "pass"), ("known", "pass"), ("undrivable", "pass"), ("pass", "guest")]
)
def test_what_is_better_is_none(was: str, now: str) -> None:
    assert status(run(A=was), run(A=now)) == 0


def test_a_known_failure_that_passes_is_one_whatever_the_baseline_says() -> None:
    assert status(run(A="known"), run(A="fixed")) == 1


def test_a_new_case_that_fails_is_one_and_one_that_passes_is_none() -> None:
    assert status(run(), run(A="fail")) == 1
    assert status(run(), run(A="pass", B="known")) == 0


def test_every_standing_has_its_level() -> None:
    assert set(LEVEL) == set(STANDINGS)


def test_a_known_case_that_fails_for_another_reason_is_named() -> None:
    entry = KnownFailure(reason="cut to 32 bits", link="https://example.org/1", component="qemu-device")

    def known(code: str) -> Record:
        return run(case("A", "known", findings=[SeenFinding(code=code, text="t", known=entry)]))

    before = baseline_of(known("field:size"))
    assert not judge(known("field:size"), before).known_otherwise
    seen = judge(known("content"), before)
    assert (seen.status, seen.worse) == (0, []), "it is declared all the same"
    assert seen.known_otherwise == {("A", ""): "content (qemu-device: cut to 32 bits)"}
    said = verdict_text(known("content"), seen)
    assert "known for another reason: A\n      content (qemu-device: cut to 32 bits)" in said


def test_cases_that_were_not_asked_for_are_not_missing() -> None:
    after = run(A="pass")
    part = after.environment.model_copy(update={"scope": Scope(layers=["vfs"], expression="A")})
    seen = judge(after.model_copy(update={"environment": part}), baseline_of(run(A="pass", B="pass")))
    assert (seen.status, seen.not_asked) == (0, 1)


def test_a_machine_that_broke_is_no_regression_and_no_pass() -> None:
    lost = case("A", "error", infrastructure=True, reason="no guest")
    assert status(run(A="pass"), run(lost)) == 3
    assert status(run(A="pass"), run(A="pass").model_copy(update={"troubles": TROUBLE})) == 3


def test_a_regression_is_seen_though_the_machine_broke_besides() -> None:
    assert status(run(A="pass"), run(A="fail").model_copy(update={"troubles": TROUBLE})) == 1


def test_too_few_judged_cases_are_no_verdict() -> None:
    assert judge(run(A="pass"), None, min_judged=10).status == 0
    seen = judge(run(A="undrivable"), None, min_judged=10)
    assert seen.status == 3 and "--min-judged 10" in seen.why


def test_without_a_baseline_the_runs_own_status_counts() -> None:
    assert judge(run(A="fail"), None).status == 1
    assert judge(run(A="error"), None).status == 3
    assert judge(run(A="known"), None).status == 0


def test_the_verdict_says_each_reason_once() -> None:
    many = {f"N-{n}": "pass" for n in range(39)}
    before = run(**many)
    after = run(*(case(name, "fail", reason="ENXIO is not an answer") for name in many))
    said = verdict_text(after, judge(after, baseline_of(before)))
    assert (said.count("ENXIO") == 1 and "N-0, N-1, N-10, N-11 and 35 more" in said) or "and 35 more" in said
    assert len(said.splitlines()) < 24


def kept(results: Path, name: str, record: Record) -> Path:
    """Write the record as a run's directory."""
    writer = RunWriter.create(results, record.environment.model_copy(update={"target": name}))
    writer.select(sample.selected(record.results))
    for one in record.results:
        writer.append(one)
    writer.finish()
    return writer.run_dir


def called(command: click.Command, *words: str | Path, results: Path) -> Result:
    return CliRunner().invoke(command, [*map(str, words), "--results", str(results)])


def test_the_commands_save_a_baseline_and_judge_beside_it(tmp_path: Path) -> None:
    good, bad = (kept(tmp_path / stood, "qemu", run(A=stood)) for stood in ("pass", "fail"))
    file = tmp_path / "good.baseline.json"
    done = called(baseline, "save", good, file, results=tmp_path)
    assert done.exit_code == 0, done.output
    assert any(line.strip().startswith('"A": "pass"') for line in file.read_text().splitlines()), "one case a line"
    assert called(gate, good, "--baseline", file, results=tmp_path).exit_code == 0
    seen = called(gate, bad, "--baseline", file, results=tmp_path)
    assert seen.exit_code == 1 and "pass -> fail: A" in seen.output
    assert called(gate, bad, "--baseline", good, results=tmp_path).exit_code == 1


@pytest.mark.parametrize("command", [gate, report])
def test_a_baseline_of_another_target_is_refused(command: click.Command, tmp_path: Path) -> None:
    """Compared with a target that fails more, nothing is worse: a wrong file would pass every run."""
    kept(tmp_path, "qemu", run(A="pass"))
    kept(tmp_path, "diod", run(A="fail"))
    seen = called(command, "qemu", "--baseline", "diod", results=tmp_path)
    assert isinstance(seen.exception, UsageError)
    assert "baseline of target diod, the run is of qemu" in str(seen.exception)


def test_a_baseline_without_one_of_the_cases_is_no_verdict() -> None:
    after = run(case("A", "pass"))
    part = after.environment.model_copy(update={"scope": Scope(layers=["vfs"], expression="A")})
    alone = after.model_copy(update={"environment": part, "results": [r for r in after.results if r.case_id == "A"]})
    seen = judge(alone, baseline_of(run(B="pass")).model_copy(update={"cases": {"": {"B": "pass"}}}))
    assert seen.status == 3 and "the baseline has none of the cases that ran" in seen.why


def test_a_run_that_is_not_whole_makes_no_baseline(tmp_path: Path) -> None:
    kept(tmp_path, "half", run(A="error"))
    done = called(baseline, "save", "half", tmp_path / "x.json", results=tmp_path)
    assert isinstance(done.exception, UsageError) and not (tmp_path / "x.json").exists()


def test_what_is_no_baseline_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    good = baseline_of(run(A="pass"))
    save(good, file)
    assert load_baseline(file) == good
    data = json.loads(file.read_text())
    for text, said in (
        ("{", "is damaged"),
        ("[]", "is not a baseline"),
        ('{"kind": "other"}', "is not a baseline"),
        (json.dumps({**data, "schema_version": 99}), "schema version 99"),
        (json.dumps({**data, "cases": {"": {"A": "perfect"}}}), "is damaged"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=said) as refused:
            load_baseline(file)
        assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="cannot be read"):
        load_baseline(tmp_path / "none.json")


def test_compare_fails_on_what_is_worse_when_asked(tmp_path: Path) -> None:
    kept(tmp_path, "before", run(A="known", B="pass"))
    kept(tmp_path, "worse", run(A="fail", B="pass"))
    kept(tmp_path, "better", run(A="pass", B="pass"))
    assert called(compare, "before", "worse", results=tmp_path).exit_code == 0
    done = called(compare, "before", "worse", "--fail-on", "worse", results=tmp_path)
    assert done.exit_code == 1 and "known -> fail" in done.output
    assert called(compare, "before", "better", "--fail-on", "worse", results=tmp_path).exit_code == 0
    assert called(compare, "before", "better", "--fail-on", "change", results=tmp_path).exit_code == 1


def test_three_runs_stand_beside_each_other() -> None:
    records = [run(A="pass", B="known"), run(A="fail", B="known"), run(A="pass", B="pass")]
    shown = side_by_side(records, ["one", "two", "three"])
    assert shown.splitlines()[0].split() == ["one", "two", "three"]
    assert "two fail; one, three pass: A" in shown
    assert "one, two known; three pass: B" in shown
    assert "ok1" not in shown


def test_a_reason_that_several_runs_have_is_there_once() -> None:
    entry = KnownFailure(reason="the server has no locks", link="https://bugs.invalid/1")

    def known(*names: str) -> Record:
        alike = [case(name, "known").model_copy(update={"known": entry}) for name in names]
        return run(*alike, **{name: "pass" for name in "AB" if name not in names})

    shown = side_by_side([known("A", "B"), known(), known("A")], ["one", "two", "three"])
    assert shown[shown.index("2 cases differ") :].splitlines()[1:] == [
        "  2  the server has no locks",
        "      one, three known; two pass: A",
        "      one known; two, three pass: B",
    ]


def test_one_run_is_named_by_its_target() -> None:
    records = [run(A="pass")]
    assert labels(records[:1]) == ["qemu"]
