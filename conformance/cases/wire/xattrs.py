"""What the cases of Txattrwalk and Txattrcreate share: values, and how a guest reads and sets them."""

from __future__ import annotations

from conformance.checks import equal, report, require
from conformance.errors import Finding
from conformance.raw.expectation import OK, Expect, names, severity_of
from conformance.raw.expectation import allowed as allowed_set
from conformance.raw.wire import Session, Wire
from conformance.vocabulary import errno_name
from protocol.constants import XATTR_SIZE_MAX

FRED = b"fred"
COLOUR = b"user.colour"
VALUE = bytes(range(256)) * 4
EDGES = [0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFF0, 0xFFFFFFFFFFFFFFFF]
SIZES = [XATTR_SIZE_MAX + 1, 1 << 20, 1 << 31, 1 << 32, 1 << 63, 0xFFFFFFFFFFFFFFFF]
"""Values larger than Linux allows for any attribute (XATTR_SIZE_MAX), and at the edges of 32 and 64 bits."""


def with_attributes(wire: Wire, **attributes: bytes) -> int:
    """`fred` with those attributes of user.*, and a fid for it."""
    wire.host.file(FRED, b"content")
    for name, value in attributes.items():
        wire.host.set_xattr(FRED, f"user.{name}", value)
    return wire.client.walk_to(FRED)


def read_value(client: Session, fid: int, size: int, step: int | None = None) -> bytes:
    """Read the xattr fid, `step` bytes at a time."""
    data = b""
    while len(data) <= size:
        part = bytes(client.read(fid, len(data), step or client.msize - 24).data)
        if not part:
            return data
        data += part
    raise Finding(f"{size} bytes were announced, {len(data)} came and more follow", "content", {"call": "Tread"})


def get_value(client: Session, fid: int, name: bytes) -> bytes:
    """The attribute's value, or the list of names for b"", as a guest reads it."""
    newfid = client.fid()
    size = client.xattrwalk(fid, newfid, name).size
    data = read_value(client, newfid, size)
    equal(f"bytes read of {name!r}, beside the size in Rxattrwalk", len(data), size, call="Txattrwalk")
    client.clunk(newfid)
    return data


def put_value(client: Session, fid: int, name: bytes, value: bytes, flags: int = 0) -> int:
    """Set a value as Linux does: Txattrcreate, Twrite, Tclunk. Returns the first errno of any of them, or OK; `fid` is
    clunked."""
    number = client.xattrcreate.send(fid, name, len(value), flags).errno()
    at = 0
    while number == OK and at < len(value):
        sent = client.write.send(fid, at, value[at : at + client.msize - 24])
        if (number := sent.errno()) == OK:
            count = sent.result().count
            require(f"Twrite takes some of a value at {at} of {len(value)} bytes", count, seen=count, call="Twrite")
            at += count
    at_end = client.clunk.send(fid).errno()
    return number or at_end


def settled(number: int, expect: Expect = None, what: str = "the attribute") -> bool:
    """Setting the value ended as `expect` says: with success or a refusal; another errno is reported separately."""
    errnos = allowed_set(expect)
    seen = errno_name(number) if number != OK else "success"
    if number in errnos:
        return True
    values = {"call": "Txattrcreate", "what": what, "seen": seen, "expected": names(errnos)}
    if number == OK or errnos == {OK}:
        text = f"setting {what} by Txattrcreate, Twrite and Tclunk ended with {seen}, expected {names(errnos)}"
        report(Finding(text, "errno", values))
    else:
        text = f"setting {what} by Txattrcreate, Twrite and Tclunk was refused with {seen}, expected {names(errnos)}"
        report(Finding(text, "errno-choice", values, severity_of(expect)))
    return number != OK and errnos != {OK}


def host_has(wire: Wire, value: bytes | None, name: str = "user.colour", file: bytes = FRED) -> bool:
    """The host has that value of the attribute, or none."""
    seen = wire.host.xattr(file, name)
    return equal(f"attribute {name} of {file!r} on the host", seen, value, code="content")
