"""mmap(2) of files on the share: private and shared, against read and write, at and past the end of the file."""

from __future__ import annotations

import os
from errno import EACCES, EBADF, EINVAL, ENODEV, EOPNOTSUPP, EOVERFLOW
from signal import SIGBUS

import pytest

from conformance.case import FRESH, UNCACHED, WRITE_BACK, WRITE_THROUGH, case
from conformance.cases.vfs.outcomes import flush, works_or
from conformance.checks import equal, fields, holds
from conformance.vfs.share import Share
from protocol.messages import Tread, Twrite

READ, WRITE = 1, 2
SHARED, PRIVATE = 1, 2
PAGE = 4096
NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR


@case("MMAP-001", covers=[Tread], cached_too=True)
@pytest.mark.parametrize("flags", [PRIVATE, SHARED], ids=["private", "shared"])
@pytest.mark.parametrize("size", [10, 3 * PAGE + 7, 300_000])
def test_mapping_shows_the_file(share: Share, flags: int, size: int) -> None:
    """A mapping for reading shows the file's bytes, page after page, and zeros from the file's end to the end of the
    page.
    Source: mmap(2); POSIX mmap "the remaining bytes in the partial page ... shall be zero-filled"."""
    share.outside.write_pattern(share.outside.open("fred", NEW, 0o644), size)
    fd = share.inside.open("fred")
    handle = share.inside.mmap(fd, size, READ, flags)
    equal(
        "bytes of the mapping", share.inside.soon.map_read(handle, 0, size), share.outside.slurp("fred"), code="content"
    )
    rest = -size % PAGE
    equal(
        "bytes of the mapping between the file's end and the page's",
        share.inside.soon.map_read(handle, size, rest),
        b"\0" * rest,
        code="content",
    )


@case("MMAP-002", cached_too=True, about="agreement")
def test_private_writes_stay_private(share: Share) -> None:
    """What is written to a private mapping is seen only there, neither in the file nor in other mappings, even when the
    file is open for reading only.
    Source: mmap(2) "MAP_PRIVATE"; POSIX mmap."""
    share.inside.create("fred", b"a" * 2 * PAGE)
    flush(share, "fred")
    fd = share.inside.open("fred")
    mine, other = (share.inside.mmap(fd, 2 * PAGE, READ | WRITE, PRIVATE) for _ in range(2))
    share.inside.map_write(mine, PAGE + 1, b"MINE")
    equal(
        "bytes of the private mapping that was written to",
        share.inside.soon.map_read(mine, PAGE, 6),
        b"aMINEa",
        code="content",
    )
    equal("bytes of another private mapping", share.inside.soon.map_read(other, PAGE, 6), b"aaaaaa", code="content")
    share.inside.msync(mine)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"a" * 2 * PAGE, code="content")
    share.same(share.content("fred"))


@case("MMAP-003", severity="linux", caches=WRITE_THROUGH)
def test_shared_writable_mapping_without_a_cache(share: Share) -> None:
    """MAP_SHARED for writing works fully; where the guest caches no pages it may fail with EINVAL and change nothing.
    Source: mmap(2); Linux fs/9p/vfs_file.c uses generic_file_readonly_mmap() with cache=none, which gives
    EINVAL; known defects: kata-containers/runtime#769 and #358."""
    share.inside.create("fred", b"a" * 2 * PAGE)
    fd = share.inside.open("fred", os.O_RDWR)
    seen = works_or(share.inside, (EINVAL,), "mmap", fd, 2 * PAGE, READ | WRITE, SHARED)
    wanted = b"a" * 2 * PAGE
    if seen.errno is None:
        share.inside.map_write(seen.value, PAGE, b"SHARED")
        share.inside.msync(seen.value)
        wanted = b"a" * PAGE + b"SHARED" + b"a" * (PAGE - 6)
    equal("content of 'fred' outside", share.outside.slurp("fred"), wanted, code="content")


