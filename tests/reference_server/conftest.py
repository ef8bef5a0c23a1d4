"""Stores and peers for the server's tests.  A test fails when the server reports an unexpected exception."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reference_server import identity
from reference_server.descriptors import Descriptors
from reference_server.hostfs import HostStore
from reference_server.limits import Limits
from reference_server.mapped import MappedStore
from reference_server.memfs import MemoryStore
from reference_server.outlets import Health
from reference_server.storage import Store
from tests.descriptors import held, leaked
from tests.reference_server.peer import Peer

MakePeer = Callable[..., Peer]


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """Set the umask as ``assay9 serve`` does."""
    mask = os.umask(0)
    yield
    os.umask(mask)


@pytest.fixture
def health() -> Iterator[Health]:
    """Fails the test when a handler raised an unexpected exception."""
    health = Health()
    yield health
    assert not health.unexpected, health.unexpected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The exported directory; nothing beside it may ever be reached."""
    path = tmp_path / "export"
    path.mkdir(mode=0o755)
    (tmp_path / "secret").write_text("outside")
    return path


def make_store(kind: str, folder: Path, descriptors: Descriptors | None = None) -> Store:
    """A store of the given kind."""
    if kind == "memfs":
        return MemoryStore()
    if kind == "mapped":
        return MappedStore(str(folder), descriptors)
    return HostStore(str(folder), identity.choose("client"), descriptors)


@pytest.fixture(params=["hostfs", "mapped", "memfs"])
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """Every kind of store in turn."""
    store = make_store(request.param, folder)
    yield store
    store.close()


@pytest.fixture
def hostfs(folder: Path) -> Iterator[HostStore]:
    """The passthrough store alone."""
    store = HostStore(str(folder), identity.choose("client"))
    yield store
    store.close()


@pytest.fixture
def connect(health: Health) -> Iterator[MakePeer]:
    """Makes peers, each a separate client; afterwards nothing of them may be left."""
    peers: list[Peer] = []
    stores: list[HostStore] = []
    gc.collect()  # garbage of earlier tests does not count here
    before = held()

    def make(store: object, limits: Limits | None = None, **options: object) -> Peer:
        peer = Peer(store, limits, health, **options)  # type: ignore[arg-type]
        peers.append(peer)
        if isinstance(store, HostStore):
            stores.append(store)
        return peer

    yield make
    for peer in peers:
        peer.run_work()
        peer.close()
        assert not peer.session.fids.by_number
        assert peer.session.fids.open_files == 0
        assert peer.session.fids.xattr_bytes == 0
    assert leaked(before) == []
    for store in stores:
        assert not store.descriptors.cached
        assert store.descriptors.pinned.left == store.descriptors.pinned.size
        assert not store.places.count()


@pytest.fixture
def peer(connect: MakePeer, store: Store) -> Peer:
    """A client of every kind of store in turn."""
    return connect(store)
