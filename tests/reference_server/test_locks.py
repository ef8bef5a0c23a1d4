"""Record locks between owners, connections and processes of the host."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import constants as c
from protocol import messages as m
from reference_server.hostfs import HostStore
from reference_server.limits import Limits
from reference_server.locks import HeldLocks
from reference_server.storage import Lock, LockOwner, Store
from tests.reference_server.conftest import MakePeer
from tests.reference_server.peer import Peer
from tests.reference_server.requests import create

RD, WR, UN = c.LOCK_TYPE_RDLCK, c.LOCK_TYPE_WRLCK, c.LOCK_TYPE_UNLCK


def lock(
    peer: Peer,
    fid: int,
    type: int,
    start: int = 0,
    length: int = 0,
    process: int = 1,
    client: bytes = b"me",
    flags: int = 0,
) -> int:
    return peer.ok(m.Tlock(peer.tag(), fid, type, flags, start, length, process, client), m.Rlock).status


def ask(peer: Peer, fid: int, type: int, start: int = 0, length: int = 0, process: int = 1) -> tuple[object, ...]:
    found = peer.ok(m.Tgetlock(peer.tag(), fid, type, start, length, process, b"me"), m.Rgetlock)
    return found.locktype, found.start, found.length, found.proc_id, found.client_id


def test_locks_of_two_processes_conflict(peer: Peer) -> None:
    one = create(peer, b"f")
    two = peer.open(b"f", flags=c.O_RDWR)
    assert lock(peer, one, WR, 10, 10, process=1) == c.LOCK_SUCCESS
    assert lock(peer, two, RD, 15, 1, process=2) == c.LOCK_BLOCKED
    assert lock(peer, two, WR, 20, 5, process=2) == c.LOCK_SUCCESS
    assert ask(peer, two, WR, 0, 0, process=2) == (WR, 10, 10, 1, b"me")
    assert ask(peer, one, WR, 0, 0, process=1) == (WR, 20, 5, 2, b"me")
    assert ask(peer, one, WR, 0, 20, process=1) == (UN, 0, 20, 1, b"me")
    assert lock(peer, one, UN, 15, 1, process=1) == c.LOCK_SUCCESS
    assert lock(peer, two, WR, 15, 1, process=2) == c.LOCK_SUCCESS
    assert lock(peer, two, WR, 14, 1, process=2) == c.LOCK_BLOCKED
    assert lock(peer, two, WR, 16, 1, process=2) == c.LOCK_BLOCKED


def test_locks_of_one_process_never_conflict_whichever_fid_took_them(peer: Peer) -> None:
    """diod#102: a process locks again through another descriptor."""
    one = create(peer, b"f")
    two = peer.open(b"f", flags=c.O_RDWR)
    assert lock(peer, one, WR) == lock(peer, two, WR) == lock(peer, two, RD) == c.LOCK_SUCCESS
    assert ask(peer, one, WR, process=2) == (RD, 0, 0, 1, b"me")


def test_two_readers_share(peer: Peer) -> None:
    fid = create(peer, b"f")
    assert lock(peer, fid, RD, process=1) == lock(peer, fid, RD, process=2) == c.LOCK_SUCCESS
    assert lock(peer, fid, WR, process=1) == c.LOCK_BLOCKED
    assert lock(peer, fid, UN, process=2) == c.LOCK_SUCCESS
    assert lock(peer, fid, WR, process=1) == c.LOCK_SUCCESS


def test_locks_conflict_between_connections_even_of_the_same_name(connect: MakePeer, store: Store) -> None:
    """lib9p and kvmtool always answer SUCCESS (lib9p HEAD fs_lock; kvmtool HEAD)."""
    one, two = connect(store), connect(store)
    create(one, b"f")
    mine, theirs = one.open(b"f", flags=c.O_RDWR), two.open(b"f", flags=c.O_RDWR)
    assert lock(one, mine, WR) == c.LOCK_SUCCESS
    assert lock(two, theirs, WR) == c.LOCK_BLOCKED
    assert ask(two, theirs, RD) == (WR, 0, 0, 1, b"me")
    one.close()
    assert lock(two, theirs, WR) == c.LOCK_SUCCESS


def test_different_nodes_conflict(peer: Peer) -> None:
    fid = create(peer, b"f")
    assert lock(peer, fid, WR, client=b"a") == c.LOCK_SUCCESS
    assert lock(peer, fid, WR, client=b"b") == c.LOCK_BLOCKED


