"""How much of each resource a guest may use, and the errno beyond that.

The rule of this module: every resource that a guest controls has a line here, in :class:`Limits` for one client, in
:class:`Shared` for all clients together.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one session (one connection, one device queue set)."""

    msize_min: int = 4096
    """Smallest msize that Tversion may propose, in bytes; less is refused with EMSGSIZE, as QEMU does.  A
    Twalk of
    sixteen long names or the Rreadlink of a long link would not fit into less."""
    msize_max: int = 1024 * 1024
    """Largest msize agreed to, in bytes.  A frame longer than the agreed msize is refused with EMSGSIZE."""
    open_files: int = 65_536
    """Most fids open for I/O at a time, directories included; one more is refused with ENFILE."""
    requests: int = 1024
    """Most requests under way at a time; one more is refused with EAGAIN."""
    queued_bytes: int = 32 * 1024 * 1024
    """Most payload bytes kept for requests that wait for a worker; beyond it the connection stops being read
    until
    the request was served, so no errno is needed."""
    xattr_bytes: int = 8 * 1024 * 1024
    """Most memory for values of extended attributes being read or written; more is refused with ENOSPC
    (QEMU).
    """
    locks: int = 8192
    """Most byte ranges that are locked at a time, in one export; one more is refused with ENOLCK.  (Each owner's
    locks on a file take a descriptor as well.)"""
    workers: int = 16
    """Most threads that serve one connection's slow requests."""
    lock_wait: float = 3.0
    """Seconds that a blocking Tlock waits for the lock before LOCK_BLOCKED is answered.  Linux then asks
    again after
    30 s (``P9_LOCK_TIMEOUT``), so answering at once would make a guest wait longer than it has to."""


@dataclass(frozen=True)
class Shared:
    """Limits of the whole process, which its clients share: each may hold as much as is left (:class:`Share`)."""

    fids: int = 1_048_576
    """Most fids of all clients (``--max-fids``), about 0.7 kB of memory each; one more is refused with ENFILE.
    A client that is alone gets half of them."""
    descriptors: int = 131_072
    """Most descriptors, where the process may have more.  Each holds some memory of the kernel (the file, its name);
    what is not open is given up beyond that, and had again when it is used."""
    connections: int = 1024
    """Most connections to sockets; the peer of one more is turned away.  One host, or one process at a unix socket,
    that is alone gets half of them."""
    listings: int = 32
    """Most pieces of directories (64 KiB, about 2,000 entries) remembered as they were encoded, about 128 KiB of memory
    each; beyond that the least recently used is forgotten."""
    qid_numbers: int = 65_536
    """Most files remembered of those whose inode number has to be replaced to be unique (see :class:`QidPaths`: more
    than 255 devices, or devices that use all 64 bits).  Of more than these the least recently used is forgotten, and
    looks like another file when it is met again."""
