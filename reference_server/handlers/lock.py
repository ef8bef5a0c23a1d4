"""Tlock, Tgetlock.

A lock belongs to a process, as in fcntl(2). Linux sends flock(2) in the same message, whose locks belong to the open
file, which children inherit: a child that unlocks uses its own number. A Linux client sends for each

    fcntl(F_SETLK, F_UNLCK)       the bytes, without LOCK_FLAGS_BLOCK
    close(2), and a process ends  the whole file, without LOCK_FLAGS_BLOCK, for every descriptor that is closed while
                                  the client knows any lock on the file (fs/locks.c, locks_remove_posix)
    flock(LOCK_UN)                the whole file, with LOCK_FLAGS_BLOCK (fs/locks.c, the system call passes F_SETLKW)

So an unlock of the whole file with LOCK_FLAGS_BLOCK also releases what another process of the client locked as a whole
through that fid. Without the flag it must not: each child of a process that holds a lock would release it by ending.
"""

from __future__ import annotations

from protocol import constants as c
from protocol.messages import Rgetlock, Rlock, Tgetlock, Tlock
from reference_server.errors import Refused
from reference_server.fids import LEGAL
from reference_server.handlers.declare import handles
from reference_server.session import Again, Call, Reply
from reference_server.storage import Lock, LockOwner

_LOCKED = LEGAL[Tlock, "fid"]
_ASKED = LEGAL[Tgetlock, "fid"]

_OFF_MAX = (1 << 63) - 1
_RETRY = 0.02
"""Seconds between looks at a lock that is waited for.  A waiting request costs no thread, only this look."""


@handles(Tlock)
def lock(call: Call, request: Tlock) -> Reply:
    """Take or release a record lock; LOCK_BLOCKED if another owner holds it.

    With LOCK_FLAGS_BLOCK it first waits for the lock, at most :attr:`Limits.lock_wait`; a Tflush ends the wait. The
    owner is the process that the client names, not the fid: POSIX locks of one process never conflict, whatever
    descriptor they were taken through (diod#102).
    """
    file = call.fid(request.fid, _LOCKED).file
    assert file is not None
    owner = LockOwner(call.session.number, request.client_id, request.proc_id)
    start, length = _range(request.start, request.length)
    wanted: Lock | None = None
    if request.locktype != c.LOCK_TYPE_UNLCK:
        wanted = _lock(request.locktype, start, length, owner)
    if file.set_lock(owner, wanted, start, length):
        if wanted is None and request.flags & c.LOCK_FLAGS_BLOCK and not start and not length:
            file.release_whole(owner)
        return Rlock(request.tag, c.LOCK_SUCCESS)
    if request.flags & c.LOCK_FLAGS_BLOCK and call.waited < call.session.limits.lock_wait:
        return Again(_RETRY)
    return Rlock(request.tag, c.LOCK_BLOCKED)


@handles(Tgetlock)
def getlock(call: Call, request: Tgetlock) -> Reply:
    """The conflicting lock; if there is none, the request itself with LOCK_TYPE_UNLCK, as in fcntl(2).

    Linux asks about LOCK_TYPE_UNLCK whatever the program asked, once its own locks show no conflict (6.12,
    v9fs_file_getlock): EINVAL would break F_GETLK there, and reporting a read lock would show a reader a conflict that
    does not exist. So it is treated as LOCK_TYPE_RDLCK, and only a lock that excludes all others is reported.
    """
    file = call.fid(request.fid, _ASKED).file
    assert file is not None
    owner = LockOwner(call.session.number, request.client_id, request.proc_id)
    start, length = _range(request.start, request.length)
    type = c.LOCK_TYPE_RDLCK if request.locktype == c.LOCK_TYPE_UNLCK else request.locktype
    found = file.get_lock(owner, _lock(type, start, length, owner))
    if found is None:
        return Rgetlock(
            request.tag, c.LOCK_TYPE_UNLCK, request.start, request.length, request.proc_id, request.client_id
        )
    return Rgetlock(request.tag, found.type, found.start, found.length, found.proc_id, found.client_id)


def _range(start: int, length: int) -> tuple[int, int]:
    """``start`` and ``length`` if they name bytes that a file can have.  Raises Refused(EINVAL), as fcntl(2)."""
    if start > _OFF_MAX or length > _OFF_MAX or (length and start + length - 1 > _OFF_MAX):
        raise Refused(c.EINVAL)
    return start, length


def _lock(type: int, start: int, length: int, owner: LockOwner) -> Lock:
    if type not in (c.LOCK_TYPE_RDLCK, c.LOCK_TYPE_WRLCK):
        raise Refused(c.EINVAL)
    return Lock(type, start, length, owner.proc_id, owner.client_id)
