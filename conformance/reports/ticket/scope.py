"""The verdict in numbers, SCOPE, what is not supported, what may differ and what could not be driven."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from conformance.evidence.models import CaseResult
from conformance.evidence.overview import Overview, by_reason, count
from conformance.reports.message_matrix import CALL_LAYERS, NEVER_SENT
from conformance.reports.ticket.layout import WIDTH, Section, first_sentence, labelled, named, sentence, wrapped
from protocol.messages import BY_NAME

_REQUESTS = tuple(name for name in BY_NAME if name.startswith("T") and name != "Tlerror")
_ANSWERED = re.compile(r"(T\w+)(?: -> (\w+))?")
_FEW, _MOST, _LINES = 5, 3, 2
_REFUSALS = frozenset({"EOPNOTSUPP", "ENOSYS"})


def verdict(seen: Overview, against: list[str]) -> Section:
    """The first thing an approver reads; `against` says how the run compares with an earlier one."""
    e, counts = seen.record.environment, seen.counts
    declared = severities(seen["known"])
    wrong = counts["fail"] + counts["fixed"] + counts["unstable"]
    whole = {
        True: "Run complete",
        False: "The run did not come to its end",
    }[not (seen.record.interrupted or seen.not_run)]
    numbers = [
        f"{wrong} unexpected",
        counts["fail"] and f"{counts['fail']} FAIL ({severities(seen['fail'])})",
        counts["fixed"] and f"{counts['fixed']} declared to fail and PASS",
        counts["unstable"] and f"{counts['unstable']} UNSTABLE",
        f"{counts['error']} errors",
        f"{counts['pass']} pass",
        counts["known"] and f"{counts['known']} fail as declared ({declared})",
        counts["varies"] and f"{counts['varies']} may differ",
        counts["unsupported"] and f"{counts['unsupported']} declared unsupported",
        counts["guest"] and f"{counts['guest']} decided by the guest's kernel alone",
        counts["undrivable"] and f"{counts['undrivable']} not drivable",
    ]
    total = count(len(seen.record.results), "case")
    version = f", {e.target_version}" if e.target_version else ""
    lines = wrapped(
        f"VERDICT: {seen.sentence}. {e.target_title or e.target}{version}, {total}: "
        f"{sentence(str(n) for n in numbers if n)}. {whole}. Gate: exit status {seen.status}."
    )
    for said in against:
        lines += wrapped(said)
    return Section("", lines)


def severities(results: Iterable[CaseResult]) -> str:
    """`73 must, 12 linux`."""
    found = Counter(result.severity for result in results)
    return sentence(f"{found[name]} {name}" for name in ("must", "linux", "varies") if found[name])


def scope(seen: Overview) -> Section:
    """What ran, what did not, on which mounts, and how much was compared."""
    results = seen.record.results
    layers = Counter(result.layer for result in results)
    families = len({(result.layer, result.family) for result in results})
    ran = sentence(f"{layer} {number}" for layer, number in layers.items())
    lines = labelled("run", f"cases of layers {ran}, in {count(families, 'family', 'families')}")
    lines += labelled("not run", _not_run(seen))
    mounts = Counter(result.mount for result in results if result.mount)
    listed = [f"{mount} {number}" for mount, number in mounts.most_common()]
    lines += labelled("mounts", sentence(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else ""))
    lines += labelled("looked", _looked(seen))
    lines += labelled("9P", _messages(seen))
    lines += labelled("decided", _decided(seen))
    return Section("SCOPE", lines) if results else Section("")


def _not_run(seen: Overview) -> str:
    e = seen.record.environment
    parts = []
    if e.scope is not None:
        parts += [f"layer {name} ({number} case functions)" for name, number in e.scope.layers_not_run.items()]
        if e.scope.partial:
            chosen = [f"family {name}" for name in e.scope.families]
            chosen += [f"-k {e.scope.expression!r}"] if e.scope.expression else []
            parts.append(f"all that is not chosen by {sentence(chosen)}")
        if "vfs" in e.scope.layers and e.scope.mounts != ["all"]:
            asked = sentence(e.scope.mounts) or "the default set"
            parts.append(f"mounts: {asked}, not the {e.scope.mounts_in_matrix} of --mounts all")
    parts += [f"{e.left_out} cases that the guest's kernel decides alone"] if e.left_out else []
    parts += [f"{count(seen.not_run, 'case')} selected and without a result"] if seen.not_run else []
    return sentence(parts, "; ")


def _looked(seen: Overview) -> str:
    results = seen.record.results
    calls = sum(len(result.calls) for result in results)
    comparisons = sum(len(result.comparisons) for result in results)
    fields = sum(len(c.fields) for result in results for c in result.comparisons)
    held = sum(any(call.control_result is not None for call in result.calls) for result in results)
    parts = [f"{calls:,} calls"] if calls else []
    if comparisons:
        parts.append(f"{comparisons:,} comparisons inside against outside of {fields:,} fields")
        looks = seen.looks
        if looks.differing:
            let, differing = looks.let_pass, looks.differing
            parts.append(f"{let:,} of {differing:,} differences of exact fields let pass with a reason")
        if looks.uncompared:
            missing, changing = looks.uncompared, looks.changing
            parts.append(f"{missing:,} of {changing:,} changing calls not compared at once")
    if held:
        parts.append(f"{held} cases first held on the guest's own file system")
    return sentence(parts, "; ")


def _decided(seen: Overview) -> str:
    """Who decided the passes."""
    passed = seen["pass"]
    informed = sum(result.decided_by == "informed" for result in passed)
    if not passed or not (informed or seen.counts["guest"]):
        return ""
    parts = [
        f"the device {len(passed) - informed:,} passes, the guest's kernel {informed:,} on what the device answered"
    ]
    parts += [f"{seen.counts['guest']} by that kernel alone"] if seen.counts["guest"] else []
    return sentence(parts)


def _messages(seen: Overview) -> str:
    inside, raw = _crossed(seen, mounted=True), _crossed(seen, mounted=False)
    total = sum(inside.values()) + sum(raw.values())
    if not total:
        return "this target gives no trace: which messages crossed is not known" if seen.record.results else ""
    requests = [name for name in _REQUESTS if inside[name] or raw[name]]
    parts = [f"{total:,} messages crossed, {len(requests)} of the {len(_REQUESTS)} requests of 9P2000.L"]
    if raw and (only := [name for name in _REQUESTS if raw[name] and not inside[name]]) and inside:
        parts.append(f"{sentence(only)} by raw frames only")
    demand = sum(not result.covers for result in seen["pass"])
    parts += [f"{demand} of the {len(seen['pass'])} passes demand no message"] if demand else []
    return sentence(parts, "; ")


def _crossed(seen: Overview, *, mounted: bool) -> Counter[str]:
    counted: Counter[str] = Counter()
    for result in seen.record.results:
        if (result.layer in CALL_LAYERS) is mounted:
            counted.update(result.message_counts)
    return counted


def unsupported(seen: Overview, *, whole: bool) -> Section:
    """Operations that this implementation does not support, by message; then declared unsupported features."""
    refused: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    for result in seen.record.results:
        for call in result.calls:
            for message in call.messages:
                if (found := _ANSWERED.match(message)) is not None:
                    answered[found[1]] += 1
                    refused[found[1]] += found[2] in _REFUSALS
    lines: list[str] = []
    refusing = [name for name, number in refused.items() if number == answered[name] > 0]
    if refusing:
        lines += wrapped(f"{sentence(sorted(refusing))}: refused each time", "  ", "    ")
    for name, value in seen.record.environment.other.items():
        if name == "messages not implemented":
            lines += wrapped(f"by raw frames: {value}", "  ", "    ")
    crossed = _crossed(seen, mounted=True) + _crossed(seen, mounted=False)
    if crossed and (
        xattr := [name for name in ("Txattrwalk", "Txattrcreate") if crossed[name] and name not in refusing]
    ):
        numbers = sentence(f"{name} {crossed[name]:,}" for name in xattr)
        lines += wrapped(f"Extended attributes are supported: {numbers} times", "  ", "    ")
    lines += _declared(seen, whole=whole)
    if crossed and (never := [name for name in _REQUESTS if not crossed[name]]):
        why = "this guest's kernel never sends them" if all(name in NEVER_SENT for name in never) else "not tested"
        lines += wrapped(f"Never seen: {sentence(never)}: {why}", "  ", "    ")
    return Section("NOT SUPPORTED BY THIS IMPLEMENTATION, or not seen", lines, least=4)


def _declared(seen: Overview, *, whole: bool) -> Iterator[str]:
    """Features that the profiles declare as unsupported, grouped by reason."""
    grouped: dict[str, dict[str, list[CaseResult]]] = {}
    for declared, having in by_reason(seen["unsupported"]):
        feature, _, reason = declared.partition(": ")
        grouped.setdefault(reason, {})[feature] = having
    for reason, features in grouped.items():
        results = [result for having in features.values() for result in having]
        said = f"{sentence(features)}, {count(len(results), 'case')} ({named(r.case_id for r in results)})"
        room = WIDTH * 2 - len(said) - 10
        yield from wrapped(f"{said}: {reason if whole else first_sentence(reason, max(room, 20))}", "  ", "    ")


def varying(seen: Overview, *, whole: bool) -> Section:
    """Differences between implementations that no rule forbids: each, or only the ids if there are many."""
    groups: dict[str, list[CaseResult]] = {}
    for result in seen["varies"]:
        groups.setdefault(result.case_id, []).append(result)
    lines: list[str] = []
    if len(groups) > _FEW and not whole:
        shorter = (wrapped(named(groups, most), "  ") for most in range(len(groups), 0, -1))
        lines = next(made for made in shorter if len(made) <= _LINES)
        groups.clear()
    for results in groups.values():
        number = f" ({len(results)})" if len(results) > 1 else ""
        said = f"{results[0].case_id}{number}: {first_sentence(results[0].requirement, 64)}"
        lines += wrapped(said, "  ", "    ")
    return Section(f"MAY DIFFER ({len(seen['varies'])}): recorded, never a failure", lines, least=2, tight=True)


def undrivable(seen: Overview, *, whole: bool) -> Section:
    """What this guest, transport or host cannot express: by reason; the full text also names the cases."""
    lines: list[str] = []
    if not whole:
        groups = by_reason(seen["undrivable"])
        parts = [f"{len(having)} {first_sentence(reason, 44)}" for reason, having in groups[:_MOST]]
        parts += [f"and {len(groups) - _MOST} reasons more"] if len(groups) > _MOST else []
        heading = f"NOT DRIVABLE HERE ({len(seen['undrivable'])})"
        return Section(heading, wrapped(sentence(parts, "; "), "  "), least=2, tight=True)
    for reason, having in by_reason(seen["undrivable"]):
        said = f"{count(len(having), 'case')}: {reason}; {named((r.case_id for r in having), 1000)}"
        lines += wrapped(said, "  ", "    ")
    return Section(f"NOT DRIVABLE HERE ({len(seen['undrivable'])})", lines, least=2)
