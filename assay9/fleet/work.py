"""One matrix, from its plan to the merged runs: outcomes are kept, shown, and merged as soon as a job is complete."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from assay9.fleet.engine import Fleet
from assay9.fleet.page import write_page
from assay9.fleet.shards import Outcome, unpacked
from assay9.plan import as_bytes, join
from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.overview import count, duration, overview
from guests.host import signals
from soak.cli import STATUS
from soak.report.together import together, write_together

INFRASTRUCTURE = 3
_WORST = (1, 2, 3)
"""Exit statuses, the gravest first: a case is worse; a shard was refused; a machine broke."""
_PAGE_SECONDS = 2.0
"""Between two pages of progress, at least."""


class Work:
    """The outcomes so far, and what is left."""

    def __init__(self, plan: dict[str, Any], results: Path) -> None:
        self._shards: dict[str, dict[str, Any]] = plan["shards"]
        self._plan, self._results = as_bytes(plan), results
        self._place = results / f"fleet-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        self.scratch = self._place / "scratch"
        """Where workers on this machine keep their files while they run."""
        self._ended: dict[str, tuple[Outcome, Path | None]] = {}
        self._joined: dict[str, str] = {}
        self._statuses: set[int] = set()
        self._page_at = 0.0
        self._left: dict[str, set[str]] = defaultdict(set)
        for name, shard in self._shards.items():
            self._left[shard["job"]].add(name)

    def run(self, fleet: Fleet, more: list[str]) -> int:
        """Run all shards; returns the exit status of the whole. Raises InfrastructureError if the disk fails."""
        wanted = {name: shard["tags"] for name, shard in self._shards.items()}
        without = fleet.check(wanted)
        for worker, why in fleet.unable.items():
            click.echo(
                f"assay9: worker {worker} gets no shards, because it cannot import the suite ({why}): install "
                "assay9[fleet] there",
                err=True,
            )
        for tags in without:
            click.echo(f"assay9: no worker has {tags} yet: the shards that need it wait", err=True)
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            (self._place / "plan.json").write_bytes(self._plan)
            self._page(done=False)
            click.echo(f"{count(len(wanted), 'shard')}; progress: {self._place / 'index.html'}", err=True)
            with contextlib.closing(fleet.shards(self._plan, wanted, more)) as outcomes:
                try:
                    for outcome in outcomes:
                        self._came(outcome)
                except KeyboardInterrupt:
                    signals.finishing()
                    click.echo("assay9: cancelling: the shards that run end their guests", err=True)
                    raise
        except OSError as e:
            raise InfrastructureError(
                f"{e.filename or self._place} cannot be written: {e.strerror or e}",
                "make room, or name other --results",
            ) from None
        finally:
            with contextlib.suppress(OSError):
                self._page(done=True)
        return next((status for status in _WORST if status in self._statuses), 0)

    def _came(self, outcome: Outcome) -> None:
        """Keep an outcome; merge the job if it was the last."""
        place = unpacked(outcome, self._place)
        self._ended[outcome.name] = outcome, place
        said = f": {outcome.said}" if outcome.status and place is None else ""
        where = f" on {outcome.host}" if outcome.host else ""
        click.echo(
            f"{len(self._ended)}/{len(self._shards)} {outcome.name}: exit status {outcome.status}, "
            f"{duration(outcome.seconds)}{where}{said}",
            err=True,
        )
        job = self._shards[outcome.name]["job"]
        self._left[job].remove(outcome.name)
        if not self._left[job]:
            self._join(job)
        self._page(done=False)

    def _join(self, job: str) -> None:
        """One run, or one report over soaks, of the job's shards."""
        names = [name for name, shard in self._shards.items() if shard["job"] == job]
        places = {name: self._ended[name] for name in names}
        lost = [name for name, (_, place) in places.items() if place is None]
        if lost:
            self._statuses.update(places[name][0].status or INFRASTRUCTURE for name in lost)
            self._say(job, f"not joined: {count(len(lost), 'shard')} left no record, {lost[0]} first")
            return
        directories = [place for _, place in places.values() if place is not None]
        try:
            if "soak" in self._shards[names[0]]:
                whole = together(directories)
                write_together(whole, self._place / job)
                self._statuses.add(STATUS[whole.verdict])
                self._say(job, f"{whole.sentence()}; {self._place / job / 'report.html'}")
            else:
                record, run_dir = join(directories, self._results)
                seen = overview(record)
                self._statuses.add(seen.status)
                self._say(job, f"{seen.sentence}; {run_dir / 'report.html'}")
        except UsageError as e:
            self._statuses.add(INFRASTRUCTURE)
            self._say(job, f"not joined: {e}")

    def _say(self, job: str, line: str) -> None:
        self._joined[job] = line
        click.echo(f"{job}: {line}")

    def _page(self, *, done: bool) -> None:
        """Write the progress page, but not too often."""
        if done or time.monotonic() >= self._page_at:
            write_page(self._place, len(self._shards), self._ended, self._joined, done=done)
            self._page_at = time.monotonic() + max(_PAGE_SECONDS, len(self._ended) / 100)
