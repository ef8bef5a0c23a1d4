"""Host stores of every kind, and limits on descriptors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reference_server.descriptors import Descriptors
from reference_server.hostfs import HostStore
from tests.reference_server.conftest import MakePeer, make_store
from tests.reference_server.peer import Peer

RESERVE = 64


@pytest.fixture(params=["hostfs", "mapped", "hostfs without handles", "mapped without handles"])
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[HostStore]:
    """Every kind of host store."""
    kind, _, without = request.param.partition(" ")
    store = make_store(kind, folder)
    assert isinstance(store, HostStore)
    if without:
        store.places._mount_fd = None
    elif not store.places.by_handle:
        pytest.skip("handles cannot be opened here")
    yield store
    store.close()


@pytest.fixture
def peer(connect: MakePeer, store: HostStore) -> Peer:
    return connect(store)


def forget(store: HostStore) -> int:
    """Close every descriptor that the store can reopen; return how many."""
    return store.descriptors.shrink(1 << 20)


def fit(store: HostStore, count: int) -> None:
    """Allow ``count`` more descriptors than are open now."""
    descriptors = Descriptors(len(os.listdir("/proc/self/fd")) + count + RESERVE)
    store.descriptors.end, store.descriptors.alert = descriptors.end, descriptors.alert
    store.descriptors.pinned.size = store.descriptors.pinned.left = count - count // 8
