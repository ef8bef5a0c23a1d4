"""Record locks of fcntl(2), and flock(2)."""

from __future__ import annotations

import fcntl
import struct
from typing import TYPE_CHECKING

from guests.agent.payload.declare import op
from guests.agent.payload.machine import NARROW

if TYPE_CHECKING:
    from guests.agent.payload.values import Lock, LockKind


F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38


LOCK_TYPES: dict[LockKind, int] = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
FLOCK = "hhqqi" if NARROW else "hhqqi4x"


def lock_struct(kind: LockKind, start: int, length: int, pid: int = 0) -> bytes:
    return struct.pack(FLOCK, LOCK_TYPES[kind], 0, start, length, pid)


def unlock_struct(raw: bytes) -> Lock:
    kind, _whence, start, length, pid = struct.unpack(FLOCK, raw)
    kinds: dict[int, LockKind] = {number: name for name, number in LOCK_TYPES.items()}
    return {"type": kinds[kind], "start": start, "length": length, "pid": pid}


@op()
def setlk(fd: int, kind: LockKind, start: int = 0, length: int = 0, wait: bool = False, ofd: bool = False) -> None:
    """fcntl record lock. kind: "r", "w" or "u" (unlock); ofd: an open file description lock."""
    command = (F_OFD_SETLKW if wait else F_OFD_SETLK) if ofd else (fcntl.F_SETLKW if wait else fcntl.F_SETLK)
    fcntl.fcntl(fd, command, lock_struct(kind, start, length))


@op()
def getlk(fd: int, kind: LockKind, start: int = 0, length: int = 0, ofd: bool = False) -> Lock:
    """The lock that would conflict: {"type", "start", "length", "pid"}, type "u" if none."""
    command = F_OFD_GETLK if ofd else fcntl.F_GETLK
    return unlock_struct(fcntl.fcntl(fd, command, lock_struct(kind, start, length)))


@op()
def flock(fd: int, operation: int) -> None:
    fcntl.flock(fd, operation)
