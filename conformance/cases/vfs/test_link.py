"""link(2), linkat(2): a second name for one file."""

from __future__ import annotations

import os
from errno import EBADF, EINVAL, EMLINK, ENOENT, ENOTDIR, EPERM, EXDEV

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.outcomes import outcome, settled_times
from conformance.cases.vfs.shared_errors import (
    Operation,
    for_each,
    own_source,
    refuses_bad_paths,
    refuses_taken_names,
    refuses_without_write_permission,
)
from conformance.checks import changes, equal, fields
from conformance.errors import Undrivable
from conformance.vfs.share import Share
from protocol.messages import Tgetattr, Tlink, Tunlinkat

AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x400, 0x1000

OLD = Operation("old", lambda v, path: v.link(path, "linked"))
NEW = Operation("new", lambda v, path: v.link("source", path), needs="nothing", before=own_source)


@case("LINK-001", covers=[Tlink], cached_too=True, about="agreement")
def test_link_makes_a_second_name(share: Share) -> None:
    """link(2) makes a second name for the file: same inode, link count 2; ctime moves and nothing else changes.
    Source: link(2); POSIX link: "Upon successful completion, link() shall mark for update the last file status
    change timestamp of the file"; 9P2000.L Tlink."""
    share.inside.create("fred", b"abc", 0o640)
    settled_times(share, "fred")
    before = share.same(share.stat("fred"))
    share.inside.link("fred", "george")
    after = share.same(share.stat("fred"))
    changes("'fred' by link(2)", before, after, may={"nlink", "ctime_ns"})
    first, second = share.inside.stat("fred"), share.same(share.stat("george"))
    fields("'george', a link to 'fred',", second, ino=first["st_ino"], nlink=2)
    equal("names in the case's directory", share.same(share.directory()), ["fred", "george"], code="names")
    share.same(share.content("george"))


@case("LINK-002", covers=[Tlink], caches=FRESH)
def test_link_changes_the_directory_and_the_ctime(share: Share) -> None:
    """link(2) updates ctime of the file and mtime and ctime of the directory that gets the new name, and of no
    other.  Source: POSIX link."""
    share.inside.create("fred")
    share.inside.mkdir("dir")
    share.inside.mkdir("other")
    for path in ("fred", "dir", "other"):
        settled_times(share, path)
    before = {path: share.same(share.stat(path)) for path in ("fred", "dir", "other")}
    share.inside.link("fred", "dir/george")
    after = {path: share.same(share.stat(path)) for path in before}
    changes("'fred' by link(2)", before["fred"], after["fred"], must={"ctime_ns"}, may={"nlink", "blocks"})
    changes("'dir', which got the new name,", before["dir"], after["dir"], must={"mtime_ns", "ctime_ns"}, may=None)
    changes("'other', which got no name,", before["other"], after["other"])


@case("LINK-003", covers=[Tlink], cached_too=True, about="agreement")
def test_both_names_show_what_either_wrote(share: Share) -> None:
    """What is written through one name is read through the other, and chmod(2) of one shows on the other.
    Source: link(2) "both names refer to the same file"."""
    share.inside.create("fred", b"abc")
    share.inside.mkdir("dir")
    share.inside.link("fred", "dir/george")
    share.inside.overwrite("dir/george", b"written by george")
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"written by george", code="content")
    share.inside.chmod("fred", 0o600)
    fields("'dir/george' inside", share.inside.soon.stat("dir/george"), permissions=0o600)
    share.same(share.content("fred"))
    share.same(share.stat("fred"))
    share.same(share.stat("dir/george"))


@case("LINK-004", covers=[Tlink, Tunlinkat], cached_too=True)
def test_one_name_goes_the_other_stays(share: Share) -> None:
    """After one of two names is removed the file is still there under the other, with link count 1.
    Source: unlink(2); POSIX st_nlink."""
    share.inside.create("fred", b"abc")
    share.inside.link("fred", "george")
    share.inside.unlink("fred")
    share.gone("fred")
    fields("'george'", share.same(share.stat("george")), nlink=1)
    equal("content of 'george' inside", share.inside.soon.slurp("george"), b"abc", code="content")
    share.inside.create("fred", b"another file")
    equal("content of 'george' after 'fred' was made again", share.inside.soon.slurp("george"), b"abc", code="content")
    fields("the new 'fred'", share.same(share.stat("fred")), nlink=1)


@case("LINK-005", covers=[Tlink])
def test_fifty_names(share: Share) -> None:
    """A file with 50 names has link count 50 at every one, and 1 after 49 are removed.
    Source: link(2); known defect: CVE-2016-9105 (each Tlink leaked a fid reference)."""
    share.inside.create("fred", b"abc")
    share.inside.repeat(49, "link", "fred", "name%d")
    fields("'name27', one of 50 names,", share.same(share.stat("name27")), nlink=50)
    equal("number of names in the directory", len(share.same(share.directory())), 50, code="names")
    share.inside.repeat(49, "unlink", "name%d")
    fields("'fred' after 49 names were removed", share.same(share.stat("fred")), nlink=1)


