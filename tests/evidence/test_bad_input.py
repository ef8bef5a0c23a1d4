"""Records that cannot be used: whichever command reads one says so in one line that has the remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from assay9.plan import merge
from conformance.errors import UsageError
from conformance.evidence.manifest import NAME
from conformance.reports.cli import baseline, compare, gate, report
from conformance.reports.publish_cli import attest, redact, table, verify
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
}


MATRIX: list[tuple[str, Damage]] = [(name, damage) for name in COMMANDS for damage in (missing, tampered, foreign)]
MATRIX += [("report", damage) for damage in REMEDIES if ("report", damage) not in MATRIX]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of one run."""
    place = tmp_path_factory.mktemp("made")
    for number, name in ((1, "A"), (2, "B")):
        kept(place, "a", shard(f"{number}/2", name)).rename(place / name)
    return place


@pytest.mark.parametrize(("command", "damage"), MATRIX)
def test_one_line_with_the_remedy(
    command: str, damage: Damage, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs, tmp_path / "results", symlinks=True)
    good, bad = tmp_path / "results" / "A", tmp_path / "results" / "B"
    before = set((tmp_path / "results").iterdir())
    damage(bad)
    function, words = COMMANDS[command]
    names = {"GOOD": str(good), "RUN": str(bad)}
    done = CliRunner().invoke(function, [names.get(word, word) for word in words])
    assert isinstance(done.exception, UsageError), (done.output, done.exception)
    said = str(done.exception)
    assert "\n" not in said
    assert REMEDIES[damage] in said
    assert not (tmp_path / "out.json").exists() and not (tmp_path / "public").exists()
    assert set((tmp_path / "results").iterdir()) <= before, "nothing was made"
