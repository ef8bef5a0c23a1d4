"""mkdir(2), mkdirat(2), rmdir(2): making and removing directories, what they inherit, and link counts."""

from __future__ import annotations

import os
import stat
from errno import EBADF, EBUSY, EEXIST, EINVAL, ENOENT, ENOTDIR, ENOTEMPTY

import pytest

from conformance.case import case
from conformance.cases.vfs.outcomes import FRESH_NAMES, must_be_equal, settled_times
from conformance.cases.vfs.shared_errors import (
    Operation,
    for_each,
    refuses_bad_paths,
    refuses_in_sticky_directory,
    refuses_taken_names,
    refuses_without_write_permission,
)
from conformance.share import Share
from protocol.messages import Tmkdir, Tunlinkat

MKDIR = Operation("mkdir", lambda v, path: v.mkdir(path), needs="nothing")
RMDIR = Operation("rmdir", lambda v, path: v.rmdir(path), needs="directory")


@case("DIRECTORY-001", covers=[Tmkdir], cached_too=True)
@pytest.mark.parametrize(
    ("mode", "umask"),
    [(0o777, 0o022), (0o777, 0o000), (0o755, 0o077), (0o000, 0o000), (0o1777, 0o000)],
    ids=["777-022", "777-000", "755-077", "000-000", "1777-000"],
)
def test_mkdir_gives_mode_without_umask(share: Share, mode: int, umask: int) -> None:
    """mkdir(2) makes an empty directory with two links and mode & ~umask, the sticky bit included.
    Source: mkdir(2) "mode ... (mode & ~umask & 0777)", "under Linux ... the sticky bit is also honored";
    POSIX mkdir; 9P2000.L Tmkdir."""
    share.inside.umask(umask)
    share.inside.mkdir("dir", mode)
    seen = share.same_stat("dir").inside
    must_be_equal("mode", oct(seen["st_mode"]), oct(stat.S_IFDIR | mode & ~umask))
    must_be_equal("links", seen["st_nlink"], share.outside.stat("dir")["st_nlink"])
    assert share.same_directory() == ["dir"]
    assert share.same_directory("dir") == []


@case("DIRECTORY-101", cached_too=True)
@for_each(MKDIR, RMDIR)
def test_path_errors(share: Share, operation: Operation) -> None:
    """mkdir(2) and rmdir(2) fail with the errno of path resolution where the path leads nowhere, and change
    nothing.  Source: mkdir(2), rmdir(2): EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR; path_resolution(7)."""
    refuses_bad_paths(share, operation)


@case("DIRECTORY-102", cached_too=True)
@for_each(MKDIR)
def test_taken_names(share: Share, operation: Operation) -> None:
    """mkdir(2) of a name that is taken fails with EEXIST, also where that is a dangling symbolic link.
    Source: mkdir(2) EEXIST "This includes the case where pathname is a symbolic link, dangling or not"."""
    refuses_taken_names(share, operation)


@case("DIRECTORY-103")
@for_each(MKDIR, RMDIR)
def test_write_permission(share: Share, operation: Operation) -> None:
    """mkdir(2) and rmdir(2) fail with EACCES for a user who may not write the parent directory.
    Source: mkdir(2), rmdir(2) EACCES."""
    refuses_without_write_permission(share, operation)


@case("DIRECTORY-104")
@for_each(RMDIR)
def test_sticky_parent(share: Share, operation: Operation) -> None:
    """rmdir(2) of somebody else's directory in a sticky one fails with EPERM; one's own goes.
    Source: rmdir(2) EPERM "the directory ... has the sticky bit (S_ISVTX) set"."""
    refuses_in_sticky_directory(share, operation)
