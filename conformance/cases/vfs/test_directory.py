"""mkdir(2), mkdirat(2), rmdir(2): making and removing directories, what they inherit, and link counts."""

from __future__ import annotations

import os
import stat
from errno import EBADF, EBUSY, EEXIST, EINVAL, ENOENT, ENOTDIR, ENOTEMPTY

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.outcomes import settled_times, works_or
from conformance.cases.vfs.shared_errors import (
    Operation,
    for_each,
    refuses_bad_paths,
    refuses_in_sticky_directory,
    refuses_taken_names,
    refuses_without_write_permission,
)
from conformance.checks import changes, equal, fields, require_equal
from conformance.vfs.share import Share
from protocol.messages import Tmkdir, Tunlinkat

MKDIR = Operation("mkdir", lambda v, path: v.mkdir(path), needs="nothing")
RMDIR = Operation("rmdir", lambda v, path: v.rmdir(path), needs="directory")


@case("DIRECTORY-001", covers=[Tmkdir])
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
    seen = share.same(share.stat("dir"))
    fields("'dir'", seen, mode=stat.S_IFDIR | mode & ~umask, nlink=share.outside.stat("dir")["st_nlink"])
    equal("names in the case's directory", share.same(share.directory()), ["dir"], code="names")
    equal("names in 'dir'", share.same(share.directory("dir")), [], code="names")


@case("DIRECTORY-002", covers=[Tmkdir])
@pytest.mark.parametrize("bits", [0o4755, 0o2755, 0o6777], ids=oct)
def test_mkdir_drops_setid_bits_of_its_mode(share: Share, bits: int) -> None:
    """mkdir(2) does not honour S_ISUID and S_ISGID of its mode argument.
    Source: mkdir(2): under Linux "mode & ~umask & 01777"; Linux fs/namei.c vfs_mkdir()."""
    share.inside.umask(0)
    share.inside.mkdir("dir", bits)
    fields("'dir'", share.same(share.stat("dir")), mode=stat.S_IFDIR | bits & 0o777)


@case("DIRECTORY-003", covers=[Tmkdir], cached_too=True)
def test_mkdir_in_a_setgid_directory(share: Share) -> None:
    """A directory made in a set-group-ID directory takes its group and the bit, for root and for a user; so does a
    directory made inside it.
    Source: mkdir(2) "If the directory ... has the set-group-ID bit set ... the new directory will inherit the
    group ownership from its parent; ... likewise the set-group-ID bit"; 9P2000.L Tmkdir gid."""
    share.inside.mkdir("project")
    share.inside.chown("project", 0, 2001)
    share.inside.chmod("project", 0o2777)
    user = share.inside.spawn("user", uid=1001, gid=1001)
    share.inside.mkdir("project/roots")
    user.mkdir("project/users", 0o750)
    user.mkdir("project/users/below")
    for name, uid, permissions in (("roots", 0, 0o2755), ("users", 1001, 0o2750), ("users/below", 1001, 0o2755)):
        seen = share.same(share.stat(f"project/{name}"))
        fields(f"'project/{name}'", seen, uid=uid, gid=2001, permissions=permissions)


@case("DIRECTORY-004", covers=[Tmkdir], cached_too=True)
def test_mkdir_belongs_to_who_makes_it(share: Share) -> None:
    """A new directory has the effective user and group of the process, whatever the parent's group.
    Source: mkdir(2) "The newly created directory will be owned by the effective user ID of the process";
    POSIX mkdir."""
    share.inside.mkdir("parent")
    share.inside.chown("parent", 1002, 2002)
    share.inside.chmod("parent", 0o777)
    user = share.inside.spawn("user", uid=1001, gid=2001)
    user.mkdir("parent/dir")
    seen = share.same(share.stat("parent/dir"))
    fields("'parent/dir'", seen, uid=1001, gid=2001)


@case("DIRECTORY-005", covers=[Tmkdir, Tunlinkat], caches=FRESH)
def test_mkdir_and_rmdir_change_the_parent(share: Share) -> None:
    """mkdir(2) and rmdir(2) update mtime and ctime of the parent and its link count, as the host counts.
    Source: POSIX mkdir, rmdir: "shall mark for update the last data modification and last file status change
    timestamps of the parent directory"."""
    share.inside.mkdir("parent")
    settled_times(share, "parent")
    before = share.same(share.stat("parent"))
    links = share.outside.stat("parent")["st_nlink"]
    share.inside.mkdir("parent/dir")
    after = share.same(share.stat("parent"))
    changes("'parent' by mkdir(2)", before, after, must={"mtime_ns", "ctime_ns"}, may={"nlink", "size"})
    settled_times(share, "parent")
    before = share.same(share.stat("parent"))
    share.inside.rmdir("parent/dir")
    after = share.same(share.stat("parent"))
    changes("'parent' by rmdir(2)", before, after, must={"mtime_ns", "ctime_ns"}, may={"nlink", "size"})
    fields("'parent' after rmdir(2)", after, nlink=links)


