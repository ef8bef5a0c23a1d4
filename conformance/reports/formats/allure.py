"""Allure results from a record: one JSON file per case, a step per call and per comparison, a log as an attachment.

Epic, feature and story are layer, family and case. `fail` and `fixed` are failed, `error` is broken; `known`,
`varies`, `unsupported` and `undrivable` are skipped. File names follow from the run and the case, so that
deriving the reports again replaces what was there.

Each file costs time, so comparisons and messages are steps in the case's own file, not attachments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from conformance.comparison import Comparison
from conformance.evidence.models import Call, CaseResult, Record
from conformance.evidence.overview import HELD, Overview, overview, standing, visible
from conformance.vocabulary import Standing

SEVERITIES = {"must": "critical", "linux": "normal", "varies": "minor"}
STATUSES: dict[Standing, str] = {
    "pass": "passed",
    "fail": "failed",
    "fixed": "failed",
    "unstable": "failed",
    "error": "broken",
    "known": "skipped",
    "varies": "skipped",
    "guest": "passed",
    "unsupported": "skipped",
    "undrivable": "skipped",
}
_SKIPPED: dict[Standing, str] = {
    "known": "Known failures",
    "varies": "Differences that may be",
    "unsupported": "Declared unsupported",
    "undrivable": "Could not be driven",
}
CATEGORIES: list[dict[str, Any]] = [
    {"name": "Unexpected failures and unexpected passes", "matchedStatuses": ["failed"]},
    {"name": "The suite or the infrastructure broke", "matchedStatuses": ["broken"]},
    *(
        {"name": name, "matchedStatuses": ["skipped"], "messageRegex": f"(?s){stand}: .*"}
        for stand, name in _SKIPPED.items()
    ),
]


def write_allure(record: Record, directory: Path) -> None:
    """Write the allure-results of a record; results of other runs in the directory stay."""
    directory.mkdir(parents=True, exist_ok=True)
    place = str(directory)
    seen = overview(record)
    clock: dict[str, int] = {}
    for result in record.results:
        made = _result(result, seen, clock)
        for excerpt, attachment in zip(result.log_excerpts, made["attachments"], strict=True):
            text = visible(excerpt.text, keep="\n\t") + "\n"
            _write(f"{place}/{attachment['source']}", text)
        _write(f"{place}/{_name_of(made)}", json.dumps(made))
    of_run = _run_itself(seen)
    if seen.doubts_of_run:
        _write(f"{place}/{_name_of(of_run)}", json.dumps(of_run))
    else:
        (directory / _name_of(of_run)).unlink(missing_ok=True)
    (directory / "categories.json").write_text(json.dumps(CATEGORIES, indent=1))
    (directory / "environment.properties").write_text("".join(_properties(seen)), encoding="utf-8")


def _name_of(test: dict[str, Any]) -> str:
    """A stable name, unlike the random one of Allure's own writer: reports that are written again replace the first."""
    return f"{test['uuid']}-result.json"


def _write(path: str, text: str) -> None:
    # neither Path.write_text nor a buffer: for twenty thousand small files their overhead counts
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def _run_itself(seen: Overview) -> dict[str, Any]:
    """A broken test that stands for the run: problems that no case shows."""
    e = seen.record.environment
    at = round((e.ended or e.started).timestamp() * 1000)
    return {
        **_identity(f"{e.target}\0the run itself", e.started.isoformat()),
        "testCaseId": _digest("run"),
        "name": "the run itself",
        "fullName": "run",
        "titlePath": ["run"],
        "status": "broken",
        "stage": "finished",
        "start": at,
        "stop": at,
        "statusDetails": {
            "message": f"error: {'; '.join(seen.doubts_of_run)}",
            "trace": "\n".join(seen.troubles),
        },
        "labels": _labels(epic="run", feature="run", suite="run", severity="critical", tag="error", host=e.target),
    }


def _result(result: CaseResult, seen: Overview, clock: dict[str, int]) -> dict[str, Any]:
    environment = seen.record.environment
    stand = standing(result)
    start, stop = _times(result, seen, clock)
    identity = _identity(
        f"{environment.target}\0{result.id}\0{result.mount}",
        f"{environment.started.isoformat()}\0{result.worker}\0{result.ended}",
    )
    made: dict[str, Any] = {
        **identity,
        "testCaseId": _digest(f"{result.case_id}\0{result.title}"),
        "name": f"{result.id} {result.title}" + ("" if seen.one_mount else f" [{result.mount}]"),
        "fullName": f"{result.layer}.{result.family}.{result.title}",
        "titlePath": [result.layer, result.family],
        "description": f"{result.requirement}\n\nSource: {result.source}",
        "status": STATUSES[stand],
        "stage": "finished",
        "start": start,
        "stop": stop,
        "parameters": _parameters(
            {"parameters": result.parameters, "mount": result.mount, "mounted as": result.mount_shown}
        ),
        "labels": _labels(
            epic=result.layer,
            feature=result.family,
            story=result.case_id,
            severity=SEVERITIES[result.severity],
            suite=f"{result.layer}/{result.family}",
            tag=stand,
            host=environment.target,
            thread=result.worker,
        ),
        "steps": [*_steps(result.calls, start), *_evidence(result, stop)],
        "attachments": [
            {"name": excerpt.source, "source": f"{identity['uuid']}-{n}-attachment.txt", "type": "text/plain"}
            for n, excerpt in enumerate(result.log_excerpts)
        ],
    }
    if stand not in HELD:
        made["statusDetails"] = {
            "known": stand == "known",
            "message": f"{stand}: {result.reason}",
            "trace": result.details,
        }
    if result.known and result.known.link:
        made["links"] = [{"type": "issue", "url": result.known.link, "name": result.known.reason}]
    return made


