"""unlink(2), unlinkat(2): removing names; the family unlinked covers files that are still open."""

from __future__ import annotations

import os
from errno import EBADF, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, ENOTTY, EOPNOTSUPP, EPERM

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.outcomes import flush, settled_times
from conformance.cases.vfs.shared_errors import (
    Operation,
    for_each,
    refuses_bad_paths,
    refuses_in_sticky_directory,
    refuses_without_write_permission,
)
from conformance.checks import changes, equal, fields
from conformance.errors import Undrivable
from conformance.vfs.share import Share
from protocol.messages import Tunlinkat

AT_REMOVEDIR = 0x200
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL = 0x80086601, 0x40086602, 0x10

UNLINK = Operation("unlink", lambda v, path: v.unlink(path))
UNLINKAT = Operation("unlinkat", lambda v, path: v.unlinkat(path, 0))
REMOVEDIR = Operation("removedir", lambda v, path: v.unlinkat(path, AT_REMOVEDIR), needs="directory")


@case("UNLINK-001", covers=[Tunlinkat])
@pytest.mark.parametrize("kind", ["file", "empty", "symlink", "dangling", "link-to-directory", "fifo", "socket"])
def test_unlink_takes_a_name_away(share: Share, kind: str) -> None:
    """unlink(2) removes the name of any file but a directory, on both sides. The target of a symbolic link stays. A
    second unlink(2) fails with ENOENT, and the name is free.
    Source: unlink(2), ENOENT; POSIX unlink; 9P2000.L Tunlinkat."""
    share.inside.create("target", b"abc")
    share.inside.mkdir("directory")
    if kind in ("file", "empty"):
        share.inside.create("x", b"abc" if kind == "file" else b"")
    elif kind in ("fifo", "socket"):
        share.outside.mknod("x", 0o010644 if kind == "fifo" else 0o140644)
    else:
        share.inside.symlink({"symlink": "target", "dangling": "nowhere"}.get(kind, "directory"), "x")
    share.inside.unlink("x")
    share.gone("x")
    share.inside.refuses(ENOENT).unlink("x")
    equal("names in the case's directory", share.same(share.directory()), ["directory", "target"], code="names")
    share.inside.create("x", b"new")
    equal("content of the new file of that name", share.inside.soon.slurp("x"), b"new", code="content")


@case("UNLINK-002", covers=[Tunlinkat], caches=FRESH)
def test_unlink_changes_directory_and_ctime(share: Share) -> None:
    """unlink(2) updates mtime and ctime of the directory, and ctime and link count of a file with other names.
    Source: POSIX unlink: "shall mark for update the last data modification and last file status change timestamps
    of the parent directory. Also, if the file's link count is not 0, the last file status change timestamp of the
    file"."""
    share.inside.mkdir("dir")
    share.inside.create("dir/fred", b"abc")
    share.inside.link("dir/fred", "george")
    for path in ("dir", "george"):
        settled_times(share, path)
    directory, file = share.same(share.stat("dir")), share.same(share.stat("george"))
    share.inside.unlink("dir/fred")
    changes("'dir' by unlink(2)", directory, share.same(share.stat("dir")), must={"mtime_ns", "ctime_ns"}, may=None)
    after = share.same(share.stat("george"))
    changes("'george', another name of the file,", file, after, must={"nlink", "ctime_ns"})
    fields("'george', another name of the file,", after, nlink=1)


@case("UNLINK-003", severity="linux")
@pytest.mark.parametrize("path", ["dir", "dir/", ".", "..", "dir/.", "dir/below/.."])
def test_unlink_of_a_directory(share: Share, path: str) -> None:
    """unlink(2) of a directory fails with EISDIR, even for root and through "." and "..", and it stays.
    Source: unlink(2) EISDIR "This is the non-POSIX value returned by Linux since 2.1.132"; POSIX says EPERM."""
    share.inside.mkdir("dir")
    share.inside.mkdir("dir/below")
    share.inside.refuses(EISDIR).unlink(path)
    equal("names in the case's directory", share.same(share.directory()), ["dir"], code="names")
    equal("names in 'dir'", share.same(share.directory("dir")), ["below"], code="names")


