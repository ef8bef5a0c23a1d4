"""Which trees can be attached, and for whom.

The rule of this module: a client's name never becomes part of a path; it is only compared with the names declared here.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from protocol.constants import ENOENT, NONUNAME
from reference_server.errors import Refused
from reference_server.storage import Caller, Store

NOBODY = 65534


@dataclass(frozen=True)
class Export:
    """One tree."""

    store: Store
    readonly: bool = False


class Exports:
    """The trees that a server offers, by name."""

    def __init__(self, default: Export, named: dict[bytes, Export] | None = None) -> None:
        self._named = {b"": default, b"/": default}
        for name, export in (named or {}).items():
            self._named[name] = export
            self._named[b"/" + name.lstrip(b"/")] = export
        self.pace = default.store.pace
        """Whether all of them are prompt.  One that is not makes a request wait for as long as it likes."""
        for export in self._named.values():
            self.pace.prompt = self.pace.prompt and export.store.pace.prompt
            export.store.pace = self.pace

    def find(self, aname: bytes) -> Export:
        """The export that Tattach calls ``aname``: a name given to it, with or without a slash; empty for the
        first.

        Raises Refused(ENOENT).
        """
        try:
            return self._named[aname]
        except KeyError:
            raise Refused(ENOENT) from None

    def rooted(self, name: bytes) -> Exports:
        """The same trees, with the one called ``name`` as the default, if there is one."""
        made = Exports(self._named.get(name, self._named[b""]))
        made._named = {**self._named, b"": made._named[b""], b"/": made._named[b""]}
        return made

    def close(self) -> None:
        """Close every store."""
        for export in {id(export): export for export in self._named.values()}.values():
            export.store.close()


def caller(uname: bytes, n_uname: int) -> Caller:
    """For whom a Tattach speaks.

    ``n_uname`` if it is a number; else the host's user called ``uname``; the server's own user when neither was given;
    nobody when the host knows no such user (Linux's default for ``uname`` is "nobody"). Groups are those that the
    host's user data base has. The store decides whether this limits what the caller may do.
    """
    if n_uname != NONUNAME:
        uid = n_uname
    elif not uname:
        uid = os.geteuid()
    else:
        try:
            uid = pwd.getpwnam(os.fsdecode(uname)).pw_uid
        except (KeyError, ValueError):
            uid = NOBODY
    try:
        user = pwd.getpwuid(uid)
        return Caller(uid, user.pw_gid, tuple(os.getgrouplist(user.pw_name, user.pw_gid)))
    except (KeyError, OverflowError, OSError):
        return Caller(uid, uid if n_uname != NONUNAME else NOBODY, ())
