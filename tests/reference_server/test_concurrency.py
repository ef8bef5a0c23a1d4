"""What stores guarantee when calls overlap: each method documents it, and each store keeps it."""

from __future__ import annotations

import errno
import inspect
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from protocol.dirents import decode_dirents
from reference_server import storage
from reference_server.hostdir import HostDirectory
from reference_server.hostfs import HostStore
from reference_server.shares import Client
from reference_server.storage import Caller, Store
from tests.descriptors import held, leaked

ROOT = Caller(0, 0, ())
GUARANTEE = re.compile(r"\n\s*Concurrency: (one step|several steps|last)\b")
ROLES = (storage.Node, storage.OpenFile, storage.OpenDirectory, storage.Store)


@pytest.mark.parametrize(
    ("role", "name"),
    [(role, name) for role in ROLES for name, _ in inspect.getmembers(role, inspect.isfunction) if name[0] != "_"],
)
def test_every_method_that_workers_call_says_what_holds_when_calls_overlap(role: type, name: str) -> None:
    assert GUARANTEE.search(getattr(role, name).__doc__ or ""), f"{role.__name__}.{name}"


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """The results of calls that begin together, including exceptions."""
    gate = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return call()
        except OSError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


def test_of_overlapping_exclusive_creations_one_succeeds(store: Store) -> None:
    root = store.root(Client())
    for number in range(20):
        name = b"%d" % number
        made = at_once(*[lambda n=name: root.create(n, os.O_RDWR | os.O_EXCL, 0o644, 0, ROOT)] * 4)
        refused = [one for one in made if isinstance(one, OSError)]
        assert [one.errno for one in refused] == [errno.EEXIST] * 3
        for node, _, file in (one for one in made if not isinstance(one, OSError)):
            file.close()
            node.release()


def test_two_listings_of_one_open_directory_take_turns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may send a second Treaddir of a fid before the first is answered; workers then serve both."""
    names = {b"%03d" % number for number in range(100)}
    for name in names:
        (folder / name.decode()).touch()
    opened = HostStore(str(folder)).root(Client()).open_directory(ROOT)
    assert isinstance(opened, HostDirectory)
    inside, overlapped = threading.Semaphore(1), []
    fill = opened._buffer.fill

    def watched(fd: int) -> bytes:
        if not inside.acquire(blocking=False):
            overlapped.append(fd)
            return fill(fd)
        try:
            seen = fill(fd)
            second.wait(0.1)  # time for the other call to enter, if nothing blocks it
            return seen
        finally:
            inside.release()

    second = threading.Event()
    monkeypatch.setattr(opened._buffer, "fill", watched)
    listings = at_once(*[lambda: opened.read_entries(0, 1 << 16)] * 2)
    assert overlapped == []
    for listing in listings:
        assert {entry.name for entry in decode_dirents(listing)} == names | {b".", b".."}
    opened.close()


def test_a_directory_that_is_read_again_keeps_the_number_of_its_descriptor(folder: Path) -> None:
    """A call on another thread must never use a descriptor number that was closed and reused meanwhile."""
    opened = HostStore(str(folder)).root(Client()).open_directory(ROOT)
    assert isinstance(opened, HostDirectory)
    (folder / "before").touch()
    opened.read_entries(0, 1 << 12)
    number, before = opened._fd, held()
    (folder / "after").touch()
    listed = {entry.name for entry in decode_dirents(opened.read_entries(0, 1 << 12))}
    assert listed == {b".", b"..", b"before", b"after"}
    assert opened._fd == number and not os.get_inheritable(number)
    assert leaked(before) == []
    opened.close()
