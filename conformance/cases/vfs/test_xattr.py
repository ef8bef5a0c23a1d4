"""setxattr(2), getxattr(2), listxattr(2), removexattr(2) and their f and l forms, in user, trusted and security."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import E2BIG, EACCES, EBADF, EEXIST, EINVAL, ENODATA, ENOSPC, EOPNOTSUPP, EPERM, ERANGE

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.attribute_paths import PathCall, refuse_bad_paths
from conformance.cases.vfs.outcomes import outcome
from conformance.checks import Errno, changes, equal, one_of
from conformance.vfs.share import Share
from protocol.messages import Txattrcreate, Txattrwalk

XATTR_CREATE, XATTR_REPLACE = 1, 2
XATTR_SIZE_MAX = 65536


def pattern(size: int) -> bytes:
    """Bytes that reveal misplacement."""
    return bytes((i * 31 + i // 251) % 256 for i in range(size))


def attributes_are(share: Share, path: str, expected: dict[str, bytes], prefix: str = "user.") -> None:
    """Of the attributes whose names begin with the prefix the file has exactly these, on both sides."""
    equal(f"attributes {prefix}* of {path!r}", share.same(share.xattrs(path, prefix)), expected, code="xattr")


@case("XATTR-001", covers=[Txattrcreate, Txattrwalk], needs=["xattr"], cached_too=True)
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_set_get_list_remove(share: Share, kind: str) -> None:
    """An attribute that was set is read back, listed, seen on the host, overwritten and removed.
    Source: setxattr(2), getxattr(2), listxattr(2), removexattr(2); 9P2000.L Txattrcreate, Txattrwalk."""
    if kind == "file":
        share.inside.create("x")
    else:
        share.inside.mkdir("x")
    share.inside.setxattr("x", "user.colour", b"blue")
    equal("value of user.colour of 'x' inside", share.inside.soon.getxattr("x", "user.colour"), b"blue", code="xattr")
    attributes_are(share, "x", {"user.colour": b"blue"})
    share.inside.setxattr("x", "user.colour", b"a rather long shade of green")
    longer = share.inside.getxattr("x", "user.colour")
    equal(
        "value of user.colour of 'x' after a longer one was set", longer, b"a rather long shade of green", code="xattr"
    )
    share.inside.setxattr("x", "user.colour", b"red")
    share.inside.setxattr("x", "user.shape", b"round")
    names = share.inside.listxattr("x")
    equal("names of the attributes of 'x' inside", names, ["user.colour", "user.shape"], code="xattr")
    attributes_are(share, "x", {"user.colour": b"red", "user.shape": b"round"})
    share.inside.removexattr("x", "user.colour")
    share.inside.refuses(ENODATA).getxattr("x", "user.colour")
    attributes_are(share, "x", {"user.shape": b"round"})


@case("XATTR-002", covers=[Txattrwalk], needs=["xattr"], caches=FRESH)
def test_what_the_host_sets_is_seen(share: Share) -> None:
    """An attribute that the host sets, changes and removes is seen inside at once.
    Source: getxattr(2); attributes are not cached by Linux's client (fs/9p/xattr.c)."""
    share.outside.create("fred")
    share.outside.setxattr("fred", "user.a", b"1")
    equal("value of user.a of 'fred' inside", share.inside.soon.getxattr("fred", "user.a"), b"1", code="xattr")
    share.outside.setxattr("fred", "user.a", b"twenty-two")
    share.outside.setxattr("fred", "user.b", b"")
    names = share.inside.listxattr("fred")
    equal("names of the attributes that the host has set", names, ["user.a", "user.b"], code="xattr")
    equal("value of user.a of 'fred' inside", share.inside.soon.getxattr("fred", "user.a"), b"twenty-two", code="xattr")
    equal("value of user.b of 'fred' inside", share.inside.soon.getxattr("fred", "user.b"), b"", code="xattr")
    share.outside.removexattr("fred", "user.a")
    share.inside.refuses(ENODATA).getxattr("fred", "user.a")
    equal("names after the host removed one", share.inside.soon.listxattr("fred"), ["user.b"], code="xattr")


