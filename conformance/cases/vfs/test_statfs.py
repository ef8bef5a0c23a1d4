"""statfs(2), fstatfs(2), statvfs(3): the exported file system's size, space and limits as the guest sees them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from errno import EBADF, ENAMETOOLONG
from typing import Any

import pytest

from conformance.case import WRITE_THROUGH, case
from conformance.cases.vfs.attribute_paths import PathCall, refuse_bad_paths
from conformance.checks import between, equal, holds
from conformance.vfs.share import Share
from protocol.messages import Tstatfs

FIXED = ("f_blocks", "f_files", "f_namemax", "f_fsid", "f_bsize", "f_frsize")
"""What does not move while other processes use the disk."""


def same_file_system(what: str, seen: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    """Both statvfs results describe one file system."""
    for name in FIXED:
        equal(f"{name} of {what}", seen[name], whole[name], code=f"field:{name.removeprefix('f_')}")


@case("STATFS-001", covers=[Tstatfs], cached_too=True, about="agreement")
def test_statvfs_agrees(share: Share) -> None:
    """statvfs(3) agrees with the host's: total, free and available space in bytes, inodes, longest name, id.
    Source: POSIX <sys/statvfs.h>; 9P2000.L Rstatfs."""
    share.inside.statvfs(".")
    share.same(share.statvfs("."))


@case("STATFS-002", covers=[Tstatfs], about="agreement")
def test_any_file_will_do(share: Share) -> None:
    """statfs(2) of a file, a directory, a link to one and an open descriptor all show the same file system.
    Source: statfs(2): "any file within the mounted filesystem"."""
    share.inside.create("fred")
    share.inside.mkdir("d")
    share.inside.symlink("fred", "link")
    whole = share.inside.statvfs(".")
    seen = [share.inside.statvfs(name) for name in ("fred", "d", "link")]
    for name, flags in (("fred", os.O_RDWR), ("d", os.O_RDONLY), ("fred", os.O_PATH)):
        seen.append(share.inside.fstatvfs(share.inside.open(name, flags)))
    asked = ("'fred'", "'d'", "'link'", "'fred' open for writing", "'d' open", "'fred' opened with O_PATH")
    for name, one in zip(asked, seen, strict=True):
        same_file_system(f"the file system of {name}, compared with that of '.',", one, whole)
    share.same(share.statvfs("fred"))
    share.same(share.statvfs("d"))


@case("STATFS-003", covers=[Tstatfs], severity="varies")
def test_type_is_the_hosts(share: Share) -> None:
    """f_type of statfs(2) is the exported file system's magic number.
    Source: QEMU hw/9pfs/9p.c v9fs_fill_statfs passes it on; diod gives V9FS_MAGIC unless configured
    statfs_passthru."""
    types = [share.inside.statfs(".")["f_type"], share.outside.statfs(".")["f_type"]]
    equal("f_type inside, compared with outside", *map(hex, types), code="field:type")


@case("STATFS-004", covers=[Tstatfs])
def test_statfs_itself(share: Share) -> None:
    """In the kernel's struct sizes are positive, available never exceeds free, free never exceeds total, for blocks and
    inodes alike.
    Source: statfs(2)."""
    seen = share.inside.statfs(".")
    for name in ("f_bsize", "f_frsize"):
        holds(f"{name} is positive", seen[name] > 0, seen=seen[name], code=f"field:{name.removeprefix('f_')}")
    for name, most in (("f_bavail", "f_bfree"), ("f_bfree", "f_blocks"), ("f_ffree", "f_files")):
        between(f"{name}, at most {most},", seen[name], 0, seen[most], code=f"field:{name.removeprefix('f_')}")
    longest = share.outside.statfs(".")["f_namelen"]
    equal("f_namelen inside, compared with outside", seen["f_namelen"], longest, code="field:namelen")


@case("STATFS-005", covers=[Tstatfs], cached_too=True)
def test_longest_name_is_true(share: Share) -> None:
    """A name of f_namemax bytes can be made; a name one byte longer fails with ENAMETOOLONG.
    Source: statvfs(3) f_namemax; POSIX NAME_MAX, pathconf _PC_NAME_MAX; 9P2000.L Rstatfs namelen[4]."""
    longest = share.inside.statvfs(".")["f_namemax"]
    share.inside.create("x" * longest)
    share.inside.refuses(ENAMETOOLONG).create("x" * (longest + 1))
    equal("names in the case's directory", share.same(share.directory(".")), ["x" * longest], code="names")


@case("STATFS-006", covers=[Tstatfs], caches=WRITE_THROUGH, about="agreement")
def test_free_space_follows_what_is_written(share: Share) -> None:
    """After 16 MiB were written and synced, and after they were removed, free space agrees with the host's.
    Source: statvfs(3) f_bfree; illumos issue 13380: df inside and outside."""
    share.inside.create("fred")
    fd = share.inside.open("fred", os.O_WRONLY)
    share.inside.write_pattern(fd, 16 << 20)
    share.inside.fsync(fd)
    share.inside.statvfs(".")
    share.same(share.statvfs("."))
    share.inside.close(fd)
    share.inside.unlink("fred")
    share.same(share.statvfs("."))


@case("STATFS-007", needs=["guest-root"], covers=[Tstatfs])
def test_an_ordinary_user_may_ask(share: Share) -> None:
    """statfs(2) needs only search permission on the path: a user who may not read the file gets the same result.
    Source: statfs(2) EACCES."""
    share.inside.create("fred")
    share.inside.chmod("fred", 0)
    ours, theirs = share.inside.statvfs("fred"), share.inside.spawn("bob", uid=1001).statvfs("fred")
    same_file_system("the file system that a user is shown, compared with root,", theirs, ours)


@case("STATFS-008", about="agreement")
@pytest.mark.parametrize("call", [PathCall("statvfs"), PathCall("statfs")], ids=str)
def test_path_errors(share: Share, call: PathCall) -> None:
    """statfs(2) of a bad path fails with ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG or EACCES.
    Source: statfs(2) ERRORS."""
    refuse_bad_paths(share, call)


@case("STATFS-009")
def test_bad_descriptor(share: Share) -> None:
    """fstatvfs(3) of a closed descriptor fails with EBADF.  Source: fstatvfs(3), statfs(2) EBADF."""
    fd = share.inside.open(".", os.O_RDONLY)
    share.inside.close(fd)
    share.inside.refuses(EBADF).fstatvfs(fd)


@case("STATFS-010", covers=[Tstatfs])
def test_every_call_asks_the_server(share: Share) -> None:
    """The identity and the totals stay the same from call to call.
    Source: statvfs(3) f_fsid; known defect: diod issue 119, wrong fsid in Rstatfs."""
    first = share.inside.statfs(".")
    for _ in range(5):
        again = share.inside.statfs(".")
        for name in ("f_type", "f_blocks", "f_files", "fsid0", "fsid1"):
            code = f"field:{name.removeprefix('f_')}"
            equal(f"{name} of a later call, compared with the first", again[name], first[name], code=code)
