"""Chains and rings that no driver may make: the device asks for a reset or refuses them. It never dies, hangs, loses
another request, or writes where it may not (checked after every case).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.case import case
from conformance.cases.ring.shared import INDIRECT, PLAIN, running
from conformance.checks import equal, holds, one_of
from conformance.errors import Finding, TargetDied, Undrivable
from conformance.raw.ring import Outcome, Ring
from conformance.virtio.device import Rings
from conformance.virtio.driver import go
from conformance.virtio.queues import Segment
from protocol.virtqueue import DESC_INDIRECT, DESC_NEXT, DESC_SIZE, DESC_WRITE, DESCRIPTOR, Descriptor

_OUTSIDE = 0x7FFF_FFFF_0000


def _publish(ring: Ring, head: int = 0) -> None:
    queue = ring.split
    queue.adopt(head)
    queue.offer(head)
    queue.publish()
    queue.kick()


def _by_hand(ring: Ring, descriptors: list[Descriptor]) -> None:
    """Write a chain to the table's beginning and publish its head."""
    for index, descriptor in enumerate(descriptors):
        ring.split.put(index, descriptor)
    _publish(ring)


def _bad(ring: Ring, descriptors: list[Descriptor], reply: Segment | None = None) -> None:
    """The chain is refused, and others are served after it unless the device asks for a reset."""
    _by_hand(ring, descriptors)
    ring.refused([reply] if reply is not None else [])


def _harmless(ring: Ring, descriptors: list[Descriptor]) -> Outcome:
    """Like `_bad`, for chains that a device may also serve: it must survive, and write nowhere else."""
    _by_hand(ring, descriptors)
    return ring.fate()


def _strictly(seen: Outcome) -> None:
    length = seen.used[0].length if seen.kind == "processed" else 0
    equal("bytes that the device says it has written for an illegal chain", length, 0, code="ring")


def _request(ring: Ring) -> tuple[Segment, Segment]:
    return ring.readable(ring.getattr()), ring.writable(4096)


@case("ILLEGAL-001")
def test_loop(ring: Ring) -> None:
    """A chain that leads back to itself is refused.
    Source: virtio 1.3, 2.7.5 (no loops), 2.1.2 (DEVICE_NEEDS_RESET)."""
    out, back = _request(running(ring))
    _bad(
        ring,
        [
            Descriptor(out.address, out.length, DESC_NEXT, 1),
            Descriptor(back.address, back.length, DESC_WRITE | DESC_NEXT, 1),
        ],
        back,
    )


@case("ILLEGAL-002")
def test_long_loop(ring: Ring) -> None:
    """A loop through the whole table except two entries is refused.  Source: virtio 1.3, 2.7.5."""
    out, back = _request(running(ring))
    size = ring.split.size - 2  # the last two entries are for the valid request that follows
    _bad(
        ring,
        [
            Descriptor(out.address, out.length, DESC_NEXT, 1),
            *(Descriptor(back.address, 8, DESC_WRITE | DESC_NEXT, (i + 1) % size) for i in range(1, size)),
        ],
        back,
    )


@pytest.mark.parametrize("beyond", [0, 1, 30000])
@case("ILLEGAL-003")
def test_head_out_of_range(ring: Ring, beyond: int) -> None:
    """A head beyond the end of the table is refused.  Source: virtio 1.3, 2.7.6 (indices of descriptors)."""
    running(ring)
    _publish(ring, ring.split.size + beyond)
    ring.refused()


@pytest.mark.parametrize("beyond", [0, 1, 60000])
@case("ILLEGAL-004")
def test_next_out_of_range(ring: Ring, beyond: int) -> None:
    """A `next` beyond the end of the table is refused.  Source: virtio 1.3, 2.7.5 (next: index within the table)."""
    out, back = _request(running(ring))
    _bad(ring, [Descriptor(out.address, out.length, DESC_NEXT, ring.split.size + beyond)], back)


@case("ILLEGAL-005")
def test_writable_before_readable(ring: Ring) -> None:
    """Device-writable descriptors before readable ones are refused.  Source: virtio 1.3, 2.7.4.2 (the driver MUST place
    device-writable elements after any device-readable ones)."""
    out, back = _request(running(ring))
    _bad(
        ring,
        [Descriptor(back.address, back.length, DESC_WRITE | DESC_NEXT, 1), Descriptor(out.address, out.length, 0, 0)],
        back,
    )


