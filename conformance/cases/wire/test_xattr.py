"""Family `xattr`: Txattrwalk and Txattrcreate, and the fids they make, which Tread, Twrite and Tclunk serve.

What is at stake: the value travels through a buffer of the server that the guest sizes, fills and reads. Half of what
made QEMU's device unsafe (CVE-2016-9102 to 9105, CVE-2017-8086, CVE-2017-15038) was in these two messages.
"""

from __future__ import annotations

import os

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.errors import Finding
from conformance.expectation import OK, Expect, errno_name, names
from conformance.links import Capability
from conformance.wire import Session, Wire
from protocol.constants import (
    E2BIG,
    EACCES,
    EBADF,
    EEXIST,
    EINVAL,
    EIO,
    ELOOP,
    ENAMETOOLONG,
    ENODATA,
    ENOENT,
    ENOTDIR,
    EOPNOTSUPP,
    EPERM,
    ERANGE,
    ESTALE,
    O_RDONLY,
    XATTR_CREATE,
    XATTR_REPLACE,
    XATTR_SIZE_MAX,
)
from protocol.messages import Rread, Tclunk, Tread, Twrite, Txattrcreate, Txattrwalk

FRED = b"fred"
COLOUR = b"user.colour"
VALUE = bytes(range(256)) * 4
EDGES = [0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFF0, 0xFFFFFFFFFFFFFFFF]
SIZES = [XATTR_SIZE_MAX + 1, 1 << 20, 1 << 31, 1 << 32, 1 << 63, 0xFFFFFFFFFFFFFFFF]
"""Values larger than Linux allows for any attribute (XATTR_SIZE_MAX), and at the edges of 32 and 64 bits."""
NO_NAMESPACE = {EOPNOTSUPP, EINVAL, EPERM, EACCES, ENODATA, ENOENT, EIO}
"""EOPNOTSUPP: setxattr(2); the others: refused by the server itself."""
READS_AS_FID = allowed.WRONG_STATE | {EACCES, EPERM, EOPNOTSUPP, ENOENT, EIO, ENOTDIR}
"""An xattr fid used as a file's. WRONG_STATE; EOPNOTSUPP, ENOENT: QEMU, by fid_type or for want of a path."""


def _file(wire: Wire, **attributes: bytes) -> int:
    """`fred` with those attributes of user.*, and a fid for it."""
    wire.host.file(FRED, b"content")
    for name, value in attributes.items():
        wire.host.set_xattr(FRED, f"user.{name}", value)
    return wire.client.walk_to(FRED)


def _read(client: Session, fid: int, size: int, step: int | None = None) -> bytes:
    """What the xattr fid holds, `step` bytes at a time."""
    data = b""
    while len(data) <= size:
        part = bytes(client.read(fid, len(data), step or client.msize - 24).data)
        if not part:
            return data
        data += part
    raise Finding(f"{size} bytes were announced, {len(data)} came and more follow")


def _get(client: Session, fid: int, name: bytes) -> bytes:
    """The attribute's value, or the list of names for b"", as a guest reads it."""
    newfid = client.fid()
    size = client.xattrwalk(fid, newfid, name).size
    data = _read(client, newfid, size)
    shared.same(len(data), size, "bytes read, and what Rxattrwalk announced")
    client.clunk(newfid)
    return data


def _put(client: Session, fid: int, name: bytes, value: bytes, flags: int = 0) -> int:
    """Set as Linux does: Txattrcreate, Twrite, Tclunk. The first errno that any of them gave, or OK; `fid` is gone."""
    number = client.send_xattrcreate(fid, name, len(value), flags).errno()
    at = 0
    while number == OK and at < len(value):
        sent = client.send_write(fid, at, value[at : at + client.msize - 24])
        if (number := sent.errno()) == OK:
            count = sent.result().count
            if not count:
                raise Finding(f"Twrite takes nothing of a value at {at} of {len(value)} bytes")
            at += count
    at_end = client.send_clunk(fid).errno()
    return number or at_end


def _refused(number: int, errnos: Expect) -> None:
    """Finding unless setting the value ended with one of `errnos`."""
    assert isinstance(errnos, set | frozenset)
    if number not in errnos:
        seen = "success" if number == OK else errno_name(number)
        raise Finding(f"Txattrcreate, Twrite, Tclunk: allowed: {names(errnos)}; seen: {seen}")