@case("LINK-006", covers=[Tlink], cached_too=True)
def test_link_of_a_symbolic_link(share: Share) -> None:
    """link(2) of a symbolic link makes a second name for the link itself, dangling or not.
    Source: link(2) "By default, linkat() does not dereference oldpath if it is a symbolic link"; on Linux link()
    neither."""
    share.inside.create("target", b"abc")
    share.inside.symlink("target", "soft")
    share.inside.symlink("nowhere", "dangling")
    share.inside.link("soft", "hard")
    share.inside.link("dangling", "hard2")
    equal("text of the symbolic link 'hard'", share.same(share.link("hard")), "target", code="field:target")
    equal("text of the symbolic link 'hard2'", share.same(share.link("hard2")), "nowhere", code="field:target")
    fields("'target'", share.same(share.stat("target")), nlink=1)
    fields("'soft'", share.same(share.stat("soft")), nlink=2)


@case("LINK-007", covers=[Tlink])
def test_linkat_follows_when_asked(share: Share) -> None:
    """linkat(AT_SYMLINK_FOLLOW) makes a name for what the symbolic link points to; ENOENT where it dangles.
    Source: linkat(2) AT_SYMLINK_FOLLOW; POSIX linkat."""
    share.inside.create("target", b"abc")
    share.inside.symlink("target", "soft")
    share.inside.symlink("nowhere", "dangling")
    share.inside.linkat("soft", "hard", AT_SYMLINK_FOLLOW)
    fields("'target'", share.same(share.stat("target")), nlink=2)
    fields("'hard'", share.same(share.stat("hard")), ino=share.inside.stat("target")["st_ino"])
    share.inside.refuses(ENOENT).linkat("dangling", "hard2", AT_SYMLINK_FOLLOW)


@case("LINK-008", covers=[Tlink])
def test_linkat_of_an_open_file(share: Share) -> None:
    """linkat(AT_EMPTY_PATH) by root makes a further name for an open file.
    Source: linkat(2) AT_EMPTY_PATH "The caller must have the CAP_DAC_READ_SEARCH capability"."""
    share.inside.create("fred", b"abc")
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.linkat("", "george", AT_EMPTY_PATH, dir_fd=fd)
    fields("'george'", share.same(share.stat("george")), nlink=2)
    equal("content of 'george' inside", share.inside.soon.slurp("george"), b"abc", code="content")


@case("LINK-009")
def test_linkat_of_an_unlinked_open_file(share: Share) -> None:
    """linkat(AT_EMPTY_PATH) of a file whose last name is gone fails with ENOENT, and makes no name.
    Source: linkat(2) AT_EMPTY_PATH "This will not work if the file has a link count of zero (files created with
    O_TMPFILE and without O_EXCL are an exception)"; Linux fs/namei.c vfs_link()."""
    share.inside.create("fred", b"abc")
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.unlink("fred")
    share.inside.refuses(ENOENT).linkat("", "george", AT_EMPTY_PATH, dir_fd=fd)
    share.gone("george")


@case("LINK-010")
def test_linkat_bad_arguments(share: Share) -> None:
    """linkat(2) fails with EINVAL for an unknown flag, EBADF for a descriptor that is not open and ENOTDIR for
    one of a file.  Source: linkat(2) EINVAL, EBADF, ENOTDIR."""
    share.inside.create("fred")
    fd = share.inside.open("fred")
    share.inside.refuses(EINVAL).linkat("fred", "george", 0x4)
    share.inside.refuses(EBADF).linkat("fred", "george", dir_fd=987)
    share.inside.refuses(ENOTDIR).linkat("fred", "george", dir_fd=fd)
    equal("names in the case's directory", share.same(share.directory()), ["fred"], code="names")


@case("LINK-011", covers=[Tlink], about="agreement")
def test_linkat_below_a_descriptor(share: Share) -> None:
    """linkat(2) takes the old name below a directory descriptor.  Source: linkat(2) "olddirfd"."""
    share.inside.mkdir("dir")
    share.inside.create("dir/fred", b"abc")
    at = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.linkat("fred", "george", dir_fd=at)
    fields("'george'", share.same(share.stat("george")), nlink=2)
    share.same(share.stat("dir/fred"))


@case("LINK-012")
def test_link_of_a_directory(share: Share) -> None:
    """link(2) of a directory fails with EPERM, even for root, and nothing is made.
    Source: link(2) EPERM "oldpath is a directory"; POSIX link."""
    share.inside.mkdir("dir")
    share.inside.refuses(EPERM).link("dir", "second")
    share.inside.refuses(EPERM).link(".", "second")
    equal("names in the case's directory", share.same(share.directory()), ["dir"], code="names")


@case("LINK-013")
def test_link_to_another_file_system(share: Share) -> None:
    """link(2) from the share to another file system fails with EXDEV.
    Source: link(2) EXDEV."""
    share.inside.create("fred")
    share.inside.refuses(EXDEV).link("fred", "/dev/assay9")
    fields("'fred'", share.same(share.stat("fred")), nlink=1)


