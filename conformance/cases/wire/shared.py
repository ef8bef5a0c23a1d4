"""Requirements that hold for many messages, written once: a dead fid, a name that is none, a frame cut short.

Rule of this module: each function is the body of a case; the family's module names the message and the case.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any

from conformance.cases.wire import allowed
from conformance.client import HungUp, NoReply, Pending
from conformance.errors import Finding
from conformance.expectation import Expect, Rerror, names, spell
from conformance.wire import Session, Wire
from protocol.codec import frame
from protocol.constants import GETATTR_BASIC, NOTAG
from protocol.messages import Tgetattr, Trenameat, Tunlinkat
from protocol.registry import Message

Send = Callable[[Session, int], Pending[Any]]
"""Sends one request about the fid it is given."""
SendName = Callable[[Session, int, bytes], Pending[Any]]
"""Sends one request with that fid of a directory and that name."""

DEAD = ("never", "clunked", "nofid")
"""Fids that stand for nothing: never given, given up, and NOFID."""
DOTS = (b".", b"..")
ABSOLUTE = b"/absolute"
"""Stands for the absolute path of a decoy that the run has made (`Wire.decoy`). Never a real path of the host: a
server that takes it for one moves or removes what it names (nfs-ganesha did, with the /etc of this project's own
machine)."""
NO_NAMES = (b"", b"/", b"a/b", b"../x", ABSOLUTE, b"sub/", b"sub/../../x")
"""What cannot be the name of one directory entry."""


def label(value: object) -> str:
    """Parameter ids that can be typed: a name's bytes as text, a number as hex when large."""
    if isinstance(value, bytes):
        text = value[:16].decode("ascii", "backslashreplace").replace("\0", "NUL").replace("/", "_")
        return (text or "empty") + (f"..{len(value)}" if len(value) > 16 else "")
    if isinstance(value, int) and value > 0xFFFF:
        return hex(value)
    return str(value)


def dead_fid(wire: Wire, which: str, send: Send) -> None:
    """A request about a fid that stands for nothing is refused, and makes no fid by the way."""
    client = wire.client
    fid = client.fid()
    if which == "clunked":
        client.walk(client.root, fid)
        client.clunk(fid)
    elif which == "nofid":
        fid = 0xFFFFFFFF
    send(client, fid).result(allowed.UNKNOWN_FID)
    # kvmtool creates a fid on any mention: what was refused must not exist afterwards.
    client.getattr(fid, expect=allowed.UNKNOWN_FID)
    client.getattr(client.root)


def no_name(wire: Wire, name: bytes, send: SendName, errnos: Expect = allowed.ILLEGAL_NAME) -> None:
    """A request that makes or changes an entry under a name that is none is refused and changes nothing."""
    host = wire.host
    if name == ABSOLUTE:
        name = wire.decoy()
    host.directory(b"sub")
    before = _tree(wire)
    send(wire.client, wire.client.walk_to(), name).result(errnos)
    after = _tree(wire)
    if after != before:
        raise Finding(f"it was refused, and yet there is {sorted(after - before)}, gone is {sorted(before - after)}")


def dot_name(wire: Wire, name: bytes, send: SendName) -> None:
    """`.` and `..` are no names for what is made, moved or removed."""
    no_name(wire, name, send, allowed.DOT_NAME)


def nul_name(wire: Wire, send: SendName) -> None:
    """A NUL byte does not end a name: nothing is made or removed under what stands before it."""
    no_name(wire, b"fred\0ginger", send, allowed.NUL_IN_NAME)


def long_name(wire: Wire, send: SendName) -> None:
    """A name of 255 bytes is a name; one of 256 is refused."""
    client = wire.client
    send(client, client.walk_to(), b"n" * 255).result()
    if not wire.host.exists(b"n" * 255):
        raise Finding("a name of 255 bytes was accepted, and the host does not have it")
    send(client, client.walk_to(), b"m" * 256).result(allowed.NAME_TOO_LONG)


def raw_name(wire: Wire, send: SendName) -> None:
    """A name is bytes: what is no UTF-8 reaches the host as it is."""
    client = wire.client
    name = b"\xff\xfe caf\xe9 \x01"
    send(client, client.walk_to(), name).result()
    if name not in wire.host.names():
        raise Finding(f"asked to make {name!r}; the host has {sorted(wire.host.names())}")