def _host_has(wire: Wire, value: bytes | None, name: str = "user.colour", file: bytes = FRED) -> None:
    shared.same(wire.host.xattr(file, name), value, f"{name} on the host")


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, 3000])
@case("WIRE-XATTR-001", covers=[Txattrwalk, Tread, Tclunk])
def test_value_comes_whole(wire: Wire, size: int) -> None:
    """Txattrwalk with a name announces the value's size and makes a fid that reads as the value.  Source: chaos/diod
    protocol.md, xattrwalk."""
    value = (VALUE * 3)[:size]
    fid = _file(wire, colour=value)
    shared.same(_get(wire.client, fid, COLOUR), value, "the value")
    wire.client.getattr(fid)


@case("WIRE-XATTR-002", covers=[Txattrwalk])
def test_list_of_names(wire: Wire) -> None:
    """Txattrwalk with an empty name gives the names, each ended by a NUL.  Source: chaos/diod protocol.md, xattrwalk,
    "If name is empty, newfid represents a list of names"; listxattr(2)."""
    fid = _file(wire, colour=b"red", shape=b"round", x=b"")
    found = _get(wire.client, fid, b"")
    assert found.endswith(b"\0")
    seen = {name for name in found[:-1].split(b"\0") if name.startswith(b"user.")}
    shared.same(seen, {b"user.colour", b"user.shape", b"user.x"}, "the names")


@case("WIRE-XATTR-003", covers=[Txattrwalk])
def test_list_of_no_names(wire: Wire) -> None:
    """A file without attributes has a list without user.* names, and its fid reads as the list says.  Source:
    listxattr(2); QEMU's empty list leaked (CVE-2017-8086)."""
    assert b"user." not in _get(wire.client, _file(wire), b"")


@case("WIRE-XATTR-004", covers=[Txattrwalk], severity="linux")
def test_missing_attribute(wire: Wire) -> None:
    """An attribute that is not there is refused with ENODATA, and newfid stays free.  Source: getxattr(2) ENODATA,
    which v9fs hands to the caller; QEMU on darwin sent the host's ENOATTR (GitLab qemu#1010)."""
    client = wire.client
    fid = _file(wire, shape=b"round")
    newfid = client.fid()
    client.xattrwalk(fid, newfid, COLOUR, expect=allowed.NO_XATTR)
    client.getattr(newfid, expect=allowed.UNKNOWN_FID)
    client.walk(fid, newfid)


@pytest.mark.parametrize("step", [1, 7, 100])
@case("WIRE-XATTR-005", covers=[Txattrwalk, Tread])
def test_value_in_pieces(wire: Wire, step: int) -> None:
    """A value is read in pieces of any size, and again from its start.  Source: read(5): offset and count mean what
    they mean for files."""
    client = wire.client
    fid = _file(wire, colour=VALUE[:100])
    newfid = client.fid()
    size = client.xattrwalk(fid, newfid, COLOUR).size
    shared.same(_read(client, newfid, size, step), VALUE[:100], f"in pieces of {step}")
    shared.same(bytes(client.read(newfid, 40, 10).data), VALUE[40:50], "ten bytes of its middle")


@pytest.mark.parametrize("offset", [100, 101, 4096, *EDGES], ids=shared.label)
@case("WIRE-XATTR-006", covers=[Txattrwalk, Tread])
def test_read_past_the_value(wire: Wire, offset: int) -> None:
    """A read at or past the end of the value brings nothing or is refused, however large the offset.  Source: read(5);
    QEMU added offset and count without looking (CVE-2016-9104)."""
    client = wire.client
    fid = _file(wire, colour=VALUE[:100])
    newfid = client.fid()
    client.xattrwalk(fid, newfid, COLOUR)
    reply = client.read(newfid, offset, 4096, expect=allowed.BAD_OFFSET | {OK})
    if isinstance(reply, Rread):
        shared.same(bytes(reply.data), b"", "what stands behind the value")
    shared.same(bytes(client.read(newfid, 0, 4096).data), VALUE[:100], "the value afterwards")


