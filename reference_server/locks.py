"""Record locks: who holds which bytes.

The rule of this module: pure bookkeeping of fcntl(2)'s rules for one file.  Locks of one owner never
conflict; a new one replaces what it overlaps; releasing the middle leaves two.
"""

from __future__ import annotations

import errno
from collections import Counter

from protocol.constants import LOCK_TYPE_WRLCK
from reference_server.limits import Limits
from reference_server.storage import Lock, LockOwner

_END = 1 << 63
"""One past the last byte that a lock of length 0 covers."""


class LockCounts:
    """How many locks each session holds in one store."""

    def __init__(self, most: int = Limits.locks) -> None:
        self._most = most
        self._held: Counter[int] = Counter()

    def demand_room(self, owner: LockOwner) -> None:
        """Raises OSError(ENOLCK) if the owner's session holds as many as it may."""
        if self._held[owner.session] >= self._most:
            raise OSError(errno.ENOLCK, "the session holds too many locks")

    def add(self, owner: LockOwner, more: int) -> None:
        """Record that the owner's session holds so many more."""
        self._held[owner.session] += more
        if not self._held[owner.session]:
            del self._held[owner.session]


class HeldLocks:
    """The locks of one file."""

    def __init__(self, counts: LockCounts | None = None) -> None:
        self._counts = counts or LockCounts()
        self._held: dict[LockOwner, list[tuple[int, int, int]]] = {}
        """Per owner: (start, end, type), disjoint, in order; end exclusive."""

    def conflict(self, owner: LockOwner, wanted: Lock) -> Lock | None:
        """A lock of another owner that conflicts with ``wanted``; the one that starts first."""
        start, end = _span(wanted.start, wanted.length)
        found: list[tuple[int, int, int, LockOwner]] = []
        for other, ranges in self._held.items():
            if other == owner:
                continue
            for low, high, type in ranges:
                if low < end and start < high and LOCK_TYPE_WRLCK in (type, wanted.type):
                    found.append((low, high, type, other))
        if not found:
            return None
        low, high, type, other = min(found)
        return Lock(type, low, 0 if high == _END else high - low, other.proc_id, other.client_id)

    def set(self, owner: LockOwner, type: int | None, start: int, length: int) -> None:
        """Record that ``owner`` holds ``type`` there from now on, or nothing if it is None."""
        low, high = _span(start, length)
        kept = []
        before = len(self._held.get(owner, ()))
        for old_low, old_high, old_type in self._held.get(owner, []):
            if old_high <= low or high <= old_low:
                kept.append((old_low, old_high, old_type))
                continue
            if old_low < low:
                kept.append((old_low, low, old_type))
            if high < old_high:
                kept.append((high, old_high, old_type))
        if type is not None:
            kept.append((low, high, type))
        if kept:
            self._held[owner] = kept = _merged(sorted(kept))
        else:
            self._held.pop(owner, None)
        self._counts.add(owner, len(kept) - before)

    def holds(self, owner: LockOwner) -> bool:
        """Whether ``owner`` holds anything."""
        return owner in self._held

    def holds_whole(self, owner: LockOwner) -> bool:
        """Whether ``owner`` holds the whole file and nothing else, as flock(2) locks it."""
        return [(low, high) for low, high, _type in self._held.get(owner, ())] == [(0, _END)]

    def count(self) -> int:
        """How many owners hold something."""
        return len(self._held)


def _span(start: int, length: int) -> tuple[int, int]:
    return start, start + length if length else _END


def _merged(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    merged: list[tuple[int, int, int]] = []
    for low, high, type in ranges:
        if merged and merged[-1][1] == low and merged[-1][2] == type:
            merged[-1] = (merged[-1][0], high, type)
        else:
            merged.append((low, high, type))
    return merged
