"""Merging the records of a run's shards, and refusing mismatches. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from conformance.errors import UsageError
from conformance.evidence.models import Record, Scope
from conformance.evidence.overview import tally
from conformance.gating.baseline import name_of


def merged(records: Sequence[Record], names: Sequence[str]) -> Record:
    """One record of all shards. `names` are what messages call them.

    Raises UsageError, one line, if they are of different suites, targets, options or plans, a shard is missing or
    duplicated, or a case is in two of them.
    """
    scopes = [_scope(record, name) for record, name in zip(records, names, strict=True)]
    first = records[0].environment
    for record, name in zip(records, names, strict=True):
        e = record.environment
        for what, ours, theirs in (
            ("suite commit", first.assay9_commit, e.assay9_commit),
            ("target", first.target, e.target),
            ("version of the target", first.target_version, e.target_version),
            ("options", str(first.asked), str(e.asked)),
            ("plan", scopes[0].plan, _scope(record, name).plan),
        ):
            if ours != theirs:
                raise UsageError(
                    f"{name} does not fit {names[0]}: its {what} is {theirs or 'none'}, not {ours or 'none'}; "
                    "join the shards of one run"
                )
    _whole(scopes, names)
    twice = [key for key, number in Counter(r.key for record in records for r in record.results).items() if number > 1]
    if twice:
        raise UsageError(f"{name_of(twice[0])} is in two shards ({len(twice)} such cases); name the shards of one run")
    ended = [record.environment.ended for record in records if record.environment.ended is not None]
    machines = {
        f"{number}: {name}": machine
        for number, record in enumerate(records, 1)
        for name, machine in record.environment.machines.items()
    }
    results = [
        result.model_copy(update={"machines": [f"{number}: {name}" for name in result.machines]})
        for number, record in enumerate(records, 1)
        for result in record.results
    ]
    environment = first.model_copy(
        update={
            "started": min(record.environment.started for record in records),
            "ended": max(ended) if len(ended) == len(records) else None,
            "machines": machines,
            "scope": scopes[0].model_copy(update={"shard": ""}),
            "mounts": {k: v for record in records for k, v in record.environment.mounts.items()},
            "notes": list(dict.fromkeys(note for record in records for note in record.environment.notes)),
            "left_out": max(record.environment.left_out for record in records),
        }
    )
    return Record(
        environment=environment,
        counts=tally(results),
        selected=sum(record.selected or 0 for record in records),
        results=sorted(results, key=lambda r: (r.layer, r.family, r.case_id, r.id, r.mount)),
        troubles=[trouble for record in records for trouble in record.troubles],
        damage=[line for record in records for line in record.damage],
        interrupted=any(record.interrupted for record in records),
        interrupted_by=next((r.interrupted_by for r in records if r.interrupted_by), ""),
    )


def _scope(record: Record, name: str) -> Scope:
    scope = record.environment.scope
    if scope is None or not scope.shard:
        raise UsageError(f"{name} is not a shard: `assay9 run TARGET --shard I/N` makes one")
    return scope


def _whole(scopes: Sequence[Scope], names: Sequence[str]) -> None:
    """Every shard is present exactly once."""
    seen: dict[str, str] = {}
    for scope, name in zip(scopes, names, strict=True):
        if scope.shard in seen:
            raise UsageError(f"shard {scope.shard} is there twice: {seen[scope.shard]} and {name}; leave one out")
        seen[scope.shard] = name
    totals = {scope.shard.partition("/")[2] for scope in scopes}
    if len(totals) > 1:
        raise UsageError(f"these are shards of several divisions: {', '.join(sorted(seen))}; name those of one run")
    total = int(totals.pop())
    missing = [f"{number}/{total}" for number in range(1, total + 1) if f"{number}/{total}" not in seen]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UsageError(f"shard {', '.join(missing[:3])}{more} is missing: name its run, too")
