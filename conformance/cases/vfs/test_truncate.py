"""truncate(2) and ftruncate(2): shorter, longer, equal; zeros in the extension; permissions and errors."""

from __future__ import annotations

import os
from errno import EACCES, EBADF, EFBIG, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR
from typing import Any

import pytest

from conformance.case import UNCACHED, case
from conformance.cases.vfs.outcomes import flush, outcome, settled_times
from conformance.cases.vfs.test_open import make_node
from conformance.checks import Errno, changes, equal, fields, one_of
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Tsetattr

WAYS = pytest.mark.parametrize("way", ["truncate", "ftruncate"])
GIB = 1 << 30
DATA = bytes(i % 251 for i in range(20_000))


def cut(vantage: Vantage, way: str, length: int, name: str = "fred") -> Any:
    """Set the length of `name` by its name or by a descriptor of it."""
    if way == "truncate":
        return vantage.truncate(name, length)
    return vantage.ftruncate(vantage.open(name, os.O_RDWR), length)


@case("TRUNC-001", covers=[Tsetattr], cached_too=True)
@WAYS
def test_shorter(share: Share, way: str) -> None:
    """truncate(2) and ftruncate(2) to a smaller length cut there, on any boundary, and keep the bytes before.
    Source: truncate(2); POSIX truncate, ftruncate; 9P2000.L Tsetattr size."""
    share.inside.create("fred", DATA)
    flush(share, "fred")
    for length in (19_999, 8192, 8191, 4097, 4096, 4095, 1, 0):
        cut(share.inside, way, length)
        fields("'fred'", share.same(share.stat("fred")), size=length)
        equal("content of 'fred' outside", share.outside.slurp("fred"), DATA[:length], code="content")
        equal("content of 'fred' inside", share.inside.soon.slurp("fred"), DATA[:length], code="content")


@case("TRUNC-002", covers=[Tsetattr], cached_too=True)
@WAYS
def test_longer(share: Share, way: str) -> None:
    """truncate(2) and ftruncate(2) to a larger length append zeros.
    Source: truncate(2) "the extended part reads as null bytes"; POSIX ftruncate."""
    share.inside.create("fred", DATA)
    flush(share, "fred")
    for length in (20_001, 20_480, 20_481, 500_000):
        cut(share.inside, way, length)
        fields("'fred'", share.same(share.stat("fred")), size=length)
        wanted = DATA + b"\0" * (length - 20_000)
        equal("content of 'fred' inside", share.inside.soon.slurp("fred"), wanted, code="content")
        equal("content of 'fred' outside", share.outside.slurp("fred"), wanted, code="content")


@case("TRUNC-003", covers=[Tsetattr], cached_too=True)
@WAYS
def test_cut_bytes_do_not_come_back(share: Share, way: str) -> None:
    """Bytes that were cut off are gone: when the file is extended again they read as zeros, even if the guest has read
    them before.
    Source: POSIX ftruncate "the extended area shall appear as if it were zero-filled"."""
    share.inside.create("fred", b"\xff" * 20_000)
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.fsync(fd)
    for length in (6000, 4096, 100, 0):
        share.inside.pread(fd, 20_000, 0)
        cut(share.inside, way, length)
        cut(share.inside, way, 20_000)
        wanted = b"\xff" * length + b"\0" * (20_000 - length)
        equal(
            "content read through the descriptor that was open",
            share.inside.soon.pread(fd, 20_000, 0),
            wanted,
            code="content",
        )
        equal("content of 'fred' outside", share.outside.slurp("fred"), wanted, code="content")


@case("TRUNC-004", covers=[Tsetattr])
@WAYS
def test_cut_outside_is_seen_inside(share: Share, way: str) -> None:
    """A length that the host sets, and the zeros of an extension, are seen inside, and vice versa.
    Source: POSIX truncate; stat(2)."""
    share.outside.create("fred", DATA)
    cut(share.outside, way, 5000)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), DATA[:5000], code="content")
    cut(share.inside, way, 300)
    equal("content of 'fred' outside", share.outside.slurp("fred"), DATA[:300], code="content")


