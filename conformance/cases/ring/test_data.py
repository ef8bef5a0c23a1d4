"""Requests with data, through buffers of every arrangement: what is read and written is whole, and in its place.

A device may put the data of an Rread straight into the driver's buffers, and take that of a Twrite out of them:
another path than that of its other messages, with borders of its own where the header ends.
"""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.cases.ring.shared import FILE, both_layouts, open_file, pieces, reply_of, room
from conformance.checks import equal
from conformance.raw.ring import Ring
from protocol.codec import frame
from protocol.constants import RREAD_HDRSZ
from protocol.messages import Rread, Rwrite, Tread, Twrite

_READ, _WRITTEN = 1000, 6000
"""Bytes of data. What is written is more than a page, so that a device may take it from where it lies."""


def _content(count: int) -> bytes:
    """Bytes of which no part of a power of two repeats, so that a shift is seen."""
    return bytes((at * 7 + at // 251) % 256 for at in range(count))


@pytest.mark.parametrize(
    "lengths",
    [(), (7,), (10,), (11,), (12,), (1,) * 14, (5, 6), (7, 4, 1), (11, 500), (200, 300), (1, 1009)],
    ids=lambda v: "-".join(map(str, v)) or "one",
)
@both_layouts
@case("DATA-001")
def test_data_that_is_read(ring: Ring, layout: int, lengths: tuple[int, ...]) -> None:
    """The data of an Rread lies behind its header, however long the writable buffers are; the used length is that
    of the whole message.  Source: virtio 1.3, 2.7.4.1 (no assumption on the arrangement of descriptors), 2.7.8.2."""
    data = _content(_READ)
    with open_file(ring, layout, data):
        chain = [ring.readable(frame(Tread(ring.number(), FILE, 0, _READ))), *room(ring, [*lengths, 4096])]
        reply = ring.exchange(chain)
        equal("used length of the chain with Rread", len(reply), RREAD_HDRSZ + _READ, code="ring", call="Tread")
        seen = reply_of(ring.decoded(reply), Rread, "Tread")
        equal("data in Rread", bytes(seen.data), data, code="content", call="Tread")


@pytest.mark.parametrize(
    "lengths",
    [(), (7,), (22,), (23,), (24,), (1,) * 26, (11, 12), (7, 16, 1), (23, 4096), (2000, 2000, 2000), (1, 6021)],
    ids=lambda v: "-".join(map(str, v)) or "one",
)
@both_layouts
@case("DATA-002")
def test_data_that_is_written(ring: Ring, layout: int, lengths: tuple[int, ...]) -> None:
    """The data of a Twrite is taken from behind its header, whatever the lengths of the readable buffers.
    Source: virtio 1.3, 2.7.4.1 (no assumption on the arrangement of descriptors)."""
    data = _content(_WRITTEN)
    with open_file(ring, layout, b""):
        request = frame(Twrite(ring.number(), FILE, 0, data))
        reply = ring.exchange([*pieces(ring, request, lengths), ring.writable(4096)])
        count = reply_of(ring.decoded(reply), Rwrite, "Twrite").count
        equal("count in Rwrite", count, _WRITTEN, code="value", call="Twrite")
        ring.free_all()
        held = reply_of(ring.ask(Tread(ring.number(), FILE, 0, _WRITTEN), room=8192), Rread, "Tread")
        equal("content of the file after Rwrite", bytes(held.data), data, code="content", call="Twrite")
