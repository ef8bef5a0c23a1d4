"""Ops that change attributes, and access checks."""

from __future__ import annotations

import ctypes
import os

from guests.agent.payload.declare import op
from guests.agent.payload.machine import NARROW, check, libc, syscall
from guests.agent.payload.platforms import HERE_IS, at_flags
from guests.agent.payload.values import PathName, Time


@op(changes=("path",))
def chmod(path: PathName, mode: int, dir_fd: int | None = None) -> None:
    os.chmod(path, mode, dir_fd=dir_fd)


@op(changes=("fd",))
def fchmod(fd: int, mode: int) -> None:
    os.fchmod(fd, mode)


@op(changes=("path",))
def chown(path: PathName, uid: int, gid: int, dir_fd: int | None = None) -> None:
    os.chown(path, uid, gid, dir_fd=dir_fd)


@op(changes=("path",))
def lchown(path: PathName, uid: int, gid: int) -> None:
    os.lchown(path, uid, gid)


@op(changes=("fd",))
def fchown(fd: int, uid: int, gid: int) -> None:
    os.fchown(fd, uid, gid)


class Timespec(ctypes.Structure):
    """struct timespec; on 32 bits the one of the C library's calls for 64-bit times (glibc 2.34 and later)."""

    _fields_ = [("sec", ctypes.c_longlong), ("nsec", ctypes.c_long)] + [("pad", ctypes.c_long)] * NARROW


UTIMENSAT, FUTIMENS = ("__utimensat64", "__futimens64") if NARROW else ("utimensat", "futimens")


def timespecs(atime: Time | None, mtime: Time | None) -> ctypes.Array[Timespec] | None:
    """Two of: nanoseconds since 1970 (may be negative), "now", "omit", or [seconds, nanoseconds] as is.

    Both None: a null pointer instead of the array.
    """
    if atime is None or mtime is None:
        if atime is not mtime:
            raise ValueError("both times, or neither")
        return None
    special = {"now": (0, HERE_IS.utime[0]), "omit": (0, HERE_IS.utime[1])}
    out = []
    for t in (atime, mtime):
        out.append(special[t] if isinstance(t, str) else tuple(t) if isinstance(t, list) else divmod(t, 10**9))
    return (Timespec * 2)(*[Timespec(*t) for t in out])


@op(changes=("path",))
def utimensat(
    path: PathName, atime: Time | None, mtime: Time | None, flags: int = 0, dir_fd: int | None = None
) -> None:
    at = HERE_IS.at_fdcwd if dir_fd is None else dir_fd
    local = at_flags(flags, "SYMLINK_NOFOLLOW", "EMPTY_PATH")
    check(getattr(libc, UTIMENSAT)(at, os.fsencode(path), timespecs(atime, mtime), local))


@op(changes=("fd",))
def futimens(fd: int, atime: Time | None, mtime: Time | None) -> None:
    check(getattr(libc, FUTIMENS)(fd, timespecs(atime, mtime)))


@op()
def access(path: PathName, mode: int) -> None:
    check(libc.access(os.fsencode(path), mode))


@op(needs="faccessat2")
def faccessat2(path: PathName, mode: int, flags: int = 0, dir_fd: int | None = None) -> None:
    at = HERE_IS.at_fdcwd if dir_fd is None else dir_fd
    syscall("faccessat2", at, ctypes.c_char_p(os.fsencode(path)), mode, flags)


@op()
def umask(mask: int) -> int:
    return os.umask(mask)
