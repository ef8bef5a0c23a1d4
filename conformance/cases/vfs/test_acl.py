"""POSIX ACLs of a share mounted with posixacl: kept, enforced, inherited, tied to the mode bits."""

from __future__ import annotations

import os
from errno import EACCES, EINVAL, ENODATA, EOPNOTSUPP, EPERM

from conformance.case import UNCACHED, case
from conformance.cases.vfs.posix_acl import ACCESS, DEFAULT, Entry, acl, decode, encode
from conformance.checks import equal, fields
from conformance.vfs.share import Share
from protocol.messages import Tlcreate, Tsetattr, Txattrcreate, Txattrwalk

BOB_RW = acl(6, 4, 0, Entry("user", 6, 1001), mask=6)


def acls_are(share: Share, path: str, **expected: bytes) -> None:
    """The file has exactly these ACLs (access, default), the same on both sides; findings show their entries."""
    seen = share.same(share.xattrs(path, "system.posix_acl_"))
    for kind, name in (("access", ACCESS), ("default", DEFAULT)):
        shown = [None if raw is None else decode(raw) for raw in (seen.get(name), expected.get(kind))]
        equal(f"{kind} ACL of {path!r}", *shown, code="xattr", attribute=name)


@case("ACL-001", covers=[Txattrcreate, Txattrwalk], needs=["acl"], mount="posixacl")
def test_an_acl_is_kept(share: Share) -> None:
    """An access ACL set inside is read back, is on the host byte for byte, and its mask is the mode's group
    bits.
    Source: acl(5), correspondence between ACL entries and file permission bits; fs/9p/acl.c
    v9fs_xattr_set_acl."""
    share.inside.create("fred", b"", 0o600)
    share.inside.setxattr("fred", ACCESS, BOB_RW)
    equal(
        f"entries of {ACCESS} of 'fred' inside",
        decode(share.inside.getxattr("fred", ACCESS)),
        decode(BOB_RW),
        code="xattr",
    )
    acls_are(share, "fred", access=BOB_RW)
    fields("'fred'", share.same(share.stat("fred")), permissions=0o660)


@case("ACL-002", covers=[Txattrcreate], needs=["acl", "guest-root"], mount="posixacl")
def test_a_named_user_is_let_in(share: Share) -> None:
    """A named user gets what the user's entry and the mask grant, another user what `other` grants.
    Source: acl(5), access check algorithm."""
    share.inside.create("fred", b"secret", 0o600)
    share.inside.setxattr("fred", ACCESS, BOB_RW)
    bob, carol = share.inside.spawn("bob", uid=1001), share.inside.spawn("carol", uid=1002)
    fd = bob.open("fred", os.O_RDWR)
    equal("content of 'fred' read by the named user", bob.soon.pread(fd, 10, 0), b"secret", code="content")
    carol.refuses(EACCES).open("fred", os.O_RDONLY)
    share.inside.setxattr("fred", ACCESS, acl(6, 4, 0, Entry("user", 6, 1001), mask=4))
    bob.open("fred", os.O_RDONLY)
    bob.refuses(EACCES).open("fred", os.O_RDWR)


@case("ACL-003", covers=[Txattrcreate], needs=["acl", "guest-root"], mount="posixacl")
def test_a_named_user_may_be_shut_out(share: Share) -> None:
    """A named user without permission is refused even if `other` has it; so is a member of a named group.
    Source: acl(5), access check algorithm: the first entry that matches decides."""
    share.inside.create("fred", b"open", 0o644)
    share.inside.setxattr("fred", ACCESS, acl(6, 4, 4, Entry("user", 0, 1001), Entry("group", 0, 5000), mask=7))
    share.inside.spawn("bob", uid=1001).refuses(EACCES).open("fred", os.O_RDONLY)
    share.inside.spawn("dave", uid=1003, groups=[5000]).refuses(EACCES).open("fred", os.O_RDONLY)
    share.inside.spawn("carol", uid=1002).open("fred", os.O_RDONLY)