def in_a_file(wire: Wire, send: SendName) -> None:
    """What is no directory has no entries."""
    client = wire.client
    wire.host.file(b"plain", b"x")
    send(client, client.walk_to(b"plain"), b"child").result(allowed.NOT_A_DIRECTORY)
    if wire.host.names() != {b"plain"}:
        raise Finding(f"something was made beside the file: {sorted(wire.host.names())}")


def mode_is(wire: Wire, name: bytes, wanted: int) -> None:
    """The host sees `name` with these permission bits."""
    seen = stat.S_IMODE(wire.host.stat(name).st_mode)
    if seen != wanted:
        raise Finding(f"{name!r} has mode {seen:#o} on the host; asked for: {wanted:#o}")


def same(seen: object, wanted: object, what: str) -> None:
    """Finding unless they are equal, in words."""
    if seen != wanted:
        raise Finding(f"{what}: {seen!r}, not {wanted!r}")


def unchanged(wire: Wire, before: set[tuple[bytes, int, int]]) -> None:
    """Nothing in the case's directory was made, changed or removed since `before = tree(wire)`."""
    after = _tree(wire)
    if after != before:
        raise Finding(f"there is now {sorted(after - before)}, gone is {sorted(before - after)}")


def tree(wire: Wire) -> set[tuple[bytes, int, int]]:
    """The case's directory and everything beside it, as (path, mode, size)."""
    return _tree(wire)


def _tree(wire: Wire) -> set[tuple[bytes, int, int]]:
    found = set()
    top = wire.top.root.parent
    for directory in (top, top / "outside", wire.top.root):
        if not directory.is_dir():
            continue
        for entry in directory.iterdir():
            if entry.name != "server.log":
                found.add((bytes(entry), entry.lstat().st_mode, 0 if entry.is_dir() else entry.lstat().st_size))
    for entry in wire.host.root.rglob("*"):
        found.add((bytes(entry), entry.lstat().st_mode, 0 if entry.is_dir() else entry.lstat().st_size))
    return found


def refused_or_hung_up(
    wire: Wire, client: Session, raw: bytes, tag: int, errnos: frozenset[int] = allowed.MALFORMED, *,
    also: tuple[type[Message], ...] = (), remark: str = "",
) -> Message | Rerror | None:  # fmt: skip
    """Send one whole frame that is no sound request: an error reply or the end of the connection must follow.

    `also` are replies that are as good as a refusal. A sound request sent after it tells at once when the first
    will never be answered. None when the connection ended.
    """
    try:
        client.send_raw(raw, remark)
        probe = Tgetattr(client.tag(), client.root, GETATTR_BASIC)
        client.burst([probe])
        reply = _first(wire, client, tag, probe.tag)
    except HungUp:
        return None
    if isinstance(reply, also):
        return reply
    number = client.errno_of(reply)
    if number not in errnos:
        raise Finding(f"no sound request: allowed: {names(errnos)} or hanging up; seen: {spell(reply)}")
    return reply


def _first(wire: Wire, client: Session, tag: int, probe: int) -> Message | Rerror:
    """The reply to the request with `tag`, which `probe` was sent right behind."""
    probe_seen = hanging = False
    while True:
        try:
            reply = client.next_reply(0.2 if probe_seen else 0.5)
        except NoReply as error:
            if probe_seen:
                raise NoReply(f"{error}; the request sent after it was answered") from None
            if hanging:
                raise NoReply(f"{error}; another session is served meanwhile") from None
            hanging = True
            other = wire.session()  # so it hangs, and is not merely slow
            other.getattr(other.root)
            continue
        if reply.tag == probe:
            probe_seen = True
        elif reply.tag in (tag, NOTAG):
            return reply
        else:
            raise Finding(f"answered with tag {reply.tag}, asked with {tag}: {spell(reply)}")


def resized(raw: bytes) -> bytes:
    """The frame with its size field put right."""
    return len(raw).to_bytes(4, "little") + raw[4:]


def cut(message: Message, count: int = 1) -> bytes:
    """The frame of `message` without its last `count` bytes, its size field saying so."""
    return resized(frame(message)[:-count])


def renameat(client: Session, olddirfid: int, oldname: bytes, newdirfid: int, newname: bytes) -> Message:
    """Trenameat with a tag of its own."""
    return Trenameat(client.tag(), olddirfid, oldname, newdirfid, newname)


def unlinkat(client: Session, dirfid: int, name: bytes) -> Message:
    """Tunlinkat with a tag of its own."""
    return Tunlinkat(client.tag(), dirfid, name, 0)
