"""Legal descriptor chains of every shape: the replies must not depend on the shape."""

from __future__ import annotations

import random

import pytest

from conformance.case import case
from conformance.cases.ring.shared import INDIRECT, PLAIN, both_layouts, pieces, room, running, scaled
from conformance.checks import equal, require
from conformance.errors import SuiteError, Undrivable
from conformance.raw.ring import ANSWER, Ring
from conformance.virtio.queues import Segment
from protocol.virtqueue import DESC_INDIRECT, DESC_NEXT, DESC_SIZE, DESC_WRITE, DESCRIPTOR, Descriptor, Feature


@both_layouts
@case("CHAIN-001")
def test_plain(ring: Ring, layout: int) -> None:
    """A request in one buffer, with room for its reply in another: the reply is right, and the used length is its size.
    Source: virtio 1.3, 2.7.8.2 (used length), 2.8.6."""
    running(ring, layout).serves()


@both_layouts
@case("CHAIN-002")
def test_one_byte_each(ring: Ring, layout: int) -> None:
    """A request and a reply in buffers of one byte each are handled as if each were in one buffer.
    Source: virtio 1.3, 2.7.4.1 (the device must not make assumptions about the arrangement of descriptors)."""
    running(ring, layout)
    request = ring.getattr()
    count = ring.queue.size - len(request) - 2
    chain = pieces(ring, request, [1] * len(request)) + room(ring, [1] * min(count, 40) + [4096])
    ring.right(ring.exchange(chain))


@pytest.mark.parametrize("cut", range(1, 8))
@both_layouts
@case("CHAIN-003")
def test_header_split(ring: Ring, layout: int, cut: int) -> None:
    """The seven bytes of a 9P header may lie in two buffers.  Source: virtio 1.3, 2.7.4.1."""
    running(ring, layout)
    request = ring.getattr()
    ring.right(ring.exchange([*pieces(ring, request, [cut]), ring.writable(4096)]))


@pytest.mark.parametrize(
    "lengths",
    [(1, 1, 1, 1, 1, 1, 1, 400), (3, 4, 400), (7, 153, 1), (11, 400), (159, 1, 64)],
    ids=lambda v: "-".join(map(str, v)),
)
@both_layouts
@case("CHAIN-004")
def test_reply_split(ring: Ring, layout: int, lengths: tuple[int, ...]) -> None:
    """The reply fills the writable buffers in order, whatever their lengths.
    Source: virtio 1.3, 2.7.8.2 (the device writes beginning at the first device-writable buffer)."""
    running(ring, layout)
    ring.right(ring.exchange([ring.readable(ring.getattr()), *room(ring, lengths)]))


@pytest.mark.parametrize("count", [2, 3, 16, 64, 65, 127, 128])
@case("CHAIN-005")
def test_indirect(ring: Ring, count: int) -> None:
    """A chain in an indirect table is handled like one in the ring; it may have as many descriptors as the queue has
    entries.  Source: virtio 1.3, 2.7.5.3, 2.7.5.3.1 (the driver MUST NOT create a chain longer than the Queue Size)."""
    _indirect(running(ring, INDIRECT), count)


@pytest.mark.parametrize("count", [2, 16])
@case("CHAIN-006")
def test_indirect_packed(ring: Ring, count: int) -> None:
    """A packed ring's chain in an indirect table is handled like one in the ring.  Source: virtio 1.3, 2.8.7."""
    _indirect(running(ring, INDIRECT | Feature.RING_PACKED.mask), count)


def _indirect(ring: Ring, count: int) -> None:
    if count > ring.queue.size:
        raise Undrivable(f"the queue has {ring.queue.size} entries")
    ring.right(ring.exchange(_of_length(ring, count), ring.table(count)))
    ring.free_all()
    ring.serves()


@case("CHAIN-007")
def test_indirect_after_direct(ring: Ring) -> None:
    """Ordinary descriptors may be followed by one that is indirect, here with a table of one entry.
    Source: virtio 1.3, 2.7.5.3.2 (the device MUST handle zero or more normal chained descriptors followed by a single
    descriptor with VIRTQ_DESC_F_INDIRECT)."""
    running(ring, INDIRECT)
    request, reply, table = ring.readable(ring.getattr()), ring.writable(4096), ring.table(1)
    ring.memory.write(table, DESCRIPTOR.pack(reply.address, reply.length, DESC_WRITE, 0))
    free = ring.split.size - 2
    ring.split.put(free, Descriptor(request.address, request.length, DESC_NEXT, free + 1))
    ring.split.put(free + 1, Descriptor(table, DESC_SIZE, DESC_INDIRECT, 0))
    _served(ring, free, reply, "a chain that ends in an indirect descriptor")


