"""flock(2), fcntl(2) record locks and open file description locks: conflicts, waiting, release, guest against host."""

from __future__ import annotations

import fcntl
import os
from errno import EAGAIN, EBADF, EDEADLK, EINVAL

import pytest

from conformance.case import case
from conformance.checks import equal, require
from conformance.vfs.pending import Pending
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Tgetlock, Tlock

SH, EX, NB, UN = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_NB, fcntl.LOCK_UN


def open_in(vantage: Vantage, flags: int = os.O_RDWR) -> int:
    """The lock file, opened by that process."""
    fd: int = vantage.open("fred", flags)
    return fd


PATIENCE = 45.0
"""Seconds that a call has which waits for a lock: Linux's 9P client repeats Tlock every 30 seconds while the server
says that the lock is held (P9_LOCK_TIMEOUT)."""


def two(share: Share) -> tuple[Vantage, int, Vantage, int]:
    """Two processes of the guest with the same file open."""
    share.inside.create("fred", b"0123456789")
    share.inside.timeout = PATIENCE
    other = share.inside.spawn("other")
    return share.inside, open_in(share.inside), other, open_in(other)


def still_waits(pending: Pending[None]) -> None:
    """The call has not returned after a moment; one that fails ends the case with its errno."""
    returned = pending.finished(0.3)
    if returned:
        pending.result()
    require(
        "a call that waits for a lock does not return while another process holds it", not returned, code="returned"
    )


def is_granted(pending: Pending[None]) -> None:
    """The call returns, at the latest with the client's next attempt."""
    require("a lock that nothing conflicts with any more is granted", pending.finished(PATIENCE), code="hung")
    pending.result()


@case("LOCK-001", covers=[Tlock], cached_too=True)
def test_record_locks_conflict(share: Share) -> None:
    """A write lock excludes every other process's locks on the same bytes, a read lock only write locks: EAGAIN.
    Source: POSIX fcntl, advisory record locking; fcntl(2) EAGAIN."""
    one, a, two_, b = two(share)
    one.setlk(a, "w", 0, 10)
    two_.refuses(EAGAIN).setlk(b, "w", 0, 10)
    two_.refuses(EAGAIN).setlk(b, "r", 0, 10)
    one.setlk(a, "r", 0, 10)
    two_.setlk(b, "r", 0, 10)
    two_.refuses(EAGAIN).setlk(b, "w", 0, 10)
    one.refuses(EAGAIN).setlk(a, "w", 0, 10)
    one.setlk(a, "u", 0, 10)
    two_.setlk(b, "w", 0, 10)


@case("LOCK-002", covers=[Tlock])
def test_record_locks_of_other_bytes_do_not_conflict(share: Share) -> None:
    """Locks on bytes that do not overlap are granted; one byte of overlap is a conflict.  Source: POSIX fcntl."""
    one, a, two_, b = two(share)
    one.setlk(a, "w", 10, 10)
    two_.setlk(b, "w", 0, 10)
    two_.setlk(b, "w", 20, 5)
    two_.refuses(EAGAIN).setlk(b, "w", 9, 2)
    two_.refuses(EAGAIN).setlk(b, "w", 19, 1)
    two_.refuses(EAGAIN).setlk(b, "w", 0, 0)
    two_.setlk(b, "w", 2**40, 100)
    one.refuses(EAGAIN).setlk(a, "r", 2**40 + 99, 1)


@case("LOCK-003", covers=[Tlock])
def test_a_length_of_zero_locks_to_the_end(share: Share) -> None:
    """Length 0 locks from the start to the end of the file, however large it becomes.
    Source: POSIX fcntl, l_len."""
    one, a, two_, b = two(share)
    one.setlk(a, "w", 5, 0)
    two_.setlk(b, "w", 0, 5)
    for start in (5, 1000, 2**32, 2**62):
        two_.refuses(EAGAIN).setlk(b, "r", start, 1)


@case("LOCK-004", covers=[Tlock])
def test_upgrade_downgrade_and_splitting(share: Share) -> None:
    """A process changes its own lock's type and unlocks its middle; the rest stays locked.
    Source: POSIX fcntl."""
    one, a, two_, b = two(share)
    one.setlk(a, "r", 0, 30)
    one.setlk(a, "w", 10, 10)
    two_.setlk(b, "r", 0, 10)
    two_.refuses(EAGAIN).setlk(b, "r", 10, 1)
    one.setlk(a, "u", 14, 2)
    two_.setlk(b, "w", 14, 2)
    two_.refuses(EAGAIN).setlk(b, "r", 13, 1)
    two_.refuses(EAGAIN).setlk(b, "r", 16, 1)
    one.setlk(a, "r", 10, 4)
    two_.setlk(b, "r", 10, 4)