@case("TRUNC-005", covers=[Tsetattr], cached_too=True)
@WAYS
@pytest.mark.parametrize("length", [10, 40_000])
def test_times_and_mode(share: Share, way: str, length: int) -> None:
    """Changing the length moves mtime and ctime, and leaves atime, mode, owner and links.
    Source: POSIX truncate "shall mark for update the last data modification and last file status change
    timestamps"."""
    share.inside.create("fred", DATA, 0o640)
    flush(share, "fred")
    settled_times(share, "fred")
    before = share.same(share.stat("fred"))
    cut(share.inside, way, length)
    after = share.same(share.stat("fred"))
    changes(f"'fred' by {way}(2)", before, after, must={"size", "mtime_ns", "ctime_ns"}, may={"blocks"})


@case("TRUNC-006", covers=[Tsetattr], about="agreement")
@WAYS
def test_equal_length(share: Share, way: str) -> None:
    """Setting the current length keeps every byte.  Source: POSIX truncate, ftruncate."""
    share.inside.create("fred", DATA)
    cut(share.inside, way, len(DATA))
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), DATA, code="content")
    share.same(share.content("fred"))


@case("TRUNC-007", covers=[Tsetattr])
@WAYS
@pytest.mark.parametrize(
    "length",
    [2 * GIB - 1, 2 * GIB, 4 * GIB - 1, 4 * GIB, 4 * GIB + 1, 1 << 43],
    ids=["2^31-1", "2^31", "2^32-1", "2^32", "2^32+1", "2^43"],
)
def test_large_lengths(share: Share, way: str, length: int) -> None:
    """Lengths of 2 GiB, 4 GiB and more can be set, are seen on both sides, and can be reverted.
    Source: POSIX truncate, off_t of 64 bits; 9P2000.L Tsetattr size[8]."""
    share.inside.create("fred", b"abc")
    flush(share, "fred")
    cut(share.inside, way, length)
    fields("'fred'", share.same(share.stat("fred")), size=length)
    fields("'fred' outside", share.outside.stat("fred"), size=length)
    fd = share.inside.open("fred")
    equal("last bytes of the file", share.inside.soon.pread(fd, 100, length - 10), b"\0" * 10, code="content")
    cut(share.inside, way, 3)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"abc", code="content")


@case("TRUNC-008")
@WAYS
def test_largest_length(share: Share, way: str) -> None:
    """The length 2^63-1 works or fails with EFBIG (or EINVAL) just as on the host, and a refusal changes
    nothing.
    Source: truncate(2) EFBIG, EINVAL "length is negative or larger than the maximum file size"."""
    share.inside.create("fred", b"abc")
    share.outside.create("twin", b"abc")
    ours: Any = "fred" if way == "truncate" else share.inside.open("fred", os.O_RDWR)
    theirs: Any = "twin" if way == "truncate" else share.outside.open("twin", os.O_RDWR)
    for length in ((1 << 63) - 1, 1 << 62):
        seen, host = outcome(share.inside, way, ours, length), outcome(share.outside, way, theirs, length)
        result = Errno(seen.errno or 0)
        equal(
            f"result of {way} to {length} inside, compared with outside", result, Errno(host.errno or 0), code="errno"
        )
        one_of(f"result of {way} to {length}", result, [Errno(e) for e in (0, EFBIG, EINVAL)], code="errno")
        cut(share.inside, way, 3)
        share.outside.truncate("twin", 3)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"abc", code="content")


@case("TRUNC-009")
@WAYS
def test_negative_length(share: Share, way: str) -> None:
    """A negative length fails with EINVAL and changes nothing.
    Source: truncate(2) EINVAL; POSIX truncate."""
    share.inside.create("fred", b"abc")
    for length in (-1, -(1 << 63)):
        if way == "truncate":
            share.inside.refuses(EINVAL).truncate("fred", length)
        else:
            share.inside.refuses(EINVAL).ftruncate(share.inside.open("fred", os.O_RDWR), length)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"abc", code="content")


