"""renameat2(2) with flags, for which 9P2000.L has no field: Linux refuses them without asking the server."""

from __future__ import annotations

import stat
from errno import EEXIST, EINVAL, ENOENT

import pytest

from conformance.case import case
from conformance.cases.vfs.outcomes import works_or
from conformance.checks import equal, fields
from conformance.vfs.share import Share
from protocol.messages import Trenameat

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
BY_9P = (EINVAL,)
"""What Linux gives for any flag: fs/9p/vfs_inode.c v9fs_vfs_rename() "if (flags) return -EINVAL"; known defect:
kata runtime#1001."""


@case("RENAMEFLAGS-001", covers=[Trenameat])
def test_no_flags(share: Share) -> None:
    """renameat2(2) without flags is rename(2).  Source: rename(2) "renameat2()"."""
    share.inside.create("fred", b"abc")
    share.inside.create("george", b"replaced")
    share.inside.renameat2("fred", "george", 0)
    share.gone("fred")
    equal("content of 'george' inside", share.inside.soon.slurp("george"), b"abc", code="content")


@case("RENAMEFLAGS-002", severity="linux", cached_too=True)
def test_noreplace_of_a_taken_name(share: Share) -> None:
    """renameat2(RENAME_NOREPLACE) onto a name that is taken fails with EEXIST and replaces nothing.
    Source: rename(2) EEXIST "flags contains RENAME_NOREPLACE and newpath already exists"; Linux fs/namei.c looks at
    the name before the file system is asked."""
    share.inside.create("fred", b"abc")
    share.inside.create("george", b"stays")
    share.inside.refuses(EEXIST).renameat2("fred", "george", NOREPLACE)
    equal("content of 'george' inside", share.inside.soon.slurp("george"), b"stays", code="content")
    equal("names in the case's directory", share.same(share.directory()), ["fred", "george"], code="names")


@case("RENAMEFLAGS-003", severity="linux")
def test_noreplace_of_a_free_name(share: Share) -> None:
    """renameat2(RENAME_NOREPLACE) onto a free name renames, or fails with EINVAL and changes nothing.
    Source: rename(2) EINVAL "The filesystem does not support one of the flags in flags"; Linux fs/9p/vfs_inode.c
    v9fs_vfs_rename()."""
    share.inside.create("fred", b"abc")
    seen = works_or(share.inside, BY_9P, "renameat2", "fred", "george", NOREPLACE)
    there = "george" if seen.errno is None else "fred"
    equal("names in the case's directory", share.same(share.directory()), [there], code="names")
    equal(f"content of {there!r} inside", share.inside.soon.slurp(there), b"abc", code="content")


@case("RENAMEFLAGS-004", severity="linux", about="agreement")
@pytest.mark.parametrize("second", ["file", "directory"])
def test_exchange(share: Share, second: str) -> None:
    """renameat2(RENAME_EXCHANGE) exchanges two names, also of different kinds, or fails with EINVAL and changes
    nothing.  Source: rename(2) RENAME_EXCHANGE, EINVAL; Linux fs/9p/vfs_inode.c v9fs_vfs_rename()."""
    share.inside.create("one", b"1")
    if second == "file":
        share.inside.create("two", b"2")
    else:
        share.inside.mkdir("two")
        share.inside.create("two/fred", b"2")
    seen = works_or(share.inside, BY_9P, "renameat2", "one", "two", EXCHANGE)
    one, two = ("two", "one") if seen.errno is None else ("one", "two")
    equal("names in the case's directory", share.same(share.directory()), ["one", "two"], code="names")
    equal(f"content of {one!r}, which was 'one',", share.inside.soon.slurp(one), b"1", code="content")
    path = two if second == "file" else two + "/fred"
    equal(f"content of {path!r}, which was below 'two',", share.inside.soon.slurp(path), b"2", code="content")
    share.same(share.stat("one"))
    share.same(share.stat("two"))


@case("RENAMEFLAGS-005", severity="linux")
def test_exchange_with_a_free_name(share: Share) -> None:
    """renameat2(RENAME_EXCHANGE) fails with ENOENT where one of the names is free.
    Source: rename(2) ENOENT "flags contains RENAME_EXCHANGE and newpath does not exist"; Linux fs/namei.c."""
    share.inside.create("one", b"1")
    share.inside.refuses(ENOENT).renameat2("one", "two", EXCHANGE)
    share.inside.refuses(ENOENT).renameat2("two", "one", EXCHANGE)
    equal("names in the case's directory", share.same(share.directory()), ["one"], code="names")


@case("RENAMEFLAGS-006", severity="linux")
def test_whiteout(share: Share) -> None:
    """renameat2(RENAME_WHITEOUT) renames and leaves a whiteout (a character device 0, 0), or fails with EINVAL and
    changes nothing.  Source: rename(2) RENAME_WHITEOUT, EINVAL; Linux fs/9p/vfs_inode.c v9fs_vfs_rename()."""
    share.inside.create("fred", b"abc")
    seen = works_or(share.inside, BY_9P, "renameat2", "fred", "george", WHITEOUT)
    if seen.errno is None:
        equal("names in the case's directory", share.same(share.directory()), ["fred", "george"], code="names")
        fields("the whiteout", share.same(share.stat("fred")), type=stat.S_IFCHR, rdev=0)
    else:
        equal("names in the case's directory", share.same(share.directory()), ["fred"], code="names")


@case("RENAMEFLAGS-007", severity="linux")
@pytest.mark.parametrize("flags", [NOREPLACE | EXCHANGE, WHITEOUT | EXCHANGE, 8, 0x80000000], ids=hex)
def test_flags_that_cannot_be(share: Share, flags: int) -> None:
    """renameat2(2) fails with EINVAL for flags that exclude each other and for unknown ones, and changes nothing.
    Source: rename(2) EINVAL "An invalid flag was specified", "Both RENAME_NOREPLACE and RENAME_EXCHANGE"."""
    share.inside.create("one", b"1")
    share.inside.create("two", b"2")
    share.inside.refuses(EINVAL).renameat2("one", "two", flags)
    for name, content in (("one", b"1"), ("two", b"2")):
        equal(f"content of {name!r} inside", share.inside.soon.slurp(name), content, code="content")
