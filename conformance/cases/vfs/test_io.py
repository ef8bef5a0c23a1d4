"""read(2), write(2), pread(2), pwrite(2): bytes arrive unchanged, offsets and counts are right, and bad arguments are
refused. Vectors are in io_vectors, large offsets in io_offsets."""

from __future__ import annotations

import os
from errno import EBADF, EFAULT, EFBIG, EINVAL, EISDIR, ESPIPE

import pytest

from conformance.case import UNCACHED, case
from conformance.cases.vfs.outcomes import flush, has_pattern, settled_times, uncached
from conformance.checks import changes, equal, fields
from conformance.vfs.share import Share
from protocol.messages import Tlopen, Tread, Twrite

NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR
HEADER = 24
"""P9_IOHDRSZ of Linux: what a Tread or Twrite may not use of msize."""
SIZES = {
    "pages": [(1, 0), (511, 0), (4095, 0), (4096, 0), (4097, 0)],
    "messages": [(-HEADER - 1, 1), (-HEADER, 1), (-HEADER + 1, 1), (-11, 1), (0, 1), (1, 1), (7, 3)],
}
"""Sizes as (bytes, times msize): at the edges of pages and of messages."""


@case("IO-001", covers=[Tread, Twrite], cached_too=True, about="agreement")
@pytest.mark.parametrize("sizes", SIZES)
def test_one_write_and_one_read(share: Share, sizes: str) -> None:
    """One write(2) stores all its bytes, and one read(2) of a larger count returns exactly those, however their number
    relates to page and message size.
    Source: POSIX read, write; read(2), write(2) RETURN VALUE; known defects: GitLab qemu#409 (short reads
    at small msize), oxidecomputer/propolis#565 (Rread within 13 bytes of msize), LP#1877688."""
    for extra, times in SIZES[sizes]:
        length = extra + times * share.mount.msize
        name = f"fred{length}"
        fd = share.inside.open(name, NEW, 0o644)
        equal("bytes that write() wrote inside", share.inside.write_pattern(fd, length, chunk=1 << 30), length)
        share.inside.fsync(fd)
        fields(f"{name!r}", share.same(share.stat(name)), size=length)
        share.same(share.content(name))
        has_pattern(f"{name!r} outside", share.outside, name, length)
        got, _ = share.inside.read_in_one(uncached(share, fd), length + 100, 0)
        equal(f"bytes that one read() of {length + 100} returned", got, length)


@case("IO-002", covers=[Tread], caches=UNCACHED)
def test_every_read_count_around_the_message_size(share: Share) -> None:
    """A read of each count from msize-40 to msize+8 returns exactly that many bytes, and the right ones.
    Source: POSIX read; known defect: oxidecomputer/propolis#565."""
    msize = share.mount.msize
    share.outside.write_pattern(share.outside.open("fred", NEW, 0o644), 2 * msize)
    counts = list(range(msize - 40, msize + 9))
    seen = share.inside.read_counts(share.inside.open("fred"), counts)
    host = share.outside.read_counts(share.outside.open("fred"), counts)
    for count, (got, hashed), (_, wanted) in zip(counts, seen, host, strict=True):
        equal(f"bytes that one read() of {count} returned", got, count)
        equal(f"SHA-256 of the first {count} bytes", hashed, wanted, code="content")


@case("IO-003", covers=[Tread], cached_too=True)
def test_read_at_and_past_the_end(share: Share) -> None:
    """A read across the end returns what is there; at and past the end it returns nothing.
    Source: POSIX read "No data transfer shall occur past the current end-of-file"; read(2)."""
    share.outside.create("fred", b"0123456789")
    fd = share.inside.open("fred")
    equal("bytes read at offset 4 inside", share.inside.soon.pread(fd, 100, 4), b"456789", code="content")
    equal("bytes read at offset 9 inside", share.inside.soon.pread(fd, 100, 9), b"9", code="content")
    for offset in (10, 11, 4096, 1 << 33):
        equal(
            f"bytes read at offset {offset}, past the end,",
            share.inside.soon.pread(fd, 100, offset),
            b"",
            code="content",
        )
    equal("bytes that read() returned inside", share.inside.soon.read(fd, 100), b"0123456789", code="content")
    equal("bytes that read() returned at the end", share.inside.soon.read(fd, 100), b"", code="content")


