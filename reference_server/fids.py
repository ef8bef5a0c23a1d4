"""Fids: the table of a session's fids, and which request is legal in which state.

The rule of this module: everything that decides whether a request may use a fid is in :data:`LEGAL`.  Unknown
fids are EBADF in every request (implementations differ: QEMU EINVAL or ENOENT, diod EIO, hugelgupf EBADF).
"""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass
from typing import NamedTuple

from protocol import messages as m
from protocol.constants import EBADF, EINVAL, EISDIR, ENFILE, ENOTDIR, EROFS, NOFID
from protocol.registry import Message
from reference_server.errors import Refused
from reference_server.limits import Limits
from reference_server.shares import Share
from reference_server.storage import Caller, Node, OpenDirectory, OpenFile


class State(enum.IntFlag):
    """What a fid stands for."""

    PATH = 1
    """A file, found but not open."""
    FILE = 2
    """A regular file, open."""
    DIRECTORY = 4
    """A directory, open."""
    XATTR_READ = 8
    """The value of an extended attribute, or the list of names, to be read (Txattrwalk)."""
    XATTR_WRITE = 16
    """A new value being written (Txattrcreate), set when the fid is clunked."""


PATH, FILE, DIRECTORY, XATTR_READ, XATTR_WRITE = (state.value for state in State)


@dataclass(slots=True, eq=False)
class Xattr:
    """The value that an xattr fid reads or collects."""

    name: bytes
    value: bytearray
    flags: int
    written: int = 0
    """Bytes that arrived so far; the clunk demands all of them."""


class Fid:
    """One fid."""

    __slots__ = (
        "caller",
        "directory",
        "doomed",
        "file",
        "node",
        "number",
        "readonly",
        "state",
        "users",
        "xattr",
    )

    def __init__(self, number: int, node: Node, caller: Caller, readonly: bool) -> None:
        self.number = number
        self.node = node
        """Fixed: a request that binds the number to something else makes another fid."""
        self.caller = caller
        self.readonly = readonly
        """The export admits no change."""
        self.state: int = PATH
        self.file: OpenFile | None = None
        self.directory: OpenDirectory | None = None
        self.xattr: Xattr | None = None
        self.users = 0
        """Requests running elsewhere that still use it."""
        self.doomed = False
        """Clunked while in use: the last user releases it."""

    def release(self) -> None:
        """Close what it holds.  Errors of close(2) are dropped: there is no request that could carry them."""
        try:
            if self.file is not None:
                self.file.close()
            if self.directory is not None:
                self.directory.close()
        finally:
            self.node.release()


class Rule(NamedTuple):
    """The states in which a request may use a fid, and the errno otherwise."""

    states: int
    refusals: dict[int, int]
    """errno by state; EBADF where the state is not named."""
    changes: bool
    """EROFS on a read-only export."""


_GRANT = 64
ANY_FILE = PATH | FILE | DIRECTORY


def _rule(states: int, changes: bool = False, **refusals: int) -> Rule:
    return Rule(int(states), {State[name].value: ecode for name, ecode in refusals.items()}, changes)


LEGAL: dict[tuple[type[Message], str], Rule] = {
    # Linux walks from open fids since 5.11, against walk(5); servers allow it (diod#81, hugelgupf ede3efe).
    (m.Twalk, "fid"): _rule(ANY_FILE),
    (m.Tclunk, "fid"): _rule(ANY_FILE | XATTR_READ | XATTR_WRITE),
    (m.Tremove, "fid"): _rule(ANY_FILE, changes=True),
    (m.Tlopen, "fid"): _rule(PATH, FILE=EINVAL, DIRECTORY=EINVAL),
    (m.Tlcreate, "fid"): _rule(PATH, changes=True, FILE=EINVAL, DIRECTORY=EINVAL),
    (m.Tread, "fid"): _rule(FILE | XATTR_READ, DIRECTORY=EISDIR),
    (m.Twrite, "fid"): _rule(FILE | XATTR_WRITE, DIRECTORY=EISDIR),
    # lib9p refused Tfsync of a directory once; Linux sends it (lib9p add79f9).
    (m.Tfsync, "fid"): _rule(FILE | DIRECTORY),
    (m.Treaddir, "fid"): _rule(DIRECTORY, FILE=ENOTDIR),
    (m.Tmkdir, "dfid"): _rule(ANY_FILE, changes=True),
    (m.Tstatfs, "fid"): _rule(ANY_FILE),
    (m.Tgetattr, "fid"): _rule(ANY_FILE),
    (m.Tsetattr, "fid"): _rule(ANY_FILE, changes=True),
    (m.Tsymlink, "fid"): _rule(ANY_FILE, changes=True),
    (m.Treadlink, "fid"): _rule(ANY_FILE),
    (m.Tlink, "dfid"): _rule(ANY_FILE, changes=True),
    (m.Tlink, "fid"): _rule(ANY_FILE),
    (m.Tmknod, "dfid"): _rule(ANY_FILE, changes=True),
    (m.Trename, "fid"): _rule(ANY_FILE, changes=True),
    (m.Trename, "dfid"): _rule(ANY_FILE, changes=True),
    (m.Trenameat, "olddirfid"): _rule(ANY_FILE, changes=True),
    (m.Trenameat, "newdirfid"): _rule(ANY_FILE, changes=True),
    (m.Tunlinkat, "dirfd"): _rule(ANY_FILE, changes=True),
    (m.Txattrwalk, "fid"): _rule(ANY_FILE),
    (m.Txattrcreate, "fid"): _rule(PATH, changes=True, FILE=EINVAL, DIRECTORY=EINVAL),
    # A lock changes nothing in the export: legal on read-only ones (lib9p 1cea327).
    (m.Tlock, "fid"): _rule(FILE, DIRECTORY=EISDIR),
    (m.Tgetlock, "fid"): _rule(FILE, DIRECTORY=EISDIR),
}
"""By request and field.  Requests that name no fid, or only one to be made, are not here."""


