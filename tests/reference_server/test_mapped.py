"""Mapped ownership: every operation is all or nothing; the server refuses to start where it cannot store owners."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from protocol import constants as c
from protocol import messages as m
from protocol.registry import Message
from reference_server.mapped import MappedStore, NoUserAttributes
from tests.reference_server.conftest import MakePeer
from tests.reference_server.mounts import mounted
from tests.reference_server.peer import Peer
from tests.reference_server.requests import create, setattr_
from tests.reference_server.test_cli import run


@pytest.fixture
def peer(connect: MakePeer, folder: Path) -> Iterator[Peer]:
    store = MappedStore(str(folder))
    yield connect(store)
    store.close()


def portrait(folder: Path) -> dict[str, object]:
    """Everything below ``folder`` except the change times."""
    found: dict[str, object] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(os.listxattr(path))}
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = status.st_mode, status.st_nlink, status.st_size, status.st_ino, attributes, content
    return found


CALLS = ("open", "mkdir", "setxattr", "getxattr", "write", "stat", "fstat", "chown", "truncate", "ftruncate")
"""The calls of a mapped operation on the host; any of them may fail."""


@contextmanager
def failing(number: int, ecode: int) -> Iterator[list[str]]:
    """The call ``number`` of those in CALLS fails.  Yields the names of the calls that were made."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in CALLS}

    def wrap(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) - 1 == number:
                raise OSError(ecode, os.strerror(ecode))
            return call(*arguments, **options)

        return act

    for name, call in real.items():
        setattr(os, name, wrap(name, call))
    try:
        yield made
    finally:
        for name, call in real.items():
            setattr(os, name, call)


def making(peer: Peer) -> dict[str, Message]:
    """A request of each kind that changes something; fid 1 is the file, 2 a free clone of the root, 3 opened."""
    tag, root = peer.tag, peer.root
    setgid = c.SETATTR_UID | c.SETATTR_GID
    return {
        "mkdir": m.Tmkdir(tag(), root, b"new", 0o755, 7),
        "lcreate": m.Tlcreate(tag(), 2, b"new", c.O_RDWR | c.O_EXCL, 0o644, 7),
        "symlink": m.Tsymlink(tag(), root, b"new", b"target", 7),
        "fifo": m.Tmknod(tag(), root, b"new", c.S_IFIFO | 0o644, 0, 0, 7),
        "device": m.Tmknod(tag(), root, b"new", c.S_IFCHR | 0o644, 1, 3, 7),
        "chown": setattr_(peer, 1, setgid, uid=12, gid=13),
        "chmod": setattr_(peer, 1, c.SETATTR_MODE, mode=0o4711),
        "first chmod": setattr_(peer, 4, c.SETATTR_MODE, mode=0o4711),
        "all": setattr_(peer, 1, setgid | c.SETATTR_MODE | c.SETATTR_SIZE, mode=0o4711, uid=12, gid=13, size=3),
        "all, open": setattr_(peer, 3, setgid | c.SETATTR_MODE | c.SETATTR_SIZE, mode=0o400, uid=1, gid=1, size=3),
    }


WHAT = ["mkdir", "lcreate", "symlink", "fifo", "device", "chown", "chmod", "first chmod", "all", "all, open"]


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("ecode", [errno.ENOSPC, errno.EIO])
def test_all_or_nothing(peer: Peer, folder: Path, what: str, ecode: int) -> None:
    """Whichever call of the host fails: the request fails, and nothing changed."""
    peer.clunk(create(peer, b"file", b"content"))
    (folder / "unmapped").write_bytes(b"made by the host")
    for number, names in ((1, (b"file",)), (2, ()), (3, (b"file",)), (4, (b"unmapped",))):
        peer.ok(m.Twalk(peer.tag(), peer.root, number, names), m.Rwalk)
    peer.ok(m.Tlopen(peer.tag(), 3, c.O_RDWR), m.Rlopen)
    request = making(peer)[what]
    before = portrait(folder)
    refused = 0
    for number in range(100):
        with failing(number, ecode) as made:
            reply = peer.call(request)
        if len(made) <= number:
            break
        if isinstance(reply, m.Rlerror):
            refused += 1
            assert portrait(folder) == before, f"call {number} of {made} failed"
        else:
            pytest.fail(f"call {number} of {made} failed, and the request did not")
    assert isinstance(reply, Message) and not isinstance(reply, m.Rlerror)
    assert portrait(folder) != before
    assert refused


def test_a_link_is_whole_or_not_there(peer: Peer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An almost full disk takes a part of the written data, and only the count shows it."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    peer.ok(m.Tsymlink(peer.tag(), peer.root, b"l", b"a long target", 0), m.Rsymlink)
    monkeypatch.undo()
    assert (folder / "l").read_bytes() == b"a long target"


def test_refused_at_the_start_without_attributes(tmp_path: Path) -> None:
    with mounted("-t", "ramfs", "none", at=tmp_path / "ramfs") as folder:
        with pytest.raises(NoUserAttributes):
            MappedStore(str(folder))
        done = run("serve", str(folder), "--mapped", "--tcp", ":0")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "keeps no extended attributes of users; mount it with them" in done.stderr
        assert not list(folder.iterdir())


def test_a_disk_with_room_for_directories_and_none_for_attributes(
    tmp_path: Path, connect: MakePeer, folder: Path
) -> None:
    """ext4 with inodes of 128 bytes keeps attributes in separate blocks, and no block is free."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    made = subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-I", "128", "-m", "0", str(image)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be made: {made.stderr.strip()}")
    with mounted("-o", "loop", str(image), at=tmp_path / "full") as full:
        store = MappedStore(str(full))
        peer = connect(store)
        (full / "a block").write_bytes(bytes(1024))
        with (full / "fill").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(1024))
        (full / "a block").unlink()  # the new directory's own
        before = portrait(full)
        assert peer.error(m.Tmkdir(peer.tag(), peer.root, b"d", 0o755, 0)) == c.ENOSPC
        assert portrait(full) == before
        (full / "a block").write_bytes(bytes(1024))
        before = portrait(full)
        for request in (
            m.Tsymlink(peer.tag(), peer.root, b"l", b"x" * 100, 0),
            m.Tmknod(peer.tag(), peer.root, b"n", c.S_IFIFO | 0o644, 0, 0, 0),
            m.Tlcreate(peer.tag(), peer.walk(), b"f", c.O_RDWR, 0o644, 0),
            setattr_(peer, peer.walk(b"fill"), c.SETATTR_MODE, mode=0o600),
        ):
            assert peer.error(request) == c.ENOSPC, request
            assert portrait(full) == before
        peer.close()
        store.close()
