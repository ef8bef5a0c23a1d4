"""Reading and writing at large offsets: around 2 GiB and 4 GiB, across large holes, and near the maximum."""

from __future__ import annotations

import os
from errno import EFBIG, EINVAL, EOVERFLOW

import pytest

from conformance.case import case
from conformance.cases.vfs.outcomes import has_pattern, outcome
from conformance.checks import Errno, between, equal, fields, one_of
from conformance.vfs.share import Share
from protocol.messages import Tread, Twrite

NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR
GIB = 1 << 30
EDGES = {"2GiB": 2 * GIB, "4GiB": 4 * GIB, "6GiB": 6 * GIB, "1TiB": 1 << 40}
LARGEST = (1 << 63) - 1


@case("IO-201", covers=[Tread, Twrite], cached_too=True)
@pytest.mark.parametrize("edge", EDGES)
def test_write_across_a_boundary(share: Share, edge: str) -> None:
    """A write that crosses 2 GiB, 4 GiB or more changes exactly those bytes; both sides see the right size and content.
    Source: POSIX write, off_t of 64 bits; 9P2000.L offset[8] of Tread and Twrite."""
    at = EDGES[edge] - 5
    fd = share.inside.open("fred", NEW, 0o644)
    equal("bytes that pwrite() wrote inside", share.inside.pwrite(fd, b"0123456789", at), 10)
    share.inside.fsync(fd)
    fields("'fred'", share.same(share.stat("fred")), size=at + 10)
    far = share.outside.open("fred")
    for vantage, descriptor in ((share.inside, fd), (share.outside, far)):
        where = f"at the boundary {vantage.name}"
        equal(f"bytes {where}", vantage.soon.pread(descriptor, 100, at - 3), b"\0\0\0" + b"0123456789", code="content")
        if at >= 1 << 32:
            cut = f"bytes {vantage.name} at the offset cut to 32 bits"
            equal(cut, vantage.soon.pread(descriptor, 10, at % (1 << 32)), b"\0" * 10, code="content")
        equal(f"first bytes {vantage.name}", vantage.soon.pread(descriptor, 10, 0), b"\0" * 10, code="content")


@case("IO-202", covers=[Tread])
@pytest.mark.parametrize("edge", EDGES)
def test_read_across_a_boundary_written_outside(share: Share, edge: str) -> None:
    """What the host wrote across 2 GiB, 4 GiB or more is read inside at the same offset.
    Source: POSIX read; 9P2000.L Tread offset[8]."""
    at = EDGES[edge] - 100_000
    writer = share.outside.open("fred", NEW, 0o644)
    share.outside.write_pattern(writer, 200_000, offset=at)
    fd = share.inside.open("fred")
    has_pattern("the bytes across the boundary inside", share.inside, fd, 200_000, offset=at)
    fields("the open file inside", share.inside.soon.fstat(fd), size=at + 200_000)


@case("IO-203", covers=[Twrite])
def test_sequential_write_across_4_gib(share: Share) -> None:
    """write(2) at the descriptor's own offset works across 4 GiB.  Source: POSIX write, lseek."""
    fd = share.inside.open("fred", NEW, 0o644)
    share.inside.lseek(fd, 4 * GIB - 100_000)
    share.inside.write_pattern(fd, 200_000, chunk=3000)
    equal("file offset inside", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 4 * GIB + 100_000)
    far = share.outside.open("fred")
    has_pattern("the bytes across 4 GiB outside", share.outside, far, 200_000, offset=4 * GIB - 100_000)


@case("IO-204", covers=[Twrite])
@pytest.mark.parametrize(
    "offset",
    [(1 << 44) - 4096, 1 << 44, 1 << 62, LARGEST - 4096, LARGEST - 1, LARGEST],
    ids=["16TiB-4096", "16TiB", "2^62", "max-4096", "max-1", "max"],
)
def test_write_near_the_largest_offset(share: Share, offset: int) -> None:
    """A write near the maximum file size works or fails with EFBIG (EINVAL or EOVERFLOW where offset plus count passes
    2^63) exactly as it does on the host, and a refused one leaves the file empty.
    Source: write(2) EFBIG; POSIX write EFBIG, EINVAL; the limit is the exported file system's."""
    fd = share.inside.open("fred", NEW, 0o644)
    twin = share.outside.open("twin", NEW, 0o644)
    share.inside.pwrite(fd, b"x", 0)
    share.outside.pwrite(twin, b"x", 0)
    seen = outcome(share.inside, "pwrite", fd, b"abcd", offset)
    host = outcome(share.outside, "pwrite", twin, b"abcd", offset)
    if seen.errno is not None:
        wanted = [Errno(e) for e in (EFBIG, EINVAL, EOVERFLOW)]
        one_of(f"errno of pwrite() at offset {offset}", Errno(seen.errno), wanted, code="errno")
    equal(f"bytes that pwrite() wrote at offset {offset} inside, and outside", seen.value, host.value)
    if seen.errno is not None:
        fields("'fred'", share.same(share.stat("fred")), size=1)


@case("IO-205", covers=[Tread])
@pytest.mark.parametrize(
    "offset", [1 << 31, 1 << 32, 1 << 44, 1 << 62, LARGEST - 1], ids=["2^31", "2^32", "2^44", "2^62", "max-1"]
)
def test_read_far_past_the_end(share: Share, offset: int) -> None:
    """A read far past the end returns nothing, as on the host, and no bytes from a truncated offset.
    Source: POSIX read; pread(2)."""
    share.inside.create("fred", b"x" * 100)
    fd, twin = share.inside.open("fred"), share.outside.open("fred")
    equal(f"bytes read at offset {offset} inside", share.inside.soon.pread(fd, 1, offset), b"", code="content")
    equal(f"bytes read at offset {offset} outside", share.outside.pread(twin, 1, offset), b"", code="content")


@case("IO-206", covers=[Tread], cached_too=True)
def test_five_gibibyte_hole(share: Share) -> None:
    """A hole of 5 GiB takes no room and reads as zeros throughout.
    Source: POSIX lseek, on gaps; stat(2) st_blocks."""
    share.inside.create("fred", b"start")
    share.inside.truncate("fred", 5 * GIB)
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.pwrite(fd, b"end", 5 * GIB)
    share.inside.fsync(fd)
    seen = share.same(share.stat("fred"))
    fields("'fred'", seen, size=5 * GIB + 3)
    if share.mount.cache == "none":
        between("blocks of 'fred' with 8 bytes in it", seen["st_blocks"], 0, GIB // 512, code="field:blocks")
    for offset in (5, GIB, 2 * GIB - 50, 4 * GIB - 50, 5 * GIB - 100):
        equal(
            f"bytes of the hole at offset {offset}",
            share.inside.soon.pread(fd, 100, offset),
            b"\0" * 100,
            code="content",
        )
    equal("bytes before the hole", share.inside.soon.pread(fd, 5, 0), b"start", code="content")
    equal("bytes behind the hole", share.inside.soon.pread(fd, 9, 5 * GIB), b"end", code="content")
