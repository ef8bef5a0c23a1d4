"""The time of the whole default run against the time that the guests spend on its calls.

    .venv/bin/python benchmarks/default_run.py TARGET [further arguments of assay9 run]
    .venv/bin/python benchmarks/default_run.py --record RUN [--before RUN]

Runs `assay9 run TARGET` once on a warm cache, or takes a run that was made, and reads its record: the time of the cases
that make calls in a guest, and the time that the agents there spent on these calls. A call is reading the request, the
system call and writing the reply; calls on the control file system and for comparisons count. Goal: at most 1.3 times
the guests' own time. Cases of layers wire and ring make no call in a guest and are summed apart.

With `--before`: how much of the cases' time belongs to cases that an earlier run had not. Both parts are of one run, so
other load on the machine affects them alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from conformance.evidence.models import Record
from conformance.evidence.record import load_run


def describe(record: Record, before: Record | None) -> None:
    """Print it."""
    results = record.results
    inside = [one for one in results if one.guest_seconds]
    cases, guest = sum(one.seconds for one in inside), sum(one.guest_seconds for one in inside)
    others = sum(one.seconds for one in results if not one.guest_seconds)
    trips = statistics.median(one.round_trips for one in inside)
    print(f"{len(results)} results, {len({one.worker for one in results})} workers")
    print(f"{len(inside)} cases that call a guest: {cases:.1f} s, the guests' own calls {guest:.1f} s", end=": ")
    print(f"{cases / guest:.2f} times; {trips:.0f} round trips in the median case; all other cases {others:.1f} s")
    if before is not None:
        known = {(one.id, one.mount) for one in before.results}
        new = [one.seconds for one in results if (one.id, one.mount) not in known]
        print(
            f"{len(new)} new cases: {sum(new):.1f} s, {sum(new) / (cases + others - sum(new)):.2f} of the time before"
        )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", default="qemu")
    parser.add_argument("--record", type=Path, help="the directory of a run, instead of a new one")
    parser.add_argument("--before", type=Path, help="the directory of an earlier run")
    options, further = parser.parse_known_args()
    if options.record is None:
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "assay9", "run", options.target, *further], check=False)
        print(f"exit status {done.returncode}, wall time {time.perf_counter() - begun:.1f} s")
    describe(load_run(options.record or Path("results/latest")), load_run(options.before) if options.before else None)


if __name__ == "__main__":
    main()
