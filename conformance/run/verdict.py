"""The verdict of a case from its outcome. Pure: no calls, no clock, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.case import Case
from conformance.checks import findings_of, gravest
from conformance.errors import Finding, InfrastructureError, Undrivable, Unsupported
from conformance.profiles.model import Known, NotSupported
from conformance.vfs.trace import Crossed
from conformance.vfs.vantage import CallRecord
from conformance.vocabulary import Outcome, Severity, errno_name
from protocol.messages import BY_NAME


@dataclass(frozen=True, slots=True)
class Judged:
    """One finding of the case, and the profile's entry that declares it, if one does."""

    finding: Finding
    known: Known | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with a one-line reason, and whether the error was the infrastructure's."""

    verdict: Outcome
    reason: str
    infrastructure: bool = False
    findings: tuple[Judged, ...] = ()
    """All findings of the case, in the order in which they were seen."""
    severity: Severity | None = None
    """How grave the failure is, where that is less than the case's own severity."""


OLDER = frozenset({"Tversion", "Tauth", "Tattach", "Tflush", "Twalk", "Tread", "Twrite", "Tclunk", "Tremove"})
"""The messages of 9P2000.L that 9P2000.u has too."""


def not_in_older(case: Case, version: str) -> tuple[str, ...]:
    """Messages that the case covers and this version does not have, unless the case requested the version."""
    if version == "9p2000.L" or "version=" in case.mount:
        return ()
    return tuple(name for name in case.covers if name not in OLDER)


def judge(
    case: Case,
    raised: BaseException | None,
    crossed: Crossed | None,
    known: Sequence[Known],
    unsupported: tuple[NotSupported, ...],
    calls: list[CallRecord],
    without: tuple[str, ...] = (),
) -> Judgement:
    """The verdict of one case.

    `raised` is the exception that ended the case; `crossed` the messages seen, None without a trace; `known` the
    profile's entries that name the case and hold here; `unsupported` those whose feature the case needs, and those of
    messages; `without` those messages of `covers` that the mount's protocol version does not have. The case is known
    when each of its findings is covered by an entry, and fails for those that are not. An exception that is neither a
    Finding nor the OSError of a call is an error of the suite, and so is a plain assertion.
    """
    if isinstance(raised, Undrivable):
        return Judgement("undrivable", str(raised))
    if isinstance(raised, Unsupported):
        return Judgement("unsupported", str(raised))
    if isinstance(raised, InfrastructureError):
        return Judgement("error", str(raised), infrastructure=True)
    if raised is not None and not isinstance(raised, Finding | OSError):
        return Judgement("error", f"{type(raised).__name__}: {raised}")
    if raised is None:
        return _passed(case, crossed, known, unsupported, without)
    findings = tuple(Judged(one, _entry(known, one)) for one in findings_of(raised))
    new = [one for one in findings if one.known is None]
    excused = {
        one.finding: entry for one in new for entry in unsupported if is_unsupported(entry, one.finding, crossed, calls)
    }
    if excused and len(excused) == len(new):
        entry = next(iter(excused.values()))
        seen = "/".join(sorted({one.values["seen"] for one in excused}))
        return Judgement("unsupported", f"{entry.feature}: {entry.reason} ({seen} seen)", findings=findings)
    new = [one for one in new if one.finding not in excused] or new
    if not new:
        reasons = dict.fromkeys(one.known.reason for one in findings if one.known is not None)
        return Judgement("known", f"{'; '.join(reasons)} ({summary(findings)})", findings=findings)
    died = any(one.finding.code == "died" for one in findings)  # no protocol version excuses that
    if without and not died and not any(c.trouble for c in calls):
        what = f"this version of the protocol has no {', '.join(without)} ({summary(findings)})"
        return Judgement("undrivable", what, findings=findings)
    more = f"; {len(findings) - len(new)} more declared" if len(new) < len(findings) else ""
    return Judgement(
        "fail", summary(new) + more, findings=findings, severity=gravest((one.finding for one in new), case.severity)
    )


def _passed(
    case: Case,
    crossed: Crossed | None,
    known: Sequence[Known],
    unsupported: tuple[NotSupported, ...],
    without: tuple[str, ...],
) -> Judgement:
    if needed := [one.feature for one in unsupported if one.feature in case.needs or case.family == "message"]:
        return Judgement("fixed", f"{needed[0]} is declared as unsupported, and the case passes: update the profile")
    if crossed is not None and (missing := crossed.missing(tuple(name for name in case.covers if name not in without))):
        return Judgement("undrivable", f"{', '.join(missing)} did not cross: the guest answered by itself")
    if known and not any(entry.sometimes for entry in known):
        return Judgement("fixed", f"declared as a known failure and passes: remove the entry ({known[0].reason})")
    return Judgement("pass", "")


def _entry(known: Sequence[Known], finding: Finding) -> Known | None:
    """The first entry that declares this finding."""
    return next((entry for entry in known if entry.covers(finding)), None)


def is_unsupported(entry: NotSupported, finding: Finding, crossed: Crossed | None, calls: Sequence[CallRecord]) -> bool:
    """Whether the finding is what the entry declares: its errno, from a call inside to which the server gave that
    answer.

    A trace shows who answered; without one the errno of the call decides, except for entries about messages.
    """
    seen, op = finding.values.get("seen", ""), finding.values.get("call", "")
    if finding.code not in ("errno", "errno-choice") or seen not in entry.errno:
        return False
    if finding.values.get("vantage", "inside") != "inside":
        return False
    inside = [call for call in calls if call.vantage.startswith("inside")]
    # several calls may have been made in one, whose own errno then means nothing
    made = [call for call in inside if call.op == op and call.errno is not None and errno_name(call.errno) == seen]
    if entry.feature in BY_NAME:  # a message: the guest's kernel decides which system call needs it
        return crossed is not None and any(entry.feature in crossed.refused(call.number, seen) for call in made)
    if crossed is not None and crossed.numbered:
        return any(crossed.refused(call.number, seen) for call in made or inside)
    return bool(made) or not calls


def summary(findings: Sequence[Judged]) -> str:
    """The first finding in one line, and how many more there are."""
    first = one_line(findings[0].finding)
    return first if len(findings) == 1 else f"{first} (and {len(findings) - 1} more)"


def one_line(raised: BaseException) -> str:
    """The exception, short enough for a summary."""
    text = str(raised).strip() or type(raised).__name__
    prefix = "" if isinstance(raised, Finding) else f"{type(raised).__name__}: "
    return prefix + " ".join(text.split())[:300]
