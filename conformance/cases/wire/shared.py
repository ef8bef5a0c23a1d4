"""Requirements that hold for many messages, written once: an unknown fid, an invalid name, a truncated frame.

Rule of this module: each function is the body of a case; the family's module names the message and the case.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from typing import Any

from conformance.cases.wire import allowed
from conformance.checks import Octal, equal, holds, report
from conformance.errors import Finding
from conformance.raw.client import Pending
from conformance.raw.expectation import OK, Expect, Rerror, spell
from conformance.raw.expectation import names as errno_names
from conformance.raw.findings import HungUp, NoReply
from conformance.raw.wire import Session, Wire
from conformance.transports.base import Capability
from conformance.vocabulary import errno_name
from protocol.codec import frame
from protocol.constants import GETATTR_ALL, NOTAG
from protocol.fields import Qid
from protocol.messages import Rversion, Tgetattr, Trenameat, Tunlinkat
from protocol.registry import Message

Send = Callable[[Session, int], Pending[Any]]
"""Sends one request about the fid it is given."""
SendName = Callable[[Session, int, bytes], Pending[Any]]
"""Sends one request with that fid of a directory and that name."""

DEAD = ("never", "clunked", "nofid")
"""Unknown fids: never given, given up, and NOFID."""
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


# ---- what the host has


def content(wire: Wire, name: bytes, expected: bytes, after: str = "") -> bool:
    """A file of the case's directory holds those bytes on the host. `after` says what was done before."""
    return equal(f"content of {name!r} on the host{_after(after)}", wire.host.content(name), expected, code="content")


def names(wire: Wire, expected: set[bytes], within: bytes = b"", after: str = "") -> bool:
    """On the host the case's directory, or a directory in it, holds exactly those names."""
    where = f"in {within!r}" if within else "in the directory"
    return equal(f"names {where} on the host{_after(after)}", wire.host.names(within), expected, code="names")


def present(wire: Wire, name: bytes, after: str = "") -> bool:
    """The name is there on the host."""
    return holds(f"{name!r} is there on the host{_after(after)}", wire.host.exists(name), code="exists", name=name)


def absent(wire: Wire, name: bytes, after: str = "") -> bool:
    """Nothing has that name on the host."""
    return holds(f"{name!r} is not on the host{_after(after)}", not wire.host.exists(name), code="exists", name=name)


def mode_is(wire: Wire, name: bytes, expected: int) -> bool:
    """The host sees `name` with these permission bits."""
    seen = Octal(stat.S_IMODE(wire.host.stat(name).st_mode))
    return equal(f"permission bits of {name!r} on the host", seen, Octal(expected), code="field:mode")


def group_is(wire: Wire, name: bytes, expected: int) -> bool:
    """The host sees `name` belonging to that group."""
    return equal(f"group of {name!r} on the host", wire.host.stat(name).st_gid, expected, code="field:gid")


def size_is(wire: Wire, name: bytes, expected: int, after: str = "") -> bool:
    """The host sees `name` with that size."""
    seen = wire.host.stat(name).st_size
    return equal(f"size of {name!r} on the host{_after(after)}", seen, expected, code="field:size")


def _after(what: str) -> str:
    return f" after {what}" if what else ""


def tree(wire: Wire) -> dict[bytes, str]:
    """Everything in the case's directory, beside it and outside the export: path -> kind and size."""
    found: dict[bytes, str] = {}
    outside, export = wire.top.root.parent, wire.top.root
    for shown, directory in ((b"OUTSIDE/", outside), (b"OUTSIDE/", outside / "outside"), (b"EXPORT/", export)):
        if directory.is_dir():
            for entry in directory.iterdir():
                if entry.name not in ("server.log", "export"):
                    found[shown + bytes(entry.relative_to(directory))] = _kind(entry.lstat())
    for entry in wire.host.root.rglob("*"):
        found[bytes(entry.relative_to(wire.host.root))] = _kind(entry.lstat())
    return found


_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "fifo"}


def _kind(info: Any) -> str:
    kind = _KINDS.get(stat.S_IFMT(info.st_mode), oct(stat.S_IFMT(info.st_mode)))
    size = "" if stat.S_ISDIR(info.st_mode) else f" of {info.st_size} bytes"
    return f"{kind}{size}, mode {stat.S_IMODE(info.st_mode):#o}"


def unchanged(wire: Wire, before: dict[bytes, str]) -> bool:
    """Nothing in the case's directory, beside it or outside the export was made, changed or removed since `before`."""
    return same_tree("the request has changed nothing on the host", tree(wire), before, "changed")


