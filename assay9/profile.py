"""`assay9 profile`: how good the known failures of a target are, and which a run suggests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from conformance.catalogue.library import load_cases
from conformance.evidence.record import find_run, load_run
from conformance.options import json_option, results_option
from conformance.profiles import check as judging
from conformance.profiles.suggest import suggestions
from conformance.sut.load import load, names
from guests.host.activity import shown


@click.group()
def profile() -> None:
    """Check and suggest what targets declare as known failures."""


@profile.command()
@click.argument("target", required=False)
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="RUN",
    help="A run of that target: what its entries really cover (repeatable).",
)
@click.option("--all", "show_all", is_flag=True, help="Show every entry, also those without a remark.")
@json_option
@results_option()
def check(target: str | None, runs: tuple[str, ...], show_all: bool, as_json: bool, results: Path) -> None:
    """Judge the known failures of TARGET, or of all targets: how narrow each is, and what it would hide.

    It names entries for no case, entries without a valid link, entries so wide that they would hide another fault of
    their cases, and, with --run, entries that never match or match much. Exit status 1 if there is one.
    """
    records = [load_run(find_run(run, results)) for run in runs]
    chosen = names() if target is None else [target]
    entries = {
        (e.component, e.reason, tuple(e.cases), tuple(e.codes)): e for name in chosen for e in load(name).profile.known
    }
    with shown("judging each entry by the faults that it would mask"):
        seen = judging.check(list(entries.values()), [c.id for c in load_cases()], records)
    wrong = [one for one in seen if one.problems]
    if as_json:
        click.echo(json.dumps([_as_dict(one) for one in seen], indent=1))
    else:
        for one in seen if show_all else wrong:
            click.echo(_lines(one, counted=bool(runs)))
        widths = ", ".join(f"{sum(one.width == width for one in seen)} {width}" for width in judging.WIDTHS)
        click.echo(f"{len(seen)} known failures: {widths}; {len(wrong)} with a problem")
    raise SystemExit(1 if wrong else 0)


@profile.command()
@click.argument("run", default="latest")
@results_option()
def suggest(run: str, results: Path) -> None:
    """Print entries for what failed in RUN and nobody declared, as TOML to be read, completed and pasted.

    No file is changed: a person must decide whether a failure is known, and why. `reason` and `link` are empty, and a
    profile with an empty one is refused. Declared failures that passed are named in comments.
    """
    click.echo(suggestions(load_run(find_run(run, results))) or "# that run has no unexpected result")


def _lines(one: judging.Verdict, *, counted: bool) -> str:
    entry = one.entry
    said = [f"{entry.component}: {', '.join(entry.cases)}: {entry.reason}"]
    values = ", ".join(f"{name} {wanted!r}" for name, wanted in entry.values.items())
    said.append(f"    {one.width}: {', '.join(entry.codes) or 'no code'}{' with ' + values if values else ''}")
    if counted:
        said.append(f"    covers {one.covered} findings of {one.results} results; {one.applied} results of its cases")
    if one.hidden:
        said.append(f"    in {one.hidden} of them other entries cover all that failed")
    if one.masks:
        said.append(f"    would mask: {', '.join(one.masks)}")
    if one.unreached:
        said.append(f"    {one.unreached} calls of its cases were not made, because the failure ended the cases")
    return "\n".join(said + [f"    {problem}" for problem in one.problems])


def _as_dict(one: judging.Verdict) -> dict[str, Any]:
    entry = one.entry
    return {
        "case": entry.cases,
        "finding": entry.codes,
        "component": entry.component,
        "owner": entry.owner,
        "values": entry.values,
        "reason": entry.reason,
        "link": entry.link,
        "where": entry.where,
        "width": one.width,
        "masks": one.masks,
        "covered": one.covered,
        "results": one.results,
        "applied": one.applied,
        "passed": one.passed,
        "hidden": one.hidden,
        "unreached": one.unreached,
        "problems": one.problems,
    }
