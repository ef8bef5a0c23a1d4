"""The whole tree in the form of the agent's op `survey`, and how two surveys differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.model.filesystem import FileSystem, Inode

Survey = Mapping[str, Mapping[str, Any]]
"""Path -> what is seen there: kind, mode, nlink, size, content (SHA-256), target, xattrs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one path in two surveys; `field` is "exists" where only one of them has the path, and "error" if it
    is listed but lstat(2) of it fails."""

    path: str
    field: str
    seen: Any
    expected: Any


def expected_survey(model: FileSystem, *, xattrs: bool = True) -> dict[str, dict[str, Any]]:
    """The model's tree."""
    return {path: _shown(inode, xattrs) for path, inode in model.tree()}


def differences(seen: Survey, expected: Survey) -> Iterator[Difference]:
    """Each field of each path that is not as expected."""
    for path in sorted({*seen, *expected}):
        ours, theirs = seen.get(path), expected.get(path)
        if ours is None or theirs is None:
            yield Difference(path, "exists", ours is not None, theirs is not None)
            continue
        if "error" in ours:
            yield Difference(path, "error", ours["error"], "success")
            continue
        for field in sorted({*ours, *theirs}):
            if ours.get(field) != theirs.get(field):
                yield Difference(path, field, ours.get(field), theirs.get(field))


def _shown(inode: Inode, xattrs: bool) -> dict[str, Any]:
    shown = inode.seen()
    if inode.kind == "file":
        shown["content"] = hashlib.sha256(inode.data).hexdigest()
    if inode.kind == "link":
        shown["target"] = inode.target
    elif xattrs:
        shown["xattrs"] = dict(inode.xattrs)
    return shown