def same_tree(what: str, after: Mapping[Any, str], before: Mapping[Any, str], code: str) -> bool:
    """Both hold the same entries; the finding names what was made, changed or removed."""
    words = [f"made {name!r}" for name in after if name not in before]
    words += [f"removed {name!r}" for name in before if name not in after]
    words += [f"changed {name!r}" for name in before if name in after and after[name] != before[name]]
    if not words:
        return True
    seen = ", ".join(sorted(words)[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")
    other = [name for name in sorted(after) if after[name] != before.get(name)]
    details = "; ".join(f"{name!r} is now {after[name]}" for name in other)
    values = {"what": what, "seen": seen, "expected": "nothing"}
    report(Finding(f"not so: {what}: {seen}" + (f" ({details[:300]})" if details else ""), code, values))
    return False


# ---- what the server answers


def reads(client: Session, fid: int, expected: bytes, what: str, offset: int = 0, count: int = 4096) -> bool:
    """Tread of `count` bytes at `offset` returns those bytes. `what` names the file and what was done to it."""
    seen = bytes(client.read(fid, offset, count).data)
    return equal(f"bytes that Tread brings of {what}", seen, expected, code="content", call="Tread")


def size_in_reply(client: Session, fid: int, expected: int, what: str) -> bool:
    """Rgetattr of the fid has that size."""
    seen = client.getattr(fid).size
    return equal(f"size in Rgetattr of {what}", seen, expected, code="field:size", call="Tgetattr")


def path_of(client: Session, fid: int) -> int:
    """qid.path in Rgetattr of the fid."""
    return client.getattr(fid).qid.path


def same_file(what: str, seen: Qid | int, expected: Qid | int) -> bool:
    """Both are the qid.path of one file."""
    paths = [value if isinstance(value, int) else value.path for value in (seen, expected)]
    return equal(f"qid.path of {what}", paths[0], paths[1], code="field:qid")


def kind_is(what: str, qid: Qid, expected: int) -> bool:
    """qid.type is that one."""
    return equal(f"qid.type {what}", Hex(qid.type), Hex(expected), code="field:qid")


class Hex(int):
    """A number that findings show in base 16."""

    def __repr__(self) -> str:
        return hex(self)

    __str__ = __repr__


def short_of(what: str, before: int | None, now: int | None, limit: int) -> bool:
    """A measure of the server's process has grown by less than `limit`. Not judged if the process is unknown."""
    if before is None or now is None:
        return True
    return holds(
        f"{what} grows by less than {limit}", now - before < limit, seen=f"{before} before, {now} after", code="memory"
    )


def memory_within(wire: Wire, before: int | None, limit: int, what: str) -> bool:
    """The server's resident memory has grown by less than `limit` bytes since it was `before`. `what` names what was
    done."""
    return short_of(f"resident memory of the server in bytes, after {what},", before, wire.memory(), limit)


def descriptors_within(wire: Wire, before: int | None, limit: int, what: str) -> bool:
    """Within some seconds the server has fewer than `limit` more open files than `before`. `what` names what was
    done."""
    if before is None:
        return True
    now = wire.settled(wire.descriptors, before + limit)
    return short_of(f"number of files that the server has open, after {what},", before, now, limit)


# ---- requirements of many messages


def dead_fid(wire: Wire, which: str, send: Send) -> None:
    """A request about an unknown fid is refused, and does not create that fid."""
    client = wire.client
    fid = client.fid()
    if which == "clunked":
        client.walk(client.root, fid)
        client.clunk(fid)
    elif which == "nofid":
        fid = 0xFFFFFFFF
    send(client, fid).result(allowed.UNKNOWN_FID)
    # kvmtool creates a fid on any mention: a refused fid must not exist afterwards.
    client.getattr(fid, expect=allowed.UNKNOWN_FID)
    client.getattr(client.root)


def no_name(wire: Wire, name: bytes, send: SendName, errnos: Expect = allowed.ILLEGAL_NAME) -> None:
    """A request that makes or changes an entry under an invalid name is refused and changes nothing."""
    host = wire.host
    if name == ABSOLUTE:
        name = wire.decoy()
    host.directory(b"sub")
    before = tree(wire)
    send(wire.client, wire.client.walk_to(), name).result(errnos)
    unchanged(wire, before)


def dot_name(wire: Wire, name: bytes, send: SendName) -> None:
    """`.` and `..` cannot be made, moved or removed."""
    no_name(wire, name, send, allowed.DOT_NAME)


def nul_name(wire: Wire, send: SendName) -> None:
    """A NUL byte does not end a name: nothing is made or removed under the part before it."""
    no_name(wire, b"fred\0ginger", send, allowed.NUL_IN_NAME)


def long_name(wire: Wire, send: SendName) -> None:
    """A name of 255 bytes is a name; one of 256 is refused."""
    client = wire.client
    send(client, client.walk_to(), b"n" * 255).result()
    present(wire, b"n" * 255)
    before = wire.host.names()
    send(client, client.walk_to(), b"m" * 256).result(allowed.NAME_TOO_LONG)
    names(wire, before, after="the request with a name of 256 bytes")


def raw_name(wire: Wire, send: SendName) -> None:
    """A name is bytes: one that is not UTF-8 reaches the host unchanged."""
    client = wire.client
    name = b"\xff\xfe caf\xe9 \x01"
    send(client, client.walk_to(), name).result()
    names(wire, {name})


def in_a_file(wire: Wire, send: SendName) -> None:
    """A file that is not a directory has no entries."""
    client = wire.client
    wire.host.file(b"plain", b"x")
    send(client, client.walk_to(b"plain"), b"child").result(allowed.NOT_A_DIRECTORY)
    names(wire, {b"plain"})
    content(wire, b"plain", b"x")


def refused_or_hung_up(
    wire: Wire,
    client: Session,
    raw: bytes,
    tag: int,
    errnos: frozenset[int] = allowed.MALFORMED,
    *,
    also: tuple[type[Message], ...] = (),
    remark: str = "",
) -> Message | Rerror | None:
    """Send one whole frame that is not a valid request: an error reply or the end of the connection must follow.

    `also` are replies that count as a refusal. A valid request sent right behind shows at once if the first is never
    answered. Returns None if the connection ended.
    """
    try:
        client.send_raw(raw, remark)
        probe = Tgetattr(client.tag(), client.root, GETATTR_ALL)
        client.burst([probe])
        reply = _first(wire, client, tag, probe.tag)
    except HungUp:
        return None
    if isinstance(reply, also):
        return reply
    number = client.errno_of(reply)
    what, wanted = remark or "a frame that is not a sound request", "a refusal or the end of the connection"
    values = {"call": what, "what": spell(reply), "expected": wanted}
    if number == OK:
        text = f"{what} succeeded with {spell(reply)}, expected {wanted}"
        report(Finding(text, "errno", {**values, "seen": "success"}))
    elif number not in errnos:
        text = f"{what} was refused with {errno_name(number)}, expected {errno_names(errnos)}"
        report(Finding(text, "errno-choice", {**values, "seen": errno_name(number)}, "varies"))
    return reply


def _first(wire: Wire, client: Session, tag: int, probe: int) -> Message | Rerror:
    """The reply to the request with `tag`, once `probe`, which was sent right behind it, has been answered, too."""
    found: Message | Rerror | None = None
    probe_seen, patience, wait = False, 2, 0.5
    while found is None or not probe_seen:
        try:
            reply = client.next_reply(wait)
        except NoReply as error:
            patience -= 1
            if isinstance(found, Rversion):
                break  # which ended what was in flight
            if probe_seen and (not patience or Capability.SESSIONS not in wire.capabilities):
                raise NoReply(f"{error}; the request sent after it was answered", "raw") from None
            if not patience:
                raise NoReply(f"{error}; another session is served meanwhile", "raw") from None
            wait = max(wait, 20 * wire.served_beside())  # so it hangs and is not just slow
            continue
        if reply.tag == probe:
            probe_seen = True
        elif reply.tag in (tag, NOTAG) and found is None:
            found = reply
        else:
            raise Finding(f"answered with tag {reply.tag}, asked with {tag}: {spell(reply)}", "reply")
    client.unanswered = False
    return found


def resized(raw: bytes) -> bytes:
    """The frame with its size field corrected."""
    return len(raw).to_bytes(4, "little") + raw[4:]


def cut(message: Message, count: int = 1) -> bytes:
    """The frame of `message` without its last `count` bytes, and with a matching size field."""
    return resized(frame(message)[:-count])


def renameat(client: Session, olddirfid: int, oldname: bytes, newdirfid: int, newname: bytes) -> Message:
    """Trenameat with a tag of its own."""
    return Trenameat(client.tag(), olddirfid, oldname, newdirfid, newname)


def unlinkat(client: Session, dirfid: int, name: bytes) -> Message:
    """Tunlinkat with a tag of its own."""
    return Tunlinkat(client.tag(), dirfid, name, 0)
