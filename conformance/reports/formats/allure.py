"""Allure results from a record: one JSON file per case, a step per call, attachments for the rest.

Epic, feature and story are layer, family and case. `fail` and `fixed` are failed, `error` is broken; `known`,
`varies`, `unsupported` and `undrivable` are skipped. File names follow from the run and the case, so that
deriving the reports again replaces what was there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from allure_commons import model2 as allure

from conformance.comparison import Comparison
from conformance.evidence.models import Call, CaseResult, Record
from conformance.evidence.overview import HELD, Overview, overview, standing, visible
from conformance.vocabulary import Standing

SEVERITIES = {"must": "critical", "linux": "normal", "varies": "minor"}
STATUSES: dict[Standing, str] = {
    "pass": allure.Status.PASSED,
    "fail": allure.Status.FAILED,
    "fixed": allure.Status.FAILED,
    "unstable": allure.Status.FAILED,
    "error": allure.Status.BROKEN,
    "known": allure.Status.SKIPPED,
    "varies": allure.Status.SKIPPED,
    "guest": allure.Status.PASSED,
    "unsupported": allure.Status.SKIPPED,
    "undrivable": allure.Status.SKIPPED,
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
_SPACE = UUID("6e1a4f0c-2f0b-5c55-9c7e-0b9a55a79000")


def write_allure(record: Record, directory: Path) -> None:
    """Write the allure-results of a record; those of other runs in the directory stay."""
    directory.mkdir(parents=True, exist_ok=True)
    seen = overview(record)
    clock: dict[str, int] = {}
    for result in record.results:
        made, texts = _result(result, seen, clock)
        for attachment, text in zip(made.attachments, texts, strict=True):
            _write(directory / attachment.source, text)
        _write(directory / made.file_pattern, _as_json(made))
    of_run = _run_itself(seen)
    if seen.doubts_of_run:
        _write(directory / of_run.file_pattern, _as_json(of_run))
    else:
        (directory / of_run.file_pattern).unlink(missing_ok=True)
    (directory / "categories.json").write_text(json.dumps(CATEGORIES, indent=1))
    (directory / "environment.properties").write_text("".join(_properties(seen)), encoding="utf-8")


def _as_json(result: allure.TestResult) -> str:
    """As allure's own AllureFileLogger writes it: that takes five times as long, which 20,000 cases show."""
    return json.dumps(result, default=_fields, ensure_ascii=False)


def _fields(part: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(part).items() if name != "file_pattern" and (value or value is False)}


def _write(path: Path, text: str) -> None:
    # not Path.write_text: for sixty thousand small files what it does besides counts
    with open(path, "wb") as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def comparisons_text(comparisons: list[Comparison[str]]) -> str:
    """Comparisons as text: what differs first, what is tolerated and why, and what is equal."""
    lines: list[str] = []
    reasons: dict[str, int] = {}
    for c in comparisons:
        lines.append(f"after call {c.after_call}: {c.kind} of {c.path}: {'agrees' if c.ok else 'DIFFERS'}")
        equal = []
        for f in c.fields:
            if f.tolerated is not None:
                note = reasons.setdefault(f.tolerated, len(reasons) + 1)
                lines.append(f"    tolerated [{note}] {f.name}: inside {f.inside}, outside {f.outside} ({f.rule})")
            elif f.equal:
                equal.append(f"{f.name}={f.inside}")
            else:
                lines.append(f"    DIFFERS {f.name}: inside {f.inside}, outside {f.outside} ({f.rule})")
        if equal:
            lines.append(f"    equal {', '.join(equal)}")
    lines += [f"[{number}] {reason}" for reason, number in reasons.items()]
    return "\n".join(lines) + "\n"


def _run_itself(seen: Overview) -> allure.TestResult:
    """A broken test that stands for the run: what is wrong with it and no case shows."""
    e = seen.record.environment
    at = round((e.ended or e.started).timestamp() * 1000)
    key = f"{e.target}\0the run itself"
    return _test(
        key,
        e.started.isoformat(),
        testCaseId=_digest("run"),
        name="the run itself",
        fullName="run",
        titlePath=["run"],
        status=allure.Status.BROKEN,
        start=at,
        stop=at,
        statusDetails=allure.StatusDetails(
            message=f"error: {'; '.join(seen.doubts_of_run)}",
            trace="\n".join(seen.troubles) or None,
        ),
        labels=_labels(epic="run", feature="run", suite="run", severity="critical", tag="error", host=e.target),
    )


