"""More fids than the process may have descriptors."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import constants as c
from protocol import messages as m
from reference_server.hostfs import HostStore
from tests.reference_server.conftest import MakePeer, make_store
from tests.reference_server.peer import Peer
from tests.reference_server.requests import attributes, create

LIMIT = 300
FILES = 400


@pytest.fixture(params=["hostfs", "mapped"])
def peer(request: pytest.FixtureRequest, connect: MakePeer, folder: Path) -> Iterator[Peer]:
    """A client of a store that was opened when few descriptors were to be had."""
    for number in range(FILES):
        (folder / f"f{number}").write_text(str(number))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + LIMIT, hard))
    store = make_store(request.param, folder)
    assert isinstance(store, HostStore)
    yield connect(store)
    store.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def exhaust(peer: Peer) -> list[int]:
    """Walk until no fid is to be had."""
    fids = []
    for number in range(FILES):
        fid = peer.fid()
        reply = peer.call(m.Twalk(peer.tag(), peer.root, fid, (b"f%d" % number,)))
        if isinstance(reply, m.Rlerror):
            assert reply.ecode == c.ENFILE
            return fids
        fids.append(fid)
    raise AssertionError("more fids than descriptors")


def test_the_limit_is_told(peer: Peer, folder: Path) -> None:
    """EMFILE of the server is not the guest's: ENFILE (bug museum 86); what is there stays good."""
    fids = exhaust(peer)
    assert LIMIT * 0.7 < len(fids) < LIMIT
    assert peer.error(m.Tlopen(peer.tag(), fids[0], c.O_RDONLY)) == c.ENFILE
    assert peer.error(m.Tlcreate(peer.tag(), peer.walk(), b"new", c.O_RDWR, 0o644, 0)) == c.ENFILE
    assert not (folder / "new").exists()
    for number, fid in enumerate(fids):
        assert attributes(peer, fid).size == len(str(number))
    # Descriptors are short, not fids: a fid for the same file takes none.
    clones = [peer.walk(start=fids[0]) for _ in range(2 * LIMIT)]
    assert len(clones) == 2 * LIMIT


def test_others_are_served_meanwhile(peer: Peer) -> None:
    """What is kept back is enough for locks and listings."""
    opened = create(peer, b"locked", b"x")
    listed = peer.open()
    exhaust(peer)
    reply = peer.ok(m.Tlock(peer.tag(), opened, c.LOCK_TYPE_WRLCK, 0, 0, 0, 1, b"me"), m.Rlock)
    assert reply.status == c.LOCK_SUCCESS
    for _ in range(2):  # anew from the start: that opens the directory again
        assert len(peer.ok(m.Treaddir(peer.tag(), listed, 0, 8000), m.Rreaddir).data) > 1000


def test_what_was_given_back_can_be_had_again(peer: Peer) -> None:
    fids = exhaust(peer)
    for fid in fids[:5]:
        peer.clunk(fid)
    assert len([peer.walk(b"f%d" % number) for number in range(5)]) == 5
