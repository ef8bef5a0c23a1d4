"""SIGINT, SIGTERM and SIGHUP end every command with 130 or 143 at any moment, even when sent repeatedly."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.end_to_end.moments import ignoring_interrupts, signalled

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
STATUS = {INT: 130, TERM: 143, HUP: 143}
RUN = ["run", "local", "--layer", "vfs", "--family", "mode", "-k", "MODE-002", "--jobs", "1", "-s"]
RUN_BY_WORKERS = [*RUN[:-2], "2"]
SOAK = ["soak", "local", "--workload", "tree", "--iterations", "1000"]


SELFTEST = ["selftest", "--layer", "wire", "-k", "walk", "--jobs", "2"]


@pytest.mark.parametrize(
    ("arguments", "moment", "number", "again"),
    [
        (["--help"], "import assay9.cli", INT, False),
        (["doctor", "--quick"], "import click", TERM, False),
        (["doctor", "--quick"], "import assay9.doctor", INT, True),
        (["doctor", "--quick"], "subprocess.Popen dpkg-query", HUP, True),
        (["guest", "build", "debian12"], "import guests.images.build", TERM, False),
        (["guest", "build", "debian12"], "subprocess.Popen mmdebstrap", INT, True),
        (["guest", "list"], "exit", TERM, False),
        (SOAK, "import soak.run", TERM, True),
        (SOAK, "sqlite3.connect journal", INT, False),
        (SOAK, "subprocess.Popen unshare", TERM, True),
        (RUN, "import pytest", INT, False),
        (RUN, "import conformance.run.start", TERM, True),
        (RUN, "open environment.json", INT, False),
        (RUN, "open cases-main.jsonl", HUP, True),
        (RUN, "open record.json", INT, True),
        (RUN, "open junit.xml", TERM, True),
        (RUN, "exit", INT, False),
        (RUN_BY_WORKERS, "subprocess.Popen /usr/bin/env", TERM, False),
        (RUN_BY_WORKERS, "subprocess.Popen /usr/bin/env", INT, True),
    ],
)
def test_the_exit_status_says_which_signal_it_was(
    arguments: list[str],
    moment: str,
    number: signal.Signals,
    again: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "build" in arguments:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = signalled(arguments, moment, number, tmp_path, again=again)
    assert done.returncode == STATUS[number], done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for run_dir in tmp_path.glob("results/2*"):
        assert (run_dir / "record.json").exists()


def test_a_signal_that_is_ignored_from_the_start_stays_ignored(tmp_path: Path) -> None:
    for number, status in ((INT, 0), (TERM, 143)):
        done = signalled(["guest", "list"], "import guests.cli", number, tmp_path, prepare=ignoring_interrupts)
        assert done.returncode == status, done.stderr


@pytest.mark.parametrize(
    ("moment", "number", "again"),
    [
        ("open test_walk.py", INT, False),
        ("tempfile.mkdtemp assay9-mutant-", TERM, True),
        ("subprocess.Popen reference_server", TERM, False),
        ("subprocess.Popen reference_server", INT, True),
    ],
)
def test_a_self_test_ends_with_all_that_it_started(
    moment: str, number: signal.Signals, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    done = signalled(SELFTEST, moment, number, tmp_path, again=again)
    assert done.returncode == STATUS[number], done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    machines = place / f"assay9-{os.getuid()}"
    left = [path for path in place.rglob("*") if path not in (machines, machines / "running")]
    assert left == [], "only the directories of the user's machines stay, empty"
    assert "share" not in done.stdout, "it went on to its end"
