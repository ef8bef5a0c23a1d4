"""A small file system on the host that runs full (blocks, inodes, quota): no data is lost silently.

The file systems are a megabyte of tmpfs, mounted below the export; what fits must be there on both sides byte for byte,
and what does not fit must be refused with the right errno.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EIO, ENOSPC

from conformance.case import WRITE_BACK, WRITE_THROUGH, case
from conformance.cases.property.mounting import dataset, loop_mounted, must_run, tmpfs
from conformance.cases.vfs.outcomes import flush, has_pattern, outcome
from conformance.checks import Errno, between, equal, fields, holds, one_of, require
from conformance.errors import Undrivable
from conformance.vfs.pending import results
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Tlcreate, Tmkdir, Trenameat, Tsetattr, Tstatfs, Tsymlink, Tunlinkat, Twrite

MIB = 1 << 20
CHUNK = 64 << 10
_IDLE = 8
"""Calls of write(2) that return 0 until a case gives up."""


def data(length: int, seed: int = 0) -> bytes:
    """Bytes that differ from place to place, so that lost and misplaced blocks show."""
    return b"".join(b"%d:%015d\n" % (seed % 10, n) for n in range(length // 18 + 1))[:length]


def fill(share: Share, path: str, content: bytes) -> int:
    """Write `content` piece by piece to a new file until the host refuses. Returns the bytes that write(2) accepted."""
    fd = share.inside.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    done = 0
    try:
        while done < len(content):
            taken = share.inside.write(fd, content[done : done + CHUNK])
            done += taken
            if taken == 0:
                break
    except OSError as e:
        if e.errno != ENOSPC:
            raise
    finally:
        share.inside.close(fd)
    return done


def same_on_both(share: Share, path: str, content: bytes) -> None:
    """The file has this content, read from both sides."""
    for vantage in (share.inside, share.outside):
        equal(f"content of {path!r} {vantage.name}", vantage.slurp(path, 8 * MIB), content, code="content")


def begins(share: Share, path: str, content: bytes, least: int) -> None:
    """The file holds a prefix of `content`, of at least so many bytes, on both sides."""
    length = len(share.outside.slurp(path, 8 * MIB))
    holds(
        f"{path!r} outside holds the {least} bytes that write(2) took",
        length >= least,
        seen=f"{length} bytes",
        code="content",
    )
    same_on_both(share, path, content[:length])


def until_refused(vantage: Vantage, fd: int, content: bytes, wanted: int) -> int:
    """Write `content` piece by piece until write(2) fails, which it must with that errno. Returns the bytes accepted.

    A write(2) that accepts nothing and does not fail is a finding; it is tried again a few times.
    """
    done, idle, seen = 0, 0, 0
    try:
        while done < len(content) and idle < _IDLE:
            taken = vantage.write(fd, content[done : done + CHUNK])
            done += taken
            idle += taken == 0
    except OSError as e:
        seen = e.errno or 0
    progress(idle)
    equal("result of write(2) where no room is left", Errno(seen), Errno(wanted), code="errno", call="write")
    return done


def progress(idle: int) -> None:
    """No write(2) has returned 0."""
    holds("a write(2) that takes nothing fails", not idle, seen=f"{idle} returned 0", call="write")


@case(
    "FULL-001",
    needs=["mount-namespace"],
    covers=[Tlcreate, Twrite],
    caches=WRITE_THROUGH,
    about="agreement",
)
def test_no_block_left(share: Share) -> None:
    """On a file system without free blocks write(2) fails with ENOSPC each time; all that it accepted before is there
    on both sides, and so is every other file.
    Source: write(2) ENOSPC; POSIX write."""
    content = data(2 * MIB)
    with tmpfs(share, "t", "size=1m"):
        share.inside.create("t/before", data(5000, 1))
        written = fill(share, "t/big", content)
        between("bytes that write(2) took on a file system of 1 MiB", written, MIB // 2 + 1, MIB)
        fd = share.inside.open("t/big", os.O_WRONLY | os.O_APPEND)
        for _ in range(3):
            share.inside.refuses(ENOSPC).write(fd, b"x" * CHUNK)
        share.inside.close(fd)
        begins(share, "t/big", content, written)
        same_on_both(share, "t/before", data(5000, 1))
        share.same(share.stat("t/big"))


@case("FULL-002", needs=["mount-namespace"], covers=[Twrite], caches=WRITE_THROUGH)
def test_one_write_larger_than_the_room(share: Share) -> None:
    """A write(2) of more than fits writes what fits and returns that number. The next fails with ENOSPC. The file holds
    as many bytes as were returned, no more.
    Source: POSIX write: "only as many bytes as there is room for shall be written", and their number is
    returned."""
    content = data(2 * MIB)
    with tmpfs(share, "t", "size=1m"):
        fd = share.inside.open("t/big", os.O_WRONLY | os.O_CREAT, 0o644)
        written = share.inside.write(fd, content)
        between("bytes that the first write(2) took", written, 1, len(content) - 1)
        idle = 0
        while written <= MIB and idle < _IDLE:
            try:
                taken = share.inside.write(fd, content[written:])
                written += taken
                idle += taken == 0
            except OSError as e:
                equal("errno of the next write(2)", Errno(e.errno or 0), Errno(ENOSPC), code="errno", call="write")
                break
        progress(idle)
        held = share.outside.stat("t/big")["st_size"]
        equal("bytes that 't/big' holds, compared with those that write(2) took", held, written)
        same_on_both(share, "t/big", content[:held])


@case("FULL-003", needs=["mount-namespace"], covers=[Twrite, Tsetattr], caches=WRITE_THROUGH)
def test_filling_holes(share: Share) -> None:
    """A sparse file may be larger than its file system; filling its holes fails with ENOSPC when no block is left, and
    what was written before is at its place with zeros around it.
    Source: truncate(2), write(2) ENOSPC."""
    with tmpfs(share, "t", "size=1m"):
        fd = share.inside.open("t/sparse", os.O_RDWR | os.O_CREAT, 0o644)
        share.inside.ftruncate(fd, 8 * MIB)
        placed = []
        for place in range(8 * MIB - 2 * CHUNK, 0, -4 * CHUNK):
            try:
                taken = share.inside.write_pattern(fd, CHUNK, place, place)
            except OSError as e:
                equal("errno of pwrite(2) into a hole", Errno(e.errno or 0), Errno(ENOSPC), code="errno", call="pwrite")
                break
            equal(f"bytes that pwrite(2) wrote at {place}", taken, CHUNK)
            placed.append(place)
        between("number of pieces that were written before the file system was full", len(placed), 8, 16)
        for place in placed:
            has_pattern(f"the piece at {place}", share.inside, fd, CHUNK, place, offset=place)
        beside = [at for place in placed for at in (place - 1, place + CHUNK)]
        for at, byte in zip(beside, results(share.inside.start.pread(fd, 1, at) for at in beside), strict=True):
            equal(f"byte {at}, beside a piece", byte, b"\0", code="content")
        equal("size of 't/sparse'", share.same(share.content("t/sparse"))[0], 8 * MIB, code="field:size")


@case("FULL-004", needs=["mount-namespace"], covers=[Twrite, Tunlinkat, Trenameat, Tsetattr], caches=WRITE_THROUGH)
def test_what_needs_no_room_goes_on(share: Share) -> None:
    """On a full file system overwriting in place, chmod(2), rename(2), truncation and unlink(2) work, and the space
    that they free can be used again.
    Source: write(2) ENOSPC concerns new data only; unlink(2), truncate(2)."""
    content = data(2 * MIB)
    with tmpfs(share, "t", "size=1m"):
        written = fill(share, "t/big", content)
        fd = share.inside.open("t/big", os.O_RDWR)
        equal("bytes that pwrite(2) wrote over others", share.inside.pwrite(fd, data(CHUNK, 7), 0), CHUNK)
        share.inside.close(fd)
        share.inside.chmod("t/big", 0o600)
        share.inside.rename("t/big", "t/renamed")
        same_on_both(share, "t/renamed", data(CHUNK, 7) + content[CHUNK:written])
        share.inside.truncate("t/renamed", CHUNK)
        share.inside.create("t/small", data(5000))
        share.inside.unlink("t/renamed")
        again = fill(share, "t/again", content[: MIB // 2])
        equal("bytes that write(2) took once there was room again", again, MIB // 2)
        same_on_both(share, "t/again", content[: MIB // 2])


@case("FULL-005", needs=["mount-namespace"], covers=[Twrite], caches=WRITE_THROUGH, about="agreement")
def test_room_that_the_host_makes(share: Share) -> None:
    """A descriptor whose write(2) failed with ENOSPC works again once the host has made room.
    Source: write(2) ENOSPC describes the file system's state, not the descriptor's."""
    with tmpfs(share, "t", "size=1m"):
        share.outside.create("t/ballast", data(MIB // 2))
        fd = share.inside.open("t/big", os.O_WRONLY | os.O_CREAT, 0o644)
        until_refused(share.inside, fd, data(2 * MIB), ENOSPC)
        share.outside.unlink("t/ballast")
        equal("bytes that write(2) wrote once there was room", share.inside.write(fd, data(CHUNK)), CHUNK)
        share.inside.close(fd)
        share.same(share.content("t/big"))


@case("FULL-006", needs=["mount-namespace"], covers=[Tstatfs], caches=WRITE_THROUGH, about="agreement")
def test_statvfs_of_a_full_file_system(share: Share) -> None:
    """statvfs(3) of a full file system shows no available block, and all of them again once the file is gone.
    Source: statvfs(3) f_bavail; illumos issue 13380: df inside and outside."""
    with tmpfs(share, "t", "size=1m"):
        empty = share.inside.statvfs("t")
        fill(share, "t/big", data(2 * MIB))
        full = share.inside.statvfs("t")
        fields("the full file system", full, bfree=0, bavail=0)
        size = full["f_blocks"] * full["f_frsize"]
        between("size of the file system of 1 MiB", size, MIB - full["f_frsize"] + 1, MIB, code="field:blocks")
        share.same(share.statvfs("t"))
        share.inside.unlink("t/big")
        fields("the file system emptied again", share.inside.statvfs("t"), bavail=empty["f_bavail"])
        holds("blocks are available on an empty file system", empty["f_bavail"] > 0, code="field:bavail")
        share.same(share.statvfs("t"))


@case("FULL-007", needs=["mount-namespace"], covers=[Tlcreate, Tmkdir, Tsymlink], cached_too=True)
def test_no_inode_left(share: Share) -> None:
    """On a file system without free inodes creating a file, a directory or a symbolic link fails with ENOSPC and leaves
    no name. All that was made before is there on both sides; removing one makes room for one.
    Source: open(2), mkdir(2), symlink(2) ENOSPC."""
    with tmpfs(share, "t", "size=1m,nr_inodes=12"):
        made = []
        for number in range(20):
            try:
                share.inside.create(f"t/f{number}")
            except OSError as e:
                equal(
                    "errno of create without a free inode",
                    Errno(e.errno or 0),
                    Errno(ENOSPC),
                    code="errno",
                    call="create",
                )
                break
            made.append(f"f{number}")
        require("a file can be made on a file system of 12 inodes", made)
        between("number of files on a file system of 12 inodes", len(made), 8, 12)
        share.inside.refuses(ENOSPC).mkdir("t/dir")
        share.inside.refuses(ENOSPC).symlink("f0", "t/link")
        share.inside.refuses(ENOSPC).open("t/new", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        equal("names in 't'", share.same(share.directory("t")), sorted(made), code="names")
        share.inside.unlink(f"t/{made[0]}")
        share.inside.mkdir("t/dir")
        share.inside.refuses(ENOSPC).create("t/one-too-many")
        equal(
            "names in 't' after one made room for one",
            share.same(share.directory("t")),
            sorted([*made[1:], "dir"]),
            code="names",
        )
        fields("the file system without a free inode", share.inside.statvfs("t"), ffree=0)


@case("FULL-008", needs=["mount-namespace"], covers=[Twrite], caches=WRITE_BACK, cached_too=True)
def test_fsync_reports_what_did_not_fit(share: Share) -> None:
    """Where the guest writes back later, fsync(2) at the latest reports ENOSPC for a write that does not fit; the host
    holds a prefix of what was written.
    Source: fsync(2) ENOSPC; write(2), NOTES: "some errors might be delayed until a future write(2), fsync(2), or even
    close(2)"."""
    content = data(2 * MIB)
    with tmpfs(share, "t", "size=1m"):
        reported = Errno(_reported(share, content, fsync=True) or 0)
        equal("errno that write(2), fsync(2) or close(2) reported", reported, Errno(ENOSPC), code="errno")
        _a_beginning(share, content)


