"""One valid request of every T-message, for cases that break it: truncated, extended, with false string lengths.

Rule of this module: each maker gives a request that would succeed on a file `fred` or in the case's directory, and
prepares its fids; the case decides how to break it. Each case checks that the intact request succeeds
(`require_served`): if the server refuses that, refusing the broken one proves nothing.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Final

from conformance.errors import Undrivable
from conformance.raw.expectation import OK, spell
from conformance.raw.operations import CLIENT_ID, CREATING, FIRST_UNAME
from conformance.raw.wire import Session, Wire
from conformance.transports.base import Capability
from protocol import messages as m
from protocol.constants import (
    GETATTR_ALL,
    LOCK_TYPE_WRLCK,
    NOFID,
    NONUNAME,
    NOTAG,
    O_RDWR,
    SETATTR_CTIME,
    SETATTR_MODE,
)
from protocol.registry import Message

TAG: Final = 0x77
FRED: Final = b"fred"


def prepare(wire: Wire) -> None:
    """Make the files on the host that the requests are about."""
    wire.host.file(FRED, b"content")
    wire.host.directory(b"dir")
    wire.host.symlink(b"link", FRED)
    wire.host.file(b"victim", b"x")


def _path(client: Session) -> int:
    return client.walk_to(FRED)


def _open(client: Session) -> int:
    return client.open(FRED, flags=O_RDWR)


def _dir(client: Session) -> int:
    return client.walk_to()


MAKERS: Final[dict[str, Callable[[Session], Message]]] = {
    "Tversion": lambda c: m.Tversion(NOTAG, 8192, b"9P2000.L"),
    "Tauth": lambda c: m.Tauth(TAG, c.fid(), FIRST_UNAME, b"", NONUNAME),
    "Tattach": lambda c: m.Tattach(TAG, c.fid(), NOFID, FIRST_UNAME, c.aname or b"/", NONUNAME),
    "Tflush": lambda c: m.Tflush(TAG, 4711),
    "Twalk": lambda c: m.Twalk(TAG, c.root, c.fid(), (b"dir", b"..", FRED)),
    "Tclunk": lambda c: m.Tclunk(TAG, _path(c)),
    "Tlopen": lambda c: m.Tlopen(TAG, _path(c), 0),
    "Tlcreate": lambda c: m.Tlcreate(TAG, _dir(c), b"made", O_RDWR | CREATING, 0o644, 0),
    "Tread": lambda c: m.Tread(TAG, _open(c), 0, 100),
    "Twrite": lambda c: m.Twrite(TAG, _open(c), 0, b"data"),
    "Tfsync": lambda c: m.Tfsync(TAG, _open(c), 0),
    "Treaddir": lambda c: m.Treaddir(TAG, c.open(), 0, 4096),
    "Tmkdir": lambda c: m.Tmkdir(TAG, _dir(c), b"made", stat.S_IFDIR | 0o755, 0),
    "Tstatfs": lambda c: m.Tstatfs(TAG, _path(c)),
    "Tgetattr": lambda c: m.Tgetattr(TAG, _path(c), GETATTR_ALL),
    "Tsetattr": lambda c: m.Tsetattr(
        TAG, _path(c), SETATTR_MODE | SETATTR_CTIME, stat.S_IFREG | 0o600, NONUNAME, NONUNAME, 0, 0, 0, 0, 0
    ),
    "Tsymlink": lambda c: m.Tsymlink(TAG, _dir(c), b"made", b"target", 0),
    "Treadlink": lambda c: m.Treadlink(TAG, c.walk_to(b"link")),
    "Tlink": lambda c: m.Tlink(TAG, _dir(c), _path(c), b"made"),
    "Tmknod": lambda c: m.Tmknod(TAG, _dir(c), b"made", 0o100644, 0, 0, 0),
    "Trename": lambda c: m.Trename(TAG, c.walk_to(b"victim"), _dir(c), b"moved"),
    "Trenameat": lambda c: m.Trenameat(TAG, _dir(c), b"victim", _dir(c), b"moved"),
    "Tunlinkat": lambda c: m.Tunlinkat(TAG, _dir(c), b"victim", 0),
    "Tremove": lambda c: m.Tremove(TAG, c.walk_to(b"victim")),
    "Txattrwalk": lambda c: m.Txattrwalk(TAG, _path(c), c.fid(), b""),
    "Txattrcreate": lambda c: m.Txattrcreate(TAG, _path(c), b"user.x", 1, 0),
    "Tlock": lambda c: m.Tlock(TAG, _open(c), LOCK_TYPE_WRLCK, 0, 0, 0, 1, CLIENT_ID),
    "Tgetlock": lambda c: m.Tgetlock(TAG, _open(c), LOCK_TYPE_WRLCK, 0, 0, 1, CLIENT_ID),
}
"""Name of the message -> one sound request, made with fids of that session."""

STRINGS: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(field.name for field in m.BY_NAME[name].fields if field.kind.name == "STRING")
    for name in MAKERS
    if any(field.kind.name == "STRING" for field in m.BY_NAME[name].fields)
}
"""Messages that carry strings, and the names of those fields."""


def require_served(wire: Wire, name: str, *, hung_up: bool) -> None:
    """End the case as undrivable unless the server serves the intact request, whose broken form it refused.

    `hung_up`: the server has closed the connection, and a new one is made where the transport allows it.
    """
    if name == "Tauth" or (hung_up and Capability.SESSIONS not in wire.capabilities):
        return  # refused where no authentication is required; nothing more can be checked
    client = wire.session() if hung_up else wire.client
    request = MAKERS[name](client)
    reply = client.send(request).wait()
    if client.errno_of(reply) != OK:
        raise Undrivable(f"the server refuses {spell(request)} also as it should be: {spell(reply)}")
