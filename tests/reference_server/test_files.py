"""Files through one session, with the same results on every store."""

from __future__ import annotations

import os
import stat

import pytest

from protocol import constants as c
from protocol import messages as m
from reference_server.storage import Store
from tests.reference_server.conftest import MakePeer
from tests.reference_server.peer import Peer
from tests.reference_server.requests import attributes, create, get_xattr, read, set_xattr, setattr_

DEVICE = (1, 3)


def test_create_write_read(peer: Peer) -> None:
    fid = create(peer, b"f", b"hello world")
    assert read(peer, fid) == b"hello world"
    assert read(peer, fid, 6) == b"world"
    assert read(peer, fid, 6, 3) == b"wor"
    assert read(peer, fid, 11) == b""
    assert read(peer, fid, 1 << 40) == b""
    assert read(peer, fid, 0, 0) == b""
    found = attributes(peer, fid)
    assert found.valid == c.GETATTR_BASIC
    assert (found.mode, found.size, found.nlink) == (stat.S_IFREG | 0o644, 11, 1)
    assert peer.ok(m.Twrite(peer.tag(), fid, 20, b"!"), m.Rwrite).count == 1
    assert read(peer, fid) == b"hello world" + bytes(9) + b"!"


def test_read_into_several_pieces(connect: MakePeer, store: Store) -> None:
    peer = connect(store, piece=7)
    content = bytes(range(256)) * 4
    fid = create(peer, b"f", content)
    assert read(peer, fid) == content
    assert read(peer, fid, 5, 20) == content[5:25]


def test_create_of_what_exists(peer: Peer) -> None:
    create(peer, b"f", b"content")
    fid = peer.walk()
    request = m.Tlcreate(peer.tag(), fid, b"f", c.O_RDWR | c.O_EXCL, 0o600, 0)
    assert peer.error(request) == c.EEXIST
    peer.ok(m.Tlcreate(peer.tag(), fid, b"f", c.O_RDWR, 0o600, 0), m.Rlcreate)
    assert read(peer, fid) == b"content"
    assert attributes(peer, fid).mode & 0o777 == 0o644
    again = peer.walk()
    peer.ok(m.Tlcreate(peer.tag(), again, b"f", c.O_RDWR | c.O_TRUNC, 0o600, 0), m.Rlcreate)
    assert read(peer, again) == b""


@pytest.mark.parametrize(
    ("make", "ecode"),
    [
        (lambda p: m.Tmkdir(p.tag(), p.root, b"x", 0o755, 0), c.EISDIR),
        (lambda p: m.Tsymlink(p.tag(), p.root, b"x", b"/nowhere/at/all", 0), c.ELOOP),
        (lambda p: m.Tmknod(p.tag(), p.root, b"x", stat.S_IFIFO | 0o644, 0, 0, 0), c.ENXIO),
        (lambda p: m.Tmknod(p.tag(), p.root, b"x", stat.S_IFSOCK | 0o644, 0, 0, 0), c.ENXIO),
    ],
)
def test_create_never_opens_what_is_no_regular_file(peer: Peer, make: object, ecode: int) -> None:
    assert callable(make)
    peer.call(make(peer))
    fid = peer.walk()
    assert peer.error(m.Tlcreate(peer.tag(), fid, b"x", c.O_RDWR, 0o644, 0)) == ecode


def test_open_modes(peer: Peer) -> None:
    create(peer, b"f", b"abc")
    reader = peer.open(b"f", flags=c.O_RDONLY)
    assert peer.error(m.Twrite(peer.tag(), reader, 0, b"x")) == c.EBADF
    writer = peer.open(b"f", flags=c.O_WRONLY)
    assert peer.error(m.Tread(peer.tag(), writer, 0, 1)) == c.EBADF
    assert peer.error(m.Tlopen(peer.tag(), writer, 0)) == c.EINVAL
    fid = peer.walk(b"f")
    assert peer.error(m.Tlopen(peer.tag(), fid, 3)) == c.EINVAL
    assert peer.error(m.Tlopen(peer.tag(), fid, c.O_DIRECTORY)) == c.ENOTDIR
    # Flags that the client's kernel has handled, or that concern its own cache, have no effect.
    ignored = c.O_CREAT | c.O_EXCL | c.O_NOCTTY | c.O_DIRECT | c.O_LARGEFILE | c.O_CLOEXEC | c.O_NOFOLLOW
    peer.ok(m.Tlopen(peer.tag(), fid, ignored), m.Rlopen)
    assert read(peer, fid) == b"abc"