@case("FULL-009", needs=["mount-namespace"], covers=[Twrite], severity="linux", caches=WRITE_BACK, cached_too=True)
def test_nothing_is_dropped_in_silence(share: Share) -> None:
    """A program that checks write(2) and close(2) but does not call fsync(2) still gets an error when its data did not
    fit.
    Source: close(2), NOTES: failing to check it "may lead to silent loss of data. This can especially be observed with
    NFS and with disk quota": network file systems write back when a file is closed (fs/nfs/file.c
    nfs_file_flush)."""
    content = data(2 * MIB)
    with tmpfs(share, "t", "size=1m"):
        reported = Errno(_reported(share, content, fsync=False) or 0)
        what = f"errno that write(2) or close(2) reported of {len(content)} bytes for a file system of {MIB}"
        equal(what, reported, Errno(ENOSPC), code="errno", call="close")


@case("FULL-010", needs=["mount-namespace"], caches=WRITE_BACK, cached_too=True)
def test_msync_reports_what_did_not_fit(share: Share) -> None:
    """When the host has no room for pages of a shared mapping, msync(2) or fsync(2) fails with ENOSPC or EIO, or the
    store raises SIGBUS; the host's other files stay intact.
    Source: msync(2) EIO; POSIX mmap: SIGBUS where there is no space for the page; mm/filemap.c
    filemap_check_wb_err."""
    length = 2 * MIB
    with tmpfs(share, "t", "size=1m"):
        share.inside.create("t/other", data(5000))
        flush(share, "t/other")
        fd = share.inside.open("t/big", os.O_RDWR | os.O_CREAT, 0o644)
        share.inside.ftruncate(fd, length)
        if share.inside.map_touch_in_child(fd, length, 3, 1, 0, 0, data(length)):  # PROT_READ|WRITE, MAP_SHARED
            same_on_both(share, "t/other", data(5000))
            return
        synced = Errno(outcome(share.inside, "fsync", fd).errno or 0)
        what = f"result of fsync(2) after {length} bytes were stored into a mapping on a file system of {MIB}"
        one_of(what, synced, [Errno(ENOSPC), Errno(EIO)], code="errno", call="fsync")
        share.inside.close(fd)
        same_on_both(share, "t/other", data(5000))