@case("LOCK-005", covers=[Tlock])
def test_waiting_for_a_record_lock(share: Share) -> None:
    """F_SETLKW waits while another process holds the lock, and is granted when that process unlocks.
    Source: POSIX fcntl."""
    one, a, two_, b = two(share)
    one.setlk(a, "w")
    pending = two_.start.setlk(b, "w", wait=True)
    still_waits(pending)
    one.setlk(a, "u")
    is_granted(pending)
    one.refuses(EAGAIN).setlk(a, "r")


@case("LOCK-006", covers=[Tlock])
def test_closing_any_descriptor_releases_record_locks(share: Share) -> None:
    """Closing any of the process's descriptors of the file releases its record locks.
    Source: POSIX fcntl, close."""
    one, a, two_, b = two(share)
    one.setlk(a, "w")
    two_.refuses(EAGAIN).setlk(b, "w")
    second = open_in(one)
    one.close(second)
    two_.setlk(b, "w")
    one.refuses(EAGAIN).setlk(a, "w")


@case("LOCK-007", covers=[Tlock])
@pytest.mark.parametrize("kind", ["record", "flock", "ofd"])
def test_a_dead_process_holds_no_locks(share: Share, kind: str) -> None:
    """The locks of a process that is killed are free for another at once.  Source: POSIX fcntl; flock(2)."""
    one, a, two_, b = two(share)
    if kind == "flock":
        two_.flock(b, EX)
        one.refuses(EAGAIN).flock(a, EX | NB)
        two_.kill()
        is_granted(one.start.flock(a, EX))
    else:
        two_.setlk(b, "w", ofd=kind == "ofd")
        one.refuses(EAGAIN).setlk(a, "w", ofd=kind == "ofd")
        two_.kill()
        is_granted(one.start.setlk(a, "w", wait=True, ofd=kind == "ofd"))


@case("LOCK-008", covers=[Tgetlock])
def test_getlk_names_the_lock_in_the_way(share: Share) -> None:
    """F_GETLK reports type, bytes and process of a lock that conflicts, and "unlocked" where none does.
    Source: POSIX fcntl, F_GETLK; fcntl(2)."""
    one, a, two_, b = two(share)
    one.setlk(a, "w", 10, 5)
    seen = two_.getlk(b, "r", 0, 100)
    equal("lock that F_GETLK reports in the way", seen, {"type": "w", "start": 10, "length": 5, "pid": one.getpid()})
    equal("type of lock reported for other bytes", two_.getlk(b, "w", 0, 10)["type"], "u")
    equal("type of lock reported to the process that holds it", one.getlk(a, "w", 10, 5)["type"], "u")
    one.setlk(a, "r", 10, 5)
    equal("type of lock in the way of a read lock beside another", two_.getlk(b, "r", 10, 5)["type"], "u")
    equal("type of lock in the way of a write lock", two_.getlk(b, "w", 10, 5)["type"], "r")


@case("LOCK-009")
def test_record_locks_need_the_access_mode(share: Share) -> None:
    """A write lock needs a descriptor open for writing, a read lock one open for reading; otherwise, and for a closed
    descriptor, EBADF.
    Source: fcntl(2) EBADF; POSIX."""
    share.inside.create("fred")
    share.inside.refuses(EBADF).setlk(open_in(share.inside, os.O_RDONLY), "w")
    share.inside.refuses(EBADF).setlk(open_in(share.inside, os.O_WRONLY), "r")
    share.inside.refuses(EBADF).setlk(999, "r")
    share.inside.refuses(EBADF).flock(999, SH)


@case("LOCK-010")
def test_bad_ranges_and_operations(share: Share) -> None:
    """A lock that would begin before byte 0, and an flock(2) operation that does not exist, fail with EINVAL.
    Source: fcntl(2) EINVAL; flock(2) EINVAL."""
    share.inside.create("fred")
    fd = open_in(share.inside)
    share.inside.refuses(EINVAL).setlk(fd, "w", -1, 1)
    share.inside.refuses(EINVAL).setlk(fd, "w", 5, -10)
    share.inside.refuses(EINVAL).flock(fd, 0)
    share.inside.refuses(EINVAL).flock(fd, SH | EX | UN)


