"""Ops of the sequence layer: many calls in one round trip, and the survey of a whole tree.

Open files have slots, numbers that the caller chooses, so a sequence means the same wherever it is played.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from typing import Any

from guests.agent.payload.declare import op
from guests.agent.payload.directories import rmtree
from guests.agent.payload.locks import setlk
from guests.agent.payload.maps import Map
from guests.agent.payload.values import PathName
from guests.agent.payload.wire import errno_name

SLOTS: dict[int, int] = {}
"""Slot -> descriptor."""
FILE_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
PROT_READ, MAP_PRIVATE = 1, 2
BY_DESCRIPTOR = ("read", "pread", "write", "pwrite", "lseek", "ftruncate", "fchmod", "fsync")


@op()
def play(
    path: PathName, steps: list[list[Any]], fresh: bool = False, xattrs: bool = True, look: bool = True
) -> list[Any]:
    """Make the calls [name, slot or None, operands] one after the other, paths below `path`; then survey the tree.

    Returns the result of each, [value, ""] or [None, name of the errno], and the `survey`. `fresh`: the directory is
    made again first, and nothing is open. Without `look` there is no survey: closing a file that was read releases this
    process's record locks on it.
    """
    if fresh:
        close_slots()
        rmtree(path)
        os.mkdir(path)
    outcomes: list[list[Any]] = []
    for name, slot, operands in steps:
        try:
            outcomes.append([call_step(os.fsdecode(path), name, slot, operands), ""])
        except KeyError:  # a failed open left the slot empty
            outcomes.append([None, "EBADF"])
        except OSError as error:
            outcomes.append([None, errno_name(error.errno or 0)])
    return [outcomes, survey(path, xattrs) if look else {}]


@op()
def close_slots() -> None:
    """Close the files that a sequence left open."""
    for slot in list(SLOTS):
        os.close(SLOTS.pop(slot))


@op()
def survey(path: PathName, xattrs: bool = True) -> dict[str, dict[str, Any]]:
    """Each path below `path`: its lstat(2), content, link target and user attributes."""
    root = os.fsdecode(path)
    seen: dict[str, dict[str, Any]] = {}
    pending = [""]
    while pending:
        prefix = pending.pop()
        for name in sorted(os.listdir(os.path.join(root, prefix))):
            below = prefix + name
            try:
                seen[below] = look_closely(os.path.join(root, below), xattrs)
            except OSError as error:  # it is listed, but lstat(2) fails
                seen[below] = {"error": errno_name(error.errno or 0)}
            if seen[below].get("kind") == "directory":
                pending.append(below + "/")
    return seen


def look_closely(path: str, xattrs: bool) -> dict[str, Any]:
    """The `survey` of one path."""
    shown = status_shown(os.lstat(path))
    if shown["kind"] == "link":
        return {**shown, "target": os.readlink(path)}
    if shown["kind"] == "file":
        with open(path, "rb") as file:
            shown["content"] = hashlib.sha256(file.read()).hexdigest()
    if xattrs:
        shown["xattrs"] = {one: os.getxattr(path, one) for one in user_xattrs(path)}
    return shown


def user_xattrs(path: str) -> list[str]:
    return sorted(one for one in os.listxattr(path) if one.startswith("user."))


def status_shown(status: os.stat_result) -> dict[str, Any]:
    kind = FILE_KINDS.get(stat.S_IFMT(status.st_mode), "special file")
    shown: dict[str, Any] = {"kind": kind}
    if kind != "link":
        shown["mode"] = stat.S_IMODE(status.st_mode)
    if kind != "directory":
        shown["nlink"], shown["size"] = status.st_nlink, status.st_size
    return shown


def call_step(root: str, name: str, slot: int | None, operands: list[Any]) -> Any:
    if slot is not None:
        return call_by_slot(root, name, slot, operands)
    first = os.path.join(root, operands[0])
    if name == "rename":
        return os.rename(first, os.path.join(root, operands[1]))
    if name == "link":  # of a symbolic link itself, as link(2): since Python 3.14 os.link follows one otherwise
        return os.link(first, os.path.join(root, operands[1]), follow_symlinks=False)
    if name == "symlink":
        return os.symlink(operands[0], os.path.join(root, operands[1]))
    by_path: dict[str, Callable[[str], Any]] = {
        "stat": lambda path: status_shown(os.stat(path)),
        "lstat": lambda path: status_shown(os.lstat(path)),
        "listdir": lambda path: sorted(os.listdir(path)),
        "listxattr": user_xattrs,
    }
    if name in by_path:
        return by_path[name](first)
    return getattr(os, name)(first, *operands[1:])


def call_by_slot(root: str, name: str, slot: int, operands: list[Any]) -> Any:
    if name == "open":
        SLOTS[slot] = os.open(os.path.join(root, operands[0]), *operands[1:])
        return None
    if name == "close":
        os.close(SLOTS.pop(slot))
        return None
    if name == "fstat":
        return status_shown(os.fstat(SLOTS[slot]))
    if name == "lock":
        return setlk(SLOTS[slot], *operands)
    if name == "mapread":
        return read_by_mapping(SLOTS[slot], *operands)
    assert name in BY_DESCRIPTOR, name
    return getattr(os, name)(SLOTS[slot], *operands)


def read_by_mapping(fd: int, count: int, offset: int) -> bytes:
    """The file's bytes there, through a private mapping; none past its end, where touching a page is SIGBUS."""
    mapping = Map(fd, offset + count, PROT_READ, MAP_PRIVATE, 0)
    try:
        return mapping.read(offset, max(0, min(count, os.fstat(fd).st_size - offset)))
    finally:
        mapping.close()
