"""The cost of the runner and its monitors to a workload: the same build in one guest, watched and unwatched, in turn.

    python benchmarks/soak_overhead.py [TARGET [PAIRS]]
    python benchmarks/soak_overhead.py --account [TARGET [PAIRS]]

There is one guest with one share. The workload `kernel-build` prepares the tree on the share and builds it once. The
benchmark then removes the objects and compiles them again repeatedly, by the commands that make used, and the guest
times this. Watched: the runner polls, samples and checks health at the default pace, and the monitor runs inside.
Unwatched: nothing else runs, and the result is read when the build must be over. The order within a pair alternates.
The output, for each pair and as medians with intervals, is the time in the guest and the processor time of the
hypervisor and this process together. Other work on this host affects the processor time less. A negative cost is noise.

`--account` does not need a machine as quiet. It measures the processor time of the hypervisor while its guest does
nothing, watched and unwatched, a minute each. It also measures the cost of counting messages: blocks of some tenths of
a second of the same calls alternate with and without it, so that other load affects both. A soak counts for a second
of each minute.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance.sut.asked import asked_of
from conformance.sut.load import load
from conformance.sut.options import Load
from conformance.sut.registry import kind_of
from conformance.vfs.deployment import Deployment
from conformance.vfs.mount_options import parse
from guests.agent.link import CallError
from soak import journal as journals
from soak.artefacts import Artefacts
from soak.jobs import RunningJob
from soak.outside import Outside
from soak.plan import Plan, jobs_of
from soak.run import HEALTH, POLL, SLOWEST, SOON
from soak.view import View
from soak.watching import Watching
from soak.workloads import find

OBJECTS = 12
"""Objects that one measurement compiles: about half a minute in a guest without KVM."""
BY_HAND = """
import glob, os, re, subprocess, sys, time
tree, out = sys.argv[1:3]
os.chdir(tree)
commands = []
for path in sys.argv[3:]:
    with open(os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.cmd")) as f:
        commands.append(re.match(r"\\S+ := (.*)", f.readline())[1].replace("$(pound)", "#"))
    os.unlink(path)
begun = time.monotonic()
for command in commands:
    subprocess.run(command, shell=True, check=True)
took = time.monotonic() - begun
assert all(os.path.exists(path) for path in sys.argv[3:])
with open(out + ".new", "w") as f:
    f.write(repr(took))
os.rename(out + ".new", out)
"""
LIMIT = 600.0
"""Seconds that a build by hand may take."""
TRACING = "/sys/kernel/tracing/instances/assay9-soak"


def built(deployment: Deployment, target: str, directory: Path) -> tuple[str, list[str]]:
    """The tree that the workload has built, by its path in the guest, and its objects."""
    options = {"kernel-build": {"unit": f"objects:{OBJECTS}", "jobs": 1}}
    plan = Plan(target=target, jobs=jobs_of(["kernel-build"], 1, options), seed=1, iterations=1)
    journal = journals.create(directory / "journal", plan.model_dump())
    journal.begin_session({})
    roots = deployment.inside_root, Outside(*deployment.outside_at())
    job = RunningJob(plan.jobs[0], plan, deployment, roots, journal, View(), Artefacts(directory / "artefacts", 16))
    job.start()
    while not job.done:
        job.poll(time.monotonic())
        time.sleep(SOON if job.waits else POLL)
    ended = journal.iterations()[-1]
    if ended.outcome != "pass":
        raise RuntimeError(f"the build itself: {ended.data}")
    tree = f"{job.host.inside_root}/linux"
    listed = deployment.inside.calls.run(["sh", "-c", f"cd {tree} && find init lib -name '*.o'"])["stdout"]
    return tree, sorted(listed.decode().split())


def processor_time(pid: int) -> float:
    """Seconds of processor time of the hypervisor and of this process."""
    times = psutil.Process(pid).cpu_times()
    mine = psutil.Process().cpu_times()
    return float(times.user + times.system + mine.user + mine.system)


def measured(deployment: Any, tree: str, objects: list[str], watched: bool, guess: float) -> tuple[float, float]:
    """The guest's own time for one build by hand in seconds, and its processor time."""
    pid, calls = deployment.processes()["device"], deployment.inside.calls
    out = f"{deployment.control_root}/soak-overhead"
    watching = None
    if watched:
        watching = Watching(deployment, [deployment.inside_root], Outside(*deployment.outside_at()), 10.0)
    time.sleep(5)  # its program starts; the same wait without it
    calls.start_program(["/usr/bin/python3", f"{out}.py", tree, out, *objects])
    begun, used = time.monotonic(), processor_time(pid)
    try:
        if watching is None:
            time.sleep(guess)
        health = sample = time.monotonic()
        while True:
            if watching is None or time.monotonic() - begun > guess:
                with contextlib.suppress(CallError):
                    took = float(calls.read_text(out))
                    used = processor_time(pid) - used
                    calls.unlink(out)
                    return took, used
            calls.getpid()  # the poll of a workload
            if time.monotonic() - begun > LIMIT:
                raise RuntimeError(f"the build by hand does not end: see {out}.py in the guest")
            if watching is not None and time.monotonic() >= sample:
                sample = time.monotonic() + 10.0
                watching.sample()
            if watching is not None and time.monotonic() >= health:
                health = time.monotonic() + HEALTH
                deployment.trouble()
            time.sleep(SLOWEST if watching is not None and time.monotonic() - begun < guess else POLL)
    finally:
        if watching is not None:
            watching.kill()
            deployment.inside.calls.run(["rmdir", TRACING])  # the kernel's counting ends with it


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


def deployment_of(name: str, directory: Path, needs: Load | None = None) -> Deployment:
    """That target, not yet started."""
    target = load(name)
    return kind_of(target).deployment(asked_of(target, {}, load=needs), directory, print)


def account(target: str, pairs: int) -> None:
    """The part of a core that the monitors take in a guest that does nothing else."""
    with tempfile.TemporaryDirectory() as directory:
        deployment = deployment_of(target, Path(directory))
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
                            deployment, [deployment.inside_root], Outside(*deployment.outside_at()), 10.0
                        )
                    time.sleep(15)  # its program starts
                    used[watched] = idle(deployment, watching)
                    if watching is not None:
                        watching.kill()
                costs.append(used[True] - used[False])
                print(f"idle {used[False]:.2%} of a core, watched {used[True]:.2%}", flush=True)
            print(
                f"the monitors, median of {pairs} pairs: {statistics.median(costs):.2%} of a core "
                f"({min(costs):.2%} to {max(costs):.2%})",
                flush=True,
            )
            argv, lines = ["python3", "-c", BLOCKS, TRACING, deployment.inside_root, "8"], []
            for _ in range(12):
                said = deployment.inside.calls_with(timeout=120.0).run(argv)
                lines += [line.split() for line in said["stdout"].decode().splitlines()]
            both = [dict(lines[at : at + 2]) for at in range(0, len(lines), 2)]
            ratios = sorted(float(pair["1"]) / float(pair["0"]) for pair in both)
            print(f"counting messages, {len(ratios)} pairs of blocks of 40 calls: {interval(ratios)}")
        finally:
            deployment.stop()


