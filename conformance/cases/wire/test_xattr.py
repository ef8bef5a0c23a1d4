"""Family `xattr`: Txattrwalk, and the fid that it makes for Tread and Tclunk.

What is at stake: the value passes through a buffer of the server whose size and content the guest controls. Half of the
vulnerabilities of QEMU's device (CVE-2016-9102 to 9105, CVE-2017-8086, CVE-2017-15038) were in this message and
Txattrcreate.
"""

from __future__ import annotations

import os

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.cases.wire.xattrs import (
    COLOUR,
    EDGES,
    FRED,
    VALUE,
    get_value,
    host_has,
    put_value,
    read_value,
    settled,
    with_attributes,
)
from conformance.checks import equal, holds
from conformance.raw.expectation import OK
from conformance.raw.wire import Session, Wire
from protocol.constants import ENODATA, O_RDONLY
from protocol.messages import Rread, Tclunk, Tread, Twrite, Txattrcreate, Txattrwalk


@pytest.mark.parametrize("size", [1, 100, 3000])
@case("WIRE-XATTR-001", covers=[Txattrwalk, Tread, Tclunk])
def test_value_comes_whole(wire: Wire, size: int) -> None:
    """Txattrwalk with a name announces the value's size and makes a fid that reads as the value.  Source: chaos/diod
    protocol.md, xattrwalk."""
    value = (VALUE * 3)[:size]
    fid = with_attributes(wire, colour=value)
    _value_is(wire.client, fid, COLOUR, value)
    wire.client.getattr(fid)


def _value_is(client: Session, fid: int, name: bytes, expected: bytes) -> bool:
    """Txattrwalk and Tread return that value."""
    seen = get_value(client, fid, name)
    return equal(f"value of {name!r} as read", seen, expected, code="content", call="Txattrwalk")


@case("WIRE-XATTR-002", covers=[Txattrwalk])
def test_list_of_names(wire: Wire) -> None:
    """Txattrwalk with an empty name gives the list of names, each terminated by a NUL.  Source: chaos/diod protocol.md,
    xattrwalk, "If name is empty, newfid represents a list of names"; listxattr(2)."""
    fid = with_attributes(wire, colour=b"red", shape=b"round", x=b"")
    found = get_value(wire.client, fid, b"")
    holds("the list of names ends with a NUL", found.endswith(b"\0"), seen=found[-8:], code="names")
    seen = {name for name in found.rstrip(b"\0").split(b"\0") if name.startswith(b"user.")}
    equal("names of attributes", seen, {b"user.colour", b"user.shape", b"user.x"}, code="names", call="Txattrwalk")


@case("WIRE-XATTR-003", covers=[Txattrwalk])
def test_list_of_no_names(wire: Wire) -> None:
    """A file without attributes has a list without user.* names, and its fid reads as exactly that list.  Source:
    listxattr(2); QEMU's empty list leaked (CVE-2017-8086)."""
    found = get_value(wire.client, with_attributes(wire), b"")
    holds("a file without attributes has no name of user.*", b"user." not in found, seen=found, code="names")


@case("WIRE-XATTR-004", covers=[Txattrwalk], severity="linux")
def test_missing_attribute(wire: Wire) -> None:
    """An attribute that is not there is refused with ENODATA, and newfid stays free.  Source: getxattr(2) ENODATA,
    which v9fs passes to the caller; QEMU on darwin sent the host's ENOATTR (GitLab qemu#1010)."""
    client = wire.client
    fid = with_attributes(wire, shape=b"round")
    newfid = client.fid()
    client.xattrwalk(fid, newfid, COLOUR, expect=ENODATA)
    client.getattr(newfid, expect=allowed.UNKNOWN_FID)
    client.walk(fid, newfid)


@pytest.mark.parametrize("step", [1, 7, 100])
@case("WIRE-XATTR-005", covers=[Txattrwalk, Tread])
def test_value_in_pieces(wire: Wire, step: int) -> None:
    """A value is read in pieces of any size, and again from its start.  Source: read(5): offset and count have the same
    meaning as for files."""
    client = wire.client
    fid = with_attributes(wire, colour=VALUE[:100])
    newfid = client.fid()
    size = client.xattrwalk(fid, newfid, COLOUR).size
    seen = read_value(client, newfid, size, step)
    equal(f"value as read in pieces of {step} bytes", seen, VALUE[:100], code="content", call="Tread")
    shared.reads(client, newfid, VALUE[40:50], "the middle of a value", 40, 10)


