"""Permissions for several users and groups: files, directories, sticky directories, ownership of new files."""

from __future__ import annotations

import os
from errno import EACCES, EPERM

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.outcomes import must_answer
from conformance.checks import equal, fields
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Tlcreate, Tlopen, Trenameat, Tunlinkat

READ, WRITE = os.O_RDONLY, os.O_WRONLY
TEAM = 5000
"""A group that some users have as their own, some as a supplementary one."""


def as_class(share: Share, who: str) -> tuple[Vantage, int]:
    """A process that belongs to the class `who` of a file of 1001:TEAM, and the shift of the mode bits for that
    class."""
    uid, gid, groups, shift = {
        "owner": (1001, 1001, [], 6),
        "group": (1002, TEAM, [], 3),
        "supplementary": (1002, 1002, [7000, TEAM], 3),
        "other": (1003, 1003, [7000], 0),
    }[who]
    return share.inside.spawn(who, uid, gid, groups), shift


CLASSES = pytest.mark.parametrize("who", ["owner", "group", "supplementary", "other"])


@case("PERM-001", covers=[Tlopen], needs=["guest-root"], about="agreement")
@CLASSES
def test_opening_files(share: Share, who: str) -> None:
    """open(2) for reading, writing or both is granted by the bits of the first class that applies; otherwise it fails
    with EACCES.
    Source: POSIX file access permissions (4.5); open(2) EACCES."""
    share.inside.create("fred", b"content")
    share.inside.chown("fred", 1001, TEAM)
    user, shift = as_class(share, who)
    for given, rest in ((0, 0), (0, 7), (4, 0), (2, 0), (6, 0), (6, 7)):  # rest: the classes that do not apply
        mode = sum((given if s == shift else rest) << s for s in (6, 3, 0))
        with share.without_comparison():
            share.inside.chmod("fred", mode)
        opens = [
            ("open", ("fred", flags), 0 if given & needed == needed else EACCES)
            for flags, needed in ((READ, 4), (WRITE, 2), (os.O_RDWR, 6))
        ]
        must_answer(user, f"by the class {who} on mode {mode:#o}", opens)
    share.same(share.stat("fred"))


@case("PERM-002", needs=["guest-root"], covers=[Tlcreate, Tunlinkat])
@CLASSES
def test_using_directories(share: Share, who: str) -> None:
    """Listing needs read permission on the directory, reaching an entry search, making and removing entries write and
    search. Each class needs its own bits, otherwise EACCES.
    Source: POSIX 4.5; path_resolution(7); unlink(2), mkdir(2)."""
    share.inside.mkdir("d")
    share.inside.create("d/fred", b"content")
    share.inside.chmod("d/fred", 0o666)
    share.inside.chown("d", 1001, TEAM)
    user, shift = as_class(share, who)
    for given in (0, 1, 2, 3, 4, 7):
        with share.without_comparison():
            share.inside.chmod("d", given << shift)
        list_, reach, change = (0 if given & bits == bits else EACCES for bits in (4, 1, 3))
        looking = [("open", ("d", READ | os.O_DIRECTORY), list_), ("open", ("d/fred", READ), reach)]
        changing = [("create", ("d/new",)), ("mkdir", ("d/sub",)), ("symlink", ("x", "d/link"))]
        if change:
            changing += [("unlink", ("d/fred",)), ("rename", ("d/fred", "d/barney"))]
        else:
            changing += [
                ("rename", ("d/new", "d/newer")),
                ("rmdir", ("d/sub",)),
                ("unlink", ("d/link",)),
                ("unlink", ("d/newer",)),
            ]
        what = f"by the class {who} with the bits {given} of the directory"
        must_answer(user, what, [*looking, *((op, args, change) for op, args in changing)])
    share.inside.chmod("d", 0o755)
    equal("names in 'd'", share.same(share.directory("d")), ["fred"], code="names")


@case("PERM-003", needs=["guest-root"], covers=[Tunlinkat], cached_too=True)
def test_removing_needs_nothing_of_the_file(share: Share) -> None:
    """A user who may write a directory can remove and rename files in it that the user can neither read nor write.
    Source: POSIX unlink, rename: permission is the directory's."""
    share.inside.mkdir("d")
    share.inside.chmod("d", 0o777)
    for name in ("a", "b"):
        share.inside.create(f"d/{name}", b"", 0o600)
    bob = share.inside.spawn("bob", uid=1001)
    bob.unlink("d/a")
    bob.rename("d/b", "d/c")
    equal("names in 'd'", share.same(share.directory("d")), ["c"], code="names")
    fields("'d/c'", share.same(share.stat("d/c")), uid=0)


