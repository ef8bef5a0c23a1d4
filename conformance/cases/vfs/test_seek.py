"""lseek(2): resulting offsets, errors, SEEK_DATA and SEEK_HOLE. Linux clients answer it without the server."""

from __future__ import annotations

import os
from errno import EBADF, EINVAL, ENXIO, EOVERFLOW, ESPIPE

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.test_open import make_node
from conformance.checks import Errno, equal, fields, holds, require
from conformance.vfs.share import Share
from protocol.messages import Tgetattr, Tread, Twrite

SET, CUR, END, DATA, HOLE = os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE
WHENCE = {SET: "SEEK_SET", CUR: "SEEK_CUR", END: "SEEK_END"}
LARGEST = (1 << 63) - 1
MIB = 1 << 20


@case("SEEK-001", covers=[Tread], cached_too=True)
def test_set_current_end(share: Share) -> None:
    """lseek(2) sets the offset from the beginning, the current offset or the end, and the next read starts
    there.
    Source: lseek(2); POSIX lseek."""
    share.outside.create("fred", b"0123456789")
    fd = share.inside.open("fred")
    steps = ((3, SET, 3, b"3"), (2, CUR, 6, b"6"), (-2, CUR, 5, b"5"), (-1, END, 9, b"9"))
    for offset, whence, wanted, byte in steps:
        equal(f"result of lseek({offset}, {WHENCE[whence]})", share.inside.soon.lseek(fd, offset, whence), wanted)
        equal(f"byte read after lseek({offset}, {WHENCE[whence]})", share.inside.soon.read(fd, 1), byte, code="content")
    equal("result of lseek(0, SEEK_END)", share.inside.soon.lseek(fd, 0, END), 10)


@case("SEEK-002", covers=[Twrite])
def test_past_the_end(share: Share) -> None:
    """lseek(2) past the end is allowed and changes nothing by itself; a write there extends the file.
    Source: POSIX lseek "shall not, by itself, extend the size of a file"."""
    share.inside.create("fred", b"abc")
    fd = share.inside.open("fred", os.O_RDWR)
    equal("result of lseek(1000, SEEK_END)", share.inside.soon.lseek(fd, 1000, END), 1003)
    fields("'fred' after lseek(2) past its end", share.same(share.stat("fred")), size=3)
    equal("bytes read past the end", share.inside.soon.read(fd, 10), b"", code="content")
    share.inside.write(fd, b"x")
    fields("'fred' after a write past its end", share.same(share.stat("fred")), size=1004)


@case("SEEK-003")
def test_negative_result(share: Share) -> None:
    """lseek(2) to before the beginning fails with EINVAL and leaves the offset.  Source: lseek(2) EINVAL."""
    share.inside.create("fred", b"0123456789")
    fd = share.inside.open("fred")
    share.inside.lseek(fd, 4)
    for offset, whence in ((-1, SET), (-5, CUR), (-11, END)):
        share.inside.refuses(EINVAL).lseek(fd, offset, whence)
    equal("file offset after lseek(2) that failed", share.inside.soon.lseek(fd, 0, CUR), 4)


@case("SEEK-004")
def test_unknown_whence(share: Share) -> None:
    """lseek(2) with a whence that does not exist fails with EINVAL.  Source: lseek(2) EINVAL."""
    share.inside.create("fred", b"abc")
    share.inside.refuses(EINVAL).lseek(share.inside.open("fred"), 0, 99)


@case("SEEK-005")
def test_past_the_largest_offset(share: Share) -> None:
    """lseek(2) whose result passes 2^63-1 fails with EOVERFLOW or EINVAL and leaves the offset.
    Source: lseek(2) EOVERFLOW; Linux fs/read_write.c vfs_setpos() gives EINVAL past s_maxbytes."""
    share.inside.create("fred", b"abc")
    fd = share.inside.open("fred")
    share.inside.lseek(fd, 2)
    share.inside.refuses(EOVERFLOW, EINVAL).lseek(fd, LARGEST, CUR)
    share.inside.refuses(EOVERFLOW, EINVAL).lseek(fd, LARGEST, END)
    equal("file offset after lseek(2) that failed", share.inside.soon.lseek(fd, 0, CUR), 2)


@case("SEEK-006")
def test_what_cannot_seek(share: Share) -> None:
    """lseek(2) fails with ESPIPE for a fifo and EBADF for a descriptor that is closed or O_PATH.
    Source: lseek(2) ESPIPE, EBADF; open(2) O_PATH."""
    make_node(share, "fifo", "pipe")
    share.inside.create("fred")
    share.inside.refuses(ESPIPE).lseek(share.inside.open("pipe", os.O_RDONLY | os.O_NONBLOCK), 0)
    share.inside.refuses(EBADF).lseek(share.inside.open("fred", os.O_PATH), 0)
    share.inside.refuses(EBADF).lseek(987, 0)


