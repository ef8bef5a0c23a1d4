"""Family `attributes`: Tgetattr, Tsetattr and Tstatfs.

What is at stake: `stat`, `chmod`, `touch`, `df`. The guest believes every field; one that is off by a width, or
set where it was not asked for, breaks make, rsync and every package manager in ways that show days later.
"""

from __future__ import annotations

import os
import stat
import time

import pytest

from conformance.case import case
from conformance.cases.wire import shared
from conformance.errors import Finding
from conformance.expectation import OK
from conformance.wire import Wire
from protocol.constants import (
    EFBIG,
    EINVAL,
    EIO,
    EISDIR,
    ELOOP,
    ENOSPC,
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
    """Every basic field of a reply (or those that end with `only`) is what the host's lstat says."""
    wanted = {
        "mode": host.st_mode, "uid": host.st_uid, "gid": host.st_gid, "nlink": host.st_nlink, "rdev": host.st_rdev,
        "size": host.st_size, "blocks": host.st_blocks,
        "atime_sec": host.st_atime_ns // 10**9 & U64, "atime_nsec": host.st_atime_ns % 10**9,
        "mtime_sec": host.st_mtime_ns // 10**9 & U64, "mtime_nsec": host.st_mtime_ns % 10**9,
        "ctime_sec": host.st_ctime_ns // 10**9 & U64, "ctime_nsec": host.st_ctime_ns % 10**9,
    }  # fmt: skip
    if not stat.S_ISCHR(host.st_mode) and not stat.S_ISBLK(host.st_mode):
        del wanted["rdev"]  # means nothing then
    wrong = [
        f"{name} is {getattr(reply, name)}, on the host {value}"
        for name, value in wanted.items()
        if getattr(reply, name) != value and name.endswith(only)
    ]
    if wrong:
        raise Finding("; ".join(wrong))


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
        os.mknod(host.path(name), stat.S_IFSOCK | 0o640)
    elif kind == "hard link":
        host.link(host.file(b"other", b"abc"), name)
    else:
        host.device(name, 8 if kind == "block" else 5, 17, block=kind == "block")
    if os.geteuid() == 0:
        os.lchown(host.path(name), 1234, 56789)
    os.utime(host.path(name), ns=(1_000_000_000_123_456_789, 1_600_000_000_987_654_321), follow_symlinks=False)
    reply = client.getattr(client.walk_to(name))
    assert reply.valid & GETATTR_BASIC == GETATTR_BASIC
    _agree(reply, host.stat(name))


@pytest.mark.parametrize("mask", [0, GETATTR_MODE, GETATTR_SIZE, GETATTR_BASIC, GETATTR_ALL, U64], ids=shared.label)
@case("WIRE-ATTR-002", covers=[Tgetattr])
def test_what_was_asked_for_is_valid(wire: Wire, mask: int) -> None:
    """Of the basic fields, those that were asked for are in valid, and right.  Source: chaos/diod protocol.md, "valid
    is a bitmask indicating which fields are valid in the response"; v9fs_stat2inode_dotl looks at valid."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    reply = client.getattr(client.walk_to(b"fred"), mask)
    wanted = mask & GETATTR_BASIC & ~GETATTR_INO  # the inode travels in the qid, asked for or not
    assert reply.valid & wanted == wanted, f"asked for {mask:#x}, valid is {reply.valid:#x}"
    if mask & GETATTR_MODE:
        assert reply.mode == host.stat(b"fred").st_mode
    if mask & GETATTR_SIZE:
        assert reply.size == 3


@case("WIRE-ATTR-003", covers=[Tgetattr], severity="varies")
def test_reserved_fields(wire: Wire) -> None:
    """Birth time, generation and data version are not claimed to be valid.  Source: chaos/diod protocol.md, "reserved
    for future use"; crosvm's tests want BASIC exactly; QEMU claims a generation where the host has one."""
    client = wire.client
    reply = client.getattr(client.root, GETATTR_ALL)
    shared.same(hex(reply.valid), hex(GETATTR_BASIC), "valid")


@case("WIRE-ATTR-004", covers=[Tgetattr], severity="varies")
def test_valid_holds_no_unknown_bits(wire: Wire) -> None:
    """valid names only fields that there are.  Source: chaos/diod protocol.md, P9_GETATTR_ALL; diod gives back
    whatever was asked for."""
    client = wire.client
    valid = client.getattr(client.root, U64).valid
    shared.same(valid & ~GETATTR_ALL, 0, "unknown bits in valid")


@case("WIRE-ATTR-005", covers=[Tgetattr])
def test_large_file(wire: Wire) -> None:
    """A size above 2^32, and the few blocks of a file that is all hole, come through.  Source: stat(2); size[8]."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    os.truncate(host.path(b"fred"), (5 << 30) + 7)
    _agree(client.getattr(client.walk_to(b"fred")), host.stat(b"fred"))


@pytest.mark.parametrize("seconds", [-1, -(1 << 31), 0, (1 << 31) - 1, 1 << 31, (1 << 32) + 1, 5_000_000_000])
@case("WIRE-ATTR-006", covers=[Tgetattr], severity="linux")
def test_times_of_all_centuries(wire: Wire, seconds: int) -> None:
    """Times before 1970 and after 2038 come through, negative ones as two's complement.  Source: stat(2); v9fs reads
    u64 into time64_t."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    os.utime(host.path(b"fred"), ns=(seconds * 10**9, seconds * 10**9 + 999_999_999))
    if host.stat(b"fred").st_mtime_ns // 10**9 != seconds:
        return  # the host's file system cannot hold it: there is nothing to compare
    reply = client.getattr(client.walk_to(b"fred"))
    _agree(reply, host.stat(b"fred"), "time_sec")
    _agree(reply, host.stat(b"fred"), "time_nsec")


@case("WIRE-ATTR-007", covers=[Tgetattr], severity="linux")
def test_attributes_of_an_unlinked_open_file(wire: Wire) -> None:
    """fstat(2) works on a file that was opened and then unlinked, and says that it has no name.  Source: unlink(2); apt
    and dnf do so (GitLab qemu#103, LP#1336794; ml 2020-07..09 open-unlink-f*syscall series; diod#19)."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    client.unlink(b"fred")
    reply = client.getattr(fid)
    assert reply.size == 3
    assert reply.nlink == 0


@case("WIRE-ATTR-008", covers=[Tgetattr])
def test_attributes_follow_the_host(wire: Wire) -> None:
    """What the host changes is seen by the next Tgetattr.  Source: chaos/diod protocol.md, getattr."""
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
    if client.getattr(fid).qid.version == before:
        raise Finding(f"qid.version is {before} before and after")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-ATTR-010", covers=[Tgetattr])
def test_getattr_of_dead_fid(wire: Wire, which: str) -> None:
    """Tgetattr of a fid that stands for nothing is refused.  Source: chaos/diod protocol.md, getattr."""
    shared.dead_fid(wire, which, lambda client, fid: client.send_getattr(fid))


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
    client.setattr(client.walk_to(name), SETATTR_MODE, mode=mode)
    after = host.stat(name)
    shared.mode_is(wire, name, mode)
    assert stat.S_IFMT(after.st_mode) == stat.S_IFMT(before.st_mode)
    assert (after.st_uid, after.st_gid, after.st_size, after.st_mtime_ns) == (
        before.st_uid, before.st_gid, before.st_size, before.st_mtime_ns,
    )  # fmt: skip


@case("WIRE-ATTR-021", covers=[Tsetattr], severity="linux")
def test_mode_with_type_bits(wire: Wire) -> None:
    """The file type that Linux sends along with the mode is left aside.  Source: v9fs_vfs_setattr_dotl passes
    iattr->ia_mode, which holds S_IFREG; 9pfuse answered ERANGE (plan9port#81)."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    client.setattr(client.walk_to(b"fred"), SETATTR_MODE, mode=stat.S_IFREG | 0o604)
    assert host.stat(b"fred").st_mode == stat.S_IFREG | 0o604


@case("WIRE-ATTR-022", covers=[Tsetattr])
def test_owner_and_group(wire: Wire) -> None:
    """UID and GID are set each by itself or both.  Source: chown(2); chaos/diod protocol.md, setattr."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    fid = client.walk_to(b"fred")
    client.setattr(fid, SETATTR_UID, uid=1234)
    assert (host.stat(b"fred").st_uid, host.stat(b"fred").st_gid) == (1234, 0)
    client.setattr(fid, SETATTR_GID, gid=5678)
    assert (host.stat(b"fred").st_uid, host.stat(b"fred").st_gid) == (1234, 5678)
    client.setattr(fid, SETATTR_UID | SETATTR_GID, uid=0xFFFFFFFE, gid=0x80000000)
    assert (host.stat(b"fred").st_uid, host.stat(b"fred").st_gid) == (0xFFFFFFFE, 0x80000000)


@case("WIRE-ATTR-023", covers=[Tsetattr])
def test_owner_not_asked_for(wire: Wire) -> None:
    """Fields whose bit is not in valid mean nothing, whatever they hold.  Source: chaos/diod protocol.md, "valid is a
    bitmask selecting which fields to set"."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    os.utime(host.path(b"fred"), ns=(10**18, 10**18))
    before = host.stat(b"fred")
    client.setattr(client.walk_to(b"fred"), SETATTR_MODE, mode=0o640, uid=1, gid=2, size=0, atime=(5, 6), mtime=(7, 8))
    after = host.stat(b"fred")
    assert (after.st_uid, after.st_gid, after.st_size) == (before.st_uid, before.st_gid, 3)
    assert (after.st_atime_ns, after.st_mtime_ns) == (before.st_atime_ns, before.st_mtime_ns)


@pytest.mark.parametrize("opened", [False, True], ids=["unopened", "open"])
@case("WIRE-ATTR-024", covers=[Tsetattr])
def test_size(wire: Wire, opened: bool) -> None:
    """SIZE cuts a file or lengthens it with zeros, through a fid that is open and one that is not.  Source:
    truncate(2), ftruncate(2)."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"0123456789")
    fid = client.open(b"fred", flags=O_RDWR) if opened else client.walk_to(b"fred")
    client.setattr(fid, SETATTR_SIZE, size=4)
    assert host.content(b"fred") == b"0123"
    client.setattr(fid, SETATTR_SIZE, size=8)
    assert host.content(b"fred") == b"0123" + bytes(4)
    client.setattr(fid, SETATTR_SIZE, size=(5 << 30) + 1)
    assert host.stat(b"fred").st_size == (5 << 30) + 1
    client.setattr(fid, SETATTR_SIZE, size=0)
    assert host.stat(b"fred").st_size == 0


@pytest.mark.parametrize("size", [1 << 63, U64], ids=shared.label)
@case("WIRE-ATTR-025", covers=[Tsetattr])
def test_absurd_size(wire: Wire, size: int) -> None:
    """A size that no off_t holds is refused, and the file keeps its content.  Source: truncate(2) EINVAL, EFBIG."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    client.setattr(client.walk_to(b"fred"), SETATTR_SIZE, size=size, expect={EINVAL, EFBIG, EIO, ENOSPC})
    assert host.content(b"fred") == b"abc"


@case("WIRE-ATTR-026", covers=[Tsetattr])
def test_size_of_a_directory(wire: Wire) -> None:
    """The size of a directory cannot be set.  Source: truncate(2) EISDIR, EINVAL."""
    client = wire.client
    wire.host.directory(b"dir")
    client.setattr(client.walk_to(b"dir"), SETATTR_SIZE, size=0, expect={EISDIR, EINVAL, EPERM})


@case("WIRE-ATTR-027", covers=[Tsetattr])
def test_times_that_are_given(wire: Wire) -> None:
    """ATIME_SET and MTIME_SET set the times that are given, to the nanosecond.  Source: utimensat(2); chaos/diod
    protocol.md, setattr; lib9p mixed them up (lib9p 01edd9e)."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    fid = client.walk_to(b"fred")
    client.setattr(fid, ATIME | MTIME, atime=(1_111_111_111, 123_456_789), mtime=(4_000_000_000, 999_999_999))
    seen = host.stat(b"fred")
    assert seen.st_atime_ns == 1_111_111_111_123_456_789
    assert seen.st_mtime_ns == 4_000_000_000_999_999_999


@pytest.mark.parametrize("which", ["atime", "mtime"])
@case("WIRE-ATTR-028", covers=[Tsetattr])
def test_one_time_alone(wire: Wire, which: str) -> None:
    """Setting one of the times leaves the other.  Source: utimensat(2) UTIME_OMIT; chaos/diod protocol.md, setattr."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    os.utime(host.path(b"fred"), ns=(10**18 + 1, 10**18 + 2))
    fid = client.walk_to(b"fred")
    client.setattr(fid, ATIME if which == "atime" else MTIME, atime=(7, 8), mtime=(9, 10))
    seen = host.stat(b"fred")
    wanted = (7 * 10**9 + 8, 10**18 + 2) if which == "atime" else (10**18 + 1, 9 * 10**9 + 10)
    assert (seen.st_atime_ns, seen.st_mtime_ns) == wanted


@case("WIRE-ATTR-029", covers=[Tsetattr])
def test_times_of_the_server(wire: Wire) -> None:
    """A time without its SET bit becomes the server's now, whatever the request holds.  Source: chaos/diod protocol.md,
    "the current system time on the server is used instead of the value sent in the request"."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    os.utime(host.path(b"fred"), ns=(10**18, 10**18))
    before = time.time_ns() - 2 * 10**9
    client.setattr(client.walk_to(b"fred"), SETATTR_ATIME | SETATTR_MTIME, atime=(7, 8), mtime=(9, 10))
    after = time.time_ns() + 2 * 10**9
    seen = host.stat(b"fred")
    assert before < seen.st_atime_ns < after
    assert before < seen.st_mtime_ns < after


@case("WIRE-ATTR-030", covers=[Tsetattr], severity="linux")
def test_ctime_bit(wire: Wire) -> None:
    """The CTIME bit, which Linux sends with every change, is no error; with nothing else set it changes no other
    attribute.  Source: v9fs_vfs_setattr_dotl passes ATTR_CTIME on; QEMU v9fs_setattr."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    before = host.stat(b"fred")
    fid = client.walk_to(b"fred")
    client.setattr(fid, SETATTR_CTIME)
    client.setattr(fid, SETATTR_MODE | SETATTR_CTIME, mode=0o640)
    after = host.stat(b"fred")
    assert (after.st_mode, after.st_size, after.st_mtime_ns) == (before.st_mode, 3, before.st_mtime_ns)


@case("WIRE-ATTR-031", covers=[Tsetattr])
def test_nothing_to_set(wire: Wire) -> None:
    """With no bit in valid nothing changes.  Source: chaos/diod protocol.md, setattr."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    before = host.stat(b"fred")
    client.setattr(client.walk_to(b"fred"), 0, mode=0, uid=9, gid=9, size=0, expect={OK, EINVAL})
    after = host.stat(b"fred")
    assert (after.st_mode, after.st_uid, after.st_size) == (before.st_mode, before.st_uid, before.st_size)
    assert after.st_mtime_ns == before.st_mtime_ns


@case("WIRE-ATTR-032", covers=[Tsetattr], severity="varies")
def test_unknown_bits(wire: Wire) -> None:
    """Bits in valid that have no meaning are refused.  Source: chaos/diod protocol.md has nine; most servers look at
    those only."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    client.setattr(client.walk_to(b"fred"), 0xFFFFFE00, expect={EINVAL, EOPNOTSUPP})


@pytest.mark.parametrize("nanoseconds", NO_NANOSECONDS.values(), ids=NO_NANOSECONDS.keys())
@case("WIRE-ATTR-033", covers=[Tsetattr])
def test_nanoseconds_that_are_none(wire: Wire, nanoseconds: int) -> None:
    """Nanoseconds of a second and more are refused or left aside; the server lives, and the size stays.  Source:
    utimensat(2) EINVAL; UTIME_NOW and UTIME_OMIT are the server's own words, not the wire's."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    fid = client.walk_to(b"fred")
    client.setattr(fid, MTIME, mtime=(1000, nanoseconds), expect={OK, EINVAL, EIO})
    assert client.getattr(fid).size == 3
    assert client.getattr(fid).mtime_nsec < 10**9


@case("WIRE-ATTR-034", covers=[Tsetattr])
def test_symbolic_link_itself(wire: Wire) -> None:
    """Owner and times of a symbolic link are its own; what it points to is left alone, also by a change of mode.
    Source: lchown(2), utimensat(2) AT_SYMLINK_NOFOLLOW; QEMU CVE-2016-9602."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    host.symlink(b"link", b"fred")
    before = host.stat(b"fred")
    fid = client.walk_to(b"link")
    client.setattr(fid, SETATTR_UID | SETATTR_GID, uid=77, gid=78)
    client.setattr(fid, MTIME, mtime=(5, 6))
    client.setattr(fid, SETATTR_MODE, mode=0o777, expect={OK, EOPNOTSUPP, ELOOP, EINVAL, EPERM, EIO})
    client.setattr(fid, SETATTR_SIZE, size=0, expect={OK, EOPNOTSUPP, ELOOP, EINVAL, EPERM, EIO})
    link, after = host.stat(b"link"), host.stat(b"fred")
    assert (after.st_mode, after.st_uid, after.st_size) == (before.st_mode, before.st_uid, 3), "the target changed"
    assert after.st_mtime_ns == before.st_mtime_ns, "the target's time changed"
    assert (link.st_uid, link.st_gid, link.st_mtime_ns) == (77, 78, 5 * 10**9 + 6)


@case("WIRE-ATTR-035", covers=[Tsetattr], severity="linux")
def test_unlinked_open_file(wire: Wire) -> None:
    """fchmod(2) and futimens(2) work on a file that was opened and then unlinked.  Source: unlink(2); QEMU 7.2 answers
    ENOENT (GitLab qemu#103)."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    client.unlink(b"fred")
    client.setattr(fid, SETATTR_MODE, mode=0o600)
    client.setattr(fid, MTIME, mtime=(1000, 5))
    reply = client.getattr(fid)
    assert reply.mode == stat.S_IFREG | 0o600
    assert (reply.mtime_sec, reply.mtime_nsec) == (1000, 5)


@case("WIRE-ATTR-036", covers=[Tsetattr], severity="linux")
def test_all_at_once(wire: Wire) -> None:
    """Mode, owner, group, size and both times in one request are all set.  Source: chaos/diod protocol.md, "any
    combination"."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abcdef")
    client.setattr(
        client.walk_to(b"fred"), SETATTR_MODE | SETATTR_UID | SETATTR_GID | SETATTR_SIZE | ATIME | MTIME,
        mode=0o604, uid=7, gid=8, size=2, atime=(100, 1), mtime=(200, 2),
    )  # fmt: skip
    seen = host.stat(b"fred")
    assert (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_size) == (0o604, 7, 8, 2)
    assert (seen.st_atime_ns, seen.st_mtime_ns) == (100 * 10**9 + 1, 200 * 10**9 + 2)


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-ATTR-037", covers=[Tsetattr])
def test_setattr_of_dead_fid(wire: Wire, which: str) -> None:
    """Tsetattr of a fid that stands for nothing is refused.  Source: chaos/diod protocol.md, setattr."""
    shared.dead_fid(wire, which, lambda client, fid: client.send_setattr(fid, SETATTR_MODE, mode=0o600))


# --- statfs ---------------------------------------------------------------------------------------


@case("WIRE-ATTR-050", covers=[Tstatfs])
def test_statfs(wire: Wire) -> None:
    """Tstatfs of any fid says how large the host's file system is and how long its names may be.  Source: statfs(2);
    chaos/diod protocol.md, statfs."""
    client = wire.client
    wire.host.file(b"fred")
    for fid in (client.root, client.walk_to(b"fred"), client.open(b"fred")):
        reply = client.statfs(fid)
        wanted = os.statvfs(wire.host.path())
        assert reply.bsize > 0
        assert reply.blocks * reply.bsize == wanted.f_blocks * wanted.f_frsize
        assert reply.files == wanted.f_files
        assert reply.namelen == wanted.f_namemax
        assert reply.bavail <= reply.bfree <= reply.blocks
        assert reply.ffree <= reply.files


@case("WIRE-ATTR-051", covers=[Tstatfs], severity="varies")
def test_statfs_type(wire: Wire) -> None:
    """The file system's type is V9FS_MAGIC, or the host's own; never 0.  Source: diod and lib9p V9FS_MAGIC, QEMU and
    kvmtool the host's f_type."""
    client = wire.client
    kind = client.statfs(client.root).fstype
    assert kind != 0
    assert kind == V9FS_MAGIC or kind == _host_type(wire)


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-ATTR-052", covers=[Tstatfs])
def test_statfs_of_dead_fid(wire: Wire, which: str) -> None:
    """Tstatfs of a fid that stands for nothing is refused.  Source: chaos/diod protocol.md, statfs."""
    shared.dead_fid(wire, which, lambda client, fid: client.send_statfs(fid))


def _host_type(wire: Wire) -> int:
    """f_type of the exported file system, as coreutils' stat knows it."""
    with os.popen(f"stat -f -c %t '{wire.host.root}'") as said:
        return int(said.read().strip() or "0", 16)
