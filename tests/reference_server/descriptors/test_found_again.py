"""More fids than the process may have descriptors: the store closes and reopens them, and no client notices.

``forget`` closes every descriptor that the store can reopen, as happens when descriptors are short. Each test runs with
handles (open_by_handle_at(2)), and without them, on paths alone.
"""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

from protocol import constants as c
from protocol import messages as m
from reference_server.descriptors import Descriptors
from reference_server.hostfs import HostStore
from tests.reference_server.conftest import MakePeer
from tests.reference_server.descriptors.conftest import fit, forget
from tests.reference_server.mounts import mounted, overlay
from tests.reference_server.peer import Peer
from tests.reference_server.requests import attributes, create, get_xattr, read, set_xattr, setattr_

# --- many ------------------------------------------------------------------------------------------


def test_more_names_than_descriptors(peer: Peer, store: HostStore, folder: Path) -> None:
    for number in range(1000):
        (folder / f"f{number}").write_text("x" * number)
    fit(store, 100)
    fids = [peer.walk(b"f%d" % number) for number in range(1000)]
    assert len(os.listdir("/proc/self/fd")) < store.descriptors.end
    for number, fid in random.Random(1).sample(list(enumerate(fids)), 1000):
        assert attributes(peer, fid).size == number
    for number in (999, 3, 500):
        peer.ok(m.Tlopen(peer.tag(), fids[number], c.O_RDONLY), m.Rlopen)
        assert read(peer, fids[number]) == b"x" * number
    assert len(os.listdir("/proc/self/fd")) < store.descriptors.end
    # Another fid for the same file takes no descriptor.
    for _ in range(300):
        peer.walk(start=fids[0])


def test_two_stores_make_room_for_each_other(connect: MakePeer, folder: Path, tmp_path: Path) -> None:
    descriptors = Descriptors()
    more = tmp_path / "more"
    more.mkdir()
    stores = [HostStore(str(path), descriptors=descriptors) for path in (folder, more)]
    for path in (folder, more):
        for number in range(150):
            (path / f"f{number}").write_text("x" * number)
    peers = [connect(store) for store in stores]
    fit(stores[0], 100)
    for each in (0, 1, 0):
        for number in range(150):
            assert attributes(peers[each], peers[each].walk(b"f%d" % number)).size == number
    for peer in peers:
        peer.close()
    for store in stores:
        store.close()


def test_what_is_open_is_limited_and_reported(peer: Peer, store: HostStore, folder: Path, connect: MakePeer) -> None:
    """The server's EMFILE is ENFILE for the guest (bug museum 86).  Open fids stay valid; other clients have room."""
    for number in range(200):
        (folder / f"f{number}").write_text(str(number))
    other = connect(store)
    fit(store, 100)
    opened = []
    for number in range(200):
        fid = peer.walk(b"f%d" % number)
        reply = peer.call(m.Tlopen(peer.tag(), fid, c.O_RDONLY))
        if isinstance(reply, m.Rlerror):
            assert reply.ecode == c.ENFILE
            break
        opened.append(fid)
    assert 15 < len(opened) < 50, "each takes two, and one client gets half"
    assert peer.error(m.Tlopen(peer.tag(), peer.walk(), c.O_RDONLY)) == c.ENFILE
    assert peer.error(m.Tlcreate(peer.tag(), peer.walk(), b"new", c.O_RDWR, 0o644, 0)) == c.ENFILE
    assert not (folder / "new").exists()
    assert peer.error(m.Tlock(peer.tag(), opened[0], c.LOCK_TYPE_RDLCK, 0, 0, 0, 1, b"me")) == c.ENOLCK
    for number, fid in enumerate(opened):
        assert read(peer, fid) == str(number).encode()
    # The others get half of the rest, and may walk to as many files as they like.
    theirs = [other.open(b"f%d" % number) for number in range(5)]
    for number in range(200):
        assert attributes(other, other.walk(b"f%d" % number)).size == len(str(number))
    assert other.ok(m.Tlock(other.tag(), theirs[0], c.LOCK_TYPE_RDLCK, 0, 0, 0, 1, b"me"), m.Rlock).status == 0
    for fid in opened[:12]:
        peer.clunk(fid)
    assert len([peer.open(b"f%d" % number) for number in range(3)]) == 3
    fid = peer.walk(b"f9")
    peer.clunk(fid)