@case("DIRECTORY-006", covers=[Tmkdir])
def test_mkdir_with_a_trailing_slash(share: Share) -> None:
    """mkdir(2) takes a name with trailing slashes.  Source: POSIX 4.13 Pathname Resolution; mkdir(2)."""
    share.inside.mkdir("dir//")
    share.inside.mkdir("dir/./below/")
    equal("names in the case's directory", share.same(share.directory()), ["dir"], code="names")
    equal("names in 'dir'", share.same(share.directory("dir")), ["below"], code="names")


@case("DIRECTORY-007", covers=[Tmkdir], caches=FRESH)
def test_mkdir_of_a_name_removed_outside(share: Share) -> None:
    """A name that the host freed can be used again at once.  Source: POSIX mkdir; with cache=none, readahead
    and mmap the guest keeps no names."""
    share.inside.create("dir", b"a file")
    share.outside.unlink("dir")
    share.inside.mkdir("dir")
    fields("'dir'", share.same(share.stat("dir")), type=stat.S_IFDIR)


@case("DIRECTORY-008", covers=[Tmkdir], caches=FRESH)
def test_directories_made_and_removed_outside(share: Share) -> None:
    """A directory that the host makes appears inside with its content, and disappears when the host removes it.
    Source: Linux Documentation/filesystems/9p.rst: with cache=none
    the guest keeps no names."""
    share.inside.refuses(ENOENT).stat("dir")
    share.outside.mkdir("dir", 0o750)
    share.outside.create("dir/fred", b"abc")
    equal("names in 'dir'", share.same(share.directory("dir")), ["fred"], code="names")
    share.inside.refuses(EEXIST).mkdir("dir")
    share.inside.mkdir("dir/below")
    share.outside.unlink("dir/fred")
    share.outside.rmdir("dir/below")
    share.outside.rmdir("dir")
    share.inside.refuses(ENOENT).stat("dir")
    share.inside.refuses(ENOENT).mkdir("dir/again")
    share.inside.refuses(ENOENT).rmdir("dir")


@case("DIRECTORY-009", covers=[Tmkdir])
def test_mkdirat_below_a_descriptor(share: Share) -> None:
    """mkdirat(2) and unlinkat(2) take relative names below a directory descriptor; EBADF for one that is not
    open, ENOTDIR for one of a file.
    Source: mkdir(2) "mkdirat()", EBADF, ENOTDIR; POSIX mkdirat."""
    share.inside.mkdir("dir")
    share.inside.create("fred")
    at, file = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY), share.inside.open("fred")
    share.inside.mkdir("below", 0o700, dir_fd=at)
    share.inside.mkdir("deeper", dir_fd=share.inside.open("below", dir_fd=at))
    equal("names in 'dir/below'", share.same(share.directory("dir/below")), ["deeper"], code="names")
    share.inside.refuses(EBADF).mkdir("x", dir_fd=987)
    share.inside.refuses(ENOTDIR).mkdir("x", dir_fd=file)
    share.inside.refuses(EBADF).rmdir("below", dir_fd=987)
    share.inside.refuses(ENOTDIR).rmdir("below", dir_fd=file)


@case("DIRECTORY-010", covers=[Tmkdir], about="agreement")
def test_many_subdirectories_are_counted(share: Share) -> None:
    """The link count of a directory with 40 subdirectories is the host's, and all of them are there.
    Source: POSIX st_nlink; 9P2000.L Rgetattr nlink[8]."""
    share.inside.mkdir("dir")
    share.inside.repeat(40, "mkdir", "dir/%d")
    share.same(share.stat("dir"))
    equal("number of names in 'dir'", len(share.same(share.directory("dir"))), 40, code="names")


