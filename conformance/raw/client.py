"""The raw 9P2000.L client: requests in flight, replies in any order, replies judged against what is allowed.

Rule of this module: a wrong reply becomes a `Finding` that names the request, what is allowed and what was seen;
a wrong use by a case is a `SuiteError`. The methods
by message are in `conformance.raw.operations`. It must not import servers, targets or pytest.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar, cast

from conformance.checks import report
from conformance.errors import Finding, SuiteError
from conformance.raw.expectation import OK, Expect, Rerror, allowed, hexed, spell
from conformance.raw.findings import HungUp, NeedsMessage, NoReply, WrongAnswer
from conformance.transports.base import Link, LinkClosed, LinkTimeout
from protocol.codec import ProtocolError, decode, encode, header
from protocol.constants import HDRSZ, NOTAG
from protocol.fields import Buffer
from protocol.messages import BY_TYPE, Rlerror, Tflush, reply_of
from protocol.registry import Message

R = TypeVar("R", bound=Message)

TIMEOUT = 10.0
"""Seconds that a server has for one reply. Every request here takes microseconds; the rest is for a busy machine."""
_STOPPED = 1.0
"""Seconds that a device which cannot say that it needs a reset has for the request that shows whether it serves."""
_KEPT = 400
_ERRNO = struct.Struct("<I")


class Transcript:
    """What crossed on one connection: the last messages in order, and how many of each kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._kept: deque[Message | Rerror | str] = deque(maxlen=_KEPT)

    def note(self, message: Message | Rerror) -> None:
        """Keep `message`; its text is made only when it is read."""
        self._kept.append(message)
        self.counts[type(message).__name__] += 1

    def remark(self, text: str) -> None:
        """Keep a line about bytes that are not a message."""
        self._kept.append(text)

    def lines(self) -> list[str]:
        """The messages as text, requests and replies as they crossed, each with its tag."""
        return [m if isinstance(m, str) else f"tag {m.tag:5d} {spell(m)}" for m in self._kept]


class Pending(Generic[R]):
    """A request in flight."""

    __slots__ = ("_client", "_expect", "reply", "reply_type", "request")

    def __init__(self, client: Core, request: Message, reply_type: type[R], expect: Expect = None) -> None:
        self._client, self._expect = client, expect
        self.request = request
        self.reply_type = reply_type
        self.reply: Message | Rerror | None = None

    @property
    def tag(self) -> int:
        """The request's tag."""
        return self.request.tag

    @property
    def done(self) -> bool:
        """Whether the reply is here; does not wait."""
        self._client.drain()
        return self.reply is not None

    def wait(self, timeout: float | None = None) -> Message | Rerror:
        """The reply, unjudged. Raises NoReply, HungUp, or Finding for a malformed reply."""
        return self.reply if self.reply is not None else self._client.wait(self, timeout)

    def result(self, expect: Expect = None, timeout: float | None = None) -> R:
        """The reply, judged: a Finding unless `expect`, here or with the request, allows it.

        If `expect` allows an errno and that errno came, the error reply is returned; see `errno`.
        """
        reply = self.reply if self.reply is not None else self._client.wait(self, timeout)
        expect = self._expect if expect is None else expect
        if expect is None and type(reply) is self.reply_type:
            return reply
        return cast(R, self._client.judged(self.request, reply, expect))

    def errno(self, expect: Expect = None, timeout: float | None = None) -> int:
        """The reply's errno, OK for success, judged as `result` does; without `expect` any is allowed."""
        reply = self.wait(timeout)
        if expect is not None:
            self._client.judged(self.request, reply, expect)
        return self._client.errno_of(reply)


_READ_AS_IT_GOES: Final = 64
"""From this many requests in flight on, replies are read while more are sent, as every client does: a server that
replies in order stops reading while its replies are not read."""