def test_open_truncates(peer: Peer) -> None:
    create(peer, b"f", b"abc")
    assert read(peer, peer.open(b"f", flags=c.O_RDWR | c.O_TRUNC)) == b""


def test_append_goes_to_the_end_whatever_the_offset(peer: Peer) -> None:
    create(peer, b"f", b"abc")
    fid = peer.open(b"f", flags=c.O_RDWR | c.O_APPEND)
    peer.ok(m.Twrite(peer.tag(), fid, 0, b"def"), m.Rwrite)
    assert read(peer, fid) == b"abcdef"


def test_iounit_leaves_room_for_the_header(connect: MakePeer, store: Store) -> None:
    for msize, expected in ((4096, 4072), (8192, 4096), (65536, 61440), (1 << 20, (1 << 20) - 4096)):
        peer = connect(store, msize=msize)
        assert peer.ok(m.Tlopen(peer.tag(), peer.walk(), 0), m.Rlopen).iounit == expected


def test_the_largest_read_and_write(connect: MakePeer, store: Store) -> None:
    for msize in (4096, 65536, 1 << 20):
        peer = connect(store, msize=msize)
        room = msize - c.TWRITE_HDRSZ
        fid = create(peer, b"f%d" % msize, os.urandom(room))
        # The data fills the reply to the byte; keeping 24 bytes free caused propolis#565.
        peer.ok(m.Twrite(peer.tag(), fid, room, bytes(c.TWRITE_HDRSZ - c.RREAD_HDRSZ)), m.Rwrite)
        assert len(read(peer, fid, 0, msize)) == msize - c.RREAD_HDRSZ
        assert len(read(peer, fid, 0, 0xFFFFFFFF)) == msize - c.RREAD_HDRSZ


def test_offsets_no_file_can_have(peer: Peer) -> None:
    fid = create(peer, b"f", b"abc")
    assert peer.error(m.Tread(peer.tag(), fid, 1 << 63, 1)) == c.EINVAL
    assert peer.error(m.Tread(peer.tag(), fid, (1 << 64) - 1, 1)) == c.EINVAL
    assert peer.error(m.Twrite(peer.tag(), fid, (1 << 64) - 1, b"x")) == c.EINVAL
    assert peer.error(setattr_(peer, fid, c.SETATTR_SIZE, size=1 << 63)) == c.EINVAL


def test_symlinks_are_never_followed(peer: Peer) -> None:
    peer.ok(m.Tsymlink(peer.tag(), peer.root, b"l", b"/nowhere", 0), m.Rsymlink)
    fid = peer.walk(b"l")
    found = attributes(peer, fid)
    assert stat.S_ISLNK(found.mode)
    assert found.size == 8
    assert peer.ok(m.Treadlink(peer.tag(), fid), m.Rreadlink).target == b"/nowhere"
    assert peer.error(m.Tlopen(peer.tag(), fid, 0)) == c.ELOOP
    assert peer.error(m.Twalk(peer.tag(), fid, peer.fid(), (b"passwd",))) == c.ENOTDIR
    assert peer.error(m.Treadlink(peer.tag(), peer.root)) == c.EINVAL
    reply = peer.ok(m.Twalk(peer.tag(), peer.root, peer.fid(), (b"l", b"passwd")), m.Rwalk)
    assert len(reply.wqids) == 1


def test_symlink_targets(peer: Peer) -> None:
    assert peer.error(m.Tsymlink(peer.tag(), peer.root, b"a", b"", 0)) == c.ENOENT
    assert peer.error(m.Tsymlink(peer.tag(), peer.root, b"a", b"x" * 4096, 0)) == c.ENAMETOOLONG
    assert peer.error(m.Tsymlink(peer.tag(), peer.root, b"a", b"x\0y", 0)) == c.EINVAL
    for target in (b"x" * 4000, b"\xff\xfe", b"../../../.."):
        peer.ok(m.Tsymlink(peer.tag(), peer.root, b"t", target, 0), m.Rsymlink)
        assert peer.ok(m.Treadlink(peer.tag(), peer.walk(b"t")), m.Rreadlink).target == target
        peer.ok(m.Tunlinkat(peer.tag(), peer.root, b"t", 0), m.Runlinkat)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
