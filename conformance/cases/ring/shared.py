"""What several families of ring cases share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pytest

from conformance.errors import Finding
from conformance.raw.expectation import spell
from conformance.raw.operations import CREATING
from conformance.raw.ring import ROOT, Ring
from conformance.virtio.driver import PLAIN
from conformance.virtio.queues import Segment
from protocol.constants import O_RDWR, O_TRUNC
from protocol.messages import Rlcreate, Rremove, Rwalk, Rwrite, Tlcreate, Tremove, Twalk, Twrite
from protocol.registry import Message
from protocol.virtqueue import Feature

FILE = 7
"""The fid of `new_file` and `open_file`."""
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


def flood(ring: Ring) -> int:
    """Fill half of the queue with requests, notify once, and return how many they are."""
    queue = ring.queue
    count = queue.size // 2
    for _ in range(count):
        queue.add(ring.chain(ring.getattr(), 256))
    queue.publish()
    queue.kick()
    return count


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


R = TypeVar("R", bound=Message)


def reply_of(message: Message, wanted: type[R], call: str) -> R:
    """The reply, of the type that it must have; another type ends the case."""
    if isinstance(message, wanted):
        return message
    text = f"{call} was answered with {spell(message)}, expected {wanted.__name__}"
    raise Finding(text, "reply", {"call": call, "seen": type(message).__name__})


def new_file(ring: Ring, name: bytes) -> None:
    """FILE is open for reading and writing on a file of that name, which is empty."""
    reply_of(ring.ask(Twalk(ring.number(), ROOT, FILE, ())), Rwalk, "Twalk")
    flags = O_RDWR | O_TRUNC | CREATING
    reply_of(ring.ask(Tlcreate(ring.number(), FILE, name, flags, 0o644, 0)), Rlcreate, "Tlcreate")


@contextmanager
def open_file(ring: Ring, layout: int, data: bytes) -> Iterator[None]:
    """The device runs, and FILE is open on a new file that holds `data`. The file is removed afterwards."""
    running(ring, layout)
    new_file(ring, b"ring-file")
    try:
        if data:
            reply_of(ring.ask(Twrite(ring.number(), FILE, 0, data)), Rwrite, "Twrite")
        ring.free_all()
        yield
    finally:
        ring.free_all()
        reply_of(ring.ask(Tremove(ring.number(), FILE)), Rremove, "Tremove")


__all__ = [
    "EVENTS",
    "FILE",
    "INDIRECT",
    "PACKED",
    "PLAIN",
    "both_layouts",
    "new_file",
    "open_file",
    "pieces",
    "reply_of",
    "room",
    "running",
    "scaled",
]