@case("ACL-004", covers=[Txattrcreate], needs=["acl", "guest-root"], mount="posixacl")
def test_a_named_group_is_let_in(share: Share) -> None:
    """A member of a named group, by the primary or a supplementary group, gets what the entry grants.
    Source: acl(5), access check algorithm."""
    share.inside.create("fred", b"team", 0o600)
    share.inside.setxattr("fred", ACCESS, acl(6, 0, 0, Entry("group", 4, 5000), mask=4))
    share.inside.spawn("bob", uid=1001, gid=5000).open("fred", os.O_RDONLY)
    dave = share.inside.spawn("dave", uid=1003, groups=[7000, 5000])
    dave.open("fred", os.O_RDONLY)
    dave.refuses(EACCES).open("fred", os.O_WRONLY)
    share.inside.spawn("carol", uid=1002).refuses(EACCES).open("fred", os.O_RDONLY)


@case("ACL-005", covers=[Tsetattr], needs=["acl"], mount="posixacl", cached_too=True)
def test_chmod_changes_the_mask(share: Share) -> None:
    """chmod(2) of a file with an ACL sets the entries for owner, mask and other, and no named one.
    Source: acl(5); fs/9p/acl.c v9fs_acl_chmod."""
    share.inside.create("fred", b"", 0o600)
    share.inside.setxattr("fred", ACCESS, BOB_RW)
    share.inside.chmod("fred", 0o541)
    fields("'fred'", share.same(share.stat("fred")), permissions=0o541)
    acls_are(share, "fred", access=acl(5, 4, 1, Entry("user", 6, 1001), mask=4))


@case("ACL-006", covers=[Tlcreate, Txattrcreate], needs=["acl"], mount="posixacl", cached_too=True)
def test_files_inherit_the_default_acl(share: Share) -> None:
    """A file made in a directory with a default ACL gets it as its access ACL, limited by the requested mode; umask is
    not applied.
    Source: acl(5), object creation and default ACLs; fs/9p/acl.c v9fs_acl_mode."""
    share.inside.mkdir("d", 0o755)
    share.inside.setxattr("d", DEFAULT, acl(7, 5, 0, Entry("user", 7, 1001), mask=7))
    acls_are(share, "d", default=acl(7, 5, 0, Entry("user", 7, 1001), mask=7))
    share.inside.umask(0o077)
    share.inside.create("d/fred", b"", 0o664)
    acls_are(share, "d/fred", access=acl(6, 5, 0, Entry("user", 7, 1001), mask=6))
    fields("'d/fred'", share.same(share.stat("d/fred")), permissions=0o660)


@case("ACL-007", covers=[Txattrcreate], needs=["acl"], mount="posixacl")
def test_directories_inherit_both(share: Share) -> None:
    """A directory made in a directory with a default ACL gets it as default ACL and as access ACL.
    Source: acl(5), object creation and default ACLs."""
    default = acl(7, 5, 0, Entry("user", 7, 1001), mask=7)
    share.inside.mkdir("d", 0o755)
    share.inside.setxattr("d", DEFAULT, default)
    share.inside.mkdir("d/sub", 0o777)
    acls_are(share, "d/sub", access=default, default=default)
    fields("'d/sub'", share.same(share.stat("d/sub")), permissions=0o770)


@case("ACL-008", covers=[Txattrcreate], needs=["acl"], mount="posixacl")
def test_removal(share: Share) -> None:
    """Removing the access ACL and the default ACL leaves none on either side, and the mode bits as they were.
    Source: acl(5); removexattr(2); setfacl(1) -b and -k."""
    share.inside.mkdir("d", 0o750)
    share.inside.setxattr("d", DEFAULT, acl(7, 5, 0, Entry("user", 7, 1001), mask=7))
    share.inside.setxattr("d", ACCESS, acl(7, 5, 0, Entry("user", 7, 1001), mask=7))
    share.inside.removexattr("d", DEFAULT)
    acls_are(share, "d", access=acl(7, 5, 0, Entry("user", 7, 1001), mask=7))
    share.inside.removexattr("d", ACCESS)
    acls_are(share, "d")
    share.inside.refuses(ENODATA).getxattr("d", DEFAULT)