class Core:
    """Tags, requests in flight and judgement over one link."""

    def __init__(self, link: Link, *, reads_rerror: bool = False, timeout: float = TIMEOUT) -> None:
        """`reads_rerror`: accept type 107 as an error reply where one is allowed (a separate case judges it)."""
        self.link = link
        self.msize = 0
        """What Rversion said; 0 before it."""
        self.timeout = timeout
        self.transcript = Transcript()
        self.reads_rerror = reads_rerror
        self.deadline = float("inf")
        """The deadline of the case (time.monotonic)."""
        self.missing: Mapping[str, str] = {}
        """Messages that the server does not implement, and how it answered them: sending one ends the case."""
        self.unanswered = False
        """Whether a reply did not come in its time."""
        self.hung_up = False
        """Whether the server closed the connection."""
        self._waiting: dict[int, Pending[Message]] = {}
        self._next_tag = 0
        self._next_fid = 0

    # ---- numbers

    def tag(self) -> int:
        """A tag that no request in flight has."""
        for _ in range(NOTAG):
            self._next_tag = tag = (self._next_tag + 1) % NOTAG
            if tag not in self._waiting:
                return tag
        raise SuiteError("no tag is free: 65,535 requests are in flight")

    def fid(self) -> int:
        """A fid number that this client has not used yet."""
        self._next_fid += 1
        return self._next_fid

    # ---- requests

    def send(self, request: Message, *, again: bool = False) -> Pending[Message]:
        """Send `request` without waiting; its reply goes to the Pending that is returned.

        `again` permits a tag that is in flight: the earlier Pending then gets the first reply.
        """
        return self.send_as(request, reply_of(type(request)), again=again)

    def send_as(
        self, request: Message, reply_type: type[R], expect: Expect = None, *, again: bool = False
    ) -> Pending[R]:
        """Like `send`; the caller knows the type of the reply."""
        if self.missing:
            self.require_message(type(request).__name__)
        if len(self._waiting) >= _READ_AS_IT_GOES:
            self.drain()
        pending = Pending(self, request, reply_type, expect)
        tag = request.tag
        if tag in self._waiting and not again:
            raise SuiteError(f"tag {tag} is in flight already")
        if not again:
            self._waiting[tag] = cast(Pending[Message], pending)
        self.transcript.note(request)
        self._send(encode(request), request)
        return pending

    def require_message(self, name: str) -> None:
        """End the case (NeedsMessage) if the server does not implement the message of that name."""
        if (how := self.missing.get(name)) is not None:
            raise NeedsMessage(name, how)

    def _send(self, pieces: Sequence[Buffer], request: Message | None = None) -> None:
        asked = spell(request) if request is not None else "raw bytes"
        call = type(request).__name__ if request is not None else "raw"
        try:
            self.link.send(pieces)
        except LinkTimeout as error:
            self.unanswered = True
            raise NoReply(f"{asked} could not be sent: {error}", call) from None
        except LinkClosed as error:
            if request is None or not self.link_has_more():
                self.hung_up = True
                raise HungUp(f"{asked} could not be sent: {error}", call) from None

    def link_has_more(self) -> bool:
        """Whether replies that came before the end are still to be read."""
        try:
            return self.link.ready()
        except (LinkClosed, OSError, ValueError):
            return False

    def send_raw(self, frame: Buffer, remark: str = "") -> None:
        """Send bytes unchanged; only `remark` is remembered of them."""
        if len(frame) >= HDRSZ:
            self.require_message(type_name(frame[4]))
            self.transcript.counts[type_name(frame[4])] += 1
        self.transcript.remark(f"raw {remark or hexed(frame)}")
        self._send([frame])

    def burst(self, requests: Sequence[Message]) -> None:
        """Send all of them at once, without remembering their tags: `next_reply` returns the replies."""
        for request in requests:
            self.require_message(type(request).__name__)
            self.transcript.note(request)
        try:
            self.link.send_many([encode(request) for request in requests])
        except LinkTimeout as error:
            self.unanswered = True
            raise NoReply(f"{len(requests)} requests could not be sent: {error}", "burst") from None
        except LinkClosed as error:
            self.hung_up = True
            raise HungUp(f"{len(requests)} requests could not be sent: {error}", "burst") from None

    def ask(self, request: Message, expect: Expect = None, timeout: float | None = None) -> Message:
        """Send and wait; judged against `expect`."""
        return self.send(request).result(expect, timeout)

    def pipeline(self, requests: Iterable[Message], depth: int = 32) -> Iterator[Message | Rerror]:
        """Keep `depth` requests in flight; replies come in the order in which the server sends them.

        The caller's requests must hold tags from `range(depth)`, each free again when its reply was yielded;
        `renumbered` makes such. For measuring: replies are only checked to be replies.
        """
        link, source, flying = self.link, iter(requests), 0
        while True:
            batch = [encode(request) for request in islice(source, depth - flying)]
            if batch:
                link.send_many(batch)
                flying += len(batch)
            if not flying:
                return
            yield self._decoded(self._frame(self.timeout, None))
            flying -= 1
            while flying and link.ready():
                yield self._decoded(self._frame(self.timeout, None))
                flying -= 1

    # ---- replies

    def wait(self, pending: Pending[R], timeout: float | None = None) -> Message | Rerror:
        """The reply to `pending`; replies to others that come before it are kept for them."""
        limit = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        while pending.reply is None:
            self._dispatch(self._frame(max(deadline - time.monotonic(), 0.0), pending, limit))
        self.unanswered = False  # the late reply has arrived
        return pending.reply

    def drain(self) -> None:
        """Read the replies that have already arrived."""
        while self.link.ready():
            self._dispatch(self._frame(self.timeout, None))

    def silent(self, seconds: float) -> None:
        """Report a finding if anything at all comes within `seconds`."""
        try:
            frame = self.link.recv(seconds)
        except LinkTimeout:
            return
        except LinkClosed as error:
            raise HungUp(f"{error} where nothing was due") from None
        report(_malformed("an unexpected reply arrived", self._shown(frame)))

    def recv_frame(self, timeout: float | None = None) -> bytes | bytearray:
        """The next frame unchanged, whatever its tag. Raises NoReply, HungUp."""
        return self._frame(self.timeout if timeout is None else timeout, None)

    def next_reply(self, timeout: float | None = None) -> Message | Rerror:
        """The next reply, whatever its tag; the list of requests in flight does not change."""
        return self._decoded(self.recv_frame(timeout))

    def ended(self, seconds: float) -> bool:
        """Whether the server closes the connection within `seconds`; frames before that are ignored."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.transcript.remark(f"ignored: {self._shown(self.link.recv(left))}")
            except LinkTimeout:
                return False
            except LinkClosed:
                self.hung_up = True
                return True
        return False

    def settle(self, seconds: float) -> None:
        """Wait so many seconds for replies that the case did not wait for: if such a request kills the server, its own
        case is charged.
        """
        deadline = time.monotonic() + seconds
        with contextlib.suppress(LinkTimeout, LinkClosed, ProtocolError, OSError, ValueError):
            while self._waiting and (left := deadline - time.monotonic()) > 0:
                self._waiting.pop(header(self.link.recv(left)).tag, None)

    @property
    def outstanding(self) -> bool:
        """Whether a request is in flight that was neither answered nor forgotten."""
        return bool(self._waiting)

    def forget(self, pending: Pending[R]) -> None:
        """Expect no reply to `pending` any more."""
        self._waiting.pop(pending.tag, None)

    def _frame(self, timeout: float, pending: Pending[R] | None, limit: float | None = None) -> bytes | bytearray:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Finding("the case took longer than its limit", "slow")
        asked = spell(pending.request) if pending else "the requests in flight"
        call = type(pending.request).__name__ if pending else "burst"
        try:
            return self.link.recv(min(timeout, left))
        except LinkTimeout as error:
            self.unanswered = True
            if self._stopped():
                self.hung_up = True
                text = f"no request is served any more ({error}), and this interface has no way to ask for a reset"
                raise HungUp(f"{text}; waited for the reply to {asked}", call) from None
            raise NoReply(f"no reply to {asked} within {limit or timeout:.3g} s ({error})", call) from None
        except LinkClosed as error:
            self.hung_up = True
            raise HungUp(f"{error}; waited for the reply to {asked}", call) from None

    def _stopped(self) -> bool:
        """Whether a server that cannot close the connection has stopped serving: a request that every server answers at
        once decides it.
        """
        if self.link.reports_its_end:
            return False
        probe, deadline = Tflush(self.tag(), NOTAG), time.monotonic() + _STOPPED
        with contextlib.suppress(LinkTimeout, LinkClosed):
            self.link.send(encode(probe))
            while (tag := header(frame := self.link.recv(deadline - time.monotonic())).tag) != probe.tag:
                if tag in self._waiting:
                    self._dispatch(frame)
            return False
        return True

    def _dispatch(self, frame: bytes | bytearray) -> None:
        reply = self._decoded(frame)
        waiting = self._waiting.pop(reply.tag, None)
        if waiting is None:
            raise _malformed("a reply with a tag that no request in flight has", spell(reply), f"tag {reply.tag}")
        waiting.reply = reply
        if type(reply) is waiting.reply_type or type(reply) is Rlerror or type(reply) is Rerror:
            return
        asked = spell(waiting.request)
        raise _malformed(f"a reply of another type than {waiting.reply_type.__name__}", spell(reply), f"to {asked}")

    def _decoded(self, frame: bytes | bytearray) -> Message | Rerror:
        if self.msize and len(frame) > self.msize:
            sizes = f"{len(frame)} bytes, where msize is {self.msize}"
            raise _malformed("a reply longer than msize", self._shown(frame), sizes)
        try:
            reply: Message | Rerror = decode(frame)
        except ProtocolError as error:
            seen = _rerror(frame)
            if seen is None:
                self.transcript.remark(f"no message: {hexed(frame)}")
                raise _malformed("a reply that is not a 9P2000.L message", hexed(frame), str(error)) from None
            reply = seen
        self.transcript.note(reply)
        return reply

    def _shown(self, frame: bytes | bytearray) -> str:
        try:
            return spell(decode(frame))
        except ProtocolError:
            seen = _rerror(frame)
            return spell(seen) if seen else hexed(frame)

    # ---- judgement

    def judged(self, request: Message, reply: Message | Rerror, expect: Expect) -> Message | Rerror:
        """`reply`, reported as a finding unless `expect` allows it; an error where only success is allowed is raised,
        because the case needs the success."""
        seen = self.errno_of(reply, request)
        if seen not in allowed(expect):
            wrong = WrongAnswer(request, reply, seen, expect)
            if allowed(expect) == {OK}:
                raise wrong
            report(wrong)
        return reply

    def errno_of(self, reply: Message | Rerror, request: Message | None = None) -> int:
        """OK, or the errno that an error reply carries."""
        if isinstance(reply, Rerror):
            if not self.reads_rerror:
                asked = f"to {spell(request)}" if request is not None else ""
                what = "an error of type 107 (Rerror), which 9P2000.L does not have, and not of type 7 (Rlerror)"
                raise _malformed(what, spell(reply), asked)
            return reply.errno
        return reply.ecode if type(reply) is Rlerror else OK

    def close(self) -> None:
        """Close the connection."""
        self.link.close()


def _malformed(what: str, seen: str, detail: str = "") -> Finding:
    text = f"{what}{f' ({detail})' if detail else ''}: {seen}"
    return Finding(text, "reply", {"what": what, "seen": seen.partition("(")[0]})


def _rerror(frame: bytes | bytearray) -> Rerror | None:
    """The frame as an error of type 107, in one of the forms that servers have sent."""
    if len(frame) < HDRSZ or (head := header(frame)).type != Rerror.type or head.size != len(frame):
        return None
    body = bytes(frame[HDRSZ:])
    if len(body) == 4:
        return Rerror(head.tag, _ERRNO.unpack(body)[0], b"")
    if len(body) >= 2:
        said = int.from_bytes(body[:2], "little")
        ename, rest = body[2 : 2 + said], body[2 + said :]
        if len(ename) == said and len(rest) in (0, 4):
            return Rerror(head.tag, _ERRNO.unpack(rest)[0] if rest else OK, ename)
    return None


def type_name(number: int) -> str:
    """`Tlopen` for 12; `type 200` for a number that 9P2000.L does not have."""
    return BY_TYPE[number].__name__ if number in BY_TYPE else f"type {number}"
