"""One call through the resident agent against one exec per call, over the same SSH connection.

    .venv/bin/python benchmarks/agent_vs_exec.py [--rounds N]

Both make the same lstat in the same restored guest, alternately in one run. The output is the medians and the ratio
of each round. The goal is a ratio of at least 30. Before that, the benchmark times three guests restored from the
snapshot, from the start of the hypervisor to the agent's first answer. The goal is at most 3 s without KVM.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from guests.agent.link import AgentLink
from guests.machines.qemu.machine import QemuMachine
from guests.machines.spec import MachineSpec

CALLS_PER_ROUND = 20


def ready() -> float:
    """Seconds from the start of a guest to its first answer; the very first guest makes the snapshot."""
    with tempfile.TemporaryDirectory() as directory:
        begun = time.perf_counter()
        machine = QemuMachine(MachineSpec(image="debian12", run_dir=Path(directory)), progress=print)
        machine.start()
        try:
            AgentLink(machine.agent_channel()).calls.getpid()
            return time.perf_counter() - begun
        finally:
            machine.stop()


def main() -> None:
    """Boot, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for _ in range(3):
        print(f"ready from the snapshot in {ready():.2f} s")
    with tempfile.TemporaryDirectory() as directory:
        machine = QemuMachine(MachineSpec(image="debian12", run_dir=Path(directory)), progress=print)
        machine.start()
        try:
            shell, agent = machine.shell(), AgentLink(machine.agent_channel())
            ratios = []
            for number in range(1, rounds + 1):
                begun = time.perf_counter()
                for _ in range(CALLS_PER_ROUND):
                    agent.calls.lstat("/etc/passwd")
                through_agent = (time.perf_counter() - begun) / CALLS_PER_ROUND
                begun = time.perf_counter()
                for _ in range(3):
                    shell.run(["stat", "/etc/passwd"])
                through_exec = (time.perf_counter() - begun) / 3
                ratios.append(through_exec / through_agent)
                print(
                    f"round {number}: agent {through_agent * 1000:.2f} ms, exec {through_exec * 1000:.1f} ms, "
                    f"ratio {ratios[-1]:.0f}"
                )
            print(f"median ratio {statistics.median(ratios):.0f} (min {min(ratios):.0f}, max {max(ratios):.0f})")
        finally:
            machine.stop()


if __name__ == "__main__":
    main()
