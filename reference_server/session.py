"""One 9P2000.L session, without I/O: frames go in, replies come out, perhaps later and in another order.

The rule of this module: it knows no socket, ring, thread pool or clock. A transport feeds whole frames to
:meth:`Session.receive` from one thread; requests that can be served at once are answered before it returns, and those
that may take long are returned as a :class:`Work`, which the transport runs on any thread.

Replies leave through an :class:`Outlet`, which the transport makes. It also provides the memory for file data, so a
ring can offer the guest's own memory.

Who may touch what: fids are added, removed and change state in one step under the lock of their table, on whatever
thread serves the request. A Work keeps its fids alive, so a Tclunk that overtakes it frees nothing in use.

No request that may sleep is served on the feeding thread: if a store is not prompt (:mod:`pace`), every request that
uses it is a Work.
"""

from __future__ import annotations

import itertools
import logging
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum

from protocol import codec
from protocol.codec import ProtocolError
from protocol.constants import EAGAIN, EBADF, EINVAL, EIO, EOPNOTSUPP, EPROTO, HDRSZ, NOTAG, RREAD_HDRSZ
from protocol.fields import Buffer
from protocol.messages import Rflush, Rlerror, Tversion
from protocol.registry import Message
from reference_server import fids
from reference_server.errors import Refused, WouldBlock, ecode_of
from reference_server.exports import Exports
from reference_server.fids import Fid, FidTable, Rule
from reference_server.limits import Limits
from reference_server.outlets import NOWHERE, Health, Observed, Observer, Outlet
from reference_server.shares import Client, Commons

log = logging.getLogger("reference_server")


@dataclass(slots=True, eq=False)
class Placed:
    """A reply whose data is already in the outlet's memory: ``type`` and ``count`` bytes of it."""

    type: int
    count: int


@dataclass(slots=True, eq=False)
class Again:
    """Not done: run the work again after ``delay`` seconds."""

    delay: float


class LaterReply:
    """The handler arranged for the reply itself."""


LATER = LaterReply()

Reply = Message | bytes | Placed | Again | LaterReply
"""Bytes are the whole frame."""

_placed_head = struct.Struct("<IBHI").pack
_rlerror = struct.Struct("<IBHI").pack


class Call:
    """What a handler gets besides the request: the session, and the fids that the request named."""

    __slots__ = ("_pinned", "outlet", "session", "waited", "waiting")

    def __init__(self, session: Session, outlet: Outlet, pinned: dict[int, Fid] | None) -> None:
        self.session = session
        self.outlet = outlet
        self._pinned = pinned
        self.waiting: bool = pinned is not None
        """Whether the handler may wait: true on a worker, false on the feeding thread."""
        self.waited = 0.0
        """Seconds that earlier runs of the same request asked to wait (:class:`Again`)."""

    def fid(self, number: int, rule: Rule) -> Fid:
        """The fid ``number``, admitted by ``rule``.  Raises Refused."""
        if self._pinned is None:
            return self.session.fids.get(number, rule)
        fid = self._pinned.get(number)
        if fid is None:
            raise Refused(EBADF)
        return fids.admit(fid, rule)

    def let_go(self, fid: Fid) -> None:
        """Release ``fid``, already out of the table, before the answer if no other request still uses it."""
        if self._pinned is not None:
            self.session.unpin(self._pinned, fid)
        self.session.let_go(fid)


class Stage(Enum):
    """How far a Work has come."""

    QUEUED = 1
    RUNNING = 2
    OVER = 3


class Work:
    """A request that may take long. ``run`` it on any thread; a transport needs nothing else."""

    __slots__ = ("call", "flushes", "operation", "pinned", "request", "session", "stage", "tag")

    def __init__(
        self, session: Session, operation: Operation, request: Message, outlet: Outlet, pinned: dict[int, Fid]
    ) -> None:
        self.session = session
        self.operation = operation
        self.request = request
        self.tag = request.tag
        self.pinned = pinned
        self.call = Call(session, outlet.later(), pinned)
        self.stage = Stage.QUEUED
        self.flushes: list[PendingFlush] = []

    def run(self) -> float | None:
        """Serve it.  Returns None when it is over, or the seconds after which to run it again."""
        return self.session.run(self)

    def detach(self) -> None:
        """Copy the payload, so that the frame it lies in may be used for the next one."""
        data = getattr(self.request, "data", None)
        if data is not None:
            self.request = replace(self.request, data=bytes(data))  # type: ignore[call-arg]