def admit(fid: Fid, rule: Rule) -> Fid:
    """``fid``, if ``rule`` admits it.  Raises Refused with the rule's errno, or EROFS."""
    if not fid.state & rule.states:
        raise Refused(rule.refusals.get(fid.state, EBADF))
    if rule.changes and fid.readonly:
        raise Refused(EROFS)
    return fid


class FidTable:
    """The fids of one session.

    The thread that feeds the session reads it, and workers with fids that are pinned for them. Changes of the table, or
    of what a fid stands for, are one step under the lock: another request may have been faster than a worker since it
    looked up the fid.
    """

    def __init__(self, limits: Limits, share: Share) -> None:
        """``share``: how many fids the client may have."""
        self.by_number: dict[int, Fid] = {}
        self._limits = limits
        self._lock = threading.Lock()
        self._share = share
        self._granted = 0
        """How many were taken from the share: some at a time, since that takes a lock."""
        self.open_files = 0
        self.xattr_bytes = 0

    def get(self, number: int, rule: Rule) -> Fid:
        """The fid ``number`` if it exists and ``rule`` admits it.  Raises Refused."""
        fid = self.by_number.get(number)
        if fid is None:
            raise Refused(EBADF)
        if not fid.state & rule.states or (rule.changes and fid.readonly):
            admit(fid, rule)
        return fid

    def check_free(self, number: int) -> None:
        """Raises Refused: EINVAL when ``number`` is in use or NOFID, ENFILE when there are too many fids."""
        if number in self.by_number or number == NOFID:
            raise Refused(EINVAL)
        if len(self.by_number) >= self._granted:
            self._grant()

    def _grant(self) -> None:
        with self._share.pot.lock:
            for count in (_GRANT, 1):
                if self._share.take(count):
                    self._granted += count
                    return
        raise Refused(ENFILE)

    def give_back(self) -> None:
        """Return unused units to the share."""
        with self._lock:
            self._give_back()

    def _give_back(self) -> None:
        with self._share.pot.lock:
            self._share.give(self._granted - len(self.by_number))
            self._granted = len(self.by_number)

    def check_may_open(self) -> None:
        """Raises Refused(ENFILE) when too many fids are open."""
        if self.open_files >= self._limits.open_files:
            raise Refused(ENFILE)

    def add(self, fid: Fid) -> None:
        """Bind ``fid``.  Raises Refused as ``check_free``; releasing it is the caller's then."""
        with self._lock:
            self.check_free(fid.number)
            self.by_number[fid.number] = fid
            self._count(fid, 1)

    def remove(self, number: int) -> Fid:
        """Unbind fid ``number``; releasing it is the caller's.  Raises Refused(EBADF) when there is none."""
        with self._lock:
            fid = self.by_number.pop(number, None)
            if fid is None:
                raise Refused(EBADF)
            if self._granted - len(self.by_number) > 2 * _GRANT:
                self._give_back()
            self._count(fid, -1)
            return fid

    def replace(self, fid: Fid, made: Fid) -> None:
        """Bind ``made`` in place of ``fid``, which has the same number; releasing that is the caller's.

        Raises Refused(EBADF) when ``fid`` was clunked meanwhile; releasing ``made`` is the caller's then.
        """
        with self._lock:
            if self.by_number.get(fid.number) is not fid:
                raise Refused(EBADF)
            self._count(fid, -1)
            self.by_number[fid.number] = made
            self._count(made, 1)

    def opened(self, fid: Fid, file: OpenFile | None, directory: OpenDirectory | None) -> None:
        """Mark ``fid`` as open.  Raises Refused when it is open already, or no longer bound."""
        with self._lock:
            self._demand_path(fid)
            fid.file, fid.directory = file, directory
            fid.state = FILE if file is not None else DIRECTORY
            self._count(fid, 1)

    def gathers(self, fid: Fid, xattr: Xattr) -> None:
        """``fid`` collects the value of ``xattr`` from now on. Raises Refused like ``opened``."""
        with self._lock:
            self._demand_path(fid)
            fid.xattr, fid.state = xattr, XATTR_WRITE
            self._count(fid, 1)

    def _demand_path(self, fid: Fid) -> None:
        if self.by_number.get(fid.number) is not fid:
            raise Refused(EBADF)
        if fid.state != PATH:
            raise Refused(EINVAL)

    def _count(self, fid: Fid, more: int) -> None:
        if fid.state in (FILE, DIRECTORY):
            self.open_files += more
        elif fid.xattr is not None:
            self.xattr_bytes += more * len(fid.xattr.value)
