"""kill -9 of a soak runner at random moments: no record is lost or duplicated.

    python benchmarks/soak_kill9.py [KILLS]

It starts `assay9 soak local` on a quick workload, in a fork so that starting takes little time. It kills the runner
within 1.5 times the duration of a run of one iteration here, resumes it, and repeats this. After each kill, every
earlier row of the journal must be there unchanged; otherwise an assertion fails.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.soak.kills import Forked, kill_often, time_of_one


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed, began = int(time.time()), time.monotonic()

    def progress(number: int, ended: int) -> None:
        if number % 25 == 0:
            print(f"{number} kills, {ended} iterations, {time.monotonic() - began:.0f} s", flush=True)

    with tempfile.TemporaryDirectory() as directory:
        within = 1.5 * time_of_one(Path(directory) / "one", Forked)
        ended = kill_often(Path(directory) / "many", count, random.Random(seed), within, progress, Forked)
    print(f"{count} kills (seed {seed}): {ended} iterations, nothing lost or doubled")


if __name__ == "__main__":
    main()
