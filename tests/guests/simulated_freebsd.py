"""Runs the agent on this Linux system as if it were FreeBSD: `python simulated_freebsd.py AGENT`.

Calls that FreeBSD or its Python does not have are removed. Open flags, commands, errors and structs have FreeBSD's
numbers and layouts; only at the system's own interface are they turned back into Linux's. So whatever the agent
forgets to translate goes wrong. Sources: FreeBSD's sys/sys/fcntl.h, sys/sys/errno.h, sys/sys/stat.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
import sys
from typing import Any

NUMBERS = {"O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2, "O_ACCMODE": 3, "O_NONBLOCK": 4, "O_APPEND": 8, "O_SYNC": 0x80}
NUMBERS.update(O_NOFOLLOW=0x100, O_CREAT=0x200, O_TRUNC=0x400, O_EXCL=0x800, O_NOCTTY=0x8000, O_DIRECT=0x10000)
NUMBERS.update(O_DIRECTORY=0x20000, O_CLOEXEC=0x100000, O_DSYNC=0x1000000)
LINUX = {name: getattr(os, name) for name in dir(os) if name.startswith("O_")}
ABSENT = ("setxattr", "getxattr", "listxattr", "removexattr", "memfd_create", "copy_file_range")
MISSING = ("fallocate", "splice", "inotify_init1", "statfs64", "readdir64", "mmap64", "syscall", "copy_file_range")
"""Names of glibc that FreeBSD's C library does not have."""
ENOTEMPTY, EAGAIN = 66, 35

real_open, real_rmdir, real_fcntl, real_isdir = os.open, os.rmdir, fcntl.fcntl, os.path.isdir
real_run, RealLibrary = subprocess.run, ctypes.CDLL


def to_linux(flags: int) -> int:
    left = flags & ~3
    local = flags & 3
    for name, bits in NUMBERS.items():
        if bits > 3 and left & bits:
            local |= LINUX[name]
            left &= ~bits
    if left:
        raise OSError(errno.EINVAL, f"no flag of FreeBSD: {left:#x}")
    return local


def from_linux(flags: int) -> int:
    return flags & 3 | sum(bits for name, bits in NUMBERS.items() if bits > 3 and flags & LINUX[name] == LINUX[name])


def simulated_open(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    return real_open(path, to_linux(flags), mode, dir_fd=dir_fd)


def simulated_rmdir(path: bytes, *, dir_fd: int | None = None) -> None:
    try:
        real_rmdir(path, dir_fd=dir_fd)
    except OSError as e:
        raise OSError(ENOTEMPTY if e.errno == 39 else e.errno, e.strerror) from None


def simulated_fcntl(fd: int, command: int, argument: int | bytes = 0) -> int | bytes:
    if isinstance(argument, bytes):  # F_GETLK, F_SETLK, F_SETLKW
        kinds = {1: 0, 3: 1, 2: 2}
        start, length, pid, kind, whence, _system = struct.unpack("qqihhi", argument)
        asked = struct.pack("hhqqi4x", kinds[kind], whence, start, length, pid)
        try:
            said = real_fcntl(fd, {11: 5, 12: 6, 13: 7}[command], asked)
        except BlockingIOError as e:
            raise OSError(EAGAIN, e.strerror) from None
        kind, whence, start, length, pid = struct.unpack("hhqqi4x", said)
        theirs = {value: key for key, value in kinds.items()}
        return struct.pack("qqihhi", start, length, pid, theirs[kind], whence, 0)
    if command == 4:
        argument = to_linux(argument)
    found = real_fcntl(fd, command, argument)
    return from_linux(found) if command == 3 else found


class Library:
    """The C library with FreeBSD's flags, without the functions that FreeBSD's does not have."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        self._real = RealLibrary(*args, **kw)

    def __getattr__(self, name: str) -> Any:
        if name in MISSING:
            raise AttributeError(name)
        real = getattr(self._real, name)
        turned = {"unlinkat": {0x800: 0x200}, "utimensat": {0x200: 0x100}, "linkat": {0x400: 0x400}}.get(name)
        if turned is None:
            return real

        def call(*args: Any) -> Any:
            if name == "utimensat" and args[2] is not None:
                for one in args[2]:
                    one.nsec = {-1: 0x3FFFFFFF, -2: 0x3FFFFFFE}.get(one.nsec, one.nsec)
            return real(*args[:-1], turned[args[-1]] if args[-1] else 0)

        return call


def simulated_run(argv: list[str], **kw: Any) -> Any:
    if argv == ["/sbin/mount", "-p"]:
        argv = ["printf", "share0\\t\\t/mnt/x\\tp9fs\\trw,noatime\\t0 0\\n"]
    return real_run(argv, **kw)


def simulate() -> None:
    """Replace this system's calls, numbers and layouts by all of these."""
    for name in LINUX:
        if name in NUMBERS:
            setattr(os, name, NUMBERS[name])
        else:
            delattr(os, name)
    for name in ABSENT:
        delattr(os, name)
    put(sys, platform="freebsd14")
    put(os, uname=lambda: os.uname_result(("FreeBSD", "simulated", "14.1-RELEASE", "x", "amd64")))
    put(os, open=simulated_open, rmdir=simulated_rmdir)
    put(os.path, isdir=lambda path: path != "/proc/self/fd" and real_isdir(path))
    put(fcntl, fcntl=simulated_fcntl, F_GETLK=11, F_SETLK=12, F_SETLKW=13, F_RDLCK=1, F_UNLCK=2, F_WRLCK=3)
    put(ctypes, CDLL=Library)
    put(errno, errorcode={**errno.errorcode, ENOTEMPTY: "ENOTEMPTY", EAGAIN: "EAGAIN"})
    put(subprocess, run=simulated_run)


def put(where: object, **names: object) -> None:
    """Set attributes of a module."""
    for name, value in names.items():
        setattr(where, name, value)


if __name__ == "__main__":
    simulate()
    with open(sys.argv[1]) as file:
        exec(compile(file.read(), sys.argv[1], "exec"), {"__name__": "__main__"})
