"""symlink(2), readlink(2): the text passes unchanged, and the guest resolves it in its own namespace."""

from __future__ import annotations

import os
import stat
from errno import EBADF, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.shared_errors import (
    Operation,
    for_each,
    refuses_bad_paths,
    refuses_taken_names,
    refuses_without_write_permission,
)
from conformance.checks import equal, fields
from conformance.vfs.pending import results
from conformance.vfs.share import Share, preparing
from protocol.messages import Treadlink, Tsymlink, Twalk

SYMLINK = Operation("symlink", lambda v, path: v.symlink("target", path), needs="nothing")
READLINK = Operation("readlink", lambda v, path: v.readlink(path), needs="symlink")

TARGETS = {
    "relative": "dir/fred",
    "absolute": "/etc/hostname",
    "up": "../../fred",
    "dot": ".",
    "slash": "dir/",
    "slashes": "//dir///fred//",
    "space": " leading and trailing ",
    "newline": "one\ntwo",
    "controls": "\x01\x1b[31m\x7f",
    "utf8": "gr\u00fc\u00dfe/\u65e5\u672c",
    "not-utf8": "\udcff\udcfe/\udc80",
    "long-name": "n" * 300,
    **{f"length-{n}": "t" * n for n in (1, 59, 60, 255, 256)},
    "length-1024": "t/" * 512,
    "length-4095": "t/" * 2047 + "t",
}
"""ext4 keeps up to 59 bytes in the inode, a longer text in a block; 4095 is PATH_MAX without the NUL."""

BOOT_ID = "proc/sys/kernel/random/boot_id"


@case("SYMLINK-001", covers=[Tsymlink, Treadlink])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_symlink_keeps_its_text(share: Share, target: str) -> None:
    """symlink(2) makes a symbolic link of exactly that text, whatever it is: readlink(2) returns it, and lstat(2) its
    length.
    Source: symlink(2); POSIX symlink: "the string pointed to by path1 shall be treated only as a string and shall
    not be validated as a pathname"; POSIX st_size of a symbolic link; 9P2000.L Tsymlink."""
    if len(target) >= 1024 and share.host_links and not share.alone:
        with preparing(f"a symbolic link with a text of {len(target)} bytes"):
            share.outside.quietly.symlink(target, "probe")
        share.outside.quietly.unlink("probe")
    share.inside.symlink(target, "link")
    equal("text of the symbolic link 'link' inside", share.inside.soon.readlink("link"), target, code="field:target")
    equal("text of the symbolic link 'link' on both sides", share.same(share.link("link")), target, code="field:target")
    seen = share.same(share.stat("link"))
    fields("'link'", seen, mode=stat.S_IFLNK | 0o777, size=len(os.fsencode(target)), nlink=1)


@case("SYMLINK-002", covers=[Treadlink], caches=FRESH, about="agreement")
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_readlink_of_a_link_made_outside(share: Share, target: str) -> None:
    """A symbolic link that the host makes has the same text inside.  Source: readlink(2); 9P2000.L Treadlink."""
    with preparing(f"a symbolic link with a text of {len(target)} bytes"):
        share.host_symlink(target, "link")
    equal("text of the symbolic link 'link' inside", share.inside.soon.readlink("link"), target, code="field:target")
    share.same(share.stat("link"))


