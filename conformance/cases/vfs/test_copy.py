"""copy_file_range(2), sendfile(2), splice(2): the kernel moves bytes between descriptors. Offsets and bad descriptors
are handled as the manual says.
"""

from __future__ import annotations

import os
from errno import EBADF, EINVAL, EISDIR, ESPIPE, EXDEV

import pytest

from conformance.case import case
from conformance.cases.vfs.outcomes import flush, has_pattern, works_or
from conformance.cases.vfs.test_open import make_node
from conformance.checks import equal
from conformance.vfs.share import Share
from protocol.messages import Tlcreate, Tread, Twrite

NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR
DIGITS = b"0123456789"


def pair(share: Share, data: bytes = DIGITS) -> tuple[int, int]:
    """Descriptors of a source with `data`, made outside so that reading asks the server, and of an empty
    file."""
    share.outside.create("from", data)
    return share.inside.open("from"), share.inside.open("to", NEW, 0o644)


@case("COPY-001", covers=[Tread, Twrite], cached_too=True, about="agreement")
@pytest.mark.parametrize("size", [1, 4096, 131_049, 1 << 20])
def test_copy_file_range_of_a_whole_file(share: Share, size: int) -> None:
    """copy_file_range(2), called until it returns 0, copies the file and moves both offsets.
    Source: copy_file_range(2)."""
    share.outside.write_pattern(share.outside.open("from", NEW, 0o644), size)
    src, dst = share.inside.open("from"), share.inside.open("to", NEW, 0o644)
    copied = 0
    while moved := share.inside.copy_file_range(src, dst, size + 10):
        copied += moved
    equal("bytes that copy_file_range() copied in all", copied, size)
    equal("file offset of the source", share.inside.soon.lseek(src, 0, os.SEEK_CUR), size)
    equal("file offset of the destination", share.inside.soon.lseek(dst, 0, os.SEEK_CUR), size)
    share.inside.fsync(dst)
    share.same(share.content("to"))
    has_pattern("'to' outside", share.outside, "to", size)


@case("COPY-002", covers=[Tread, Twrite])
def test_copy_file_range_with_offsets(share: Share) -> None:
    """copy_file_range(2) with offsets reads and writes there and leaves the descriptors' own.
    Source: copy_file_range(2) "If off_in is not NULL"."""
    src, dst = pair(share)
    equal("bytes that copy_file_range() copied", share.inside.copy_file_range(src, dst, 4, 3, 6), 4)
    equal("file offset of the source", share.inside.soon.lseek(src, 0, os.SEEK_CUR), 0)
    equal("file offset of the destination", share.inside.soon.lseek(dst, 0, os.SEEK_CUR), 0)
    share.inside.fsync(dst)
    equal("content of 'to' outside", share.outside.slurp("to"), b"\0" * 6 + b"3456", code="content")


@case("COPY-003")
def test_copy_file_range_at_the_end(share: Share) -> None:
    """copy_file_range(2) from the end of its source, or of no bytes, returns 0 and changes nothing.
    Source: copy_file_range(2) "If the file offset of fd_in is at or past the end of file, no bytes are
    copied"."""
    src, dst = pair(share)
    equal("bytes copied from the end of the source", share.inside.copy_file_range(src, dst, 5, 10, 0), 0)
    equal("bytes copied from past the end of the source", share.inside.copy_file_range(src, dst, 5, 1000, 0), 0)
    equal("bytes copied where none are asked for", share.inside.copy_file_range(src, dst, 0), 0)
    equal(
        "bytes copied from a range that passes the end of the source",
        share.inside.copy_file_range(src, dst, 5, 8, 0),
        2,
    )
    equal("content of 'to' inside", share.inside.soon.slurp("to"), b"89", code="content")


@case("COPY-004", covers=[Twrite])
def test_copy_file_range_within_one_file(share: Share) -> None:
    """copy_file_range(2) within one file works where the ranges do not overlap and fails with EINVAL where they do.
    Source: copy_file_range(2) EINVAL "fd_in and fd_out refer to the same file and ... ranges overlap"."""
    share.inside.create("fred", DIGITS)
    fd = share.inside.open("fred", os.O_RDWR)
    equal("bytes that copy_file_range() copied within the file", share.inside.copy_file_range(fd, fd, 4, 0, 6), 4)
    share.inside.refuses(EINVAL).copy_file_range(fd, fd, 4, 0, 3)
    share.inside.fsync(fd)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"0123450123", code="content")


