"""The checks of a case: each names what it judges, and a failed check does not hide the next.

A check that fails makes a `Finding`. While a case runs (`collecting`) the finding is kept and the case continues, so
that every wrong field is reported and a known defect hides nothing. `require_...` ends the case at once, for values on
which its further steps depend. Outside a case every check raises. Pure: no calls, no clock, no pytest.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from conformance.errors import Finding, Findings, SuiteError, Undrivable
from conformance.vocabulary import GRAVITY, Severity, errno_name

T = TypeVar("T")

CODES: dict[str, str] = {
    "errno": "a call or a request ended with an errno, or with success, that the case does not allow",
    "errno-choice": "a request was refused, as it must be, with an errno other than those that have a source",
    "value": "a call or a reply returned another value than the case requires",
    "content": "the bytes of a file are not those that were written",
    "disk": "what was synced is not on the disk of the host",
    "names": "a directory does not list the names that it must list",
    "field": "a field of stat, statx, statvfs, a listing or an attribute differs inside and outside (field:NAME)",
    "xattr": "an extended attribute, or the list of their names, is not what was set",
    "exists": "a name is there that must not be, or is missing",
    "changed": "a request that was refused has changed something all the same",
    "escape": "the server reached something outside the exported directory",
    "reply": "a reply is malformed, unexpected, or not of the type that answers the request",
    "no-reply": "a request got no reply",
    "hung-up": "the server closed the connection where it must reply",
    "hung": "a system call did not return",
    "returned": "a system call returned where it must wait",
    "killed": "a process of the case was killed, or ended where it must go on",
    "died": "the server, the device or the guest crashed or stopped responding",
    "left": "the case left something that cannot be removed",
    "slow": "the case took longer than its limit",
    "memory": "the server keeps memory, descriptors or threads that it must give back",
    "ring": "the device breaks a rule of the virtqueue",
    "mount": "the share cannot be mounted as it must be",
    "cut-short": "a case could not go on with a value that was found to be wrong",
}
"""The word before the colon of every finding's code, and what it means. Stable: profiles match codes."""

MOST_FOUND = 200
"""Findings after which a case ends: a loop that finds the same defect in each turn adds nothing."""
_SHOWN = 120
"""Characters of a value that a message shows."""
_CONTEXT = 16
"""Bytes or characters shown on each side of the first difference of long values."""

