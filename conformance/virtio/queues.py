"""Drivers for virtqueues, split and packed, on any `Device`.

A correct driver uses `add`, `publish`, `kick`, `collect`; ring cases build what only a broken driver does from the same
parts, with the addresses that each queue exposes.  Source: virtio 1.3, 2.7 (split), 2.8 (packed).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from conformance.virtio.device import Device, Memory, Rings, Turns
from protocol.virtqueue import (
    AVAIL_IDX,
    AVAIL_RING,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_SIZE,
    DESC_WRITE,
    DESCRIPTOR,
    PACKED_AVAIL,
    PACKED_USED,
    USED_ELEMENT,
    USED_IDX,
    USED_RING,
    Descriptor,
    split_layout,
)


class Segment(NamedTuple):
    """One piece of a buffer."""

    address: int
    length: int
    writable: bool = False
    """By the device."""


class Used(NamedTuple):
    """A used element: the device is done with a chain."""

    id: int
    length: int
    """Bytes that it has written."""


class BadUsed(Exception):
    """The device's side of a ring is invalid. The text says how."""


NOT_WRITTEN = -1
"""The used length of a chain that the device used in a batch: only the last one's is written (2.7.9, 2.8.9)."""


class InOrder:
    """The chains in flight of a queue with IN_ORDER, the earliest first."""

    def __init__(self) -> None:
        self._ids: deque[int] = deque()

    def published(self, ids: Sequence[int]) -> None:
        """They were made available."""
        self._ids.extend(ids)

    def batch(self, last: Used, most: int | None = None) -> list[Used]:
        """The chains that a used element stands for: all up to it. Raises BadUsed if they are more than `most`."""
        if last.id not in self._ids:
            raise BadUsed(f"the device has used chain {last.id}, which was not in flight")
        size = self._ids.index(last.id) + 1
        if most is not None and size > most:
            raise BadUsed(
                f"the device has used chain {last.id} before chain {self._ids[0]}, which was available earlier"
            )
        return [
            *(Used(self._ids.popleft(), NOT_WRITTEN) for _ in range(size - 1)),
            Used(self._ids.popleft(), last.length),
        ]


class Queue(Protocol):
    """A virtqueue as a driver uses it."""

    size: int
    rings: Rings
    length: int
    """Bytes that the rings take from `rings.descriptors` on."""

    def add(self, chain: Sequence[Segment], table: int | None = None) -> int:
        """Write a chain's descriptors, into the indirect table at `table` if given; its id. Not yet published."""

    def publish(self) -> None:
        """Make everything that was added available."""

    def kick(self) -> None:
        """Notify the device."""

    def collect(self, timeout: float) -> list[Used]:
        """Wait until something is used; returns all used elements. Raises RingTimeout, BadUsed."""

    def collect_and_read(self, timeout: float, spans: Sequence[tuple[int, int]]) -> tuple[list[Used], list[bytes]]:
        """As `collect`, with the content of `spans` at that moment, in as few steps as the transport allows."""

    def peek(self) -> list[Used]:
        """The elements used by now, maybe none. Raises BadUsed."""

    def expect_order(self) -> None:
        """From now on the device uses chains in the order in which they were made available, maybe in batches."""

    def room(self) -> int:
        """How many descriptors are free."""


def _indirect(chain: Sequence[Segment]) -> bytes:
    """An indirect table: 2.7.5.3; a packed one has an unused id instead of `next`."""
    last = len(chain) - 1
    return b"".join(
        DESCRIPTOR.pack(
            s.address,
            s.length,
            (DESC_WRITE if s.writable else 0) | (DESC_NEXT if i < last else 0),
            i + 1 if i < last else 0,
        )
        for i, s in enumerate(chain)
    )


def _packed_indirect(chain: Sequence[Segment]) -> bytes:
    return b"".join(DESCRIPTOR.pack(s.address, s.length, 0, DESC_WRITE if s.writable else 0) for s in chain)