def test_locks_end_with_the_last_fid_they_were_taken_through(peer: Peer) -> None:
    one = create(peer, b"f")
    two = peer.open(b"f", flags=c.O_RDWR)
    three = peer.open(b"f", flags=c.O_RDWR)
    lock(peer, one, WR, 0, 5)
    peer.clunk(two)
    assert lock(peer, three, WR, process=2) == c.LOCK_BLOCKED
    peer.clunk(one)
    assert lock(peer, three, WR, process=2) == c.LOCK_SUCCESS


def test_an_unlock_through_the_fid_that_locked_releases(peer: Peer) -> None:
    """A child releases a flock(2) through an inherited descriptor, as Linux sends it; LTP's flock03."""
    fid = create(peer, b"f")
    other = peer.open(b"f", flags=c.O_RDWR)
    assert lock(peer, fid, WR, process=1) == c.LOCK_SUCCESS
    assert lock(peer, other, WR, process=2) == c.LOCK_BLOCKED
    assert lock(peer, fid, UN, process=2, flags=c.LOCK_FLAGS_BLOCK) == c.LOCK_SUCCESS
    assert lock(peer, other, WR, process=3) == c.LOCK_SUCCESS


def test_what_closing_sends_releases_nobody_elses_lock(peer: Peer) -> None:
    """Each process with the inherited descriptor sends this when it ends: a subprocess, a command of a shell."""
    fid = create(peer, b"f")
    other = peer.open(b"f", flags=c.O_RDWR)
    assert lock(peer, fid, WR, process=1) == c.LOCK_SUCCESS
    assert lock(peer, fid, UN, process=2) == c.LOCK_SUCCESS
    assert lock(peer, other, WR, process=3) == c.LOCK_BLOCKED
    assert lock(peer, fid, UN, process=1) == c.LOCK_SUCCESS
    assert lock(peer, other, WR, process=3) == c.LOCK_SUCCESS


def test_an_unlock_through_a_fid_leaves_what_it_did_not_lock(connect: MakePeer, store: Store) -> None:
    """It leaves other bytes, locks through another fid or through two, and locks of another client."""
    one, two = connect(store), connect(store)
    fid = create(one, b"f")
    again, theirs = one.open(b"f", flags=c.O_RDWR), two.open(b"f", flags=c.O_RDWR)

    def unlocked(peer: Peer = one, fid: int = fid) -> None:
        assert lock(peer, fid, UN, process=9, flags=c.LOCK_FLAGS_BLOCK) == c.LOCK_SUCCESS

    assert lock(one, fid, WR, 0, 10, process=1) == c.LOCK_SUCCESS
    unlocked()
    assert lock(two, theirs, WR, 5, 1) == c.LOCK_BLOCKED, "bytes are no flock(2)"
    lock(one, fid, UN, process=1)
    assert lock(one, again, WR, process=1) == c.LOCK_SUCCESS
    unlocked()
    unlocked(two, theirs)
    assert lock(two, theirs, WR) == c.LOCK_BLOCKED, "taken through another fid"
    assert lock(one, fid, WR, process=1) == c.LOCK_SUCCESS
    unlocked()
    assert lock(two, theirs, WR) == c.LOCK_BLOCKED, "taken through two"
    one.clunk(again)
    unlocked()
    assert lock(two, theirs, WR) == c.LOCK_SUCCESS


def test_a_write_lock_on_a_file_open_for_reading(peer: Peer) -> None:
    """flock(2) with LOCK_EX needs no write access, and Linux sends it as a write lock."""
    create(peer, b"f")
    fid = peer.open(b"f", flags=c.O_RDONLY)
    assert lock(peer, fid, WR) == c.LOCK_SUCCESS


def test_a_file_without_a_name_can_be_locked(peer: Peer) -> None:
    fid = create(peer, b"f")
    peer.ok(m.Tunlinkat(peer.tag(), peer.root, b"f", 0), m.Runlinkat)
    assert lock(peer, fid, WR) == c.LOCK_SUCCESS
    assert lock(peer, fid, WR, process=2) == c.LOCK_BLOCKED


