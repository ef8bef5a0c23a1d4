"""Trename, Trenameat."""

from __future__ import annotations

from protocol.messages import Rrename, Rrenameat, Trename, Trenameat
from reference_server import names
from reference_server.fids import LEGAL
from reference_server.handlers.declare import handles
from reference_server.session import Call, Place, Reply

_MOVED = LEGAL[Trename, "fid"]
_TARGET = LEGAL[Trename, "dfid"]
_OLD = LEGAL[Trenameat, "olddirfid"]
_NEW = LEGAL[Trenameat, "newdirfid"]


@handles(Trename, Place.CROWDED)
def rename(call: Call, request: Trename) -> Reply:
    """Move the file of ``fid``, wherever its name is now; EBUSY for the root of the export."""
    fid = call.fid(request.fid, _MOVED)
    target = call.fid(request.dfid, _TARGET)
    new_name = names.renamed(request.name)
    directory, name = fid.node.location(fid.caller)
    try:
        directory.rename(name, target.node, new_name, fid.caller)
    finally:
        directory.release()
    return Rrename(request.tag)


@handles(Trenameat, Place.CROWDED)
def renameat(call: Call, request: Trenameat) -> Reply:
    """rename(2) between two directories."""
    old = call.fid(request.olddirfid, _OLD)
    new = call.fid(request.newdirfid, _NEW)
    name, new_name = names.renamed(request.oldname), names.renamed(request.newname)
    old.node.rename(name, new.node, new_name, old.caller)
    return Rrenameat(request.tag)