@case("ACL-009", needs=["acl"], mount="posixacl")
def test_bad_acls_are_refused(share: Share) -> None:
    """An ACL without its basic entries, with a named entry but no mask, in the wrong order or cut short fails
    with EINVAL, one of another version with EOPNOTSUPP; nothing changes.
    Source: setxattr(2) EINVAL; fs/posix_acl.c posix_acl_valid, posix_acl_from_xattr."""
    share.inside.create("fred", b"", 0o640)
    for bad in (
        encode(Entry("user_obj", 6), Entry("group_obj", 4)),
        acl(6, 4, 0, Entry("user", 6, 1001)),
        encode(Entry("other", 0), Entry("group_obj", 4), Entry("user_obj", 6)),
        BOB_RW[:-3],
    ):
        share.inside.refuses(EINVAL).setxattr("fred", ACCESS, bad)
    share.inside.refuses(EOPNOTSUPP).setxattr("fred", ACCESS, encode(Entry("user_obj", 6), version=7))
    acls_are(share, "fred")
    fields("'fred'", share.same(share.stat("fred")), permissions=0o640)


@case("ACL-010", needs=["acl"], mount="posixacl")
def test_a_file_has_no_default_acl(share: Share) -> None:
    """A default ACL of a file is refused.  Source: acl(5): default ACLs are of directories; fs/posix_acl.c
    set_posix_acl gives EACCES, fs/9p/acl.c v9fs_xattr_set_acl EINVAL."""
    share.inside.create("fred", b"", 0o640)
    share.inside.refuses(EACCES, EINVAL).setxattr("fred", DEFAULT, BOB_RW)
    acls_are(share, "fred")


@case(
    "ACL-011",
    covers=[Txattrwalk],
    needs=["acl", "guest-root", "passthrough-ownership"],
    mount="posixacl",
    caches=UNCACHED,
)
def test_the_hosts_acl_is_seen_and_enforced(share: Share) -> None:
    """An ACL that the host set is visible inside and decides who may open the file.
    Source: fs/9p/acl.c v9fs_get_acl; acl(5)."""
    share.outside.create("fred", b"secret", 0o600)
    share.outside.setxattr("fred", ACCESS, BOB_RW)
    equal(f"entries of {ACCESS} of 'fred' inside", share.inside.soon.getxattr("fred", ACCESS), BOB_RW, code="xattr")
    share.inside.spawn("bob", uid=1001).open("fred", os.O_RDWR)
    share.inside.spawn("carol", uid=1002).refuses(EACCES).open("fred", os.O_RDONLY)


@case("ACL-012", needs=["acl", "guest-root"], mount="posixacl")
def test_only_the_owner_sets_acls(share: Share) -> None:
    """A user who may write a file but does not own it may not change its ACL: EPERM.
    Source: acl(5), setfacl(1); fs/posix_acl.c inode_owner_or_capable."""
    share.inside.create("fred", b"", 0o600)
    share.inside.setxattr("fred", ACCESS, BOB_RW)
    bob = share.inside.spawn("bob", uid=1001)
    bob.refuses(EPERM).setxattr("fred", ACCESS, acl(6, 4, 6, Entry("user", 6, 1001), mask=6))
    bob.refuses(EPERM).removexattr("fred", ACCESS)
    acls_are(share, "fred", access=BOB_RW)


@case("ACL-013", covers=[Txattrcreate], needs=["acl"], mount="posixacl")
def test_an_acl_that_says_no_more_than_the_mode(share: Share) -> None:
    """Setting an ACL of only the three basic entries sets the mode bits and stores no ACL.
    Source: acl(5): a minimal ACL is equivalent to the permission bits; fs/posix_acl.c
    posix_acl_update_mode."""
    share.inside.create("fred", b"", 0o600)
    share.inside.setxattr("fred", ACCESS, BOB_RW)
    share.inside.setxattr("fred", ACCESS, acl(7, 5, 1))
    fields("'fred'", share.same(share.stat("fred")), permissions=0o751)
    acls_are(share, "fred")
