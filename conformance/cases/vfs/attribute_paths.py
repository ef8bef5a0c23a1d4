"""Errors of path name resolution that every call on an attribute of a named file shares: written once.

A family has one case, parametrized with its operations, that hands each to `refuse_bad_paths`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from errno import EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR
from typing import Any

from conformance.share import Share

SOURCE = "POSIX pathname resolution (4.13), path_resolution(7)"
NAME_MAX, PATH_MAX = 255, 4096


@dataclass(frozen=True, slots=True)
class PathCall:
    """An operation on a named file: what follows the path, and whether a final symbolic link is followed."""

    op: str
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    follows: bool = True

    def __str__(self) -> str:
        return self.op


def refuse_bad_paths(share: Share, call: PathCall) -> None:
    """ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG and EACCES from the path alone, whatever the operation would
    do."""
    inside = share.inside
    inside.create("file", b"content", 0o644)
    inside.mkdir("closed", 0o700)
    inside.create("closed/file", b"", 0o666)
    inside.symlink("loop2", "loop1")
    inside.symlink("loop1", "loop2")
    inside.symlink("nobody", "dangling")
    before = share.same_stat("file")

    _refuses(share, call, ENOENT, "nobody")
    _refuses(share, call, ENOENT, "nobody/file")
    _refuses(share, call, ENOENT, "dangling/file")
    _refuses(share, call, ENOENT, "")
    _refuses(share, call, ENOTDIR, "file/below")
    _refuses(share, call, ENOTDIR, "file/")
    _refuses(share, call, ENOTDIR, "file/..")
    _refuses(share, call, ELOOP, "loop1/file")
    _refuses(share, call, ENAMETOOLONG, "x" * (NAME_MAX + 1))
    _refuses(share, call, ENAMETOOLONG, "x" * (NAME_MAX + 1) + "/file")
    _refuses(share, call, ENAMETOOLONG, "./" * (PATH_MAX // 2) + "file")
    if call.follows:
        _refuses(share, call, ENOENT, "dangling")
        _refuses(share, call, ELOOP, "loop1")
    if "guest-root" in share.features:
        bob = inside.spawn("bob", uid=1001)
        perform = getattr(bob.refuses(EACCES, because="no search permission on a component"), call.op)
        perform("closed/file", *call.arguments, **call.keywords)

    assert share.same_stat("file").changed_from(before) <= {"atime_ns"}


def _refuses(share: Share, call: PathCall, errno: int, path: str) -> None:
    getattr(share.inside.refuses(errno, because=SOURCE), call.op)(path, *call.arguments, **call.keywords)
