"""kill -9 of a runner at random moments, and what its journal holds afterwards."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soak import journal as journals

QUICK = ["--set", "tree.steps=20", "--set", "tree.workers=2", "--sample", "0.5"]
TABLES = ("meta", "sessions", "events", "begun", "ended", "series", "samples")

Rows = dict[str, list[tuple[Any, ...]]]


def command(*args: str) -> list[str]:
    """The command line `assay9 soak ...`."""
    return [sys.executable, "-m", "assay9", "soak", *args]


def rows(run_dir: Path) -> Rows:
    """Every row of the journal as it is on the disk."""
    db = sqlite3.connect(f"file:{run_dir / journals.FILE}?mode=ro", uri=True)
    try:
        return {table: list(db.execute(f"SELECT * FROM {table} ORDER BY rowid")) for table in TABLES}
    finally:
        db.close()


def check(before: Rows, run_dir: Path) -> Rows:
    """The journal now: what it held before is there unchanged, no iteration is doubled or left out."""
    now = rows(run_dir)
    for table, known in before.items():
        assert now[table][: len(known)] == known, f"{table} lost or changed what it held"
    with journals.open_existing(run_dir, writable=False) as journal:
        assert journal.sound()
        ended = [i for i in journal.iterations() if i.outcome]
        assert [i.number for i in ended] == list(range(len(ended))), "an iteration is doubled or left out"
        assert {i.outcome for i in ended} <= {"pass"}, [i.data for i in ended if i.outcome != "pass"]
        assert len(journal.events("resumed")) <= max(0, len(journal.sessions()) - 1)
    return now


def time_of_one(results: Path) -> float:
    """Seconds that a run of one iteration takes here and now, from its start to its end."""
    begun = time.monotonic()
    line = command("local", "--iterations", "1", "--workload", "tree", "--results", str(results), *QUICK)
    done = subprocess.run(line, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begun


def kill_often(results: Path, count: int, rng: random.Random, within: float,
               told: Callable[[int, int], None] = lambda n, ended: None) -> int:  # fmt: skip
    """Kill a runner `count` times, each at a random moment of its first `within` seconds; iterations that ended."""
    args = ["local", "--iterations", "1000000", "--seed", "3", "--workload", "tree", "--results", str(results), *QUICK]
    run_dir: Path | None = None
    known: Rows = {}
    for number in range(count):
        line = command(*args) if run_dir is None else command("resume", str(run_dir))
        process = subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.0, within))
        assert process.poll() is None, "the runner ended by itself"
        process.kill()
        process.wait()
        if run_dir is None:
            # killed before its journal was whole, it is no run: nothing was recorded, nothing is lost
            run_dir = next((p.parent for p in results.glob(f"soak-*/{journals.FILE}")), None)
        if run_dir is not None:
            known = check(known, run_dir)
            told(number + 1, len(known["ended"]))
    return len(known.get("ended", []))
