"""The reference server against diod: same files, same raw client, unix sockets, alternately in one run.

    .venv/bin/python benchmarks/reference_server.py [--rounds N] [--seconds S] [--only WORD]
    .venv/bin/python benchmarks/reference_server.py --against CHECKOUT    the server as it is in another checkout
    .venv/bin/python benchmarks/reference_server.py --floor               a server in Python that does nothing

Needs root (both servers are contained) and the package diod.  Each workload runs for S seconds on one server, then on
the other, N times with alternating order.  The output is the median rates; the median, minimum and maximum of the
rounds' ratios; the servers' processor time for one unit of work, in microseconds; and the median of its ratios.  That
ratio is diod's time divided by the reference server's, so more is better here as well; other load on the machine
affects it less.

The client (`conformance.raw.client`, in Python) costs the same on both sides and so draws ratios of rates towards 1.
"bare" workloads therefore send frames that were encoded beforehand and count replies without decoding them.  Bulk data
goes in the largest messages of each (diod grants 64 KiB, the reference server 1 MiB).

The last part concerns the reference server alone: the cost of a request with 10 fids against 100,000.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from conformance.raw.operations import Client
from conformance.raw.server import Server
from conformance.sut.servers.make import make
from conformance.sut.servers.programs import ReferenceServer
from conformance.sut.servers.tables import DiodTable, ReferenceTable
from guests.host.processes import scheduled
from protocol import codec
from protocol.constants import O_EXCL, O_RDWR, TWRITE_HDRSZ
from protocol.dirents import decode_dirents
from protocol.messages import Rread, Tclunk, Tgetattr, Tlcreate, Tlopen, Tread, Treaddir, Tunlinkat, Twalk, Twrite
from protocol.registry import Message

MIB = 1 << 20
FILE_SIZE = 16 * MIB
ENTRIES = 10_000
MSIZE = {"reference": MIB, "floor": MIB, "diod": 65536}
ROOT, FILE = 0, 1
DATA_OVERHEAD = TWRITE_HDRSZ + 1  # IOHDRSZ: the bytes that Linux reserves for the header of Tread and Twrite
FIDS = (10, 100_000)


class Peer:
    """One server and a client that is attached to it."""

    def __init__(self, name: str, server: Server, msize: int) -> None:
        self.name = name
        self.server = server
        self.client = Client(server.connect(), timeout=60)
        self.msize = self.client.version(msize).msize
        self.client.attach(ROOT, aname=server.aname)
        self.client.walk(ROOT, FILE, b"file")
        self.client.lopen(FILE, O_RDWR)
        self.room = self.msize - DATA_OVERHEAD
        self.data = os.urandom(self.room)
        self.fids = count(100)

    def processor_time(self) -> float:
        """Processor time that the server has used, in seconds."""
        return scheduled(self.server.pid() or 0).ran


Workload = Callable[[Peer], Iterator[int]]
"""Yields the amount of work after each piece."""


def getattr_single(peer: Peer) -> Iterator[int]:
    """Tgetattr, one at a time."""
    while True:
        for _ in range(50):
            peer.client.getattr(FILE)
        yield 50


def getattr_flight(peer: Peer) -> Iterator[int]:
    """Tgetattr, 32 in flight."""
    while True:
        for _ in peer.client.pipeline((Tgetattr(n % 32, FILE, 0x7FF) for n in range(640)), 32):
            pass
        yield 640


def _bare(peer: Peer, requests: list[Message], depth: int, times: int = 40) -> int:
    """Send the encoded frames ``times`` times, ``depth`` at once, and count the replies."""
    link = peer.client.link
    frames = [codec.encode(request) for request in requests]
    for _ in range(times):
        for at in range(0, len(frames), depth):
            link.send_many(frames[at : at + depth])
            for _ in frames[at : at + depth]:
                link.recv(60)
    return times * len(frames)


def bare_single(peer: Peer) -> Iterator[int]:
    """Tgetattr, one at a time, bare."""
    while True:
        yield _bare(peer, [Tgetattr(1, FILE, 0x7FF)], 1)


def bare_flight(peer: Peer) -> Iterator[int]:
    """Tgetattr, 32 in flight, bare."""
    while True:
        yield _bare(peer, [Tgetattr(n, FILE, 0x7FF) for n in range(32)], 32)


def _spread(peer: Peer, number: int) -> int:
    """Return an offset that keeps the request within the file."""
    return (number * peer.room) % (FILE_SIZE - peer.room)


def read_single(peer: Peer) -> Iterator[int]:
    """Tread of the largest message, one at a time, MiB."""
    for number in count():
        yield len(peer.client.read(FILE, _spread(peer, number), peer.room).data)


def read_flight(peer: Peer) -> Iterator[int]:
    """Tread of the largest message, 8 in flight, MiB."""
    while True:
        requests = (Tread(n % 8, FILE, _spread(peer, n), peer.room) for n in range(16))
        yield sum(len(reply.data) for reply in peer.client.pipeline(requests, 8) if isinstance(reply, Rread))


def write_single(peer: Peer) -> Iterator[int]:
    """Twrite of the largest message, one at a time, MiB."""
    for number in count():
        yield peer.client.write(FILE, _spread(peer, number), peer.data).count


def write_flight(peer: Peer) -> Iterator[int]:
    """Twrite of the largest message, 8 in flight, MiB."""
    while True:
        requests = (Twrite(n % 8, FILE, _spread(peer, n), peer.data) for n in range(16))
        yield sum(reply.count for reply in peer.client.pipeline(requests, 8))  # type: ignore[union-attr]


def readdir(peer: Peer) -> Iterator[int]:
    """Treaddir of 10,000 entries, entries."""
    client = peer.client
    while True:
        fid = next(peer.fids)
        client.walk(ROOT, fid, b"entries")
        client.lopen(fid)
        offset = seen = 0
        while entries := list(decode_dirents(client.readdir(fid, offset, peer.room).data)):
            seen += len(entries)
            offset = entries[-1].offset
        assert seen == ENTRIES + 2, seen
        client.clunk(fid)
        yield seen


def _listings(peer: Peer, room: int) -> Iterator[int]:
    """List the directory in messages of ``room`` bytes, bare."""
    client = peer.client
    fid, offsets = next(peer.fids), [0]
    client.walk(ROOT, fid, b"entries")
    client.lopen(fid)
    while entries := list(decode_dirents(client.readdir(fid, offsets[-1], room).data)):
        offsets.append(entries[-1].offset)
    client.clunk(fid)
    listing: list[Message] = [Treaddir(1, 99, offset, room) for offset in offsets]
    requests = [Twalk(1, ROOT, 99, (b"entries",)), Tlopen(1, 99, 0), *listing, Tclunk(1, 99)]
    while True:
        yield _bare(peer, requests, 1, 1) // len(requests) * (ENTRIES + 2)


def bare_readdir(peer: Peer) -> Iterator[int]:
    """Treaddir of 10,000 entries, entries, bare."""
    return _listings(peer, peer.room)


def bare_readdir_small(peer: Peer) -> Iterator[int]:
    """Treaddir of 10,000 entries in messages of 8 KiB, bare."""
    return _listings(peer, 8192)


def walk_open_clunk(peer: Peer) -> Iterator[int]:
    """Twalk + Tlopen + Tclunk, one at a time."""
    client = peer.client
    while True:
        for number in range(20):
            fid = next(peer.fids)
            client.walk(ROOT, fid, b"entries", b"entry-%05d" % number)
            client.lopen(fid)
            client.clunk(fid)
        yield 20


def bare_walk_open_clunk(peer: Peer) -> Iterator[int]:
    """Twalk + Tlopen + Tclunk, one at a time, bare."""
    requests: list[Message] = []
    for number in range(20):
        requests += [Twalk(1, ROOT, 99, (b"entries", b"entry-%05d" % number)), Tlopen(1, 99, 0), Tclunk(1, 99)]
    while True:
        yield _bare(peer, requests, 1) // 3


def bare_create_unlink(peer: Peer) -> Iterator[int]:
    """Twalk + Tlcreate + Tclunk + Tunlinkat, one at a time, bare."""
    requests: list[Message] = []
    for _ in range(20):
        requests += [Twalk(1, ROOT, 99, ()), Tlcreate(1, 99, b"new", O_RDWR | O_EXCL, 0o644, 0), Tclunk(1, 99)]
        requests.append(Tunlinkat(1, ROOT, b"new", 0))
    while True:
        yield _bare(peer, requests, 1) // 4


SMALL, BULK, LISTING = 1.5, 2.0, 1.0
"""The goals: the least ratio of rates."""

GOALS: list[tuple[Workload, float]] = [
    (getattr_single, SMALL),
    (bare_single, SMALL),
    (getattr_flight, SMALL),
    (bare_flight, SMALL),
    (read_single, BULK),
    (read_flight, BULK),
    (write_single, BULK),
    (write_flight, BULK),
    (readdir, LISTING),
    (bare_readdir, LISTING),
    (bare_readdir_small, LISTING),
    (walk_open_clunk, SMALL),
    (bare_walk_open_clunk, SMALL),
    (bare_create_unlink, SMALL),
]


class Rounds:
    """The results of one server in the rounds of one workload."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        """Amount of work per second."""
        self.costs: list[float] = []
        """Processor time of the server for one unit of work, in seconds."""

    def add(self, workload: Workload, peer: Peer, seconds: float) -> None:
        """One round."""
        work = workload(peer)
        next(work)  # warm
        done, used, begun = 0, peer.processor_time(), time.perf_counter()
        while (passed := time.perf_counter() - begun) < seconds:
            done += next(work)
        self.rates.append(done / passed)
        self.costs.append((peer.processor_time() - used) / done)


def compare(workload: Workload, goal: float, peers: list[Peer], rounds: int, seconds: float) -> str:
    """Measure both servers alternately; return a line of the table."""
    one, two = Rounds(), Rounds()
    for number in range(rounds):
        pairs = [(one, peers[0]), (two, peers[1])]
        for found, peer in pairs if number % 2 else pairs[::-1]:
            found.add(workload, peer, seconds)
    title = (workload.__doc__ or "").rstrip(".")
    unit = MIB if "MiB" in title else 1
    ratios = [a / b for a, b in zip(one.rates, two.rates, strict=True)]
    ratio = statistics.median(ratios)
    cost = statistics.median(b / a for a, b in zip(one.costs, two.costs, strict=True))
    mine, theirs = (1e6 * unit * statistics.median(rounds.costs) for rounds in (one, two))
    met = "met" if ratio >= goal else "missed"
    return (
        f"{title:56} {statistics.median(one.rates) / unit:10.0f} {statistics.median(two.rates) / unit:10.0f}"
        f"   {ratio:5.2f} ({min(ratios):.2f}-{max(ratios):.2f})   {mine:8.2f} {theirs:8.2f} {cost:5.2f}"
        f"   {goal:.2f} {met}"
    )


class OtherReference(ReferenceServer):
    """The server of another checkout."""

    checkout = ""

    def command(self) -> list[str]:
        return ["env", "-C", self.checkout, *super().command()]  # python -m looks there first


class Floor(ReferenceServer):
    """What a server in Python costs that only receives and sends."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.floor_server", self.socket_path]


