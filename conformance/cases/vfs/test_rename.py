"""rename(2), renameat(2): moving and replacing; rename_flags has the flags of renameat2(2)."""

from __future__ import annotations

import os
import stat
from errno import EACCES, EBADF, EBUSY, EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EXDEV

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.outcomes import flush, settled_times
from conformance.cases.vfs.shared_errors import (
    Operation,
    for_each,
    own_source,
    refuses_bad_paths,
    refuses_in_sticky_directory,
    refuses_without_write_permission,
)
from conformance.checks import changes, equal, fields
from conformance.vfs.share import Share
from protocol.messages import Trenameat

OLD = Operation("old", lambda v, path: v.rename(path, "renamed"))
NEW = Operation("new", lambda v, path: v.rename("source", path), needs="nothing", before=own_source)
OVER = Operation("over", lambda v, path: v.rename("source", path), before=own_source)


@case("RENAME-001", covers=[Trenameat], cached_too=True)
def test_rename_gives_a_new_name(share: Share) -> None:
    """rename(2) gives a file a new name: same inode, content, mode, owner, size and mtime; the old name is gone.
    Source: rename(2); POSIX rename; 9P2000.L Trenameat."""
    share.inside.create("fred", b"abc", 0o640)
    settled_times(share, "fred")
    before = share.same(share.stat("fred"))
    share.inside.rename("fred", "george")
    share.gone("fred")
    after = share.same(share.stat("george"))
    changes("the file by rename(2)", before, after, may={"ctime_ns"})
    equal("content of 'george' inside", share.inside.soon.slurp("george"), b"abc", code="content")
    equal("names in the case's directory", share.same(share.directory()), ["george"], code="names")
    share.inside.refuses(ENOENT).rename("fred", "third")


@case("RENAME-002", covers=[Trenameat], caches=FRESH)
def test_rename_changes_both_directories(share: Share) -> None:
    """rename(2) updates mtime and ctime of both parent directories.
    Source: POSIX rename: "shall mark for update the last data modification and last file status change timestamps
    of the parent directory of each file"."""
    for path in ("from", "to"):
        share.inside.mkdir(path)
    share.inside.create("from/fred")
    for path in ("from", "to"):
        settled_times(share, path)
    before = {path: share.same(share.stat(path)) for path in ("from", "to")}
    share.inside.rename("from/fred", "to/fred")
    for path, seen in before.items():
        changes(f"{path!r} by rename(2)", seen, share.same(share.stat(path)), must={"mtime_ns", "ctime_ns"}, may=None)
    equal("names in 'from'", share.same(share.directory("from")), [], code="names")
    equal("names in 'to'", share.same(share.directory("to")), ["fred"], code="names")


@case("RENAME-003", covers=[Trenameat], cached_too=True)
def test_rename_replaces_a_file(share: Share) -> None:
    """rename(2) onto an existing file replaces it: the name shows the other inode, content and mode, and the
    replaced file's other names lose one link.
    Source: rename(2) "If newpath already exists, it will be atomically replaced"; POSIX rename."""
    share.inside.create("new", b"new content", 0o600)
    share.inside.create("old", b"old", 0o644)
    share.inside.link("old", "second")
    inode = share.inside.stat("new")["st_ino"]
    share.inside.rename("new", "old")
    share.gone("new")
    seen = share.same(share.stat("old"))
    fields("'old' after 'new' replaced it", seen, ino=inode, permissions=0o600)
    equal("content of 'old' inside", share.inside.soon.slurp("old"), b"new content", code="content")
    equal("content of 'second' inside", share.inside.soon.slurp("second"), b"old", code="content")
    if share.mount.cache in FRESH:
        fields("'second'", share.same(share.stat("second")), nlink=1)


@case("RENAME-004", covers=[Trenameat], cached_too=True)
def test_an_open_file_that_was_replaced(share: Share) -> None:
    """A descriptor of the replaced file keeps reading that file, and so does one of the replacing file.
    Source: POSIX rename: "If one or more processes have the file open when the last link is removed, ... the
    removal of the file contents shall be postponed until all references to the file are closed"."""
    share.inside.create("config", b"old configuration")
    old = share.inside.open("config")
    share.inside.create("config.new", b"new configuration")
    new = share.inside.open("config.new", os.O_RDWR)
    share.inside.rename("config.new", "config")
    replaced = share.inside.pread(old, 100, 0)
    equal("content read by the replaced file's descriptor", replaced, b"old configuration", code="content")
    replacing = share.inside.pread(new, 100, 0)
    equal("content read by the replacing file's descriptor", replacing, b"new configuration", code="content")
    share.inside.pwrite(new, b"NEW", 0)
    share.inside.fsync(new)
    equal("content of 'config' outside", share.outside.slurp("config"), b"NEW configuration", code="content")
    equal(
        "content read by the replaced file's descriptor then",
        share.inside.soon.pread(old, 3, 0),
        b"old",
        code="content",
    )


