"""For the fault guest-memory: takes memory until little is left, keeps it for a while, and releases it.

It makes itself the first choice of the kernel's OOM killer, so that no workload is killed instead.
"""

from __future__ import annotations

import time

from soak.inside.common import configuration, reporting

STEP = 4 << 20


def available_mb() -> float:
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("MemAvailable"))


def main() -> None:
    config = configuration()
    with open("/proc/self/oom_score_adj", "w") as f:
        f.write("1000")
    taken: list[bytearray] = []
    most, end = 0, time.monotonic() + config["seconds"]
    while time.monotonic() < end:
        left = available_mb()
        if left > config["leave_mb"] + STEP / 2**20:
            taken.append(bytearray(b"\x01" * STEP))
            most = max(most, len(taken))
        elif left < config["leave_mb"] - STEP / 2**20 and taken:
            taken.pop()
        else:
            time.sleep(0.05)
    megabytes = most * STEP >> 20
    reporting(config)(e="over", taken_mb=megabytes, found=f"took {megabytes} MB of the guest")


if __name__ == "__main__":
    main()