@case("MMAP-004", covers=[Twrite], caches=WRITE_BACK)
def test_shared_writes_reach_the_file(share: Share) -> None:
    """What is written to a shared mapping is in the host's file after msync(2), and no other byte of it changes.
    Source: mmap(2) "MAP_SHARED"; msync(2); POSIX mmap."""
    fd = share.inside.open("fred", NEW, 0o644)
    share.inside.write_pattern(fd, 5 * PAGE)
    share.inside.fsync(fd)
    plain = share.outside.slurp("fred")
    handle = share.inside.mmap(fd, 5 * PAGE, READ | WRITE, SHARED)
    share.inside.map_write(handle, 2 * PAGE - 3, b"SHARED")
    share.inside.map_write(handle, 5 * PAGE - 1, b"!")
    share.inside.msync(handle)
    at = 2 * PAGE - 3
    equal(
        "content of 'fred' outside",
        share.outside.slurp("fred"),
        plain[:at] + b"SHARED" + plain[at + 6 : -1] + b"!",
        code="content",
    )
    fields("'fred' outside", share.outside.stat("fred"), size=5 * PAGE)


@case("MMAP-005", covers=[Tread], caches=WRITE_BACK)
def test_read_sees_what_a_shared_mapping_wrote(share: Share) -> None:
    """read(2) in the same guest sees what was written to a shared mapping, at once and without msync(2).
    Source: mmap(2) "Updates to the mapping are visible to other processes mapping the same region, and ...
    are carried through to the underlying file"; Linux keeps one page cache for both."""
    share.outside.create("fred", b"a" * 2 * PAGE)
    fd = share.inside.open("fred", os.O_RDWR)
    handle = share.inside.mmap(fd, 2 * PAGE, READ | WRITE, SHARED)
    equal("bytes of the mapping", share.inside.soon.map_read(handle, 0, 4), b"aaaa", code="content")
    share.inside.map_write(handle, 100, b"MAPPED")
    equal("bytes that pread() read after the write", share.inside.soon.pread(fd, 8, 99), b"aMAPPEDa", code="content")
    seen = share.inside.pread(share.inside.open("fred"), 8, 99)
    equal("bytes that pread() of another descriptor read after the write", seen, b"aMAPPEDa", code="content")


@case("MMAP-006", covers=[Twrite], cached_too=True)
@pytest.mark.parametrize("start", [0, 100, PAGE - 2, 2 * PAGE])
def test_shared_mapping_sees_what_was_written(share: Share, start: int) -> None:
    """A shared mapping shows what write(2) stores after the mapping's pages were read.
    Source: mmap(2) "MAP_SHARED"; POSIX write, mmap; Linux fs/9p invalidates the pages that a write covers."""
    share.inside.create("fred", b"a" * 3 * PAGE)
    fd, writer = share.inside.open("fred"), share.inside.open("fred", os.O_WRONLY)
    handle = share.inside.mmap(fd, 3 * PAGE, READ, SHARED)
    equal("bytes of the mapping", share.inside.soon.map_read(handle, 0, 3 * PAGE), b"a" * 3 * PAGE, code="content")
    share.inside.pwrite(writer, b"WRITTEN", start)
    share.inside.fsync(writer)
    equal(
        "bytes of the mapping that were written to the file",
        share.inside.soon.map_read(handle, start, 8),
        b"WRITTENa",
        code="content",
    )
    equal(
        "bytes of the mapping before them", share.inside.soon.map_read(handle, 0, start), b"a" * start, code="content"
    )


@case("MMAP-007", caches=WRITE_BACK)
def test_two_processes_share_a_mapping(share: Share) -> None:
    """Two processes that map a file shared see each other's writes.
    Source: mmap(2) "MAP_SHARED"; POSIX mmap."""
    share.inside.create("fred", b"a" * PAGE)
    first, second = share.inside.spawn("first"), share.inside.spawn("second")
    ours = first.mmap(first.open("fred", os.O_RDWR), PAGE, READ | WRITE, SHARED)
    theirs = second.mmap(second.open("fred", os.O_RDWR), PAGE, READ | WRITE, SHARED)
    first.map_write(ours, 10, b"ping")
    equal("bytes that the second process sees", second.soon.map_read(theirs, 10, 4), b"ping", code="content")
    second.map_write(theirs, 20, b"pong")
    equal("bytes that the first process sees", first.soon.map_read(ours, 20, 4), b"pong", code="content")
    first.msync(ours)
    wanted = b"a" * 10 + b"ping" + b"a" * 6 + b"pong" + b"a" * (PAGE - 24)
    equal("content of 'fred' outside", share.outside.slurp("fred"), wanted, code="content")


