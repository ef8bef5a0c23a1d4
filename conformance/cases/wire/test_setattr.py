"""Family `setattr`: what Tsetattr does with several fields in one request, with times, and with ctime alone.

What is at stake: `tar`, `rsync -a` and `cp -a`, which set owner, mode and times of a file one after the other; a server
that applies them in the wrong order loses set-id bits, and one that cannot represent a time stores another.
"""

from __future__ import annotations

import stat

import pytest

from conformance.case import case
from conformance.checks import Octal, equal, holds
from conformance.errors import Undrivable
from conformance.raw.expectation import OK
from conformance.raw.wire import Wire
from guests.host.waiting import happens
from protocol.constants import (
    EINVAL,
    O_RDWR,
    SETATTR_ATIME,
    SETATTR_ATIME_SET,
    SETATTR_CTIME,
    SETATTR_GID,
    SETATTR_MODE,
    SETATTR_MTIME,
    SETATTR_MTIME_SET,
    SETATTR_SIZE,
    SETATTR_UID,
)
from protocol.messages import Tsetattr, Twrite

U64 = (1 << 64) - 1
ATIME = SETATTR_ATIME | SETATTR_ATIME_SET
MTIME = SETATTR_MTIME | SETATTR_MTIME_SET
NO_NANOSECONDS = {"1e9": 10**9, "1e9+5": 10**9 + 5, "u32": (1 << 32) - 1, "u64": U64}


def _after_now(wire: Wire) -> None:
    """Wait until a change on the host gets a later time than all earlier changes: clocks tick in steps."""
    first = wire.host.stat(wire.host.file(b"clock")).st_ctime_ns

    def ticked() -> bool:
        return wire.host.stat(wire.host.file(b"clock", b"x")).st_ctime_ns > first

    if not happens(ticked, 20, 0.002):
        raise Undrivable("the clock of the exported file system stands still")


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6711, 0o1777])
@case("WIRE-SETATTR-001", covers=[Tsetattr], severity="varies")
def test_special_bits_with_an_owner(wire: Wire, mode: int) -> None:
    """Mode and owner in one request: the file has the requested mode with its set-id bits, although a change of owner
    clears them.  Source: chaos/diod protocol.md, setattr, any combination of valid; chown(2), "the S_ISUID and S_ISGID
    mode bits are cleared"; diod and kvmtool chown first, QEMU's v9fs_setattr does chmod first."""
    wire.host.file(b"fred", b"abc", 0o600)
    mask = SETATTR_MODE | SETATTR_UID | SETATTR_GID
    wire.client.setattr(wire.client.walk_to(b"fred"), mask, mode=stat.S_IFREG | mode, uid=1234, gid=5678)
    seen = wire.host.stat(b"fred")
    equal("permission bits of b'fred' on the host", Octal(stat.S_IMODE(seen.st_mode)), Octal(mode), code="field:mode")
    equal("owner of b'fred' on the host", (seen.st_uid, seen.st_gid), (1234, 5678), code="field:uid")


@case("WIRE-SETATTR-002", covers=[Tsetattr])
def test_size_and_times(wire: Wire) -> None:
    """Size and times in one request: the file has the requested times, not the time of the change of size.  Source:
    chaos/diod protocol.md, setattr, any combination of valid; ftruncate(2) sets mtime."""
    wire.host.file(b"fred", b"0123456789")
    mask = SETATTR_SIZE | ATIME | MTIME
    wire.client.setattr(wire.client.walk_to(b"fred"), mask, size=4, atime=(1000, 5), mtime=(2000, 6))
    seen = wire.host.stat(b"fred")
    equal("size of b'fred' on the host", seen.st_size, 4, code="field:size")
    equal("mtime_ns of b'fred' on the host", seen.st_mtime_ns, 2000 * 10**9 + 6, code="field:mtime_ns")
    equal("atime_ns of b'fred' on the host", seen.st_atime_ns, 1000 * 10**9 + 5, code="field:atime_ns")


@pytest.mark.parametrize("seconds", [-1, -5, -(1 << 31)])
@case("WIRE-SETATTR-003", covers=[Tsetattr], severity="linux")
def test_times_before_1970(wire: Wire, seconds: int) -> None:
    """A time before 1970 can be set: seconds are two's complement in a u64.  Source: utimensat(2); Linux
    p9_client_setattr sends tv_sec, which is signed, as a u64."""
    host = wire.host
    host.file(b"fred")
    wanted = seconds * 10**9 + 7
    host.times(b"fred", wanted, wanted)
    if host.stat(b"fred").st_mtime_ns != wanted:
        raise Undrivable(f"the exported file system cannot hold a time of {seconds} s: there is nothing to compare")
    host.times(b"fred", 10**18, 10**18)
    wire.client.setattr(wire.client.walk_to(b"fred"), ATIME | MTIME, atime=(seconds & U64, 7), mtime=(seconds & U64, 7))
    seen = host.stat(b"fred")
    equal("mtime_ns of b'fred' on the host", seen.st_mtime_ns, wanted, code="field:mtime_ns")
    equal("atime_ns of b'fred' on the host", seen.st_atime_ns, wanted, code="field:atime_ns")