@case("COPY-005")
def test_copy_file_range_of_bad_descriptors(share: Share) -> None:
    """copy_file_range(2) fails with EBADF without read or write access, into an O_APPEND or a closed
    descriptor, EISDIR for a directory, EINVAL for a fifo or unknown flags; nothing is copied.
    Source: copy_file_range(2) ERRORS."""
    src, dst = pair(share)
    make_node(share, "fifo", "pipe")
    bad = share.inside.refuses(EBADF)
    bad.copy_file_range(share.inside.open("from", os.O_WRONLY), dst, 5)
    bad.copy_file_range(src, share.inside.open("to"), 5)
    bad.copy_file_range(src, share.inside.open("to", os.O_WRONLY | os.O_APPEND), 5)
    bad.copy_file_range(src, 987, 5)
    bad.copy_file_range(987, dst, 5)
    share.inside.refuses(EISDIR).copy_file_range(share.inside.open("."), dst, 5)
    share.inside.refuses(EINVAL).copy_file_range(src, share.inside.open("pipe", os.O_RDWR), 5)
    share.inside.refuses(EINVAL).copy_file_range_flags(src, dst, 5, 1 << 20)
    equal("content of 'to' inside", share.inside.soon.slurp("to"), b"", code="content")


@case("COPY-006", severity="linux")
def test_copy_file_range_to_another_file_system(share: Share) -> None:
    """copy_file_range(2) to another file system copies, or fails with EXDEV or EINVAL and copies nothing.
    Source: copy_file_range(2) EXDEV "since Linux 5.19", and HISTORY: 5.3 to 5.18 copied; EINVAL of 5.19 on
    for special file systems."""
    src, _ = pair(share)
    scratch = share.inside.memfd("scratch")
    seen = works_or(share.inside, (EXDEV, EINVAL), "copy_file_range", src, scratch, 4)
    wanted = b"" if seen.errno is not None else b"0123"
    equal(
        "content of the file of the other file system", share.inside.soon.pread(scratch, 99, 0), wanted, code="content"
    )


@case("COPY-007", covers=[Tread, Twrite], cached_too=True, about="agreement")
@pytest.mark.parametrize("size", [10, 5000, 300_000])
def test_sendfile_between_files(share: Share, size: int) -> None:
    """sendfile(2) copies from its offset to the output's and leaves the source's own offset.
    Source: sendfile(2)."""
    share.outside.write_pattern(share.outside.open("from", NEW, 0o644), size)
    src, dst = share.inside.open("from"), share.inside.open("to", NEW, 0o644)
    copied = 0
    while moved := share.inside.sendfile(dst, src, copied, size):
        copied += moved
    equal("bytes that sendfile() copied in all", copied, size)
    equal("file offset of the source", share.inside.soon.lseek(src, 0, os.SEEK_CUR), 0)
    share.inside.fsync(dst)
    share.same(share.content("to"))
    has_pattern("'to' outside", share.outside, "to", size)


@case("COPY-008", covers=[Tread], cached_too=True)
def test_sendfile_into_a_pipe(share: Share) -> None:
    """sendfile(2) hands a file's bytes to a pipe, as a server hands them to its socket.
    Source: sendfile(2)."""
    src, _ = pair(share)
    reader, writer = share.inside.pipe()
    equal("bytes that sendfile() moved", share.inside.sendfile(writer, src, 2, 5), 5)
    equal("bytes that sendfile() moved from the end of the source", share.inside.sendfile(writer, src, 10, 5), 0)
    equal("bytes read from the pipe", share.inside.soon.read(reader, 99), b"23456", code="content")


@case("COPY-009")
def test_sendfile_of_bad_descriptors(share: Share) -> None:
    """sendfile(2) fails with EBADF without read or write access and with EINVAL into a descriptor with
    O_APPEND or from a pipe; nothing is copied.
    Source: sendfile(2) EBADF, EINVAL."""
    src, dst = pair(share)
    reader, _ = share.inside.pipe()
    share.inside.refuses(EBADF).sendfile(dst, share.inside.open("from", os.O_WRONLY), 0, 5)
    share.inside.refuses(EBADF).sendfile(share.inside.open("to"), src, 0, 5)
    share.inside.refuses(EINVAL).sendfile(share.inside.open("to", os.O_WRONLY | os.O_APPEND), src, 0, 5)
    share.inside.refuses(EINVAL, ESPIPE, because="sendfile(2): in_fd must support mmap-like operations").sendfile(
        dst, reader, 0, 5
    )
    equal("content of 'to' inside", share.inside.soon.slurp("to"), b"", code="content")


