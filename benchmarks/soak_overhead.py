"""What the runner and its monitors cost a workload: the same iterations in one guest, watched and unwatched, in turn.

    python benchmarks/soak_overhead.py [TARGET [PAIRS]]
    python benchmarks/soak_overhead.py --account [TARGET [PAIRS]]

One guest, one share, the workload `tree` with one process (its storm alone: no look from outside). Watched: the
runner's own polls, samples and health checks at their default pace, and the monitor inside. Unwatched: nothing but
the program; its result is read when it must be over. The order within a pair alternates. Printed for each pair and as
medians with their intervals: the time that the iteration took in the guest, and the processor time of the hypervisor
and of this process together, which other work on this host disturbs less. A negative cost is noise.

`--account` needs a less quiet machine: the processor time of the hypervisor while its guest does nothing, watched and
unwatched, a minute each; and what counting the messages costs them (blocks of some tenths of a second of the same
calls with and without it, in turn, so that whatever else happens meets both; a soak counts a second of each minute).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance.mounts import parse
from conformance.targets import kinds, spec
from conformance.targets.deployment import Deployment
from soak.program import InsideProgram
from soak.run import HEALTH, POLL, SLOWEST
from soak.watching import Watching

STEPS = 600
"""Calls of one measurement: some 15 s in a guest without KVM."""
TRACING = "/sys/kernel/tracing/instances/assay9-soak"


def config(deployment: Deployment, number: int) -> dict[str, Any]:
    root = f"{deployment.inside_root}/assay9-soak-overhead"
    return {"root": root, "name": "overhead", "seed": 1, "first": number, "last": number, "workers": 1, "steps": STEPS,
            "judged": 0}  # fmt: skip


def processor_time(pid: int) -> float:
    """Seconds of processor time of the hypervisor and of this process."""
    times = psutil.Process(pid).cpu_times()
    mine = psutil.Process().cpu_times()
    return float(times.user + times.system + mine.user + mine.system)


def measured(deployment: Deployment, number: int, watched: bool, guess: float) -> tuple[float, float]:
    """Seconds that the guest itself took for one iteration, and the processor time of it."""
    pid = deployment.processes()["device"]
    directory = f"{deployment.control_root}/soak-overhead"
    program = InsideProgram(deployment.inside, "soak.inside.tree", directory, config(deployment, number))
    program.place()
    watching = None
    if watched:
        watching = Watching(deployment, [deployment.inside_root], Path(deployment.outside_root), 10.0, 512)
    if watching is not None:
        time.sleep(3)  # its program starts
    program.start()
    begun = processor_time(pid)
    try:
        if watching is None:
            time.sleep(guess)
        health = sample = time.monotonic()
        while True:
            for event in program.poll():
                if event["e"] == "end":
                    if event["outcome"] != "pass":
                        raise RuntimeError(str(event["data"]))
                    return float(event["s"]), processor_time(pid) - begun
            if watching is not None and time.monotonic() >= sample:
                sample = time.monotonic() + 10.0
                watching.sample()
            if watching is not None and time.monotonic() >= health:
                health = time.monotonic() + HEALTH
                deployment.trouble()
            time.sleep(POLL)
    finally:
        program.kill()
        if watching is not None:
            watching.kill()
            deployment.inside.call("run", ["rmdir", TRACING])  # the kernel's counting ends with it


BLOCKS = """
import os, sys, time
where, directory = sys.argv[1:3]
events = (("9p_client_res", "hist:keys=type,err:size=128"),)
path = os.path.join(directory, "assay9-soak-overhead-probe")
open(path, "w").close()
os.makedirs(where, exist_ok=True)
for block in range(2 * int(sys.argv[3])):
    counted = block % 4 in (1, 2)  # each pair begins with the other one
    for event, hist in events:
        with open(f"{where}/events/9p/{event}/trigger", "w") as f:
            f.write(hist if counted else "!" + hist)
    begun = time.monotonic()
    for _ in range(40):
        os.stat(path)
    print(int(counted), time.monotonic() - begun)