@case("DIRECTORY-011", covers=[Tunlinkat], cached_too=True)
def test_rmdir_removes_an_empty_directory(share: Share) -> None:
    """rmdir(2) removes an empty directory, on both sides; a second one fails with ENOENT, and the name is
    free.  Source: rmdir(2), ENOENT; POSIX rmdir."""
    share.inside.mkdir("dir")
    share.inside.mkdir("other")
    share.inside.rmdir("dir")
    share.gone("dir")
    share.inside.refuses(ENOENT).rmdir("dir")
    equal("names in the case's directory", share.same(share.directory()), ["other"], code="names")
    share.inside.create("dir", b"a file now")
    equal("content of 'dir' inside", share.inside.soon.slurp("dir"), b"a file now", code="content")
    share.inside.rmdir("other/")
    share.gone("other")


@case("DIRECTORY-012", covers=[Tunlinkat])
@pytest.mark.parametrize("entry", ["file", ".hidden", "directory", "symlink"])
def test_rmdir_of_a_directory_with_entries(share: Share, entry: str) -> None:
    """rmdir(2) of a directory that holds anything fails with ENOTEMPTY, and the entry stays.
    Source: rmdir(2) ENOTEMPTY; POSIX rmdir allows EEXIST, Linux file systems give ENOTEMPTY (VFS)."""
    share.inside.mkdir("dir")
    if entry == "directory":
        share.inside.mkdir("dir/directory")
    elif entry == "symlink":
        share.inside.symlink("nowhere", "dir/symlink")
    else:
        share.inside.create(f"dir/{entry}", b"abc")
    share.inside.refuses(ENOTEMPTY).rmdir("dir")
    equal("names in 'dir'", share.same(share.directory("dir")), [entry], code="names")


@case("DIRECTORY-013", covers=[Tunlinkat], caches=FRESH)
def test_rmdir_of_a_directory_the_host_put_a_file_into(share: Share) -> None:
    """rmdir(2) fails with ENOTEMPTY for a directory that the guest saw empty and the host has filled.
    Source: rmdir(2) ENOTEMPTY; the server is the one that knows."""
    share.inside.mkdir("dir")
    equal("names in 'dir' inside", share.inside.soon.listdir("dir"), [], code="names")
    share.outside.create("dir/fred")
    share.inside.refuses(ENOTEMPTY).rmdir("dir")
    share.outside.unlink("dir/fred")
    share.inside.rmdir("dir")
    share.gone("dir")


@case("DIRECTORY-014")
@pytest.mark.parametrize("kind", ["file", "link-to-directory", "dangling", "fifo"])
def test_rmdir_of_what_is_no_directory(share: Share, kind: str) -> None:
    """rmdir(2) of anything but a directory fails with ENOTDIR; a symbolic link is not followed, not even with a
    trailing slash.
    Source: rmdir(2) ENOTDIR; POSIX rmdir: "If path names a symbolic link, then rmdir() shall fail"."""
    share.inside.mkdir("dir")
    if kind == "fifo":
        share.outside.mkfifo("x")
    elif kind == "file":
        share.inside.create("x", b"abc")
    else:
        share.inside.symlink("dir" if kind == "link-to-directory" else "nowhere", "x")
    share.inside.refuses(ENOTDIR).rmdir("x")
    if kind == "link-to-directory":
        share.inside.refuses(ENOTDIR).rmdir("x/")
    equal("names in the case's directory", share.same(share.directory()), ["dir", "x"], code="names")


@case("DIRECTORY-015")
def test_rmdir_of_dot_and_dotdot(share: Share) -> None:
    """rmdir(2) fails with EINVAL where the last component is "." and with ENOTEMPTY where it is "..".
    Source: rmdir(2) EINVAL, ENOTEMPTY "pathname ... has .. as its final component"."""
    share.inside.mkdir("dir")
    share.inside.mkdir("dir/below")
    share.inside.refuses(EINVAL).rmdir(".")
    share.inside.refuses(EINVAL).rmdir("dir/below/.")
    share.inside.refuses(ENOTEMPTY).rmdir("dir/below/..")
    equal("names in 'dir'", share.same(share.directory("dir")), ["below"], code="names")


