"""readv(2), writev(2), preadv(2), pwritev(2) and the flags of preadv2(2) and pwritev2(2)."""

from __future__ import annotations

import os
from errno import EAGAIN, EBADF, EINVAL, EOPNOTSUPP

import pytest

from conformance.case import case
from conformance.cases.vfs.outcomes import works_or
from conformance.checks import equal, fields
from conformance.vfs.share import Share
from protocol.messages import Tread, Twrite

NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR
RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT, RWF_APPEND = 1, 2, 4, 8, 16


@case("IO-101", covers=[Twrite], cached_too=True)
def test_writev_gathers_in_order(share: Share) -> None:
    """writev(2) writes its parts in order at the offset, including empty and large ones.
    Source: writev(2); POSIX writev."""
    parts = [b"one", b"", b"2" * 5000, b"\0", b"three" * 40_000]
    fd = share.inside.open("fred", NEW, 0o644)
    share.inside.write(fd, b"head")
    equal("bytes that writev() wrote", share.inside.writev(fd, parts), sum(map(len, parts)))
    share.inside.fsync(fd)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"head" + b"".join(parts), code="content")
    equal("file offset after writev()", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 4 + sum(map(len, parts)))


@case("IO-102", covers=[Tread], cached_too=True)
def test_readv_scatters_in_order(share: Share) -> None:
    """readv(2) fills its buffers one after the other and stops at the end of the file.
    Source: readv(2); POSIX readv."""
    share.outside.write_pattern(share.outside.open("fred", NEW, 0o644), 50_000)
    whole = share.outside.slurp("fred")
    fd = share.inside.open("fred")
    first = share.inside.readv(fd, [10, 0, 4096, 1, 30_000])
    equal("bytes that readv() into five buffers read", first, whole[: 10 + 4096 + 1 + 30_000], code="content")
    rest = share.inside.readv(fd, [10_000, 10_000, 10_000])
    equal("bytes that readv() read up to the end", rest, whole[34_107:], code="content")
    equal("bytes that readv() read at the end", share.inside.readv(fd, [10, 10]), b"", code="content")


@case("IO-103", covers=[Tread, Twrite])
def test_preadv_and_pwritev_leave_the_offset(share: Share) -> None:
    """preadv(2) and pwritev(2) work at their offset and leave the descriptor's.  Source: preadv(2)."""
    fd = share.inside.open("fred", NEW, 0o644)
    share.inside.write(fd, b"0123456789")
    equal("bytes that pwritev() wrote inside", share.inside.pwritev(fd, [b"AB", b"C"], 4), 3)
    equal("bytes that preadv() read inside", share.inside.preadv(fd, [2, 4], 3), b"3ABC78", code="content")
    equal("file offset after preadv() and pwritev()", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 10)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"0123ABC789", code="content")


@case("IO-104", covers=[Twrite])
def test_as_many_parts_as_there_may_be(share: Share) -> None:
    """writev and readv take IOV_MAX (1024) parts, and fail with EINVAL for one more, writing nothing.
    Source: writev(2) EINVAL, IOV_MAX; POSIX writev."""
    fd = share.inside.open("fred", NEW, 0o644)
    equal("bytes that writev() of 1,024 parts wrote", share.inside.writev(fd, [b"ab"] * 1024), 2048)
    share.inside.refuses(EINVAL).writev(fd, [b"ab"] * 1025)
    share.inside.refuses(EINVAL).readv(fd, [1] * 1025)
    equal(
        "bytes that preadv() into 1,024 buffers read",
        share.inside.preadv(fd, [2] * 1024, 0),
        b"ab" * 1024,
        code="content",
    )
    fields("'fred'", share.same(share.stat("fred")), size=2048)


