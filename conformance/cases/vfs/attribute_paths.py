"""Errors that every call on an attribute of a named file shares: those of path resolution, and of the last component.

A family has one case, parametrized with its operations, that hands each to `refuse_bad_paths`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from errno import ELOOP, ENOENT, ENOTDIR
from typing import Any

from conformance.cases.vfs.shared_errors import Operation, refuses_bad_paths
from conformance.checks import changes
from conformance.vfs.share import Share


@dataclass(frozen=True, slots=True)
class PathCall:
    """An operation on a named file: what follows the path, and whether a final symbolic link is followed."""

    op: str
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    follows: bool = True

    def __str__(self) -> str:
        return self.op

    def on(self, vantage: Any, path: str) -> Any:
        """Make the call from there."""
        return getattr(vantage, self.op)(path, *self.arguments, **self.keywords)


def refuse_bad_paths(share: Share, call: PathCall) -> None:
    """ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG and EACCES from the path alone, whatever the operation would do.
    After the shared situations (which leave "file", "dangling" and "loop" behind), those of the last
    component."""
    refuses_bad_paths(share, Operation(call.op, call.on))
    inside = share.inside
    before = share.same(share.stat("file"))
    call.on(inside.refuses(ENOENT), "nobody")
    call.on(inside.refuses(ENOTDIR, because="POSIX 4.13: a trailing slash demands a directory"), "file/")
    call.on(inside.refuses(ENOTDIR), "file/..")
    if call.follows:
        call.on(inside.refuses(ENOENT), "dangling")
        call.on(inside.refuses(ELOOP), "loop")
    changes("'file' by calls that were refused", before, share.same(share.stat("file")), may={"atime_ns"})
