"""inotify(7)."""

from __future__ import annotations

import os
import select
import struct

from guests.agent.payload.declare import op
from guests.agent.payload.machine import check, libc
from guests.agent.payload.values import PathName


@op(needs="inotify")
def inotify_init() -> int:
    return check(libc.inotify_init1(os.O_NONBLOCK))


@op(needs="inotify")
def inotify_add_watch(fd: int, path: PathName, mask: int) -> int:
    return check(libc.inotify_add_watch(fd, os.fsencode(path), mask))


@op(needs="inotify")
def inotify_read(fd: int, seconds: float = 1.0) -> list[tuple[int, str]]:
    """Pending events, after at most `seconds`: (mask, name) of each."""
    if not select.select([fd], [], [], seconds)[0]:
        return []
    events: list[tuple[int, str]] = []
    raw, at = os.read(fd, 65536), 0
    while at < len(raw):
        _wd, mask, _cookie, length = struct.unpack_from("iIII", raw, at)
        name = raw[at + 16 : at + 16 + length].split(b"\0", 1)[0]
        events.append((mask, os.fsdecode(name)))
        at += 16 + length
    return events
