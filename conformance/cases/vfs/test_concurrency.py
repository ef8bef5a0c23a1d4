"""Several processes at once on one file or directory: in the guest, and in guest and host."""

from __future__ import annotations

import os
import time

import pytest

from conformance.case import FRESH, UNCACHED, case
from conformance.checks import equal, holds, require
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Tlcreate, Tread, Trenameat, Twrite

RECORD = 32


def rivals(share: Share, where: str) -> list[Vantage]:
    """Two processes: both inside, or one inside and one on the host."""
    first = share.inside.spawn("first")
    return [first, share.inside.spawn("second") if where == "inside" else share.outside.spawn("second")]


def pace(share: Share, guest: Vantage, where: str) -> float:
    """Seconds that the rival waits after each name: a host is much faster than a guest, and would otherwise win every
    race."""
    if where == "inside" or share.on_control:
        return 0.0
    begun = time.monotonic()
    guest.try_create_exclusively("warm-up", 10)
    taken = (time.monotonic() - begun) / 10
    for i in range(10):
        share.outside.unlink(f"warm-up{i}")
    return taken


def in_order(what: str, data: bytes, tags: tuple[str, ...], count: int) -> None:
    """Every record of every writer is there, whole and in its writer's order."""
    records = [data[i : i + RECORD] for i in range(0, len(data), RECORD)]
    for tag in tags:
        mine = [r for r in records if r.startswith(tag.encode() + b" ")]
        wanted = [(b"%s %08d" % (tag.encode(), i)).ljust(31, b".") + b"\n" for i in range(count)]
        equal(f"records of writer {tag} in {what}, in order", mine, wanted, code="content")
    equal(f"number of records in {what}", len(records), len(tags) * count, code="content")


@case("CONC-001", covers=[Twrite], cached_too=True, about="agreement")
def test_append_from_two_processes(share: Share) -> None:
    """Two processes of the guest append to one file without losing or mixing records.
    Source: open(2) "O_APPEND"; POSIX write: "no intervening file modification operation shall occur between
    changing the file offset and the write operation"."""
    share.inside.create("log", b"", 0o666)
    calls = [v.start.append_records("log", t, 100) for v, t in zip(rivals(share, "inside"), "AB", strict=True)]
    for call in calls:
        call.result()
    fd = share.inside.open("log", os.O_RDWR)
    share.inside.fsync(fd)
    in_order("'log' inside", share.inside.slurp("log"), ("A", "B"), 100)
    share.same(share.content("log"))


@case("CONC-002", covers=[Twrite], caches=UNCACHED, about="agreement")
def test_append_from_guest_and_host(share: Share) -> None:
    """The guest and a process of the host append to one file without losing or mixing records.
    Source: open(2) "O_APPEND"; P9_DOTL_APPEND of Tlopen makes the server's write append atomically."""
    share.outside.create("log", b"", 0o666)
    calls = [v.start.append_records("log", t, 100) for v, t in zip(rivals(share, "outside"), "AB", strict=True)]
    for call in calls:
        call.result()
    in_order("'log' outside", share.outside.slurp("log"), ("A", "B"), 100)
    share.same(share.content("log"))


@case("CONC-003", covers=[Tlcreate], caches=FRESH)
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_exclusive_creation_has_one_winner(share: Share, where: str) -> None:
    """Of two processes that create the same names with O_CREAT|O_EXCL, in the guest or one on the host,
    exactly one wins each name.
    Source: open(2) "O_EXCL"; POSIX open: "the check ... and the creation ... shall be atomic"."""
    first, second = rivals(share, where)
    with share.without_comparison():
        wait = pace(share, first, where)
        calls = [
            first.start.try_create_exclusively("name", 60),
            second.start.try_create_exclusively("name", 60, wait),
        ]
        won = [call.result() for call in calls]
    equal("names that both processes created with O_EXCL", set(won[0]) & set(won[1]), set())
    equal("names that one of them created", set(won[0]) | set(won[1]), set(range(60)))
    equal("number of names in the directory", len(share.same(share.directory())), 60, code="names")


@case("CONC-004", covers=[Trenameat], caches=FRESH)
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_rename_storm(share: Share, where: str) -> None:
    """Two processes that rename one file back and forth never lose it: in the end it has one of its names
    and its content.
    Source: POSIX rename is atomic; known defects: CVE-2018-19489, CVE-2018-19364 (rename racing other uses
    of a path in QEMU)."""
    share.inside.create("a", b"content")
    calls = [v.start.rename_many("a", "b", 40) for v in rivals(share, where)]
    for call in calls:
        call.result()
    left = share.same(share.directory())
    require("the file has one of its two names after the renames", left in (["a"], ["b"]), seen=left, code="names")
    equal("content of the file after the renames", share.inside.soon.slurp(left[0]), b"content", code="content")