@case("LOCK-011", severity="linux")
def test_deadlock_is_detected(share: Share) -> None:
    """When two processes wait for each other's record locks, one gets EDEADLK and the other eventually gets its lock.
    Source: fcntl(2) EDEADLK; fs/locks.c posix_locks_deadlock."""
    one, a, two_, b = two(share)
    one.setlk(a, "w", 0, 1)
    two_.setlk(b, "w", 1, 1)
    pending = two_.start.setlk(b, "w", 0, 1, wait=True)
    still_waits(pending)
    one.refuses(EDEADLK).setlk(a, "w", 1, 1, wait=True)
    one.setlk(a, "u", 0, 1)
    is_granted(pending)


@case("LOCK-012", covers=[Tlock], cached_too=True)
def test_flock_conflicts(share: Share) -> None:
    """Shared flock(2) locks coexist, an exclusive one excludes all others: EWOULDBLOCK with LOCK_NB.
    Source: flock(2)."""
    one, a, two_, b = two(share)
    one.flock(a, SH)
    two_.flock(b, SH | NB)
    two_.refuses(EAGAIN).flock(b, EX | NB)
    one.flock(a, UN)
    two_.flock(b, EX | NB)
    one.refuses(EAGAIN).flock(a, SH | NB)
    one.refuses(EAGAIN).flock(a, EX | NB)
    two_.flock(b, UN)
    one.flock(a, EX | NB)


@case("LOCK-013", covers=[Tlock])
def test_waiting_for_a_flock(share: Share) -> None:
    """flock(2) waits for a conflicting lock and is granted when that is released.  Source: flock(2)."""
    one, a, two_, b = two(share)
    one.flock(a, EX)
    pending = two_.start.flock(b, EX)
    still_waits(pending)
    one.flock(a, UN)
    is_granted(pending)
    one.refuses(EAGAIN).flock(a, SH | NB)


@case("LOCK-014", covers=[Tlock], cached_too=True)
def test_flock_belongs_to_the_open_file(share: Share) -> None:
    """Two opens by one process conflict; a duplicate shares the lock, which the last close releases.
    Source: flock(2): "Locks created by flock() are associated with an open file description"."""
    one, a, two_, b = two(share)
    again = open_in(one)
    one.flock(a, EX)
    one.refuses(EAGAIN).flock(again, EX | NB)
    duplicate = one.dup(a)
    one.flock(duplicate, EX | NB)
    one.close(again)
    two_.refuses(EAGAIN).flock(b, EX | NB)
    one.close(a)
    two_.refuses(EAGAIN).flock(b, EX | NB)
    one.close(duplicate)
    two_.flock(b, EX | NB)


@case("LOCK-015", covers=[Tlock], severity="linux")
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY], ids=["rdonly", "wronly"])
def test_flock_needs_no_access_mode(share: Share, flags: int) -> None:
    """flock(2) gives shared and exclusive locks on files opened in any mode.
    Source: flock(2): "a shared or exclusive lock can be placed on a file regardless of the mode in which it
    was opened" (not so on NFS)."""
    share.inside.create("fred")
    fd = open_in(share.inside, flags)
    share.inside.flock(fd, SH | NB)
    share.inside.flock(fd, EX | NB)
    other = share.inside.spawn("other")
    other.refuses(EAGAIN).flock(open_in(other, flags), SH | NB)


@case("LOCK-016", covers=[Tlock])
def test_flock_conversion(share: Share) -> None:
    """A shared lock becomes exclusive if it is the only one, else the call fails with EWOULDBLOCK; an exclusive lock
    becomes shared at once.
    Source: flock(2), converting a lock."""
    one, a, two_, b = two(share)
    one.flock(a, SH)
    one.flock(a, EX | NB)
    two_.refuses(EAGAIN).flock(b, SH | NB)
    one.flock(a, SH | NB)
    two_.flock(b, SH | NB)
    one.refuses(EAGAIN).flock(a, EX | NB)


@case("LOCK-017")
def test_flock_of_a_directory(share: Share) -> None:
    """flock(2) works on a directory between the guest's processes.
    Source: flock(2) takes any open file; Linux's client keeps it to itself (v9fs_dir_operations_dotl has no flock)."""
    share.inside.mkdir("d")
    other = share.inside.spawn("other")
    fds = [v.open("d", os.O_RDONLY | os.O_DIRECTORY) for v in (share.inside, other)]
    share.inside.flock(fds[0], EX | NB)
    other.refuses(EAGAIN).flock(fds[1], EX | NB)


