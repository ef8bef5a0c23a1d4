"""By default the raw client sends what Linux sends: its defaults are compared with recorded traffic."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any, Final

import pytest

from conformance.cases.wire.requests import MAKERS
from conformance.raw.client import Pending
from conformance.raw.expectation import Expect
from conformance.raw.operations import READDIR_HEADER, Client
from protocol import messages
from protocol.constants import (
    SETATTR_ATIME,
    SETATTR_ATIME_SET,
    SETATTR_GID,
    SETATTR_MODE,
    SETATTR_MTIME,
    SETATTR_MTIME_SET,
    SETATTR_SIZE,
    SETATTR_UID,
)
from protocol.registry import Message
from tests.golden.frames import read

RECORDED: Final[dict[str, list[Any]]] = {}
"""Name of a message -> the recorded requests of that kind from Linux clients."""
for golden in read():
    if golden.origin.startswith("captured-linux"):
        RECORDED.setdefault(type(golden.message).__name__, []).append(golden.message)

NEVER_SENT: Final = {
    "Tauth": "p9_client has no caller of it",
    "Trename": "only to a server that answers Trenameat with EOPNOTSUPP (fs/9p/vfs_inode.c, v9fs_vfs_rename)",
    "Tremove": "only to a server that answers Tunlinkat with EOPNOTSUPP (fs/9p/vfs_inode.c, v9fs_remove)",
}
"""Requests that no recording has, and why."""


OF_ANOTHER_KIND: Final = {
    "Tgetlock": "diod answers EINVAL to the LOCK_TYPE_UNLCK of Linux, so that nothing else of it would be seen",
}
"""Valid requests that differ from what Linux sends, and why."""


def said(message: Any) -> tuple[object, ...]:
    """The fields of a request that the client decides, without the file, the fid or the user."""
    match type(message).__name__:
        case "Tversion":
            return (message.tag, message.version)
        case "Tattach":
            return (message.uname, message.n_uname, message.afid)
        case "Tlopen" | "Tlcreate" | "Tunlinkat" | "Txattrcreate":
            return (message.flags,)
        case "Tmkdir":
            return (stat.S_IFMT(message.mode),)
        case "Tgetattr":
            return (message.request_mask,)
        case "Tsetattr":
            unset = [name for name in ("mode", "uid", "gid", "size") if getattr(message, name) in (0, 0xFFFFFFFF)]
            return (message.valid, *(getattr(message, name) for name in unset if not message.valid & BIT[name]))
        case "Tlock":
            return (message.locktype, message.flags)
        case "Tgetlock":
            return (message.locktype,)
        case "Tfsync":
            return (message.datasync,)
    return ()


BIT: Final = {"mode": SETATTR_MODE, "uid": SETATTR_UID, "gid": SETATTR_GID, "size": SETATTR_SIZE}
TIMES: Final = SETATTR_ATIME | SETATTR_MTIME
CALLS: Final[dict[str, Callable[[Client], Pending[Any]]]] = {
    "Tversion": lambda c: c.send_version(),
    "Tattach": lambda c: c.attach.send(1),
    "Tflush": lambda c: c.flush.send(1),
    "Twalk": lambda c: c.walk.send(1, 2, b"a"),
    "Tclunk": lambda c: c.clunk.send(1),
    "Tlopen": lambda c: c.lopen.send(1),
    "Tlcreate": lambda c: c.lcreate.send(1, b"a"),
    "Tread": lambda c: c.read.send(1),
    "Twrite": lambda c: c.write.send(1, 0, b"a"),
    "Tfsync": lambda c: c.fsync.send(1),
    "Treaddir": lambda c: c.readdir.send(1),
    "Tmkdir": lambda c: c.mkdir.send(1, b"a"),
    "Tstatfs": lambda c: c.statfs.send(1),
    "Tgetattr": lambda c: c.getattr.send(1),
    "Tsetattr: chmod(2)": lambda c: c.setattr.send(1, SETATTR_MODE, mode=0o100600),
    "Tsetattr: chown(2)": lambda c: c.setattr.send(1, SETATTR_UID | SETATTR_GID, uid=0, gid=0),
    "Tsetattr: truncate(2)": lambda c: c.setattr.send(1, SETATTR_SIZE, size=1),
    "Tsetattr: ftruncate(2)": lambda c: c.setattr.send(1, SETATTR_SIZE | SETATTR_MTIME, size=1),
    "Tsetattr: utimes(2)": lambda c: c.setattr.send(1, TIMES),
    "Tsetattr: utimensat(2)": lambda c: c.setattr.send(
        1, TIMES | SETATTR_ATIME_SET | SETATTR_MTIME_SET, atime=(1, 0), mtime=(1, 0)
    ),
    "Tsymlink": lambda c: c.symlink.send(1, b"a", b"b"),
    "Treadlink": lambda c: c.readlink.send(1),
    "Tlink": lambda c: c.link_file.send(1, 2, b"a"),
    "Tmknod": lambda c: c.mknod.send(1, b"a", stat.S_IFIFO | 0o600),
    "Trenameat": lambda c: c.renameat.send(1, b"a", 2, b"b"),
    "Tunlinkat": lambda c: c.unlinkat.send(1, b"a"),
    "Txattrwalk": lambda c: c.xattrwalk.send(1, 2),
    "Txattrcreate": lambda c: c.xattrcreate.send(1, b"user.a", 1),
    "Tlock": lambda c: c.lock.send(1),
    "Tgetlock": lambda c: c.getlock.send(1),
}
"""Each message as the client's method sends it with its required arguments only."""


