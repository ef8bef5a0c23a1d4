"""Tsymlink, Treadlink, Tlink."""

from __future__ import annotations

from protocol.constants import EINVAL, EMSGSIZE, ENAMETOOLONG, ENOENT, HDRSZ, S_IFLNK
from protocol.messages import Rlink, Rreadlink, Rsymlink, Tlink, Treadlink, Tsymlink
from reference_server import names
from reference_server.errors import Refused
from reference_server.fids import LEGAL
from reference_server.handlers.declare import handles
from reference_server.session import Call, Place, Reply

_PARENT = LEGAL[Tsymlink, "fid"]
_READ = LEGAL[Treadlink, "fid"]
_LINK_PARENT = LEGAL[Tlink, "dfid"]
_LINKED = LEGAL[Tlink, "fid"]

_PATH_MAX = 4096


@handles(Tsymlink, Place.CROWDED)
def symlink(call: Call, request: Tsymlink) -> Reply:
    """symlink(2); the target is stored unchanged, never followed here. ENOENT if empty, as in Linux."""
    directory = call.fid(request.fid, _PARENT)
    name = names.created(request.name)
    target = request.symtgt
    if not target:
        raise Refused(ENOENT)
    if b"\0" in target:
        raise Refused(EINVAL)
    if len(target) >= _PATH_MAX:
        raise Refused(ENAMETOOLONG)
    return Rsymlink(request.tag, directory.node.symlink(name, target, request.gid, directory.caller))


@handles(Treadlink)
def readlink(call: Call, request: Treadlink) -> Reply:
    """The target as stored; EINVAL for anything but a symbolic link, EMSGSIZE if it does not fit into msize."""
    node = call.fid(request.fid, _READ).node
    if node.type != S_IFLNK:
        raise Refused(EINVAL)
    target = node.readlink()
    if HDRSZ + 2 + len(target) > call.session.msize:
        raise Refused(EMSGSIZE)
    return Rreadlink(request.tag, target)


@handles(Tlink, Place.CROWDED)
def link(call: Call, request: Tlink) -> Reply:
    """link(2) of whatever ``fid`` stands for; of a symbolic link itself, not of its target."""
    directory = call.fid(request.dfid, _LINK_PARENT)
    file = call.fid(request.fid, _LINKED)
    directory.node.link(names.created(request.name), file.node, directory.caller)
    return Rlink(request.tag)