@case("LOCK-018", severity="linux", covers=[Tlock])
def test_flock_and_record_locks_are_apart(share: Share) -> None:
    """flock(2) and fcntl(2) locks do not see each other on a local file system.
    Source: flock(2), NOTES: "flock() and fcntl(2) locks have different semantics"."""
    one, a, two_, b = two(share)
    one.flock(a, EX)
    two_.setlk(b, "w")
    one.refuses(EAGAIN).setlk(a, "w")
    two_.refuses(EAGAIN).flock(b, EX | NB)


@case("LOCK-019", covers=[Tlock], severity="linux", cached_too=True)
def test_open_file_description_locks(share: Share) -> None:
    """OFD locks belong to the open file: two opens of one process conflict, closing another descriptor
    releases nothing, the last close of its own does.
    Source: fcntl(2), open file description locks."""
    share.inside.create("fred")
    a, b, c = (open_in(share.inside) for _ in range(3))
    share.inside.setlk(a, "w", 0, 10, ofd=True)
    share.inside.refuses(EAGAIN).setlk(b, "w", 5, 1, ofd=True)
    share.inside.refuses(EAGAIN).setlk(b, "r", 5, 1)
    share.inside.setlk(b, "w", 10, 10, ofd=True)
    share.inside.close(c)
    share.inside.refuses(EAGAIN).setlk(b, "w", 0, 1, ofd=True)
    equal("pid that F_GETLK reports of an OFD lock", share.inside.getlk(b, "w", 0, 10, ofd=True)["pid"], -1)
    share.inside.close(a)
    share.inside.setlk(b, "w", 0, 10, ofd=True)


@case("LOCK-020", severity="linux", covers=[Tlock])
def test_waiting_for_an_ofd_lock(share: Share) -> None:
    """F_OFD_SETLKW waits for another process's lock and is granted when that is released.
    Source: fcntl(2)."""
    one, a, two_, b = two(share)
    one.setlk(a, "w", 0, 1, ofd=True)
    pending = two_.start.setlk(b, "w", 0, 1, wait=True, ofd=True)
    still_waits(pending)
    one.close(a)
    is_granted(pending)


@case("LOCK-021", covers=[Tlock])
def test_relocking_in_turn(share: Share) -> None:
    """One process locks, unlocks and locks again many times; then another does.
    Source: POSIX fcntl; known defects: diod issues 34 and 102 (F_UNLCK fails, relocking gives EAGAIN)."""
    one, a, two_, b = two(share)
    for (vantage, fd), (other, theirs) in (((one, a), (two_, b)), ((two_, b), (one, a)), ((one, a), (two_, b))):
        for turn in range(5):
            vantage.setlk(fd, "w", 0, 5)
            other.refuses(EAGAIN).setlk(theirs, "r", 4, 1)
            vantage.setlk(fd, "r", 0, 5)
            vantage.setlk(fd, "u", 0, 5)
            equal(f"type of lock reported after unlock {turn}", other.getlk(theirs, "w", 0, 5)["type"], "u")
            vantage.flock(fd, EX | NB)
            vantage.flock(fd, UN)


@case("LOCK-022", needs=["guest-root"], covers=[Tlock])
def test_locks_between_users(share: Share) -> None:
    """Locks of processes of different users conflict like any others.
    Source: POSIX fcntl; access=client attaches once for each user, and the server must not take them for
    different files."""
    share.inside.create("fred")
    share.inside.chmod("fred", 0o666)
    bob, carol = share.inside.spawn("bob", uid=1001), share.inside.spawn("carol", uid=1002)
    a, b = open_in(bob), open_in(carol)
    bob.setlk(a, "w")
    carol.refuses(EAGAIN).setlk(b, "w")
    bob.setlk(a, "u")
    carol.flock(b, EX)
    bob.refuses(EAGAIN).flock(a, EX | NB)