@case("RENAME-005", covers=[Trenameat])
def test_rename_to_another_name_of_the_same_file(share: Share) -> None:
    """rename(2) of a file onto another link to it does nothing: both names stay.
    Source: rename(2) "If oldpath and newpath are existing hard links referring to the same file, then rename()
    does nothing, and returns a success status"; POSIX rename."""
    share.inside.create("fred", b"abc")
    share.inside.link("fred", "george")
    share.inside.rename("fred", "george")
    equal("names in the case's directory", share.same(share.directory()), ["fred", "george"], code="names")
    fields("'fred'", share.same(share.stat("fred")), nlink=2)


@case("RENAME-006")
@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_rename_onto_itself(share: Share, kind: str) -> None:
    """rename(2) of a name onto itself succeeds and does nothing, whatever path leads to it.
    Source: POSIX rename: "If the old argument and the new argument resolve to ... the same existing file, rename()
    shall return successfully and perform no other action"."""
    if kind == "file":
        share.inside.create("x", b"abc")
    elif kind == "directory":
        share.inside.mkdir("x")
        share.inside.create("x/fred")
    else:
        share.inside.symlink("nowhere", "x")
    before = share.same(share.stat("x"))
    share.inside.rename("x", "x")
    share.inside.rename("x", "./x")
    changes("'x' by its rename onto itself", before, share.same(share.stat("x")))
    equal("names in the case's directory", share.same(share.directory()), ["x"], code="names")


@case("RENAME-007", covers=[Trenameat], cached_too=True, about="agreement")
def test_rename_of_a_directory_takes_its_tree(share: Share) -> None:
    """After rename(2) of a directory everything in it is below the new name, and nothing below the old.
    Source: rename(2); POSIX rename."""
    share.inside.mkdir("a")
    share.inside.mkdir("a/b")
    share.inside.create("a/b/fred", b"abc")
    share.inside.symlink("fred", "a/b/link")
    share.inside.mkdir("other")
    share.inside.rename("a", "other/z")
    equal("content of 'other/z/b/link' inside", share.inside.soon.slurp("other/z/b/link"), b"abc", code="content")
    for path in ("a", "a/b", "a/b/fred"):
        share.inside.refuses(ENOENT).stat(path)
    equal("names in the case's directory", share.same(share.directory()), ["other"], code="names")
    equal("names in 'other/z/b'", share.same(share.directory("other/z/b")), ["fred", "link"], code="names")
    fields("'other/z/..' inside", share.inside.soon.stat("other/z/.."), ino=share.inside.stat("other")["st_ino"])
    share.inside.create("other/z/b/new")
    share.same(share.stat("other/z/b/new"))