@case("SYMLINK-003")
def test_symlink_of_too_long_a_text(share: Share) -> None:
    """symlink(2) with a text of 4096 bytes fails with ENAMETOOLONG, with an empty one with ENOENT; no link is
    made.  Source: symlink(2) ENAMETOOLONG, ENOENT "target is the empty string"; PATH_MAX."""
    share.inside.refuses(ENAMETOOLONG).symlink("t" * 4096, "link")
    share.inside.refuses(ENOENT).symlink("", "link")
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("SYMLINK-004", covers=[Tsymlink], cached_too=True)
def test_a_link_is_followed_to_file_and_directory(share: Share) -> None:
    """open(2) and stat(2) follow a symbolic link to a file, and path resolution follows one to a directory, also
    through several links and with a trailing slash.  Source: path_resolution(7); POSIX 4.13."""
    share.inside.mkdir("dir")
    share.inside.create("dir/fred", b"abc")
    share.inside.symlink("dir", "todir")
    share.inside.symlink("todir/fred", "tofile")
    share.inside.symlink("../tofile", "dir/back")
    for path in ("tofile", "todir/fred", "todir/back", "dir/back", "todir/./../tofile"):
        equal(f"content by way of {path!r}", share.inside.soon.slurp(path), b"abc", code="content")
    fields("'tofile' inside", share.inside.soon.stat("tofile"), ino=share.inside.stat("dir/fred")["st_ino"])
    fields("'todir/' inside", share.inside.soon.lstat("todir/"), type=stat.S_IFDIR)
    fields("'todir' inside", share.inside.soon.lstat("todir"), type=stat.S_IFLNK)
    share.inside.refuses(ENOTDIR).stat("tofile/")
    share.inside.create("todir/new", b"made through the link")
    equal("names in 'dir'", share.same(share.directory("dir")), ["back", "fred", "new"], code="names")


@case("SYMLINK-005", cached_too=True, about="agreement")
def test_a_dangling_link(share: Share) -> None:
    """A dangling symbolic link can be made, listed and read; following it fails with ENOENT until its target exists.
    Source: symlink(2) "may point to an existing file or to a nonexistent one"; path_resolution(7)."""
    share.inside.symlink("fred", "link")
    share.inside.refuses(ENOENT).stat("link")
    share.inside.refuses(ENOENT).open("link")
    equal("names in the case's directory", share.same(share.directory()), ["link"], code="names")
    share.inside.create("fred", b"abc")
    equal("content through the link once its target is there", share.inside.soon.slurp("link"), b"abc", code="content")
    share.inside.unlink("fred")
    share.inside.refuses(ENOENT).stat("link")
    share.same(share.stat("link"))


@case("SYMLINK-006", covers=[Tsymlink])
def test_loops(share: Share) -> None:
    """Following a symbolic link to itself or two that point at each other fails with ELOOP; they can be listed,
    read and removed.  Source: path_resolution(7); stat(2) ELOOP; POSIX 4.13."""
    share.inside.symlink("self", "self")
    share.inside.symlink("two", "one")
    share.inside.symlink("one", "two")
    share.inside.symlink("below/x", "below")
    for path in ("self", "one", "below", "self/x"):
        share.inside.refuses(ELOOP).open(path)
    equal("names in the case's directory", share.same(share.directory()), ["below", "one", "self", "two"], code="names")
    equal("text of the symbolic link 'one'", share.same(share.link("one")), "two", code="field:target")
    share.inside.unlink("one")
    share.inside.refuses(ENOENT).stat("two")


@case("SYMLINK-007", covers=[Treadlink], severity="linux")
def test_forty_links_in_a_row(share: Share) -> None:
    """Path resolution follows 40 symbolic links; with 41 it fails with ELOOP.
    Source: path_resolution(7): "the kernel ... limits the maximum number of symbolic links followed to 40";
    Linux include/linux/namei.h MAXSYMLINKS."""
    with share.without_comparison():
        share.outside.create("link0", b"the end")
        for i in range(1, 42):
            share.prepared_symlink(f"link{i - 1}", f"link{i}")
    equal("content through 40 links", share.inside.soon.slurp("link40"), b"the end", code="content")
    share.inside.refuses(ELOOP).open("link41")


@case("SYMLINK-008", covers=[Treadlink])
@pytest.mark.parametrize("made", ["inside", "outside"])
@pytest.mark.parametrize("target", ["/" + BOOT_ID, "../" * 24 + BOOT_ID], ids=["absolute", "relative"])
def test_a_link_out_of_the_share_leads_into_the_guest(share: Share, target: str, made: str) -> None:
    """A symbolic link out of the share, absolute or by "..", is resolved in the guest's own tree: reading through it
    reads the guest's file, never the host's.
    Source: path_resolution(7): the client follows links; 9P2000.L Twalk does not; known defect: CVE-2016-9602 (a
    server that followed links on the host)."""
    (share.inside.symlink if made == "inside" else share.host_symlink)(target, "link")
    wanted = share.inside.read_text("/" + BOOT_ID)
    equal(
        "boot id read through the link, compared with the guest's",
        share.inside.soon.slurp("link"),
        wanted.encode(),
        code="content",
    )
    share.inside.refuses(ENOTDIR).stat("link/below")


