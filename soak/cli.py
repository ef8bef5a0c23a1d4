"""`assay9 soak`: start a run, resume it, show its state, write its reports."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from conformance.errors import UsageError
from conformance.options import results_option
from conformance.run.preflight import check_environment, check_results
from conformance.sut.asked import asked_of, check
from conformance.sut.command_line import options_of_kinds
from conformance.sut.kind import CAPABILITIES
from conformance.sut.load import load
from conformance.sut.options import Load
from conformance.sut.registry import kind_of
from conformance.sut.spec import Target
from conformance.vfs.mount_options import for_all_cases
from soak import journal as journals
from soak.faults import KINDS
from soak.faults import check as check_faults
from soak.judges import ACCEPTABLE
from soak.plan import Plan, duration, jobs_of, seconds_of
from soak.report.text import text_of
from soak.report.together import text_of_all, together, write_together
from soak.report.write import write
from soak.run import Runner, active_seconds, check_resumable
from soak.settings import limit_of, settings_of
from soak.view import View
from soak.workloads import DEFAULT, WORKLOADS, find
from soak.workloads.kind import Workload

EXPORT_MB = 8192
"""Size of the export's own file system where it is to be filled, in MiB; the file behind it is sparse."""

EVERY = "5m"

STATUS = {"pass": 0, "fail": 1, "unknown": 3}
"""Verdict -> exit status."""


