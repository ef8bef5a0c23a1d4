"""`assay9 run --repeat` and `--retry-failed`: runs of the same cases in separate processes, merged into one."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.models import Record
from conformance.evidence.record import RunWriter, load_run
from conformance.gating.gate import exit_status
from conformance.gating.tries import joined
from conformance.pytest_session.selection import write_only
from conformance.reports.terminal import summary
from conformance.reports.write import write_reports

_RETRIED = frozenset({"fail", "fixed", "error"})
_INTERRUPTED = (130, 143)


class Tries:
    """Runs of one command, each in its own directory below the results; `finish` merges them into one run."""

    def __init__(self, words: Sequence[str], results: Path, seconds: float | None) -> None:
        results.mkdir(parents=True, exist_ok=True)
        self._words, self._results = list(words), results
        self._until = time.monotonic() + seconds if seconds is not None else None
        self._place = Path(tempfile.mkdtemp(prefix=".tries-", dir=results))
        self._dirs: list[Path] = []
        self.records: list[Record] = []

    def run(self, *more: str) -> int:
        """Run once more; returns the exit status. A failure before there is a record ends everything."""
        place = self._place / str(len(self._dirs) + 1)
        words = [*self._words, *more, "--results", str(place)]
        if self._until is not None:
            words += ["--limit", f"{max(1, round(self._until - time.monotonic()))}s"]
        click.echo(f"assay9: try {len(self._dirs) + 1}", err=True)
        status = subprocess.call([sys.executable, "-m", "assay9", "run", *words])
        made = (place / "latest").resolve()
        if not made.is_dir():
            shutil.rmtree(self._place, ignore_errors=True)
            raise SystemExit(status)
        self._dirs.append(made)
        self.records.append(load_run(made))
        return status

    def retry(self) -> int | None:
        """Run the failed cases once more; None if there are none."""
        keys = [r.key for r in self.records[-1].results if r.verdict in _RETRIED]
        if not keys:
            return None
        only = self._place / "only.json"
        write_only(keys, only)
        return self.run("--only", str(only))

    def finish(self) -> int:
        """One record of all runs, with its reports, in its own directory; returns the exit status."""
        whole = joined(self.records)
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        environment = whole.environment.model_copy(update={"command": command, "ended": datetime.now(UTC)})
        writer = RunWriter.create(self._results.absolute(), environment)
        try:
            record = writer.copy(whole)
            for number, directory in enumerate(self._dirs, 1):
                shutil.move(directory, writer.run_dir / f"try-{number}")
        except OSError as e:
            raise InfrastructureError(
                f"the tries cannot be joined: {e.strerror}", f"they are in {self._place}"
            ) from None
        shutil.rmtree(self._place, ignore_errors=True)
        write_reports(writer.run_dir)
        click.echo(summary(record, writer.run_dir), nl=False)
        return exit_status(record)


def repeated(words: Sequence[str], results: Path, times: int, seconds: float | None) -> int:
    """The same run so many times, each in another random order; returns the exit status of all."""
    tries = Tries(words, results, seconds)
    for number in range(1, times + 1):
        if tries.run("--order", str(number)) in _INTERRUPTED:
            break
    return tries.finish()


def retried(words: Sequence[str], results: Path, seconds: float | None) -> int:
    """The run, and its failed cases once more."""
    tries = Tries(words, results, seconds)
    if tries.run() not in _INTERRUPTED:
        tries.retry()
    return tries.finish()


_VALUED = frozenset({"-k", "--family", "--only", "--rerun", "--results", "--repeat", "--order", "--limit"})
_FLAGS = frozenset({"--retry-failed", "--all", "--lf", "--last-failed"})


def words_of(record: Record) -> list[str]:
    """The arguments of `assay9 run` in a run's command, without those that select cases or the place of the results.

    Raises UsageError if the record does not have it.
    """
    try:
        words = shlex.split(record.environment.command)
    except ValueError:
        words = []
    if "run" not in words[:2]:
        raise UsageError(f"--rerun: the record has no command of `assay9 run`: {record.environment.command!r}")
    kept, skip = [], False
    for word in words[words.index("run") + 1 :]:
        if skip:
            skip = False
        elif word in _VALUED:
            skip = True
        elif word not in _FLAGS and word.partition("=")[0] not in _VALUED:
            kept.append(word)
    return kept


def unexpected_of(record: Record) -> list[tuple[str, str]]:
    """The cases of a run for --rerun. Raises UsageError if there are none."""
    keys = [
        r.key
        for r in record.results
        if r.verdict in ("fixed", "error", "unstable") or (r.verdict == "fail" and r.severity != "varies")
    ]
    if not keys:
        raise UsageError("--rerun: that run has no unexpected result")
    return keys