@case("ILLEGAL-006")
def test_nothing_writable(ring: Ring) -> None:
    """A request without room for a reply is refused.  Source: intro(5): every reply has at least a header, for which
    there is no room; virtio 1.3, 2.1.2 (DEVICE_NEEDS_RESET)."""
    out, _ = _request(running(ring))
    _bad(ring, [Descriptor(out.address, out.length, 0, 0)])


@case("ILLEGAL-007")
def test_nothing_readable(ring: Ring) -> None:
    """Room for a reply without a request is refused.  Source: intro(5), a message begins with size[4] type[1] tag[2];
    virtio 1.3, 2.1.2 (DEVICE_NEEDS_RESET)."""
    _, back = _request(running(ring))
    _bad(ring, [Descriptor(back.address, back.length, DESC_WRITE, 0)], back)


@pytest.mark.parametrize("which", ["readable", "writable", "both"])
@case("ILLEGAL-008")
def test_zero_length(ring: Ring, which: str) -> None:
    """Descriptors of length 0 hold no request and no room for a reply: the chain is refused.  Source: intro(5), a
    message begins with size[4] type[1] tag[2], which is missing or has no room; virtio 1.3, 2.1.2."""
    out, back = _request(running(ring))
    _bad(
        ring,
        [
            Descriptor(out.address, 0 if which != "writable" else out.length, DESC_NEXT, 1),
            Descriptor(back.address, 0 if which != "readable" else back.length, DESC_WRITE, 0),
        ],
        back,
    )


def _request_at(out: Segment, back: Segment) -> list[Descriptor]:
    return [Descriptor(out.address, out.length, DESC_NEXT, 1), Descriptor(back.address, back.length, DESC_WRITE, 0)]


@case("ILLEGAL-009")
def test_request_outside_memory(ring: Ring) -> None:
    """A request at an address where the guest has no memory is refused.  Source: virtio 1.3, 2.7.5 (addr:
    guest-physical address)."""
    out, back = _request(running(ring))
    _bad(ring, _request_at(out._replace(address=_OUTSIDE), back), back)


@case("ILLEGAL-010")
def test_request_across_the_end_of_memory(ring: Ring) -> None:
    """A request that begins in the guest's memory and ends beyond it is refused.  Source: virtio 1.3, 2.7.5."""
    out, back = _request(running(ring))
    _bad(ring, _request_at(out._replace(address=_end(ring) - 8), back), back)


@case("ILLEGAL-027")
def test_reply_outside_memory(ring: Ring) -> None:
    """Room for a reply at an address without memory, or across the end of memory, does no harm.  Source: virtio 1.3,
    2.7.5."""
    out, back = _request(running(ring))
    _harmless(ring, _request_at(out, back._replace(address=_OUTSIDE)))
    if ring.memory.end:
        ring.free_all()
        out, back = _request(running(ring))
        _harmless(ring, _request_at(out, back._replace(address=_end(ring) - 8)))


@case("ILLEGAL-028", severity="varies")
def test_reply_outside_memory_is_refused(ring: Ring) -> None:
    """A reply is not reported as written to an address where the guest has no memory.  Source: virtio 1.3, 2.7.5,
    2.1.2."""
    out, back = _request(running(ring))
    _strictly(_harmless(ring, _request_at(out, back._replace(address=_OUTSIDE))))


def _end(ring: Ring) -> int:
    if not ring.memory.end:
        raise Undrivable("where this guest's memory ends is not known")
    return ring.memory.end


@pytest.mark.parametrize("which", ["readable", "writable"])
@pytest.mark.parametrize("address", [0xFFFF_FFFF_FFFF_FFF0, 0xFFFF_FFFF_FFFF_F000], ids=hex)
@case("ILLEGAL-011")
def test_address_plus_length_overflows(ring: Ring, address: int, which: str) -> None:
    """A buffer whose address and length pass 2^64 is refused.  Source: virtio 1.3, 2.7.5."""
    out, back = _request(running(ring))
    bad = Descriptor(address, 0xFFFF_FFFF, 0, 0)
    if which == "readable":
        _bad(ring, [bad._replace(flags=DESC_NEXT, next=1), Descriptor(back.address, back.length, DESC_WRITE, 0)], back)
    else:
        _bad(ring, [Descriptor(out.address, out.length, DESC_NEXT, 1), bad._replace(flags=DESC_WRITE)])


