"""The time of the whole default run against the time that the guests spend on its calls.

    .venv/bin/python benchmarks/default_run.py [--jobs N] [-- further arguments of assay9 run]

Runs `assay9 run qemu` once on a warm cache and reads its record: wall time, time of the cases, and the
time that the agents inside the guests spent on calls. A call is reading the request, the system call and writing the
reply; calls on the control file system and for comparisons count. Goals: at most 5 minutes on 2 cores without KVM,
and at most 1.5 times the guests' own time.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from conformance.evidence.record import load_run


def main() -> None:
    """Run and print."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "assay9", "run", "qemu", *sys.argv[1:]], check=False)
    wall = time.perf_counter() - begun
    record = load_run(Path("results/latest"))
    workers = {r.worker for r in record.results}
    cases = sum(r.seconds for r in record.results)
    guest = sum(r.guest_seconds for r in record.results)
    print(f"exit status {done.returncode}, {len(record.results)} results, {len(workers)} workers")
    print(f"wall {wall:.1f} s; cases {cases:.1f} s and guests' own calls {guest:.1f} s, summed over workers")
    print(f"cases / guests' own: {cases / guest:.2f}; wall x workers / guests' own: {wall * len(workers) / guest:.2f}")


if __name__ == "__main__":
    main()
