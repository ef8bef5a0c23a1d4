"""Unusable records: every command that reads one says so in one line with the remedy."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from assay9.explore import replay
from assay9.fleet.cli import fleet
from assay9.plan import Matrix, command_of, merge, plan, planned
from assay9.profile import profile
from assay9.run import run
from assay9.selftest import selftest
from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.manifest import NAME, listed
from conformance.reports.cli import baseline, compare, gate, report
from conformance.reports.publish_cli import attest, redact, table, verify
from conformance.reports.write import write_reports
from soak.cli import soak
from tests.evidence.test_baseline import kept
from tests.evidence.test_shards import shard

Damage = Callable[[Path], None]


def missing(run: Path) -> None:
    shutil.rmtree(run)


def truncated(run: Path) -> None:
    record = run / "record.json"
    record.write_bytes(record.read_bytes()[:-100])
    (run / NAME).unlink(missing_ok=True)


def truncated_beside_its_manifest(run: Path) -> None:
    digest = "0" * 64
    (run / NAME).write_text(f"{digest}  record.json\n")
    record = run / "record.json"
    record.write_bytes(record.read_bytes()[:-100])


def tampered(run: Path) -> None:
    (run / NAME).write_text(f"{'0' * 64}  record.json\n")
    record = run / "record.json"
    record.write_text(record.read_text().replace('"verdict":"pass"', '"verdict":"fail"'))


def newer(run: Path) -> None:
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps({**record, "schema_version": 99}))


def foreign(run: Path) -> None:
    (run / "record.json").write_text('{"tests": []}')


def no_object(run: Path) -> None:
    (run / "record.json").write_text("[]")


def binary(run: Path) -> None:
    (run / "record.json").write_bytes(b"\x7fELF\x00\xff")


def a_pipe(run: Path) -> None:
    (run / NAME).unlink(missing_ok=True)
    (run / "record.json").unlink()
    os.mkfifo(run / "record.json")


def links_in_a_loop(run: Path) -> None:
    (run / "record.json").unlink()
    (run / "record.json").symlink_to("record.json")


def empty(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


REMEDIES: dict[Damage, str] = {
    missing: "lists the runs",
    truncated: "get the run's directory again",
    truncated_beside_its_manifest: "get the run's directory again",
    tampered: "get the run's directory again",
    newer: "use a newer assay9",
    foreign: "name the directory of a run",
    no_object: "name the directory of a run",
    binary: "get the run's directory again",
    a_pipe: "get the run's directory again",
    links_in_a_loop: "get the run's directory again",
    empty: "name the directory of a run",
}
COMMANDS: dict[str, tuple[click.Command, list[str]]] = {
    "report": (report, ["RUN"]),
    "report --baseline": (report, ["GOOD", "--print", "--baseline", "RUN"]),
    "compare": (compare, ["GOOD", "RUN"]),
    "gate": (gate, ["RUN"]),
    "gate --baseline": (gate, ["GOOD", "--baseline", "RUN"]),
    "baseline save": (baseline, ["save", "RUN", "out.json"]),
    "merge": (merge, ["GOOD", "RUN"]),
    "table": (table, ["GOOD", "RUN"]),
    "attest": (attest, ["RUN"]),
    "verify": (verify, ["RUN"]),
    "redact": (redact, ["RUN", "public"]),
    "plan --durations": (plan, ["MATRIX", "out.json", "--durations", "RUN"]),
    "fleet run --durations": (fleet, ["run", "MATRIX", "--durations", "RUN"]),
    "run --rerun": (run, ["--rerun", "RUN"]),
    "profile suggest": (profile, ["suggest", "RUN"]),
    "profile check": (profile, ["check", "--run", "RUN", "local"]),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of one run."""
    place = tmp_path_factory.mktemp("made")
    for number, name in ((1, "A"), (2, "B")):
        kept(place, "a", shard(f"{number}/2", name)).rename(place / name)
    return place


@pytest.mark.parametrize("damage", REMEDIES)
@pytest.mark.parametrize("command", COMMANDS)
def test_one_line_with_the_remedy(
    command: str, damage: Damage, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs, tmp_path / "results", symlinks=True)
    good, bad = tmp_path / "results" / "A", tmp_path / "results" / "B"
    before = set((tmp_path / "results").iterdir())
    damage(bad)
    function, words = COMMANDS[command]
    (tmp_path / "matrix.toml").write_text('[[job]]\ntarget = "local"\n')
    names = {"GOOD": str(good), "RUN": str(bad), "MATRIX": "matrix.toml"}
    done = CliRunner().invoke(function, [names.get(word, word) for word in words])
    assert isinstance(done.exception, UsageError), (done.output, done.exception)
    said = str(done.exception)
    assert "\n" not in said
    assert REMEDIES[damage] in said
    assert not (tmp_path / "out.json").exists() and not (tmp_path / "public").exists()
    assert set((tmp_path / "results").iterdir()) <= before, "nothing was made"


