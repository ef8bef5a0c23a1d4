"""Whether file systems answer promptly.

The rule of this module: a file system counts as slow unless it is known to be prompt, and this module makes no call
that might block. A local file system answers from memory or from a disk of this host. One that depends on another
process or machine may delay a request for any time, and most of them cannot announce that (no RWF_NOWAIT): no request
to it may run where others wait behind it.

Source: proc(5), mountinfo and fdinfo.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

PROMPT = frozenset(
    {
        "bcachefs",
        "btrfs",
        "erofs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "iso9660",
        "jfs",
        "ntfs3",
        "overlay",
        "ramfs",
        "reiserfs",
        "rootfs",
        "squashfs",
        "tmpfs",
        "udf",
        "vfat",
        "xfs",
        "zfs",
    }
)
"""File systems that answer from memory or from a disk."""
IN_MEMORY = frozenset({"ramfs", "rootfs", "tmpfs"})
"""Of these, those that answer from memory alone: no read of a file there waits for anything."""
_OCTAL = re.compile(rb"\\([0-7]{3})")
_PROC = Path("/proc/self")


class Pace:
    """Whether all file systems that it covers are prompt; stores that are offered together share one."""

    __slots__ = ("prompt",)

    def __init__(self, prompt: bool = True) -> None:
        self.prompt = prompt


class Mount(NamedTuple):
    """One line of mountinfo."""

    number: int
    place: bytes
    type: str


def mounts(proc: Path = _PROC) -> list[Mount]:
    """The mounts in this process's namespace; empty if the kernel does not report them."""
    try:
        lines = (proc / "mountinfo").read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _dash, after = line.partition(b" - ")
        fields = before.split(b" ")
        place = _OCTAL.sub(lambda code: bytes([int(code[1], 8)]), fields[4])
        found.append(Mount(int(fields[0]), place, after.split(b" ")[0].decode("ascii", "replace")))
    return found


def type_of(fd: int, proc: Path = _PROC) -> str:
    """The type of the file system of ``fd``, by name; empty if the kernel does not report it."""
    try:
        info = (proc / "fdinfo" / str(fd)).read_text()
        number = int(info.partition("mnt_id:")[2].split(None, 1)[0])
    except (OSError, ValueError, IndexError):
        return ""
    return next((mount.type for mount in mounts(proc) if mount.number == number), "")


def is_prompt(fd: int, proc: Path = _PROC) -> bool:
    """Whether the file system of ``fd`` is known to be prompt."""
    return type_of(fd, proc) in PROMPT


def all_prompt(path: str | bytes, fd: int, proc: Path = _PROC) -> bool:
    """Whether the directory ``path``, open as ``fd``, and every file system mounted below it are prompt."""
    top = os.path.realpath(os.fsencode(path)).rstrip(b"/") + b"/"
    below = [mount for mount in mounts(proc) if mount.place.startswith(top)]
    return is_prompt(fd, proc) and all(mount.type in PROMPT for mount in below)