@case("IO-004")
def test_zero_length_read(share: Share) -> None:
    """read(2) of zero bytes returns 0 and moves nothing, even past the end.
    Source: POSIX read "If nbyte is zero, the read() function may detect and return errors ... shall return
    zero"; read(2)."""
    share.inside.create("fred", b"abc")
    fd = share.inside.open("fred", os.O_RDWR)
    equal("bytes that read() of none returned", share.inside.soon.read(fd, 0), b"", code="content")
    equal("bytes that pread() of none past the end returned", share.inside.soon.pread(fd, 0, 999), b"", code="content")
    equal("bytes that read() returned after them", share.inside.soon.read(fd, 9), b"abc", code="content")


@case("IO-005", cached_too=True)
def test_zero_length_write(share: Share) -> None:
    """write(2) of zero bytes returns 0 and changes neither size, times nor content, even past the end.
    Source: POSIX write "if nbyte is zero and the file is a regular file, ... shall return zero and have no
    other results"."""
    share.inside.create("fred", b"abc")
    flush(share, "fred")
    settled_times(share, "fred")
    before = share.same(share.stat("fred"))
    fd = share.inside.open("fred", os.O_RDWR)
    equal("bytes that write() wrote inside", share.inside.write(fd, b""), 0)
    equal("bytes that pwrite() wrote past the end", share.inside.pwrite(fd, b"", 5000), 0)
    changes("'fred' by a write of no bytes", before, share.same(share.stat("fred")))
    equal("size of 'fred'", share.same(share.content("fred"))[0], 3, code="field:size")


@case("IO-006", covers=[Twrite], cached_too=True)
def test_write_past_the_end_leaves_zeros(share: Share) -> None:
    """A write past the end extends the file; the gap reads as zeros on both sides.
    Source: POSIX lseek "subsequent reads of data in the gap shall return bytes with the value 0";
    lseek(2)."""
    for start in (4, 4095, 4096, 4097, 100_000):
        name = f"fred{start}"
        share.inside.create(name, b"abc")
        fd = share.inside.open(name, os.O_RDWR)
        equal("bytes that pwrite() wrote inside", share.inside.pwrite(fd, b"end", start), 3)
        share.inside.fsync(fd)
        fields(f"{name!r}", share.same(share.stat(name)), size=start + 3)
        whole = b"abc" + b"\0" * (start - 3) + b"end"
        equal(f"content of {name!r} inside", share.inside.soon.pread(fd, 200_000, 0), whole, code="content")
        equal(f"content of {name!r} outside", share.outside.slurp(name), whole, code="content")


@case("IO-007", covers=[Twrite], cached_too=True)
def test_overwrite_in_the_middle(share: Share) -> None:
    """A write inside a file replaces exactly the bytes that it covers, on any boundary.  Source: POSIX write."""
    fd = share.inside.open("fred", NEW, 0o644)
    share.inside.write_pattern(fd, 200_000)
    wanted = bytearray(share.outside.pattern_bytes(200_000))
    for mark, start in enumerate((0, 4090, 4096, 8191, 131_071, 199_990)):
        share.inside.pwrite(fd, bytes([mark]) * 10, start)
        wanted[start : start + 10] = bytes([mark]) * 10
    share.inside.fsync(fd)
    equal("size of 'fred'", share.same(share.content("fred"))[0], 200_000, code="field:size")
    equal("content of 'fred' outside", share.outside.slurp("fred"), bytes(wanted), code="content")


@case("IO-008", covers=[Tread, Twrite])
def test_offsets_move_as_they_must(share: Share) -> None:
    """read and write move the offset by what they transferred; pread and pwrite leave it.
    Source: POSIX read, write, pread, pwrite."""
    fd = share.inside.open("fred", NEW, 0o644)
    share.inside.write(fd, b"0123456789")
    equal("offset after a write of 10 bytes", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 10)
    share.inside.pwrite(fd, b"AB", 2)
    equal("offset after pwrite", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 10)
    share.inside.lseek(fd, 1)
    equal("bytes that read() returned at offset 1", share.inside.soon.read(fd, 3), b"1AB", code="content")
    equal("offset after a read of 3 bytes", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 4)
    equal("bytes that pread() returned at offset 7", share.inside.soon.pread(fd, 3, 7), b"789", code="content")
    equal("offset after pread", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 4)
    share.inside.read(fd, 100)
    equal("offset after a read to the end", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 10)