@dataclass(slots=True, eq=False)
class PendingFlush:
    """A Tflush that waits for the end of what it flushes."""

    tag: int
    outlet: Outlet
    flushes: list[PendingFlush] = field(default_factory=list)


class Place(Enum):
    """Where an operation runs."""

    INLINE = 1
    """On the feeding thread: it is short where the store is prompt."""
    CROWDED = 2
    """On the feeding thread when the store is prompt and nothing waits behind it: it may have to wait for a disk."""
    WORKER = 3
    """On a worker: it waits by its nature."""


_WORKER, _CROWDED = Place.WORKER, Place.CROWDED  # members of an enum are slow to find


@dataclass(slots=True, eq=False)
class Operation:
    """How one request is served."""

    request: type[Message]
    run: Callable[[Call, Message], Reply]
    place: Place
    fids: tuple[str, ...]
    """Its fields that name fids."""
    touches: bool
    """Whether it asks the store for something, which may take its time where the store is not prompt."""


_numbers = itertools.count(1)


class Session:
    """The state of one client's connection."""

    def __init__(
        self,
        exports: Exports,
        operations: dict[int, Operation],
        limits: Limits | None = None,
        health: Health | None = None,
        observer: Observer | None = None,
        commons: Commons | None = None,
    ) -> None:
        """``commons``: what its client shares with those of other sessions; nothing by default."""
        self.number = next(_numbers)
        """Unique among the sessions of this process."""
        self.exports = exports
        self._pace = exports.pace
        self.limits = limits or Limits()
        self.health = health or Health()
        self.client = Client()
        self.fids = FidTable(self.limits, self.client.of((commons or Commons()).fids))
        self.msize = self.limits.msize_max
        """Largest frame in bytes, as agreed."""
        self.established = False
        """Whether a dialect was agreed on."""
        self._operations = operations
        self._observer = observer
        self._inline = Call(self, NOWHERE, None)
        # Guards what feeding thread and workers share: stages, the table of outstanding requests, Fid.users.
        self._lock = threading.Lock()
        self._outstanding: dict[int, Work | PendingFlush] = {}
        self._running = 0
        self._left: list[Fid] = []
        """Fids to be released by a worker."""
        self._when_idle: Callable[[], None] | None = None
        self._closed = False

    # --- feeding ----------------------------------------------------------------------------------

    @property
    def observed(self) -> bool:
        """Whether an observer needs every whole frame."""
        return self._observer is not None

    def receive(
        self,
        frame: memoryview,
        outlet: Outlet,
        crowded: bool = False,
        decode: Callable[[memoryview], Message] = codec.decode,
    ) -> Work | None:
        """Serve the one whole ``frame``, at least a header long and not over ``msize``, or hand it back as
        Work.

        ``crowded`` says that more requests wait behind it.  A Work refers to ``frame`` until it is over.
        ``decode`` is another than the codec's where the data of a request lies elsewhere (:class:`storage.Pieces`).
        """
        if self._observer is not None:
            self._observer.received(self.number, frame)
            outlet = Observed(outlet, self._observer, self.number)
        number = frame[4]
        tag = frame[5] | frame[6] << 8
        operation = self._operations.get(number)
        if operation is None or not self.established or tag == NOTAG or tag in self._outstanding:
            ecode = self._unfit(operation, tag)
            if ecode:
                outlet.send([_rlerror(11, Rlerror.type, tag, ecode)])
                return None
        assert operation is not None
        try:
            request = decode(frame)
        except ProtocolError:
            outlet.send([_rlerror(11, Rlerror.type, tag, EINVAL)])
            return None
        place = operation.place
        if place is _WORKER or (crowded and place is _CROWDED) or (operation.touches and not self._pace.prompt):
            return self._hand_out(operation, request, outlet)
        call = self._inline
        call.outlet = outlet
        try:
            reply = operation.run(call, request)
            if not isinstance(reply, Again):
                _send(outlet, tag, reply)
                return None
        except WouldBlock:
            pass
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is answered, in one place
            outlet.send([_rlerror(11, Rlerror.type, tag, self._ecode(request, error))])
            return None
        return self._hand_out(operation, request, outlet)

    def refuse(self, tag: int, ecode: int, outlet: Outlet) -> None:
        """Answer a request that the transport could not receive."""
        outlet.send([_rlerror(11, Rlerror.type, tag, ecode)])

    def _unfit(self, operation: Operation | None, tag: int) -> int:
        """errno for a request that no handler may see, or 0."""
        if operation is not None and operation.request is Tversion:
            return 0
        if not self.established:
            return EPROTO
        if operation is None:
            return EOPNOTSUPP
        if tag == NOTAG or tag in self._outstanding:
            return EINVAL
        return 0

    def _ecode(self, request: Message, error: Exception) -> int:
        if isinstance(error, Refused):
            return error.ecode
        if isinstance(error, OSError):
            return ecode_of(error)
        self.health.report(request, error)
        return EIO

    # --- work -------------------------------------------------------------------------------------

    def _hand_out(self, operation: Operation, request: Message, outlet: Outlet) -> Work | None:
        table = self.fids.by_number
        named = [getattr(request, field) for field in operation.fids]
        pinned = {number: table[number] for number in named if number in table}
        with self._lock:
            if len(self._outstanding) >= self.limits.requests:
                work = None
            else:
                work = Work(self, operation, request, outlet, pinned)
                self._outstanding[request.tag] = work
                for fid in pinned.values():
                    fid.users += 1
        if work is None:
            outlet.send([_rlerror(11, Rlerror.type, request.tag, EAGAIN)])
        return work

    def run(self, work: Work) -> float | None:
        """Serve ``work`` on the calling thread; see :meth:`Work.run`."""
        with self._lock:
            begins = work.stage is Stage.QUEUED
            if begins:
                work.stage = Stage.RUNNING
                self._running += 1
        if not begins:
            self._release_left()
            return None
        reply: Reply | None = None
        frame: list[Buffer] = []
        try:
            reply = work.operation.run(work.call, work.request)
            if isinstance(reply, Message):
                frame = codec.encode(reply)
            elif isinstance(reply, bytes):
                frame = [reply]
        except Exception as error:  # noqa: BLE001 - as in receive
            frame = [_rlerror(11, Rlerror.type, work.tag, self._ecode(work.request, error))]
        if isinstance(reply, Again):
            with self._lock:
                self._running -= 1
                if not work.flushes and not self._when_idle and not self._closed:
                    work.call.waited += reply.delay
                    work.stage = Stage.QUEUED
                    return reply.delay
                self._running += 1
            # Cancelled while it waited: nothing happened, so only the flushes are answered.
            self._end(work, None)
            return None
        outlet = work.call.outlet
        if isinstance(reply, Placed):
            placed = reply
            self._end(work, lambda: _send(outlet, work.tag, placed))
        else:
            self._end(work, lambda: outlet.send(frame) if frame else None)
        return None

    def _end(self, work: Work, answer: Callable[[], None] | None) -> None:
        """``work`` is over: answer it, then those who flushed it, and let go of its fids."""
        with self._lock:
            # Under the lock, so that a Tflush finds the request either outstanding or answered, never
            # between; and out of the table before the answer leaves, because the client may use the tag again
            # at once.
            work.stage = Stage.OVER
            self._outstanding.pop(work.tag, None)
            flushes = self._take_flushes(work)
            if not self._closed and self._when_idle is None:
                if answer is not None:
                    answer()
                for flush in flushes:
                    flush.outlet.send([codec.frame(Rflush(flush.tag))])
            doomed = self._unpin(work)
            self._running -= 1
            idle = self._when_idle if not self._running else None
            if idle:
                self._when_idle = None
        for fid in doomed:
            self.let_go(fid)
        if idle:
            self._forget_fids()  # fids made by a request that was running when all were forgotten
            idle()

    def _forget_fids(self) -> None:
        self._release_left()
        for number in list(self.fids.by_number):
            with suppress(Refused):  # a request that still runs was faster
                self.let_go(self.fids.remove(number))
        self.fids.give_back()

    def _release_left(self) -> None:
        with self._lock:
            left, self._left = self._left, []
        for fid in left:
            self.let_go(fid)

    def unpin(self, pinned: dict[int, Fid], fid: Fid) -> None:
        """A request no longer uses ``fid``, which was pinned for it."""
        with self._lock:
            if pinned.get(fid.number) is fid:
                del pinned[fid.number]
                fid.users -= 1

    def _unpin(self, work: Work) -> list[Fid]:
        doomed = []
        for fid in work.pinned.values():
            fid.users -= 1
            if fid.doomed and not fid.users:
                doomed.append(fid)
        work.pinned.clear()
        return doomed

    def _take_flushes(self, over: Work | PendingFlush) -> list[PendingFlush]:
        """The flushes that waited for ``over``, each followed by those that waited for it.  Lock held."""
        found: list[PendingFlush] = []
        for flush in over.flushes:
            self._outstanding.pop(flush.tag, None)
            found.append(flush)
            found += self._take_flushes(flush)
        over.flushes = []
        return found

    # --- for handlers -----------------------------------------------------------------------------

    def flush(self, tag: int, oldtag: int, outlet: Outlet) -> Reply:
        """Cancel request ``oldtag`` if it has not begun, else arrange that ``tag`` is answered once it is
        over.

        flush(5): after Rflush nothing may come for ``oldtag``. A request that has begun is answered first, because its
        effects remain; one that had not begun is never answered.
        """
        doomed: list[Fid] = []
        with self._lock:
            target = self._outstanding.get(oldtag)
            if target is None or oldtag == tag:
                return Rflush(tag)
            if isinstance(target, Work) and target.stage is Stage.QUEUED:
                target.stage = Stage.OVER
                del self._outstanding[oldtag]
                doomed = self._unpin(target)
            else:
                pending = PendingFlush(tag, outlet.later())
                target.flushes.append(pending)
                self._outstanding[tag] = pending
                return LATER
            if doomed and not self._pace.prompt:
                # Closing may sleep; the worker who comes to the cancelled request does it.
                self._left += doomed
                doomed = []
        for fid in doomed:
            self.let_go(fid)
        return Rflush(tag)

    def let_go(self, fid: Fid) -> None:
        """Release ``fid``, already out of the table, now or when its last request is over."""
        if fid.users:
            with self._lock:
                if fid.users:
                    fid.doomed = True
                    return
        try:
            fid.release()
        except OSError:
            log.debug("closing fid %d failed", fid.number, exc_info=True)

    def reset(self, then: Callable[[], None]) -> bool:
        """Forget every fid and every outstanding request.

        True if that is done; false if some of them still run: ``then`` is called once they are over.
        """
        with self._lock:
            queued = [w for w in self._outstanding.values() if isinstance(w, Work) and w.stage is Stage.QUEUED]
            doomed = []
            for work in queued:
                work.stage = Stage.OVER
                doomed += self._unpin(work)
            self._outstanding.clear()
            self.established = False
            if self._running:
                self._when_idle = then
            idle = not self._running
        for fid in doomed:
            self.let_go(fid)
        self._forget_fids()
        return idle

    def close(self) -> None:
        """The client is gone: like a reset, and nothing is answered any more."""
        self._closed = True
        self._inline.outlet = NOWHERE  # release what a transport gave for its last reply, perhaps guest memory
        self.reset(lambda: None)
        self.fids.give_back()


def _send(outlet: Outlet, tag: int, reply: Reply) -> None:
    if isinstance(reply, Placed):
        outlet.send_placed(_placed_head(RREAD_HDRSZ + reply.count, reply.type, tag, reply.count), reply.count)
    elif isinstance(reply, bytes):
        outlet.send([reply])
    elif isinstance(reply, Message):
        outlet.send(codec.encode(reply))


assert HDRSZ == 7  # receive() reads type and tag by position