def _table(ring: Ring, entries: list[Descriptor], room: int = 0) -> int:
    where = ring.table(max(room, len(entries)))
    ring.memory.write(where, b"".join(DESCRIPTOR.pack(*entry) for entry in entries))
    return where


def _good_table(ring: Ring) -> tuple[int, Segment]:
    out, back = _request(ring)
    return _table(
        ring, [Descriptor(out.address, out.length, DESC_NEXT, 1), Descriptor(back.address, back.length, DESC_WRITE, 0)]
    ), back


@case("ILLEGAL-012")
def test_indirect_in_indirect(ring: Ring) -> None:
    """An indirect descriptor in an indirect table is refused.  Source: virtio 1.3, 2.7.5.3.1 (the driver MUST NOT set
    VIRTQ_DESC_F_INDIRECT within an indirect descriptor)."""
    running(ring, INDIRECT)
    inner, back = _good_table(ring)
    outer = _table(ring, [Descriptor(inner, 2 * DESC_SIZE, DESC_INDIRECT, 0)])
    _bad(ring, [Descriptor(outer, DESC_SIZE, DESC_INDIRECT, 0)], back)


def _indirect_and_next(ring: Ring) -> list[Descriptor]:
    running(ring, INDIRECT)
    table, _ = _good_table(ring)
    more = ring.writable(64)
    return [
        Descriptor(table, 2 * DESC_SIZE, DESC_INDIRECT | DESC_NEXT, 1),
        Descriptor(more.address, more.length, DESC_WRITE, 0),
    ]


@case("ILLEGAL-013")
def test_indirect_with_next(ring: Ring) -> None:
    """INDIRECT and NEXT in one descriptor do no harm.  Source: virtio 1.3, 2.7.5.3.1 (the driver MUST NOT set both)."""
    _harmless(ring, _indirect_and_next(ring))


@case("ILLEGAL-029", severity="varies")
def test_indirect_with_next_is_refused(ring: Ring) -> None:
    """INDIRECT and NEXT in one descriptor are refused.  Source: virtio 1.3, 2.7.5.3.1."""
    _strictly(_harmless(ring, _indirect_and_next(ring)))


@pytest.mark.parametrize("length", [0, 1, 15, 17, 31, 33])
@case("ILLEGAL-014")
def test_indirect_size(ring: Ring, length: int) -> None:
    """An indirect table whose length is 0 or not a multiple of 16 is refused.  Source: virtio 1.3, 2.7.5.3 (a table of
    len / 16 descriptors); QEMU hw/virtio/virtio.c (invalid size for indirect buffer table)."""
    running(ring, INDIRECT)
    table, back = _good_table(ring)
    _bad(ring, [Descriptor(table, length, DESC_INDIRECT, 0)], back)


@case("ILLEGAL-015")
def test_indirect_next_out_of_table(ring: Ring) -> None:
    """A `next` beyond an indirect table's end is refused, whether there is memory or not.  Source: virtio 1.3,
    2.7.5.3.1."""
    running(ring, INDIRECT)
    out, back = _request(ring)
    table = _table(
        ring, [Descriptor(out.address, out.length, DESC_NEXT, 1), Descriptor(back.address, back.length, DESC_WRITE, 0)]
    )
    _bad(ring, [Descriptor(table, DESC_SIZE, DESC_INDIRECT, 0)], back)


@case("ILLEGAL-016")
def test_indirect_loop(ring: Ring) -> None:
    """A loop in an indirect table is refused.  Source: virtio 1.3, 2.7.5.3."""
    running(ring, INDIRECT)
    out, back = _request(ring)
    table = _table(
        ring,
        [
            Descriptor(out.address, out.length, DESC_NEXT, 1),
            Descriptor(back.address, back.length, DESC_WRITE | DESC_NEXT, 1),
        ],
    )
    _bad(ring, [Descriptor(table, 2 * DESC_SIZE, DESC_INDIRECT, 0)], back)


