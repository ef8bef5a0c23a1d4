"""The virtio 9P device: requests from its queues to a session, replies back into guest memory.

The rule of this module: whatever a driver does ends in a reply or in NEEDS_RESET with a log line that names the rule,
never in an exception; and nothing is written to guest memory once its queue has stopped.

One thread runs the queues and changes the device; the session's workers answer from their own threads, under the
device's lock.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable, Sequence
from typing import cast

from protocol.constants import EMSGSIZE, HDRSZ, RREAD_HDRSZ
from protocol.fields import Buffer
from protocol.messages import Rlerror, Rversion, Twrite
from protocol.virtqueue import Feature, Status, config_space
from reference_server.outlets import Outlet
from reference_server.pool import Pool
from reference_server.session import Session, Work
from reference_server.storage import Pieces
from reference_server.virtio.memory import Broken, GuestMemory
from reference_server.virtio.patience import Patience
from reference_server.virtio.rings import Chain, InOrder, PackedRing, Ring, RingAddress, SplitRing

log = logging.getLogger("reference_server")

QUEUES = 16
"""The number of request queues offered.  9P drivers use the first; all of them lead to one session."""
OFFERED = (
    Feature.MOUNT_TAG.mask
    | Feature.ANY_LAYOUT.mask
    | Feature.INDIRECT_DESC.mask
    | Feature.EVENT_IDX.mask
    | Feature.VERSION_1.mask
    | Feature.RING_PACKED.mask
    | Feature.IN_ORDER.mask
)
"""The features that a driver may accept."""
_SCATTERED = 4096
"""A Twrite beyond this many bytes is written from where it lies; less is cheaper to copy."""
_WRITE_HEAD = struct.Struct("<IBHIQI")
_BATCH = 512
"""Requests that one queue is served before the front end and the other queues are looked at again."""
_SIGNAL_EVERY = 32
"""Replies after which the driver is notified while more requests wait."""
_DRAIN = 10.0
"""Seconds that stopping a queue waits for requests under way, before they are given up."""
_RLERROR = struct.Struct("<IBHI")


class Queue:
    """One virtqueue, as configured by the transport."""

    def __init__(self, index: int, signal: Callable[[Queue], None]) -> None:
        self.index = index
        self.size = 0
        self.at: RingAddress | None = None
        self.base = 0
        self.enabled = False
        self.ring: Ring | None = None
        """While it runs."""
        self.signal = signal


class _Answer:
    """The outlet of one request: its chain's writable part."""

    __slots__ = ("chain", "device", "queue", "ring", "tag", "worked")

    def __init__(self, device: Device, queue: Queue, ring: Ring, chain: Chain) -> None:
        self.device = device
        self.queue = queue
        self.ring = ring
        self.chain = chain
        self.tag = 0
        self.worked = False
        """Whether a worker has it."""

    def payload(self, count: int) -> Sequence[memoryview]:
        """Guest memory after the place of the header."""
        found: list[memoryview] = []
        skip = RREAD_HDRSZ
        for view in self.chain.writable:
            length = len(view)
            if skip >= length:
                skip -= length
                continue
            found.append(view[skip : skip + count] if skip or count < length else view)
            count -= len(found[-1])
            skip = 0
            if not count:
                break
        return found

    def send(self, buffers: list[Buffer]) -> None:
        """Put the frame into guest memory."""
        self.device.answer(self, buffers[0] if len(buffers) == 1 else b"".join(buffers), 0)

    def send_placed(self, head: bytes, count: int) -> None:
        """Put the header before the data."""
        self.device.answer(self, head, count)

    def later(self) -> Outlet:
        """The chain stays valid until it is answered: the same outlet."""
        self.device.late.add(self)
        return self


