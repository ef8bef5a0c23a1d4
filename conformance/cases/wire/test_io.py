"""Family `io`: Tread, Twrite and Tfsync.

What is at stake: the data. A count or an offset at the limit of its type must neither lose a byte nor return one that
is not in the file, and never memory of the host.
"""

from __future__ import annotations

import contextlib

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import between, equal, holds
from conformance.errors import InfrastructureError
from conformance.raw.expectation import OK, spell
from conformance.raw.findings import HungUp
from conformance.raw.wire import Session, Wire
from conformance.transports.base import Capability
from protocol.codec import frame
from protocol.constants import (
    EFBIG,
    EINVAL,
    ENOSPC,
    IOHDRSZ,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    RREAD_HDRSZ,
    TWRITE_HDRSZ,
)
from protocol.messages import Rread, Rwrite, Tfsync, Tread, Twrite

PATTERN = bytes(range(256)) * 512
"""128 KiB in which no two bytes at a distance of less than 256 are the same."""
LIES = [(100, 10), (10, 100), (0, 10), (0xFFFFFFFF, 10), (8192, 0), (0x80000000, 4)]
"""Counts that a Twrite claims, and how many bytes stand behind."""
EDGES = [0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFF000, 0xFFFFFFFFFFFFFFFF]
"""Offsets at the edges of off_t and of u64."""


def _read_whole(client: Session, fid: int, step: int) -> bytes:
    """The file from the start, `step` bytes at a time, as a guest reads it."""
    parts: list[bytes] = []
    offset = 0
    while True:
        data = bytes(client.read(fid, offset, step).data)
        if not data:
            return b"".join(parts)
        parts.append(data)
        offset += len(data)


# --- read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 255, 4096, 65000])
@case("WIRE-IO-001", covers=[Tread])
def test_read_a_file(wire: Wire, step: int) -> None:
    """Successive reads return the file byte for byte, and nothing at its end.  Source: read(5)."""
    data = PATTERN[: 300 if step == 1 else 70001]
    wire.host.file(b"fred", data)
    client = wire.client
    seen = _read_whole(client, client.open(b"fred"), min(step, client.msize - 24))
    equal(f"file as read by {step} bytes at a time", seen, data, code="content", call="Tread")


@case("WIRE-IO-002", covers=[Tread])
def test_read_at_the_end(wire: Wire) -> None:
    """A read that reaches past the end returns what is there; one that starts at or after the end returns nothing.
    Source: read(5), "the return will be short"; read(2)."""
    wire.host.file(b"fred", b"0123456789")
    client = wire.client
    fid = client.open(b"fred")
    shared.reads(client, fid, b"789", "the last three of ten bytes", 7, 100)
    shared.reads(client, fid, b"9", "the last of ten bytes", 9, 1)
    for offset in (10, 11, 4096, 1 << 32, 1 << 40):
        shared.reads(client, fid, b"", f"a file of ten bytes at offset {offset}", offset, 100)


@case("WIRE-IO-003", covers=[Tread])
def test_read_nothing(wire: Wire) -> None:
    """A read of 0 bytes returns none.  Source: read(2) with count 0."""
    wire.host.file(b"fred", b"abc")
    client = wire.client
    fid = client.open(b"fred")
    shared.reads(client, fid, b"", "a file, none of it", 0, 0)
    shared.reads(client, fid, b"b", "a file after a read of nothing", 1, 1)


@pytest.mark.parametrize("over", [-13, -1, 0, 1, 4096, 0x7FFFFFFF, 0xFFFFFFFF - 24, 0xFFFFFFFF - 10, 0xFFFFFFFF])
@case("WIRE-IO-004", covers=[Tread])
def test_count_beyond_msize(wire: Wire, over: int) -> None:
    """A read whose reply would not fit msize returns less, or is refused; no reply is longer than msize.
    Source: read(5), version(5); diod np_read EIO, others cut; counts near 2^32 overflowed in diod (#136), counts
    within 13 bytes of msize made files unreadable in Oxide's server (propolis#565)."""
    wire.host.file(b"fred", PATTERN)
    client = wire.session(8192)
    fid = client.open(b"fred")
    count = over if over > 0x7FFFFFF0 else client.msize - RREAD_HDRSZ + over
    reply = client.read(fid, 0, count, expect=allowed.BAD_COUNT | {OK})
    if isinstance(reply, Rread):
        got = bytes(reply.data)
        most = min(count, client.msize - RREAD_HDRSZ)
        between("bytes in Rread", len(got), 1, most, call="Tread")
        equal("bytes in Rread, beside the file's", got, PATTERN[: len(got)], code="content", call="Tread")


