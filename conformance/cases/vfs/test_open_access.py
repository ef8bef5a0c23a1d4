"""open(2) and permissions: who may open a file and how, who owns a new file, and what a descriptor allows."""

from __future__ import annotations

import os
from errno import EACCES, EBADF, EMFILE

import pytest

from conformance.case import case
from conformance.cases.vfs.outcomes import flush, must_answer
from conformance.checks import equal, fields
from conformance.vfs.share import Share
from protocol.messages import Tlcreate, Tlopen, Tread, Twrite

ACCESS = {"rdonly": os.O_RDONLY, "wronly": os.O_WRONLY, "rdwr": os.O_RDWR}
NEEDS = {"rdonly": 4, "wronly": 2, "rdwr": 6}


@case("OPEN-201", covers=[Tlopen])
def test_access_modes_against_permissions(share: Share) -> None:
    """open(2) for reading, writing or both works for owner, group member and others exactly where the file's mode has
    the bits for that class, and fails with EACCES otherwise.
    Source: path_resolution(7) "Permissions"; POSIX 4.5 File Access Permissions; open(2) EACCES."""
    people = {
        "owner": (1001, 2001, ()),
        "group": (1002, 2001, ()),
        "member": (1003, 1003, (2001,)),
        "other": (1004, 1004, ()),
    }
    users = {n: share.inside.spawn(n, uid=uid, gid=gid, groups=groups) for n, (uid, gid, groups) in people.items()}
    share.inside.create("fred", b"abc", 0o666)
    share.inside.chown("fred", 1001, 2001)
    for mode in (0o600, 0o400, 0o240, 0o064, 0o042, 0o604, 0o777, 0o000):
        share.inside.chmod("fred", mode)
        share.inside.close(share.inside.open("fred", os.O_RDWR))  # root always may
        for name, user in users.items():
            bits = mode >> {"owner": 6, "other": 0}.get(name, 3) & 7
            opens = [
                ("open", ("fred", flags), 0 if bits & NEEDS[access] == NEEDS[access] else EACCES)
                for access, flags in ACCESS.items()
            ]
            must_answer(user, f"by the class {name} on mode {mode:#o}", opens)


@case("OPEN-202")
@pytest.mark.parametrize(
    "flags", [os.O_RDONLY, os.O_RDONLY | os.O_CREAT, os.O_WRONLY | os.O_TRUNC], ids=["rdonly", "creat", "trunc"]
)
def test_no_search_permission_on_the_way(share: Share, flags: int) -> None:
    """open(2) below a directory that the user may not search fails with EACCES, and the file stays as it is.
    Source: open(2) EACCES "search permission is denied for one of the directories in the path prefix"."""
    share.inside.mkdir("dir", 0o777)
    share.inside.create("dir/fred", b"abc", 0o666)
    share.inside.chmod("dir", 0o666)
    bob = share.inside.spawn("bob", uid=1001)
    bob.refuses(EACCES).open("dir/fred", flags, 0o644)
    bob.refuses(EACCES).open("dir/nobody", flags, 0o644)
    equal("content of 'dir/fred' inside", share.inside.soon.slurp("dir/fred"), b"abc", code="content")


@case("OPEN-203")
def test_creat_without_write_permission_on_the_directory(share: Share) -> None:
    """open(O_CREAT) of a new name in a directory that the user may not write fails with EACCES; an existing
    file there opens.
    Source: open(2) EACCES "write access to the parent directory is not allowed"."""
    share.inside.mkdir("dir", 0o755)
    share.inside.create("dir/fred", b"abc", 0o644)
    bob = share.inside.spawn("bob", uid=1001)
    bob.refuses(EACCES).open("dir/new", os.O_CREAT | os.O_WRONLY, 0o644)
    fd = bob.open("dir/fred", os.O_CREAT | os.O_RDONLY)
    equal("content of the file that is there", bob.soon.read(fd, 9), b"abc", code="content")
    equal("names in 'dir'", share.same(share.directory("dir")), ["fred"], code="names")


@case("OPEN-204")
@pytest.mark.parametrize(
    "access", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT], ids=["rdonly", "wronly", "creat"]
)
def test_trunc_without_write_permission(share: Share, access: int) -> None:
    """open(O_TRUNC) of a file that the user may only read fails with EACCES and empties nothing.
    Source: POSIX open "O_TRUNC"; open(2) EACCES; Linux fs/namei.c may_open()."""
    share.inside.create("fred", b"precious", 0o644)
    flush(share, "fred")
    bob = share.inside.spawn("bob", uid=1001)
    bob.refuses(EACCES).open("fred", access | os.O_TRUNC)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"precious", code="content")
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"precious", code="content")


@case("OPEN-205", covers=[Tlcreate], needs=("passthrough-ownership",))
def test_owner_of_a_new_file(share: Share) -> None:
    """A new file belongs to the user and group of the process that made it, on both sides.
    Source: open(2) "The owner (user ID) of the new file is set to the effective user ID of the process"."""
    bob = share.inside.spawn("bob", uid=1001, gid=2002, groups=(2003,))
    bob.open("fred", os.O_CREAT | os.O_WRONLY, 0o640)
    fields("'fred'", share.same(share.stat("fred")), uid=1001, gid=2002, mode=0o100640)


