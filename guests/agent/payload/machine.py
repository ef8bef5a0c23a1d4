"""The machine that the agent runs on: its architecture's system call numbers, its C library."""

from __future__ import annotations

import ctypes
import os
import struct

PATH_MAX = 4096
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000

NARROW = struct.calcsize("P") == 4
"""A process of 32 bits, as under v86: the plain calls of its C library, and Python's, know no time after 2038."""

CALLS = ("statx", "renameat2", "faccessat2", "syncfs", "getdents64", "pidfd_open", "pidfd_getfd")
NUMBERS = {
    "x86_64": (332, 316, 439, 306, 217, 434, 438),
    "i386": (383, 353, 439, 344, 220, 434, 438),
    "aarch64": (291, 276, 439, 267, 61, 434, 438),
    "riscv64": (291, 276, 439, 267, 61, 434, 438),
}
"""The numbers of CALLS on each architecture. Sources, in Linux: arch/x86/entry/syscalls/syscall_64.tbl and
syscall_32.tbl, include/uapi/asm-generic/unistd.h for the others."""


def architecture(machine: str, narrow: bool) -> str:
    """The architecture of this process, as NUMBERS names it, from what uname(2) says of the kernel.

    A process of 32 bits can run under a kernel of 64. Raises ValueError, in one line, for any other architecture.
    """
    name = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if narrow and name in ("x86_64", "i386", "i486", "i586", "i686"):
        name = "i386"
    elif narrow or name not in NUMBERS:
        bits = 32 if narrow else 64
        known = ", ".join(NUMBERS)
        raise ValueError(f"the agent has no system call numbers for {machine} ({bits} bits): it has {known}")
    return name


def own_architecture() -> str:
    """That of this process. Raises as `architecture`."""
    return architecture(os.uname().machine, NARROW)


FOUND: dict[str, int] = {}
"""The system call numbers of this process's architecture, once one was wanted."""


def syscall(name: str, *arguments: object) -> int:
    """The Linux system call of that name, by its number. Raises OSError."""
    if not FOUND:
        FOUND.update(zip(CALLS, NUMBERS[own_architecture()]))
    return check(libc.syscall(FOUND[name], *arguments))


libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> int:
    """`result` of a call of the C library. Raises OSError if it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
