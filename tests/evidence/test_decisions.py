"""What reports say about who decided: the device, the guest's kernel on the device's answer, or that kernel alone."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from conformance.comparison import Comparison, FieldComparison
from conformance.evidence.looked import looks
from conformance.evidence.models import Call, CaseResult, KnownFailure, Record, SeenFinding
from conformance.evidence.overview import overview
from conformance.gating.gate import exit_status
from conformance.reports.html import html
from conformance.reports.terminal import summary as terminal_summary
from conformance.reports.ticket.text import text
from tests.evidence import sample
from tests.evidence.reading import embedded


def result(number: int, **update: object) -> CaseResult:
    made = sample.record(1).results[0]
    plain: dict[str, object] = {
        "id": f"OPEN-{number:03}",
        "case_id": f"OPEN-{number:03}",
        "verdict": "pass",
        "severity": "must",
        "calls": [],
        "comparisons": [],
        "known": None,
        "reason": "",
    }
    return made.model_copy(update={**plain, **update})


def record(*results: CaseResult, left_out: int = 0) -> Record:
    whole = sample.record(1)
    environment = whole.environment.model_copy(update={"left_out": left_out})
    return whole.model_copy(update={"results": list(results), "environment": environment, "troubles": [], "damage": []})


def entry(owner: str, reason: str) -> SeenFinding:
    known = KnownFailure(reason=reason, link="https://example.org", where="a function", component="c", owner=owner)
    return SeenFinding(code="errno", text="t", known=known)


def known(number: int, *findings: SeenFinding) -> CaseResult:
    return result(number, verdict="known", findings=list(findings), known=findings[0].known)


def test_a_pass_that_no_server_could_fail_is_counted_apart() -> None:
    seen = overview(record(result(1), result(2, decided_by="informed"), result(3, decided_by="guest"), left_out=53))
    assert (seen.counts["pass"], seen.counts["guest"], seen.judged) == (2, 1, 2)
    assert seen.decisions == (
        "of 2 passes the device decided 1, the guest's kernel 1 on what the device answered; "
        "1 more pass was decided by the guest's kernel alone; 53 cases of that kind did not run (--all runs them)"
    )


def test_a_run_of_nothing_else_says_nothing_of_the_target() -> None:
    assert exit_status(record(result(1, decided_by="guest"))) == 3


def test_nothing_is_said_where_the_server_decides_all() -> None:
    assert overview(record(result(1), result(2))).decisions == ""


def test_a_failure_is_one_whoever_decided() -> None:
    assert overview(record(result(1, verdict="fail", decided_by="guest"))).counts["fail"] == 1


def test_known_failures_of_the_device_stand_apart_from_those_of_the_guest_s_client() -> None:
    both = record(
        known(1, entry("device", "d")),
        known(2, entry("client", "c")),
        known(3, entry("client", "c"), entry("device", "d")),
    )
    seen = overview(both)
    assert seen.whose == "2 of the device, 2 of the guest's client"
    grouped = {whose: [(e.reason, len(cases)) for e, cases in entries] for whose, entries in seen.known_by_owner()}
    assert grouped == {"of the device": [("d", 2)], "of the guest's client": [("c", 2)]}
    assert "KNOWN FAILURES OF THE DEVICE" in text(both) and "KNOWN FAILURES OF THE GUEST'S CLIENT" in text(both)
    assert "https://example.org" in text(both, whole=True)
    assert "Of the device</h3>" in html(both)


def changing(changes: bool = True, compared: bool = True) -> Call:
    return Call(1, "inside", "main", "create", [], "3", changes=changes, compared=compared)


def compared(rule: str, equal: bool, tolerated: str | None = None) -> Comparison[str]:
    field = FieldComparison("st_size", "1", "1" if equal else "2", rule, equal, tolerated)  # type: ignore[arg-type]
    return Comparison(1, "stat", "f", [field], ok=equal or tolerated is not None)


def test_how_closely_was_looked() -> None:
    one = result(
        1,
        calls=[changing(), changing(compared=False), changing(changes=False)],
        comparisons=[
            compared("exact", True),
            compared("exact", False, "a reason"),
            compared("exact", False),
            compared("informational", False, "no rule"),
            compared("rescaled", False, "blocks"),
        ],
    )
    seen = looks([one])
    assert seen.sentence == (
        "1 of 2 changing calls have no comparison at that call; "
        "1 of 2 differences of exact fields were tolerated for a reason"
    )
    assert seen.reasons == (("a reason", 1, ("st_size",)), ("blocks", 1, ("st_size",)))
    assert "1 difference of st_size: a reason" in text(record(one), whole=True)
    assert "1 of st_size: a reason" in html(record(one))
    assert looks([]).sentence == ""


@pytest.mark.parametrize("show", [text, html, lambda seen: terminal_summary(seen, Path("run"))])
def test_every_report_says_who_decided(show: Callable[[Record], str]) -> None:
    said = " ".join(unescape(show(record(result(1, decided_by="informed"), left_out=3))).split())
    assert "the guest's kernel 1 on what the device answered" in said


def test_undeclared_findings_are_listed_one_by_one() -> None:
    new = [SeenFinding(code="field:size", text=f"size of {n}: 1, expected 2") for n in range(7)]
    said = text(record(result(1, verdict="fail", findings=[entry("device", "the reason of an entry"), *new])))
    assert (
        said.count("field:size: size of ") == 5
        and "... and 2 more findings" in said
        and "the reason of an entry" not in said
    )


def test_the_page_has_findings_and_the_messages_of_each_call() -> None:
    made = Call(1, "inside", "main", "open", [], "EACCES", errno="EACCES", messages=["Twalk", "Tlopen -> EACCES"])
    shown = html(record(known(1, entry("device", "a declared reason")).model_copy(update={"calls": [made]})))
    ((result_shown,),) = embedded(shown).values()
    (finding,) = result_shown["findings"]
    assert finding["code"] == "errno" and finding["known"]["reason"] == "a declared reason"
    assert result_shown["calls"][0]["messages"] == ["Twalk", "Tlopen -> EACCES"]
