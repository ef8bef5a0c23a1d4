"""The cost of dask.distributed to a fleet: the engine compared with the shards, and the scheduler at 100,000 shards.

    python -m benchmarks.fleet matrix [--minutes 10] [--shards 40]
    python -m benchmarks.fleet scheduler [--workers 200] [--shards 100000]

`matrix`: two workers run shards for the given minutes in total. A shard only waits and writes a megabyte. The engine's
cost is the wall time beyond the shards of the busier worker: the start and end of the cluster, handing out shards, and
fetching their results.

`scheduler`: one scheduler, simulated workers and empty shards, in one run of the fleet. The processor time of a
shard, by tenths of the run, must not grow. It is the sum for scheduler, client and simulated workers. A simulated
worker speaks dask's protocol and has no thread, monitor, profiler or heartbeat. 200 real workers would take more time
than the scheduler.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import os
import pickle
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import dask
from distributed import Client, LocalCluster, Status
from distributed.comm.core import connect
from distributed.core import Server
from distributed.protocol.serialize import to_serialize
from distributed.versions import get_versions

from assay9.fleet.engine import Fleet
from assay9.fleet.shards import Outcome

TENTHS = 10
VERSIONS = get_versions()
METRICS = {
    "task_counts": {},
    "bandwidth": {"total": 1e8, "workers": {}, "types": {}},
    "digests_total_since_heartbeat": {},
    "managed_bytes": 0,
    "spilled_bytes": {"memory": 0, "disk": 0},
    "event_loop_interval": 0.02,
    "cpu": 0.0,
    "memory": 0,
    "time": 0.0,
}
"""The metrics that the scheduler reads from a new worker."""


def wait(seconds: float, _key: str, name: str) -> Outcome:
    """A shard that waits and writes a megabyte that cannot be compressed."""
    begun = time.monotonic()
    time.sleep(seconds)
    return Outcome(name, 0, worker=str(os.getpid()), seconds=time.monotonic() - begun, packed=os.urandom(1 << 20))


def nothing(_key: str, name: str) -> str:
    """An empty shard."""
    return name


def lost(name: str, error: BaseException) -> NoReturn:
    """Fail: no shard may be lost here."""
    raise AssertionError(f"{name} was lost") from error


def matrix(minutes: float, shards: int) -> None:
    """Print the engine's share of the time of a matrix."""
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


class Simulated(Server):
    """A worker that reports each task as done at once; its result is the task's key."""

    def __init__(self, number: int) -> None:
        super().__init__(handlers={"get_data": self.give})  # type: ignore[no-untyped-call]
        self._number = number

    async def begin(self, scheduler: str) -> None:
        """Listen and register."""
        await self.listen("inproc://")  # type: ignore[no-untyped-call]
        comm = await connect(scheduler)
        await comm.write(
            {
                "op": "register-worker",
                "reply": False,
                "address": self.address,
                "status": "running",
                "nthreads": 1,
                "name": f"simulated-{self._number}",
                "now": time.time(),
                "resources": {"root": 1},
                "memory_limit": 1 << 30,
                "local_directory": "",
                "services": {},
                "nanny": None,
                "versions": VERSIONS,
                "metrics": METRICS,
                "extra": {},
                "stimulus_id": f"begin-{self._number}",
                "server_id": self.id,
            }
        )
        await comm.read()
        self._task = asyncio.create_task(self._work(comm))

    async def _work(self, comm: Any) -> None:
        while True:
            said = [
                {
                    "op": "task-finished",
                    "status": "OK",
                    "key": message["key"],
                    "run_id": message["run_id"],
                    "nbytes": 100,
                    "type": pickle.dumps(str),
                    "typename": "str",
                    "metadata": {},
                    "thread": None,
                    "startstops": (),
                    "stimulus_id": "done",
                }
                for message in await comm.read()
                if message["op"] == "compute-task"
            ]
            if said:
                await comm.write(said)

    async def give(self, comm: Any, keys: Sequence[str], **_: Any) -> Any:
        """Send results to a client in the two steps of Worker.get_data."""
        await comm.write({"status": "OK", "data": {key: to_serialize(key) for key in keys}})
        await comm.read()
        return Status.dont_reply


def scheduler(workers: int, shards: int) -> None:
    """Print the cost of an empty shard, by tenths of the run."""
    dask.config.set({"distributed.scheduler.worker-ttl": None})
    with (
        tempfile.TemporaryDirectory() as place,
        dask.config.set({"temporary-directory": place}),
        LocalCluster(n_workers=0, processes=False, dashboard_address=None, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster) as client,
    ):

        async def begin() -> list[Simulated]:
            made = [Simulated(number) for number in range(workers)]
            for one in made:
                await one.begin(cluster.scheduler_address)
            return made

        simulated = client.sync(begin)
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == len(simulated)
        fleet = Fleet(None, 0, [])
        fleet.client = client
        tenth = shards // TENTHS
        seen: set[str] = set()
        begun, used = time.monotonic(), time.process_time()
        for key in fleet.each({f"shard-{number}": ["root"] for number in range(shards)}, nothing, lost):
            assert key not in seen
            seen.add(key)
            if len(seen) % tenth == 0:
                took, cost = time.monotonic() - begun, time.process_time() - used
                print(f"{len(seen):>7} shards: {1000 * cost / tenth:.2f} ms each, {tenth / took:.0f}/s", flush=True)
                begun, used = time.monotonic(), time.process_time()
        assert len(seen) == shards


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