@case("MMAP-008", cached_too=True)
@pytest.mark.parametrize("flags", [PRIVATE, SHARED], ids=["private", "shared"])
def test_touching_past_the_end(share: Share, flags: int) -> None:
    """A mapping may be longer than the file; touching a page past the end raises SIGBUS, touching the file's last page
    does not.
    Source: mmap(2) SIGBUS; POSIX mmap."""
    share.inside.create("fred", b"a" * (PAGE + 10))
    fd = share.inside.open("fred")
    for at in (0, PAGE + 9, PAGE + 10, 2 * PAGE - 1, 2 * PAGE, 4 * PAGE - 1):
        signal = share.inside.map_touch_in_child(fd, 4 * PAGE, READ, flags, at)
        wanted = 0 if at < 2 * PAGE else int(SIGBUS)
        equal(f"signal that ends who touches byte {at} of the mapping", signal, wanted)


@case("MMAP-009", caches=WRITE_BACK)
def test_writing_past_the_end_in_the_last_page(share: Share) -> None:
    """What is written to a shared mapping between the end of the file and the end of its page does not reach the file.
    Source: mmap(2) "the effect ... changes are not written out"; POSIX mmap."""
    share.inside.create("fred", b"a" * 100)
    fd = share.inside.open("fred", os.O_RDWR)
    handle = share.inside.mmap(fd, PAGE, READ | WRITE, SHARED)
    share.inside.map_write(handle, 98, b"XYZ")
    share.inside.msync(handle)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"a" * 98 + b"XY", code="content")


@case("MMAP-010")
def test_mmap_of_what_cannot_be(share: Share) -> None:
    """mmap(2) fails with EINVAL for no length or an offset that is not a multiple of the page, EBADF for a
    descriptor that is closed or O_PATH, ENODEV for a directory, EACCES for a file not open for reading, or
    a shared writable mapping of one not open for writing.
    Source: mmap(2) ERRORS; POSIX mmap."""
    share.inside.create("fred", b"a" * 2 * PAGE)
    reading, writing = share.inside.open("fred"), share.inside.open("fred", os.O_WRONLY)
    share.inside.refuses(EINVAL).mmap(reading, 0, READ, PRIVATE)
    share.inside.refuses(EINVAL).mmap(reading, PAGE, READ, PRIVATE, 100)
    share.inside.refuses(EINVAL).mmap(reading, PAGE, READ, 0)
    share.inside.refuses(EBADF).mmap(987, PAGE, READ, PRIVATE)
    share.inside.refuses(EBADF).mmap(share.inside.open("fred", os.O_PATH), PAGE, READ, PRIVATE)
    share.inside.refuses(ENODEV).mmap(share.inside.open("."), PAGE, READ, PRIVATE)
    for flags in (PRIVATE, SHARED):
        share.inside.refuses(EACCES).mmap(writing, PAGE, READ, flags)
    share.inside.refuses(EACCES).mmap(reading, PAGE, READ | WRITE, SHARED)
    share.inside.refuses(EOVERFLOW, EINVAL, because="Linux mm/mmap.c file_mmap_ok()").mmap(
        reading, PAGE, READ, PRIVATE, -PAGE
    )


