"""What dask.distributed costs a fleet: the engine beside the shards themselves, and the scheduler at 100,000 shards.

    python -m benchmarks.fleet matrix [--minutes 10] [--shards 40]
    python -m benchmarks.fleet scheduler [--workers 200] [--shards 100000]

`matrix`: shards on two workers, each of which only waits and leaves a megabyte, together for so many minutes. What the
whole takes longer than the shards of the busier worker is the engine's: the cluster's start and end, handing shards
out, and bringing back what they left.

`scheduler`: one scheduler, workers in this process, shards of no work, in ten lots of equal size one after the other.
The cost of a shard must not grow from lot to lot. It is that of scheduler, workers and client together, which share
the processors here.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import time
from typing import NoReturn

from distributed import Client, LocalCluster

from assay9.fleet.engine import Fleet
from assay9.fleet.shards import Outcome

LOTS = 10


def wait(seconds: float, _key: str, name: str) -> Outcome:
    """A shard that waits, and leaves a megabyte that cannot be compressed."""
    begun = time.monotonic()
    time.sleep(seconds)
    return Outcome(name, 0, worker=str(os.getpid()), seconds=time.monotonic() - begun, packed=os.urandom(1 << 20))


def nothing(_key: str, name: str) -> str:
    """A shard of no work."""
    return name


def lost(name: str, error: BaseException) -> NoReturn:
    """No shard may be lost here."""
    raise AssertionError(f"{name} was lost") from error


def matrix(minutes: float, shards: int) -> None:
    """Print the engine's part of a matrix."""
    begun = time.monotonic()
    with Fleet(None, 2, []) as fleet:
        started = time.monotonic()
        work = functools.partial(wait, minutes * 60 * 2 / shards)
        came = list(fleet.each({f"shard-{n}": [] for n in range(shards)}, work, lost))
        worked = time.monotonic()
    ended = time.monotonic()
    assert len({one.name for one in came}) == len(came) == shards
    by_worker: dict[str, float] = {}
    for one in came:
        by_worker[one.worker] = by_worker.get(one.worker, 0.0) + one.seconds
    busiest = max(by_worker.values())
    print(f"{shards} shards of {came[0].seconds:.1f} s on {len(by_worker)} workers: {busiest:.1f} s on the busier one")
    handed = worked - started - busiest
    print(f"start {started - begun:.1f} s, handing out and back {handed:.1f} s, end {ended - worked:.1f} s")
    print(f"engine: {100 * (ended - begun - busiest) / busiest:.2f} % of the shards' time")


def scheduler(workers: int, shards: int) -> None:
    """Print the cost of a shard of no work, lot by lot."""
    cluster = LocalCluster(
        n_workers=workers,
        processes=False,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )
    lot = shards // LOTS
    with cluster, Client(cluster) as client:
        fleet = Fleet(None, 0, [])
        fleet.client = client
        for number in range(LOTS):
            begun, used = time.monotonic(), time.process_time()
            names = {f"shard-{number}-{n}": () for n in range(lot)}
            assert sorted(fleet.each(names, nothing, lost)) == sorted(names)
            took, cost = time.monotonic() - begun, time.process_time() - used
            each = f"{1000 * cost / lot:.2f} ms of processor time each"
            print(f"lot {number + 1}: {lot} shards, {each}, {lot / took:.0f}/s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("matrix")
    one.add_argument("--minutes", type=float, default=10)
    one.add_argument("--shards", type=int, default=40)
    two = commands.add_parser("scheduler")
    two.add_argument("--workers", type=int, default=200)
    two.add_argument("--shards", type=int, default=100_000)
    given = parser.parse_args()
    if given.command == "matrix":
        matrix(given.minutes, given.shards)
    else:
        scheduler(given.workers, given.shards)
