"""The whole wire layer on one server: its wall time against its processor time.

    .venv/bin/python benchmarks/wire_speed.py [TARGET ...] [-- further arguments of assay9 run]

The goal is at most 30 s of wall time for each server on 2 otherwise idle cores. On a busy machine the wall time says
nothing; use the processor time (suite and servers, user and system) divided by the number of cores.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from conformance.evidence.record import load_run

GOAL = 30.0
"""Goal for the wall time of each server, in seconds."""


def main() -> None:
    """Run each target once and print a line for it."""
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    targets, further = sys.argv[1:split] or ["reference", "diod", "ganesha"], sys.argv[split + 1 :]
    cores = os.cpu_count() or 1
    print(f"{cores} cores, load before: {os.getloadavg()[0]:.1f}")
    for target in targets:
        before, begun = _processor(), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "assay9", "run", target, "--layer", "wire", *further],
            stdout=subprocess.DEVNULL,
            check=False,
        )
        wall, spent = time.perf_counter() - begun, _processor() - before
        results = load_run(Path("results/latest")).results
        slowest, cases = max(results, key=lambda r: r.seconds), sum(r.seconds for r in results)
        print(
            f"{target}: exit status {done.returncode}, {len(results)} cases, wall {wall:.1f} s (goal {GOAL:.0f}), "
            f"processor {spent:.1f} s = {spent / cores:.1f} s on each core; cases {cases:.1f} s, "
            f"the slowest {slowest.id} {slowest.seconds:.1f} s"
        )


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
