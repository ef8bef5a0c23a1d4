"""The sections of `--full`: the table of families, tolerated differences, and how every machine was started."""

from __future__ import annotations

from conformance.evidence.overview import MEANING, STANDINGS, Overview, count
from conformance.reports.ticket.layout import WIDTH, Section, command, sentence, wrapped

_SHORT = {"unsupported": "unsup", "undrivable": "undrv", "unstable": "unstb"}


def table(seen: Overview) -> Section:
    """Families by standing."""
    shown = [s for s in STANDINGS if seen.counts[s]]
    names = {family: "/".join(family) for family in seen.families}
    first = max([len(name) for name in names.values()] + [len("total")])
    headings = {s: _SHORT.get(s, s) for s in shown}
    rows = [("", headings)]
    rows += [(names[f], {s: str(counts[s] or ".") for s in shown}) for f, counts in seen.families.items()]
    rows += [("total", {s: str(seen.counts[s]) for s in shown})]
    first = min(first, WIDTH - 2 - sum(max(4, len(heading)) + 1 for heading in headings.values()))
    lines = [
        f"  {name[:first]:<{first}}" + "".join(f" {cells[s]:>{max(4, len(headings[s]))}}" for s in shown)
        for name, cells in rows
    ]
    for s in shown:
        lines += wrapped(f"{headings[s]}: {MEANING[s]}", "  ", "    ") if s not in ("pass", "fail") else []
    return Section("RESULTS", lines if seen.record.results else [])


def let_pass(seen: Overview) -> Section:
    """Differences between inside and outside that are no finding, with the reason."""
    lines: list[str] = []
    for reason, number, fields in seen.looks.reasons:
        lines += wrapped(f"{count(number, 'difference')} of {sentence(fields)}: {reason}", "  ", "    ")
    return Section("DIFFERENCES LET PASS, and why", lines)


def machines(seen: Overview) -> Section:
    """The command line of each."""
    lines: list[str] = []
    for name, machine in seen.record.environment.machines.items():
        for argv in (machine.argv, machine.server_argv):
            lines += [*wrapped(f"{name}:", "  "), *command(argv)] if argv else []
    for asked, shown in seen.record.environment.mounts.items():
        lines += wrapped(f"{asked}: {shown}", "  ", "      ")
    return Section("MACHINES AND MOUNTS", lines)