@case("RENAME-008", covers=[Trenameat], cached_too=True, about="agreement")
def test_open_files_below_a_renamed_directory(share: Share) -> None:
    """Files and directories that are open below a renamed directory, at any depth, keep working: read, write, fstat,
    openat, new names.
    Source: POSIX open: a description refers to the file, not to the name; known defect: WSL#12897 (rename of a
    directory with an open child); QEMU v9fs_fix_fid_paths rewrites the paths of open fids, known defect:
    CVE-2018-19489."""
    share.inside.mkdir("a")
    share.inside.mkdir("a/b")
    share.inside.create("a/b/fred", b"0123456789")
    fd = share.inside.open("a/b/fred", os.O_RDWR)
    at = share.inside.open("a/b", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.rename("a", "z")
    share.inside.rename("z/b", "z/c")
    with share.without_comparison():  # the agent knows the descriptors by their old names
        equal("bytes read by the open file", share.inside.soon.pread(fd, 4, 2), b"2345", code="content")
        share.inside.pwrite(fd, b"AB", 0)
        share.inside.ftruncate(fd, 5)
        share.inside.fchmod(fd, 0o600)
        share.inside.fsync(fd)
        seen = share.inside.fstat(fd)
        fields("the open file inside", seen, size=5, permissions=0o600)
        below = share.inside.open("fred", dir_fd=at)
        equal(
            "content of the file below the open directory", share.inside.soon.read(below, 9), b"AB234", code="content"
        )
        share.inside.mkdir("new", dir_fd=at)
        names = sorted(e[0] for e in share.inside.getdents(at))
    equal("names read by the open directory", names, [".", "..", "fred", "new"], code="names")
    equal("names in 'z/c'", share.same(share.directory("z/c")), ["fred", "new"], code="names")
    share.same(share.stat("z/c/fred"))
    share.same(share.content("z/c/fred"))


@case("RENAME-009", covers=[Trenameat], cached_too=True, about="agreement")
def test_an_open_file_through_its_own_rename(share: Share) -> None:
    """A descriptor keeps working when its file moves to another name and another directory.
    Source: POSIX open; known defect: WSL#8443 (open, rename, fstat failed with ENOENT)."""
    share.inside.mkdir("dir")
    share.inside.create("fred", b"abc")
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.rename("fred", "dir/george")
    with share.without_comparison():
        fields("the open file inside", share.inside.soon.fstat(fd), size=3)
        share.inside.pwrite(fd, b"defg", 3)
        share.inside.futimens(fd, 10**18, 10**18)
        share.inside.fsync(fd)
        share.inside.create("fred", b"another file of the old name")
        equal("content read by the open file", share.inside.soon.pread(fd, 100, 0), b"abcdefg", code="content")
        fields("the open file after the old name was taken", share.inside.soon.fstat(fd), size=7)
    share.same(share.content("dir/george"))
    share.same(share.stat("dir/george"))
    share.same(share.stat("fred"))


@case("RENAME-010", covers=[Trenameat])
def test_rename_of_a_working_directory(share: Share) -> None:
    """A process keeps its working directory when the directory is renamed.
    Source: POSIX rename; getcwd(3)."""
    share.inside.mkdir("here")
    walker = share.inside.spawn("walker")
    walker.chdir("here")
    share.inside.rename("here", "there")
    equal("working directory after its rename", walker.soon.getcwd(), f"{share.inside.root}/there")
    at = walker.open(f"/proc/{walker.getpid()}/cwd", os.O_RDONLY | os.O_DIRECTORY)
    with share.without_comparison():
        walker.mkdir("new", dir_fd=at)
    equal("names in 'there'", share.same(share.directory("there")), ["new"], code="names")


@case("RENAME-011", covers=[Trenameat], cached_too=True)
def test_rename_onto_an_empty_directory(share: Share) -> None:
    """rename(2) of a directory onto an empty one replaces it.
    Source: rename(2) "newpath must either not exist, or it must specify an empty directory"; POSIX rename."""
    share.inside.mkdir("old", 0o700)
    share.inside.create("old/fred", b"abc")
    share.inside.mkdir("new", 0o755)
    inode = share.inside.stat("old")["st_ino"]
    share.inside.rename("old", "new")
    share.gone("old")
    seen = share.same(share.stat("new"))
    fields("'new'", seen, ino=inode, permissions=0o700)
    equal("names in 'new'", share.same(share.directory("new")), ["fred"], code="names")


@case("RENAME-012", covers=[Trenameat], cached_too=True)
def test_rename_onto_a_directory_with_entries(share: Share) -> None:
    """rename(2) of a directory onto one that holds anything fails with ENOTEMPTY or EEXIST; both stay as they are.
    Source: rename(2) "ENOTEMPTY or EEXIST"; POSIX rename: the exported file system's choice, xfs gives EEXIST."""
    share.inside.mkdir("old")
    share.inside.create("old/fred")
    share.inside.mkdir("new")
    share.inside.create("new/george")
    share.inside.refuses(ENOTEMPTY, EEXIST).rename("old", "new")
    equal("names in 'old'", share.same(share.directory("old")), ["fred"], code="names")
    equal("names in 'new'", share.same(share.directory("new")), ["george"], code="names")


@case("RENAME-013", covers=[Trenameat], caches=FRESH)
def test_rename_onto_a_directory_the_host_put_a_file_into(share: Share) -> None:
    """rename(2) onto a directory that the guest saw empty and the host has filled fails with ENOTEMPTY or EEXIST.
    Source: rename(2) "ENOTEMPTY or EEXIST"; only the server knows."""
    share.inside.mkdir("old")
    share.inside.mkdir("new")
    equal("names in 'new' inside", share.inside.soon.listdir("new"), [], code="names")
    share.outside.create("new/george")
    share.inside.refuses(ENOTEMPTY, EEXIST).rename("old", "new")
    equal("names in 'new'", share.same(share.directory("new")), ["george"], code="names")


@case("RENAME-014")
@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [("dir", "file", ENOTDIR), ("file", "dir", EISDIR), ("link", "dir", EISDIR), ("dir", "link", ENOTDIR)],
    ids=["dir-file", "file-dir", "link-dir", "dir-link"],
)
def test_rename_of_unlike_kinds(share: Share, old: str, new: str, wanted: int) -> None:
    """rename(2) of a directory onto anything else fails with ENOTDIR, of anything else onto a directory with EISDIR; a
    symbolic link counts as itself, not as its target.
    Source: rename(2) ENOTDIR, EISDIR; POSIX rename."""
    share.inside.mkdir("dir")
    share.inside.create("file")
    share.inside.mkdir("other")
    share.inside.symlink("other", "link")
    share.inside.refuses(wanted).rename(old, new)
    equal(
        "names in the case's directory", share.same(share.directory()), ["dir", "file", "link", "other"], code="names"
    )


