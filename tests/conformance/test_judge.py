"""conformance.run.verdict: every combination of events that distinguishes two verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from conformance.errors import Finding, Findings, InfrastructureError, SuiteError, TargetDied, Undrivable, Unsupported
from conformance.profiles.model import Known, NotSupported
from conformance.run.verdict import Judgement, judge, not_in_older, one_line
from conformance.vfs.trace import Crossed
from conformance.vfs.vantage import CallRecord
from tests.cases import made_case

CASE = made_case(lambda share: None, covers=("Tlock",), caches=("none",), needs=("locks",))
KNOWN = Known(case="X-001", reason="a reason", link="https://example.org/1", finding="errno", values={"seen": "EAGAIN"})
OTHER = Known(case="X-001", reason="another", link="https://example.org/2", finding="field:mtime_ns")
DECLARED = NotSupported(feature="locks", errno=["EOPNOTSUPP"], reason="none here")
CROSSED, NOT_CROSSED = Crossed(("Tlock",), {"Tlock": 1}, False), Crossed(("Twalk",), {"Twalk": 1}, False)


def verdict(
    raised: BaseException | None = None,
    crossed: Crossed | None = CROSSED,
    known: tuple[Known, ...] = (),
    unsupported: tuple[NotSupported, ...] = (),
    calls: tuple[CallRecord, ...] = (),
) -> Judgement:
    return judge(CASE, raised, crossed, known, unsupported, list(calls))


def call(errno: int | None, vantage: str = "inside") -> CallRecord:
    return CallRecord(vantage, "main", "setlk", (), {}, errno=errno)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (None, "pass"),
        (Finding("wrong", "value"), "fail"),
        (AssertionError("a case is wrong"), "error"),
        (OSError(5, "Input/output error"), "fail"),
        (Undrivable("host root"), "undrivable"),
        (Unsupported("declared"), "unsupported"),
        (InfrastructureError("the guest is gone"), "error"),
        (SuiteError("a case is wrong"), "error"),
        (TypeError("a case is wrong"), "error"),
        (KeyError("x"), "error"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_what_was_raised_decides(raised: BaseException | None, expected: str) -> None:
    assert verdict(raised).verdict == expected


def test_only_infrastructure_is_infrastructures() -> None:
    assert verdict(InfrastructureError("x")).infrastructure
    assert not verdict(SuiteError("x")).infrastructure
    assert not verdict(Finding("x", "value")).infrastructure


class TestCovers:
    """A message that did not cross makes a pass undrivable, and nothing else."""

    def test_a_pass_without_the_message_is_undrivable(self) -> None:
        judged = verdict(crossed=NOT_CROSSED)
        assert judged.verdict == "undrivable" and "Tlock" in judged.reason

    def test_a_target_without_traces_passes(self) -> None:
        assert verdict(crossed=None).verdict == "pass"

    def test_a_failure_stays_a_failure(self) -> None:
        assert verdict(Finding("wrong", "value"), NOT_CROSSED).verdict == "fail"


def found(code: str = "errno", seen: str = "EAGAIN", severity: Any = None) -> Finding:
    return Finding(f"{code} is {seen}", code, {"seen": seen}, severity)


class TestKnown:
    """A declared failure: each finding is covered by an entry, and only while it fails."""

    def test_code_and_values_make_it_known(self) -> None:
        judged = verdict(found(), known=(KNOWN,))
        assert judged.verdict == "known" and "a reason" in judged.reason
        assert [one.known for one in judged.findings] == [KNOWN]

    def test_another_value_or_another_code_is_a_failure(self) -> None:
        assert verdict(found(seen="EIO"), known=(KNOWN,)).verdict == "fail"
        assert verdict(found("hung"), known=(KNOWN,)).verdict == "fail"

    def test_a_finding_that_no_entry_covers_is_a_failure_and_named_first(self) -> None:
        judged = verdict(Findings([found(), found("content", "b'a'")]), known=(KNOWN,))
        assert judged.verdict == "fail" and judged.reason == "content is b'a'; 1 more declared"
        assert [one.known for one in judged.findings] == [KNOWN, None]

    def test_several_entries_may_cover_a_case_together(self) -> None:
        both = Findings([found(), found("field:mtime_ns", "1")])
        judged = verdict(both, known=(KNOWN, OTHER))
        assert judged.verdict == "known" and "a reason; another" in judged.reason
        assert verdict(both, known=(OTHER,)).verdict == "fail"

    def test_an_unexpected_call_s_errno_is_a_finding_like_any_other(self) -> None:
        assert verdict(OSError(11, "x"), known=(KNOWN,)).verdict == "known"
        assert verdict(OSError(5, "x"), known=(KNOWN,)).verdict == "fail"

    def test_a_pass_is_fixed_unless_the_failure_is_a_race(self) -> None:
        assert verdict(known=(KNOWN,)).verdict == "fixed"
        assert verdict(known=(KNOWN.model_copy(update={"sometimes": True}), KNOWN)).verdict == "pass"

    def test_what_did_not_cross_is_not_fixed(self) -> None:
        assert verdict(known=(KNOWN,), crossed=NOT_CROSSED).verdict == "undrivable"

    def test_an_error_is_never_known(self) -> None:
        assert verdict(SuiteError("expected EAGAIN"), known=(KNOWN,)).verdict == "error"
        assert verdict(InfrastructureError("expected EAGAIN"), known=(KNOWN,)).verdict == "error"


class TestSeverity:
    """A failure is as severe as its most severe undeclared finding."""

    def test_that_of_the_case_unless_the_findings_are_lighter(self) -> None:
        assert verdict(found()).severity == "must"
        assert verdict(found(severity="varies")).severity == "varies"
        assert verdict(Findings([found(severity="varies"), found("content", severity="linux")])).severity == "linux"
        assert verdict(Findings([found(severity="varies"), found("content")])).severity == "must"

    def test_known_findings_do_not_count(self) -> None:
        both = Findings([found(), found("content", severity="varies")])
        assert verdict(both, known=(KNOWN,)).severity == "varies"


class TestOlderVersion:
    """A case may be undrivable on a 9P2000.u mount. If it passes it still passes; if it breaks the guest it fails."""

    def judged(self, raised: BaseException | None = None, calls: tuple[CallRecord, ...] = ()) -> str:
        without = not_in_older(CASE, "9p2000.u")
        return judge(CASE, raised, NOT_CROSSED, (), (), list(calls), without).verdict

    def test_only_where_the_version_has_no_such_message(self) -> None:
        assert not_in_older(CASE, "9p2000.L") == ()
        assert not_in_older(CASE, "9p2000.u") == ("Tlock",)
        assert not_in_older(replace(CASE, covers=("Tread", "Tlock")), "9p2000.u") == ("Tlock",)

    def test_a_case_that_asks_for_the_version_is_held_to_it(self) -> None:
        assert not_in_older(replace(CASE, mount="version=9p2000.u"), "9p2000.u") == ()

    def test_verdicts(self) -> None:
        assert self.judged() == "pass"
        assert self.judged(OSError(95, "x")) == "undrivable"
        assert self.judged(TargetDied("QEMU was killed by signal 9 (x)")) == "fail"
        hung = call(None)
        hung.trouble = "hung"
        assert self.judged(Finding("hung", "hung"), (hung,)) == "fail"


def refused(seen: str = "EOPNOTSUPP", vantage: str = "inside", op: str = "setlk") -> Finding:
    return Finding(f"{op} failed with {seen}", "errno", {"call": op, "vantage": vantage, "seen": seen})


def answered(*messages: str, number: int = 1) -> Crossed:
    """What crossed during call 1."""
    return Crossed(messages, {"Tlock": 1}, False, {number: messages}, numbered=True)


class TestUnsupported:
    """A feature is unsupported if the only failure is its declared errno, as the server's answer to a call inside."""

    def judged(
        self,
        raised: BaseException | None,
        *calls: CallRecord,
        crossed: Crossed | None = CROSSED,
        known: tuple[Known, ...] = (),
    ) -> str:
        return verdict(raised, crossed, known, (DECLARED,), calls or (call(95),)).verdict

    def test_the_declared_errno_is_unsupported(self) -> None:
        assert self.judged(refused()) == "unsupported"

    def test_another_errno_is_a_failure_even_where_the_declared_one_was_seen(self) -> None:
        assert self.judged(refused("EIO"), call(5)) == "fail"
        assert self.judged(refused("EIO"), call(95), call(5)) == "fail"

    def test_another_finding_beside_it_is_a_failure_and_named_first(self) -> None:
        judged = verdict(Findings([refused(), found("content", "b'a'")]), unsupported=(DECLARED,), calls=(call(95),))
        assert judged.verdict == "fail" and judged.reason == "content is b'a'; 1 more declared"

    def test_a_known_failure_beside_it_is_declared_too(self) -> None:
        assert self.judged(Findings([refused(), found()]), known=(KNOWN,)) == "unsupported"

    def test_a_value_of_that_name_is_no_errno(self) -> None:
        assert self.judged(found("value", "EOPNOTSUPP")) == "fail"

    def test_the_errno_outside_does_not_count(self) -> None:
        assert self.judged(refused(vantage="outside"), call(95, "outside")) == "fail"

    def test_the_server_must_have_answered_so(self) -> None:
        by_server = call(95)
        by_server.number = 1
        assert self.judged(refused(), by_server, crossed=answered("Tlock -> EOPNOTSUPP")) == "unsupported"
        assert self.judged(refused(), by_server, crossed=answered("Tlock")) == "fail", "the guest's own"
        other = answered("Tlock -> EOPNOTSUPP", number=2)
        assert self.judged(refused(), by_server, crossed=other) == "fail", "in another call"

    def test_calls_made_in_one(self) -> None:
        several = CallRecord("inside", "main", "attempts", (), {}, number=1)
        assert self.judged(refused(), several, crossed=answered("Tlock -> EOPNOTSUPP")) == "unsupported"
        assert self.judged(refused(), several, crossed=answered("Tlock")) == "fail"

    def test_a_message_may_be_unsupported_in_a_case_that_does_not_name_it(self) -> None:
        """p9ufs has no Tsetattr: each case that calls chmod(2) fails for that reason only."""
        message = NotSupported(feature="Tsetattr", errno=["ENOSYS"], reason="none here")

        def judged(*crossed: str, number: int = 1) -> str:
            chmod = CallRecord("inside", "main", "setlk", (), {}, errno=38, number=1)
            seen = answered(*crossed, number=number)
            return verdict(refused("ENOSYS"), seen, unsupported=(message,), calls=(chmod,)).verdict

        assert judged("Twalk", "Tsetattr -> ENOSYS") == "unsupported"
        assert judged("Twalk", "Tsetattr") == "fail", "the guest's own answer"
        assert judged("Tunlinkat -> ENOSYS") == "fail", "another message was refused so"
        assert judged("Tsetattr -> ENOSYS", number=2) == "fail", "in another call"
        assert verdict(refused("ENOSYS"), None, unsupported=(message,), calls=(call(38),)).verdict == "fail", (
            "without a trace"
        )
        assert verdict(None, unsupported=(message,)).verdict == "pass", "a case that did without it"

    def test_a_target_that_dies_of_an_unsupported_feature_is_a_failure(self) -> None:
        assert self.judged(TargetDied("the guest's kernel panicked (x)")) == "fail"
        assert self.judged(Findings([TargetDied("the guest's kernel panicked"), refused()])) == "fail"

    def test_a_pass_is_fixed(self) -> None:
        assert self.judged(None, call(None)) == "fixed"


@pytest.mark.parametrize(
    ("raised", "shown"),
    [
        (Finding("a\n  b", "value"), "a b"),
        (OSError(95, "Not supported"), "OSError: [Errno 95] Not supported"),
        (Finding("", "value"), "Finding"),
    ],
)
def test_one_line(raised: BaseException, shown: Any) -> None:
    assert one_line(raised) == shown


def test_one_line_is_short() -> None:
    assert len(one_line(Finding("x" * 5000, "value"))) == 300