@case("UNLINK-004")
def test_unlink_with_a_trailing_slash(share: Share) -> None:
    """unlink(2) of a file, or of a symbolic link to a directory, with a trailing slash fails with ENOTDIR.
    Source: POSIX 4.13 Pathname Resolution; Linux fs/namei.c do_unlinkat()."""
    share.inside.create("fred")
    share.inside.mkdir("dir")
    share.inside.symlink("dir", "link")
    share.inside.refuses(ENOTDIR).unlink("fred/")
    share.inside.refuses(ENOTDIR).unlink("link/")
    share.inside.refuses(ENOENT).unlink("nobody/")
    equal("names in the case's directory", share.same(share.directory()), ["dir", "fred", "link"], code="names")


@case("UNLINK-005", covers=[Tunlinkat], cached_too=True)
def test_unlinkat_removes_directories_when_asked(share: Share) -> None:
    """unlinkat(2) with AT_REMOVEDIR is rmdir(2), without it unlink(2): each refuses the other's kind with ENOTDIR or
    EISDIR, and AT_REMOVEDIR refuses a directory with entries with ENOTEMPTY.
    Source: unlinkat(2) AT_REMOVEDIR; 9P2000.L Tunlinkat flags; known defect: phdeniel/nfs-ganesha#57."""
    share.inside.mkdir("dir")
    share.inside.create("dir/fred")
    share.inside.refuses(EISDIR).unlinkat("dir", 0)
    share.inside.refuses(ENOTDIR).unlinkat("dir/fred", AT_REMOVEDIR)
    share.inside.refuses(ENOTEMPTY).unlinkat("dir", AT_REMOVEDIR)
    share.inside.unlinkat("dir/fred", 0)
    share.inside.unlinkat("dir", AT_REMOVEDIR)
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("UNLINK-006", covers=[Tunlinkat])
def test_unlinkat_below_a_descriptor(share: Share) -> None:
    """unlinkat(2) takes names below a directory descriptor; EBADF for one that is not open, ENOTDIR for one of a
    file, EINVAL for an unknown flag.  Source: unlinkat(2) EBADF, ENOTDIR, EINVAL."""
    share.inside.mkdir("dir")
    share.inside.create("dir/fred")
    at, file = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY), share.inside.open("dir/fred")
    share.inside.refuses(EBADF).unlinkat("fred", 0, dir_fd=987)
    share.inside.refuses(ENOTDIR).unlinkat("fred", 0, dir_fd=file)
    share.inside.refuses(EINVAL).unlinkat("fred", 0x400, dir_fd=at)
    equal("names in 'dir'", share.same(share.directory("dir")), ["fred"], code="names")
    share.inside.unlinkat("fred", 0, dir_fd=at)
    share.gone("dir/fred")


@case("UNLINK-007", covers=[Tunlinkat], cached_too=True)
def test_unlink_of_a_file_that_nobody_may_touch(share: Share) -> None:
    """A user may unlink(2) another user's file without any permission on it, given write permission on the directory.
    Source: path_resolution(7); POSIX unlink."""
    share.inside.create("fred", b"abc", 0o000)
    user = share.inside.spawn("user", uid=1001)
    user.unlink("fred")
    share.gone("fred")


@case("UNLINK-008", covers=[Tunlinkat], caches=FRESH)
def test_files_removed_outside(share: Share) -> None:
    """A file that the host removes is gone inside; unlink(2) of it fails with ENOENT.
    Source: Linux Documentation/filesystems/9p.rst: with cache=none
    the guest keeps no names."""
    for name in ("one", "two", "three"):
        share.inside.create(name, b"abc")
    equal("content of 'one' inside", share.inside.soon.slurp("one"), b"abc", code="content")
    share.outside.unlink("one")
    share.outside.unlink("two")
    share.inside.refuses(ENOENT).open("one")
    share.inside.refuses(ENOENT).unlink("two")
    share.inside.unlink("three")
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("UNLINK-009", covers=[Tunlinkat], control=False)
def test_unlink_rename_and_link_of_an_immutable_file(share: Share) -> None:
    """A file that the host has made immutable cannot be unlinked, renamed, linked or written: EPERM each time.
    Source: unlink(2) EPERM "The file to be unlinked is marked immutable"; link(2) EPERM; ioctl_iflags(2)
    FS_IMMUTABLE_FL."""
    share.need("host-root", "only root makes a file immutable")
    share.inside.create("fred", b"abc")
    flush(share, "fred")
    fd = share.outside.open("fred")

    def set_flags(change: int) -> None:
        flags = int.from_bytes(share.outside.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))[:4], "little")
        share.outside.ioctl(fd, FS_IOC_SETFLAGS, (flags ^ change).to_bytes(8, "little"))

    try:
        set_flags(FS_IMMUTABLE_FL)
    except OSError as e:
        if e.errno not in (ENOTTY, EOPNOTSUPP, EPERM):
            raise
        raise Undrivable("the exported file system knows no immutable files") from e
    try:
        share.inside.refuses(EPERM).unlink("fred")
        share.inside.refuses(EPERM).rename("fred", "george")
        share.inside.refuses(EPERM).link("fred", "george")
        share.inside.refuses(EPERM).open("fred", os.O_WRONLY)
        share.inside.refuses(EPERM).chmod("fred", 0o600)
        equal("names in the case's directory", share.same(share.directory()), ["fred"], code="names")
    finally:
        set_flags(FS_IMMUTABLE_FL)
    share.inside.unlink("fred")
    share.gone("fred")


