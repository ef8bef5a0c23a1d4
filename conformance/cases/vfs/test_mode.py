"""chmod(2), fchmod(2), fchmodat(2): the permission bits, who may change them, and what clears set-id bits."""

from __future__ import annotations

import os
import stat
from errno import EACCES, EBADF, ENOENT, EPERM

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.attribute_paths import PathCall, refuse_bad_paths
from conformance.cases.vfs.outcomes import step_passes
from conformance.checks import changes, equal, fields, holds
from conformance.vfs.share import Share
from protocol.messages import Tsetattr, Twrite


@case("MODE-001", covers=[Tsetattr], cached_too=True)
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o640, 0o777], ids=oct)
def test_chmod_changes_only_the_permission_bits(share: Share, mode: int) -> None:
    """chmod(2) sets the permission bits and leaves type, owner, size and mtime alone.
    Source: POSIX chmod; 9P2000.L Tsetattr."""
    share.inside.create("fred", b"", 0o666)
    before = share.same(share.stat("fred"))
    share.inside.chmod("fred", mode)
    after = share.same(share.stat("fred"))
    changes("'fred' by chmod(2)", before, after, may={"mode", "ctime_ns"})
    fields("'fred'", after, permissions=mode)


@case("MODE-002", about="agreement")
@pytest.mark.parametrize("call", [PathCall("chmod", (0o600,))], ids=str)
def test_path_errors(share: Share, call: PathCall) -> None:
    """chmod(2) of a bad path fails with ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG or EACCES and changes nothing.
    Source: chmod(2) ERRORS."""
    refuse_bad_paths(share, call)


@case("MODE-003", covers=[Tsetattr])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_every_mode_bit(share: Share, kind: str) -> None:
    """Each of the twelve mode bits, alone and all together, is set and cleared by root.
    Source: POSIX chmod, S_ISUID, S_ISGID, S_ISVTX; known defect: hugelgupf/p9 issues 108 and 109, these bits
    lost."""
    if kind == "file":
        share.inside.create("x")
    else:
        share.inside.mkdir("x")
    for mode in [*(1 << n for n in range(12)), 0o7777, 0o4755, 0o2755, 0o1777, 0o6711, 0]:
        share.inside.chmod("x", mode)
        fields("'x' inside", share.inside.soon.stat("x"), permissions=mode)
    fields("'x'", share.same(share.stat("x")), permissions=0)


@case("MODE-004", covers=[Tsetattr])
def test_type_bits_are_ignored(share: Share) -> None:
    """File type bits in chmod(2)'s mode are ignored: only the twelve permission bits are taken.
    Source: POSIX chmod; fs/open.c chmod_common masks with S_IALLUGO; known defect: plan9port issue 81,
    ERANGE."""
    share.inside.create("fred")
    share.inside.chmod("fred", stat.S_IFDIR | 0o604)
    fields("'fred'", share.same(share.stat("fred")), type=stat.S_IFREG, permissions=0o604)


@case("MODE-005", covers=[Tsetattr], cached_too=True)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR], ids=["rdonly", "wronly", "rdwr"])
def test_fchmod(share: Share, flags: int) -> None:
    """fchmod(2) works on a descriptor opened in any mode.  Source: POSIX fchmod."""
    share.inside.create("fred", b"abc")
    fd = share.inside.open("fred", flags)
    share.inside.fchmod(fd, 0o4751)
    fields("the open file inside", share.inside.soon.fstat(fd), permissions=0o4751)
    fields("'fred'", share.same(share.stat("fred")), permissions=0o4751)


@case("MODE-006", covers=[Tsetattr])
def test_fchmod_of_a_directory(share: Share) -> None:
    """fchmod(2) works on an open directory.  Source: POSIX fchmod."""
    share.inside.mkdir("d", 0o755)
    share.inside.fchmod(share.inside.open("d", os.O_RDONLY | os.O_DIRECTORY), 0o3701)
    fields("'d'", share.same(share.stat("d")), permissions=0o3701)


