"""Four shares on one guest at once: none ever sees another's changes, and each works while another one does not."""

from __future__ import annotations

import os
from errno import EBADF, EXDEV

from conformance.case import case
from conformance.cases.property.mounting import said
from conformance.cases.vfs.outcomes import DIRECT_CACHES
from conformance.mounts import parse
from conformance.share import Share
from protocol.messages import Tlcreate, Trenameat, Twrite

NEEDS = ["four-shares"]


def four(share: Share) -> list[Share]:
    """The case's own share and the three beside it."""
    return [share, *(share.beside(number) for number in (1, 2, 3))]


@case("FOUR-001", needs=NEEDS, covers=[Tlcreate, Twrite], control=False)
def test_same_names_different_content(share: Share) -> None:
    """Files of one name, made inside on four shares, hold each what was written to it, on both sides.
    Source: 9P2000 attach(5): a session names one tree; the ticket's four shares on one guest."""
    shares = four(share)
    for number, one in enumerate(shares):
        one.inside.create("fred", b"share %d" % number * 1000)
        one.inside.mkdir(f"only-on-{number}")
        fd = one.inside.open("fred", os.O_RDWR)
        one.inside.fsync(fd)
        one.inside.close(fd)
    for number, one in enumerate(shares):
        assert one.same_directory(".") == ["fred", f"only-on-{number}"]
        assert one.inside.slurp("fred") == one.outside.slurp("fred") == b"share %d" % number * 1000
        one.same_stat("fred")


@case("FOUR-002", needs=NEEDS, covers=[Trenameat], control=False)
def test_changes_stay_where_they_are_made(share: Share) -> None:
    """Renaming, truncating, changing the mode and removing on one share change nothing on the three others.
    Source: 9P2000 attach(5): a session names one tree; the ticket's four shares on one guest."""
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
    assert shares[2].same_directory(".") == ["d", "new"]
    for one, was in zip(others, before, strict=True):
        assert one.same_directory(".") == ["barney", "d", "fred"]
        assert [one.outside.lstat(name) for name in ("fred", "barney", "d")] == was
        assert one.inside.slurp("barney") == b"content"


@case("FOUR-003", needs=NEEDS, control=False, caches=DIRECT_CACHES)
def test_no_rename_or_link_from_one_to_another(share: Share) -> None:
    """rename(2) and link(2) from one share to another fail with EXDEV and change nothing.
    Source: rename(2), link(2) EXDEV."""
    first, second = share, share.beside(1)
    first.inside.create("fred", b"content")
    second.inside.create("barney", b"content")
    first.inside.refuses(EXDEV).rename("fred", f"{second.inside.root}/fred")
    first.inside.refuses(EXDEV).link("fred", f"{second.inside.root}/fred")
    first.inside.refuses(EXDEV).rename(f"{second.inside.root}/barney", "barney")
    assert (first.same_directory("."), second.same_directory(".")) == (["fred"], ["barney"])


@case("FOUR-004", needs=NEEDS, covers=[Twrite], control=False, caches=DIRECT_CACHES)
def test_interleaved_writes(share: Share) -> None:
    """Blocks written by turns to open files of four shares arrive each in its own file, at its own place.
    Source: 9P: a fid belongs to its session; write(2)."""
    shares = four(share)
    fds = [one.inside.open("fred", os.O_RDWR | os.O_CREAT | os.O_EXCL) for one in shares]
    for block in range(12):
        for number, (one, fd) in enumerate(zip(shares, fds, strict=True)):
            assert one.inside.pwrite(fd, b"%d" % number * 5000, block * 5000) == 5000
    for number, (one, fd) in enumerate(zip(shares, fds, strict=True)):
        assert one.inside.pread(fd, 60_000, 0) == b"%d" % number * 60_000
        assert one.outside.slurp("fred") == b"%d" % number * 60_000


@case("FOUR-005", needs=NEEDS, control=False, caches=DIRECT_CACHES)
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
    done = share.inside.run(["umount", shares[3].mount_point])
    assert done["status"] == 0, said(done)
    for one, fd in zip(shares[:3], fds, strict=True):
        assert one.inside.write(fd, b" and after") == 10
        assert one.inside.pread(fd, 100, 0) == b"before and after"
    again = share.beside(3, keep=True)
    assert again.inside.slurp("kept") == b"kept"
    for one, fd in zip(shares[:3], fds, strict=True):
        assert one.outside.slurp("fred") == b"before and after"
        one.inside.close(fd)
        one.inside.refuses(EBADF).fstat(fd)


@case("FOUR-006", needs=NEEDS, control=False, caches=DIRECT_CACHES)
def test_each_mounted_in_its_own_way(share: Share) -> None:
    """Four shares mounted at once with different cache modes and message sizes hold each what was written there.
    Source: mount(8): options belong to a mount; 9P: msize is negotiated session by session."""
    shares = [share, *(share.beside(number, parse(text)) for number, text in
                       ((1, "cache=mmap,msize=8192"), (2, "cache=loose"), (3, "cache=none,msize=4096")))]  # fmt: skip
    for number, one in enumerate(shares):
        one.inside.create("fred")
        fd = one.inside.open("fred", os.O_RDWR)
        one.inside.write_pattern(fd, 300_000, seed=number)
        one.inside.fsync(fd)
        one.inside.close(fd)
    for number, one in enumerate(shares):
        wanted = one.inside.hash_pattern(300_000, number)
        assert one.inside.hash_file("fred") == wanted == one.outside.hash_file("fred")


@case("FOUR-007", needs=NEEDS, control=False, caches=DIRECT_CACHES)
def test_host_changes_show_on_one_share_only(share: Share) -> None:
    """What the host changes in one export shows on that share at once and on no other.
    Source: Documentation/filesystems/9p.rst, cache=none; the ticket's four shares on one guest."""
    shares = four(share)
    for number, one in enumerate(shares):
        one.outside.create("fred", b"%d" % number)
    shares[1].outside.overwrite("fred", b"changed")
    shares[1].outside.create("new")
    assert [one.inside.slurp("fred") for one in shares] == [b"0", b"changed", b"2", b"3"]
    assert [one.same_directory(".") for one in shares] == [["fred"], ["fred", "new"], ["fred"], ["fred"]]


@case("FOUR-008", needs=NEEDS, control=False, caches=DIRECT_CACHES)
def test_each_is_a_device_of_its_own(share: Share) -> None:
    """Files of different shares differ in st_dev, files of one share agree in it.
    Source: POSIX <sys/stat.h>: st_dev identifies the file system; mountpoint(1) relies on it."""
    shares = four(share)
    for one in shares:
        one.inside.mkdir("d")
        assert one.inside.stat("d")["st_dev"] == one.inside.stat(".")["st_dev"]
    assert len({one.inside.stat(".")["st_dev"] for one in shares}) == 4
