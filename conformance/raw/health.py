"""Probes of a server, outside the cases: which messages it implements, and whether it still serves.

`implemented` sends each message of 9P2000.L once, before the first case; `serve` does a small piece of a user's work
from attach to remove, after each case. Rule of this module: it judges no requirement. Replies are compared with other
replies of the same server, never with a specification.
"""

from __future__ import annotations

import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from conformance.errors import Finding, Unsupported
from conformance.profiles.model import NotSupported
from conformance.raw.findings import HungUp, NeedsMessage, NoReply
from conformance.raw.operations import CLIENT_ID, CREATING, Client
from conformance.vocabulary import errno_name
from protocol import messages as m
from protocol.constants import (
    AT_REMOVEDIR,
    ENOSYS,
    ENOTSUPP,
    EOPNOTSUPP,
    GETATTR_ALL,
    LOCK_TYPE_RDLCK,
    LOCK_TYPE_UNLCK,
    NOTAG,
    O_RDONLY,
    O_RDWR,
    SETATTR_CTIME,
    SETATTR_MODE,
)
from protocol.registry import Message

NOT_IMPLEMENTED: Final = frozenset({EOPNOTSUPP, ENOSYS, ENOTSUPP})
"""Errnos that report a message as not implemented: Linux falls back on EOPNOTSUPP (fs/9p/vfs_inode.c
v9fs_remove, v9fs_vfs_rename), hugelgupf/p9 and lib9p send ENOSYS, chaos/diod protocol.md says ENOTSUPP."""
UNKNOWN_TYPE: Final = 200
"""A message type that neither 9P2000.L nor any of its relatives has."""
_WAIT: Final = 2.0
"""Seconds that the probe waits for one reply at least; on a busy machine it waits longer (`_patience`)."""

Attach = Callable[[Client], int]
"""Attaches the export on a client whose dialect is agreed; the new fid."""


# ---- which messages there are


class Ground:
    """A directory of the probe's own on one session, and the objects of its requests."""

    def __init__(self, client: Client, attach: Attach, name: bytes) -> None:
        """Raises Finding if even this fails."""
        self.client = client
        self.top = attach(client)
        client.mkdir(self.top, name)
        self.directory = client.fid()
        client.walk(self.top, self.directory, name)
        self._names = (b"%d" % number for number in range(1 << 20))

    def at(self, *names: bytes) -> int:
        """A new fid for the file at these names, from the directory."""
        fid = self.client.fid()
        self.client.walk(self.directory, fid, *names)
        return fid

    def name(self) -> bytes:
        """An unused name."""
        return next(self._names)

    def opened(self) -> int:
        """A new file, open for reading and writing."""
        fid = self.at()
        self.client.lcreate(fid, self.name(), O_RDWR)
        return fid

    def file(self) -> bytes:
        """The name of a new file, which is closed."""
        name, fid = self.name(), self.at()
        self.client.lcreate(fid, name, O_RDWR)
        self.client.clunk(fid)
        return name

    def link(self) -> bytes:
        """The name of a new symbolic link."""
        name = self.name()
        self.client.symlink(self.directory, name, b"target")
        return name


def _listing(ground: Ground, tag: int) -> Message:
    fid = ground.at()
    ground.client.lopen(fid, O_RDONLY)
    return m.Treaddir(tag, fid, 0, 4096)


