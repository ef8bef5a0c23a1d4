"""What a name may be: any bytes but NUL and slash, up to 255; names that differ in one byte are different names."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EBUSY, EEXIST, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY
from typing import Any

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.outcomes import flush
from conformance.checks import equal
from conformance.vfs.pending import results
from conformance.vfs.share import Share
from protocol.messages import Tlcreate, Tlink, Tmkdir, Trenameat, Tsymlink, Tunlinkat, Twalk

GOOD = {
    "one-byte": "a",
    "bytes-255": "n" * 255,
    "utf8-255": "\u00e9" * 127 + "x",
    "three-dots": "...",
    "dot-first": ".hidden",
    "dot-last": "last.",
    "dash": "-rf",
    "space": " ",
    "spaces": " leading and trailing ",
    "tab": "a\tb",
    "newline": "a\nb",
    "return": "a\rb",
    "escape": "\x1b[31m",
    "soh": "\x01",
    "delete": "\x7f",
    "backslash": "a\\b",
    "quotes": "'\"`",
    "shell": "$(x) *?[a]~;|&<>",
    "colon": "c:name",
    "percent": "%s%n%d",
    "comma": "a=b,c",
    "utf8": "gr\u00fc\u00dfe",
    "cjk": "\u65e5\u672c\u8a9e",
    "emoji": "\U0001f600",
    "byte-ff": "\udcff",
    "byte-80": "\udc80",
    "overlong": "\udcc0\udcaf",
    "surrogate": "\udced\udca0\udc80",
    "cut-utf8": "abc\udce6\udc97",
    "latin1": "caf\udce9",
    "bytes-ff-255": "\udcff" * 255,
}
"""A name of every sort that some server has got wrong; surrogate escapes stand for bytes that are not UTF-8."""

MAKERS: dict[str, Callable[[Any, str], Any]] = {
    "create": lambda v, path: v.create(path),
    "mkdir": lambda v, path: v.mkdir(path),
    "symlink": lambda v, path: v.symlink("target", path),
    "link": lambda v, path: v.link("source", path),
    "rename": lambda v, path: v.rename("source", path),
    "mknod": lambda v, path: v.mknod(path, 0o100644),
}


@case("NAMES-001", covers=[Tlcreate, Twalk, Tunlinkat], about="agreement")
@pytest.mark.parametrize("name", GOOD.values(), ids=GOOD.keys())
def test_a_name_made_inside(share: Share, name: str) -> None:
    """A file of that name is made, found, listed, opened, renamed and removed, and the host sees the same bytes.
    Source: POSIX 3.170 Filename: "bytes composing the name shall not contain the <NUL> or <slash> characters";
    9P2000.L: names are byte strings with a length; Linux NAME_MAX 255."""
    share.inside.create(name, b"abc")
    equal("names in the case's directory", share.same(share.directory()), [name], code="names")
    equal("names in the case's directory outside", share.outside.listdir("."), [name], code="names")
    flush(share, name)
    equal(f"content of {name!r} outside", share.outside.slurp(name), b"abc", code="content")
    share.same(share.stat(name))
    share.inside.rename(name, "plain")
    share.inside.rename("plain", name)
    equal(f"content of {name!r} after renaming back and forth", share.inside.soon.slurp(name), b"abc", code="content")
    share.inside.unlink(name)
    share.gone(name)
    equal("names left in the directory", share.same(share.directory()), [], code="names")


@case("NAMES-002", covers=[Twalk], caches=FRESH, about="agreement")
@pytest.mark.parametrize("name", GOOD.values(), ids=GOOD.keys())
def test_a_name_made_outside(share: Share, name: str) -> None:
    """A file of that name made by the host is listed, found and opened inside.
    Source: POSIX 3.170 Filename; 9P2000.L Twalk wname, Rreaddir name."""
    share.outside.create(name, b"abc")
    equal("names in the case's directory inside", share.inside.soon.listdir("."), [name], code="names")
    equal(f"content of {name!r} inside", share.inside.soon.slurp(name), b"abc", code="content")
    share.same(share.stat(name))
    share.outside.rename(name, "plain")
    equal("names inside after the host renamed it", share.inside.soon.listdir("."), ["plain"], code="names")


@case("NAMES-003", covers=[Tmkdir, Tsymlink, Tlink, Trenameat, Tlcreate])
@pytest.mark.parametrize(
    "name", [GOOD["bytes-255"], GOOD["bytes-ff-255"], GOOD["newline"]], ids=["bytes-255", "bytes-ff-255", "newline"]
)
def test_every_call_takes_the_name(share: Share, name: str) -> None:
    """mkdir(2), symlink(2), link(2), rename(2) and open(2) all accept the same name, also one of 255 bytes, and also
    below a directory of that name.  Source: POSIX NAME_MAX; 9P2000.L: each message carries name[s]."""
    share.inside.create("source", b"abc")
    share.inside.mkdir(name)
    for maker in ("create", "mkdir", "symlink", "link", "rename"):
        MAKERS[maker](share.inside, f"{name}/{name}")
        equal(f"names in {name!r} after {maker}", share.same(share.directory(name)), [name], code="names")
        (share.inside.rmdir if maker == "mkdir" else share.inside.unlink)(f"{name}/{name}")
    share.inside.rmdir(name)
    equal("names left in the directory", share.same(share.directory()), [], code="names")


@case("NAMES-004")
@pytest.mark.parametrize("length", [256, 300, 4000])
def test_too_long_a_name(share: Share, length: int) -> None:
    """Every call that makes or looks up a name of 256 bytes or more fails with ENAMETOOLONG, and makes nothing.
    Source: POSIX ENAMETOOLONG "The length of a component of a pathname is longer than {NAME_MAX}"; Linux
    fs/9p/vfs_inode.c v9fs_vfs_lookup() "dentry->d_name.len > NAME_MAX"."""
    share.inside.create("source")
    name = "n" * length
    for maker in MAKERS.values():
        maker(share.inside.refuses(ENAMETOOLONG), name)
    for op in ("stat", "lstat", "open", "unlink", "rmdir", "readlink", "listdir"):
        getattr(share.inside.refuses(ENAMETOOLONG), op)(name)
    share.inside.refuses(ENAMETOOLONG).rename(name, "new")
    equal("names in the case's directory", share.same(share.directory()), ["source"], code="names")


@case("NAMES-006")
@pytest.mark.parametrize(
    ("maker", "dot", "dotdot", "empty"),
    [
        ("create", EEXIST, EEXIST, ENOENT),
        ("mkdir", EEXIST, EEXIST, ENOENT),
        ("symlink", EEXIST, EEXIST, ENOENT),
        ("link", EEXIST, EEXIST, ENOENT),
        ("mknod", EEXIST, EEXIST, ENOENT),
        ("rename", EBUSY, EBUSY, ENOENT),
    ],
    ids=["create", "mkdir", "symlink", "link", "mknod", "rename"],
)
def test_names_that_stand_for_something_else(share: Share, maker: str, dot: int, dotdot: int, empty: int) -> None:
    """ ".", "..", "/" and the empty name cannot be made: EEXIST (rename: EBUSY) and ENOENT; nothing changes.
    Source: path_resolution(7); POSIX 4.13; open(2) EEXIST with O_EXCL; Linux fs/namei.c: LAST_NORM is demanded;
    known defects: CVE-2016-7116, lib9p 9bf1392 (an empty name crashed the server)."""
    share.inside.create("source", b"abc")
    share.inside.mkdir("dir")
    for path, wanted in (("dir/.", dot), ("dir/..", dotdot), (".", dot), ("..", dotdot), ("", empty)):
        if maker == "create" and path.endswith("."):
            share.inside.refuses(EEXIST, EISDIR).create(path)
        else:
            MAKERS[maker](share.inside.refuses(wanted), path)
    equal("names in the case's directory", share.same(share.directory()), ["dir", "source"], code="names")


@case("NAMES-007")
def test_removing_what_stands_for_something_else(share: Share) -> None:
    """unlink(2) and rmdir(2) of ".", ".." and the empty name fail: EISDIR, EINVAL, ENOTEMPTY, ENOENT.
    Source: unlink(2) EISDIR, ENOENT; rmdir(2) EINVAL, ENOTEMPTY, ENOENT; Linux fs/namei.c."""
    share.inside.mkdir("dir")
    for path in ("dir/.", "dir/.."):
        share.inside.refuses(EISDIR).unlink(path)
    share.inside.refuses(EINVAL).rmdir("dir/.")
    share.inside.refuses(ENOTEMPTY).rmdir("dir/..")
    share.inside.refuses(ENOENT).unlink("")
    share.inside.refuses(ENOENT).rmdir("")
    equal("names in the case's directory", share.same(share.directory()), ["dir"], code="names")


@case("NAMES-008", covers=[Tlcreate], cached_too=True)
def test_case_makes_two_names(share: Share) -> None:
    """Names that differ only in case, or in how the same letters are composed, are different files.
    Source: POSIX 3.170 Filename, 4.8 Filename Portability: names are compared byte by byte."""
    names = ["fred", "FRED", "Fred", "\u00e9", "e\u0301", "\u00df", "ss"]
    for i, name in enumerate(names):
        share.inside.create(name, b"%d" % i)
    equal("names in the case's directory", share.same(share.directory()), sorted(names), code="names")
    for i, name in enumerate(names):
        equal(f"content of {name!r} inside", share.inside.soon.slurp(name), b"%d" % i, code="content")
    share.inside.unlink("fred")
    share.inside.refuses(ENOENT).stat("fred")
    equal("content of 'FRED' after 'fred' was removed", share.inside.soon.slurp("FRED"), b"1", code="content")


@case("NAMES-009", covers=[Tlcreate, Twalk])
def test_every_byte(share: Share) -> None:
    """Every byte but NUL and slash is a name by itself: 253 files (without "."), each found and listed.
    Source: POSIX 3.170 Filename."""
    names = [os.fsdecode(bytes([b])) for b in range(1, 256) if b not in b"/."]
    with share.without_comparison():
        for maker, made in ((share.inside, names[::8]), (share.outside, sorted({*names} - {*names[::8]}))):
            results(maker.start.create(name, name.encode(errors="surrogateescape")) for name in made)
    equal("names in the case's directory inside", share.inside.soon.listdir("."), sorted(names), code="names")
    contents = zip(names[::8], results(share.inside.start.slurp(name) for name in names[::8]), strict=True)
    wrong = [name for name, content in contents if content != name.encode(errors="surrogateescape")]
    equal("names that open a file with another content", wrong, [], code="content")


@case("NAMES-010", covers=[Twalk], cached_too=True)
def test_names_that_begin_alike(share: Share) -> None:
    """Names that differ only in their last byte or in length are different files.
    Source: POSIX 3.170 Filename; known defects: kvmtool 32832dd and similar (names truncated to a buffer's length)."""
    stem = "n" * 250
    names = [stem + end for end in ("", "1", "2", "11", "12", "12345", "12346")]
    for name in names:
        share.inside.create(name, name[-3:].encode())
    equal("names in the case's directory", share.same(share.directory()), sorted(names), code="names")
    for name in names:
        equal(f"content of {name!r} inside", share.inside.soon.slurp(name), name[-3:].encode(), code="content")


@case("NAMES-011", covers=[Tlcreate], severity="linux")
@pytest.mark.parametrize("name", [".virtfs_metadata", ".virtfs_metadata_root", "lost+found", ".9p", ".fscache"])
def test_names_that_servers_use_themselves(share: Share, name: str) -> None:
    """A name that some server uses for its own bookkeeping is a name like any other.
    Source: POSIX 3.170 Filename; QEMU refuses .virtfs_metadata with security_model=mapped-file only, known defect:
    CVE-2017-7493."""
    share.inside.create(name, b"abc")
    equal("names in the case's directory", share.same(share.directory()), [name], code="names")
    share.inside.rename(name, "plain")
    share.inside.rename("plain", name)
    share.inside.unlink(name)
    share.gone(name)


@case("NAMES-012")
def test_a_name_is_not_a_path_elsewhere(share: Share) -> None:
    """A backslash, a colon or a percent-escape in a name is part of the name and does not lead elsewhere.
    Source: POSIX: only the slash parts components; path_resolution(7)."""
    share.inside.mkdir("dir")
    share.inside.create("dir/fred", b"abc")
    for path in ("dir\\fred", "dir%2ffred", "..\\dir", "dir:fred", "%2e%2e"):
        share.inside.refuses(ENOENT).open(path)
    share.inside.create("dir\\fred", b"another")
    equal("content of 'dir/fred' inside", share.inside.soon.slurp("dir/fred"), b"abc", code="content")
    equal("names in the case's directory", share.same(share.directory()), ["dir", "dir\\fred"], code="names")


@case("NAMES-013", covers=[Twalk], caches=FRESH)
def test_a_missing_name_beside_its_likes(share: Share) -> None:
    """A look-up of a missing name that resembles an existing one fails with ENOENT each time, and does not create it.
    Source: POSIX 4.13; 9P2000.L Twalk."""
    share.inside.create("fred")
    for name in ("fre", "fredd", "fred ", "Fred", "fred.", " fred", "fred\n", "\udcff"):
        share.inside.refuses(ENOENT).lstat(name)
    share.inside.refuses(ENOTDIR).lstat("fred/")
    share.inside.symlink("fred/", "link")
    share.inside.refuses(ENOTDIR).stat("link")
    share.inside.symlink("loop", "loop")
    share.inside.refuses(ELOOP).stat("loop")
    equal("names in the case's directory", share.same(share.directory()), ["fred", "link", "loop"], code="names")
