"""What a backing store must offer.

The rule of this module: roles only. Handlers use stores through these and know no particular store; a store knows
nothing of fids, tags or messages.

Names given to a store have been checked (:mod:`reference_server.names`): one component, not empty, no slash, no NUL.
Every method may raise ``OSError`` with the errno of the system call that it stands for; each method documents what it
raises besides.

Calls come from any thread: the one that feeds a session, its workers, and those of every other session on the store.
Each method says after ``Concurrency:`` what holds when calls overlap, on one object or on several:

- ``one step``: the call takes effect at one moment, before or after every other call.
- ``several steps``: the call may overlap any other; the effects of others may show between the steps that it names.
- ``last``: the caller ensures that no other call on the object overlaps or follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from protocol.fields import Buffer, Qid
from reference_server.pace import Pace
from reference_server.shares import Client


class Caller(NamedTuple):
    """For whom a request is made."""

    uid: int
    gid: int
    """Used where the request does not say."""
    groups: tuple[int, ...]


class Attributes(NamedTuple):
    """What Rgetattr carries between ``valid`` and the birth time, in that order."""

    qid: Qid
    mode: int
    uid: int
    gid: int
    nlink: int
    rdev: int
    size: int
    blksize: int
    blocks: int
    """In units of 512 bytes."""
    atime_sec: int
    atime_nsec: int
    mtime_sec: int
    mtime_nsec: int
    ctime_sec: int
    ctime_nsec: int


class Changes(NamedTuple):
    """The changes of a Tsetattr; None leaves a field unchanged."""

    mode: int | None
    uid: int | None
    gid: int | None
    size: int | None
    atime: tuple[int, int] | None
    """Seconds and nanoseconds, or :data:`NOW`."""
    mtime: tuple[int, int] | None
    touch: bool
    """Nothing but the change time is to move."""


NOW: tuple[int, int] = (0, (1 << 30) - 1)
"""The server's own present; the nanoseconds are Linux's UTIME_NOW."""


class FileSystemInfo(NamedTuple):
    """What Rstatfs carries, in that order."""

    fstype: int
    bsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    fsid: int
    namelen: int


class LockOwner(NamedTuple):
    """Whose lock it is.  Locks of one owner never conflict with one another (POSIX record locks)."""

    session: int
    client_id: bytes
    proc_id: int

    def is_beside(self, other: LockOwner) -> bool:
        """Whether it is another process of the same client."""
        return self[:2] == other[:2] and self.proc_id != other.proc_id


class Lock(NamedTuple):
    """A record lock."""

    type: int
    """LOCK_TYPE_RDLCK or LOCK_TYPE_WRLCK."""
    start: int
    length: int
    """0: to the end of the file, wherever that goes."""
    proc_id: int
    client_id: bytes
    """Empty when a process of the host holds it."""


class Pieces:
    """Data in several pieces, like a guest's pages; usable in place of a :data:`Buffer`."""

    __slots__ = ("_size", "views")

    def __init__(self, views: list[memoryview]) -> None:
        self.views = views
        self._size = sum(map(len, views))

    def __len__(self) -> int:
        """Bytes in all."""
        return self._size

    def __bytes__(self) -> bytes:
        """A copy in one piece."""
        return b"".join(self.views)


class OpenFile(Protocol):
    """A regular file, open for I/O."""

    __slots__ = ()

    readable: bool
    writable: bool

    def read_into(self, views: Sequence[memoryview], offset: int, wait: bool) -> int:
        """Read at ``offset`` into ``views``, one after the other; returns how many bytes, 0 at the end of the
        file.

        Raises WouldBlock if ``wait`` is false and the data is not in memory.

        Concurrency: one step for each system call; a read that overlaps a write may return a part of it.
        """

    def write(self, data: Buffer | Pieces, offset: int, caller: Caller, wait: bool) -> int:
        """Write at ``offset`` (at the end when opened with O_APPEND); returns how many bytes were written.

        Raises WouldBlock if ``wait`` is false and the write must wait for a disk.

        Concurrency: one step for each system call; overlapping writes leave bytes of either where they overlap.
        """

    def fsync(self, datasync: bool) -> None:
        """Put the file, or only its data, on stable storage.

        Concurrency: one step; writes that ended before it are stable when it returns.
        """

    def set_lock(self, owner: LockOwner, lock: Lock | None, start: int, length: int) -> bool:
        """Take ``lock``, or release ``start``..``length`` when it is None; false when another holds it.

        Concurrency: one step.
        """

    def release_whole(self, owner: LockOwner) -> None:
        """Release the locks on the whole file that other processes of ``owner``'s client took only through this open
        file.

        Concurrency: one step.
        """

    def get_lock(self, owner: LockOwner, lock: Lock) -> Lock | None:
        """Another owner's lock that conflicts with ``lock``.

        Concurrency: one step; the answer may be outdated when it arrives.
        """

    def close(self) -> None:
        """Close the file, and release every lock taken only through it.

        Concurrency: last. A session closes a file when no request uses its fid.
        """


class OpenDirectory(Protocol):
    """A directory, open for listing."""

    def read_entries(self, offset: int, limit: int) -> Buffer:
        """Whole entries after the one whose offset is ``offset``, encoded, at most ``limit`` bytes.

        Raises OSError(EINVAL) if not even one fits, or for an offset that was never returned.

        Concurrency: several steps: calls on one object take turns, so each returns whole entries of the place it asked
        for. A name added or removed meanwhile may or may not be listed, as in readdir(3).
        """

    def fsync(self, datasync: bool) -> None:
        """Put the directory on stable storage.

        Concurrency: one step.
        """

    def close(self) -> None:
        """Close the directory.

        Concurrency: last. A session closes a directory when no request uses its fid.
        """


