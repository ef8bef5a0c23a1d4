"""Raw 9P frames over a virtqueue: the `Link` of every transport to a virtio device."""

from __future__ import annotations

import contextlib
import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence

from conformance.errors import SuiteError, Undrivable
from conformance.transports.base import Capability, Link, LinkClosed, LinkTimeout
from conformance.virtio.device import Device, DeviceGone, RingTimeout
from conformance.virtio.driver import PAGE, PLAIN, bring_up
from conformance.virtio.queues import BadUsed, Segment, SplitQueue, Used
from protocol.constants import HDRSZ
from protocol.fields import Buffer
from protocol.messages import Rversion, Tversion

_MSIZE = struct.Struct("<I")
_LEAST = 4096
"""Room for a reply while no msize is agreed: everything but Rversion is an error then."""
_DEPTH = 64
_AT_ONCE = 0.001
_FIRST_LOOK = 0.1
"""Seconds of waiting after which the device is first asked whether it is broken; each further time after twice as long.
"""
_HEAD = 192
"""Bytes of a reply that are read unasked, where that saves a step: most replies are shorter."""


class _Pool:
    """Blocks of device memory, by powers of two; a released block is reused for the same size."""

    def __init__(self, base: int, end: int) -> None:
        self._base, self._end, self._next = base, end, base
        self._kept: dict[int, list[int]] = {}
        self.out = 0

    def take(self, length: int) -> tuple[int, int] | None:
        """(address, size class) of a block that holds `length` bytes, or None if there is none now."""
        kind = max(length - 1, 63).bit_length()
        kept = self._kept.get(kind)
        if kept:
            self.out += 1
            return kept.pop(), kind
        if self._next + (1 << kind) > self._end:
            if self.out:
                return None
            self._next, self._kept = self._base, {}
            if self._next + (1 << kind) > self._end:
                return None
        address, self._next = self._next, self._next + (1 << kind)
        self.out += 1
        return address, kind

    def give(self, address: int, kind: int) -> None:
        """Release a block."""
        self.out -= 1
        self._kept.setdefault(kind, []).append(address)


