"""Family `xattrcreate`: Txattrcreate, Twrite and Tclunk, which set an attribute together.

What is at stake: the guest announces the size of the value, which may be false; the server buffers the value until
Tclunk.
"""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.cases.wire.xattrs import (
    COLOUR,
    EDGES,
    FRED,
    SIZES,
    VALUE,
    get_value,
    host_has,
    put_value,
    settled,
    with_attributes,
)
from conformance.checks import between, equal, holds
from conformance.raw.expectation import OK, Choice
from conformance.raw.wire import Wire
from conformance.transports.base import Capability
from protocol.constants import (
    E2BIG,
    EBADF,
    EEXIST,
    EINVAL,
    ENODATA,
    EOPNOTSUPP,
    XATTR_CREATE,
    XATTR_REPLACE,
    XATTR_SIZE_MAX,
)
from protocol.messages import Rread, Tclunk, Tread, Twrite, Txattrcreate, Txattrwalk


@case("WIRE-XATTR-030", covers=[Txattrcreate, Twrite, Tclunk])
def test_value_is_set(wire: Wire) -> None:
    """Txattrcreate, the value by Twrite and Tclunk set an attribute, byte for byte.  Source: chaos/diod protocol.md,
    xattrcreate, "The actual setxattr operation happens when the fid is clunked"."""
    fid = with_attributes(wire)
    settled(put_value(wire.client, fid, COLOUR, VALUE))
    host_has(wire, VALUE)
    seen = get_value(wire.client, wire.client.walk_to(FRED), COLOUR)
    equal("value as read back", seen, VALUE, code="content", call="Txattrwalk")


@case("WIRE-XATTR-031", covers=[Txattrcreate, Twrite])
def test_value_in_several_writes(wire: Wire) -> None:
    """The value may come in several writes.  Source: chaos/diod protocol.md, xattrcreate; write(5)."""
    client = wire.client
    fid = with_attributes(wire)
    client.xattrcreate(fid, COLOUR, 300)
    for at in range(0, 300, 100):
        taken = client.write(fid, at, VALUE[at : at + 100]).count
        equal(f"count in Rwrite of a value at {at}", taken, 100, call="Twrite")
    client.clunk(fid)
    host_has(wire, VALUE[:300])


@case("WIRE-XATTR-032", covers=[Txattrcreate, Tclunk])
def test_nothing_is_set_before_the_clunk(wire: Wire) -> None:
    """The old value stands until the fid is clunked.  Source: chaos/diod protocol.md, xattrcreate, "happens when the
    fid is clunked"."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    client.xattrcreate(fid, COLOUR, 4)
    client.write(fid, 0, b"blue")
    host_has(wire, b"red")
    client.clunk(fid)
    host_has(wire, b"blue")


@case("WIRE-XATTR-033", covers=[Txattrcreate], severity="linux")
def test_create_flag(wire: Wire) -> None:
    """With XATTR_CREATE an attribute that exists is refused with EEXIST and stays.  Source: setxattr(2); v9fs passes
    the flag on (fs/9p/xattr.c)."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    settled(put_value(client, fid, COLOUR, b"blue", XATTR_CREATE), EEXIST, "an attribute that exists with CREATE")
    host_has(wire, b"red")
    number = put_value(client, client.walk_to(FRED), b"user.new", b"x", XATTR_CREATE)
    settled(number, what="a new attribute with CREATE")
    host_has(wire, b"x", "user.new")


