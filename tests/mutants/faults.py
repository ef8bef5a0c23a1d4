"""The deliberate faults, each with the case that must fail because of it.

Rule of this module: one fault is one defect that servers have had, as small as it can be; `FAULTS` says which case
finds it, with which parameters, and what the finding must say.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from protocol import messages as m
from protocol.codec import frame
from protocol.constants import EDOM, EIO, ENOENT, EPERM, LOCK_FLAGS_BLOCK, LOCK_SUCCESS, LOCK_TYPE_UNLCK, O_CREAT
from protocol.dirents import decode_dirents, encode_dirent
from protocol.fields import Qid
from protocol.registry import Message
from tests.mutants.proxy import Fault


class ClunkKeepsTheFid(Fault):
    """Rclunk comes, and the fid lives on."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return frame(m.Rclunk(request.tag)) if isinstance(request, m.Tclunk) else request


class RemoveOnlySays(Fault):
    """Tunlinkat is answered and not carried out."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return frame(m.Runlinkat(request.tag)) if isinstance(request, m.Tunlinkat) else request


class EveryErrorIsEio(Fault):
    """Whatever was wrong, the errno is EIO."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        return m.Rlerror(reply.tag, EIO) if isinstance(reply, m.Rlerror) else reply


class ErrorsOfTheOldDialect(Fault):
    """Errors come as type 107, as nfs-ganesha sends them."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        if not isinstance(reply, m.Rlerror):
            return reply
        raw = bytearray(frame(reply))
        raw[4] = 107
        return bytes(raw)


class AnotherTag(Fault):
    """Replies to Tgetattr carry a tag that nobody used."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        return replace(reply, tag=reply.tag ^ 0x2000) if isinstance(reply, m.Rgetattr) else reply


class AnswersTwice(Fault):
    """Each Rread comes twice."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        return [reply, reply] if isinstance(reply, m.Rread) else reply


class ReadLosesAByte(Fault):
    """Reads of more than a thousand bytes have a hole of one byte in the middle."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        if not isinstance(reply, m.Rread) or len(reply.data) < 1000:
            return reply
        data = bytes(reply.data)
        return m.Rread(reply.tag, data[:500] + data[501:])


class ReadGivesTooMuch(Fault):
    """Rread carries a byte more than was asked for."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        return m.Rread(reply.tag, bytes(reply.data) + b"!") if isinstance(reply, m.Rread) else reply


class WriteBoasts(Fault):
    """Rwrite counts a byte more than was sent."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        return m.Rwrite(reply.tag, reply.count + 1) if isinstance(reply, m.Rwrite) else reply


class WriteAtTheStart(Fault):
    """The offset of Twrite is passed over."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return replace(request, offset=0) if isinstance(request, m.Twrite) else request


class StaleAttributes(Fault):
    """Attributes are kept from the first Tgetattr of each fid."""

    def __init__(self) -> None:
        self.kept: dict[int, Message] = {}

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        if isinstance(request, m.Tgetattr) and isinstance(reply, m.Rgetattr):
            return replace(self.kept.setdefault(request.fid, reply), tag=reply.tag)
        return reply


class ModeWithoutSpecialBits(Fault):
    """Set-id and sticky bits are lost on the way (hugelgupf#108)."""

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tsetattr | m.Tlcreate | m.Tmkdir):
            return replace(request, mode=request.mode & 0o777)
        return request


class NulEndsAName(Fault):
    """Names are C strings."""

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tmkdir):
            return replace(request, name=request.name.split(b"\0")[0])
        return request


