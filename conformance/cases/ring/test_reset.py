"""Reset at any moment, and the device status field."""

from __future__ import annotations

import time

from conformance.case import case
from conformance.cases.ring.shared import PLAIN, both_layouts, flood, running, scaled
from conformance.checks import equal, holds
from conformance.errors import Undrivable
from conformance.raw.expectation import spell
from conformance.raw.ring import Ring
from conformance.virtio.queues import SplitQueue
from conformance.virtio.vhost_user import VhostUserDevice
from protocol.virtqueue import Feature, Status


@both_layouts
@case("RESET-001")
def test_requests_in_flight(ring: Ring, layout: int) -> None:
    """A reset with requests in flight ends them, and a clean session follows.  Source: virtio 1.3, 2.4.1 (the device
    MUST reinitialize device status to 0 after receiving a reset)."""
    running(ring, layout)
    for _ in range(scaled(20)):
        ring.free_all()
        flood(ring)
        ring.device.reset()
        if ring.device.has_status:
            equal("device status after a reset", f"{ring.device.status():#x}", "0x0", code="ring")
        ring.restart()
        running(ring, layout).serves()


@case("RESET-002")
def test_nothing_is_written_after_a_reset(ring: Ring) -> None:
    """Once a reset is done the device does not write to any buffer from before it.  Source: virtio 1.3, 2.4.1 (the
    device MUST NOT consume buffers or notify), 3.3.1."""
    running(ring)
    flood(ring)
    ring.device.reset()
    queue = ring.queue
    begin, length = queue.rings.descriptors, ring._next - queue.rings.descriptors
    before = ring.memory.read(begin, length)
    time.sleep(0.2)
    equal("memory of before the reset, 0.2 s after it", ring.memory.read(begin, length), before, code="ring")


@case("RESET-003")
def test_session_is_gone(ring: Ring) -> None:
    """A reset ends the 9P session: its fids are unknown afterwards.  Source: virtio 1.3, 2.4; 9P2000 version(5)."""
    running(ring)
    ring.restart()
    ring.start()
    seen = ring.decoded(ring.exchange(ring.chain(ring.getattr())))
    gone = type(seen).__name__ != "Rgetattr"
    holds("a fid of before the reset is unknown", gone, seen=spell(seen), code="ring")


@case("RESET-004")
def test_features_again(ring: Ring) -> None:
    """After a reset other features may be negotiated, any number of times.  Source: virtio 1.3, 2.4, 3.1.1."""
    offered = ring.device.offered()
    for extra in (0, Feature.INDIRECT_DESC.mask, Feature.EVENT_IDX.mask, Feature.RING_PACKED.mask, 0):
        if extra & ~offered:
            continue
        ring.restart()
        running(ring, PLAIN | extra).serves()


@case("RESET-005")
def test_status_reads_back(ring: Ring) -> None:
    """The status field reads as it was written, step by step.  Source: virtio 1.3, 2.1, 3.1.1."""
    device = ring.device
    if not device.has_status:
        raise Undrivable("this back end does not take the status field")
    device.reset()
    steps = [Status.ACKNOWLEDGE, Status.ACKNOWLEDGE | Status.DRIVER]
    for value in steps:
        device.set_status(value)
        equal("device status that was written", f"{device.status():#x}", f"{int(value):#x}", code="ring")


@case("RESET-006")
def test_driver_ok_without_features_ok(ring: Ring) -> None:
    """DRIVER_OK before FEATURES_OK does no harm: a proper start works afterwards.
    Source: virtio 1.3, 3.1.1 (order)."""
    device = ring.device
    device.reset()
    device.set_status(Status.DRIVER_OK)
    device.kick(0)
    device.set_status(Status.FEATURES_OK | Status.DRIVER_OK)
    device.kick(0)
    running(ring).serves()


@case("RESET-007")
def test_queue_without_status(ring: Ring) -> None:
    """A queue that is set up and kicked before DRIVER_OK does no harm; after a reset the device works as before.
    Source: virtio 1.3, 3.1.1 (the driver MUST NOT send notifications before DRIVER_OK), 2.1.2."""
    ring.negotiate(PLAIN)
    ring.start_queue()
    ring.queue.add(ring.chain(ring.getattr()))
    ring.queue.publish()
    ring.queue.kick()
    ring.device.reset()
    running(ring).serves()


@case("RESET-008")
def test_failed(ring: Ring) -> None:
    """A driver that gives up (FAILED) can start over.  Source: virtio 1.3, 2.1 (FAILED), 3.1.1."""
    running(ring)
    ring.device.set_status(Status.FAILED | Status.ACKNOWLEDGE)
    ring.restart()
    running(ring).serves()


@case("RESET-009")
def test_fifty_resets(ring: Ring) -> None:
    """Fifty resets in a row, each followed by a session, do not break the next one.  Source: virtio 1.3, 2.4."""
    for _ in range(scaled(50)):
        ring.restart()
        running(ring).serves()


@both_layouts
@case("RESET-010")
def test_stopped_and_resumed(ring: Ring, layout: int) -> None:
    """A queue that is stopped reports its position and resumes there: no request is served twice or skipped.
    Source: vhost-user protocol, VHOST_USER_GET_VRING_BASE and SET_VRING_BASE, by which a guest is stopped and migrated;
    virtio 1.3, 2.7.6."""
    device = ring.device
    if not isinstance(device, VhostUserDevice):
        raise Undrivable("a queue is stopped by the front end of a vhost-user device")
    running(ring, layout)
    for _ in range(3):
        ring.serves()
    for _ in range(scaled(5)):
        base = device.stop_queue(0)
        queue = ring.queue
        if isinstance(queue, SplitQueue):
            equal("position of a split queue that was stopped", base, queue.seen, code="ring")
        device.resume_queue(0, queue.size, queue.rings, base)
        for _ in range(3):
            ring.serves()
        ring.free_all()
