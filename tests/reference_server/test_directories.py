"""Directories through one session: walks, listings and names, with the same results on every store."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from protocol import constants as c
from protocol import messages as m
from protocol.dirents import decode_dirents
from reference_server.hostfs import HostStore
from reference_server.qids import QidPaths
from tests.descriptors import held
from tests.reference_server.conftest import MakePeer, make_store
from tests.reference_server.peer import Peer
from tests.reference_server.requests import attributes, create, read


def test_mkdir_and_walk(peer: Peer) -> None:
    qid = peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o750, 0), m.Rmkdir).qid
    assert qid.type == c.QTDIR
    assert peer.qid(b"d").path == qid.path
    d = peer.walk(b"d")
    found = attributes(peer, d)
    assert (found.mode, found.nlink) == (stat.S_IFDIR | 0o750, 2)
    assert attributes(peer, peer.root).nlink == 3
    inner = peer.ok(m.Tmkdir(peer.tag(), d, b"e", 0o755, 0), m.Rmkdir).qid
    reply = peer.ok(m.Twalk(peer.tag(), peer.root, peer.fid(), (b"d", b"e", b"..", b"..", b"..")), m.Rwalk)
    root = attributes(peer, peer.root).qid.path
    assert [q.path for q in reply.wqids] == [qid.path, inner.path, qid.path, root, root]


def test_walk_stops_at_what_is_not_there(peer: Peer) -> None:
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
    create(peer, b"f")
    new = peer.fid()
    assert peer.error(m.Twalk(peer.tag(), peer.root, new, (b"no", b"d"))) == c.ENOENT
    for names in ((b"d", b"no"), (b"f", b"x"), (b"d", b"no", b"way")):
        reply = peer.ok(m.Twalk(peer.tag(), peer.root, new, names), m.Rwalk)
        assert len(reply.wqids) == 1
        assert peer.error(m.Tgetattr(peer.tag(), new, 0)) == c.EBADF
    f = peer.walk(b"f")
    assert peer.error(m.Twalk(peer.tag(), f, new, (b"x",))) == c.ENOTDIR
    assert peer.error(m.Twalk(peer.tag(), f, new, (b"..",))) == c.ENOTDIR


def test_walk_onto_the_same_fid(peer: Peer) -> None:
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
    fid = peer.walk()
    peer.ok(m.Twalk(peer.tag(), fid, fid, ()), m.Rwalk)
    peer.ok(m.Twalk(peer.tag(), fid, fid, (b"d",)), m.Rwalk)
    assert attributes(peer, fid).qid.path == peer.qid(b"d").path
    assert peer.error(m.Twalk(peer.tag(), fid, fid, (b"no",))) == c.ENOENT
    assert attributes(peer, fid).qid.path == peer.qid(b"d").path
    peer.ok(m.Tlopen(peer.tag(), fid, 0), m.Rlopen)
    assert peer.error(m.Twalk(peer.tag(), fid, fid, (b"..",))) == c.EINVAL


def test_walk_from_an_open_fid(peer: Peer) -> None:
    """Linux does it since 5.11; hugelgupf/p9 and diod were fixed for it (hugelgupf ede3efe, diod#70/#81)."""
    create(peer, b"f", b"abc")
    directory = peer.open()
    fid = peer.walk(b"f", start=directory)
    peer.ok(m.Tlopen(peer.tag(), fid, 0), m.Rlopen)
    clone = peer.walk(start=fid)
    peer.ok(m.Tlopen(peer.tag(), clone, 0), m.Rlopen)
    assert read(peer, clone) == b"abc"


def test_readdir(peer: Peer) -> None:
    for number in range(50):
        create(peer, b"file%d" % number)
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
    peer.ok(m.Tsymlink(peer.tag(), peer.root, b"l", b"x", 0), m.Rsymlink)
    peer.ok(m.Tmknod(peer.tag(), peer.root, b"p", stat.S_IFIFO | 0o644, 0, 0, 0), m.Rmknod)
    for count in (280, 1000, 65536):
        entries = peer.list(count=count)
        names = [entry.name for entry in entries]
        assert sorted(names) == sorted([b".", b"..", b"d", b"l", b"p", *(b"file%d" % number for number in range(50))])
    by_name = {entry.name: entry for entry in entries}
    assert (by_name[b"d"].type, by_name[b"d"].qid.type) == (c.DT_DIR, c.QTDIR)
    assert (by_name[b"l"].type, by_name[b"l"].qid.type) == (c.DT_LNK, c.QTSYMLINK)
    assert (by_name[b"p"].type, by_name[b"file1"].type) == (c.DT_FIFO, c.DT_REG)
    for name in (b"d", b"l", b"p", b"file1"):
        assert by_name[name].qid.path == peer.qid(name).path
    root = attributes(peer, peer.root).qid.path
    assert by_name[b"."].qid.path == by_name[b".."].qid.path == root


def test_readdir_cookies_stay_good_while_the_directory_changes(peer: Peer) -> None:
    kept = {b"keep%d" % number for number in range(40)}
    for name in kept:
        create(peer, name)
    for number in range(40):
        create(peer, b"gone%d" % number)
    fid = peer.open()
    offset, seen = 0, []
    while True:
        data = peer.ok(m.Treaddir(peer.tag(), fid, offset, 150), m.Rreaddir).data
        entries = list(decode_dirents(data))
        if not entries:
            break
        for entry in entries:
            seen.append(entry.name)
            if entry.name.startswith(b"gone"):
                peer.call(m.Tunlinkat(peer.tag(), peer.root, entry.name, 0))
        if len(seen) < 60:
            create(peer, b"new%d" % len(seen))
        offset = entries[-1].offset
    assert len(seen) == len(set(seen)), "an entry came twice"
    assert kept <= set(seen), "an entry that was there all the time is missing"


def test_readdir_can_go_back_to_any_entry(peer: Peer) -> None:
    for number in range(30):
        create(peer, b"f%d" % number)
    entries = peer.list()
    fid = peer.open()
    for index in (20, 3, 3, 29, 10, 0):
        data = peer.ok(m.Treaddir(peer.tag(), fid, entries[index].offset, 8192), m.Rreaddir).data
        assert [e.name for e in decode_dirents(data)] == [e.name for e in entries[index + 1 :]]


def test_a_listing_is_the_same_whatever_fits_into_a_reply(peer: Peer) -> None:
    for number in range(40):
        create(peer, b"f" * (number + 1))
    for count in (100, 333, 4096):
        fid, offset, listed = peer.open(), 0, []
        while entries := list(decode_dirents(peer.ok(m.Treaddir(peer.tag(), fid, offset, count), m.Rreaddir).data)):
            offset = entries[-1].offset
            listed += entries
        assert listed == peer.list()


def test_a_listing_that_is_remembered_is_not_outdated(peer: Peer) -> None:
    """Names of the same length, and one in place of another, so that only the names and inode numbers differ."""
    names = {b".", b".."}
    for number in range(5):
        create(peer, b"f%d" % number)
        names.add(b"f%d" % number)
        assert {entry.name for entry in peer.list()} == {entry.name for entry in peer.list()} == names
    peer.ok(m.Trenameat(peer.tag(), peer.root, b"f0", peer.root, b"f9"), m.Rrenameat)
    peer.ok(m.Tunlinkat(peer.tag(), peer.root, b"f1", 0), m.Runlinkat)
    create(peer, b"f1")
    found = {entry.name: entry.qid.path for entry in peer.list()}
    assert found.keys() == names - {b"f0"} | {b"f9"}
    assert all(found[name] == peer.qid(name).path for name in found.keys() - {b".", b".."})


def test_entries_on_another_device_than_the_root(connect: MakePeer, hostfs: HostStore) -> None:
    """Their inode numbers have the same prefix in a listing and in a walk."""
    peer = connect(hostfs)
    for number in range(5):
        create(peer, b"f%d" % number)
    hostfs.paths = QidPaths(hostfs.root_inode[0] + 1)
    entries = {entry.name: entry.qid.path for entry in peer.list()}
    for number in range(5):
        name = b"f%d" % number
        assert entries[name] == peer.qid(name).path
        assert entries[name] >> 56 == 1


@pytest.mark.parametrize("offset", [1, 0xDEADBEEF, (1 << 63) - 1])
def test_readdir_starts_over_after_any_offset(peer: Peer, offset: int) -> None:
    """ext4 itself does not start over after a seek to the end (WIRE-DIR-011 found it)."""
    create(peer, b"f")
    fid = peer.open()
    for count in (4096, 40, 4096):
        peer.ok(m.Treaddir(peer.tag(), fid, offset, 4096), m.Rreaddir)
        data = peer.ok(m.Treaddir(peer.tag(), fid, 0, count), m.Rreaddir).data
        assert len(list(decode_dirents(data))) == (3 if count == 4096 else 1)


def test_readdir_of_too_little(peer: Peer) -> None:
    create(peer, b"f" * 100)
    fid = peer.open()
    assert peer.error(m.Treaddir(peer.tag(), fid, 0, 10)) == c.EINVAL
    assert peer.error(m.Treaddir(peer.tag(), fid, 1 << 63, 1000)) == c.EINVAL
    f = peer.open(b"f" * 100)
    assert peer.error(m.Treaddir(peer.tag(), f, 0, 1000)) == c.ENOTDIR
    assert peer.error(m.Tread(peer.tag(), fid, 0, 10)) == c.EISDIR
    assert peer.error(m.Treaddir(peer.tag(), peer.walk(), 0, 1000)) == c.EBADF


@pytest.mark.parametrize("name", [b"", b"a/b", b"/", b"/nowhere", b"../secret", b".", b"x\0y"])
def test_names_no_file_can_have_are_not_walked(peer: Peer, name: bytes) -> None:
    assert peer.error(m.Twalk(peer.tag(), peer.root, peer.fid(), (name,))) == c.ENOENT


@pytest.mark.parametrize("name", [b"x" * 256, b"x" * 60000])
def test_long_names(peer: Peer, name: bytes) -> None:
    assert peer.error(m.Twalk(peer.tag(), peer.root, peer.fid(), (name,))) == c.ENAMETOOLONG
    assert peer.error(m.Tmkdir(peer.tag(), peer.root, name, 0o755, 0)) == c.ENAMETOOLONG


@pytest.mark.parametrize(
    ("name", "ecode"),
    [
        (b"", c.ENOENT),
        (b"a/b", c.ENOENT),
        (b"/", c.ENOENT),
        (b"x\0y", c.EINVAL),
        (b".", c.EEXIST),
        (b"..", c.EEXIST),
    ],
)
def test_names_that_cannot_be_created(peer: Peer, name: bytes, ecode: int) -> None:
    f = peer.walk()
    peer.ok(m.Tlcreate(peer.tag(), f, b"f", c.O_RDWR, 0o644, 0), m.Rlcreate)
    tag, root = peer.tag, peer.root
    for request in (
        m.Tmkdir(tag(), root, name, 0o755, 0),
        m.Tlcreate(tag(), peer.walk(), name, c.O_RDWR, 0o644, 0),
        m.Tsymlink(tag(), root, name, b"target", 0),
        m.Tmknod(tag(), root, name, stat.S_IFIFO | 0o644, 0, 0, 0),
        m.Tlink(tag(), root, f, name),
    ):
        assert peer.error(request) == ecode, request


@pytest.mark.parametrize("name", [b"\xff\xfe\x80", "ü€😀".encode(), b" ", b"\n", b"-rf", b"x" * 255, b"..."])
def test_any_other_name_works(peer: Peer, name: bytes) -> None:
    create(peer, name, b"content")
    assert read(peer, peer.open(name)) == b"content"
    assert name in [entry.name for entry in peer.list()]
    peer.ok(m.Tunlinkat(peer.tag(), peer.root, name, 0), m.Runlinkat)


@pytest.mark.parametrize("kind", ["hostfs", "mapped"])
def test_a_walk_keeps_the_descriptor_of_its_last_file_alone(kind: str, connect: MakePeer, folder: Path) -> None:
    store = make_store(kind, folder)
    peer = connect(store)
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
    peer.ok(m.Tmkdir(peer.tag(), peer.walk(b"d"), b"e", 0o755, 0), m.Rmkdir)
    create(peer, b"f")

    before = held().total()
    whole = ((b"d", b"e"), (b"d", b"e", b".."), (b"d", b"..", b"f"), (b"d", b"e", b"..", b"e"))
    broken = ((b"no",), (b"d", b"no"), (b"d", b"e", b"no"), (b"d", b"..", b"no"), (b"f", b".."), (b"d", b"a/b"))
    for names in (*whole, *broken):
        fid = peer.fid()
        reply = peer.call(m.Twalk(peer.tag(), peer.root, fid, names))
        if names in whole:
            assert isinstance(reply, m.Rwalk) and len(reply.wqids) == len(names)
            assert held().total() == before + 1, names
            peer.ok(m.Tclunk(peer.tag(), fid), m.Rclunk)
        assert held().total() == before, names
    store.close()