@pytest.mark.parametrize("offset", [100, 101, 4096, *EDGES], ids=shared.label)
@case("WIRE-XATTR-006", covers=[Txattrwalk, Tread])
def test_read_past_the_value(wire: Wire, offset: int) -> None:
    """A read at or past the end of the value returns nothing or is refused, however large the offset.  Source: read(5);
    QEMU added offset and count without an overflow check (CVE-2016-9104)."""
    client = wire.client
    fid = with_attributes(wire, colour=VALUE[:100])
    newfid = client.fid()
    client.xattrwalk(fid, newfid, COLOUR)
    reply = client.read(newfid, offset, 4096, expect=allowed.BAD_OFFSET | {OK})
    if isinstance(reply, Rread):
        equal("bytes in Rread behind the value", bytes(reply.data), b"", code="content", call="Tread")
    shared.reads(client, newfid, VALUE[:100], "the value afterwards")


@pytest.mark.parametrize("count", [0x7FFFFFFF, 0xFFFFFFF5, 0xFFFFFFFF], ids=shared.label)
@case("WIRE-XATTR-007", covers=[Txattrwalk, Tread])
def test_absurd_count(wire: Wire, count: int) -> None:
    """A huge count returns the value, or is refused; never bytes beyond the value.  Source: read(5); CVE-2016-9104."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    newfid = client.fid()
    client.xattrwalk(fid, newfid, COLOUR)
    reply = client.read(newfid, 1, count, expect=allowed.BAD_COUNT | {OK})
    if isinstance(reply, Rread):
        equal("bytes in Rread from byte 1 of the value", bytes(reply.data), b"ed", code="content", call="Tread")


@case("WIRE-XATTR-008", covers=[Txattrwalk, Tread])
def test_value_that_changes_meanwhile(wire: Wire) -> None:
    """A value that grows or shrinks between Txattrwalk and Tread reads as the old or the new value, and nothing else.
    Source: chaos/diod protocol.md, xattrwalk; QEMU sent heap memory when the value grew (CVE-2017-15038)."""
    client = wire.client
    for before, after in ((b"a" * 10, b"b" * 3000), (b"a" * 3000, b"b" * 10)):
        wire.host.file(FRED)
        wire.host.set_xattr(FRED, "user.colour", before)
        newfid = client.fid()
        size = client.xattrwalk(client.walk_to(FRED), newfid, COLOUR).size
        wire.host.set_xattr(FRED, "user.colour", after)
        seen = bytes(client.read(newfid, 0, 4096).data)
        ever = before.startswith(seen) or after.startswith(seen)
        what = f"the value that was read, {size} bytes of which were announced, is the old or the new one"
        holds(what, ever, seen=seen, code="content", call="Tread")


@case("WIRE-XATTR-009", covers=[Txattrwalk])
def test_names_of_any_bytes(wire: Wire) -> None:
    """An attribute's name may hold any byte but NUL, including a slash and bytes that are not UTF-8.  Source: xattr(7):
    names have no structure beyond the namespace; they are not file names."""
    client = wire.client
    fid = with_attributes(wire)
    for name in (b"user.a/b", b"user.../x", b"user.\xff\xfe", b"user. "):
        wire.host.set_xattr(FRED, os.fsdecode(name), b"v " + name)
        _value_is(client, fid, name, b"v " + name)


@case("WIRE-XATTR-010", covers=[Txattrwalk])
def test_of_a_directory(wire: Wire) -> None:
    """Directories have attributes like files.  Source: xattr(7)."""
    client = wire.client
    wire.host.directory(b"dir")
    settled(put_value(client, client.walk_to(b"dir"), COLOUR, b"red"), what="an attribute of a directory")
    host_has(wire, b"red", file=b"dir")
    _value_is(client, client.walk_to(b"dir"), COLOUR, b"red")


@case("WIRE-XATTR-011", covers=[Txattrwalk, Txattrcreate])
def test_of_a_symbolic_link(wire: Wire) -> None:
    """A symbolic link's attributes are its own: its target's are neither read nor set through it.  Source:
    lgetxattr(2); the guest resolves symbolic links (CVE-2016-9602)."""
    client = wire.client
    with_attributes(wire, colour=b"red")
    wire.host.symlink(b"link", FRED)
    newfid = client.fid()
    errnos = allowed.ATTRIBUTE_OF_LINK
    client.xattrwalk(client.walk_to(b"link"), newfid, COLOUR, expect=errnos)
    settled(put_value(client, client.walk_to(b"link"), COLOUR, b"blue"), errnos, "an attribute of a symbolic link")
    host_has(wire, b"red")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-XATTR-012", covers=[Txattrwalk])
def test_walk_of_dead_fid(wire: Wire, which: str) -> None:
    """Txattrwalk of an unknown fid is refused.  Source: intro(5)."""
    shared.dead_fid(wire, which, lambda client, fid: client.xattrwalk.send(fid, client.fid(), COLOUR))


@case("WIRE-XATTR-013", covers=[Txattrwalk])
def test_newfid_in_use(wire: Wire) -> None:
    """Txattrwalk to a newfid that is in use is refused, and that fid does not change.  Source: walk(5), "newfid must
    not be in use"; QEMU alloc_fid."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    other = client.open(FRED)
    client.xattrwalk(fid, other, COLOUR, expect=allowed.FID_IN_USE)
    shared.reads(client, other, b"content", "the file whose fid was to become the attribute's")


