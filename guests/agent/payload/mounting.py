"""Mounts of the machine."""

from __future__ import annotations

import ctypes
import os

from guests.agent.payload.declare import op
from guests.agent.payload.machine import check, libc


@op()
def mount(source: str, directory: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    names = [ctypes.c_char_p(os.fsencode(t)) for t in (source, directory, kind)]
    check(libc.mount(*names, ctypes.c_ulong(flags), ctypes.c_char_p(os.fsencode(data))))


@op()
def umount2(directory: str, flags: int = 0) -> None:
    check(libc.umount2(ctypes.c_char_p(os.fsencode(directory)), flags))


@op()
def mounts() -> list[list[str]]:
    """/proc/self/mounts, split: [source, directory, type, options] of each."""
    with open("/proc/self/mounts") as f:
        return [line.split()[:4] for line in f]
