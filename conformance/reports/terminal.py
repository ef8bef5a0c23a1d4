"""The summary that a terminal shows when a run has ended."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.evidence.models import Record
from conformance.evidence.overview import (
    STANDINGS,
    Overview,
    by_reason,
    count,
    duration,
    elapsed,
    overview,
    visible,
)
from conformance.vocabulary import Standing

_STYLES: dict[Standing, str] = {
    "pass": "green",
    "fail": "bold red",
    "fixed": "bold magenta",
    "unstable": "bold magenta",
    "error": "bold red",
    "known": "yellow",
    "varies": "cyan",
    "guest": "dim",
    "unsupported": "dim",
    "undrivable": "dim",
}
_LISTED = 30
_NAMED = 5


def summary(record: Record, run_dir: Path, *, colour: bool | None = None, width: int | None = None) -> str:
    """The summary at the end of a run: families by verdict, the unexpected, the paths of the results.

    `colour` None means: as standard output allows.
    """
    if colour is None:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = width or max(60, min(shutil.get_terminal_size((100, 24)).columns, 140))
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False, emoji=False)
    seen = overview(record)
    console.print()
    if record.results:
        console.print(_table(seen))
    _listing(console, seen)
    style = {0: "bold green", 1: "bold red"}.get(seen.status, "bold yellow")
    console.print(Text(f"{record.environment.target}: {seen.sentence}", style=style))
    for said in (seen.decisions, seen.whose and f"known failures: {seen.whose}"):
        if said:
            console.print(Text(said))
    took = elapsed(record)
    guest = sum(r.guest_seconds for r in record.results)
    if took is not None:
        within = f", the guest executed calls for {duration(guest)}" if guest else ""
        console.print(Text(f"took {duration(took)}{within}", style="dim"))
    # Paths are printed unwrapped, so that they can be copied.
    console.print(Text(f"results: {run_dir}"), soft_wrap=True)
    if (run_dir / "report.html").exists():
        console.print(Text(f"report:  {run_dir / 'report.html'}"), soft_wrap=True)
    return out.getvalue()


def _table(seen: Overview) -> Table:
    shown = [s for s in STANDINGS if seen.counts[s] or s in ("pass", "fail")]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_footer=True)
    table.add_column("family", footer="total", footer_style="bold", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="right", footer=str(seen.counts[name]), footer_style="bold", no_wrap=True)
    for (layer, family), counts in seen.families.items():
        row = [Text(str(counts[s]), style=_STYLES[s]) if counts[s] else Text("·", style="dim") for s in shown]
        table.add_row(Text(f"{layer}/{family}"), *row)
    return table


def _listing(console: Console, seen: Overview) -> None:
    for name in ("fail", "fixed", "unstable"):
        results = seen[name]
        if results:
            console.print()
        for result in results[:_LISTED]:
            line = Text.assemble((f"{name} ", _STYLES[name]), (visible(seen.name(result)), "bold"), f" {result.reason}")
            console.print(line)
        if len(results) > _LISTED:
            console.print(Text(f"... and {len(results) - _LISTED} more: see the report", style="dim"))
    if seen["error"]:
        console.print()
    groups = by_reason(seen["error"])
    for reason, having in groups[:_LISTED]:
        names = ", ".join(visible(seen.name(r)) for r in having[:_NAMED])
        more = f" and {len(having) - _NAMED:,} more" if len(having) > _NAMED else ""
        console.print(Text.assemble(("error ", _STYLES["error"]), (names + more, "bold"), f": {visible(reason)}"))
    if len(groups) > _LISTED:
        console.print(Text(f"... and {count(len(groups) - _LISTED, 'other reason')}: see the report", style="dim"))
    for text in seen.troubles[:_LISTED]:
        console.print(Text.assemble(("trouble ", "bold yellow"), visible(text)))
    if len(seen.troubles) > _LISTED:
        console.print(Text(f"... and {len(seen.troubles) - _LISTED} more: see the report", style="dim"))
    if seen.otherwise:
        console.print(Text.assemble(("note ", "bold yellow"), visible(seen.otherwise)))
    if seen.fewer:
        console.print(Text.assemble(("note ", "bold yellow"), visible(seen.fewer_named(_NAMED))))
    console.print()
