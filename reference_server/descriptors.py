"""The descriptors of the process: a bounded cache behind fids, and a budget for those that cannot be given up.

The rule of this module: it knows which descriptors may be given up and when, not what they stand for. A node that is
not open for I/O can be found again, so its descriptor is cached; the least recently used one is closed first when the
table is nearly full (second chance: one round spares those used since the last). Descriptors that are open for I/O, or
of files that could not be found again, are pinned, and count against their client's share.

Source: virtiofsd's --inode-file-handles=prefer and QEMU's v9fs_reclaim_fd give descriptors up for the same reason.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import threading
from collections import deque
from enum import Enum
from itertools import islice
from typing import Protocol

from reference_server.shares import Pot

_close = os.close  # at the end of the process the module may be gone before the last descriptor
RELEASED = 1 << 30
"""Added to ``pins`` of a node that is gone."""
KEPT = 1 << 29
"""In ``pins`` of a node that keeps its descriptor because the file would not be found again."""
_BATCH = 32
"""Descriptors given up at a time."""
_TRIES = 4
_AHEAD = 1024
"""Nodes taken from the front of the cache at a time: the front of a dict that loses its oldest entries is slow to find.
"""


class Descriptor(int):
    """An open descriptor, which closes with the last reference to it.

    To use one, keep the reference (a local variable, an argument) until the system call has returned: another thread
    may remove it from the cache at any moment, and a closed number may be reused for another file at once.
    """

    __slots__ = ()

    def __del__(self) -> None:
        try:  # noqa: SIM105 - once for each walk, and three times as fast as contextlib.suppress
            _close(self)
        except OSError:
            pass  # 9P has no reply that could carry an error of close(2)


class Outcome(Enum):
    """The result of a request to a node to give up its descriptor."""

    GONE = 1
    BUSY = 2
    """It is about to be used; ask again later."""
    PINNED = 3
    """It would not be found again."""


class Cached(Protocol):
    """A holder of a descriptor that can be given up."""

    used: bool
    """Set at each use, taken back by the cache."""
    pins: int
    """While it is not 0 the descriptor stays.  Changed with the lock held."""

    def give_up(self) -> Outcome:
        """Close the descriptor, if the file can be reopened. Called without the lock."""


class Descriptors:
    """The descriptors of one process, for all of its stores."""

    def __init__(self, limit: int | None = None) -> None:
        """``limit``: how many the process may have (default: RLIMIT_NOFILE)."""
        if limit is None:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.end = limit - max(64, limit // 32)
        """What lasts gets numbers below this one.  The rest is for what a request opens and closes again, for taking
        a peer in, and for the moment until the cache has made room."""
        self.alert = self.end * 3 // 4
        """A number from here on makes the process ready to give descriptors up; then ``end`` itself."""
        self.shrinking = False
        """Whether descriptors may be given up.  It is set long before that is needed: what other threads began under
        the other rule is over then."""
        self.lock = threading.Lock()
        """Guards ``pins``, shares, and what nodes note of themselves (:mod:`reference_server.absent`).  Held for
        moments only, never over a system call that can wait."""
        self.pinned = Pot(max(self.end - self.end // 8, 1), self.lock)
        """For what is not given up.  An eighth is left to the cache, which all clients need."""
        self.cached: dict[Cached, None] = {}
        """Whoever may be asked to give a descriptor up, oldest first; some that would say no.  Entries are added and
        removed one at a time, which takes no lock."""
        self._next: deque[Cached] = deque()
        """The oldest of them, to be asked next."""

    def keep(self, fd: int) -> int:
        """``fd``, or a duplicate of it, that may be kept. Raises OSError(EMFILE), after closing it, if there is no
        room.
        """
        if fd < self.alert:  # the kernel gives the lowest number that is free
            return fd
        self.shrinking = True
        self.alert = self.end
        if fd < self.end:
            return fd
        try:
            for _ in range(_TRIES):
                self.shrink()
                low = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
                if low < self.end:
                    return low
                os.close(low)
                os.sched_yield()  # other threads may be about to use, or to give up, all of them
        finally:
            os.close(fd)
        raise OSError(errno.EMFILE, "no descriptor is left")

    def shrink(self, count: int = _BATCH) -> int:
        """Give up at most ``count`` descriptors; returns how many were."""
        self.shrinking = True
        gone = 0
        looks = 2 * len(self.cached)  # each may have been used since the last time
        while gone < count and looks > 0 and self.cached:
            try:
                node = self._next.popleft()
            except IndexError:
                self._next.extend(list(islice(self.cached, _AHEAD)))
                continue
            with self.lock:
                if node not in self.cached:
                    continue  # it is gone
                looks -= 1
                del self.cached[node]
                if node.pins:
                    continue  # it comes back when it is unpinned
                if node.used:
                    node.used = False
                    self.cached[node] = None
                    continue
            outcome = node.give_up()
            if outcome is Outcome.GONE:
                gone += 1
            elif outcome is Outcome.BUSY:
                with self.lock:
                    if not node.pins:
                        self.cached[node] = None
        return gone
