"""The differences between the systems on which the agent runs, in one table; and what the current one is missing.

Callers use Linux's numbers, except for open flags, which also differ between architectures: they send those once.
Sources: for FreeBSD sys/sys/fcntl.h, sys/sys/stat.h, sys/sys/dirent.h, sys/sys/resource.h, sys/sys/mman.h; for illumos
usr/src/uts/common/sys/fcntl.h, sys/stat.h, sys/dirent.h, sys/resource.h; for Linux include/uapi and fcntl(2).

The same on all of them: st_blocks counts 512 bytes, f_blocks counts f_frsize; whence of lseek(2), with SEEK_DATA and
SEEK_HOLE; operations of flock(2); F_GETFD, F_SETFD, F_GETFL and F_SETFL; S_IF bits; ST_RDONLY and ST_NOSUID. Only Linux
has the birth time, in statx(2). There ACLs are extended attributes; elsewhere they have their own calls (acl(3) of
FreeBSD, POSIX.1e or NFSv4 by file system; acl(2) of illumos, NFSv4 on ZFS), which no op makes.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping

from guests.agent.payload.machine import NARROW, libc


class Platform:
    """One system's row of the table."""

    def __init__(
        self,
        at_fdcwd: int,
        at_flags: dict[str, int],
        utime: tuple[int, int],
        flock: tuple[str, tuple[str, ...]],
        ofd: tuple[int, int, int] | None,
        dirent_name: int,
        resources: dict[int, int],
        ms_sync: int,
    ) -> None:
        self.at_fdcwd = at_fdcwd
        self.at_flags = at_flags
        """Flags of calls that take a directory descriptor, by name."""
        self.utime = utime
        """UTIME_NOW and UTIME_OMIT."""
        self.flock = flock
        """struct flock: its layout, and its fields in order."""
        self.ofd = ofd
        """F_OFD_GETLK, F_OFD_SETLK and F_OFD_SETLKW; None where there are no such locks."""
        self.dirent_name = dirent_name
        """Where in struct dirent the name stands."""
        self.resources = resources
        """Numbers of RLIMIT_FSIZE and RLIMIT_NOFILE, by Linux's."""
        self.ms_sync = ms_sync


LINUX = Platform(
    at_fdcwd=-100,
    at_flags={"SYMLINK_NOFOLLOW": 0x100, "REMOVEDIR": 0x200, "SYMLINK_FOLLOW": 0x400, "EMPTY_PATH": 0x1000},
    utime=(0x3FFFFFFF, 0x3FFFFFFE),
    flock=("hhqqi" if NARROW else "hhqqi4x", ("type", "whence", "start", "length", "pid")),
    ofd=(36, 37, 38),
    dirent_name=19,
    resources={1: 1, 7: 7},
    ms_sync=4,
)
FREEBSD = Platform(
    at_fdcwd=-100,
    at_flags={"SYMLINK_NOFOLLOW": 0x200, "REMOVEDIR": 0x800, "SYMLINK_FOLLOW": 0x400, "EMPTY_PATH": 0x4000},
    utime=(-1, -2),
    flock=("qqihhi", ("start", "length", "pid", "type", "whence", "sysid")),
    ofd=None,
    dirent_name=24,
    resources={1: 1, 7: 8},
    ms_sync=0,
)
ILLUMOS = Platform(
    at_fdcwd=-0x2E6AAD,  # 0xffd19553 as an int
    at_flags={"SYMLINK_NOFOLLOW": 0x1000, "REMOVEDIR": 0x1, "SYMLINK_FOLLOW": 0x2000},
    utime=(-1, -2),
    flock=("hhqqii32x", ("type", "whence", "start", "length", "sysid", "pid")),
    ofd=None,
    dirent_name=18,
    resources={1: 1, 7: 5},
    ms_sync=4,
)
PLATFORMS = {"linux": LINUX, "freebsd": FREEBSD, "sunos": ILLUMOS}


def platform_of(name: str) -> Platform:
    """The row of a system, as `sys.platform` names it. Raises ValueError, in one line, for another."""
    for system, found in PLATFORMS.items():
        if name.startswith(system):
            return found
    raise ValueError(f"the agent does not know the system {name}: it knows Linux, FreeBSD and illumos")


HERE_IS = platform_of(sys.platform) if sys.platform.startswith(tuple(PLATFORMS)) else LINUX
"""The row of this system; the agent refuses to begin on one that has none."""


class Absent(Exception):
    """This platform does not have what a call needs; the text says what."""


