"""The ring layer's fixture: one virtio device, and memory that is checked after every case.

`conformance.run.ring` keeps the device. Rule of this module: it contains no requirement on devices; those are in the
cases.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pytest

from conformance.checks import report, require
from conformance.errors import Finding, SuiteError, TargetDied, Undrivable
from conformance.raw.expectation import spell
from conformance.raw.findings import NoReply
from conformance.raw.guarded_memory import WatchedMemory
from conformance.raw.operations import UNAME
from conformance.raw.server import DeviceSession
from conformance.virtio.device import Device, DeviceGone, RingTimeout
from conformance.virtio.driver import PLAIN, go, largest_queue, make_queue, negotiate
from conformance.virtio.queues import BadUsed, PackedQueue, Segment, SplitQueue, Used
from protocol.codec import ProtocolError, decode, frame
from protocol.constants import GETATTR_BASIC, NOFID, NOTAG
from protocol.messages import Rattach, Rgetattr, Rlerror, Rversion, Tattach, Tgetattr, Tversion
from protocol.registry import Message
from protocol.virtqueue import (
    AVAIL_RING,
    DESC_NEXT,
    DESC_SIZE,
    DESC_WRITE,
    Descriptor,
    Feature,
    used_bytes,
)

ANSWER = 10.0
"""Seconds that a device has for one request."""
QUIET = 0.15
"""Seconds that an idle device is watched for forbidden actions."""
_LOOK = 0.05
"""Seconds after which a sound request is sent behind an illegal one that has had no effect yet."""
DYING = 0.3
"""Seconds that a process may need to end after it closed the connection."""
UNSHOWN = 1.0
"""Seconds that a device has for the sound request behind an illegal chain where its driver cannot see that it needs a
reset. One that needs longer is taken for one that has stopped."""
_GAP = 48
"""Bytes between two buffers, which must stay as they are."""
ROOT = 1
"""The fid that `Ring.session` attaches."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The device's reaction to an illegal chain."""

    kind: str
    """`broken` (NEEDS_RESET), `returned` (used, nothing written), `refused` (used with an Rlerror), `processed` (used
    with any other reply), or `ignored`: none of these until the time was over."""
    used: tuple[Used, ...] = ()
    reply: bytes = b""