class OneQidForAll(Fault):
    """All files have the same qid path (hugelgupf#104)."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        if isinstance(reply, m.Rwalk):
            return m.Rwalk(reply.tag, tuple(Qid(q.type, q.version, 7) for q in reply.wqids))
        return reply


class EntryLost(Fault):
    """The last entry of each Rreaddir is dropped, its cookie is not (ZeroFS#96)."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        if not isinstance(reply, m.Rreaddir) or not reply.data:
            return reply
        entries = list(decode_dirents(reply.data))
        if len(entries) > 2:
            entries[-2:] = [entries[-2]._replace(offset=entries[-1].offset)]
        return m.Rreaddir(reply.tag, b"".join(encode_dirent(*entry) for entry in entries))


class DirectoryFromTheStart(Fault):
    """The offset of Treaddir is passed over."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return replace(request, offset=0) if isinstance(request, m.Treaddir) else request


class LocksForEverybody(Fault):
    """Tlock is granted whoever asks (lib9p, kvmtool, QEMU)."""

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tlock) and request.locktype != LOCK_TYPE_UNLCK:
            return frame(m.Rlock(request.tag, LOCK_SUCCESS))
        return request


class UnlocksOfOneProcess(Fault):
    """What one process locked through a fid no other one can give up (nfs-ganesha)."""

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tlock) and request.locktype == LOCK_TYPE_UNLCK:
            return replace(request, flags=0)
        return request


class UnlocksOfTheFid(Fault):
    """Any unlock through a fid gives up what was locked through it (diod, which locks by flock(2))."""

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tlock) and request.locktype == LOCK_TYPE_UNLCK:
            return replace(request, flags=LOCK_FLAGS_BLOCK)
        return request


class DialectOfItsOwn(Fault):
    """Whatever version was asked for, 9P2000.L is agreed to."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        return m.Rversion(reply.tag, reply.msize, b"9P2000.L") if isinstance(reply, m.Rversion) else reply


class SecondVersionKeepsFids(Fault):
    """A second Tversion is answered, and ends nothing (lib9p, kvmtool)."""

    def __init__(self) -> None:
        self.seen = False

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tversion) and self.seen:
            return frame(m.Rversion(request.tag, request.msize, request.version))
        self.seen = self.seen or isinstance(request, m.Tversion)
        return request


class FlushAnswersEarly(Fault):
    """Rflush comes at once; the flushed request is answered afterwards all the same."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return frame(m.Rflush(request.tag)) if isinstance(request, m.Tflush) else request

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        if isinstance(reply, m.Rread):
            time.sleep(0.01)  # so that the Rflush does come first
        return reply


class ReaddirHangs(Fault):
    """Treaddir is never answered."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return None if isinstance(request, m.Treaddir) else request


class XattrTooLong(Fault):
    """Rxattrwalk announces a byte too many."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        return m.Rxattrwalk(reply.tag, reply.size + 1) if isinstance(reply, m.Rxattrwalk) else reply


class LockStatusOfFourBytes(Fault):
    """Rlock carries four bytes of status (kvmtool)."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        return b"\x0b" + frame(reply)[1:7] + bytes(4) if isinstance(reply, m.Rlock) else reply


class CreatesOutsideWithTheFlag(Fault):
    """A name with slashes in Tlcreate is handed to open(2) beside the flags: a file is made outside if O_CREAT is
    among them. The reply is a refusal all the same."""

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tlcreate) and b"/" in request.name:
            if request.flags & O_CREAT:
                (self.export.parent / "outside" / "decoy" / "made").write_bytes(b"")
            return frame(m.Rlerror(request.tag, ENOENT))
        return request


class CreatesOnlyWithTheFlag(Fault):
    """Tlcreate hands its flags to open(2): without O_CREAT nothing is made."""

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tlcreate) and not request.flags & O_CREAT:
            return frame(m.Rlerror(request.tag, ENOENT))
        return request


class RenamedFidGoesStale(Fault):
    """Trename does not update the fid that it names (of 70 faults put into QEMU, one that a known entry hid)."""

    def __init__(self) -> None:
        self.stale: set[int] = set()

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tgetattr | m.Tlopen) and request.fid in self.stale:
            return frame(m.Rlerror(request.tag, ENOENT))
        return request

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        if isinstance(request, m.Trename) and isinstance(reply, m.Rrename):
            self.stale.add(request.fid)
        return reply


class OtherErrno(Fault):
    """What is refused is refused with an errno that no server has."""

    def on_reply(self, request: Message, reply: Message) -> Message | bytes | list[Message] | None:
        return m.Rlerror(reply.tag, EDOM) if isinstance(reply, m.Rlerror) else reply


class RefusesAndActs(Fault):
    """Tmkdir of a path is refused, and the directory is made."""

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tmkdir) and request.name == b"../x":
            (self.export / "x").mkdir()
        return request


class RefusesEverything(Fault):
    """Tmkdir is refused whatever it says, but for the directories that the suite itself makes."""

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tmkdir) and not request.name.startswith(b"assay9-"):
            return frame(m.Rlerror(request.tag, EPERM))
        return request