@case("TRUNC-010")
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("nobody", ENOENT),
        ("", ENOENT),
        ("nodir/x", ENOENT),
        ("dangling", ENOENT),
        ("file/x", ENOTDIR),
        ("file/", ENOTDIR),
        ("loop", ELOOP),
        ("n" * 256, ENAMETOOLONG),
        ("dir", EISDIR),
        ("pipe", EINVAL),
    ],
    ids=["missing", "empty", "missing-dir", "dangling", "below-file", "slash-file", "loop", "256", "directory", "fifo"],
)
def test_truncate_of_what_cannot_be(share: Share, name: str, wanted: int) -> None:
    """truncate(2) of a bad path, a directory or a fifo fails with the matching errno and makes nothing.
    Source: truncate(2) ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EISDIR; Linux fs/open.c vfs_truncate(): EINVAL
    for what is not a regular file."""
    share.inside.create("file", b"abc")
    share.inside.mkdir("dir")
    share.inside.symlink("loop", "loop")
    share.inside.symlink("nobody", "dangling")
    make_node(share, "fifo", "pipe")
    before = share.same(share.directory())
    share.inside.refuses(wanted).truncate(name, 0)
    equal("names in the case's directory", share.same(share.directory()), before, code="names")
    equal("content of 'file' inside", share.inside.soon.slurp("file"), b"abc", code="content")


@case("TRUNC-011")
def test_truncate_without_permission(share: Share) -> None:
    """truncate(2) fails with EACCES without write permission on the file or search permission on its path; a user with
    both succeeds without owning it.  Source: truncate(2) EACCES; POSIX truncate."""
    share.inside.create("fred", b"abc", 0o644)
    share.inside.mkdir("dir", 0o700)
    share.inside.create("dir/fred", b"abc", 0o666)
    flush(share, "fred", "dir/fred")
    bob = share.inside.spawn("bob", uid=1001)
    bob.refuses(EACCES).truncate("fred", 0)
    bob.refuses(EACCES).truncate("dir/fred", 0)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"abc", code="content")
    equal("content of 'dir/fred' outside", share.outside.slurp("dir/fred"), b"abc", code="content")
    share.inside.chmod("fred", 0o666)
    bob.truncate("fred", 1)
    equal("content of 'fred' after a user who may write cut it", share.inside.soon.slurp("fred"), b"a", code="content")


@case("TRUNC-012")
def test_ftruncate_of_a_descriptor_not_for_writing(share: Share) -> None:
    """ftruncate(2) of a descriptor opened for reading, O_PATH, closed, of a directory or fifo fails with
    EBADF or EINVAL and changes nothing.
    Source: ftruncate(2) EBADF or EINVAL "fd is not open for writing"; POSIX ftruncate."""
    share.inside.create("fred", b"abc")
    share.inside.mkdir("dir")
    make_node(share, "fifo", "pipe")
    bad = share.inside.refuses(EBADF, EINVAL)
    for fd in (
        share.inside.open("fred"),
        share.inside.open("fred", os.O_PATH),
        share.inside.open("dir"),
        share.inside.open("pipe", os.O_RDWR),
        987,
    ):
        bad.ftruncate(fd, 0)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"abc", code="content")


@case("TRUNC-013", covers=[Tsetattr], about="agreement")
def test_ftruncate_leaves_the_offset(share: Share) -> None:
    """ftruncate(2) leaves the offset, even past the new end, and the next write leaves zeros between.
    Source: POSIX ftruncate "shall not modify the file offset for any open file descriptions"."""
    fd = share.inside.open("fred", os.O_CREAT | os.O_RDWR, 0o644)
    share.inside.write(fd, b"0123456789")
    share.inside.ftruncate(fd, 4)
    equal("file offset after ftruncate(2)", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 10)
    share.inside.write(fd, b"AB")
    share.inside.fsync(fd)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"0123\0\0\0\0\0\0AB", code="content")
    share.same(share.content("fred"))


