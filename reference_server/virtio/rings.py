"""Virtqueues seen from the device: available and used chains.

The rule of this module: it reads and writes rings and knows no 9P. Any error of the driver raises :class:`Broken` with
the rule's name, before the chain is touched.

One thread pops; any thread may push while it holds the device's lock. Stores of other processors are seen in order on
x86; :func:`fence` orders our stores and later loads.

Source: virtio 1.3, 2.7 (split) and 2.8 (packed).
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import NamedTuple, Protocol

from protocol.fields import Buffer
from protocol.virtqueue import (
    AVAIL_ALIGN,
    AVAIL_NO_INTERRUPT,
    DESC_ALIGN,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_SIZE,
    DESC_WRITE,
    DESCRIPTOR,
    EVENT,
    EVENT_ALIGN,
    EVENT_DESC,
    EVENT_DISABLE,
    EVENT_ENABLE,
    PACKED_AVAIL,
    PACKED_USED,
    QUEUE_SIZE_MAX,
    USED_ALIGN,
    USED_NO_NOTIFY,
    Feature,
    available_bytes,
    needs_event,
    table_bytes,
    used_bytes,
)
from reference_server.virtio.memory import Broken, GuestMemory, Span

INDIRECT_MAX = 1024
"""Entries of an indirect table that are taken whatever the queue's size.  2.7.5.3.1 asks drivers to keep to the queue's
size, Linux does not (its 9P driver makes tables of up to 128 whatever the queue), and QEMU takes 1024."""

_lock = threading.Lock()


def fence() -> None:
    """Order earlier stores before later loads. Taking a lock is a full barrier on x86 (a locked compare-and-exchange)
    and Python offers no other.
    """
    with _lock:
        pass


class Chain:
    """One request of the driver: memory to read, memory to write."""

    __slots__ = ("done", "id", "readable", "slots", "writable", "written")

    def __init__(self, id: int, slots: int, readable: list[memoryview], writable: list[memoryview]) -> None:
        self.id = id
        """Head (split) or buffer id (packed)."""
        self.slots = slots
        """Entries of the ring that it takes (packed)."""
        self.readable = readable
        self.writable = writable
        self.done = False
        """Whether it was used."""
        self.written = 0


class RingAddress(NamedTuple):
    """The three parts of a ring, as user addresses."""

    descriptors: int
    driver: int
    device: int


class Ring(Protocol):
    """Split or packed."""

    def pop(self) -> Chain | None:
        """The next request, or None when there is none.  Raises Broken."""

    def more(self) -> bool:
        """Whether something follows the popped chains, perhaps an error that ``pop`` will raise."""

    def push(self, chain: Chain) -> None:
        """Report to the driver that ``chain`` was used."""

    def want_kicks(self, wanted: bool) -> None:
        """Enable or disable the driver's notifications."""

    def must_signal(self) -> bool:
        """Whether the driver wants a notification for chains pushed since the last call."""

    def base(self) -> int:
        """Its position, encoded as in SET_VRING_BASE."""


class _Gathered:
    """The spans of one chain, from its descriptors."""

    __slots__ = ("readable", "writable")

    def __init__(self) -> None:
        self.readable: list[Span] = []
        self.writable: list[Span] = []

    def add(self, address: int, length: int, flags: int) -> list[Span]:
        """Add one buffer; returns the list for its kind. Raises Broken."""
        if not length:
            raise Broken("a descriptor has length 0")
        if flags & DESC_WRITE:
            into = self.writable
        elif self.writable:
            raise Broken("a device-readable descriptor follows a device-writable one (2.7.4.2)")
        else:
            into = self.readable
        into.append((address, length))
        return into

    def views(self, memory: GuestMemory) -> tuple[list[memoryview], list[memoryview]]:
        """What to read, what to write.  Raises Broken."""
        if not self.readable:
            raise Broken("a chain has nothing to read")
        if not self.writable:
            raise Broken("a chain has no room for a reply")
        return memory.views(self.readable), memory.views(self.writable)