def test_special_files_are_made_and_seen_but_never_opened(peer: Peer, kind: int) -> None:
    """CVE-2023-2861 opened them; its fix broke mknod (CVE-2023-2861)."""
    peer.ok(m.Tmknod(peer.tag(), peer.root, b"n", kind | 0o640, *DEVICE, 7), m.Rmknod)
    fid = peer.walk(b"n")
    found = attributes(peer, fid)
    assert (found.mode, found.gid) == (kind | 0o640, 7)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        assert found.rdev == os.makedev(*DEVICE)
    for flags in (c.O_RDONLY, c.O_WRONLY, c.O_RDWR | c.O_TRUNC, c.O_NONBLOCK):
        assert peer.error(m.Tlopen(peer.tag(), fid, flags)) == c.ENXIO
    assert peer.error(m.Treadlink(peer.tag(), fid)) == c.EINVAL


def test_mknod_of_a_regular_file_and_of_nonsense(peer: Peer) -> None:
    peer.ok(m.Tmknod(peer.tag(), peer.root, b"a", 0o644, 0, 0, 0), m.Rmknod)
    peer.ok(m.Tmknod(peer.tag(), peer.root, b"b", stat.S_IFREG | 0o644, 0, 0, 0), m.Rmknod)
    assert attributes(peer, peer.walk(b"a")).mode == stat.S_IFREG | 0o644
    for kind in (c.S_IFDIR, c.S_IFLNK, c.S_IFMT):
        assert peer.error(m.Tmknod(peer.tag(), peer.root, b"c", kind | 0o644, 0, 0, 0)) == c.EINVAL
    assert peer.error(m.Tmknod(peer.tag(), peer.root, b"c", stat.S_IFCHR, 0x1000, 0, 0)) == c.EINVAL


def test_hard_links(peer: Peer) -> None:
    create(peer, b"a", b"content")
    a = peer.walk(b"a")
    peer.ok(m.Tlink(peer.tag(), peer.root, a, b"b"), m.Rlink)
    assert peer.qid(b"a").path == peer.qid(b"b").path
    assert attributes(peer, a).nlink == 2
    assert peer.error(m.Tlink(peer.tag(), peer.root, a, b"b")) == c.EEXIST
    assert peer.error(m.Tlink(peer.tag(), peer.root, peer.root, b"r")) == c.EPERM
    peer.ok(m.Tunlinkat(peer.tag(), peer.root, b"a", 0), m.Runlinkat)
    assert attributes(peer, a).nlink == 1
    assert read(peer, peer.open(b"b")) == b"content"


def test_a_hard_link_to_a_symlink_links_the_link(peer: Peer) -> None:
    peer.ok(m.Tsymlink(peer.tag(), peer.root, b"s", b"/nowhere/at/all", 0), m.Rsymlink)
    peer.ok(m.Tlink(peer.tag(), peer.root, peer.walk(b"s"), b"t"), m.Rlink)
    assert peer.ok(m.Treadlink(peer.tag(), peer.walk(b"t")), m.Rreadlink).target == b"/nowhere/at/all"


def test_rename(peer: Peer) -> None:
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
    d = peer.walk(b"d")
    create(peer, b"a", b"one")
    create(peer, b"b", b"two")
    held = peer.walk(b"a")
    peer.ok(m.Trenameat(peer.tag(), peer.root, b"a", d, b"c"), m.Rrenameat)
    assert peer.error(m.Twalk(peer.tag(), peer.root, peer.fid(), (b"a",))) == c.ENOENT
    peer.ok(m.Tlopen(peer.tag(), held, 0), m.Rlopen)
    assert read(peer, held) == b"one"
    peer.ok(m.Trenameat(peer.tag(), peer.root, b"b", d, b"c"), m.Rrenameat)
    assert read(peer, peer.open(b"d", b"c")) == b"two"
    assert peer.error(m.Trenameat(peer.tag(), peer.root, b"no", d, b"x")) == c.ENOENT
    assert peer.error(m.Trenameat(peer.tag(), peer.root, b"d", d, b"x")) == c.EINVAL
    for name in (b".", b".."):
        assert peer.error(m.Trenameat(peer.tag(), peer.root, name, d, b"x")) == c.EISDIR


