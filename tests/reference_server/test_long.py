"""Long proofs (``make test-long``): the server must pass at the sizes at which it passed before."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from guests.images.recipe import load_recipe
from guests.images.store import find_image
from guests.machines.uml.kernel import find_kernel
from guests.machines.uml.machine import UmlMachine
from guests.machines.uml.spec import Device, UmlSpec
from protocol import codec
from protocol import constants as c
from protocol import messages as m
from protocol.registry import Message
from reference_server.hostfs import HostStore
from tests.reference_server.conftest import MakePeer, make_store
from tests.reference_server.mounts import mounted, overlay
from tests.reference_server.peer import Peer
from tests.reference_server.served import Served, limited, serving
from tests.reference_server.test_confinement import SECRET, exchange, portrait, qids_in
from tests.reference_server.test_stream import Wire
from tests.reference_server.traffic import growth, look, run
from tests.waiting import PATIENT, eventually

pytestmark = pytest.mark.long

FRAMES = 6_500_000
SWAPS = 1_150_000
CONNECTS = 10_000
NAMES = 270_000
DEFAULT_LIMIT = 1024
"""The usual RLIMIT_NOFILE of a process."""


# --- hostile frames ---------------------------------------------------------------------------------------

VARIANTS: dict[str, tuple[list[str], list[str]]] = {
    "plain": ([], []),
    "few descriptors": (limited(96), []),
    "mapped": ([], ["--mapped"]),
    "mapped, few descriptors, no handles": (limited(96, handles=False), ["--mapped"]),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_millions_of_fuzzed_frames(tmp_path: Path, variant: str) -> None:
    before, options = VARIANTS[variant]
    seed = list(VARIANTS).index(variant) + 100
    looks, answers = run(
        tmp_path, seed, lambda sent: sent < FRAMES // len(VARIANTS), 500, before=before, options=options
    )
    assert len(looks) > 30
    assert growth(looks) < 1024, looks
    assert answers["Rwrite"] and answers["Rgetattr"]


# --- names swapped under a walking client ---------------------------------------------------------------


class Swapper:
    """A process of the host that exchanges names and counts the exchanges."""

    def __init__(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        self._pairs = pairs
        self._shared = mmap.mmap(-1, 8)
        self._child = 0

    def swaps(self) -> int:
        """Number of exchanges so far."""
        return ctypes.c_uint64.from_buffer(self._shared).value

    def __enter__(self) -> Swapper:
        self._child = os.fork()
        if not self._child:
            counter = ctypes.c_uint64.from_buffer(self._shared)
            try:
                while True:
                    for one, two in self._pairs:
                        with suppress(OSError):
                            exchange(one, two)
                            counter.value += 1
            finally:
                os._exit(0)
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)


@pytest.mark.parametrize("kind", ["hostfs", "mapped", "hostfs without handles", "mapped without handles"])
def test_a_million_swaps_under_a_walking_client(connect: MakePeer, folder: Path, tmp_path: Path, kind: str) -> None:
    """The host swaps a directory with a link to outside and with another directory, a file with a link and with a fifo.

    Meanwhile a client walks through them and opens what it finds, and the store gives up descriptors repeatedly.
    """
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    for name in ("f", "sub/f"):
        (outside / name).write_bytes(SECRET)
    for name in ("d", "e"):
        (folder / name / "sub").mkdir(parents=True)
        (folder / name / "f").write_bytes(name.encode())
        (folder / name / "sub" / "f").write_bytes(name.encode())
        (folder / name / "l").symlink_to(outside / "f")
        os.mkfifo(folder / name / "p")
    (folder / "link").symlink_to(outside)
    store = make_store(kind.split(maxsplit=1)[0], folder)
    assert isinstance(store, HostStore)
    if kind.endswith("without handles"):
        store.places._mount_fd = None
    before = portrait(outside)
    inodes = {os.lstat(path).st_ino for path in before}
    pairs = [
        (folder / "d", folder / "link"),
        (folder / "d", folder / "e"),
        (folder / "d" / "f", folder / "d" / "l"),
        (folder / "e" / "f", folder / "e" / "p"),
    ]
    peer = connect(store)
    random_ = random.Random(5)
    counts: dict[str, int] = {}
    with Swapper(pairs) as swapper:
        while swapper.swaps() < SWAPS:
            for request in walking(peer, random_):
                reply = peer.call(request)
                name = type(reply).__name__
                counts[name] = counts.get(name, 0) + 1
                assert not (isinstance(reply, m.Rread) and SECRET in bytes(reply.data))
                assert all(qid.path not in inodes for qid in qids_in(reply)), f"{request!r} -> {reply!r}"
                if random_.random() < 0.05:
                    store.descriptors.shrink(1 << 20)
    assert portrait(outside) == before
    assert all(counts[name] > 100 for name in ("Rwalk", "Rlopen", "Rread", "Rgetattr", "Rlerror")), counts
    peer.close()
    store.close()


def walking(peer: Peer, random_: random.Random) -> Iterator[Message]:
    """Walk a few steps into the swapped names, and back."""
    tag, fid, deep = peer.tag, peer.fid(), peer.fid()
    top = random_.choice([b"d", b"e"])
    yield m.Twalk(tag(), peer.root, fid, (top,))
    yield m.Twalk(tag(), fid, deep, random_.choice([(b"f",), (b"sub", b"f"), (b"sub",), (b"l",), (b"p",)]))
    yield m.Tgetattr(tag(), deep, c.GETATTR_ALL)
    yield m.Twalk(tag(), deep, peer.fid(), (b"..", b".."))
    yield m.Tlopen(tag(), deep, random_.choice([c.O_RDONLY, c.O_RDWR]))
    yield m.Tread(tag(), deep, 0, 100)
    yield m.Treaddir(tag(), deep, 0, 4096)
    yield m.Tgetattr(tag(), deep, c.GETATTR_ALL)
    yield m.Tclunk(tag(), deep)
    yield m.Tclunk(tag(), fid)
    yield m.Tclunk(tag(), peer._fid)


# --- slow peers, and many peers ---------------------------------------------------------------------------


def test_slow_readers(folder: Path) -> None:
    """Sixty peers request more than they read; others are served at their own pace, and memory stays bounded."""
    (folder / "f").write_bytes(bytes(1 << 20))
    with serving(folder, DEFAULT_LIMIT) as served:
        idle = look(served.process.pid)
        slow = [served.connect().begin(1 << 20) for _ in range(25)]
        ask = codec.frame(m.Tread(2, 5, 0, 1 << 20))
        for wire in slow:
            wire.ok(m.Twalk(1, 0, 5, (b"f",)), m.Rwalk)
            wire.ok(m.Tlopen(1, 5, c.O_RDONLY), m.Rlopen)
            wire.sock.setblocking(False)
        other = served.connect().begin()
        until = time.monotonic() + 120
        asked = read = 0
        while time.monotonic() < until:
            for wire in slow:
                with suppress(BlockingIOError):
                    asked += wire.sock.send(ask * 50)
                with suppress(BlockingIOError):
                    read += len(wire.sock.recv(random.randrange(1, 5000)))
            other.ok(m.Tgetattr(1, 0, c.GETATTR_ALL), m.Rgetattr)
            time.sleep(0.01)
        assert asked and read
        # Each may have two buffers of its own and two replies in flight.
        assert look(served.process.pid).kilobytes - idle.kilobytes < len(slow) * 6 * 1024
        for wire in slow:
            wire.sock.close()
        given_back(served, idle.descriptors + 1)


def test_ten_thousand_connects(folder: Path) -> None:
    """Clients connect one after the other; some leave in the middle of a frame, some with requests outstanding."""
    (folder / "f").write_bytes(b"content")
    whole = codec.frame(m.Tversion(c.NOTAG, 8192, b"9P2000.L"))
    sizes = []
    with serving(folder, DEFAULT_LIMIT) as served:
        served.connect().begin().sock.close()
        given_back(served, idle := served.descriptors())
        for number in range(CONNECTS):
            wire = served.connect()
            if number % 3 == 0:
                wire.sock.sendall(whole[: number % len(whole)])
            elif number % 3 == 1:
                wire.begin()
                wire.ok(m.Twalk(1, 0, 5, (b"f",)), m.Rwalk)
            else:
                wire.begin()
                wire.open(5, b"f")
                wire.send(m.Tread(2, 5, 0, 4096), m.Tfsync(3, 5, 0), m.Tlock(4, 5, 1, 1, 0, 0, 1, b""))
            wire.sock.close()
            if number % 1000 == 999:
                given_back(served, idle)
                sizes.append(look(served.process.pid).kilobytes)
        assert sizes[-1] - sizes[1] < 4096, sizes
        assert not served.log()


def test_a_crowd_at_the_door(folder: Path) -> None:
    """More clients connect at once than the server accepts; afterwards everything is as before."""
    with serving(folder, DEFAULT_LIMIT) as served:
        inside = served.connect().begin()
        idle = served.descriptors()
        for _round in range(20):
            crowd = [served.connect() for _ in range(400)]
            for wire in crowd:
                with suppress(ConnectionError):
                    wire.send(m.Tversion(c.NOTAG, 8192, b"9P2000.L"))
            inside.ok(m.Tgetattr(1, 0, c.GETATTR_ALL), m.Rgetattr)
            for wire in crowd:
                wire.sock.close()
            given_back(served, idle)
        assert len(served.log()) < 40


def given_back(served: Served, descriptors: int) -> None:
    """Wait until the server has at most ``descriptors`` open."""
    eventually(
        lambda: served.descriptors() <= descriptors, f"{served.descriptors()} descriptors, {descriptors} at first"
    )


# --- exports that fail ------------------------------------------------------------------------------------

FUSE = Path(__file__).parents[1] / "conformance" / "fuse_passthrough.py"


@contextmanager
def fuse(source: Path, at: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Serve ``source`` at ``at`` by a process of this host."""
    at.mkdir()
    process = subprocess.Popen([sys.executable, str(FUSE), str(source), str(at)])
    try:
        eventually(lambda: os.path.ismount(at) or process.poll() is not None)
        if process.poll() is not None:
            pytest.skip("FUSE cannot be mounted here")
        yield process
    finally:
        process.kill()
        process.wait()
        subprocess.run(["umount", "-l", str(at)], check=False, stderr=subprocess.DEVNULL)


