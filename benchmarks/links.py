"""Tgetattr rates over the links to a device, measured alternately in one go.

    python -m benchmarks.links [--rounds 5] [--link qtest --link vhost-user --link socket]

Each round asks every link in turn for the same number of Tgetattr, one at a time and many in flight; shown are the
medians. Beside the rates stands what one request in flight costs in processor time, here and in the server's process:
on two idle cores the dearer side bounds the rate, and unlike the rate this does not depend on who else is at work.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from conformance.operations import Client
from conformance.servers import Server, ServerSpec, make
from protocol import codec
from protocol.constants import GETATTR_BASIC
from protocol.messages import Rgetattr, Tgetattr

MOST = 64
"""Requests in flight."""

SPECS: dict[str, ServerSpec] = {
    "qtest": ServerSpec(program="qtest"),
    "qtest-legacy": ServerSpec(program="qtest", options={"legacy": True}),
    "vhost-user": ServerSpec(program="reference", transport="vhost-user"),
    "socket": ServerSpec(program="reference"),
    "guest-pci": ServerSpec(program="guest-pci"),
}


class Seen(NamedTuple):
    """What one link did in one round."""

    single: float
    """Requests a second, one at a time."""
    many: float
    """Requests a second, as many in flight as the link takes, MOST at most."""
    ours: float
    """Microseconds of processor time that one of them cost this process."""
    theirs: float
    """And the server's process."""


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rates(server: Server, count: int) -> Seen:
    """Raw frames, encoded beforehand; replies are only looked at for being Rgetattr."""
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
    half = depth // 2
    turns = count // half
    ours, theirs, begun = time.process_time(), processor_time(pid), time.perf_counter()
    link.send_many(frames[:half])
    for turn in range(turns):
        # The other half is under way while this one is taken in.
        if turn + 1 < turns:
            link.send_many(frames[half:] if turn % 2 == 0 else frames[:half])
        for _ in range(half):
            assert link.recv(60.0)[4] == Rgetattr.type
    many = turns * half / (time.perf_counter() - begun)
    cost = time.process_time() - ours, processor_time(pid) - theirs
    client.close()
    return Seen(single, many, *(1e6 * seconds / (turns * half) for seconds in cost))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--link", action="append", choices=sorted(SPECS), default=[])
    options = parser.parse_args()
    names = options.link or ["qtest", "vhost-user", "socket"]
    with tempfile.TemporaryDirectory(prefix="assay9-links-", dir="/var/tmp") as folder:
        servers: dict[str, Server] = {}
        try:
            for name in names:
                base = Path(folder) / name
                base.mkdir()
                servers[name] = make(SPECS[name], base)
                servers[name].start()
            seen: dict[str, list[Seen]] = {name: [] for name in names}
            for _ in range(options.rounds):
                for name, server in servers.items():
                    seen[name].append(rates(server, options.count))
        finally:
            for server in servers.values():
                server.stop()
    print(f"{'link':<14}{'one at a time/s':>16}{'in flight/s':>13}{'us here':>9}{'us there':>10}")
    for name in names:
        one, many, ours, theirs = (statistics.median(column) for column in zip(*seen[name], strict=True))
        print(f"{name:<14}{one:>16,.0f}{many:>13,.0f}{ours:>9.1f}{theirs:>10.1f}")


if __name__ == "__main__":
    main()
