"""Family `attributes`: Tgetattr, Tsetattr and Tstatfs.

What is at stake: `stat`, `chmod`, `touch`, `df`. The guest believes every field; one with the wrong width, or set when
it was not requested, breaks make, rsync and every package manager in ways that show days later.
"""

from __future__ import annotations

import os
import stat
import time

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import Octal, between, equal, holds
from conformance.errors import Undrivable
from conformance.raw.expectation import OK
from conformance.raw.wire import Wire
from protocol.constants import (
    EINVAL,
    EISDIR,
    EOPNOTSUPP,
    EPERM,
    GETATTR_ALL,
    GETATTR_BASIC,
    GETATTR_INO,
    GETATTR_MODE,
    GETATTR_SIZE,
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
    V9FS_MAGIC,
)
from protocol.messages import Rgetattr, Tgetattr, Tsetattr, Tstatfs

U64 = (1 << 64) - 1
NO_NANOSECONDS = {"1e9": 10**9, "UTIME_NOW": 0x3FFFFFFF, "UTIME_OMIT": 0x3FFFFFFE, "u64": U64}
ATIME = SETATTR_ATIME | SETATTR_ATIME_SET
MTIME = SETATTR_MTIME | SETATTR_MTIME_SET


def _agree(reply: Rgetattr, host: os.stat_result, only: str = "") -> None:
    """Every basic field of a reply (or those that end with `only`) is what lstat shows on the host."""
    wanted = {
        "mode": host.st_mode,
        "uid": host.st_uid,
        "gid": host.st_gid,
        "nlink": host.st_nlink,
        "rdev": host.st_rdev,
        "size": host.st_size,
        "blocks": host.st_blocks,
        "atime_sec": host.st_atime_ns // 10**9 & U64,
        "atime_nsec": host.st_atime_ns % 10**9,
        "mtime_sec": host.st_mtime_ns // 10**9 & U64,
        "mtime_nsec": host.st_mtime_ns % 10**9,
        "ctime_sec": host.st_ctime_ns // 10**9 & U64,
        "ctime_nsec": host.st_ctime_ns % 10**9,
    }
    if not stat.S_ISCHR(host.st_mode) and not stat.S_ISBLK(host.st_mode):
        del wanted["rdev"]  # meaningless then
    for name, value in wanted.items():
        if name.endswith(only):
            seen = getattr(reply, name)
            shown = (Octal(seen), Octal(value)) if name == "mode" else (seen, value)
            equal(f"{name} in Rgetattr, beside the host's lstat", *shown, code=f"field:{name}", call="Tgetattr")


def _untouched(wire: Wire, name: bytes, before: os.stat_result, *fields: str) -> None:
    """Those fields of a file on the host are the same as `before`: uid, mtime_ns, ..."""
    after = wire.host.stat(name)
    for field in fields:
        was, now = getattr(before, f"st_{field}"), getattr(after, f"st_{field}")
        equal(f"{field} of {name!r} on the host, which Tsetattr had to leave alone", now, was, code=f"field:{field}")


def _has(wire: Wire, name: bytes, **fields: int) -> None:
    """Those fields of a file on the host have these values: uid=1234, mtime_ns=5."""
    now = wire.host.stat(name)
    for field, wanted in fields.items():
        equal(f"{field} of {name!r} on the host", getattr(now, f"st_{field}"), wanted, code=f"field:{field}")


# --- getattr --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "fifo", "socket", "char", "block", "hard link"])
@case("WIRE-ATTR-001", covers=[Tgetattr])
def test_every_field(wire: Wire, kind: str) -> None:
    """Type, mode, owner, group, link count, device, size, blocks and the three times are the host's, to the nanosecond.
    Source: chaos/diod protocol.md, getattr; stat(2)."""
    client, host = wire.client, wire.host
    name = b"thing"
    if kind == "file":
        host.file(name, bytes(5000), 0o4751)
    elif kind == "directory":
        host.directory(name, 0o1775)
    elif kind == "symlink":
        host.symlink(name, b"some/where")
    elif kind == "fifo":
        host.fifo(name)
    elif kind == "socket":
        host.socket(name, 0o640)
    elif kind == "hard link":
        host.link(host.file(b"other", b"abc"), name)
    else:
        host.device(name, 8 if kind == "block" else 5, 17, block=kind == "block")
    if os.geteuid() == 0:
        host.owner(name, 1234, 56789)
    host.times(name, 1_000_000_000_123_456_789, 1_600_000_000_987_654_321)
    reply = client.getattr(client.walk_to(name))
    _valid(reply, GETATTR_BASIC)
    _agree(reply, host.stat(name))


