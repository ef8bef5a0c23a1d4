"""Family `framing`: wrong sizes, types and lengths in a frame.

What is at stake: the guest controls every field of a frame. A device that trusts a length reads or writes memory
outside the request (QEMU's CVE-2016-8578, lib9p's CVE-2022-23092), and one that miscounts a frame parses the rest of
the stream as requests.
"""

from __future__ import annotations

import struct
import time

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, requests, shared
from conformance.checks import equal, holds, one_of, require
from conformance.errors import Finding, Undrivable
from conformance.raw.expectation import OK, Rerror, spell
from conformance.raw.findings import HungUp, NoReply
from conformance.raw.wire import Session, Wire
from conformance.transports.base import Capability
from conformance.transports.socket import SocketLink
from protocol.codec import frame
from protocol.constants import GETATTR_ALL, NOTAG, O_RDWR
from protocol.messages import (
    BY_NAME,
    Rflush,
    Rgetattr,
    Rlerror,
    Rversion,
    Tattach,
    Tgetattr,
    Tsymlink,
    Tversion,
    Twalk,
    Twrite,
)
from protocol.registry import Message

MESSAGES = sorted(requests.MAKERS)
STRINGS = [(name, field) for name, fields in sorted(requests.STRINGS.items()) for field in fields]
UNKNOWN_TYPES = [0, 1, 6, 10, 98, 107, 112, 114, 124, 126, 128, 130, 200, 254, 255]
"""Of no family; Tlerror, which is not a request; Rerror; what 9P2000 has and .L does not (open, create, stat,
wstat); what WSL and Google have added; the ends of the range."""
REPLIES = ["Rversion", "Rattach", "Rwalk", "Rlopen", "Rread", "Rwrite", "Rgetattr", "Rreaddir", "Rlerror", "Rclunk"]
ANSWERS = allowed.MALFORMED | allowed.UNKNOWN_FID | allowed.ILLEGAL_NAME
"""What a server may say that decodes what it can and stumbles later."""


# --- fields that do not fit their frame -----------------------------------------------------------


@pytest.mark.parametrize("name", MESSAGES)
@case("WIRE-FRAMING-001")
def test_last_byte_missing(wire: Wire, name: str) -> None:
    """A frame without its last byte is refused or ends the connection, and has no effect.  Source: intro(5): a
    message's fields fill it; QEMU v9fs_iov_vunmarshal; diod aborted on malformed messages (diod#137)."""
    requests.prepare(wire)
    client = wire.client
    request = requests.MAKERS[name](client)
    before = shared.tree(wire)
    also = (Rversion,) if name == "Tversion" else (Rflush,) if name == "Tflush" else ()
    remark = f"{name} without its last byte"
    reply = shared.refused_or_hung_up(wire, client, shared.cut(request), request.tag, ANSWERS, also=also, remark=remark)
    shared.unchanged(wire, before)
    requests.require_served(wire, name, hung_up=reply is None)


@pytest.mark.parametrize("name", MESSAGES)
@case("WIRE-FRAMING-002")
def test_header_alone(wire: Wire, name: str) -> None:
    """A frame of only a header is refused or ends the connection, and has no effect.  Source: intro(5); QEMU died of a
    missing string (CVE-2016-8578)."""
    requests.prepare(wire)
    client = wire.client
    request = requests.MAKERS[name](client)
    before = shared.tree(wire)
    raw = shared.resized(frame(request)[:7])
    also = (Rversion,) if name == "Tversion" else (Rflush,) if name == "Tflush" else ()
    remark = f"{name} of a header alone"
    reply = shared.refused_or_hung_up(wire, client, raw, request.tag, ANSWERS, also=also, remark=remark)
    shared.unchanged(wire, before)
    requests.require_served(wire, name, hung_up=reply is None)