@pytest.mark.parametrize("count", [0x7FFFFFFF, 0xFFFFFFF5, 0xFFFFFFFF], ids=shared.label)
@case("WIRE-XATTR-007", covers=[Txattrwalk, Tread])
def test_absurd_count(wire: Wire, count: int) -> None:
    """A count beyond all reason brings the value, or is refused; never bytes that stand behind it.  Source: read(5);
    CVE-2016-9104."""
    client = wire.client
    fid = _file(wire, colour=b"red")
    newfid = client.fid()
    client.xattrwalk(fid, newfid, COLOUR)
    reply = client.read(newfid, 1, count, expect=allowed.BAD_COUNT | {OK})
    if isinstance(reply, Rread):
        shared.same(bytes(reply.data), b"ed", "from byte 1")


@case("WIRE-XATTR-008", covers=[Txattrwalk, Tread])
def test_value_that_changes_meanwhile(wire: Wire) -> None:
    """A value that grows or shrinks between Txattrwalk and Tread reads as it was or as it is, and as nothing else.
    Source: chaos/diod protocol.md, xattrwalk; QEMU sent its heap when the value grew (CVE-2017-15038)."""
    client = wire.client
    for before, after in ((b"a" * 10, b"b" * 3000), (b"a" * 3000, b"b" * 10)):
        wire.host.file(FRED)
        wire.host.set_xattr(FRED, "user.colour", before)
        newfid = client.fid()
        size = client.xattrwalk(client.walk_to(FRED), newfid, COLOUR).size
        wire.host.set_xattr(FRED, "user.colour", after)
        seen = bytes(client.read(newfid, 0, 4096).data)
        if not before.startswith(seen) and not after.startswith(seen):
            raise Finding(f"{size} bytes announced; read: {seen[:60]!r} ({len(seen)} bytes), which the value never was")


@case("WIRE-XATTR-009", covers=[Txattrwalk])
def test_names_of_any_bytes(wire: Wire) -> None:
    """An attribute's name may hold any byte but NUL, also a slash and what is no UTF-8.  Source: xattr(7): names have
    no structure beyond the namespace; they are no file names."""
    client = wire.client
    fid = _file(wire)
    for name in (b"user.a/b", b"user.../x", b"user.\xff\xfe", b"user. "):
        wire.host.set_xattr(FRED, os.fsdecode(name), b"v " + name)
        shared.same(_get(client, fid, name), b"v " + name, f"the value of {name!r}")


@case("WIRE-XATTR-010", covers=[Txattrwalk])
def test_of_a_directory(wire: Wire) -> None:
    """Directories have attributes as files have.  Source: xattr(7)."""
    client = wire.client
    wire.host.directory(b"dir")
    shared.same(_put(client, client.walk_to(b"dir"), COLOUR, b"red"), OK, "setting it")
    _host_has(wire, b"red", file=b"dir")
    shared.same(_get(client, client.walk_to(b"dir"), COLOUR), b"red", "the value")


@case("WIRE-XATTR-011", covers=[Txattrwalk, Txattrcreate])
def test_of_a_symbolic_link(wire: Wire) -> None:
    """A symbolic link's attributes are its own: its target's are neither read nor set through it.  Source:
    lgetxattr(2); symlinks are the guest's to resolve (CVE-2016-9602)."""
    client = wire.client
    _file(wire, colour=b"red")
    wire.host.symlink(b"link", FRED)
    newfid = client.fid()
    errnos = {ENODATA, EPERM, EACCES, EOPNOTSUPP, ELOOP, EINVAL, EIO}
    client.xattrwalk(client.walk_to(b"link"), newfid, COLOUR, expect=errnos)
    _refused(_put(client, client.walk_to(b"link"), COLOUR, b"blue"), errnos)
    _host_has(wire, b"red")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-XATTR-012", covers=[Txattrwalk])
def test_walk_of_dead_fid(wire: Wire, which: str) -> None:
    """Txattrwalk of a fid that stands for nothing is refused.  Source: intro(5)."""
    shared.dead_fid(wire, which, lambda client, fid: client.send_xattrwalk(fid, client.fid(), COLOUR))


@case("WIRE-XATTR-013", covers=[Txattrwalk])
def test_newfid_in_use(wire: Wire) -> None:
    """Txattrwalk to a newfid that is in use is refused, and that fid stays what it was.  Source: walk(5), "newfid must
    not be in use"; QEMU alloc_fid."""
    client = wire.client
    fid = _file(wire, colour=b"red")
    other = client.open(FRED)
    client.xattrwalk(fid, other, COLOUR, expect=allowed.FID_IN_USE)
    shared.same(bytes(client.read(other).data), b"content", "the other fid")