@case("WIRE-XATTR-034", covers=[Txattrcreate], severity="linux")
def test_replace_flag(wire: Wire) -> None:
    """With XATTR_REPLACE an attribute that is missing is refused with ENODATA, and one that exists is replaced.
    Source: setxattr(2)."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    settled(put_value(client, fid, b"user.new", b"x", XATTR_REPLACE), ENODATA, "a missing attribute with REPLACE")
    host_has(wire, None, "user.new")
    number = put_value(client, client.walk_to(FRED), COLOUR, b"blue", XATTR_REPLACE)
    settled(number, what="an attribute that exists with REPLACE")
    host_has(wire, b"blue")


@pytest.mark.parametrize("flags", [4, 0x80000000, 0xFFFFFFFF], ids=shared.label)
@case("WIRE-XATTR-035", covers=[Txattrcreate])
def test_unknown_flags(wire: Wire, flags: int) -> None:
    """Flags that setxattr(2) does not have are refused, and the value stays.  Source: setxattr(2) EINVAL, and EEXIST
    where CREATE is among them."""
    fid = with_attributes(wire, colour=b"red")
    errnos = {EINVAL, EOPNOTSUPP, EEXIST}
    settled(put_value(wire.client, fid, COLOUR, b"blue", flags), errnos, "an attribute with unknown flags")
    host_has(wire, b"red")


@case("WIRE-XATTR-036", covers=[Txattrcreate], severity="linux")
def test_attribute_is_removed(wire: Wire) -> None:
    """A size of 0 with XATTR_REPLACE removes the attribute: Linux sends removexattr(2) this way.  Source: Linux
    v9fs_xattr_handler_set and v9fs_fid_xattr_set with no value; QEMU v9fs_xattr_fid_clunk."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red", shape=b"round")
    settled(put_value(client, fid, COLOUR, b"", XATTR_REPLACE), what="no value with REPLACE, which removes,")
    host_has(wire, None)
    host_has(wire, b"round", "user.shape")


@case("WIRE-XATTR-037", covers=[Txattrcreate], severity="varies")
def test_empty_value(wire: Wire) -> None:
    """A size of 0 without flags sets an empty value, which is a value.  Source: setxattr(2), "a value of zero length is
    permitted"; QEMU removes the attribute."""
    fid = with_attributes(wire, colour=b"red")
    settled(put_value(wire.client, fid, COLOUR, b""), what="an empty value")
    host_has(wire, b"")


@pytest.mark.parametrize("written", [0, 5])
@case("WIRE-XATTR-038", covers=[Txattrcreate, Tclunk])
def test_clunked_before_all_is_written(wire: Wire, written: int) -> None:
    """An incompletely written value is not set, or only with bytes that were sent; the fid is clunked.  Source:
    chaos/diod protocol.md, xattrcreate; QEMU v9fs_xattr_fid_clunk EINVAL; bytes that nobody sent would be the server's
    memory."""
    client = wire.client
    fid = with_attributes(wire)
    client.xattrcreate(fid, COLOUR, 1000)
    if written:
        client.write(fid, 0, b"01234")
    client.clunk.send(fid).errno()
    seen = wire.host.xattr(FRED, "user.colour")
    sent = not seen or seen == b"01234"[:written]
    what = f"the host has no value, or the {written} bytes of 1000 that were sent"
    holds(what, sent, seen=seen, code="content", call="Tclunk")
    client.getattr(fid, expect=allowed.UNKNOWN_FID)


@case("WIRE-XATTR-059", covers=[Txattrcreate, Twrite, Tclunk])
def test_gap_in_the_value(wire: Wire) -> None:
    """A value whose first bytes were never written is not set: the server does not invent bytes for the gap.  Source:
    chaos/diod protocol.md, xattrcreate: the value is what was written; QEMU v9fs_xattr_fid_clunk refuses a value that
    is not whole; bytes that nobody sent would be the server's memory."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    client.xattrcreate(fid, COLOUR, 10)
    client.write.send(fid, 5, b"56789").errno()
    client.clunk.send(fid).errno()
    host_has(wire, b"red")


@case("WIRE-XATTR-060", covers=[Txattrcreate, Twrite, Tclunk])
def test_half_of_the_value_twice(wire: Wire) -> None:
    """A value whose first half was written twice and whose second half never is not set: what counts is which bytes
    came, not how many.  Source: chaos/diod protocol.md, xattrcreate: the value is what was written; QEMU
    v9fs_xattr_fid_clunk refuses a value that is not whole."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    client.xattrcreate(fid, COLOUR, 10)
    for _ in range(2):
        client.write.send(fid, 0, b"01234").errno()
    client.clunk.send(fid).errno()
    seen = wire.host.xattr(FRED, "user.colour")
    sent = seen in (b"red", b"01234")
    what = "the host has the value from before, or the 5 bytes of 10 that were sent"
    holds(what, sent, seen=seen, code="content", call="Tclunk")


