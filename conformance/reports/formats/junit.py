"""JUnit XML from a record, for CI systems.

A suite per layer and family, and one for the run itself if there are problems that no case shows. `fail` and `fixed`
are failures, `error` is an error; `known`, `varies`, `unsupported` and `undrivable` are skipped: a message says which,
and why.
"""

from __future__ import annotations

from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, SystemOut, TestCase, TestSuite

from conformance.comparison import Comparison
from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import HELD, Overview, elapsed, overview, standing, visible
from conformance.vocabulary import Standing

_SKIPPED: tuple[Standing, ...] = ("known", "varies", "unsupported", "undrivable")


def write_junit(record: Record, path: Path) -> None:
    """Write the XML document."""
    seen = overview(record)
    target = _xml(record.environment.target)
    root = JUnitXml(f"assay9 {target}")
    if seen.doubts_of_run or seen.fewer:
        root.append(_run_itself(seen))
    families: dict[tuple[str, str], list[CaseResult]] = {}
    for result in record.results:
        families.setdefault((result.layer, result.family), []).append(result)
    of_run = _properties(record)
    for (layer, family), results in families.items():
        suite = TestSuite(_xml(f"{layer}.{family}"))
        suite.hostname = target
        suite.timestamp = record.environment.started.isoformat(timespec="seconds")
        for name, value in of_run.items():
            suite.add_property(name, _xml(value))
        suite.extend(_case(result) for result in results)
        root.append(suite)
    root.update_statistics()
    took = elapsed(record)
    if took is not None:
        root.time = round(took, 3)
    root._elem.attrib.pop("skipped", None)
    root.write(str(path))


def _properties(record: Record) -> dict[str, str]:
    """The run's properties in each suite."""
    e = record.environment
    device = e.programs.get("device")
    found = {
        "target": e.target,
        "version": e.target_version,
        "guest": f"{e.guest_image} {e.guest_kernel}".strip(),
        "program": device.path if device is not None else "",
        "program.sha256": device.sha256 if device is not None else "",
        "change": e.build_id,
        "base": e.base,
        "assay9": e.assay9_version,
        "assay9.commit": e.assay9_commit,
        "job": e.job_url,
    }
    return {name: value for name, value in found.items() if value}


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


def _differences(comparison: Comparison[str]) -> list[str]:
    if comparison.ok:
        return []
    where = f"after call {comparison.after_call}, {comparison.kind} of {comparison.path}"
    return [
        f"{where}: {f.name}: inside {f.inside}, outside {f.outside} ({f.rule})"
        for f in comparison.fields
        if not f.equal and f.tolerated is None
    ]


def _run_itself(seen: Overview) -> TestSuite:
    """A test case that stands for the run: problems that no case shows."""
    suite = TestSuite("run")
    case = TestCase("the run itself", "run", 0)
    if seen.doubts_of_run:
        case.append(_outcome(Error, "; ".join(seen.doubts_of_run), "infrastructure", "\n".join(seen.troubles)))
    if seen.fewer:
        case.append(SystemOut(_xml(seen.fewer_named(len(seen.record.results)))))
    suite.append(case)
    return suite


def _case(result: CaseResult) -> TestCase:
    """Its name is the same in every run: it includes the mount even if no other ran."""
    name = f"{result.id} {result.title}" + (f" [{result.mount}]" if result.mount else "")
    case = TestCase(_xml(name), _xml(f"{result.layer}.{result.family}"), round(result.seconds, 3))
    stand = standing(result)
    if stand in _SKIPPED:
        link = f" ({result.known.link})" if result.known and result.known.link else ""
        case.append(_outcome(Skipped, f"{stand}: {result.reason}{link}", stand))
    elif stand not in HELD:
        kind = "infrastructure" if result.infrastructure else "suite" if stand == "error" else stand
        text = f"{evidence_text(result)}\n{result.details}".rstrip()
        case.append(_outcome(Error if stand == "error" else Failure, result.reason, kind, text))
    if stand not in HELD:
        case.append(
            SystemOut(_xml("\n".join([*_said(result), *(f"--- {e.source}\n{e.text}" for e in result.log_excerpts)])))
        )
    return case


def _said(result: CaseResult) -> list[str]:
    """What a viewer may search for, as text: the schema has no properties for a test case."""
    said = {
        "verdict": result.verdict,
        "severity": result.severity,
        "requirement": result.requirement,
        "source": result.source,
        "tries": "; ".join(result.tries),
    }
    return [f"{name}: {value}" for name, value in said.items() if value]


def _outcome(
    kind: type[Error | Failure | Skipped], message: str, type_: str, text: str = ""
) -> Error | Failure | Skipped:
    outcome = kind(_xml(message), type_)
    if text:
        outcome.text = _xml(text)
    return outcome


def _xml(text: str) -> str:
    return visible(text, keep="\n\t")
