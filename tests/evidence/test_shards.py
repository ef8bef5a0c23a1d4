"""Shards: together they are the run, no case is in two of them; what does not fit is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from assay9.plan import Matrix, as_bytes, command_of, merge, plan, planned
from conformance.errors import UsageError
from conformance.evidence.models import Record, Scope
from conformance.evidence.record import load_run
from conformance.gating.merge import merged
from conformance.pytest_session.shards import part, read_durations, shard_of
from tests.evidence.test_baseline import case, kept, run

KEYS = [(f"A-{n}[{p}]", mount) for n in range(40) for p in "xy" for mount in ("cache=none", "cache=loose")]
SECONDS = {f"A-{n}[{p}]": float(n * n % 17) for n in range(40) for p in "xy"}


@pytest.mark.parametrize("of", [1, 2, 3, 7, 200])
def test_all_parts_are_the_whole_and_no_case_is_in_two(of: int) -> None:
    parts = [part(KEYS, lambda key: key, (number, of), SECONDS) for number in range(1, of + 1)]
    assert sorted(key for one in parts for key in one) == sorted(KEYS)


def test_parts_do_not_depend_on_the_order_of_collection() -> None:
    for number in (1, 2, 3):
        one = part(KEYS, lambda key: key, (number, 3), SECONDS)
        assert sorted(one) == sorted(part(KEYS[::-1], lambda key: key, (number, 3), SECONDS))


def test_parts_take_about_as_long_by_what_was_recorded() -> None:
    loads = [sum(SECONDS[key[0]] for key in part(KEYS, lambda key: key, (n, 4), SECONDS)) for n in (1, 2, 3, 4)]
    assert max(loads) - min(loads) <= max(SECONDS.values())


@pytest.mark.parametrize("text", ["", "3", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="I/N"):
        shard_of(text)


def shard(name: str, *names: str, **more: Any) -> Record:
    """Make a shard with these cases."""
    made = run()
    scope = Scope(layers=["vfs"], shard=name, plan=more.pop("plan", ""))
    environment = made.environment.model_copy(update={"scope": scope, **more})
    results = [case(one, "pass", machines=["gw0"]) for one in names]
    return Record(environment=environment, results=results, selected=len(results))


def test_shards_become_one_run_that_is_no_part_of_another() -> None:
    whole = merged([shard("2/2", "B"), shard("1/2", "A")], ["two", "one"])
    assert [r.id for r in whole.results] == ["A", "B"] and whole.selected == 2
    assert whole.environment.scope is not None and not whole.environment.scope.partial
    assert {r.machines[0] for r in whole.results} == {"1: gw0", "2: gw0"}


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (shard("1/2", "B"), "shard 1/2 is there twice: one and two"),
        (shard("2/3", "B"), "several divisions"),
        (shard("2/2", "A"), "A is in two shards"),
        (shard("2/2", "B", target="other"), "its target is other, not qemu"),
        (shard("2/2", "B", assay9_commit="f00"), "its suite commit is f00"),
        (shard("2/2", "B", plan="p"), "its plan is p, not none"),
        (shard("2/2", "B", asked={"image": "debian13"}), "its options"),
        (run(B="pass"), "two is not a shard"),
    ],
)
def test_what_does_not_fit_is_refused(second: Record, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        merged([shard("1/2", "A"), second], ["one", "two"])
    assert "\n" not in str(refused.value)


def test_a_missing_shard_is_named() -> None:
    with pytest.raises(UsageError, match=r"shard 2/3, 3/3 is missing"):
        merged([shard("1/3", "A")], ["one"])


def called(command: click.Command, *words: object, results: Path) -> Any:
    return CliRunner().invoke(command, [*map(str, words), "--results", str(results)])


def test_the_command_joins_runs_and_refuses_one_that_was_changed(tmp_path: Path) -> None:
    one, two = kept(tmp_path, "a", shard("1/2", "A")), kept(tmp_path, "b", shard("2/2", "B"))
    done = called(merge, one, two, results=tmp_path)
    assert isinstance(done.exception, UsageError) and "its target is b" in str(done.exception)
    two = kept(tmp_path, "a", shard("2/2", "B"))
    done = called(merge, one, two, results=tmp_path)
    assert done.exit_code == 0, done.output
    assert len(load_run((tmp_path / "latest").resolve()).results) == 2
    (one / "record.json").write_text("{")
    done = called(merge, one, two, results=tmp_path)
    assert isinstance(done.exception, UsageError) and "is damaged" in str(done.exception)


MATRIX = {
    "job": [{"target": "qemu", "shards": 2, "images": ["debian12", "debian13"], "tags": ["root"]}, {"target": "local"}]
}


def test_a_matrix_becomes_a_shard_for_each_combination() -> None:
    made = planned(Matrix.model_validate(MATRIX), {"A": 2.0})
    names = ["qemu-debian12-1", "qemu-debian12-2", "qemu-debian13-1", "qemu-debian13-2", "local-1"]
    assert list(made["shards"]) == names
    words = ["qemu", "--image=debian13"]
    expected = {"job": "qemu-debian13", "run": words, "shard": "2/2", "tags": ["root"]}
    assert made["shards"]["qemu-debian13-2"] == expected


def test_a_soak_is_a_shard_on_each_machine(tmp_path: Path) -> None:
    made = planned(Matrix.model_validate({"soak": [{"target": "qemu", "machines": 2, "options": ["--for", "1h"]}]}), {})
    assert list(made["shards"]) == ["soak-qemu-1", "soak-qemu-2"]
    file = tmp_path / "plan.json"
    file.write_bytes(as_bytes(made))
    assert command_of(file, "soak-qemu-2") == ["soak", "run", "qemu", "--for", "1h"]


def test_a_plan_is_written_and_each_shard_has_its_words(tmp_path: Path) -> None:
    matrix, file = tmp_path / "m.toml", tmp_path / "plan.json"
    matrix.write_text('[[job]]\ntarget = "local"\nshards = 3\n')
    record = kept(tmp_path, "old", run(A="pass"))
    done = called(plan, matrix, file, "--durations", record, results=tmp_path)
    assert done.exit_code == 0 and "3 shards" in done.output
    assert "A" in read_durations(file)
    assert command_of(file, "local-2") == ["run", "local", "--durations-of", str(file), "--shard", "2/3"]
    with pytest.raises(UsageError, match="has no shard other"):
        command_of(file, "other")
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "suite": "f00"}))
    with pytest.raises(UsageError, match="is from suite commit f00"):
        command_of(file, "local-1")
    file.write_text("[]")
    with pytest.raises(UsageError, match="is not a plan"):
        command_of(file, "local-1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "not TOML"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("[[job]]\nshards = 2", "job entry 1, target is missing"),
        ('[[job]]\ntarget = "nowhere"', "nowhere"),
        ('[[job]]\ntarget = "local"\n[[job]]\ntarget = "local"', "twice"),
        ("", "job"),
    ],
)
def test_a_matrix_that_is_wrong_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    done = called(plan, tmp_path / "m.toml", tmp_path / "p.json", results=tmp_path)
    assert isinstance(done.exception, UsageError) and said in str(done.exception)
