"""Family `repeat`: one kind of request repeated past every limit and counter.

What is at stake: a share that is used for months. A table that never shrinks, a 16-bit counter or a value that is never
freed shows only after thousands of requests.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.case import case
from conformance.cases.wire import shared
from conformance.checks import equal
from conformance.errors import Undrivable
from conformance.raw.expectation import OK, spell
from conformance.raw.wire import Session, Wire
from conformance.transports.base import Capability
from protocol import messages as m
from protocol.constants import GETATTR_ALL, LOCK_TYPE_RDLCK, LOCK_TYPE_UNLCK, NOTAG, O_RDONLY, O_RDWR
from protocol.registry import Message

TIMES, OVER_RINGS = 3072, 256
"""How often; on rings each step may be one into another program, which makes it a hundred times as slow."""
PAST = 66_000
"""More than 16 bits count."""
_TOGETHER = 32
_CROSSINGS = 320
_ROUNDS = 5
"""How often that is done where memory grows: a leak always does, the heap of a garbage collector reaches a level."""
_LEFT, _LEFT_IN_ALL = 256, 1 << 20
"""Bytes that one repetition may leave behind, on average, and all of them: what a pool keeps is shared by all of them.
So 100,000 repetitions (`--requests`) show a leak of 21 bytes in each."""

Make = Callable[[Session, int, int], list[Message]]
"""The requests of one repetition, that undo each other: with that fid, and a number of its own."""
_FID, _HIGH = 100, 10_000
"""Fids of repetitions: low ones, given again and again, since nfs-ganesha takes none above 1023; and ever new ones."""


def _walk(client: Session, fid: int, *names: bytes) -> list[Message]:
    return [m.Twalk(client.tag(), client.root, fid, names), m.Tclunk(client.tag(), fid)]


def _open(client: Session, fid: int, name: bytes, *more: Message) -> list[Message]:
    there, gone = _walk(client, fid, name)
    return [there, m.Tlopen(client.tag(), fid, O_RDONLY), *more, gone]


KINDS: dict[str, Make] = {
    "walk": lambda c, f, n: _walk(c, f, b"fred"),
    "walk-to-nothing": lambda c, f, n: _walk(c, f, b"nobody")[:1],
    "open": lambda c, f, n: _open(c, f, b"fred"),
    "readdir": lambda c, f, n: _open(c, f, b"dir", m.Treaddir(c.tag(), f, 0, 4096)),
    "getattr": lambda c, f, n: [m.Tgetattr(c.tag(), c.root, GETATTR_ALL)],
    "statfs": lambda c, f, n: [m.Tstatfs(c.tag(), c.root)],
    "xattr": lambda c, f, n: [m.Txattrwalk(c.tag(), c.root, f, b""), m.Tclunk(c.tag(), f)],
    "flush": lambda c, f, n: [m.Tflush(c.tag(), NOTAG - 1)],
    "mkdir": lambda c, f, n: [m.Tmkdir(c.tag(), c.root, b"d%d" % n, 0o755, 0), *_removed(c, f, b"d%d" % n)],
    "symlink": lambda c, f, n: [m.Tsymlink(c.tag(), c.root, b"s%d" % n, b"x", 0), *_removed(c, f, b"s%d" % n)],
    "lock": lambda c, f, n: _open(
        c,
        f,
        b"fred",
        m.Tlock(c.tag(), f, LOCK_TYPE_RDLCK, 0, n, 1, 1, b"127.0.0.1"),
        m.Tlock(c.tag(), f, LOCK_TYPE_UNLCK, 0, n, 1, 1, b"127.0.0.1"),
    ),
}
REFUSED = frozenset({"walk-to-nothing"})


def _removed(client: Session, fid: int, name: bytes) -> list[Message]:
    return [m.Twalk(client.tag(), client.root, fid, (name,)), m.Tremove(client.tag(), fid)]


def _play(client: Session, kind: str, count: int, number: int, *, high: bool = False) -> int:
    """`count` repetitions, several at a time; the requests of each are sent in turn. Returns the next number.

    Undrivable if the server refuses the request.
    """
    for begun in range(0, count, _TOGETHER):
        rounds = [
            KINDS[kind](client, _HIGH + number + at if high else _FID + at, number + at)
            for at in range(min(_TOGETHER, count - begun))
        ]
        number += len(rounds)
        for step in zip(*rounds, strict=True):
            client.burst(step)
            for _ in step:
                reply = client.next_reply()
                if client.errno_of(reply) != OK and kind not in REFUSED:
                    raise Undrivable(f"the server refuses what is to be repeated: {spell(reply)}")
    return number


@pytest.mark.parametrize("kind", KINDS)
@case("WIRE-REPEAT-001", severity="must", seconds=300)
def test_thousands_of_one_kind(wire: Wire, kind: str) -> None:
    """Thousands of requests of one kind leave no memory and no descriptor behind, and the session serves as before.
    Source: CWE-401, CWE-770, as in CVE-2016-9105 and CVE-2017-7377 (QEMU): a guest must not exhaust its host; intro(5),
    a fid that was clunked is free."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    host.directory(b"dir")
    times = wire.requests or (TIMES if Capability.SESSIONS in wire.capabilities else OVER_RINGS)
    number = _play(client, kind, times // 8, 1)  # fills pools
    limit, descriptors = min(_LEFT * times, _LEFT_IN_ALL) + (1 << 20), wire.descriptors()
    for _ in range(_ROUNDS):
        memory = wire.memory()
        number = _play(client, kind, times, number)
        if memory is None or (wire.memory() or 0) - memory < limit:
            break
    shared.memory_within(wire, memory, limit, f"{times} times {kind}")
    shared.descriptors_within(wire, descriptors, 10, f"{times} times {kind}")
    shared.size_in_reply(client, client.walk_to(b"fred"), 3, f"a file after {times} times {kind}")


@case("WIRE-REPEAT-002", covers=[m.Twalk, m.Tclunk], seconds=300)
def test_more_than_sixteen_bits_count(wire: Wire) -> None:
    """More than 65,536 fids can be made and clunked one after the other.  Source: intro(5): fids are 32 bits, and any
    that is free may be chosen; a 16-bit counter or table fails here."""
    wire.need(Capability.SESSIONS, "so many requests take too long through a ring that another program drives")
    client = wire.client
    wire.host.file(b"fred", b"abc")
    client.walk(client.root, _HIGH, b"fred")
    client.clunk(_HIGH)
    _play(client, "walk", PAST, 1, high=True)
    last = client.walk(client.root, _HIGH + PAST + 2, b"fred")
    equal("qids in Rwalk to b'fred'", len(last.wqids), 1, call="Twalk")


@case("WIRE-REPEAT-003", covers=[m.Tfsync, m.Tclunk], seconds=300)
def test_clunked_while_in_use(wire: Wire) -> None:
    """A fid that is clunked while a request is under way on it is released once that request is over: hundreds of them
    leave no descriptor behind.  Source: clunk(5), the server forgets the fid;
    CWE-772, as CVE-2016-9106 (QEMU): a guest must not exhaust its host."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    before = wire.descriptors()
    for _ in range(_CROSSINGS // _TOGETHER):
        fids = [client.open(b"fred", flags=O_RDWR) for _ in range(_TOGETHER)]
        client.burst([one for fid in fids for one in (m.Tfsync(client.tag(), fid, 0), m.Tclunk(client.tag(), fid))])
        for _ in range(2 * _TOGETHER):
            client.next_reply()  # a Tfsync that was overtaken by its Tclunk meets no fid
    shared.descriptors_within(wire, before, 10, f"{_CROSSINGS} fids clunked while Tfsync was under way")
    shared.size_in_reply(client, client.walk_to(b"fred"), 3, "a file after that")
