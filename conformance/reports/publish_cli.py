"""The commands that prepare records for publication: `assay9 attest`, `verify`, `redact`, `schema` and `table`."""

from __future__ import annotations

import json
from pathlib import Path

import click
from pydantic import BaseModel

from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.manifest import digest_of
from conformance.evidence.models import Record
from conformance.evidence.record import RECORD, find_run
from conformance.evidence.redact import private_words, redacted
from conformance.gating.attestation import attest as sign
from conformance.gating.attestation import verify as check
from conformance.gating.baseline import Baseline
from conformance.options import results_option
from conformance.reports.beside import labels
from conformance.reports.cli import read_runs
from conformance.reports.table import table as compatibility
from conformance.reports.table_evidence import anchor, evidence_page
from conformance.reports.write import write_reports
from guests.host.activity import shown

SCHEMAS: dict[str, type[BaseModel]] = {"record": Record, "baseline": Baseline}


@click.command()
@click.argument("run", default="latest")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    default=Path("~/.ssh/id_ed25519"),
    show_default=True,
    help="The SSH key to sign with.",
)
@results_option()
def attest(run: str, key: Path, results: Path) -> None:
    """Sign RUN: an in-toto test-result statement over every file of its directory, with your SSH key.

    The statement is attestation.json in the run's directory, its signature attestation.json.sig; ssh-keygen makes it.
    """
    run_dir = find_run(run, results)
    file = sign(read_runs([run], results)[0], run_dir, key.expanduser())
    click.echo(f"wrote {file} and {file.name}.sig; `assay9 verify {run_dir}` checks them")


@click.command()
@click.argument("run", default="latest")
@click.option(
    "--signers",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Whose signatures count: lines of `NAME KEY`, see ssh-keygen(1), ALLOWED SIGNERS.",
)
@results_option()
def verify(run: str, signers: Path | None, results: Path) -> None:
    """Check that RUN is unchanged since it was signed: every file's hash, the statement, and the signature.

    Exit status 0 when all of it holds, 2 and one line when something does not.
    """
    run_dir = find_run(run, results)
    click.echo(check(read_runs([run], results)[0], run_dir, signers))


@click.command()
@click.argument("run")
@click.argument("directory", type=click.Path(path_type=Path))
@results_option()
def redact(run: str, directory: Path, results: Path) -> None:
    """Write RUN to DIRECTORY for publication: its record and reports, without logs.

    Home, checkout, working directory, host and user names, mount tables and long runs of raw bytes are replaced by
    words in angle brackets.
    """
    run_dir = find_run(run, results)
    read = read_runs([run], results)[0]
    record = redacted(read, private_words(run_dir, read))
    try:
        directory.mkdir(parents=True)
        (directory / RECORD).write_text(record.model_dump_json(exclude_none=True), encoding="utf-8")
    except FileExistsError:
        raise UsageError(f"{directory} exists: name one that does not") from None
    except OSError as e:
        raise InfrastructureError(f"{directory} cannot be written: {e.strerror}", "name another DIRECTORY") from None
    with shown("writing the reports"):
        written = write_reports(directory)
    for path in written:
        click.echo(f"wrote {path}")


@click.command()
@click.argument("what", type=click.Choice(list(SCHEMAS)), default="record")
def schema(what: str) -> None:
    """Print the JSON Schema of record.json, or of a baseline."""
    click.echo(schema_of(what), nl=False)


def schema_of(what: str) -> str:
    """The schema as the suite ships it."""
    return json.dumps(SCHEMAS[what].model_json_schema(), indent=1, sort_keys=True) + "\n"


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--evidence",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a page of evidence for each run to DIR, and link each cell to it.",
)
@results_option()
def table(runs: tuple[str, ...], evidence: Path | None, results: Path) -> None:
    """Print the compatibility page of RUNs as Markdown: operations and behaviours down, implementations across.

    \b
    assay9 table qemu diod ganesha reference --evidence docs/compatibility > docs/compatibility.md
    """
    records = read_runs(runs, results)
    names = labels(records)
    pages: list[str] = []
    if evidence is not None:
        try:
            evidence.mkdir(parents=True, exist_ok=True)
            for run, record, name in zip(runs, records, names, strict=True):
                page = evidence / f"{anchor(name)}.md"
                digest = digest_of(find_run(run, results) / RECORD)
                page.write_text(evidence_page(record, name, digest), encoding="utf-8", errors="backslashreplace")
                pages.append(f"{evidence.name}/{page.name}")
        except OSError as e:
            raise InfrastructureError(f"{evidence} cannot be written: {e.strerror}", "name another DIR") from None
    click.echo(compatibility(records, names, pages), nl=False)