@case("LINK-014", covers=[Tlink], caches=FRESH)
@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_link_of_a_special_file(share: Share, kind: str) -> None:
    """link(2) gives a second name to a fifo, socket or device that the host made.
    Source: POSIX link: path1 names any file but a directory; 9P2000.L Tlink does not open the file."""
    types = {"fifo": 0o010644, "socket": 0o140644, "device": 0o020644}
    if kind == "device":
        share.need("host-root", "only root makes device nodes")
    share.outside.mknod("special", types[kind], os.makedev(1, 3) if kind == "device" else 0)
    share.inside.link("special", "second")
    seen = share.same(share.stat("second"))
    fields("'second'", seen, mode=types[kind], nlink=2)


@case("LINK-015", covers=[Tgetattr], caches=FRESH)
def test_links_made_and_removed_outside(share: Share) -> None:
    """A second name that the host makes is seen inside with its count and identity, and so is its removal.
    Source: Linux Documentation/filesystems/9p.rst "none = no caches used"; 9P2000.L Rgetattr nlink[8]."""
    share.inside.create("fred", b"abc")
    share.outside.link("fred", "george")
    fields("'fred'", share.same(share.stat("fred")), nlink=2)
    fields("'george'", share.same(share.stat("george")), ino=share.inside.stat("fred")["st_ino"])
    share.outside.unlink("fred")
    fields("'george'", share.same(share.stat("george")), nlink=1)
    share.inside.refuses(ENOENT).link("fred", "third")


@case("LINK-016", severity="linux", about="agreement")
def test_link_of_somebody_elses_file(share: Share) -> None:
    """A user's link(2) of a file that the user neither owns nor may read and write fails with EPERM where the guest has
    fs.protected_hardlinks, and works where it has not; the owner's always works.
    Source: link(2) EPERM; proc(5) /proc/sys/fs/protected_hardlinks."""
    share.inside.create("fred", b"abc", 0o600)
    user = share.inside.spawn("user", uid=1001)
    if share.inside.read_text("/proc/sys/fs/protected_hardlinks").strip() == "1":
        user.refuses(EPERM).link("fred", "george")
        share.gone("george")
    else:
        user.link("fred", "george")
        share.same(share.stat("george"))
    share.inside.chown("fred", 1001, 1001)
    user.link("fred", "mine")
    fields("'mine'", share.same(share.stat("mine")), ino=share.inside.stat("fred")["st_ino"])


@case("LINK-017", covers=[Tlink], control=False, seconds=120.0, about="agreement")
def test_the_last_link_the_file_system_allows(share: Share) -> None:
    """At the exported file system's limit of links link(2) fails with EMLINK inside as it does outside, and works again
    when one link is removed.
    Source: link(2) EMLINK; pathconf(3) _PC_LINK_MAX; ext4 allows 65000."""
    share.outside.mkdir("many")
    share.outside.create("fred")
    share.outside.timeout = 100.0  # only the host's part; on a busy machine it takes longer than a call's limit
    with share.without_comparison():
        last = outcome(share.outside, "repeat", 66_000, "link", "fred", "many/%d")
    if last.errno != EMLINK:
        raise Undrivable(f"the exported file system allows more than 66000 links ({last})")
    share.inside.refuses(EMLINK).link("fred", "george")
    share.gone("george")
    share.outside.unlink("many/7")
    share.inside.link("fred", "george")
    share.same(share.stat("george"))


@case("LINK-018", covers=[Tlink], cached_too=True, about="agreement")
def test_open_file_gets_a_second_name(share: Share) -> None:
    """A descriptor keeps working while its file gets a second name and loses the first.
    Source: POSIX link, unlink: the file stays while it has a link or is open; mail delivery works this way."""
    share.inside.create("tmp", b"abc")
    fd = share.inside.open("tmp", os.O_RDWR)
    share.inside.link("tmp", "mail")
    share.inside.unlink("tmp")
    share.inside.pwrite(fd, b"X", 1)
    share.inside.fsync(fd)
    fields("'mail' inside", share.inside.soon.stat("mail"), nlink=1)
    equal("content of 'mail' inside", share.inside.soon.slurp("mail"), b"aXc", code="content")
    share.same(share.content("mail"))


@case("LINK-101", about="agreement")
@for_each(OLD, NEW)
def test_path_errors(share: Share, operation: Operation) -> None:
    """link(2) fails with the errno of path resolution for a bad old or new path, and makes nothing.  Source: link(2)
    EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR; path_resolution(7)."""
    refuses_bad_paths(share, operation)


@case("LINK-102", about="agreement")
@for_each(NEW)
def test_taken_names(share: Share, operation: Operation) -> None:
    """link(2) to a name that is taken fails with EEXIST, even where that is a dangling symbolic link.
    Source: link(2) EEXIST "newpath already exists"; POSIX link."""
    refuses_taken_names(share, operation)


@case("LINK-103", about="agreement")
@for_each(NEW)
def test_write_permission(share: Share, operation: Operation) -> None:
    """link(2) fails with EACCES for a user who may not write the directory of the new name.
    Source: link(2) EACCES."""
    refuses_without_write_permission(share, operation)
