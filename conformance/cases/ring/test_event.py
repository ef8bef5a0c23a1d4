"""Notifications in both directions: suppressed, wanted, repeated, spurious."""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.cases.ring.shared import EVENTS, both_layouts, flood, running, scaled
from conformance.checks import holds
from conformance.raw.ring import ANSWER, QUIET, Ring
from guests.host.waiting import happens
from protocol.virtqueue import AVAIL_NO_INTERRUPT, needs_event


def _notified(ring: Ring, seconds: float | None = None) -> bool:
    return happens(ring.device.notified, ANSWER if seconds is None else seconds, 0.002)


def _notifies(ring: Ring, what: str) -> None:
    """A used buffer notification comes."""
    holds(what, _notified(ring), seen="no notification", code="ring")


@both_layouts
@case("EVENT-001")
def test_notified_when_used(ring: Ring, layout: int) -> None:
    """The device notifies for a used buffer when nothing suppresses it.  Source: virtio 1.3, 2.7.7.2, 2.8.10."""
    running(ring, layout)
    ring.device.notified()
    ring.serves()
    _notifies(ring, "a used buffer is notified")


@case("EVENT-002", severity="varies")
def test_no_interrupt_is_honoured(ring: Ring) -> None:
    """With VIRTQ_AVAIL_F_NO_INTERRUPT set no notification comes; the device may ignore the flag.  Source: virtio 1.3,
    2.7.7.2 (the device SHOULD NOT send a notification)."""
    running(ring)
    ring.split.set_flags(AVAIL_NO_INTERRUPT)
    _notified(ring, 0.05)
    ring.serves()
    came = _notified(ring, QUIET)
    holds("no notification comes while avail.flags says VIRTQ_AVAIL_F_NO_INTERRUPT", not came, code="ring")


@case("EVENT-003")
def test_no_interrupt_and_back(ring: Ring) -> None:
    """Suppressed or not, every request is answered, and notifications come again when the flag is cleared.
    Source: virtio 1.3, 2.7.7."""
    running(ring)
    for flags in (AVAIL_NO_INTERRUPT, 0, AVAIL_NO_INTERRUPT, 0):
        ring.split.set_flags(flags)
        _notified(ring, 0.02)
        ring.serves()
        if not flags:
            _notifies(ring, "notifications come again once VIRTQ_AVAIL_F_NO_INTERRUPT was taken back")


@case("EVENT-004")
def test_used_event_reached(ring: Ring) -> None:
    """With event indices a notification comes when used.idx passes used_event.  Source: virtio 1.3, 2.7.7.2 (the device
    MUST send a notification when used_event is reached)."""
    running(ring, EVENTS)
    _notified(ring, 0.02)
    ring.split.set_used_event(ring.split.seen)
    ring.serves()
    _notifies(ring, "a notification comes when used.idx passes used_event")


@case("EVENT-005", severity="varies")
def test_used_event_ahead(ring: Ring) -> None:
    """With event indices no notification should come before used_event is reached; one may.  Source: virtio 1.3,
    2.7.7.2 (SHOULD NOT)."""
    running(ring, EVENTS)
    queue = ring.split
    _notified(ring, 0.02)
    queue.event_idx = False  # the driver's own bookkeeping would move it
    queue.set_used_event(queue.seen + 100)
    ring.serves()
    came = _notified(ring, QUIET)
    holds("no notification comes while used_event lies a hundred buffers ahead", not came, code="ring")


@case("EVENT-006")
def test_flags_with_event_index(ring: Ring) -> None:
    """With event indices negotiated avail.flags means nothing: the device ignores it.  Source: virtio 1.3, 2.7.7.2 (the
    device MUST ignore the lower bit of flags)."""
    running(ring, EVENTS)
    _notified(ring, 0.02)
    ring.split.set_flags(AVAIL_NO_INTERRUPT)
    ring.split.set_used_event(ring.split.seen)
    ring.serves()
    _notifies(ring, "avail.flags suppresses nothing where event indices are negotiated")