class Node(Protocol):
    """A file of any type, found by walking, whether or not it still has a name.  Counted: see ``retain``."""

    __slots__ = ()

    type: int
    """S_IFMT bits of the mode."""

    def retain(self) -> None:
        """One more user.

        Concurrency: one step. The caller has a use of the node already.
        """

    def release(self) -> None:
        """One user fewer; the last one releases what the node holds.

        Concurrency: one step; last for this user.
        """

    def qid(self) -> Qid:
        """The current qid.

        Concurrency: one step.
        """

    def getattr(self) -> Attributes:
        """stat(2).

        Concurrency: several steps where the store records owner and mode beside the file, which may be read at another
        moment than the rest. Else one step.
        """

    def setattr(self, changes: Changes, opened: OpenFile | None, caller: Caller) -> None:
        """chmod(2), chown(2), truncate(2), utimensat(2); ``opened`` is the caller's own open file, if it has
        one.

        Concurrency: several steps: size, owner, mode, times. After two overlapping calls some changes of each may
        remain.
        """

    def statfs(self) -> FileSystemInfo:
        """statfs(2).

        Concurrency: one step.
        """

    def child(self, name: bytes, caller: Caller) -> tuple[Node, Qid]:
        """The file ``name`` in this directory; for ``..`` the parent, the root being its own parent.

        Concurrency: several steps: the name is looked up at one moment, and the qid is of the file that was found then.
        """

    def walk(self, names: Iterable[bytes], caller: Caller, qids: list[Qid]) -> Node:
        """Walk one name or several, and return the last file.  The qid of each file is appended to ``qids`` once it is
        found.

        Raises what ``child`` and ``names`` raise.

        Concurrency: several steps, one for each name.
        """
        node: Node = self
        node.retain()
        try:
            for name in names:
                child, qid = node.child(name, caller)
                node.release()
                node = child
                qids.append(qid)
        except BaseException:
            node.release()
            raise
        return node

    def open(self, flags: int, caller: Caller) -> OpenFile:
        """Open a regular file. ``flags`` are the host's, already filtered.

        Concurrency: several steps: with O_TRUNC the file may be truncated by a call that then fails because descriptors
        are short.
        """

    def open_directory(self, caller: Caller) -> OpenDirectory:
        """Open a directory.

        Concurrency: one step.
        """

    def create(self, name: bytes, flags: int, mode: int, gid: int, caller: Caller) -> tuple[Node, Qid, OpenFile]:
        """Create a regular file in this directory and open it; an existing one is opened unless O_EXCL is
        set.

        Concurrency: several steps: the name is taken at one moment, so of overlapping calls with O_EXCL one succeeds.
        Another call may see the new file before its owner and mode are recorded, where the store records them.
        """

    def mkdir(self, name: bytes, mode: int, gid: int, caller: Caller) -> Qid:
        """mkdir(2).

        Concurrency: several steps: the name is taken at one moment; owner, mode and qid follow, and the qid is of
        whatever has the name then.
        """

    def symlink(self, name: bytes, target: bytes, gid: int, caller: Caller) -> Qid:
        """symlink(2).

        Concurrency: several steps, as mkdir.
        """

    def mknod(self, name: bytes, mode: int, device: int, gid: int, caller: Caller) -> Qid:
        """mknod(2); ``device`` is encoded as by makedev(3).

        Concurrency: several steps, as mkdir.
        """

    def link(self, name: bytes, file: Node, caller: Caller) -> None:
        """link(2): ``name`` in this directory becomes one more name of ``file``.

        Concurrency: one step.
        """

    def unlink(self, name: bytes, caller: Caller) -> None:
        """unlink(2).

        Concurrency: one step.
        """

    def rmdir(self, name: bytes, caller: Caller) -> None:
        """rmdir(2).

        Concurrency: one step.
        """

    def rename(self, name: bytes, directory: Node, new_name: bytes, caller: Caller) -> None:
        """rename(2) of ``name`` in this directory.

        Concurrency: one step; the store updates its own record of moved directories in the same step.
        """

    def location(self, caller: Caller) -> tuple[Node, bytes]:
        """The directory that holds this file, retained for the caller, and its name there.

        Raises OSError(ENOENT) when it has no name any more, OSError(EBUSY) for the root.

        Concurrency: several steps, repeated until they agree: the answer was true at one moment during the call.
        """

    def readlink(self) -> bytes:
        """readlink(2).

        Concurrency: one step: the target of a symbolic link never changes.
        """

    def getxattr(self, name: bytes, caller: Caller) -> bytes:
        """getxattr(2).

        Concurrency: one step.
        """

    def listxattr(self, caller: Caller) -> bytes:
        """listxattr(2): every name followed by a NUL.

        Concurrency: one step.
        """

    def setxattr(self, name: bytes, value: bytes, flags: int, caller: Caller) -> None:
        """setxattr(2).

        Concurrency: one step.
        """

    def removexattr(self, name: bytes, caller: Caller) -> None:
        """removexattr(2).

        Concurrency: one step.
        """


class Store(Protocol):
    """A tree that can be attached."""

    pace: Pace
    """Whether it answers promptly, and shared with the stores that are offered beside it."""

    def root(self, client: Client) -> Node:
        """The root, retained for the caller. Files opened from there count against the limits of ``client``.

        Concurrency: one step.
        """

    def close(self) -> None:
        """Release everything.

        Concurrency: last. Nodes and files that are in use stay usable.
        """
