"""The cost of SSH to a run, and the round trips of a case: the same cases over SSH and over the launcher, alternately.

    .venv/bin/python benchmarks/access.py [--rounds N] [--shard I/N] [--latency SECONDS]

Each run is of target `qemu`, all layers, with the control verdicts of an earlier run. It goes over SSH and over the
launcher. With `--latency`, it goes over SSH with and without that round-trip delay (a proxy in the run's processes).
The output is the wall time of the run, its processor time with that of its guests, and the round trips of a case in a
guest. Processor time depends less on other load. Goals: at most 1.15 times the launcher's time, at most 3 times with
20 ms of latency, and at most 10 round trips.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.slow_ssh import LATENCY
from conformance.evidence.record import load_run


@dataclass(frozen=True)
class Took:
    """Wall time of a run in seconds, its processor time, and the round trips of a case."""

    seconds: float
    processor: float
    round_trips: float


def run(words: list[str], results: Path, latency: float = 0.0) -> Took:
    """One run with those arguments."""
    argv = [sys.executable, "-m", "assay9", "run", "qemu", f"--results={results}", *words]
    environment = dict(os.environ)
    if latency:
        argv += ["-p", "benchmarks.slow_ssh"]
        environment |= {LATENCY: str(latency), "PYTHONPATH": str(Path(__file__).parents[1])}
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode > 1:
        raise SystemExit(done.stdout + done.stderr)
    mounted = [one for one in load_run(max(results.glob("*-qemu"))).results if one.round_trips]
    trips = sum(one.round_trips for one in mounted) / len(mounted)
    return Took(seconds, sum(after[:2]) - sum(before[:2]), trips)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard", default="1/8")
    parser.add_argument("--latency", type=float, default=0.0)
    given = parser.parse_args()
    words = [f"--shard={given.shard}"]
    dear, cheap = ("ssh", "launcher") if not given.latency else (f"ssh with {given.latency * 1000:.0f} ms", "ssh")
    ways = {dear: [*words, "--access=ssh"], cheap: [*words, f"--access={cheap}"]}
    ratios: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as directory:
        run(ways[cheap], Path(directory))  # the results of the control runs are cached afterwards
        for number in range(given.rounds):
            order = (dear, cheap) if number % 2 else (cheap, dear)
            seen = {way: run(ways[way], Path(directory), given.latency if way == dear else 0.0) for way in order}
            one, other = seen[dear], seen[cheap]
            ratios.append((one.seconds / other.seconds, one.processor / other.processor))
            shown = ", ".join(f"{w} {seen[w].seconds:.1f} s ({seen[w].processor:.1f} s of processor)" for w in order)
            print(f"{shown}: ratio {ratios[-1][0]:.2f} ({ratios[-1][1]:.2f}); {one.round_trips:.1f} round trips a case")
            sys.stdout.flush()
    medians = [statistics.median(values) for values in zip(*ratios, strict=True)]
    print(f"median ratio {medians[0]:.2f}, of processor time {medians[1]:.2f}")


if __name__ == "__main__":
    main()
