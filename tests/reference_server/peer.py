"""A client of one Session without any I/O, for tests.

Requests are real frames through the codec.  The peer keeps work that a session hands out, until the test runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from protocol import codec
from protocol.constants import ERRNO_NAMES, NOFID, NOTAG
from protocol.dirents import Dirent, decode_dirents
from protocol.fields import Buffer, Qid
from protocol.messages import (
    Rattach,
    Rlerror,
    Rreaddir,
    Rversion,
    Rwalk,
    Tattach,
    Tclunk,
    Tlopen,
    Treaddir,
    Tversion,
    Twalk,
)
from protocol.registry import Message
from reference_server.exports import Export, Exports
from reference_server.handlers import OPERATIONS
from reference_server.limits import Limits
from reference_server.outlets import Health, Outlet
from reference_server.session import Session, Work
from reference_server.shares import Commons
from reference_server.storage import Store

R = TypeVar("R", bound=Message)


class Failed(AssertionError):
    """The server answered with an error that the test does not expect."""

    def __init__(self, request: Message, ecode: int) -> None:
        super().__init__(f"{request!r} -> {codec_name(ecode)}")
        self.ecode = ecode


def codec_name(ecode: int) -> str:
    """Name of an errno."""
    return ERRNO_NAMES.get(ecode, str(ecode))


class _Outlet:
    """Collects replies.  ``pieces`` splits the memory for data, as a ring would."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._views: list[memoryview] = []

    def payload(self, count: int) -> Sequence[memoryview]:
        piece = self._peer.piece or max(count, 1)
        self._views = [memoryview(bytearray(min(piece, count - at))) for at in range(0, count, piece)]
        return self._views

    def send(self, buffers: list[Buffer]) -> None:
        self._peer.replies.append(codec.decode(b"".join(buffers)))

    def send_placed(self, head: bytes, count: int) -> None:
        self._peer.replies.append(codec.decode(head + b"".join(self._views)[:count]))

    def later(self) -> Outlet:
        return _Outlet(self._peer)


class Peer:
    """Speaks to its own session."""

    def __init__(
        self,
        exports: Exports | Store,
        limits: Limits | None = None,
        health: Health | None = None,
        uid: int = 0,
        msize: int = 65536,
        piece: int = 0,
        commons: Commons | None = None,
    ) -> None:
        if not isinstance(exports, Exports):
            exports = Exports(Export(exports))
        self.session = Session(exports, OPERATIONS, limits or Limits(), health, commons=commons)
        self.replies: list[Message] = []
        self.work: list[Work] = []
        self.piece = piece
        self._tag = 0
        self._fid = 100
        self.begin(msize)
        self.root = self.fid()
        self.ok(Tattach(self.tag(), self.root, NOFID, b"", b"", uid), Rattach)

    def begin(self, msize: int = 65536) -> Rversion:
        """Tversion."""
        return self.ok(Tversion(NOTAG, msize, b"9P2000.L"), Rversion)

    def tag(self) -> int:
        """An unused tag."""
        self._tag = (self._tag + 1) % NOTAG
        return self._tag

    def fid(self) -> int:
        """An unused fid."""
        self._fid += 1
        return self._fid

    def send(self, request: Message, crowded: bool = False) -> None:
        """Send; the results are in ``replies`` and ``work``."""
        work = self.session.receive(memoryview(codec.frame(request)), _Outlet(self), crowded)
        if work is not None:
            self.work.append(work)

    def run_work(self) -> None:
        """Run all work that was handed out, repeatedly as long as it asks for that."""
        while self.work:
            work = self.work.pop(0)
            if work.run() is not None:
                self.work.append(work)

    def call(self, request: Message) -> Message:
        """Send, run any work, and return the reply."""
        self.send(request)
        self.run_work()
        assert self.replies, f"no reply to {request!r}"
        reply = self.replies.pop(0)
        assert reply.tag == request.tag
        assert not self.replies
        return reply

    def ok(self, request: Message, expected: type[R]) -> R:
        """Return the reply, which must be a success."""
        reply = self.call(request)
        if isinstance(reply, Rlerror):
            raise Failed(request, reply.ecode)
        assert isinstance(reply, expected)
        return reply

    def error(self, request: Message) -> int:
        """Return the errno of a request that must fail."""
        reply = self.call(request)
        assert isinstance(reply, Rlerror), f"{request!r} -> {reply!r}"
        return reply.ecode

    # --- what most tests need ----------------------------------------------------------------------

    def walk(self, *names: bytes, start: int | None = None) -> int:
        """A new fid for the file at ``names``."""
        fid = self.fid()
        reply = self.ok(Twalk(self.tag(), self.root if start is None else start, fid, names), Rwalk)
        assert len(reply.wqids) == len(names), f"walk stopped after {len(reply.wqids)} of {names}"
        return fid

    def qid(self, *names: bytes) -> Qid:
        """The qid of the file at ``names``, at least one name."""
        fid = self.fid()
        reply = self.ok(Twalk(self.tag(), self.root, fid, names), Rwalk)
        self.clunk(fid)
        return reply.wqids[-1]

    def clunk(self, fid: int) -> None:
        """Tclunk."""
        self.call(Tclunk(self.tag(), fid))

    def open(self, *names: bytes, flags: int = 0) -> int:
        """A new fid, open."""
        fid = self.walk(*names)
        reply = self.call(Tlopen(self.tag(), fid, flags))
        if isinstance(reply, Rlerror):
            self.clunk(fid)
            raise Failed(Tlopen(0, fid, flags), reply.ecode)
        return fid

    def list(self, *names: bytes, count: int = 8192) -> list[Dirent]:
        """Every entry of a directory, ``.`` and ``..`` included."""
        fid = self.open(*names)
        found: list[Dirent] = []
        while True:
            offset = found[-1].offset if found else 0
            reply = self.ok(Treaddir(self.tag(), fid, offset, count), Rreaddir)
            entries = list(decode_dirents(reply.data))
            if not entries:
                break
            found += entries
        self.clunk(fid)
        return found

    def close(self) -> None:
        """Disconnect the client."""
        self.session.close()