def test_a_dead_fuse(folder: Path, tmp_path: Path) -> None:
    """An export whose file system stops answering delays only its own clients; then it dies."""
    (tmp_path / "source").mkdir()
    for number in range(300):
        (tmp_path / "source" / f"f{number}").write_bytes(b"content")
    (folder / "f").write_bytes(b"content")
    with fuse(tmp_path / "source", tmp_path / "fuse") as process:
        options = ("--export", f"dead={tmp_path / 'fuse'}")
        with serving(folder, DEFAULT_LIMIT, *options) as served:
            stuck = served.connect()
            stuck.ok(m.Tversion(c.NOTAG, 65536, b"9P2000.L"), m.Rversion)
            stuck.ok(m.Tattach(1, 0, c.NOFID, b"", b"dead", 0), m.Rattach)
            for number in range(300):
                stuck.ok(m.Twalk(1, 0, 10 + number, (b"f%d" % number,)), m.Rwalk)
            stuck.ok(m.Tlopen(1, 10, c.O_RDWR), m.Rlopen)
            process.send_signal(signal.SIGSTOP)
            asked = [
                m.Twalk(100, 0, 999, (b"new",)),
                m.Tread(101, 10, 0, 100),
                m.Tfsync(102, 10, 0),
                m.Tstatfs(103, 11),
                *(m.Tgetattr(200 + number, 20 + number, c.GETATTR_ALL) for number in range(100)),
            ]
            stuck.send(*asked)
            for _ in range(200):
                other = served.connect().begin()
                other.ok(m.Twalk(1, 0, 5, (b"f",)), m.Rwalk)
                other.ok(m.Tlopen(1, 5, c.O_RDONLY), m.Rlopen)
                assert other.ok(m.Tread(1, 5, 0, 100), m.Rread).data == b"content"
                other.sock.close()
            process.kill()
            replies = {reply.tag: reply for reply in (stuck.receive() for _ in asked)}
            assert set(replies) == {request.tag for request in asked}
            ecodes = {reply.ecode for reply in replies.values() if isinstance(reply, m.Rlerror)}
            assert ecodes <= {c.ENOTCONN, c.EIO, c.ECONNABORTED, c.ESTALE}, ecodes
            assert isinstance(replies[102], m.Rlerror)
            stuck.ok(m.Tclunk(1, 10), m.Rclunk)
            served.connect().begin()


