"""Tlopen, Tlcreate."""

from __future__ import annotations

import os

from protocol import constants as c
from protocol.messages import Rlcreate, Rlopen, Tlcreate, Tlopen
from reference_server import names
from reference_server.errors import Refused
from reference_server.fids import FILE, LEGAL, Fid
from reference_server.handlers.declare import handles
from reference_server.session import Call, Reply
from reference_server.storage import OpenDirectory, OpenFile

_OPENED = LEGAL[Tlopen, "fid"]
_PARENT = LEGAL[Tlcreate, "fid"]

# Flags that mean something to a server, with the host's number for them. The rest is dropped: O_CREAT, O_EXCL,
# O_NOCTTY, O_CLOEXEC, O_FASYNC, O_NOFOLLOW and O_LARGEFILE were dealt with by the client's kernel or are implied;
# O_DIRECT concerns the client's cache and the alignment of its buffers, not ours (QEMU drops it, too).
_KEPT = (
    (c.O_TRUNC, os.O_TRUNC),
    (c.O_APPEND, os.O_APPEND),
    (c.O_DSYNC, os.O_DSYNC),
    (c.O_SYNC, os.O_SYNC),
    (c.O_NOATIME, os.O_NOATIME),
)
_ANY_KEPT = c.O_TRUNC | c.O_APPEND | c.O_DSYNC | c.O_SYNC | c.O_NOATIME
_ACCESS = {c.O_RDONLY: os.O_RDONLY, c.O_WRONLY: os.O_WRONLY, c.O_RDWR: os.O_RDWR}
_PAGE = 4096


@handles(Tlopen)
def lopen(call: Call, request: Tlopen) -> Reply:
    """Open a regular file or a directory.

    Others are refused and never opened on the host: ELOOP for symbolic links, ENXIO for devices, fifos and sockets,
    which the client must handle itself.
    """
    fid = call.fid(request.fid, _OPENED)
    flags = request.flags
    access = _access(flags, fid)
    kind = fid.node.type
    if kind == c.S_IFDIR:
        if access != os.O_RDONLY or flags & c.O_TRUNC:
            raise Refused(c.EISDIR)
        call.session.fids.check_may_open()
        _opened(call, fid, None, fid.node.open_directory(fid.caller))
    elif kind == c.S_IFREG:
        if flags & c.O_DIRECTORY:
            raise Refused(c.ENOTDIR)
        call.session.fids.check_may_open()
        _opened(call, fid, fid.node.open(access | _kept(flags), fid.caller), None)
    else:
        raise Refused(c.ELOOP if kind == c.S_IFLNK else c.ENXIO)
    return Rlopen(request.tag, fid.node.qid(), iounit(call.session.msize))


def _opened(call: Call, fid: Fid, file: OpenFile | None, directory: OpenDirectory | None) -> None:
    try:
        call.session.fids.opened(fid, file, directory)
    except Refused:
        for one in (file, directory):
            if one is not None:
                one.close()
        raise


@handles(Tlcreate)
def lcreate(call: Call, request: Tlcreate) -> Reply:
    """Create a regular file, or open an existing one unless O_EXCL is given; the fid then stands for it."""
    fid = call.fid(request.fid, _PARENT)
    name = names.created(request.name)
    flags = request.flags
    call.session.fids.check_may_open()
    host_flags = _access(flags, fid) | _kept(flags) | (os.O_EXCL if flags & c.O_EXCL else 0)
    node, qid, file = fid.node.create(name, host_flags, request.mode & 0o7777, request.gid, fid.caller)
    # A new fid with the same number: requests that still use the old one keep it unchanged.
    made = Fid(fid.number, node, fid.caller, fid.readonly)
    made.file, made.state = file, FILE
    try:
        call.session.fids.replace(fid, made)
    except Refused:
        made.release()
        raise
    call.let_go(fid)
    return Rlcreate(request.tag, qid, iounit(call.session.msize))


def iounit(msize: int) -> int:
    """The most data for one Tread or Twrite: whole pages if msize allows, so a client's requests stay aligned."""
    room = msize - c.IOHDRSZ
    return room - room % _PAGE or room


def _access(flags: int, fid: Fid) -> int:
    try:
        access = _ACCESS[flags & c.O_ACCMODE]
    except KeyError:
        raise Refused(c.EINVAL) from None
    if fid.readonly and (access != os.O_RDONLY or flags & c.O_TRUNC):
        raise Refused(c.EROFS)
    return access


def _kept(flags: int) -> int:
    kept = 0
    if not flags & _ANY_KEPT:
        return kept
    for wire, host in _KEPT:
        if flags & wire:
            kept |= host
    return kept