os.unlink(path)
"""


def inside(deployment: Deployment) -> tuple[float, float]:
    """Processor time of the whole guest and of what watches in it, in ticks."""
    call = deployment.inside.call
    busy = call("read_text", "/proc/stat").split("\n")[0].split()[1:9]
    listed = call("run", ["sh", "-c", "grep -al -e soak.inside.watch -e agent.py /proc/[0-9]*/cmdline"])["stdout"]
    watching = 0.0
    for path in listed.decode().split():
        if "self" not in path:
            try:
                words = call("read_text", path.replace("cmdline", "stat")).rpartition(")")[2].split()
            except OSError:
                continue  # the shell that looked
            watching += float(words[11]) + float(words[12])
    return sum(float(n) for at, n in enumerate(busy) if at not in (3, 4)), watching


def account(target: str, pairs: int) -> None:
    """What the monitors take of a core, in a guest that does nothing else."""
    with tempfile.TemporaryDirectory() as directory:
        deployment = kinds.deployment(spec.load(target), Path(directory), print, {})
        try:
            deployment.start()
            deployment.mount(parse(""))
            costs = []
            for _ in range(pairs):
                used = {}
                for watched in (True, False):
                    watching = None
                    if watched:
                        watching = Watching(
                            deployment, [deployment.inside_root], Path(deployment.outside_root), 10.0, 512
                        )
                    time.sleep(15)  # its program starts
                    used[watched] = idle(deployment, watching)
                    if watching is not None:
                        watching.kill()
                costs.append(used[True] - used[False])
                print(f"idle {used[False]:.2%} of a core, watched {used[True]:.2%}", flush=True)
            print(f"the monitors, median of {pairs} pairs: {statistics.median(costs):.2%} of a core "
                  f"({min(costs):.2%} to {max(costs):.2%})", flush=True)  # fmt: skip
            argv, lines = ["python3", "-c", BLOCKS, TRACING, deployment.inside_root, "8"], []
            for _ in range(12):
                said = deployment.inside.call("run", argv, timeout=120.0)
                lines += [line.split() for line in said["stdout"].decode().splitlines()]
            both = [dict(lines[at : at + 2]) for at in range(0, len(lines), 2)]
            ratios = sorted(float(pair["1"]) / float(pair["0"]) for pair in both)
            print(f"counting messages, {len(ratios)} pairs of blocks of 40 calls: {interval(ratios)}")
        finally:
            deployment.stop()


def idle(deployment: Deployment, watching: Watching | None) -> float:
    """Cores that the hypervisor takes for a minute, asked as often as the runner asks during a long iteration."""
    begun, used = time.monotonic(), psutil.Process(deployment.processes()["device"]).cpu_times()
    sample = begun
    while time.monotonic() < begun + 60.0:
        if watching is not None:
            deployment.inside.call("getpid")  # the poll of a workload
            if time.monotonic() >= sample:
                sample += 10.0
                watching.sample()
        time.sleep(SLOWEST)
    now = psutil.Process(deployment.processes()["device"]).cpu_times()
    return float((now.user + now.system - used.user - used.system) / (time.monotonic() - begun))


def main() -> None:
    if sys.argv[1:2] == ["--account"]:
        account(sys.argv[2] if len(sys.argv) > 2 else "qemu", int(sys.argv[3]) if len(sys.argv) > 3 else 3)
        return
    target = sys.argv[1] if len(sys.argv) > 1 else "qemu"
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    with tempfile.TemporaryDirectory() as directory:
        deployment = kinds.deployment(spec.load(target), Path(directory), print, {})
        try:
            deployment.start()
            deployment.mount(parse(""))
            # the first also ends the recording of messages that cases want and a soak does without
            guess = measured(deployment, 0, True, 0.0)[0]
            ratios: list[tuple[float, float]] = []
            for number in range(pairs):
                order = (True, False) if number % 2 else (False, True)
                took = {watched: measured(deployment, 1, watched, guess * 0.7) for watched in order}
                ratios.append((took[True][0] / took[False][0], took[True][1] / took[False][1]))
                print(f"unwatched {took[False][0]:.2f} s (processor {took[False][1]:.2f} s), "
                      f"watched {took[True][0]:.2f} s ({took[True][1]:.2f} s)", flush=True)  # fmt: skip
        finally:
            deployment.stop()
    for words, place in (("time", 0), ("processor time", 1)):
        print(f"{words}, median of {pairs} pairs: {interval(sorted(r[place] for r in ratios))}")


def interval(ratios: list[float]) -> str:
    """The median of sorted ratios as a cost, with the order statistics that hold it with 95 %."""
    half, away = len(ratios) / 2, 0.98 * len(ratios) ** 0.5
    low, high = ratios[max(0, int(half - away))], ratios[min(len(ratios) - 1, int(half + away))]
    return f"{statistics.median(ratios) - 1:+.2%} (95 %: {low - 1:+.2%} to {high - 1:+.2%})"


if __name__ == "__main__":
    main()
