"""Whether a request is refused and with which errno are two questions; the second has a lower severity."""

from __future__ import annotations

import pytest

from conformance.checks import collecting, ended, findings_of, gravest, report
from conformance.errors import Finding, Undrivable
from conformance.raw.expectation import OK, Choice, Expect
from conformance.raw.findings import WrongAnswer
from protocol.constants import EACCES, EINVAL, ENOENT, EOPNOTSUPP
from protocol.fields import Qid
from protocol.messages import Rlerror, Rlopen, Tlopen

ASKED = Tlopen(1, 2, 0)


def answered(errno: int, expect: Expect) -> WrongAnswer:
    """The finding for a request with that answer."""
    reply = Rlerror(1, errno) if errno else Rlopen(1, Qid(0, 0, 0), 0)
    return WrongAnswer(ASKED, reply, errno, expect)


@pytest.mark.parametrize(
    ("errno", "expect", "code", "severity"),
    [
        (OK, Choice({ENOENT}), "errno", None),
        (OK, {ENOENT}, "errno", None),
        (ENOENT, None, "errno", None),
        (EINVAL, Choice({ENOENT, EACCES}), "errno-choice", "varies"),
        (EINVAL, Choice({ENOENT}) | {EACCES}, "errno-choice", "varies"),
        (EINVAL, {ENOENT, EACCES}, "errno-choice", "linux"),
        (EINVAL, ENOENT, "errno-choice", "linux"),
        (EOPNOTSUPP, {OK, ENOENT}, "errno-choice", "linux"),
    ],
)
def test_another_errno_is_a_lighter_finding(errno: int, expect: Expect, code: str, severity: str | None) -> None:
    seen = answered(errno, expect)
    assert (seen.code, seen.severity) == (code, severity)


def test_a_case_whose_errno_alone_is_wrong_weighs_as_the_errno() -> None:
    assert gravest([answered(EINVAL, Choice({ENOENT}))], "must") == "varies"
    assert gravest([answered(EINVAL, ENOENT)], "must") == "linux"
    assert gravest([answered(EINVAL, ENOENT)], "varies") == "varies"
    assert gravest([answered(EINVAL, Choice({ENOENT})), answered(OK, ENOENT)], "must") == "must"
    assert gravest([answered(EINVAL, Choice({ENOENT})), Finding("fred was removed", "changed")], "must") == "must"


def test_what_was_found_is_not_hidden_behind_what_cannot_be_driven() -> None:
    with collecting() as found:
        report(Finding("size of 'fred': 3, expected 4", "field:size"))
        last: BaseException = Undrivable("needs Tlock: not implemented, answered EOPNOTSUPP")
    assert [one.code for one in findings_of(ended(found, last))] == ["field:size"]
    with collecting() as none:
        pass
    assert ended(none, last) is last
