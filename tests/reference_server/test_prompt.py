"""Nothing that may sleep runs where it blocks other requests of the connection."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest

from protocol import codec
from protocol import constants as c
from protocol import messages as m
from protocol.registry import Message
from reference_server import pace
from reference_server.exports import Export, Exports
from reference_server.handlers import OPERATIONS
from reference_server.hostfs import HostStore
from reference_server.memfs import MemoryStore
from reference_server.pace import Pace
from reference_server.pool import Pool
from tests.reference_server.conftest import MakePeer
from tests.reference_server.peer import Peer
from tests.reference_server.requests import create
from tests.waiting import PATIENT, eventually

FUSE = Path(__file__).parents[1] / "conformance" / "fuse_passthrough.py"
needs_fuse = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounts FUSE: needs root")


def slow_peer(connect: MakePeer) -> Peer:
    """A peer on a store that may answer late."""
    store = MemoryStore()
    store.pace.prompt = False
    return connect(store)


def request_of(kind: type[Message], tag: int, fid: int, free: int) -> Message:
    """A request of that kind, with ``fid`` for every fid that must exist."""
    values: dict[str, object] = {"tag": tag}
    for field in fields(kind)[1:]:
        values[field.name] = fid if field.name in ("fid", "dfid", "olddirfid", "newdirfid", "dirfd") else 0
    sample = {
        "newfid": free,
        "name": b"n",
        "oldname": b"n",
        "newname": b"o",
        "wnames": (b"f",),
        "uname": b"",
        "data": b"x",
        "aname": b"",
        "client_id": b"me",
        "symtgt": b"t",
        "version": b"9P2000.L",
        "afid": c.NOFID,
    }
    values |= {name: value for name, value in sample.items() if name in values}
    if kind is m.Tattach:
        values["fid"] = free
    return kind(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [o.request for o in OPERATIONS.values()], ids=lambda kind: kind.__name__)
def test_on_a_store_that_is_not_prompt_nothing_is_asked_of_it_in_the_loop(
    connect: MakePeer, kind: type[Message]
) -> None:
    """The feeding thread hands out the request before the store is called."""
    peer = slow_peer(connect)
    fid = create(peer, b"f") if kind in (m.Tread, m.Twrite, m.Tlock, m.Tgetlock, m.Tfsync) else peer.walk()
    peer.send(request_of(kind, 77, fid, 999))
    if kind in (m.Tversion, m.Tauth, m.Tflush, m.Txattrcreate):
        assert peer.replies and not peer.work, "it asks the store for nothing"
    else:
        assert peer.work and not peer.replies
    peer.run_work()
    assert len(peer.replies) == 1


def test_every_request_is_served_alike_in_a_worker(connect: MakePeer) -> None:
    """A whole session runs in workers, none of it on the feeding thread."""
    peer = slow_peer(connect)
    fid = create(peer, b"f")
    peer.ok(m.Twrite(1, fid, 0, b"content"), m.Rwrite)
    assert peer.error(m.Twalk(1, peer.root, fid, (b"f",))) == c.EINVAL, "the fid is in use"
    assert peer.error(m.Tlopen(1, fid, 0)) == c.EINVAL
    second = peer.open(b"f")
    assert bytes(peer.ok(m.Tread(1, second, 0, 100), m.Rread).data) == b"content"
    place = peer.walk()
    peer.ok(m.Twalk(1, place, place, (b"f",)), m.Rwalk)
    assert peer.ok(m.Tgetattr(1, place, c.GETATTR_BASIC), m.Rgetattr).size == 7
    peer.ok(m.Txattrcreate(1, place, b"user.a", 3, 0), m.Rxattrcreate)
    peer.ok(m.Twrite(1, place, 0, b"abc"), m.Rwrite)
    peer.clunk(place)
    peer.ok(m.Txattrwalk(1, fid, place, b"user.a"), m.Rxattrwalk)
    assert bytes(peer.ok(m.Tread(1, place, 0, 100), m.Rread).data) == b"abc"
    peer.ok(m.Tremove(1, second), m.Rremove)
    assert peer.error(m.Tgetattr(1, second, 0)) == c.EBADF
    assert peer.session.fids.open_files == 1


def test_what_a_clunk_releases_is_released_before_its_answer(connect: MakePeer) -> None:
    """The next client that requests the lock gets it: a client knows only that the answer came."""
    peer = slow_peer(connect)
    fid = create(peer, b"f")
    other = peer.open(b"f", flags=c.O_RDWR)
    peer.ok(m.Tlock(1, fid, c.LOCK_TYPE_WRLCK, 0, 0, 0, 1, b"one"), m.Rlock)
    peer.send(m.Tclunk(1, fid))
    (work,) = peer.work
    assert work.run() is None and isinstance(peer.replies.pop(), m.Rclunk)
    peer.work.clear()
    assert peer.ok(m.Tlock(1, other, c.LOCK_TYPE_WRLCK, 0, 0, 0, 2, b"two"), m.Rlock).status == c.LOCK_SUCCESS


def test_requests_that_race_for_a_fid_have_one_winner(connect: MakePeer) -> None:
    """A client must not do this, and gains nothing by it: no fid is bound twice, opened twice or lost."""
    peer = slow_peer(connect)
    peer.clunk(create(peer, b"f"))
    for tag in (1, 2):
        peer.send(m.Twalk(tag, peer.root, 50, (b"f",)))
    peer.run_work()
    assert sorted(type(r).__name__ for r in peer.replies) == ["Rlerror", "Rwalk"]
    peer.replies.clear()
    for tag in (1, 2):
        peer.send(m.Tlopen(tag, 50, 0))
    peer.run_work()
    assert sorted(type(r).__name__ for r in peer.replies) == ["Rlerror", "Rlopen"]
    peer.replies.clear()
    for tag in (1, 2):
        peer.send(m.Tclunk(tag, 50))
    peer.run_work()
    assert sorted(type(r).__name__ for r in peer.replies) == ["Rclunk", "Rlerror"]
    peer.replies.clear()
    directory = peer.walk()
    peer.send(m.Tclunk(1, directory))
    peer.send(m.Tlcreate(2, directory, b"g", c.O_RDWR, 0o644, 0))
    peer.run_work()
    assert [type(r).__name__ for r in peer.replies] == ["Rclunk", "Rlerror"]
    assert peer.session.fids.open_files == 0


def test_a_fid_that_was_made_while_a_version_came_is_forgotten(connect: MakePeer) -> None:
    peer = slow_peer(connect)
    peer.send(m.Tattach(1, 60, c.NOFID, b"", b"", 0))
    (work,) = peer.work
    run, operation = work.operation.run, work.operation

    def interrupted(call: object, request: Message) -> object:
        peer.session.receive(memoryview(codec.frame(m.Tversion(c.NOTAG, 8192, b"9P2000.L"))), work.call.outlet)
        return run(call, request)  # type: ignore[arg-type]

    operation.run = interrupted  # type: ignore[assignment]
    try:
        peer.run_work()
    finally:
        operation.run = run
    assert [type(r).__name__ for r in peer.replies] == ["Rversion"]
    assert not peer.session.fids.by_number


def test_a_cancelled_request_leaves_closing_to_a_worker(connect: MakePeer) -> None:
    """Tflush is served in the loop, and closing a file may sleep."""
    peer = slow_peer(connect)
    fid = create(peer, b"f")
    peer.send(m.Tfsync(1, fid, 0))
    peer.send(m.Tclunk(2, fid))
    fsync, clunk = peer.work
    assert clunk.run() is None
    held = fsync.pinned[fid]
    peer.send(m.Tflush(3, 1))
    assert [type(r).__name__ for r in peer.replies] == ["Rclunk", "Rflush"]
    assert peer.session._left == [held]
    assert fsync.run() is None
    assert not peer.session._left


def test_the_types_of_file_systems_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    (tmp_path / "fdinfo").mkdir()
    (tmp_path / "mountinfo").write_text(
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "30 22 0:40 / /srv/my\\040share rw shared:7 - fuse.sshfs me@there: rw\n"
        "31 22 0:41 / /srv/quick rw - tmpfs tmpfs rw\n"
    )
    for fd, number in ((3, 22), (4, 30), (5, 31), (6, 99)):
        (tmp_path / "fdinfo" / str(fd)).write_text(f"pos:\t0\nflags:\t012000000\nmnt_id:\t{number}\nino:\t2\n")
    assert [pace.type_of(fd, tmp_path) for fd in (3, 4, 5, 6, 7)] == ["ext4", "fuse.sshfs", "tmpfs", "", ""]
    assert [pace.is_prompt(fd, tmp_path) for fd in (3, 4, 5, 6, 7)] == [True, False, True, False, False]
    assert pace.all_prompt("/srv/quick", 5, tmp_path)
    assert not pace.all_prompt("/srv", 3, tmp_path), "what is mounted below counts"
    assert not pace.all_prompt("/srv/my share", 4, tmp_path)
    assert pace.all_prompt("/srv/my", 3, tmp_path), "a name that begins alike is not below"
    assert not pace.all_prompt("/", 3, tmp_path / "nothing")


def test_stores_offered_together_are_as_slow_as_the_slowest(folder: Path) -> None:
    host, memory = HostStore(str(folder)), MemoryStore()
    memory.pace.prompt = False
    exports = Exports(Export(host), {b"m": Export(memory)})
    assert not exports.pace.prompt and host.pace is memory.pace is exports.pace is exports.rooted(b"m").pace
    host.close()
    assert Pace().prompt


def test_each_job_of_a_burst_has_a_thread() -> None:
    """Earlier, a woken thread that did not run yet was counted for every job of the burst, so the jobs queued."""
    pool, first = Pool(4, "test"), threading.Event()
    pool.submit(first.set)
    first.wait(PATIENT)
    for _ in range(200):
        eventually(lambda: pool._idle == len(pool._threads))
        meet = threading.Barrier(4)  # broken unless all four run at once
        done = [threading.Event() for _ in range(4)]

        def job(event: threading.Event, meet: threading.Barrier = meet) -> None:
            meet.wait(PATIENT)
            event.set()

        for event in done:
            pool.submit(partial(job, event))
        assert all(event.wait(PATIENT) for event in done)
    pool.close()


@contextmanager
def on_fuse(tmp_path: Path, export: Path) -> Iterator[tuple[subprocess.Popen[str], Path, str]]:
    """The daemon and a server in a namespace; the server exports the mount and, as `more`, another directory."""
    mounted, path, more = tmp_path / "mounted", str(tmp_path / "s"), tmp_path / "more"
    mounted.mkdir()
    more.mkdir()
    apart = ["unshare", "--mount", "--propagation", "private", "--"]
    daemon = subprocess.Popen(
        [*apart, sys.executable, str(FUSE), str(export), str(mounted)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert daemon.stdout is not None and daemon.stdout.readline() == "mounted\n"
        enter = ["nsenter", f"--mount=/proc/{daemon.pid}/ns/mnt", "--", sys.executable, "-m", "reference_server"]
        server = subprocess.Popen(
            [*enter, "serve", str(mounted), "--unix", path, "--export", f"more={more}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None and server.stdout.readline().startswith("listening on ")
            yield daemon, mounted, path
        finally:
            daemon.send_signal(signal.SIGCONT)
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENT) == 0
            if server.stdout is not None:
                server.stdout.close()
    finally:
        daemon.kill()
        daemon.wait()
        if daemon.stdout is not None:
            daemon.stdout.close()


@needs_fuse
def test_a_file_system_that_hangs_holds_nothing_else_of_the_connection(tmp_path: Path, folder: Path) -> None:
    """Earlier, a read of eight seconds delayed Tgetattr and Tflush of the same connection for that time.

    The first read of an open file ran in the loop, because FUSE cannot say that it would wait. Here the daemon is
    stopped entirely.
    """
    (folder / "f").write_bytes(b"content")
    (folder / "d").mkdir()
    with on_fuse(tmp_path, folder) as (daemon, _mounted, path), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENT)
        sock.connect(path)
        link = _Link(sock)
        link.ask(m.Tversion(c.NOTAG, 8192, b"9P2000.L"))
        link.ask(m.Tattach(1, 0, c.NOFID, b"", b"", 0))
        link.ask(m.Tattach(1, 9, c.NOFID, b"", b"more", 0))
        link.ask(m.Twalk(1, 0, 1, (b"f",)))
        link.ask(m.Tlopen(1, 1, c.O_RDWR))
        link.ask(m.Twalk(1, 0, 2, (b"f",)))
        daemon.send_signal(signal.SIGSTOP)
        eventually(lambda: "T" in Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[0])
        waiting = [
            m.Tread(10, 1, 0, 100),
            m.Twalk(11, 0, 3, (b"d",)),
            m.Tlopen(12, 2, 0),
            m.Tstatfs(13, 0),
            m.Tmkdir(14, 0, b"new", 0o755, 0),
            m.Twrite(15, 1, 0, b"C"),
            m.Tfsync(16, 1, 0),
        ]
        for request in waiting:
            link.send(request)
        assert isinstance(link.ask(m.Tgetattr(20, 9, c.GETATTR_BASIC)), m.Rgetattr), "another export"
        assert isinstance(link.ask(m.Tflush(21, 999)), m.Rflush)
        assert isinstance(link.ask(m.Twalk(22, 9, 30, ())), m.Rwalk)
        assert isinstance(link.ask(m.Tclunk(23, 30)), m.Rclunk)
        assert not link.early, "a stopped file system answered"
        daemon.send_signal(signal.SIGCONT)
        replies = {reply.tag: reply for reply in (link.receive() for _ in waiting)}
    assert set(replies) == {request.tag for request in waiting}
    assert not [reply for reply in replies.values() if isinstance(reply, m.Rlerror)], replies


class _Link:
    """Frames over a socket; it keeps replies to requests other than the awaited one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.early: list[Message] = []

    def send(self, request: Message) -> None:
        self._sock.sendall(codec.frame(request))

    def receive(self) -> Message:
        if self.early:
            return self.early.pop(0)
        return self._next()

    def _next(self) -> Message:
        size = self._sock.recv(4, socket.MSG_WAITALL)
        rest = self._sock.recv(int.from_bytes(size, "little") - 4, socket.MSG_WAITALL)
        return codec.decode(size + rest)

    def ask(self, request: Message) -> Message:
        self.send(request)
        while (reply := self._next()).tag != request.tag:
            self.early.append(reply)
        assert not isinstance(reply, m.Rlerror), (request, reply)
        return reply