_TYPES = {
    stat.S_IFREG: "regular file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class Found(list[Finding]):
    """The findings of one case, and the number of values judged, including right ones."""

    judged = 0


_found: ContextVar[Found | None] = ContextVar("assay9_findings", default=None)


@contextmanager
def collecting() -> Iterator[Found]:
    """Keep the findings of checks made in the block, in order, instead of raising them."""
    found = Found()
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


def judged() -> None:
    """Count a value that was judged without a check of this module: a refusal, a name that must be gone."""
    found = _found.get()
    if found is not None:
        found.judged += 1


def report(finding: Finding) -> None:
    """Keep `finding` while a case runs; raise it elsewhere, and when the case has too many findings."""
    found = _found.get()
    if found is None or len(found) >= MOST_FOUND - 1:
        raise finding
    found.append(finding)


def report_all(findings: Sequence[Finding]) -> None:
    """Keep them while a case runs; elsewhere raise them, several as `Findings`."""
    if _found.get() is None:
        raise_all(list(findings))
    for finding in findings:
        report(finding)


def raise_all(found: list[Finding], last: BaseException | None = None) -> None:
    """Raise the outcome of a case: nothing, one Finding, or several as `Findings`.

    `last` is the exception that ended the case. A Finding, or a call's OSError, is a further finding. A Python
    exception that earlier findings explain (a missing key of a wrong reply) is dropped. Anything else wins: findings
    never hide an error of the suite or of the infrastructure. Undrivable does not hide earlier findings.
    """
    if found and isinstance(last, Undrivable):
        last = None
    if found and isinstance(last, _CONSEQUENCES) and not findings_of(last):
        text = f"the case could not go on with what it had seen: {type(last).__name__}: {last}"
        last = Finding(text, "cut-short", {"seen": type(last).__name__})
    if last is not None and (not found or not findings_of(last)):
        raise last
    whole = [*found, *findings_of(last)]
    if whole:
        raise (whole[0] if len(whole) == 1 else Findings(whole)) from last


_CONSEQUENCES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""The exceptions of a case's own code when it continues with a value that a check found wrong."""


def ended(found: list[Finding], last: BaseException | None) -> BaseException | None:
    """What `raise_all` raises, as a value; None if a case has found nothing and ran to its end."""
    try:
        raise_all(found, last)
    except Exception as error:  # noqa: BLE001 - it is passed on unchanged
        return error
    return None


def findings_of(raised: BaseException | None) -> tuple[Finding, ...]:
    """The findings that an exception stands for: several, one, or none.

    An unexpected OSError is one, too. A plain assertion is not: it names no fault of the target.
    """
    if isinstance(raised, Findings):
        return raised.found
    if isinstance(raised, Finding):
        return (raised,)
    if isinstance(raised, OSError):
        seen, about = str(Errno(raised.errno or -1)), getattr(raised, "about", {})
        text = f"{about['spelled']} failed with {seen}" if about else f"{type(raised).__name__}: {raised}"
        values = {name: value for name, value in about.items() if name != "spelled"}
        return (Finding(text, "errno", {**values, "seen": seen, "expected": "success"}),)
    return ()


ALWAYS_MUST = frozenset({"died", "escape"})
"""Codes of findings in which no implementation may differ from others, whatever the case is about."""


def gravest(found: Iterable[Finding], own: Severity) -> Severity:
    """The severity of a case with these findings: that of the gravest, at most the case's own.

    But a target that dies, or lets a guest out of its share, fails as `must` in every case.
    """
    found = tuple(found)
    if any(one.code in ALWAYS_MUST for one in found):
        return "must"
    severities = [one.severity or own for one in found] or [own]
    return max(own, min(severities, key=GRAVITY.__getitem__), key=GRAVITY.__getitem__)


class Soon(Generic[T]):
    """A value that is on its way: what checks it is called when it is there."""

    def __init__(self) -> None:
        self._checks: list[Callable[[T], object]] = []
        self._value: list[T] = []

    def then(self, check: Callable[[T], object]) -> None:
        """Call `check` with the value, at once if it is there."""
        if self._value:
            check(self._value[0])
        else:
            self._checks.append(check)

    def arrived(self, value: T) -> None:
        """The value is there."""
        self._value = [value]
        for check in self._checks:
            check(value)


def equal(what: str, seen: object, expected: object, *, code: str = "value", **values: object) -> bool:
    """`seen` is `expected`. `what` names it in words: "size of 'fred' after O_TRUNC". Returns whether it is so, True
    for a value that is not there yet.
    """
    if isinstance(seen, Soon):
        seen.then(lambda value: equal(what, value, expected, code=code, **values))
        return True
    return _check(seen == expected, lambda: f"{what}: {difference(seen, expected)}", code, what, seen, expected, values)


def one_of(what: str, seen: object, allowed: Collection[object], *, code: str = "value", **values: object) -> bool:
    """`seen` is one of `allowed`. Returns whether it is so."""
    return _check(
        seen in allowed,
        lambda: f"{what}: {shown(seen)}, expected one of {', '.join(shown(one) for one in allowed)}",
        code,
        what,
        seen,
        allowed,
        values,
    )


def between(what: str, seen: Any, low: Any, high: Any, *, code: str = "value", **values: object) -> bool:
    """`low <= seen <= high`. Returns whether it is so."""
    return _check(
        low <= seen <= high,
        lambda: f"{what}: {shown(seen)}, expected {shown(low)} to {shown(high)}",
        code,
        what,
        seen,
        f"{low}..{high}",
        values,
    )


def holds(what: str, condition: object, *, seen: object = None, code: str = "value", **values: object) -> bool:
    """The statement `what` is true: "the opener waits for a writer". `seen` shows what was there instead."""
    shows = "" if seen is None else f" (seen: {shown(seen)})"
    return _check(bool(condition), lambda: f"not so: {what}{shows}", code, what, seen, "so", values)


def fields(what: str, seen: Mapping[str, Any] | Soon[dict[str, Any]], **expected: object) -> bool:
    """Fields of a stat, statx or statvfs result are as expected: `fields("'fred'", seen, uid=1001, permissions=0o640)`.

    Names go without their prefix (st_, stx_, f_). `permissions` are the lower twelve bits of the mode and `type` its
    file type (stat.S_IFDIR). Each wrong field is a finding of its own, `field:NAME`. Returns whether all are right,
    True for a result that is not there yet.
    """
    if isinstance(seen, Soon):
        seen.then(lambda value: fields(what, value, **expected))
        return True
    if not seen or "exists" in seen:
        return holds(f"{what} is there", False, seen=seen.get("exists", "nothing"), code="exists")
    right = [
        _field(what, seen, name, value) for name, value in expected.items()
    ]  # all of them, not only up to the first wrong one
    return all(right)


def _field(what: str, seen: Mapping[str, Any], name: str, expected: Any) -> bool:
    plain = "mode" if name in ("permissions", "type") else name
    value = next(seen[prefix + plain] for prefix in ("st_", "stx_", "f_", "") if prefix + plain in seen)
    if name == "type":
        value, expected = (_TYPES.get(stat.S_IFMT(mode), oct(mode)) for mode in (value, expected))
    elif plain == "mode":
        value, expected = Octal(value & 0o7777 if name == "permissions" else value), Octal(expected)
    spelt = {"type": "file type", "permissions": "permission bits"}.get(name, name)
    return equal(f"{spelt} of {what}", value, expected, code=f"field:{plain}", field=plain)


def changes(
    what: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    must: Collection[str] = (),
    may: Collection[str] | None = (),
) -> bool:
    """Between two stat results all the fields of `must` have changed, and no others except those of `may`, if given.

    `what` names the file and what was done: "'fred' by read(2)". Names go without their prefix. Each wrong field is a
    finding of its own, `field:NAME`. Returns whether all is so.
    """
    judged()
    if "exists" in before or "exists" in after:
        return holds(f"{what} is there", False, seen=after.get("exists", "before it was not"), code="exists")
    right = []
    for prefixed, value in after.items():
        name = prefixed.removeprefix("stx_").removeprefix("st_")
        was, code = before.get(prefixed, value), f"field:{name}"
        if name in must:
            right.append(holds(f"{name} of {what} changes", value != was, seen=value, code=code, field=name))
        elif value != was and may is not None and name not in may:
            then, now = (repr(Octal(v)) if name == "mode" else shown(v) for v in (was, value))
            text = f"{name} of {what} changes from {then} to {now}, and must not"
            report(_finding(text, code, f"{name} of {what}", value, was, {"field": name}))
            right.append(False)
    return all(right)


class Octal(int):
    """A number that findings show in base 8: modes, permission bits, umasks."""

    def __repr__(self) -> str:
        return oct(self)

    __str__ = __repr__


class Errno(int):
    """An errno, or 0 for success, that findings show by name."""

    def __repr__(self) -> str:
        return errno_name(self) if self else "success"

    __str__ = __repr__


def require_equal(what: str, seen: object, expected: object, *, code: str = "value", **values: object) -> None:
    """Like `equal`, but ends the case on a failure: its further steps need this."""
    judged()
    if seen != expected:
        raise _finding(f"{what}: {difference(seen, expected)}", code, what, seen, expected, values)


def require(what: str, condition: object, *, seen: object = None, code: str = "value", **values: object) -> None:
    """Like `holds`, but ends the case on a failure: its further steps need this."""
    judged()
    if not condition:
        shows = "" if seen is None else f" (seen: {shown(seen)})"
        raise _finding(f"not so: {what}{shows}", code, what, seen, "so", values)


def _check(
    ok: bool,
    text: Callable[[], str],
    code: str,
    what: str,
    seen: object,
    expected: object,
    values: Mapping[str, object],
) -> bool:
    judged()
    if not ok:
        report(_finding(text(), code, what, seen, expected, values))
    return ok


def _finding(text: str, code: str, what: str, seen: object, expected: object, values: Mapping[str, object]) -> Finding:
    if code.partition(":")[0] not in CODES:
        raise SuiteError(f"the finding code {code!r} is not in conformance.checks.CODES")
    return Finding(text, code, {"what": what, "seen": shown(seen), "expected": shown(expected), **values})


def shown(value: object) -> str:
    """A value as a finding shows it: one line, at most 120 characters; sets are sorted, so texts are stable."""
    if isinstance(value, AbstractSet):
        inner = ", ".join(sorted(map(repr, value)))
        text = f"{{{inner}}}" if value else "nothing"
    else:
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 24]}... ({len(text)} characters)"