def _valid(reply: Rgetattr, wanted: int) -> bool:
    """All of those bits are set in valid."""
    missing = shared.Hex(wanted & ~reply.valid)
    return equal(
        "basic fields that were asked for and are not in valid of Rgetattr",
        missing,
        shared.Hex(0),
        code="field:valid",
        call="Tgetattr",
    )


@pytest.mark.parametrize("mask", [0, GETATTR_MODE, GETATTR_SIZE, GETATTR_BASIC, GETATTR_ALL, U64], ids=shared.label)
@case("WIRE-ATTR-002", covers=[Tgetattr])
def test_what_was_asked_for_is_valid(wire: Wire, mask: int) -> None:
    """The basic fields that were requested are in valid, and right.  Source: chaos/diod protocol.md, "valid is a
    bitmask indicating which fields are valid in the response"; v9fs_stat2inode_dotl looks at valid."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    reply = client.getattr(client.walk_to(b"fred"), mask)
    wanted = mask & GETATTR_BASIC & ~GETATTR_INO  # the inode is in the qid, requested or not
    _valid(reply, wanted)
    if mask & GETATTR_MODE:
        equal("mode in Rgetattr", Octal(reply.mode), Octal(host.stat(b"fred").st_mode), code="field:mode")
    if mask & GETATTR_SIZE:
        equal("size in Rgetattr", reply.size, 3, code="field:size")


@case("WIRE-ATTR-003", covers=[Tgetattr], severity="varies")
def test_reserved_fields(wire: Wire) -> None:
    """Birth time, generation and data version are not marked as valid.  Source: chaos/diod protocol.md, "reserved for
    future use"; crosvm's tests want BASIC exactly; QEMU claims a generation where the host has one."""
    client = wire.client
    reply = client.getattr(client.root, GETATTR_ALL)
    beyond = shared.Hex(reply.valid & ~GETATTR_BASIC)
    equal("fields beyond the basic ones that Rgetattr claims to be valid", beyond, shared.Hex(0), code="field:valid")


@case("WIRE-ATTR-004", covers=[Tgetattr], severity="varies")
def test_valid_holds_no_unknown_bits(wire: Wire) -> None:
    """valid names only fields that exist.  Source: chaos/diod protocol.md, P9_GETATTR_ALL; diod returns whatever was
    requested."""
    client = wire.client
    valid = client.getattr(client.root, U64).valid
    unknown = shared.Hex(valid & ~GETATTR_ALL)
    equal("bits without a meaning in valid of Rgetattr", unknown, shared.Hex(0), code="field:valid")


@case("WIRE-ATTR-005", covers=[Tgetattr])
def test_large_file(wire: Wire) -> None:
    """A size above 2^32, and the few blocks of a file that is one hole, are reported.  Source: stat(2); size[8]."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    host.truncate(b"fred", (5 << 30) + 7)
    _agree(client.getattr(client.walk_to(b"fred")), host.stat(b"fred"))


@pytest.mark.parametrize("seconds", [-1, -(1 << 31), 0, (1 << 31) - 1, 1 << 31, (1 << 32) + 1, 5_000_000_000])
@case("WIRE-ATTR-006", covers=[Tgetattr], severity="linux")
def test_times_of_all_centuries(wire: Wire, seconds: int) -> None:
    """Times before 1970 and after 2038 are reported, negative ones as two's complement.  Source: stat(2); v9fs reads
    u64 into time64_t."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    host.times(b"fred", seconds * 10**9, seconds * 10**9 + 999_999_999)
    if host.stat(b"fred").st_mtime_ns // 10**9 != seconds:
        raise Undrivable(f"the exported file system cannot hold a time of {seconds} s: there is nothing to compare")
    reply = client.getattr(client.walk_to(b"fred"))
    _agree(reply, host.stat(b"fred"), "time_sec")
    _agree(reply, host.stat(b"fred"), "time_nsec")


