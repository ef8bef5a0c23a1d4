"""Treaddir, Tmkdir."""

from __future__ import annotations

from protocol.constants import RREAD_HDRSZ
from protocol.messages import Rmkdir, Rreaddir, Tmkdir, Treaddir
from reference_server import names
from reference_server.fids import LEGAL
from reference_server.handlers.declare import handles
from reference_server.session import Call, Place, Reply

_LISTED = LEGAL[Treaddir, "fid"]
_PARENT = LEGAL[Tmkdir, "dfid"]


@handles(Treaddir)
def readdir(call: Call, request: Treaddir) -> Reply:
    """Whole entries, including ``.`` and ``..``; EINVAL if not even one fits into ``count``, like getdents(2)."""
    fid = call.fid(request.fid, _LISTED)
    assert fid.directory is not None
    count = min(request.count, call.session.msize - RREAD_HDRSZ)
    return Rreaddir(request.tag, fid.directory.read_entries(request.offset, count))


@handles(Tmkdir, Place.CROWDED)
def mkdir(call: Call, request: Tmkdir) -> Reply:
    """mkdir(2); the client has applied its umask."""
    directory = call.fid(request.dfid, _PARENT)
    name = names.created(request.name)
    return Rmkdir(request.tag, directory.node.mkdir(name, request.mode & 0o7777, request.gid, directory.caller))
