"""What a call came to, as a value: for requirements of the form "the guest gets what the host gives".

Two kinds of requirement need more than "this value" or "this errno": limits that belong to the exported file
system (the largest offset), where inside must show what outside shows; and calls that 9P2000.L has no message
for, which either work in full or fail with the kernel's errno and change nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import errorcode
from typing import Any

from conformance.errors import Finding
from conformance.share import Share
from conformance.vantage import Vantage

DIRECT_CACHES = ("none",)
"""Cache modes in which every read asks the server: only there is a change outside seen at once inside."""

FRESH_NAMES = ("none", "readahead", "mmap")
"""Cache modes in which names and attributes are asked for anew: cache=loose and fscache keep dentries."""

WRITE_BACK = ("mmap", "loose", "fscache")
"""Cache modes in which shared writable mappings exist (fs/9p/vfs_file.c)."""

_CLOCK_STEP = 0.02
"""Seconds in which every kernel's coarse clock, which stamps files, has moved: HZ is 100 at least."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A call's value, or its errno."""

    value: Any = None
    errno: int | None = None

    def __str__(self) -> str:
        return f"{self.value!r}" if self.errno is None else errorcode.get(self.errno, str(self.errno))


def outcome(vantage: Vantage, op: str, *args: Any, **kw: Any) -> Outcome:
    """Make the call and say what it came to; hangs and the suite's own errors are raised as ever."""
    try:
        return Outcome(value=vantage.perform(op, *args, **kw))
    except OSError as e:
        return Outcome(errno=e.errno)


def works_or(vantage: Vantage, allowed: tuple[int, ...], op: str, *args: Any, **kw: Any) -> Outcome:
    """The call works or fails with one of `allowed`; anything else is a Finding."""
    seen = outcome(vantage, op, *args, **kw)
    if seen.errno is not None and seen.errno not in allowed:
        wanted = " or ".join(errorcode[e] for e in allowed)
        raise Finding(f"{vantage.name}: {op} failed with {seen}, expected success or {wanted}")
    return seen


def must_answer(vantage: Vantage, what: str, calls: Sequence[tuple[str, Sequence[Any], int]]) -> None:
    """Each call (op, args, errno or 0) comes to just that. All are made in one round trip; opened files are closed."""
    seen = vantage.attempts([[op, list(args)] for op, args, _ in calls])
    shown = {
        f"{op}({', '.join(map(repr, args))})": f"{errorcode[got] if got else 'works'}, expected "
        f"{errorcode[wanted] if wanted else 'works'}"
        for (op, args, wanted), got in zip(calls, seen, strict=True)
        if got != wanted
    }
    must_be_equal(f"{what}: calls that went wrong", shown, {})


def settled_times(share: Share, path: str) -> None:
    """Set atime and mtime to a time long past, so that any update of either shows whatever the clock's
    step; and let that step pass, so that one of ctime shows as well."""
    share.inside.utimensat(path, 10**18, 10**18)
    share.inside.quietly("sleep", _CLOCK_STEP)


def earlier_errors_told(share: Share) -> None:
    """Let syncfs(2) tell now of what could not be written home in earlier cases: Linux tells of it once, to who opens
    something of the file system after it (fs/sync.c, errseq_sample in lib/errseq.c).
    """
    with suppress(OSError):
        share.inside.syncfs(share.inside.open(".", os.O_RDONLY | os.O_DIRECTORY))


def flush(share: Share, *paths: str) -> None:
    """Bring what the guest's cache still holds to the server, and have it read anew: cache=loose writes back late."""
    if share.mount.cache != "none":
        for path in paths:
            fd = share.inside.open(path, os.O_RDWR)
            share.inside.close(uncached(share, fd))


def uncached(share: Share, fd: int) -> int:
    """Write `fd`'s file back and drop its pages from the guest's cache, so that reading asks the server."""
    if share.mount.cache != "none":
        share.inside.fsync(fd)
        share.inside.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return fd


def must_be_equal(what: str, seen: object, wanted: object) -> None:
    """A Finding that shows both values, shortened."""
    if seen != wanted:
        raise Finding(f"{what}: {seen!r:.200}, expected {wanted!r:.200}")
