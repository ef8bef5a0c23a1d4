"""chown(2), fchown(2), lchown(2), fchownat(2): who owns a file, who may give it away, the group of a new one."""

from __future__ import annotations

import os
import stat
from errno import EBADF, EPERM

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.attribute_paths import PathCall, refuse_bad_paths
from conformance.checks import Octal, changes, equal, fields
from conformance.vfs.share import Share
from protocol.messages import Tlcreate, Tmkdir, Tsetattr, Tsymlink

KEEP = -1


def owned(share: Share, path: str, uid: int, gid: int) -> None:
    """`path` has this owner and group, on both sides."""
    fields(repr(path), share.same(share.stat(path)), uid=uid, gid=gid)


@case("OWNER-001", covers=[Tsetattr], needs=["guest-root"], cached_too=True)
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_chown_sets_owner_and_group(share: Share, kind: str) -> None:
    """chown(2) by root sets the owner, the group or both; -1 leaves one alone; nothing else but ctime
    changes.
    Source: POSIX chown; 9P2000.L Tsetattr."""
    if kind == "file":
        share.inside.create("x", b"", 0o640)
    else:
        share.inside.mkdir("x", 0o750)
    before = share.same(share.stat("x"))
    share.inside.chown("x", 1001, 1002)
    fields("'x'", share.same(share.stat("x")), uid=1001, gid=1002)
    share.inside.chown("x", 1003, KEEP)
    fields("'x'", share.same(share.stat("x")), uid=1003, gid=1002)
    share.inside.chown("x", KEEP, 1004)
    fields("'x'", share.same(share.stat("x")), uid=1003, gid=1004)
    share.inside.chown("x", KEEP, KEEP)
    fields("'x'", share.same(share.stat("x")), uid=1003, gid=1004)
    changes("'x' by chown(2)", before, share.same(share.stat("x")), may={"uid", "gid", "ctime_ns"})


@case("OWNER-002", covers=[Tsetattr], needs=["guest-root"], cached_too=True)
def test_the_whole_range_of_ids(share: Share) -> None:
    """Every 32-bit id but the last is kept exactly.
    Source: Tsetattr.uid, .gid are 4 bytes; chown(2)."""
    share.inside.create("fred")
    for number in (1, 65534, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 2, 0):
        share.inside.chown("fred", number, KEEP)
        share.inside.chown("fred", KEEP, 2**32 - 2 - number)
        fields("'fred'", share.same(share.stat("fred")), uid=number, gid=2**32 - 2 - number)


@case("OWNER-003", covers=[Tsetattr], needs=["guest-root"], cached_too=True)
def test_fchown(share: Share) -> None:
    """fchown(2) works on files opened in any mode and on directories.  Source: POSIX fchown."""
    share.inside.create("fred", b"abc")
    share.inside.mkdir("d")
    for i, (name, flags) in enumerate(
        [("fred", os.O_RDONLY), ("fred", os.O_WRONLY), ("fred", os.O_RDWR), ("d", os.O_RDONLY | os.O_DIRECTORY)]
    ):
        fd = share.inside.open(name, flags)
        share.inside.fchown(fd, 1001 + i, 2001 + i)
        fields(f"{name!r}", share.same(share.stat(name)), uid=1001 + i, gid=2001 + i)
        share.inside.close(fd)


@case("OWNER-004", needs=["guest-root"])
def test_fchown_of_a_bad_descriptor(share: Share) -> None:
    """fchown(2) fails with EBADF for a closed descriptor and for one opened with O_PATH.
    Source: fchown(2) EBADF; open(2) O_PATH."""
    share.inside.create("fred")
    fd = share.inside.open("fred", os.O_PATH)
    share.inside.refuses(EBADF).fchown(fd, 1001, 1001)
    share.inside.close(fd)
    share.inside.refuses(EBADF).fchown(fd, 1001, 1001)
    fields("'fred'", share.same(share.stat("fred")), uid=0, gid=0)


@case("OWNER-005", covers=[Tsetattr], needs=["guest-root"], cached_too=True)
def test_chown_follows_a_link_and_lchown_does_not(share: Share) -> None:
    """chown(2) of a symbolic link changes its target's owner, lchown(2) the link's own, even of a dangling
    one.
    Source: POSIX chown, lchown; known defect: CVE-2016-9602, a server that followed links where it must
    not."""
    share.inside.create("target")
    share.inside.symlink("target", "link")
    share.inside.symlink("nobody", "dangling")
    share.inside.chown("link", 1001, 1002)
    owned(share, "target", 1001, 1002)
    owned(share, "link", 0, 0)
    share.inside.lchown("link", 1003, 1004)
    owned(share, "target", 1001, 1002)
    owned(share, "link", 1003, 1004)
    share.inside.lchown("dangling", 1005, 1006)
    fields("'dangling'", share.same(share.stat("dangling")), uid=1005, gid=1006)