def test_linux_asks_about_unlck(peer: Peer) -> None:
    """v9fs_file_getlock sends LOCK_TYPE_UNLCK whatever the program asked about."""
    fid = create(peer, b"f")
    assert peer.ok(m.Tgetlock(peer.tag(), fid, UN, 0, 0, 2, b"me"), m.Rgetlock).locktype == UN
    assert lock(peer, fid, RD) == c.LOCK_SUCCESS
    assert ask(peer, fid, UN, process=2)[0] == UN  # the guest has looked at its own locks before
    assert lock(peer, fid, WR) == c.LOCK_SUCCESS
    assert ask(peer, fid, UN, process=2) == (WR, 0, 0, 1, b"me")


def test_nonsense(peer: Peer) -> None:
    fid = create(peer, b"f")

    def tlock(kind: int, flags: int, start: int, length: int) -> m.Tlock:
        return m.Tlock(peer.tag(), fid, kind, flags, start, length, 1, b"")

    assert peer.error(tlock(3, 0, 0, 0)) == c.EINVAL
    assert peer.error(tlock(WR, 0, 1 << 63, 0)) == c.EINVAL
    assert peer.error(tlock(WR, 0, 1, (1 << 63))) == c.EINVAL
    assert peer.error(tlock(WR, 0, (1 << 63) - 1, 2)) == c.EINVAL
    peer.ok(tlock(WR, 0, (1 << 63) - 1, 1), m.Rlock)
    peer.ok(tlock(UN, 0, 5, 5), m.Rlock)
    assert peer.error(m.Tgetlock(peer.tag(), fid, 3, 0, 0, 1, b"")) == c.EINVAL
    assert peer.error(m.Tlock(peer.tag(), peer.walk(b"f"), WR, 0, 0, 0, 1, b"")) == c.EBADF
    assert peer.error(m.Tlock(peer.tag(), peer.open(), WR, 0, 0, 0, 1, b"")) == c.EISDIR


# --- waiting ---------------------------------------------------------------------------------------


def waiting(peer: Peer, fid: int, tag: int, process: int) -> m.Tlock:
    return m.Tlock(tag, fid, WR, c.LOCK_FLAGS_BLOCK, 0, 0, process, b"me")


def test_a_blocking_lock_waits(peer: Peer) -> None:
    fid = create(peer, b"f")
    lock(peer, fid, WR)
    peer.send(waiting(peer, fid, 901, 2))
    (work,) = peer.work
    for _ in range(3):
        delay = work.run()
        assert delay is not None and 0 < delay < 0.5
    peer.work.clear()
    assert lock(peer, fid, UN) == c.LOCK_SUCCESS
    assert work.run() is None
    assert peer.replies.pop() == m.Rlock(901, c.LOCK_SUCCESS)


def test_a_blocking_lock_that_waited_long_is_blocked(connect: MakePeer, store: Store) -> None:
    peer = connect(store, Limits(lock_wait=0.1))
    fid = create(peer, b"f")
    lock(peer, fid, WR)
    reply = peer.ok(waiting(peer, fid, 901, 2), m.Rlock)
    assert reply.status == c.LOCK_BLOCKED


def test_flush_ends_the_wait_for_a_lock(peer: Peer) -> None:
    fid = create(peer, b"f")
    lock(peer, fid, WR)
    peer.send(waiting(peer, fid, 901, 2))
    work = peer.work.pop()
    assert work.run() is not None
    peer.ok(m.Tflush(902, 901), m.Rflush)
    lock(peer, fid, UN)
    assert work.run() is None
    assert peer.replies == []
    assert lock(peer, fid, WR, process=3) == c.LOCK_SUCCESS


# --- processes of the host -------------------------------------------------------------------------


def host_lock(fd: int, type: int, start: int, length: int) -> bool:
    """Take a POSIX lock in a child, as another process would."""
    child = os.fork()
    if not child:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hhqqi4x", type, 0, start, length, 0))
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_locks_conflict_with_host_processes(connect: MakePeer, hostfs: HostStore, folder: Path) -> None:
    peer = connect(hostfs)
    fid = create(peer, b"f")
    with (folder / "f").open("r+b") as file:
        assert lock(peer, fid, WR, 0, 10) == c.LOCK_SUCCESS
        assert not host_lock(file.fileno(), fcntl.F_RDLCK, 5, 1)
        assert host_lock(file.fileno(), fcntl.F_WRLCK, 10, 1)
        fcntl.lockf(file, fcntl.LOCK_EX, 5, 20)
        assert lock(peer, fid, RD, 24, 1) == c.LOCK_BLOCKED
        assert ask(peer, fid, RD, 0, 0) == (WR, 20, 5, os.getpid(), b"")
        assert lock(peer, fid, RD, 25, 1) == c.LOCK_SUCCESS
        fcntl.lockf(file, fcntl.LOCK_UN)
        assert lock(peer, fid, RD, 24, 1) == c.LOCK_SUCCESS