@case("LOCK-023", covers=[Tlock], severity="varies")
@pytest.mark.parametrize("kind", ["record", "flock", "ofd"])
@pytest.mark.parametrize("holder", ["host", "guest"])
def test_guest_against_host(share: Share, holder: str, kind: str) -> None:
    """A lock that a process of the host holds on the exported file excludes the guest's, and vice versa.
    Source: 9P2000.L Tlock, "advisory record lock"; QEMU, lib9p and kvmtool answer success without locking,
    diod locks."""
    share.inside.create("fred")
    first, second = (share.outside, share.inside) if holder == "host" else (share.inside, share.outside)
    if share.on_control:
        second = share.inside.spawn("other")
    a, b = open_in(first), open_in(second)
    if kind == "flock":
        first.flock(a, EX | NB)
        second.refuses(EAGAIN).flock(b, EX | NB)
    else:
        first.setlk(a, "w", ofd=kind == "ofd")
        second.refuses(EAGAIN).setlk(b, "w", ofd=kind == "ofd")


@case("LOCK-024", covers=[Tgetlock], severity="varies")
def test_getlk_sees_the_hosts_lock(share: Share) -> None:
    """F_GETLK reports a lock that a process of the host holds.
    Source: 9P2000.L Tgetlock, "tests for the existence of a POSIX record lock"; QEMU's v9fs_getlock says
    unlocked always."""
    share.inside.create("fred")
    holder = share.inside.spawn("other") if share.on_control else share.outside
    holder.setlk(open_in(holder), "w", 10, 5)
    seen = share.inside.getlk(open_in(share.inside), "w", 0, 100)
    equal("type of the host's lock that F_GETLK reports", seen["type"], "w")
    equal("bytes of the host's lock that F_GETLK reports", (seen["start"], seen["length"]), (10, 5))


@case("LOCK-025", covers=[Tlock], severity="varies", caches=("mmap", "loose"))
def test_a_lock_makes_the_hosts_data_visible(share: Share) -> None:
    """With a caching guest, data of the same length that the host wrote are read once a lock has been taken.
    Source: fs/9p/vfs_file.c v9fs_file_lock_dotl writes back and invalidates cached pages when a lock is taken, save
    those that invalidate_mapping_pages finds in use."""
    share.outside.create("fred", b"old content")
    fd = open_in(share.inside)
    equal("content of 'fred' inside", share.inside.soon.pread(fd, 100, 0), b"old content", code="content")
    host = share.outside.open("fred", os.O_WRONLY)
    share.outside.pwrite(host, b"new", 0)
    share.inside.setlk(fd, "r")
    equal(
        "content of 'fred' inside after a lock was taken",
        share.inside.soon.pread(fd, 100, 0),
        b"new content",
        code="content",
    )


@case("LOCK-026", covers=[Tlock], cached_too=True)
def test_data_written_under_a_lock_is_on_the_host_after_it(share: Share) -> None:
    """What the guest wrote under a record lock and synced is on the host once it unlocks.
    Source: POSIX fsync; databases rely on this order."""
    share.inside.create("fred", b"balance 0")
    fd = open_in(share.inside)
    share.inside.setlk(fd, "w")
    share.inside.pwrite(fd, b"balance 7", 0)
    share.inside.fsync(fd)
    share.inside.setlk(fd, "u")
    equal("content of 'fred' outside after the unlock", share.outside.slurp("fred"), b"balance 7", code="content")


def inherited(one: Vantage, fd: int, other: Vantage) -> int:
    """The descriptor of `one`, in the process `other` as a child inherits it: the same open file."""
    number: int = other.take_descriptor(one.getpid(), fd)
    return number


def lock(vantage: Vantage, fd: int, kind: str) -> None:
    """An exclusive lock of the whole file, at once."""
    if kind == "flock":
        vantage.flock(fd, EX | NB)
    else:
        vantage.setlk(fd, "w", ofd=kind == "ofd")


def unlock(vantage: Vantage, fd: int, kind: str) -> None:
    """Release the lock."""
    if kind == "flock":
        vantage.flock(fd, UN)
    else:
        vantage.setlk(fd, "u", ofd=kind == "ofd")


@case("LOCK-027", covers=[Tlock], severity="linux")
def test_flock_is_given_up_through_an_inherited_descriptor(share: Share) -> None:
    """A lock of flock(2) is released by LOCK_UN through any descriptor of the open file, even in another process that
    inherited it.
    Source: flock(2): "the lock is released either by an explicit LOCK_UN operation on any of these duplicate file
    descriptors"; LTP flock03."""
    one, a, two_, b = two(share)
    child = inherited(one, a, two_)
    one.flock(a, EX)
    two_.refuses(EAGAIN).flock(b, EX | NB)
    two_.flock(child, UN)
    two_.flock(b, EX | NB)
    one.refuses(EAGAIN).flock(a, SH | NB)