@case("RENAME-015")
def test_rename_into_its_own_child(share: Share) -> None:
    """rename(2) of a directory into itself or below fails with EINVAL, and of an entry onto its own ancestor with
    ENOTEMPTY; nothing moves.
    Source: rename(2) EINVAL "attempt ... to make a directory a subdirectory of itself"; POSIX rename; Linux
    fs/namei.c do_renameat2() "target should not be an ancestor of source" -> ENOTEMPTY."""
    share.inside.mkdir("dir")
    share.inside.mkdir("dir/child")
    share.inside.mkdir("dir/child/grandchild")
    share.inside.refuses(EINVAL).rename("dir", "dir/new")
    share.inside.refuses(EINVAL).rename("dir", "dir/child/grandchild/new")
    share.inside.refuses(EINVAL).rename("dir", "dir/child")
    share.inside.refuses(ENOTEMPTY).rename("dir/child", "dir")
    share.inside.refuses(ENOTEMPTY).rename("dir/child/grandchild", "dir")
    equal("names in 'dir/child'", share.same(share.directory("dir/child")), ["grandchild"], code="names")


@case("RENAME-016", covers=[Trenameat], cached_too=True)
def test_rename_of_symbolic_links(share: Share) -> None:
    """rename(2) moves a symbolic link itself, and replaces a link rather than its target.
    Source: rename(2) "If oldpath refers to a symbolic link, the link is renamed; if newpath refers to a symbolic
    link, the link will be overwritten"."""
    share.inside.create("target", b"abc")
    share.inside.symlink("target", "link")
    share.inside.symlink("nowhere", "dangling")
    share.inside.rename("link", "moved")
    equal("text of the symbolic link 'moved'", share.same(share.link("moved")), "target", code="field:target")
    share.inside.rename("moved", "dangling")
    equal("text of the symbolic link 'dangling'", share.same(share.link("dangling")), "target", code="field:target")
    share.inside.create("file", b"replaces the link")
    share.inside.rename("file", "dangling")
    equal("content of 'target' inside", share.inside.soon.slurp("target"), b"abc", code="content")
    equal("content of 'dangling' inside", share.inside.soon.slurp("dangling"), b"replaces the link", code="content")
    equal("names in the case's directory", share.same(share.directory()), ["dangling", "target"], code="names")


@case("RENAME-017", covers=[Trenameat])
def test_rename_of_special_files(share: Share) -> None:
    """rename(2) moves a fifo, a socket and a device node, and replaces one.
    Source: POSIX rename; Trenameat does not open the file."""
    share.outside.mkfifo("fifo")
    share.outside.mknod("socket", 0o140600)
    share.inside.rename("fifo", "pipe")
    share.inside.rename("socket", "sock")
    fields("'pipe'", share.same(share.stat("pipe")), type=stat.S_IFIFO)
    fields("'sock'", share.same(share.stat("sock")), type=stat.S_IFSOCK)
    share.inside.create("file", b"abc")
    share.inside.rename("file", "pipe")
    equal("content of 'pipe' inside", share.inside.soon.slurp("pipe"), b"abc", code="content")
    equal("names in the case's directory", share.same(share.directory()), ["pipe", "sock"], code="names")