@case("WIRE-XATTR-014", covers=[Txattrwalk], severity="varies")
def test_newfid_is_the_fid(wire: Wire) -> None:
    """Txattrwalk whose newfid is its fid is refused: the file's fid would be lost.  Source: chaos/diod protocol.md,
    xattrwalk "to newfid"; Linux p9_client_xattrwalk always makes a new one; jor1k#62."""
    client = wire.client
    fid = _file(wire, colour=b"red")
    client.xattrwalk(fid, fid, COLOUR, expect=allowed.FID_IN_USE)
    shared.same(client.getattr(fid).size, 7, "the fid's size")


@pytest.mark.parametrize("operation", ["lopen", "walk", "readdir", "xattrwalk", "xattrcreate", "setattr"])
@case("WIRE-XATTR-015", covers=[Txattrwalk])
def test_xattr_fid_is_no_file(wire: Wire, operation: str) -> None:
    """A fid that stands for a value is no file: it cannot be opened, walked from, listed or asked for attributes of its
    own; refused or not, it reads as the value afterwards.  Source: chaos/diod protocol.md, xattrwalk; QEMU asserts on
    fid_type in v9fs_open."""
    client = wire.client
    fid = _file(wire, colour=b"red")
    xattr, newfid = client.fid(), client.fid()
    client.xattrwalk(fid, xattr, COLOUR)
    if operation == "lopen":
        client.lopen(xattr, O_RDONLY, expect=READS_AS_FID)
    elif operation == "walk":
        client.walk(xattr, newfid, b"x", expect=READS_AS_FID)
    elif operation == "readdir":
        client.readdir(xattr, 0, 4096, expect=READS_AS_FID)
    elif operation == "xattrwalk":
        client.xattrwalk(xattr, newfid, COLOUR, expect=READS_AS_FID | {OK, ENODATA})
    elif operation == "xattrcreate":
        client.xattrcreate(xattr, COLOUR, 3, expect=READS_AS_FID)
    else:
        client.setattr(xattr, 8, size=0, expect=READS_AS_FID | {OK})  # QEMU goes by the path that the fid has still
    shared.same(bytes(client.read(xattr).data), b"red", "the value afterwards")
    client.clunk(xattr)
    _host_has(wire, b"red")


@case("WIRE-XATTR-016", covers=[Txattrwalk, Twrite])
def test_value_for_reading_is_not_written(wire: Wire) -> None:
    """Twrite to a fid that Txattrwalk made is refused and changes nothing.  Source: chaos/diod protocol.md: it is to be
    read; setting goes by Txattrcreate."""
    client = wire.client
    fid = _file(wire, colour=b"red")
    xattr = client.fid()
    client.xattrwalk(fid, xattr, COLOUR)
    client.write(xattr, 0, b"blu", expect=allowed.NOT_FOR_READING | allowed.WRONG_STATE)
    client.clunk(xattr)
    _host_has(wire, b"red")


@case("WIRE-XATTR-017", covers=[Txattrwalk, Tclunk])
def test_walked_and_clunked_many_times(wire: Wire) -> None:
    """Two thousand lists and values, each clunked, leave nothing behind, and the file's fid works on.  Source:
    clunk(5); hugelgupf/p9 lost a reference each time (hugelgupf#106), QEMU the list (CVE-2017-8086)."""
    client = wire.client
    fid = _file(wire, colour=bytes(3000))
    xattrs = [client.fid() for _ in range(25)]

    def round_trip(name: bytes) -> None:
        for walk in [client.send_xattrwalk(fid, xattr, name) for xattr in xattrs]:
            walk.result()
        for clunk in [client.send_clunk(xattr) for xattr in xattrs]:
            clunk.result()

    for name in (b"", COLOUR) * 4:
        round_trip(name)
    before, open_before = wire.memory(), wire.descriptors()
    for _ in range(80):
        round_trip(b"")
        round_trip(COLOUR)
    shared.same(client.getattr(fid).size, 7, "the file's size")
    if before is not None and (now := wire.memory()) is not None:
        assert now - before < 4 << 20, f"the server grew by {now - before} bytes; the values were 6,000,000"
    if open_before is not None and (now := wire.descriptors()) is not None:
        assert now <= open_before + 5, f"{open_before} descriptors before, {now} after"


