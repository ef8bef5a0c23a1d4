"""9P frames that do not fit the buffers they come in."""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.cases.ring.shared import running
from conformance.errors import Finding
from conformance.ring import Ring
from protocol.codec import encode
from protocol.messages import Twrite


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
    ring.queue.add(chain)
    ring.queue.publish()
    ring.queue.kick()
    seen = ring.outcome(chain)
    ring.note(f"the device: {seen.kind}")
    if seen.kind == "processed":
        raise Finding(f"a size field of {len(request) + change} on {len(request)} readable bytes is accepted")


@pytest.mark.parametrize("length", [1, 4, 6])
@case("FRAME-002")
def test_shorter_than_a_header(ring: Ring, length: int) -> None:
    """A request shorter than a 9P header is refused.  Source: 9P2000 intro(5) (size[4] type[1] tag[2])."""
    running(ring)
    chain = ring.chain(ring.getattr()[:length])
    ring.queue.add(chain)
    ring.queue.publish()
    ring.queue.kick()
    ring.refused(chain)


@pytest.mark.parametrize("room", [1, 6, 7, 10, 100, 159])
@case("FRAME-003")
def test_reply_does_not_fit(ring: Ring, room: int) -> None:
    """A reply for which there is no room is not written beyond it, nor told to be whole.
    Source: virtio 1.3, 2.7.8.2; QEMU hw/9pfs/virtio-9p-device.c (VirtFS reply type needs more bytes: virtio_error)."""
    running(ring)
    chain = [ring.readable(ring.getattr()), ring.writable(room)]
    ring.queue.add(chain)
    ring.queue.publish()
    ring.queue.kick()
    seen = ring.outcome(chain)
    ring.note(f"the device: {seen.kind}")
    if seen.kind == "processed":
        raise Finding(f"a reply of 160 bytes was put into {room}: {seen.reply[:16].hex(' ')}")


@case("FRAME-004")
def test_request_larger_than_msize(ring: Ring) -> None:
    """A request larger than the msize agreed is refused, or carried out whole; the device survives it.
    Source: 9P2000 version(5) (msize: the longest message that any message on the connection may have)."""
    ring.start()
    ring.session(8192)
    request = b"".join(encode(Twrite(ring.number(), 1, 0, b"x" * 60_000)))
    chain = ring.chain(request)
    ring.queue.add(chain)
    ring.queue.publish()
    ring.queue.kick()
    ring.refused(chain)


@case("FRAME-005")
def test_bytes_behind_the_frame(ring: Ring) -> None:
    """After a refused frame a reset leads back to a clean session.  Source: virtio 1.3, 2.4.1 (device reset)."""
    running(ring)
    chain = ring.chain(b"\xff" * 64)
    ring.queue.add(chain)
    ring.queue.publish()
    ring.queue.kick()
    ring.refused(chain)
    running(ring).serves()