def idle(deployment: Deployment, watching: Watching | None) -> float:
    """Cores that the hypervisor uses for a minute, polled as often as the runner polls during a long iteration."""
    begun, used = time.monotonic(), psutil.Process(deployment.processes()["device"]).cpu_times()
    sample = begun
    while time.monotonic() < begun + 60.0:
        if watching is not None:
            deployment.inside.calls.getpid()  # the poll of a workload
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
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    with tempfile.TemporaryDirectory() as directory:
        kind = find("kernel-build")
        needs = Load(packages=tuple(sorted(kind.packages)), memory_mb=kind.memory_mb)
        deployment = deployment_of(target, Path(directory), needs)
        try:
            deployment.start()
            deployment.mount(parse(""))
            tree, objects = built(deployment, target, Path(directory))
            print(f"{len(objects)} objects in {tree}", flush=True)
            deployment.inside.calls.create(f"{deployment.control_root}/soak-overhead.py", BY_HAND.encode())
            # the first also ends the recording of messages, which cases need and a soak does not
            guess = 0.9 * measured(deployment, tree, objects, True, 0.0)[0]
            ratios: list[tuple[float, float]] = []
            for number in range(pairs):
                order = (True, False) if number % 2 else (False, True)
                took = {watched: measured(deployment, tree, objects, watched, guess) for watched in order}
                guess = min(guess, 0.9 * took[True][0], 0.9 * took[False][0])
                ratios.append((took[True][0] / took[False][0], took[True][1] / took[False][1]))
                print(
                    f"unwatched {took[False][0]:.2f} s (processor {took[False][1]:.2f} s), "
                    f"watched {took[True][0]:.2f} s ({took[True][1]:.2f} s)",
                    flush=True,
                )
        finally:
            deployment.stop()
    for words, place in (("time", 0), ("processor time", 1)):
        print(f"{words}, median of {pairs} pairs: {interval(sorted(r[place] for r in ratios))}")


def interval(ratios: list[float]) -> str:
    """The median of sorted ratios as a cost, with the order statistics that bound it with 95 % confidence."""
    half, away = len(ratios) / 2, 0.98 * len(ratios) ** 0.5
    low, high = ratios[max(0, int(half - away))], ratios[min(len(ratios) - 1, int(half + away))]
    return f"{statistics.median(ratios) - 1:+.2%} (95 %: {low - 1:+.2%} to {high - 1:+.2%})"


if __name__ == "__main__":
    main()