@pytest.mark.parametrize("mapped", [False, True])
def test_a_full_export(tmp_path: Path, mapped: bool) -> None:
    """The disk fills repeatedly with data and with names; existing files stay, and freed space is used."""
    options = ["--mapped"] if mapped else []
    with (
        mounted("-t", "tmpfs", "-o", "size=4m,nr_inodes=300", "none", at=tmp_path / "small") as small,
        serving(small, DEFAULT_LIMIT, *options) as served,
    ):
        wire = served.connect().begin()
        data = bytes(60_000)
        for _round in range(50):
            wire.open(5, b"big")
            full = False
            for number in range(100):
                wire.send(m.Twrite(1, 5, number * len(data), data))
                reply = wire.receive()
                if not isinstance(reply, m.Rwrite) or reply.count < len(data):
                    full = True
                    break
            assert full
            made = 0
            for number in range(400):
                wire.send(m.Tmkdir(1, 0, b"d%d" % number, 0o755, 0))
                reply = wire.receive()
                if isinstance(reply, m.Rlerror):
                    assert reply.ecode == c.ENOSPC
                    break
                made += 1
            assert made < 300
            assert len(list(small.iterdir())) == made + 1
            for number in range(made):
                wire.ok(m.Tunlinkat(1, 0, b"d%d" % number, c.AT_REMOVEDIR), m.Runlinkat)
            wire.ok(m.Tunlinkat(1, 0, b"big", 0), m.Runlinkat)
            wire.ok(m.Tclunk(1, 5), m.Rclunk)


