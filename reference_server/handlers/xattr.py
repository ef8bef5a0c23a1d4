"""Txattrwalk, Txattrcreate. Tread and Twrite carry the value, and Tclunk sets it."""

from __future__ import annotations

from protocol.constants import (
    E2BIG,
    EINVAL,
    ENOSPC,
    ERANGE,
    XATTR_CREATE,
    XATTR_NAME_MAX,
    XATTR_REPLACE,
    XATTR_SIZE_MAX,
)
from protocol.messages import Rxattrcreate, Rxattrwalk, Txattrcreate, Txattrwalk
from reference_server.errors import Refused
from reference_server.fids import LEGAL, XATTR_READ, Fid, Xattr
from reference_server.handlers.declare import handles
from reference_server.session import Call, Reply

_WALKED = LEGAL[Txattrwalk, "fid"]
_CREATED = LEGAL[Txattrcreate, "fid"]


@handles(Txattrwalk)
def xattrwalk(call: Call, request: Txattrwalk) -> Reply:
    """Keep a copy of the value, or of the list of names, for ``newfid`` to read.

    A copy, so that size and content match even if the attribute changes (CVE-2017-15038). ENOSPC if copies already take
    as much memory as a session may use.
    """
    fids = call.session.fids
    fid = call.fid(request.fid, _WALKED)
    fids.check_free(request.newfid)
    name = _name(request.name) if request.name else b""
    value = fid.node.getxattr(name, fid.caller) if name else fid.node.listxattr(fid.caller)
    _check_room(call, len(value))
    made = Fid(request.newfid, fid.node, fid.caller, fid.readonly)
    made.xattr = Xattr(name, bytearray(value), 0)
    made.state = XATTR_READ
    fid.node.retain()
    try:
        fids.add(made)
    except Refused:
        fid.node.release()
        raise
    return Rxattrwalk(request.tag, len(value))


@handles(Txattrcreate, touches=False)
def xattrcreate(call: Call, request: Txattrcreate) -> Reply:
    """Turn ``fid`` into one that collects the value.

    E2BIG beyond Linux's XATTR_SIZE_MAX, ENOSPC if the memory for values is exhausted, EINVAL for unknown flags.
    """
    fid = call.fid(request.fid, _CREATED)
    name = _name(request.name)
    if request.attr_size > XATTR_SIZE_MAX:
        raise Refused(E2BIG)
    if request.flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise Refused(EINVAL)
    _check_room(call, request.attr_size)
    call.session.fids.gathers(fid, Xattr(name, bytearray(request.attr_size), request.flags))
    return Rxattrcreate(request.tag)


def _name(name: bytes) -> bytes:
    """``name`` if it is valid. Raises Refused like Linux: ERANGE when empty or too long, EINVAL for a NUL."""
    if not name or len(name) > XATTR_NAME_MAX:
        raise Refused(ERANGE)
    if b"\0" in name:
        raise Refused(EINVAL)
    return name


def _check_room(call: Call, size: int) -> None:
    if call.session.fids.xattr_bytes + size > call.session.limits.xattr_bytes:
        raise Refused(ENOSPC)
