"""Nothing outside the export is reached, even while a process on the host attacks it.

The attacker is a process of the host that may rename anything in the export.  The guest sends the requests of a hostile
guest.  Afterwards every name, content, mode and time of a tree outside is compared.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from protocol import constants as c
from protocol import messages as m
from protocol.dirents import decode_dirents
from protocol.fields import Qid
from protocol.registry import Message
from reference_server.hostfs import HostStore
from tests.reference_server.conftest import MakePeer, make_store
from tests.reference_server.peer import Peer
from tests.reference_server.requests import create, get_xattr, set_xattr
from tests.waiting import PATIENT

SECONDS = 2.0
SECRET = b"outside"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A tree beside the export."""
    path = tmp_path / "outside"
    (path / "sub").mkdir(parents=True)
    for name in ("f", "passwd", "sub/f"):
        (path / name).write_bytes(SECRET)
    return path


def portrait(path: Path) -> dict[str, tuple[object, ...]]:
    """All visible properties of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(path):
        for name in [".", *folders, *files]:
            full = os.path.join(folder, name)
            status = os.lstat(full)
            content = Path(full).read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[full] = (status.st_mode, status.st_nlink, status.st_uid, status.st_mtime_ns, content)
    return found


@pytest.fixture(params=["hostfs", "mapped"])
def peer(request: pytest.FixtureRequest, connect: MakePeer, folder: Path) -> Iterator[Peer]:
    store = make_store(request.param, folder)
    yield connect(store)
    store.close()


@contextmanager
def attacker(act: Callable[[], None]) -> Iterator[None]:
    """Run ``act`` repeatedly in its own process."""
    child = os.fork()
    if not child:
        try:
            while True:
                with suppress(OSError):
                    act()
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


_libc = ctypes.CDLL(None, use_errno=True)


def exchange(one: Path, two: Path) -> None:
    """Exchange names by renameat2(RENAME_EXCHANGE): neither name is ever missing."""
    if _libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(two), 2):
        raise OSError(ctypes.get_errno(), "exchange")


def requests(peer: Peer, random_: random.Random, directory: bytes, enough: Callable[[], bool]) -> Iterator[Message]:
    """Requests that a guest can send for the name ``directory``, in any order, until the attack was long enough."""
    begun = time.monotonic()
    tag, root = peer.tag, peer.root
    names = [b"f", b"passwd", b"sub", b"new", b"x", b"..", b"outside", b"secret"]
    while not over(begun, enough()):
        fid, deep, name = peer.fid(), peer.fid(), random_.choice(names)
        yield m.Twalk(tag(), root, fid, (directory,))
        yield m.Twalk(tag(), root, deep, (directory, name))
        yield m.Tgetattr(tag(), deep, c.GETATTR_ALL)
        yield random_.choice(
            [
                m.Tlopen(tag(), deep, random_.choice([c.O_RDONLY, c.O_RDWR, c.O_RDWR | c.O_TRUNC])),
                m.Tlopen(tag(), fid, c.O_RDONLY),
                m.Tsetattr(tag(), deep, c.SETATTR_MODE | c.SETATTR_UID, 0o7777, 1, 1, 0, 0, 0, 0, 0),
                m.Tsetattr(tag(), deep, c.SETATTR_SIZE, 0, 0, 0, 0, 0, 0, 0, 0),
                m.Tmkdir(tag(), fid, b"new", 0o755, 0),
                m.Tmkdir(tag(), deep, b"new", 0o755, 0),
                m.Tsymlink(tag(), fid, b"s", b"../outside/passwd", 0),
                m.Tmknod(tag(), fid, b"n", stat.S_IFIFO | 0o644, 0, 0, 0),
                m.Tlink(tag(), root, deep, b"stolen"),
                m.Tlink(tag(), fid, deep, b"linked"),
                m.Tunlinkat(tag(), fid, name, 0) if name != b".." else m.Tstatfs(tag(), fid),
                m.Tunlinkat(tag(), fid, b"sub", c.AT_REMOVEDIR),
                m.Trenameat(tag(), fid, b"f", root, b"stolen"),
                m.Trename(tag(), deep, root, b"moved"),
                m.Tlcreate(tag(), fid, name, c.O_RDWR, 0o644, 0),
                m.Tlcreate(tag(), fid, b"created", c.O_RDWR | c.O_EXCL, 0o644, 0),
                m.Treadlink(tag(), fid),
            ]
        )
        yield m.Twrite(tag(), deep, 0, b"overwritten")
        yield m.Tread(tag(), deep, 0, 100)
        yield m.Tread(tag(), fid, 0, 100)
        yield m.Treaddir(tag(), fid, 0, 4096)
        yield random_.choice([m.Tremove, m.Tclunk])(tag(), deep)
        yield m.Tclunk(tag(), fid)
        for leftover in (b"stolen", b"moved", b"s", b"n", b"new"):
            yield m.Tunlinkat(tag(), root, leftover, 0)


def over(begun: float, enough: bool) -> bool:
    """Whether an attack begun at ``begun`` has lasted long enough: a busy machine needs longer for enough requests."""
    passed = time.monotonic() - begun
    return passed > PATIENT or (enough and passed > SECONDS)


def send_all(peer: Peer, folder: Path, outside: Path, directory: bytes) -> dict[str, int]:
    """Send the requests; no reply may show anything of outside.  Returns the count of each answer."""
    inodes = {os.lstat(path).st_ino for path in portrait(outside)}
    answers: dict[str, int] = {}
    for request in requests(
        peer, random.Random(9), directory, lambda: min(answers.get(name, 0) for name in ("Rwalk", "Rlerror")) > 50
    ):
        reply = peer.call(request)
        name = type(reply).__name__
        answers[name] = answers.get(name, 0) + 1
        if isinstance(reply, m.Rread):
            assert SECRET not in bytes(reply.data)
        for qid in qids_in(reply):
            assert qid.path not in inodes, f"{request!r} -> {reply!r}"
        if name == "Rlopen" and not random.getrandbits(3):
            os.sched_yield()
    return answers


def qids_in(reply: Message) -> list[Qid]:
    if isinstance(reply, m.Rwalk):
        return list(reply.wqids)
    if isinstance(reply, m.Rreaddir):
        return [entry.qid for entry in decode_dirents(reply.data)]
    found = getattr(reply, "qid", None)
    return [found] if found is not None else []


def test_a_directory_swapped_for_a_link_to_outside(peer: Peer, folder: Path, outside: Path) -> None:
    """CVE-2016-9602 and CVE-2017-7471: QEMU followed the link."""
    (folder / "d" / "sub").mkdir(parents=True)
    (folder / "d" / "f").write_bytes(b"inside")
    (folder / "link").symlink_to(outside)
    before = portrait(outside)
    with attacker(lambda: exchange(folder / "d", folder / "link")):
        answers = send_all(peer, folder, outside, b"d")
    assert portrait(outside) == before
    assert answers["Rwalk"] > 50 and answers["Rlerror"] > 50, answers


def test_a_file_swapped_for_a_link_to_outside(peer: Peer, folder: Path, outside: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "f").write_bytes(b"inside")
    (folder / "d" / "l").symlink_to(outside / "f")
    before = portrait(outside)

    def act() -> None:
        exchange(folder / "d" / "f", folder / "d" / "l")
        for path, make in ((folder / "d" / "f", b"inside"), (folder / "d" / "l", None)):
            if not os.path.lexists(path):
                path.write_bytes(make) if make else path.symlink_to(outside / "f")

    with attacker(act):
        send_all(peer, folder, outside, b"d")
    assert portrait(outside) == before


def test_a_file_swapped_for_a_fifo_or_a_device_is_not_opened(peer: Peer, folder: Path, outside: Path) -> None:
    """Opening the fifo would wait forever; that the test ends is the proof."""
    (folder / "d").mkdir()
    (folder / "d" / "f").write_bytes(b"inside")
    os.mkfifo(folder / "d" / "p")

    def act() -> None:
        exchange(folder / "d" / "f", folder / "d" / "p")
        if not os.path.lexists(folder / "d" / "f"):
            (folder / "d" / "f").write_bytes(b"inside")
        if not os.path.lexists(folder / "d" / "p"):
            os.mkfifo(folder / "d" / "p")

    with attacker(act):
        send_all(peer, folder, outside, b"d")


def test_a_directory_moved_out_has_no_way_up(peer: Peer, folder: Path, outside: Path) -> None:
    """In a directory that was moved out of the export, ``..`` must not lead to its new parent."""
    inner = folder / "a" / "b"
    inner.mkdir(parents=True)
    inode = os.stat(outside).st_ino
    moved = outside / "b"
    counts = {"inside": 0, "refused": 0}

    def act() -> None:
        os.rename(inner, moved)
        os.rename(moved, inner)

    with attacker(act):
        begun = time.monotonic()
        while not over(begun, counts["inside"] > 20):
            fid, up = peer.fid(), peer.fid()
            reply = peer.call(m.Twalk(peer.tag(), peer.root, fid, (b"a", b"b")))
            if not isinstance(reply, m.Rwalk) or len(reply.wqids) < 2:
                continue
            for names in ((b"..",), (b"..", b"..")):
                climbed = peer.call(m.Twalk(peer.tag(), fid, up, names))
                counts["inside" if isinstance(climbed, m.Rwalk) else "refused"] += 1
                assert all(qid.path != inode for qid in qids_in(climbed))
                peer.call(m.Tclunk(peer.tag(), up))
            peer.clunk(fid)
    if not inner.exists():
        os.rename(moved, inner)
    assert counts["inside"] > 20, counts


def test_moved_out_and_standing_still(peer: Peer, folder: Path, outside: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    fid = peer.walk(b"a", b"b")
    os.rename(folder / "a" / "b", outside / "b")
    try:
        assert peer.error(m.Twalk(peer.tag(), fid, peer.fid(), (b"..",))) == c.ENOENT
        assert peer.error(m.Trename(peer.tag(), fid, peer.root, b"x")) == c.ENOENT
        assert peer.error(m.Tremove(peer.tag(), fid)) == c.ENOENT
    finally:
        os.rename(outside / "b", folder / "a" / "b")


@pytest.mark.parametrize("target", ["{}", "..", "../..", "../outside", "/proc/self/root{}", "/proc/self/fd/{fd}"])
def test_links_made_by_anybody_lead_nowhere(peer: Peer, folder: Path, outside: Path, target: str) -> None:
    """Absolute links name only the decoy: if the server follows one, nothing else on this machine is damaged."""
    fd = os.open(outside, os.O_RDONLY | os.O_DIRECTORY)
    before = portrait(outside)
    target = target.format(outside, fd=fd)
    (folder / "l").symlink_to(target)
    reply = peer.ok(m.Twalk(peer.tag(), peer.root, peer.fid(), (b"l", b"f")), m.Rwalk)
    assert [qid.type for qid in reply.wqids] == [c.QTSYMLINK]
    link = peer.walk(b"l")
    assert peer.ok(m.Treadlink(peer.tag(), link), m.Rreadlink).target == target.encode()
    for request in (
        m.Tlopen(peer.tag(), link, c.O_RDWR | c.O_CREAT),
        m.Tlcreate(peer.tag(), peer.walk(b"l"), b"f", c.O_RDWR, 0o644, 0),
        m.Tmkdir(peer.tag(), link, b"d", 0o755, 0),
        m.Tsetattr(peer.tag(), link, c.SETATTR_MODE, 0o777, 0, 0, 0, 0, 0, 0, 0),
        m.Tsetattr(peer.tag(), link, c.SETATTR_SIZE, 0, 0, 0, 0, 0, 0, 0, 0),
    ):
        assert peer.error(request) in (c.ELOOP, c.ENOTDIR, c.EOPNOTSUPP, c.EINVAL), request
    assert portrait(outside) == before
    os.close(fd)


def test_what_lies_above_the_export_is_not_even_shown(peer: Peer, folder: Path) -> None:
    above = os.stat(folder.parent).st_ino
    assert all(entry.qid.path != above for entry in peer.list())
    reply = peer.ok(m.Twalk(peer.tag(), peer.root, peer.fid(), (b"..",) * 16), m.Rwalk)
    assert {qid.path for qid in reply.wqids} == {os.stat(folder).st_ino}


def test_a_deep_tree(connect: MakePeer, hostfs: HostStore) -> None:
    """A path of more than 65,535 bytes (GitLab qemu#3358), with a separate fid for each step."""
    peer = connect(hostfs)
    fid, name = peer.root, b"x" * 255
    for _ in range(300):
        peer.ok(m.Tmkdir(peer.tag(), fid, name, 0o755, 0), m.Rmkdir)
        below = peer.walk(name, start=fid)
        if fid != peer.root:
            peer.clunk(fid)
        fid = below
    deep = peer.walk(start=fid)
    peer.ok(m.Tlcreate(peer.tag(), deep, b"f", c.O_RDWR, 0o644, 0), m.Rlcreate)
    peer.ok(m.Twrite(peer.tag(), deep, 0, b"deep"), m.Rwrite)
    # The kernel returns no path of this length, so `..` and removal by fid are refused; they must not hit another file.
    assert peer.error(m.Twalk(peer.tag(), fid, peer.fid(), (b"..",))) == c.ENAMETOOLONG
    assert peer.error(m.Tremove(peer.tag(), peer.walk(b"f", start=fid))) == c.ENAMETOOLONG
    peer.ok(m.Tunlinkat(peer.tag(), fid, b"f", 0), m.Runlinkat)


def test_host_names_a_guest_may_know_of_the_mapping_stay_hidden(connect: MakePeer, folder: Path) -> None:
    """CVE-2017-7493: a guest forged its ownership through the server's own records."""
    store = make_store("mapped", folder)
    peer = connect(store, uid=1000)
    fid = create(peer, b"f", mode=0o4755)
    set_xattr(peer, fid, b"user.mine", b"1")
    for name in (b"user.virtfs.uid", b"user.virtfs.mode", b"user.virtfs.anything"):
        assert peer.error(m.Txattrwalk(peer.tag(), fid, peer.fid(), name)) == c.ENODATA
        for size in (0, 4):
            new = peer.walk(start=fid)
            peer.ok(m.Txattrcreate(peer.tag(), new, name, size, c.XATTR_REPLACE if not size else 0), m.Rxattrcreate)
            if size:
                peer.ok(m.Twrite(peer.tag(), new, 0, bytes(size)), m.Rwrite)
            assert peer.error(m.Tclunk(peer.tag(), new)) == c.EACCES
    assert get_xattr(peer, fid, b"") == b"user.mine\0"
    status = os.stat(folder / "f")
    assert (status.st_mode, status.st_uid) == (stat.S_IFREG | 0o600, os.geteuid())
    store.close()