@case("MMAP-011", caches=FRESH)
def test_write_access_cannot_be_added(share: Share) -> None:
    """mprotect(2) cannot make a shared mapping writable if the file is open for reading only (EACCES); a private
    mapping it can.
    Source: mprotect(2) EACCES."""
    share.inside.create("fred", b"a" * PAGE)
    fd = share.inside.open("fred")
    share.inside.refuses(EACCES).mprotect(share.inside.mmap(fd, PAGE, READ, SHARED), READ | WRITE)
    private = share.inside.mmap(fd, PAGE, READ, PRIVATE)
    share.inside.mprotect(private, READ | WRITE)
    share.inside.map_write(private, 0, b"x")
    equal("content of 'fred' inside", share.inside.soon.pread(fd, 2, 0), b"aa", code="content")


@case("MMAP-012", covers=[Tread], cached_too=True)
def test_mapping_outlives_descriptor_and_name(share: Share) -> None:
    """A mapping shows the file after its descriptor was closed and its name removed, including pages not touched
    before.
    Source: mmap(2) "closing the file descriptor does not unmap the region"; POSIX mmap "an extra reference
    to the file ... not removed by a subsequent close()", unlink; known defect: GitLab qemu#103."""
    share.outside.write_pattern(share.outside.open("fred", NEW, 0o644), 5 * PAGE)
    whole = share.outside.slurp("fred")
    fd = share.inside.open("fred")
    handle = share.inside.mmap(fd, 5 * PAGE, READ, PRIVATE)
    equal("bytes of the mapping's first page", share.inside.soon.map_read(handle, 0, 10), whole[:10], code="content")
    share.inside.close(fd)
    share.inside.unlink("fred")
    equal(
        "bytes of the mapping after the file was unlinked",
        share.inside.soon.map_read(handle, 0, 5 * PAGE),
        whole,
        code="content",
    )
    share.inside.munmap(handle)


@case("MMAP-013", cached_too=True)
def test_mmap_of_an_unlinked_file(share: Share) -> None:
    """A file that is open and has no name any more can be mapped.
    Source: POSIX unlink, mmap; known defect: GitLab qemu#103 (dnf, apt and others do this)."""
    share.inside.create("fred", b"abc")
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.unlink("fred")
    handle = share.inside.mmap(fd, PAGE, READ, PRIVATE)
    equal("bytes of the mapping", share.inside.soon.map_read(handle, 0, 5), b"abc\0\0", code="content")


@case("MMAP-014", cached_too=True)
def test_file_that_grows_under_a_mapping(share: Share) -> None:
    """Pages of a shared mapping past the end become readable when the file grows to them.
    Source: POSIX mmap: references are to the file as it is; ftruncate(2), Linux mmap(2) NOTES."""
    share.inside.create("fred", b"a" * 100)
    fd, writer = share.inside.open("fred"), share.inside.open("fred", os.O_WRONLY)
    handle = share.inside.mmap(fd, 3 * PAGE, READ, SHARED)
    equal(
        "bytes of the mapping at the file's end", share.inside.soon.map_read(handle, 98, 4), b"aa\0\0", code="content"
    )
    share.inside.pwrite(writer, b"grown", 2 * PAGE)
    share.inside.fsync(writer)
    equal(
        "bytes of the mapping where the file has grown",
        share.inside.soon.map_read(handle, 2 * PAGE, 6),
        b"grown\0",
        code="content",
    )
    equal("bytes of the mapping's hole", share.inside.soon.map_read(handle, PAGE, 3), b"\0\0\0", code="content")


@case("MMAP-015", cached_too=True)
def test_file_cut_under_a_mapping(share: Share) -> None:
    """After ftruncate(2) pages past the new end are gone from a mapping: touching one raises SIGBUS, and the rest of
    the last page reads as zeros.
    Source: mmap(2) SIGBUS; POSIX mmap, ftruncate "all pages beyond ... shall be discarded"."""
    share.inside.create("fred", b"a" * 3 * PAGE)
    fd = share.inside.open("fred", os.O_RDWR)
    handle = share.inside.mmap(fd, 3 * PAGE, READ, PRIVATE)
    equal("bytes of the mapping", share.inside.soon.map_read(handle, 0, 3 * PAGE), b"a" * 3 * PAGE, code="content")
    share.inside.ftruncate(fd, PAGE + 10)
    equal(
        "bytes of the mapping's last page after ftruncate(2)",
        share.inside.soon.map_read(handle, PAGE, 20),
        b"a" * 10 + b"\0" * 10,
        code="content",
    )
    signal = share.inside.map_touch_in_child(fd, 3 * PAGE, READ, PRIVATE, 2 * PAGE)
    equal("signal that ends who touches a page past the new end", signal, int(SIGBUS))