@case("MODE-007")
def test_fchmod_of_a_bad_descriptor(share: Share) -> None:
    """fchmod(2) fails with EBADF for a closed descriptor and for one opened with O_PATH.
    Source: fchmod(2) EBADF; open(2) O_PATH."""
    share.inside.create("fred", b"", 0o600)
    path = share.inside.open("fred", os.O_PATH)
    share.inside.refuses(EBADF).fchmod(path, 0o777)
    share.inside.close(path)
    share.inside.refuses(EBADF).fchmod(path, 0o777)
    fields("'fred'", share.same(share.stat("fred")), permissions=0o600)


@case("MODE-008", covers=[Tsetattr])
def test_fchmodat(share: Share) -> None:
    """fchmodat(2) takes a relative name below the directory descriptor.  Source: POSIX fchmodat."""
    share.inside.mkdir("d")
    share.inside.create("d/fred", b"", 0o644)
    share.inside.create("fred", b"", 0o644)
    share.inside.chmod("fred", 0o611, dir_fd=share.inside.open("d", os.O_RDONLY | os.O_DIRECTORY))
    fields("'d/fred'", share.same(share.stat("d/fred")), permissions=0o611)
    fields("'fred', which is not meant,", share.same(share.stat("fred")), permissions=0o644)


@case("MODE-009", covers=[Tsetattr], cached_too=True)
def test_chmod_follows_symbolic_links(share: Share) -> None:
    """chmod(2) of a symbolic link changes the file it names; the link keeps its mode.
    Source: POSIX chmod; symlink(7)."""
    share.inside.create("target", b"", 0o644)
    share.inside.symlink("target", "link")
    before = share.same(share.stat("link"))
    share.inside.chmod("link", 0o700)
    fields("'target'", share.same(share.stat("target")), permissions=0o700)
    fields("'link'", share.same(share.stat("link")), mode=before["st_mode"])


@case("MODE-010", covers=[Tsetattr], needs=["host-root"])
@pytest.mark.parametrize(
    "kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK], ids=["fifo", "socket", "char", "block"]
)
def test_chmod_of_special_files(share: Share, kind: int) -> None:
    """chmod(2) changes the mode of a fifo, a socket or a device node that the host made, without opening it.
    Source: POSIX chmod; known defect: lf-edge/eve#4186, ENXIO on non-regular files after the fix of
    CVE-2023-2861."""
    share.outside.mknod("node", kind | 0o644, os.makedev(7, 3) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0)
    share.inside.chmod("node", 0o602)
    fields("'node'", share.same(share.stat("node")), permissions=0o602)
    fields("'node' inside", share.inside.soon.lstat("node"), type=kind)


@case("MODE-011", caches=FRESH, needs=["passthrough-ownership"])
def test_what_the_host_changes_is_seen(share: Share) -> None:
    """A chmod(2) on the host is seen inside at once, with all twelve bits, and decides permissions.
    Source: Documentation/filesystems/9p.rst, cache=none."""
    share.inside.create("fred", b"secret", 0o644)
    bob = share.inside.spawn("bob", uid=1001)
    bob.close(bob.open("fred", os.O_RDONLY))
    for mode in (0o4640, 0o2600, 0o1600, 0o600):
        share.outside.chmod("fred", mode)
        fields("'fred' inside", share.inside.soon.stat("fred"), permissions=mode)
    bob.refuses(EACCES).open("fred", os.O_RDONLY)


@case("MODE-012", covers=[Tsetattr], cached_too=True)
def test_chmod_marks_ctime(share: Share) -> None:
    """chmod(2) of files and directories moves ctime forward and leaves atime and mtime alone.
    Source: POSIX chmod."""
    share.inside.create("fred")
    share.inside.mkdir("d")
    for name in ("fred", "d"):
        share.inside.utimensat(name, 10**18, 9 * 10**17)
        before = share.outside.lstat(name)
        step_passes(share, name)
        share.inside.chmod(name, 0o711)
        after = share.outside.lstat(name)
        moved = after["st_ctime_ns"] - before["st_ctime_ns"]
        holds(f"ctime of {name!r} outside moves forward", moved > 0, seen=moved, code="field:ctime_ns")
        fields(f"{name!r} outside", after, atime_ns=10**18, mtime_ns=9 * 10**17)


