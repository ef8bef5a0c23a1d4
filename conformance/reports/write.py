"""Every report of a run, derived from its record: a new kind of report is one more line in `REPORTS`."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from conformance.errors import InfrastructureError, SuiteError, UsageError
from conformance.evidence.manifest import write_manifest
from conformance.evidence.record import RECORD, load_run
from conformance.gating.baseline import Baseline

REPORTS = {
    "html": ("report.html", "html:write_html"),
    "rti": ("rti.txt", "ticket.text:write_text"),
    "junit": ("junit.xml", "formats.junit:write_junit"),
    "markdown": ("summary.md", "markdown:write_markdown"),
    "ktap": ("results.ktap", "formats.ktap:write_ktap"),
    "jsonl": ("results.jsonl", "formats.jsonl:write_jsonl"),
    "ctrf": ("ctrf.json", "formats.ctrf:write_ctrf"),
    "allure": ("allure-results", "formats.allure:write_allure"),
}
"""Kind -> (name in the run directory, what writes it: module of `conformance.reports`, function of a record and a
path). A module is imported when its report is written: jinja2, lxml and allure take 0.15 s, which no refusal needs."""
DEFAULT = ("html", "rti", "junit")
"""The reports of every run. Allure's are two or three files a case and written with --allure only."""


def write_reports(
    run_dir: Path,
    kinds: tuple[str, ...] = DEFAULT,
    *,
    soak: Path | None = None,
    baseline: Baseline | None = None,
) -> list[Path]:
    """Write reports of `kinds` into the run directory; returns their paths.

    The ticket's text has a section on a soak run if one is given, and a comparison with a baseline.

    Raises UsageError if `run_dir` is not a run or `soak` no soak, InfrastructureError if the disk fails, SuiteError if
    the writer of a report is defective. The record is unchanged in any case, and the other reports are written.
    """
    record = load_run(run_dir)
    written: list[Path] = []
    refused: OSError | None = None
    wrong: UsageError | None = None
    broken: dict[str, Exception] = {}
    for kind in kinds:
        name, where = REPORTS[kind]
        try:
            write = writer_of(where)
            if kind == "rti":
                write = partial(write, soak=soak, baseline=baseline)
            _whole(run_dir / name, partial(write, record))
        except OSError as e:
            refused = e
        except UsageError as e:  # the soak that was named is none
            wrong = e
        except Exception as e:  # noqa: BLE001 - a defect of one must cost neither the others nor the run's summary
            broken[name] = e
        else:
            written.append(run_dir / name)
    if (run_dir / RECORD).exists():
        try:
            write_manifest(run_dir, frozenset(name for name, _ in REPORTS.values()))
        except OSError as e:
            refused = e
    if wrong is not None:
        raise wrong
    if refused is not None:
        raise InfrastructureError(
            f"not every report could be written: {refused.filename or run_dir}: {refused.strerror or refused}",
            f"free some space, then `assay9 report {run_dir}`: the record is whole",
        )
    if broken:
        name, error = next(iter(broken.items()))
        raise SuiteError(f"{', '.join(broken)} not written: {type(error).__name__}: {error}") from error
    return written


def writer_of(where: str) -> Callable[..., None]:
    """The function that `REPORTS` names."""
    module, _, function = where.partition(":")
    found: Callable[..., None] = getattr(importlib.import_module(f"conformance.reports.{module}"), function)
    return found


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file atomically; a directory is written in place."""
    if path.suffix == "":
        write(path)
        return
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(new)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