def test_exports_that_vanish(tmp_path: Path) -> None:
    """The export is unmounted lazily, removed or replaced during use: clients get an error, and may come back."""
    for how in ("unmounted", "removed", "replaced"):
        place = tmp_path / how
        place.mkdir()
        with mounted("-t", "tmpfs", "none", at=place / "export") as folder:
            (folder / "d").mkdir()
            (folder / "d" / "f").write_bytes(b"content")
            with serving(folder, 200) as served:
                wire = served.connect().begin()
                wire.ok(m.Twalk(1, 0, 5, (b"d", b"f")), m.Rwalk)
                wire.ok(m.Twalk(1, 0, 6, (b"d", b"f")), m.Rwalk)
                wire.ok(m.Tlopen(1, 6, c.O_RDWR), m.Rlopen)
                if how == "unmounted":
                    subprocess.run(["umount", "-l", str(folder)], check=True)
                    with mounted("-t", "tmpfs", "none", at=folder):
                        alive = True
                        at_work(served, wire, alive)
                elif how == "removed":
                    shutil.rmtree(folder / "d")
                    at_work(served, wire, False)
                else:
                    (folder / "d").rename(folder / "old")
                    (folder / "d").mkdir()
                    at_work(served, wire, True)


def at_work(served: Served, wire: Wire, alive: bool) -> None:
    """Open files stay valid; files that are no longer found give ENOENT or ESTALE; nothing else happens."""
    assert wire.ok(m.Tread(1, 6, 0, 100), m.Rread).data == b"content"
    for number in range(2000):
        for request in (
            m.Tgetattr(1, 5, c.GETATTR_ALL),
            m.Twalk(1, 0, 100 + number, (b"d",)),
            m.Tlcreate(1, 100 + number, b"x%d" % number, c.O_RDWR, 0o644, 0),
            m.Tunlinkat(1, 0, b"none", 0),
        ):
            wire.send(request)
            reply = wire.receive()
            if isinstance(reply, m.Rlerror):
                # The file was not open when the host removed it: only its descriptor, if kept, still leads to it.
                assert reply.ecode in (c.ENOENT, c.ESTALE, c.EBADF, c.ENFILE), (request, reply)
        if number % 3:
            wire.send(m.Tclunk(1, 100 + number))
            wire.receive()
    wire.send(m.Tgetattr(1, 5, c.GETATTR_ALL))
    reply = wire.receive()
    assert not alive or isinstance(reply, m.Rgetattr)
    served.connect().begin()


