"""Faults: each was undone, and its check of the target succeeded."""

from __future__ import annotations

from collections import Counter

from soak.judges.record import Judgement, Record


def faults(record: Record) -> list[Judgement]:
    """One judgement for each selected kind."""
    made = []
    seen = record.faults()
    finished = bool(record.kind("finished"))
    for name in record.plan.get("faults", []):
        mine = [d for d in seen if d.name == name]
        title = f"fault {name}"
        failed = [d for d in mine if d.data.get("failed")]
        left = [d for d in mine if d.end is None]
        if failed:
            why = f"{len(failed)} of {len(mine)} times: {failed[0].data['failed']}"
            made.append(Judgement(title, "fail", why))
        elif left and finished:
            made.append(Judgement(title, "unknown", f"{len(left)} of {len(mine)} were not undone"))
        elif not mine:
            made.append(Judgement(title, "unknown", "it was never injected"))
        elif not (whole := [d for d in mine if not d.data.get("skipped")]):
            made.append(Judgement(title, "unknown", f"it was never completed: {mine[0].data['skipped']}"))
        else:
            found = Counter(str(d.data["found"]) for d in whole if d.data.get("found"))
            often = "once, undone" if len(whole) == 1 else f"{len(whole)} times, undone each time"
            often += f"; {len(mine) - len(whole)} times not completed" if len(whole) < len(mine) else ""
            words = often + (f"; {found.most_common(1)[0][0]}" if found else "")
            made.append(Judgement(title, "pass", words))
    return made