@pytest.mark.parametrize("name", MESSAGES)
@case("WIRE-FRAMING-003")
def test_bytes_left_over(wire: Wire, name: str) -> None:
    """A frame with bytes after its last field is refused, ends the connection, or is served as if they were not there;
    the frames after it are parsed correctly.  Source: intro(5): size says where the next message begins; QEMU ignores
    the remainder."""
    requests.prepare(wire)
    client = wire.client
    request = requests.MAKERS[name](client)
    raw = shared.resized(frame(request) + b"\xa5" * 5)
    also = (BY_NAME["R" + name[1:]],)
    answers = ANSWERS | allowed.NO_AUTH
    remark = f"{name} and five bytes"
    reply = shared.refused_or_hung_up(wire, client, raw, request.tag, answers, also=also, remark=remark)
    if reply is None:
        wire.still_serves()
    else:
        client.getattr(client.root, expect={OK} if name != "Tversion" else allowed.UNKNOWN_FID | {OK})


@pytest.mark.parametrize("length", [1, 0xFFFF], ids=["one-more", "0xffff"])
@pytest.mark.parametrize(("name", "field"), STRINGS)
@case("WIRE-FRAMING-004")
def test_string_that_reaches_past_the_frame(wire: Wire, name: str, field: str, length: int) -> None:
    """A string whose length reaches past the end of its frame is refused or ends the connection, and has no effect.
    Source: chaos/diod protocol.md, strings are length[2] and that many bytes; QEMU v9fs_iov_vunmarshal."""
    requests.prepare(wire)
    client = wire.client
    request = requests.MAKERS[name](client)
    before = shared.tree(wire)
    value: bytes = getattr(request, field)
    raw = frame(request)
    spelt = struct.pack("<H", len(value)) + value
    # From the end: an empty string's two zero bytes occur in many places, and a name may occur twice.
    at = raw.rindex(spelt) if field in ("name", "symtgt", "newname", "client_id", "version") else raw.index(spelt, 7)
    longest = len(raw) - at - 2 + 1 if length == 1 else length
    raw = raw[:at] + struct.pack("<H", longest) + raw[at + 2 :]
    also = (Rversion,) if name == "Tversion" else ()
    remark = f"{name} whose {field} reaches past the frame"
    reply = shared.refused_or_hung_up(wire, client, raw, request.tag, ANSWERS, also=also, remark=remark)
    shared.unchanged(wire, before)
    requests.require_served(wire, name, hung_up=reply is None)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 16, 17, 0x7FFF, 0xFFFF])
@case("WIRE-FRAMING-005", covers=[Twalk])
def test_number_of_names_that_lies(wire: Wire, count: int) -> None:
    """A Twalk of three names that claims another number is refused, ends the connection, or, if it claims fewer, walks
    that many.  Source: walk(5), nwname; lib9p wrote past its array (CVE-2022-23092)."""
    requests.prepare(wire)
    client = wire.client
    raw = bytearray(frame(Twalk(requests.TAG, client.root, client.fid(), (b"dir", b"..", b"fred"))))
    raw[15:17] = struct.pack("<H", count)
    also = (BY_NAME["Rwalk"],) if count < 3 else ()
    answers = ANSWERS | allowed.TOO_MANY_NAMES
    reply = shared.refused_or_hung_up(
        wire, client, bytes(raw), requests.TAG, answers, also=also, remark=f"Twalk of 3 names that claims {count}"
    )
    if reply is not None and also and isinstance(reply, also):
        equal("qids in Rwalk for the names that were claimed", len(reply.wqids), count)  # type: ignore[attr-defined]


# --- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", UNKNOWN_TYPES)
@case("WIRE-FRAMING-010", severity="linux")
def test_unknown_type_is_answered(wire: Wire, number: int) -> None:
    """A message of a type that 9P2000.L does not have is answered with an error or ends the connection; it is never
    ignored.  Source: error(5); QEMU v9fs_op_not_supp EOPNOTSUPP, which Linux's fallbacks expect (fs/9p/vfs_inode.c);
    diod hangs up, nfs-ganesha says nothing."""
    client = wire.client
    raw = shared.resized(struct.pack("<IBH", 0, number, requests.TAG) + struct.pack("<II", client.root, 0))
    answers = allowed.NO_SUCH_MESSAGE | allowed.MALFORMED
    shared.refused_or_hung_up(wire, client, raw, requests.TAG, answers, remark=f"type {number}")