@case("IO-009", covers=[Tread])
def test_dup_shares_the_offset(share: Share) -> None:
    """Descriptors made by dup(2) share one offset.  Source: dup(2); POSIX dup."""
    share.inside.create("fred", b"0123456789")
    fd = share.inside.open("fred")
    other = share.inside.dup(fd)
    equal("bytes that read() returned inside", share.inside.soon.read(fd, 4), b"0123", code="content")
    equal("bytes that read() of the duplicate returned", share.inside.soon.read(other, 4), b"4567", code="content")
    share.inside.close(fd)
    equal("bytes that read() of the duplicate returned then", share.inside.soon.read(other, 4), b"89", code="content")


@case("IO-010", covers=[Tread, Twrite])
def test_every_byte_value(share: Share) -> None:
    """All 256 byte values, including NUL and those that text protocols treat specially, pass unchanged both ways.
    Source: POSIX write; 9P data fields are counted, not terminated."""
    data = bytes(range(256)) * 3 + b"\r\n\0\xff\n\n"
    share.inside.create("fred", data)
    share.outside.create("george", data[::-1])
    flush(share, "fred")
    equal("content of 'fred' outside", share.outside.slurp("fred"), data, code="content")
    equal("content of 'george' inside", share.inside.soon.slurp("george"), data[::-1], code="content")


@case("IO-011", covers=[Tlopen], cached_too=True)
def test_second_descriptor_sees_what_the_first_wrote(share: Share) -> None:
    """What one descriptor writes, another one opened before reads at once, in the same guest and any cache mode.
    Source: POSIX write "Any successful read() from each byte position ... modified by that write() shall
    return the data specified by the write()"."""
    share.inside.create("fred", b"old old old")
    reader = share.inside.open("fred")
    equal(
        "content read by the first descriptor", share.inside.soon.pread(reader, 100, 0), b"old old old", code="content"
    )
    writer = share.inside.open("fred", os.O_WRONLY)
    share.inside.pwrite(writer, b"NEW", 4)
    equal("content read after the write", share.inside.soon.pread(reader, 100, 0), b"old NEW old", code="content")
    bob = share.inside.spawn("bob")
    equal("content read by another process after the write", bob.soon.slurp("fred"), b"old NEW old", code="content")


@case("IO-012", covers=[Twrite], caches=UNCACHED)
def test_write_is_seen_outside_at_once(share: Share) -> None:
    """With cache=none the data of write(2) is in the host's file when the call returns.
    Source: mount option cache=none of Linux v9fs: every write is a Twrite; POSIX write."""
    fd = share.inside.open("fred", NEW, 0o644)
    for i in range(20):
        share.inside.write(fd, b"%03d." % i)
        wanted = b"".join(b"%03d." % n for n in range(i + 1))
        equal(f"content of 'fred' outside after write {i + 1}", share.outside.slurp("fred"), wanted, code="content")


@case("IO-013", covers=[Tread], caches=UNCACHED)
def test_write_outside_is_seen_inside_at_once(share: Share) -> None:
    """With cache=none a descriptor that is open inside reads what the host has just written, even in place.
    Source: mount option cache=none of Linux v9fs; POSIX write."""
    share.outside.create("fred", b"a" * 10_000)
    fd = share.inside.open("fred")
    equal("bytes read at offset 5000 inside", share.inside.soon.pread(fd, 4, 5000), b"aaaa", code="content")
    writer = share.outside.open("fred", os.O_WRONLY)
    for text in (b"1st!", b"2nd!", b"3rd!"):
        share.outside.pwrite(writer, text, 5000)
        equal(
            "bytes read inside after the host's write",
            share.inside.soon.pread(fd, 6, 4999),
            b"a" + text + b"a",
            code="content",
        )


