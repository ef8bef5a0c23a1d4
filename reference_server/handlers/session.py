"""Tversion, Tauth, Tattach, Tflush."""

from __future__ import annotations

from protocol import codec
from protocol.constants import EBADF, EMSGSIZE, EOPNOTSUPP, NOFID
from protocol.fields import Dialect
from protocol.messages import Rattach, Rversion, Tattach, Tauth, Tflush, Tversion
from reference_server import exports
from reference_server.errors import Refused
from reference_server.fids import Fid
from reference_server.handlers.declare import handles
from reference_server.session import LATER, Call, Reply

UNKNOWN = b"unknown"


@handles(Tversion, touches=False)
def version(call: Call, request: Tversion) -> Reply:
    """Start the session over: everything before it is released first, including running requests.

    The only dialect served is 9P2000.L; a longer name that begins with it and a period is answered with it, any other
    with ``unknown``, including 9P2000 and 9P2000.u. version(5)
    """
    session = call.session
    outlet = call.outlet.later()
    offered = Dialect.L.value
    known = request.version == offered or request.version.startswith(offered + b".")

    def reply() -> Rversion:
        session.established = known
        session.msize = min(request.msize, session.limits.msize_max)
        return Rversion(request.tag, session.msize, offered if known else UNKNOWN)

    if request.msize < session.limits.msize_min:
        raise Refused(EMSGSIZE)
    if session.reset(then=lambda: outlet.send([codec.frame(reply())])):
        return reply()
    return LATER


@handles(Tauth, touches=False)
def auth(call: Call, request: Tauth) -> Reply:
    """Refused: no authentication is required (attach(5): an error means that)."""
    raise Refused(EOPNOTSUPP)


@handles(Tattach)
def attach(call: Call, request: Tattach) -> Reply:
    """Bind the root of an export.  There are no authentication fids, so any ``afid`` but NOFID is an unknown
    fid.
    """
    fids = call.session.fids
    if request.afid != NOFID:
        raise Refused(EBADF)
    fids.check_free(request.fid)
    export = call.session.exports.find(request.aname)
    caller = exports.caller(request.uname, request.n_uname)
    root = export.store.root(call.session.client)
    try:
        qid = root.qid()
        fids.add(Fid(request.fid, root, caller, export.readonly))
    except BaseException:
        root.release()
        raise
    return Rattach(request.tag, qid)


@handles(Tflush, touches=False)
def flush(call: Call, request: Tflush) -> Reply:
    """Cancel the request ``oldtag``, or wait for its end; see :meth:`Session.flush`."""
    return call.session.flush(request.tag, request.oldtag, call.outlet)