@case("TRUNC-014", covers=[Tsetattr])
def test_truncate_follows_a_link(share: Share) -> None:
    """truncate(2) of a symbolic link cuts its target and leaves the link.  Source: path_resolution(7)."""
    share.inside.create("fred", b"abc")
    share.inside.symlink("fred", "link")
    share.inside.truncate("link", 1)
    equal("text of the symbolic link 'link'", share.same(share.link("link")), "fred", code="field:target")
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"a", code="content")


@case("TRUNC-015", covers=[Tsetattr], cached_too=True)
def test_ftruncate_of_a_read_only_file_open_for_writing(share: Share) -> None:
    """A user may ftruncate(2) a file through the writable descriptor that created it, even if its mode forbids writing;
    truncate(2) is refused.
    Source: POSIX ftruncate: "open for writing" is all that counts; open(2) "mode"."""
    bob = share.inside.spawn("bob", uid=1001)
    fd = bob.open("fred", os.O_CREAT | os.O_RDWR, 0o444)
    bob.write(fd, b"0123456789")
    bob.ftruncate(fd, 3)
    bob.fsync(fd)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"012", code="content")
    bob.refuses(EACCES).truncate("fred", 0)


@case("TRUNC-016", covers=[Tsetattr])
def test_length_is_seen_by_every_descriptor(share: Share) -> None:
    """Every open descriptor reads the file at its new length at once.  Source: POSIX ftruncate, read."""
    share.inside.create("fred", DATA)
    reader, writer = share.inside.open("fred"), share.inside.open("fred", os.O_RDWR)
    equal("number of bytes read at first", len(share.inside.pread(reader, 30_000, 0)), 20_000)
    share.inside.ftruncate(writer, 7)
    equal("content read after it was cut to 7", share.inside.soon.pread(reader, 30_000, 0), DATA[:7], code="content")
    fields("the file open for reading", share.inside.soon.fstat(reader), size=7)
    share.inside.ftruncate(writer, 9)
    longer = share.inside.pread(reader, 30_000, 0)
    equal("content read after it was made longer to 9", longer, DATA[:7] + b"\0\0", code="content")


@case("TRUNC-017")
def test_over_the_file_size_limit(share: Share) -> None:
    """Making a file longer than the process's limit fails with EFBIG and changes nothing.
    Source: truncate(2) EFBIG; setrlimit(2) RLIMIT_FSIZE; POSIX truncate."""
    share.inside.create("fred", b"abc", 0o666)
    bob = share.inside.spawn("bob")
    fd = bob.open("fred", os.O_RDWR)
    bob.setrlimit(1, 1000)
    bob.refuses(EFBIG).truncate("fred", 1001)
    bob.refuses(EFBIG).ftruncate(fd, 1001)
    bob.ftruncate(fd, 1000)
    fields("'fred'", share.same(share.stat("fred")), size=1000)


@case("TRUNC-018", covers=[Tsetattr], caches=UNCACHED)
def test_write_after_a_cut_outside(share: Share) -> None:
    """A write inside after the host has truncated the file lands at its offset, and the gap is zeros.
    Source: POSIX write, lseek; the offset of Twrite is absolute."""
    fd = share.inside.open("fred", os.O_CREAT | os.O_RDWR, 0o644)
    share.inside.write(fd, b"0123456789")
    share.outside.truncate("fred", 2)
    share.inside.write(fd, b"AB")
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"01\0\0\0\0\0\0\0\0AB", code="content")
    share.inside.ftruncate(fd, 11)
    equal(
        "content of 'fred' outside after ftruncate(2)",
        share.outside.slurp("fred"),
        b"01\0\0\0\0\0\0\0\0A",
        code="content",
    )
