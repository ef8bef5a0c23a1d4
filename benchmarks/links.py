"""Tgetattr rates over the links to a device, measured alternately in one go.

    python -m benchmarks.links [--rounds 5] [--link qtest --link vhost-user --link socket]

Each round asks every link in turn for the same number of Tgetattr, one at a time and 32 in flight; shown are the
medians and their ratio to the first link. Absolute numbers mean little on a shared machine; the ratios are of the same
minutes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from conformance.operations import Client
from conformance.servers import Server, ServerSpec, make
from protocol.constants import GETATTR_BASIC
from protocol.messages import Tgetattr

SPECS: dict[str, ServerSpec] = {
    "qtest": ServerSpec(program="qtest"),
    "qtest-legacy": ServerSpec(program="qtest", options={"legacy": True}),
    "vhost-user": ServerSpec(program="reference", transport="vhost-user"),
    "socket": ServerSpec(program="reference"),
    "guest-pci": ServerSpec(program="guest-pci"),
}


def rates(server: Server, count: int) -> tuple[float, float]:
    """Requests a second: one at a time, and 32 in flight."""
    client = Client(server.connect())
    client.version(8192)
    client.attach(1, server.aname, b"root")
    begun = time.perf_counter()
    for _ in range(count // 4):
        client.getattr(1)
    single = count / 4 / (time.perf_counter() - begun)
    requests = [Tgetattr(i % 32, 1, GETATTR_BASIC) for i in range(count)]
    begun = time.perf_counter()
    for _ in client.pipeline(requests, min(32, client.link.depth)):
        pass
    many = count / (time.perf_counter() - begun)
    client.close()
    return single, many


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
            seen: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for _ in range(options.rounds):
                for name, server in servers.items():
                    seen[name].append(rates(server, options.count))
        finally:
            for server in servers.values():
                server.stop()
    first = [statistics.median(r[i] for r in seen[names[0]]) for i in (0, 1)]
    print(f"{'link':<14}{'one at a time/s':>16}{'ratio':>8}{'32 in flight/s':>16}{'ratio':>8}")
    for name in names:
        one, many = (statistics.median(r[i] for r in seen[name]) for i in (0, 1))
        print(f"{name:<14}{one:>16,.0f}{one / first[0]:>8.2f}{many:>16,.0f}{many / first[1]:>8.2f}")


if __name__ == "__main__":
    main()
