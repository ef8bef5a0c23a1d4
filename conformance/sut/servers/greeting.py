"""Whether a server speaks 9P2000.L and lets the suite attach: checked before a run begins."""

from __future__ import annotations

from collections.abc import Callable

from conformance.errors import Finding, UsageError
from conformance.raw.expectation import OK, spell
from conformance.raw.operations import Client
from conformance.transports.base import Link
from conformance.vocabulary import errno_name
from protocol.fields import Dialect
from protocol.messages import Rversion

ANSWERS = 3.0
"""Seconds that a server has for each of the first two answers."""


def check_greeting(who: str, connect: Callable[[], Link], *, msize: int, aname: bytes, uname: bytes, hint: str) -> None:
    """Refuse in one line a server on which no case can run.

    Raises UsageError if the server does not speak 9P2000.L, or the tree cannot be attached (`hint` says how to name
    another); InfrastructureError if `connect` does.
    """
    client = Client(connect(), reads_rerror=True, timeout=ANSWERS)
    try:
        reply = client.send_version(msize).wait()
        if not isinstance(reply, Rversion) or reply.version != Dialect.L.value:
            raise UsageError(f"{who} does not speak 9P2000.L: it answered {spell(reply)}")
        client.msize = reply.msize
        refusal = client.attach.send(client.fid(), aname, uname).errno()
    except Finding as error:
        raise UsageError(f"{who} does not speak 9P2000.L: {error}") from None
    finally:
        client.close()
    if refusal != OK:
        tree = aname.decode(errors="replace")
        raise UsageError(f"{who} refuses to attach {tree!r}: {errno_name(refusal)}; {hint}")
