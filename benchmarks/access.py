"""The same cases over SSH and by the launcher, alternately: what SSH costs, and how often a case waits for the guest.

    .venv/bin/python benchmarks/access.py [--rounds N] [--family NAME ...]

Both runs are of target `qemu`, one guest each, with verdicts of the control file system from an earlier run. Printed
are the seconds of the cases themselves, the round trips of a case, and the ratio of each round. Wanted: a ratio of at
most 1.15, and at most 10 round trips.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from conformance.evidence.record import load_run

FAMILIES = ("open", "symlink", "unlink")


def run(access: str, families: list[str], results: Path) -> tuple[float, float]:
    """Seconds of the cases, and round trips of one."""
    directory = results / access
    argv = [sys.executable, "-m", "assay9", "run", "qemu", "--layer=vfs", "--jobs=1", f"--access={access}"]
    argv += [f"--results={directory}", *(f"--family={family}" for family in families)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise SystemExit(done.stdout + done.stderr)
    found = load_run(max(directory.glob("*-qemu"))).results
    return sum(one.seconds for one in found), sum(one.round_trips for one in found) / len(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--family", action="append", default=[])
    given = parser.parse_args()
    families = given.family or list(FAMILIES)
    ratios = []
    with tempfile.TemporaryDirectory() as directory:
        run("launcher", families, Path(directory))  # what holds on the control file system is known afterwards
        for number in range(given.rounds):
            order = ("ssh", "launcher") if number % 2 else ("launcher", "ssh")
            seen = {access: run(access, families, Path(directory)) for access in order}
            ratios.append(seen["ssh"][0] / seen["launcher"][0])
            shown = ", ".join(f"{access} {seen[access][0]:.1f} s" for access in order)
            print(f"{shown}: ratio {ratios[-1]:.2f}; {seen['ssh'][1]:.1f} round trips a case", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
