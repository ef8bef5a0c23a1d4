"""Mounts of the machine."""

from __future__ import annotations

import ctypes
import os
import subprocess

from guests.agent.payload.declare import op
from guests.agent.payload.machine import check, libc
from guests.agent.payload.platforms import FREEBSD, HERE_IS, ILLUMOS


@op(needs="mount")
def mount(source: str, directory: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    names = [ctypes.c_char_p(os.fsencode(t)) for t in (source, directory, kind)]
    check(libc.mount(*names, ctypes.c_ulong(flags), ctypes.c_char_p(os.fsencode(data))))


@op(needs="mount")
def umount2(directory: str, flags: int = 0) -> None:
    check(libc.umount2(ctypes.c_char_p(os.fsencode(directory)), flags))


@op()
def mounts() -> list[list[str]]:
    """What is mounted: [source, directory, type, options] of each."""
    if HERE_IS is FREEBSD:  # mount(8): -p prints it as fstab(5) has it
        lines = subprocess.run(["/sbin/mount", "-p"], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()
    else:
        with open("/etc/mnttab" if HERE_IS is ILLUMOS else "/proc/self/mounts") as f:
            lines = f.read().splitlines()
    return [line.split()[:4] for line in lines]
