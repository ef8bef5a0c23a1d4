"""From what happened while a case ran to its verdict. Pure: no calls, no clock, no files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from conformance.case import Case
from conformance.checks import findings_of
from conformance.errors import Finding, InfrastructureError, TargetDied, Undrivable, Unsupported
from conformance.targets.spec import Known, Lack
from conformance.trace import Crossed
from conformance.vantage import CallRecord, errno_name

Outcome = Literal["pass", "fail", "known", "fixed", "unsupported", "undrivable", "error"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the one line that says why, and whether the error was the infrastructure's."""

    verdict: Outcome
    reason: str
    infrastructure: bool = False


OLDER = frozenset({"Tversion", "Tauth", "Tattach", "Tflush", "Twalk", "Tread", "Twrite", "Tclunk", "Tremove"})
"""The messages of 9P2000.L that 9P2000.u has too."""


def not_in_older(case: Case, version: str) -> tuple[str, ...]:
    """What the case covers that a mount with this version has no message for, unless the case asked for it."""
    if version == "9p2000.L" or "version=" in case.mount:
        return ()
    return tuple(name for name in case.covers if name not in OLDER)


def judge(
    case: Case, raised: BaseException | None, crossed: Crossed | None, known: Known | None,
    lacks: tuple[Lack, ...], calls: list[CallRecord], without: tuple[str, ...] = (),
) -> Judgement:  # fmt: skip
    """The verdict of one case.

    `raised` is what the case ended with; `crossed` the messages seen, None where the target gives no trace;
    `known` the profile's entry for it; `lacks` those declared lacks that the case needs; `without` those messages
    of `covers` that the mount's protocol version does not have.
    An exception that is no Finding, AssertionError or OSError of a call is an error of the suite.
    """
    if isinstance(raised, Undrivable):
        return Judgement("undrivable", str(raised))
    if isinstance(raised, Unsupported):
        return Judgement("unsupported", str(raised))
    if isinstance(raised, InfrastructureError):
        return Judgement("error", str(raised), infrastructure=True)
    if raised is not None and not isinstance(raised, Finding | AssertionError | OSError):
        return Judgement("error", f"{type(raised).__name__}: {raised}")
    died = isinstance(raised, TargetDied)  # which no lack and no version of the protocol excuses
    for lack in () if died else lacks:
        seen = {errno_name(c.errno) for c in calls if c.errno is not None and c.vantage == "inside"}
        if seen & set(lack.errno):
            shown = "/".join(sorted(seen & set(lack.errno)))
            return Judgement("unsupported", f"{lack.feature}: {lack.reason} ({shown} seen)")
    if raised is None:
        if lacks:
            return Judgement("fixed", f"declared to lack {lacks[0].feature}, and the case passes: update the profile")
        if crossed is not None and (
            missing := crossed.missing(tuple(name for name in case.covers if name not in without))
        ):
            return Judgement("undrivable", f"{', '.join(missing)} did not cross: the guest answered by itself")
        if known is not None and not known.sometimes:
            return Judgement("fixed", f"declared a known failure and passes: remove the entry ({known.reason})")
        return Judgement("pass", "")
    seen_text = one_line(raised)
    if known is not None and all(re.search(known.symptom, f"{one_line(one)}\n{one}") for one in _each(raised)):
        return Judgement("known", f"{known.reason} ({seen_text})")
    if without and not died and not any(c.trouble for c in calls):
        return Judgement("undrivable", f"this version of the protocol has no {', '.join(without)} ({seen_text})")
    return Judgement("fail", seen_text)


def _each(raised: BaseException) -> tuple[BaseException, ...]:
    """Every finding of the case: a known failure has to explain them all."""
    return findings_of(raised) or (raised,)


def one_line(raised: BaseException) -> str:
    """What was raised, short enough for a summary."""
    text = str(raised).strip() or type(raised).__name__
    prefix = "" if isinstance(raised, AssertionError) else f"{type(raised).__name__}: "
    return prefix + " ".join(text.split())[:300]
