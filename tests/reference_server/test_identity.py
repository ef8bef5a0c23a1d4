"""Whose rights count, and who owns new files.  Needs root."""

from __future__ import annotations

import os
import pwd
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import constants as c
from protocol import messages as m
from reference_server import exports, identity
from reference_server.hostfs import HostStore
from reference_server.shares import Client
from tests.reference_server.conftest import MakePeer
from tests.reference_server.peer import Peer
from tests.reference_server.requests import attributes, create, setattr_

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes identities, which takes root")

USER = 12345


@pytest.fixture(autouse=True)
def reachable(folder: Path) -> Iterator[None]:
    """Let every user search every directory above the export; afterwards be root again."""
    for above in [folder, *folder.parents]:
        if above.stat().st_uid == os.geteuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o111)
    yield
    identity.TrustClient().use(exports.caller(b"", 0), 0)


@pytest.fixture(params=identity.POLICIES)
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[HostStore]:
    store = HostStore(str(folder), identity.choose(request.param))
    yield store
    store.close()


def store_of(folder: Path, policy: str) -> HostStore:
    return HostStore(str(folder), identity.choose(policy))


def test_new_files_belong_to_the_caller_from_the_first_moment(
    connect: MakePeer, store: HostStore, folder: Path
) -> None:
    folder.chmod(0o777)
    peer = connect(store, uid=USER)
    create(peer, b"f", mode=0o4755)
    status = os.stat(folder / "f")
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (USER, 0, 0o4755)
    # No chown(2) followed: only the creation set the change time.
    assert status.st_ctime_ns - status.st_mtime_ns < 1_000_000


def test_root_may_do_all(connect: MakePeer, store: HostStore, folder: Path) -> None:
    peer = connect(store, uid=0)
    fid = create(peer, b"f", mode=0)
    peer.ok(setattr_(peer, fid, c.SETATTR_UID | c.SETATTR_GID, uid=USER, gid=7), m.Rsetattr)
    peer.ok(setattr_(peer, fid, c.SETATTR_MODE, mode=0o6111), m.Rsetattr)
    peer.ok(m.Tmknod(peer.tag(), peer.root, b"n", stat.S_IFBLK | 0o600, 7, 0, 0), m.Rmknod)
    other = peer.open(b"f", flags=c.O_RDWR)
    peer.ok(m.Twrite(peer.tag(), other, 0, b"x"), m.Rwrite)
    assert stat.S_IMODE(os.stat(folder / "f").st_mode) == 0o6111


def test_a_write_by_a_user_ends_setuid_and_one_by_root_does_not(
    connect: MakePeer, store: HostStore, folder: Path
) -> None:
    folder.chmod(0o777)
    for uid, expected in ((USER, 0o755), (0, 0o6755)):
        peer = connect(store, uid=uid)
        fid = create(peer, b"f%d" % uid)
        os.chmod(folder / f"f{uid}", 0o6755)
        peer.ok(m.Twrite(peer.tag(), fid, 0, b"x"), m.Rwrite)
        assert attributes(peer, fid).mode & 0o7777 == expected


def test_a_write_by_a_user_leaves_setgid_without_execution(connect: MakePeer, store: HostStore, folder: Path) -> None:
    """MODE-019: the user may belong to the file's group, which only the guest's kernel knows."""
    if not isinstance(store.identity, identity.TrustClient):
        pytest.skip("the host's user data base decides, and its kernel's version")
    folder.chmod(0o777)
    peer = connect(store, uid=USER)
    fid = create(peer, b"f")
    os.chown(folder / "f", USER + 1, 7)
    os.chmod(folder / "f", 0o2666)
    peer.ok(m.Twrite(peer.tag(), fid, 0, b"x"), m.Rwrite)
    assert attributes(peer, fid).mode & 0o7777 == 0o2666


def test_users_take_turns_on_one_thread(connect: MakePeer, store: HostStore, folder: Path) -> None:
    folder.chmod(0o777)
    peers: list[Peer] = [connect(store, uid=uid) for uid in (0, USER, USER + 1)]
    for turn in range(5):
        for number, peer in enumerate(peers):
            fid = create(peer, b"f%d-%d" % (turn, number), b"x")
            found = attributes(peer, fid)
            assert found.uid == (0, USER, USER + 1)[number]


def test_a_worker_does_not_keep_the_identity_of_the_thread_that_started_it(store: HostStore, folder: Path) -> None:
    """Linux threads begin with the credentials of their creator."""
    folder.chmod(0o777)
    root, user = exports.caller(b"", 0), exports.caller(b"", USER)
    node = store.root(Client())

    def work() -> None:
        node.mkdir(b"by worker", 0o755, 0, root)

    store.identity.use_for_writing(user, 0)
    store.identity.use(user, 77)
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    status = os.stat(folder / "by worker")
    node.release()
    assert (status.st_uid, status.st_gid) == (0, 0)