@pytest.mark.parametrize("nanoseconds", NO_NANOSECONDS.values(), ids=NO_NANOSECONDS.keys())
@pytest.mark.parametrize("which", ["atime", "mtime"])
@case("WIRE-SETATTR-004", covers=[Tsetattr], severity="linux")
def test_nanoseconds_that_are_none(wire: Wire, which: str, nanoseconds: int) -> None:
    """A time with nanoseconds of a second or more is refused, or not set; the server does not normalise it.  Source:
    utimensat(2) EINVAL, "tv_nsec is outside the range 0 to 999,999,999"."""
    host = wire.host
    host.file(b"fred", b"abc")
    host.times(b"fred", 10**18, 10**18)
    fid, time = wire.client.walk_to(b"fred"), (1000, nanoseconds)
    wire.client.setattr(fid, ATIME if which == "atime" else MTIME, atime=time, mtime=time, expect={OK, EINVAL})
    seen = host.stat(b"fred")
    now = seen.st_atime_ns if which == "atime" else seen.st_mtime_ns
    made = abs(now // 10**9 - 1000) <= 5
    holds(f"{which} of b'fred' is not one that nobody asked for", not made, seen=now, code=f"field:{which}_ns")


@case("WIRE-SETATTR-005", covers=[Tsetattr], severity="linux")
def test_ctime_alone(wire: Wire) -> None:
    """With only the CTIME bit the file's ctime becomes now.  Source: QEMU v9fs_setattr, "If the only valid entry in
    iattr is ctime we can call chown(-1,-1) to update the ctime of the file", and diod_setattr, which does so too."""
    host = wire.host
    before = host.stat(host.file(b"fred", b"abc")).st_ctime_ns
    _after_now(wire)
    wire.client.setattr(wire.client.walk_to(b"fred"), SETATTR_CTIME)
    after = host.stat(b"fred").st_ctime_ns
    holds("ctime_ns of b'fred' on the host is later", after > before, seen=after, code="field:ctime_ns")


@pytest.mark.parametrize(
    ("valid", "given"),
    [
        (SETATTR_MODE, {"mode": stat.S_IFREG | 0o604}),
        (SETATTR_UID, {"uid": 4711}),
        (SETATTR_SIZE, {"size": 1}),
        (MTIME, {"mtime": (1000, 1)}),
    ],
    ids=["mode", "uid", "size", "mtime"],
)
@case("WIRE-SETATTR-006", covers=[Tsetattr])
def test_every_change_moves_ctime(wire: Wire, valid: int, given: dict[str, int]) -> None:
    """Whatever attribute is set, ctime becomes now: backups use it to find changes.  Source: chmod(2), chown(2),
    truncate(2), utimensat(2): each marks the file's last status change."""
    host = wire.host
    before = host.stat(host.file(b"fred", b"abc")).st_ctime_ns
    _after_now(wire)
    wire.client.setattr(wire.client.walk_to(b"fred"), valid, **given)  # type: ignore[arg-type]
    after = host.stat(b"fred").st_ctime_ns
    holds("ctime_ns of b'fred' on the host is later", after > before, seen=after, code="field:ctime_ns")
    reply = wire.client.getattr(wire.client.walk_to(b"fred"))
    shown = reply.ctime_sec * 10**9 + reply.ctime_nsec
    equal("ctime in Rgetattr, in nanoseconds", shown, after, code="field:ctime_ns", call="Tgetattr")


@case("WIRE-SETATTR-007", covers=[Twrite], severity="varies")
def test_write_to_a_set_id_file(wire: Wire) -> None:
    """An ordinary user's write clears the set-user-id bit of a file.  Source: write(2), inode(7); Linux's client clears
    it before it writes, other clients do not; servers that write as root (QEMU passthrough) keep it."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    host.owner(b"fred", 1234, 1234, 0o4777)
    top = client.fid()
    client.attach(top, wire.aname, wire.spec.uname.encode(), 4321)
    fid = client.walk_to(wire.directory, b"fred", start=top)
    client.lopen(fid, O_RDWR)
    client.write(fid, 0, b"X")
    seen = host.stat(b"fred").st_mode
    equal("permission bits of b'fred' on the host", Octal(stat.S_IMODE(seen)), Octal(0o777), code="field:mode")