@case("WIRE-ATTR-007", covers=[Tgetattr], severity="linux")
def test_attributes_of_an_unlinked_open_file(wire: Wire) -> None:
    """fstat(2) works on a file that was opened and then unlinked, and shows a link count of 0.  Source: unlink(2); apt
    and dnf do so (GitLab qemu#103, LP#1336794; ml 2020-07..09 open-unlink-f*syscall series; diod#19)."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    client.unlink(b"fred")
    reply = client.getattr(fid)
    equal("size in Rgetattr of an unlinked open file", reply.size, 3, code="field:size")
    equal("nlink in Rgetattr of an unlinked open file", reply.nlink, 0, code="field:nlink")


@case("WIRE-ATTR-008", covers=[Tgetattr])
def test_attributes_follow_the_host(wire: Wire) -> None:
    """The next Tgetattr shows what the host has changed.  Source: chaos/diod protocol.md, getattr."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o600)
    fid = client.walk_to(b"fred")
    _agree(client.getattr(fid), host.stat(b"fred"))
    host.file(b"fred", b"abcdef", 0o644)
    _agree(client.getattr(fid), host.stat(b"fred"))


@case("WIRE-ATTR-009", covers=[Tgetattr], severity="varies")
def test_qid_version_follows_the_content(wire: Wire) -> None:
    """qid.version changes when the content does.  Source: intro(5), "the version ... is incremented every time the file
    is modified"; diod and nfs-ganesha always give 0, crosvm whole seconds."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    before = client.getattr(fid).qid.version
    time.sleep(0.02)
    client.write(fid, 0, b"abcdef")
    after = client.getattr(fid).qid.version
    holds("qid.version changes when the content does", after != before, seen=after, code="field:qid")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-ATTR-010", covers=[Tgetattr])
def test_getattr_of_dead_fid(wire: Wire, which: str) -> None:
    """Tgetattr of an unknown fid is refused.  Source: chaos/diod protocol.md, getattr."""
    shared.dead_fid(wire, which, lambda client, fid: client.getattr.send(fid))


# --- setattr --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o644, 0o777, 0o1777, 0o2755, 0o4755, 0o7777])
@pytest.mark.parametrize("kind", ["file", "directory"])
@case("WIRE-ATTR-020", covers=[Tsetattr])
def test_mode(wire: Wire, kind: str, mode: int) -> None:
    """Tsetattr of MODE sets the permission bits and leaves type, owner, size and mtime alone.  Source: chmod(2);
    chaos/diod protocol.md, setattr."""
    client, host = wire.client, wire.host
    name = host.file(b"thing", b"abc", 0o640) if kind == "file" else host.directory(b"thing", 0o750)
    before = host.stat(name)
    client.setattr(client.walk_to(name), SETATTR_MODE, mode=stat.S_IFMT(before.st_mode) | mode)
    shared.mode_is(wire, name, mode)
    kinds = [Octal(stat.S_IFMT(info.st_mode)) for info in (host.stat(name), before)]
    equal(f"file type of {name!r} on the host", *kinds, code="field:mode")
    _untouched(wire, name, before, "uid", "gid", "size", "mtime_ns")


@case("WIRE-ATTR-021", covers=[Tsetattr])
def test_mode_without_type_bits(wire: Wire) -> None:
    """A mode of only permission bits, without the CTIME bit, is accepted as well: Linux sends the file's type, too
    (9pfuse answered ERANGE to that, plan9port#81).  Source: chaos/diod protocol.md, setattr, "mode"; chmod(2)."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    client.setattr(client.walk_to(b"fred"), SETATTR_MODE, mode=0o604, exact=True)
    seen = host.stat(b"fred").st_mode
    equal("mode of b'fred' on the host", Octal(seen), Octal(stat.S_IFREG | 0o604), code="field:mode")


@case("WIRE-ATTR-022", covers=[Tsetattr])
def test_owner_and_group(wire: Wire) -> None:
    """UID and GID can be set separately or together.  Source: chown(2); chaos/diod protocol.md, setattr."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    fid = client.walk_to(b"fred")
    client.setattr(fid, SETATTR_UID, uid=1234)
    _has(wire, b"fred", uid=1234, gid=0)
    client.setattr(fid, SETATTR_GID, gid=5678)
    _has(wire, b"fred", uid=1234, gid=5678)
    client.setattr(fid, SETATTR_UID | SETATTR_GID, uid=0xFFFFFFFE, gid=0x80000000)
    _has(wire, b"fred", uid=0xFFFFFFFE, gid=0x80000000)


@case("WIRE-ATTR-023", covers=[Tsetattr])
def test_owner_not_asked_for(wire: Wire) -> None:
    """Fields whose bit is not in valid are ignored, whatever they hold.  Source: chaos/diod protocol.md, "valid is a
    bitmask selecting which fields to set"."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    host.times(b"fred", 10**18, 10**18)
    before = host.stat(b"fred")
    mode = stat.S_IFREG | 0o640
    client.setattr(client.walk_to(b"fred"), SETATTR_MODE, mode=mode, uid=1, gid=2, size=0, atime=(5, 6), mtime=(7, 8))
    _untouched(wire, b"fred", before, "uid", "gid", "size", "atime_ns", "mtime_ns")


@pytest.mark.parametrize("opened", [False, True], ids=["unopened", "open"])
@case("WIRE-ATTR-024", covers=[Tsetattr])
def test_size(wire: Wire, opened: bool) -> None:
    """SIZE truncates a file or extends it with zeros, through an open fid and through one that is not open.  Source:
    truncate(2), ftruncate(2)."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"0123456789")
    fid = client.open(b"fred", flags=O_RDWR) if opened else client.walk_to(b"fred")
    beside = SETATTR_MTIME if opened else 0  # ftruncate(2) sends it, truncate(2) does not
    client.setattr(fid, SETATTR_SIZE | beside, size=4)
    shared.content(wire, b"fred", b"0123", "a size of 4 was set")
    client.setattr(fid, SETATTR_SIZE | beside, size=8)
    shared.content(wire, b"fred", b"0123" + bytes(4), "a size of 8 was set")
    client.setattr(fid, SETATTR_SIZE | beside, size=(5 << 30) + 1)
    shared.size_is(wire, b"fred", (5 << 30) + 1)
    client.setattr(fid, SETATTR_SIZE | beside, size=0)
    shared.size_is(wire, b"fred", 0)


@pytest.mark.parametrize("size", [1 << 63, U64], ids=shared.label)
@case("WIRE-ATTR-025", covers=[Tsetattr])
def test_absurd_size(wire: Wire, size: int) -> None:
    """A size that does not fit off_t is refused, and the file keeps its content.  Source: truncate(2) EINVAL, EFBIG."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    client.setattr(client.walk_to(b"fred"), SETATTR_SIZE, size=size, expect=allowed.BAD_OFFSET)
    shared.content(wire, b"fred", b"abc")


@case("WIRE-ATTR-026", covers=[Tsetattr])
def test_size_of_a_directory(wire: Wire) -> None:
    """The size of a directory cannot be set.  Source: truncate(2) EISDIR, EINVAL."""
    client = wire.client
    wire.host.directory(b"dir")
    wire.host.file(b"dir/inner")
    client.setattr(client.walk_to(b"dir"), SETATTR_SIZE, size=0, expect={EISDIR, EINVAL, EPERM})
    shared.names(wire, {b"inner"}, b"dir")


@case("WIRE-ATTR-027", covers=[Tsetattr])
def test_times_that_are_given(wire: Wire) -> None:
    """ATIME_SET and MTIME_SET set the given times, to the nanosecond.  Source: utimensat(2); chaos/diod protocol.md,
    setattr; lib9p mixed them up (lib9p 01edd9e)."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    fid = client.walk_to(b"fred")
    client.setattr(fid, ATIME | MTIME, atime=(1_111_111_111, 123_456_789), mtime=(4_000_000_000, 999_999_999))
    _has(wire, b"fred", atime_ns=1_111_111_111_123_456_789, mtime_ns=4_000_000_000_999_999_999)


@pytest.mark.parametrize("which", ["atime", "mtime"])
@case("WIRE-ATTR-028", covers=[Tsetattr])
def test_one_time_alone(wire: Wire, which: str) -> None:
    """Setting one of the times leaves the other.  Source: utimensat(2) UTIME_OMIT; chaos/diod protocol.md, setattr."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    host.times(b"fred", 10**18 + 1, 10**18 + 2)
    fid = client.walk_to(b"fred")
    client.setattr(fid, ATIME if which == "atime" else MTIME, atime=(7, 8), mtime=(9, 10))
    wanted = (7 * 10**9 + 8, 10**18 + 2) if which == "atime" else (10**18 + 1, 9 * 10**9 + 10)
    _has(wire, b"fred", atime_ns=wanted[0], mtime_ns=wanted[1])


@case("WIRE-ATTR-029", covers=[Tsetattr])
def test_times_of_the_server(wire: Wire) -> None:
    """A time without its SET bit becomes the server's current time, whatever the request holds.  Source: chaos/diod
    protocol.md, "the current system time on the server is used instead of the value sent in the request"."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    host.times(b"fred", 10**18, 10**18)
    before = time.time_ns() - 2 * 10**9
    client.setattr(client.walk_to(b"fred"), SETATTR_ATIME | SETATTR_MTIME, atime=(7, 8), mtime=(9, 10))
    after = time.time_ns() + 2 * 10**9
    seen = host.stat(b"fred")
    between("atime_ns on the host, which had to become now", seen.st_atime_ns, before, after, code="field:atime_ns")
    between("mtime_ns on the host, which had to become now", seen.st_mtime_ns, before, after, code="field:mtime_ns")


@case("WIRE-ATTR-030", covers=[Tsetattr], severity="linux")
def test_ctime_bit(wire: Wire) -> None:
    """The CTIME bit, which Linux sends with every change, is no error; alone it changes no other attribute.  Source:
    v9fs_vfs_setattr_dotl passes ATTR_CTIME on; QEMU v9fs_setattr."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    before = host.stat(b"fred")
    fid = client.walk_to(b"fred")
    client.setattr(fid, SETATTR_CTIME)
    client.setattr(fid, SETATTR_MODE | SETATTR_CTIME, mode=stat.S_IFREG | 0o640)
    _untouched(wire, b"fred", before, "mode", "uid", "gid", "size", "mtime_ns")


@case("WIRE-ATTR-031", covers=[Tsetattr])
def test_nothing_to_set(wire: Wire) -> None:
    """With no bit in valid nothing changes.  Source: chaos/diod protocol.md, setattr."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    before = host.stat(b"fred")
    client.setattr(client.walk_to(b"fred"), 0, mode=0, uid=9, gid=9, size=0, expect={OK, EINVAL})
    _untouched(wire, b"fred", before, "mode", "uid", "gid", "size", "mtime_ns")


@case("WIRE-ATTR-032", covers=[Tsetattr], severity="varies")
def test_unknown_bits(wire: Wire) -> None:
    """Bits in valid that have no meaning are refused.  Source: chaos/diod protocol.md has nine; most servers look at
    those only."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    client.setattr(client.walk_to(b"fred"), 0xFFFFFE00, exact=True, expect={EINVAL, EOPNOTSUPP})
    shared.content(wire, b"fred", b"abc")


@pytest.mark.parametrize("nanoseconds", NO_NANOSECONDS.values(), ids=NO_NANOSECONDS.keys())
@case("WIRE-ATTR-033", covers=[Tsetattr])
def test_nanoseconds_that_are_none(wire: Wire, nanoseconds: int) -> None:
    """Nanoseconds of a second and more are refused or ignored; the server survives, and the size stays.  Source:
    utimensat(2) EINVAL; UTIME_NOW and UTIME_OMIT belong to the server's system calls, not to the protocol."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    fid = client.walk_to(b"fred")
    client.setattr(fid, MTIME, mtime=(1000, nanoseconds), expect={OK, EINVAL})
    reply = client.getattr(fid)
    equal("size in Rgetattr", reply.size, 3, code="field:size")
    between("mtime_nsec in Rgetattr", reply.mtime_nsec, 0, 10**9 - 1, code="field:mtime_nsec")


@case("WIRE-ATTR-034", covers=[Tsetattr])
def test_symbolic_link_itself(wire: Wire) -> None:
    """A symbolic link has its own owner and times, which can be set.
    Source: lchown(2), utimensat(2) AT_SYMLINK_NOFOLLOW."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    host.symlink(b"link", b"fred")
    fid = client.walk_to(b"link")
    client.setattr(fid, SETATTR_UID | SETATTR_GID, uid=77, gid=78)
    _has(wire, b"link", uid=77, gid=78)
    client.setattr(fid, MTIME, mtime=(5, 6))
    _has(wire, b"link", mtime_ns=5 * 10**9 + 6)


@case("WIRE-ATTR-038", covers=[Tsetattr])
def test_target_of_a_symbolic_link(wire: Wire) -> None:
    """Tsetattr of a symbolic link never changes its target, even for mode and size, which a link does not have.
    Source: CVE-2016-9602: the client resolves symbolic links, and a host file that one names is not the guest's."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    host.symlink(b"link", b"fred")
    before = host.stat(b"fred")
    fid = client.walk_to(b"link")
    settable = allowed.NOT_SETTABLE_ON_LINK | {OK}
    client.setattr(fid, SETATTR_UID | SETATTR_GID, uid=77, gid=78, expect=settable)
    client.setattr(fid, MTIME, mtime=(5, 6), expect=settable)
    client.setattr(fid, SETATTR_MODE, mode=stat.S_IFLNK | 0o777, expect=settable)
    client.setattr(fid, SETATTR_SIZE, size=0, expect=settable)
    _untouched(wire, b"fred", before, "mode", "uid", "gid", "size", "mtime_ns")


@case("WIRE-ATTR-035", covers=[Tsetattr], severity="linux")
def test_unlinked_open_file(wire: Wire) -> None:
    """fchmod(2) works on a file that was opened and then unlinked.  Source: unlink(2); QEMU answers ENOENT (GitLab
    qemu#103)."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    client.unlink(b"fred")
    client.setattr(fid, SETATTR_MODE, mode=stat.S_IFREG | 0o600)
    seen = client.getattr(fid).mode
    equal("mode in Rgetattr of an unlinked open file", Octal(seen), Octal(stat.S_IFREG | 0o600), code="field:mode")


@case("WIRE-ATTR-039", covers=[Tsetattr], severity="linux")
def test_times_of_an_unlinked_open_file(wire: Wire) -> None:
    """futimens(2) works on a file that was opened and then unlinked.  Source: unlink(2); QEMU before 10.1 answers
    ENOENT (GitLab qemu#103)."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    client.unlink(b"fred")
    client.setattr(fid, MTIME, mtime=(1000, 5))
    reply = client.getattr(fid)
    equal("mtime_sec in Rgetattr of an unlinked open file", reply.mtime_sec, 1000, code="field:mtime_sec")
    equal("mtime_nsec in Rgetattr of an unlinked open file", reply.mtime_nsec, 5, code="field:mtime_nsec")


@case("WIRE-ATTR-036", covers=[Tsetattr], severity="linux")
def test_all_at_once(wire: Wire) -> None:
    """Mode, owner, group, size and both times in one request are all set.  Source: chaos/diod protocol.md, "any
    combination"."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abcdef")
    client.setattr(
        client.walk_to(b"fred"),
        SETATTR_MODE | SETATTR_UID | SETATTR_GID | SETATTR_SIZE | ATIME | MTIME,
        mode=stat.S_IFREG | 0o604,
        uid=7,
        gid=8,
        size=2,
        atime=(100, 1),
        mtime=(200, 2),
    )
    shared.mode_is(wire, b"fred", 0o604)
    _has(wire, b"fred", uid=7, gid=8, size=2, atime_ns=100 * 10**9 + 1, mtime_ns=200 * 10**9 + 2)


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-ATTR-037", covers=[Tsetattr])
def test_setattr_of_dead_fid(wire: Wire, which: str) -> None:
    """Tsetattr of an unknown fid is refused.  Source: chaos/diod protocol.md, setattr."""
    shared.dead_fid(wire, which, lambda client, fid: client.setattr.send(fid, SETATTR_MODE, mode=0o600))


# --- statfs ---------------------------------------------------------------------------------------


@case("WIRE-ATTR-050", covers=[Tstatfs])
def test_statfs(wire: Wire) -> None:
    """Tstatfs of any fid reports the size of the host's file system and the longest name.  Source: statfs(2);
    chaos/diod protocol.md, statfs."""
    client = wire.client
    wire.host.file(b"fred")
    for fid in (client.root, client.walk_to(b"fred"), client.open(b"fred")):
        reply = client.statfs(fid)
        wanted = wire.host.statvfs()
        holds("bsize in Rstatfs is a size", reply.bsize > 0, seen=reply.bsize, code="field:bsize")
        equal("files in Rstatfs", reply.files, wanted.f_files, code="field:files")
        equal("namelen in Rstatfs", reply.namelen, wanted.f_namemax, code="field:namelen")
        between("bfree in Rstatfs, of all blocks", reply.bfree, 0, reply.blocks, code="field:bfree")
        between("bavail in Rstatfs, of the free blocks", reply.bavail, 0, reply.bfree, code="field:bavail")
        between("ffree in Rstatfs, of all files", reply.ffree, 0, reply.files, code="field:ffree")
        # A server may count in larger blocks because of iounit: it then loses less than one of them.
        size, whole = reply.blocks * reply.bsize, wanted.f_blocks * wanted.f_frsize
        between("bytes of the file system in Rstatfs", size, whole - reply.bsize + 1, whole, code="field:blocks")


@case("WIRE-ATTR-053", covers=[Tstatfs], severity="linux")
def test_statfs_to_the_byte(wire: Wire) -> None:
    """The size that Tstatfs reports is the host's to the byte.  Source: statfs(2), which df(1) shows; QEMU counts in
    blocks of msize minus the header and loses the remainder."""
    client = wire.client
    reply, wanted = client.statfs(client.root), wire.host.statvfs()
    seen = reply.blocks * reply.bsize
    equal("blocks times bsize in Rstatfs", seen, wanted.f_blocks * wanted.f_frsize, code="field:blocks")


@case("WIRE-ATTR-051", covers=[Tstatfs], severity="varies")
def test_statfs_type(wire: Wire) -> None:
    """The file system's type is V9FS_MAGIC, or the host's own; never 0.  Source: diod and lib9p V9FS_MAGIC, QEMU and
    kvmtool the host's f_type."""
    client = wire.client
    kind = shared.Hex(client.statfs(client.root).fstype)
    right = [shared.Hex(V9FS_MAGIC), shared.Hex(_host_type(wire))]
    holds("type in Rstatfs is V9FS_MAGIC or the host's own", kind and kind in right, seen=kind, code="field:type")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-ATTR-052", covers=[Tstatfs])
def test_statfs_of_dead_fid(wire: Wire, which: str) -> None:
    """Tstatfs of an unknown fid is refused.  Source: chaos/diod protocol.md, statfs."""
    shared.dead_fid(wire, which, lambda client, fid: client.statfs.send(fid))


def _host_type(wire: Wire) -> int:
    """f_type of the exported file system, as coreutils' stat reports it."""
    with os.popen(f"stat -f -c %t '{wire.host.root}'") as said:
        return int(said.read().strip() or "0", 16)