@case("WIRE-XATTR-039", covers=[Txattrcreate, Tread])
def test_read_before_the_write(wire: Wire) -> None:
    """Tread on a value that was announced and not written is refused, or returns only zeros.  Source: CWE-200, as
    CVE-2016-9103: the guest must not see the host's memory."""
    client = wire.client
    fid = with_attributes(wire)
    client.xattrcreate(fid, COLOUR, 4000)
    reply = client.read(fid, 0, 4000, expect=allowed.NOT_FOR_READING | allowed.WRONG_STATE | {OK})
    if isinstance(reply, Rread):
        seen = bytes(reply.data)
        zeros = not seen.strip(b"\0")
        holds("a value that was not written reads as zeros", zeros, seen=seen, code="content", call="Tread")


@pytest.mark.parametrize("offset", [11, 4096, *EDGES], ids=shared.label)
@case("WIRE-XATTR-040", covers=[Txattrcreate, Twrite])
def test_write_past_the_value(wire: Wire, offset: int) -> None:
    """A write that starts beyond the announced size is refused or writes nothing, however large the offset.  Source:
    chaos/diod protocol.md, xattrcreate, attr_size[8] is the length of the value; CWE-787, as CVE-2016-9104."""
    client = wire.client
    fid = with_attributes(wire)
    client.xattrcreate(fid, COLOUR, 10)
    sent = client.write.send(fid, offset, b"x" * 100)
    if sent.errno(allowed.BAD_OFFSET | allowed.XATTR_TOO_LARGE | {OK}) == OK:
        equal("count in Rwrite behind the announced size", sent.result().count, 0, call="Twrite")
    client.write(fid, 0, b"0123456789")
    client.clunk(fid)
    host_has(wire, b"0123456789")


@case("WIRE-XATTR-041", covers=[Txattrcreate, Twrite])
def test_more_than_was_announced(wire: Wire) -> None:
    """A write longer than the announced size is refused or truncated.  Source: QEMU v9fs_xattr_write; chaos/diod
    protocol.md, xattrcreate attr_size."""
    client = wire.client
    fid = with_attributes(wire)
    client.xattrcreate(fid, COLOUR, 10)
    sent = client.write.send(fid, 0, b"0123456789ABCDEF")
    if sent.errno(allowed.XATTR_TOO_LARGE | {OK}) == OK:
        between("count in Rwrite where ten bytes were announced", sent.result().count, 0, 10, call="Twrite")
    client.clunk.send(fid).errno()
    seen = wire.host.xattr(FRED, "user.colour")
    right = not seen or seen == b"0123456789"
    holds("the host has no value, or the ten bytes that were announced", right, seen=seen, code="content")


@pytest.mark.parametrize("size", SIZES, ids=shared.label)
@case("WIRE-XATTR-042", covers=[Txattrcreate])
def test_absurd_sizes(wire: Wire, size: int) -> None:
    """A size that no attribute can have is refused, at once or at the clunk, and no memory is allocated for it.
    Source: setxattr(2) E2BIG above XATTR_SIZE_MAX; QEMU v9fs_xattrcreate."""
    client = wire.client
    fid = with_attributes(wire)
    before = wire.memory()
    number = client.xattrcreate.send(fid, COLOUR, size).errno(allowed.XATTR_TOO_LARGE | {OK})
    shared.memory_within(wire, before, 32 << 20, f"an announced size of {size}")
    if number == OK:
        client.write(fid, 0, b"x", expect=allowed.XATTR_TOO_LARGE | {OK})
        client.clunk(fid, expect=allowed.XATTR_TOO_LARGE)
    host_has(wire, None)


