"""The commands that read records: `assay9 report`, `compare`, `gate` and `baseline`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.manifest import NAME, changed
from conformance.evidence.models import Record
from conformance.evidence.overview import count, overview
from conformance.evidence.record import find_run, load_run
from conformance.gating.baseline import Baseline, baseline_of, load_baseline, save
from conformance.gating.changes import as_data, as_text, changes
from conformance.gating.gate import exit_status
from conformance.gating.gate import gate as judge
from conformance.options import json_option, results_option
from conformance.performance.judging import CONFIDENCE, SLOWER
from conformance.performance.judging import judge as judge_bench
from conformance.performance.record import is_bench, load_bench
from conformance.reports.beside import labels, side_by_side, verdict_text
from conformance.reports.markdown import workflow_commands
from conformance.reports.terminal import summary as terminal_summary
from conformance.reports.ticket.text import text
from conformance.reports.write import DEFAULT, REPORTS, write_reports
from guests.host.activity import shown


@click.command()
@click.argument("run", default="latest")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(list(REPORTS)),
    help="Only this report (repeatable). Without it html, rti and junit.",
)
@click.option("--print", "printed", is_flag=True, help="Print the text for a ticket instead of writing files.")
@click.option("--full", is_flag=True, help="With --print: all of it, without the limit of 120 lines.")
@click.option("--soak", metavar="RUN", help="Add the result of a soak run to the text for a ticket.")
@click.option(
    "--baseline",
    "beside",
    metavar="RUN|FILE",
    help="In the text for a ticket, compare with this run, or with this file of `assay9 baseline save`.",
)
@click.option("--annotate", is_flag=True, help="Print what is unexpected as annotations of GitHub Actions, too.")
@click.option("--gate", is_flag=True, help="End with the run's own exit status, for CI.")
@results_option()
def report(
    run: str,
    kinds: tuple[str, ...],
    printed: bool,
    full: bool,
    soak: str | None,
    beside: str | None,
    annotate: bool,
    gate: bool,
    results: Path,
) -> None:
    """Write the reports of RUN again from its record, and print the summary.

    RUN is a run's directory, its name in the results directory, a target (its newest run), or `latest`. A run that was
    killed has no report yet: the cases that had finished are reported, and the report says that it was interrupted.

    \b
    assay9 report                         the newest run
    assay9 report latest --print          the text for a ticket, on standard output
    assay9 report qemu --soak soak-20260101-180000-qemu --baseline qemu.baseline.json --kind rti
    assay9 report results/20260101T000000Z-qemu --kind junit
    assay9 report --kind allure           allure-results, several files for each case
    """
    run_dir = find_run(run, results)
    writes = frozenset() if printed else frozenset(REPORTS[kind][0] for kind in kinds or DEFAULT)
    (record,) = read_runs([run], results, writes)
    soaked = find_run(soak, results) if soak else None
    then = _beside(beside, record, results) if beside else None
    if full and not printed:
        raise UsageError("--full is for --print: rti.txt itself keeps to 120 lines")
    if printed:
        click.echo(text(record, run_dir.absolute(), whole=full, soak=soaked, baseline=then), nl=False)
    else:
        with shown("writing the reports"):
            written = write_reports(run_dir, kinds or DEFAULT, soak=soaked, baseline=then)
        click.echo(terminal_summary(record, run_dir), nl=False)
        for path in written:
            click.echo(f"wrote {path}")
    for line in workflow_commands(record) if annotate else ():
        click.echo(line)
    raise SystemExit(exit_status(record) if gate else 0)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--fail-on",
    type=click.Choice(["worse", "change"]),
    help="Exit status 1 when a case is worse in a later run than in the first, or differs at all.",
)
@json_option
@results_option()
def compare(runs: tuple[str, ...], fail_on: str | None, as_json: bool, results: Path) -> None:
    """Compare two or more RUNs of the same cases.

    Each is a run's directory, its name in the results directory, a target (its newest run), or `latest`, which also
    stands for the second run where one is named. Of two runs each change is listed; of more, families are the rows,
    runs the columns, and cases that differ between them follow, those with one reason together.

    \b
    assay9 compare qemu qemu-next        what a newer QEMU does better, worse, or otherwise
    assay9 compare before after --fail-on worse    exit status 1 where something got worse
    assay9 compare qemu diod ganesha     implementations beside each other
    """
    names = runs if len(runs) > 1 else (*runs, "latest")
    records = read_runs(names, results)
    seen = [changes(records[0], later) for later in records[1:]]
    if as_json and len(records) > 2:
        raise UsageError("--json compares two runs: name both, or leave it out")
    if as_json:
        click.echo(json.dumps(as_data(seen[0]), indent=2))
    else:
        click.echo(as_text(seen[0]) if len(records) == 2 else side_by_side(records, labels(records)), nl=False)
    failing = {"worse": any(one.of("worse") for one in seen), "change": any(one.differing for one in seen)}
    raise SystemExit(1 if fail_on is not None and failing[fail_on] else 0)


@click.command()
@click.argument("run", default="latest")
@click.option(
    "--baseline",
    metavar="RUN|FILE",
    help="Compare with this run, or this file of `assay9 baseline save`: what failed there is no regression.",
)
@click.option(
    "--min-judged",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Give no verdict (exit status 3) when fewer cases than this judged the target.",
)
@click.option(
    "--slower",
    type=click.FloatRange(0, 10000),
    metavar="PERCENT",
    help=f"Of a benchmark: how much slower a measure may be. Default: {SLOWER * 100:.0f}.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(50, 99.999),
    metavar="PERCENT",
    help=f"Of a benchmark: how sure a difference must be. Default: {CONFIDENCE * 100:.0f}.",
)
@results_option()
def gate(
    run: str,
    baseline: str | None,
    min_judged: int,
    slower: float | None,
    confidence: float | None,
    results: Path,
) -> None:
    """Judge RUN for CI, and say why in a screenful.

    Exit status: 0 nothing regressed; 1 a case is worse than in the baseline (it passed and is now known, failing, not
    drivable, an error or missing), fails and is new, is unstable, or passes though it is declared to fail; 2 wrong
    usage, no such run or baseline; 3 nothing is worse, but the machine broke or too few cases judged the target: try
    again; 130, 143 the run was interrupted. Without --baseline every undeclared failure counts.

    \b
    assay9 baseline save qemu qemu.baseline.json    once, and commit the file
    assay9 run qemu; assay9 gate qemu --baseline qemu.baseline.json

    Of a benchmark (`assay9 bench`): 1 something is slower than the other by more than --slower with that confidence,
    or than in the benchmark that --baseline names; 3 the measurements do not decide it.

    \b
    assay9 gate bench-qemu --slower 20 --confidence 99
    """
    run_dir = find_run(run, results)
    if is_bench(run_dir):
        raise SystemExit(_gate_bench(run_dir, baseline, min_judged, slower, confidence, results))
    if slower is not None or confidence is not None:
        raise UsageError(f"--slower and --confidence are for benchmarks, and {run} is a run of cases: leave them out")
    (record,) = read_runs([run], results)
    beside = _beside(baseline, record, results) if baseline else None
    seen = judge(record, beside, min_judged)
    click.echo(verdict_text(record, seen), nl=False)
    raise SystemExit(seen.status)


def _gate_bench(
    run_dir: Path, baseline: str | None, min_judged: int, slower: float | None, confidence: float | None, results: Path
) -> int:
    """Judge a benchmark and print why; returns the exit status."""
    if min_judged:
        raise UsageError("--min-judged counts cases, and this is a benchmark: leave it out")
    before = load_bench(find_run(baseline, results)) if baseline else None
    seen = judge_bench(
        load_bench(run_dir),
        before,
        SLOWER if slower is None else slower / 100,
        CONFIDENCE if confidence is None else confidence / 100,
    )
    for one in seen.slower:
        click.echo(f"slower: {one.name}: {one.times} times as long")
    click.echo(seen.why)
    return seen.status


@click.group()
def baseline() -> None:
    """Keep the results of a run's cases, to judge later runs against it (`assay9 gate`)."""


