"""Every call that changes something, for file systems that may not be changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from errno import ENOTSUP
from typing import Any

from conformance.checks import equal
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage


@dataclass(frozen=True, slots=True)
class ChangingCall:
    """A call that changes what `populate` has made, under the name that failures show."""

    name: str
    make: Callable[[Any], Any]

    def __str__(self) -> str:
        return self.name


CHANGING_CALLS = (
    ChangingCall("create", lambda v: v.create("d/new")),
    ChangingCall("open-creat", lambda v: v.open("d/new", os.O_RDONLY | os.O_CREAT)),
    ChangingCall("open-wronly", lambda v: v.open("d/file", os.O_WRONLY)),
    ChangingCall("open-rdwr", lambda v: v.open("d/file", os.O_RDWR)),
    ChangingCall("open-append", lambda v: v.open("d/file", os.O_WRONLY | os.O_APPEND)),
    ChangingCall("open-trunc", lambda v: v.open("d/file", os.O_WRONLY | os.O_TRUNC)),
    ChangingCall("truncate", lambda v: v.truncate("d/file", 1)),
    ChangingCall("chmod", lambda v: v.chmod("d/file", 0o600)),
    ChangingCall("chmod-dir", lambda v: v.chmod("d/dir", 0o700)),
    ChangingCall("chown", lambda v: v.chown("d/file", 1001, 1001)),
    ChangingCall("lchown", lambda v: v.lchown("d/link", 1001, 1001)),
    ChangingCall("utimensat", lambda v: v.utimensat("d/file", 1, 1)),
    ChangingCall("utimensat-now", lambda v: v.utimensat("d/dir", "now", "now")),
    ChangingCall("mkdir", lambda v: v.mkdir("d/new")),
    ChangingCall("rmdir", lambda v: v.rmdir("d/dir")),
    ChangingCall("unlink", lambda v: v.unlink("d/file")),
    ChangingCall("unlink-link", lambda v: v.unlink("d/link")),
    ChangingCall("rename", lambda v: v.rename("d/file", "d/new")),
    ChangingCall("rename-over", lambda v: v.rename("d/file", "d/other")),
    ChangingCall("rename-dir", lambda v: v.rename("d/dir", "d/new")),
    ChangingCall("link", lambda v: v.link("d/file", "d/new")),
    ChangingCall("symlink", lambda v: v.symlink("file", "d/new")),
    ChangingCall("mkfifo", lambda v: v.mkfifo("d/new")),
    ChangingCall("setxattr", lambda v: v.setxattr("d/file", "user.b", b"2")),
    ChangingCall("removexattr", lambda v: v.removexattr("d/file", "user.a")),
)

GROUPS: dict[str, list[ChangingCall]] = {"open": [], "attributes": [], "directory": [], "names": [], "xattr": []}
"""The calls by what they change: cases take a group at a time, because each needs a mount of its own."""

_GROUP_OF = {
    "create": "open",
    "open": "open",
    "mkdir": "directory",
    "rmdir": "directory",
    "unlink": "names",
    "rename": "names",
    "link": "names",
    "symlink": "names",
    "mkfifo": "names",
    "setxattr": "xattr",
    "removexattr": "xattr",
}
for _call in CHANGING_CALLS:
    GROUPS[_GROUP_OF.get(_call.name.partition("-")[0], "attributes")].append(_call)


def populate(outside: Vantage) -> None:
    """Directory d on the host with what the calls above need."""
    outside.mkdir("d")
    outside.chmod("d", 0o777)
    outside.create("d/file", b"content", 0o666)
    outside.create("d/other", b"other")
    outside.mkdir("d/dir")
    outside.symlink("file", "d/link")
    try:
        outside.setxattr("d/file", "user.a", b"1")
    except OSError as e:
        if e.errno != ENOTSUP:
            raise


def state(share: Share) -> dict[str, object]:
    """Everything that the calls above could change, as the host sees it; keys are the names that findings show.

    Access times are left out: reading moves them.
    """
    outside = share.outside
    names = outside.quietly.listdir("d")
    kept: dict[str, object] = {"names in 'd'": names}
    for name in (*names, ""):
        path = f"d/{name}".rstrip("/")
        kept |= {
            f"{field.removeprefix('st_')} of {path!r}": value
            for field, value in outside.quietly.lstat(path).items()
            if field != "st_atime_ns"
        }
    kept["content of 'd/file'"] = outside.quietly.slurp("d/file")
    kept["attributes of 'd/file'"] = outside.quietly.listxattr("d/file")
    return kept


def unchanged(share: Share, before: dict[str, object], what: str) -> None:
    """The host's directory is still as `state` found it; `what` names the call that must change nothing."""
    equal(f"the host's directory after {what}", state(share), before, code="changed", call=what)
