"""Tunlinkat, Tremove."""

from __future__ import annotations

from protocol.constants import AT_REMOVEDIR, EINVAL, S_IFDIR
from protocol.messages import Rremove, Runlinkat, Tclunk, Tremove, Tunlinkat
from reference_server import names
from reference_server.errors import Refused
from reference_server.fids import LEGAL, admit
from reference_server.handlers.declare import handles
from reference_server.session import Call, Place, Reply

_PARENT = LEGAL[Tunlinkat, "dirfd"]
_REMOVED = LEGAL[Tremove, "fid"]
_CLUNKED = LEGAL[Tclunk, "fid"]


@handles(Tunlinkat, Place.CROWDED)
def unlinkat(call: Call, request: Tunlinkat) -> Reply:
    """unlink(2), or rmdir(2) with AT_REMOVEDIR; fids of the file stay valid."""
    directory = call.fid(request.dirfd, _PARENT)
    name = names.removed(request.name)
    if request.flags & ~AT_REMOVEDIR:
        raise Refused(EINVAL)
    if request.flags:
        directory.node.rmdir(name, directory.caller)
    else:
        directory.node.unlink(name, directory.caller)
    return Runlinkat(request.tag)


@handles(Tremove)
def remove(call: Call, request: Tremove) -> Reply:
    """Remove what the fid stands for and clunk it; the clunk happens even if the removal fails. remove(5)"""
    call.fid(request.fid, _CLUNKED)
    fid = call.session.fids.remove(request.fid)
    try:
        admit(fid, _REMOVED)
        directory, name = fid.node.location(fid.caller)
        try:
            if fid.node.type == S_IFDIR:
                directory.rmdir(name, fid.caller)
            else:
                directory.unlink(name, fid.caller)
        finally:
            directory.release()
    finally:
        call.let_go(fid)
    return Rremove(request.tag)
