"""What several families of ring cases share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import pytest

from conformance.raw.ring import Ring
from conformance.virtio.driver import PLAIN
from conformance.virtio.queues import Segment
from protocol.virtqueue import Feature

INDIRECT = PLAIN | Feature.INDIRECT_DESC.mask
EVENTS = PLAIN | Feature.EVENT_IDX.mask
PACKED = PLAIN | Feature.RING_PACKED.mask
both_layouts = pytest.mark.parametrize("layout", [pytest.param(PLAIN, id="split"), pytest.param(PACKED, id="packed")])
"""The case on a split and on a packed ring, where the device offers both."""


def scaled(number: int) -> int:
    """A number of repetitions, divided by ASSAY9_RING_SCALE for quick runs."""
    return max(1, number // max(1, int(os.environ.get("ASSAY9_RING_SCALE", "1"))))


def running(ring: Ring, wanted: int = PLAIN, size: int | None = None) -> Ring:
    """The device with a session on it."""
    ring.start(wanted, size)
    ring.session()
    return ring


def pieces(ring: Ring, data: bytes, lengths: Iterable[int], align: int = 1) -> list[Segment]:
    """A request in buffers of those lengths, the rest in one more."""
    found, at = [], 0
    for length in lengths:
        if at < len(data):
            found.append(ring.readable(data[at : at + length], align))
            at += length
    if at < len(data):
        found.append(ring.readable(data[at:], align))
    return found


def room(ring: Ring, lengths: Sequence[int]) -> list[Segment]:
    """Room for a reply in buffers of those lengths."""
    return [ring.writable(length) for length in lengths]


__all__ = ["EVENTS", "INDIRECT", "PACKED", "PLAIN", "both_layouts", "pieces", "room", "running", "scaled"]