@case("CONC-005", covers=[Trenameat], caches=FRESH)
def test_reading_while_replaced_by_rename(share: Share) -> None:
    """A reader that opens a name while rename(2) keeps replacing it always gets either the whole old or the whole new
    file.
    Source: POSIX rename: "a link named new shall remain visible to other threads throughout the
    renaming"."""
    share.inside.create("fred", b"0" * 6000)
    writer, reader = rivals(share, "inside")
    writing = writer.start.replace_many("fred", 30, 6000)
    reading = reader.start.read_many("fred", 60)
    writing.result()
    odd = [seen for seen in reading.result() if not (len(set(seen[0])) == 1 and seen[1] == 6000)]
    equal("reads of 'fred' that were neither a whole old nor a whole new file", odd, [], code="content")


@case("CONC-006", covers=[Tlcreate], caches=FRESH)
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_create_and_unlink_against_each_other(share: Share, where: str) -> None:
    """While one process creates and another removes the same names, every call succeeds or fails with EEXIST or ENOENT;
    in the end both sides list the same names.
    Source: POSIX open, unlink; open(2) EEXIST; unlink(2) ENOENT. Where the host removes, open(2) in the
    guest may give ENOENT for a file that it made: Linux fs/9p/vfs_inode_dotl.c walks to the new name after
    Tlcreate."""
    first, second = rivals(share, where)
    with share.without_comparison():
        wait = pace(share, first, where)
        removing = second.start.try_unlink("n", 60, wait / 4)
        creating = first.start.try_create_exclusively("n", 60, 0.0, where == "outside")
        created, removed = creating.result(), removing.result()
    equal("numbers of names removed and never created", sorted(set(removed) - set(created)), [])
    equal(
        "names left in the directory",
        share.same(share.directory()),
        sorted(f"n{i}" for i in set(created) - set(removed)),
        code="names",
    )


@case("CONC-007", covers=[Tread, Twrite], caches=UNCACHED, about="agreement")
def test_disjoint_writers(share: Share) -> None:
    """Two processes, one inside and one on the host, that write alternate blocks of one file leave every block intact.
    Source: POSIX write: bytes at other offsets are not touched."""
    share.outside.create("fred", b"", 0o666)
    inside, outside = rivals(share, "outside")
    with share.without_comparison():  # one side is still writing when the other's call ends
        calls = [v.start.write_blocks("fred", i, 2, 60, 3000) for i, v in enumerate((inside, outside))]
        for call in calls:
            call.result()
    wanted = b"".join(bytes([33 + i % 90]) * 3000 for i in range(120))
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), wanted, code="content")
    equal("content of 'fred' outside", share.outside.slurp("fred"), wanted, code="content")
    share.same(share.stat("fred"))


@case("CONC-008", covers=[Tlcreate], caches=FRESH, seconds=120.0)
def test_processes_fill_one_directory(share: Share) -> None:
    """Four processes create files of their own in one directory: all find theirs, and both sides list them all.
    Source: POSIX open, readdir."""
    makers = [share.inside.spawn(f"maker{i}") for i in range(4)]
    share.inside.mkdir("dir", 0o777)
    with share.without_comparison():
        calls = [maker.start.fill_directory("dir", 25, f"{i}-") for i, maker in enumerate(makers)]
        for call in calls:
            call.result()
    equal(
        "names in 'dir'",
        share.same(share.directory("dir")),
        [f"{i}-{n:06d}" for i in range(4) for n in range(25)],
        code="names",
    )


@case("CONC-009", covers=[Tread])
def test_calls_overtake_a_blocked_one(share: Share) -> None:
    """While one process waits for the other end of a fifo on the share, other processes can work there.
    Source: fifo(7): only the opener waits."""
    share.outside.mkfifo("pipe")
    waiter, other = rivals(share, "inside")
    waiting = waiter.start.open("pipe", os.O_RDONLY)
    other.create("fred", b"abc")
    equal("content of 'fred' while another process waits", other.soon.slurp("fred"), b"abc", code="content")
    holds("open(2) of the fifo for reading waits for a writer", not waiting.finished(0.05), code="returned")
    writer = other.open("pipe", os.O_RDWR | os.O_NONBLOCK)
    waiting.result()
    other.close(writer)
