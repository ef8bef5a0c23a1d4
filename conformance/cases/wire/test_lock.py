"""Family `lock`: Tlock and Tgetlock.

What is at stake: SQLite, mailboxes and package managers of several guests on one share. A lock that two hold at once
lets data be corrupted; one that outlives its owner blocks everybody.
"""

from __future__ import annotations

import fcntl
from typing import Any

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import equal, holds, one_of, require_equal
from conformance.errors import Undrivable
from conformance.raw.expectation import OK
from conformance.raw.wire import Session, Wire
from conformance.transports.base import Capability
from protocol.constants import (
    EBADF,
    EINVAL,
    ENOLCK,
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
FIRST: dict[str, Any] = {"client_id": ONE, "proc_id": 11}
SECOND: dict[str, Any] = {"client_id": TWO, "proc_id": 22}
THIRD: dict[str, Any] = {"client_id": THREE, "proc_id": 33}
"""Owners of locks: a client and a process of it."""


class Status(int):
    """The status of Rlock, which findings show by name and number."""

    def __repr__(self) -> str:
        names = {LOCK_SUCCESS: "SUCCESS", LOCK_BLOCKED: "BLOCKED", LOCK_ERROR: "ERROR", LOCK_GRACE: "GRACE"}
        return f"{names.get(self, 'status')} ({int(self)})"


class Kind(int):
    """The type of a lock, which findings show by name and number."""

    def __repr__(self) -> str:
        names = {LOCK_TYPE_RDLCK: "RDLCK", LOCK_TYPE_WRLCK: "WRLCK", LOCK_TYPE_UNLCK: "UNLCK"}
        return f"{names.get(self, 'type')} ({int(self)})"


def _status(what: str, seen: int | None, *expected: int) -> bool:
    """The status in Rlock is one of those. `what` names the Tlock."""
    wanted = [Status(one) for one in expected]
    status = None if seen is None else Status(seen)
    if len(wanted) == 1:
        return equal(f"status of {what}", status, wanted[0], call="Tlock")
    return one_of(f"status of {what}", status, wanted, call="Tlock")


def _locks(what: str, expected: int, client: Session, fid: int, *range_: int, **how: Any) -> bool:
    """Send Tlock (type, start, length; flags and owner) and judge its status."""
    return _status(what, client.lock(fid, *range_, **how).status, expected)


def _take(client: Session, fid: int, *range_: int, **how: Any) -> None:
    """Take or release a lock that the case needs; the case ends if that is not granted."""
    seen = Status(client.lock(fid, *range_, **how).status)
    require_equal("status of the Tlock by which the case prepares", seen, Status(LOCK_SUCCESS), call="Tlock")


def _excludes(client: Session, fid: int, **how: Any) -> None:
    """End the case as undrivable if a lock that another client holds excludes nobody: there is nothing to test."""
    if client.lock(fid, **how).status != LOCK_BLOCKED:
        raise Undrivable("the server's locks exclude nobody (WIRE-LOCK-003), so that giving them up is not to be seen")


def _type(what: str, seen: int, expected: int) -> bool:
    """The type in Rgetlock is that one. `what` names the Tgetlock."""
    return equal(f"type in the answer to {what}", Kind(seen), Kind(expected), call="Tgetlock")


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
    """A lock on a file that nobody else has locked is granted, and can be released; Rlock is one byte of status.
    Source: chaos/diod protocol.md, lock; kvmtool's status has four bytes, which the client rejects as malformed."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    _locks("Tlock of what nobody has locked", LOCK_SUCCESS, client, fid, locktype, 0, 10)
    _locks("Tlock that gives the lock up", LOCK_SUCCESS, client, fid, LOCK_TYPE_UNLCK, 0, 10)


@case("WIRE-LOCK-002", covers=[Tlock], severity="linux")
def test_unlock_of_what_is_not_locked(wire: Wire) -> None:
    """Unlocking what is not locked succeeds.  Source: fcntl(2) F_UNLCK; diod answered an error (diod#34)."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    _locks("Tlock that gives up what is not held", LOCK_SUCCESS, client, _open(client), LOCK_TYPE_UNLCK)


@case("WIRE-LOCK-003", covers=[Tlock], severity="linux")
def test_writers_exclude_each_other(wire: Wire) -> None:
    """A write lock that another client holds is not granted again: BLOCKED.  Source: chaos/diod protocol.md, lock, "has
    semantics similar to Linux fcntl(F_SETLK)"; lib9p, kvmtool and QEMU answer SUCCESS to everybody."""
    one, first, two, second = _two(wire)
    _locks("the first Tlock", LOCK_SUCCESS, one, first, **FIRST)
    _locks("the second Tlock", LOCK_BLOCKED, two, second, **SECOND)
    _take(one, first, LOCK_TYPE_UNLCK, **FIRST)
    _locks("the second Tlock, once the first lock was given up", LOCK_SUCCESS, two, second, **SECOND)


@case("WIRE-LOCK-004", covers=[Tlock], severity="linux")
def test_readers_share(wire: Wire) -> None:
    """Two clients hold a read lock at once; a writer is kept out.  Source: fcntl(2) F_RDLCK."""
    one, first, two, second = _two(wire)
    _locks("the first reader's Tlock", LOCK_SUCCESS, one, first, LOCK_TYPE_RDLCK, **FIRST)
    _locks("the second reader's Tlock", LOCK_SUCCESS, two, second, LOCK_TYPE_RDLCK, **SECOND)
    third = wire.session()
    _locks("the writer's Tlock", LOCK_BLOCKED, third, _open(third), **THIRD)


@case("WIRE-LOCK-005", covers=[Tlock], severity="linux")
def test_ranges_are_apart(wire: Wire) -> None:
    """Locks on different bytes of a file do not conflict, locks on one common byte do.  Source: fcntl(2), l_start and
    l_len; SQLite depends on it; diod locks whole files (flock)."""
    one, first, two, second = _two(wire)
    _locks("the first Tlock, of bytes 0 to 9", LOCK_SUCCESS, one, first, LOCK_TYPE_WRLCK, 0, 10, **FIRST)
    _locks("Tlock of byte 9 by another client", LOCK_BLOCKED, two, second, LOCK_TYPE_WRLCK, 9, 1, **SECOND)
    _locks("Tlock of bytes 10 to 19 by another client", LOCK_SUCCESS, two, second, LOCK_TYPE_WRLCK, 10, 10, **SECOND)


@case("WIRE-LOCK-006", covers=[Tlock], severity="linux")
def test_length_zero_is_to_the_end(wire: Wire) -> None:
    """A length of 0 locks to the end of the file, even when the file grows.  Source: fcntl(2), "specifying 0 for
    l_len"."""
    one, first, two, second = _two(wire)
    _locks("the first Tlock, from byte 500 on", LOCK_SUCCESS, one, first, LOCK_TYPE_WRLCK, 500, 0, **FIRST)
    what = "Tlock of a byte far behind by another client"
    _locks(what, LOCK_BLOCKED, two, second, LOCK_TYPE_WRLCK, 1 << 40, 1, **SECOND)
    _locks("Tlock of the bytes before by another client", LOCK_SUCCESS, two, second, LOCK_TYPE_WRLCK, 0, 500, **SECOND)


@case("WIRE-LOCK-007", covers=[Tlock], severity="linux")
def test_own_lock_is_no_obstacle(wire: Wire) -> None:
    """A process that holds a lock can take it again and convert it to the other kind, even through another fid.
    Source: fcntl(2): a lock is replaced by a new one of the same process; diod#102 answered EAGAIN."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid, other = _open(client), _open(client)
    for locktype in (LOCK_TYPE_WRLCK, LOCK_TYPE_RDLCK, LOCK_TYPE_WRLCK):
        _locks(f"Tlock {Kind(locktype)} by the same process", LOCK_SUCCESS, client, fid, locktype, 0, 10)
    _locks("Tlock by the same process through another fid", LOCK_SUCCESS, client, other, LOCK_TYPE_WRLCK, 0, 10)


@case("WIRE-LOCK-008", covers=[Tlock], severity="linux")
def test_part_is_given_up(wire: Wire) -> None:
    """Unlocking the middle of a lock leaves its two ends.  Source: fcntl(2): locks are split."""
    one, first, two, second = _two(wire)
    _take(one, first, LOCK_TYPE_WRLCK, 0, 30, **FIRST)
    _take(one, first, LOCK_TYPE_UNLCK, 10, 10, **FIRST)
    for start, status in ((0, LOCK_BLOCKED), (10, LOCK_SUCCESS), (20, LOCK_BLOCKED)):
        seen = two.lock(second, LOCK_TYPE_WRLCK, start, 10, **SECOND).status
        _status(f"Tlock of bytes {start} to {start + 9}, once 10 to 19 were given up", seen, status)


@case("WIRE-LOCK-009", covers=[Tlock], severity="linux")
def test_clunk_gives_locks_up(wire: Wire) -> None:
    """When the fid is clunked, its locks are released.  Source: fcntl(2): closing the file ends the locks; clunk(5)."""
    one, first, two, second = _two(wire)
    _take(one, first, **FIRST)
    _excludes(two, second, **SECOND)
    one.clunk(first)
    _locks("Tlock once the fid with the lock was clunked", LOCK_SUCCESS, two, second, **SECOND)


@case("WIRE-LOCK-010", covers=[Tlock], severity="linux")
def test_lost_client_gives_locks_up(wire: Wire) -> None:
    """When a client vanishes, its locks are released within seconds.  Source: a connection's fids end with it
    (intro(5)); otherwise one crashed guest blocks all others."""
    wire.need(Capability.HANGUP, "the link must be able to die")
    one, first, two, second = _two(wire)
    _take(one, first, **FIRST)
    _excludes(two, second, **SECOND)
    wire.hang_up(one)

    def state() -> int:
        return two.lock(second, **SECOND).status

    _status("Tlock once the client with the lock has vanished", wire.settled(state, 1), LOCK_SUCCESS)


@case("WIRE-LOCK-011", covers=[Tlock], severity="varies")
def test_lock_against_a_host_process(wire: Wire) -> None:
    """A lock that a process of the host holds with fcntl(2) is respected, and vice versa.  Source: fcntl(2); diod takes
    flock(2) locks, which do not conflict."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    with open(wire.host.path(b"fred"), "r+b") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _locks("Tlock while a process of the host holds the lock", LOCK_BLOCKED, client, fid)
        fcntl.lockf(handle, fcntl.LOCK_UN)
        _locks("Tlock once the host has given the lock up", LOCK_SUCCESS, client, fid)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = True
        except OSError:
            taken = False
        holds("a process of the host is kept out by the lock that Tlock has taken", not taken, call="Tlock")


@case("WIRE-LOCK-012", covers=[Tlock], severity="linux")
def test_blocking_lock_stops_nobody(wire: Wire) -> None:
    """While a request waits for a lock with the flag BLOCK, the server serves other requests of this and other
    connections. Once the lock is free, the request is answered, granted or BLOCKED.  Source: chaos/diod protocol.md,
    lock, "If the response is P9_LOCK_BLOCKED, it retries the lock request in an interruptible loop", which is
    v9fs_file_do_lock; a thread that waited in fcntl blocked lockd's server (kernel bugzilla 215383)."""
    one, first, two, second = _two(wire)
    _take(one, first, **FIRST)
    waiting = two.lock.send(second, flags=LOCK_FLAGS_BLOCK, **SECOND)
    wire.prompt(two.getattr.send(two.root))
    wire.prompt(one.lock.send(first, LOCK_TYPE_UNLCK, **FIRST))
    # A server that answers BLOCKED, at once or after a while, is asked again, as Linux does.
    status = waiting.result(timeout=8.0).status
    _status("the Tlock that waits for the lock", status, LOCK_SUCCESS, LOCK_BLOCKED)
    if status == LOCK_BLOCKED:
        _locks("the Tlock that asks again once the lock is free", LOCK_SUCCESS, two, second, **SECOND)


@case("WIRE-LOCK-013", covers=[Tlock])
def test_flush_of_a_waiting_lock(wire: Wire) -> None:
    """A waiting Tlock can be flushed; if it was not answered, the lock is not held.  Source: flush(5); v9fs flushes
    when the process that waits gets a signal."""
    one, first, two, second = _two(wire)
    _take(one, first, **FIRST)
    waiting = two.lock.send(second, flags=LOCK_FLAGS_BLOCK, **SECOND)
    wire.prompt(two.flush.send(waiting.tag))
    answered = waiting.reply
    if answered is None:
        two.forget(waiting)
    _take(one, first, LOCK_TYPE_UNLCK, **FIRST)
    two.silent(0.1)
    if not (isinstance(answered, Rlock) and answered.status == LOCK_SUCCESS):
        _locks("Tlock of the first client, once the other's was flushed", LOCK_SUCCESS, one, first, **FIRST)


@case("WIRE-LOCK-014", covers=[Tlock])
def test_type_without_a_meaning(wire: Wire) -> None:
    """An unknown lock type is refused or answered ERROR; it locks nothing.  Source: fcntl(2) EINVAL; chaos/diod
    protocol.md, lock, type."""
    one, first, two, second = _two(wire)
    for locktype in (3, 7, 255):
        reply = one.lock(first, locktype, **FIRST, expect={OK, EINVAL})
        if isinstance(reply, Rlock):
            _status(f"Tlock of the type {locktype}, which there is not", reply.status, LOCK_ERROR)
    _locks("Tlock of another client afterwards", LOCK_SUCCESS, two, second, **SECOND)


@pytest.mark.parametrize(
    ("start", "length"),
    [(BIG, 1), (0, BIG), (BIG - 1, 2), ((1 << 64) - 1, (1 << 64) - 1)],
    ids=["start", "length", "sum", "all"],
)
@case("WIRE-LOCK-015", covers=[Tlock, Tgetlock])
def test_ranges_beyond_a_file(wire: Wire, start: int, length: int) -> None:
    """A range that does not fit off_t is refused, answered ERROR, or locked up to the largest offset; the server
    survives.  Source: fcntl(2) EINVAL, EOVERFLOW; start[8] and length[8] are unsigned on the wire."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    reply = client.lock(fid, LOCK_TYPE_WRLCK, start, length, expect=allowed.BAD_RANGE | {OK})
    if isinstance(reply, Rlock):
        _status("Tlock of such a range, where nobody else has a lock", reply.status, LOCK_SUCCESS, LOCK_ERROR)
    client.getlock(fid, LOCK_TYPE_WRLCK, start, length, expect=allowed.BAD_RANGE | {OK})
    client.getattr(fid)


@pytest.mark.parametrize("flags", [2, 4, 0x80000000, 0xFFFFFFFE], ids=shared.label)
@case("WIRE-LOCK-016", covers=[Tlock])
def test_flags_without_a_meaning(wire: Wire, flags: int) -> None:
    """Flags beyond BLOCK are ignored or refused.  Source: chaos/diod protocol.md, lock, flags: "BLOCK and RECLAIM";
    Linux sends BLOCK or nothing; GRACE answers RECLAIM in lock managers."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    reply = client.lock(_open(client), flags=flags, expect={OK, EINVAL})
    if isinstance(reply, Rlock):
        _status("Tlock with such flags", reply.status, LOCK_SUCCESS, LOCK_ERROR, LOCK_GRACE)


@case("WIRE-LOCK-017", covers=[Tlock], severity="varies")
def test_lock_against_the_open_mode(wire: Wire) -> None:
    """A write lock needs a fid open for writing, a read lock one open for reading.  Source: fcntl(2) EBADF; Linux
    checks it before it asks, and flock(2) has no such rule."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    for flags, locktype in ((O_RDONLY, LOCK_TYPE_WRLCK), (O_WRONLY, LOCK_TYPE_RDLCK)):
        reply = client.lock(_open(client, flags=flags), locktype, expect={OK, EBADF})
        if isinstance(reply, Rlock):
            how = "reading" if flags == O_RDONLY else "writing"
            _status(f"Tlock {Kind(locktype)} of a fid that is open for {how} only", reply.status, LOCK_ERROR)


@case("WIRE-LOCK-018", covers=[Tlock])
def test_lock_of_an_unopened_fid(wire: Wire) -> None:
    """Locking a fid that was not opened is refused or answered ERROR.  Source: chaos/diod protocol.md, lock: fcntl(2)
    needs a descriptor; QEMU v9fs_lock stats the descriptor first."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    reply = client.lock(client.walk_to(b"fred"), expect=allowed.WRONG_STATE | {OK})
    if isinstance(reply, Rlock):
        _status("Tlock of a fid that was not opened", reply.status, LOCK_ERROR)
    client.getattr(client.root)


@case("WIRE-LOCK-031", covers=[Tgetlock])
def test_getlock_of_an_unopened_fid(wire: Wire) -> None:
    """No lock is reported for a fid that was not opened, whether the request is answered or refused.  Source:
    chaos/diod protocol.md, getlock: fcntl(2) needs a descriptor."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    reply = client.getlock(client.walk_to(b"fred"), LOCK_TYPE_WRLCK, expect=allowed.WRONG_STATE | {OK})
    if isinstance(reply, Rgetlock):
        _type("Tgetlock of a fid that was not opened", reply.locktype, LOCK_TYPE_UNLCK)
    client.getattr(client.root)


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-LOCK-019", covers=[Tlock])
def test_lock_of_dead_fid(wire: Wire, which: str) -> None:
    """Tlock of an unknown fid is refused.  Source: chaos/diod protocol.md, lock."""
    shared.dead_fid(wire, which, lambda client, fid: client.lock.send(fid))


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-LOCK-020", covers=[Tgetlock])
def test_getlock_of_dead_fid(wire: Wire, which: str) -> None:
    """Tgetlock of an unknown fid is refused.  Source: chaos/diod protocol.md, getlock."""
    shared.dead_fid(wire, which, lambda client, fid: client.getlock.send(fid))


@case("WIRE-LOCK-021", covers=[Tgetlock], severity="linux")
def test_getlock_of_a_free_file(wire: Wire) -> None:
    """Tgetlock as Linux sends it, with LOCK_TYPE_UNLCK, answers UNLCK if no lock conflicts.  Source: Linux
    v9fs_file_getlock sets that type whatever the program asked, and passes the answer to the program."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    _type("Tgetlock of what nobody has locked", client.getlock(_open(client)).locktype, LOCK_TYPE_UNLCK)


@case("WIRE-LOCK-022", covers=[Tgetlock])
def test_getlock_of_a_held_lock(wire: Wire) -> None:
    """If another client's lock conflicts, Tgetlock of a write lock does not answer UNLCK, and takes no lock.
    Source: chaos/diod protocol.md, getlock, "has semantics similar to Linux fcntl(F_GETLK)"."""
    one, first, two, second = _two(wire)
    _take(one, first, **FIRST)
    held = two.getlock(second, LOCK_TYPE_WRLCK, **SECOND).locktype
    _type("Tgetlock while another client holds a write lock", held, LOCK_TYPE_WRLCK)
    _take(one, first, LOCK_TYPE_UNLCK, **FIRST)
    free = two.getlock(second, LOCK_TYPE_WRLCK, **SECOND).locktype
    _type("Tgetlock once the lock was given up", free, LOCK_TYPE_UNLCK)
    _locks("the first client's Tlock after that question, which takes no lock", LOCK_SUCCESS, one, first, **FIRST)


@case("WIRE-LOCK-032", covers=[Tgetlock], severity="varies")
def test_getlock_of_a_held_lock_as_linux_asks(wire: Wire) -> None:
    """Tgetlock with LOCK_TYPE_UNLCK, as Linux sends it, reports another client's write lock, and UNLCK once that is
    released.
    Source: Linux v9fs_file_getlock, where F_GETLK says "unlocked" unless the server reports a lock; a server that takes
    the type literally has nothing to report."""
    one, first, two, second = _two(wire)
    _take(one, first, **FIRST)
    held = two.getlock(second, **SECOND).locktype
    _type("Tgetlock as Linux asks while another client holds a write lock", held, LOCK_TYPE_WRLCK)
    _take(one, first, LOCK_TYPE_UNLCK, **FIRST)
    free = two.getlock(second, **SECOND).locktype
    _type("Tgetlock as Linux asks once the lock was given up", free, LOCK_TYPE_UNLCK)


@pytest.mark.parametrize("locktype", [LOCK_TYPE_RDLCK, LOCK_TYPE_WRLCK], ids=["read", "write"])
@case("WIRE-LOCK-033", covers=[Tgetlock])
def test_getlock_of_a_lock_that_would_be_granted(wire: Wire, locktype: int) -> None:
    """Tgetlock of a lock that would be granted answers UNLCK.  Source: chaos/diod protocol.md, getlock, "has semantics
    similar to Linux fcntl(F_GETLK)"; fcntl(2) F_GETLK."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    seen = client.getlock(_open(client), locktype).locktype
    _type("Tgetlock of a lock that nobody is in the way of", seen, LOCK_TYPE_UNLCK)


@case("WIRE-LOCK-035", covers=[Tlock])
def test_bytes_beside_a_lock_can_be_locked(wire: Wire) -> None:
    """The bytes right before and right after another client's write lock can be locked; its first and last cannot.
    Source: fcntl(2), l_start and l_len; chaos/diod protocol.md, lock."""
    one, first, two, second = _two(wire)
    _take(one, first, LOCK_TYPE_WRLCK, 10, 20, **FIRST)
    _excludes(two, second, **SECOND)
    for start, length in ((0, 10), (30, 10), (30, 0)):
        what = f"Tlock of bytes {_bytes(start, length)} by another client"
        if _locks(what, LOCK_SUCCESS, two, second, LOCK_TYPE_WRLCK, start, length, **SECOND):
            _take(two, second, LOCK_TYPE_UNLCK, start, length, **SECOND)
    for start, length in ((0, 11), (29, 10)):
        what = f"Tlock of bytes {_bytes(start, length)}, one of them locked by another client"
        _locks(what, LOCK_BLOCKED, two, second, LOCK_TYPE_WRLCK, start, length, **SECOND)


@case("WIRE-LOCK-036", covers=[Tgetlock])
def test_getlock_of_the_bytes_beside_a_lock(wire: Wire) -> None:
    """Tgetlock reports the bytes right before and right after another client's write lock as free; its first and last
    as locked.  Source: fcntl(2), l_start and l_len; chaos/diod protocol.md, getlock."""
    one, first, two, second = _two(wire)
    _take(one, first, LOCK_TYPE_WRLCK, 10, 20, **FIRST)
    beside = ((0, 10), (30, 10), (30, 0))
    within = ((0, 11), (29, 10))
    for expected, ranges in ((LOCK_TYPE_UNLCK, beside), (LOCK_TYPE_WRLCK, within)):
        for start, length in ranges:
            seen = two.getlock(second, LOCK_TYPE_WRLCK, start, length, **SECOND).locktype
            _type(f"Tgetlock of bytes {_bytes(start, length)} while another client holds 10 to 29", seen, expected)


def _bytes(start: int, length: int) -> str:
    return f"{start} to {start + length - 1}" if length else f"{start} to the end"


@case("WIRE-LOCK-023", covers=[Tgetlock], severity="varies")
def test_getlock_names_the_holder(wire: Wire) -> None:
    """Tgetlock reports range, process and client of the conflicting lock.  Source: chaos/diod protocol.md, getlock;
    servers that keep locks in the host's kernel know the process only."""
    one, first, two, second = _two(wire)
    _take(one, first, LOCK_TYPE_WRLCK, 10, 20, proc_id=4711, client_id=ONE)
    reply = two.getlock(second, LOCK_TYPE_WRLCK, 0, 0, **SECOND)
    _type("Tgetlock while another client holds a write lock", reply.locktype, LOCK_TYPE_WRLCK)
    _names(reply, start=10, length=20, proc_id=4711, client_id=ONE)


def _names(reply: Rgetlock, **wanted: int | bytes) -> None:
    """These fields of Rgetlock are those of the lock in the way."""
    for name, value in wanted.items():
        seen = getattr(reply, name)
        shown = seen if isinstance(seen, int) else bytes(seen)
        equal(f"{name} in Rgetlock, of the lock in the way", shown, value, code=f"field:{name}", call="Tgetlock")


@case("WIRE-LOCK-037", covers=[Tgetlock], severity="varies")
@pytest.mark.parametrize("holders", ["one", "two"])
def test_getlock_where_locks_of_both_types_meet(wire: Wire, holders: str) -> None:
    """Where a read lock and a write lock meet, of one process or of two, Tgetlock reports the one in the way, with its
    own range and holder: the read lock is in the way of a write lock alone.
    Source: chaos/diod protocol.md, getlock; fcntl(2), F_GETLK, and "adjacent locks of the same type are merged"."""
    one, first, two, second = _two(wire)
    reader: dict[str, Any] = {"proc_id": 4711, "client_id": ONE}
    writer = reader if holders == "one" else {"proc_id": 4712, "client_id": ONE}
    _take(one, first, LOCK_TYPE_RDLCK, 0, 10, **reader)
    _take(one, first, LOCK_TYPE_WRLCK, 10, 10, **writer)
    for kind, start, length, found in (
        (LOCK_TYPE_WRLCK, 0, 10, LOCK_TYPE_RDLCK),
        (LOCK_TYPE_WRLCK, 10, 10, LOCK_TYPE_WRLCK),
        (LOCK_TYPE_RDLCK, 0, 20, LOCK_TYPE_WRLCK),
    ):
        reply = two.getlock(second, kind, start, length, **SECOND)
        _type(f"Tgetlock of bytes {_bytes(start, length)}", reply.locktype, found)
        if found == LOCK_TYPE_RDLCK:
            _names(reply, start=0, length=10, **reader)
        else:
            _names(reply, start=10, length=10, **writer)


@case("WIRE-LOCK-034", covers=[Tgetlock])
def test_getlock_of_a_read_lock_in_the_way(wire: Wire) -> None:
    """A read lock of another client conflicts with a write lock, but not with a read lock.  Source: chaos/diod
    protocol.md, getlock, "has semantics similar to Linux fcntl(F_GETLK)"; fcntl(2) F_RDLCK."""
    one, first, two, second = _two(wire)
    _take(one, first, LOCK_TYPE_RDLCK, **FIRST)
    seen = two.getlock(second, LOCK_TYPE_WRLCK, **SECOND).locktype
    _type("Tgetlock of a write lock while another client holds a read lock", seen, LOCK_TYPE_RDLCK)
    seen = two.getlock(second, LOCK_TYPE_RDLCK, **SECOND).locktype
    _type("Tgetlock of a read lock while another client holds a read lock", seen, LOCK_TYPE_UNLCK)


@case("WIRE-LOCK-024", covers=[Tgetlock])
def test_getlock_of_a_type_without_a_meaning(wire: Wire) -> None:
    """Tgetlock of a type that does not exist is refused, or answers UNLCK.  Source: fcntl(2) EINVAL."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    for locktype in (3, 255):
        reply = client.getlock(fid, locktype, expect={OK, EINVAL})
        if isinstance(reply, Rgetlock):
            _type(f"Tgetlock of the type {locktype}, which no lock has", reply.locktype, LOCK_TYPE_UNLCK)


@pytest.mark.parametrize("length", [0, 1, 4096, 60000])
@case("WIRE-LOCK-025", covers=[Tlock], severity="linux")
def test_client_ids_of_any_length(wire: Wire, length: int) -> None:
    """A client id may be empty or long. One that the server cannot store is refused; two that differ in their last byte
    are two clients.  Source: chaos/diod protocol.md, client_id[s]; Linux sends utsname's nodename."""
    one, first, two, second = _two(wire)
    base = b"c" * max(length - 1, 0)
    errnos = allowed.NAME_TOO_LONG | allowed.FULL | {OK, EINVAL}
    reply = one.lock(first, client_id=base + b"1" * bool(length), expect=errnos)
    if isinstance(reply, Rlock) and reply.status == LOCK_SUCCESS:
        other = two.lock(second, client_id=base + b"2", expect=errnos)
        if isinstance(other, Rlock):
            _status("Tlock of a client whose id differs in its last byte", other.status, LOCK_BLOCKED)
    one.getattr(one.root)


@case("WIRE-LOCK-026", covers=[Tlock])
def test_many_locks_cost_little(wire: Wire) -> None:
    """A thousand locks on separate bytes are granted, or refused as too many, and do not make the server grow by
    megabytes.  Source: fcntl(2) ENOLCK; what a guest can allocate needs a limit."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    before = wire.memory()
    pending = [client.lock.send(fid, LOCK_TYPE_WRLCK, number * 2, 1) for number in range(1000)]
    for one in pending:
        reply = one.result(allowed.FULL | {OK, ENOLCK})
        if isinstance(reply, Rlock) and not _status("Tlock of a byte that is free", reply.status, LOCK_SUCCESS):
            break
    shared.memory_within(wire, before, 16 << 20, "a thousand locks")
    client.clunk(fid)
    shared.size_is(wire, b"fred", 100)


@case("WIRE-LOCK-027", covers=[Tlock, Tgetlock], severity="linux")
def test_client_id_is_any_text(wire: Wire) -> None:
    """A client id is the guest's own name, which the host need not be able to resolve.  Source: Linux v9fs_file_do_lock
    sends utsname()->nodename; nfs-ganesha answers EINVAL to a name that gethostbyname(3) cannot resolve."""
    client = wire.client
    wire.host.file(b"fred", bytes(100))
    fid = _open(client)
    strange = b"no such host"
    _locks("Tlock of a client with an id that is not a host", LOCK_SUCCESS, client, fid, client_id=strange)
    seen = client.getlock(fid, LOCK_TYPE_WRLCK, client_id=strange).locktype
    _type("Tgetlock of the client that holds the lock", seen, LOCK_TYPE_UNLCK)


@case("WIRE-LOCK-028", covers=[Tlock], severity="linux")
def test_processes_of_two_clients_are_two(wire: Wire) -> None:
    """Processes of two clients with the same number are two owners.  Source: chaos/diod protocol.md, lock: "proc_id and
    client_id ... uniquely identify the lock owner"; two guests number their processes alike."""
    one, first, two, second = _two(wire)
    _locks("the first Tlock", LOCK_SUCCESS, one, first, client_id=ONE, proc_id=7)
    what = "Tlock of a process with the same number in another client"
    _locks(what, LOCK_BLOCKED, two, second, client_id=TWO, proc_id=7)


@case("WIRE-LOCK-029", covers=[Tlock], severity="linux")
def test_unlock_by_another_process_through_the_fid(wire: Wire) -> None:
    """An unlock of the whole file with LOCK_FLAGS_BLOCK, through the fid that took the lock, releases it, whichever
    process asks.  Source: flock(2) by a child that inherited the descriptor; Linux sends flock(2) as Tlock with the
    number of the calling process (v9fs_file_flock_dotl), LOCK_UN with LOCK_FLAGS_BLOCK; LTP flock03."""
    one, first, two, second = _two(wire)
    _take(one, first, **FIRST)
    _excludes(two, second, **SECOND)
    child = {"flags": LOCK_FLAGS_BLOCK, "client_id": ONE, "proc_id": 12}
    _locks("the Tlock by which the child unlocks", LOCK_SUCCESS, one, first, LOCK_TYPE_UNLCK, **child)
    _locks("Tlock of another client once the child has unlocked", LOCK_SUCCESS, two, second, **SECOND)


@case("WIRE-LOCK-030", covers=[Tlock], severity="linux")
def test_what_a_closing_process_sends_releases_no_other_lock(wire: Wire) -> None:
    """An unlock of the whole file without LOCK_FLAGS_BLOCK keeps the locks of other processes through the same fid.
    Source: POSIX fcntl, record locks belong to the process; Linux sends this for each process that closes a descriptor
    of the file while somebody holds a lock (locks_remove_posix), such as every command started by a process that holds
    a lock."""
    one, first, two, second = _two(wire)
    _take(one, first, **FIRST)
    one.lock(first, LOCK_TYPE_UNLCK, client_id=ONE, proc_id=12)
    _locks("Tlock of another client once a process without a lock has closed", LOCK_BLOCKED, two, second, **SECOND)
    _take(one, first, LOCK_TYPE_UNLCK, **FIRST)
    _locks("Tlock of another client once the holder has unlocked", LOCK_SUCCESS, two, second, **SECOND)