@case("PERM-004", needs=["guest-root"], covers=[Trenameat])
def test_sticky_directories(share: Share) -> None:
    """In a sticky directory only the file's owner, the directory's owner and root can remove or rename a file; others
    get EPERM even with write permission on the directory.
    Source: POSIX unlink, rename EPERM; inode(7) S_ISVTX."""
    share.inside.mkdir("tmp")
    share.inside.chown("tmp", 1003, 1003)
    share.inside.chmod("tmp", 0o1777)
    bob, carol = share.inside.spawn("bob", uid=1001), share.inside.spawn("carol", uid=1002)
    dave = share.inside.spawn("dave", uid=1003)
    for name in ("one", "two", "three", "four"):
        bob.create(f"tmp/{name}", b"", 0o666)
    bob.mkdir("tmp/dir")
    carol.refuses(EPERM).unlink("tmp/one")
    carol.refuses(EPERM).rename("tmp/one", "tmp/stolen")
    carol.refuses(EPERM).rmdir("tmp/dir")
    carol.create("tmp/carols")
    carol.refuses(EPERM).rename("tmp/carols", "tmp/one")
    bob.unlink("tmp/one")
    bob.rename("tmp/two", "tmp/bobs")
    dave.unlink("tmp/three")
    share.inside.unlink("tmp/four")
    equal("names in 'tmp'", share.same(share.directory("tmp")), ["bobs", "carols", "dir"], code="names")


@case("PERM-005", needs=["guest-root"], covers=[Tlcreate])
def test_every_user_attaches_once(share: Share) -> None:
    """With access=client each user's files belong to that user on the host, even when users alternate.
    Source: Documentation/filesystems/9p.rst access=client; Tattach.n_uname; fs/9p/fid.c v9fs_fid_lookup."""
    people = {uid: share.inside.spawn(f"u{uid}", uid=uid, gid=uid + 1000) for uid in (31001, 31002, 31003)}
    for turn in range(2):
        for uid, person in people.items():
            person.create(f"f{uid}-{turn}", b"mine", 0o600)
    for uid, person in people.items():
        for turn in range(2):
            seen = share.same(share.stat(f"f{uid}-{turn}"))
            fields(f"'f{uid}-{turn}'", seen, uid=uid, gid=uid + 1000, permissions=0o600)
            equal(
                f"content of 'f{uid}-{turn}' read by its owner",
                person.soon.slurp(f"f{uid}-{turn}"),
                b"mine",
                code="content",
            )
            for other_uid, other in people.items():
                if other_uid != uid:
                    other.refuses(EACCES).slurp(f"f{uid}-{turn}")


@case("PERM-006", needs=["guest-root", "host-root"], caches=FRESH)
def test_the_hosts_files_keep_others_out(share: Share) -> None:
    """Inside, the owners and modes that the host gave its files and directories decide who may use them.
    Source: path_resolution(7), Permissions; QEMU's manual, -fsdev security_model=passthrough: owner and mode are the
    host's."""
    share.outside.mkdir("private", 0o700)
    share.outside.create("private/fred", b"secret", 0o644)
    share.outside.create("team", b"team", 0o640)
    share.outside.chown("private", 1002, 1002)
    share.outside.chown("team", 1002, TEAM)
    bob = share.inside.spawn("bob", uid=1001, groups=[TEAM])
    bob.refuses(EACCES).open("private/fred", READ)
    bob.refuses(EACCES).open("private", READ | os.O_DIRECTORY)
    bob.refuses(EACCES).create("private/new")
    equal("content of 'team' read by a member of the group", bob.soon.slurp("team"), b"team", code="content")
    bob.refuses(EACCES).open("team", WRITE)
    carol = share.inside.spawn("carol", uid=1002)
    equal("content of 'private/fred' read by its owner", carol.soon.slurp("private/fred"), b"secret", code="content")


@case("PERM-007", needs=["guest-root"], covers=[Tlcreate])
def test_umask_of_the_maker(share: Share) -> None:
    """A process's umask is removed from the mode of what it makes, on the host too.
    Source: umask(2); POSIX open, mkdir."""
    for mask in (0, 0o022, 0o027, 0o077, 0o777):
        maker = share.inside.spawn(f"mask{mask:o}", uid=1001, umask=mask)
        maker.create(f"file{mask:o}", b"", 0o666)
        maker.mkdir(f"dir{mask:o}", 0o777)
        fields(
            f"'file{mask:o}', made with umask {mask:#o},",
            share.same(share.stat(f"file{mask:o}")),
            permissions=0o666 & ~mask,
        )
        fields(
            f"'dir{mask:o}', made with umask {mask:#o},",
            share.same(share.stat(f"dir{mask:o}")),
            permissions=0o777 & ~mask,
        )


