"""The configuration space of the 9P device: the length of the tag, then the tag."""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.cases.ring.shared import running
from conformance.checks import equal, holds
from conformance.errors import Undrivable
from conformance.raw.ring import Ring


def _tag(ring: Ring) -> bytes:
    return ring.device.config(2, int.from_bytes(ring.device.config(0, 2), "little"))


@case("CONFIG-001", severity="linux")
def test_tag(ring: Ring) -> None:
    """The configuration space holds the tag's length, 16 bits little-endian, then the tag without a NUL.  Source: Linux
    include/uapi/linux/virtio_9p.h (struct virtio_9p_config)."""
    seen = _tag(ring)
    if ring.tag is not None:
        equal("mount tag in the configuration space", seen, ring.tag)
    holds("the mount tag in the configuration space is not empty and has no NUL", seen and 0 not in seen, seen=seen)


@pytest.mark.parametrize("width", [1, 2, 4])
@case("CONFIG-002")
def test_every_width(ring: Ring, width: int) -> None:
    """Reads of 8, 16 and 32 bits show the same bytes.  Source: virtio 1.3, 4.1.3.1 (the driver MUST access each field
    with its own width), 2.5."""
    whole = ring.device.config(0, 2) + _tag(ring)
    length = len(whole) // width * width
    seen = ring.device.config(0, length, width)
    equal(f"configuration space in accesses of {width} bytes, beside byte by byte", seen, whole[:length])


@case("CONFIG-003")
def test_every_offset(ring: Ring) -> None:
    """Each byte reads the same alone as in a read of the whole space, every time.  Source: virtio 1.3, 2.5 (stable
    within a configuration generation)."""
    whole = ring.device.config(0, 2) + _tag(ring)
    for offset, byte in enumerate(whole):
        seen = ring.device.config(offset, 1)
        equal(f"byte {offset} of the configuration space, read alone", seen[0], byte)


@case("CONFIG-004")
def test_beyond_the_end(ring: Ring) -> None:
    """Reads beyond the tag are harmless.  Source: virtio 1.3, 2.5 (the driver checks that a field exists)."""
    length = 2 + len(_tag(ring))
    for offset in (length, length + 1, 200, 254):
        ring.note(f"offset {offset}: {ring.device.config(offset, 1).hex()}")
    running(ring).serves()


@case("CONFIG-005")
def test_writes_change_nothing(ring: Ring) -> None:
    """The tag cannot be written.  Source: Linux include/uapi/linux/virtio_9p.h (no field for the driver to write);
    virtio 1.3, 2.5."""
    before = _tag(ring)
    try:
        ring.device.set_config(0, b"\xff\xff" + b"X" * len(before))
    except NotImplementedError:
        raise Undrivable("this transport has no writes to the configuration space") from None
    equal("mount tag after a write to the configuration space", _tag(ring), before, code="changed")
    running(ring).serves()
