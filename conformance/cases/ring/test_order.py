"""Chains that a device with VIRTIO_F_IN_ORDER uses in the order in which they were made available, maybe in batches."""

from __future__ import annotations

from collections.abc import Sequence

from conformance.case import case
from conformance.cases.ring.shared import FILE, both_layouts, open_file, running, scaled
from conformance.checks import equal
from conformance.errors import Undrivable
from conformance.raw.operations import CLIENT_ID
from conformance.raw.ring import Ring
from conformance.virtio.queues import NOT_WRITTEN, Segment, Used
from protocol.codec import frame
from protocol.constants import LOCK_FLAGS_BLOCK, LOCK_SUCCESS, LOCK_TYPE_WRLCK
from protocol.messages import Rlock, Tflush, Tlock
from protocol.virtqueue import Feature

IN_ORDER = Feature.IN_ORDER.mask


def _reply(ring: Ring, chain: Sequence[Segment], used: Used) -> bytes:
    """The reply in a chain; of one that was used in a batch, as long as the message says."""
    if used.length != NOT_WRITTEN:
        return ring.reply_in(chain, used)
    data = ring.reply_in(chain, Used(used.id, sum(segment.length for segment in chain if segment.writable)))
    return data[: int.from_bytes(data[:4], "little")]


def _used(ring: Ring, heads: Sequence[int]) -> list[Used]:
    """Collect until all of them are used; they are in that order."""
    found: list[Used] = []
    while len(found) < len(heads):
        found += ring.collect()
    equal("chains used, in the order of their use", [one.id for one in found], list(heads), code="ring")
    return found


@both_layouts
@case("ORDER-001")
def test_used_in_order(ring: Ring, layout: int) -> None:
    """With VIRTIO_F_IN_ORDER, chains that are made available together are used in that order, each reply in its own
    buffers, round after round past the end of the ring.
    Source: virtio 1.3, 2.7.9 and 2.8.9 (in-order use of descriptors; a batch has the element of its last chain)."""
    running(ring, layout | IN_ORDER)
    queue = ring.queue
    queue.expect_order()
    for _ in range(scaled(12)):
        ring.free_all()
        sent = []
        for _ in range(queue.size // 4):
            chain = ring.chain(ring.getattr(), 256)
            sent.append((queue.add(chain), chain, ring.last_tag))
        queue.publish()
        queue.kick()
        for (_, chain, tag), used in zip(sent, _used(ring, [head for head, *_ in sent]), strict=True):
            ring.right(_reply(ring, chain, used), tag)


@both_layouts
@case("ORDER-002")
def test_nothing_overtakes_a_request_that_waits(ring: Ring, layout: int) -> None:
    """With VIRTIO_F_IN_ORDER, a chain whose request is carried out at once is used only after an earlier one whose
    request waits; here that one waits for a lock until it is flushed.
    Source: virtio 1.3, 2.7.9 and 2.8.9."""
    with open_file(ring, layout | IN_ORDER, b"abc"):
        held = ring.ask(Tlock(ring.number(), FILE, LOCK_TYPE_WRLCK, 0, 0, 0, 1, CLIENT_ID))
        if not isinstance(held, Rlock) or held.status != LOCK_SUCCESS:
            raise Undrivable("the device grants no lock, so that no request waits")
        ring.queue.expect_order()
        waiting = Tlock(ring.number(), FILE, LOCK_TYPE_WRLCK, LOCK_FLAGS_BLOCK, 0, 0, 2, CLIENT_ID)
        chains = [ring.chain(frame(waiting), 256), ring.chain(ring.getattr(), 256)]
        asked = ring.last_tag
        chains.append(ring.chain(frame(Tflush(ring.number(), waiting.tag)), 256))
        heads = [ring.send(chain) for chain in chains]
        used = _used(ring, heads)
        ring.right(_reply(ring, chains[1], used[1]), asked)
        ring.serves()
