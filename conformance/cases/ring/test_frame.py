"""9P frames that do not fit their buffers."""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.cases.ring.shared import FILE, new_file, reply_of, running
from conformance.checks import between, equal
from conformance.raw.ring import Ring
from protocol.codec import decode, frame
from protocol.messages import Rread, Rwrite, Tread, Twrite


@pytest.mark.parametrize("change", [-4, -1, 1, 64, 0x10000], ids=lambda v: f"{v:+d}")
@case("FRAME-001", severity="linux")
def test_size_field_disagrees(ring: Ring, change: int) -> None:
    """A 9P size field that is not the length of the readable buffers is refused, not processed.
    Source: 9P2000 intro(5) (size counts the whole message); virtio 1.3, 2.7.5 (the descriptors bound the buffer);
    crosvm and Linux net/9p/client.c (p9_parse_header) refuse such frames."""
    running(ring)
    request = ring.getattr()
    lying = (len(request) + change).to_bytes(4, "little") + request[4:]
    chain = ring.chain(lying)
    ring.send(chain)
    what = f"a frame of {len(request)} bytes whose size field says {len(request) + change}"
    equal(what, "accepted" if ring.fate(chain).kind == "processed" else "refused", "refused", code="ring")


@pytest.mark.parametrize("length", [1, 4, 6])
@case("FRAME-002")
def test_shorter_than_a_header(ring: Ring, length: int) -> None:
    """A request shorter than a 9P header is refused.  Source: 9P2000 intro(5) (size[4] type[1] tag[2])."""
    running(ring)
    chain = ring.chain(ring.getattr()[:length])
    ring.send(chain)
    ring.refused(chain)


@pytest.mark.parametrize("room", [1, 6, 7, 10, 100, 159])
@case("FRAME-003")
def test_reply_does_not_fit(ring: Ring, room: int) -> None:
    """A reply that does not fit is not written beyond its buffers, nor reported as whole.
    Source: virtio 1.3, 2.7.8.2; QEMU hw/9pfs/virtio-9p-device.c (VirtFS reply type needs more bytes: virtio_error)."""
    running(ring)
    chain = [ring.readable(ring.getattr()), ring.writable(room)]
    ring.send(chain)
    seen = ring.fate(chain)
    equal(
        f"bytes of a reply of 160 in room for {room}",
        len(seen.reply) if seen.kind == "processed" else 0,
        0,
        code="ring",
    )


@case("FRAME-004")
def test_request_larger_than_msize(ring: Ring) -> None:
    """A Twrite larger than the negotiated msize, to a file open for writing, is refused and writes nothing, or writes
    as many bytes as Rwrite says and no others; the device survives it.
    Source: 9P2000 version(5) (msize: the longest message that any message on the connection may have); write(5)."""
    ring.start()
    ring.session(8192)
    data = bytes(range(256)) * 240
    new_file(ring, b"frame-004")
    chain = ring.chain(frame(Twrite(ring.number(), FILE, 0, data)))
    ring.send(chain)
    seen = ring.fate(chain)
    if seen.kind == "broken":
        return  # nothing more can be asked; after each case the runner checks that a reset brings it back
    count = 0
    if seen.kind == "processed":
        count = reply_of(decode(seen.reply), Rwrite, "Twrite").count
        between("count in Rwrite", count, 0, len(data), call="Twrite")
    held = bytearray()
    while len(held) <= len(data):
        part = reply_of(ring.ask(Tread(ring.number(), FILE, len(held), 4096), 8192), Rread, "Tread").data
        if not part:
            break
        held += part
    equal("content of the file after Rwrite", bytes(held), data[:count], code="content", call="Twrite")


@case("FRAME-005")
def test_bytes_behind_the_frame(ring: Ring) -> None:
    """After a refused frame a reset gives a clean session.  Source: virtio 1.3, 2.4.1 (device reset)."""
    running(ring)
    chain = ring.chain(b"\xff" * 64)
    ring.send(chain)
    ring.refused(chain)
    ring.restart()
    running(ring).serves()