@case("XATTR-003", covers=[Txattrcreate], needs=["xattr"], cached_too=True)
def test_create_and_replace(share: Share) -> None:
    """XATTR_CREATE fails with EEXIST for an existing attribute, XATTR_REPLACE with ENODATA for a missing one; neither
    changes anything then.
    Source: setxattr(2) EEXIST, ENODATA; Txattrcreate.flags."""
    share.inside.create("fred")
    share.inside.refuses(ENODATA).setxattr("fred", "user.a", b"1", XATTR_REPLACE)
    attributes_are(share, "fred", {})
    share.inside.setxattr("fred", "user.a", b"2", XATTR_CREATE)
    share.inside.refuses(EEXIST).setxattr("fred", "user.a", b"3", XATTR_CREATE)
    attributes_are(share, "fred", {"user.a": b"2"})
    share.inside.setxattr("fred", "user.a", b"4", XATTR_REPLACE)
    attributes_are(share, "fred", {"user.a": b"4"})


@case("XATTR-004", needs=["xattr"])
def test_unknown_flags(share: Share) -> None:
    """A flag that does not exist fails with EINVAL.  Source: setxattr(2) EINVAL."""
    share.inside.create("fred")
    share.inside.refuses(EINVAL).setxattr("fred", "user.a", b"1", 4)
    attributes_are(share, "fred", {})


@case("XATTR-005", covers=[Txattrcreate], needs=["xattr"], cached_too=True)
def test_empty_value(share: Share) -> None:
    """An attribute may have an empty value: it exists and is listed, with no bytes, on both sides.
    Source: xattr(7): "If it is defined, its value may be empty"; setxattr(2): "a zero-length value is
    permitted"."""
    share.inside.create("fred")
    share.inside.setxattr("fred", "user.empty", b"")
    equal("value of user.empty of 'fred' inside", share.inside.soon.getxattr("fred", "user.empty"), b"", code="xattr")
    equal("names of the attributes of 'fred' inside", share.inside.soon.listxattr("fred"), ["user.empty"], code="xattr")
    attributes_are(share, "fred", {"user.empty": b""})


@case("XATTR-006", covers=[Txattrcreate], needs=["xattr"])
def test_emptying_a_value_does_not_remove_it(share: Share) -> None:
    """Setting an existing attribute to an empty value leaves it there, empty.
    Source: setxattr(2); xattr(7)."""
    share.inside.create("fred")
    share.inside.setxattr("fred", "user.a", b"value")
    share.inside.setxattr("fred", "user.a", b"")
    attributes_are(share, "fred", {"user.a": b""})


@case("XATTR-007", covers=[Txattrcreate, Txattrwalk], needs=["xattr"], cached_too=True)
def test_bytes_of_a_value(share: Share) -> None:
    """A value may hold any bytes: NULs, all 256 values, line ends, in lengths around a quarter and half of a page.
    Source: xattr(7): values are "arbitrary textual or binary data"."""
    share.inside.create("fred")
    for value in (b"\0", b"\0" * 10, bytes(range(256)), b"line\nline\r\n", pattern(1023), pattern(1024), pattern(2049)):
        share.inside.setxattr("fred", "user.a", value)
        equal("value of user.a of 'fred' inside", share.inside.soon.getxattr("fred", "user.a"), value, code="xattr")
        attributes_are(share, "fred", {"user.a": value})


@case("XATTR-008", covers=[Txattrcreate], needs=["xattr"], seconds=90)
def test_values_too_large_for_the_file_system(share: Share) -> None:
    """A value of any size up to 64 KiB succeeds or fails with the errno that the host's own file system
    gives, and is whole or absent afterwards.
    Source: setxattr(2) ENOSPC, E2BIG; ext4(5): attributes of one file share a block."""
    share.outside.create("host")
    share.inside.create("guest")
    for size in (3000, 4000, 4096, 16384, XATTR_SIZE_MAX - 1, XATTR_SIZE_MAX):
        expected = outcome(share.outside, "setxattr", "host", "user.a", pattern(size))
        seen = outcome(share.inside, "setxattr", "guest", "user.a", pattern(size))
        result = Errno(seen.errno or 0)
        what = f"result of setxattr(2) of {size} bytes"
        equal(f"{what} inside, compared with outside", result, Errno(expected.errno or 0), code="errno")
        one_of(what, result, [Errno(e) for e in (0, ENOSPC, E2BIG)], code="errno")
        stored, wanted = share.same(share.xattrs("guest")).get("user.a"), share.outside.getxattr("host", "user.a")
        equal(f"value that is there after setting {size} bytes", stored, wanted, code="xattr")