@both_layouts
@case("CHAIN-008")
def test_as_long_as_the_queue(ring: Ring, layout: int) -> None:
    """A chain may have as many descriptors as the queue has entries, also when it begins in the middle of the ring; the
    queue works afterwards.  Source: virtio 1.3, 2.7.5.2, 2.8.9."""
    running(ring, layout)
    size = ring.queue.size
    for _ in range(3):
        ring.right(ring.exchange(_of_length(ring, size)))
        ring.free_all()
        ring.serves()
        ring.free_all()


@both_layouts
@case("CHAIN-009")
def test_ring_wraps(ring: Ring, layout: int) -> None:
    """The rings wrap round: three rounds and more are answered.  Source: virtio 1.3, 2.7.13, 2.8.1."""
    running(ring, layout)
    for _ in range(ring.queue.size * 3 + 5):
        ring.serves()
        ring.free_all()


@both_layouts
@case("CHAIN-010", seconds=600)
def test_index_wraps(ring: Ring, layout: int) -> None:
    """Indices wrap from 65,535 to 0 without losing a request.  Source: virtio 1.3, 2.7.6 (idx, modulo 65536), 2.8.1."""
    running(ring, layout)
    queue = ring.queue
    flock = queue.size // 2
    chains = [ring.chain(ring.getattr(), 256) for _ in range(flock)]
    left, wanted = scaled(66_000), 0
    while left > 0:
        for chain in chains:
            queue.add(chain)
        queue.publish()
        queue.kick()
        wanted = flock
        while wanted:
            used = ring.collect()
            wanted -= len(used)
            lengths = {element.length for element in used}
            require(
                "equal requests have one used length, which is not 0",
                len(lengths) == 1 and 0 not in lengths,
                seen=lengths,
                code="ring",
            )
        left -= flock
    ring.serves()


@case("CHAIN-011")
def test_every_size(ring: Ring) -> None:
    """The queue works with every size that is a power of two up to the one that the device offers.
    Source: virtio 1.3, 4.1.5.1.3 (the driver may reduce queue_size), 2.7 (a power of 2)."""
    if ring.device.legacy:
        raise Undrivable("a legacy device chooses the size itself")
    largest = min(ring.device.queue_max(0), 1024)
    size = 2
    while size <= largest:
        running(ring, PLAIN, size)
        for _ in range(size + 1):
            ring.serves()
            ring.free_all()
        size *= 2


@both_layouts
@case("CHAIN-012")
def test_unaligned(ring: Ring, layout: int) -> None:
    """Buffers may begin at any address and cross pages.  Source: virtio 1.3, 2.7.4.1 (no requirement on alignment)."""
    running(ring, layout)
    for odd in (1, 3, 7, 4091, 4095):
        request = ring.getattr()
        at = ring.take(8192 + len(request), align=4096) + odd
        ring.memory.write(at, request)
        back = ring.take(16384, align=4096) + odd
        ring.memory.allow(back, 4096)
        ring.right(ring.exchange([Segment(at, len(request)), Segment(back, 4096, True)]))