# --- setting --------------------------------------------------------------------------------------


@case("WIRE-XATTR-030", covers=[Txattrcreate, Twrite, Tclunk])
def test_value_is_set(wire: Wire) -> None:
    """Txattrcreate, the value by Twrite and Tclunk set an attribute, byte for byte.  Source: chaos/diod protocol.md,
    xattrcreate, "The actual setxattr operation happens when the fid is clunked"."""
    fid = _file(wire)
    shared.same(_put(wire.client, fid, COLOUR, VALUE), OK, "setting it")
    _host_has(wire, VALUE)
    shared.same(_get(wire.client, wire.client.walk_to(FRED), COLOUR), VALUE, "the value read back")


@case("WIRE-XATTR-031", covers=[Txattrcreate, Twrite])
def test_value_in_several_writes(wire: Wire) -> None:
    """The value may come in several writes.  Source: chaos/diod protocol.md, xattrcreate; write(5)."""
    client = wire.client
    fid = _file(wire)
    client.xattrcreate(fid, COLOUR, 300)
    for at in range(0, 300, 100):
        shared.same(client.write(fid, at, VALUE[at : at + 100]).count, 100, f"taken at {at}")
    client.clunk(fid)
    _host_has(wire, VALUE[:300])


@case("WIRE-XATTR-032", covers=[Txattrcreate, Tclunk])
def test_nothing_is_set_before_the_clunk(wire: Wire) -> None:
    """The old value stands until the fid is clunked.  Source: chaos/diod protocol.md, xattrcreate, "happens when the
    fid is clunked"."""
    client = wire.client
    fid = _file(wire, colour=b"red")
    client.xattrcreate(fid, COLOUR, 4)
    client.write(fid, 0, b"blue")
    _host_has(wire, b"red")
    client.clunk(fid)
    _host_has(wire, b"blue")


@case("WIRE-XATTR-033", covers=[Txattrcreate], severity="linux")
def test_create_flag(wire: Wire) -> None:
    """With XATTR_CREATE an attribute that exists is refused with EEXIST and stays.  Source: setxattr(2); v9fs hands the
    flag on (fs/9p/xattr.c)."""
    client = wire.client
    fid = _file(wire, colour=b"red")
    _refused(_put(client, fid, COLOUR, b"blue", XATTR_CREATE), {EEXIST})
    _host_has(wire, b"red")
    shared.same(_put(client, client.walk_to(FRED), b"user.new", b"x", XATTR_CREATE), OK, "setting a new one")
    _host_has(wire, b"x", "user.new")


@case("WIRE-XATTR-034", covers=[Txattrcreate], severity="linux")
def test_replace_flag(wire: Wire) -> None:
    """With XATTR_REPLACE an attribute that is missing is refused with ENODATA, and one that exists is replaced.
    Source: setxattr(2)."""
    client = wire.client
    fid = _file(wire, colour=b"red")
    _refused(_put(client, fid, b"user.new", b"x", XATTR_REPLACE), {ENODATA})
    _host_has(wire, None, "user.new")
    shared.same(_put(client, client.walk_to(FRED), COLOUR, b"blue", XATTR_REPLACE), OK, "replacing")
    _host_has(wire, b"blue")


@pytest.mark.parametrize("flags", [4, 0x80000000, 0xFFFFFFFF], ids=shared.label)
@case("WIRE-XATTR-035", covers=[Txattrcreate])
def test_unknown_flags(wire: Wire, flags: int) -> None:
    """Flags that setxattr(2) does not have are refused, and the value stays.  Source: setxattr(2) EINVAL."""
    fid = _file(wire, colour=b"red")
    _refused(_put(wire.client, fid, COLOUR, b"blue", flags), {EINVAL, EOPNOTSUPP, EIO, EEXIST})
    _host_has(wire, b"red")


@case("WIRE-XATTR-036", covers=[Txattrcreate], severity="linux")
def test_attribute_is_removed(wire: Wire) -> None:
    """A size of 0 with XATTR_REPLACE removes the attribute: so Linux spells removexattr(2).  Source: Linux
    v9fs_xattr_handler_set and v9fs_fid_xattr_set with no value; QEMU v9fs_xattr_fid_clunk."""
    client = wire.client
    fid = _file(wire, colour=b"red", shape=b"round")
    shared.same(_put(client, fid, COLOUR, b"", XATTR_REPLACE), OK, "removing it")
    _host_has(wire, None)
    _host_has(wire, b"round", "user.shape")