class Device:
    """One device with its tag."""

    def __init__(self, name: str, tag: bytes, make_session: Callable[[], Session], busy_poll: float = 0.0) -> None:
        """``busy_poll``: seconds (:class:`Patience`). Raises ValueError for an invalid tag."""
        self.name = name
        self.config = config_space(tag)
        self.features = 0
        self.status = 0
        self.broken = False
        self.memory = GuestMemory()
        self.when_broken: Callable[[], None] = lambda: None
        self.late: set[_Answer] = set()
        """Requests under way beyond the thread that runs the queues."""
        self.queues = [Queue(index, lambda _queue: None) for index in range(QUEUES)]
        self._patience = Patience(busy_poll)
        self._make_session = make_session
        self._session = make_session()
        self._pool = Pool(self._session.limits.workers, f"9p-{self._session.number}")
        self._used = False
        self._lock = threading.RLock()
        self._fewer = threading.Condition(self._lock)
        self._queued = 0

    # --- what the driver, or the transport for it, does ---------------------------------------------

    def accept(self, features: int) -> None:
        """Accept the driver's choice. Raises Broken if it was not offered. Clears the broken state of a device without
        running queues.
        """
        if not any(queue.ring for queue in self.queues):
            self.broken = False
        if features & ~OFFERED:
            raise Broken(f"features {features & ~OFFERED:#x} were accepted and not offered (2.2)")
        self.features = features

    def set_memory(self, memory: GuestMemory) -> None:
        """Set another memory map; running queues continue in it. Raises Broken if they are not in it."""
        running = [queue for queue in self.queues if queue.ring]
        for queue in running:
            self.stop(queue)
        self.memory = memory
        for queue in running:
            self.start(queue)

    def start(self, queue: Queue) -> None:
        """Run ``queue`` from its base.  A fault of its layout breaks the device."""
        if queue.at is None or queue.ring is not None:
            return
        try:
            make = PackedRing if self.features & Feature.RING_PACKED.mask else SplitRing
            ring: Ring = make(self.memory, queue.size, queue.at, self.features, queue.base)
        except Broken as error:
            self.fail(str(error))
            return
        queue.ring = InOrder(ring) if self.features & Feature.IN_ORDER.mask else ring

    def stop(self, queue: Queue) -> int:
        """Stop ``queue`` once its requests are answered, and return its base."""
        ring = queue.ring
        if ring is None:
            return queue.base
        with self._fewer:
            done = self._fewer.wait_for(lambda: not any(one.queue is queue for one in self.late), _DRAIN)
        if not done:
            log.warning("%s: queue %d stopped with requests under way", self.name, queue.index)
            self.new_session()
        with self._lock:
            queue.ring = None
            queue.base = ring.base()
        return queue.base

    def fresh(self) -> None:
        """A driver starts over, with a new session."""
        if self._used and not any(queue.ring for queue in self.queues):
            self.new_session()

    def reset(self) -> None:
        """Device reset (2.4): the driver's state is gone, and nothing more is written to its memory."""
        rings = [queue for queue in self.queues if queue.ring]
        with self._lock:
            for queue in rings:
                queue.ring = None
        for queue in self.queues:
            queue.enabled = False
            queue.base = 0
            queue.at = None
        self.new_session()
        self.features = self.status = 0
        self.broken = False

    def new_session(self) -> None:
        """Abandon every request in progress, and every fid."""
        self._session.close()
        self._pool.close()
        with self._lock:
            for left in list(self.late):
                self._give_back(left)
            self._queued = 0
        self._session = self._make_session()
        self._pool = Pool(self._session.limits.workers, f"9p-{self._session.number}")
        self._used = False

    def close(self) -> None:
        """Release everything; the device cannot be used again."""
        self.reset()
        self._session.close()
        self._pool.close()
        self.memory = GuestMemory()

    def fail(self, rule: str) -> None:
        """The driver broke ``rule``: the device needs a reset (2.1.2)."""
        with self._lock:
            if self.broken:
                return
            self.broken = True
            self.status |= Status.NEEDS_RESET
        log.error("%s: the device needs a reset: %s", self.name, rule)
        self.when_broken()

    # --- serving ------------------------------------------------------------------------------------

    def run(self, queue: Queue) -> bool:
        """Serve the available chains of ``queue``. Returns whether there may be more at once."""
        ring = queue.ring
        if ring is None or not queue.enabled or self.broken:
            return False
        more = False
        self._patience.woken()
        try:
            more = self._run(queue, ring)
        except Broken as error:
            self.fail(str(error))
        except Exception as error:  # noqa: BLE001 - one device's fault must not end the others
            self._session.health.report(queue, error)
            self.fail(f"an unexpected exception: {error!r}")
        self._signal(queue, ring)
        return more

    def _run(self, queue: Queue, ring: Ring) -> bool:
        ring.want_kicks(False)
        left = _BATCH
        while left:
            chain = ring.pop()
            if chain is None:
                if left < _BATCH and not self.late:  # busy workers need the interpreter lock
                    self._signal(queue, ring)
                    if self._patience.sees(ring.more):
                        left = max(1, left - _SIGNAL_EVERY)
                        continue
                ring.want_kicks(True)
                if not ring.more():
                    return False
                ring.want_kicks(False)
                continue
            self._serve(queue, ring, chain)
            if self.broken:
                return False
            left -= 1
            if not left % _SIGNAL_EVERY:
                self._signal(queue, ring)
        return True

    def _signal(self, queue: Queue, ring: Ring) -> None:
        with self._lock:
            wanted = ring.must_signal()
        if wanted:
            queue.signal(queue)

    def _serve(self, queue: Queue, ring: Ring, chain: Chain) -> None:
        session = self._session
        self._used = True
        readable = chain.readable
        size = len(readable[0]) if len(readable) == 1 else sum(map(len, readable))
        if size < HDRSZ:
            raise Broken(f"a request of {size} bytes has no header")
        answer = _Answer(self, queue, ring, chain)
        if size > _SCATTERED:
            head = _first(readable, _WRITE_HEAD.size)
            answer.tag = head[5] | head[6] << 8
            if size > session.msize:
                session.refuse(answer.tag, EMSGSIZE, answer)
                return
            if head[4] == Twrite.type and not session.observed:
                said, _type, tag, fid, offset, count = _WRITE_HEAD.unpack(head)
                if said == size and count == size - len(head):
                    data = cast(Buffer, Pieces(_behind(readable, len(head))))
                    request = Twrite(tag, fid, offset, data)
                    work = session.receive(memoryview(head), answer, ring.more(), lambda _frame: request)
                    self._take(work, answer, 0)
                    return
        # A copy, so that what was checked is what is used: the guest may write there meanwhile.
        frame = memoryview(readable[0].tobytes() if len(readable) == 1 else b"".join(readable))
        answer.tag = frame[5] | frame[6] << 8
        work = session.receive(frame, answer, ring.more())
        if work is not None:
            self._take(work, answer, size)

    def _take(self, work: Work | None, answer: _Answer, size: int) -> None:
        """Let a worker run ``work``, if there is any. ``size`` is its use of our own memory."""
        if work is None:
            return
        answer.worked = True
        most = self._session.limits.queued_bytes
        with self._fewer:
            self._fewer.wait_for(lambda: not self._queued or self._queued + size <= most)
            self._queued += size

        def job() -> float | None:
            delay = work.run()
            if delay is None:
                with self._fewer:
                    self._queued -= size
                    self._give_back(answer)
                    self._fewer.notify_all()
            return delay

        self._pool.submit(job)

    def _give_back(self, answer: _Answer) -> None:
        """Return a chain that will not be answered (its request was flushed) with nothing written.  Lock held."""
        if answer in self.late:
            self._finish(answer, 0)

    def answer(self, answer: _Answer, data: Buffer, placed: int) -> None:
        """Put ``data`` at the beginning of the reply, whose next ``placed`` bytes are already there. Thread-safe."""
        with self._lock:
            if answer.queue.ring is not answer.ring:
                self._forget(answer)
                return
            size = len(data)
            first = answer.chain.writable[0]
            if size <= len(first):
                first[:size] = data
            elif not _scatter(answer.chain.writable, data):
                error = _RLERROR.pack(_RLERROR.size, Rlerror.type, answer.tag, EMSGSIZE)
                if not _scatter(answer.chain.writable, error):
                    self.fail(f"room for a reply of {sum(map(len, answer.chain.writable))} bytes, not even an error's")
                    self._forget(answer)
                    return
                size, placed = len(error), 0
            if data[4] == Rversion.type:
                # A flush that waited for a request of the old session gets no reply.
                for left in [one for one in self.late if one is not answer and not one.worked]:
                    self._give_back(left)
            self._finish(answer, size + placed)

    def _finish(self, answer: _Answer, written: int) -> None:
        ring = answer.ring
        late = answer in self.late
        if answer.queue.ring is ring:
            answer.chain.written = written
            ring.push(answer.chain)
            if late and ring.must_signal():
                answer.queue.signal(answer.queue)
        if late:
            self._forget(answer)

    def _forget(self, answer: _Answer) -> None:
        self.late.discard(answer)
        self._fewer.notify_all()


def _first(views: list[memoryview], count: int) -> bytes:
    """The first ``count`` bytes of ``views``."""
    found = bytes(views[0][:count])
    for view in views[1:]:
        if len(found) == count:
            break
        found += view[: count - len(found)]
    return found


def _behind(views: list[memoryview], count: int) -> list[memoryview]:
    """``views`` without their first ``count`` bytes."""
    for at, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[at + 1 :]]
        count -= len(view)
    return []


def _scatter(views: list[memoryview], data: Buffer) -> bool:
    """Put ``data`` at the beginning of ``views``; false, without writing, if they are too small."""
    left = memoryview(data)
    if sum(map(len, views)) < len(left):
        return False
    for view in views:
        count = min(len(view), len(left))
        view[:count] = left[:count]
        left = left[count:]
        if not left:
            break
    return True
