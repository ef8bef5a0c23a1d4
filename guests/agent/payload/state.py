"""What the agent itself remembers between calls."""

from __future__ import annotations

import os


class Place:
    """The directory for relative names of this process."""

    root = b"/"
    root_fd: int | None = None
    """The root held open during a case: its dentry stays, and each call walks one name less over the wire."""
    in_case = False
    """Between `begin_case` and `end_case`: replies of the main process report what was traced, and what is open."""


HERE = Place()
FD_PATHS: dict[int, bytes | None] = {}
"""The path that each descriptor was opened by, where one is known."""
OPENED: dict[int, int] = {}
"""Descriptors by the numbers of the requests that opened them, for calls sent before the caller knew the descriptor."""
CHANGED: list[str] = []
"""Paths that the call being made changes."""
KEPT: set[int] = set()
"""Descriptors that `reset` leaves open: the channels to the caller and to the other processes."""


def under_root(path: str | bytes) -> bytes:
    """A path name for the kernel: a relative one is below the root, an empty one stays empty."""
    raw = os.fsencode(path)
    return raw if raw.startswith(b"/") or HERE.root == b"" or not raw else os.path.join(HERE.root, raw)


def open_descriptors() -> list[int]:
    """The descriptors that this process has open; some may be closed by now. FreeBSD's /dev/fd shows three only."""
    if os.path.isdir("/proc/self/fd"):
        return [int(name) for name in os.listdir("/proc/self/fd")]
    found = []
    for fd in range(min(os.sysconf("SC_OPEN_MAX"), 1 << 14)):
        try:
            os.fstat(fd)
            found.append(fd)
        except OSError:
            pass
    return found
