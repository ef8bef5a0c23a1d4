"""Four shares on one guest at once: none ever sees another's changes, and each works while another does not."""

from __future__ import annotations

import os
from errno import EBADF, EXDEV

from conformance.case import UNCACHED, case
from conformance.cases.property.mounting import must_succeed
from conformance.cases.vfs.outcomes import has_pattern, plain
from conformance.checks import equal, fields
from conformance.vfs.mount_options import parse
from conformance.vfs.share import Share
from protocol.messages import Tlcreate, Trenameat, Twrite

NEEDS = ["four-shares"]


def four(share: Share) -> list[Share]:
    """The case's own share and the three beside it."""
    return [share, *(share.beside(number) for number in (1, 2, 3))]


@case("FOUR-001", needs=NEEDS, covers=[Tlcreate, Twrite], control=False, about="agreement")
def test_same_names_different_content(share: Share) -> None:
    """Files of the same name on four shares, made inside, each hold what was written to them, on both sides.
    Source: 9P2000 attach(5): a session names one tree; illumos issue 13380: four shares on one guest."""
    shares = four(share)
    for number, one in enumerate(shares):
        one.inside.create("fred", b"share %d" % number * 1000)
        one.inside.mkdir(f"only-on-{number}")
        fd = one.inside.open("fred", os.O_RDWR)
        one.inside.fsync(fd)
        one.inside.close(fd)
    for number, one in enumerate(shares):
        equal(f"names on share {number}", one.same(one.directory(".")), ["fred", f"only-on-{number}"], code="names")
        equal(
            f"content of 'fred' on share {number} inside",
            one.inside.slurp("fred"),
            b"share %d" % number * 1000,
            code="content",
        )
        outside = one.outside.slurp("fred")
        equal(f"content of 'fred' on share {number} outside", outside, b"share %d" % number * 1000, code="content")
        one.same(one.stat("fred"))


@case("FOUR-002", needs=NEEDS, covers=[Trenameat], control=False)
def test_changes_stay_where_they_are_made(share: Share) -> None:
    """Renaming, truncating, changing the mode and removing on one share change nothing on the three others.
    Source: 9P2000 attach(5): a session names one tree; illumos issue 13380: four shares on one guest."""
    shares = four(share)
    for one in shares:
        one.outside.create("fred", b"content", 0o644)
        one.outside.create("barney", b"content", 0o644)
        one.outside.mkdir("d")
    others = shares[:2] + shares[3:]
    before = [[one.outside.lstat(name) for name in ("fred", "barney", "d")] for one in others]
    changed = shares[2].inside
    changed.rename("fred", "d/fred")
    changed.truncate("barney", 2)
    changed.chmod("barney", 0o600)
    changed.unlink("barney")
    changed.create("new")
    equal("names on share 2", shares[2].same(shares[2].directory(".")), ["d", "new"], code="names")
    for number, one, was in zip((0, 1, 3), others, before, strict=True):
        equal(f"names on share {number}", one.same(one.directory(".")), ["barney", "d", "fred"], code="names")
        for name, stat in zip(("fred", "barney", "d"), was, strict=True):
            fields(f"{name!r} on share {number} outside, compared with before,", one.outside.lstat(name), **plain(stat))
        equal(f"content of 'barney' on share {number} inside", one.inside.slurp("barney"), b"content", code="content")


@case("FOUR-003", needs=NEEDS, control=False, caches=UNCACHED)
def test_no_rename_or_link_from_one_to_another(share: Share) -> None:
    """rename(2) and link(2) from one share to another fail with EXDEV and change nothing.
    Source: rename(2), link(2) EXDEV."""
    first, second = share, share.beside(1)
    first.inside.create("fred", b"content")
    second.inside.create("barney", b"content")
    first.inside.refuses(EXDEV).rename("fred", f"{second.inside.root}/fred")
    first.inside.refuses(EXDEV).link("fred", f"{second.inside.root}/fred")
    first.inside.refuses(EXDEV).rename(f"{second.inside.root}/barney", "barney")
    equal("names on the first share", first.same(first.directory(".")), ["fred"], code="names")
    equal("names on the second share", second.same(second.directory(".")), ["barney"], code="names")


