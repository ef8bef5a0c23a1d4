"""A model driver for the device's queues, without a transport: guest memory in a memfd, rings written by hand.

The rule of this module: it shares only the layouts of ``protocol.virtqueue`` with the device, and no other code.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Sequence

from protocol import codec
from protocol.registry import Message
from protocol.vhost_user import MemoryRegion
from protocol.virtqueue import (
    AVAIL_RING,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_SIZE,
    DESC_WRITE,
    DESCRIPTOR,
    PACKED_AVAIL,
    PACKED_USED,
    USED_ELEMENT,
    USED_RING,
    Feature,
    split_layout,
)
from reference_server.exports import Export, Exports
from reference_server.handlers import OPERATIONS
from reference_server.memfs import MemoryStore
from reference_server.outlets import Health
from reference_server.session import Session
from reference_server.storage import Store
from reference_server.virtio.device import Device, Queue
from reference_server.virtio.memory import GuestMemory, Region
from reference_server.virtio.rings import RingAddress
from tests.waiting import PATIENT

SIZE = 4 << 20
"""Bytes of guest memory, in two regions that meet in the middle."""
BASE = 0x1_0000_0000
USER = 0x7000_0000_0000
_DATA = 1 << 20
"""The offset at which buffers begin."""
FILL = 0xA5

Piece = tuple[int, int, bool]
"""Offset in guest memory, length, whether the device may write."""


class Driver:
    """Drives queue 0 of its own device."""

    def __init__(self, features: int = 0, size: int = 16, store: Store | None = None, busy_poll: float = 0.0) -> None:
        self.health = Health()
        exports = Exports(Export(store or MemoryStore()))
        self.device = Device("device", b"tag", lambda: Session(exports, OPERATIONS, health=self.health), busy_poll)
        self.features = Feature.VERSION_1.mask | Feature.MOUNT_TAG.mask | features
        self.size = size
        self.packed = bool(features & Feature.RING_PACKED.mask)
        self.signals = 0
        number = os.memfd_create("guest")
        os.ftruncate(number, SIZE)
        self.memory = mmap.mmap(number, SIZE)
        half = SIZE // 2
        regions = [Region(MemoryRegion(BASE + at, half, USER + at, at), number) for at in (0, half)]
        os.close(number)
        self.device.set_memory(GuestMemory(regions))
        self.queue: Queue = self.device.queues[0]
        self.start()

    def start(self, base: int | None = None) -> None:
        """Negotiate and start the queue, with empty rings; a split one at index ``base``."""
        self.memory[: 1 << 19] = bytes(1 << 19)
        self.memory[1 << 19 :] = bytes([FILL]) * (SIZE - (1 << 19))
        self.layout = split_layout(self.size)
        if self.packed:
            parts = (0, DESC_SIZE * self.size, DESC_SIZE * self.size + 4)
        else:
            parts = (self.layout.descriptors, self.layout.available, self.layout.used)
        self.published = self.seen = self.slot = self.used_slot = 0
        self.wrap = self.used_wrap = 1
        self.chains: dict[int, tuple[list[Piece], int]] = {}
        self.free = list(range(self.size))
        if base is not None:
            self.published = self.seen = base
            struct.pack_into("<H", self.memory, self.layout.available + 2, base)
            struct.pack_into("<H", self.memory, self.layout.used + 2, base)
        self.device.accept(self.features)
        queue = self.queue
        queue.size, queue.enabled = self.size, True
        queue.base = (0x8000_8000 if self.packed else 0) if base is None else base
        queue.at = RingAddress(*(USER + part for part in parts))
        queue.signal = self._signalled
        self.device.start(queue)

    def _signalled(self, _queue: Queue) -> None:
        self.signals += 1

    def descriptor(self, index: int, at: int, length: int, flags: int, last: int) -> None:
        """Write one entry of the descriptor table; ``at`` is the address as the guest knows it."""
        DESCRIPTOR.pack_into(self.memory, DESC_SIZE * index, at, length, flags, last)

    def publish(self, head: int) -> None:
        """Put a head into the avail ring of the split queue."""
        at = self.layout.available
        struct.pack_into("<H", self.memory, at + AVAIL_RING + 2 * (self.published % self.size), head)
        self.published = (self.published + 1) & 0xFFFF
        struct.pack_into("<H", self.memory, at + 2, self.published)

    def offer(self, pieces: Sequence[Piece], table: int | None = None) -> int:
        """Make a chain available; returns its id.  ``table``: the offset of the table for an indirect one."""
        entries = [(BASE + at, length, DESC_WRITE if write else 0) for at, length, write in pieces]
        if table is not None:
            for index, (at, length, flags) in enumerate(entries):
                more = DESC_NEXT if index + 1 < len(entries) and not self.packed else 0
                DESCRIPTOR.pack_into(
                    self.memory, table + DESC_SIZE * index, at, length, flags | more, index + 1
                ) if not self.packed else DESCRIPTOR.pack_into(
                    self.memory, table + DESC_SIZE * index, at, length, 0, flags
                )
            entries = [(BASE + table, DESC_SIZE * len(entries), DESC_INDIRECT)]
        return self._offer_packed(pieces, entries) if self.packed else self._offer_split(pieces, entries)

    def _offer_split(self, pieces: Sequence[Piece], entries: list[tuple[int, int, int]]) -> int:
        taken = [self.free.pop(0) for _ in entries]
        for at, (index, (address, length, flags)) in enumerate(zip(taken, entries, strict=True)):
            more = at + 1 < len(taken)
            self.descriptor(index, address, length, flags | (DESC_NEXT if more else 0), taken[at + 1] if more else 0)
        self.chains[taken[0]] = (list(pieces), len(taken))
        self._taken = getattr(self, "_taken", {})
        self._taken[taken[0]] = taken
        self.publish(taken[0])
        return taken[0]

    def _offer_packed(self, pieces: Sequence[Piece], entries: list[tuple[int, int, int]]) -> int:
        number = self.free.pop(0)
        last: tuple[int, int] | None = None
        for at, (address, length, flags) in enumerate(entries):
            flags |= DESC_NEXT if at + 1 < len(entries) else 0
            flags |= PACKED_AVAIL if self.wrap else PACKED_USED
            if at:
                self.descriptor(self.slot, address, length, number, flags)
            else:
                stale = 0 if self.wrap else PACKED_AVAIL | PACKED_USED
                self.descriptor(self.slot, address, length, number, stale)
                last = (self.slot, flags)
            self.slot += 1
            if self.slot == self.size:
                self.slot, self.wrap = 0, 1 - self.wrap
        assert last is not None
        struct.pack_into("<H", self.memory, DESC_SIZE * last[0] + 14, last[1])
        self.chains[number] = (list(pieces), len(entries))
        return number

    def run(self) -> None:
        """Kick the device, and let it serve every available chain."""
        while self.device.run(self.queue):
            pass

    def used(self) -> list[tuple[int, int, list[Piece]]]:
        """The buffers used since the last call: id, bytes written, the chain's pieces."""
        found = []
        if self.packed:
            while self.chains:
                _at, length, number, flags = DESCRIPTOR.unpack_from(self.memory, DESC_SIZE * self.used_slot)
                both = PACKED_AVAIL | PACKED_USED
                if flags & both != (both if self.used_wrap else 0):
                    break
                pieces, slots = self.chains.pop(number)
                self.free.append(number)
                self.used_slot += slots
                if self.used_slot >= self.size:
                    self.used_slot -= self.size
                    self.used_wrap = 1 - self.used_wrap
                found.append((number, length, pieces))
            return found
        now = struct.unpack_from("<H", self.memory, self.layout.used + 2)[0]
        while self.seen != now:
            place = self.layout.used + USED_RING + USED_ELEMENT.size * (self.seen % self.size)
            number, length = USED_ELEMENT.unpack_from(self.memory, place)
            pieces, _count = self.chains.pop(number)
            self.free += self._taken.pop(number)
            self.seen = (self.seen + 1) & 0xFFFF
            found.append((number, length, pieces))
        return found

    def wait_used(self, count: int = 1, seconds: float = PATIENT) -> list[tuple[int, int, list[Piece]]]:
        """As ``used``, but wait for ``count`` buffers."""
        found = self.used()
        end = time.monotonic() + seconds
        while len(found) < count and time.monotonic() < end:
            time.sleep(0.002)
            found += self.used()
        return found

    def put(self, pieces: Sequence[Piece], frame: bytes) -> None:
        """Fill the readable pieces with ``frame``."""
        for at, length, write in pieces:
            if not write:
                self.memory[at : at + length] = frame[:length].ljust(length, b"\0")
                frame = frame[length:]

    def get(self, pieces: Sequence[Piece], length: int) -> bytes:
        """The first ``length`` bytes of the writable pieces."""
        joined = b"".join(bytes(self.memory[at : at + count]) for at, count, write in pieces if write)
        return joined[:length]

    def ask(self, request: Message, room: int = 8192) -> None:
        """Make one request available, in two descriptors."""
        frame = codec.frame(request)
        pieces = [(_DATA, len(frame), False), (_DATA * 2, room, True)]
        self.put(pieces, frame)
        self.offer(pieces)

    def rpc(self, request: Message, room: int = 8192) -> Message:
        """Send one request; returns its reply."""
        self.ask(request, room)
        self.run()
        found = self.wait_used()
        assert len(found) == 1
        return codec.decode(self.get(found[0][2], found[0][1]))

    def close(self) -> None:
        """End the device; the test fails if the device had an error of its own."""
        self.device.close()
        assert not self.health.unexpected, self.health.unexpected