@contextmanager
def _tmpfs(share: Share, name: str) -> Iterator[None]:
    """A tmpfs mounted on the host below the export: it keeps trusted.* attributes of 64 KiB."""
    share.outside.mkdir(name)
    done = share.outside.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "xattrs", share.outside.root + "/" + name]
    )
    if done["status"] != 0:
        share.need("mount-namespace", f"mounting a tmpfs on the host: {done['stderr'].decode(errors='replace')}")
    try:
        yield
    finally:
        share.outside.run(["umount", share.outside.root + "/" + name])


@case("XATTR-009", covers=[Txattrcreate, Txattrwalk], needs=["host-root", "guest-root", "xattr-trusted"])
@pytest.mark.parametrize("size", [XATTR_SIZE_MAX - 1, XATTR_SIZE_MAX], ids=["64k-1", "64k"])
def test_largest_value(share: Share, size: int) -> None:
    """A value of 64 KiB, the most that Linux allows, is set inside and read back on both sides where the
    exported file system keeps it; one byte more fails with E2BIG.
    Source: xattr(7), XATTR_SIZE_MAX; setxattr(2) E2BIG."""
    with _tmpfs(share, "t"), share.without_comparison():
        share.outside.create("t/fred")
        share.inside.setxattr("t/fred", "trusted.a", pattern(size))
        for vantage in (share.inside, share.outside):
            stored = vantage.getxattr("t/fred", "trusted.a")
            equal(f"value of trusted.a {vantage.name}", stored, pattern(size), code="xattr")
        share.inside.refuses(E2BIG).setxattr("t/fred", "trusted.a", pattern(XATTR_SIZE_MAX + 1))


@case("XATTR-010", needs=["xattr"])
def test_value_above_the_kernels_limit(share: Share) -> None:
    """A value above 64 KiB fails with E2BIG and nothing is stored.  Source: setxattr(2) E2BIG; fs/xattr.c."""
    share.inside.create("fred")
    share.inside.refuses(E2BIG).setxattr("fred", "user.a", pattern(XATTR_SIZE_MAX + 1))
    attributes_are(share, "fred", {})


@case("XATTR-011", covers=[Txattrcreate, Txattrwalk], needs=["xattr"], seconds=90)
def test_many_attributes(share: Share) -> None:
    """40 attributes of one file are all listed and read; the list is the host's.
    Source: listxattr(2); Txattrwalk with an empty name; known defect: CVE-2017-8086."""
    share.inside.create("fred")
    with share.without_comparison():
        share.inside.repeat(40, "setxattr", "fred", "user.n%d", b"v")
    names = {f"user.n{i}" for i in range(40)}
    equal("names of the attributes of 'fred' inside", set(share.inside.listxattr("fred")), names, code="xattr")
    attributes_are(share, "fred", dict.fromkeys(names, b"v"))
    with share.without_comparison():
        share.inside.repeat(40, "removexattr", "fred", "user.n%d")
    attributes_are(share, "fred", {})


@case("XATTR-012", covers=[Txattrwalk], needs=["xattr"])
def test_sizes_of_buffers(share: Share) -> None:
    """With a size of 0 getxattr(2) and listxattr(2) return the length, with a smaller size they fail
    with ERANGE, with the exact one they work.
    Source: getxattr(2), listxattr(2) ERANGE; known defect: CVE-2017-15038."""
    share.inside.create("fred")
    share.inside.setxattr("fred", "user.a", b"12345")
    for size in (0, 5, 4096):
        got = share.inside.getxattr_size("fred", "user.a", size)
        equal(f"length that getxattr(2) returned for a buffer of {size}", got, 5, code="xattr")
    share.inside.refuses(ERANGE).getxattr_size("fred", "user.a", 4)
    length = len("user.a") + 1
    for size in (0, length):
        got = share.inside.listxattr_size("fred", size)
        equal(f"length that listxattr(2) returned for a buffer of {size}", got, length, code="xattr")
    share.inside.refuses(ERANGE).listxattr_size("fred", length - 1)


@case("XATTR-013", covers=[Txattrwalk], needs=["xattr"], cached_too=True)
def test_missing_attributes(share: Share) -> None:
    """Reading or removing an attribute that is not there fails with ENODATA; a file without any lists none.
    Source: getxattr(2), removexattr(2) ENODATA; known defect: GitLab qemu#1010, ENOATTR passed on
    untranslated."""
    share.inside.create("fred")
    share.inside.refuses(ENODATA).getxattr("fred", "user.a")
    share.inside.refuses(ENODATA).removexattr("fred", "user.a")
    listed = [n for n in share.inside.listxattr("fred") if n.startswith("user.")]
    equal("names of the attributes of a file without any", listed, [], code="xattr")
    share.inside.setxattr("fred", "user.a", b"1")
    share.inside.refuses(ENODATA).getxattr("fred", "user.aa")
    share.inside.refuses(ENODATA).getxattr("fred", "user.A")
    share.inside.refuses(ENODATA).removexattr("fred", "user.b")
    attributes_are(share, "fred", {"user.a": b"1"})