def test_rename_and_remove_by_fid_find_the_file_wherever_it_is(peer: Peer) -> None:
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
    d = peer.walk(b"d")
    create(peer, b"a", b"one")
    fid = peer.walk(b"a")
    peer.ok(m.Trename(peer.tag(), fid, d, b"b"), m.Rrename)
    peer.ok(m.Trename(peer.tag(), fid, peer.root, b"c"), m.Rrename)
    peer.ok(m.Trenameat(peer.tag(), peer.root, b"c", d, b"e"), m.Rrenameat)
    peer.ok(m.Trename(peer.tag(), fid, peer.root, b"f"), m.Rrename)
    assert read(peer, peer.open(b"f")) == b"one"
    assert peer.error(m.Trename(peer.tag(), peer.root, d, b"x")) == c.EBUSY
    peer.ok(m.Tremove(peer.tag(), fid), m.Rremove)
    assert peer.error(m.Tgetattr(peer.tag(), fid, 0)) == c.EBADF
    peer.ok(m.Tremove(peer.tag(), d), m.Rremove)
    assert [entry.name for entry in peer.list() if not entry.name.startswith(b".")] == []


def test_a_remove_that_fails_clunks_all_the_same(peer: Peer) -> None:
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
    create(peer, b"f", directory=peer.walk(b"d"))
    fid = peer.walk(b"d")
    assert peer.error(m.Tremove(peer.tag(), fid)) == c.ENOTEMPTY
    assert peer.error(m.Tclunk(peer.tag(), fid)) == c.EBADF


def test_unlink(peer: Peer) -> None:
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
    create(peer, b"f")

    def unlink(name: bytes, flags: int = 0) -> m.Tunlinkat:
        return m.Tunlinkat(peer.tag(), peer.root, name, flags)

    assert peer.error(unlink(b"d")) == c.EISDIR
    assert peer.error(unlink(b"f", c.AT_REMOVEDIR)) == c.ENOTDIR
    assert peer.error(unlink(b"no")) == c.ENOENT
    assert peer.error(unlink(b"f", 1)) == c.EINVAL
    assert peer.error(unlink(b".", c.AT_REMOVEDIR)) == c.EINVAL
    assert peer.error(unlink(b"..", c.AT_REMOVEDIR)) == c.ENOTEMPTY
    create(peer, b"x", directory=peer.walk(b"d"))
    assert peer.error(unlink(b"d", c.AT_REMOVEDIR)) == c.ENOTEMPTY
    peer.ok(m.Tunlinkat(peer.tag(), peer.walk(b"d"), b"x", 0), m.Runlinkat)
    peer.ok(unlink(b"d", c.AT_REMOVEDIR), m.Runlinkat)
    peer.ok(unlink(b"f"), m.Runlinkat)