@case("IO-014", covers=[Tread], caches=UNCACHED)
def test_file_that_grows_outside(share: Share) -> None:
    """A reader at the end of a file gets nothing, and after the host has appended it gets exactly the new bytes (tail
    -f).
    Source: POSIX read; known defect: Linux v9fs cached modes gave ENODATA for a growing file (2022)."""
    share.outside.create("log", b"one\n")
    fd, writer = share.inside.open("log"), share.outside.open("log", os.O_WRONLY | os.O_APPEND)
    equal("bytes that read() returned inside", share.inside.soon.read(fd, 100), b"one\n", code="content")
    for text in (b"two\n", b"3" * 5000):
        equal("bytes that read() returned at the end", share.inside.soon.read(fd, 100_000), b"", code="content")
        share.outside.write(writer, text)
        equal(
            "bytes that read() returned after the host appended",
            share.inside.soon.read(fd, 100_000),
            text,
            code="content",
        )


@case("IO-015", covers=[Tread], caches=UNCACHED)
def test_file_that_shrinks_outside(share: Share) -> None:
    """After the host has truncated a file, a reader inside finds its new end.  Source: POSIX read, truncate."""
    share.outside.create("fred", b"x" * 9000)
    fd = share.inside.open("fred")
    equal("number of bytes read before the host cut the file", len(share.inside.pread(fd, 10_000, 0)), 9000)
    share.outside.truncate("fred", 100)
    equal("number of bytes read after the host cut the file", len(share.inside.pread(fd, 10_000, 0)), 100)
    equal("bytes read past the new end", share.inside.soon.pread(fd, 10, 100), b"", code="content")


@case("IO-016", covers=[Twrite], cached_too=True)
def test_write_updates_times(share: Share) -> None:
    """A write moves mtime and ctime and the size, and nothing else of the inode.
    Source: POSIX write "shall mark for update the last data modification and last file status change
    timestamps"."""
    share.inside.create("fred", b"abc", 0o640)
    flush(share, "fred")
    settled_times(share, "fred")
    before = share.same(share.stat("fred"))
    fd = share.inside.open("fred", os.O_WRONLY)
    share.inside.pwrite(fd, b"0123456789", 0)
    share.inside.fsync(fd)
    after = share.same(share.stat("fred"))
    changes("'fred' by write(2)", before, after, must={"size", "mtime_ns", "ctime_ns"}, may={"blocks"})


@case("IO-017", covers=[Tread, Twrite], about="agreement")
def test_four_mebibytes_in_one_call(share: Share) -> None:
    """One write of 4 MiB and one read of it move everything, over many messages.
    Source: write(2), read(2); POSIX: a regular file is written in full unless there is no room."""
    size = 4 << 20
    fd = share.inside.open("fred", NEW, 0o644)
    equal("bytes that write() wrote inside", share.inside.write_pattern(fd, size, chunk=size), size)
    share.inside.fsync(fd)
    got = share.inside.read_in_one(uncached(share, fd), size, 0)
    equal("size and SHA-256 of what one read() returned", got, share.outside.hash_pattern(size), code="content")
    share.same(share.content("fred"))
    has_pattern("'fred' outside", share.outside, "fred", size)


@case("IO-018", covers=[Twrite], about="agreement")
def test_many_small_writes(share: Share) -> None:
    """A thousand writes of one byte result in a thousand bytes in order.  Source: POSIX write."""
    fd = share.inside.open("fred", NEW, 0o644)
    with share.without_comparison():
        share.inside.repeat(500, "write", fd, b"a")
        share.inside.repeat(500, "write", fd, b"b")
    share.inside.fsync(fd)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"a" * 500 + b"b" * 500, code="content")
    share.same(share.stat("fred"))


@case("IO-019")
def test_descriptor_that_is_not_open(share: Share) -> None:
    """read and write of a descriptor that is not open fail with EBADF.  Source: read(2), write(2) EBADF."""
    for op, args in (("read", (10,)), ("write", (b"x",)), ("pread", (10, 0)), ("pwrite", (b"x", 0))):
        share.inside.refuses(EBADF).__getattr__(op)(987, *args)