@case("XATTR-014", needs=["xattr"])
def test_names(share: Share) -> None:
    """A name of 255 bytes works, one of 256 and an empty one fail with ERANGE, one without a namespace with
    EOPNOTSUPP, a bare namespace with EINVAL.  Source: xattr(7) XATTR_NAME_MAX; setxattr(2); fs/xattr.c."""
    share.inside.create("fred")
    longest = "user." + "n" * 250
    share.inside.setxattr("fred", longest, b"1")
    equal("names of the attributes of 'fred' inside", share.inside.soon.listxattr("fred"), [longest], code="xattr")
    attributes_are(share, "fred", {longest: b"1"})
    share.inside.refuses(ERANGE).setxattr("fred", longest + "n", b"1")
    share.inside.refuses(ERANGE).getxattr("fred", longest + "n")
    share.inside.refuses(ERANGE).setxattr("fred", "", b"1")
    share.inside.refuses(EOPNOTSUPP).setxattr("fred", "nonamespace", b"1")
    share.inside.refuses(EOPNOTSUPP).setxattr("fred", "unknown.name", b"1")
    share.inside.refuses(EINVAL).setxattr("fred", "user.", b"1")
    attributes_are(share, "fred", {longest: b"1"})


@case("XATTR-015", covers=[Txattrcreate, Txattrwalk], needs=["xattr"])
def test_bytes_of_a_name(share: Share) -> None:
    """A name may hold any bytes after its namespace: dots, spaces, control characters, UTF-8.
    Source: xattr(7): a null-terminated string; 9P2000.L strings are counted bytes."""
    share.inside.create("fred")
    names = ["user.a.b.c", "user. with space", "user.tab\there", "user.größe", "user.=,;/"]
    for name in names:
        share.inside.setxattr("fred", name, name.encode())
        equal(
            f"value of {name!r} of 'fred' inside", share.inside.soon.getxattr("fred", name), name.encode(), code="xattr"
        )
    attributes_are(share, "fred", {n: n.encode() for n in names})


@case("XATTR-016", covers=[Txattrcreate, Txattrwalk], needs=["xattr"], cached_too=True)
def test_through_descriptors(share: Share) -> None:
    """The f forms work on files opened in any mode and on directories, with EBADF for O_PATH and closed
    descriptors.
    Source: fsetxattr(2), fgetxattr(2), flistxattr(2), fremovexattr(2); open(2) O_PATH."""
    share.inside.create("fred")
    share.inside.mkdir("d")
    for name, flags in (
        ("fred", os.O_RDONLY),
        ("fred", os.O_WRONLY),
        ("fred", os.O_RDWR),
        ("d", os.O_RDONLY | os.O_DIRECTORY),
    ):
        fd = share.inside.open(name, flags)
        share.inside.fsetxattr(fd, "user.a", b"through fd")
        equal(
            f"value of user.a of {name!r} through a descriptor",
            share.inside.soon.fgetxattr(fd, "user.a"),
            b"through fd",
            code="xattr",
        )
        equal(
            f"names of the attributes of {name!r} through a descriptor",
            share.inside.soon.flistxattr(fd),
            ["user.a"],
            code="xattr",
        )
        attributes_are(share, name, {"user.a": b"through fd"})
        share.inside.fremovexattr(fd, "user.a")
        share.inside.refuses(ENODATA).fgetxattr(fd, "user.a")
        share.inside.close(fd)
    path = share.inside.open("fred", os.O_PATH)
    share.inside.refuses(EBADF).fsetxattr(path, "user.a", b"1")
    share.inside.refuses(EBADF).fgetxattr(path, "user.a")
    share.inside.refuses(EBADF).flistxattr(999)
    share.inside.refuses(EBADF).fremovexattr(999, "user.a")