@case("WIRE-IO-005", covers=[Tread], severity="linux")
def test_largest_read_that_linux_sends(wire: Wire) -> None:
    """A read of msize - 24 bytes, the most that Linux requests, is answered whole.  Source: Linux p9_client_read_once,
    msize - P9_IOHDRSZ; with shorter replies it still works, but needs twice the messages."""
    wire.host.file(b"fred", PATTERN)
    client = wire.session(8192)
    fid = client.open(b"fred")
    shared.reads(client, fid, PATTERN[3 : 3 + client.msize - 24], "a long file", 3, client.msize - 24)


@pytest.mark.parametrize("offset", EDGES, ids=shared.label)
@case("WIRE-IO-006", covers=[Tread])
def test_read_at_absurd_offsets(wire: Wire, offset: int) -> None:
    """A read at an impossible offset returns nothing or is refused.  Source: pread(2) EINVAL; QEMU's xattr reads
    overflowed on such offsets (CVE-2016-9104)."""
    wire.host.file(b"fred", b"abc")
    client = wire.client
    fid = client.open(b"fred")
    reply = client.read(fid, offset, 4096, expect=allowed.BAD_OFFSET | {OK})
    if isinstance(reply, Rread):
        equal("bytes in Rread at an offset that no file has", bytes(reply.data), b"", code="content", call="Tread")
    shared.reads(client, fid, b"abc", "the file afterwards", 0, 3)


@case("WIRE-IO-007", covers=[Tread])
def test_read_of_a_directory(wire: Wire) -> None:
    """Tread of a directory is refused, open or not.  Source: chaos/diod protocol.md, "read cannot be used on
    directories"."""
    wire.host.directory(b"dir")
    client = wire.client
    client.read(client.open(b"dir"), 0, 4096, expect=allowed.READ_OF_DIRECTORY)
    client.read(client.walk_to(b"dir"), 0, 4096, expect=allowed.READ_OF_DIRECTORY | allowed.WRONG_STATE)


@case("WIRE-IO-008", covers=[Tread])
def test_read_of_an_unopened_fid(wire: Wire) -> None:
    """Tread of a fid that was not opened is refused.  Source: read(5), "the file ... must have been opened for
    reading"."""
    wire.host.file(b"fred", b"abc")
    client = wire.client
    client.read(client.walk_to(b"fred"), expect=allowed.WRONG_STATE)


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-IO-009", covers=[Tread])
def test_read_of_dead_fid(wire: Wire, which: str) -> None:
    """Tread of an unknown fid is refused.  Source: read(5)."""
    shared.dead_fid(wire, which, lambda client, fid: client.read.send(fid))


@case("WIRE-IO-010", covers=[Tread])
def test_read_sees_what_the_host_did(wire: Wire) -> None:
    """An open file that the host changes reads with its new content: longer, shorter, other bytes.  Source: read(5);
    v9fs gave ENODATA on growing files (ml 2022-01-10)."""
    host, client = wire.host, wire.client
    host.file(b"fred", b"abc")
    fid = client.open(b"fred")
    shared.reads(client, fid, b"abc", "the file before the host changes it")
    host.write(b"fred", b"def")
    shared.reads(client, fid, b"abcdef", "the file that the host has lengthened")
    host.truncate(b"fred", 2)
    shared.reads(client, fid, b"ab", "the file that the host has cut")
    shared.reads(client, fid, b"", "the file that the host has cut, behind its end", 3)


@case("WIRE-IO-011", covers=[Tread])
def test_hole_reads_as_zeros(wire: Wire) -> None:
    """A hole reads as zeros, and only within the file.  Source: lseek(2); memory of the host must not show
    (CVE-2017-15038)."""
    host, client = wire.host, wire.client
    host.file(b"fred", b"abc")
    host.truncate(b"fred", 20000)
    fid = client.open(b"fred")
    seen = _read_whole(client, fid, 8000)
    equal("file with a hole, as it reads", seen, b"abc" + bytes(19997), code="content", call="Tread")