@case("SYMLINK-009", control=False)
def test_a_link_to_a_path_of_the_host(share: Share) -> None:
    """A symbolic link to an absolute path that exists only on the host dangles in the guest.
    Source: path_resolution(7): an absolute path starts at the process's root, which is the guest's; known defect:
    CVE-2016-9602."""
    share.outside.create("secret", b"of the host")
    outside = f"{share.outside.root}/secret"
    share.host_symlink(outside, "link")
    if share.inside.root == share.outside.root:
        # one tree on both sides: nothing to dangle
        equal("content through the link", share.inside.soon.slurp("link"), b"of the host", code="content")
        return
    share.inside.refuses(ENOENT).open("link")
    share.inside.refuses(ENOENT).stat("link")
    equal("text of the symbolic link 'link'", share.same(share.link("link")), outside, code="field:target")


@case("SYMLINK-010")
@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "empty"])
def test_readlink_of_what_is_no_link(share: Share, kind: str) -> None:
    """readlink(2) of anything but a symbolic link fails with EINVAL, of an empty path with ENOENT.
    Source: readlink(2) EINVAL "The named file ... is not a symbolic link", ENOENT; POSIX readlink."""
    if kind == "file":
        share.inside.create("x")
    elif kind == "directory":
        share.inside.mkdir("x")
    elif kind == "fifo":
        share.outside.mkfifo("x")
    share.inside.refuses(ENOENT if kind == "empty" else EINVAL).readlink("" if kind == "empty" else "x")


@case("SYMLINK-011", covers=[Treadlink])
@pytest.mark.parametrize("size", [1, 9, 10, 11, 4096])
def test_readlink_cuts_to_the_buffer(share: Share, size: int) -> None:
    """readlink(2) writes at most as many bytes as the buffer holds, truncates silently, and adds no NUL.
    Source: readlink(2) "It will (silently) truncate the contents ... in case the buffer is too small"."""
    share.inside.symlink("0123456789", "link")
    text = share.inside.readlink_size("link", size)
    equal(f"text that readlink(2) put into a buffer of {size}", text, b"0123456789"[:size], code="field:target")


@case("SYMLINK-012")
def test_readlink_into_no_buffer(share: Share) -> None:
    """readlink(2) with a buffer size of 0 fails with EINVAL.  Source: readlink(2) EINVAL "bufsiz is not positive"."""
    share.inside.symlink("target", "link")
    share.inside.refuses(EINVAL).readlink_size("link", 0)


@case("SYMLINK-013", covers=[Tsymlink, Treadlink])
def test_symlinkat_and_readlinkat(share: Share) -> None:
    """symlinkat(2) and readlinkat(2) take names below a descriptor, readlinkat(2) an empty one for a link opened
    with O_PATH|O_NOFOLLOW; EBADF for a descriptor that is not open, ENOTDIR for one of a file.
    Source: symlink(2) "symlinkat()", readlink(2) "readlinkat()", EBADF, ENOTDIR."""
    share.inside.mkdir("dir")
    share.inside.create("fred")
    at, file = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY), share.inside.open("fred")
    share.inside.symlink("target", "link", dir_fd=at)
    text = share.inside.readlink("link", dir_fd=at)
    equal("text of the link below the descriptor", text, "target", code="field:target")
    link = share.inside.open("dir/link", os.O_PATH | os.O_NOFOLLOW)
    text = share.inside.readlink("", dir_fd=link)
    equal("text of the link opened with O_PATH|O_NOFOLLOW", text, "target", code="field:target")
    for fd, wanted in ((987, EBADF), (file, ENOTDIR)):
        share.inside.refuses(wanted).symlink("target", "x", dir_fd=fd)
        share.inside.refuses(wanted).readlink("link", dir_fd=fd)
    equal("names in 'dir'", share.same(share.directory("dir")), ["link"], code="names")