class SplitQueue(Queue):
    """A split virtqueue."""

    def __init__(
        self,
        device: Device,
        number: int,
        size: int,
        at: int,
        *,
        event_idx: bool = False,
        memory: Memory | None = None,
        keep: bool = False,
    ) -> None:
        """`at`: where its rings go, aligned to 16, for a legacy device to 4096; `memory`: to write through;
        `keep`: descriptors of a chain that was used stay written for the next one of the same buffers."""
        self.device, self.number, self.size, self.event_idx = device, number, size, event_idx
        layout = split_layout(size, 4096 if device.legacy else 64)
        self.rings = Rings(at, at + layout.available, at + layout.used)
        self.length = layout.length
        self.published = 0
        """avail.idx as the device sees it."""
        self.seen = 0
        """used.idx up to which everything was collected."""
        self._memory = memory or device.memory
        self._free: deque[int] = deque(range(size))
        self._chains: dict[int, list[int]] = {}
        self._waiting: list[int] = []
        self._keep = keep
        self._kept: dict[tuple[Segment, ...], list[list[int]]] = {}
        self._keys: dict[int, tuple[Segment, ...]] = {}
        self._kept_count = 0
        self._order: InOrder | None = None
        self._memory.fill(at, self.length, 0)

    def start(self) -> None:
        """Set size and addresses of the queue in the device."""
        self.device.start_queue(self.number, self.size, self.rings)

    # ---- single steps, for cases as well

    def put(self, index: int, descriptor: Descriptor) -> None:
        """Write one entry of the table."""
        self._memory.write(self.rings.descriptors + DESC_SIZE * index, DESCRIPTOR.pack(*descriptor))

    def offer(self, head: int) -> None:
        """Take a head for the next `publish`."""
        self._waiting.append(head)

    def adopt(self, head: int) -> None:
        """Expect `head`, whose descriptors a case wrote itself, to be used; that frees no descriptors."""
        self._chains.setdefault(head, [])

    def set_index(self, value: int) -> None:
        """Write avail.idx."""
        self.published = value & 0xFFFF
        self._memory.write16(self.rings.driver + AVAIL_IDX, self.published)

    def set_flags(self, flags: int) -> None:
        """Write avail.flags."""
        self._memory.write16(self.rings.driver, flags)

    def set_used_event(self, index: int) -> None:
        """Write used_event (2.7.7)."""
        self._memory.write16(self.rings.driver + AVAIL_RING + 2 * self.size, index & 0xFFFF)

    # ---- Queue

    def add(self, chain: Sequence[Segment], table: int | None = None) -> int:
        if not self._keep:
            return self._add(chain, table)
        key = tuple(chain)
        ready = self._kept.get(key)
        if not ready or table is not None:
            if len(self._free) < len(chain):
                self._forget()
            head = self._add(chain, table)
        else:
            taken = ready.pop()
            if not ready:
                del self._kept[key]
            self._kept_count -= len(taken)
            head = taken[0]
            self._chains[head] = taken
            self._waiting.append(head)
        if table is None:
            self._keys[head] = key
        return head

    def _forget(self) -> None:
        """Free the kept descriptors."""
        for chains in self._kept.values():
            for taken in chains:
                self._free.extend(taken)
        self._kept.clear()
        self._kept_count = 0

    def _add(self, chain: Sequence[Segment], table: int | None) -> int:
        memory, base = self._memory, self.rings.descriptors
        if table is not None:
            memory.write(table, _indirect(chain))
            taken = [self._free.popleft()]
            memory.write(base + DESC_SIZE * taken[0], DESCRIPTOR.pack(table, DESC_SIZE * len(chain), DESC_INDIRECT, 0))
        else:
            taken = [self._free.popleft() for _ in chain]
            begun, run = taken[0], list[bytes]()
            for at, (index, segment) in enumerate(zip(taken, chain, strict=True)):
                if index != begun + len(run):
                    memory.write(base + DESC_SIZE * begun, b"".join(run))
                    begun, run = index, []
                more = at + 1 < len(taken)
                flags = (DESC_WRITE if segment.writable else 0) | (DESC_NEXT if more else 0)
                run.append(DESCRIPTOR.pack(segment.address, segment.length, flags, taken[at + 1] if more else 0))
            memory.write(base + DESC_SIZE * begun, b"".join(run))
        self._chains[taken[0]] = taken
        self._waiting.append(taken[0])
        return taken[0]

    def expect_order(self) -> None:
        self._order = InOrder()

    def publish(self) -> None:
        heads, self._waiting = self._waiting, []
        if self._order is not None:
            self._order.published(heads)
        ring, at = self.rings.driver + AVAIL_RING, self.published % self.size
        while heads:
            now, heads = heads[: self.size - at], heads[self.size - at :]
            self._memory.write(ring + 2 * at, struct.pack(f"<{len(now)}H", *now))
            self.published += len(now)
            at = 0
        self.set_index(self.published)

    def publish_in_turn(self, timeout: float) -> None:
        """Instead of `publish` and `kick`, with nothing in flight: each added chain is made available after the
        previous one was used, at most `timeout` seconds for each. Raises RingTimeout.
        """
        heads, self._waiting = self._waiting, []
        rings, published = self.rings, self.published
        self.published = (published + len(heads)) & 0xFFFF
        turns = Turns(
            rings.driver + AVAIL_RING,
            rings.driver + AVAIL_IDX,
            rings.device + USED_IDX,
            published,
            self.seen,
            self.size,
            heads,
        )
        self.device.in_turn(self.number, turns, timeout)

    def kick(self) -> None:
        self.device.kick(self.number)

    def collect(self, timeout: float) -> list[Used]:
        return self._take(self._memory.wait16(self.rings.device + USED_IDX, self.seen, timeout))

    def peek(self) -> list[Used]:
        now = self._memory.changed16(self.rings.device + USED_IDX, self.seen)
        return [] if now is None else self._take(now)

    def collect_and_read(self, timeout: float, spans: Sequence[tuple[int, int]]) -> tuple[list[Used], list[bytes]]:
        flying = min(len(self._chains), self.size)
        elements = self._elements(flying)
        now, data = self._memory.wait_then_read(
            self.rings.device + USED_IDX, self.seen, flying, timeout, [*elements, *spans]
        )
        return self._take(now, data[: len(elements)]), data[len(elements) :]

    def _elements(self, count: int) -> list[tuple[int, int]]:
        """The locations of the next `count` elements of the used ring."""
        at, ring, width = self.seen % self.size, self.rings.device + USED_RING, USED_ELEMENT.size
        first = min(count, self.size - at)
        spans = [(ring + width * at, width * first)]
        if first < count:
            spans.append((ring, width * (count - first)))
        return spans

    def _take(self, now: int, read: list[bytes] | None = None) -> list[Used]:
        """The elements used up to used.idx `now`; `read`: the used ring as far as chains are in flight."""
        count = (now - self.seen) & 0xFFFF
        if count > self.size:
            raise BadUsed(f"used.idx went from {self.seen} to {now}, by more than the queue's size {self.size}")
        if read is None or count > len(self._chains):
            read = self._memory.read_many(self._elements(count))
        found = [Used(*pair) for part in read for pair in USED_ELEMENT.iter_unpack(part)][:count]
        if self._order is not None:
            found = self._in_batches(self._order, found)
        self.seen = now
        if self.event_idx:
            self.set_used_event(now)
        for used in found:
            self.release(used.id)
        return found

    @staticmethod
    def _in_batches(order: InOrder, elements: Sequence[Used]) -> list[Used]:
        """A batch has one element, in its first place; used.idx passes all of its places (2.7.9)."""
        found: list[Used] = []
        while len(found) < len(elements):
            found += order.batch(elements[len(found)], len(elements) - len(found))
        return found

    def release(self, head: int) -> None:
        """Free a chain's descriptors. Raises BadUsed if it is not in flight."""
        taken = self._chains.pop(head, None)
        if taken is None:
            raise BadUsed(f"the device has used chain {head}, which was not in flight")
        key = self._keys.pop(head, None)
        if key is None:
            self._free.extend(taken)
        else:
            self._kept.setdefault(key, []).append(taken)
            self._kept_count += len(taken)

    def room(self) -> int:
        return len(self._free) + self._kept_count