@case("FULL-011", needs=["mount-namespace"], covers=[Tlcreate, Twrite], cached_too=True, seconds=120)
def test_many_small_files(share: Share) -> None:
    """Many small files are written and synced one after the other until the host is full: each whose fsync(2) succeeded
    is complete on both sides.
    Source: fsync(2): the data are at the storage when it returns; illumos issue 13380, which reports files lost on a
    full dataset."""
    start, kept, refused = share.inside.start, [], 0
    with tmpfs(share, "t", "size=256k"), share.without_comparison():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        fds = results(start.open(f"t/f{number}", flags, 0o644) for number in range(30))
        turns = [(start.write(fd, data(10_000, n)), start.fsync(fd), start.close(fd)) for n, fd in enumerate(fds)]
        for number, (written, synced, closed) in enumerate(turns):
            try:
                whole = written.result() == 10_000
                synced.result()
                kept += [number] if whole else []
            except OSError as e:
                equal(
                    f"errno of write(2) or fsync(2) of file {number}", Errno(e.errno or 0), Errno(ENOSPC), code="errno"
                )
                refused += 1
            closed.result()
        holds("at least 15 files of 10,000 bytes are synced to 256 KiB", len(kept) >= 15, seen=len(kept))
        holds("at least 5 of 30 files of 10,000 bytes do not fit into 256 KiB", refused >= 5, seen=refused)
        for vantage in (share.inside, share.outside):
            contents = results(vantage.start.slurp(f"t/f{number}") for number in kept)
            for number, content in zip(kept, contents, strict=True):
                equal(f"content of 't/f{number}' {vantage.name}", content, data(10_000, number), code="content")


