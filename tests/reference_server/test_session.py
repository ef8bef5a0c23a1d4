"""Sessions: negotiation, tags, slow requests, Tflush, reset, limits."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence

import pytest

from protocol import codec, legacy
from protocol import constants as c
from protocol import messages as m
from protocol.fields import Buffer, Qid
from reference_server.errors import WouldBlock
from reference_server.exports import Export, Exports
from reference_server.handlers import OPERATIONS
from reference_server.limits import Limits, Shared
from reference_server.memfs import MemoryFile, MemoryStore
from reference_server.outlets import Health, Outlet
from reference_server.session import Session
from reference_server.shares import Commons
from reference_server.storage import Caller, Pieces
from tests.reference_server.conftest import MakePeer
from tests.reference_server.peer import Peer, _Outlet
from tests.reference_server.requests import create, set_xattr
from tests.waiting import PATIENT


@pytest.fixture
def memfs() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def peer(connect: MakePeer, memfs: MemoryStore) -> Peer:
    return connect(memfs)


def raw(peer: Peer, frame: bytes) -> m.Rlerror:
    assert peer.session.receive(memoryview(frame), _Outlet(peer)) is None
    reply = peer.replies.pop()
    assert isinstance(reply, m.Rlerror)
    return reply


def test_every_request_has_a_handler() -> None:
    requests = {number for number in m.BY_TYPE if not number % 2}
    assert set(OPERATIONS) == requests - {m.Tlerror.type}


def test_every_handler_stands_in_the_module_of_its_family() -> None:
    for operation in OPERATIONS.values():
        assert operation.run.__module__ == f"reference_server.handlers.{operation.request.family}"


# --- negotiation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        (b"9P2000.L", b"9P2000.L"),
        (b"9P2000.L.Google.7", b"9P2000.L"),
        (b"9P2000", b"unknown"),
        (b"9P2000.u", b"unknown"),
        (b"9P2000.Lx", b"unknown"),
        (b"", b"unknown"),
        (b"\xff\0", b"unknown"),
        (b"9p2000.l", b"unknown"),
    ],
)
def test_dialects(peer: Peer, offered: bytes, answered: bytes) -> None:
    reply = peer.ok(m.Tversion(c.NOTAG, 8192, offered), m.Rversion)
    assert (reply.msize, reply.version) == (8192, answered)
    expected = c.EBADF if answered != b"unknown" else c.EPROTO
    assert peer.error(m.Tgetattr(1, 77, 0)) == expected


@pytest.mark.parametrize("msize", [4096, 4097, 65536, (1 << 20) - 1, 1 << 20])
def test_msize_is_taken_as_it_comes(peer: Peer, msize: int) -> None:
    assert peer.begin(msize).msize == msize


def test_msize_too_large_is_cut_and_too_small_refused(peer: Peer) -> None:
    assert peer.begin(0xFFFFFFFF).msize == 1 << 20
    for msize in (0, 1, 24, 4095):
        assert peer.error(m.Tversion(c.NOTAG, msize, b"9P2000.L")) == c.EMSGSIZE


def test_nothing_is_served_before_the_version(memfs: MemoryStore, health: Health) -> None:
    peer = Peer.__new__(Peer)
    peer.session = Session(Exports(Export(memfs)), OPERATIONS, health=health)
    peer.replies, peer.work, peer.piece = [], [], 0
    for request in (m.Tattach(1, 0, c.NOFID, b"", b"", 0), m.Tgetattr(2, 0, 0), m.Tflush(3, 1)):
        assert peer.error(request) == c.EPROTO
    assert raw(peer, b"\x07\0\0\0\xc8\1\0").ecode == c.EPROTO


def test_a_new_version_releases_everything(connect: MakePeer, memfs: MemoryStore) -> None:
    peer, other = connect(memfs), connect(memfs)
    fid = create(peer, b"f")
    peer.ok(m.Tlock(peer.tag(), fid, c.LOCK_TYPE_WRLCK, 0, 0, 0, 1, b""), m.Rlock)
    peer.begin()
    assert not peer.session.fids.by_number
    assert peer.error(m.Tgetattr(peer.tag(), fid, 0)) == c.EBADF
    theirs = other.open(b"f", flags=c.O_RDWR)
    reply = other.ok(m.Tlock(other.tag(), theirs, c.LOCK_TYPE_WRLCK, 0, 0, 0, 1, b""), m.Rlock)
    assert reply.status == c.LOCK_SUCCESS


def test_attach(peer: Peer, connect: MakePeer, memfs: MemoryStore) -> None:
    def attach(fid: int, afid: int = c.NOFID, aname: bytes = b"") -> m.Tattach:
        return m.Tattach(peer.tag(), fid, afid, b"u", aname, 0)

    peer.ok(attach(1), m.Rattach)
    assert peer.error(attach(1)) == c.EINVAL
    assert peer.error(attach(c.NOFID)) == c.EINVAL
    assert peer.error(attach(2, afid=1)) == c.EBADF
    assert peer.error(attach(2, aname=b"nowhere")) == c.ENOENT
    assert peer.error(attach(2, aname=b"../..")) == c.ENOENT
    peer.ok(attach(2, aname=b"/"), m.Rattach)
    # A second attach leaves the fids of the first alone (kvmtool 47c0339).
    peer.ok(m.Tgetattr(peer.tag(), 1, 0), m.Rgetattr)
    assert peer.error(m.Tauth(peer.tag(), 5, b"u", b"", 0)) == c.EOPNOTSUPP


def test_several_exports(connect: MakePeer, health: Health) -> None:
    one, two, three = MemoryStore(), MemoryStore(), MemoryStore()
    exports = Exports(Export(one), {b"two": Export(two, readonly=True), b"/srv/three": Export(three)})
    peer = connect(exports)
    create(peer, b"in one")
    for number, (aname, store) in enumerate(
        [(b"", one), (b"/", one), (b"two", two), (b"/two", two), (b"/srv/three", three)]
    ):
        peer.ok(m.Tattach(peer.tag(), number, c.NOFID, b"", aname, 0), m.Rattach)
        assert peer.session.fids.by_number[number].node is store.top
    assert peer.error(m.Tmkdir(peer.tag(), 2, b"d", 0o755, 0)) == c.EROFS
    peer.ok(m.Tmkdir(peer.tag(), 4, b"d", 0o755, 0), m.Rmkdir)
    assert peer.error(m.Trenameat(peer.tag(), 4, b"d", peer.root, b"d")) == c.EXDEV
    assert peer.error(m.Tlink(peer.tag(), 4, peer.walk(b"in one"), b"f")) == c.EXDEV


# --- frames that no handler sees -------------------------------------------------------------------


def test_unknown_and_foreign_types_are_refused(peer: Peer) -> None:
    for number in [*legacy.BY_TYPE, 0, 1, 6, 7, 101, 105, 129, 200, 255]:
        frame = struct.pack("<IBH", 7, number, 9)
        assert raw(peer, frame) == m.Rlerror(9, c.EOPNOTSUPP)


def test_malformed_requests_are_refused(peer: Peer) -> None:
    whole = codec.frame(m.Tgetattr(5, peer.root, 0))
    for frame in (whole[:10], whole[:7], whole + b"\0"):
        frame = struct.pack("<I", len(frame)) + frame[4:]
        assert raw(peer, frame) == m.Rlerror(5, c.EINVAL)
    seventeen = codec.frame(m.Twalk(5, peer.root, 7, (b"a",) * 17))
    assert raw(peer, seventeen).ecode == c.EINVAL


def test_notag_is_for_version_alone(peer: Peer) -> None:
    assert peer.error(m.Tgetattr(c.NOTAG, peer.root, 0)) == c.EINVAL
    peer.ok(m.Tversion(5, 8192, b"9P2000.L"), m.Rversion)


def test_unknown_fids(peer: Peer) -> None:
    f, tag = 0xDEAD, peer.tag
    for request in (
        m.Twalk(tag(), f, 1, ()),
        m.Twalk(tag(), f, f, (b"x",)),
        m.Tclunk(tag(), f),
        m.Tremove(tag(), f),
        m.Tlopen(tag(), f, 0),
        m.Tlcreate(tag(), f, b"x", 0, 0, 0),
        m.Tread(tag(), f, 0, 1),
        m.Twrite(tag(), f, 0, b"x"),
        m.Tfsync(tag(), f, 0),
        m.Treaddir(tag(), f, 0, 100),
        m.Tmkdir(tag(), f, b"x", 0, 0),
        m.Tstatfs(tag(), f),
        m.Tgetattr(tag(), f, 0),
        m.Tsetattr(tag(), f, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        m.Tsymlink(tag(), f, b"x", b"y", 0),
        m.Treadlink(tag(), f),
        m.Tlink(tag(), peer.root, f, b"x"),
        m.Tlink(tag(), f, peer.root, b"x"),
        m.Tmknod(tag(), f, b"x", 0, 0, 0, 0),
        m.Trename(tag(), f, peer.root, b"x"),
        m.Trename(tag(), peer.walk(), f, b"x"),
        m.Trenameat(tag(), f, b"x", peer.root, b"y"),
        m.Trenameat(tag(), peer.root, b"x", f, b"y"),
        m.Tunlinkat(tag(), f, b"x", 0),
        m.Txattrwalk(tag(), f, 1, b""),
        m.Txattrcreate(tag(), f, b"user.x", 0, 0),
        m.Tlock(tag(), f, 0, 0, 0, 0, 0, b""),
        m.Tgetlock(tag(), f, 0, 0, 0, 0, b""),
    ):
        assert peer.error(request) == c.EBADF, request


def test_new_fids_must_be_free(peer: Peer) -> None:
    create(peer, b"f")
    used = peer.walk()
    assert peer.error(m.Twalk(peer.tag(), peer.root, used, ())) == c.EINVAL
    assert peer.error(m.Twalk(peer.tag(), peer.root, c.NOFID, ())) == c.EINVAL
    assert peer.error(m.Txattrwalk(peer.tag(), peer.root, used, b"")) == c.EINVAL
    assert peer.error(m.Txattrwalk(peer.tag(), used, used, b"")) == c.EINVAL


# --- read-only exports -----------------------------------------------------------------------------


def test_a_readonly_export_admits_no_change(connect: MakePeer, memfs: MemoryStore) -> None:
    writer = connect(memfs)
    create(writer, b"f", b"content")
    set_xattr(writer, writer.walk(b"f"), b"user.x", b"value")
    peer = connect(Exports(Export(memfs, readonly=True)))
    f, root, tag = peer.walk(b"f"), peer.root, peer.tag
    for request in (
        m.Tlcreate(tag(), peer.walk(), b"x", c.O_RDONLY, 0o644, 0),
        m.Tlcreate(tag(), peer.walk(), b"f", c.O_RDONLY, 0o644, 0),
        m.Tlopen(tag(), f, c.O_WRONLY),
        m.Tlopen(tag(), f, c.O_RDWR),
        m.Tlopen(tag(), f, c.O_RDONLY | c.O_TRUNC),
        m.Tmkdir(tag(), root, b"x", 0o755, 0),
        m.Tsetattr(tag(), f, c.SETATTR_MODE, 0, 0, 0, 0, 0, 0, 0, 0),
        m.Tsymlink(tag(), root, b"x", b"y", 0),
        m.Tmknod(tag(), root, b"x", c.S_IFIFO, 0, 0, 0),
        m.Tlink(tag(), root, f, b"x"),
        m.Trename(tag(), f, root, b"x"),
        m.Trenameat(tag(), root, b"f", root, b"x"),
        m.Tunlinkat(tag(), root, b"f", 0),
        m.Txattrcreate(tag(), f, b"user.y", 1, 0),
    ):
        assert peer.error(request) == c.EROFS, request
    removed = peer.walk(b"f")
    assert peer.error(m.Tremove(tag(), removed)) == c.EROFS
    assert peer.error(m.Tclunk(tag(), removed)) == c.EBADF
    # Requests that change nothing still work, including locks (lib9p 1cea327).
    peer.ok(m.Tlopen(tag(), f, c.O_RDONLY), m.Rlopen)
    assert peer.ok(m.Tread(tag(), f, 0, 10), m.Rread).data == b"content"
    reply = peer.ok(m.Tlock(tag(), f, c.LOCK_TYPE_WRLCK, 0, 0, 0, 1, b""), m.Rlock)
    assert reply.status == c.LOCK_SUCCESS
    peer.ok(m.Txattrwalk(tag(), f, peer.fid(), b"user.x"), m.Rxattrwalk)
    assert len(peer.list()) == 3


# --- limits ----------------------------------------------------------------------------------------


def test_the_limit_on_fids(connect: MakePeer, memfs: MemoryStore) -> None:
    """One client gets half and leaves the other half to the others."""
    commons = Commons(Shared(fids=20))
    peer, other = (connect(memfs, commons=commons) for _ in range(2))
    fids = [peer.walk() for _ in range(8)]  # beside the two roots
    assert peer.error(m.Twalk(peer.tag(), peer.root, peer.fid(), ())) == c.ENFILE
    assert peer.error(m.Tattach(peer.tag(), peer.fid(), c.NOFID, b"", b"", 0)) == c.ENFILE
    assert peer.error(m.Txattrwalk(peer.tag(), peer.root, peer.fid(), b"")) == c.ENFILE
    for _ in range(4):
        other.walk()
    peer.clunk(fids[0])
    peer.clunk(fids[1])
    peer.close()
    for _ in range(5):
        other.walk()


def test_fids_are_given_back(connect: MakePeer, memfs: MemoryStore) -> None:
    commons = Commons(Shared(fids=10_000))
    peer = connect(memfs, commons=commons)
    fids = [peer.walk() for _ in range(1000)]
    assert commons.fids.left <= 9000
    for fid in fids:
        peer.clunk(fid)
    assert commons.fids.left > 9800
    peer.begin()
    peer.close()
    assert commons.fids.left == 10_000


def test_the_limit_on_open_files(connect: MakePeer, memfs: MemoryStore) -> None:
    peer = connect(memfs, Limits(open_files=3))
    create(peer, b"f")
    opened = [peer.open(), peer.open(b"f")]
    assert peer.error(m.Tlopen(peer.tag(), peer.walk(b"f"), 0)) == c.ENFILE
    assert peer.error(m.Tlopen(peer.tag(), peer.walk(), 0)) == c.ENFILE
    assert peer.error(m.Tlcreate(peer.tag(), peer.walk(), b"g", 2, 0o644, 0)) == c.ENFILE
    peer.clunk(opened[0])
    peer.open(b"f")


def test_the_limit_on_xattr_memory(connect: MakePeer, memfs: MemoryStore) -> None:
    peer = connect(memfs, Limits(xattr_bytes=1000))
    create(peer, b"f")
    fids = [peer.walk(b"f") for _ in range(4)]
    for fid in fids[:2]:
        peer.ok(m.Txattrcreate(peer.tag(), fid, b"user.x", 500, 0), m.Rxattrcreate)
    assert peer.error(m.Txattrcreate(peer.tag(), fids[2], b"user.x", 1, 0)) == c.ENOSPC
    peer.clunk(fids[0])
    set_xattr(peer, fids[2], b"user.y", b"y" * 400)
    peer.ok(m.Txattrwalk(peer.tag(), fids[2], peer.fid(), b"user.y"), m.Rxattrwalk)
    assert peer.error(m.Txattrwalk(peer.tag(), fids[2], peer.fid(), b"user.y")) == c.ENOSPC


# --- slow requests ---------------------------------------------------------------------------------


class SlowFile(MemoryFile):
    """Reads wait for ``gate``."""

    gate = threading.Event()

    def read_into(self, views: Sequence[memoryview], offset: int, wait: bool) -> int:
        if not wait:
            raise WouldBlock
        assert self.gate.wait(PATIENT)
        return super().read_into(views, offset, wait)

    def write(self, data: Buffer | Pieces, offset: int, caller: Caller, wait: bool) -> int:
        if not wait:
            raise WouldBlock
        return super().write(data, offset, caller, wait)


@pytest.fixture
def slow(peer: Peer) -> int:
    """A fid whose reads wait."""
    SlowFile.gate.clear()
    fid = create(peer, b"slow", b"content")
    entry = peer.session.fids.by_number[fid]
    assert isinstance(entry.file, MemoryFile)
    entry.file.__class__ = SlowFile
    return fid


def in_background(peer: Peer) -> threading.Thread:
    work = peer.work.pop(0)
    thread = threading.Thread(target=work.run)
    thread.start()
    while work.stage.name == "QUEUED":
        pass
    return thread


def test_replies_come_out_of_order(peer: Peer, slow: int) -> None:
    peer.send(m.Tread(901, slow, 0, 7))
    thread = in_background(peer)
    peer.ok(m.Tgetattr(902, slow, 0), m.Rgetattr)
    SlowFile.gate.set()
    thread.join()
    assert peer.replies == [m.Rread(901, b"content")]
    peer.replies.clear()


def test_a_tag_in_use_is_refused_and_free_once_answered(peer: Peer, slow: int) -> None:
    peer.send(m.Tread(901, slow, 0, 7))
    thread = in_background(peer)
    peer.send(m.Tgetattr(901, slow, 0))
    assert peer.replies.pop() == m.Rlerror(901, c.EINVAL)
    SlowFile.gate.set()
    thread.join()
    peer.replies.clear()
    peer.ok(m.Tgetattr(901, slow, 0), m.Rgetattr)


def test_flush_of_nothing(peer: Peer) -> None:
    for oldtag in (0, 5, c.NOTAG):
        peer.ok(m.Tflush(peer.tag(), oldtag), m.Rflush)
    peer.ok(m.Tflush(7, 7), m.Rflush)


def test_flush_of_what_has_not_begun_cancels_it(peer: Peer, slow: int) -> None:
    peer.send(m.Twrite(901, slow, 0, b"XXX"))
    peer.send(m.Tflush(902, 901))
    assert peer.replies.pop() == m.Rflush(902)
    peer.run_work()
    assert peer.replies == []
    SlowFile.gate.set()
    assert peer.ok(m.Tread(901, slow, 0, 7), m.Rread).data == b"content"


def test_flush_of_what_has_begun_waits_for_its_answer(peer: Peer, slow: int) -> None:
    peer.send(m.Tread(901, slow, 0, 7))
    thread = in_background(peer)
    peer.send(m.Tflush(902, 901))
    peer.send(m.Tflush(903, 901))
    peer.send(m.Tflush(904, 902))
    assert peer.replies == []
    peer.ok(m.Tgetattr(905, slow, 0), m.Rgetattr)
    SlowFile.gate.set()
    thread.join()
    # flush(5): the old request is answered first, then its flushes in the order in which they came.
    assert peer.replies[0] == m.Rread(901, b"content")
    assert [reply.tag for reply in peer.replies[1:]] == [902, 904, 903]
    assert all(isinstance(reply, m.Rflush) for reply in peer.replies[1:])
    peer.replies.clear()


def test_a_clunk_that_overtakes_a_read_frees_nothing_under_it(peer: Peer, slow: int) -> None:
    peer.send(m.Tread(901, slow, 0, 7))
    thread = in_background(peer)
    peer.ok(m.Tclunk(902, slow), m.Rclunk)
    assert peer.error(m.Tgetattr(903, slow, 0)) == c.EBADF
    SlowFile.gate.set()
    thread.join()
    assert peer.replies == [m.Rread(901, b"content")]
    peer.replies.clear()


def test_a_fid_number_used_again_does_not_redirect_what_waits(peer: Peer, slow: int) -> None:
    peer.send(m.Twrite(901, slow, 0, b"XXX"))
    work = peer.work.pop()
    peer.ok(m.Tclunk(902, slow), m.Rclunk)
    create(peer, b"other", b"other")
    peer.ok(m.Twalk(903, peer.root, slow, (b"other",)), m.Rwalk)
    peer.ok(m.Tlopen(904, slow, c.O_RDWR), m.Rlopen)
    work.run()
    assert peer.replies.pop() == m.Rwrite(901, 3)
    assert peer.ok(m.Tread(905, slow, 0, 7), m.Rread).data == b"other"
    assert peer.ok(m.Tread(906, peer.open(b"slow"), 0, 7), m.Rread).data == b"XXXtent"


def test_version_cancels_what_waits_and_outlasts_what_runs(peer: Peer, slow: int) -> None:
    peer.send(m.Tread(901, slow, 0, 7))
    thread = in_background(peer)
    peer.send(m.Twrite(902, slow, 0, b"XXX"))
    queued = peer.work.pop()
    peer.send(m.Tflush(903, 901))
    peer.send(m.Tversion(c.NOTAG, 8192, b"9P2000.L"))
    assert peer.replies == []
    SlowFile.gate.set()
    thread.join()
    assert peer.replies == [m.Rversion(c.NOTAG, 8192, b"9P2000.L")]
    peer.replies.clear()
    assert queued.run() is None
    assert peer.replies == []
    assert peer.error(m.Tgetattr(904, slow, 0)) == c.EBADF


def test_a_client_that_goes_is_not_answered(peer: Peer, slow: int) -> None:
    peer.send(m.Tread(901, slow, 0, 7))
    thread = in_background(peer)
    peer.close()
    SlowFile.gate.set()
    thread.join()
    assert peer.replies == []
    assert not peer.session.fids.by_number


def test_the_limit_on_requests(connect: MakePeer, memfs: MemoryStore) -> None:
    peer = connect(memfs, Limits(requests=3))
    fid = create(peer, b"f")
    for tag in range(1, 4):
        peer.send(m.Tfsync(tag, fid, 0))
    peer.send(m.Tfsync(4, fid, 0))
    assert peer.replies.pop() == m.Rlerror(4, c.EAGAIN)
    peer.run_work()
    assert [reply.tag for reply in peer.replies] == [1, 2, 3]
    peer.replies.clear()


def test_requests_behind_others_go_to_a_worker_when_they_may_wait(peer: Peer) -> None:
    peer.send(m.Tmkdir(1, peer.root, b"d", 0o755, 0), crowded=True)
    peer.send(m.Tgetattr(2, peer.root, 0), crowded=True)
    assert [reply.tag for reply in peer.replies] == [2]
    peer.replies.clear()
    peer.run_work()
    assert isinstance(peer.replies.pop(), m.Rmkdir)
    peer.send(m.Tmkdir(3, peer.root, b"e", 0o755, 0))
    assert isinstance(peer.replies.pop(), m.Rmkdir)


def test_an_unexpected_exception_is_answered_counted_and_logged(
    memfs: MemoryStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = Health()
    peer = Peer(memfs, health=health)
    monkeypatch.setattr(memfs.top, "getattr", lambda: 1 / 0)
    assert peer.error(m.Tgetattr(1, peer.root, 0)) == c.EIO
    assert isinstance(health.unexpected[0], ZeroDivisionError)
    assert "Tgetattr" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("crowded", [False, True])
def test_a_reply_that_no_frame_can_hold_is_answered_all_the_same(
    memfs: MemoryStore, monkeypatch: pytest.MonkeyPatch, crowded: bool
) -> None:
    """A store returned an invalid result: in place and on a worker the client gets an answer."""
    health = Health()
    peer = Peer(memfs, health=health)
    monkeypatch.setattr(memfs.top, "mkdir", lambda *_: Qid(256, 0, 0))
    peer.send(m.Tmkdir(7, peer.root, b"d", 0o755, 0), crowded)
    peer.run_work()
    assert peer.replies == [m.Rlerror(7, c.EIO)]
    assert isinstance(health.unexpected[0], codec.EncodeError)


def test_an_outlet_is_never_asked_for_memory_it_does_not_need(peer: Peer) -> None:
    fid = create(peer, b"f", b"abc")

    class Counting(_Outlet):
        asked: list[int] = []  # noqa: RUF012

        def payload(self, count: int) -> Sequence[memoryview]:
            self.asked.append(count)
            return super().payload(count)

        def later(self) -> Outlet:
            return self

    peer.session.receive(memoryview(codec.frame(m.Tread(1, fid, 0, 0xFFFFFFFF))), Counting(peer))
    assert Counting.asked == [65536 - 11]
    peer.replies.clear()