@case("MODE-013", covers=[Tsetattr], needs=["guest-root"], cached_too=True)
def test_the_owner_may_change_the_mode(share: Share) -> None:
    """An ordinary user can change the mode of their own file, even of one that they may neither read nor write.
    Source: chmod(2): the effective uid must match the owner."""
    bob = share.inside.spawn("bob", uid=1001)
    bob.create("fred", b"", 0o600)
    for mode in (0, 0o4755, 0o1644, 0o777):
        bob.chmod("fred", mode)
        fields("'fred'", share.same(share.stat("fred")), permissions=mode)


@case("MODE-014", needs=["guest-root"], cached_too=True)
def test_others_may_not_change_the_mode(share: Share) -> None:
    """chmod(2) and fchmod(2) by another user fail with EPERM and change nothing, even for a member of the
    file's group with full permission.
    Source: chmod(2), fchmod(2) EPERM."""
    share.inside.create("fred", b"")
    share.inside.chown("fred", 1001, 1002)
    share.inside.chmod("fred", 0o666)
    carol = share.inside.spawn("carol", uid=1002, gid=1002)
    carol.refuses(EPERM).chmod("fred", 0o777)
    carol.refuses(EPERM).fchmod(carol.open("fred", os.O_RDWR), 0o777)
    carol.refuses(EPERM).chmod("fred", 0o666)
    fields("'fred'", share.same(share.stat("fred")), permissions=0o666)


@case("MODE-015", covers=[Tsetattr], needs=["guest-root"], cached_too=True)
def test_setgid_is_dropped_for_a_foreign_group(share: Share) -> None:
    """chmod(2) by an owner who is not in the file's group clears S_ISGID; by one who is, it stays.
    Source: POSIX chmod; chmod(2); fs/attr.c setattr_prepare."""
    share.inside.create("foreign")
    share.inside.chown("foreign", 1001, 4242)
    share.inside.create("supplementary")
    share.inside.chown("supplementary", 1001, 5000)
    bob = share.inside.spawn("bob", uid=1001, gid=1001, groups=[5000])
    bob.chmod("foreign", 0o6755)
    bob.chmod("supplementary", 0o6755)
    fields("'foreign'", share.same(share.stat("foreign")), permissions=0o4755)
    fields("'supplementary'", share.same(share.stat("supplementary")), permissions=0o6755)


@case("MODE-016", covers=[Twrite], severity="linux", needs=["guest-root"], cached_too=True)
def test_writing_clears_set_id_bits(share: Share) -> None:
    """A write by a user without privilege clears set-user-ID, and set-group-ID where the group may execute.
    Source: inode(7), chmod(2); fs/inode.c file_remove_privs, called from a file system's write_iter."""
    share.inside.create("fred", b"#!/bin/sh\n")
    share.inside.chown("fred", 1002, 1002)
    share.inside.chmod("fred", 0o6777)
    bob = share.inside.spawn("bob", uid=1001)
    fd = bob.open("fred", os.O_WRONLY)
    bob.write(fd, b"evil")
    bob.close(fd)
    fields("'fred'", share.same(share.stat("fred")), permissions=0o777)


@case("MODE-017", covers=[Tsetattr], severity="linux", needs=["guest-root"], cached_too=True)
@pytest.mark.parametrize("op", ["truncate", "ftruncate", "o_trunc"])
def test_truncation_clears_set_id_bits(share: Share, op: str) -> None:
    """Truncation by a user without privilege clears set-user-ID and executable set-group-ID.
    Source: inode(7); fs/open.c do_truncate calls dentry_needs_remove_privs."""
    share.inside.create("fred", b"#!/bin/sh\n")
    share.inside.chown("fred", 1002, 1002)
    share.inside.chmod("fred", 0o6777)
    bob = share.inside.spawn("bob", uid=1001)
    if op == "truncate":
        bob.truncate("fred", 3)
    elif op == "ftruncate":
        bob.ftruncate(bob.open("fred", os.O_WRONLY), 3)
    else:
        bob.open("fred", os.O_WRONLY | os.O_TRUNC)
    fields("'fred'", share.same(share.stat("fred")), permissions=0o777)