PROBES: Final[dict[str, Callable[[Ground, int], Message]]] = {
    "Twalk": lambda g, t: m.Twalk(t, g.directory, g.client.fid(), ()),
    "Tclunk": lambda g, t: m.Tclunk(t, g.at()),
    "Tgetattr": lambda g, t: m.Tgetattr(t, g.directory, GETATTR_ALL),
    "Tstatfs": lambda g, t: m.Tstatfs(t, g.directory),
    "Tflush": lambda g, t: m.Tflush(t, t - 1),
    "Tmkdir": lambda g, t: m.Tmkdir(t, g.directory, g.name(), stat.S_IFDIR | 0o755, 0),
    "Tlcreate": lambda g, t: m.Tlcreate(t, g.at(), g.name(), O_RDWR | CREATING, 0o644, 0),
    "Tlopen": lambda g, t: m.Tlopen(t, g.at(g.file()), O_RDONLY),
    "Treaddir": _listing,
    "Twrite": lambda g, t: m.Twrite(t, g.opened(), 0, b"data"),
    "Tread": lambda g, t: m.Tread(t, g.opened(), 0, 4),
    "Tfsync": lambda g, t: m.Tfsync(t, g.opened(), 0),
    "Tlock": lambda g, t: m.Tlock(t, g.opened(), LOCK_TYPE_RDLCK, 0, 0, 1, 1, CLIENT_ID),
    "Tgetlock": lambda g, t: m.Tgetlock(t, g.opened(), LOCK_TYPE_UNLCK, 0, 1, 1, CLIENT_ID),
    "Tsetattr": lambda g, t: m.Tsetattr(
        t, g.at(g.file()), SETATTR_MODE | SETATTR_CTIME, stat.S_IFREG | 0o600, *[0xFFFFFFFF] * 2, *[0] * 5
    ),
    "Tsymlink": lambda g, t: m.Tsymlink(t, g.directory, g.name(), b"target", 0),
    "Treadlink": lambda g, t: m.Treadlink(t, g.at(g.link())),
    "Tlink": lambda g, t: m.Tlink(t, g.directory, g.at(g.file()), g.name()),
    "Tmknod": lambda g, t: m.Tmknod(t, g.directory, g.name(), stat.S_IFIFO | 0o644, 0, 0, 0),
    "Txattrwalk": lambda g, t: m.Txattrwalk(t, g.at(g.file()), g.client.fid(), b""),
    "Txattrcreate": lambda g, t: m.Txattrcreate(t, g.at(g.file()), b"user.assay9", 1, 0),
    "Trename": lambda g, t: m.Trename(t, g.at(g.file()), g.directory, g.name()),
    "Trenameat": lambda g, t: m.Trenameat(t, g.directory, g.file(), g.directory, g.name()),
    "Tunlinkat": lambda g, t: m.Tunlinkat(t, g.directory, g.file(), 0),
    "Tremove": lambda g, t: m.Tremove(t, g.at(g.file())),
}
"""Message -> one harmless request of it. Tversion and Tattach come before all of them, and Tauth is for a server to
refuse (WIRE-SESSION-020)."""


def implemented(
    session: Callable[[], Client], attach: Attach, alive: Callable[[], bool], numbers: Iterator[int]
) -> dict[str, str]:
    """The messages that the server does not implement, each with how it answered: `answered EOPNOTSUPP`.

    A message that is not answered, or ends the connection, counts only if a message of an unknown type is treated the
    same way. `session` opens a new session, `attach` attaches the export on it, `alive` returns whether the server
    lives, and restarts it if not; `numbers` makes unused names.
    """
    unknown = _unknown_type(session, attach)
    found: dict[str, str] = {}
    ground: Ground | None = None
    for name, make in PROBES.items():
        try:
            if ground is None:
                ground = Ground(session(), attach, b"assay9-probe-%d" % next(numbers))
            tag = ground.client.tag()
            answer = _answer(ground, make(ground, tag))
        except (HungUp, NoReply):  # from a request that prepares this one; another probe reports it
            answer = ""
        except Finding:
            continue
        if answer in ("no reply", "hung up", ""):
            if ground is not None:
                ground.client.close()
                ground = None
            if not alive() or answer != unknown:
                continue
            answer = {"no reply": "left without a reply", "hung up": "the server closed the connection"}[answer]
        elif answer == "implemented":
            continue
        found[name] = answer
    if ground is not None:
        ground.client.close()
    return found