@case("UNLINK-010", covers=[Tunlinkat])
def test_a_tree_is_removed(share: Share) -> None:
    """rm -r removes a tree of 10 directories with 10 files, hidden ones, links and an empty directory each.
    Source: POSIX rm; known defects: phdeniel/nfs-ganesha#57 (ENOTEMPTY), jor1k#41."""
    share.outside.mkdir("tree")
    with share.without_comparison():
        for d in range(10):
            share.outside.mkdir(f"tree/d{d}")
            share.outside.fill_directory(f"tree/d{d}", 10)
            share.prepared_symlink("..", f"tree/d{d}/link")
            share.outside.create(f"tree/d{d}/.hidden")
            share.outside.mkdir(f"tree/d{d}/empty")
    done = share.inside.run(["rm", "-r", f"{share.inside.root}/tree"])
    equal("exit status and errors of rm -r", (done["status"], done["stderr"]), (0, b""))
    share.gone("tree")


@case("UNLINK-011", covers=[Tunlinkat], about="agreement")
def test_many_files_made_and_removed(share: Share) -> None:
    """40 files are made and removed in turn under one name; each is empty when new.
    Source: POSIX open, unlink; a client or server that keeps files by path shows an older one."""
    share.inside.mkdir("dir")
    with share.without_comparison():
        start, turns = share.inside.start, []
        for i in range(40):
            turns.append(
                (start.create("dir/fred", b"content %d" % i), start.slurp("dir/fred"), start.unlink("dir/fred"))
            )
        for i, (made, read, removed) in enumerate(turns):
            made.result()
            equal(f"content of file {i} of that name", read.result(), b"content %d" % i, code="content")
            removed.result()
    equal("names in 'dir'", share.same(share.directory("dir")), [], code="names")
    share.same(share.stat("dir"))


@case("UNLINK-012", covers=[Tunlinkat])
def test_unlink_of_a_device_node(share: Share) -> None:
    """unlink(2) removes a device node that the host made.  Source: POSIX unlink; Tunlinkat opens nothing."""
    share.need("host-root", "only root makes device nodes")
    share.outside.mknod("null", 0o020666, os.makedev(1, 3))
    equal("names in the case's directory", share.same(share.directory()), ["null"], code="names")
    share.inside.unlink("null")
    share.gone("null")


@case("UNLINK-101", about="agreement")
@for_each(UNLINK, UNLINKAT, REMOVEDIR)
def test_path_errors(share: Share, operation: Operation) -> None:
    """unlink(2) and unlinkat(2) fail with the errno of path resolution for bad paths.
    Source: unlink(2) EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR; path_resolution(7)."""
    refuses_bad_paths(share, operation)


@case("UNLINK-102", about="agreement")
@for_each(UNLINK, REMOVEDIR)
def test_write_permission(share: Share, operation: Operation) -> None:
    """unlink(2) and unlinkat(2) fail with EACCES for a user who may not write the directory, whatever the permissions
    on the file.  Source: unlink(2) EACCES."""
    refuses_without_write_permission(share, operation)


@case("UNLINK-103", about="agreement")
@for_each(UNLINK, REMOVEDIR)
def test_sticky_directory(share: Share, operation: Operation) -> None:
    """In a sticky directory a user may unlink(2) their own file but not another user's: EPERM.
    Source: unlink(2) "EPERM or EACCES: The directory containing pathname has the sticky bit (S_ISVTX) set"; Linux
    fs/namei.c may_delete() gives EPERM."""
    refuses_in_sticky_directory(share, operation)