def test_what_is_open_is_not_given_up(peer: Peer, store: HostStore, folder: Path) -> None:
    fid = create(peer, b"f", b"content")
    directory = peer.open()
    (folder / "f").unlink()  # the host does not ask
    forget(store)
    assert read(peer, fid) == b"content"
    assert attributes(peer, fid).nlink == 0
    peer.ok(setattr_(peer, fid, c.SETATTR_SIZE, size=3), m.Rsetattr)
    assert read(peer, fid) == b"con"
    assert peer.ok(m.Treaddir(peer.tag(), directory, 0, 8000), m.Rreaddir).data


# --- everything that a fid can do ---------------------------------------------------------------------


def test_every_operation_finds_its_file_again(peer: Peer, store: HostStore, folder: Path) -> None:
    peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
    peer.clunk(create(peer, b"f", b"content"))
    peer.ok(m.Tsymlink(peer.tag(), peer.root, b"l", b"target", 0), m.Rsymlink)
    peer.ok(m.Tmknod(peer.tag(), peer.root, b"p", stat.S_IFIFO | 0o644, 0, 0, 0), m.Rmknod)
    d, f, link, fifo = (peer.walk(name) for name in (b"d", b"f", b"l", b"p"))

    def absent() -> None:
        forget(store)
        assert store.places.count() >= 4

    absent()
    assert attributes(peer, d).qid == peer.qid(b"d")
    assert attributes(peer, fifo).mode & stat.S_IFMT(0o170000) == stat.S_IFIFO
    absent()
    assert peer.ok(m.Treadlink(peer.tag(), link), m.Rreadlink).target == b"target"
    absent()
    assert peer.ok(m.Tstatfs(peer.tag(), f), m.Rstatfs).bsize
    absent()
    set_xattr(peer, f, b"user.a", b"1")
    absent()
    assert get_xattr(peer, f, b"user.a") == b"1"
    absent()
    peer.ok(setattr_(peer, f, c.SETATTR_MODE | c.SETATTR_SIZE, mode=0o600, size=4), m.Rsetattr)
    absent()
    peer.clunk(create(peer, b"g", directory=d))
    absent()
    peer.ok(m.Tmkdir(peer.tag(), d, b"sub", 0o755, 0), m.Rmkdir)
    absent()
    peer.ok(m.Tlink(peer.tag(), d, f, b"linked"), m.Rlink)
    absent()
    peer.clunk(peer.walk(b"sub", b"..", b"linked", start=d))
    absent()
    assert peer.qid(b"d", b"..") == attributes(peer, peer.root).qid
    absent()
    clone = peer.walk(start=f)
    peer.ok(m.Tlopen(peer.tag(), clone, c.O_RDONLY), m.Rlopen)
    assert read(peer, clone) == b"cont"
    peer.clunk(clone)
    absent()
    listed = peer.walk(start=d)
    peer.ok(m.Tlopen(peer.tag(), listed, 0), m.Rlopen)
    assert b"linked" in bytes(peer.ok(m.Treaddir(peer.tag(), listed, 0, 8000), m.Rreaddir).data)
    peer.clunk(listed)
    absent()
    peer.ok(m.Trenameat(peer.tag(), peer.root, b"f", d, b"f"), m.Rrenameat)
    absent()
    peer.ok(m.Trename(peer.tag(), f, peer.root, b"f2"), m.Rrename)
    absent()
    peer.ok(m.Tunlinkat(peer.tag(), d, b"g", 0), m.Runlinkat)
    absent()
    peer.ok(m.Tremove(peer.tag(), f), m.Rremove)
    assert sorted(os.listdir(folder)) == ["d", "l", "p"]


# --- names that are removed or renamed ----------------------------------------------------------------


def test_unlinked_by_a_client(peer: Peer, store: HostStore, folder: Path, connect: MakePeer) -> None:
    """A fid keeps its file, whichever client removes the name."""
    other = connect(store)
    for by in (peer, other):
        peer.clunk(create(peer, b"f", b"content"))
        peer.ok(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0), m.Rmkdir)
        fids = [peer.walk(b"f"), other.walk(b"f"), peer.walk(b"d")]
        forget(store)
        by.ok(m.Tunlinkat(by.tag(), by.root, b"f", 0), m.Runlinkat)
        by.ok(m.Tunlinkat(by.tag(), by.root, b"d", c.AT_REMOVEDIR), m.Runlinkat)
        assert not os.listdir(folder)
        for _ in range(2):
            forget(store)
            assert attributes(peer, fids[0]).size == attributes(other, fids[1]).size == 7
            assert attributes(peer, fids[0]).nlink == 0
            assert peer.error(m.Tmkdir(peer.tag(), fids[2], b"x", 0o755, 0)) == c.ENOENT
        peer.ok(m.Tlopen(peer.tag(), fids[0], c.O_RDONLY), m.Rlopen)
        assert read(peer, fids[0]) == b"content"
        for fid in (fids[0], fids[2]):
            peer.clunk(fid)
        other.clunk(fids[1])


