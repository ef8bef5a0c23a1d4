"""The gate: from a record to an exit status, and the summary a terminal shows."""

from __future__ import annotations

from pathlib import Path

from conformance.evidence.record import VERDICTS, Record


def exit_status(record: Record) -> int:
    """0 nothing unexpected; 1 an unexpected failure or unexpected pass; 3 errors of the suite or the
    infrastructure, or nothing ran. A regression wins over an error: it was really seen."""
    if any(r.verdict == "fixed" or (r.verdict == "fail" and r.severity != "varies") for r in record.results):
        return 1
    if not record.results or record.troubles or any(r.verdict == "error" for r in record.results):
        return 3
    return 0


def summarise(record: Record, run_dir: Path) -> str:
    """Family by verdict, what was unexpected, and where the results are."""
    lines = [f"\n{'family':<24}" + "".join(f"{v:>13}" for v in VERDICTS)]
    for family in sorted({f"{r.layer}/{r.family}" for r in record.results}):
        row = [r.verdict for r in record.results if f"{r.layer}/{r.family}" == family]
        lines.append(f"{family:<24}" + "".join(f"{row.count(v) or '-':>13}" for v in VERDICTS))
    lines.append(f"{'total':<24}" + "".join(f"{record.counts.get(v, 0) or '-':>13}" for v in VERDICTS))
    for r in record.results:
        if r.verdict in ("fail", "fixed", "error"):
            lines.append(f"{r.verdict}: {r.id} {r.mount}: {r.reason}")
    lines += [f"trouble: {t}" for t in record.troubles]
    lines.append(f"results: {run_dir}\n")
    return "\n".join(lines)
