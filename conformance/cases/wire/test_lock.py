"""Family `lock`: Tlock and Tgetlock.

What is at stake: SQLite, mailboxes and package managers of several guests on one share. A lock that is granted to
two at once corrupts what it guards; one that outlives its owner stops everybody.
"""

from __future__ import annotations

import fcntl
import os

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.expectation import OK
from conformance.links.base import Capability
from conformance.wire import Session, Wire
from protocol.constants import (
    EACCES,
    EBADF,
    EINVAL,
    EIO,
    EOVERFLOW,
    LOCK_BLOCKED,
    LOCK_ERROR,
    LOCK_FLAGS_BLOCK,
    LOCK_GRACE,
    LOCK_SUCCESS,
    LOCK_TYPE_RDLCK,
    LOCK_TYPE_UNLCK,
    LOCK_TYPE_WRLCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
)
from protocol.messages import Rgetlock, Rlock, Tgetlock, Tlock

BIG = 1 << 63
ONE, TWO, THREE = b"127.0.0.1", b"127.0.0.2", b"127.0.0.3"
"""Clients. nfs-ganesha takes a client id for a host's name and looks it up; one case of its own says so."""
BAD_RANGE = {EINVAL, EOVERFLOW, EIO}
"""EINVAL, EOVERFLOW: fcntl(2); EIO: servers that refuse while decoding."""


def _open(client: Session, *, flags: int = O_RDWR) -> int:
    return client.open(b"fred", flags=flags)


def _two(wire: Wire) -> tuple[Session, int, Session, int]:
    """One file, open on two connections."""
    wire.need(Capability.SESSIONS, "one session only")
    wire.host.file(b"fred", bytes(1000))
    one, two = wire.client, wire.session()
    return one, _open(one), two, _open(two)