@case("FOUR-004", needs=NEEDS, covers=[Twrite], control=False, caches=UNCACHED)
def test_interleaved_writes(share: Share) -> None:
    """Blocks written alternately to open files on four shares each arrive in their own file, at their own place.
    Source: 9P: a fid belongs to its session; write(2)."""
    shares = four(share)
    fds = [one.inside.open("fred", os.O_RDWR | os.O_CREAT | os.O_EXCL) for one in shares]
    for block in range(12):
        for number, (one, fd) in enumerate(zip(shares, fds, strict=True)):
            taken = one.inside.pwrite(fd, b"%d" % number * 5000, block * 5000)
            equal(f"bytes that pwrite() of block {block} on share {number} wrote", taken, 5000)
    for number, (one, fd) in enumerate(zip(shares, fds, strict=True)):
        wanted = b"%d" % number * 60_000
        equal(f"content of 'fred' on share {number} inside", one.inside.pread(fd, 60_000, 0), wanted, code="content")
        equal(f"content of 'fred' on share {number} outside", one.outside.slurp("fred"), wanted, code="content")


@case("FOUR-005", needs=NEEDS, control=False, caches=UNCACHED)
def test_unmounting_one(share: Share) -> None:
    """Unmounting one share, and mounting it again, leaves open files and locks of the others as they are.
    Source: umount(8): a mount is unmounted, not its neighbours; 9P: sessions are apart."""
    shares = four(share)
    fds = []
    for one in shares[:3]:
        fds.append(one.inside.open("fred", os.O_RDWR | os.O_CREAT))
        one.inside.setlk(fds[-1], "w", 0, 10)
        one.inside.write(fds[-1], b"before")
    shares[3].inside.create("kept", b"kept")
    must_succeed("umount", share.inside.run(["umount", shares[3].mounted.mount_point]))
    for number, (one, fd) in enumerate(zip(shares[:3], fds, strict=True)):
        equal(f"bytes that write() on share {number} wrote", one.inside.write(fd, b" and after"), 10)
        content = one.inside.pread(fd, 100, 0)
        equal(f"content of 'fred' on share {number} inside", content, b"before and after", code="content")
    again = share.beside(3, keep=True)
    equal("content of 'kept' on the share mounted again", again.inside.slurp("kept"), b"kept", code="content")
    for number, (one, fd) in enumerate(zip(shares[:3], fds, strict=True)):
        content = one.outside.slurp("fred")
        equal(f"content of 'fred' on share {number} outside", content, b"before and after", code="content")
        one.inside.close(fd)
        one.inside.refuses(EBADF).fstat(fd)


@case("FOUR-006", needs=NEEDS, control=False, caches=UNCACHED)
def test_each_mounted_in_its_own_way(share: Share) -> None:
    """Four shares mounted at once with different cache modes and message sizes each hold what was written there.
    Source: mount(8): options belong to a mount; 9P: msize is negotiated session by session."""
    shares = [
        share,
        *(
            share.beside(number, parse(text))
            for number, text in ((1, "cache=mmap,msize=8192"), (2, "cache=loose"), (3, "cache=none,msize=4096"))
        ),
    ]
    for number, one in enumerate(shares):
        one.inside.create("fred")
        fd = one.inside.open("fred", os.O_RDWR)
        one.inside.write_pattern(fd, 300_000, seed=number)
        one.inside.fsync(fd)
        one.inside.close(fd)
    for number, one in enumerate(shares):
        for vantage in (one.inside, one.outside):
            has_pattern(f"'fred' on share {number} {vantage.name}", vantage, "fred", 300_000, number)


@case("FOUR-007", needs=NEEDS, control=False, caches=UNCACHED)
def test_host_changes_show_on_one_share_only(share: Share) -> None:
    """What the host changes in one export shows on that share at once and on no other.
    Source: Documentation/filesystems/9p.rst, cache=none; illumos issue 13380: four shares on one guest."""
    shares = four(share)
    for number, one in enumerate(shares):
        one.outside.create("fred", b"%d" % number)
    shares[1].outside.overwrite("fred", b"changed")
    shares[1].outside.create("new")
    for number, one in enumerate(shares):
        content, names = (b"changed", ["fred", "new"]) if number == 1 else (b"%d" % number, ["fred"])
        equal(f"content of 'fred' on share {number}", one.inside.slurp("fred"), content, code="content")
        equal(f"names on share {number}", one.same(one.directory(".")), names, code="names")


@case("FOUR-008", needs=NEEDS, control=False, caches=UNCACHED)
def test_each_is_a_device_of_its_own(share: Share) -> None:
    """Files of different shares differ in st_dev, files of one share agree in it.
    Source: POSIX <sys/stat.h>: st_dev identifies the file system; mountpoint(1) relies on it."""
    shares = four(share)
    for number, one in enumerate(shares):
        one.inside.mkdir("d")
        fields(f"'d' on share {number}, compared with '.',", one.inside.stat("d"), dev=one.inside.stat(".")["st_dev"])
    devices = {one.inside.stat(".")["st_dev"] for one in shares}
    equal("number of different st_dev of four shares", len(devices), 4, code="field:dev")
