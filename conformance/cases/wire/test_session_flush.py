"""Family `flush`: Tflush, which aborts a request and frees its tag.

What is at stake: when a process is killed in the middle of a call, its requests are flushed. A server that answers one
of them later, or never answers the flush, breaks the mount.
"""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.cases.wire import shared
from conformance.checks import equal, holds, one_of, require
from conformance.raw.expectation import OK, spell
from conformance.raw.wire import Wire
from protocol.constants import (
    EINVAL,
    GETATTR_ALL,
    NOTAG,
)
from protocol.messages import (
    Rflush,
    Rgetattr,
    Tflush,
    Tgetattr,
    Tread,
    Twrite,
)
from protocol.registry import Message


@pytest.mark.parametrize("oldtag", [0, 4711, NOTAG - 1, NOTAG])
@case("WIRE-SESSION-030", covers=[Tflush])
def test_flush_of_unknown_tag(wire: Wire, oldtag: int) -> None:
    """Tflush of an unused tag is answered with Rflush.  Source: flush(5), "the server should answer the flush message
    immediately ... In either case, it should respond with an Rflush"; kvmtool's Rflush carries two bytes too many
    (kvmtool HEAD)."""
    client = wire.client
    client.flush(oldtag)
    client.getattr(client.root)


@case("WIRE-SESSION-031", covers=[Tflush])
def test_flush_of_finished_request(wire: Wire) -> None:
    """Tflush of a request that was already answered is answered with Rflush, and nothing else comes.
    Source: flush(5)."""
    client = wire.client
    done = client.getattr.send(client.root)
    done.result()
    client.flush(done.tag)
    client.silent(0.05)


@case("WIRE-SESSION-032", covers=[Tflush, Tread])
def test_flush_of_requests_in_flight(wire: Wire) -> None:
    """A request in flight is either answered before the Rflush or never; after Rflush its tag may be used again.
    Source: flush(5), "when the client receives the Rflush it ... may reuse oldtag"."""
    client = wire.client
    fid = client.create(b"big", bytes(60000))
    for _ in range(20):
        flying = [client.read.send(fid, 0, 60000) for _ in range(8)]
        victim = flying[-1]
        client.flush.send(victim.tag).result()
        early = victim.reply
        if early is None:
            client.forget(victim)
        # The old tag at once for another request: an old Rread here would be a reply after Rflush.
        again = client.send(Tgetattr(victim.tag, client.root, GETATTR_ALL)).wait()
        mine = isinstance(again, Rgetattr)
        holds("the request that uses the flushed tag again gets its own reply", mine, seen=spell(again), code="reply")
        for other in flying[:-1]:
            holds("a read beside the flushed one brings bytes", len(other.result().data) > 0, seen=b"", code="content")
    client.silent(0.02)


@case("WIRE-SESSION-033", covers=[Tflush])
def test_flush_of_a_flush(wire: Wire) -> None:
    """A Tflush may itself be flushed; each is answered, and its request at most once.  Source: flush(5), "a Tflush
    can itself be flushed"."""
    # A Tflush that was flushed and not answered guarantees nothing: its request may then be answered at any time.
    client = wire.client
    for _ in range(20):
        request = client.getattr.send(client.root)
        first = client.flush.send(request.tag)
        second = client.flush.send(first.tag)
        second.result()
        client.drain()
        if first.reply is None:
            client.forget(first)
        elif request.reply is None:
            client.forget(request)
    client.getattr(client.root)


@case("WIRE-SESSION-034", covers=[Tflush])
def test_flushes_of_one_request_are_answered_in_order(wire: Wire) -> None:
    """Several Tflush of the same request are answered in the order in which they came.  Source: flush(5), "it must
    respond to multiple Tflushes for the same tag in order"."""
    client = wire.client
    request = client.getattr.send(client.root)
    flushes = [client.flush.send(request.tag) for _ in range(5)]
    order: list[int] = []
    while len(order) < len(flushes):
        reply = client.next_reply()
        if isinstance(reply, Rflush):
            order.append(reply.tag)
        else:
            mine = reply.tag == request.tag
            require("each reply has the tag of a request in flight", mine, seen=spell(reply), code="reply")
    equal("tags of the Rflush, in their order", order, [flush.tag for flush in flushes], code="reply")


@case("WIRE-SESSION-035", covers=[Tflush], severity="varies")
def test_flush_of_itself(wire: Wire) -> None:
    """Tflush that names its own tag is answered.  Source: flush(5) says nothing; QEMU v9fs_flush warns and
    answers; a server that waits for the request to end waits for itself."""
    client = wire.client
    tag = client.tag()
    client.send(Tflush(tag, tag)).result({OK, EINVAL})


@case("WIRE-SESSION-036", covers=[Tflush, Tgetattr])
def test_flush_storm(wire: Wire) -> None:
    """Five hundred requests, each flushed at once, leave a session that works.  Source: flush(5); killing find(1) in
    a loop took WSL's server down (WSL#4230)."""
    client = wire.client
    batch: list[Message] = []
    requests, flushes = set(), set()
    for _ in range(500):
        request = Tgetattr(client.tag(), client.root, GETATTR_ALL)
        flush = Tflush(client.tag(), request.tag)
        requests.add(request.tag)
        flushes.add(flush.tag)
        batch += [request, flush]
    client.burst(batch)
    while flushes:
        reply = client.next_reply()
        if isinstance(reply, Rflush):
            flushes.remove(reply.tag)
        else:
            due = reply.tag in requests
            require("each reply has the tag of a request in flight", due, seen=spell(reply), code="reply")
            requests.remove(reply.tag)
    client.getattr(client.root)


@case("WIRE-SESSION-037", covers=[Tflush, Twrite])
def test_flushed_write_is_whole_or_absent(wire: Wire) -> None:
    """A flushed Twrite has happened either completely or not at all, and an answered one has happened.  Source:
    flush(5), "the server may have carried out the request"; write(5)."""
    client = wire.client
    fid = client.create(b"fred", b"a" * 4096)
    write = client.write.send(fid, 0, b"b" * 4096)
    client.flush.send(write.tag).result()
    answered = write.reply is not None
    if not answered:
        client.forget(write)
    if answered:
        shared.content(wire, b"fred", b"b" * 4096, "a flushed Twrite that was answered")
    else:
        kinds = set(wire.host.content(b"fred"))
        one_of("bytes in the file after a flushed Twrite", kinds, ({ord("a")}, {ord("b")}), code="content")