@case("WIRE-IO-012", covers=[Tread])
def test_read_beyond_four_gigabytes(wire: Wire) -> None:
    """Offsets above 2^32 reach the right bytes.  Source: read(5), offset[8]."""
    host, client = wire.host, wire.client
    host.file(b"fred")
    place = (5 << 30) + 12345
    host.write(b"fred", b"far away", place)
    fid = client.open(b"fred")
    shared.reads(client, fid, b"far away", "a file above 4 GiB", place, 100)
    shared.reads(client, fid, bytes(8), "its hole, 4 GiB before that", place - (1 << 32), 8)


# --- write ----------------------------------------------------------------------------------------


@case("WIRE-IO-020", covers=[Twrite])
def test_write_a_file(wire: Wire) -> None:
    """Written data is in the file at its offset, and the rest stays.  Source: read(5), write."""
    host, client = wire.host, wire.client
    host.file(b"fred", b"0123456789")
    fid = client.open(b"fred", flags=O_RDWR)
    _takes(client.write(fid, 3, b"XYZ"), 3)
    shared.content(wire, b"fred", b"012XYZ6789", "a write within the file")
    _takes(client.write(fid, 9, b"abc"), 3)
    shared.content(wire, b"fred", b"012XYZ678abc", "a write across its end")
    shared.reads(client, fid, b"012XYZ678abc", "the file that was written")


def _takes(reply: Rwrite, count: int) -> bool:
    """The Twrite accepted that many bytes."""
    return equal("count in Rwrite", reply.count, count, call="Twrite")


@case("WIRE-IO-021", covers=[Twrite])
def test_write_beyond_the_end(wire: Wire) -> None:
    """A write past the end leaves a hole of zeros.  Source: lseek(2), pwrite(2)."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    _takes(client.write(fid, 10000, b"x"), 1)
    shared.content(wire, b"fred", b"abc" + bytes(9997) + b"x")


@case("WIRE-IO-022", covers=[Twrite])
def test_write_nothing(wire: Wire) -> None:
    """A write of 0 bytes changes nothing, not even the size.  Source: write(2) with count 0."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    _takes(client.write(fid, 0, b""), 0)
    _takes(client.write(fid, 100, b""), 0)
    shared.content(wire, b"fred", b"abc")


@pytest.mark.parametrize("room", [-2, -1, 0])
@case("WIRE-IO-023", covers=[Twrite])
def test_largest_write(wire: Wire, room: int) -> None:
    """A Twrite that fills msize to the last byte is served, completely or for as many bytes as Rwrite says.  Source:
    version(5); read(5)."""
    client = wire.session(8192)
    fid = client.create(b"fred")
    data = PATTERN[: client.msize - TWRITE_HDRSZ + room]
    reply = client.write(fid, 0, data, expect=allowed.BAD_COUNT | {OK} if room > -2 else OK)
    # diod reserves P9_IOHDRSZ (24) bytes where 23 are needed; Linux never uses the last byte either.
    if isinstance(reply, Rwrite):
        between("count in Rwrite", reply.count, 1, len(data), call="Twrite")
        shared.content(wire, b"fred", data[: reply.count])