def test_an_open_file_without_a_name_works_through_every_operation(peer: Peer) -> None:
    """GitLab qemu#103, LP#1336794; ml 2020-07..09 open-unlink-f*syscall series; diod#19: apt, dnf and iperf3 depend
    on it."""
    fid = create(peer, b"f", b"abc")
    other = peer.walk(b"f")
    peer.ok(m.Tunlinkat(peer.tag(), peer.root, b"f", 0), m.Runlinkat)
    assert attributes(peer, fid).nlink == 0
    assert read(peer, fid) == b"abc"
    peer.ok(m.Twrite(peer.tag(), fid, 3, b"def"), m.Rwrite)
    peer.ok(setattr_(peer, fid, c.SETATTR_SIZE, size=4), m.Rsetattr)
    peer.ok(setattr_(peer, fid, c.SETATTR_MODE, mode=0o600), m.Rsetattr)
    peer.ok(setattr_(peer, fid, c.SETATTR_UID | c.SETATTR_GID, uid=1, gid=2), m.Rsetattr)
    valid = c.SETATTR_MTIME | c.SETATTR_MTIME_SET
    peer.ok(setattr_(peer, fid, valid, mtime_sec=5, mtime_nsec=6), m.Rsetattr)
    found = attributes(peer, fid)
    assert (found.size, found.mode & 0o777, found.uid, found.gid) == (4, 0o600, 1, 2)
    assert (found.mtime_sec, found.mtime_nsec) == (5, 6)
    peer.ok(m.Tfsync(peer.tag(), fid, 0), m.Rfsync)
    # fids that are not open, and fids cloned from the open one
    assert attributes(peer, other).size == 4
    peer.ok(setattr_(peer, other, c.SETATTR_SIZE, size=2), m.Rsetattr)
    clone = peer.walk(start=fid)
    peer.ok(m.Tlopen(peer.tag(), clone, 0), m.Rlopen)
    assert read(peer, clone) == b"ab"
    set_xattr(peer, other, b"user.x", b"value")
    assert get_xattr(peer, fid, b"user.x") == b"value"
    assert peer.error(m.Tlink(peer.tag(), peer.root, fid, b"again")) == c.ENOENT
    assert peer.error(m.Trename(peer.tag(), other, peer.root, b"again")) == c.ENOENT
    assert peer.error(m.Tremove(peer.tag(), other)) == c.ENOENT


def test_setattr(peer: Peer) -> None:
    fid = create(peer, b"f", b"abcdef")
    peer.ok(setattr_(peer, fid, c.SETATTR_MODE, mode=stat.S_IFDIR | 0o4751), m.Rsetattr)
    assert attributes(peer, fid).mode == stat.S_IFREG | 0o4751
    peer.ok(setattr_(peer, fid, c.SETATTR_UID, uid=1234, gid=99), m.Rsetattr)
    found = attributes(peer, fid)
    assert (found.uid, found.gid, found.mode) == (1234, 0, stat.S_IFREG | 0o751)  # chown ends setuid
    both = c.SETATTR_GID | c.SETATTR_MODE
    peer.ok(setattr_(peer, fid, both, gid=55, mode=0o6755), m.Rsetattr)
    assert attributes(peer, fid).mode == stat.S_IFREG | 0o6755
    peer.ok(setattr_(peer, fid, c.SETATTR_SIZE, size=3), m.Rsetattr)
    assert read(peer, fid) == b"abc"
    peer.ok(setattr_(peer, fid, 0, mode=0o111), m.Rsetattr)
    assert peer.error(setattr_(peer, fid, c.SETATTR_UID, uid=0xFFFFFFFF)) == c.EINVAL
    assert peer.error(setattr_(peer, peer.root, c.SETATTR_SIZE, size=3)) == c.EISDIR


@pytest.mark.parametrize("seconds", [0, 1, -1, 1 - (1 << 31), 1 << 31, (1 << 32) + 5, 4_102_444_800])
def test_times(peer: Peer, seconds: int) -> None:
    fid = create(peer, b"f")
    valid = c.SETATTR_ATIME | c.SETATTR_ATIME_SET | c.SETATTR_MTIME | c.SETATTR_MTIME_SET
    sent = seconds & ((1 << 64) - 1)
    request = setattr_(peer, fid, valid, atime_sec=sent, atime_nsec=1, mtime_sec=sent, mtime_nsec=999_999_999)
    peer.ok(request, m.Rsetattr)
    found = attributes(peer, fid)
    assert (found.atime_sec, found.atime_nsec) == (sent, 1)
    assert (found.mtime_sec, found.mtime_nsec) == (sent, 999_999_999)


def test_one_time_alone_and_now(peer: Peer) -> None:
    fid = create(peer, b"f")
    valid = c.SETATTR_ATIME | c.SETATTR_ATIME_SET | c.SETATTR_MTIME | c.SETATTR_MTIME_SET
    peer.ok(setattr_(peer, fid, valid, atime_sec=10, mtime_sec=20), m.Rsetattr)
    peer.ok(setattr_(peer, fid, c.SETATTR_ATIME | c.SETATTR_ATIME_SET, atime_sec=30), m.Rsetattr)
    found = attributes(peer, fid)
    assert (found.atime_sec, found.mtime_sec) == (30, 20)
    peer.ok(setattr_(peer, fid, c.SETATTR_MTIME, mtime_sec=40), m.Rsetattr)
    found = attributes(peer, fid)
    assert found.atime_sec == 30
    assert found.mtime_sec > 1_000_000_000
    wrong = setattr_(peer, fid, c.SETATTR_ATIME | c.SETATTR_ATIME_SET, atime_nsec=1_000_000_000)
    assert peer.error(wrong) == c.EINVAL