@case("WIRE-XATTR-037", covers=[Txattrcreate], severity="varies")
def test_empty_value(wire: Wire) -> None:
    """A size of 0 without flags sets an empty value, which is a value.  Source: setxattr(2), "a value of zero length is
    permitted"; QEMU removes the attribute."""
    fid = _file(wire, colour=b"red")
    shared.same(_put(wire.client, fid, COLOUR, b""), OK, "setting it")
    _host_has(wire, b"")


@pytest.mark.parametrize("written", [0, 5])
@case("WIRE-XATTR-038", covers=[Txattrcreate, Tclunk])
def test_clunked_before_all_is_written(wire: Wire, written: int) -> None:
    """A value of which not all was written is not set, or only with bytes that were sent; the fid is free.  Source:
    chaos/diod protocol.md, xattrcreate; QEMU v9fs_xattr_fid_clunk EINVAL; bytes that nobody sent would be the server's
    memory."""
    client = wire.client
    fid = _file(wire)
    client.xattrcreate(fid, COLOUR, 1000)
    if written:
        client.write(fid, 0, b"01234")
    client.send_clunk(fid).errno()
    seen = wire.host.xattr(FRED, "user.colour")
    if seen and seen.rstrip(b"\0") != b"01234"[:written]:
        raise Finding(f"{written} of 1000 bytes were sent; the host has {seen[:60]!r} ({len(seen)} bytes)")
    client.getattr(fid, expect=allowed.UNKNOWN_FID)


@case("WIRE-XATTR-039", covers=[Txattrcreate, Tread])
def test_read_before_the_write(wire: Wire) -> None:
    """Tread on a value that was announced and not written is refused, or brings nothing but zeros.  Source: QEMU sent
    its heap (CVE-2016-9103)."""
    client = wire.client
    fid = _file(wire)
    client.xattrcreate(fid, COLOUR, 4000)
    reply = client.read(fid, 0, 4000, expect=allowed.NOT_FOR_READING | allowed.WRONG_STATE | {OK})
    if isinstance(reply, Rread) and bytes(reply.data).strip(b"\0"):
        raise Finding(f"memory of the server: {bytes(reply.data)[:60]!r}")


@pytest.mark.parametrize("offset", [11, 4096, *EDGES], ids=shared.label)
@case("WIRE-XATTR-040", covers=[Txattrcreate, Twrite])
def test_write_past_the_value(wire: Wire, offset: int) -> None:
    """A write that starts behind the announced size is refused or takes nothing, however large the offset.  Source:
    QEMU v9fs_xattr_write ENOSPC; it wrote past its buffer before (CVE-2016-9104)."""
    client = wire.client
    fid = _file(wire)
    client.xattrcreate(fid, COLOUR, 10)
    sent = client.send_write(fid, offset, b"x" * 100)
    if sent.errno(allowed.BAD_OFFSET | allowed.XATTR_TOO_LARGE | {OK}) == OK:
        shared.same(sent.result().count, 0, "bytes taken behind the end")
    client.write(fid, 0, b"0123456789")
    client.clunk(fid)
    _host_has(wire, b"0123456789")


@case("WIRE-XATTR-041", covers=[Txattrcreate, Twrite])
def test_more_than_was_announced(wire: Wire) -> None:
    """A write longer than the announced size is refused or cut there.  Source: QEMU v9fs_xattr_write; chaos/diod
    protocol.md, xattrcreate attr_size."""
    client = wire.client
    fid = _file(wire)
    client.xattrcreate(fid, COLOUR, 10)
    sent = client.send_write(fid, 0, b"0123456789ABCDEF")
    if sent.errno(allowed.XATTR_TOO_LARGE | {OK}) == OK:
        assert sent.result().count <= 10, f"{sent.result().count} bytes taken where 10 were announced"
    client.send_clunk(fid).errno()
    seen = wire.host.xattr(FRED, "user.colour")
    assert not seen or seen.rstrip(b"\0") == b"0123456789", f"the host has {seen!r}"


