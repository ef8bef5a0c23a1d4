"""`assay9 cases`: every case with what it requires, and which 9P message is covered by which case."""

from __future__ import annotations

import json
from pathlib import Path

import click

from conformance.case import Case
from conformance.catalogue import decided
from conformance.catalogue.library import load_cases
from conformance.errors import UsageError
from conformance.evidence.record import load_run
from conformance.options import json_option
from conformance.reports.message_matrix import CALL_LAYERS, NEVER_SENT, lines, matrix, never_sent
from conformance.run import preflight


@click.command()
@click.option("--layer", help="Only this layer.")
@click.option("--family", help="Only this family.")
@click.option("--matrix", "show_matrix", is_flag=True, help="Show 9P message by case instead.")
@click.option(
    "--proof",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="With --matrix: how often each message crossed in that run, by its trace; exit status 1 when one "
    "that a case covers never did, unless a declared reason explains it.",
)
@json_option
def cases(layer: str | None, family: str | None, show_matrix: bool, proof: Path | None, as_json: bool) -> None:
    """List the cases: id, layer, family, severity, messages covered, requirement, source."""
    preflight.check_words((layer,) if layer else (), (family,) if family else ())
    if proof is not None and not show_matrix:
        raise UsageError("--proof says which run proves the matrix: add --matrix")
    if show_matrix and as_json:
        raise UsageError("--matrix and --json exclude each other: leave one out")
    record = load_run(proof) if proof is not None else None
    chosen = [c for c in load_cases() if layer in (None, c.layer) and family in (None, c.family)]
    if record is not None:
        missing = []
        for name, ids in matrix(c for c in chosen if c.layer in CALL_LAYERS).items():
            crossed = [r for r in record.results if r.case_id in ids and r.message_counts.get(name)]
            times = sum(r.message_counts[name] for r in crossed)
            proved = sorted({r.case_id for r in crossed})
            seen = f"crossed {times} times in {', '.join(proved)}" if proved else "- " + never_sent(name)
            if not proved and name not in NEVER_SENT:
                missing.append(name)
                seen = f"never crossed in this run; covered by {', '.join(ids)}" if ids else seen
            click.echo(f"{name:<13} {seen}")
        if missing:
            click.echo(f"without proof: {', '.join(missing)}")
            raise SystemExit(1)
    elif show_matrix:
        for line in lines(chosen):
            click.echo(line)
    elif as_json:
        click.echo(json.dumps([_as_dict(c) for c in chosen], indent=1))
    else:
        for c in chosen:
            click.echo(f"{c.id:<14} {c.layer}/{c.family}  {c.severity}  {' '.join(c.covers)}")
            click.echo(f"               {c.requirement}")
            click.echo(f"               source: {c.source}")
            for by, parameters in decided.of_case(c.id).items():
                which = f" [{', '.join(parameters)}]" if any(parameters) else ""
                click.echo(f"               decided by {decided.MEANING[by]}{which}")
        click.echo(f"{len(chosen)} cases")


def _as_dict(c: Case) -> dict[str, object]:
    return {
        "id": c.id,
        "layer": c.layer,
        "family": c.family,
        "severity": c.severity,
        "covers": c.covers,
        "requirement": c.requirement,
        "source": c.source,
        "caches": c.caches,
        "needs": c.needs,
        "function": c.location,
        "decided_by": decided.of_case(c.id),
    }
