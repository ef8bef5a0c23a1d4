"""Record locks on host files: real ones, which also apply to processes of the host.

The rule of this module: the host's kernel decides every conflict. One open file description stands for each owner and
file, since "open file description" locks (fcntl(2), F_OFD_SETLK) belong to it: locks of one guest process never
conflict though taken through different fids, those of different processes, connections and the host's own do. A table
only remembers names, because the kernel does not know the guest's processes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from dataclasses import dataclass, field

from protocol.constants import LOCK_TYPE_RDLCK, LOCK_TYPE_WRLCK
from reference_server import linux
from reference_server.descriptors import Descriptors
from reference_server.locks import HeldLocks, LockCounts
from reference_server.shares import Share
from reference_server.storage import Lock, LockOwner

Inode = tuple[int, int]
"""Device and inode number."""

_HOST_TYPE = {LOCK_TYPE_RDLCK: fcntl.F_RDLCK, LOCK_TYPE_WRLCK: fcntl.F_WRLCK}
_WIRE_TYPE = {host: wire for wire, host in _HOST_TYPE.items()}


@dataclass(slots=True, eq=False)
class _Holder:
    """One owner's open file description on one file."""

    fd: int
    share: Share
    """Where the descriptor counts."""
    users: set[int] = field(default_factory=set)
    """Open files of the guest through which the owner took locks; the last one closed ends them."""


class HostLocks:
    """The locks that one store's clients hold."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors = descriptors
        self._counts = LockCounts()
        self._lock = threading.Lock()
        self._holders: dict[Inode, dict[LockOwner, _Holder]] = {}
        self._names: dict[Inode, HeldLocks] = {}

    def set(
        self,
        fd: int,
        user: int,
        inode: Inode,
        *,
        owner: LockOwner,
        wanted: Lock | None,
        start: int,
        length: int,
        share: Share,
    ) -> bool:
        """Take or release a lock of ``owner`` on the file open as ``fd``; false if another owner holds it.

        ``user`` identifies the guest's open file, ``share`` is its client's share of descriptors. Raises OSError: EBADF
        for a write lock if the host does not allow opening the file for writing, ENOLCK if there are too many.
        """
        with self._lock:
            if wanted is not None:
                self._counts.demand_room(owner)
            holders = self._holders.setdefault(inode, {})
            holder = holders.get(owner)
            try:
                if wanted is None:
                    if holder is None:
                        return True
                    linux.set_ofd_lock(holder.fd, fcntl.F_UNLCK, start, length)
                    self._names[inode].set(owner, None, start, length)
                    return True
                if holder is None:
                    holder = holders[owner] = self._make_holder(fd, share)
                if not linux.set_ofd_lock(holder.fd, _HOST_TYPE[wanted.type], start, length):
                    return False
                holder.users.add(user)
                self._names.setdefault(inode, HeldLocks(self._counts)).set(owner, wanted.type, start, length)
                return True
            finally:
                self._tidy(inode, owner)

    def get(self, fd: int, inode: Inode, owner: LockOwner, wanted: Lock) -> Lock | None:
        """The lock that conflicts with ``owner``'s, with the guest's names for its holder if a guest holds it."""
        with self._lock:
            names = self._names.get(inode)
            known = names.conflict(owner, wanted) if names else None
            if known is not None:
                return known
            holder = self._holders.get(inode, {}).get(owner)
            probe = holder.fd if holder else self._open(fd)
            try:
                found = linux.get_ofd_lock(probe, _HOST_TYPE[wanted.type], wanted.start, wanted.length)
            finally:
                if holder is None:
                    os.close(probe)
        if found is None:
            return None
        return Lock(_WIRE_TYPE[found.type], found.start, found.length, max(found.pid, 0), b"")

    def _make_holder(self, fd: int, share: Share) -> _Holder:
        with share.pot.lock:
            if not share.take():
                raise OSError(errno.ENOLCK, "the client holds its share of the descriptors")
        try:
            return _Holder(self._open(fd), share)
        except BaseException:
            with share.pot.lock:
                share.give()
            raise

    def _open(self, fd: int) -> int:
        try:
            return self._descriptors.keep(_reopen(fd))
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise OSError(errno.ENOLCK, "no descriptor is left for locks") from None

    def release_whole(self, user: int, inode: Inode, owner: LockOwner) -> None:
        """Release the locks on the whole file that other processes of the same client took only through ``user``."""
        with self._lock:
            names = self._names.get(inode)
            for other, holder in list(self._holders.get(inode, {}).items()):
                if other.is_beside(owner) and holder.users == {user} and names and names.holds_whole(other):
                    names.set(other, None, 0, 0)
                    self._tidy(inode, other)

    def closed(self, user: int, inode: Inode) -> None:
        """The guest's open file ``user`` is gone, and with it every lock taken only through it."""
        with self._lock:
            for owner, holder in list(self._holders.get(inode, {}).items()):
                holder.users.discard(user)
                if not holder.users:
                    self._names[inode].set(owner, None, 0, 0)
                self._tidy(inode, owner)

    def _tidy(self, inode: Inode, owner: LockOwner) -> None:
        """Close the description of an owner that holds nothing."""
        holders, names = self._holders.get(inode, {}), self._names.get(inode)
        if owner in holders and not (names and names.holds(owner)):
            holder = holders.pop(owner)
            os.close(holder.fd)
            with holder.share.pot.lock:
                holder.share.give()
        if not holders:
            self._holders.pop(inode, None)
            self._names.pop(inode, None)

    def count(self) -> int:
        """How many descriptors are kept for locks."""
        with self._lock:
            return sum(map(len, self._holders.values()))


def _reopen(fd: int) -> int:
    """Reopen the file, for writing if possible: flock(2) of a file open for reading arrives as a write lock."""
    path = linux.path_of(fd)
    with contextlib.suppress(OSError):
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EACCES:
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        raise