def test_replaced_by_a_client(peer: Peer, store: HostStore) -> None:
    peer.clunk(create(peer, b"old", b"old"))
    peer.clunk(create(peer, b"new", b"newer"))
    old, new = peer.walk(b"old"), peer.walk(b"new")
    forget(store)
    peer.ok(m.Trenameat(peer.tag(), peer.root, b"new", peer.root, b"old"), m.Rrenameat)
    for _ in range(2):
        forget(store)
        assert (attributes(peer, old).size, attributes(peer, new).size) == (3, 5)
    assert peer.error(m.Tremove(peer.tag(), old)) == c.ENOENT
    peer.ok(m.Tremove(peer.tag(), new), m.Rremove)


def test_one_of_two_names_goes(peer: Peer, store: HostStore, folder: Path) -> None:
    peer.clunk(create(peer, b"a", b"content"))
    peer.ok(m.Tlink(peer.tag(), peer.root, peer.walk(b"a"), b"b"), m.Rlink)
    a, b = peer.walk(b"a"), peer.walk(b"b")
    forget(store)
    peer.ok(m.Tunlinkat(peer.tag(), peer.root, b"a", 0), m.Runlinkat)
    forget(store)
    assert attributes(peer, a).nlink == attributes(peer, b).nlink == 1
    peer.ok(m.Tunlinkat(peer.tag(), peer.root, b"b", 0), m.Runlinkat)
    forget(store)
    assert attributes(peer, a).size == attributes(peer, b).size == 7


def test_moved_by_a_client(peer: Peer, store: HostStore, folder: Path) -> None:
    """A file, and directories far above it, are renamed there and back; then Tremove of the fid removes its name."""
    (folder / "a" / "b" / "c").mkdir(parents=True)
    (folder / "a" / "b" / "c" / "f").write_bytes(b"content")
    (folder / "ab").mkdir()  # the path has the other as prefix and is not below it
    (folder / "ab" / "f").write_bytes(b"beside")
    f, low, beside = peer.walk(b"a", b"b", b"c", b"f"), peer.walk(b"a", b"b", b"c"), peer.walk(b"ab", b"f")
    forget(store)
    peer.ok(m.Trenameat(peer.tag(), peer.root, b"a", peer.root, b"z"), m.Rrenameat)
    peer.ok(m.Trenameat(peer.tag(), peer.walk(b"z"), b"b", peer.root, b"b"), m.Rrenameat)
    (folder / "z").rmdir()
    assert attributes(peer, f).size == 7
    forget(store)
    peer.ok(m.Trenameat(peer.tag(), peer.walk(b"b", b"c"), b"f", peer.root, b"g"), m.Rrenameat)
    assert attributes(peer, low).qid == peer.qid(b"b", b"c")
    forget(store)
    peer.ok(m.Trename(peer.tag(), f, low, b"h"), m.Rrename)
    assert (folder / "b" / "c" / "h").read_bytes() == b"content"
    forget(store)
    assert attributes(peer, beside).size == 6
    peer.ok(m.Tremove(peer.tag(), f), m.Rremove)
    assert not list((folder / "b" / "c").iterdir())


def test_another_directory_takes_the_place(peer: Peer, store: HostStore, folder: Path) -> None:
    """A file that was below an empty directory is not searched for below the directory that replaces it."""
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "f").write_text(name)
    f = peer.walk(b"one", b"f")
    forget(store)
    peer.ok(m.Trenameat(peer.tag(), peer.walk(b"one"), b"f", peer.root, b"f"), m.Rrenameat)
    forget(store)
    peer.ok(m.Trenameat(peer.tag(), peer.root, b"two", peer.root, b"one"), m.Rrenameat)
    forget(store)
    peer.ok(m.Trename(peer.tag(), f, peer.walk(b"one"), b"g"), m.Rrename)
    assert {path.name: path.read_text() for path in (folder / "one").iterdir()} == {"f": "two", "g": "one"}