def _answer(ground: Ground, request: Message) -> str:
    """`implemented`, `answered EOPNOTSUPP`, `no reply`, `hung up`."""
    client, begun = ground.client, time.monotonic()
    pending = client.send(request)
    try:
        try:
            reply = pending.wait(_WAIT)
        except NoReply:
            client.getattr(ground.directory)
            reply = pending.wait(_patience(time.monotonic() - begun - _WAIT))
    except HungUp:
        return "hung up"
    except NoReply:
        return "no reply"
    number = client.errno_of(reply)
    return f"answered {errno_name(number)}" if number in NOT_IMPLEMENTED else "implemented"


def _unknown_type(session: Callable[[], Client], attach: Attach) -> str:
    """The server's reaction to a message of an unknown type: `no reply`, `hung up`, or `answered`."""
    client = session()
    try:
        top = attach(client)
        client.send_raw(struct.pack("<IBHI", 11, UNKNOWN_TYPE, NOTAG - 1, top), "a message of an unknown type")
        behind, begun = m.Tgetattr(client.tag(), top, GETATTR_ALL), time.monotonic()
        client.burst([behind])
        if client.next_reply().tag == behind.tag:
            client.next_reply(_patience(time.monotonic() - begun))
    except HungUp:
        return "hung up"
    except NoReply:
        return "no reply"
    except Finding:
        return "answered"
    finally:
        client.close()
    return "answered"


def _patience(took: float) -> float:
    """Seconds to wait for a reply, given that a later request `took` so long on the same machine."""
    return max(_WAIT, 10 * took)


# ---- whether it serves


def serve(client: Client, attach: Attach, name: bytes, missing: Mapping[str, str]) -> None:
    """Attach, make a directory, create, write, rename, read, list and remove, with what is not `missing`.

    Raises Finding (NoReply, HungUp) if one of them is not answered as it should be.
    """
    client.missing = {}
    top = attach(client)
    client.getattr(top)
    if missing.keys() & {"Tmkdir", "Tlcreate"}:
        return
    client.mkdir(top, name)
    directory, fid = client.fid(), client.fid()
    client.walk(top, directory, name)
    client.walk(directory, fid)
    client.lcreate(fid, b"old", O_RDWR)
    client.write(fid, 0, b"alive")
    client.clunk(fid)
    made = b"new"
    if "Trenameat" not in missing:
        client.renameat(directory, b"old", directory, b"new")
    elif "Trename" not in missing:
        client.walk(directory, fid, b"old")
        client.rename(fid, directory, b"new")
        client.clunk(fid)
    else:
        made = b"old"
    client.walk(directory, fid, made)
    client.lopen(fid, O_RDONLY)
    if (seen := bytes(client.read(fid, 0, 16).data)) != b"alive":
        raise Finding(f"a new file reads as {seen!r}, b'alive' was written", "content")
    client.clunk(fid)
    client.walk(directory, fid)
    client.lopen(fid, O_RDONLY)
    client.readdir(fid)
    client.clunk(fid)
    _remove(client, directory, made, 0, missing)
    _remove(client, top, name, AT_REMOVEDIR, missing)


def _remove(client: Client, directory: int, name: bytes, flags: int, missing: Mapping[str, str]) -> None:
    if "Tunlinkat" not in missing:
        client.unlinkat(directory, name, flags)
    elif "Tremove" not in missing:
        fid = client.fid()
        client.walk(directory, fid, name)
        client.remove(fid)


def not_implemented(missing: Mapping[str, str]) -> list[str]:
    """A line for each message that is not implemented: `Tlock: not implemented, answered EOPNOTSUPP`."""
    return [f"{name}: not implemented, {how}" for name, how in missing.items()]


def as_unsupported(declared: Sequence[NotSupported], raised: BaseException | None) -> BaseException | None:
    """`raised`, or Unsupported instead of it: the case needs a message that the target declares as unsupported
    (`feature = "Trenameat"`), and the server answered it as declared. No other failure is excused.
    """
    if isinstance(raised, NeedsMessage):
        for one in declared:
            if one.feature == raised.message and raised.how in {f"answered {errno}" for errno in one.errno}:
                return Unsupported(f"{one.feature}: {one.reason} ({raised.how})")
    return raised
