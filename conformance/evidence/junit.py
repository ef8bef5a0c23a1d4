"""JUnit XML from a record, for CI systems.

A suite per layer and family. `fail` and `fixed` are failures, `error` is an error; `known`, `varies`,
`unsupported` and `undrivable` are skipped, and the message says which and why.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from conformance.evidence.models import CaseResult, Comparison, Record
from conformance.evidence.overview import Overview, Standing, elapsed, overview, standing, visible

_SKIPPED: tuple[Standing, ...] = ("known", "varies", "unsupported", "undrivable")


def junit(record: Record) -> bytes:
    """The XML document."""
    seen = overview(record)
    took = elapsed(record)
    spent = took if took is not None else sum(r.seconds for r in record.results)
    target = _xml(record.environment.target)
    root = ET.Element("testsuites", {"name": f"assay9 {target}", **_totals(record.results, spent)})
    if run := _run_itself(seen):
        root.append(run)
    suites: dict[tuple[str, str], list[CaseResult]] = {}
    for result in record.results:
        suites.setdefault((result.layer, result.family), []).append(result)
    for (layer, family), results in suites.items():
        about = {
            "name": _xml(f"{layer}.{family}"), "hostname": target,
            "timestamp": record.environment.started.isoformat(timespec="seconds"),
        }  # fmt: skip
        suite = ET.SubElement(root, "testsuite", {**about, **_totals(results, sum(r.seconds for r in results))})
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
    """An error that stands for the run, where something is wrong with it that no case shows."""
    record = seen.record
    if record.results and not (record.troubles or record.interrupted or record.damage):
        return None
    suite = ET.Element("testsuite", name="run", tests="1", failures="0", errors="1", skipped="0", time="0")
    case = ET.SubElement(suite, "testcase", name="the run itself", classname="run", time="0")
    error = ET.SubElement(case, "error", message=_xml("; ".join(seen.doubts)), type="infrastructure")
    error.text = _xml("\n".join([*(f"{t.worker}: {t.text}" for t in record.troubles), *record.damage]))
    return suite


def _totals(results: list[CaseResult], seconds: float) -> dict[str, str]:
    stands = [standing(r) for r in results]
    return {
        "tests": str(len(stands)),
        "failures": str(stands.count("fail") + stands.count("fixed")),
        "errors": str(stands.count("error")),
        "skipped": str(sum(stand in _SKIPPED for stand in stands)),
        "time": f"{seconds:.3f}",
    }


def _case(result: CaseResult, seen: Overview) -> ET.Element:
    name = f"{result.id} {result.title}" + ("" if seen.one_mount() else f" [{result.mount}]")
    case = ET.Element("testcase", name=_xml(name), classname=_xml(f"{result.layer}.{result.family}"),
                      time=f"{result.seconds:.3f}")  # fmt: skip
    properties = ET.SubElement(case, "properties")
    for key, value in (
        ("requirement", result.requirement), ("source", result.source), ("severity", result.severity),
        ("verdict", result.verdict), ("mount", result.mount_shown or result.mount),
    ):  # fmt: skip
        ET.SubElement(properties, "property", name=key, value=_xml(value))
    stand = standing(result)
    if stand in _SKIPPED:
        link = f" ({result.known.link})" if result.known and result.known.link else ""
        ET.SubElement(case, "skipped", message=_xml(f"{stand}: {result.reason}{link}"), type=stand)
    elif stand != "pass":
        kind = "infrastructure" if result.infrastructure else "suite" if stand == "error" else stand
        tag = "error" if stand == "error" else "failure"
        outcome = ET.SubElement(case, tag, message=_xml(result.reason), type=kind)
        outcome.text = _xml(f"{evidence_text(result)}\n{result.details}".rstrip())
    if stand != "pass" and result.log_excerpts:
        lines = "\n".join(f"--- {e.source}\n{e.text}" for e in result.log_excerpts)
        ET.SubElement(case, "system-out").text = _xml(lines)
    return case


def _xml(text: str) -> str:
    return visible(text, keep="\n\t")