def _indirect_table(memory: GuestMemory, address: int, length: int, flags: int, most: int) -> bytes:
    """A copy of an indirect table: what was checked is then what is used.  Raises Broken."""
    if flags & DESC_NEXT:
        raise Broken("an indirect descriptor with NEXT (2.7.5.3.1, 2.8.19)")
    if not length or length % DESC_SIZE:
        raise Broken(f"an indirect table of {length} bytes (2.7.5.3, 2.8.7)")
    if length > most * DESC_SIZE:
        raise Broken(f"an indirect table of {length // DESC_SIZE} entries; {most} are the most")
    return b"".join(memory.views([(address, length)]))


class SplitRing(Ring):
    """A split virtqueue."""

    def __init__(self, memory: GuestMemory, size: int, at: RingAddress, features: int, base: int) -> None:
        """Raises Broken if its layout violates 2.7."""
        if not 0 < size <= QUEUE_SIZE_MAX or size & (size - 1):
            raise Broken(f"a split queue of {size}: the size must be a power of two up to {QUEUE_SIZE_MAX} (2.7)")
        self._memory, self._size = memory, size
        self._table = memory.ring(at.descriptors, table_bytes(size), DESC_ALIGN, "the descriptor table")
        self._avail = memory.ring(at.driver, available_bytes(size), AVAIL_ALIGN, "the available ring").cast("H")
        used = memory.ring(at.device, used_bytes(size), USED_ALIGN, "the used ring")
        spans = sorted([(at.descriptors, table_bytes(size)), (at.driver, 6 + 2 * size), (at.device, 6 + 8 * size)])
        for (one, length), (two, _length) in itertools.pairwise(spans):
            if one + length > two:
                raise Broken("the parts of a split queue overlap (2.7)")
        self._used16 = used.cast("H")
        self._elements = used[4 : 4 + 8 * size].cast("I")
        self._event_idx = bool(features & Feature.EVENT_IDX.mask)
        self._indirect = bool(features & Feature.INDIRECT_DESC.mask)
        self._next = base & 0xFFFF
        self._seen = self._next
        """avail.idx when it was last read."""
        self._used = self._used16[1] if base else 0
        self._signalled = self._used
        self._signal_known = False
        self._busy: set[int] = set()

    def more(self) -> bool:
        return self._waiting() != 0

    def _waiting(self) -> int:
        """How many buffers are pending. The only place that reads avail.idx; an impossible value is reported and not
        stored, so that the next call reports it again.
        """
        if self._seen == self._next:
            index = self._avail[1]
            count = (index - self._next) & 0xFFFF
            if count > self._size:
                return count
            self._seen = index
        return (self._seen - self._next) & 0xFFFF

    def pop(self) -> Chain | None:
        count = self._waiting()
        if not count:
            return None
        if count > self._size:
            raise Broken(f"avail.idx went {count} ahead in a queue of {self._size} (2.7.13.3.1)")
        head = self._avail[2 + self._next % self._size]
        if head >= self._size:
            raise Broken(f"head {head} in a queue of {self._size} (2.7.6)")
        if head in self._busy:
            raise Broken(f"head {head} is in flight already (2.7.13)")
        readable, writable = self._follow(head)
        self._next = (self._next + 1) & 0xFFFF
        self._busy.add(head)
        return Chain(head, 1, readable, writable)

    def _follow(self, head: int) -> tuple[list[memoryview], list[memoryview]]:
        address, length, flags, following = DESCRIPTOR.unpack_from(self._table, DESC_SIZE * head)
        if flags & (DESC_NEXT | DESC_WRITE | DESC_INDIRECT) == DESC_NEXT and length and following < self._size:
            # By far the most common chain: one buffer to read, one to write.
            at, count, last, _next = DESCRIPTOR.unpack_from(self._table, DESC_SIZE * following)
            if last & (DESC_NEXT | DESC_WRITE | DESC_INDIRECT) == DESC_WRITE and count:
                return self._memory.view(address, length), self._memory.view(at, count)
        gathered = _Gathered()
        last_one = self._walk(self._table, self._size, head, gathered, "the queue")
        if last_one is not None:
            if not self._indirect:
                raise Broken("an indirect descriptor without INDIRECT_DESC (2.7.5.3.1)")
            table = _indirect_table(self._memory, *last_one, max(INDIRECT_MAX, self._size))
            if self._walk(table, len(table) // DESC_SIZE, 0, gathered, "its indirect table") is not None:
                raise Broken("an indirect descriptor in an indirect table (2.7.5.3.1)")
        return gathered.views(self._memory)

    def _walk(
        self, table: Buffer, entries: int, at: int, gathered: _Gathered, where: str
    ) -> tuple[int, int, int] | None:
        """Collect a chain of ``table``; returns address, length and flags of the indirect descriptor at its end, if
        any. Raises Broken.
        """
        unpack, add = DESCRIPTOR.unpack_from, gathered.add
        into, same = gathered.readable, -1
        for _ in range(entries):
            if at >= entries:
                raise Broken(f"descriptor {at} of {entries} in {where} (2.7.5)")
            address, length, flags, following = unpack(table, DESC_SIZE * at)
            if flags == same and length:  # one more page of a long buffer
                into.append((address, length))
            elif flags & DESC_INDIRECT:
                return address, length, flags
            else:
                into, same = add(address, length, flags), flags
            if not flags & DESC_NEXT:
                return None
            at = following
        raise Broken(f"a chain loops: it has more descriptors than {where} (2.7.5.2)")

    def push(self, chain: Chain) -> None:
        at = 2 * (self._used % self._size)
        self._elements[at] = chain.id
        self._elements[at + 1] = chain.written
        self._used = (self._used + 1) & 0xFFFF
        self._busy.discard(chain.id)
        self._used16[1] = self._used

    def want_kicks(self, wanted: bool) -> None:
        if self._event_idx:
            if wanted:
                self._used16[2 + 4 * self._size] = self._next
        else:
            self._used16[0] = 0 if wanted else USED_NO_NOTIFY
        if wanted:
            fence()

    def must_signal(self) -> bool:
        old, self._signalled = self._signalled, self._used
        if old == self._used:
            return False
        fence()
        if not self._event_idx:
            return not self._avail[0] & AVAIL_NO_INTERRUPT
        first, self._signal_known = not self._signal_known, True
        return first or needs_event(self._avail[2 + self._size], self._used, old)

    def base(self) -> int:
        return self._next


_FRESH = 0x8000_8000
"""Both wrap counters 1, both offsets 0 (2.8.1)."""


class PackedRing(Ring):
    """A packed virtqueue."""

    def __init__(self, memory: GuestMemory, size: int, at: RingAddress, features: int, base: int) -> None:
        """Raises Broken if its layout violates 2.8.

        ``base`` is the driver's offset and wrap counter in its lower half, the device's in its upper.
        """
        if not 0 < size <= QUEUE_SIZE_MAX:
            raise Broken(f"a packed queue of {size}: {QUEUE_SIZE_MAX} is the maximum (2.8)")
        self._memory, self._size = memory, size
        self._ring = memory.ring(at.descriptors, table_bytes(size), DESC_ALIGN, "the descriptor ring")
        self._flags = self._ring.cast("H")[7::8]
        self._driver = memory.ring(at.driver, EVENT.size, EVENT_ALIGN, "the driver's event structure").cast("H")
        self._device = memory.ring(at.device, EVENT.size, EVENT_ALIGN, "the device's event structure").cast("H")
        self._event_idx = bool(features & Feature.EVENT_IDX.mask)
        self._indirect = bool(features & Feature.INDIRECT_DESC.mask)
        base = base or _FRESH
        self._next, self._wrap = base & 0x7FFF, base >> 15 & 1
        self._used, self._used_wrap = base >> 16 & 0x7FFF, base >> 31 & 1
        if self._next >= size or self._used >= size:
            raise Broken(f"a base of {base:#x} in a packed queue of {size}")
        self._signalled: int | None = None
        self._pushed = False
        self._busy: set[int] = set()
        self._taken = 0

    def more(self) -> bool:
        return self._offered() is not None

    def _offered(self) -> int | None:
        """The flags of the next descriptor if it is available. The only place that reads them: the checked value is
        used, whatever the driver writes there afterwards.
        """
        flags = self._flags[self._next]
        available = PACKED_AVAIL if self._wrap else PACKED_USED
        return flags if flags & (PACKED_AVAIL | PACKED_USED) == available else None

    def pop(self) -> Chain | None:
        first = self._offered()
        if first is None:
            return None
        at, slots, gathered = self._next, 0, _Gathered()
        while True:
            if slots >= self._size - self._taken:
                raise Broken("a chain is longer than what is free of the queue (2.8.21)")
            address, length, id, flags = DESCRIPTOR.unpack_from(self._ring, DESC_SIZE * at)
            if not slots:
                flags = first
            slots += 1
            at = at + 1 if at + 1 < self._size else 0
            if flags & DESC_INDIRECT:
                self._add_table(gathered, address, length, flags, slots)
            else:
                gathered.add(address, length, flags)
            if not flags & DESC_NEXT:
                break
        if id in self._busy:
            raise Broken(f"buffer id {id} is in flight already (2.8.21)")
        readable, writable = gathered.views(self._memory)
        if at <= self._next:
            self._wrap = 1 - self._wrap
        self._next = at
        self._busy.add(id)
        self._taken += slots
        return Chain(id, slots, readable, writable)

    def _add_table(self, gathered: _Gathered, address: int, length: int, flags: int, slots: int) -> None:
        if not self._indirect:
            raise Broken("an indirect descriptor without INDIRECT_DESC (2.8.19)")
        if slots > 1:
            raise Broken("an indirect descriptor behind direct ones in a packed queue (2.8.19)")
        table = _indirect_table(self._memory, address, length, flags, max(INDIRECT_MAX, self._size))
        for at, size, _id, its in DESCRIPTOR.iter_unpack(table):
            if its & DESC_INDIRECT:
                raise Broken("an indirect descriptor in an indirect table (2.8.19)")
            gathered.add(at, size, its)

    def push(self, chain: Chain) -> None:
        at = self._used
        flags = (PACKED_AVAIL | PACKED_USED) if self._used_wrap else 0
        if chain.written:
            flags |= DESC_WRITE
        words = self._ring[DESC_SIZE * at + 8 : DESC_SIZE * at + 14]
        words[:] = chain.written.to_bytes(4, "little") + chain.id.to_bytes(2, "little")
        self._flags[at] = flags
        self._busy.discard(chain.id)
        self._taken -= chain.slots
        self._pushed = True
        self._used += chain.slots
        if self._used >= self._size:
            self._used -= self._size
            self._used_wrap = 1 - self._used_wrap
            self._signalled = None

    def want_kicks(self, wanted: bool) -> None:
        self._device[1] = EVENT_ENABLE if wanted else EVENT_DISABLE
        if wanted:
            fence()

    def must_signal(self) -> bool:
        if not self._pushed:
            return False
        self._pushed = False
        old, self._signalled = self._signalled, self._used
        fence()
        wanted = self._driver[1]
        if wanted == EVENT_DISABLE:
            return False
        if wanted != EVENT_DESC or not self._event_idx or old is None:
            return True
        place = self._driver[0]
        event = place & 0x7FFF
        if self._used_wrap != place >> 15:
            event -= self._size
        return needs_event(event & 0xFFFF, self._used, old)

    def base(self) -> int:
        return self._next | self._wrap << 15 | self._used << 16 | self._used_wrap << 31


class InOrder:
    """A ring whose chains are used in the order in which they were made available (IN_ORDER, 2.7.9)."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._waiting: deque[Chain] = deque()
        self.more = ring.more
        self.want_kicks = ring.want_kicks
        self.must_signal = ring.must_signal
        self.base = ring.base

    def pop(self) -> Chain | None:
        """See Ring."""
        chain = self._ring.pop()
        if chain is not None:
            self._waiting.append(chain)
        return chain

    def push(self, chain: Chain) -> None:
        """See Ring: a chain is used once all chains before it are."""
        chain.done = True
        while self._waiting and self._waiting[0].done:
            self._ring.push(self._waiting.popleft())