@case("ILLEGAL-017")
def test_indirect_table_outside_memory(ring: Ring) -> None:
    """An indirect table where the guest has no memory is refused.  Source: virtio 1.3, 2.7.5.3."""
    running(ring, INDIRECT)
    _bad(ring, [Descriptor(_OUTSIDE, 2 * DESC_SIZE, DESC_INDIRECT, 0)])


@case("ILLEGAL-018")
def test_indirect_not_negotiated(ring: Ring) -> None:
    """INDIRECT without VIRTIO_F_INDIRECT_DESC negotiated is refused, or harmlessly handled as if it were negotiated.
    Source: virtio 1.3, 2.7.5.3.1 (the driver MUST NOT set it unless negotiated)."""
    running(ring, PLAIN)
    table, back = _good_table(ring)
    _by_hand(ring, [Descriptor(table, 2 * DESC_SIZE, DESC_INDIRECT, 0)])
    tag = ring.last_tag
    seen = ring.fate([back])
    if seen.kind == "processed":
        ring.note("taken as if it were negotiated")
        ring.right(seen.reply, tag)


def _longer_than_the_queue(ring: Ring) -> list[Descriptor]:
    if ring.device.legacy:
        raise Undrivable("a legacy device chooses the size itself")
    running(ring, INDIRECT, 16)
    request = ring.getattr()
    at, back = ring.readable(request), ring.writable(4096)
    entries = [Descriptor(at.address + i, 1, DESC_NEXT, i + 1) for i in range(len(request))]
    entries.append(Descriptor(back.address, back.length, DESC_WRITE, 0))
    return [Descriptor(_table(ring, entries), DESC_SIZE * len(entries), DESC_INDIRECT, 0)]


@case("ILLEGAL-019")
def test_chain_longer_than_the_queue(ring: Ring) -> None:
    """A chain of more descriptors than the queue has entries does no harm.
    Source: virtio 1.3, 2.7.5.3.1 (a driver MUST NOT create a chain longer than the Queue Size of the device)."""
    _harmless(ring, _longer_than_the_queue(ring))


@case("ILLEGAL-030", severity="varies")
def test_chain_longer_than_the_queue_is_refused(ring: Ring) -> None:
    """A chain of more descriptors than the queue has entries is refused.  Source: virtio 1.3, 2.7.5.3.1."""
    _strictly(_harmless(ring, _longer_than_the_queue(ring)))


@case("ILLEGAL-020")
def test_far_too_long_a_chain(ring: Ring) -> None:
    """A chain of thirty thousand descriptors is refused.  Source: virtio 1.3, 2.7.5.3.1; 2.7 (the maximum queue size
    is 32768)."""
    running(ring, INDIRECT)
    out, back = _request(ring)
    count = 30_000
    entries = [Descriptor(out.address, 1, DESC_NEXT, i + 1) for i in range(count - 1)]
    entries.append(Descriptor(back.address, back.length, DESC_WRITE, 0))
    _bad(ring, [Descriptor(_table(ring, entries), DESC_SIZE * count, DESC_INDIRECT, 0)], back)


@case("ILLEGAL-021", severity="linux")
def test_avail_index_jumps(ring: Ring) -> None:
    """A jump of avail.idx by more than the queue's size is refused, not processed.
    Source: virtio 1.3, 2.7.6; Linux drivers/vhost/vhost.c (vhost_get_avail_idx: Invalid avail index change);
    rust-vmm virtio-queue (Error::InvalidAvailRingIndex)."""
    running(ring)
    queue = ring.split
    size, begun = queue.size, queue.published
    for head in range(0, size, 2):
        # each its own room: many are in flight at once, and the device reads and writes them in any order
        out, back = ring.chain(ring.getattr(), 256)
        queue.put(head, Descriptor(out.address, out.length, DESC_NEXT, head + 1))
        queue.put(head + 1, Descriptor(back.address, back.length, DESC_WRITE, 0))
        queue.adopt(head)
    for index in range(size):
        ring.memory.write(ring.heads_at(begun + index), (index * 2 % size).to_bytes(2, "little"))
    queue.set_index(begun + size + 40)
    queue.kick()
    count = ring.used_count(1, still=0.5)
    refused = count <= size and (not count or ring.device.broken())
    what = f"a jump of avail.idx by {size + 40} in a queue of {size} is refused"
    holds(what, refused, seen=f"{count} buffers used", code="ring")


