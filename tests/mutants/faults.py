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
from protocol.constants import EIO, LOCK_FLAGS_BLOCK, LOCK_SUCCESS, LOCK_TYPE_UNLCK
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


@dataclass(frozen=True)
class Caught:
    """Which case finds a fault, and what it must say."""

    case: str
    says: str
    """A regular expression."""
    parameters: Mapping[str, Any] = field(default_factory=dict)


FAULTS: dict[type[Fault], Caught] = {
    ClunkKeepsTheFid: Caught("WIRE-WALK-040", "seen: Rgetattr"),
    RemoveOnlySays: Caught("WIRE-UNLINK-001", "Extra items in the left set"),
    EveryErrorIsEio: Caught("WIRE-WALK-005", "allowed: ENOENT.*seen: EIO"),
    ErrorsOfTheOldDialect: Caught("WIRE-WALK-005", "type 107"),
    AnotherTag: Caught("WIRE-SESSION-040", "no request in flight has", {"tag": 1}),
    AnswersTwice: Caught("WIRE-SESSION-044", "no request in flight has"),
    ReadLosesAByte: Caught("WIRE-IO-001", "assert", {"step": 4096}),
    ReadGivesTooMuch: Caught("WIRE-IO-003", "assert b'!' == b''"),
    WriteBoasts: Caught("WIRE-IO-020", "assert 4 == 3"),
    WriteAtTheStart: Caught("WIRE-IO-020", "012XYZ6789"),
    StaleAttributes: Caught("WIRE-ATTR-008", "on the host"),
    ModeWithoutSpecialBits: Caught("WIRE-OPEN-032", "has mode 0o755 on the host; asked for: 0o4755", {"mode": 0o4755}),
    NulEndsAName: Caught("WIRE-DIR-038", "seen: Rmkdir"),
    OneQidForAll: Caught("WIRE-WALK-028", "qid|assert"),
    EntryLost: Caught("WIRE-DIR-001", "file|entr|assert"),
    DirectoryFromTheStart: Caught("WIRE-DIR-001", "no progress|twice|longer than its time|assert"),
    LocksForEverybody: Caught("WIRE-LOCK-003", "the second: 0, not 1"),
    UnlocksOfOneProcess: Caught("WIRE-LOCK-029", "another client afterwards: 1, not 0"),
    UnlocksOfTheFid: Caught("WIRE-LOCK-030", "another client: 0, not 1"),
    DialectOfItsOwn: Caught("WIRE-SESSION-005", "assert", {"version": b"9P1999"}),
    SecondVersionKeepsFids: Caught("WIRE-SESSION-007", "seen: Rgetattr"),
    FlushAnswersEarly: Caught("WIRE-SESSION-032", "no request in flight has|was answered with Rread"),
    ReaddirHangs: Caught("WIRE-DIR-010", "no reply to Treaddir.*another session is served meanwhile", {"over": 4096}),
    XattrTooLong: Caught("WIRE-XATTR-001", "announced", {"size": 100}),
    LockStatusOfFourBytes: Caught("WIRE-LOCK-001", "no 9P2000.L message", {"locktype": 1}),
}
