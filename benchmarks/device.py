"""The cost of one Tgetattr to the virtio device, from avail ring to used ring, in processor time of its thread.

It is processor time because the machine is shared. No front end and no driver is included.
Run: .venv/bin/python benchmarks/device.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protocol import codec
from protocol.constants import GETATTR_BASIC, NOFID, NOTAG
from protocol.messages import Tattach, Tgetattr, Tversion
from protocol.virtqueue import Feature
from tests.virtio.driver import Driver

BATCH = 32
ROUNDS = 200
FRAME = codec.frame(Tgetattr(1, 1, GETATTR_BASIC))
MODES = {
    "split": 0,
    "split, event index": Feature.EVENT_IDX.mask,
    "split, indirect": Feature.INDIRECT_DESC.mask,
    "packed": Feature.RING_PACKED.mask,
}


def cost(features: int) -> float:
    """Microseconds for each of BATCH * ROUNDS requests."""
    driver = Driver(features, 128)
    driver.rpc(Tversion(NOTAG, 8192, b"9P2000.L"))
    driver.rpc(Tattach(1, 1, NOFID, b"root", b"", 0))
    pieces = [(1 << 20, len(FRAME), False), (2 << 20, 4096, True)]
    driver.put(pieces, FRAME)
    table = 3 << 18 if features & Feature.INDIRECT_DESC.mask else None
    spent = 0.0
    for _ in range(ROUNDS):
        for _ in range(BATCH):
            driver.offer(pieces, table)
        begun = time.thread_time()
        driver.run()
        spent += time.thread_time() - begun
        assert len(driver.used()) == BATCH
    driver.close()
    return 1e6 * spent / (BATCH * ROUNDS)


def main() -> None:
    """Print a line for each kind of ring."""
    costs: dict[str, list[float]] = {name: [] for name in MODES}
    for _ in range(5):
        for name, features in MODES.items():
            costs[name].append(cost(features))
    for name, found in costs.items():
        print(f"{name:20} {sorted(found)[2]:6.1f} us a request (median of 5), {1e6 / sorted(found)[2]:8.0f}/s at most")


if __name__ == "__main__":
    main()