@case("WIRE-IO-045", covers=[Tread, Twrite])
def test_largest_messages(wire: Wire) -> None:
    """Data in messages of the largest msize that the server grants reaches the host unchanged, for as many bytes as
    Rwrite says, and reads back.  Source: read(5); Linux mounts with msize up to 1 MiB, so that one write(2) is one
    Twrite."""
    client = wire.session(wire.spec.msize_max)
    fid = client.create(b"fred", flags=O_RDWR)
    step = client.msize - IOHDRSZ
    data = (PATTERN * (3 * step // len(PATTERN) + 1))[: 3 * step]
    at = 0
    while at < len(data):
        count = client.write(fid, at, data[at : at + step]).count
        between("count in Rwrite", count, 1, min(step, len(data) - at), call="Twrite")
        at += count
    shared.content(wire, b"fred", data)
    equal("file as read by the largest messages", _read_whole(client, fid, step), data, code="content", call="Tread")


@pytest.mark.parametrize("over", [1, 4096, 60000])
@case("WIRE-IO-024", covers=[Twrite])
def test_write_longer_than_msize(wire: Wire, over: int) -> None:
    """A Twrite longer than msize is refused, ends the connection, or is served; the file holds no byte that was not
    sent.  Source: version(5), the client must not send it; a server must survive it."""
    client = wire.session(8192)
    fid = client.create(b"fred")
    data = PATTERN[: client.msize - TWRITE_HDRSZ + over]
    pending = client.write.send(fid, 0, data)
    with contextlib.suppress(HungUp):
        pending.wait()
    content = wire.host.content(b"fred")
    shared.content(wire, b"fred", data[: len(content)], "a Twrite longer than msize")
    wire.still_serves()


@pytest.mark.parametrize(("claimed", "there"), LIES)
@case("WIRE-IO-025", covers=[Twrite])
def test_count_that_lies(wire: Wire, claimed: int, there: int) -> None:
    """A Twrite whose count disagrees with its frame is refused, ends the connection, or writes bytes that were sent; no
    byte of the server's memory gets into the file.  Source: intro(5), fields fill the frame; QEMU's heap went to guests
    in the same way (CVE-2016-9103, CVE-2017-15038)."""
    client = wire.client
    fid = client.create(b"fred")
    data = b"\xa5" * there
    raw = bytearray(frame(Twrite(77, fid, 0, data)))
    raw[19:23] = claimed.to_bytes(4, "little")
    client.send_raw(raw, f"Twrite of {there} bytes that claims {claimed}")
    try:
        reply = client.next_reply()
        if isinstance(reply, Rwrite):
            between(f"count in Rwrite, where {there} bytes were sent", reply.count, 0, there, call="Twrite")
        else:
            refused = client.errno_of(reply) != OK
            holds("Twrite whose count lies is answered by Rwrite or refused", refused, seen=spell(reply), code="reply")
    except HungUp:
        pass
    content = wire.host.content(b"fred")
    shared.content(wire, b"fred", data[: len(content)], "a Twrite whose count lies")


@pytest.mark.parametrize("offset", EDGES, ids=shared.label)
@case("WIRE-IO-026", covers=[Twrite])
def test_write_at_absurd_offsets(wire: Wire, offset: int) -> None:
    """A write at an impossible offset is refused and changes nothing.  Source: pwrite(2) EINVAL, EFBIG."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    client.write(fid, offset, b"xyz", expect=allowed.BAD_OFFSET)
    shared.content(wire, b"fred", b"abc")


@case("WIRE-IO-027", covers=[Twrite])
def test_write_past_the_largest_file(wire: Wire) -> None:
    """A write beyond what the host's file system can hold is refused, with EFBIG or ENOSPC.
    Source: pwrite(2) EFBIG."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    try:
        wire.host.truncate(b"fred", (1 << 60) + 3)
    except InfrastructureError:  # more than the host's file system can hold
        client.write(fid, 1 << 60, b"xyz", expect={EFBIG, ENOSPC, EINVAL})
        shared.content(wire, b"fred", b"abc", "a write past the largest file")
    else:
        _takes(client.write(fid, 1 << 60, b"xyz"), 3)
        shared.reads(client, fid, b"xyz", "a file of 2^60 bytes, at its end", 1 << 60, 8)


@case("WIRE-IO-028", covers=[Twrite])
def test_write_to_a_directory(wire: Wire) -> None:
    """Twrite to a directory is refused.  Source: read(5), "it is an error to write to a directory"."""
    wire.host.directory(b"dir")
    client = wire.client
    errnos = allowed.READ_OF_DIRECTORY | allowed.WRONG_STATE
    client.write(client.open(b"dir"), 0, b"x", expect=errnos)
    client.write(client.walk_to(b"dir"), 0, b"x", expect=errnos)


@case("WIRE-IO-029", covers=[Twrite])
def test_write_to_an_unopened_fid(wire: Wire) -> None:
    """Twrite to a fid that was not opened is refused and changes nothing.  Source: read(5), "opened for writing"."""
    wire.host.file(b"fred", b"abc")
    client = wire.client
    client.write(client.walk_to(b"fred"), 0, b"x", expect=allowed.WRONG_STATE)
    shared.content(wire, b"fred", b"abc")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-IO-030", covers=[Twrite])
def test_write_to_dead_fid(wire: Wire, which: str) -> None:
    """Twrite to an unknown fid is refused.  Source: read(5)."""
    shared.dead_fid(wire, which, lambda client, fid: client.write.send(fid, 0, b"x"))


@case("WIRE-IO-031", covers=[Twrite])
def test_writes_in_flight_all_arrive(wire: Wire) -> None:
    """Of sixty-four writes in flight to different places of a file none is lost.  Source: intro(5): they may be carried
    out in any order, each of them once."""
    client = wire.client
    fid = client.create(b"fred")
    pending = [client.write.send(fid, number * 1000, bytes([number]) * 1000) for number in range(64)]
    for one in pending:
        _takes(one.result(), 1000)
    shared.content(wire, b"fred", b"".join(bytes([number]) * 1000 for number in range(64)))


@case("WIRE-IO-032", covers=[Twrite, Tread])
def test_two_connections_see_each_other(wire: Wire) -> None:
    """One connection reads what another has written.  Source: read(5): there is one file."""
    wire.need(Capability.SESSIONS, "one session only")
    one, two = wire.client, wire.session()
    fid = one.create(b"fred", b"abc")
    other = two.open(b"fred", flags=O_RDWR)
    one.write(fid, 1, b"X")
    shared.reads(two, other, b"aXc", "a file that another connection has written")
    two.write(other, 2, b"Y")
    shared.reads(one, fid, b"aXY", "a file that both connections have written")


@case("WIRE-IO-033", covers=[Tread, Twrite])
def test_memory_does_not_grow(wire: Wire) -> None:
    """Two thousand reads and writes of 16 KiB do not grow the server's memory.  Source: CWE-401, as CVE-2016-8577
    (Tread) and CVE-2016-9106 (Twrite): a guest must not exhaust its host's memory."""
    client = wire.client
    size = min(16384, client.msize - 24)
    fid = client.create(b"fred", PATTERN[:size])

    def round_() -> None:
        for _ in range(100):
            pending = [client.read.send(fid, 0, size) for _ in range(10)]
            pending += [client.write.send(fid, 0, PATTERN[:size]) for _ in range(10)]  # type: ignore[misc]
            for one in pending:
                one.result()

    round_()
    before = wire.memory()
    round_()
    shared.memory_within(wire, before, 12 << 20, "two thousand reads and writes")


# --- fsync ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("datasync", [0, 1, 0xFFFFFFFF])
@case("WIRE-IO-040", covers=[Tfsync], severity="linux")
def test_fsync_of_a_file(wire: Wire, datasync: int) -> None:
    """Tfsync of an open file succeeds, with datasync and without.  Source: chaos/diod protocol.md, fsync; fsync(2)."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    client.fsync(fid, datasync)
    client.fsync(client.open(b"fred", flags=O_RDONLY), datasync)
    client.fsync(client.open(b"fred", flags=O_WRONLY), datasync)
    shared.content(wire, b"fred", b"abc")


@case("WIRE-IO-041", covers=[Tfsync], severity="linux")
def test_fsync_of_a_directory(wire: Wire) -> None:
    """Tfsync of an open directory succeeds: databases and package managers sync the directory after a rename.  Source:
    fsync(2); Linux v9fs_dir_operations_dotl.fsync; lib9p add79f9."""
    wire.host.directory(b"dir")
    client = wire.client
    client.fsync(client.open(b"dir"))
    client.fsync(client.open(b"dir"), 1)


@case("WIRE-IO-042", covers=[Tfsync])
def test_fsync_without_datasync(wire: Wire) -> None:
    """A Tfsync in the older layout, without datasync, is served, refused, or ends the connection.  Source: chaos/diod
    protocol.md, fsync, which had no datasync until diod#118; servers broke on the newer layout (ruxos#132,
    diod#101/#118, unikraft#886), and must not on the older."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    client.send_raw(shared.cut(Tfsync(77, fid, 0), 4), "Tfsync without datasync")
    try:
        reply = client.next_reply()
    except HungUp:
        wire.still_serves()
        return
    client.judged(Tfsync(77, fid, 0), reply, allowed.MALFORMED | {OK})
    client.getattr(fid)


@case("WIRE-IO-043", covers=[Tfsync], severity="varies")
def test_fsync_of_an_unopened_fid(wire: Wire) -> None:
    """Tfsync of a fid that was not opened is refused.  Source: chaos/diod protocol.md, "fid, previously opened with
    lopen"."""
    wire.host.file(b"fred")
    client = wire.client
    client.fsync(client.walk_to(b"fred"), expect=allowed.WRONG_STATE)


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-IO-044", covers=[Tfsync])
def test_fsync_of_dead_fid(wire: Wire, which: str) -> None:
    """Tfsync of an unknown fid is refused.  Source: chaos/diod protocol.md, fsync."""
    shared.dead_fid(wire, which, lambda client, fid: client.fsync.send(fid))
