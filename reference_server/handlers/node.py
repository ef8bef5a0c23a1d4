"""Tmknod."""

from __future__ import annotations

import os

from protocol.constants import EINVAL, S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK
from protocol.messages import Rmknod, Tmknod
from reference_server import names
from reference_server.errors import Refused
from reference_server.fids import LEGAL
from reference_server.handlers.declare import handles
from reference_server.session import Call, Place, Reply

_PARENT = LEGAL[Tmknod, "dfid"]
_TYPES = frozenset({0, S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK})
_MAJOR_MAX = 0xFFF
_MINOR_MAX = 0xFFFFF
"""What Linux has room for in a device number (``include/linux/kdev_t.h``)."""


@handles(Tmknod, Place.CROWDED)
def mknod(call: Call, request: Tmknod) -> Reply:
    """mknod(2): a device, fifo, socket or (no type, or S_IFREG) regular file; EINVAL for other types.

    The node is made and never opened: CVE-2023-2861 was an open, and its fix broke mknod.
    """
    directory = call.fid(request.dfid, _PARENT)
    name = names.created(request.name)
    if request.mode & S_IFMT not in _TYPES:
        raise Refused(EINVAL)
    if request.major > _MAJOR_MAX or request.minor > _MINOR_MAX:
        raise Refused(EINVAL)
    mode = request.mode & (S_IFMT | 0o7777)
    device = os.makedev(request.major, request.minor)
    qid = directory.node.mknod(name, mode, device, request.gid, directory.caller)
    return Rmknod(request.tag, qid)