@case("IO-105", covers=[Twrite])
@pytest.mark.parametrize("flag", [RWF_HIPRI, RWF_DSYNC, RWF_SYNC], ids=["hipri", "dsync", "sync"])
def test_flags_that_only_say_how(share: Share, flag: int) -> None:
    """pwritev2 and preadv2 with RWF_HIPRI, RWF_DSYNC or RWF_SYNC move the same bytes as without flags; a file system
    may refuse RWF_HIPRI with EOPNOTSUPP.
    Source: pwritev2(2); EOPNOTSUPP "An unknown flag is specified"."""
    fd = share.inside.open("fred", NEW, 0o644)
    seen = works_or(share.inside, (EOPNOTSUPP,) if flag == RWF_HIPRI else (), "pwritev", fd, [b"abc", b"de"], 1, flag)
    if seen.errno is None:
        equal("content of 'fred' outside", share.outside.slurp("fred"), b"\0abcde", code="content")
    else:
        share.inside.pwritev(fd, [b"abcde"], 1)
    back = works_or(share.inside, (EOPNOTSUPP,) if flag == RWF_HIPRI else (), "preadv", fd, [2, 9], 1, flag)
    if back.errno is None:
        equal("bytes that preadv() read", back.value, b"abcde", code="content")


@case("IO-106", covers=[Twrite])
def test_rwf_append(share: Share) -> None:
    """pwritev2 with RWF_APPEND appends whatever its offset, and leaves the descriptor's offset.
    Source: pwritev2(2) "RWF_APPEND"."""
    share.inside.create("fred", b"0123456789")
    fd = share.inside.open("fred", os.O_RDWR)
    equal("bytes that pwritev() wrote inside", share.inside.pwritev(fd, [b"AB"], 3, RWF_APPEND), 2)
    equal("file offset after pwritev() with RWF_APPEND", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 0)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"0123456789AB", code="content")


@case("IO-107", severity="linux")
def test_rwf_nowait(share: Share) -> None:
    """preadv2 with RWF_NOWAIT returns data, or EAGAIN where it would wait, or EOPNOTSUPP where the file system cannot
    know; never wrong data.
    Source: preadv2(2) "RWF_NOWAIT", EAGAIN; Linux fs/read_write.c: EOPNOTSUPP without FMODE_NOWAIT."""
    share.inside.create("fred", b"0123456789")
    fd = share.inside.open("fred", os.O_RDWR)
    seen = works_or(share.inside, (EAGAIN, EOPNOTSUPP), "preadv", fd, [4, 3], 2, RWF_NOWAIT)
    if seen.errno is None:
        equal("bytes that preadv() with RWF_NOWAIT read", seen.value, b"2345678", code="content")
    works_or(share.inside, (EAGAIN, EOPNOTSUPP), "pwritev", fd, [b"0123"], 0, RWF_NOWAIT)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"0123456789", code="content")


@case("IO-108")
def test_unknown_flag(share: Share) -> None:
    """preadv2 and pwritev2 with a flag that does not exist fail with EOPNOTSUPP (EINVAL before Linux 4.13)
    and change nothing.
    Source: pwritev2(2) EOPNOTSUPP."""
    share.inside.create("fred", b"abc")
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.refuses(EOPNOTSUPP, EINVAL).pwritev(fd, [b"X"], 0, 1 << 30)
    share.inside.refuses(EOPNOTSUPP, EINVAL).preadv(fd, [1], 0, 1 << 30)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"abc", code="content")


@case("IO-109")
def test_vectors_on_bad_descriptors(share: Share) -> None:
    """readv, writev, preadv and pwritev of a descriptor without that access fail with EBADF, at a negative
    offset with EINVAL.
    Source: readv(2), preadv(2) ERRORS."""
    share.inside.create("fred", b"abc")
    reading, writing = share.inside.open("fred"), share.inside.open("fred", os.O_WRONLY)
    share.inside.refuses(EBADF).writev(reading, [b"x"])
    share.inside.refuses(EBADF).pwritev(reading, [b"x"], 0)
    share.inside.refuses(EBADF).preadv(writing, [1], 0)
    share.inside.refuses(EINVAL).preadv(reading, [1], -5)
    share.inside.refuses(EINVAL).pwritev(writing, [b"x"], -5)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"abc", code="content")