def _result(result: CaseResult, seen: Overview, clock: dict[str, int]) -> tuple[allure.TestResult, list[str]]:
    """The result, and the text of each of its attachments."""
    environment = seen.record.environment
    stand = standing(result)
    start, stop = _times(result, seen, clock)
    made = _test(
        f"{environment.target}\0{result.id}\0{result.mount}",
        f"{environment.started.isoformat()}\0{result.worker}\0{result.ended}",
        testCaseId=_digest(f"{result.case_id}\0{result.title}"),
        name=f"{result.id} {result.title}" + ("" if seen.one_mount else f" [{result.mount}]"),
        fullName=f"{result.layer}.{result.family}.{result.title}",
        titlePath=[result.layer, result.family],
        description=f"{result.requirement}\n\nSource: {result.source}",
        status=STATUSES[stand],
        start=start,
        stop=stop,
        parameters=_parameters(
            {"parameters": result.parameters, "mount": result.mount, "mounted as": result.mount_shown}
        ),
        labels=_labels(
            epic=result.layer,
            feature=result.family,
            story=result.case_id,
            severity=SEVERITIES[result.severity],
            suite=f"{result.layer}/{result.family}",
            tag=stand,
            host=environment.target,
            thread=result.worker,
        ),
        steps=list(_steps(result.calls, start)),
    )
    if stand not in HELD:
        made.statusDetails = allure.StatusDetails(
            known=stand == "known", message=f"{stand}: {result.reason}", trace=result.details or None
        )
    if result.known and result.known.link:
        made.links.append(allure.Link(type="issue", url=result.known.link, name=result.known.reason))
    attached = list(_attachments(result))
    made.attachments = [
        allure.Attachment(name=name, source=f"{uuid5(_SPACE, f'{made.uuid}{n}')}-attachment.txt", type="text/plain")
        for n, (name, _) in enumerate(attached)
    ]
    return made, [text for _, text in attached]


def _test(key: str, once: str, **fields: Any) -> allure.TestResult:
    """A finished test; `key` names it in every run, `once` this run of it."""
    uuid = str(uuid5(_SPACE, f"{key}\0{once}"))
    made = allure.TestResult(uuid=uuid, historyId=_digest(key), stage="finished", **fields)
    # Allure's writer names a file by a random number: the reports derived again would stand beside the first.
    made.file_pattern = allure.TEST_CASE_PATTERN.format(prefix=uuid)
    return made


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _labels(**labels: str) -> list[allure.Label]:
    return [allure.Label(name=n, value=v) for n, v in {**labels, "framework": "assay9", "language": "python"}.items()]


def _times(result: CaseResult, seen: Overview, clock: dict[str, int]) -> tuple[int, int]:
    """Milliseconds. Where the record does not say when a case ended, it followed the worker's one before."""
    took = round(result.seconds * 1000)
    if result.ended is not None:
        stop = round(result.ended.timestamp() * 1000)
        return stop - took, stop
    start = clock.get(result.worker, round(seen.record.environment.started.timestamp() * 1000))
    clock[result.worker] = start + took
    return start, start + took


def _steps(calls: list[Call], start: int) -> Iterator[allure.TestStepResult]:
    at = float(start)
    for call in calls:
        who = call.vantage if call.process == "main" else f"{call.vantage}/{call.process}"
        end = at + call.seconds * 1000
        values = {"result": call.result}
        if call.control_result is not None:
            values["control"] = call.control_result
        yield allure.TestStepResult(
            name=f"{who}: {call.op}({', '.join(call.args)}) = {call.result}",
            # A call that fails as its case demands is not a failed step: the case alone is judged.
            status=allure.Status.PASSED,
            stage="finished",
            start=round(at),
            stop=round(end),
            parameters=_parameters(values),
        )
        at = end


def _attachments(result: CaseResult) -> Iterator[tuple[str, str]]:
    """Comparisons and messages are one: files are what Allure's results cost."""
    names, texts = [], []
    if result.comparisons:
        wrong = sum(not c.ok for c in result.comparisons)
        names.append(f"comparisons inside/outside ({len(result.comparisons)}, {wrong} differ)")
        texts.append(comparisons_text(result.comparisons))
    if result.messages:
        total = sum(result.message_counts.values()) or len(result.messages)
        counts = ", ".join(f"{name} {number}" for name, number in sorted(result.message_counts.items()))
        names.append(f"9P messages that crossed ({total})")
        texts.append("\n".join([names[-1], counts, "", *result.messages, ""]))
    if names:
        yield ", ".join(names), "\n".join(texts)
    for excerpt in result.log_excerpts:
        yield excerpt.source, visible(excerpt.text, keep="\n\t") + "\n"


def _parameters(values: dict[str, str]) -> list[allure.Parameter]:
    return [allure.Parameter(name=name, value=value) for name, value in values.items() if value]


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