@contextmanager
def quota(share: Share, where: str, limit: int) -> Iterator[None]:
    """A directory `own` in `where` that may hold `limit` bytes: a data set of the host, or a Btrfs file system.

    Undrivable where neither can be made. Quotas of users of ext4 need CONFIG_QFMT_V2, which few kernels have built in.
    """
    if share.mounted.host_mounts is not None:
        share.outside.mkdir(where)
        with dataset(share, f"{where}/own", f"quota={limit // MIB}m"):
            yield
        return
    if share.outside.which("mkfs.btrfs") is None or share.outside.which("btrfs") is None:
        raise Undrivable("a file system with quotas that needs no set-up: btrfs-progs is not installed on the host")
    share.outside.create("image")
    share.outside.truncate("image", 128 * MIB)
    root = share.outside.root
    must_run(share.outside, "mkfs.btrfs", "-q", f"{root}/image")
    with loop_mounted(share, where, "image"):
        must_run(share.outside, "btrfs", "quota", "enable", f"{root}/{where}")
        must_run(share.outside, "btrfs", "subvolume", "create", f"{root}/{where}/own")
        must_run(share.outside, "btrfs", "qgroup", "limit", str(limit), f"{root}/{where}/own")
        share.outside.chmod(f"{where}/own", 0o777)
        yield