def difference(seen: object, expected: object) -> str:
    """Both values in words; for long bytes, texts, lists, sets and dicts the first difference."""
    if isinstance(seen, bytes | str) and isinstance(expected, bytes | str) and type(seen) is type(expected):
        return _sequence_difference(seen, expected)
    if isinstance(seen, AbstractSet) and isinstance(expected, AbstractSet):
        return _set_difference(seen, expected)
    if isinstance(seen, dict) and isinstance(expected, dict):
        return _dict_difference(seen, expected)
    if isinstance(seen, list | tuple) and isinstance(expected, list | tuple) and len(repr(seen)) > _SHOWN:
        return _list_difference(list(seen), list(expected))
    return f"{shown(seen)}, expected {shown(expected)}"


def _sequence_difference(seen: bytes | str, expected: bytes | str) -> str:
    if max(len(seen), len(expected)) <= _SHOWN // 2:
        return f"{seen!r}, expected {expected!r}"
    at = first_difference(seen, expected)
    start = max(0, at - _CONTEXT)
    unit = "byte" if isinstance(seen, bytes) else "character"
    lengths = f"{len(seen)} {unit}s" if len(seen) == len(expected) else f"{len(seen)} {unit}s, expected {len(expected)}"
    return (
        f"{lengths}; first difference at {unit} {at}: {seen[start : at + _CONTEXT]!r}, "
        f"expected {expected[start : at + _CONTEXT]!r}"
    )


