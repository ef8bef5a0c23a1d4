"""CTRF, the Common Test Report Format (ctrf.io), JSON, for its viewers and for bots of several CI systems.

`known`, `varies`, `unsupported` and `undrivable` are skipped; `error` is other; an unstable case is failed and flaky.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conformance.evidence.models import CaseResult, Record
from conformance.evidence.overview import overview, standing, visible
from conformance.vocabulary import Standing

_STATUS: dict[Standing, str] = {
    "pass": "passed",
    "guest": "passed",
    "fail": "failed",
    "fixed": "failed",
    "unstable": "failed",
    "error": "other",
    "known": "skipped",
    "varies": "skipped",
    "unsupported": "skipped",
    "undrivable": "skipped",
}


def write_ctrf(record: Record, path: Path) -> None:
    """Write the report."""
    path.write_text(json.dumps(_report(record)), encoding="utf-8")


def _report(record: Record) -> dict[str, Any]:
    e, seen = record.environment, overview(record)
    tests = [_test(result) for result in record.results]
    if seen.doubts_of_run:
        doubts = "; ".join(seen.doubts_of_run)
        tests.append({"name": "the run itself", "status": "other", "duration": 0, "message": doubts, "suite": ["run"]})
    counted = {name: sum(test["status"] == name for test in tests) for name in ("passed", "failed", "skipped", "other")}
    start = round(e.started.timestamp() * 1000)
    stop = round((e.ended or e.started).timestamp() * 1000)
    device = e.programs.get("device")
    return {
        "reportFormat": "CTRF",
        "specVersion": "0.0.0",
        "results": {
            "tool": {"name": "assay9", "version": e.assay9_version or "unknown"},
            "summary": {"tests": len(tests), **counted, "pending": 0, "start": start, "stop": stop},
            "tests": tests,
            "environment": {
                "appName": e.target,
                "appVersion": e.target_version or "unknown",
                "osPlatform": e.host_distribution,
                "osVersion": e.host_kernel,
                "commit": e.assay9_commit,
                "buildName": e.build_id,
                "buildUrl": e.job_url,
                "extra": {
                    "guest": f"{e.guest_image} {e.guest_kernel}".strip(),
                    "program": device.path if device is not None else "",
                    "sha256": device.sha256 if device is not None else "",
                    "exitStatus": seen.status,
                },
            },
        },
    }


def _test(result: CaseResult) -> dict[str, Any]:
    stands = standing(result)
    name = f"{result.id} on {result.mount}" if result.mount else result.id
    test: dict[str, Any] = {
        "name": visible(name),
        "status": _STATUS[stands],
        "duration": round(result.seconds * 1000),
        "suite": [result.layer, result.family],
        "tags": [result.severity, stands],
    }
    if result.reason:
        test["message"] = visible(result.reason)
    if stands in ("fail", "fixed", "unstable", "error") and result.details:
        test["trace"] = visible(result.details, keep="\n\t")
    if stands == "unstable":
        test["flaky"] = True
    return test
