"""How long a User-Mode Linux guest takes: from start to its agent's first answer, a round trip, and its shutdown.

Run: python benchmarks/uml_ready.py [TIMES]; the kernel and the image must be in the cache (assay9 guest build uml).
It prints one line for each start, and the median. The line has the load of this machine, because wall time depends on
it, and the processor time of the start, which depends on it less.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from guests.agent.link import AgentLink
from guests.machines.uml.launch import tap_possible
from guests.machines.uml.machine import UmlMachine
from guests.machines.uml.spec import UmlSpec

CALLS = 300


def once(network: bool) -> tuple[float, float, float]:
    """Seconds to the first answer, processor time of that start, and seconds of one round trip."""
    with tempfile.TemporaryDirectory() as directory:
        machine = UmlMachine(UmlSpec(run_dir=Path(directory), network=network))
        begun = time.monotonic()
        machine.start()
        try:
            agent = AgentLink(machine.agent_channel())
            agent.calls.getpid()
            ready = time.monotonic() - begun
            tree = [psutil.Process(machine.pid), *psutil.Process(machine.pid).children(recursive=True)]
            spent = sum(sum(process.cpu_times()[:4]) for process in tree)
            begun = time.monotonic()
            for _ in range(CALLS):
                agent.calls.getpid()
            trip = (time.monotonic() - begun) / CALLS
            agent.close()
        finally:
            machine.stop()
    return ready, spent, trip


def main() -> None:
    """See the module."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for network in (False, True):
        name = "with TAP" if network else "console only"
        if network and not tap_possible():
            print(f"{name:<13} not for this user: it needs root and /dev/net/tun")
            continue
        seen = []
        for _ in range(times):
            ready, spent, trip = once(network)
            seen.append(ready)
            print(
                f"{name:<13} first answer {ready:5.2f} s   processor {spent:5.2f} s   "
                f"round trip {trip * 1e3:6.2f} ms   load {os.getloadavg()[0]:.1f}"
            )
        print(f"{name:<13} median {statistics.median(seen):.2f} s")


if __name__ == "__main__":
    main()