@case("MODE-018", severity="linux", needs=["guest-root"], covers=[Twrite])
def test_root_keeps_set_id_bits_when_writing(share: Share) -> None:
    """A write by root (CAP_FSETID) leaves the set-id bits as they are.
    Source: inode(7), capabilities(7) CAP_FSETID."""
    share.inside.create("fred", b"abc")
    share.inside.chmod("fred", 0o6755)
    share.inside.write(share.inside.open("fred", os.O_WRONLY), b"xyz")
    fields("'fred'", share.same(share.stat("fred")), permissions=0o6755)


@case("MODE-019", severity="linux", needs=["guest-root"])
def test_setgid_without_group_execution_stays_when_writing(share: Share) -> None:
    """A write by a member of the group leaves S_ISGID on a file that its group may not execute.
    Source: inode(7): set-group-ID without group execution once meant mandatory locking; fs/attr.c
    setattr_should_drop_sgid."""
    share.inside.create("fred", b"abc")
    share.inside.chown("fred", 1002, 1001)
    share.inside.chmod("fred", 0o2666)
    bob = share.inside.spawn("bob", uid=1001, gid=1001)
    bob.write(bob.open("fred", os.O_WRONLY), b"xyz")
    fields("'fred'", share.same(share.stat("fred")), permissions=0o2666)


@case("MODE-020", covers=[Tsetattr], needs=["guest-root"])
def test_mode_of_an_open_file_is_judged_at_open(share: Share) -> None:
    """A descriptor stays usable after the mode was taken away; the next open fails with EACCES.
    Source: POSIX open: permissions are judged when the file is opened."""
    bob = share.inside.spawn("bob", uid=1001)
    bob.create("fred", b"abc", 0o600)
    fd = bob.open("fred", os.O_RDWR)
    bob.chmod("fred", 0)
    equal("content read by the descriptor that was open", bob.soon.pread(fd, 10, 0), b"abc", code="content")
    equal("bytes that pwrite() wrote by that descriptor", bob.pwrite(fd, b"ABCD", 0), 4)
    bob.refuses(EACCES).open("fred", os.O_RDONLY)
    bob.refuses(EACCES).open("fred", os.O_WRONLY)
    fields("'fred'", share.same(share.stat("fred")), permissions=0)


@case("MODE-021", covers=[Tsetattr])
def test_chmod_by_one_name_shows_under_the_other(share: Share) -> None:
    """The mode belongs to the file: when changed through one of its names it is changed under the other.
    Source: POSIX link."""
    share.inside.create("fred", b"", 0o644)
    share.inside.link("fred", "barney")
    share.inside.chmod("barney", 0o604)
    fields("'fred'", share.same(share.stat("fred")), permissions=0o604)
    fields("'barney'", share.same(share.stat("barney")), permissions=0o604)


@case("MODE-022", severity="linux")
def test_sticky_bit_on_a_regular_file(share: Share) -> None:
    """Linux lets any owner set S_ISVTX on a regular file; it is kept.
    Source: chmod(2), inode(7): the bit has no meaning on files in Linux; POSIX permits either."""
    share.need("guest-root", "another user")
    bob = share.inside.spawn("bob", uid=1001)
    bob.create("fred", b"", 0o600)
    bob.chmod("fred", 0o1600)
    fields("'fred'", share.same(share.stat("fred")), permissions=0o1600)


@case("MODE-023")
def test_mode_of_a_missing_file_relative_to_a_descriptor(share: Share) -> None:
    """fchmodat(2) with a bad directory descriptor fails with EBADF, with a missing name with ENOENT.
    Source: fchmodat(2) ERRORS."""
    fd = share.inside.open(".", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.refuses(ENOENT).chmod("nobody", 0o600, dir_fd=fd)
    share.inside.refuses(EBADF).chmod("nobody", 0o600, dir_fd=999)