def absent_features() -> dict[str, str]:
    """The missing features that ops need, each with the reason that a verdict gives."""
    system = os.uname().sysname
    found = {}
    for feature, what in LINUX_CALLS.items():
        if HERE_IS is not LINUX:
            found[feature] = f"{system} has no {what}"
    for feature, name in LIBRARY_CALLS.items():
        if not hasattr(libc, name):
            found[feature] = f"the C library of {system} has no {name}()"
    for feature, name in PYTHON_CALLS.items():
        if not hasattr(os, name):
            found[feature] = f"Python has no os.{name} on {system}"
    if HERE_IS.ofd is None:
        found["ofd-locks"] = f"{system} has no open file description locks"
    return found


LINUX_CALLS = {
    "statx": "statx(2)",
    "renameat2": "renameat2(2)",
    "faccessat2": "faccessat2(2)",
    "syncfs": "syncfs(2)",
    "getdents": "getdents64(2)",
    "pidfd": "pidfd_getfd(2)",
    "statfs": "statfs(2) with Linux's struct",
    "sendfile": "sendfile(2) between files",
    "fcntl": "commands of fcntl(2) that are Linux's own",
    "ioctl": "ioctl(2) requests of Linux",
    "mount": "mount(2) with Linux's arguments",
    "proc": "/proc as Linux has it",
}
LIBRARY_CALLS = {
    "fallocate": "fallocate",
    "splice": "splice",
    "inotify": "inotify_init1",
    "copy-flags": "copy_file_range",
}
PYTHON_CALLS = {
    "xattr": "setxattr",
    "memfd": "memfd_create",
    "copy": "copy_file_range",
    "fadvise": "posix_fadvise",
    "preadv": "preadv",
}
ABSENT: dict[str, str] = absent_features()


def need(feature: str) -> None:
    """Raise Absent if this platform does not have a feature."""
    if feature in ABSENT:
        raise Absent(ABSENT[feature])


def at_flags(flags: int, *names: str) -> int:
    """Flags of a call that takes a directory descriptor, as this system has them; `names`: those that it knows.

    Other flags pass on Linux, whose kernel judges them; elsewhere they are EINVAL, as in POSIX.
    """
    if HERE_IS is LINUX:
        return flags
    local = 0
    for name in names:
        if flags & LINUX.at_flags[name] and name in HERE_IS.at_flags:
            local |= HERE_IS.at_flags[name]
            flags &= ~LINUX.at_flags[name]
    if flags:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return local


OWN_FLAGS = {name: getattr(os, name) for name in dir(os) if name.startswith("O_")}
"""The open flags of this platform, by name."""
CALLERS_FLAGS: dict[str, int] = {}
"""The caller's, where any differs."""


def learn_flags(theirs: Mapping[str, int]) -> None:
    """Remember the caller's numbers of open flags."""
    if any(OWN_FLAGS.get(name) != number for name, number in theirs.items()):
        CALLERS_FLAGS.update(theirs)


def open_flags(flags: int) -> int:
    """The caller's open flags in this platform's numbers. Raises Absent for one that it does not have."""
    if not CALLERS_FLAGS:
        return flags
    local, left = flags & 3, flags & ~3
    for name, bits in _widest_first(CALLERS_FLAGS):
        if left & bits == bits and name in OWN_FLAGS:
            local |= OWN_FLAGS[name]
            left &= ~bits
    for name, bits in _widest_first(CALLERS_FLAGS):
        if left & bits and name not in OWN_FLAGS:
            raise Absent(f"{os.uname().sysname} has no {name}")
    return local | left


def callers_flags(flags: int) -> int:
    """Open flags of this platform in the caller's numbers."""
    if not CALLERS_FLAGS:
        return flags
    theirs, left = flags & 3, flags & ~3
    for name, bits in _widest_first(OWN_FLAGS):
        if left & bits == bits and name in CALLERS_FLAGS:
            theirs |= CALLERS_FLAGS[name]
            left &= ~bits
    return theirs


def _widest_first(flags: dict[str, int]) -> list[tuple[str, int]]:
    """Flags beyond the access mode, those of several bits first: O_SYNC includes O_DSYNC."""
    beyond = [(name, bits) for name, bits in flags.items() if bits & ~3]
    return sorted(beyond, key=lambda pair: -bin(pair[1]).count("1"))


def device(number: int) -> int:
    """A device number in Linux's encoding of major and minor: systems encode them differently."""
    return number if HERE_IS is LINUX else makedev_linux(os.major(number), os.minor(number))


def local_device(number: int) -> int:
    """The reverse: the caller's device number in this system's encoding."""
    if HERE_IS is LINUX:
        return number
    major = (number >> 8 & 0xFFF) | (number >> 32 & ~0xFFF)
    return os.makedev(major, (number & 0xFF) | (number >> 12 & ~0xFF))


def makedev_linux(major: int, minor: int) -> int:
    """Source: gnu_dev_makedev of glibc, bits/sysmacros.h."""
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32
