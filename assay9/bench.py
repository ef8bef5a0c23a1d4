"""`assay9 bench`: check the request, measure, print the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from conformance.errors import UsageError
from conformance.evidence.record import find_run
from conformance.options import results_option
from conformance.performance import nfs4
from conformance.performance.judging import judge
from conformance.performance.measures import GROUPS, chosen, packages
from conformance.performance.record import load_bench
from conformance.performance.run import PAGE
from conformance.performance.run import bench as measured_run
from conformance.performance.subjects import NFS_EXPORT_MB, check_nfs4
from conformance.performance.text import text
from conformance.run.preflight import check_environment, check_results
from conformance.sut.asked import asked_of, check
from conformance.sut.command_line import WORD, GroupedCommand, options_of_kinds, under
from conformance.sut.load import load
from conformance.sut.options import Load
from conformance.sut.registry import kind_of
from guests.host.activity import shown

measure = under("What is measured")


@click.command(cls=GroupedCommand)
@click.argument("target", type=WORD)
@measure(
    "--against",
    type=WORD,
    metavar="OTHER",
    help="Another target, or nfs4: NFS 4.2 from the same directory (nfs-ganesha).",
)
@measure(
    "--baseline",
    type=WORD,
    metavar="RUN",
    help="An earlier benchmark of the target: exit as `assay9 gate --baseline RUN` does.",
)
@measure(
    "--only",
    "works",
    multiple=True,
    type=WORD,
    metavar="WORK",
    help="Only this kind of work: stat, create, read, untar, ... (repeatable).",
)
@measure(
    "--group",
    "groups",
    multiple=True,
    type=WORD,
    help=f"Only this group: {', '.join(GROUPS)} (repeatable).",
)
@measure(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=15,
    show_default=True,
    help="Turns of each subject. 15 are enough for a gate over all measures with 99 %.",
)
@measure(
    "--seconds",
    type=click.FloatRange(0.001, 600),
    default=0.1,
    show_default=True,
    help="Approximate length of a turn.",
)
@options_of_kinds
@results_option(measure)
def bench(
    target: str,
    against: str | None,
    baseline: str | None,
    works: tuple[str, ...],
    groups: tuple[str, ...],
    rounds: int,
    seconds: float,
    results: Path,
    options: Mapping[str, Any],
) -> None:
    """Measure how fast TARGET's share is, as ratios.

    In one guest the share is measured beside the guest's own file system, and with --against beside another target's
    share, in turns of a fraction of a second, so that other load on the host affects all of them alike. Options that
    choose a guest or a server apply to TARGET.

    \b
    assay9 bench qemu                               the share beside the guest's own file system
    assay9 bench qemu-next --against reference-qemu both devices in one guest
    assay9 bench qemu --against nfs4 --group data
    assay9 gate bench-qemu --slower 20 --confidence 99

    Exit status: 0 measured, 2 usage, 3 the infrastructure failed; with --baseline as `assay9 gate`.
    """
    measures = chosen(works, groups)
    before = load_bench(find_run(baseline, results)) if baseline else None
    with shown("checking the command line"):
        nfs, wanted = against == nfs4.NAME, packages(measures)
        needs = Load(packages=wanted, export_mb=NFS_EXPORT_MB if nfs else 0, reaches_host=nfs)
        asked = asked_of(load(target), options, load=needs)
        other = None if against is None or nfs else asked_of(load(against), {}, load=Load(packages=wanted))
        for one in filter(None, (asked, other)):
            if not kind_of(one.target).mounts:
                raise UsageError(f"target {one.target.name} has no share to mount: take another target")
            check(one)
        if nfs:
            check_nfs4(asked)
        check_environment()
        check_results(results)
    with shown() as progress:
        run_dir = measured_run(
            asked,
            nfs4.NAME if nfs else other,
            measures,
            name=target,
            rounds=rounds,
            seconds=seconds,
            results=results,
            progress=progress,
        )
    record = load_bench(run_dir)
    click.echo(text(record), nl=False)
    click.echo(f"page:   {run_dir / PAGE}")
    if before is not None:
        judgement = judge(record, before)
        click.echo(judgement.why)
        raise SystemExit(judgement.status)
