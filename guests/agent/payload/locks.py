"""Record locks of fcntl(2), and flock(2)."""

from __future__ import annotations

import fcntl
import struct

from guests.agent.payload.declare import op
from guests.agent.payload.platforms import HERE_IS, need
from guests.agent.payload.values import Lock, LockKind

LOCK_TYPES: dict[LockKind, int] = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}


def lock_struct(kind: LockKind, start: int, length: int) -> bytes:
    """struct flock of a request, from the beginning of the file."""
    layout, fields = HERE_IS.flock
    values = {"type": LOCK_TYPES[kind], "start": start, "length": length}
    return struct.pack(layout, *[values.get(field, 0) for field in fields])


def unlock_struct(raw: bytes) -> Lock:
    """The lock in a struct flock that the kernel filled in."""
    layout, fields = HERE_IS.flock
    found = dict(zip(fields, struct.unpack(layout, raw)))
    kinds: dict[int, LockKind] = {number: name for name, number in LOCK_TYPES.items()}
    return {"type": kinds[found["type"]], "start": found["start"], "length": found["length"], "pid": found["pid"]}


def lock_command(which: int, ofd: bool) -> int:
    """The fcntl(2) command: 0 to ask, 1 to set, 2 to set and wait; for open file descriptions if `ofd`."""
    if not ofd:
        return (fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW)[which]
    need("ofd-locks")
    assert HERE_IS.ofd is not None
    return HERE_IS.ofd[which]


@op()
def setlk(fd: int, kind: LockKind, start: int = 0, length: int = 0, wait: bool = False, ofd: bool = False) -> None:
    """fcntl record lock. kind: "r", "w" or "u" (unlock); ofd: an open file description lock."""
    fcntl.fcntl(fd, lock_command(2 if wait else 1, ofd), lock_struct(kind, start, length))


@op()
def getlk(fd: int, kind: LockKind, start: int = 0, length: int = 0, ofd: bool = False) -> Lock:
    """The lock that would conflict: {"type", "start", "length", "pid"}, type "u" if none."""
    return unlock_struct(fcntl.fcntl(fd, lock_command(0, ofd), lock_struct(kind, start, length)))


@op()
def flock(fd: int, operation: int) -> None:
    fcntl.flock(fd, operation)