def _identity(key: str, once: str) -> dict[str, str]:
    """`key` names a test in every run, `once` this run of it."""
    return {"uuid": str(UUID(_digest(f"{key}\0{once}"), version=5)), "historyId": _digest(key)}


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _labels(**labels: str) -> list[dict[str, str]]:
    named = {**labels, "framework": "assay9", "language": "python"}
    return [{"name": name, "value": value} for name, value in named.items()]


def _times(result: CaseResult, seen: Overview, clock: dict[str, int]) -> tuple[int, int]:
    """Start and end in milliseconds. Without a recorded end a case is placed after the worker's previous one."""
    took = round(result.seconds * 1000)
    if result.ended is not None:
        stop = round(result.ended.timestamp() * 1000)
        return stop - took, stop
    start = clock.get(result.worker, round(seen.record.environment.started.timestamp() * 1000))
    clock[result.worker] = start + took
    return start, start + took


def _step(name: str, start: float, stop: float, values: dict[str, str], **more: Any) -> dict[str, Any]:
    # A call that fails as its case demands is not a failed step: only the case is judged.
    return {
        "name": name,
        "status": "passed",
        "stage": "finished",
        "start": round(start),
        "stop": round(stop),
        "parameters": _parameters(values),
        **more,
    }


def _steps(calls: list[Call], start: int) -> Iterator[dict[str, Any]]:
    at = float(start)
    for call in calls:
        who = call.vantage if call.process == "main" else f"{call.vantage}/{call.process}"
        end = at + call.seconds * 1000
        values = {"result": call.result, "control": call.control_result or ""}
        yield _step(f"{who}: {call.op}({', '.join(call.args)}) = {call.result}", at, end, values)
        at = end


def _evidence(result: CaseResult, at: int) -> Iterator[dict[str, Any]]:
    """Comparisons and messages, below one step each."""
    if result.comparisons:
        wrong = sum(not c.ok for c in result.comparisons)
        name = f"comparisons inside/outside ({len(result.comparisons)}, {wrong} differ)"
        yield _step(name, at, at, {}, steps=[_compared(c, at) for c in result.comparisons])
    if result.messages:
        total = sum(result.message_counts.values()) or len(result.messages)
        counts = ", ".join(f"{name} {number}" for name, number in sorted(result.message_counts.items()))
        yield _step(
            f"9P messages that crossed ({total})", at, at, {"counts": counts, "in order": ", ".join(result.messages)}
        )


def _compared(c: Comparison[str], at: int) -> dict[str, Any]:
    """Differences first, then tolerated differences with their reasons, then equal fields."""
    differs, tolerated, equal = {}, {}, []
    for f in c.fields:
        both = f"inside {f.inside}, outside {f.outside} ({f.rule})"
        if f.tolerated is not None:
            tolerated[f"tolerated: {f.name}"] = f"{both}: {f.tolerated}"
        elif f.equal:
            equal.append(f"{f.name}={f.inside}")
        else:
            differs[f"DIFFERS: {f.name}"] = both
    name = f"after call {c.after_call}: {c.kind} of {c.path}: {'agrees' if c.ok else 'DIFFERS'}"
    return _step(name, at, at, {**differs, **tolerated, "equal": ", ".join(equal)})


def _parameters(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items() if value]


def _properties(seen: Overview) -> Iterator[str]:
    """Lines of a Java properties file."""
    e = seen.record.environment
    for name, value in (
        ("verdict", seen.sentence),
        ("fewer", seen.fewer),
        ("target", e.target),
        ("version", e.target_version),
        ("guest", f"{e.guest_image} {e.guest_kernel}".strip()),
        ("accelerator", e.accelerator),
        ("access", e.access),
        ("security_model", e.security_model),
        ("host", e.host_distribution),
        ("host_kernel", e.host_kernel),
        ("assay9", f"{e.assay9_version} {e.assay9_commit}".strip()),
        ("command", e.command),
        ("mounts", "; ".join(e.mounts)),
    ):
        if value:
            yield f"{name}={visible(value).replace(chr(92), chr(92) * 2)}\n"