@case("COPY-010", covers=[Tread, Twrite], cached_too=True, about="agreement")
@pytest.mark.parametrize("size", [10, 60_000])
def test_splice_from_file_to_file(share: Share, size: int) -> None:
    """splice(2) moves a file's bytes into a pipe and from there into another file.  Source: splice(2)."""
    share.outside.write_pattern(share.outside.open("from", NEW, 0o644), size)
    src, dst = share.inside.open("from"), share.inside.open("to", NEW, 0o644)
    moved = 0
    while part := share.inside.splice_through_pipe(src, dst, size):
        moved += part
    equal("bytes that splice() moved in all", moved, size)
    share.inside.fsync(dst)
    share.same(share.content("to"))
    has_pattern("'to' outside", share.outside, "to", size)


@case("COPY-011", covers=[Tread, Twrite])
def test_splice_with_offsets(share: Share) -> None:
    """splice(2) reads and writes at the offsets it is given and leaves the descriptors' own.
    Source: splice(2) "off_in", "off_out"."""
    src, dst = pair(share)
    reader, writer = share.inside.pipe()
    equal("bytes that splice() moved into the pipe", share.inside.splice(src, writer, 4, 3), 4)
    equal("bytes that splice() moved out of the pipe", share.inside.splice(reader, dst, 4, None, 5), 4)
    equal("file offset of the source", share.inside.soon.lseek(src, 0, os.SEEK_CUR), 0)
    equal("file offset of the destination", share.inside.soon.lseek(dst, 0, os.SEEK_CUR), 0)
    share.inside.fsync(dst)
    equal("content of 'to' outside", share.outside.slurp("to"), b"\0" * 5 + b"3456", code="content")


@case("COPY-012")
def test_splice_of_bad_descriptors(share: Share) -> None:
    """splice(2) fails with EINVAL between two files or into one with O_APPEND, ESPIPE for an offset of a
    pipe, and EBADF without the access.
    Source: splice(2) EINVAL, ESPIPE, EBADF."""
    src, dst = pair(share)
    reader, writer = share.inside.pipe()
    share.inside.write(writer, b"abc")
    share.inside.refuses(EINVAL).splice(src, dst, 4)
    share.inside.refuses(EINVAL).splice(reader, share.inside.open("to", os.O_WRONLY | os.O_APPEND), 4)
    share.inside.refuses(ESPIPE).splice(reader, dst, 4, 1)
    share.inside.refuses(EBADF).splice(reader, share.inside.open("to"), 4)
    share.inside.refuses(EBADF).splice(share.inside.open("from", os.O_WRONLY), writer, 4)
    equal("content of 'to' inside", share.inside.soon.slurp("to"), b"", code="content")
    equal("bytes left in the pipe", share.inside.soon.read(reader, 9), b"abc", code="content")


@case("COPY-013", covers=[Tlcreate], cached_too=True)
def test_copy_of_a_hole(share: Share) -> None:
    """A hole is copied as zeros, by copy_file_range(2) and sendfile(2).
    Source: copy_file_range(2) NOTES "copy_file_range() may expand any holes"."""
    share.inside.create("from", b"start")
    share.inside.truncate("from", 200_000)
    src = share.inside.open("from", os.O_RDWR)
    share.inside.pwrite(src, b"end", 200_000)
    wanted = b"start" + b"\0" * 199_995 + b"end"
    first, second = share.inside.open("one", NEW, 0o644), share.inside.open("two", NEW, 0o644)
    done = 0
    while moved := share.inside.copy_file_range(src, first, 300_000, done, done):
        done += moved
    done = 0
    while moved := share.inside.sendfile(second, src, done, 300_000):
        done += moved
    flush(share, "one", "two")
    for name in ("one", "two"):
        equal(f"content of {name!r} outside", share.outside.slurp(name), wanted, code="content")