# --- the host does not ask ------------------------------------------------------------------------------


def test_removed_and_replaced_by_the_host(peer: Peer, store: HostStore, folder: Path) -> None:
    """The fid never reaches another file with the same name, and perhaps the same inode number."""
    path = folder / "f"
    for _ in range(20):
        path.write_bytes(b"first")
        fid = peer.walk(b"f")
        forget(store)
        path.unlink()
        path.write_bytes(b"second")
        assert peer.error(m.Tgetattr(peer.tag(), fid, c.GETATTR_ALL)) == c.ESTALE
        assert peer.error(m.Tlopen(peer.tag(), fid, c.O_RDWR)) == c.ESTALE
        assert peer.error(m.Tremove(peer.tag(), fid)) == c.ESTALE
    assert path.read_bytes() == b"second"


def test_replaced_by_links_on_the_host(peer: Peer, store: HostStore, folder: Path, tmp_path: Path) -> None:
    """The store follows no link, neither as the last name nor above it."""
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (folder / "d").mkdir()
    (folder / "d" / "f").write_bytes(b"inside")
    os.link(folder / "d" / "f", outside / "f")  # the same file, outside
    os.link(folder / "d" / "f", outside / "d" / "f")
    fid, directory = peer.walk(b"d", b"f"), peer.walk(b"d")
    forget(store)
    (folder / "d" / "f").unlink()
    (folder / "d" / "f").symlink_to(outside / "f")
    (folder / "d").rename(folder / "e")
    (folder / "d").symlink_to(outside / "d")
    if store.places.by_handle:
        assert attributes(peer, fid).size == 6, "the same inode, as before"
        assert attributes(peer, directory).qid == peer.qid(b"e")
    else:
        assert peer.error(m.Tgetattr(peer.tag(), fid, c.GETATTR_ALL)) == c.ESTALE
        assert peer.error(m.Tgetattr(peer.tag(), directory, c.GETATTR_ALL)) == c.ESTALE
    assert peer.error(m.Tremove(peer.tag(), fid)) in (c.ENOENT, c.ESTALE)
    assert (outside / "f").exists() and (outside / "d" / "f").exists()


def test_renamed_by_the_host(peer: Peer, store: HostStore, folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "f").write_bytes(b"content")
    fid, directory = peer.walk(b"a", b"f"), peer.walk(b"a")
    forget(store)
    (folder / "a").rename(folder / "b")
    if not store.places.by_handle:
        assert peer.error(m.Tgetattr(peer.tag(), fid, c.GETATTR_ALL)) == c.ESTALE
        (folder / "b").rename(folder / "a")  # back again
    assert attributes(peer, fid).size == 7
    assert attributes(peer, directory).nlink


