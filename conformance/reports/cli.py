"""The commands `assay9 report`, the reports of a run made anew from its record, and `assay9 compare`, two runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from conformance.errors import UsageError
from conformance.evidence.changes import as_json, as_text, changes
from conformance.evidence.gate import exit_status
from conformance.evidence.record import load_run
from conformance.reports.terminal import summary as terminal_summary
from conformance.reports.ticket.text import text
from conformance.reports.write import DEFAULT, REPORTS, write_reports


@click.command()
@click.argument("run", default="latest")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(list(REPORTS)),
    help="Only this report (repeatable); without it all but allure.",
)
@click.option("--print", "printed", is_flag=True, help="Print the text for a ticket instead of writing files.")
@click.option("--full", is_flag=True, help="With --print: all of it, without the limit of 120 lines.")
@click.option("--soak", metavar="RUN", help="Add the result of a soak run to the text for a ticket.")
@click.option("--gate", is_flag=True, help="End with the run's own exit status, for CI.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where run directories are.",
)
def report(
    run: str, kinds: tuple[str, ...], printed: bool, full: bool, soak: str | None, gate: bool, results: Path
) -> None:
    """Make the reports of RUN again from its record, and print the summary.

    RUN is a run's directory, its name in the results directory, a target (its newest run), or `latest`. A run that
    was killed has no report yet: what had finished by then is reported, and the report says that it was interrupted.

    \b
    assay9 report                         the newest run
    assay9 report latest --print          the text for a ticket, on standard output
    assay9 report qemu --soak soak-20260101-180000-qemu --kind rti
    assay9 report results/20260101T000000Z-qemu --kind junit
    assay9 report --kind allure           allure-results, some files for each case
    """
    run_dir = find_run(run, results)
    record = load_run(run_dir)
    soaked = find_run(soak, results) if soak else None
    if full and not printed:
        raise UsageError("--full is for --print: rti.txt itself keeps to 120 lines")
    if printed:
        click.echo(text(record, run_dir.absolute(), whole=full, soak=soaked), nl=False)
    else:
        written = write_reports(run_dir, kinds or DEFAULT, soak=soaked)
        click.echo(terminal_summary(record, run_dir), nl=False)
        for path in written:
            click.echo(f"wrote {path}")
    raise SystemExit(exit_status(record) if gate else 0)


@click.command()
@click.argument("before")
@click.argument("after", default="latest")
@click.option("--json", "as_data", is_flag=True, help="For programs.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where run directories are.",
)
def compare(before: str, after: str, as_data: bool, results: Path) -> None:
    """Show what changed from run BEFORE to run AFTER, case by case.

    Each is a run's directory, its name in the results directory, a target (its newest run), or `latest`.

    \b
    assay9 compare qemu qemu-next        what a newer QEMU does better, worse, or otherwise
    """
    seen = changes(*(load_run(find_run(name, results)) for name in (before, after)))
    click.echo(json.dumps(as_json(seen), indent=2) if as_data else as_text(seen), nl=as_data)


def find_run(name: str, results: Path) -> Path:
    """The directory of a run. Raises UsageError where there is none of that name."""
    of_target = sorted(results.glob(f"*Z-{name}")) if "/" not in name else []
    for path in (results / name, *of_target[-1:], Path(name)):
        if path.is_dir():
            return path.resolve()
    if name == "latest":
        raise UsageError(f"no run in {results}: start one with `assay9 run TARGET`, or name another --results")
    raise UsageError(f"no run {name!r} here or in {results}: `ls {results}` shows those there are")