@case("WIRE-XATTR-014", covers=[Txattrwalk], severity="varies")
def test_newfid_is_the_fid(wire: Wire) -> None:
    """Txattrwalk whose newfid is its fid is refused: the file's fid would be lost.  Source: chaos/diod protocol.md,
    xattrwalk "to newfid"; Linux p9_client_xattrwalk always makes a new one; jor1k#62."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    client.xattrwalk(fid, fid, COLOUR, expect=allowed.FID_IN_USE)
    shared.size_in_reply(client, fid, 7, "the file whose fid was to become the attribute's")


@pytest.mark.parametrize("operation", ["lopen", "walk", "readdir", "xattrwalk", "xattrcreate", "setattr"])
@case("WIRE-XATTR-015", covers=[Txattrwalk])
def test_xattr_fid_is_no_file(wire: Wire, operation: str) -> None:
    """A fid that stands for a value is not a file: it cannot be opened, walked from, listed or asked for its own
    attributes; whatever the answer, it still reads as the value afterwards.  Source: chaos/diod protocol.md, xattrwalk;
    QEMU asserts on fid_type in v9fs_open."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    xattr, newfid = client.fid(), client.fid()
    client.xattrwalk(fid, xattr, COLOUR)
    if operation == "lopen":
        client.lopen(xattr, O_RDONLY, expect=allowed.READS_AS_FID)
    elif operation == "walk":
        client.walk(xattr, newfid, b"x", expect=allowed.READS_AS_FID)
    elif operation == "readdir":
        client.readdir(xattr, 0, 4096, expect=allowed.READS_AS_FID)
    elif operation == "xattrwalk":
        client.xattrwalk(xattr, newfid, COLOUR, expect=allowed.READS_AS_FID | {OK, ENODATA})
    elif operation == "xattrcreate":
        client.xattrcreate(xattr, COLOUR, 3, expect=allowed.READS_AS_FID)
    else:
        # QEMU still uses the path of the fid
        client.setattr(xattr, 8, size=0, expect=allowed.READS_AS_FID | {OK})
    shared.reads(client, xattr, b"red", f"the value after T{operation}")
    client.clunk(xattr)
    host_has(wire, b"red")


@case("WIRE-XATTR-016", covers=[Txattrwalk, Twrite])
def test_value_for_reading_is_not_written(wire: Wire) -> None:
    """Twrite to a fid that Txattrwalk made is refused and changes nothing.  Source: chaos/diod protocol.md: it is for
    reading; Txattrcreate sets a value."""
    client = wire.client
    fid = with_attributes(wire, colour=b"red")
    xattr = client.fid()
    client.xattrwalk(fid, xattr, COLOUR)
    client.write(xattr, 0, b"blu", expect=allowed.NOT_FOR_READING | allowed.WRONG_STATE)
    client.clunk(xattr)
    host_has(wire, b"red")


@case("WIRE-XATTR-017", covers=[Txattrwalk, Tclunk])
def test_walked_and_clunked_many_times(wire: Wire) -> None:
    """Two thousand lists and values, each clunked, leave nothing behind, and the file's fid still works.  Source:
    clunk(5); hugelgupf/p9 lost a reference each time (hugelgupf#106), QEMU the list (CVE-2017-8086)."""
    client = wire.client
    fid = with_attributes(wire, colour=bytes(3000))
    xattrs = [client.fid() for _ in range(25)]

    def round_trip(name: bytes) -> None:
        for walk in [client.xattrwalk.send(fid, xattr, name) for xattr in xattrs]:
            walk.result()
        for clunk in [client.clunk.send(xattr) for xattr in xattrs]:
            clunk.result()

    for name in (b"", COLOUR) * 4:
        round_trip(name)
    before, open_before = wire.memory(), wire.descriptors()
    for _ in range(80):
        round_trip(b"")
        round_trip(COLOUR)
    shared.size_in_reply(client, fid, 7, "the file")
    shared.memory_within(wire, before, 4 << 20, "two thousand lists and values")
    shared.descriptors_within(wire, open_before, 6, "two thousand lists and values")