@pytest.mark.parametrize("locktype", [LOCK_TYPE_RDLCK, LOCK_TYPE_WRLCK], ids=["read", "write"])
@case("WIRE-LOCK-001", covers=[Tlock], severity="linux")
def test_lock_and_unlock(wire: Wire, locktype: int) -> None:
    """A lock on a file that nobody else has locked is granted, and can be given up; Rlock is one byte of status.
    Source: chaos/diod protocol.md, lock; kvmtool's status has four bytes, which the client takes for no message."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    shared.same(client.lock(fid, locktype, 0, 10).status, LOCK_SUCCESS, "the status of a free lock")
    shared.same(client.lock(fid, LOCK_TYPE_UNLCK, 0, 10).status, LOCK_SUCCESS, "the status of giving it up")


@case("WIRE-LOCK-002", covers=[Tlock], severity="linux")
def test_unlock_of_what_is_not_locked(wire: Wire) -> None:
    """Giving up what is not held succeeds.  Source: fcntl(2) F_UNLCK; diod answered an error (diod#34)."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    shared.same(client.lock(_open(client), LOCK_TYPE_UNLCK).status, LOCK_SUCCESS, "the status")


@case("WIRE-LOCK-003", covers=[Tlock], severity="linux")
def test_writers_exclude_each_other(wire: Wire) -> None:
    """A write lock that another client holds is not granted again: BLOCKED.  Source: chaos/diod protocol.md, lock, "has
    semantics similar to Linux fcntl(F_SETLK)"; lib9p, kvmtool and QEMU answer SUCCESS to everybody."""
    one, first, two, second = _two(wire)
    shared.same(one.lock(first, client_id=ONE, proc_id=11).status, LOCK_SUCCESS, "the first")
    shared.same(two.lock(second, client_id=TWO, proc_id=22).status, LOCK_BLOCKED, "the second")
    one.lock(first, LOCK_TYPE_UNLCK, client_id=ONE, proc_id=11)
    shared.same(
        two.lock(second, client_id=TWO, proc_id=22).status, LOCK_SUCCESS, "the second, once the first was given up"
    )


@case("WIRE-LOCK-004", covers=[Tlock], severity="linux")
def test_readers_share(wire: Wire) -> None:
    """Two clients hold a read lock at once; a writer is kept out.  Source: fcntl(2) F_RDLCK."""
    one, first, two, second = _two(wire)
    shared.same(one.lock(first, LOCK_TYPE_RDLCK, client_id=ONE, proc_id=11).status, LOCK_SUCCESS, "the first reader")
    shared.same(two.lock(second, LOCK_TYPE_RDLCK, client_id=TWO, proc_id=22).status, LOCK_SUCCESS, "the second reader")
    third = wire.session()
    shared.same(third.lock(_open(third), client_id=THREE, proc_id=33).status, LOCK_BLOCKED, "the writer")


@case("WIRE-LOCK-005", covers=[Tlock], severity="linux")
def test_ranges_are_apart(wire: Wire) -> None:
    """Locks on different bytes of a file do not conflict, locks on one common byte do.  Source: fcntl(2), l_start and
    l_len; SQLite lives on it; diod locks whole files (flock)."""
    one, first, two, second = _two(wire)
    shared.same(one.lock(first, LOCK_TYPE_WRLCK, 0, 10, client_id=ONE, proc_id=11).status, LOCK_SUCCESS, "bytes 0 to 9")
    shared.same(two.lock(second, LOCK_TYPE_WRLCK, 9, 1, client_id=TWO, proc_id=22).status, LOCK_BLOCKED, "byte 9")
    shared.same(
        two.lock(second, LOCK_TYPE_WRLCK, 10, 10, client_id=TWO, proc_id=22).status, LOCK_SUCCESS, "bytes 10 to 19"
    )


@case("WIRE-LOCK-006", covers=[Tlock], severity="linux")
def test_length_zero_is_to_the_end(wire: Wire) -> None:
    """A length of 0 locks to the end of the file, wherever that goes.  Source: fcntl(2), "specifying 0 for l_len"."""
    one, first, two, second = _two(wire)
    shared.same(
        one.lock(first, LOCK_TYPE_WRLCK, 500, 0, client_id=ONE, proc_id=11).status, LOCK_SUCCESS, "from byte 500"
    )
    shared.same(
        two.lock(second, LOCK_TYPE_WRLCK, 1 << 40, 1, client_id=TWO, proc_id=22).status, LOCK_BLOCKED, "far behind"
    )
    shared.same(
        two.lock(second, LOCK_TYPE_WRLCK, 0, 500, client_id=TWO, proc_id=22).status, LOCK_SUCCESS, "the bytes before"
    )


@case("WIRE-LOCK-007", covers=[Tlock], severity="linux")
def test_own_lock_is_no_obstacle(wire: Wire) -> None:
    """A process that holds a lock gets it again, changed into the other kind, also through another fid.  Source:
    fcntl(2): a lock is replaced by a new one of the same process; diod#102 answered EAGAIN."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid, other = _open(client), _open(client)
    for locktype in (LOCK_TYPE_WRLCK, LOCK_TYPE_RDLCK, LOCK_TYPE_WRLCK):
        shared.same(client.lock(fid, locktype, 0, 10).status, LOCK_SUCCESS, f"kind {locktype}")
    shared.same(client.lock(other, LOCK_TYPE_WRLCK, 0, 10).status, LOCK_SUCCESS, "through another fid")


@case("WIRE-LOCK-008", covers=[Tlock], severity="linux")
def test_part_is_given_up(wire: Wire) -> None:
    """Giving up the middle of a lock leaves its two ends.  Source: fcntl(2): locks are split."""
    one, first, two, second = _two(wire)
    one.lock(first, LOCK_TYPE_WRLCK, 0, 30, client_id=ONE, proc_id=11)
    one.lock(first, LOCK_TYPE_UNLCK, 10, 10, client_id=ONE, proc_id=11)
    for start, status in ((0, LOCK_BLOCKED), (10, LOCK_SUCCESS), (20, LOCK_BLOCKED)):
        seen = two.lock(second, LOCK_TYPE_WRLCK, start, 10, client_id=TWO, proc_id=22).status
        shared.same(seen, status, f"bytes {start} to {start + 9}")


@case("WIRE-LOCK-009", covers=[Tlock], severity="linux")
def test_clunk_gives_locks_up(wire: Wire) -> None:
    """When the fid is clunked, its locks are free.  Source: fcntl(2): closing the file ends the locks; clunk(5)."""
    one, first, two, second = _two(wire)
    one.lock(first, client_id=ONE, proc_id=11)
    one.clunk(first)
    shared.same(two.lock(second, client_id=TWO, proc_id=22).status, LOCK_SUCCESS, "after the clunk")


@case("WIRE-LOCK-010", covers=[Tlock], severity="linux")
def test_lost_client_gives_locks_up(wire: Wire) -> None:
    """When a client vanishes, its locks are free within two seconds.  Source: a connection's fids end with it
    (intro(5)); else one crashed guest stops all others."""
    wire.need(Capability.HANGUP, "the link must be able to die")
    one, first, two, second = _two(wire)
    one.lock(first, client_id=ONE, proc_id=11)
    wire.hang_up(one)

    def state() -> int:
        return two.lock(second, client_id=TWO, proc_id=22).status

    shared.same(wire.settled(state, 1), LOCK_SUCCESS, "after the first client vanished")


@case("WIRE-LOCK-011", covers=[Tlock], severity="varies")
def test_lock_against_a_host_process(wire: Wire) -> None:
    """A lock that a process of the host holds with fcntl(2) is respected, and the other way round.  Source: fcntl(2);
    diod takes flock(2) locks, which are others."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    with open(wire.host.path(b"fred"), "r+b") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shared.same(client.lock(fid).status, LOCK_BLOCKED, "while the host holds it")
        fcntl.lockf(handle, fcntl.LOCK_UN)
        shared.same(client.lock(fid).status, LOCK_SUCCESS, "once the host has given it up")
        with pytest.raises(OSError):
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@case("WIRE-LOCK-012", covers=[Tlock])
def test_blocking_lock_stops_nobody(wire: Wire) -> None:
    """While a lock with the flag BLOCK is waited for, the server serves other requests of the same connection and of
    others, and the lock is granted, or BLOCKED, once it is free.  Source: v9fs_file_do_lock asks again after BLOCKED; a
    thread that waited in fcntl stopped lockd's server (kernel bugzilla 215383)."""
    one, first, two, second = _two(wire)
    one.lock(first, client_id=ONE, proc_id=11)
    waiting = two.send_lock(second, flags=LOCK_FLAGS_BLOCK, client_id=TWO, proc_id=22)
    wire.prompt(two.send_getattr(two.root))
    wire.prompt(one.send_lock(first, LOCK_TYPE_UNLCK, client_id=ONE, proc_id=11))
    # Whoever answers BLOCKED at once, or after a while of its own, is asked again, as Linux does.
    status = waiting.result(timeout=8.0).status
    assert status in (LOCK_SUCCESS, LOCK_BLOCKED), f"status {status}"
    if status == LOCK_BLOCKED:
        shared.same(two.lock(second, client_id=TWO, proc_id=22).status, LOCK_SUCCESS, "asked again")


@case("WIRE-LOCK-013", covers=[Tlock])
def test_flush_of_a_waiting_lock(wire: Wire) -> None:
    """A Tlock that waits can be flushed; a lock that was then not answered is not held.  Source: flush(5); v9fs flushes
    when the process that waits gets a signal."""
    one, first, two, second = _two(wire)
    one.lock(first, client_id=ONE, proc_id=11)
    waiting = two.send_lock(second, flags=LOCK_FLAGS_BLOCK, client_id=TWO, proc_id=22)
    wire.prompt(two.send_flush(waiting.tag))
    answered = waiting.reply
    if answered is None:
        two.forget(waiting)
    one.lock(first, LOCK_TYPE_UNLCK, client_id=ONE, proc_id=11)
    two.silent(0.1)
    if not (isinstance(answered, Rlock) and answered.status == LOCK_SUCCESS):
        shared.same(one.lock(first, client_id=ONE, proc_id=11).status, LOCK_SUCCESS, "the first, who has it to itself")


@case("WIRE-LOCK-014", covers=[Tlock])
def test_type_without_a_meaning(wire: Wire) -> None:
    """A lock type that is none is refused or answered ERROR; it locks nothing.  Source: fcntl(2) EINVAL; chaos/diod
    protocol.md, lock, type."""
    one, first, two, second = _two(wire)
    for locktype in (3, 7, 255):
        reply = one.lock(first, locktype, client_id=ONE, proc_id=11, expect={OK, EINVAL, EIO})
        if isinstance(reply, Rlock):
            shared.same(reply.status, LOCK_ERROR, f"the status of type {locktype}")
    shared.same(two.lock(second, client_id=TWO, proc_id=22).status, LOCK_SUCCESS, "another client afterwards")


@pytest.mark.parametrize(
    ("start", "length"),
    [(BIG, 1), (0, BIG), (BIG - 1, 2), ((1 << 64) - 1, (1 << 64) - 1)],
    ids=["start", "length", "sum", "all"],
)
@case("WIRE-LOCK-015", covers=[Tlock, Tgetlock])
def test_ranges_beyond_a_file(wire: Wire, start: int, length: int) -> None:
    """A range that no off_t can hold is refused, answered ERROR, or locked as far as there can be bytes; the server
    lives.  Source: fcntl(2) EINVAL, EOVERFLOW; start[8] and length[8] are unsigned on the wire."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    reply = client.lock(fid, LOCK_TYPE_WRLCK, start, length, expect=BAD_RANGE | {OK})
    if isinstance(reply, Rlock):
        assert reply.status in (LOCK_SUCCESS, LOCK_ERROR), f"status {reply.status} where nobody else has a lock"
    client.getlock(fid, LOCK_TYPE_WRLCK, start, length, expect=BAD_RANGE | {OK})
    client.getattr(fid)


@pytest.mark.parametrize("flags", [2, 4, 0x80000000, 0xFFFFFFFE], ids=shared.label)
@case("WIRE-LOCK-016", covers=[Tlock])
def test_flags_without_a_meaning(wire: Wire, flags: int) -> None:
    """Flags beyond BLOCK are ignored or refused.  Source: chaos/diod protocol.md, lock, flags: "BLOCK and RECLAIM";
    Linux sends BLOCK or nothing; GRACE answers RECLAIM in lock managers."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    reply = client.lock(_open(client), flags=flags, expect={OK, EINVAL, EIO})
    if isinstance(reply, Rlock):
        assert reply.status in (LOCK_SUCCESS, LOCK_ERROR, LOCK_GRACE), f"status {reply.status}"


@case("WIRE-LOCK-017", covers=[Tlock], severity="varies")
def test_lock_against_the_open_mode(wire: Wire) -> None:
    """A write lock wants a fid that is open for writing, a read lock one open for reading.  Source: fcntl(2) EBADF;
    Linux checks it before it asks, and flock(2) knows no such rule."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    for flags, locktype in ((O_RDONLY, LOCK_TYPE_WRLCK), (O_WRONLY, LOCK_TYPE_RDLCK)):
        reply = client.lock(_open(client, flags=flags), locktype, expect={OK, EBADF, EINVAL, EACCES})
        if isinstance(reply, Rlock):
            shared.same(reply.status, LOCK_ERROR, f"the status of type {locktype} with flags {flags}")


@case("WIRE-LOCK-018", covers=[Tlock, Tgetlock])
def test_lock_of_an_unopened_fid(wire: Wire) -> None:
    """A fid that was not opened has no locks.  Source: chaos/diod protocol.md, lock: fcntl(2) wants a descriptor; QEMU
    v9fs_lock stats the descriptor first."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    reply = client.lock(client.walk_to(b"fred"), expect=allowed.WRONG_STATE | {OK})
    if isinstance(reply, Rlock):
        shared.same(reply.status, LOCK_ERROR, "the status")
    client.getlock(client.walk_to(b"fred"), expect=allowed.WRONG_STATE | {OK})
    client.getattr(client.root)


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-LOCK-019", covers=[Tlock])
def test_lock_of_dead_fid(wire: Wire, which: str) -> None:
    """Tlock of a fid that stands for nothing is refused.  Source: chaos/diod protocol.md, lock."""
    shared.dead_fid(wire, which, lambda client, fid: client.send_lock(fid))


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-LOCK-020", covers=[Tgetlock])
def test_getlock_of_dead_fid(wire: Wire, which: str) -> None:
    """Tgetlock of a fid that stands for nothing is refused.  Source: chaos/diod protocol.md, getlock."""
    shared.dead_fid(wire, which, lambda client, fid: client.send_getlock(fid))


@case("WIRE-LOCK-021", covers=[Tgetlock], severity="linux")
def test_getlock_of_a_free_file(wire: Wire) -> None:
    """Where nothing is in the way Tgetlock answers UNLCK.  Source: fcntl(2) F_GETLK; v9fs_file_getlock."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    shared.same(client.getlock(_open(client)).locktype, LOCK_TYPE_UNLCK, "the type")


@case("WIRE-LOCK-022", covers=[Tgetlock], severity="linux")
def test_getlock_of_a_held_lock(wire: Wire) -> None:
    """Where another client's lock is in the way Tgetlock does not answer UNLCK, and takes no lock.  Source: fcntl(2)
    F_GETLK; v9fs_file_getlock."""
    one, first, two, second = _two(wire)
    one.lock(first, client_id=ONE, proc_id=11)
    assert two.getlock(second, client_id=TWO, proc_id=22).locktype == LOCK_TYPE_WRLCK
    one.lock(first, LOCK_TYPE_UNLCK, client_id=ONE, proc_id=11)
    shared.same(two.getlock(second, client_id=TWO, proc_id=22).locktype, LOCK_TYPE_UNLCK, "the type once it is free")
    shared.same(
        one.lock(first, client_id=ONE, proc_id=11).status, LOCK_SUCCESS, "the first again: a question is no lock"
    )


@case("WIRE-LOCK-023", covers=[Tgetlock], severity="varies")
def test_getlock_names_the_holder(wire: Wire) -> None:
    """Tgetlock names range, process and client of the lock in the way.  Source: chaos/diod protocol.md, getlock;
    servers that keep locks in the host's kernel know the process only."""
    one, first, two, second = _two(wire)
    one.lock(first, LOCK_TYPE_WRLCK, 10, 20, proc_id=4711, client_id=ONE)
    reply = two.getlock(second, LOCK_TYPE_WRLCK, 0, 0, client_id=TWO, proc_id=22)
    shared.same(
        (reply.locktype, reply.start, reply.length, reply.proc_id, bytes(reply.client_id)),
        (LOCK_TYPE_WRLCK, 10, 20, 4711, ONE), "the lock in the way",
    )  # fmt: skip


@case("WIRE-LOCK-024", covers=[Tgetlock])
def test_getlock_of_a_type_without_a_meaning(wire: Wire) -> None:
    """Tgetlock of a type that is none is refused, or answers UNLCK.  Source: fcntl(2) EINVAL."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    for locktype in (LOCK_TYPE_UNLCK, 3, 255):
        reply = client.getlock(fid, locktype, expect={OK, EINVAL, EIO})
        if isinstance(reply, Rgetlock):
            shared.same(reply.locktype, LOCK_TYPE_UNLCK, f"the answer to type {locktype}")


@pytest.mark.parametrize("length", [0, 1, 4096, 60000])
@case("WIRE-LOCK-025", covers=[Tlock], severity="linux")
def test_client_ids_of_any_length(wire: Wire, length: int) -> None:
    """A client id may be empty or long; what cannot be kept is refused, and two that differ in their last byte are two
    clients.  Source: chaos/diod protocol.md, client_id[s]; Linux sends utsname's nodename."""
    one, first, two, second = _two(wire)
    base = b"c" * max(length - 1, 0)
    errnos = {OK} | allowed.NAME_TOO_LONG | allowed.FULL
    reply = one.lock(first, client_id=base + b"1" * bool(length), expect=errnos)
    if isinstance(reply, Rlock) and reply.status == LOCK_SUCCESS:
        other = two.lock(second, client_id=base + b"2", expect=errnos)
        assert not isinstance(other, Rlock) or other.status == LOCK_BLOCKED, f"status {other.status}"
    one.getattr(one.root)


@case("WIRE-LOCK-026", covers=[Tlock])
def test_many_locks_cost_little(wire: Wire) -> None:
    """A thousand locks on separate bytes are granted or refused, and do not make the server grow by megabytes.  Source:
    fcntl(2) ENOLCK; what a guest can drive has a limit."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    before = wire.memory()
    pending = [client.send_lock(fid, LOCK_TYPE_WRLCK, number * 2, 1) for number in range(1000)]
    for one in pending:
        assert one.result(allowed.FULL | {OK, EINVAL}) is not None
    after = wire.memory()
    if before is not None and after is not None:
        assert after - before < 16 << 20, f"{(after - before) >> 20} MiB for a thousand locks"
    client.clunk(fid)
    assert os.path.getsize(wire.host.path(b"fred")) == 100


@case("WIRE-LOCK-027", covers=[Tlock, Tgetlock], severity="linux")
def test_client_id_is_any_text(wire: Wire) -> None:
    """A client id is the guest's own name, which need not be one that this host can look up.  Source: Linux
    v9fs_file_do_lock sends utsname()->nodename; nfs-ganesha answers EINVAL to what gethostbyname(3) does not know."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    shared.same(client.lock(fid, client_id=b"no such host").status, LOCK_SUCCESS, "the status")
    shared.same(client.getlock(fid, client_id=b"no such host").locktype, LOCK_TYPE_UNLCK, "one's own lock in the way")


@case("WIRE-LOCK-028", covers=[Tlock], severity="linux")
def test_processes_of_two_clients_are_two(wire: Wire) -> None:
    """Two clients whose processes have the same number are two owners.  Source: chaos/diod protocol.md, lock: "proc_id
    and client_id ... uniquely identify the lock owner"; two guests number their processes alike."""
    one, first, two, second = _two(wire)
    shared.same(one.lock(first, client_id=ONE, proc_id=7).status, LOCK_SUCCESS, "the first")
    shared.same(two.lock(second, client_id=TWO, proc_id=7).status, LOCK_BLOCKED, "the second")


@case("WIRE-LOCK-029", covers=[Tlock], severity="linux")
def test_unlock_by_another_process_through_the_fid(wire: Wire) -> None:
    """A lock on the whole file is released by an unlock of the whole file, with LOCK_FLAGS_BLOCK, through the fid that
    took it, whichever process asks.  Source: flock(2) by a child that inherited the descriptor; Linux sends flock(2) as
    Tlock under the number of the process that calls (v9fs_file_flock_dotl), LOCK_UN with LOCK_FLAGS_BLOCK; LTP
    flock03."""
    one, first, two, second = _two(wire)
    shared.same(one.lock(first, client_id=ONE, proc_id=11).status, LOCK_SUCCESS, "the parent")
    shared.same(two.lock(second, client_id=TWO, proc_id=22).status, LOCK_BLOCKED, "another client")
    unlocked = one.lock(first, LOCK_TYPE_UNLCK, flags=LOCK_FLAGS_BLOCK, client_id=ONE, proc_id=12).status
    shared.same(unlocked, LOCK_SUCCESS, "the child's unlock")
    shared.same(two.lock(second, client_id=TWO, proc_id=22).status, LOCK_SUCCESS, "another client afterwards")


@case("WIRE-LOCK-030", covers=[Tlock], severity="linux")
def test_what_a_closing_process_sends_releases_no_other_lock(wire: Wire) -> None:
    """An unlock of the whole file without LOCK_FLAGS_BLOCK leaves what another process locked through the same fid.
    Source: POSIX fcntl, record locks belong to the process; Linux sends this for each process that closes a descriptor
    of the file while somebody holds a lock (locks_remove_posix), such as every command that a process with a lock
    starts."""
    one, first, two, second = _two(wire)
    shared.same(one.lock(first, client_id=ONE, proc_id=11).status, LOCK_SUCCESS, "the holder")
    one.lock(first, LOCK_TYPE_UNLCK, client_id=ONE, proc_id=12)
    shared.same(two.lock(second, client_id=TWO, proc_id=22).status, LOCK_BLOCKED, "another client")
    one.lock(first, LOCK_TYPE_UNLCK, client_id=ONE, proc_id=11)
    shared.same(two.lock(second, client_id=TWO, proc_id=22).status, LOCK_SUCCESS, "once the holder gave it up")
