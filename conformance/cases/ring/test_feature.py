"""Feature negotiation."""

from __future__ import annotations

from itertools import combinations

from conformance.case import case
from conformance.cases.ring.shared import PLAIN, running
from conformance.checks import equal, holds
from conformance.errors import Undrivable
from conformance.raw.ring import Ring
from conformance.virtio.driver import negotiate
from protocol.virtqueue import Feature, Status

_UNKNOWN = (1 << 20, 1 << 50, 1 << 63)
_DRIVEN = (Feature.INDIRECT_DESC, Feature.EVENT_IDX, Feature.RING_PACKED)


@case("FEATURE-001", severity="linux")
def test_mount_tag_is_offered(ring: Ring) -> None:
    """A 9P device offers VIRTIO_9P_MOUNT_TAG.  Source: Linux net/9p/trans_virtio.c (p9_virtio_probe fails
    without)."""
    offered = ring.device.offered()
    what = "VIRTIO_9P_MOUNT_TAG (bit 0) is among the features offered"
    holds(what, offered & Feature.MOUNT_TAG.mask, seen=f"{offered:#x}", code="ring")


@case("FEATURE-002")
def test_version_1(ring: Ring) -> None:
    """A modern device offers VIRTIO_F_VERSION_1.  Source: virtio 1.3, 6.1 (a device MUST offer it)."""
    if ring.device.legacy:
        raise Undrivable("a legacy device does not have it")
    offered = ring.device.offered()
    what = "VIRTIO_F_VERSION_1 (bit 32) is among the features offered"
    holds(what, offered & Feature.VERSION_1.mask, seen=f"{offered:#x}", code="ring")


@case("FEATURE-003")
def test_every_offered_subset(ring: Ring) -> None:
    """Every subset of the offered features that the suite can drive is accepted, and works.  Source: virtio 1.3, 2.2.2
    (the device SHOULD accept any valid subset of features)."""
    offered = [f for f in _DRIVEN if f.mask & ring.device.offered()]
    for count in range(len(offered) + 1):
        for chosen in combinations(offered, count):
            ring.restart()
            ring.note(f"with {[f.name for f in chosen]}")
            running(ring, PLAIN | sum(f.mask for f in chosen)).serves()


@case("FEATURE-004", severity="varies")
def test_none_at_all(ring: Ring) -> None:
    """Without VERSION_1 a modern device refuses FEATURES_OK, or works as a legacy device.
    Source: virtio 1.3, 6.1 (a device MAY fail to operate further if VIRTIO_F_VERSION_1 is not accepted)."""
    device = ring.device
    if device.legacy or not device.has_status:
        raise Undrivable("needs a modern device with a status field")
    device.reset()
    device.set_status(Status.ACKNOWLEDGE | Status.DRIVER)
    device.accept(0)
    device.set_status(Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK)
    ring.note(f"status {device.status():#x} after no features at all")
    device.reset()
    running(ring).serves()


@case("FEATURE-005")
def test_unknown_bits(ring: Ring) -> None:
    """When the driver writes bits that were not offered, the device refuses FEATURES_OK or ignores those bits.
    Source: virtio 1.3, 2.2.1 (the driver MUST NOT accept a feature which the device did not offer), 3.1.1 step 6."""
    device = ring.device
    for bit in _UNKNOWN:
        if device.legacy and bit >> 32:
            continue
        if device.offered() & bit:
            continue
        device.reset()
        device.set_status(Status.ACKNOWLEDGE | Status.DRIVER)
        device.accept(PLAIN | bit)
        device.set_status(Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK)
        if device.has_status:
            ring.note(f"bit {bit.bit_length() - 1}: status {device.status():#x}")
    device.reset()
    running(ring).serves()


@case("FEATURE-006")
def test_offer_is_stable(ring: Ring) -> None:
    """The offered features do not change when some are accepted, nor after a reset.  Source: virtio 1.3, 2.2 (feature
    bits offered), 2.4."""
    before = ring.device.offered()
    negotiate(ring.device, PLAIN)
    during = ring.device.offered()
    ring.device.reset()
    after = ring.device.offered()
    equal("features offered once some were negotiated", f"{during:#x}", f"{before:#x}", code="ring")
    equal("features offered after a reset", f"{after:#x}", f"{before:#x}", code="ring")
