"""inotify(7): events for what the guest itself does on the share."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EBADF, EINVAL, ENOENT, ENOTDIR
from typing import Any

import pytest

from conformance.case import case
from conformance.checks import equal, holds
from conformance.vfs.share import Share

(
    IN_ACCESS,
    IN_MODIFY,
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CLOSE_NOWRITE,
    IN_OPEN,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_MOVE_SELF,
) = (1 << n for n in range(12))
IN_ISDIR, IN_IGNORED, IN_ONLYDIR, IN_ALL = 0x40000000, 0x8000, 0x01000000, 0xFFF

Events = list[tuple[int, str]]
NAMES = {
    1 << n: name
    for n, name in enumerate(
        (
            "IN_ACCESS",
            "IN_MODIFY",
            "IN_ATTRIB",
            "IN_CLOSE_WRITE",
            "IN_CLOSE_NOWRITE",
            "IN_OPEN",
            "IN_MOVED_FROM",
            "IN_MOVED_TO",
            "IN_CREATE",
            "IN_DELETE",
            "IN_DELETE_SELF",
            "IN_MOVE_SELF",
        )
    )
} | {IN_IGNORED: "IN_IGNORED", IN_ISDIR: "IN_ISDIR"}


def spelt(seen: Events) -> list[str]:
    """Events as findings show them: "IN_CREATE|IN_ISDIR sub"."""
    return [" ".join(("|".join(n for bit, n in NAMES.items() if mask & bit), name)).rstrip() for mask, name in seen]


def watch(share: Share, path: str, mask: int) -> tuple[int, int]:
    """(inotify descriptor, descriptor that holds `path` open): an open file keeps its inode where the client
    would otherwise look the name up again and give it another."""
    held = share.inside.open(path, os.O_RDONLY)
    fd: int = share.inside.inotify_init()
    share.inside.inotify_add_watch(fd, path, mask)
    return fd, held


def events(share: Share, fd: int) -> Events:
    """Every pending event: the kernel queues events before the call that causes them returns."""
    seen: Events = []
    while part := share.inside.inotify_read(fd, 0.01):
        seen += [(mask, name) for mask, name in part]
    return seen


ENTRIES: dict[str, tuple[Callable[[Share], Any], Events]] = {
    "create": (lambda s: s.inside.create("d/new"), [(IN_CREATE, "new")]),
    "mkdir": (lambda s: s.inside.mkdir("d/new"), [(IN_CREATE | IN_ISDIR, "new")]),
    "symlink": (lambda s: s.inside.symlink("x", "d/new"), [(IN_CREATE, "new")]),
    "link": (lambda s: s.inside.link("d/fred", "d/new"), [(IN_CREATE, "new")]),
    "unlink": (lambda s: s.inside.unlink("d/fred"), [(IN_DELETE, "fred")]),
    "rmdir": (lambda s: s.inside.rmdir("d/sub"), [(IN_DELETE | IN_ISDIR, "sub")]),
    "rename": (lambda s: s.inside.rename("d/fred", "d/new"), [(IN_MOVED_FROM, "fred"), (IN_MOVED_TO, "new")]),
    "move-out": (lambda s: s.inside.rename("d/fred", "fred"), [(IN_MOVED_FROM, "fred")]),
    "move-in": (lambda s: s.inside.rename("outer", "d/outer"), [(IN_MOVED_TO, "outer")]),
}


@case("INOTIFY-001", severity="linux")
@pytest.mark.parametrize("call", ENTRIES)
def test_entries_of_a_directory(share: Share, call: str) -> None:
    """A directory that is watched reports entries that the guest makes, removes and moves, by name.
    Source: inotify(7): IN_CREATE, IN_DELETE, IN_MOVED_FROM, IN_MOVED_TO."""
    share.inside.mkdir("d")
    share.inside.mkdir("d/sub")
    share.inside.create("d/fred")
    share.inside.create("outer")
    fd, _ = watch(share, "d", IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
    perform, wanted = ENTRIES[call]
    perform(share)
    equal(f"events of the watched directory after {call}", spelt(events(share, fd)), spelt(wanted))


def _write(share: Share) -> None:
    fd = share.inside.open("d/fred", os.O_WRONLY)
    share.inside.write(fd, b"x")
    share.inside.close(fd)


CONTENTS: dict[str, tuple[Callable[[Share], Any], set[int]]] = {
    "write": (_write, {IN_OPEN, IN_MODIFY, IN_CLOSE_WRITE}),
    "truncate": (lambda s: s.inside.truncate("d/fred", 2), {IN_MODIFY}),
    "chmod": (lambda s: s.inside.chmod("d/fred", 0o600), {IN_ATTRIB}),
    "utimensat": (lambda s: s.inside.utimensat("d/fred", 0, 0), {IN_ATTRIB}),
    "setxattr": (lambda s: s.inside.setxattr("d/fred", "user.a", b"1"), {IN_ATTRIB}),
    "read": (lambda s: s.inside.slurp("d/fred"), {IN_OPEN, IN_ACCESS, IN_CLOSE_NOWRITE}),
    "stat": (lambda s: s.inside.stat("d/fred"), set()),
}


@case("INOTIFY-002", severity="linux")
@pytest.mark.parametrize("call", CONTENTS)
def test_what_happens_to_a_file_of_a_watched_directory(share: Share, call: str) -> None:
    """A directory that is watched reports what the guest does to a file in it, with the file's name.
    Source: inotify(7): IN_OPEN, IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_CLOSE_NOWRITE."""
    share.inside.mkdir("d")
    share.inside.create("d/fred", b"content")
    fd, _ = watch(share, "d", IN_ALL)
    events(share, fd)
    with share.without_comparison():
        CONTENTS[call][0](share)
        seen = events(share, fd)
    wanted = {*spelt([(mask, "fred") for mask in CONTENTS[call][1]])}
    equal(f"events of 'fred' after {call}", {*spelt([e for e in seen if e[1] == "fred"])}, wanted)


@case("INOTIFY-003", severity="linux", cached_too=True)
def test_a_watched_file_itself(share: Share) -> None:
    """A file that is watched reports writes, changes of its attributes and its move.
    Source: inotify(7): IN_MODIFY, IN_ATTRIB, IN_MOVE_SELF."""
    share.inside.create("fred", b"content")
    fd, _ = watch(share, "fred", IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF)
    with share.without_comparison():
        writer = share.inside.open("fred", os.O_WRONLY)
        share.inside.write(writer, b"x")
        share.inside.close(writer)
        share.inside.chmod("fred", 0o600)
        share.inside.rename("fred", "barney")
        seen = spelt(events(share, fd))
    equal("events of the watched file", seen, ["IN_MODIFY", "IN_ATTRIB", "IN_MOVE_SELF"])


@case("INOTIFY-007", severity="linux")
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_the_end_of_a_watched_file(share: Share, kind: str) -> None:
    """A file or directory that is watched reports its end once its last name and its last descriptor are gone, and
    the watch is over.  Source: inotify(7): IN_DELETE_SELF, IN_IGNORED."""
    if kind == "file":
        share.inside.create("x")
    else:
        share.inside.mkdir("x")
    fd, held = watch(share, "x", IN_DELETE_SELF)
    if kind == "file":
        share.inside.unlink("x")
    else:
        share.inside.rmdir("x")
    share.inside.close(held)
    seen = spelt([(mask & ~IN_ISDIR, name) for mask, name in events(share, fd)])
    equal(f"events of the {kind} whose last name and descriptor are gone", seen, ["IN_DELETE_SELF", "IN_IGNORED"])


@case("INOTIFY-004", severity="varies")
@pytest.mark.parametrize("path", ["d", "fred"])
def test_a_watch_needs_no_open_descriptor(share: Share, path: str) -> None:
    """A watch alone is enough: events arrive even if no process has the file open.
    Source: inotify(7); Linux's 9p client with cache=none makes a new inode whenever a name that nobody holds is looked
    up (fs/9p/vfs_inode_dotl.c v9fs_get_new_inode_from_fid)."""
    share.inside.mkdir("d")
    share.inside.create("fred")
    fd = share.inside.inotify_init()
    share.inside.inotify_add_watch(fd, path, IN_ATTRIB)
    share.inside.chmod(path, 0o700)
    seen = spelt([(mask & ~IN_ISDIR, name) for mask, name in events(share, fd)])
    holds(f"a watch of {path!r} that nobody holds open reports IN_ATTRIB", "IN_ATTRIB" in seen, seen=seen)


@case("INOTIFY-005", severity="varies", caches=("none", "mmap"), control=False)
def test_what_the_host_does_is_not_reported(share: Share) -> None:
    """Changes that the host makes cause no event on the guest's watches: 9P has no message for them.
    Source: inotify(7): "inotify reports only events that a user-space program triggers through the filesystem
    API", not remote ones.  A target that reports them goes beyond."""
    share.need("remount", "a guest of its own")
    share.inside.mkdir("d")
    fd, _ = watch(share, "d", IN_ALL)
    events(share, fd)
    with share.without_comparison():
        share.outside.create("d/new", b"content")
        share.outside.unlink("d/new")
        equal("events after the host created and removed a file", spelt(events(share, fd)), [])


@case("INOTIFY-006")
def test_errors(share: Share) -> None:
    """A watch on a missing name fails with ENOENT, with IN_ONLYDIR on a file with ENOTDIR, with an empty mask
    with EINVAL, on a bad descriptor with EBADF.
    Source: inotify_add_watch(2) ERRORS."""
    share.inside.create("fred")
    fd = share.inside.inotify_init()
    share.inside.refuses(ENOENT).inotify_add_watch(fd, "nobody", IN_ALL)
    share.inside.refuses(ENOTDIR).inotify_add_watch(fd, "fred", IN_ALL | IN_ONLYDIR)
    share.inside.refuses(EINVAL).inotify_add_watch(fd, "fred", 0)
    share.inside.refuses(EBADF).inotify_add_watch(999, "fred", IN_ALL)