@case("RENAME-018", severity="linux")
def test_rename_of_dot_and_dotdot(share: Share) -> None:
    """rename(2) from or to a path that ends in "." or ".." fails with EBUSY.
    Source: rename(2) EBUSY; POSIX rename allows EINVAL; Linux fs/namei.c do_renameat2(): LAST_NORM or EBUSY."""
    share.inside.mkdir("dir")
    share.inside.mkdir("other")
    for old, new in (("dir/.", "new"), ("dir/..", "new"), ("other", "dir/."), ("other", "dir/.."), (".", "new")):
        share.inside.refuses(EBUSY).rename(old, new)
    equal("names in the case's directory", share.same(share.directory()), ["dir", "other"], code="names")


@case("RENAME-019", covers=[Trenameat])
def test_rename_with_a_trailing_slash(share: Share) -> None:
    """A slash after a name demands a directory: rename(2) of a file then fails with ENOTDIR, of a directory works.
    Source: POSIX 4.13 Pathname Resolution; rename(2) ENOTDIR."""
    share.inside.create("file")
    share.inside.mkdir("dir")
    share.inside.refuses(ENOTDIR).rename("file/", "new")
    share.inside.refuses(ENOTDIR).rename("file", "new/")
    share.inside.rename("dir/", "moved/")
    equal("names in the case's directory", share.same(share.directory()), ["file", "moved"], code="names")


@case("RENAME-020")
def test_rename_to_another_file_system(share: Share) -> None:
    """rename(2) from the share to another file system or the other way fails with EXDEV.
    Source: rename(2) EXDEV "oldpath and newpath are not on the same mounted filesystem"."""
    share.inside.create("fred")
    share.inside.refuses(EXDEV).rename("fred", "/dev/assay9")
    share.inside.refuses(EXDEV).rename("/dev/null", "george")
    equal("names in the case's directory", share.same(share.directory()), ["fred"], code="names")


@case("RENAME-021", covers=[Trenameat])
def test_rename_over_a_read_only_file(share: Share) -> None:
    """rename(2) by a user replaces a file without write permission, in a directory with it.
    Source: path_resolution(7): replacing needs write permission on the directory only; known defect: WSL#6193
    (EPERM over a read-only target)."""
    user = share.inside.spawn("user", uid=1001)
    user.create("new", b"new")
    share.inside.create("old", b"old", 0o444)
    user.rename("new", "old")
    equal("content of 'old' inside", share.inside.soon.slurp("old"), b"new", code="content")
    fields("'old'", share.same(share.stat("old")), uid=1001)


@case("RENAME-022", caches=FRESH)
def test_directory_that_the_user_may_not_write_to_another_parent(share: Share) -> None:
    """rename(2) of a directory that the user may not write into another one fails with EACCES, because its ".."
    would change; within its parent it works.
    Source: rename(2) EACCES "oldpath is a directory and does not allow write permission (needed to update the ..
    entry)"; Linux fs/namei.c vfs_rename()."""
    for path in ("parent", "other"):
        share.inside.mkdir(path)
        share.inside.chmod(path, 0o777)
    share.inside.mkdir("parent/dir", 0o755)
    user = share.inside.spawn("user", uid=1001)
    user.refuses(EACCES).rename("parent/dir", "other/dir")
    user.rename("parent/dir", "parent/renamed")
    equal("names in 'parent'", share.same(share.directory("parent")), ["renamed"], code="names")
    equal("names in 'other'", share.same(share.directory("other")), [], code="names")


@case("RENAME-023", caches=FRESH, covers=[Trenameat])
def test_renames_made_outside(share: Share) -> None:
    """A rename on the host is seen inside: the new name has the content, the old one is gone, and can be used.
    Source: Linux Documentation/filesystems/9p.rst: with cache=none
    the guest keeps no names."""
    share.inside.create("fred", b"abc")
    share.inside.mkdir("dir")
    share.inside.create("dir/below", b"below")
    share.outside.rename("fred", "george")
    share.outside.rename("dir", "moved")
    share.inside.refuses(ENOENT).open("fred")
    equal("content of 'george' inside", share.inside.soon.slurp("george"), b"abc", code="content")
    equal("content of 'moved/below' inside", share.inside.soon.slurp("moved/below"), b"below", code="content")
    share.inside.refuses(ENOENT).rename("fred", "third")
    share.inside.rename("george", "fred")
    equal("names in the case's directory", share.same(share.directory()), ["fred", "moved"], code="names")