@case("ILLEGAL-022")
def test_head_twice_in_flight(ring: Ring) -> None:
    """A head that is made available twice at once is refused, or answered twice.  Source: virtio 1.3, 2.7.13.1 (the
    driver puts free entries of the table into a chain)."""
    ring.start(PLAIN)
    ring.session()
    queue = ring.split
    chain = ring.chain(ring.getattr())
    head = queue.add(chain)
    queue.offer(head)
    queue.publish()
    queue.kick()
    count = ring.used_count(1, still=0.3)
    if not ring.device.broken():
        one_of("times that a chain was used that was made available twice", count, (1, 2), code="ring")


def _rings(ring: Ring, change: Callable[[Rings], Rings]) -> None:
    """Start the queue with addresses other than the driver's, and send a request on it."""
    ring.negotiate(PLAIN)
    queue = ring.start_queue(16)
    ring.device.reset()
    ring.negotiate(PLAIN)
    bad = change(queue.rings)
    ring.device.start_queue(0, 16, bad)
    go(ring.device)
    chain = ring.chain(ring.getattr())
    queue.add(chain)
    queue.publish()
    queue.kick()
    try:
        seen = ring.outcome(chain)
    except TargetDied:
        raise
    except Finding as finding:
        # With the rings elsewhere the used ring may hold anything; only the device's survival counts.
        ring.note(str(finding))
        return
    ring.note(f"the device: {seen.kind}")


@pytest.mark.parametrize("part", ["descriptors", "driver", "device"])
@case("ILLEGAL-023")
def test_rings_unaligned(ring: Ring, part: str) -> None:
    """A ring area that is not aligned does no harm.  Source: virtio 1.3, 2.7 (alignment of 16, 2 and 4)."""
    if ring.device.legacy:
        raise Undrivable("a legacy queue is set as a page frame")

    def change(rings: Rings) -> Rings:
        moved = rings._replace(**{part: getattr(rings, part) + 1})
        ring.memory.allow(rings.device, 256)
        return moved

    _rings(ring, change)


@case("ILLEGAL-024")
def test_rings_overlap(ring: Ring) -> None:
    """A used ring laid over the descriptors does no harm beyond itself.  Source: virtio 1.3, 2.7 (three areas)."""
    if ring.device.legacy:
        raise Undrivable("a legacy queue is set as a page frame")

    def change(rings: Rings) -> Rings:
        ring.memory.allow(rings.descriptors, 256)
        return rings._replace(device=rings.descriptors)

    _rings(ring, change)


@pytest.mark.parametrize("part", ["descriptors", "driver", "device"])
@case("ILLEGAL-025")
def test_rings_outside_memory(ring: Ring, part: str) -> None:
    """A ring area at an address where the guest has no memory does no harm.  Source: virtio 1.3, 4.1.4.3 (queue_desc,
    queue_driver, queue_device: physical addresses)."""
    if ring.device.legacy:
        raise Undrivable("a legacy queue is set as a page frame of 32 bits")
    _rings(ring, lambda rings: rings._replace(**{part: _OUTSIDE}))


@case("ILLEGAL-026")
def test_others_in_flight(ring: Ring) -> None:
    """Valid requests that were published before an illegal chain are answered, or the device asks for a reset; they are
    not lost silently.  Source: virtio 1.3, 2.1.2 (the device SHOULD set DEVICE_NEEDS_RESET when it enters an error
    state)."""
    if ring.device.legacy:
        raise Undrivable("a legacy device has no bit to ask for a reset by: 2.1 has it since 1.0")
    running(ring)
    queue = ring.split
    for _ in range(4):
        queue.add(ring.chain(ring.getattr()))
    bad = queue.size - 1
    queue.put(bad, Descriptor(_OUTSIDE, 64, 0, 0))
    queue.adopt(bad)
    queue.offer(bad)
    queue.publish()
    queue.kick()
    count = ring.used_count(4)
    if not ring.device.broken():
        what = "sound requests before an illegal one that were answered by a device that does not ask for a reset"
        equal(what, min(count, 4), 4, code="ring")