def test_the_change_time_moves_when_nothing_else_is_asked(peer: Peer) -> None:
    fid = create(peer, b"f")
    before = attributes(peer, fid)
    for _ in range(100):
        peer.ok(setattr_(peer, fid, c.SETATTR_CTIME), m.Rsetattr)
        after = attributes(peer, fid)
        if (after.ctime_sec, after.ctime_nsec) != (before.ctime_sec, before.ctime_nsec):
            return
    pytest.fail("it never moved")


def test_qid_version_changes_with_content(peer: Peer) -> None:
    fid = create(peer, b"f", b"abc")
    versions = [attributes(peer, fid).qid.version]
    for content in (b"x", b"yy", b"zzzzz"):
        peer.ok(m.Twrite(peer.tag(), fid, 0, content), m.Rwrite)
        versions.append(attributes(peer, fid).qid.version)
        valid = c.SETATTR_MTIME | c.SETATTR_MTIME_SET
        peer.ok(setattr_(peer, fid, valid, mtime_sec=1), m.Rsetattr)
    assert versions[3] != versions[0]
    assert len(set(versions[2:])) == 2
    assert attributes(peer, fid).qid.version == attributes(peer, peer.walk(b"f")).qid.version
    assert peer.qid(b"f") == attributes(peer, fid).qid


def test_statfs(peer: Peer) -> None:
    found = peer.ok(m.Tstatfs(peer.tag(), peer.root), m.Rstatfs)
    assert found.namelen == 255
    assert 0 < found.bavail <= found.bfree <= found.blocks


def test_fsync_of_files_and_directories(peer: Peer) -> None:
    fid = create(peer, b"f", b"abc")
    directory = peer.open()
    for datasync in (0, 1):
        peer.ok(m.Tfsync(peer.tag(), fid, datasync), m.Rfsync)
        peer.ok(m.Tfsync(peer.tag(), directory, datasync), m.Rfsync)
    assert peer.error(m.Tfsync(peer.tag(), peer.walk(b"f"), 0)) == c.EBADF


def test_setgid_directories_hand_their_group_on(peer: Peer) -> None:
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
    d = peer.walk(b"d")
    peer.ok(setattr_(peer, d, c.SETATTR_GID | c.SETATTR_MODE, gid=77, mode=0o2775), m.Rsetattr)
    fid = peer.walk(b"d")
    peer.ok(m.Tlcreate(peer.tag(), fid, b"f", c.O_RDWR, 0o644, 5), m.Rlcreate)
    assert attributes(peer, fid).gid == 77
    peer.ok(m.Tmkdir(peer.tag(), d, b"e", 0o755, 5), m.Rmkdir)
    found = attributes(peer, peer.walk(b"d", b"e"))
    assert (found.gid, found.mode & 0o7777) == (77, 0o2755)


def test_new_files_belong_to_the_caller(connect: MakePeer, store: Store) -> None:
    peer = connect(store, uid=1234)
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o750, 4321), m.Rmkdir)
    fid = peer.walk(b"d")
    peer.ok(m.Tlcreate(peer.tag(), fid, b"f", c.O_RDWR, 0o6755, 4322), m.Rlcreate)
    peer.ok(m.Tsymlink(peer.tag(), peer.root, b"l", b"x", 4323), m.Rsymlink)
    peer.ok(m.Tmknod(peer.tag(), peer.root, b"n", stat.S_IFCHR | 0o600, 1, 3, 4324), m.Rmknod)
    for names, gid in (((b"d",), 4321), ((b"d", b"f"), 4322), ((b"l",), 4323), ((b"n",), 4324)):
        found = attributes(peer, peer.walk(*names))
        assert (found.uid, found.gid) == (1234, gid)
    assert attributes(peer, fid).mode & 0o7777 == 0o6755