@pytest.mark.parametrize("size", SIZES, ids=shared.label)
@case("WIRE-XATTR-042", covers=[Txattrcreate])
def test_absurd_sizes(wire: Wire, size: int) -> None:
    """A size that no attribute can have is refused, at once or at the clunk, and no memory is set aside for it.
    Source: setxattr(2) E2BIG above XATTR_SIZE_MAX; QEMU v9fs_xattrcreate."""
    client = wire.client
    fid = _file(wire)
    before = wire.memory()
    number = client.send_xattrcreate(fid, COLOUR, size).errno(allowed.XATTR_TOO_LARGE | {OK})
    if before is not None and (now := wire.memory()) is not None:
        assert now - before < 32 << 20, f"the server grew by {(now - before) >> 20} MiB"
    if number == OK:
        client.write(fid, 0, b"x", expect=allowed.XATTR_TOO_LARGE | {OK})
        client.clunk(fid, expect=allowed.XATTR_TOO_LARGE)
    _host_has(wire, None)


@case("WIRE-XATTR-043", covers=[Txattrcreate])
def test_largest_value(wire: Wire) -> None:
    """A value of XATTR_SIZE_MAX bytes is set whole, or refused as too large for the file system.  Source: xattr(7)
    limits; setxattr(2) E2BIG, ENOSPC."""
    fid = _file(wire)
    value = VALUE * (XATTR_SIZE_MAX // len(VALUE))
    number = _put(wire.client, fid, COLOUR, value)
    _refused(number, allowed.XATTR_TOO_LARGE | {OK})
    _host_has(wire, value if number == OK else None)


@case("WIRE-XATTR-044", covers=[Txattrcreate])
def test_created_again_and_again(wire: Wire) -> None:
    """Txattrcreate on a fid that already gathers a value is refused, or begins anew without keeping the first buffer; a
    thousand times over no memory goes.  Source: QEMU leaked the buffer (CVE-2016-9102)."""
    client = wire.client
    fid = _file(wire)
    client.xattrcreate(fid, COLOUR, 4096)
    before = wire.memory()
    for _ in range(1000):
        client.send_xattrcreate(fid, COLOUR, 60000).errno(READS_AS_FID | allowed.FULL | {OK, E2BIG})
    if before is not None and (now := wire.memory()) is not None:
        assert now - before < 16 << 20, f"the server grew by {(now - before) >> 20} MiB"
    client.send_clunk(fid).errno()
    wire.client.getattr(wire.root)


@case("WIRE-XATTR-045", covers=[Txattrcreate, Twrite])
def test_many_values_at_once(wire: Wire) -> None:
    """Six hundred values of 60,000 bytes gathered at once are kept or refused with an errno that says so; the session
    goes on, and once they are clunked an attribute can be set.  Source: setxattr(2) ENOSPC; QEMU's limit on xattr fids
    (max_xattr) came after guests could use up the host's memory."""
    client = wire.client
    wire.host.file(FRED)
    data = bytes(60000)
    fids = []
    for _ in range(600):
        fid = client.walk_to(FRED)
        fids.append(fid)
        if client.send_xattrcreate(fid, COLOUR, len(data)).errno(allowed.FULL | {OK}) != OK:
            break
        client.send_write(fid, 0, data).errno(allowed.FULL | {OK})
    # Tremove would remove the file; a clunk may set the attribute, whatever comes of it.
    for fid in fids:
        client.send_clunk(fid).errno()
    shared.same(_put(client, client.walk_to(FRED), b"user.after", b"x"), OK, "setting one afterwards")


@case("WIRE-XATTR-046", covers=[Txattrcreate])
def test_empty_name(wire: Wire) -> None:
    """An attribute without a name cannot be set.  Source: setxattr(2) ERANGE; the empty name means the list in
    Txattrwalk only; empty strings took QEMU down (CVE-2016-8578)."""
    fid = _file(wire)
    _refused(_put(wire.client, fid, b"", b"x"), {ERANGE, EINVAL, ENOENT, EOPNOTSUPP, EIO, ENODATA, EPERM})


@case("WIRE-XATTR-047", covers=[Txattrcreate, Txattrwalk])
def test_long_names(wire: Wire) -> None:
    """A name of 255 bytes can be an attribute's; a longer one is refused, also by Txattrwalk.  Source: xattr(7),
    XATTR_NAME_MAX; setxattr(2) ERANGE."""
    client = wire.client
    fid = _file(wire)
    errnos = {ERANGE, ENAMETOOLONG, EINVAL, E2BIG, EIO, ENODATA, EOPNOTSUPP}
    _refused(_put(client, client.walk_to(FRED), b"user." + b"n" * 250, b"x"), allowed.XATTR_TOO_LARGE | {OK})
    for length in (256, 4096, 60000):
        _refused(_put(client, client.walk_to(FRED), b"user." + b"n" * (length - 5), b"x"), errnos)
        client.xattrwalk(fid, client.fid(), b"user." + b"n" * (length - 5), expect=errnos)


@case("WIRE-XATTR-048", covers=[Txattrcreate, Txattrwalk])
def test_nul_in_a_name(wire: Wire) -> None:
    """A NUL byte does not end an attribute's name: nothing is set or found under what stands before it.  Source:
    chaos/diod protocol.md, strings carry their length; xattr(7)."""
    client = wire.client
    fid = _file(wire, colour=b"red")
    errnos = {EINVAL, ERANGE, ENODATA, EOPNOTSUPP, EIO, ENOENT, EPERM}
    _refused(_put(client, client.walk_to(FRED), COLOUR + b"\0x", b"blue"), errnos)
    _host_has(wire, b"red")
    client.xattrwalk(fid, client.fid(), COLOUR + b"\0x", expect=errnos)


@pytest.mark.parametrize("name", [b"colour", b"nowhere.colour", b"user."], ids=shared.label)
@case("WIRE-XATTR-049", covers=[Txattrcreate])
def test_names_outside_the_namespaces(wire: Wire, name: bytes) -> None:
    """A name in no namespace is refused as the host refuses it.  Source: setxattr(2) EOPNOTSUPP; xattr(7)."""
    fid = _file(wire)
    _refused(_put(wire.client, fid, name, b"x"), NO_NAMESPACE)


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-XATTR-050", covers=[Txattrcreate])
def test_create_on_dead_fid(wire: Wire, which: str) -> None:
    """Txattrcreate on a fid that stands for nothing is refused.  Source: intro(5)."""
    shared.dead_fid(wire, which, lambda client, fid: client.send_xattrcreate(fid, COLOUR, 3))


@case("WIRE-XATTR-051", covers=[Txattrcreate], severity="varies")
def test_create_on_an_open_fid(wire: Wire) -> None:
    """Txattrcreate on a fid that is open is refused: its open file would be lost.  Source: chaos/diod protocol.md,
    xattrcreate; Linux always clones first (v9fs_fid_xattr_set); QEMU takes any fid without descriptor."""
    client = wire.client
    _file(wire, colour=b"red")
    fid = client.open(FRED)
    client.xattrcreate(fid, COLOUR, 4, expect=allowed.WRONG_STATE)
    shared.same(bytes(client.read(fid).data), b"content", "the open file")


@case("WIRE-XATTR-052", covers=[Txattrcreate])
def test_client_that_dies_sets_nothing(wire: Wire) -> None:
    """A client that vanishes before its clunk has set nothing that it did not send whole.  Source: clunk(5): a
    connection's fids end with it; half a value is none."""
    wire.need(Capability.HANGUP, "the link must be able to die")
    _file(wire, colour=b"red")
    before = wire.descriptors()
    for _ in range(20):
        client = wire.session()
        fid = client.walk_to(FRED)
        client.xattrcreate(fid, COLOUR, 100)
        client.write(fid, 0, b"01234")
        wire.hang_up(client)
    if before is not None:
        after = wire.settled(wire.descriptors, before + 10)
        assert after is not None and after < before + 10, f"{before} descriptors before, {after} after"
    _host_has(wire, b"red")


@case("WIRE-XATTR-053", covers=[Txattrcreate])
def test_value_of_an_unlinked_file(wire: Wire) -> None:
    """Setting an attribute of a file that was unlinked meanwhile succeeds or is refused; never another file of the same
    name.  Source: setxattr(2) through a descriptor; QEMU goes by path (GitLab qemu#103)."""
    client = wire.client
    fid = _file(wire)
    client.lopen(client.walk_to(FRED))
    client.xattrcreate(fid, COLOUR, 3)
    client.write(fid, 0, b"red")
    os.unlink(wire.host.path(FRED))
    wire.host.file(FRED, b"another")
    client.clunk(fid, expect={OK, ENOENT, EBADF, EINVAL, EIO, ESTALE})
    _host_has(wire, None)
