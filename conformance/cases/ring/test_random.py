"""Random illegal chains, shrunk to the smallest that does harm."""

from __future__ import annotations

from typing import Any

from conformance.case import case
from conformance.cases.ring.shared import INDIRECT, PLAIN, running, scaled
from conformance.errors import Finding, TargetDied, Undrivable
from conformance.raw.ring import Ring
from conformance.virtio.device import DeviceGone
from protocol.virtqueue import DESCRIPTOR, Descriptor, Feature

_SIZE = 16
_ROOM = 8192


def _addresses(playground: int, end: int) -> list[int]:
    """Where a descriptor may point: into the playground, at edges, nowhere."""
    edges = [0, 0x7FFF_FFFF_0000, (1 << 64) - 16, *([end - 16, end] if end else [])]
    return [playground + step for step in (0, 1, 16, 64, 512, 4096, _ROOM - 16)] + edges


def _attempt(ring: Ring, descriptors: list[tuple[int, int, int, int]], head: int, jump: int) -> None:
    """One device, one bad ring; then a reset and a session that must work."""
    ring.restart()
    wanted = INDIRECT if ring.device.offered() & Feature.INDIRECT_DESC.mask else PLAIN
    running(ring, wanted, None if ring.device.legacy else _SIZE)
    queue = ring.split
    playground = ring.take(_ROOM, align=64)
    ring.memory.allow(playground, _ROOM)
    where = _addresses(playground, ring.memory.end)
    found = [Descriptor(where[a % len(where)], length, flags, following) for a, length, flags, following in descriptors]
    request = ring.getattr()
    table = b"".join(DESCRIPTOR.pack(*descriptor) for descriptor in found)
    ring.memory.write(playground, (request + table).ljust(512, b"\0") + table)
    for index, descriptor in enumerate(found):
        queue.put(index, descriptor)
    for index in range(queue.size + 1):
        queue.adopt(index)
    for step in range(jump):
        ring.memory.write(ring.heads_at(queue.published + step), head.to_bytes(2, "little"))
    queue.set_index(queue.published + jump)
    queue.kick()
    try:
        seen = ring.outcome(wait=0.02).kind
    except Finding as finding:
        seen = str(finding)
    ring.device.reset()
    if (trespass := ring.memory.trespass()) is not None:
        raise Finding(f"{seen}; {trespass}: head {head}, {found}", "ring", {"what": "memory"})
    ring.restart()
    running(ring).serves()


@case("RANDOM-001", seconds=900)
def test_random_invalid_chains(ring: Ring) -> None:
    """Random descriptors, heads and jumps do no harm: the device survives, writes nowhere else, and a session works
    after a reset. A failing sequence is shrunk.  Source: virtio 1.3, 2.7.5, 2.1.2."""
    try:
        from hypothesis import HealthCheck, given, settings  # noqa: PLC0415 - not installed everywhere: a package for developers
        from hypothesis import strategies as st  # noqa: PLC0415 - as above
        from hypothesis.errors import Flaky  # noqa: PLC0415 - as above
    except ImportError:
        raise Undrivable("hypothesis is not installed") from None
    lengths = st.sampled_from([0, 1, 7, 16, 19, 32, 64, 512, 4096, 0xFFFF, 0xFFFF_FFFF])
    descriptor = st.tuples(st.integers(0, 11), lengths, st.integers(0, 7), st.integers(0, _SIZE + 1))
    found: list[Finding] = []
    any_chain: Any = st.lists(descriptor, min_size=1, max_size=6)

    @settings(
        max_examples=scaled(300),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(any_chain, st.integers(0, _SIZE), st.integers(0, 3))
    def attempt(descriptors: list[tuple[int, int, int, int]], head: int, jump: int) -> None:
        try:
            _attempt(ring, descriptors, head, jump)
        except DeviceGone as error:
            how = ring.death(error)
            text = f"{how}: head {head} published {jump} times, {descriptors}"
            found.append(TargetDied(text, values={"how": how}))
            ring.revive()
            raise found[-1] from None
        except Finding as finding:
            found.append(finding)
            raise

    try:
        attempt()
    except Flaky:
        first = found[0]
        raise Finding(f"{first}; the same did no harm a second time", first.code, first.values) from None