@case("WIRE-XATTR-043", covers=[Txattrcreate])
def test_largest_value(wire: Wire) -> None:
    """A value of XATTR_SIZE_MAX bytes is set whole, or refused as too large for the file system.  Source: xattr(7)
    limits; setxattr(2) E2BIG, ENOSPC."""
    fid = with_attributes(wire)
    value = VALUE * (XATTR_SIZE_MAX // len(VALUE))
    number = put_value(wire.client, fid, COLOUR, value)
    settled(number, allowed.XATTR_TOO_LARGE | {OK}, "the largest value")
    host_has(wire, value if number == OK else None)


@case("WIRE-XATTR-044", covers=[Txattrcreate])
def test_created_again_and_again(wire: Wire) -> None:
    """Txattrcreate on a fid that already collects a value is refused, or starts over without keeping the first buffer:
    a thousand of them leak no memory.  Source: CWE-401, as CVE-2016-9102: a guest must not exhaust its host's
    memory."""
    client = wire.client
    fid = with_attributes(wire)
    client.xattrcreate(fid, COLOUR, 4096)
    before = wire.memory()
    for _ in range(1000):
        client.xattrcreate.send(fid, COLOUR, 60000).errno(allowed.READS_AS_FID | allowed.FULL | {OK, E2BIG})
    shared.memory_within(wire, before, 16 << 20, "a thousand Txattrcreate of one fid")
    client.clunk.send(fid).errno()
    wire.client.getattr(wire.root)


@case("WIRE-XATTR-045", covers=[Txattrcreate, Twrite])
def test_many_values_at_once(wire: Wire) -> None:
    """Six hundred values of 60,000 bytes at once are kept, or refused with an errno for that; the session keeps
    working, and once they are clunked an attribute can be set.  Source: setxattr(2) ENOSPC; QEMU's limit on xattr fids
    (max_xattr) was added because guests could exhaust the host's memory."""
    client = wire.client
    wire.host.file(FRED)
    data = bytes(60000)
    fids = []
    for _ in range(600):
        fid = client.walk_to(FRED)
        fids.append(fid)
        if client.xattrcreate.send(fid, COLOUR, len(data)).errno(allowed.FULL | {OK}) != OK:
            break
        client.write.send(fid, 0, data).errno(allowed.FULL | {OK})
    # Tremove would remove the file; a clunk may set the attribute, with whatever result.
    for fid in fids:
        client.clunk.send(fid).errno()
    settled(put_value(client, client.walk_to(FRED), b"user.after", b"x"), what="an attribute afterwards")


@case("WIRE-XATTR-046", covers=[Txattrcreate])
def test_empty_name(wire: Wire) -> None:
    """An attribute without a name cannot be set.  Source: setxattr(2) ERANGE; the empty name means the list in
    Txattrwalk only; empty strings took QEMU down (CVE-2016-8578)."""
    fid = with_attributes(wire)
    settled(put_value(wire.client, fid, b"", b"x"), allowed.NO_ATTRIBUTE_NAME, "an attribute without a name")


@case("WIRE-XATTR-047", covers=[Txattrcreate, Txattrwalk])
def test_long_names(wire: Wire) -> None:
    """A name of 255 bytes can be an attribute's; a longer one is refused, even by Txattrwalk.  Source: xattr(7),
    XATTR_NAME_MAX; setxattr(2) ERANGE."""
    client = wire.client
    fid = with_attributes(wire)
    errnos, longest = allowed.XATTR_NAME_TOO_LONG, b"user." + b"n" * 250
    number = put_value(client, client.walk_to(FRED), longest, b"x")
    settled(number, allowed.XATTR_TOO_LARGE | {OK}, "an attribute with a name of 255 bytes")
    for length in (256, 4096, 60000):
        name = b"user." + b"n" * (length - 5)
        number = put_value(client, client.walk_to(FRED), name, b"x")
        settled(number, errnos, f"an attribute with a name of {length} bytes")
        client.xattrwalk(fid, client.fid(), name, expect=errnos)


@case("WIRE-XATTR-048", covers=[Txattrcreate, Txattrwalk])
def test_nul_in_a_name(wire: Wire) -> None:
    """A NUL byte does not end an attribute's name: nothing is set or found under the part before it.  Source:
    chaos/diod protocol.md, strings carry their length; xattr(7)."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    errnos = allowed.NO_ATTRIBUTE_NAME
    settled(put_value(client, client.walk_to(FRED), COLOUR + b"\0x", b"blue"), errnos, "an attribute with a NUL")
    host_has(wire, b"red")
    client.xattrwalk(fid, client.fid(), COLOUR + b"\0x", expect=errnos)


@pytest.mark.parametrize("name", [b"colour", b"nowhere.colour", b"user."], ids=shared.label)
@case("WIRE-XATTR-049", covers=[Txattrcreate])
def test_names_outside_the_namespaces(wire: Wire, name: bytes) -> None:
    """A name without a namespace is refused as on the host.  Source: setxattr(2) EOPNOTSUPP; xattr(7)."""
    fid = with_attributes(wire)
    settled(put_value(wire.client, fid, name, b"x"), allowed.NO_NAMESPACE, f"an attribute called {name!r}")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-XATTR-050", covers=[Txattrcreate])
def test_create_on_dead_fid(wire: Wire, which: str) -> None:
    """Txattrcreate on an unknown fid is refused.  Source: intro(5)."""
    shared.dead_fid(wire, which, lambda client, fid: client.xattrcreate.send(fid, COLOUR, 3))


@case("WIRE-XATTR-051", covers=[Txattrcreate], severity="varies")
def test_create_on_an_open_fid(wire: Wire) -> None:
    """Txattrcreate on a fid that is open is refused: its open file would be lost.  Source: chaos/diod protocol.md,
    xattrcreate; Linux always clones first (v9fs_fid_xattr_set); QEMU accepts any fid without a descriptor."""
    client = wire.client
    with_attributes(wire, colour=b"red")
    fid = client.open(FRED)
    client.xattrcreate(fid, COLOUR, 4, expect=allowed.WRONG_STATE)
    shared.reads(client, fid, b"content", "the open file whose fid was to gather a value")


@case("WIRE-XATTR-052", covers=[Txattrcreate])
def test_client_that_dies_sets_nothing(wire: Wire) -> None:
    """A client that vanishes before its clunk has set only a value that it sent completely.  Source: clunk(5): a
    connection's fids end with it; half a value is none."""
    wire.need(Capability.HANGUP, "the link must be able to die")
    with_attributes(wire, colour=b"red")
    before = wire.descriptors()
    for _ in range(20):
        client = wire.session()
        fid = client.walk_to(FRED)
        client.xattrcreate(fid, COLOUR, 100)
        client.write(fid, 0, b"01234")
        wire.hang_up(client)
    shared.descriptors_within(wire, before, 10, "twenty clients that vanished")
    host_has(wire, b"red")


@case("WIRE-XATTR-053", covers=[Txattrcreate])
def test_value_of_an_unlinked_file(wire: Wire) -> None:
    """Setting an attribute of an unlinked file succeeds or is refused; it never affects another file of the same name.
    Source: setxattr(2) through a descriptor; QEMU uses the path (GitLab qemu#103)."""
    client = wire.client
    fid = with_attributes(wire)
    client.lopen(client.walk_to(FRED))
    client.xattrcreate(fid, COLOUR, 3)
    client.write(fid, 0, b"red")
    wire.host.unlink(FRED)
    wire.host.file(FRED, b"another")
    client.clunk(fid, expect=allowed.GONE | Choice({OK, EBADF}))
    host_has(wire, None)
