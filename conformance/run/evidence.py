"""Turns a case's calls, comparisons and messages into its entry in the run record."""

from __future__ import annotations

import traceback
from dataclasses import replace
from typing import Any

from conformance.case import ON_A_SHARE, Case
from conformance.catalogue.decided import Step, declared, derive
from conformance.comparison import Comparison
from conformance.evidence.models import Call, CaseResult, KnownFailure, LogExcerpt, SeenFinding, demanded
from conformance.profiles.model import Known
from conformance.run.verdict import Judged, Judgement
from conformance.vfs.mount_options import MountOptions
from conformance.vfs.share import Share
from conformance.vfs.trace import Crossed
from conformance.vfs.vantage import CallRecord
from conformance.vocabulary import DecidedBy, errno_name

_LONGEST = 160
_WHOLE = {"sequence": 1 << 20}
"""Values of a finding that programs read, with their own limit: a replay file is made from them."""
_LONGEST_TEXT = 1000


def case_result(
    case: Case,
    parameters: str,
    judgement: Judgement,
    *,
    raised: BaseException | None,
    crossed: Crossed | None,
    excerpts: list[tuple[str, str]],
    seconds: float,
    worker: str,
    machines: list[str],
    mount: MountOptions | None = None,
    mount_line: str = "",
    share: Share | None = None,
    control: Share | None = None,
    guest_seconds: float = 0.0,
    round_trips: int = 0,
) -> CaseResult:
    """The entry of one case."""
    calls = share.calls if share is not None else []
    controls = control.calls if control is not None else []
    return CaseResult(
        **demanded(case, parameters, str(mount or ""))
        | ({"severity": judgement.severity} if judgement.severity else {}),
        mount_shown=mount_line,
        verdict=judgement.verdict,
        reason=judgement.reason,
        infrastructure=judgement.infrastructure,
        details="".join(traceback.format_exception(raised))[-6000:] if raised is not None else "",
        known=next((_known(one.known) for one in judgement.findings if one.known is not None), None),
        findings=[_finding(one) for one in judgement.findings],
        seconds=round(seconds, 4),
        guest_seconds=round(max(guest_seconds, 0.0), 4),
        round_trips=max(round_trips, 0),
        worker=worker,
        machines=machines,
        decided_by=_decided_by(case, parameters, share, crossed),
        unreached=max(0, len(controls) - len(calls)) if judgement.findings else 0,
        calls=[_call(i, c, controls, crossed) for i, c in enumerate(calls, 1)],
        comparisons=[_comparison(c) for c in (share.comparisons if share is not None else [])],
        messages=list(crossed.messages) if crossed else [],
        message_counts=crossed.counts if crossed else {},
        covers_ok=None if crossed is None else not crossed.missing(case.covers),
        log_excerpts=[LogExcerpt(source=s, text=t) for s, t in excerpts],
    )


def _finding(judged: Judged) -> SeenFinding:
    found = judged.finding
    return SeenFinding(
        code=found.code,
        text=printable(str(found))[:_LONGEST_TEXT],
        values={name: printable(value)[: _WHOLE.get(name, _LONGEST)] for name, value in found.values.items()},
        known=_known(judged.known) if judged.known is not None else None,
    )


def _known(entry: Known) -> KnownFailure:
    return KnownFailure(
        reason=entry.reason, link=entry.link, where=entry.where, component=entry.component, owner=entry.owner
    )


def _decided_by(case: Case, parameters: str, share: Share | None, crossed: Crossed | None) -> DecidedBy:
    if share is None or crossed is None or not crossed.numbered:
        return declared(case.id, parameters) if case.layer in ON_A_SHARE else "server"
    steps = [
        Step(c.op, errno_name(c.errno) if c.errno else "", crossed.by_call.get(c.number, ()))
        for c in share.calls
        if c.vantage.startswith("inside")
    ]
    return derive(steps, case.covers, {c.kind for c in share.comparisons})


def _call(index: int, record: CallRecord, controls: list[CallRecord], crossed: Crossed | None) -> Call:
    same = controls[index - 1] if index <= len(controls) else None
    if same is not None and (same.op, same.vantage, same.process) != (record.op, record.vantage, record.process):
        same = None
    return Call(
        index=index,
        vantage=record.vantage,
        process=record.process,
        op=record.op,
        args=[shorten(a) for a in record.args] + [f"{k}={shorten(v)}" for k, v in record.kw.items()],
        result=_result(record),
        errno=errno_name(record.errno) if record.errno else None,
        seconds=record.seconds,
        control_result=_result(same) if same else None,
        changes=bool(record.changed) and record.vantage.partition(" ")[0] != "control",
        compared=record.compared,
        messages=list(crossed.by_call.get(record.number, ())) if crossed is not None and record.number else [],
    )


def _result(record: CallRecord) -> str:
    if record.trouble:
        return record.trouble
    return errno_name(record.errno) if record.errno else shorten(record.value)


def _comparison(seen: Comparison[Any]) -> Comparison[str]:
    fields = [replace(field, inside=shorten(field.inside), outside=shorten(field.outside)) for field in seen.fields]
    return replace(seen, path=printable(seen.path), fields=fields)


def shorten(value: Any) -> str:
    """A value as a report shows it: one line, at most 160 characters."""
    text = value if isinstance(value, str) else repr(value)
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}... ({len(text)} characters)"


def printable(text: str) -> str:
    """Bytes of a name that are not UTF-8 shown as \\xNN."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