@case("FULL-012", needs=["mount-namespace"], covers=[Twrite], caches=WRITE_THROUGH, control=False, seconds=120)
def test_quota(share: Share) -> None:
    """When the host's quota is used up, write(2) fails with EDQUOT; all that it accepted before is there on both sides.
    Source: write(2) EDQUOT."""
    content = data(4 * MIB)
    with quota(share, "q", 2 * MIB):
        fd = share.inside.open("q/own/big", os.O_WRONLY | os.O_CREAT, 0o644)
        done = until_refused(share.inside, fd, content, EDQUOT)
        share.inside.close(fd)
        holds("write(2) takes at least 512 KiB of a quota of 2 MiB", done >= MIB // 2, seen=done)
        begins(share, "q/own/big", content, done)


def _reported(share: Share, content: bytes, *, fsync: bool) -> int | None:
    """Write `content` to a new file, close it, and say which errno any of the calls gave."""
    seen = None
    fd = share.inside.open("t/big", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        done = 0
        while done < len(content):
            taken = share.inside.write(fd, content[done : done + CHUNK])
            done += taken
            if taken == 0:
                break
        if fsync:
            share.inside.fsync(fd)
    except OSError as e:
        seen = e.errno
    try:
        share.inside.close(fd)
    except OSError as e:
        seen = seen or e.errno
    return seen


def _a_beginning(share: Share, content: bytes) -> None:
    """The host's file is a prefix of what was written, except for holes (pages that never arrived)."""
    held = share.outside.slurp("t/big", 8 * MIB)
    for at in range(0, len(held), 4096):
        page = held[at : at + 4096]
        if page != bytes(len(page)):
            equal(f"page at {at} of the host's file", page, content[at : at + len(page)], code="content")