@pytest.mark.parametrize("number", UNKNOWN_TYPES)
@case("WIRE-FRAMING-011")
def test_unknown_type_does_no_harm(wire: Wire, number: int) -> None:
    """The server survives a message of an unknown type, of minimal or maximal length.  Source: error(5); diod aborted
    on some (diod#110)."""
    client = wire.client
    for body in (b"", b"\xff" * 4, b"\xff" * 4000):
        try:
            client.send_raw(shared.resized(struct.pack("<IBH", 0, number, requests.TAG) + body), f"type {number}")
        except HungUp:
            client = wire.session()
    client.ended(0.05)  # the case before judges the answer
    wire.still_serves()


@pytest.mark.parametrize("name", REPLIES)
@case("WIRE-FRAMING-012")
def test_reply_sent_by_a_client(wire: Wire, name: str) -> None:
    """A reply message sent to a server is answered with an error, ignored, or ends the connection; the server survives.
    Source: intro(5): only T-messages go to the server; diod asserted (diod#110, diod#137)."""
    client = wire.client
    body = {
        "Rversion": b"\0\x20\0\0" + struct.pack("<H", 8) + b"9P2000.L",
        "Rwalk": struct.pack("<H", 1) + bytes(13),
        "Rread": struct.pack("<I", 3) + b"abc",
        "Rlerror": struct.pack("<I", 5),
        "Rwrite": struct.pack("<I", 5),
        "Rattach": bytes(13),
        "Rlopen": bytes(17),
        "Rgetattr": bytes(153),
        "Rreaddir": struct.pack("<I", 0),
    }.get(name, b"")
    raw = shared.resized(struct.pack("<IBH", 0, BY_NAME[name].type, requests.TAG) + body)
    try:
        client.send_raw(raw, name)
        client.burst([Tgetattr(5, client.root, GETATTR_ALL)])
        reply = client.next_reply()
        if reply.tag == requests.TAG:
            refused = client.errno_of(reply) != OK
            holds(f"{name}, which no server takes, is refused", refused, seen=spell(reply), code="errno", call=name)
            reply = client.next_reply()
        _answers_getattr(reply, 5)
    except HungUp:
        pass
    wire.still_serves()


def _answers_getattr(reply: object, tag: int) -> None:
    """The reply is Rgetattr with that tag."""
    seen = spell(reply) if isinstance(reply, Message | Rerror) else reply
    right = isinstance(reply, Rgetattr) and reply.tag == tag
    holds(f"Tgetattr with tag {tag} is answered by Rgetattr with that tag", right, seen=seen, code="reply")


# --- the size field -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(7))
@case("WIRE-FRAMING-020")
def test_size_below_the_header(wire: Wire, size: int) -> None:
    """A size field below 7 ends the connection or is answered with an error; the server does not loop on it.  Source:
    intro(5): size counts the header; a server that subtracts without checking reads 4 GiB."""
    wire.need(Capability.STREAM, "on a virtqueue the descriptors say how long a frame is")
    client = wire.client
    client.send_raw(struct.pack("<IBH", size, Tgetattr.type, 5) + bytes(12), f"size field {size}")
    _ends_or_refuses(wire, client)


@pytest.mark.parametrize("size", [0x10000, 0x1000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF], ids=shared.label)
@case("WIRE-FRAMING-021")
def test_size_beyond_msize(wire: Wire, size: int) -> None:
    """A size field above msize ends the connection or is answered with an error, or the server waits for the rest; it
    allocates no memory for it.  Source: version(5), "the maximum length ... that the client will ever generate"."""
    wire.need(Capability.STREAM, "on a virtqueue the descriptors say how long a frame is")
    before = wire.memory()
    client = wire.session(8192)
    client.send_raw(struct.pack("<IBH", size, Twrite.type, 5) + bytes(100), f"size field {size:#x}")
    client.ended(0.05)
    shared.memory_within(wire, before, 32 << 20, "a frame with that size field")
    wire.still_serves()


@case("WIRE-FRAMING-022", covers=[Tsymlink])
def test_whole_request_longer_than_msize(wire: Wire) -> None:
    """A valid request longer than msize is refused, ends the connection, or is served; the server survives.  Source:
    version(5)."""
    client = wire.session(4096)
    request = Tsymlink(client.tag(), client.root, b"n" * 200, b"t" * 4090, 0)
    try:
        reply = client.send(request).wait(2.0)
    except HungUp:
        return
    if isinstance(reply, Rlerror):
        client.judged(request, reply, allowed.LONGER_THAN_MSIZE | allowed.NAME_TOO_LONG)
        shared.absent(wire, b"n" * 200, "it was refused")