class Silent(Client):
    """A client that keeps requests instead of sending them."""

    def __init__(self) -> None:
        self.msize = 8192
        self.missing = {}
        self.root, self.aname = 1, b""
        self._number = 10

    def tag(self) -> int:
        return 1

    def fid(self) -> int:
        self._number += 1
        return self._number

    def send_as(
        self, request: Message, reply_type: type[Any], expect: Expect = None, *, again: bool = False
    ) -> Pending[Any]:
        return Pending(self, request, reply_type)

    def walk_to(self, *names: bytes) -> int:
        return self.fid()

    def open(self, *names: bytes, flags: int = 0) -> int:
        return self.fid()


def recorded(name: str) -> set[tuple[object, ...]]:
    return {said(message) for message in RECORDED[name]}


@pytest.mark.parametrize("call", CALLS)
def test_default_is_what_linux_sends(call: str) -> None:
    sent = CALLS[call](Silent()).request
    name = type(sent).__name__
    assert name == call.split(":", maxsplit=1)[0]
    assert said(sent) in recorded(name), f"no recorded {name} says {said(sent)}: {sorted(recorded(name))}"


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {*NEVER_SENT, *OF_ANOTHER_KIND}))
def test_sound_request_of_the_broken_ones_is_what_linux_sends(name: str) -> None:
    sent = MAKERS[name](Silent())  # type: ignore[arg-type]
    assert said(sent) in recorded(name), f"no recorded {name} says {said(sent)}: {sorted(recorded(name))}"


def test_every_message_of_linux_is_compared() -> None:
    requests = {name for name in messages.BY_NAME if name.startswith("T") and name != "Tlerror"}
    compared = {call.split(":")[0] for call in CALLS}
    assert set(RECORDED) == compared == requests - set(NEVER_SENT)


def test_bits_that_linux_always_adds_are_added() -> None:
    """This holds for all flags that a case asks for."""
    always = -1
    for message in RECORDED["Tlcreate"]:
        always &= message.flags
    assert always
    sent: Any = Silent().lcreate.send(1, b"a", flags=0).request
    assert sent.flags & always == always
    assert {stat.S_IFMT(message.mode) for message in RECORDED["Tmkdir"]} == {stat.S_IFDIR}


def test_readdir_asks_for_as_much_as_linux() -> None:
    """READDIR_HEADER is kept free; the client may ask for less when a server sets an iounit."""
    for origin, msize in (("captured-linux.txt", 1 << 20), ("captured-linux-6.12.txt", 1 << 17)):
        of_one = [g.message for g in read() if g.origin.startswith(f"{origin}:")]
        counts = {message.count for message in of_one if isinstance(message, messages.Treaddir)}
        assert counts
        assert all(msize - 4096 <= count <= msize - READDIR_HEADER for count in counts)
    sent: Any = Silent().readdir.send(1).request
    assert sent.count == 8192 - READDIR_HEADER


def test_defaults_that_differ_are_reported() -> None:
    """The comparison can fail: the client's earlier requests are not in the recorded traffic."""
    client = Silent()
    for sent in (
        client.lcreate.send(1, b"a", exact=True),
        client.mkdir.send(1, b"a", exact=True),
        client.setattr.send(1, SETATTR_UID | SETATTR_GID, uid=0, gid=0, exact=True),
        client.attach.send(1, uname=b"root"),
    ):
        assert said(sent.request) not in recorded(type(sent.request).__name__)