def test_moved_out_by_the_host(peer: Peer, store: HostStore, folder: Path, tmp_path: Path) -> None:
    """`..` and Trename fail from there, whether or not the store gave up the descriptor before."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "f").touch()
    fids = [peer.walk(b"a", b"b"), peer.walk(b"a", b"f")]
    for before in (True, False):
        if before:
            forget(store)
        (folder / "a").rename(tmp_path / "a")
        forget(store)
        for fid in fids:
            assert peer.error(m.Trename(peer.tag(), fid, peer.root, b"x")) in (c.ENOENT, c.ESTALE)
        assert peer.error(m.Twalk(peer.tag(), fids[0], peer.fid(), (b"..",))) in (c.ENOENT, c.ESTALE)
        (tmp_path / "a").rename(folder / "a")
    assert attributes(peer, fids[0]).nlink


def test_names_that_say_deleted(peer: Peer, store: HostStore) -> None:
    """The kernel adds "(deleted)" to a path whose name is removed; a file may have such a name."""
    peer.clunk(create(peer, b"f (deleted)", b"content"))
    fid = peer.walk(b"f (deleted)")
    forget(store)
    assert store.places.count() >= 1
    assert attributes(peer, fid).size == 7
    peer.ok(m.Tremove(peer.tag(), fid), m.Rremove)


def test_the_export_itself_is_renamed(peer: Peer, store: HostStore, folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "f").write_bytes(b"content")
    fid = peer.walk(b"d", b"f")
    forget(store)
    folder.rename(folder.parent / "elsewhere")
    assert attributes(peer, fid).size == 7
    forget(store)
    peer.ok(m.Trename(peer.tag(), fid, peer.root, b"g"), m.Rrename)
    (folder.parent / "elsewhere").rename(folder)
    assert attributes(peer, fid).size == 7


# --- what cannot be found again -------------------------------------------------------------------------


def test_unlinked_files_beyond_the_share_are_lost_to_their_client_alone(
    peer: Peer, store: HostStore, connect: MakePeer
) -> None:
    """They cannot be found again, so each keeps its descriptor; a client with too many loses its oldest."""
    other = connect(store)
    fit(store, 100)
    for by, count in ((other, 5), (peer, 150)):
        for number in range(count):
            peer.clunk(create(peer, b"f%d" % number, b"x" * number))
        fids = [by.walk(b"f%d" % number) for number in range(count)]
        for number in range(count):
            by.ok(m.Tunlinkat(by.tag(), by.root, b"f%d" % number, 0), m.Runlinkat)
        forget(store)
        seen = [by.call(m.Tgetattr(by.tag(), fid, c.GETATTR_ALL)) for fid in fids]
        good = [reply.size for reply in seen if isinstance(reply, m.Rgetattr)]
        assert all(reply.ecode == c.ESTALE for reply in seen if isinstance(reply, m.Rlerror))
        if by is other:
            assert good == list(range(count))
            kept = fids
        else:
            assert 20 < len(good) < 60
    assert [attributes(other, fid).size for fid in kept] == list(range(5))
    for number in range(200):  # and there is room again
        peer.clunk(peer.walk())
        other.clunk(create(other, b"f%d" % number))


def test_deeper_than_a_path_can_be(connect: MakePeer, hostfs: HostStore) -> None:
    """The kernel returns no path of this length; directories are found by their handles, or keep their descriptors."""
    peer = connect(hostfs)
    fids, name = [peer.root], b"x" * 255
    for _ in range(40):
        peer.ok(m.Tmkdir(peer.tag(), fids[-1], name, 0o755, 0), m.Rmkdir)
        fids.append(peer.walk(name, start=fids[-1]))
    peer.clunk(create(peer, b"f", b"content", directory=fids[-1]))
    file = peer.walk(b"f", start=fids[-1])
    for by_handle in (True, False):
        if not by_handle:
            assert attributes(peer, file).size == 7
            hostfs.places._mount_fd = None
        forget(hostfs)
        for fid in fids:
            assert attributes(peer, fid).nlink
        assert attributes(peer, file).size == 7


# --- identities, mounts, file systems without handles ------------------------------------------------------


def test_a_read_only_mount_is_not_gone_round(connect: MakePeer, folder: Path) -> None:
    """A handle does not include the mount: it would open the file through the export's own, which is writable."""
    (folder / "d").mkdir()
    (folder / "d" / "f").write_bytes(b"content")
    with mounted("--bind", "-o", "ro", str(folder / "d"), at=folder / "ro"):
        store = HostStore(str(folder))
        peer = connect(store)
        fid, directory = peer.walk(b"ro", b"f"), peer.walk(b"ro")
        for _ in range(2):
            assert peer.error(m.Tlopen(peer.tag(), fid, c.O_RDWR)) == c.EROFS
            assert peer.error(m.Tmkdir(peer.tag(), directory, b"x", 0o755, 0)) == c.EROFS
            forget(store)
        peer.close()
        store.close()


def test_overlayfs_has_no_handles(connect: MakePeer, tmp_path: Path) -> None:
    """After a write, a file of the lower layer has another, younger inode below."""
    (tmp_path / "lower" / "d").mkdir(parents=True)
    for number in range(200):
        (tmp_path / "lower" / "d" / f"f{number}").write_bytes(b"x" * number)
    with overlay(tmp_path, "xino=on") as joined:
        store = HostStore(str(joined))
        assert not store.places.by_handle
        peer = connect(store)
        fit(store, 60)
        fids = [peer.walk(b"d", b"f%d" % number) for number in range(200)]
        forget(store)
        peer.clunk(peer.open(b"d", b"f7", flags=c.O_RDWR))
        peer.ok(setattr_(peer, peer.walk(b"d", b"f8"), c.SETATTR_MODE, mode=0o600), m.Rsetattr)
        forget(store)
        for number, fid in enumerate(fids):
            assert attributes(peer, fid).size == number
        peer.close()
        store.close()