class Ring:
    """One case's view of a device."""

    def __init__(self, owner: DeviceSession, device: Device, seconds: float) -> None:
        self._owner = owner
        self.device = device
        self.memory = WatchedMemory(device.memory)
        self.features = 0
        self.lines: list[str] = []
        """What was done, for the report."""
        self.deadline = time.monotonic() + seconds
        self.msize = 8192
        self._queue: SplitQueue | PackedQueue | None = None
        self._next = self.memory.base
        self._tag = 0

    # ---- set-up

    @property
    def tag(self) -> bytes | None:
        """The mount tag that the device was given, if known."""
        return self._owner.device_server().tag

    @property
    def queue(self) -> SplitQueue | PackedQueue:
        """The request queue."""
        if self._queue is None:
            self.start()
        if self._queue is None:
            raise SuiteError("a device was started without its queue")
        return self._queue

    @property
    def split(self) -> SplitQueue:
        """The request queue, which is split."""
        queue = self.queue
        if not isinstance(queue, SplitQueue):
            raise Undrivable("the case writes a split ring by hand")
        return queue

    def start(self, wanted: int = PLAIN, size: int | None = None) -> None:
        """Reset, negotiate and start the queue. Undrivable if the device does not offer all of `wanted`."""
        self.negotiate(wanted)
        self.start_queue(size)
        go(self.device)

    def negotiate(self, wanted: int) -> int:
        """Reset and negotiate; the features agreed."""
        offered = self.device.offered()
        missing = [f.name for f in Feature if f.mask & wanted & ~offered and f is not Feature.VERSION_1]
        if missing:
            raise Undrivable(f"the device does not offer {', '.join(missing)}")
        if not wanted & Feature.VERSION_1.mask and not self.device.legacy:
            wanted |= Feature.VERSION_1.mask
        self.features = negotiate(self.device, wanted)
        self.note(f"features {self.features:#x} of {offered:#x}")
        return self.features

    def start_queue(self, size: int | None = None) -> SplitQueue | PackedQueue:
        """The request queue, with new rings."""
        size = largest_queue(self.device, 128) if size is None else size
        at = self.take(max(DESC_SIZE * size * 2 + 8 * size + 8192, 0), align=4096)
        queue = make_queue(self.device, self.features, size, at, self.memory)
        if isinstance(queue, SplitQueue):
            self.memory.allow(queue.rings.device, used_bytes(size))
        else:
            self.memory.allow(queue.rings.descriptors, DESC_SIZE * size)
            self.memory.allow(queue.rings.device, 4)
        queue.start()
        self._queue = queue
        self.note(f"queue of {size} at {at:#x}, {'split' if isinstance(queue, SplitQueue) else 'packed'}")
        return queue

    def restart(self) -> None:
        """Reset, with memory as at a case's beginning; what the device has written so far is checked first."""
        self.device.reset()
        if (trespass := self.memory.trespass()) is not None:
            report(trespassed(trespass))
        self._fresh()

    def _fresh(self) -> None:
        self.memory = WatchedMemory(self.device.memory)
        self._next, self._queue = self.memory.base, None

    def death(self, gone: DeviceGone) -> str:
        """How the device died, in words, if more is known than in `gone`."""
        time.sleep(DYING)
        return self._owner.server.death() or str(gone)

    def revive(self) -> None:
        """Restart a dead device, for a case that continues in order to find out what killed it."""
        self._owner.recover()
        self.device = self._owner.device_server().device()
        self.device.reset()
        self._fresh()

    # ---- memory

    def take(self, length: int, align: int = 1) -> int:
        """The address of unused memory, with a gap before and after it."""
        at = -(-(self._next + _GAP) // align) * align
        if at + length + _GAP > self.memory.base + self.memory.size:
            raise Undrivable("the case needs more memory than the device shares")
        self._next = at + length
        return at

    def free_all(self) -> None:
        """Allow new buffers in place of earlier ones; the rings stay."""
        queue = self.queue
        self._next = queue.rings.descriptors + queue.length

    def readable(self, data: bytes, align: int = 1) -> Segment:
        """A piece of a request."""
        at = self.take(len(data), align)
        self.memory.write(at, data)
        return Segment(at, len(data))

    def writable(self, length: int, align: int = 1) -> Segment:
        """Room for a reply."""
        at = self.take(length, align)
        self.memory.allow(at, length)
        return Segment(at, length, True)

    def table(self, entries: int) -> int:
        """Room for an indirect table."""
        return self.take(DESC_SIZE * entries, align=16)

    # ---- requests

    def number(self) -> int:
        """A tag for a request."""
        self._tag = self._tag % 60000 + 1
        return self._tag

    def getattr(self) -> bytes:
        """A request for a running session, in bytes."""
        return frame(Tgetattr(self.number(), ROOT, GETATTR_BASIC))

    def chain(self, request: bytes, room: int = 4096) -> list[Segment]:
        """The plainest chain: the request, then room for the reply."""
        return [self.readable(request), self.writable(room)]

    def send(self, chain: Sequence[Segment], table: int | None = None) -> int:
        """Make one chain available and notify the device; its head."""
        head = self.queue.add(chain, table)
        self.queue.publish()
        self.queue.kick()
        return head

    def exchange(self, chain: Sequence[Segment], table: int | None = None) -> bytes:
        """Send one chain and wait. Returns as many bytes as the device says that it wrote."""
        return self.reply_in(chain, self.wait(self.send(chain, table)))

    def wait(self, head: int, timeout: float = ANSWER) -> Used:
        """The used element of that chain, when no other is in flight. Raises Finding."""
        found = self.collect(timeout)
        seen = [used.id for used in found]
        require(f"the device uses chain {head}, which alone is in flight", seen == [head], seen=seen, code="ring")
        return found[0]

    def collect(self, timeout: float = ANSWER) -> list[Used]:
        """The next used elements. Raises Finding if there are none, or if they are invalid."""
        if time.monotonic() > self.deadline:
            raise Finding("the case took longer than its limit", "slow")
        try:
            return self.queue.collect(timeout)
        except RingTimeout as error:
            if self.device.broken():
                text = "the device asks for a reset (DEVICE_NEEDS_RESET) where it must serve a sound request"
                raise Finding(text, "ring", {"what": "a sound request", "seen": "needs reset"}) from None
            raise NoReply(f"the device uses no buffer: {error}", "a sound request") from None
        except BadUsed as error:
            raise Finding(str(error), "ring", {"what": "used ring"}) from None

    def reply_in(self, chain: Sequence[Segment], used: Used) -> bytes:
        """The reply in a chain. Raises Finding if the used length exceeds the chain's room."""
        room = [segment for segment in chain if segment.writable]
        most = sum(segment.length for segment in room)
        require(
            f"used length is at most the {most} bytes that the chain has room for",
            used.length <= most,
            seen=used.length,
            code="ring",
        )
        data = b"".join(self.memory.read_many([(segment.address, segment.length) for segment in room]))
        return data[: used.length]

    def decoded(self, reply: bytes) -> Message:
        """The message in it; its size field must be the used length. Raises Finding."""
        try:
            message = decode(reply)
        except ProtocolError as error:
            text = f"the reply of {len(reply)} bytes is not a message: {error}: {reply[:32].hex(' ')}"
            raise Finding(text, "reply", {"what": "reply"}) from None
        self.note(spell(message))
        return message

    def ask(self, request: Message, room: int = 4096) -> Message:
        """Send a message in the plainest chain; the reply."""
        self.note(spell(request))
        return self.decoded(self.exchange(self.chain(frame(request), room)))

    def session(self, msize: int = 8192) -> None:
        """Negotiate 9P2000.L and attach the root as ROOT. Raises Finding."""
        reply = self.ask(Tversion(NOTAG, msize, b"9P2000.L"))
        if not isinstance(reply, Rversion) or reply.version != b"9P2000.L":
            text = f"Tversion was answered with {spell(reply)}, expected Rversion with 9P2000.L"
            raise Finding(text, "reply", {"call": "Tversion"})
        self.msize = reply.msize
        attached = self.ask(Tattach(self.number(), ROOT, NOFID, UNAME, self._owner.server.aname, 0))
        if not isinstance(attached, Rattach):
            text = f"Tattach was answered with {spell(attached)}, expected Rattach"
            raise Finding(text, "reply", {"call": "Tattach"})

    def serves(self) -> None:
        """A plain request on the running session gets the right reply. Raises Finding."""
        self.right(self.exchange(self.chain(self.getattr())))

    @property
    def last_tag(self) -> int:
        """The tag of the last request."""
        return self._tag

    def right(self, reply: bytes, tag: int | None = None) -> Rgetattr:
        """Check the reply to the `getattr` with that tag, or to the last one. Raises Finding."""
        tag = self._tag if tag is None else tag
        message = self.decoded(reply)
        if not isinstance(message, Rgetattr) or message.tag != tag:
            text = f"Tgetattr with tag {tag} was answered with {spell(message)} and tag {message.tag}"
            raise Finding(f"{text}, expected Rgetattr with its tag", "reply", {"call": "Tgetattr"})
        return message

    # ---- what no driver may do

    def outcome(self, chain: Sequence[Segment] = (), wait: float = QUIET) -> Outcome:
        """The device's reaction, within that time, to the last published chain. Raises TargetDied if it dies."""
        used = self._next_used(time.monotonic() + wait)
        return used if isinstance(used, Outcome) else self._judged(chain, used)

    def _next_used(self, deadline: float) -> list[Used] | Outcome:
        """The next used element, or the outcome if the device is broken or uses nothing until the deadline."""
        while True:
            try:
                used = self.queue.peek()
            except BadUsed as error:
                if self.device.broken():
                    return Outcome("broken")
                raise Finding(str(error), "ring", {"what": "used ring"}) from None
            if used:
                return used
            if self.device.broken():
                return Outcome("broken")
            if (death := self._owner.server.death()) is not None:
                raise TargetDied(death, values={"how": death})
            if time.monotonic() > deadline:
                return Outcome("ignored")
            time.sleep(0.003)

    def _judged(self, chain: Sequence[Segment], used: list[Used]) -> Outcome:
        if not any(element.length for element in used):
            return Outcome("returned", tuple(used))
        reply = self.reply_in(chain, used[0]) if chain else b""
        kind = "refused" if self._is_error(reply) else "processed"
        return Outcome(kind, tuple(used), reply)

    @staticmethod
    def _is_error(reply: bytes) -> bool:
        try:
            return isinstance(decode(reply), Rlerror)
        except ProtocolError:
            return False

    def fate(self, chain: Sequence[Segment] = ()) -> Outcome:
        """The device's reaction to a published illegal chain, and whether it serves others after it.

        `ignored` is never concluded from silence alone: a valid request is sent after the chain. If the device answers
        that and does not use the chain in the same time again, it has ignored the chain. Raises Finding if the device
        serves no others and does not ask for a reset, TargetDied if it dies.
        """
        seen = self.outcome(chain, _LOOK)
        if seen.kind == "broken":
            self.note("the device: broken")
            return seen
        begun, patience = time.monotonic(), ANSWER if self.device.shows_reset else UNSHOWN
        head, behind = self._behind()
        served = None
        while served is None:
            used = self._next_used(begun + patience)
            if isinstance(used, Outcome):
                if used.kind == "ignored":
                    return self._stopped(seen, patience)
                seen = seen if seen.kind == "processed" else used
                break
            served = next((one for one in used if one.id == head), None)
            if others := [one for one in used if one.id != head]:
                seen = self._judged(chain, others)
        if served is not None:
            if seen.kind == "ignored":
                seen = self.outcome(chain, max(2 * (time.monotonic() - begun), QUIET))
            if seen.kind != "broken":
                self.right(self.reply_in(behind, served))
        self.note(f"the device: {seen.kind}")
        return seen

    def _stopped(self, seen: Outcome, waited: float) -> Outcome:
        """The device has stopped: allowed through the legacy interface, which has no other way to ask for a reset."""
        self.note("the device: stopped serving")
        if not self.device.legacy:
            text = f"the illegal chain was {seen.kind}, and a valid one after it is not served for {waited:g} s"
            why = (
                "the device does not ask for a reset" if self.device.shows_reset else "no need of a reset is shown here"
            )
            report(NoReply(f"{text}; {why}", "a sound request"))
        return seen

    def _behind(self) -> tuple[int, list[Segment]]:
        """Publish a valid request after the earlier chains: returns its head and its chain."""
        chain = self.chain(self.getattr())
        queue = self.queue
        if not isinstance(queue, SplitQueue):
            head = queue.add(chain)
        else:  # in the table's last two entries, which no illegal chain uses: those before may be in use
            head = queue.size - 2
            queue.put(head, Descriptor(chain[0].address, chain[0].length, DESC_NEXT, head + 1))
            queue.put(head + 1, Descriptor(chain[1].address, chain[1].length, DESC_WRITE, 0))
            queue.adopt(head)
            queue.offer(head)
        queue.publish()
        queue.kick()
        return head, chain

    def refused(self, chain: Sequence[Segment] = ()) -> Outcome:
        """The reaction to an illegal chain (`fate`); reports a finding if it was processed like a legal one."""
        seen = self.fate(chain)
        if seen.kind == "processed":
            values = {"what": "an illegal chain", "seen": "processed", "expected": "refused"}
            report(Finding(f"the device processed an illegal chain: {seen.reply[:32].hex(' ')}", "ring", values))
        return seen

    def used_count(self, enough: int, still: float = QUIET) -> int:
        """By how much used.idx has advanced once it has advanced by `enough` and then stopped for `still` seconds, or
        once the device is broken. Used elements are not collected. At most ANSWER seconds.
        """
        address, begun = self.split.rings.device + 2, self.split.seen
        last, deadline = begun, time.monotonic() + ANSWER
        while True:
            try:
                last = self.memory.wait16(address, last, still)
            except RingTimeout:
                count = (last - begun) & 0xFFFF
                if count >= enough or self.device.broken() or time.monotonic() > deadline:
                    return count

    def note(self, text: str) -> None:
        """Keep a line for the report."""
        if len(self.lines) < 400:
            self.lines.append(text)

    def heads_at(self, index: int) -> int:
        """Address of the available ring's entry for a running index."""
        return self.split.rings.driver + AVAIL_RING + 2 * (index % self.split.size)


def trespassed(what: str) -> Finding:
    """The finding for a device that wrote where it must not."""
    return Finding(what, "ring", {"what": "memory", "seen": "written", "expected": "untouched"})


@pytest.fixture
def ring() -> Ring:
    """The device as a case sees it; replaced by the real one when the case is called."""
    return cast(Ring, None)