@case("RENAME-024", covers=[Trenameat], cached_too=True)
def test_the_old_name_used_again(share: Share) -> None:
    """A file made under the old name after a rename is another file, and the two do not mix.
    Source: POSIX rename; the rotation of log files."""
    share.inside.create("log", b"first")
    for i in (2, 1):
        if i == 1:
            share.inside.create("log", b"second")
            share.inside.rename("log.1", "log.2")
        share.inside.rename("log", "log.1")
    share.inside.create("log", b"third")
    for name, content in (("log", b"third"), ("log.1", b"second"), ("log.2", b"first")):
        equal(f"content of {name!r} inside", share.inside.soon.slurp(name), content, code="content")
    inodes = {share.same(share.stat(n))["st_ino"] for n in ("log", "log.1", "log.2")}
    equal("number of different inode numbers of the three files", len(inodes), 3, code="field:ino")


@case("RENAME-025", covers=[Trenameat])
def test_rename_by_case_only(share: Share) -> None:
    """rename(2) that changes the case of a name changes the name.  Source: POSIX: names are byte strings."""
    share.inside.create("fred", b"abc")
    share.inside.rename("fred", "FRED")
    equal("names in the case's directory", share.same(share.directory()), ["FRED"], code="names")
    share.gone("fred")


@case("RENAME-026", covers=[Trenameat], about="agreement")
def test_many_renames_of_one_file(share: Share) -> None:
    """A file renamed 40 times exists once, with its content, and its descriptor works throughout.
    Source: rename(2); a server that keeps fids by path must rewrite each of them every time."""
    share.inside.create("name0", b"abc")
    fd = share.inside.open("name0", os.O_RDWR)
    with share.without_comparison():
        for i in range(40):
            share.inside.rename(f"name{i}", f"name{i + 1}")
    equal("names in the case's directory", share.same(share.directory()), ["name40"], code="names")
    equal("content read by the descriptor", share.inside.soon.pread(fd, 9, 0), b"abc", code="content")
    fields("the open file inside", share.inside.soon.fstat(fd), nlink=1)
    share.same(share.stat("name40"))


@case("RENAME-027", covers=[Trenameat], about="agreement")
def test_renameat_below_two_descriptors(share: Share) -> None:
    """renameat(2) takes either name below a descriptor of its own; EBADF for one that is not open, ENOTDIR for
    one of a file.  Source: rename(2) "renameat()", EBADF, ENOTDIR; POSIX renameat."""
    share.inside.mkdir("from")
    share.inside.mkdir("to")
    share.inside.create("from/fred", b"abc")
    flags = os.O_RDONLY | os.O_DIRECTORY
    source, target = share.inside.open("from", flags), share.inside.open("to", flags)
    file = share.inside.open("from/fred")
    for old, new, wanted in (
        (987, target, EBADF),
        (source, 987, EBADF),
        (file, target, ENOTDIR),
        (source, file, ENOTDIR),
    ):
        share.inside.refuses(wanted).renameat(old, "fred", new, "george")
    share.inside.renameat(source, "fred", target, "george")
    equal("names in 'from'", share.same(share.directory("from")), [], code="names")
    equal("names in 'to'", share.same(share.directory("to")), ["george"], code="names")
    flush(share, "to/george")
    share.same(share.content("to/george"))


@case("RENAME-101", about="agreement")
@for_each(OLD, NEW)
def test_path_errors(share: Share, operation: Operation) -> None:
    """rename(2) fails with the errno of path resolution for a bad old or new path, and moves nothing.  Source:
    rename(2) EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR; path_resolution(7)."""
    refuses_bad_paths(share, operation)


@case("RENAME-102", about="agreement")
@for_each(OLD, NEW)
def test_write_permission(share: Share, operation: Operation) -> None:
    """rename(2) fails with EACCES for a user who may not write the directory of the old or the new name.
    Source: rename(2) EACCES."""
    refuses_without_write_permission(share, operation)


@case("RENAME-103", about="agreement")
@for_each(OLD, OVER)
def test_sticky_directory(share: Share, operation: Operation) -> None:
    """In a sticky directory rename(2) of another user's file, or over one, fails with EPERM; a user's own file can be
    moved.
    Source: rename(2) "EPERM or EACCES: The directory containing oldpath has the sticky bit (S_ISVTX) set", and
    the same for newpath; Linux fs/namei.c may_delete() gives EPERM."""
    refuses_in_sticky_directory(share, operation)