@case("DIRECTORY-016", covers=[Tunlinkat])
def test_rmdir_of_the_working_directory(share: Share) -> None:
    """A directory that is a process's working directory, or open, can be removed; afterwards getcwd(2) and new names in
    it fail with ENOENT.
    Source: POSIX rmdir: "If the directory is ... the current working directory of any process, it is unspecified
    whether the function succeeds"; Linux removes it: getcwd(2) ENOENT "has been unlinked"."""
    share.inside.mkdir("dir")
    walker = share.inside.spawn("walker")
    walker.chdir("dir")
    share.inside.rmdir("dir")
    share.gone("dir")
    walker.refuses(ENOENT).getcwd()
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_PATH
    at_cwd = works_or(walker, (ENOENT,), "open", f"/proc/{walker.getpid()}/cwd", flags)  # may be looked up again
    if at_cwd.errno is None:
        walker.refuses(ENOENT).mkdir("x", dir_fd=at_cwd.value)
    share.gone("dir")


@case("DIRECTORY-017", needs=["remount"])
def test_rmdir_and_rename_of_a_mount_point(share: Share) -> None:
    """rmdir(2), and rename(2) of or onto a directory on which a file system is mounted, fail with EBUSY.
    Source: rmdir(2) EBUSY, rename(2) EBUSY."""
    share.inside.mkdir("dir")
    share.inside.mkdir("other")
    where = f"{share.inside.root}/dir"
    mounted = share.inside.run(["mount", "-t", "tmpfs", "assay9", where])
    require_equal("exit status of mount(8)", mounted["status"], 0)
    try:
        with share.without_comparison():  # inside the directory is hidden by the mount
            share.inside.refuses(EBUSY).rmdir("dir")
            share.inside.refuses(EBUSY).rename("dir", "moved")
            share.inside.refuses(EBUSY).rename("other", "dir")
    finally:
        share.inside.run(["umount", where])
    share.inside.rmdir("dir")
    share.gone("dir")


@case("DIRECTORY-018", covers=[Tmkdir, Tunlinkat])
def test_rmdir_by_who_may_write_the_parent(share: Share) -> None:
    """A user who may write the parent may remove an empty directory in it that the user can neither read nor write.
    Source: POSIX rmdir; path_resolution(7): removing needs write permission on the parent only."""
    share.inside.mkdir("parent")
    share.inside.chmod("parent", 0o777)
    share.inside.mkdir("parent/dir", 0o000)
    user = share.inside.spawn("user", uid=1001)
    user.rmdir("parent/dir")
    share.gone("parent/dir")


@case("DIRECTORY-019", covers=[Tmkdir, Tunlinkat], cached_too=True)
def test_a_name_used_again_is_a_new_directory(share: Share) -> None:
    """A directory made under the name of a removed one is empty and has its own mode.
    Source: POSIX mkdir; a server or client that keeps what it knew by path shows the old one."""
    share.inside.mkdir("dir", 0o700)
    share.inside.create("dir/fred", b"abc")
    share.inside.unlink("dir/fred")
    share.inside.rmdir("dir")
    share.inside.mkdir("dir", 0o755)
    fields("'dir'", share.same(share.stat("dir")), permissions=0o755)
    share.inside.refuses(ENOENT).stat("dir/fred")
    equal("names in 'dir'", share.same(share.directory("dir")), [], code="names")


@case("DIRECTORY-101", about="agreement")
@for_each(MKDIR, RMDIR)
def test_path_errors(share: Share, operation: Operation) -> None:
    """mkdir(2) and rmdir(2) fail with the errno of path resolution for bad paths, and change nothing.  Source:
    mkdir(2), rmdir(2): EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR; path_resolution(7)."""
    refuses_bad_paths(share, operation)


@case("DIRECTORY-102", about="agreement")
@for_each(MKDIR)
def test_taken_names(share: Share, operation: Operation) -> None:
    """mkdir(2) of a name that is taken fails with EEXIST, even where that is a dangling symbolic link.
    Source: mkdir(2) EEXIST "This includes the case where pathname is a symbolic link, dangling or not"."""
    refuses_taken_names(share, operation)


@case("DIRECTORY-103", about="agreement")
@for_each(MKDIR, RMDIR)
def test_write_permission(share: Share, operation: Operation) -> None:
    """mkdir(2) and rmdir(2) fail with EACCES for a user who may not write the parent directory.
    Source: mkdir(2), rmdir(2) EACCES."""
    refuses_without_write_permission(share, operation)


@case("DIRECTORY-104", about="agreement")
@for_each(RMDIR)
def test_sticky_parent(share: Share, operation: Operation) -> None:
    """rmdir(2) of another user's directory in a sticky one fails with EPERM; a user's own can be removed.
    Source: rmdir(2) EPERM "the directory ... has the sticky bit (S_ISVTX) set"."""
    refuses_in_sticky_directory(share, operation)