@case("XATTR-017", covers=[Txattrcreate], needs=["xattr"])
def test_links_are_followed(share: Share) -> None:
    """The plain forms follow a symbolic link; the l forms with a user attribute fail with EPERM, because links have
    none.
    Source: setxattr(2); xattr(7): user attributes for regular files and directories only."""
    share.inside.create("target")
    share.inside.symlink("target", "link")
    share.inside.setxattr("link", "user.a", b"1")
    attributes_are(share, "target", {"user.a": b"1"})
    equal("value of user.a through the link", share.inside.soon.getxattr("link", "user.a"), b"1", code="xattr")
    share.inside.refuses(EPERM).setxattr("link", "user.b", b"1", follow_symlinks=False)
    share.inside.refuses(EPERM).removexattr("link", "user.a", follow_symlinks=False)
    share.inside.refuses(ENODATA, because="fs/xattr.c xattr_permission, reading").getxattr(
        "link", "user.a", follow_symlinks=False
    )
    attributes_are(share, "target", {"user.a": b"1"})


@case("XATTR-018", needs=["xattr", "host-root"])
def test_user_attributes_of_special_files(share: Share) -> None:
    """A user attribute of a fifo fails with EPERM to set and ENODATA to read.
    Source: xattr(7): user attributes for regular files and directories only; fs/xattr.c xattr_permission."""
    share.outside.mkfifo("pipe")
    share.inside.refuses(EPERM).setxattr("pipe", "user.a", b"1")
    share.inside.refuses(ENODATA).getxattr("pipe", "user.a")


@case("XATTR-019", covers=[Txattrcreate, Txattrwalk], needs=["guest-root", "host-root", "xattr-trusted"])
@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_trusted_attributes(share: Share, kind: str) -> None:
    """Root sets, reads and removes trusted.* of files, directories and symbolic links themselves.
    Source: xattr(7), trusted extended attributes; lsetxattr(2)."""
    if kind == "symlink":
        share.inside.symlink("nobody", "x")
    elif kind == "directory":
        share.inside.mkdir("x")
    else:
        share.inside.create("x")
    share.inside.setxattr("x", "trusted.overlay.opaque", b"y", follow_symlinks=False)
    value = share.inside.getxattr("x", "trusted.overlay.opaque", follow_symlinks=False)
    equal("value of trusted.overlay.opaque of 'x' inside", value, b"y", code="xattr")
    attributes_are(share, "x", {"trusted.overlay.opaque": b"y"}, "trusted.")
    share.inside.removexattr("x", "trusted.overlay.opaque", follow_symlinks=False)
    attributes_are(share, "x", {}, "trusted.")


@case("XATTR-020", needs=["guest-root"])
def test_trusted_attributes_are_roots(share: Share) -> None:
    """An ordinary user may not set or remove trusted.* (EPERM) and does not see any (ENODATA).
    Source: xattr(7): CAP_SYS_ADMIN; fs/xattr.c xattr_permission."""
    bob = share.inside.spawn("bob", uid=1001)
    bob.create("fred")
    bob.refuses(EPERM).setxattr("fred", "trusted.a", b"1")
    bob.refuses(EPERM).removexattr("fred", "trusted.a")
    bob.refuses(ENODATA).getxattr("fred", "trusted.a")
    kept = [n for n in share.outside.listxattr("fred") if n.startswith("trusted.")]
    equal("trusted attributes of 'fred' outside", kept, [], code="xattr")


@case("XATTR-021", covers=[Txattrcreate, Txattrwalk], needs=["guest-root", "host-root", "xattr-security"])
def test_security_attributes(share: Share) -> None:
    """Root sets, reads and removes an attribute of the security namespace.
    Source: xattr(7), security extended attributes; fs/9p/xattr.c v9fs_xattr_security_handler."""
    share.inside.create("fred")
    share.inside.setxattr("fred", "security.assay9", b"label")
    value = share.inside.getxattr("fred", "security.assay9")
    equal("value of security.assay9 of 'fred' inside", value, b"label", code="xattr")
    attributes_are(share, "fred", {"security.assay9": b"label"}, "security.assay9")
    share.inside.removexattr("fred", "security.assay9")
    attributes_are(share, "fred", {}, "security.assay9")


CAP_NET_RAW_EP = b"\x01\x00\x00\x02" + b"\x00\x20\x00\x00" + b"\x00" * 12
"""struct vfs_cap_data, revision 2, effective, CAP_NET_RAW permitted: what package managers give ping."""


@case("XATTR-022", covers=[Txattrcreate, Txattrwalk], needs=["guest-root", "host-root", "xattr-security"])
def test_file_capabilities(share: Share) -> None:
    """Root gives a program file capabilities and reads them back, as package managers do.
    Source: capabilities(7), File capabilities; known defect: kata-containers tests#2358, dnf update fails on
    a share."""
    share.inside.create("ping", b"", 0o755)
    share.inside.setxattr("ping", "security.capability", CAP_NET_RAW_EP)
    value = share.inside.getxattr("ping", "security.capability")
    equal("value of security.capability of 'ping' inside", value, CAP_NET_RAW_EP, code="xattr")
    attributes_are(share, "ping", {"security.capability": CAP_NET_RAW_EP}, "security.capability")