@case("LOCK-028", covers=[Tlock], severity="linux")
def test_flock_is_changed_through_an_inherited_descriptor(share: Share) -> None:
    """A process that inherited the descriptor may lock through it again and convert the lock: both share one open file.
    Source: flock(2): "duplicate file descriptors (created by, for example, fork(2) or dup(2)) refer to the same lock,
    and this lock may be modified or released using any of these file descriptors"."""
    one, a, two_, b = two(share)
    child = inherited(one, a, two_)
    one.flock(a, EX)
    two_.flock(child, EX | NB)
    two_.flock(child, SH | NB)
    two_.refuses(EAGAIN).flock(b, EX | NB)
    two_.flock(b, SH | NB)


@pytest.mark.parametrize("how", ["close", "end"])
@pytest.mark.parametrize("kind", ["record", "flock", "ofd"])
@case("LOCK-029", covers=[Tlock])
def test_a_lock_stays_when_a_process_that_inherited_the_descriptor_goes(share: Share, kind: str, how: str) -> None:
    """A process that closes an inherited descriptor, or ends, releases none of its parent's locks; the parent's unlock
    does.
    Source: POSIX fcntl: locks belong to the process; flock(2) and fcntl(2), OFD locks: released when all descriptors
    are closed."""
    one, a, two_, b = two(share)
    child = share.inside.spawn("child")
    theirs = inherited(one, a, child)
    lock(one, a, kind)
    if how == "close":
        child.close(theirs)
    else:
        child.kill()
    with_refusal = two_.refuses(EAGAIN)
    if kind == "flock":
        with_refusal.flock(b, SH | NB)
    else:
        with_refusal.setlk(b, "r", ofd=kind == "ofd")
    unlock(one, a, kind)
    lock(two_, b, kind)


@case("LOCK-030", covers=[Tlock])
def test_record_locks_are_not_inherited(share: Share) -> None:
    """A process that inherited the descriptor holds none of the record locks: its own locks conflict with them, and its
    unlock releases nothing.
    Source: POSIX fcntl: "locks are not inherited by a child process created using fork()"."""
    one, a, two_, b = two(share)
    child = inherited(one, a, two_)
    one.setlk(a, "w", 0, 10)
    two_.refuses(EAGAIN).setlk(child, "w", 5, 1)
    two_.setlk(child, "u", 0, 10)
    two_.refuses(EAGAIN).setlk(b, "w", 0, 10)
    one.setlk(a, "u", 0, 10)
    two_.setlk(child, "w", 5, 1)
    one.refuses(EAGAIN).setlk(a, "w", 0, 10)
    two_.setlk(child, "u", 5, 1)
    one.setlk(a, "w", 0, 10)


@pytest.mark.parametrize("wait", [False, True], ids=["setlk", "setlkw"])
@case("LOCK-031", covers=[Tlock], severity="linux")
def test_an_ofd_lock_is_given_up_through_an_inherited_descriptor(share: Share, wait: bool) -> None:
    """An open file description lock is released through any descriptor of that open file, even in another process.
    Source: fcntl(2), open file description locks: they are "associated with the open file description", and inherited
    across fork."""
    one, a, two_, b = two(share)
    child = inherited(one, a, two_)
    one.setlk(a, "w", ofd=True)
    two_.refuses(EAGAIN).setlk(b, "w", ofd=True)
    two_.setlk(child, "u", wait=wait, ofd=True)
    two_.setlk(b, "w", ofd=True)
    one.refuses(EAGAIN).setlk(a, "r", ofd=True)


@pytest.mark.parametrize("kind", ["record", "flock", "ofd"])
@case("LOCK-032", covers=[Tlock])
def test_a_lock_is_given_up_through_a_duplicate(share: Share, kind: str) -> None:
    """Locks are released through a descriptor that dup(2) made of the one they were taken through, and closing a
    duplicate releases record locks, but neither of the other kinds.
    Source: POSIX fcntl, close; flock(2); fcntl(2), open file description locks."""
    one, a, two_, b = two(share)
    duplicate = one.dup(a)
    lock(one, a, kind)
    unlock(one, duplicate, kind)
    lock(two_, b, kind)
    unlock(two_, b, kind)
    lock(one, a, kind)
    one.close(duplicate)
    if kind == "record":
        two_.setlk(b, "w")
    elif kind == "flock":
        two_.refuses(EAGAIN).flock(b, EX | NB)
    else:
        two_.refuses(EAGAIN).setlk(b, "w", ofd=True)