@case("SYMLINK-014", covers=[Tsymlink])
def test_symlink_belongs_to_who_makes_it(share: Share) -> None:
    """A symbolic link has the effective user and group of the process, or the group of a set-group-ID directory.
    Source: symlink(2), POSIX symlink: owner and group of the new link; inode(7) S_ISGID; 9P2000.L Tsymlink gid."""
    share.inside.mkdir("project")
    share.inside.chown("project", 0, 2002)
    share.inside.chmod("project", 0o2777)
    user = share.inside.spawn("user", uid=1001, gid=2001)
    user.symlink("target", "plain")
    user.symlink("target", "project/grouped")
    for path, wanted in (("plain", (1001, 2001)), ("project/grouped", (1001, 2002))):
        fields(repr(path), share.same(share.stat(path)), uid=wanted[0], gid=wanted[1])


@case("SYMLINK-015", covers=[Treadlink], caches=FRESH)
def test_a_link_changed_outside(share: Share) -> None:
    """When the host replaces a symbolic link by another, or by a file, the guest sees the new one.
    Source: Linux Documentation/filesystems/9p.rst: with cache=none
    no text is kept."""
    share.inside.create("one", b"1")
    share.inside.create("two", b"22")
    share.inside.symlink("one", "link")
    equal("content of 'link' inside", share.inside.soon.slurp("link"), b"1", code="content")
    share.host_symlink("two", "new")
    share.outside.rename("new", "link")
    equal("text of the link in its place", share.inside.soon.readlink("link"), "two", code="field:target")
    equal("content through the link in its place", share.inside.soon.slurp("link"), b"22", code="content")
    share.outside.unlink("link")
    share.outside.create("link", b"a file")
    share.inside.refuses(EINVAL).readlink("link")
    equal("content of the file in its place", share.inside.soon.slurp("link"), b"a file", code="content")


@case("SYMLINK-016", covers=[Treadlink])
def test_many_links_keep_their_own_texts(share: Share) -> None:
    """60 symbolic links to 60 different files each lead to their own file.
    Source: readlink(2); known defect: nixpkgs#22695 (an inode cache with too coarse a key gave links the targets of
    others)."""
    with share.without_comparison():
        for i in range(60):
            share.outside.create(f"f{i}", b"content of %d" % i)
            share.prepared_symlink(f"f{i}", f"l{i}")
    for i, text in enumerate(results(share.inside.start.readlink(f"l{i}") for i in range(60))):
        equal(f"text of the symbolic link 'l{i}'", text, f"f{i}", code="field:target")
    for i, content in zip(
        range(0, 60, 5), results(share.inside.start.slurp(f"l{i}") for i in range(0, 60, 5)), strict=True
    ):
        equal(f"content through 'l{i}'", content, b"content of %d" % i, code="content")


@case("SYMLINK-017", covers=[Tsymlink, Twalk], cached_too=True, about="agreement")
def test_a_name_used_again(share: Share) -> None:
    """A file made under a former link's name is a file, and a link made under a former file's name is a link.
    Source: POSIX unlink, symlink; a client or server that keeps types by path shows the old one."""
    share.inside.symlink("target", "x")
    share.inside.unlink("x")
    share.inside.create("x", b"abc")
    share.inside.refuses(EINVAL).readlink("x")
    share.inside.unlink("x")
    share.inside.symlink("other", "x")
    equal("text of the symbolic link 'x'", share.same(share.link("x")), "other", code="field:target")
    share.same(share.stat("x"))


@case("SYMLINK-101", about="agreement")
@for_each(SYMLINK, READLINK)
def test_path_errors(share: Share, operation: Operation) -> None:
    """symlink(2) and readlink(2) fail with the errno of path resolution for bad paths.
    Source: symlink(2), readlink(2): EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR; path_resolution(7)."""
    refuses_bad_paths(share, operation)


@case("SYMLINK-102", about="agreement")
@for_each(SYMLINK)
def test_taken_names(share: Share, operation: Operation) -> None:
    """symlink(2) at a name that is taken fails with EEXIST.  Source: symlink(2) EEXIST; POSIX symlink."""
    refuses_taken_names(share, operation)


@case("SYMLINK-103", about="agreement")
@for_each(SYMLINK)
def test_write_permission(share: Share, operation: Operation) -> None:
    """symlink(2) fails with EACCES for a user who may not write the directory.  Source: symlink(2) EACCES."""
    refuses_without_write_permission(share, operation)