# --- more names than descriptors --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def names() -> Iterator[Path]:
    """A tree of many files, a thousand in each directory."""
    folder = Path("/dev/shm") / f"assay9-names-{os.getpid()}" / "export"
    folder.mkdir(parents=True)
    for number in range(NAMES // 1000):
        (folder / f"d{number}").mkdir()
        for file in range(1000):
            os.close(os.open(folder / f"d{number}" / f"f{file}", os.O_CREAT | os.O_WRONLY))
    yield folder
    shutil.rmtree(folder.parent)


def all_of(wire: Wire, requests: Sequence[Message]) -> list[Message]:
    """The replies to the requests; many are in flight at a time, and the server may answer in any order."""
    replies: list[Message] = []
    for at in range(0, len(requests), 200):
        part = [replace(request, tag=tag) for tag, request in enumerate(requests[at : at + 200])]
        wire.send(*part)
        replies += sorted((wire.receive() for _ in part), key=lambda reply: reply.tag)
    return replies


@pytest.mark.parametrize("handles", [True, False])
def test_a_fid_for_each_of_270000_names(names: Path, handles: bool) -> None:
    """Under the usual limit on descriptors, each takes less than a kilobyte of memory, and all stay valid."""
    with serving(names, DEFAULT_LIMIT, handles=handles) as served:
        wire = served.connect().begin()
        idle = look(served.process.pid)
        inodes: dict[int, int] = {}
        for directory in range(NAMES // 1000):
            base = 1_000_000 + directory * 1001
            wire.ok(m.Twalk(1, 0, base, (b"d%d" % directory,)), m.Rwalk)
            walks = [m.Twalk(1, base, base + 1 + number, (b"f%d" % number,)) for number in range(1000)]
            for request, reply in zip(walks, all_of(wire, walks), strict=True):
                assert isinstance(reply, m.Rwalk), reply
                inodes[request.newfid] = reply.wqids[0].path
        held = look(served.process.pid)
        assert held.descriptors < DEFAULT_LIMIT
        assert (held.kilobytes - idle.kilobytes) / len(inodes) < 1
        fids = random.Random(1).sample(list(inodes), len(inodes) // 5)
        for fid, reply in zip(fids, all_of(wire, [m.Tgetattr(1, f, c.GETATTR_ALL) for f in fids]), strict=True):
            assert isinstance(reply, m.Rgetattr) and reply.qid.path == inodes[fid]
        other = served.connect().begin()
        other.ok(m.Twalk(1, 0, 5, (b"d0", b"f0")), m.Rwalk)
        other.ok(m.Tlopen(1, 5, c.O_RDONLY), m.Rlopen)
        assert all(isinstance(reply, m.Rclunk) for reply in all_of(wire, [m.Tclunk(1, f) for f in inodes]))


@pytest.mark.guest
@pytest.mark.skipif(find_kernel() is None, reason="the UML kernel is not built: assay9 guest build uml")
@pytest.mark.skipif(find_image(load_recipe("debian12")) is None, reason="no guest image: assay9 guest build")
def test_linux_browses_270000_names_with_cache_loose(names: Path, tmp_path: Path) -> None:
    """Linux keeps a fid for each cached name; earlier, that ended in ENFILE and missing directories."""
    path = tmp_path / "socket"
    command = [sys.executable, "-m", "reference_server", "serve", str(names), "--vhost-user", str(path)]
    whole = [*limited(DEFAULT_LIMIT), *command, "--tag", "share", "--no-in-band"]
    with subprocess.Popen(whole, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"listening on" in process.stdout.readline()
        spec = UmlSpec(run_dir=tmp_path / "run", devices=(Device(path),), memory_mb=1536, network=False)
        with UmlMachine(spec) as machine:
            shell = machine.shell()
            options = "trans=virtio,version=9p2000.L,cache=loose,msize=262144"
            assert shell.run(f"mkdir -p /mnt && mount -t 9p -o {options} share /mnt").status == 0
            for _ in range(2):
                found = shell.run("find /mnt -type f -size 0 | wc -l", timeout=12 * PATIENT)
                assert (found.stdout.strip(), found.stderr) == (str(NAMES), "")
            assert look(process.pid).descriptors < DEFAULT_LIMIT
            assert shell.run("umount /mnt", timeout=12 * PATIENT).status == 0
        process.terminate()
        assert process.wait(PATIENT) == 0


# --- files that are made and removed ----------------------------------------------------------------------


def test_a_million_files_come_and_go(tmp_path: Path) -> None:
    """The inode numbers of the file system use all 64 bits; memory stays level."""
    (tmp_path / "lower").mkdir()
    with overlay(tmp_path, "xino=on") as joined, serving(joined, DEFAULT_LIMIT) as served:
        wire = served.connect().begin()
        sizes: list[int] = []
        for number in range(5000):
            files, folders = ([b"%s%d-%d" % (kind, number, at) for at in range(100)] for kind in (b"f", b"d"))
            fids = range(100, 200)
            for step in (
                [m.Twalk(1, 0, fid, ()) for fid in fids],
                [m.Tlcreate(1, fid, name, c.O_RDWR, 0o644, 0) for fid, name in zip(fids, files, strict=True)],
                [m.Tmkdir(1, 0, name, 0o755, 0) for name in folders],
                [m.Twalk(1, 0, 1000 + fid, (name,)) for fid, name in zip(fids, folders, strict=True)],
                [m.Tunlinkat(1, 0, name, 0) for name in files],
                [m.Tclunk(1, fid) for fid in fids],
                [m.Tremove(1, 1000 + fid) for fid in fids],
            ):
                assert not [reply for reply in all_of(wire, step) if isinstance(reply, m.Rlerror)], step[0]
            if number % 500 == 499:
                sizes.append(look(served.process.pid).kilobytes)
        assert sizes[-1] - sizes[1] < 2048, sizes