@case("MMAP-016", covers=[Tread], caches=UNCACHED)
def test_new_mapping_shows_what_the_host_changed(share: Share) -> None:
    """After every descriptor and mapping inside was closed, a new mapping shows what the host has written
    since.
    Source: POSIX mmap; Linux Documentation/filesystems/9p.rst "none = no caches used"."""
    share.outside.create("fred", b"old" * PAGE)
    for text in (b"old", b"new", b"odd"):
        share.outside.overwrite("fred", text * PAGE)
        fd = share.inside.open("fred")
        handle = share.inside.mmap(fd, 3 * PAGE, READ, PRIVATE)
        equal("bytes of the new mapping", share.inside.soon.map_read(handle, 0, 3 * PAGE), text * PAGE, code="content")
        share.inside.munmap(handle)
        share.inside.close(fd)


@case("MMAP-017", covers=[Tread], cached_too=True)
@pytest.mark.parametrize("offset", [PAGE, 3 * PAGE, 1 << 32], ids=["1-page", "3-pages", "4GiB"])
def test_mapping_at_an_offset(share: Share, offset: int) -> None:
    """A mapping that begins inside the file shows the bytes from there.  Source: mmap(2) "offset"."""
    writer = share.outside.open("fred", NEW, 0o644)
    share.outside.write_pattern(writer, 2 * PAGE, offset=offset)
    wanted = share.outside.pattern_bytes(2 * PAGE)
    handle = share.inside.mmap(share.inside.open("fred"), 2 * PAGE, READ, SHARED, offset)
    equal(
        f"bytes of the mapping at offset {offset}",
        share.inside.soon.map_read(handle, 0, 2 * PAGE),
        wanted,
        code="content",
    )


@case("MMAP-018", severity="linux", caches=WRITE_BACK)
def test_shared_write_moves_the_modification_time(share: Share) -> None:
    """Writing through a shared mapping moves mtime and ctime by the time msync(2) returns.
    Source: POSIX mmap "shall be marked for update at some point in the interval between a write reference
    ... and the next call to msync()"."""
    share.inside.create("fred", b"a" * PAGE)
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.fsync(fd)
    share.inside.utimensat("fred", 10**18, 10**18)
    handle = share.inside.mmap(fd, PAGE, READ | WRITE, SHARED)
    share.inside.map_write(handle, 0, b"X")
    share.inside.msync(handle)
    share.inside.fsync(fd)
    mtime = share.outside.stat("fred")["st_mtime_ns"]
    holds("mtime of 'fred' outside moves", mtime > 10**18, seen=mtime, code="field:mtime_ns")


@case("MMAP-019", severity="linux")
def test_locked_and_populated_mapping(share: Share) -> None:
    """MAP_POPULATE and MAP_LOCKED read in the whole file, correctly.
    Source: mmap(2) "MAP_POPULATE", "MAP_LOCKED"."""
    share.outside.write_pattern(share.outside.open("fred", NEW, 0o644), 20 * PAGE)
    fd = share.inside.open("fred")
    for extra in (0x8000, 0x2000):
        handle = share.inside.mmap(fd, 20 * PAGE, READ, PRIVATE | extra)
        equal(
            "bytes of the mapping",
            share.inside.soon.map_read(handle, 0, 20 * PAGE),
            share.outside.slurp("fred"),
            code="content",
        )
        share.inside.munmap(handle)
    works_or(share.inside, (EOPNOTSUPP, EINVAL), "posix_fadvise", fd, 0, 0, os.POSIX_FADV_DONTNEED)
