"""Checks collect every wrong field of a case, name what differs, and carry codes that profiles can match."""

from __future__ import annotations

import errno
import stat

import pytest

from conformance import checks
from conformance.errors import Finding, Findings, InfrastructureError, SuiteError


def test_a_check_raises_outside_a_case() -> None:
    with pytest.raises(Finding, match="size: 3, expected 4"):
        checks.equal("size", 3, 4)


def test_findings_are_collected_in_order_and_the_case_goes_on() -> None:
    with checks.collecting() as found:
        assert not checks.equal("size", 3, 4)
        assert checks.equal("mode", 0o644, 0o644)
        assert not checks.one_of("type", "fifo", ("file", "directory"))
        assert not checks.between("blocks", 9, 0, 8, code="field:blocks")
        assert not checks.holds("the opener waits", False, code="hung")
    assert [f.code for f in found] == ["value", "value", "field:blocks", "hung"]
    assert found[0].values == {"what": "size", "seen": "3", "expected": "4"}


def test_a_requirement_of_further_steps_ends_the_case() -> None:
    with checks.collecting() as found, pytest.raises(Finding, match="links: 2, expected 1"):
        checks.require_equal("links", 2, 1)
    assert found == []


def test_an_unknown_code_is_an_error_of_the_suite() -> None:
    with pytest.raises(SuiteError, match="colour"):
        checks.equal("size", 3, 4, code="colour")


def test_several_findings_are_raised_as_one_that_keeps_them_all() -> None:
    first, second = Finding("a", "value"), Finding("b", "errno", {"seen": "EIO"})
    with pytest.raises(Findings) as raised:
        checks.raise_all([first], second)
    assert checks.findings_of(raised.value) == (first, second)
    assert str(raised.value) == "a\nb"


def test_an_infrastructure_error_is_never_hidden_behind_findings() -> None:
    with pytest.raises(InfrastructureError):
        checks.raise_all([Finding("a", "value")], InfrastructureError("the guest is gone"))


def test_what_a_wrong_value_leads_to_is_a_finding_behind_it_and_an_error_without_it() -> None:
    with pytest.raises(Findings) as raised:
        checks.raise_all([Finding("a", "names")], KeyError("fred"))
    assert [f.code for f in raised.value.found] == ["names", "cut-short"]
    assert "KeyError: 'fred'" in str(raised.value)
    with pytest.raises(KeyError):
        checks.raise_all([], KeyError("fred"))


def test_nothing_wrong_raises_nothing() -> None:
    checks.raise_all([])


@pytest.mark.parametrize(
    ("seen", "expected", "text"),
    [
        (b"a" * 2048 + b"X" + b"a" * 2047, b"a" * 4096, "first difference at byte 2048"),
        (b"a" * 100, b"a" * 90, "100 bytes, expected 90; first difference at byte 90"),
        ({"a", "b"}, {"a", "c"}, "missing {'c'}; unexpected {'b'}"),
        ({"st_size": 1, "st_mode": 2}, {"st_size": 1, "st_mode": 3}, "'st_mode': 2, expected 3"),
        (list(range(100)), [*range(50), -1, *range(51, 100)], "first difference at item 50: 50, expected -1"),
    ],
)
def test_the_first_difference_is_named(seen: object, expected: object, text: str) -> None:
    assert text in checks.difference(seen, expected)


def test_values_are_shown_short_and_sorted() -> None:
    assert checks.shown({"b", "a"}) == "{'a', 'b'}"
    assert len(checks.shown("x" * 5000)) < 130


def test_an_oserror_that_ends_a_case_is_its_last_finding() -> None:
    with pytest.raises(Findings) as raised:
        checks.raise_all([Finding("a", "value")], FileNotFoundError(2, "No such file or directory"))
    last = checks.findings_of(raised.value)[-1]
    assert (last.code, last.values["seen"]) == ("errno", "ENOENT")