@case("XATTR-023", needs=["xattr", "guest-root"], cached_too=True)
def test_permission_to_write_and_to_read(share: Share) -> None:
    """Setting a user attribute needs write permission on the file, reading one needs read permission; otherwise EACCES.
    Source: xattr(7), user extended attributes; setxattr(2), getxattr(2) EACCES."""
    share.inside.create("fred")
    share.inside.setxattr("fred", "user.a", b"1")
    bob = share.inside.spawn("bob", uid=1001)
    share.inside.chmod("fred", 0o604)
    equal("value of user.a that one who may read reads", bob.soon.getxattr("fred", "user.a"), b"1", code="xattr")
    bob.refuses(EACCES).setxattr("fred", "user.a", b"2")
    bob.refuses(EACCES).removexattr("fred", "user.a")
    share.inside.chmod("fred", 0o602)
    bob.refuses(EACCES).getxattr("fred", "user.a")
    bob.setxattr("fred", "user.a", b"3")
    equal("names of the attributes that one who may write lists", bob.soon.listxattr("fred"), ["user.a"], code="xattr")
    attributes_are(share, "fred", {"user.a": b"3"})


@case("XATTR-024", needs=["xattr", "guest-root"])
def test_sticky_directories(share: Share) -> None:
    """Only the owner may set a user attribute of a sticky directory: EPERM for others with write permission.
    Source: xattr(7): "sticky directories"; fs/xattr.c xattr_permission."""
    share.inside.mkdir("d")
    share.inside.chmod("d", 0o1777)
    bob = share.inside.spawn("bob", uid=1001)
    bob.refuses(EPERM).setxattr("d", "user.a", b"1")
    share.inside.chmod("d", 0o777)
    bob.setxattr("d", "user.a", b"2")
    attributes_are(share, "d", {"user.a": b"2"})


@case("XATTR-025", covers=[Txattrwalk], needs=["xattr"], about="agreement")
@pytest.mark.parametrize(
    "call",
    [
        PathCall("setxattr", ("user.a", b"1")),
        PathCall("getxattr", ("user.a",)),
        PathCall("listxattr"),
        PathCall("removexattr", ("user.a",)),
    ],
    ids=str,
)
def test_path_errors(share: Share, call: PathCall) -> None:
    """The calls on attributes of a bad path fail with ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG or EACCES.
    Source: setxattr(2) ERRORS: "the errors documented in stat(2) can also occur"."""
    share.inside.create("other")
    share.inside.setxattr("other", "user.a", b"1")
    share.inside.getxattr("other", "user.a")
    refuse_bad_paths(share, call)


@case("XATTR-026", needs=["xattr"], covers=[Txattrcreate])
def test_attributes_belong_to_the_file(share: Share) -> None:
    """Attributes stay with the file through rename, are shared by its names and disappear with it.
    Source: xattr(7): attributes are associated with inodes."""
    share.inside.create("fred")
    share.inside.link("fred", "barney")
    share.inside.setxattr("barney", "user.a", b"1")
    share.inside.rename("fred", "wilma")
    attributes_are(share, "wilma", {"user.a": b"1"})
    attributes_are(share, "barney", {"user.a": b"1"})
    share.inside.unlink("wilma")
    share.inside.unlink("barney")
    share.inside.create("wilma")
    attributes_are(share, "wilma", {})


@case("XATTR-027", needs=["xattr"], covers=[Txattrcreate])
def test_setting_leaves_the_data_alone(share: Share) -> None:
    """Setting and removing attributes changes neither content, size, mode nor mtime.
    Source: setxattr(2); inode(7)."""
    share.inside.create("fred", b"content", 0o640)
    before, content = share.same(share.stat("fred")), share.same(share.content("fred"))
    share.inside.setxattr("fred", "user.a", pattern(2000))
    share.inside.removexattr("fred", "user.a")
    may = {"ctime_ns", "blocks", "atime_ns"}
    changes("'fred' by setxattr(2) and removexattr(2)", before, share.same(share.stat("fred")), may=may)
    equal("size and SHA-256 of 'fred' after them", share.same(share.content("fred")), content, code="content")
