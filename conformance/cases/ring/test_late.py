"""Requests that are not answered at once: their buffers come back all the same."""

from __future__ import annotations

from conformance.case import case
from conformance.cases.ring.shared import FILE, both_layouts, open_file, reply_of
from conformance.checks import equal
from conformance.errors import Undrivable
from conformance.raw.operations import CLIENT_ID
from conformance.raw.ring import Ring
from conformance.virtio.queues import Segment
from protocol.codec import frame
from protocol.constants import LOCK_FLAGS_BLOCK, LOCK_SUCCESS, LOCK_TYPE_WRLCK
from protocol.messages import Rflush, Rlock, Tflush, Tlock
from protocol.registry import Message


def _sent(ring: Ring, message: Message) -> tuple[int, list[Segment]]:
    """One more chain in flight: its head and its buffers."""
    chain = ring.chain(frame(message), 256)
    return ring.send(chain), chain


@both_layouts
@case("LATE-001")
def test_buffers_of_a_flushed_request(ring: Ring, layout: int) -> None:
    """The buffers of a request that was flushed are used, with its reply or with nothing: a driver gets them back, and
    the queue does not run out of descriptors.  Source: virtio 1.3, 2.7.14 (each buffer is returned in the used ring);
    flush(5), which says that no reply follows Rflush, not that the buffers stay."""
    with open_file(ring, layout, b"abc"):
        held = ring.ask(Tlock(ring.number(), FILE, LOCK_TYPE_WRLCK, 0, 0, 0, 1, CLIENT_ID))
        if not isinstance(held, Rlock) or held.status != LOCK_SUCCESS:
            raise Undrivable("the device grants no lock, so that no request waits")
        waiting = Tlock(ring.number(), FILE, LOCK_TYPE_WRLCK, LOCK_FLAGS_BLOCK, 0, 0, 2, CLIENT_ID)
        lock, lock_chain = _sent(ring, waiting)
        flush, flush_chain = _sent(ring, Tflush(ring.number(), waiting.tag))
        flying = {lock: lock_chain, flush: flush_chain}
        while flying:
            for used in ring.collect():
                reply = ring.reply_in(flying.pop(used.id), used)
                if used.id == flush:
                    reply_of(ring.decoded(reply), Rflush, "Tflush")
                elif reply:
                    tag = ring.decoded(reply).tag
                    equal("tag of the reply in the buffers of the Tlock", tag, waiting.tag, code="reply", call="Tlock")
        ring.serves()
