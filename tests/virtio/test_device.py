"""The device against a model driver: legal chains of any shape are answered, all others set NEEDS_RESET."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import codec
from protocol.constants import EMSGSIZE, GETATTR_BASIC, LOCK_TYPE_WRLCK, NOFID, NOTAG
from protocol.messages import (
    Rattach,
    Rflush,
    Rgetattr,
    Rlcreate,
    Rlerror,
    Rlock,
    Rread,
    Rversion,
    Rwalk,
    Rwrite,
    Tattach,
    Tflush,
    Tgetattr,
    Tlcreate,
    Tlock,
    Tlopen,
    Tread,
    Tversion,
    Twalk,
    Twrite,
)
from protocol.virtqueue import (
    AVAIL_NO_INTERRUPT,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_SIZE,
    DESC_WRITE,
    DESCRIPTOR,
    Feature,
    Status,
)
from reference_server.hostfs import HostStore
from reference_server.virtio.memory import Broken
from reference_server.virtio.rings import PackedRing, SplitRing
from tests.virtio.driver import BASE, SIZE, Driver, Piece

INDIRECT, EVENT_IDX = Feature.INDIRECT_DESC.mask, Feature.EVENT_IDX.mask
PACKED, IN_ORDER = Feature.RING_PACKED.mask, Feature.IN_ORDER.mask
MODES = [0, EVENT_IDX, INDIRECT | EVENT_IDX, IN_ORDER, PACKED, PACKED | INDIRECT | EVENT_IDX, PACKED | IN_ORDER]
_DATA = 1 << 20


@pytest.fixture
def make() -> Iterator[Callable[..., Driver]]:
    made: list[Driver] = []

    def one(*args: object, **keywords: object) -> Driver:
        made.append(Driver(*args, **keywords))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for driver in made:
        driver.close()


def _attach(driver: Driver, msize: int = 1 << 17) -> None:
    assert isinstance(driver.rpc(Tversion(NOTAG, msize, b"9P2000.L")), Rversion)
    assert isinstance(driver.rpc(Tattach(1, 1, NOFID, b"root", b"", 0)), Rattach)


@pytest.mark.parametrize("features", MODES, ids=hex)
@pytest.mark.parametrize("size", [2, 16, 64])
def test_a_session_round_the_ring(make: Callable[..., Driver], features: int, size: int) -> None:
    driver = make(features, size)
    _attach(driver)
    for tag in range(size + 9):
        assert isinstance(driver.rpc(Tgetattr(tag, 1, GETATTR_BASIC)), Rgetattr)
    assert not driver.device.broken


def test_a_packed_queue_of_any_size(make: Callable[..., Driver]) -> None:
    driver = make(PACKED, 7)
    _attach(driver)
    for tag in range(40):
        assert isinstance(driver.rpc(Tgetattr(tag, 1, GETATTR_BASIC)), Rgetattr)


def test_the_index_wraps_at_65536(make: Callable[..., Driver]) -> None:
    driver = make(EVENT_IDX, 4)
    driver.device.stop(driver.queue)
    driver.start(base=65_520)
    _attach(driver)
    for tag in range(40):
        assert isinstance(driver.rpc(Tgetattr(tag, 1, GETATTR_BASIC)), Rgetattr)
    assert driver.seen == (65_520 + 42) % 65_536


def _cut(draw: st.DrawFn, start: int, length: int, write: bool, most: int) -> list[Piece]:
    """``length`` bytes as up to ``most`` pieces from ``start``, some of them neighbours and some with gaps."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, length - 1)), max_size=min(most, length) - 1)))
    ends = [cut for cut in cuts if cut < length] + [length]
    found, at, begin = [], start, 0
    for end in ends:
        found.append((at, end - begin, write))
        at += end - begin + draw(st.sampled_from([0, 0, 1, 13]))
        begin = end
    return found


