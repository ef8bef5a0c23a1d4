"""`assay9 fleet`: a matrix of runs and soaks on many machines, by dask.distributed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import click

from assay9.plan import durations_of, planned, read_matrix
from assay9.run import default_jobs
from conformance.errors import UsageError
from conformance.options import durations_option, results_option
from conformance.run.preflight import check_results


@click.group()
def fleet() -> None:
    """Run a matrix on many machines, by dask.distributed (optional: pip install 'assay9[fleet]')."""


@fleet.command("run")
@click.argument("matrix", type=click.Path(path_type=Path))
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="A dask scheduler, tcp://HOST:PORT. Without it, workers start on this machine.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Workers on this machine. Default: one per core, at most four.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    help="What this machine has: kvm, ssh:host (repeatable). Root is detected.",
)
@durations_option
@results_option()
def fleet_run(
    matrix: Path,
    scheduler: str | None,
    workers: int | None,
    tags: tuple[str, ...],
    runs: tuple[str, ...],
    results: Path,
) -> None:
    """Run all of MATRIX, the file of `assay9 plan`, and join the records of its shards.

    Each shard is a task with its tags as worker resources. A shard whose worker dies is restarted on another; Ctrl-C
    cancels all and ends their guests. The results of the shards are copied to results/fleet-<time>/, with a progress
    page; each job is merged into one run, and the soaks of one target into one report.

    \b
    assay9 fleet run matrix.toml                               on this machine
    dask scheduler
    dask worker tcp://HOST:8786 --nthreads 1 --resources "kvm=1 root=1"
    assay9 fleet run matrix.toml --scheduler tcp://HOST:8786   on others

    Exit status: 1 if a run or a soak ends with 1; else 2 if a shard was refused, 3 if a machine failed.
    """
    if scheduler is not None and (workers or tags):
        raise UsageError("--workers and --tag describe this machine: with --scheduler each worker states its own")
    plan = planned(read_matrix(matrix), durations_of(runs, results))
    if importlib.util.find_spec("distributed") is None:
        raise UsageError(
            "assay9 fleet needs dask.distributed, which is not installed: pip install 'assay9[fleet]', or start the "
            "shards of `assay9 plan` by other means"
        )
    check_results(results)
    from assay9.fleet.engine import Fleet  # noqa: PLC0415 - not installed everywhere
    from assay9.fleet.work import Work  # noqa: PLC0415 - not installed everywhere

    number = workers or default_jobs()
    here = [*tags, *(["root"] if os.geteuid() == 0 else [])]
    # The guests of all workers here share its cores.
    more = [] if scheduler else [f"--jobs={max(1, default_jobs() // number)}"]
    work = Work(plan, results.absolute())
    with Fleet(scheduler, number, here, work.scratch) as running:
        raise SystemExit(work.run(running, more))