@case("OPEN-206", covers=[Tlcreate], needs=("passthrough-ownership",))
def test_group_of_a_new_file_in_a_setgid_directory(share: Share) -> None:
    """A new file in a directory with the set-group-ID bit gets the directory's group.
    Source: open(2) "if the set-group-ID mode bit is set on the parent directory"; inode(7) S_ISGID."""
    share.inside.mkdir("dir")
    share.inside.chown("dir", 0, 2005)
    share.inside.chmod("dir", 0o2777)
    bob = share.inside.spawn("bob", uid=1001, gid=1001)
    bob.open("dir/fred", os.O_CREAT | os.O_WRONLY, 0o640)
    fields("'dir/fred'", share.same(share.stat("dir/fred")), uid=1001, gid=2005, mode=0o100640)


@case("OPEN-207", covers=[Tlcreate, Twrite])
@pytest.mark.parametrize("mode", [0o000, 0o444], ids=oct)
def test_new_file_is_open_as_asked_whatever_its_mode(share: Share, mode: int) -> None:
    """The descriptor of a file just created can be written and read even if the new file's mode forbids that to its
    owner.
    Source: open(2) "the mode applies only to future accesses of the newly created file; the open() call
    that creates a read-only file may well return a read/write file descriptor"."""
    bob = share.inside.spawn("bob", uid=1001)
    fd = bob.open("fred", os.O_CREAT | os.O_RDWR, mode)
    bob.write(fd, b"abc")
    equal("content read by the descriptor that created the file", bob.soon.pread(fd, 9, 0), b"abc", code="content")
    bob.fsync(fd)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"abc", code="content")
    bob.refuses(EACCES).open("fred", os.O_WRONLY)


@case("OPEN-208", covers=[Tread, Twrite])
def test_permission_is_checked_when_opening_only(share: Share) -> None:
    """A descriptor keeps its access after the owner removes every permission from the file.
    Source: POSIX open: access is established when the file description is made; chmod(2)."""
    bob = share.inside.spawn("bob", uid=1001)
    bob.create("fred", b"abc", 0o600)
    fd = bob.open("fred", os.O_RDWR)
    bob.chmod("fred", 0)
    equal("content read after chmod to 0", bob.soon.pread(fd, 9, 0), b"abc", code="content")
    bob.pwrite(fd, b"X", 0)
    equal("content read after a write after chmod to 0", bob.soon.pread(fd, 9, 0), b"Xbc", code="content")
    bob.refuses(EACCES).open("fred")


@case("OPEN-209")
def test_descriptor_allows_only_its_access_mode(share: Share) -> None:
    """A descriptor opened for reading refuses writes, one for writing refuses reads: EBADF, nothing changed.
    Source: read(2) EBADF "not open for reading"; write(2) EBADF "not open for writing"."""
    share.inside.create("fred", b"abc")
    reading, writing = share.inside.open("fred", os.O_RDONLY), share.inside.open("fred", os.O_WRONLY)
    share.inside.refuses(EBADF).write(reading, b"x")
    share.inside.refuses(EBADF).pwrite(reading, b"x", 0)
    share.inside.refuses(EBADF).writev(reading, [b"x"])
    share.inside.refuses(EBADF).read(writing, 1)
    share.inside.refuses(EBADF).pread(writing, 1, 0)
    share.inside.refuses(EBADF).readv(writing, [1])
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"abc", code="content")


@case("OPEN-210")
def test_no_descriptor_left(share: Share) -> None:
    """open(O_CREAT) in a process at its limit of descriptors fails with EMFILE and makes nothing.
    Source: open(2) EMFILE; setrlimit(2) RLIMIT_NOFILE."""
    bob = share.inside.spawn("bob")
    bob.getpid()
    bob.setrlimit(7, 3)
    bob.refuses(EMFILE).open("fred", os.O_CREAT | os.O_WRONLY, 0o644)
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("OPEN-211", covers=[Tlopen], needs=("passthrough-ownership",))
def test_permissions_set_outside_count_inside(share: Share) -> None:
    """Permissions that the host's chmod and chown grant or remove apply to the guest's next open(2).
    Source: POSIX chmod, chown; path_resolution(7)."""
    share.outside.create("fred", b"abc", 0o600)
    share.outside.chown("fred", 1001, 1001)
    bob, carol = share.inside.spawn("bob", uid=1001), share.inside.spawn("carol", uid=1002)
    equal(
        "content read by the user to whom the host gave it", bob.soon.read(bob.open("fred"), 9), b"abc", code="content"
    )
    carol.refuses(EACCES).open("fred")
    if share.mount.cache in ("none", "mmap"):
        share.outside.chown("fred", 1002, 1002)
        equal("content read by its next owner", carol.soon.read(carol.open("fred"), 9), b"abc", code="content")
        share.outside.chmod("fred", 0o004)
        carol.refuses(EACCES).open("fred")