@both_layouts
@case("CHAIN-013")
def test_many_in_flight(ring: Ring, layout: int) -> None:
    """As many requests as the queue holds may be in flight; each is used once, with its own reply.
    Source: virtio 1.3, 2.7.14, 2.8.22."""
    running(ring, layout)
    queue = ring.queue
    flying: dict[int, tuple[int, list[Segment]]] = {}
    for _ in range(queue.size // 2):
        chain = ring.chain(ring.getattr(), 256)
        flying[queue.add(chain)] = (ring.last_tag, chain)
    queue.publish()
    queue.kick()
    while flying:
        for used in ring.collect():
            tag, chain = flying.pop(used.id)
            seen = ring.decoded(ring.reply_in(chain, used))
            equal(f"tag of the reply in the buffers of the request with tag {tag}", seen.tag, tag, code="reply")


@both_layouts
@case("CHAIN-014")
def test_used_length_is_exact(ring: Ring, layout: int) -> None:
    """The used length is the number of bytes written, not the size of the buffers.  Source: virtio 1.3, 2.7.8.2 and
    2.8.6 (the device MUST set len to the number of bytes written)."""
    running(ring, layout)
    reply = ring.exchange(ring.chain(ring.getattr(), 8000))
    size = int.from_bytes(reply[:4], "little")
    equal("used length, beside the size field of the reply", len(reply), size, code="ring")


@both_layouts
@case("CHAIN-015", seconds=900)
def test_random_chains(ring: Ring, layout: int) -> None:
    """Ten thousand chains of random shape, up to eight in flight, give the answers of a model: each is used once, with
    the reply to its own tag and the length that this reply has.  Source: virtio 1.3, 2.7.4.1, 2.7.8.2."""
    indirect = ring.device.offered() & Feature.INDIRECT_DESC.mask
    running(ring, layout | indirect)
    draw = random.Random(9)
    queue = ring.queue
    left = scaled(10_000)
    while left > 0:
        ring.free_all()
        flying: dict[int, tuple[int, list[Segment]]] = {}
        for _ in range(draw.randint(1, 8)):
            request = ring.getattr()
            out = pieces(ring, request, [draw.randint(1, 9) for _ in range(draw.randint(0, 6))])
            back = room(ring, [draw.randint(1, 60) for _ in range(draw.randint(0, 6))] + [draw.randint(170, 600)])
            chain = out + back
            table = ring.table(len(chain)) if indirect and draw.random() < 0.4 else None
            if queue.room() < len(chain):
                break
            flying[queue.add(chain, table)] = (ring.last_tag, chain)
        queue.publish()
        queue.kick()
        left -= len(flying)
        while flying:
            for used in ring.collect():
                once = "each chain is used once, while it is in flight"
                require(once, used.id in flying, seen=f"chain {used.id}", code="ring")
                tag, chain = flying.pop(used.id)
                ring.right(ring.reply_in(chain, used), tag)


@case("CHAIN-016")
def test_order_of_descriptors(ring: Ring) -> None:
    """A chain's descriptors may stand anywhere in the table, the last before the first.  Source: virtio 1.3, 2.7.5."""
    running(ring)
    request, reply = ring.readable(ring.getattr()), ring.writable(4096)
    size = ring.split.size
    ring.split.put(size - 1, Descriptor(request.address, 3, DESC_NEXT, size - 3))
    ring.split.put(size - 3, Descriptor(request.address + 3, request.length - 3, DESC_NEXT, size - 2))
    ring.split.put(size - 2, Descriptor(reply.address, reply.length, DESC_WRITE, 0))
    _served(ring, size - 1, reply, "a chain whose descriptors stand in falling order")


def _of_length(ring: Ring, count: int) -> list[Segment]:
    """A Tgetattr in a chain of that many descriptors."""
    request = ring.getattr()
    out = pieces(ring, request, [1] * min(len(request) - 1, count - 2))
    chain = out + room(ring, [200] + [40] * (count - len(out) - 1))
    if len(chain) != count:
        raise SuiteError(f"a chain of {len(chain)} descriptors, not {count}")
    return chain


@pytest.mark.parametrize(
    "lengths", [(), (7,), (11,), (7, 1, 100), (1,) * 12], ids=lambda v: "-".join(map(str, v)) or "one"
)
@both_layouts
@case("CHAIN-019")
def test_reply_fits_exactly(ring: Ring, layout: int, lengths: tuple[int, ...]) -> None:
    """A reply that fills the writable buffers to the last byte is written whole, in one buffer and in several.
    Source: virtio 1.3, 2.7.8.2, 2.7.4.1; a device that wants a spare byte refuses it."""
    running(ring, layout)
    size = len(ring.exchange(ring.chain(ring.getattr())))
    ring.free_all()
    chain = [ring.readable(ring.getattr()), *room(ring, [*lengths, size - sum(lengths)])]
    ring.right(ring.exchange(chain))


def _served(ring: Ring, head: int, reply: Segment, what: str) -> None:
    """Publish a chain that `put` wrote, mark it as in flight in the queue, and demand that it is served."""
    queue = ring.split
    queue.adopt(head)
    queue.offer(head)
    queue.publish()
    queue.kick()
    seen = ring.outcome([reply], wait=ANSWER)
    require(f"{what} is served", seen.kind == "processed", seen=seen.kind, code="ring")
    ring.right(seen.reply)