def test_fields_of_a_stat_result_are_findings_of_their_own() -> None:
    seen = {"st_mode": stat.S_IFREG | 0o640, "st_uid": 0, "st_gid": 5}
    with checks.collecting() as found:
        assert not checks.fields("'fred'", seen, type=stat.S_IFDIR, permissions=0o600, uid=1001, gid=5)
    assert [(f.code, str(f)) for f in found] == [
        ("field:mode", "file type of 'fred': 'regular file', expected 'directory'"),
        ("field:mode", "permission bits of 'fred': 0o640, expected 0o600"),
        ("field:uid", "uid of 'fred': 0, expected 1001"),
    ]
    assert checks.fields("'fred'", {"stx_size": 3}, size=3) and checks.fields("'.'", {"f_namemax": 255}, namemax=255)


def test_changes_names_what_changed_and_what_did_not() -> None:
    before = {"st_mode": 0o100644, "st_mtime_ns": 1, "st_ctime_ns": 1, "st_size": 2}
    after = {"st_mode": 0o100600, "st_mtime_ns": 1, "st_ctime_ns": 2, "st_size": 3}
    with checks.collecting() as found:
        assert not checks.changes("'fred' by write(2)", before, after, must=("mtime_ns", "ctime_ns"), may=("size",))
        assert checks.changes("'fred' by write(2)", before, after, must=("mode",), may=("size", "ctime_ns"))
    assert [(f.code, str(f)) for f in found] == [
        ("field:mode", "mode of 'fred' by write(2) changes from 0o100644 to 0o100600, and must not"),
        ("field:mtime_ns", "not so: mtime_ns of 'fred' by write(2) changes (seen: 1)"),
    ]


def test_a_file_that_is_missing_has_no_fields() -> None:
    missing = {"exists": "ENOENT"}
    with checks.collecting() as found:
        assert not checks.fields("'fred'", missing, size=3)
        assert not checks.changes("'fred'", {"st_size": 1}, missing, must=("size",))
    assert [(f.code, str(f)) for f in found] == [("exists", "not so: 'fred' is there (seen: 'ENOENT')")] * 2


def test_a_case_ends_when_it_has_found_enough_and_its_text_stays_short() -> None:
    turns = 0
    with checks.collecting() as found, pytest.raises(Finding) as last:
        for turns in range(10**6):
            checks.equal(f"byte {turns}", 0, 1)
    assert (turns, len(found)) == (checks.MOST_FOUND - 1, checks.MOST_FOUND - 1)
    with pytest.raises(Findings) as raised:
        checks.raise_all(found, last.value)
    assert len(raised.value.found) == checks.MOST_FOUND
    lines = str(raised.value).splitlines()
    assert len(lines) == Findings.MOST_SHOWN + 1
    assert lines[-1] == f"and {checks.MOST_FOUND - Findings.MOST_SHOWN} more"


def test_numbers_are_shown_as_the_reader_knows_them() -> None:
    assert checks.difference(checks.Octal(0o640), checks.Octal(0o600)) == "0o640, expected 0o600"
    assert checks.difference(checks.Errno(0), checks.Errno(errno.ENOENT)) == "success, expected ENOENT"
    assert checks.shown([checks.Octal(0o644)]) == "[0o644]"


def test_the_gravest_finding_decides_and_never_beyond_the_case() -> None:
    light, own = Finding("a", "errno-choice", severity="varies"), Finding("b", "value")
    assert checks.gravest([light], "must") == "varies"
    assert checks.gravest([light, own], "must") == "must"
    assert checks.gravest([Finding("c", "errno-choice", severity="linux")], "varies") == "varies"
    assert checks.gravest([], "linux") == "linux"


@pytest.mark.parametrize("code", ["died", "escape"])
def test_no_case_excuses_a_target_that_dies_or_lets_a_guest_out(code: str) -> None:
    assert checks.gravest([Finding("a", "value"), Finding("b", code)], "varies") == "must"