@pytest.mark.parametrize("command", ["report --print", "gate", "merge", "gate --baseline", "compare"])
def test_each_file_of_a_run_that_was_changed_is_reported(
    command: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {
        "report --print": (report, ["B", "--print"]),
        "gate": (gate, ["B"]),
        "merge": (merge, ["A", "B"]),
        "gate --baseline": (gate, ["A", "--baseline", "B"]),
        "compare": (compare, ["A", "B"]),
    }
    function, arguments = words[command]
    shutil.copytree(runs, "kept", symlinks=True)
    write_reports(Path("kept/B"))
    names = list(listed(Path("kept/B")))
    assert {"record.json", "summary.json", "report.html", "rti.txt", "environment.json"} <= set(names)
    for name in names:
        shutil.copytree("kept", "results", symlinks=True)
        with (Path("results") / "B" / name).open("ab") as file:
            file.write(b" ")
        done = CliRunner().invoke(function, arguments)
        assert isinstance(done.exception, UsageError), (name, done.output)
        assert f"B/{name} is not what the run wrote" in str(done.exception) and "\n" not in str(done.exception)
        shutil.rmtree("results")


def test_a_report_that_was_changed_is_written_again_as_the_refusal_says(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs, "results", symlinks=True)
    write_reports(Path("results/B"))
    Path("results/B/rti.txt").write_text("all is well")
    refused = CliRunner().invoke(gate, ["B"]).exception
    found = re.search("`assay9 report (.*)` writes it again", str(refused))
    assert found is not None, refused
    assert CliRunner().invoke(report, found[1].split()).exit_code == 0
    assert not isinstance(CliRunner().invoke(gate, ["B"]).exception, UsageError)


PIPED: dict[str, tuple[click.Command, list[str]]] = {
    "plan MATRIX": (plan, ["PIPE", "out.json"]),
    "plan PLAN": (plan, ["MATRIX", "PIPE"]),
    "fleet run MATRIX": (fleet, ["run", "PIPE"]),
    "run --plan": (run, ["--plan", "PIPE", "--shard", "local-1"]),
    "run TARGET": (run, ["./PIPE"]),
    "gate --baseline": (gate, ["RUN", "--baseline", "PIPE"]),
    "gate RUN": (gate, ["PIPE"]),
    "report --soak": (report, ["RUN", "--print", "--soak", "PIPE"]),
    "report --soak, its report": (report, ["RUN", "--print", "--soak", "SOAK"]),
    "baseline save FILE": (baseline, ["save", "RUN", "PIPE"]),
    "verify --signers": (verify, ["RUN", "--signers", "PIPE"]),
    "attest --key": (attest, ["RUN", "--key", "PIPE"]),
    "replay FILE": (replay, ["PIPE"]),
    "selftest --faults": (selftest, ["--faults", "PIPE"]),
    "selftest --progress": (selftest, ["--progress", "PIPE"]),
    "soak run TARGET": (soak, ["run", "./PIPE"]),
    "soak run, kernel": (soak, ["run", "local", "--workload", "kernel-build", "--set", "kernel-build.source=./PIPE"]),
}


@pytest.mark.parametrize("command", PIPED)
def test_a_pipe_is_one_line_and_is_not_waited_for(
    command: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is at its other end: opened as a file is, it would be waited for for ever."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("PIPE")
    Path("MATRIX").write_text('[[job]]\ntarget = "local"\n')
    Path("SOAK").mkdir()
    os.mkfifo("SOAK/report.json")
    shutil.copytree(runs / "A", "RUN", symlinks=True)
    function, words = PIPED[command]

    def waits(number: int, frame: object) -> None:
        raise AssertionError("the pipe is waited for")

    before = signal.signal(signal.SIGALRM, waits)
    signal.alarm(100)
    try:
        done = CliRunner().invoke(function, words)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert isinstance(done.exception, UsageError | InfrastructureError), (done.output, done.exception)
    assert "\n" not in str(done.exception)


def test_a_plan_goes_into_a_pipe_that_somebody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("MATRIX").write_text('[[job]]\ntarget = "local"\n')
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader:
        done = CliRunner().invoke(plan, ["MATRIX", f"/dev/fd/{writing}"])
        os.close(writing)
        assert done.exit_code == 0, done.exception
        assert list(json.loads(reader.read())["shards"]) == ["local-1"]


@pytest.mark.parametrize("words", [[], ["--print"]])
def test_a_run_in_the_place_of_a_soak_is_one_line(words: list[str], runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "A", tmp_path / "A", symlinks=True)
    done = CliRunner().invoke(report, [str(tmp_path / "A"), "--soak", str(runs / "B"), *words])
    assert isinstance(done.exception, UsageError), done.exception
    assert f"no soak report {runs / 'B'}/report.json" in str(done.exception)


def without(key: str) -> Callable[[dict[str, Any]], str]:
    def damaged(made: dict[str, Any]) -> str:
        return json.dumps({name: value for name, value in made.items() if name != key})

    return damaged


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (None, "No such file or directory; `assay9 plan MATRIX.toml"),
        (lambda made: json.dumps(made)[:-30], "is not a plan (Invalid JSON"),
        (lambda made: "[]", "is not a plan ("),
        (lambda made: json.dumps({**made, "kind": "other"}), "is not a plan (kind: "),
        (lambda made: json.dumps({**made, "suite": "f00"}), "is from suite commit f00, here is"),
        (lambda made: json.dumps({**made, "shards": {"local-1": {}}}), "a shard is a run or a soak"),
        (lambda made: json.dumps({**made, "shards": {"local-1": {"run": 7}}}), "shards.local-1.run"),
        (lambda made: json.dumps({**made, "shards": {}}), "has no shard local-1"),
        *((without(key), f"is not a plan ({key}: ") for key in ("kind", "suite", "durations", "shards")),
    ],
)
def test_a_plan_that_cannot_be_used_is_one_line(
    damaged: Callable[[dict[str, Any]], str] | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "plan.json"
    if damaged is not None:
        file.write_text(damaged(planned(Matrix.model_validate({"job": [{"target": "local"}]}), {})))
    with pytest.raises(UsageError) as refused:
        command_of(file, "local-1")
    assert said in str(refused.value) and "\n" not in str(refused.value)