@st.composite
def _chains(draw: st.DrawFn) -> list[tuple[list[Piece], bool]]:
    chains = []
    for at in range(draw(st.integers(1, 6))):
        length = len(codec.frame(Tgetattr(0, 1, GETATTR_BASIC)))
        readable = _cut(draw, _DATA + 8192 * at, length, False, 5)
        writable = _cut(draw, 2 * _DATA - 100 + 8192 * at, draw(st.integers(160, 600)), True, 8)
        chains.append((readable + writable, draw(st.booleans())))
    return chains


@pytest.mark.parametrize(
    "features", [0, INDIRECT | EVENT_IDX, PACKED | INDIRECT, PACKED | IN_ORDER | EVENT_IDX], ids=hex
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=st.lists(_chains(), min_size=1, max_size=4))
def test_any_shape_of_chain(features: int, rounds: list[list[tuple[list[Piece], bool]]]) -> None:
    driver = Driver(features, 128)
    try:
        _attach(driver)
        tag = 0
        for chains in rounds:
            wanted: dict[int, int] = {}
            for at, (pieces, indirect) in enumerate(chains):
                tag += 1
                driver.put(pieces, codec.frame(Tgetattr(tag, 1, GETATTR_BASIC)))
                table = _DATA // 2 + 4096 * (at + 1) if indirect and features & INDIRECT else None
                wanted[driver.offer(pieces, table)] = tag
            before = bytes(driver.memory[_DATA:])
            driver.run()
            found = driver.wait_used(len(chains))
            expected = bytearray(before)
            for number, length, pieces in found:
                reply = codec.decode(driver.get(pieces, length))
                assert isinstance(reply, Rgetattr)
                assert reply.tag == wanted.pop(number)
                left = length
                for start, count, write in pieces:
                    if write:
                        take = min(left, count)
                        expected[start - _DATA : start - _DATA + take] = driver.memory[start : start + take]
                        left -= take
            assert not wanted
            assert bytes(driver.memory[_DATA:]) == bytes(expected), "a byte was written outside of the replies"
    finally:
        driver.close()


# --- chains that no driver may build ---------------------------------------------------------------

REQUEST = codec.frame(Tgetattr(5, 1, GETATTR_BASIC))
IN, OUT = BASE + _DATA, BASE + 2 * _DATA
N, W, I = DESC_NEXT, DESC_WRITE, DESC_INDIRECT  # noqa: E741
TABLE = BASE + _DATA // 2

ILLEGAL: dict[str, tuple[list[tuple[int, int, int, int]], list[tuple[int, int, int, int]], str]] = {
    "loop": ([(IN, 19, N, 1), (OUT, 4096, W | N, 1)], [], "loops"),
    "next beyond": ([(IN, 19, N, 16)], [], "descriptor 16 of 16"),
    "writable first": ([(OUT, 4096, W | N, 1), (IN, 19, 0, 0)], [], "device-readable"),
    "nothing writable": ([(IN, 19, 0, 0)], [], "no room for a reply"),
    "nothing readable": ([(OUT, 4096, W, 0)], [], "nothing to read"),
    "no length": ([(IN, 0, N, 1), (OUT, 4096, W, 0)], [], "length 0"),
    "no room": ([(IN, 19, N, 1), (OUT, 0, W, 0)], [], "length 0"),
    "outside": ([(BASE - 8, 19, N, 1), (OUT, 4096, W, 0)], [], "do not lie"),
    "reply outside": ([(IN, 19, N, 1), (BASE + SIZE, 4096, W, 0)], [], "do not lie"),
    "across the end": ([(IN, 19, N, 1), (BASE + SIZE - 8, 4096, W, 0)], [], "do not lie"),
    "overflow": ([(IN, 19, N, 1), ((1 << 64) - 8, 4096, W, 0)], [], "do not lie"),
    "short": ([(IN, 6, N, 1), (OUT, 4096, W, 0)], [], "no header"),
    "too little room": ([(IN, 19, N, 1), (OUT, 10, W, 0)], [], "room for a reply"),
    "indirect in indirect": ([(TABLE, 32, I, 0)], [(IN, 19, N, 1), (OUT, 4096, I, 0)], "in an indirect table"),
    "indirect with next": ([(TABLE, 32, I | N, 1)], [(IN, 19, N, 1), (OUT, 4096, W, 0)], "with NEXT"),
    "odd table": ([(TABLE, 33, I, 0)], [(IN, 19, N, 1), (OUT, 4096, W, 0)], "table of 33"),
    "empty table": ([(TABLE, 0, I, 0)], [], "table of 0"),
    "next beyond the table": ([(TABLE, 32, I, 0)], [(IN, 19, N, 2)], "descriptor 2 of 2"),
    "loop in a table": ([(TABLE, 32, I, 0)], [(IN, 19, N, 1), (OUT, 64, W | N, 1)], "loops"),
    "table outside": ([(BASE + SIZE, 32, I, 0)], [], "do not lie"),
    "huge table": ([(TABLE, 16 * 1025, I, 0)], [], "1024 are the most"),
}


