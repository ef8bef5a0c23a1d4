"""Record from runs who decides each case: python tests/golden/record_decided.py RUN...

It writes `conformance/decided.toml` and, beside this file, `decided.jsonl`: the calls and messages that show it, one
line for a case, from which `tests/conformance/test_decided.py` derives it again. The server decides a case when one run
shows that it does. Give runs with `--all` of guests with different kernels. Entries of cases in no run stay unchanged.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from conformance.catalogue import decided
from conformance.catalogue.decided import Step, derive
from conformance.evidence.models import CaseResult
from conformance.evidence.record import load_run
from conformance.vocabulary import DecidedBy

RECORDED = Path(__file__).with_name("decided.jsonl")
_DECLARED: tuple[DecidedBy, ...] = ("informed", "guest")
_ORDER: tuple[DecidedBy, ...] = ("guest", "informed", "server")


def steps_of(result: CaseResult) -> list[Step]:
    """The calls inside, each with its messages; repetitions of a call appear once."""
    made = [
        Step(c.op, c.errno or "", tuple(dict.fromkeys(c.messages)))
        for c in result.calls
        if c.vantage.startswith("inside")
    ]
    return [step for at, step in enumerate(made) if at == 0 or step != made[at - 1]]


def main(runs: list[Path]) -> None:
    """Write both output files."""
    found: dict[str, tuple[DecidedBy, dict[str, Any]]] = {}
    written = {line["id"]: line for line in map(json.loads, RECORDED.read_text().splitlines())}
    for run in runs:
        results = load_run(run).results
        if not any(call.messages for result in results for call in result.calls):
            raise SystemExit(f"{run}: no trace has the messages of its calls")
        for result in results:
            if result.verdict not in ("pass", "known", "fixed") or not result.calls:
                continue
            steps, kinds = steps_of(result), sorted({c.kind for c in result.comparisons})
            by = derive(steps, result.covers, kinds)
            shown = {
                "id": result.id,
                "covers": result.covers,
                "comparisons": kinds,
                "steps": [[s.op, s.errno, list(s.messages)] for s in steps],
            }
            if result.id not in found or _ORDER.index(by) > _ORDER.index(found[result.id][0]):
                found[result.id] = (by, shown)
    for id, line in written.items():
        if id not in found:
            found[id] = (decided.declared(id), line)
    lists: dict[DecidedBy, list[str]] = {
        by: sorted(id for id, (seen, _) in found.items() if seen == by) for by in _DECLARED
    }
    with decided.DECLARED.open("w", encoding="utf-8") as file:
        file.write("# Cases that the guest's kernel decides: written by tests/golden/record_decided.py.\n")
        for by, ids in lists.items():
            file.write(f"\n# Decided by {decided.MEANING[by]}.\n{by} = [\n")
            file.writelines(f"    {json.dumps(id)},\n" for id in ids)
            file.write("]\n")
    with RECORDED.open("w", encoding="utf-8") as file:
        for by, shown in (found[id] for id in sorted(found)):
            if by != "server":
                file.write(json.dumps(shown, separators=(",", ":")) + "\n")
    print({by: len(ids) for by, ids in lists.items()}, "of", len(found))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