class DefaultGroup(click.Group):
    """A group whose command `run` need not be named: `soak qemu` is `soak run qemu`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=DefaultGroup, context_settings={"help_option_names": ["-h", "--help"]})
def soak() -> None:
    """Load a share for hours or days, and record what happens.

    \b
    assay9 soak qemu --for 24h               the default workload on QEMU's virtio-9p
    assay9 soak qemu --workload tree --workload integrity --iterations 20
    assay9 soak resume latest                continue after kill -9 or a power cut
    assay9 soak status latest                show its state
    assay9 soak report latest                write the reports again from the journal
    assay9 soak merge RUN1 RUN2              one report over the soaks of several machines
    """


@soak.command()
@click.argument("target")
@click.option(
    "--workload", "workloads", multiple=True, metavar="NAME", help=f"What to run (repeatable): {', '.join(WORKLOADS)}."
)
@click.option("--for", "length", metavar="TIME", help="Length of the run, e.g. 30m or 24h. Default: 24h.")
@click.option("--iterations", type=click.IntRange(1), help="End after this many iterations of each workload.")
@click.option("--first", type=click.IntRange(0), default=0, help="Number of the first iteration, to repeat one.")
@click.option("--seed", type=int, help="The seed of everything random; the report names it.")
@click.option(
    "--shares",
    type=click.IntRange(1, 4),
    default=1,
    show_default=True,
    help="Spread the workloads over this many shares of the guest.",
)
@click.option("--mount", default="", help="Mount options, e.g. cache=mmap,msize=512000.")
@click.option(
    "--sample",
    "sample_seconds",
    type=click.FloatRange(0.5),
    default=10.0,
    show_default=True,
    help="Seconds between two samples of the monitors.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="WORKLOAD.KEY=VALUE",
    help="An option of a workload, e.g. tree.steps=1000 (repeatable).",
)
@click.option("--unit", help="What one build is: auto, vmlinux, DIR or objects:N (short for --set kernel-build.unit=).")
@click.option(
    "--fault", "faults", multiple=True, metavar="NAME", help=f"Inject this fault (repeatable): {', '.join(KINDS)}."
)
@click.option("--fault-every", metavar="TIME", help=f"Mean time between two faults. Default: {EVERY}.")
@click.option(
    "--accept-unknown",
    multiple=True,
    type=click.Choice(ACCEPTABLE),
    help="Let the run pass while this judge says unknown, as in a short run (repeatable).",
)
@functools.partial(options_of_kinds, soak=True)
@results_option()
def run(
    target: str,
    workloads: tuple[str, ...],
    length: str | None,
    iterations: int | None,
    first: int,
    seed: int | None,
    shares: int,
    mount: str,
    sample_seconds: float,
    settings: tuple[str, ...],
    unit: str | None,
    faults: tuple[str, ...],
    fault_every: str | None,
    accept_unknown: tuple[str, ...],
    results: Path,
    options: Mapping[str, Any],
) -> None:
    """Start a run on TARGET (a name of `assay9 targets`, or the path of a TOML file)."""
    loaded = load(target)
    names = list(workloads) or [DEFAULT]
    needs = _needs([find(name) for name in names], faults)
    _check_shares(loaded, names, shares)
    for_all_cases(mount)
    check_faults(list(faults), kind_of(loaded), os.geteuid() == 0)
    if fault_every is not None and not faults:
        raise UsageError("--fault-every has no effect without --fault: add one, or leave it out")
    chosen = settings_of(settings, unit, names)
    plan = Plan(
        target=target,
        options=options,
        load=needs,
        jobs=jobs_of(names, shares, chosen),
        mount=mount,
        seed=secrets.randbelow(1 << 32) if seed is None else seed,
        seconds=limit_of(length, iterations, first),
        iterations=iterations,
        first=first,
        sample_seconds=sample_seconds,
        faults=list(faults),
        fault_seconds=seconds_of(fault_every or EVERY, "--fault-every"),
        accept_unknown=list(dict.fromkeys(accept_unknown)),
        version=importlib.metadata.version("assay9"),
    )
    check_environment()
    check_results(results)
    check(asked_of(loaded, options, load=needs))  # last, because it queries machines that may be remote
    run_dir = _new_place(results, loaded.name)
    with journals.create(run_dir, plan.model_dump()) as journal:
        click.echo(f"run {run_dir}, seed {plan.seed}, {plan.limit()}", err=True)
        work(journal)


def _check_shares(target: Target, workloads: Sequence[str], shares: int) -> None:
    """Raises UsageError for a target that cannot be soaked, or not on so many shares by these workloads."""
    kind = kind_of(target)
    if not kind.mounts:
        raise UsageError(
            f"target {target.name} is of kind {target.kind}, which has no share to mount: take another target"
        )
    if "soak" not in kind.capabilities:
        raise UsageError(
            f"target {target.name} cannot be soaked, which needs {CAPABILITIES['soak']}: take another target"
        )
    if shares > 1 and "several-shares" not in kind.capabilities:
        raise UsageError(f"target {target.name} has one share: leave --shares out")
    if shares > len(workloads):
        raise UsageError(
            f"--shares {shares}: {len(workloads)} workloads leave some shares idle: name at least as many with "
            "--workload (the same one may be named again)"
        )


def _needs(workloads: Sequence[Workload], faults: Sequence[str]) -> Load:
    """What the workloads and faults need of the target."""
    return Load(
        packages=tuple(sorted({package for one in workloads for package in one.packages})),
        memory_mb=max(one.memory_mb for one in workloads),
        export_mb=EXPORT_MB if "full" in faults else 0,
    )


def _new_place(results: Path, name: str) -> Path:
    """The directory of a run that begins now. It does not exist yet."""
    place = results / f"soak-{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    return place.with_name(f"{place.name}-{secrets.token_hex(2)}") if place.exists() else place


@soak.command()
@click.argument("run_name", metavar="RUN")
@results_option()
def resume(run_name: str, results: Path) -> None:
    """Continue RUN after it was killed or interrupted: same journal, same seed, a fresh guest."""
    with journals.open_existing(found(run_name, results), writable=True) as journal:
        check_resumable(journal)
        work(journal)


@soak.command()
@click.argument("run_name", metavar="RUN", default="latest")
@click.option("--follow", is_flag=True, help="Show it again every few seconds until it ends.")
@results_option()
def status(run_name: str, follow: bool, results: Path) -> None:
    """Show the state of RUN."""
    run_dir = found(run_name, results)
    while True:
        with journals.open_existing(run_dir, writable=False) as journal:
            running = journals.in_use(run_dir)
            for line in standing(journal, running):
                click.echo(line)
        if not (follow and running):
            return
        time.sleep(5)


@soak.command()
@click.argument("run_name", metavar="RUN", default="latest")
@results_option()
def report(run_name: str, results: Path) -> None:
    """Write the reports of RUN again from its journal, even while it runs; print the text block."""
    with journals.open_existing(found(run_name, results), writable=False) as journal:
        raise SystemExit(conclude(journal))


@soak.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@results_option()
def merge(runs: tuple[str, ...], results: Path) -> None:
    """Write one report over soaks of one target on several machines, each with its own journal.

    The report is results/soak-<time>-<target>-together; `assay9 report --soak` accepts it like a run. Runs of another
    target, version, mount, workload or fault are refused, and so are duplicates and runs in progress.
    """
    whole = together([found(name, results) for name in runs])
    target = Path(whole.machines[0].facts.plan.target).stem
    place = _new_place(results, f"{target}-together")
    write_together(whole, place)
    click.echo(text_of_all(whole), nl=False)
    click.echo(f"report: {place / 'report.html'}", err=True)
    raise SystemExit(STATUS[whole.verdict])


def standing(journal: journals.Journal, running: bool) -> list[str]:
    """The state of a run in a few lines."""
    plan, finished = Plan.of(journal.plan), journal.events("finished")
    state = "running" if running else f"finished: {finished[-1].data['why']}" if finished else "stopped; can be resumed"
    lines = [
        f"{journal.run_dir.name}  {state}",
        f"  {plan.target}, seed {plan.seed}, {duration(active_seconds(journal))} of {plan.limit()}",
    ]
    iterations = journal.iterations()
    for job in plan.jobs:
        mine = [i for i in iterations if i.workload == job.instance]
        counts = {o: sum(1 for i in mine if i.outcome == o) for o in ("pass", "fail", "error")}
        lines.append(f"  {job.instance}: " + ", ".join(f"{n} {o}" for o, n in counts.items() if n or o == "pass"))
    troubles = journal.events("trouble", "console")
    lines += [f"  last trouble: {str(troubles[-1].data)[:150]}"] if troubles else []
    return lines


def work(journal: journals.Journal) -> NoReturn:
    """Run one session, conclude it, and end this process with its exit status."""
    try:
        Runner(journal, View()).run()
    except KeyboardInterrupt:
        click.echo(f"interrupted; `assay9 soak resume {journal.run_dir}` continues it", err=True)
        raise
    raise SystemExit(conclude(journal))


def conclude(journal: journals.Journal) -> int:
    """Write the reports and print their verdict; returns the exit status."""
    facts = write(journal)
    click.echo(text_of(facts), nl=False)
    click.echo(f"report: {journal.run_dir / 'report.html'}", err=True)
    return STATUS[facts.verdict]


def found(name: str, results: Path) -> Path:
    """The directory of a run: a path, a name below the results, or `latest`. Raises UsageError."""
    if name == "latest":
        runs = sorted(p.parent for p in results.glob(f"soak-*/{journals.FILE}"))
        if not runs:
            raise UsageError(f"no soak run in {results}: start one with `assay9 soak TARGET`")
        return runs[-1]
    for path in (Path(name), results / name):
        if path.is_dir():
            return path
    raise UsageError(f"no run {name!r} here or in {results}: `ls {results}` lists the runs")