def test_no_descriptor_is_kept_for_owners_that_hold_nothing(connect: MakePeer, hostfs: HostStore) -> None:
    peer = connect(hostfs)
    fid = create(peer, b"f")
    for process in range(20):
        lock(peer, fid, WR, process=process)
        ask(peer, fid, WR, process=process)
    assert hostfs.locks.count() == 1
    lock(peer, fid, UN, process=0)
    assert hostfs.locks.count() == 0


def test_the_limit_on_locks(connect: MakePeer, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = store.locks._counts if isinstance(store, HostStore) else store.lock_counts  # type: ignore[attr-defined]
    monkeypatch.setattr(counts, "_most", 10)
    peer, other = connect(store), connect(store)
    fid, second = create(peer, b"f"), create(peer, b"g")
    for number in range(5):
        assert lock(peer, fid, WR, 10 * number, 1) == lock(peer, second, RD, 10 * number, 1) == c.LOCK_SUCCESS
    assert peer.error(m.Tlock(peer.tag(), fid, WR, 0, 90, 1, 1, b"me")) == c.ENOLCK
    theirs = other.open(b"g", flags=c.O_RDWR)
    assert lock(other, theirs, RD, 90, 1) == c.LOCK_SUCCESS
    assert lock(peer, fid, UN, 0, 1) == c.LOCK_SUCCESS
    assert lock(peer, fid, WR, 90, 1) == c.LOCK_SUCCESS
    for one in (peer, other):
        one.begin()
    assert not counts._held


def test_locks_when_descriptors_are_short(connect: MakePeer, hostfs: HostStore) -> None:
    """Each process that holds a lock on a file takes one descriptor."""
    peer = connect(hostfs)
    fid = create(peer, b"f")
    hostfs.descriptors.end = hostfs.descriptors.alert = len(os.listdir("/proc/self/fd")) + 20
    statuses = []
    for process in range(60):
        reply = peer.call(m.Tlock(peer.tag(), fid, RD, 0, 0, 1, process, b"me"))
        statuses.append(getattr(reply, "ecode", 0))
    assert set(statuses) == {0, c.ENOLCK}
    assert peer.error(m.Tgetlock(peer.tag(), fid, RD, 0, 0, 99, b"me")) == c.ENOLCK


# --- the bookkeeping, against a model that knows every byte ----------------------------------------

OWNERS = [LockOwner(1, b"", number) for number in range(3)]
STEPS = st.tuples(st.sampled_from(OWNERS), st.sampled_from([RD, WR, None]), st.integers(0, 20), st.integers(0, 8))


@given(st.lists(STEPS, max_size=30))
def test_held_locks_against_a_byte_map(steps: list[tuple[LockOwner, int | None, int, int]]) -> None:
    held = HeldLocks()
    model: dict[LockOwner, dict[int, int]] = {owner: {} for owner in OWNERS}
    size = 40
    for owner, type, start, length in steps:
        span = range(start, start + length if length else size)
        if type is not None:
            clash = any(
                WR in (type, model[other][byte])
                for other in OWNERS
                for byte in span
                if other != owner and byte in model[other]
            )
            found = held.conflict(owner, Lock(type, start, length, 0, b""))
            assert (found is not None) == clash
            if clash:
                continue
        held.set(owner, type, start, length)
        for byte in span:
            model[owner].pop(byte, None)
            if type is not None:
                model[owner][byte] = type
        for one in OWNERS:
            assert held.holds(one) == bool(model[one])


@pytest.mark.parametrize("length", [0, 5])
def test_the_end_of_a_lock_to_the_end_is_reported_as_zero(length: int) -> None:
    held = HeldLocks()
    held.set(OWNERS[0], WR, 3, length)
    found = held.conflict(OWNERS[1], Lock(RD, 0, 0, 0, b""))
    assert found is not None
    assert (found.start, found.length) == (3, length)
