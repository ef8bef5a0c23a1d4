"""JUnit XML from a record, for CI systems.

A suite per layer and family, and one for the run itself where something is to be said that no case shows. `fail` and
`fixed` are failures, `error` is an error; `known`, `varies`, `unsupported` and `undrivable` are skipped: a message
says which, and why.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from conformance.evidence.models import CaseResult, Comparison, Record, Standing
from conformance.evidence.overview import HELD, Overview, elapsed, overview, standing, visible

_SKIPPED: tuple[Standing, ...] = ("known", "varies", "unsupported", "undrivable")


def junit(record: Record) -> bytes:
    """The XML document."""
    seen = overview(record)
    took = elapsed(record)
    spent = took if took is not None else sum(r.seconds for r in record.results)
    target = _xml(record.environment.target)
    run = _run_itself(seen)
    totals = _totals(seen.counts, spent)
    if run is not None:
        # The totals count what stands below them, also for readers that look at nothing else.
        totals |= {name: str(int(totals[name]) + int(run.get(name, "0"))) for name in ("tests", "errors")}
    root = ET.Element("testsuites", {"name": f"assay9 {target}", **totals})
    if run is not None:
        root.append(run)
    suites: dict[tuple[str, str], list[CaseResult]] = {}
    for result in record.results:
        suites.setdefault((result.layer, result.family), []).append(result)
    for (layer, family), results in suites.items():
        about = {
            "name": _xml(f"{layer}.{family}"),
            "hostname": target,
            "timestamp": record.environment.started.isoformat(timespec="seconds"),
        }
        totals = _totals(seen.families[layer, family], sum(r.seconds for r in results))
        suite = ET.SubElement(root, "testsuite", {**about, **totals})
        suite.extend(_case(result, seen) for result in results)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def write_junit(record: Record, path: Path) -> None:
    """Write the XML document."""
    path.write_bytes(junit(record))


def evidence_text(result: CaseResult) -> str:
    """The case's calls and unexplained differences as lines of plain text."""
    mount = result.mount_shown or result.mount
    lines = [result.requirement, f"Source: {result.source}", *([f"Mount: {mount}"] if mount else [])]
    for call in result.calls:
        differs = call.control_result not in (None, call.result)
        control = f"   [control: {call.control_result}]" if differs else ""
        who = call.vantage if call.process == "main" else f"{call.vantage}/{call.process}"
        lines.append(f"{call.index:>4} {who}: {call.op}({', '.join(call.args)}) = {call.result}{control}")
    for comparison in result.comparisons:
        lines += _differences(comparison)
    return "\n".join(lines)


def _differences(comparison: Comparison) -> list[str]:
    if comparison.ok:
        return []
    where = f"after call {comparison.after_call}, {comparison.kind} of {comparison.path}"
    return [
        f"{where}: {f.name}: inside {f.inside}, outside {f.outside} ({f.rule})"
        for f in comparison.fields
        if not f.equal and f.tolerated is None
    ]


def _run_itself(seen: Overview) -> ET.Element | None:
    """A test case that stands for the run, where something is to be said of it that no case shows."""
    if not seen.doubts_of_run and not seen.fewer:
        return None
    errors = "1" if seen.doubts_of_run else "0"
    suite = ET.Element("testsuite", name="run", tests="1", failures="0", errors=errors, skipped="0", time="0")
    case = ET.SubElement(suite, "testcase", name="the run itself", classname="run", time="0")
    if seen.doubts_of_run:
        error = ET.SubElement(case, "error", message=_xml("; ".join(seen.doubts_of_run)), type="infrastructure")
        error.text = _xml("\n".join(seen.troubles))
    if seen.fewer:
        ET.SubElement(case, "system-out").text = _xml(seen.fewer_named(len(seen.record.results)))
    return suite


def _totals(counts: dict[Standing, int], seconds: float) -> dict[str, str]:
    return {
        "tests": str(sum(counts.values())),
        "failures": str(counts["fail"] + counts["fixed"]),
        "errors": str(counts["error"]),
        "skipped": str(sum(counts[s] for s in _SKIPPED)),
        "time": f"{seconds:.3f}",
    }


def _case(result: CaseResult, seen: Overview) -> ET.Element:
    name = f"{result.id} {result.title}" + ("" if seen.one_mount else f" [{result.mount}]")
    case = ET.Element(
        "testcase", name=_xml(name), classname=_xml(f"{result.layer}.{result.family}"), time=f"{result.seconds:.3f}"
    )
    properties = ET.SubElement(case, "properties")
    for key, value in (
        ("requirement", result.requirement),
        ("source", result.source),
        ("severity", result.severity),
        ("verdict", result.verdict),
        ("mount", result.mount_shown or result.mount),
    ):
        ET.SubElement(properties, "property", name=key, value=_xml(value))
    stand = standing(result)
    if stand in _SKIPPED:
        link = f" ({result.known.link})" if result.known and result.known.link else ""
        ET.SubElement(case, "skipped", message=_xml(f"{stand}: {result.reason}{link}"), type=stand)
    elif stand not in HELD:
        kind = "infrastructure" if result.infrastructure else "suite" if stand == "error" else stand
        tag = "error" if stand == "error" else "failure"
        outcome = ET.SubElement(case, tag, message=_xml(result.reason), type=kind)
        outcome.text = _xml(f"{evidence_text(result)}\n{result.details}".rstrip())
    if stand not in HELD and result.log_excerpts:
        lines = "\n".join(f"--- {e.source}\n{e.text}" for e in result.log_excerpts)
        ET.SubElement(case, "system-out").text = _xml(lines)
    return case


def _xml(text: str) -> str:
    return visible(text, keep="\n\t")
