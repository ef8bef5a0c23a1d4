"""Tread, Twrite, Tfsync."""

from __future__ import annotations

from protocol.constants import EBADF, EINVAL, ENOSPC, RREAD_HDRSZ
from protocol.messages import Rfsync, Rread, Rwrite, Tfsync, Tread, Twrite
from reference_server.errors import Refused
from reference_server.fids import LEGAL, XATTR_READ, XATTR_WRITE, Fid
from reference_server.handlers.declare import handles
from reference_server.session import Call, Place, Placed, Reply

_READ = LEGAL[Tread, "fid"]
_WRITTEN = LEGAL[Twrite, "fid"]
_SYNCED = LEGAL[Tfsync, "fid"]

_OFF_MAX = (1 << 63) - 1
"""Largest file offset (off_t)."""


@handles(Tread)
def read(call: Call, request: Tread) -> Reply:
    """Read into the outlet's memory; a count that no reply could carry is reduced to what one can (as in QEMU)."""
    fid = call.fid(request.fid, _READ)
    count = min(request.count, call.session.msize - RREAD_HDRSZ)
    if fid.state == XATTR_READ:
        assert fid.xattr is not None
        offset = min(request.offset, len(fid.xattr.value))
        return Rread(request.tag, bytes(fid.xattr.value[offset : offset + count]))
    file = fid.file
    assert file is not None
    if not file.readable:
        raise Refused(EBADF)
    if request.offset + count > _OFF_MAX:
        raise Refused(EINVAL)
    return Placed(Rread.type, file.read_into(call.outlet.payload(count), request.offset, call.waiting))


@handles(Twrite)
def write(call: Call, request: Twrite) -> Reply:
    """Write to a file, or collect the value of an extended attribute."""
    fid = call.fid(request.fid, _WRITTEN)
    if fid.state == XATTR_WRITE:
        return Rwrite(request.tag, _gather(fid, request))
    file = fid.file
    assert file is not None
    if not file.writable:
        raise Refused(EBADF)
    if request.offset + len(request.data) > _OFF_MAX:
        raise Refused(EINVAL)
    return Rwrite(request.tag, file.write(request.data, request.offset, fid.caller, call.waiting))


def _gather(fid: Fid, request: Twrite) -> int:
    """Collect a piece of an attribute's value. ENOSPC past the announced size (QEMU), EINVAL if it leaves a gap."""
    xattr = fid.xattr
    assert xattr is not None
    end = request.offset + len(request.data)
    if end > len(xattr.value):
        raise Refused(ENOSPC)
    if request.offset > xattr.written:
        raise Refused(EINVAL)
    xattr.value[request.offset : end] = bytes(request.data)
    xattr.written = max(xattr.written, end)
    return len(request.data)


@handles(Tfsync, Place.WORKER)
def fsync(call: Call, request: Tfsync) -> Reply:
    """fsync(2), or fdatasync(2) when ``datasync`` is not 0; of directories as well."""
    fid = call.fid(request.fid, _SYNCED)
    opened = fid.file or fid.directory
    assert opened is not None
    opened.fsync(request.datasync != 0)
    return Rfsync(request.tag)
