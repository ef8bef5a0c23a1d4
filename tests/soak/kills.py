"""kill -9 of a runner at random moments, and a check of its journal afterwards."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay9.start import main
from soak import journal as journals
from soak.inside.common import die_with_parent
from soak.judges import ACCEPTABLE
from tests.waiting import eventually

QUICK = ["--set", "tree.steps=20", "--set", "tree.workers=2", "--sample", "0.5"]
ACCEPT = [word for judge in ACCEPTABLE for word in ("--accept-unknown", judge)]
"""Options for these runs, which are too short for a judgement on changes over time."""
TABLES = ("meta", "sessions", "events", "begun", "ended", "series", "samples")

Rows = dict[str, list[tuple[Any, ...]]]


def command(*args: str) -> list[str]:
    """The command line `assay9 soak ...`."""
    return [sys.executable, "-m", "assay9", "soak", *args]


def rows(run_dir: Path) -> Rows:
    """Every row of the journal on the disk."""
    db = sqlite3.connect(f"file:{run_dir / journals.FILE}?mode=ro", uri=True)
    try:
        return {table: list(db.execute(f"SELECT * FROM {table} ORDER BY rowid")) for table in TABLES}
    finally:
        db.close()


def check(before: Rows, run_dir: Path) -> Rows:
    """Check the journal: earlier rows are unchanged, and no iteration is duplicated or missing. Returns its rows."""
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


class Started:
    """The command line in its own process: `assay9 soak ...`. Its output goes to a file, which is overwritten."""

    def __init__(self, said: Path, *args: str) -> None:
        with said.open("wb") as file:
            self._process = subprocess.Popen(command(*args), stdout=file, stderr=subprocess.STDOUT)

    def poll(self) -> int | None:
        """Its exit status once it has ended."""
        return self._process.poll()

    def kill(self) -> None:
        """kill -9, and its end waited for."""
        self._process.kill()
        self._process.wait()


class Forked:
    """The same in a fork of this process, which has imported everything and so starts in a tenth of the time."""

    def __init__(self, said: Path, *args: str) -> None:
        self._status: int | None = None
        self._pid = os.fork()
        if self._pid:
            return
        try:
            die_with_parent()
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            for fd in (1, 2):
                os.dup2(file, fd)
            sys.argv = ["assay9", "soak", *args]
            main()
        except SystemExit as e:
            os._exit(e.code if isinstance(e.code, int) else 1)
        finally:
            os._exit(70)

    def poll(self) -> int | None:
        """Its exit status once it has ended."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def kill(self) -> None:
        """kill -9, and its end waited for."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def time_of_one(results: Path, start: type[Started | Forked] = Started) -> float:
    """Measure the seconds that a run of one iteration takes on this machine, from start to end."""
    begun = time.monotonic()
    results.mkdir()
    said = results / "said"
    process = start(
        said, "local", "--iterations", "1", "--workload", "tree", "--results", str(results), *QUICK, *ACCEPT
    )
    eventually(lambda: process.poll() is not None)
    assert process.poll() == 0, said.read_text(errors="replace")
    return time.monotonic() - begun


def any_ended(results: Path) -> bool:
    """Whether an iteration of the run in that directory has ended."""
    found = next((p.parent for p in results.glob(f"soak-*/{journals.FILE}")), None)
    return found is not None and bool(rows(found)["ended"])


def kill_often(
    results: Path,
    count: int,
    rng: random.Random,
    within: float,
    progress: Callable[[int, int], None] = lambda n, ended: None,
    start: type[Started | Forked] = Started,
) -> int:
    """Kill a runner `count` times at random moments of its first `within` seconds. Returns the iterations that ended.

    If the machine is so busy that no iteration has ended, the last kill waits for one; otherwise nothing is shown.
    """
    args = ["local", "--iterations", "1000000", "--seed", "3", "--workload", "tree", "--results", str(results), *QUICK]
    results.mkdir()
    said = results / "said"
    run_dir: Path | None = None
    known: Rows = {}
    for number in range(count):
        process = start(said, *args) if run_dir is None else start(said, "resume", str(run_dir))
        time.sleep(rng.uniform(0.0, within))
        if number + 1 == count and not known.get("ended"):
            eventually(lambda p=process: p.poll() is not None or any_ended(results))  # type: ignore[misc]
        status = process.poll()
        last = said.read_text("utf-8", "replace")[-4000:]
        assert status is None, f"the runner ended by itself, status {status}: {last}"
        process.kill()
        if run_dir is None:
            # killed before its journal was complete, it is not a run: nothing was recorded, so nothing is lost
            run_dir = next((p.parent for p in results.glob(f"soak-*/{journals.FILE}")), None)
        if run_dir is not None:
            known = check(known, run_dir)
            progress(number + 1, len(known["ended"]))
    return len(known.get("ended", []))