class _PackedChain(NamedTuple):
    slot: int
    length: int
    flags: int


class PackedQueue(Queue):
    """A packed virtqueue."""

    def __init__(self, device: Device, number: int, size: int, at: int, *, memory: Memory | None = None) -> None:
        """`at`: where its ring and the two event structures go, aligned to 16; `memory`: to write through."""
        self.device, self.number, self.size = device, number, size
        self.rings = Rings(at, at + DESC_SIZE * size, at + DESC_SIZE * size + 4)
        self.length = DESC_SIZE * size + 8
        self._memory = memory or device.memory
        self._slot, self._wrap = 0, 1
        self._used_slot, self._used_wrap = 0, 1
        self._free = size
        self._ids: deque[int] = deque(range(size))
        self._chains: dict[int, _PackedChain] = {}
        self._waiting: list[_PackedChain] = []
        self._flags = [0] * size
        """What stands in each slot's flags for all that we know."""
        self._order: InOrder | None = None
        self._memory.fill(at, self.length, 0)

    def start(self) -> None:
        """Set size and addresses of the queue in the device."""
        self.device.start_queue(self.number, self.size, self.rings)

    def add(self, chain: Sequence[Segment], table: int | None = None) -> int:
        number = self._ids.popleft()
        if table is not None:
            self._memory.write(table, _packed_indirect(chain))
            entries = [(table, DESC_SIZE * len(chain), DESC_INDIRECT)]
        else:
            last = len(chain) - 1
            entries = [
                (s.address, s.length, (DESC_WRITE if s.writable else 0) | (DESC_NEXT if i < last else 0))
                for i, s in enumerate(chain)
            ]
        first = self._slot
        head_flags = 0
        for i, (address, length, flags) in enumerate(entries):
            flags |= PACKED_AVAIL if self._wrap else PACKED_USED
            where = self.rings.descriptors + DESC_SIZE * self._slot
            if i:
                self._memory.write(where, DESCRIPTOR.pack(address, length, number, flags))
                self._flags[self._slot] = flags
            else:
                self._memory.write(where, DESCRIPTOR.pack(address, length, number, flags)[:14])
                head_flags = flags
            self._slot += 1
            if self._slot == self.size:
                self._slot, self._wrap = 0, 1 - self._wrap
        self._free -= len(entries)
        made = _PackedChain(first, len(entries), head_flags)
        self._chains[number] = made
        if self._order is not None:
            self._order.published([number])
        self._waiting.append(made)
        return number

    def expect_order(self) -> None:
        self._order = InOrder()

    def publish(self) -> None:
        for chain in self._waiting:
            # A chain's first flags make it available: they come last (2.8.21.1).
            self._memory.write16(self.rings.descriptors + DESC_SIZE * chain.slot + 14, chain.flags)
            self._flags[chain.slot] = chain.flags
        self._waiting = []

    def kick(self) -> None:
        self.device.kick(self.number)

    def collect(self, timeout: float) -> list[Used]:
        at = self._used_slot
        self._memory.wait16(self.rings.descriptors + DESC_SIZE * at + 14, self._flags[at], timeout)
        return self.peek()

    def collect_and_read(self, timeout: float, spans: Sequence[tuple[int, int]]) -> tuple[list[Used], list[bytes]]:
        return self.collect(timeout), self._memory.read_many(spans)

    def peek(self) -> list[Used]:
        found: list[Used] = []
        while self._chains:
            at = self._used_slot
            raw = self._memory.read(self.rings.descriptors + DESC_SIZE * at, DESC_SIZE)
            _, length, number, flags = DESCRIPTOR.unpack(raw)
            if flags & (PACKED_AVAIL | PACKED_USED) != (PACKED_AVAIL | PACKED_USED if self._used_wrap else 0):
                break
            if number not in self._chains:
                raise BadUsed(f"the device has used buffer {number}, which was not in flight")
            self._flags[at] = flags
            last = Used(number, length)
            for used in [last] if self._order is None else self._order.batch(last):
                self._release(used.id)
                found.append(used)
        return found

    def _release(self, number: int) -> None:
        """Free a chain, behind which the device writes its next used element."""
        chain = self._chains.pop(number)
        self._used_slot += chain.length
        if self._used_slot >= self.size:
            self._used_slot -= self.size
            self._used_wrap = 1 - self._used_wrap
        self._free += chain.length
        self._ids.append(number)

    def room(self) -> int:
        return self._free if self._ids else 0