def _set_difference(seen: AbstractSet[object], expected: AbstractSet[object]) -> str:
    parts = []
    if missing := expected - seen:
        parts.append(f"missing {shown(missing)}")
    if more := seen - expected:
        parts.append(f"unexpected {shown(more)}")
    return f"{'; '.join(parts)} (expected {shown(expected)})"


def _dict_difference(seen: dict[Any, Any], expected: dict[Any, Any]) -> str:
    parts = [f"{key!r} is missing" for key in expected if key not in seen]
    parts += [f"{key!r} is unexpected: {shown(seen[key])}" for key in seen if key not in expected]
    parts += [
        f"{key!r}: {difference(seen[key], expected[key])}"
        for key in expected
        if key in seen and seen[key] != expected[key]
    ]
    return "; ".join(parts[:6]) + (f"; and {len(parts) - 6} more" if len(parts) > 6 else "")


def _list_difference(seen: list[Any], expected: list[Any]) -> str:
    at = first_difference(seen, expected)
    got, want = (shown(values[at]) if at < len(values) else "nothing" for values in (seen, expected))
    return f"{len(seen)} items, expected {len(expected)}; first difference at item {at}: {got}, expected {want}"


def first_difference(seen: Sequence[object], expected: Sequence[object]) -> int:
    """The index of the first difference of two sequences; the length of the shorter if the other begins with it."""
    pairs = enumerate(zip(seen, expected, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(seen), len(expected)))