@pytest.mark.parametrize("kind", ILLEGAL)
def test_an_illegal_chain_breaks_the_device_and_nothing_else(
    make: Callable[..., Driver], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    ring, table, rule = ILLEGAL[kind]
    driver = make(INDIRECT)
    _attach(driver)
    driver.memory[_DATA : _DATA + len(REQUEST)] = REQUEST
    for index, entry in enumerate(ring):
        driver.descriptor(index, *entry)
    for index, entry in enumerate(table):
        DESCRIPTOR.pack_into(driver.memory, TABLE - BASE + DESC_SIZE * index, *entry)
    driver.publish(0)
    before = bytes(driver.memory[_DATA // 2 :])
    with caplog.at_level(logging.ERROR, "reference_server"):
        driver.run()
    assert driver.device.status & Status.NEEDS_RESET
    assert [record.message for record in caplog.records if rule in record.message], caplog.text
    assert bytes(driver.memory[_DATA // 2 :]) == before
    _works_after_a_reset(driver)


def _works_after_a_reset(driver: Driver) -> None:
    driver.device.reset()
    assert not driver.device.status
    driver.start()
    _attach(driver)


def test_an_index_that_jumps_breaks_the_device(make: Callable[..., Driver]) -> None:
    driver = make()
    driver.published = 16
    driver.publish(0)
    driver.run()
    assert driver.device.broken


@pytest.mark.parametrize("ahead", [17, 40, 0x8000, 0xFFFF])
@pytest.mark.parametrize("looks", [0, 1, 3])
def test_a_jump_is_refused_whoever_sees_it_first(make: Callable[..., Driver], ahead: int, looks: int) -> None:
    """The device looks for more after every request, before it sleeps and while it polls.

    Such a look accepted the index that had jumped, and the device then served more buffers than the queue has.
    """
    driver = make()
    ring = driver.queue.ring
    assert isinstance(ring, SplitRing)
    driver.published = ahead - 1
    driver.publish(0)
    for _ in range(looks):
        assert ring.more(), "there is something to see"
    with pytest.raises(Broken, match=f"went {ahead} ahead in a queue of 16"):
        ring.pop()
    driver.run()
    assert driver.device.broken


def test_a_jump_during_a_request_is_refused_after_it(make: Callable[..., Driver]) -> None:
    """A proper request is answered; it makes no difference whether the device looks for more while it serves."""
    driver = make()
    ring = driver.queue.ring
    assert isinstance(ring, SplitRing)
    driver.ask(Tversion(NOTAG, 8192, b"9P2000.L"))
    chain = ring.pop()
    assert chain is not None
    driver.published = (driver.published + 60) & 0xFFFF
    struct.pack_into("<H", driver.memory, driver.layout.available + 2, driver.published)
    assert ring.more()
    driver.device._serve(driver.queue, ring, chain)
    driver.run()
    assert driver.device.broken
    assert len(driver.used()) == 1


def test_a_packed_descriptor_is_used_as_it_was_checked(make: Callable[..., Driver]) -> None:
    """If a driver writes other flags between the check and the use, the device uses what was offered first."""
    driver = make(PACKED)
    ring = driver.queue.ring
    assert isinstance(ring, PackedRing)
    driver.ask(Tversion(NOTAG, 8192, b"9P2000.L"))
    real = ring._flags

    class Changing:
        reads = 0

        def __getitem__(self, place: int) -> int:
            flags = real[place]
            Changing.reads += 1
            DESCRIPTOR.pack_into(driver.memory, DESC_SIZE * place, BASE, 1, 0, DESC_INDIRECT)
            return flags

    ring._flags = cast(Any, Changing())
    assert ring.pop() is not None
    assert Changing.reads == 1


@pytest.mark.parametrize("head", [16, 17, 65535])
def test_a_head_that_is_none_breaks_the_device(make: Callable[..., Driver], head: int) -> None:
    driver = make()
    driver.publish(head)
    driver.run()
    assert driver.device.broken


def test_a_packed_chain_without_end_breaks_the_device(make: Callable[..., Driver]) -> None:
    driver = make(PACKED)
    for index in range(16):
        driver.descriptor(index, IN, 19, 0, DESC_NEXT | 1 << 7)
    driver.run()
    assert driver.device.broken


@pytest.mark.parametrize("place", ["unaligned", "overlapping", "outside", "no power of two"])
def test_rings_that_cannot_be_break_the_device(make: Callable[..., Driver], place: str) -> None:
    driver = make()
    driver.device.stop(driver.queue)
    at = driver.queue.at
    assert at is not None
    if place == "unaligned":
        driver.queue.at = at._replace(device=at.device + 2)
    elif place == "overlapping":
        driver.queue.at = at._replace(device=at.descriptors + 64)
    elif place == "outside":
        driver.queue.at = at._replace(driver=at.driver + SIZE)
    else:
        driver.queue.size = 12
    driver.device.start(driver.queue)
    assert driver.device.broken
    assert driver.queue.ring is None


def test_features_that_were_not_offered_are_refused(make: Callable[..., Driver]) -> None:
    with pytest.raises(Broken, match="not offered"):
        make().device.accept(1 << 40)


# --- frames and room ----------------------------------------------------------------------------------


def test_a_request_beyond_msize_and_a_reply_without_room_are_refused(make: Callable[..., Driver]) -> None:
    driver = make()
    _attach(driver, 8192)
    assert driver.rpc(Twrite(3, 1, 0, bytes(9000))) == Rlerror(3, EMSGSIZE)
    assert driver.rpc(Tgetattr(4, 1, GETATTR_BASIC), room=100) == Rlerror(4, EMSGSIZE)
    assert isinstance(driver.rpc(Tgetattr(5, 1, GETATTR_BASIC)), Rgetattr)


@pytest.mark.parametrize("features", [0, PACKED], ids=["split", "packed"])
def test_data_moves_between_scattered_pages_and_a_file(
    make: Callable[..., Driver], features: int, tmp_path: Path
) -> None:
    driver = make(features, 64, HostStore(str(tmp_path)))
    _attach(driver)
    assert isinstance(driver.rpc(Twalk(1, 1, 2, (b"x",)[:0])), Rwalk)
    assert isinstance(driver.rpc(Tlcreate(1, 2, b"file", os.O_RDWR, 0o644, 0)), Rlcreate)
    data = os.urandom(100_003)
    frame = codec.frame(Twrite(9, 2, 5, data))
    pieces: list[Piece] = [(_DATA, 23, False)]
    pieces += [(_DATA + 8192 * (at + 1), min(4096, len(data) - 4096 * at), False) for at in range(25)]
    pieces.append((3 * _DATA, 11, True))
    driver.put(pieces, frame)
    driver.offer(pieces)
    driver.run()
    ((_, length, used),) = driver.wait_used()
    assert codec.decode(driver.get(used, length)) == Rwrite(9, len(data))
    assert (tmp_path / "file").read_bytes() == bytes(5) + data

    pieces = [(_DATA, 23, False), (_DATA + 4096, 11, True)]
    pieces += [(2 * _DATA - 50_000 + 5000 * at, 4096, True) for at in range(26)]
    driver.put(pieces, codec.frame(Tread(9, 2, 3, 120_000)))
    driver.offer(pieces)
    driver.run()
    ((_, length, used),) = driver.wait_used()
    reply = codec.decode(driver.get(used, length))
    assert isinstance(reply, Rread)
    assert bytes(reply.data) == bytes(2) + data
    assert length == 11 + 2 + len(data)


def test_no_signal_where_none_is_wanted(make: Callable[..., Driver]) -> None:
    driver = make()
    _attach(driver)
    before = driver.signals
    driver.memory[driver.layout.available] = AVAIL_NO_INTERRUPT
    assert isinstance(driver.rpc(Tgetattr(5, 1, GETATTR_BASIC)), Rgetattr)
    assert driver.signals == before
    driver.memory[driver.layout.available] = 0
    assert isinstance(driver.rpc(Tgetattr(5, 1, GETATTR_BASIC)), Rgetattr)
    assert driver.signals == before + 1


# --- requests in flight -----------------------------------------------------------------------------


def _lock(driver: Driver) -> list[Piece]:
    """Offer a Tlock that has to wait for another lock; returns its pieces."""
    _attach(driver)
    for fid in (2, 3):
        assert isinstance(driver.rpc(Twalk(1, 1, fid, ())), Rwalk)
    assert isinstance(driver.rpc(Tlcreate(1, 2, b"file", os.O_RDWR, 0o644, 0)), Rlcreate)
    driver.rpc(Twalk(1, 1, 4, (b"file",)))
    driver.rpc(Tlopen(1, 4, os.O_RDWR))
    first = driver.rpc(Tlock(1, 2, LOCK_TYPE_WRLCK, 1, 0, 0, 1, b"one"))
    assert first == Rlock(1, 0)
    frame = codec.frame(Tlock(7, 4, LOCK_TYPE_WRLCK, 1, 0, 0, 2, b"two"))
    pieces = [(3 * _DATA, len(frame), False), (3 * _DATA + 4096, 64, True)]
    driver.put(pieces, frame)
    driver.offer(pieces)
    driver.run()
    assert driver.device.late
    return pieces


def test_a_flushed_request_gets_its_buffer_back_unwritten(make: Callable[..., Driver]) -> None:
    driver = make()
    pieces = _lock(driver)
    frame = codec.frame(Tflush(8, 7))
    flush = [(_DATA, len(frame), False), (2 * _DATA, 64, True)]
    driver.put(flush, frame)
    driver.offer(flush)
    driver.run()
    found = {tuple(used): length for _, length, used in driver.wait_used(2)}
    assert found[tuple(pieces)] == 0
    assert codec.decode(driver.get(flush, found[tuple(flush)])) == Rflush(8)


def test_a_reset_with_requests_in_flight(make: Callable[..., Driver]) -> None:
    driver = make()
    _lock(driver)
    before = bytes(driver.memory)
    driver.device.reset()
    assert not driver.device.late
    assert bytes(driver.memory) == before
    driver.start()
    assert isinstance(driver.rpc(Tversion(NOTAG, 8192, b"9P2000.L")), Rversion)
    assert isinstance(driver.rpc(Tgetattr(1, 1, GETATTR_BASIC)), Rlerror), "a fid lived through a reset"


def test_in_order_means_in_order(make: Callable[..., Driver]) -> None:
    driver = make(IN_ORDER)
    pieces = _lock(driver)
    frame = codec.frame(Tgetattr(8, 1, GETATTR_BASIC))
    second = [(_DATA, len(frame), False), (2 * _DATA, 4096, True)]
    driver.put(second, frame)
    driver.offer(second)
    driver.run()
    assert [used for _, _, used in driver.wait_used(2)] == [pieces, second]