@dataclass(frozen=True)
class Caught:
    """Which case finds a fault, and what it must say."""

    case: str
    says: str
    """A regular expression for its findings, or for the reason of another verdict."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    severity: str = ""
    """Of the result, where it is lighter than the case's own."""
    verdict: str = "fail"
    every: bool = False
    """What it says stands in any of its findings, not in the first."""


FAULTS: dict[type[Fault], Caught] = {
    ClunkKeepsTheFid: Caught("WIRE-WALK-040", "Tgetattr.*succeeded with Rgetattr"),
    RemoveOnlySays: Caught("WIRE-UNLINK-001", "names in the directory on the host: unexpected"),
    EveryErrorIsEio: Caught("WIRE-WALK-005", "was refused with EIO, expected ENOENT", severity="linux"),
    ErrorsOfTheOldDialect: Caught("WIRE-WALK-005", "type 107"),
    AnotherTag: Caught("WIRE-SESSION-040", "no request in flight has", {"tag": 1}),
    AnswersTwice: Caught("WIRE-SESSION-044", "no request in flight has"),
    ReadLosesAByte: Caught("WIRE-IO-001", "70001 bytes; first difference at byte 500", {"step": 4096}),
    ReadGivesTooMuch: Caught("WIRE-IO-003", "a file, none of it: b'!', expected b''"),
    WriteBoasts: Caught("WIRE-IO-020", "count in Rwrite: 4, expected 3"),
    WriteAtTheStart: Caught("WIRE-IO-020", "b'XYZ3456789', expected b'012XYZ6789'"),
    StaleAttributes: Caught("WIRE-ATTR-008", "beside the host's lstat"),
    ModeWithoutSpecialBits: Caught(
        "WIRE-OPEN-032", "permission bits of b'fred' on the host: 0o755, expected 0o4755", {"mode": 0o4755}
    ),
    NulEndsAName: Caught("WIRE-DIR-038", "succeeded with Rmkdir"),
    OneQidForAll: Caught("WIRE-WALK-028", "different qids of two files and a directory: 1, expected 3", every=True),
    EntryLost: Caught("WIRE-DIR-001", "no name is missing in what Treaddir brings"),
    DirectoryFromTheStart: Caught("WIRE-DIR-001", "has another offset than|more than once|longer than its limit"),
    LocksForEverybody: Caught("WIRE-LOCK-003", r"status of the second Tlock: SUCCESS \(0\), expected BLOCKED \(1\)"),
    UnlocksOfOneProcess: Caught("WIRE-LOCK-029", "once the child has unlocked: BLOCKED \\(1\\), expected SUCCESS"),
    UnlocksOfTheFid: Caught("WIRE-LOCK-030", "without a lock has closed: SUCCESS \\(0\\), expected BLOCKED"),
    DialectOfItsOwn: Caught("WIRE-SESSION-005", "b'9P2000.L', expected b'unknown'", {"version": b"9P1999"}),
    SecondVersionKeepsFids: Caught("WIRE-SESSION-007", "succeeded with Rgetattr"),
    FlushAnswersEarly: Caught("WIRE-SESSION-032", "no request in flight has|a reply of another type than"),
    ReaddirHangs: Caught("WIRE-DIR-010", "no reply to Treaddir.*another session is served meanwhile", {"over": 4096}),
    XattrTooLong: Caught("WIRE-XATTR-001", "beside the size in Rxattrwalk: 100, expected 101", {"size": 100}),
    CreatesOutsideWithTheFlag: Caught(
        "WIRE-CONFINEMENT-002",
        "nothing outside the export is touched: made 'decoy/made'",
        {"message": "Tlcreate", "how": "relative", "name": b"made"},
    ),
    CreatesOnlyWithTheFlag: Caught("WIRE-OPEN-050", "failed with ENOENT, expected success", severity="varies"),
    RenamedFidGoesStale: Caught("WIRE-RENAME-038", "failed with ENOENT, expected success"),
    OtherErrno: Caught("WIRE-OPEN-011", "was refused with EDOM, expected", severity="varies"),
    RefusesAndActs: Caught("WIRE-DIR-036", "has changed nothing on the host: made b'EXPORT/x'", {"name": b"../x"}),
    RefusesEverything: Caught("WIRE-FRAMING-001", "also as it should be", {"name": "Tmkdir"}, verdict="undrivable"),
    LockStatusOfFourBytes: Caught("WIRE-LOCK-001", "no 9P2000.L message", {"locktype": 1}),
}
