"""The result of a call, as a value: for requirements of the form "the guest gets what the host gives".

Two kinds of requirement need more than "this value" or "this errno": limits of the exported file system (the largest
offset), where inside must show what outside shows; and calls for which 9P2000.L has no message, which either work fully
or fail with the kernel's errno and change nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance import checks
from conformance.checks import Errno, equal, one_of
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage

_PIECE = 1 << 16
"""Bytes that are compared at a time where a file's content is found to be wrong."""

_LOOKED_AT = 4 << 20
"""Bytes in which the first difference is looked for."""

_SECOND = 10**9
_CLOCK_STEP = 0.02
"""Seconds in which every kernel's coarse clock, which stamps files, has moved: HZ is 100 at least."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A call's value, or its errno."""

    value: Any = None
    errno: int | None = None

    def __str__(self) -> str:
        return f"{self.value!r}" if self.errno is None else str(Errno(self.errno))


def outcome(vantage: Vantage, op: str, *args: Any, **kw: Any) -> Outcome:
    """Make the call and return its value or errno; hangs and the suite's own errors are raised as usual."""
    try:
        return Outcome(value=vantage.perform(op, *args, **kw))
    except OSError as e:
        return Outcome(errno=e.errno)


def works_or(vantage: Vantage, allowed: tuple[int, ...], op: str, *args: Any, **kw: Any) -> Outcome:
    """The call works or fails with one of `allowed`; another errno is a finding."""
    seen = outcome(vantage, op, *args, **kw)
    if seen.errno is not None:
        wanted = [Errno(0), *map(Errno, allowed)]
        one_of(f"result of {op}() {vantage.name}", Errno(seen.errno), wanted, code="errno", call=op)
    return seen


def must_answer(vantage: Vantage, what: str, calls: Sequence[tuple[str, Sequence[Any], int]]) -> None:
    """Each call (op, args, errno or 0) has that result. All are made in one round trip; opened files are closed.

    `what` names the caller and the object: "by the group on mode 0o640".
    """
    seen = vantage.attempts([(op, list(args)) for op, args, _ in calls])
    for (op, args, wanted), got in zip(calls, seen, strict=True):
        call = f"{op}({', '.join(map(repr, args))})"
        equal(f"result of {call} {what}", Errno(got), Errno(wanted), code="errno", call=op)


def plain(seen: Mapping[str, Any], *, but: Collection[str] = ()) -> dict[str, Any]:
    """A stat or statx result by names without their prefix, as `checks.fields` takes them, without those in `but`."""
    named = {name.removeprefix("stx_").removeprefix("st_"): value for name, value in seen.items()}
    return {name: value for name, value in named.items() if name not in but}


def has_pattern(
    what: str, vantage: Vantage, file: str | int, length: int, seed: int = 0, offset: int | None = None
) -> bool:
    """The file (a path, or a descriptor) holds `length` bytes of the agent's pattern `seed`, and no more.

    With `offset` the descriptor's file holds these bytes there, and others may follow. The finding names the first byte
    that differs.
    """
    if isinstance(file, str):
        hashed = vantage.hash_file(file)
    else:
        hashed = vantage.hash_fd(file) if offset is None else vantage.hash_fd(file, length, offset)
    size, wanted = hashed[0], vantage.hash_pattern(length, seed)
    checks.judged()
    if hashed == wanted:
        return True
    if size != length:
        equal(f"number of bytes of {what}", size, length, code="content")
    fd = vantage.open(file) if isinstance(file, str) else file
    pattern: bytes = vantage.quietly.pattern_bytes(min(length, _LOOKED_AT), seed)
    for start in range(0, min(size, len(pattern)), _PIECE):
        piece = pattern[start : min(start + _PIECE, size)]
        seen = vantage.pread(fd, len(piece), (offset or 0) + start)
        if not equal(f"bytes of {what} from {start} on", seen, piece, code="content"):
            return False
    return size == length and equal(f"size and SHA-256 of {what}", hashed, wanted, code="content")


def settled_times(share: Share, path: str) -> None:
    """Set atime and mtime to a time long past, so that any update of either shows whatever the clock's
    step; and let that step pass, so that one of ctime shows as well."""
    share.inside.utimensat(path, 10**18, 10**18)
    step_passes(share, path)


def step_passes(share: Share, path: str) -> None:
    """Let the clock step that stamps changes of `path`: a second where the exported file system keeps whole ones.

    Source: ext4 with inodes of 128 bytes, which have no room for parts of a second.
    """
    holder = share.inside if share.alone else share.outside
    whole = holder.quietly.lstat(path)["st_ctime_ns"] % _SECOND == 0
    share.inside.sleep(_CLOCK_STEP + (1 if whole else 0))


def earlier_errors_reported(share: Share) -> None:
    """Let syncfs(2) report now what earlier cases could not write back: Linux reports it once, to the next who opens a
    file of that file system (fs/sync.c, errseq_sample in lib/errseq.c).
    """
    outcome(share.inside, "syncfs", share.inside.open(".", os.O_RDONLY | os.O_DIRECTORY))


def flush(share: Share, *paths: str) -> None:
    """Bring what the guest's cache still holds to the server, and have it read again: cache=loose writes back late."""
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
