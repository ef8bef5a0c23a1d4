"""Errors that every call which takes a path has in common, written once.

A family declares its calls as `Operation`s and has one case for each of the checks here:

    CHMOD = Operation("chmod", lambda v, path: v.chmod(path, 0o600))

    @case("MODE-101", cached_too=True)
    @for_each(CHMOD, LCHOWN)
    def test_path_errors(share: Share, operation: Operation) -> None:
        \"\"\"...  Source: ...\"\"\"
        refuses_bad_paths(share, operation)

Every check tries all its situations; each failure is a finding of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from errno import EACCES, EEXIST, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
from typing import Any, Literal

import pytest

from conformance.checks import Errno, equal
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage

Kind = Literal["file", "directory", "symlink", "nothing"]
USER = 1001


@dataclass(frozen=True, slots=True)
class Operation:
    """A call as a function of one of its paths.

    `needs` is what must exist at the path for the call to work; `before` makes whatever else it needs (the other path
    of rename(2)); `bad` maps situations of `refuses_bad_paths` in which this call has another errno to that errno."""

    name: str
    call: Callable[[Any, str], Any]
    needs: Kind = "file"
    before: Callable[[Share], object] | None = None
    bad: tuple[tuple[str, int], ...] = ()


def for_each(*operations: Operation) -> pytest.MarkDecorator:
    """Parametrize a case over operations; their names become the ids."""
    return pytest.mark.parametrize("operation", operations, ids=[o.name for o in operations])


BAD_PATHS: tuple[tuple[str, str, int], ...] = (
    ("empty", "", ENOENT),
    ("missing-component", "nodir/x", ENOENT),
    ("dangling-component", "dangling/x", ENOENT),
    ("file-component", "file/x", ENOTDIR),
    ("link-to-file-component", "tofile/x", ENOTDIR),
    ("loop-component", "loop/x", ELOOP),
    ("long-name", "n" * 256, ENAMETOOLONG),
    ("long-component", "n" * 256 + "/x", ENAMETOOLONG),
    ("long-path", "d/" * 2048 + "x", ENAMETOOLONG),
    ("no-search-permission", "locked/x", EACCES),
)
"""Situation, path, errno: path_resolution(7); POSIX 4.13 Pathname Resolution. In every one of them the path
resolution fails before the call proper begins. "no-search-permission" is tried by an ordinary user."""


def refuses_bad_paths(share: Share, operation: Operation) -> None:
    """The call fails with the errno of path resolution for each of BAD_PATHS, and changes nothing."""
    with share.without_comparison():  # set-up; from outside, because that is faster
        share.outside.mkdir("d")
        share.outside.create("file")
        for target, name in (("file", "tofile"), ("nobody", "dangling"), ("loop", "loop")):
            share.prepared_symlink(target, name)
        share.outside.mkdir("locked")
        make(share, operation.needs, "locked/x")
        if operation.before is not None:
            operation.before(share)
        share.inside.chmod("locked", 0o666)
    user = share.inside.spawn("user", uid=USER)
    tries = [
        (situation, user if situation == "no-search-permission" else share.inside, path, wanted)
        for situation, path, wanted in BAD_PATHS
    ]
    _refuses(share, operation, tries)


def refuses_taken_names(share: Share, operation: Operation) -> None:
    """The call, which makes a new name, fails with EEXIST for a name that is taken, including "." and ".."; also with a
    trailing slash where the name is a directory."""
    with share.without_comparison():
        share.outside.mkdir("directory")
        share.outside.create("file")
        share.prepared_symlink("file", "link")
        share.prepared_symlink("nobody", "dangling")
        share.outside.mkfifo("fifo")
        if operation.before is not None:
            operation.before(share)
    taken = ("file", "directory", "directory/", "fifo", "link", "dangling", ".", "..", "directory/.")
    _refuses(share, operation, [(path, share.inside, path, EEXIST) for path in taken])


def refuses_without_write_permission(share: Share, operation: Operation) -> None:
    """The call changes a directory, and fails with EACCES for a user who may search but not write it."""
    share.inside.mkdir("readonly", 0o755)
    make(share, operation.needs, "readonly/x", owner=USER)
    if operation.before is not None:
        operation.before(share)
    user = share.inside.spawn("user", uid=USER)
    _refuses(share, operation, [("no-write-permission", user, "readonly/x", EACCES)], look="readonly")


def refuses_in_sticky_directory(share: Share, operation: Operation) -> None:
    """The call removes a name. In a sticky directory it fails with EPERM for a user who owns neither the directory nor
    the file; the file's owner may."""
    share.inside.mkdir("sticky")
    share.inside.chmod("sticky", 0o1777)
    make(share, operation.needs, "sticky/x", owner=USER + 1)
    make(share, operation.needs, "sticky/own", owner=USER)
    if operation.before is not None:
        operation.before(share)
    user = share.inside.spawn("user", uid=USER)
    _refuses(share, operation, [("sticky", user, "sticky/x", EPERM)], look="sticky")
    operation.call(user, "sticky/own")


def make(share: Share, kind: Kind, path: str, owner: int | None = None) -> None:
    """Put a file, directory or symbolic link at `path`, mode 0777 (0666), or ensure that nothing is there."""
    if kind == "nothing":
        return
    if kind == "symlink":
        share.inside.symlink("target", path)
    elif kind == "directory":
        share.inside.mkdir(path)
        share.inside.chmod(path, 0o777)
    else:
        share.inside.create(path, b"content")
        share.inside.chmod(path, 0o666)
    if owner is not None:
        share.inside.lchown(path, owner, owner)


def own_source(share: Share) -> None:
    """A file "source" that belongs to the ordinary user, for calls with two paths."""
    make(share, "file", "source", owner=USER)


def _refuses(share: Share, operation: Operation, tries: list[tuple[str, Vantage, str, int]], look: str = ".") -> None:
    """Make each attempt and report what went wrong; afterwards everything in `look` must be as before, on both
    sides."""
    before = _tree(share, look)
    exceptions = dict(operation.bad)
    with share.without_comparison():  # everything is compared at the end
        sent = [operation.call(vantage.then, path) for _, vantage, path, _ in tries]
        for (situation, _, path, usual), called in zip(tries, sent, strict=True):
            wanted = exceptions.get(situation, usual)
            seen = 0
            try:
                called.result()
            except OSError as e:
                seen = e.errno or -1
            what = f"result of {operation.name} in the situation {situation} (path {path[:40]!r})"
            equal(what, Errno(seen), Errno(wanted), code="errno", call=operation.name, situation=situation)
    share.same(share.directory(look))
    equal(f"what {look!r} holds after {operation.name} was refused", _tree(share, look), before, code="changed")


def _tree(share: Share, path: str) -> dict[str, list[tuple[int, ...]]]:
    """Name -> type and mode, owner, size and link count of every entry, as both sides show it."""
    fields = ("st_mode", "st_uid", "st_gid", "st_size", "st_nlink")
    names = share.outside.quietly.listdir(path)
    paths = [path, *(f"{path}/{name}" for name in names)]
    sides = (share.inside.quietly.look(paths), share.outside.quietly.look(paths))
    return {
        name: [(seen,) if isinstance(seen, int) else tuple(seen[f] for f in fields) for seen in both]
        for name, *both in zip(paths, *sides, strict=True)
    }
