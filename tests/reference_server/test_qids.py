"""qid.path names one file, equals the inode number where possible, and takes no memory for each file."""

from __future__ import annotations

import os
import random
from pathlib import Path

from reference_server.hostfs import HostStore
from reference_server.limits import Shared
from reference_server.qids import QidPaths
from tests.reference_server.conftest import MakePeer
from tests.reference_server.mounts import overlay

OWN, OTHER = 0x801, 0x802


def test_own_inode_numbers_show_as_they_are() -> None:
    paths = QidPaths(OWN)
    for inode in (1, (1 << 56) - 1, 1 << 56, 0x80 << 56 | 7, (0xFE << 56) + 1):
        assert paths.path(OWN, inode) == inode
    assert paths.numbered() == 0


def test_devices_and_large_inode_numbers_never_collide() -> None:
    paths = QidPaths(OWN)
    assert paths.path(OTHER, 5) != paths.path(OWN, 5)
    seen: dict[int, tuple[int, int]] = {}
    for device in range(40):
        for high in (0, 1, 2, 0x80, 0xFF):
            for inode in (1, 2, (1 << 56) - 1):
                file = device, high << 56 | inode
                path = paths.path(*file)
                assert seen.setdefault(path, file) == file
                assert paths.path(*file) == path < 1 << 64
    assert len(seen) == 40 * 5 * 3
    assert paths.numbered() == 0


def test_what_finds_no_prefix_is_numbered_and_forgotten_in_order() -> None:
    paths = QidPaths(OWN, numbers=10)
    for device in range(1000, 1300):
        paths.path(device, 1)
    first = [paths.path(5000, inode) for inode in range(10)]
    assert paths.path(5000, 0) == first[0]
    later = [paths.path(5000, inode) for inode in range(100, 109)]
    assert paths.path(5000, 0) == first[0], "the one used last is remembered"
    again = paths.path(5000, 1)
    assert again not in {*first, *later}, "a number is never given twice"
    assert paths.numbered() == 10


def test_a_million_files_that_come_and_go() -> None:
    """Inode numbers of 64 random bits on three devices."""
    paths, random_ = QidPaths(OWN), random.Random(1)
    for _ in range(1_000_000):
        paths.path(random_.choice((OWN, OTHER, 9)), random_.getrandbits(64))
    assert paths.numbered() <= Shared.qid_numbers
    assert len(paths._prefixes) + len(paths._high) <= 255


def test_overlayfs_with_xino(tmp_path: Path, connect: MakePeer) -> None:
    """It puts the layer into the upper bits: earlier, the server kept every file of the lower layer in memory."""
    (tmp_path / "lower").mkdir()
    for number in range(50):
        (tmp_path / "lower" / f"l{number}").touch()
    with overlay(tmp_path, "xino=on") as joined:
        for number in range(50):
            (joined / f"u{number}").touch()
        store = HostStore(str(joined))
        peer = connect(store)
        listed = {entry.name: entry.qid.path for entry in peer.list()}
        assert max(listed.values()) >> 56, "this file system uses the upper bits"
        for name in (b"l1", b"l49", b"u1", b"u49"):
            inode = os.lstat(os.fsencode(joined) + b"/" + name).st_ino
            assert peer.qid(name).path == listed[name] == inode
        assert store.paths.numbered() == 0
        peer.close()
        store.close()