def start(stack: ExitStack, name: str, folder: Path, title: str = "", checkout: str = "") -> Peer:
    """A server of ``folder/export``, contained."""
    server: Server
    if checkout:
        server = OtherReference(ReferenceTable(), folder)
        OtherReference.checkout = os.path.abspath(checkout)
    elif name == "floor":
        server = Floor(ReferenceTable(), folder)
    elif name == "diod":
        server = make(DiodTable(program="diod", aname="{export}"), folder)
    else:
        server = make(ReferenceTable(), folder)
    stack.callback(server.stop)
    server.start()
    return Peer(title or name, server, MSIZE[name])


def populate(export: Path) -> None:
    """Make the files."""
    (export / "entries").mkdir(parents=True)
    (export / "file").write_bytes(os.urandom(FILE_SIZE))
    for number in range(ENTRIES):
        (export / "entries" / f"entry-{number:05}").touch()


def hold(peer: Peer, wanted: int) -> None:
    """Give the session ``wanted`` fids, spread over all files."""
    first = 1 << 20
    for number in range(wanted):
        if number < ENTRIES:
            peer.client.walk(ROOT, first + number, b"entries", b"entry-%05d" % number)
        else:
            peer.client.walk(first + number % ENTRIES, first + number)


def fid_cost(stack: ExitStack, folder: Path, rounds: int, seconds: float) -> None:
    """Compare many fids with few, each on a server of its own."""
    peers = []
    for wanted in FIDS:
        peer = start(stack, "reference", folder, f"{wanted} fids")
        hold(peer, wanted)
        peers.append(peer)
    print(f"\nrate with {FIDS[1]} fids against {FIDS[0]}:")
    for workload in (bare_single, bare_flight, bare_walk_open_clunk):
        print(compare(workload, 0.9, peers[::-1], rounds, seconds), flush=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="", help="workloads whose description holds this word; none: only the rest")
    parser.add_argument("--against", metavar="CHECKOUT", help="compare with the server in there, not with diod")
    parser.add_argument("--floor", action="store_true", help="compare with a server that does nothing, not with diod")
    parser.add_argument("--no-fids", action="store_true", help="leave out the comparison by number of fids")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay9-bench-") as directory, ExitStack() as stack:
        folder = Path(directory)
        populate(folder / "export")
        peers = [start(stack, "reference", folder)]
        if options.against:
            peers.append(start(stack, "reference", folder, "other", options.against))
        else:
            peers.append(start(stack, "floor" if options.floor else "diod", folder))
        print(
            f"{'per second':56} {peers[0].name:>10} {peers[1].name:>10}   ratio (least-most)"
            "    processor time, ratio   goal"
        )
        for workload, goal in GOALS:
            if options.floor and workload not in (getattr_single, bare_single, walk_open_clunk, bare_walk_open_clunk):
                continue
            if options.only in (workload.__doc__ or ""):
                print(compare(workload, goal, peers, options.rounds, options.seconds), flush=True)
        if not options.no_fids:
            fid_cost(stack, folder, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
