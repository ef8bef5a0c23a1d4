"""Twalk, Tclunk."""

from __future__ import annotations

from protocol.constants import EINVAL, XATTR_REPLACE
from protocol.fields import Qid
from protocol.messages import Rclunk, Rwalk, Tclunk, Twalk
from reference_server import names
from reference_server.errors import Refused
from reference_server.fids import LEGAL, PATH, XATTR_WRITE, Fid
from reference_server.handlers.declare import handles
from reference_server.session import Call, Reply

_FROM = LEGAL[Twalk, "fid"]
_CLUNKED = LEGAL[Tclunk, "fid"]


@handles(Twalk)
def walk(call: Call, request: Twalk) -> Reply:
    """Walk the names. If all exist, ``newfid`` is the last one; if none does, an error; otherwise the qids of those
    that exist.

    walk(5).  ``newfid`` may be ``fid``, unless that is open.
    """
    fids = call.session.fids
    fid = call.fid(request.fid, _FROM)
    in_place = request.newfid == request.fid
    if not in_place:
        fids.check_free(request.newfid)
    elif fid.state != PATH and request.wnames:
        raise Refused(EINVAL)
    node = fid.node
    node.retain()
    qids: list[Qid] = []
    try:
        if request.wnames:
            found = node.walk(map(names.looked_up, request.wnames), fid.caller, qids)
            node.release()
            node = found
    except (OSError, Refused):
        node.release()
        if not qids:
            raise
        return Rwalk(request.tag, tuple(qids))
    try:
        if not in_place:
            fids.add(Fid(request.newfid, node, fid.caller, fid.readonly))
        elif qids:
            fids.replace(fid, Fid(fid.number, node, fid.caller, fid.readonly))
            call.let_go(fid)
        else:
            node.release()
    except Refused:
        node.release()
        raise
    return Rwalk(request.tag, tuple(qids))


@handles(Tclunk)
def clunk(call: Call, request: Tclunk) -> Reply:
    """Forget the fid, whatever else happens. Clunking a Txattrcreate fid sets the attribute."""
    call.fid(request.fid, _CLUNKED)
    fid = call.session.fids.remove(request.fid)
    try:
        if fid.state == XATTR_WRITE:
            _set_xattr(fid)
    finally:
        call.let_go(fid)
    return Rclunk(request.tag)


def _set_xattr(fid: Fid) -> None:
    xattr = fid.xattr
    assert xattr is not None
    if xattr.written != len(xattr.value):
        raise Refused(EINVAL)
    if not xattr.value and xattr.flags & XATTR_REPLACE:
        # removexattr(2) looks like this on the wire, and so does replacing by an empty value
        # (Linux __vfs_removexattr); an empty value without REPLACE can only be setxattr(2).
        fid.node.removexattr(xattr.name, fid.caller)
    else:
        fid.node.setxattr(xattr.name, bytes(xattr.value), xattr.flags, fid.caller)