@case("PERM-008", needs=["guest-root"], covers=[Tlopen])
def test_root_passes(share: Share) -> None:
    """Root opens files of mode 000, and lists and changes directories of mode 000.  Source: capabilities(7)
    CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH."""
    bob = share.inside.spawn("bob", uid=1001)
    bob.mkdir("d")
    bob.create("d/fred", b"secret")
    bob.chmod("d/fred", 0)
    bob.chmod("d", 0)
    equal("content of 'd/fred' inside", share.inside.soon.slurp("d/fred"), b"secret", code="content")
    fd = share.inside.open("d/fred", os.O_RDWR)
    share.inside.write(fd, b"SECRET")
    share.inside.close(fd)
    equal("content of 'd/fred' after root wrote", share.inside.soon.slurp("d/fred"), b"SECRET", code="content")
    share.inside.create("d/roots")
    equal("names in 'd'", share.same(share.directory("d")), ["fred", "roots"], code="names")


@case("PERM-009", needs=["guest-root"], covers=[Tlcreate])
def test_a_file_may_be_made_that_its_maker_cannot_reopen(share: Share) -> None:
    """open(2) with O_CREAT and mode 000, 0200 or 0444 returns a descriptor with the requested access; the next open is
    judged by the mode.
    Source: POSIX open: the mode does not affect the descriptor it returns."""
    bob = share.inside.spawn("bob", uid=1001)
    for mode in (0, 0o200, 0o444):
        fd = bob.open(f"f{mode:o}", os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        equal(f"bytes that write() to a new file of mode {mode:#o} wrote", bob.write(fd, b"written"), 7)
        equal(f"content of a new file of mode {mode:#o}", bob.soon.pread(fd, 10, 0), b"written", code="content")
        bob.close(fd)
        bob.refuses(EACCES).open(f"f{mode:o}", os.O_RDWR)
    equal("names in the directory", share.same(share.directory()), ["f0", "f200", "f444"], code="names")


@case("PERM-010", needs=["guest-root"])
def test_search_permission_on_the_whole_way(share: Share) -> None:
    """One directory in the path without search permission is enough for EACCES; one without read permission is not.
    Source: path_resolution(7)."""
    share.inside.mkdir("a")
    share.inside.mkdir("a/b")
    share.inside.mkdir("a/b/c")
    share.inside.create("a/b/c/fred", b"deep")
    bob = share.inside.spawn("bob", uid=1001)
    share.inside.chmod("a/b", 0o711)
    equal("content of 'a/b/c/fred' read by the user", bob.soon.slurp("a/b/c/fred"), b"deep", code="content")
    bob.refuses(EACCES).listdir("a/b")
    share.inside.chmod("a/b", 0o744)
    bob.refuses(EACCES).slurp("a/b/c/fred")
    bob.refuses(EACCES).stat("a/b/c")
    equal("content of 'a/b/c/fred' inside", share.inside.soon.slurp("a/b/c/fred"), b"deep", code="content")


@case("PERM-011", needs=["guest-root"], covers=[Trenameat])
def test_moving_a_directory_needs_to_write_it(share: Share) -> None:
    """Moving a directory to another parent needs write permission on it, because its ".." changes; otherwise EACCES.
    Source: rename(2) EACCES: "oldpath is a directory and does not allow write permission (needed to update
    the .. entry)"."""
    for name in ("from", "to"):
        share.inside.mkdir(name)
        share.inside.chmod(name, 0o777)
    share.inside.mkdir("from/roots")
    bob = share.inside.spawn("bob", uid=1001)
    bob.mkdir("from/bobs")
    bob.refuses(EACCES).rename("from/roots", "to/roots")
    bob.rename("from/bobs", "to/bobs")
    equal("names in 'from'", share.same(share.directory("from")), ["roots"], code="names")
    equal("names in 'to'", share.same(share.directory("to")), ["bobs"], code="names")


@case("PERM-012", needs=["guest-root"], caches=FRESH)
def test_an_owner_without_bits_is_refused_though_others_may(share: Share) -> None:
    """An owner whose own bits are clear is refused although group and other may read: classes do not add up.
    Source: POSIX 4.5: the first class that applies decides."""
    bob = share.inside.spawn("bob", uid=1001, gid=TEAM)
    bob.create("fred", b"content")
    bob.chmod("fred", 0o077)
    bob.refuses(EACCES).open("fred", READ)
    carol, dave = share.inside.spawn("carol", uid=1002, gid=1002), share.inside.spawn("dave", uid=1003, gid=TEAM)
    equal("content of 'fred' read by another user", carol.soon.slurp("fred"), b"content", code="content")
    equal("content of 'fred' read by a member of the group", dave.soon.slurp("fred"), b"content", code="content")
