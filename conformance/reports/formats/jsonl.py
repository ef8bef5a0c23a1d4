"""JSON lines: the run on the first line, then one case a line, without calls and comparisons. For scripts."""

from __future__ import annotations

import json
from pathlib import Path

from conformance.evidence.models import Record
from conformance.evidence.overview import overview, standing

_CASE = {
    "id",
    "case_id",
    "parameters",
    "layer",
    "family",
    "title",
    "requirement",
    "source",
    "severity",
    "mount",
    "verdict",
    "reason",
    "infrastructure",
    "tries",
    "findings",
    "seconds",
    "decided_by",
    "covers",
    "message_counts",
    "machines",
}


def write_jsonl(record: Record, path: Path) -> None:
    """Write the lines."""
    seen = overview(record)
    head = {
        "kind": "run",
        "schema_version": record.schema_version,
        "environment": record.environment.model_dump(mode="json"),
        "counts": seen.counts,
        "exit_status": seen.status,
        "sentence": seen.sentence,
    }
    with path.open("w", encoding="utf-8") as out:
        out.write(json.dumps(head) + "\n")
        for result in record.results:
            case = result.model_dump(mode="json", include=_CASE)
            out.write(json.dumps({"kind": "case", "standing": standing(result), **case}) + "\n")
