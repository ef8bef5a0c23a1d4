"""How a case begins and ends."""

from __future__ import annotations

import os
import sys
from typing import Any

from guests.agent.payload.content import write_text
from guests.agent.payload.declare import OPS, op
from guests.agent.payload.directories import DIRS, closedir, rmtree
from guests.agent.payload.files import syncfs
from guests.agent.payload.maps import MAPS
from guests.agent.payload.platforms import ABSENT, HERE_IS, LINUX
from guests.agent.payload.sequences import SLOTS
from guests.agent.payload.state import FD_PATHS, HERE, KEPT, OPENED, open_descriptors
from guests.agent.payload.trace import TRACE_FDS, trace_begin, trace_end
from guests.agent.payload.values import Platforms

FORGET = ("3", "2", "2")
"""What is written to /proc/sys/vm/drop_caches so that a guest knows no file of earlier cases by its inode number.

Pages first: since Linux 5.16 an inode that has any is not evicted ("vfs: keep inodes with page cache off the inode
shrinker LRU"). Then twice more, because a dentry that was used lately gets a second chance. The file system is
synchronized before: a dirty inode is not evicted (inode_lru_isolate in fs/inode.c), and reading a file makes its inode
dirty by the access time.
"""


@op()
def setroot(path: str) -> None:
    """Relative names of this worker are taken below `path` from now on."""
    HERE.root = os.fsencode(path)
    release_root()


def release_root() -> None:
    """Hold the root open no longer."""
    if HERE.root_fd is not None:
        os.close(HERE.root_fd)
        HERE.root_fd = None


@op()
def reset() -> None:
    """Restore the worker's initial state: descriptors, maps and streams closed, umask 022, cwd /."""
    HERE.in_case = False
    release_root()
    for handle in list(MAPS):
        MAPS.pop(handle)[0].close()
    for handle in list(DIRS):
        closedir(handle)
    for fd in open_descriptors():
        if fd > 2 and fd not in KEPT:
            try:
                os.close(fd)
            except OSError:
                pass
    FD_PATHS.clear()
    OPENED.clear()
    SLOTS.clear()
    os.umask(0o022)
    os.chdir("/")


@op()
def fresh_root(path: str) -> None:
    """Begin a case: reset this process, and make an empty directory `path` (mode 0777) for relative names."""
    reset()
    setroot("/")
    rmtree(os.fsencode(path))
    os.mkdir(path)
    os.chmod(path, 0o777)
    setroot(path)


@op()
def begin_case(path: str, drop_caches: bool = False, remove: str | None = None, trace: bool = False) -> None:
    """Begin a case on a share: relative names are below `path`, which is held open, and the trace is empty.

    `remove`: a directory of the control file system that is no longer needed. `drop_caches`: drop dentries and inodes,
    because the guest still knows earlier cases' files by inode numbers that the host has reused.
    """
    reset()
    if remove is not None:
        rmtree(os.fsencode(remove))
    setroot(path)
    if drop_caches and HERE_IS is LINUX:
        _forget(path)
    HERE.root_fd = os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
    if trace:
        trace_begin()
    HERE.in_case = True


def _forget(path: str) -> None:
    """Drop what the kernel knows of the files of the file system at `path`. See FORGET."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs(fd)
    except OSError:
        pass  # what earlier cases wrote can no longer be stored; no case waits for it
    finally:
        os.close(fd)
    for what in FORGET:
        write_text(b"/proc/sys/vm/drop_caches", what)


def report_case(reply: dict[str, Any]) -> None:
    """Add to a reply within a case the trace since the last one (`trace`), and whether nothing is open (`idle`).

    With these the caller needs no extra round trip to end the case.
    """
    if TRACE_FDS and (traced := trace_end()):
        reply["trace"] = traced
    if not (FD_PATHS or MAPS or DIRS or SLOTS):
        reply["idle"] = True


@op()
def end_case() -> str | None:
    """End a case on a share: reset this process; returns the trace, None without tracing."""
    traced = trace_end() if TRACE_FDS else None
    reset()
    return traced


@op()
def drop_root(path: str) -> None:
    """End a case: reset this process and remove its directory."""
    reset()
    rmtree(os.fsencode(path))


@op()
def ops() -> list[str]:
    return sorted(OPS)


@op()
def platform() -> Platforms:
    """The system, machine and Python here, and the missing features, with reasons."""
    here = os.uname()
    return {
        "system": here.sysname,
        "release": here.release,
        "machine": here.machine,
        "python": "{}.{}.{}".format(*sys.version_info),
        "absent": ABSENT,
    }
