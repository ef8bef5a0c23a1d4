"""How often the judges of a soak are wrong, and what they can decide, on synthetic records whose truth is known.

    python benchmarks/soak_judges.py [SEEDS]

The judges judge SEEDS records (default: 300) of each kind of share on each kind of host. The output is a Markdown table
with the percentages of fail, pass and `unknown`. A fail of a sound share is a false alarm; a pass of a faulty share is
a miss.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from soak.judges.leaks import leaks
from soak.judges.load import Load
from soak.judges.record import Record
from soak.judges.slowdowns import iteration_time, latency
from tests.soak.synthetic import Share, machines, run

SLOW = {
    "sound": Share(),
    "sound, iterations differ by 20 %": Share(scatter=0.2),
    "sound, drifts by 10 % for no reason that is seen": Share(scatter=0.1, alike=0.8),
    "sound, only sleeps": Share(computes=0.0),
    "fills up by 30 % in the first third": Share(filled=0.3),
    "1 % slower an iteration": Share(slower=0.01),
    "each request slower: 5 s, then 11.5 s": Share(seconds=5.0, creep=0.5),
}
"""Shares for the judge of iteration times."""
GROW = {
    "sound": Share(),
    "leaks 20 MB an hour": Share(leak_mb=20.0),
    "leaks 60 MB an hour": Share(leak_mb=60.0),
    "a descriptor a minute": Share(leak_fds=60.0),
}


def verdict(record: Record, judge: str) -> str:
    """The verdict of that judge."""
    if judge == "iterations":
        return iteration_time(record, Load(record), "tree").verdict
    if judge in ("stat", "sync"):
        return latency(record, Load(record), judge, judge).verdict
    return next(j for j in leaks(record) if judge in j.name).verdict


def row(share: Share, machine: str, iterations: int, seeds: int, judge: str) -> Counter[str]:
    """The number of times that each verdict was given."""
    found: Counter[str] = Counter()
    for seed in range(seeds):
        found[verdict(run(share, machines()[machine], iterations, seed), judge)] += 1
    return found


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    few = ("idle", "saturated")
    for judge, shares, hosts, lengths in (
        ("iterations", SLOW, tuple(machines()), (14, 40, 120)),
        ("stat", SLOW, tuple(machines()), (120,)),
        ("memory of the device", GROW, few, (14, 40, 120)),
        ("descriptors of the device", GROW, few, (14, 120)),
    ):
        print(f"\n{judge}, {seeds} records each\n\n| share | host | iterations | fail % | pass % | unknown % |")
        print("|---|---|---|---|---|---|")
        for words, share in shares.items():
            for machine in hosts:
                for iterations in lengths:
                    found = row(share, machine, iterations, seeds, judge)
                    cells = " | ".join(f"{100 * found[v] / seeds:.1f}" for v in ("fail", "pass", "unknown"))
                    print(f"| {words} | {machine} | {iterations} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
