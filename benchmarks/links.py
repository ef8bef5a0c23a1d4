"""Tgetattr rates over the links to a device, measured alternately in one run.

    python -m benchmarks.links [--rounds 5] [--link qtest --link vhost-user --link socket]

Each round sends the same number of Tgetattr over every link in turn. The output is the medians.

- `one at a time`: this process sends each request when it has the reply to the previous one.
- `in turn`: one request is in flight at the device here, too, but this process waits only for the last of 64. Where
  the transport crosses into a guest, the program inside sends each request when it has seen the previous reply
  (`RingLink.send_in_turn`). This measures the device without the transport to it. This process checks the replies
  afterwards. On the other transports it equals `one at a time` except for the reading.
- `in flight`: 64 requests are in flight at the device.

Beside the rates is the processor time of one request, here and in the server's process. On two idle cores the more
expensive side bounds the rate. Unlike the rate, it does not depend on other load.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from conformance.raw.operations import Client
from conformance.raw.server import Server
from conformance.run.wire import maker
from conformance.sut.asked import asked_of
from conformance.sut.load import load
from conformance.sut.qemu.qtest import QtestServer
from conformance.sut.servers.front_ends import reference_device
from conformance.sut.servers.programs import ReferenceServer
from conformance.sut.servers.tables import ReferenceTable
from conformance.transports.virtqueue import RingLink
from guests.host.processes import processor_time
from protocol import codec
from protocol.constants import GETATTR_BASIC
from protocol.messages import Rgetattr, Tgetattr

MOST = 64
"""Requests in flight."""

MAKERS: dict[str, Callable[[Path], Server]] = {
    "qtest": QtestServer,
    "qtest-legacy": partial(QtestServer, legacy=True),
    "vhost-user": partial(reference_device, "vhost-user", ()),
    "socket": partial(ReferenceServer, ReferenceTable()),
    "guest-pci": maker(asked_of(load("qemu"), {"link": "guest-pci"}, ["wire"]), "wire"),
}


_SHOWN = ("single", "many", "ours", "theirs")


class Seen(NamedTuple):
    """The measurements of one link in one round."""

    single: float
    """Requests per second, one at a time."""
    turn: float | None
    """Requests per second, one at a time at the device, in batches; None where the transport is a socket."""
    many: float
    """Requests per second, with as many in flight as the link takes, MOST at most."""
    ours: float
    """Processor time of one such request in this process, in microseconds."""
    theirs: float
    """Processor time of one such request in the server's process, in microseconds."""


def rates(server: Server, count: int) -> Seen:
    """Send raw frames that were encoded beforehand; check only that replies are Rgetattr."""
    client = Client(server.connect(), timeout=60.0)
    client.version(8192)
    client.attach(1, server.aname, b"root")
    link, pid = client.link, server.pid()
    assert pid is not None
    depth = min(MOST, link.depth)
    frames = [[codec.frame(Tgetattr(tag, 1, GETATTR_BASIC))] for tag in range(depth)]
    begun = time.perf_counter()
    for _ in range(count // 8):
        link.send(frames[0])
        assert link.recv(60.0)[4] == Rgetattr.type
    single = count // 8 / (time.perf_counter() - begun)
    turn = in_turn(link, frames, count // 4) if isinstance(link, RingLink) else None
    half = depth // 2
    turns = count // half
    ours, theirs, begun = time.process_time(), processor_time(pid), time.perf_counter()
    link.send_many(frames[:half])
    for number in range(turns):
        # The other half is in flight while this one is read.
        if number + 1 < turns:
            link.send_many(frames[half:] if number % 2 == 0 else frames[:half])
        for _ in range(half):
            assert link.recv(60.0)[4] == Rgetattr.type
    many = turns * half / (time.perf_counter() - begun)
    cost = time.process_time() - ours, processor_time(pid) - theirs
    client.close()
    return Seen(single, turn, many, *(1e6 * seconds / (turns * half) for seconds in cost))


def in_turn(link: RingLink, frames: list[list[bytes]], count: int) -> float:
    """Requests per second."""
    batches = max(1, count // len(frames))
    begun = time.perf_counter()
    for _ in range(batches):
        link.send_in_turn(frames)
        for _ in frames:
            assert link.recv(60.0)[4] == Rgetattr.type
    return batches * len(frames) / (time.perf_counter() - begun)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--link", action="append", choices=sorted(MAKERS), default=[])
    options = parser.parse_args()
    names = options.link or ["qtest", "vhost-user", "socket"]
    with tempfile.TemporaryDirectory(prefix="assay9-links-", dir="/var/tmp") as folder:
        servers: dict[str, Server] = {}
        try:
            for name in names:
                base = Path(folder) / name
                base.mkdir()
                servers[name] = MAKERS[name](base)
                servers[name].start()
            seen: dict[str, list[Seen]] = {name: [] for name in names}
            for _ in range(options.rounds):
                for name, server in servers.items():
                    seen[name].append(rates(server, options.count))
        finally:
            for server in servers.values():
                server.stop()
    print(f"{'link':<14}{'one at a time/s':>16}{'in turn/s':>11}{'in flight/s':>13}{'us here':>9}{'us there':>10}")
    for name in names:
        one, many, ours, theirs = (
            statistics.median(column) for column in ([getattr(s, f) for s in seen[name]] for f in _SHOWN)
        )
        turns = [s.turn for s in seen[name] if s.turn is not None]
        turn = f"{statistics.median(turns):,.0f}" if turns else "-"
        print(f"{name:<14}{one:>16,.0f}{turn:>11}{many:>13,.0f}{ours:>9.1f}{theirs:>10.1f}")


if __name__ == "__main__":
    main()
