"""For the fault signals: processes that read, write, sync and list are killed at random moments.

Linux's client sends Tflush when a process that waits for a reply is killed (wait_event_killable in p9_client_rpc).
Afterwards the share must work as before, every process must be gone, and the data of a surviving process must be right.
"""

from __future__ import annotations

import os
import shutil
import signal
import time

from soak.inside.common import child, configuration, fresh, generator, reporting

SIZE = 1 << 20


def work(root: str, number: int) -> None:
    """One process: repeats a few calls until it is killed."""
    path, data = os.path.join(root, f"w{number}"), bytes([65 + number % 26]) * SIZE
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.pwrite(fd, data, 0)
        os.fsync(fd)
        os.pread(fd, SIZE, 0)
        os.close(fd)
        os.listdir(root)


def born(root: str, number: int) -> int:
    return child(lambda: work(root, number))


def ended(pid: int, patience: float) -> bool:
    """Whether a killed process ends: one that waits for a reply that never comes does not."""
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return True
        time.sleep(0.005)
    return False


def torn(root: str, count: int) -> str:
    """What is wrong with the files: each must hold a single repeated byte, perhaps truncated."""
    for number in range(count):
        path = os.path.join(root, f"w{number}")
        if os.path.exists(path):
            with open(path, "rb") as f:
                found = f.read()
            if found.strip(bytes([65 + number % 26])):
                return f"{path} holds bytes that no process wrote"
    return ""


def main() -> None:
    config = configuration()
    root, rng, count = config["root"], generator(config["seed"]), config["processes"]
    fresh(root)
    pids = {number: born(root, number) for number in range(count)}
    killed, failed, end = 0, "", time.monotonic() + config["seconds"]
    while time.monotonic() < end and not failed:
        time.sleep(rng.uniform(0.0, 0.08))
        number = rng.randrange(count)
        os.kill(pids[number], signal.SIGKILL)
        killed += 1
        if not ended(pids[number], 60.0):
            failed = "a process killed in the middle of a call did not end within 60 s"
        pids[number] = born(root, number)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
        if not ended(pid, 60.0):
            failed = failed or "a process killed in the middle of a call did not end within 60 s"
    failed = failed or torn(root, count)
    if not failed:
        shutil.rmtree(root)
    found = {"killed": killed, "found": f"{killed} processes killed in the middle of their calls"}
    reporting(config)(e="over", **found, **({"failed": failed} if failed else {}))


if __name__ == "__main__":
    main()