@baseline.command("save")
@click.argument("run")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Save it even if the run is incomplete.")
@results_option()
def baseline_save(run: str, file: Path, force: bool, results: Path) -> None:
    """Save RUN as the baseline FILE: JSON, one case a line, meant to be committed.

    A run that was interrupted, or whose machine broke, is refused: it would hide that later runs lose the cases that it
    misses.
    """
    (record,) = read_runs([run], results)
    seen = overview(record)
    if (doubts := seen.doubts) and not force:
        raise UsageError(f"{run} cannot be a baseline: {', '.join(doubts)}; run it again, or add --force")
    made = baseline_of(record)
    try:
        save(made, file)
    except OSError as e:
        raise InfrastructureError(f"{file} cannot be written: {e.strerror}", "name another FILE") from None
    click.echo(f"{file}: {count(len(made.standings), 'case')} of {made.title}")


def read_runs(names: Sequence[str], results: Path, writes: frozenset[str] = frozenset()) -> list[Record]:
    """The records of runs, which takes seconds for thousands of cases. Raises UsageError, see `find_run`.

    `writes`: what is about to be written again there. Every other file must be the one that the run wrote.
    """
    found = [find_run(name, results) for name in names]
    with shown("reading records" if len(found) > 1 else "reading the record"):
        return [unchanged(run_dir, writes) for run_dir in found]


def unchanged(run_dir: Path, writes: frozenset[str] = frozenset()) -> Record:
    """The record of a run none of whose files was changed. Raises UsageError."""
    record = load_run(run_dir)
    try:
        wrong = changed(run_dir, writes)
    except OSError as e:
        raise UsageError(f"{e.filename} cannot be read: {e.strerror}; get the run's directory again") from None
    if wrong is not None:
        kind = next((kind for kind, (name, _) in REPORTS.items() if name == wrong.partition("/")[0]), None)
        remedy = f"`assay9 report {run_dir} --kind {kind}` writes it" if kind else "get the run's directory"
        raise UsageError(
            f"{run_dir / wrong} is not what the run wrote: its SHA-256 is not the one in {NAME}; {remedy} again"
        )
    return record


def _beside(name: str, record: Record, results: Path) -> Baseline:
    """The baseline in a file or run, for this record. Raises UsageError if it is of another target."""
    path = Path(name)
    if path.exists() and not path.is_dir():
        made = load_baseline(path)
    else:
        made = baseline_of(unchanged(find_run(name, results)))
    if made.target != record.environment.target:
        raise UsageError(
            f"{name} is a baseline of target {made.target}, the run is of {record.environment.target}: a run is judged "
            "against a baseline of its own target; `assay9 compare` sets implementations side by side"
        )
    return made
