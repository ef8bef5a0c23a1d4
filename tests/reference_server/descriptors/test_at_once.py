"""The store gives up descriptors while other threads use, rename or remove their files."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from protocol import constants as c
from protocol import messages as m
from reference_server.exports import Export, Exports
from reference_server.hostfs import HostStore
from reference_server.outlets import Health
from tests.reference_server.descriptors.conftest import fit, forget
from tests.reference_server.peer import Peer
from tests.reference_server.requests import attributes, create, read


def test_many_threads_and_few_descriptors(store: HostStore, folder: Path, health: Health) -> None:
    """Four clients find, move, read, remove and make files in one tree, with few descriptors.

    Each file holds its own inode number, so that a read or write of the wrong file is detected.
    """
    descriptors = store.descriptors
    for name in ("a", "b"):
        (folder / name).mkdir()
    fit(store, 80)
    exports = Exports(Export(store))
    failures: list[BaseException] = []
    answered: list[int] = []

    def work(seed: int) -> None:
        try:
            answered.append(act(Peer(exports, None, health), random.Random(seed), seed))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test fails for it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert sum(answered) > 200
    assert not store.places.count() and not descriptors.cached
    assert descriptors.pinned.left == descriptors.pinned.size


def act(peer: Peer, random_: random.Random, seed: int) -> int:
    """One client.  Returns how often it found the right file."""
    known: dict[int, int] = {}
    good = 0
    for number in range(600):
        name, place = b"%d" % random_.randrange(8), random_.choice((b"a", b"b"))
        choice = random_.randrange(8)
        if choice == 0:
            folder_fid = walked(peer, place)
            new = peer.call(m.Tlcreate(peer.tag(), folder_fid, name, c.O_RDWR | c.O_EXCL, 0o644, 0))
            if isinstance(new, m.Rlcreate):
                peer.ok(m.Twrite(peer.tag(), folder_fid, 0, b"%d" % new.qid.path), m.Rwrite)
            peer.clunk(folder_fid)
        elif choice == 1:
            fid = peer.fid()
            reply = peer.call(m.Twalk(peer.tag(), peer.root, fid, (place, name)))
            if isinstance(reply, m.Rwalk) and len(reply.wqids) == 2:
                known[fid] = reply.wqids[1].path
            if len(known) > 8:  # each fid of a removed file keeps a descriptor
                del known[oldest := next(iter(known))]
                peer.clunk(oldest)
        elif choice in (2, 3) and known:
            fid, inode = random_.choice(list(known.items()))
            assert attributes(peer, fid).qid.path == inode
            good += 1
        elif choice == 4 and known:
            fid, inode = random_.choice(list(known.items()))
            clone = peer.walk(start=fid)
            peer.ok(m.Tlopen(peer.tag(), clone, c.O_RDONLY), m.Rlopen)
            assert read(peer, clone) in (b"", b"%d" % inode)
            peer.clunk(clone)
            good += 1
        elif choice == 5:
            one, two = walked(peer, place), walked(peer, random_.choice((b"a", b"b")))
            peer.call(m.Trenameat(peer.tag(), one, name, two, b"%d" % random_.randrange(8)))
            peer.clunk(one)
            peer.clunk(two)
        elif choice == 6 and number % 3 == 0:
            peer.call(m.Trenameat(peer.tag(), peer.root, b"b", walked(peer, b"a"), b"b"))
            peer.call(m.Trenameat(peer.tag(), walked(peer, b"a"), b"b", peer.root, b"b"))
        elif choice == 7 and known:
            fid = random_.choice(list(known))
            del known[fid]
            peer.call(m.Tremove(peer.tag(), fid) if random_.random() < 0.5 else m.Tclunk(peer.tag(), fid))
    peer.close()
    return good


def walked(peer: Peer, name: bytes) -> int:
    """A fid for a directory, or for the root while another client has moved the directory."""
    fid = peer.fid()
    reply = peer.call(m.Twalk(peer.tag(), peer.root, fid, (name,)))
    return fid if isinstance(reply, m.Rwalk) else peer.walk()


def test_a_busy_name_is_not_given_up(peer: Peer, store: HostStore, folder: Path) -> None:
    """The store keeps a descriptor that it was about to give up when a client removes the file."""
    peer.clunk(create(peer, b"f", b"content"))
    peer.clunk(create(peer, b"other"))
    forget(store)  # from now on the store checks names before it removes them
    fid = peer.walk(b"f")
    real = os.unlink

    def unlink(*arguments: object, **options: object) -> None:
        forget(store)  # another client needs room just before
        real(*arguments, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        peer.ok(m.Tunlinkat(peer.tag(), peer.root, b"f", 0), m.Runlinkat)
    forget(store)
    assert attributes(peer, fid).size == 7


def test_the_first_that_is_given_up_waits_for_a_name_that_goes(peer: Peer, store: HostStore) -> None:
    """Until descriptors are short, the store does not check names before it removes them."""
    peer.clunk(create(peer, b"f", b"content"))
    fid = peer.walk(b"f")
    assert not store.descriptors.shrinking
    real = os.unlink

    def unlink(*arguments: object, **options: object) -> None:
        assert forget(store) == 0
        real(*arguments, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        peer.ok(m.Tunlinkat(peer.tag(), peer.root, b"f", 0), m.Runlinkat)
    assert store.descriptors.shrinking
    forget(store)
    assert attributes(peer, fid).size == 7


def test_errors_on_the_way_are_reported_unchanged(
    peer: Peer, store: HostStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a file that no longer exists is stale."""
    peer.clunk(create(peer, b"f", b"content"))
    fid = peer.walk(b"f")
    forget(store)

    def fails(*_: object) -> int:
        raise OSError(errno.EIO, "broken disk")

    with monkeypatch.context() as patch:
        patch.setattr("reference_server.linux.openat2", fails)
        patch.setattr("reference_server.linux.open_by_handle", fails)
        assert peer.error(m.Tgetattr(peer.tag(), fid, c.GETATTR_ALL)) == c.EIO
    assert attributes(peer, fid).size == 7
