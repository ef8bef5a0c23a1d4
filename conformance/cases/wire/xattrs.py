"""What the cases of Txattrwalk and Txattrcreate share: values, and how a guest reads and sets one."""

from __future__ import annotations

from conformance.cases.wire import allowed, shared
from conformance.errors import Finding
from conformance.expectation import OK, Expect, errno_name, names
from conformance.wire import Session, Wire
from protocol.constants import (
    EACCES,
    EINVAL,
    EIO,
    ENODATA,
    ENOENT,
    ENOTDIR,
    EOPNOTSUPP,
    EPERM,
    XATTR_SIZE_MAX,
)

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


def with_attributes(wire: Wire, **attributes: bytes) -> int:
    """`fred` with those attributes of user.*, and a fid for it."""
    wire.host.file(FRED, b"content")
    for name, value in attributes.items():
        wire.host.set_xattr(FRED, f"user.{name}", value)
    return wire.client.walk_to(FRED)


def read_value(client: Session, fid: int, size: int, step: int | None = None) -> bytes:
    """What the xattr fid holds, `step` bytes at a time."""
    data = b""
    while len(data) <= size:
        part = bytes(client.read(fid, len(data), step or client.msize - 24).data)
        if not part:
            return data
        data += part
    raise Finding(f"{size} bytes were announced, {len(data)} came and more follow")


def get_value(client: Session, fid: int, name: bytes) -> bytes:
    """The attribute's value, or the list of names for b"", as a guest reads it."""
    newfid = client.fid()
    size = client.xattrwalk(fid, newfid, name).size
    data = read_value(client, newfid, size)
    shared.same(len(data), size, "bytes read, and what Rxattrwalk announced")
    client.clunk(newfid)
    return data


def put_value(client: Session, fid: int, name: bytes, value: bytes, flags: int = 0) -> int:
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


def refused(number: int, errnos: Expect) -> None:
    """Finding unless setting the value ended with one of `errnos`."""
    assert isinstance(errnos, set | frozenset)
    if number not in errnos:
        seen = "success" if number == OK else errno_name(number)
        raise Finding(f"Txattrcreate, Twrite, Tclunk: allowed: {names(errnos)}; seen: {seen}")


def host_has(wire: Wire, value: bytes | None, name: str = "user.colour", file: bytes = FRED) -> None:
    shared.same(wire.host.xattr(file, name), value, f"{name} on the host")