@case("SEEK-007", covers=[Tgetattr], caches=FRESH)
def test_end_after_growth_outside(share: Share) -> None:
    """After fstat(2) has shown that the host appended, SEEK_END goes to the new end.
    Source: POSIX lseek "SEEK_END: the size of the file plus offset"; fstat asks the server."""
    share.outside.create("fred", b"0123456789")
    fd = share.inside.open("fred")
    equal("result of lseek(0, SEEK_END) at first", share.inside.soon.lseek(fd, 0, END), 10)
    share.outside.truncate("fred", 5000)
    fields("the open file inside", share.inside.soon.fstat(fd), size=5000)
    equal("result of lseek(0, SEEK_END) after growth", share.inside.soon.lseek(fd, 0, END), 5000)
    share.outside.truncate("fred", 7)
    fields("the open file inside", share.inside.soon.fstat(fd), size=7)
    equal("result of lseek(0, SEEK_END) after it was cut", share.inside.soon.lseek(fd, 0, END), 7)


@case("SEEK-008")
@pytest.mark.parametrize("beyond", [1 << 31, 1 << 32, 1 << 40], ids=["2^31", "2^32", "2^40"])
def test_far_offsets(share: Share, beyond: int) -> None:
    """lseek(2) handles offsets past 2 GiB, 4 GiB and more, from each origin.
    Source: lseek(2), off_t of 64 bits; POSIX lseek."""
    share.inside.create("fred")
    share.inside.truncate("fred", beyond + 10)
    fd = share.inside.open("fred")
    equal(f"result of lseek({beyond}, SEEK_SET)", share.inside.soon.lseek(fd, beyond), beyond)
    equal("result of lseek(3, SEEK_CUR)", share.inside.soon.lseek(fd, 3, CUR), beyond + 3)
    equal("result of lseek(-1, SEEK_END)", share.inside.soon.lseek(fd, -1, END), beyond + 9)


@case("SEEK-009", cached_too=True)
@pytest.mark.parametrize("made", ["inside", "outside"])
def test_data_and_hole_of_a_sparse_file(share: Share, made: str) -> None:
    """SEEK_DATA and SEEK_HOLE of a file with holes never report data as a hole: what SEEK_DATA skips reads as zeros,
    and the results are in order and within the file.
    Source: lseek(2) "Seeking file data and holes": a file system may report the whole file as data."""
    maker = getattr(share, made)
    writer = maker.open("fred", os.O_CREAT | os.O_RDWR, 0o644)
    maker.ftruncate(writer, 4 * MIB)
    islands = (MIB, 3 * MIB - 4096)
    for start in islands:
        maker.pwrite(writer, b"\xaa" * 8192, start)
    maker.fsync(writer)
    fd = share.inside.open("fred")
    position = 0
    covered: list[tuple[int, int]] = []
    while position < 4 * MIB:
        try:
            data = share.inside.lseek(fd, position, DATA)
        except OSError as e:
            equal("errno of SEEK_DATA past the last data", Errno(e.errno or 0), Errno(ENXIO), code="errno")
            break
        hole = share.inside.lseek(fd, data, HOLE)
        require(
            f"from {position} data comes first and a hole after it, in the file",
            position <= data < hole <= 4 * MIB,
            seen=f"data at {data}, hole at {hole}",
        )
        covered.append((data, hole))
        position = hole
    for start in islands:
        found = any(a <= start and start + 8192 <= b for a, b in covered)
        holds(f"SEEK_DATA and SEEK_HOLE do not skip the data at {start}", found, seen=covered)
    last = covered[-1][1] if covered else 0
    offset = share.inside.lseek(fd, 0, CUR)
    holds(f"SEEK_HOLE moves the file offset to {last}, or SEEK_DATA past it", offset >= last, seen=offset)


@case("SEEK-010")
def test_data_and_hole_of_a_file_without_holes(share: Share) -> None:
    """In a file without holes SEEK_DATA returns the offset given, and SEEK_HOLE the end.
    Source: lseek(2) "SEEK_HOLE: ... there is an implicit hole at the end of any file"."""
    share.inside.create("fred", b"x" * 10_000)
    fd = share.inside.open("fred")
    for at in (0, 1, 5000, 9999):
        equal(f"result of lseek({at}, SEEK_DATA)", share.inside.soon.lseek(fd, at, DATA), at)
        equal(f"result of lseek({at}, SEEK_HOLE)", share.inside.soon.lseek(fd, at, HOLE), 10_000)


@case("SEEK-011")
def test_data_and_hole_past_the_end(share: Share) -> None:
    """SEEK_DATA and SEEK_HOLE at or past the end fail with ENXIO, from a negative offset with ENXIO or
    EINVAL.
    Source: lseek(2) ENXIO "whence is SEEK_DATA or SEEK_HOLE, and offset is beyond the end of the file"."""
    share.inside.create("fred", b"abc")
    share.inside.create("empty")
    for name, end in (("fred", 3), ("empty", 0)):
        fd = share.inside.open(name)
        for at in (end, end + 1, 1 << 40):
            share.inside.refuses(ENXIO).lseek(fd, at, DATA)
            share.inside.refuses(ENXIO).lseek(fd, at, HOLE)
        share.inside.refuses(ENXIO, EINVAL).lseek(fd, -1, DATA)