@pytest.mark.parametrize("size", [7, 10, 18])
@case("WIRE-FRAMING-023", covers=[Tgetattr])
def test_size_smaller_than_the_frame(wire: Wire, size: int) -> None:
    """When the size field cuts a request short, the bytes after it are parsed as the next frame; the server survives
    that.  Source: intro(5): the size field alone says where a message ends."""
    wire.need(Capability.STREAM, "on a virtqueue the descriptors say how long a frame is")
    client = wire.client
    raw = bytearray(frame(Tgetattr(5, client.root, GETATTR_ALL)))
    raw[0:4] = struct.pack("<I", size)
    client.send_raw(raw, f"Tgetattr whose size field says {size}")
    client.ended(0.05)
    wire.still_serves()


# --- the stream -----------------------------------------------------------------------------------


@case("WIRE-FRAMING-030")
def test_frame_byte_by_byte(wire: Wire) -> None:
    """A frame that arrives one byte at a time is one request.  Source: intro(5); a stream has no boundaries but
    size."""
    wire.need(Capability.STREAM, "a virtqueue carries whole frames")
    client = wire.client
    raw = frame(Tgetattr(5, client.root, GETATTR_ALL))
    for byte in raw:
        client.send_raw(bytes([byte]), "a byte")
    _answers_getattr(client.next_reply(), 5)


@case("WIRE-FRAMING-031")
def test_frames_cut_anywhere(wire: Wire) -> None:
    """Two requests whose bytes arrive in two parts, split at each position in turn, are two requests.  Source:
    intro(5); kernels split streams anywhere."""
    wire.need(Capability.STREAM, "a virtqueue carries whole frames")
    client = wire.client
    raw = frame(Tgetattr(5, client.root, GETATTR_ALL)) + frame(Tgetattr(6, client.root, GETATTR_ALL))
    for at in range(1, len(raw)):
        client.send_raw(raw[:at], f"{at} bytes")
        if at % 8 == 0:
            time.sleep(0.001)  # now and then long enough that the server reads the first part alone
        client.send_raw(raw[at:], "the rest")
        tags = {client.next_reply().tag, client.next_reply().tag}
        equal(f"tags of the replies to two requests cut at byte {at}", tags, {5, 6}, code="reply")


@case("WIRE-FRAMING-032", covers=[Twrite])
def test_frame_that_never_ends(wire: Wire) -> None:
    """A client that sends half a request and nothing more does not block other clients.  Source: intro(5); one thread
    for all clients would wait for it."""
    wire.need(Capability.STREAM, "a virtqueue carries whole frames")
    slow = wire.session()
    fid = slow.create(b"slow")
    raw = frame(Twrite(5, fid, 0, bytes(20000)))
    slow.send_raw(raw[:10000], "half a Twrite")
    other = wire.session()
    for _ in range(10):
        other.getattr(other.root)
    slow.send_raw(raw[10000:], "the other half")
    equal("tag of the reply to the request that came in two halves", slow.next_reply().tag, 5, code="reply")
    shared.size_is(wire, b"slow", 20000)


@pytest.mark.parametrize("there", [1, 3, 4, 6, 7, 20, 5000])
@case("WIRE-FRAMING-033")
def test_client_that_dies_in_a_frame(wire: Wire, there: int) -> None:
    """A connection that ends in the middle of a frame is closed, and its half request is not served.  Source: intro(5);
    clients die anywhere."""
    wire.need(Capability.HANGUP, "the link must be able to die")
    wire.host.file(b"fred", b"a" * 10000)
    client = wire.session()
    fid = client.open(b"fred", flags=O_RDWR)
    client.send_raw(frame(Twrite(5, fid, 0, b"b" * 10000))[:there], f"{there} bytes of a Twrite")
    wire.hang_up(client)
    wire.still_serves()
    shared.content(wire, b"fred", b"a" * 10000, "half a Twrite")


