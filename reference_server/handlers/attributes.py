"""Tstatfs, Tgetattr, Tsetattr."""

from __future__ import annotations

from protocol import constants as c
from protocol.codec import packer
from protocol.messages import Rgetattr, Rsetattr, Rstatfs, Tgetattr, Tsetattr, Tstatfs
from reference_server.errors import Refused
from reference_server.fids import LEGAL
from reference_server.handlers.declare import handles
from reference_server.session import Call, Place, Reply
from reference_server.storage import NOW, Changes

_MEASURED = LEGAL[Tstatfs, "fid"]
_SEEN = LEGAL[Tgetattr, "fid"]
_CHANGED = LEGAL[Tsetattr, "fid"]

_rgetattr = packer(Rgetattr)  # the most frequent reply of all

_NANOSECONDS = 1_000_000_000
_SIGN = 1 << 63
_NOBODY_AT_ALL = 0xFFFFFFFF


@handles(Tstatfs)
def statfs(call: Call, request: Tstatfs) -> Reply:
    """statfs(2), the host's type included, as QEMU and kvmtool answer it (diod answers V9FS_MAGIC)."""
    return Rstatfs(request.tag, *call.fid(request.fid, _MEASURED).node.statfs())


@handles(Tgetattr)
def getattr(call: Call, request: Tgetattr) -> Reply:
    """All fields of stat(2), whatever was requested, without birth time, generation and data version."""
    attributes = call.fid(request.fid, _SEEN).node.getattr()
    return _rgetattr(request.tag, c.GETATTR_BASIC, *attributes, 0, 0, 0, 0)


@handles(Tsetattr, Place.CROWDED)
def setattr(call: Call, request: Tsetattr) -> Reply:
    """Set the fields in ``valid``. Bits of ``mode`` beyond 07777 are the file type and change nothing."""
    fid = call.fid(request.fid, _CHANGED)
    changes = _changes(request)
    if request.valid:
        fid.node.setattr(changes, fid.file, fid.caller)
    return Rsetattr(request.tag)


def _changes(request: Tsetattr) -> Changes:
    valid = request.valid
    if valid & c.SETATTR_SIZE and request.size >= _SIGN:
        raise Refused(c.EINVAL)
    if valid & c.SETATTR_UID and request.uid == _NOBODY_AT_ALL:
        raise Refused(c.EINVAL)
    if valid & c.SETATTR_GID and request.gid == _NOBODY_AT_ALL:
        raise Refused(c.EINVAL)
    changes = Changes(
        mode=request.mode & 0o7777 if valid & c.SETATTR_MODE else None,
        uid=request.uid if valid & c.SETATTR_UID else None,
        gid=request.gid if valid & c.SETATTR_GID else None,
        size=request.size if valid & c.SETATTR_SIZE else None,
        atime=_time(valid, c.SETATTR_ATIME, c.SETATTR_ATIME_SET, request.atime_sec, request.atime_nsec),
        mtime=_time(valid, c.SETATTR_MTIME, c.SETATTR_MTIME_SET, request.mtime_sec, request.mtime_nsec),
        touch=bool(valid & c.SETATTR_CTIME),
    )
    # The change time cannot be chosen; every change moves it. It needs a call of its own only if nothing else was
    # requested (QEMU v9fs_setattr then calls chown(-1, -1)).
    return changes._replace(touch=changes.touch and not any(part is not None for part in changes[:-1]))


def _time(valid: int, bit: int, given: int, seconds: int, nanoseconds: int) -> tuple[int, int] | None:
    if not valid & bit:
        return None
    if not valid & given:
        return NOW
    if nanoseconds >= _NANOSECONDS:
        raise Refused(c.EINVAL)
    # time64_t is sent as u64: times before 1970 are two's complement.
    return (seconds - 2 * _SIGN if seconds >= _SIGN else seconds), nanoseconds