class RingLink(Link):
    """Frames over queue 0 of one device, which has one session: making a link resets it."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, device: Device, *, wanted: int = PLAIN, send_timeout: float = 10.0) -> None:
        """Raises DeviceGone, Finding."""
        self.name = device.name
        self._device, self._memory = device, device.memory
        self.reports_its_end = device.shows_reset
        at = -(-self._memory.base // PAGE) * PAGE
        self.features, self._queue = bring_up(device, at, wanted=wanted, keep=True)
        first = -(-(at + self._queue.length) // PAGE) * PAGE
        self._pool = _Pool(first, self._memory.base + self._memory.size)
        self.largest = 1 << ((self._memory.size - (first - at)).bit_length() - 3)
        self.depth = min(self._queue.size // 2, _DEPTH)
        self._reply_room = _LEAST
        self._send_timeout = send_timeout
        self._flying: dict[int, tuple[int, int, int, int]] = {}
        self._inbox: deque[bytes] = deque()
        self._closed = False

    # ---- sending

    def send(self, frame: Sequence[Buffer]) -> None:
        self.send_many([frame])

    def send_many(self, frames: Sequence[Sequence[Buffer]]) -> None:
        self._open()
        try:
            deadline = time.monotonic() + self._send_timeout
            for frame in frames:
                self._add(frame[0] if len(frame) == 1 else b"".join(frame), deadline)
            self._queue.publish()
            self._queue.kick()
        except DeviceGone as error:
            raise LinkClosed(str(error)) from None

    def send_in_turn(self, frames: Sequence[Sequence[Buffer]]) -> None:
        """Send each frame once the previous one was answered, in as few steps as the transport allows; at most `depth`,
        with nothing in flight. Raises LinkClosed, LinkTimeout; Undrivable on a packed ring.
        """
        self._open()
        if not isinstance(self._queue, SplitQueue):
            raise Undrivable("requests in turn are written for split rings")
        if self._flying or len(frames) > self.depth:
            raise SuiteError(f"{len(frames)} requests in turn with {len(self._flying)} in flight")
        try:
            for frame in frames:
                self._add(b"".join(frame), time.monotonic() + self._send_timeout)
            self._queue.publish_in_turn(self._send_timeout)
        except DeviceGone as error:
            raise LinkClosed(str(error)) from None
        except RingTimeout as error:
            raise LinkTimeout(str(error)) from None

    def _add(self, data: Buffer, deadline: float) -> None:
        if len(data) > self.largest:
            raise Undrivable(f"a frame of {len(data)} bytes; this transport's memory holds {self.largest}")
        if len(data) >= 11 and data[4] == Tversion.type:
            self._reply_room = max(self._reply_room, min(_MSIZE.unpack_from(data, HDRSZ)[0], 8192))
        while True:
            if self._queue.room() >= 2 and (out := self._pool.take(len(data))) is not None:
                back = self._pool.take(self._reply_room)
                if back is not None:
                    break
                self._pool.give(*out)
            self._make_room(deadline)
        self._memory.write(out[0], data)
        chain = [Segment(out[0], len(data))] if data else []
        self._flying[self._queue.add([*chain, Segment(back[0], self._reply_room, True)])] = (*out, *back)

    def _make_room(self, deadline: float) -> None:
        self._queue.publish()
        self._queue.kick()
        if not self._flying:
            raise Undrivable(f"this transport's memory has no room for a reply of {self._reply_room} bytes")
        self._receive(deadline - time.monotonic())

    # ---- receiving

    def recv(self, timeout: float) -> bytes | bytearray:
        deadline = time.monotonic() + timeout
        while not self._inbox:
            self._open()
            try:
                self._receive(deadline - time.monotonic())
            except DeviceGone as error:
                raise LinkClosed(str(error)) from None
        return self._inbox.popleft()

    def _receive(self, timeout: float) -> None:
        try:
            heads = list(self._flying)[: self._memory.ahead]
            spans = [(self._flying[head][2], _HEAD) for head in heads]
            found, data = self._collect(timeout, spans)
            self._keep(found, dict(zip(heads, data, strict=True)))
        except RingTimeout as error:
            raise LinkTimeout(str(error)) from None
        except BadUsed as error:
            raise LinkClosed(str(error)) from None

    def _collect(self, timeout: float, spans: Sequence[tuple[int, int]]) -> tuple[list[Used], list[bytes]]:
        """The next used elements, and the bytes of `spans`.

        Raises RingTimeout, BadUsed; LinkClosed as soon as the device says that it needs a reset: then it uses no more.
        """
        deadline, patience, broken = time.monotonic() + timeout, _FIRST_LOOK, False
        while True:
            left = deadline - time.monotonic()
            try:
                return self._queue.collect_and_read(_AT_ONCE if broken else max(min(patience, left), _AT_ONCE), spans)
            except RingTimeout:
                if broken:
                    raise LinkClosed("the device says that it needs a reset") from None
                broken = self._device.broken()  # what it used before it said so is collected first
                if not broken and left <= patience:
                    raise
                patience *= 2

    def _keep(self, found: list[Used], known: Mapping[int, bytes]) -> None:
        """Process used elements; `known`: the first bytes of some replies, by head."""
        replies: dict[int, bytes] = {}
        unread: dict[int, tuple[int, int]] = {}
        for used in found:
            place = self._flying[used.id]
            if used.length <= _HEAD and used.id in known:
                replies[used.id] = known[used.id][: used.length]
            else:
                unread[used.id] = (place[2], min(used.length, 1 << place[3]))
        if unread:
            replies |= zip(unread, self._memory.read_many(list(unread.values())), strict=True)
        room = self._reply_room
        for used in found:
            data, place = replies[used.id], self._flying.pop(used.id)
            self._pool.give(place[0], place[1])
            self._pool.give(place[2], place[3])
            # Nothing written: a flushed request returns its buffers this way. It is not a reply.
            if data:
                self._inbox.append(data)
            if len(data) >= 11 and data[4] == Rversion.type:
                room = _MSIZE.unpack_from(data, HDRSZ)[0]
        # An msize that does not fit the memory is the link's limit, not the device's fault.
        self._reply_room = min(max(room, _LEAST), self.largest)

    def ready(self) -> bool:
        if not self._inbox and not self._closed and self._flying:
            try:
                self._keep(self._queue.peek(), {})
            except (BadUsed, DeviceGone) as error:
                raise LinkClosed(str(error)) from None
        return bool(self._inbox)

    def close(self) -> None:
        """See Link: the device is reset, and with it the session ends."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(DeviceGone):
                self._device.reset()

    def _open(self) -> None:
        if self._closed:
            raise LinkClosed("closed on our side")