@case("IO-020")
def test_negative_offset(share: Share) -> None:
    """pread and pwrite at a negative offset fail with EINVAL and change nothing.
    Source: pread(2), lseek(2) EINVAL; POSIX pread EINVAL "the offset argument is invalid ... negative"."""
    share.inside.create("fred", b"abc")
    fd = share.inside.open("fred", os.O_RDWR)
    for offset in (-1, -(1 << 63)):
        share.inside.refuses(EINVAL).pread(fd, 1, offset)
        share.inside.refuses(EINVAL).pwrite(fd, b"x", offset)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"abc", code="content")


@case("IO-021")
@pytest.mark.parametrize("count", [16, 8192, 300_000])
def test_bad_buffer(share: Share, count: int) -> None:
    """read and write with a buffer outside the process's memory fail with EFAULT; file and offset are unchanged, and
    the descriptor stays usable.
    Source: read(2), write(2) EFAULT."""
    share.inside.create("fred", b"x" * 300_000)
    flush(share, "fred")
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.refuses(EFAULT).rw_at_bad_address("read", fd, count)
    share.inside.refuses(EFAULT).rw_at_bad_address("write", fd, count)
    equal("file offset after the calls that failed", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 0)
    fields("'fred'", share.same(share.stat("fred")), size=300_000)
    equal("content of 'fred' inside", share.inside.soon.read(fd, 300_001), b"x" * 300_000, code="content")


@case("IO-022")
def test_read_of_a_directory(share: Share) -> None:
    """pread(2) of a directory fails with EISDIR.  Source: read(2) EISDIR."""
    share.inside.refuses(EISDIR).pread(share.inside.open("."), 10, 0)


@case("IO-023", cached_too=True)
def test_file_size_limit(share: Share) -> None:
    """A write across the process's file size limit is shortened to it; at the limit it fails with EFBIG.
    Source: write(2) EFBIG; setrlimit(2) RLIMIT_FSIZE; POSIX write "as many bytes as there is room for"."""
    bob = share.inside.spawn("bob")
    fd = bob.open("fred", NEW, 0o644)
    bob.setrlimit(1, 5000)
    equal("bytes that pwrite() wrote below the limit", bob.pwrite(fd, b"a" * 4000, 0), 4000)
    equal("bytes that pwrite() wrote over the limit", bob.pwrite(fd, b"b" * 4000, 4000), 1000)
    bob.refuses(EFBIG).pwrite(fd, b"c", 5000)
    bob.fsync(fd)
    fields("'fred'", share.same(share.stat("fred")), size=5000)


@case("IO-024", covers=[Twrite], caches=UNCACHED)
def test_pwrite_with_append(share: Share) -> None:
    """On Linux pwrite(2) of a descriptor with O_APPEND appends, whatever its offset.
    Source: pwrite(2) BUGS "On Linux, if a file is opened with O_APPEND, pwrite() appends data to the end"."""
    share.inside.create("fred", b"0123456789")
    fd = share.inside.open("fred", os.O_WRONLY | os.O_APPEND)
    share.inside.pwrite(fd, b"AB", 2)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"0123456789AB", code="content")


@case("IO-026")
def test_offsets_of_a_fifo(share: Share) -> None:
    """pread and pwrite of a fifo on the share fail with ESPIPE.  Source: pread(2) ESPIPE; POSIX pread."""
    share.outside.mkfifo("pipe")
    fd = share.inside.open("pipe", os.O_RDWR)
    share.inside.refuses(ESPIPE).pread(fd, 1, 0)
    share.inside.refuses(ESPIPE).pwrite(fd, b"x", 0)


@case("IO-025", covers=[Tread, Twrite], about="agreement")
@pytest.mark.parametrize("count", [1, 1000, 1024, 1025, 4096, 70_000])
def test_write_and_read_by_user(share: Share, count: int) -> None:
    """An ordinary user's reads and writes work like root's, below and above the size from which the guest's driver
    passes pages to the device directly.
    Source: POSIX write; Linux net/9p/client.c sends more than 1024 bytes without a copy."""
    bob = share.inside.spawn("bob", uid=1001)
    fd = bob.open("fred", NEW, 0o600)
    equal("bytes that write() wrote for bob", bob.write_pattern(fd, count, seed=3), count)
    bob.fsync(fd)
    has_pattern("the user's file", bob, fd, count, 3)
    share.same(share.content("fred"))