@case("OWNER-006", covers=[Tsetattr], needs=["guest-root"])
def test_fchownat(share: Share) -> None:
    """fchownat(2) takes a relative name below the directory descriptor.  Source: POSIX fchownat."""
    share.inside.mkdir("d")
    share.inside.create("d/fred")
    share.inside.create("fred")
    fd = share.inside.open("d", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.chown("fred", 1001, 1002, dir_fd=fd)
    owned(share, "d/fred", 1001, 1002)
    owned(share, "fred", 0, 0)
    share.inside.refuses(EBADF).chown("fred", 1, 1, dir_fd=999)


@case("OWNER-007", needs=["guest-root"], about="agreement")
@pytest.mark.parametrize(
    "call", [PathCall("chown", (1001, 1001)), PathCall("lchown", (1001, 1001), follows=False)], ids=str
)
def test_path_errors(share: Share, call: PathCall) -> None:
    """chown(2), lchown(2) of a bad path fail with ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG or EACCES.
    Source: chown(2) ERRORS."""
    refuse_bad_paths(share, call)


@case("OWNER-008", needs=["guest-root", "host-root"], covers=[Tsetattr])
@pytest.mark.parametrize(
    "kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK], ids=["fifo", "socket", "char", "block"]
)
def test_chown_of_special_files(share: Share, kind: int) -> None:
    """chown(2) changes the owner of a fifo, a socket or a device node that the host made, without opening it.
    Source: POSIX chown; known defect: lf-edge/eve#4186, ENXIO on non-regular files after the fix of
    CVE-2023-2861."""
    share.outside.mknod("node", kind | 0o640, os.makedev(7, 3) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0)
    share.inside.chown("node", 1001, 1002)
    fields("'node'", share.same(share.stat("node")), uid=1001, gid=1002)


@case("OWNER-009", needs=["guest-root"])
def test_only_root_gives_files_away(share: Share) -> None:
    """An ordinary user may neither change the owner of their own file nor take over another's: EPERM, nothing changes.
    Source: chown(2) EPERM; POSIX _POSIX_CHOWN_RESTRICTED."""
    bob = share.inside.spawn("bob", uid=1001)
    bob.create("mine", b"", 0o666)
    share.inside.create("roots")
    share.inside.chmod("roots", 0o666)
    refused = bob.refuses(EPERM)
    refused.chown("mine", 1002, KEEP)
    refused.chown("mine", 0, KEEP)
    refused.lchown("mine", 1002, KEEP)
    refused.fchown(bob.open("mine", os.O_RDWR), 1002, KEEP)
    refused.chown("roots", 1001, KEEP)
    refused.chown("roots", KEEP, 1001)
    refused.chown("roots", 0, KEEP)
    fields("'mine'", share.same(share.stat("mine")), uid=1001, gid=1001)
    fields("'roots'", share.same(share.stat("roots")), uid=0, gid=0)


@case("OWNER-010", covers=[Tsetattr], needs=["guest-root"], cached_too=True)
def test_an_owner_gives_his_file_to_groups_he_is_in(share: Share) -> None:
    """The owner may set the group to their primary or a supplementary one; any other fails with EPERM.
    Source: chown(2): "the owner of a file may change the group of the file to any group of which that owner
    is a member"."""
    bob = share.inside.spawn("bob", uid=1001, gid=1001, groups=[5000, 6000])
    bob.create("fred")
    for group in (5000, 6000, 1001):
        bob.chown("fred", KEEP, group)
        fields("'fred'", share.same(share.stat("fred")), uid=1001, gid=group)
    bob.chown("fred", 1001, 5000)
    bob.refuses(EPERM).chown("fred", KEEP, 7000)
    bob.refuses(EPERM).chown("fred", KEEP, 0)
    fields("'fred'", share.same(share.stat("fred")), uid=1001, gid=5000)


@case("OWNER-011", needs=["guest-root"])
def test_a_group_member_who_is_not_the_owner_may_not(share: Share) -> None:
    """Membership in the file's group gives no right to change its group.  Source: chown(2) EPERM."""
    share.inside.create("fred")
    share.inside.chown("fred", 1001, 5000)
    carol = share.inside.spawn("carol", uid=1002, gid=1002, groups=[5000])
    carol.refuses(EPERM).chown("fred", KEEP, 1002)
    carol.refuses(EPERM).chown("fred", KEEP, 5000)
    fields("'fred'", share.same(share.stat("fred")), uid=1001, gid=5000)


@case("OWNER-012", covers=[Tsetattr], severity="linux", needs=["guest-root"], cached_too=True)
@pytest.mark.parametrize("who", ["owner", "root"])
def test_chown_clears_set_id_bits(share: Share, who: str) -> None:
    """chown(2) of an executable clears set-user-ID and set-group-ID, by its owner and, on Linux, by root too.
    Source: chown(2): "since Linux 2.2.13, root is treated like other users"; POSIX chown."""
    share.inside.create("fred", b"#!/bin/sh\n")
    share.inside.chown("fred", 1001, 1001)
    share.inside.chmod("fred", 0o6755)
    if who == "owner":
        share.inside.spawn("bob", uid=1001, groups=[5000]).chown("fred", KEEP, 5000)
    else:
        share.inside.chown("fred", 1002, 5000)
    seen = share.same(share.stat("fred"))
    fields("'fred'", seen, permissions=0o755, gid=5000)


@case("OWNER-013", severity="linux", needs=["guest-root"])
def test_chown_keeps_setgid_that_is_not_executable(share: Share) -> None:
    """chown(2) by root leaves S_ISGID on a file that its group may not execute, and the bits of a directory.
    Source: chown(2): mandatory locking mark; fs/open.c chown_common: not for directories."""
    share.inside.create("fred")
    share.inside.chmod("fred", 0o2644)
    share.inside.mkdir("d")
    share.inside.chmod("d", 0o7755)
    share.inside.chown("fred", 1001, 1001)
    share.inside.chown("d", 1001, 1001)
    fields("'fred'", share.same(share.stat("fred")), permissions=0o2644)
    fields("'d'", share.same(share.stat("d")), permissions=0o7755)


@case("OWNER-014", needs=["host-root"], caches=FRESH)
def test_what_the_host_changes_is_seen_and_counts(share: Share) -> None:
    """A new owner that the host gives a file is seen inside at once, and can then change the file's mode.
    Source: Documentation/filesystems/9p.rst, cache=none."""
    share.host_sets_mode_and_owner()
    share.inside.create("fred", b"", 0o600)
    bob = share.inside.spawn("bob", uid=1001)
    bob.refuses(EPERM).chmod("fred", 0o644)
    share.outside.chown("fred", 1001, 5000)
    seen = share.inside.stat("fred")
    fields("'fred' inside", seen, uid=1001, gid=5000)
    bob.chmod("fred", 0o640)
    fields("'fred'", share.same(share.stat("fred")), uid=1001, gid=5000)


@case("OWNER-015", covers=[Tlcreate, Tmkdir, Tsymlink], needs=["guest-root"], cached_too=True)
def test_new_files_belong_to_their_maker(share: Share) -> None:
    """A file, a directory and a symbolic link made by an ordinary user have that user's uid and gid, on the host too.
    Source: POSIX open, mkdir, symlink; Tlcreate.gid and the n_uname of Tattach."""
    bob = share.inside.spawn("bob", uid=1001, gid=1002, groups=[5000])
    bob.create("file")
    bob.mkdir("dir")
    bob.symlink("file", "link")
    for name in ("file", "dir", "link"):
        owned(share, name, 1001, 1002)


@case("OWNER-016", covers=[Tlcreate, Tmkdir], needs=["guest-root"], cached_too=True)
def test_group_of_a_setgid_directory_is_inherited(share: Share) -> None:
    """In a directory with S_ISGID new files get its group, and new directories also its S_ISGID, whoever makes them.
    Source: inode(7); mkdir(2); fs/9p/vfs_inode_dotl.c v9fs_get_fsgid_for_create."""
    share.inside.mkdir("d")
    share.inside.chown("d", 0, 5000)
    share.inside.chmod("d", 0o2777)
    bob = share.inside.spawn("bob", uid=1001)
    bob.create("d/file")
    bob.mkdir("d/sub")
    bob.symlink("file", "d/link")
    for name in ("d/file", "d/sub", "d/link"):
        owned(share, name, 1001, 5000)
    for name, wanted in (("d/sub", stat.S_ISGID), ("d/file", 0)):
        bit = share.same(share.stat(name))["st_mode"] & stat.S_ISGID
        equal(f"S_ISGID of {name!r}", Octal(bit), Octal(wanted), code="field:mode")


@case("OWNER-017", severity="linux", needs=["guest-root"])
def test_setgid_is_not_granted_to_a_foreign_group(share: Share) -> None:
    """A file created S_ISGID and group-executable in a setgid directory by one who is not in that group does
    not keep the bit.
    Source: inode(7); fs/inode.c inode_init_owner, mode_strip_sgid (CVE-2018-13405, CVE-2021-4037)."""
    share.inside.mkdir("d")
    share.inside.chown("d", 0, 5000)
    share.inside.chmod("d", 0o2777)
    bob = share.inside.spawn("bob", uid=1001, umask=0)
    bob.open("d/evil", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o2777)
    seen = share.same(share.stat("d/evil"))
    fields("'d/evil'", seen, uid=1001, gid=5000, permissions=0o777)


@case("OWNER-018", covers=[Tsetattr], needs=["guest-root"])
def test_owner_belongs_to_the_file_not_the_name(share: Share) -> None:
    """Owner and group changed through one name of a file show under its other name, and survive a rename.
    Source: POSIX link."""
    share.inside.create("fred")
    share.inside.link("fred", "barney")
    share.inside.chown("barney", 1001, 1002)
    share.inside.rename("fred", "wilma")
    fields("'wilma'", share.same(share.stat("wilma")), uid=1001, gid=1002)
    fields("'barney'", share.same(share.stat("barney")), uid=1001, gid=1002)
