"""The gate's table, line by line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest

from conformance.evidence.models import CaseResult, Earlier, Environment, Record, Trouble
from conformance.gating.gate import exit_status, unexpected
from conformance.vocabulary import Severity, Verdict
from tests.evidence import sample


def made(*verdicts: str, **more: object) -> Record:
    results = []
    for number, reported in enumerate(verdicts):
        verdict, _, severity = reported.partition("/")
        results.append(
            CaseResult(
                id=f"X-{number}",
                case_id=f"X-{number}",
                layer="vfs",
                family="x",
                title="t",
                requirement="r",
                source="s",
                severity=cast(Severity, severity or "must"),
                verdict=cast(Verdict, verdict),
            )
        )
    return Record(environment=Environment(target="x", started=sample.STARTED), results=results).model_copy(update=more)


EARLIER = Earlier(run="20260101T000000Z-x", started=sample.STARTED, compared=3, judged_then=2, judged_now=1)
TROUBLE = [Trouble(at=datetime.now(UTC), worker="main", text="no guest")]


@pytest.mark.parametrize(
    ("record", "status"),
    [
        (made("pass", "pass"), 0),
        (made("pass", "known", "unsupported", "undrivable", "fail/varies"), 0),
        (made("pass", "fail"), 1),
        (made("pass", "fail/linux"), 1),
        (made("pass", "fixed"), 1),
        (made("fail", "error"), 1),
        (made("pass", "error"), 3),
        (made("pass", troubles=TROUBLE), 3),
        (made(), 3),
        (made("undrivable", "undrivable"), 3),
        (made("pass", interrupted=True), 3),
        (made("pass", damage=["a line was cut off"]), 3),
        (made("pass", interrupted=True, interrupted_by="SIGINT"), 130),
        (made("pass", "fail", interrupted=True, interrupted_by="SIGTERM"), 143),
        (made("pass", interrupted=True, interrupted_by="SIGHUP"), 143),
        (made("pass", *["undrivable"] * 1712), 3),
        (made("pass", *["undrivable"] * 19), 0),
        (made("fail", *["undrivable"] * 1712), 1),
        (made("pass", "undrivable", earlier=EARLIER), 0),
        (made("pass", "undrivable", "undrivable", earlier=EARLIER.model_copy(update={"judged_then": 3})), 3),
    ],
)
def test_status(record: Record, status: int) -> None:
    assert exit_status(record) == status


def test_unexpected_names_them() -> None:
    assert [r.verdict for r in unexpected(made("pass", "fail", "fail/varies", "fixed", "known"))] == ["fail", "fixed"]