def test_client_policy_leaves_permissions_to_the_client(connect: MakePeer, folder: Path) -> None:
    """Only the guest's kernel knows its users' groups, so only it can check (QEMU's passthrough does the same)."""
    store = store_of(folder, "client")
    create(connect(store), b"f", b"root's", mode=0o600)
    peer = connect(store, uid=USER)
    fid = peer.open(b"f", flags=c.O_RDWR)
    assert peer.ok(m.Tread(peer.tag(), fid, 0, 10), m.Rread).data == b"root's"
    create(peer, b"g")
    store.close()


def test_user_policy_asks_the_host(connect: MakePeer, folder: Path) -> None:
    store = store_of(folder, "user")
    root = connect(store)
    create(root, b"f", b"root's", mode=0o600)
    root.ok(m.Tmkdir(root.tag(), root.root, b"closed", 0o700, 0), m.Rmkdir)
    create(root, b"x", directory=root.walk(b"closed"))
    peer = connect(store, uid=USER)
    f = peer.walk(b"f")
    assert peer.error(m.Tlopen(peer.tag(), f, c.O_RDONLY)) == c.EACCES
    assert peer.error(m.Tlcreate(peer.tag(), peer.walk(), b"g", c.O_RDWR, 0o644, USER)) == c.EACCES
    assert peer.error(setattr_(peer, f, c.SETATTR_MODE, mode=0o777)) == c.EPERM
    assert peer.error(m.Tunlinkat(peer.tag(), peer.root, b"f", 0)) == c.EACCES
    reply = peer.ok(m.Twalk(peer.tag(), peer.root, peer.fid(), (b"closed", b"x")), m.Rwalk)
    assert len(reply.wqids) == 1
    assert root.ok(m.Tread(root.tag(), root.open(b"f"), 0, 10), m.Rread).data == b"root's"
    store.close()


def test_callers() -> None:
    assert exports.caller(b"root", 5).uid == 5
    for user in pwd.getpwall()[:3]:
        assert exports.caller(os.fsencode(user.pw_name), c.NONUNAME)[:2] == (user.pw_uid, user.pw_gid)
    assert exports.caller(b"", c.NONUNAME).uid == os.geteuid()
    assert exports.caller(b"no such user", c.NONUNAME).uid == exports.NOBODY
    assert exports.caller(b"\xff\0", c.NONUNAME).uid == exports.NOBODY
    assert exports.caller(b"", 4_000_000_000).uid == 4_000_000_000


def test_there_is_no_other_policy() -> None:
    with pytest.raises(ValueError, match="client, user"):
        identity.choose("nobody")


@pytest.mark.parametrize("policy", identity.POLICIES)
@pytest.mark.parametrize("by_handle", [True, False])
def test_found_with_the_rights_of_the_server_and_used_with_the_callers(
    connect: MakePeer, folder: Path, policy: str, by_handle: bool
) -> None:
    """A fid stays valid although its path was closed to the user; operations on it have the caller's rights."""
    store = HostStore(str(folder), identity.choose(policy))
    if not by_handle:
        store.places._mount_fd = None
    folder.chmod(0o777)
    (folder / "d" / "open").mkdir(parents=True)
    (folder / "d" / "open").chmod(0o777)
    (folder / "d" / "open" / "secret").write_bytes(b"root's own")
    (folder / "d" / "open" / "secret").chmod(0o600)
    user, root = connect(store, uid=USER), connect(store)
    fids = [user.walk(b"d", b"open"), user.walk(b"d", b"open", b"secret")]
    root.walk(b"d")  # the thread is root again
    (folder / "d").chmod(0o700)
    for again in range(2):
        store.descriptors.shrink(1 << 20)
        root.walk(b"d")
        user.ok(m.Tmkdir(user.tag(), fids[0], b"made%d" % again, 0o755, USER), m.Rmkdir)
        assert attributes(root, root.walk(b"d", b"open", b"made%d" % again)).uid == USER
        store.descriptors.shrink(1 << 20)
        if policy == "user":
            assert user.error(m.Tlopen(user.tag(), fids[1], c.O_RDWR)) == c.EACCES
            store.descriptors.shrink(1 << 20)
            assert user.error(setattr_(user, fids[1], c.SETATTR_MODE, mode=0o666)) == c.EPERM
            assert user.error(m.Tlcreate(user.tag(), user.walk(b"d"), b"new", c.O_RDWR, 0o644, 0)) == c.EACCES
        store.descriptors.shrink(1 << 20)
        assert attributes(user, fids[1]).uid == 0
    user.close()
    root.close()
    store.close()