@both_layouts
@case("EVENT-007")
def test_kicks_without_buffers(ring: Ring, layout: int) -> None:
    """Notifications without a buffer are harmless.  Source: virtio 1.3, 2.7.10 (notifications may be spurious)."""
    running(ring, layout)
    for _ in range(200):
        ring.queue.kick()
    used = ring.queue.peek()
    holds("nothing is used where nothing was available", not used, seen=used, code="ring")
    ring.serves()


@both_layouts
@case("EVENT-008")
def test_kick_storm(ring: Ring, layout: int) -> None:
    """Many notifications for each buffer are harmless.  Source: virtio 1.3, 2.7.10."""
    running(ring, layout)
    for _ in range(scaled(100)):
        queue = ring.queue
        chain = ring.chain(ring.getattr())
        head = queue.add(chain)
        for _ in range(5):
            queue.kick()
        queue.publish()
        for _ in range(20):
            queue.kick()
        ring.right(ring.reply_in(chain, ring.wait(head)))
        ring.free_all()


@case("EVENT-009")
def test_kick_of_another_queue(ring: Ring) -> None:
    """A notification for a queue that does not exist is harmless.  Source: virtio 1.3, 4.1.5.2 (the queue's index)."""
    running(ring)
    ring.device.kick(1)
    ring.device.kick(63)
    ring.serves()


@both_layouts
@case("EVENT-010")
def test_one_kick_for_many(ring: Ring, layout: int) -> None:
    """One notification is enough for all buffers made available before it.  Source: virtio 1.3, 2.7.13 (the driver may
    make several buffers available before it notifies)."""
    running(ring, layout)
    count = flood(ring)
    while count > 0:
        count -= len(ring.collect())


@case("EVENT-011")
def test_kicks_only_when_asked(ring: Ring) -> None:
    """With event indices, a driver that notifies only when avail_event asks for it gets every request served, even
    after the queue was idle.  Source: virtio 1.3, 2.7.10; Linux virtqueue_kick_prepare_split, which saves every
    notification that the device does not ask for; a device that never moves avail_event hangs such a guest."""
    running(ring, EVENTS)
    queue = ring.split
    event = queue.rings.device + 4 + 8 * queue.size
    for _ in range(scaled(300)):
        chain = ring.chain(ring.getattr(), 256)
        old = queue.published
        head = queue.add(chain)
        queue.publish()
        asked = int.from_bytes(ring.memory.read(event, 2), "little")
        if needs_event(asked, queue.published, old):
            queue.kick()
        elif not happens(lambda: bool(ring.memory.changed16(queue.rings.device + 2, queue.seen)), ANSWER, 0.002):
            holds("a request that the device does not want to be notified of is served", False, seen=asked, code="ring")
            return
        ring.right(ring.reply_in(chain, ring.wait(head)))
        ring.free_all()


@pytest.mark.parametrize("ahead", [0, 1, 3, 7])
@case("EVENT-012")
def test_used_event_within_a_batch(ring: Ring, ahead: int) -> None:
    """With event indices a notification comes when used.idx passes used_event, also when several buffers are used at
    once and used_event lies among them.  Source: virtio 1.3, 2.7.7.2; Linux vring_need_event; a device that compares
    for equality leaves the driver waiting."""
    running(ring, EVENTS)
    ring.serves()
    queue = ring.split
    queue.event_idx = False  # the driver's own bookkeeping would move used_event
    for _ in range(scaled(20)):
        ring.free_all()
        _notified(ring, 0.002)
        queue.set_used_event((queue.seen + ahead) & 0xFFFF)
        for _ in range(8):
            queue.add(ring.chain(ring.getattr(), 256))
        queue.publish()
        queue.kick()
        left = 8
        while left > 0:
            left -= len(ring.collect())
        _notifies(ring, "a notification comes when used.idx passes used_event in a batch of eight")
