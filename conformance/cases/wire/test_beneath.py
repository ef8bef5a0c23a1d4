"""Family `beneath`: effects that no client can see through the share, read from the host's page cache and times.

What is at stake: a database that has synced its journal and finds it gone after a power cut. A server whose fsync does
nothing passes every test that uses only the share.
"""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.checks import equal, holds
from conformance.errors import Undrivable
from conformance.raw.beneath import unwritten_pages
from conformance.raw.wire import Wire
from protocol.constants import O_DSYNC, O_NOATIME, O_RDONLY, O_RDWR, O_SYNC
from protocol.messages import Tfsync, Tlopen, Tread, Twrite

OLD = 10**18
"""A time in 2001, in nanoseconds."""


@pytest.mark.parametrize("datasync", [0, 1], ids=["fsync", "datasync"])
@case("WIRE-BENEATH-001", covers=[Tfsync])
def test_fsync_writes_to_the_disk(wire: Wire, datasync: int) -> None:
    """When Rfsync comes, what was written before is on the disk of the host.  Source: fsync(2); chaos/diod protocol.md,
    fsync, "flush any cached data to disk"."""
    client = wire.client
    fid = client.create(b"fred", b"x" * 20000)
    client.fsync(fid, datasync)
    left = unwritten_pages(wire.host.path(b"fred"))
    equal("pages of b'fred' that are not on the host's disk after Rfsync", left, 0, code="disk", call="Tfsync")


@pytest.mark.parametrize("flags", [O_SYNC | O_DSYNC, O_DSYNC], ids=["SYNC", "DSYNC"])
@case("WIRE-BENEATH-002", covers=[Tlopen, Twrite], severity="linux")
def test_synchronous_writes(wire: Wire, flags: int) -> None:
    """Data written through a fid opened with SYNC or DSYNC is on the disk of the host when Rwrite comes.  Source:
    open(2) O_SYNC; Linux sends the flag and, before 6.8, no Tfsync behind each write of such a file."""
    client = wire.client
    wire.host.file(b"fred")
    fid = client.open(b"fred", flags=O_RDWR | flags)
    client.write(fid, 0, b"x" * 20000)
    left = unwritten_pages(wire.host.path(b"fred"))
    equal("pages of b'fred' that are not on the host's disk after Rwrite", left, 0, code="disk", call="Twrite")


def _atime_moves(wire: Wire, name: bytes) -> bool:
    """Whether reading that file on the host moves its atime: not where it is mounted with noatime."""
    wire.host.times(name, OLD, OLD + 1)
    wire.host.content(name)
    return wire.host.stat(name).st_atime_ns != OLD


@case("WIRE-BENEATH-003", covers=[Tlopen, Tread], severity="varies")
def test_reading_moves_atime(wire: Wire) -> None:
    """Reading a file opened without NOATIME moves its atime, as reading it on the host does.  Source: read(2),
    inode(7); QEMU opens everything with O_NOATIME where it may."""
    client, host = wire.client, wire.host
    if not _atime_moves(wire, host.file(b"fred", b"abc")):
        raise Undrivable("the exported file system does not move atime")
    host.times(b"fred", OLD, OLD + 1)
    client.read(client.open(b"fred", flags=O_RDONLY))
    seen = host.stat(b"fred").st_atime_ns
    holds("atime of b'fred' moves when it is read", seen != OLD, seen=seen, code="field:atime_ns")


@case("WIRE-BENEATH-004", covers=[Tlopen, Tread], severity="varies")
def test_reading_without_moving_atime(wire: Wire) -> None:
    """Reading a file opened with NOATIME leaves its atime.  Source: open(2) O_NOATIME; backups depend on it."""
    client, host = wire.client, wire.host
    if not _atime_moves(wire, host.file(b"fred", b"abc")):
        raise Undrivable("the exported file system does not move atime")
    host.times(b"fred", OLD, OLD + 1)
    client.read(client.open(b"fred", flags=O_RDONLY | O_NOATIME))
    equal("atime of b'fred' on the host", host.stat(b"fred").st_atime_ns, OLD, code="field:atime_ns")
