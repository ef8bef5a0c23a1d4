"""Faults in the source of our own server and device: one place of the text is another, and a case must fail for it.

A mutant is a copy of `reference_server` with that one change, in a directory in which the suite then runs: Python finds
the copy first there, and the suite contains it as it contains the server itself.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVER = "reference_server"
TARGETS = {"wire": "reference", "ring": "reference-vhost-user", "vfs": "reference-uml", "property": "reference-uml"}
"""Layer -> the target whose server the copy is."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault. `file` is a path below reference_server; `before` stands in it once, `after` takes its place.

    `caught` are the ids of cases that must fail for it, each by itself; `layer` is theirs.
    """

    name: str
    file: str
    before: str
    after: str
    caught: tuple[str, ...]
    layer: str = "wire"


def declared() -> list[Mutant]:
    """The mutants of server.toml."""
    table = tomllib.loads(Path(__file__).with_name("server.toml").read_text())
    return [Mutant(**{**one, "caught": tuple(one["caught"])}) for one in table["mutant"]]


class Unfit(Exception):
    """The mutant cannot be made: its text is not there, or is there more than once."""


@contextmanager
def made(mutant: Mutant) -> Iterator[Path]:
    """A directory with the faulty copy. Raises Unfit."""
    directory = Path(tempfile.mkdtemp(prefix="assay9-mutant-"))
    try:
        shutil.copytree(ROOT / SERVER, directory / SERVER, ignore=shutil.ignore_patterns("__pycache__"))
        file = directory / SERVER / mutant.file
        text = file.read_text()
        if text.count(mutant.before) != 1:
            raise Unfit(f"{mutant.name}: its text stands {text.count(mutant.before)} times in {mutant.file}, not once")
        file.write_text(text.replace(mutant.before, mutant.after))
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def failures(mutant: Mutant, selection: Sequence[str]) -> dict[str, str]:
    """Run the cases that `selection` (options of `assay9 run`) names on the mutant: id -> why, of each that failed.

    What only varies between implementations is no failure.

    Raises Unfit; RuntimeError when the run ended without a record.
    """
    with made(mutant) as directory:
        argv = [sys.executable, "-m", "assay9", "run", TARGETS[mutant.layer], "--layer", mutant.layer, "--all"]
        argv += ["--results", str(directory / "results"), *selection]
        # in the copy's directory, so that `python -m reference_server` finds the copy
        done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False)
        records = list(directory.glob("results/*/record.json"))
        if not records:
            raise RuntimeError(f"{mutant.name}: no record; exit status {done.returncode}: {done.stderr[-500:]}")
        record = json.loads(records[0].read_text())
    return {
        one["id"]: one["reason"]
        for one in record["results"]
        if one["verdict"] == "fail" and one["severity"] != "varies"
    }


if __name__ == "__main__":
    wanted, *options = sys.argv[1:]
    for id, why in failures(next(one for one in declared() if one.name == wanted), options).items():
        print(id, why)