@case("WIRE-FRAMING-034", covers=[Tgetattr])
def test_client_that_only_stops_sending(wire: Wire) -> None:
    """Requests sent before the client closed its sending side are answered, or the connection ends.  Source:
    shutdown(2); intro(5)."""
    wire.need(Capability.STREAM, "a virtqueue has no end")
    client = wire.client
    if not isinstance(client.link, SocketLink):
        raise Undrivable("this link cannot stop sending and go on receiving")
    flying = [client.getattr.send(client.root) for _ in range(10)]
    client.link.shut_writing()
    try:
        for pending in flying:
            pending.result()
    except HungUp:
        pass
    wire.still_serves()


# --- before and around the session ----------------------------------------------------------------


@pytest.mark.parametrize("length", [1000, 8000, 65000])
@case("WIRE-FRAMING-040", covers=[Tversion])
def test_version_string_of_any_length(wire: Wire, length: int) -> None:
    """A version string of any length is answered `unknown`, refused, or ends the connection; the server survives.
    Source: version(5); before it there is no msize that limits it."""
    client = wire.connect()
    try:
        reply = client.send_version(8192, b"9P2000.L" + b"L" * length).wait()
    except HungUp:
        wire.still_serves()
        return
    if isinstance(reply, Rversion):
        one_of("version in Rversion", reply.version, (b"unknown", b"9P2000"), call="Tversion")
    wire.still_serves()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        bytes(64),
        b"\xff" * 64,
    ],
    ids=["http", "ssh", "zeros", "ones"],
)
@case("WIRE-FRAMING-041")
def test_no_9p_at_all(wire: Wire, raw: bytes) -> None:
    """Bytes of another protocol do no harm.  Source: intro(5); port scanners send them."""
    wire.need(Capability.STREAM, "a virtqueue carries whole frames")
    client = wire.connect()
    client.send_raw(raw)
    client.ended(0.05)
    wire.still_serves()


@case("WIRE-FRAMING-042", covers=[Tversion])
def test_version_twice_at_once(wire: Wire) -> None:
    """Two Tversion sent together are each answered, and the session that follows works.  Source: version(5): each
    begins a new session."""
    client = wire.connect()
    client.burst([Tversion(NOTAG, 8192, b"9P2000.L"), Tversion(NOTAG, 4096, b"9P2000.L")])
    seen = [client.next_reply(), client.next_reply()]
    for reply in seen:
        holds("each Tversion is answered by Rversion", isinstance(reply, Rversion), seen=spell(reply), code="reply")
    wire.attach(client)


@case("WIRE-FRAMING-043", covers=[Tversion])
def test_version_while_requests_fly(wire: Wire) -> None:
    """A Tversion aborts requests in flight: each is answered before the Rversion or never, and the new session works.
    Source: version(5), "all outstanding I/O on the connection is aborted"."""
    client = wire.client
    for _ in range(10):
        root = client.root
        client.burst([*(Tgetattr(tag, root, GETATTR_ALL) for tag in range(20)), Tversion(NOTAG, 8192, b"9P2000.L")])
        answered = set()
        while not isinstance(reply := client.next_reply(), Rversion):
            due = reply.tag < 20 and reply.tag not in answered
            require("each reply has the tag of a request in flight", due, seen=spell(reply), code="reply")
            answered.add(reply.tag)
        client.silent(0.01)
        client.root = wire.attach(client)


@case("WIRE-FRAMING-044", covers=[Tattach], severity="varies")
def test_attach_to_nofid(wire: Wire) -> None:
    """Tattach to NOFID is refused: that number means no fid.  Source: attach(5), NOFID."""
    client = wire.client
    client.attach(0xFFFFFFFF, wire.aname, expect=allowed.UNKNOWN_FID | allowed.FID_IN_USE)


def _ends_or_refuses(wire: Wire, client: Session) -> None:
    """The connection ends, or an error comes; another session is served."""
    deadline = time.monotonic() + 2.0
    while True:
        try:
            reply = client.next_reply(0.3)
        except HungUp:
            break
        except NoReply:
            wire.still_serves()
            if time.monotonic() > deadline:
                what = "neither an error nor the end of the connection came"
                raise Finding(what, "no-reply", {"call": "raw"}) from None
            continue
        refused = client.errno_of(reply) != OK
        seen = type(reply).__name__
        holds("a frame with such a size field is refused", refused, seen=seen, code="errno", call="raw")
        break
    wire.still_serves()
