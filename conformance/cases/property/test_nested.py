"""Further file systems mounted on the host below the export: identity, crossing, and what must not cross."""

from __future__ import annotations

import os
from errno import EBUSY, ENODEV, EROFS, EXDEV

from conformance.case import FRESH, UNCACHED, case
from conformance.cases.property.mounting import bound, said, tmpfs, unmounted
from conformance.checks import between, equal, fields, holds
from conformance.errors import Undrivable
from conformance.vfs.deployment import Device
from conformance.vfs.pending import results
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Tgetattr, Tlink, Treaddir, Trenameat, Tstatfs, Tunlinkat, Twalk


def identities(vantage: Vantage, paths: list[str]) -> list[tuple[int, int]]:
    """What identifies a file: its device and inode number."""
    return [(seen["st_dev"], seen["st_ino"]) for seen in results(vantage.start.lstat(path) for path in paths)]


@case(
    "NESTED-001",
    needs=["mount-namespace"],
    covers=[Twalk, Treaddir, Tgetattr],
    cached_too=True,
    about="agreement",
)
def test_content_of_a_nested_mount(share: Share) -> None:
    """A directory on which the host has mounted a file system shows that file system's content: names, attributes
    and bytes, made on either side.
    Source: path_resolution(7), mount points; known defect: freebsd-fs 2025-07-22, nested datasets that show their
    parent's content."""
    with tmpfs(share, "t"):
        share.outside.create("t/host", b"made outside")
        share.inside.create("t/guest", b"made inside")
        share.inside.mkdir("t/dir")
        equal("names in 't'", share.same(share.directory("t")), ["dir", "guest", "host"], code="names")
        equal("content of 't/host' inside", share.inside.slurp("t/host"), b"made outside", code="content")
        for name in ("t", "t/host", "t/dir"):
            share.same(share.stat(name), tolerate={"atime_ns": "listing marks it"})
        equal("names in the case's directory", share.same(share.directory(".")), ["t"], code="names")


@case("NESTED-002", needs=["mount-namespace"], covers=[Tgetattr])
def test_inode_numbers_do_not_collide(share: Share) -> None:
    """Files of different file systems below one export are different files inside, even where the host gives them
    the same inode number.
    Source: POSIX <sys/stat.h>: st_ino and st_dev together identify the file; QEMU's manual, multidevs=remap; known
    defects: hugelgupf/p9#104; freebsd-fs 2025-07-22."""
    names = [f"f{n}" for n in range(10)]
    with tmpfs(share, "a"), tmpfs(share, "b"):
        for place in ("a", "b"):
            for name in names:
                share.outside.create(f"{place}/{name}", place.encode())
        paths = ["a", "b", *[f"{place}/{name}" for place in ("a", "b") for name in names]]
        theirs = identities(share.outside, paths)
        if len({inode for _, inode in theirs}) == len(paths):
            raise Undrivable("the host gives files of two new tmpfs different inode numbers")
        ours = identities(share.inside, paths)
        same = [p for p, i in zip(paths, ours, strict=True) if ours.count(i) > 1]
        equal("different files that have one st_dev and st_ino inside", same, [], code="field:ino")
        files = paths[2:]
        for path, content in zip(files, results(share.inside.start.slurp(path) for path in files), strict=True):
            equal(f"content of {path!r} inside", content, path[:1].encode(), code="content")


@case("NESTED-003", needs=["mount-namespace"], covers=[Tgetattr, Tlink])
def test_hard_links_in_a_nested_mount(share: Share) -> None:
    """Two names of one file in a nested mount are one file inside: one identity, two links.
    Source: POSIX link; <sys/stat.h> st_ino."""
    with tmpfs(share, "t"):
        share.outside.create("t/one", b"content")
        share.inside.link("t/one", "t/two")
        first, second = identities(share.inside, ["t/one", "t/two"])
        equal("st_dev and st_ino of 't/two', compared with 't/one'", second, first, code="field:ino")
        fields("'t/two'", share.same(share.stat("t/two")), nlink=2)


@case("NESTED-004", needs=["mount-namespace"], covers=[Treaddir, Tgetattr], cached_too=True)
def test_listing_agrees_with_stat(share: Share) -> None:
    """The inode number that listing a nested mount gives for an entry is the one that stat(2) gives.
    Source: readdir(3) d_ino; getdents(2)."""
    with tmpfs(share, "t"):
        for number in range(5):
            share.outside.create(f"t/f{number}")
        share.outside.mkdir("t/dir")
        for name, inode, *_ in share.inside.readdir_all("t"):
            if name not in (".", ".."):
                fields(f"'t/{name}' inside, compared with its d_ino,", share.inside.lstat(f"t/{name}"), ino=inode)


@case("NESTED-005", needs=["mount-namespace"], covers=[Trenameat, Tlink])
def test_no_rename_or_link_across(share: Share) -> None:
    """rename(2) and link(2) between two file systems below one export fail with EXDEV and change nothing, in either
    direction, for files and directories.
    Source: rename(2), link(2) EXDEV."""
    with tmpfs(share, "t"):
        for name in ("fred", "t/barney"):
            share.inside.create(name, name.encode())
        for name in ("dir", "t/room"):
            share.inside.mkdir(name)
        for source, target in (
            ("fred", "t/fred"),
            ("t/barney", "barney"),
            ("dir", "t/dir"),
            ("t/room", "room"),
            ("fred", "t/barney"),
        ):
            share.inside.refuses(EXDEV).rename(source, target)
        share.inside.refuses(EXDEV).link("fred", "t/fred")
        share.inside.refuses(EXDEV).link("t/barney", "barney")
        equal("names in the case's directory", share.same(share.directory(".")), ["dir", "fred", "t"], code="names")
        equal("names in 't'", share.same(share.directory("t")), ["barney", "room"], code="names")
        equal("content of 't/barney' inside", share.inside.slurp("t/barney"), b"t/barney", code="content")


@case("NESTED-006", needs=["mount-namespace"], covers=[Tunlinkat, Trenameat])
def test_the_mount_point_is_busy(share: Share) -> None:
    """A directory on which the host has mounted something can neither be removed nor renamed: EBUSY.
    Source: rmdir(2), rename(2) EBUSY."""
    with tmpfs(share, "t"):
        share.outside.create("t/fred", b"content")
        share.inside.refuses(EBUSY).rmdir("t")
        share.inside.refuses(EBUSY).rename("t", "elsewhere")
        equal("content of 't/fred' inside", share.inside.slurp("t/fred"), b"content", code="content")


@case("NESTED-007", needs=["mount-namespace"], covers=[Tstatfs], caches=UNCACHED)
def test_statvfs_of_a_nested_mount(share: Share) -> None:
    """statvfs(3) below a nested mount reports that file system's size and room, outside of it the export's.
    Source: statvfs(3): "the filesystem that contains" the path; illumos issue 13380: df on nested datasets."""
    with tmpfs(share, "t", "size=4m"):
        share.inside.create("t/fred", bytes(1 << 20))
        nested = share.same(share.statvfs("t/fred"))
        for name, most in (("f_blocks", 4 << 20), ("f_bfree", 3 << 20)):
            size = nested[name] * nested["f_frsize"]
            between(f"{name} below the nested mount, in bytes,", size, 0, most, code=f"field:{name.removeprefix('f_')}")
        whole = share.same(share.statvfs("."))
        size = whole["f_blocks"] * whole["f_frsize"]
        holds("the export is larger than 8 MiB", size > 8 << 20, seen=size, code="field:blocks")
        identity = share.same(share.statvfs("t"))["f_fsid"]
        holds(
            "the nested mount has an f_fsid of its own", identity != whole["f_fsid"], seen=identity, code="field:fsid"
        )


@case("NESTED-008", needs=["mount-namespace"], covers=[Twalk], caches=UNCACHED)
def test_mounting_and_unmounting_under_the_guest(share: Share) -> None:
    """When the host mounts a file system on a directory that the guest already knows, the guest sees it from then on;
    after the host unmounts it, the guest sees the directory beneath.
    Source: Documentation/filesystems/9p.rst, cache=none: nothing is kept."""
    share.outside.mkdir("d")
    share.outside.create("d/beneath", b"beneath")
    equal("names in 'd' inside", share.inside.listdir("d"), ["beneath"], code="names")
    with bound(share, "d", "nosuid"):  # the same content, another mount
        equal("content of 'd/beneath' inside", share.inside.slurp("d/beneath"), b"beneath", code="content")
    path = f"{share.outside.root}/d"
    done = share.outside.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "assay9", path])
    if done["status"] != 0:
        raise Undrivable(f"mounting a tmpfs on the host: {said(done)}")
    try:
        equal("names in 'd' inside after the host mounted there", share.inside.listdir("d"), [], code="names")
        share.inside.create("d/above", b"above")
        equal("names in 'd' outside", share.outside.listdir("d"), ["above"], code="names")
    finally:
        unmounted(share, path)
    equal("names in 'd' inside after the host unmounted", share.inside.listdir("d"), ["beneath"], code="names")
    equal("content of 'd/beneath' inside", share.inside.slurp("d/beneath"), b"beneath", code="content")


@case("NESTED-009", needs=["mount-namespace"], caches=UNCACHED)
def test_open_files_outlive_the_mount(share: Share) -> None:
    """A file opened inside before the host detached its mount (umount -l) can still be read and written.
    Source: umount(8) --lazy: the file system goes when it is no longer busy; POSIX open."""
    with tmpfs(share, "t"), share.without_comparison():
        share.inside.create("t/fred", b"content")
        fd = share.inside.open("t/fred", os.O_RDWR)
    with share.without_comparison():
        equal("content read after umount -l", share.inside.pread(fd, 100, 0), b"content", code="content")
        equal("bytes that pwrite() wrote after umount -l", share.inside.pwrite(fd, b"CONTENT", 0), 7)
        equal("content read after that write", share.inside.pread(fd, 100, 0), b"CONTENT", code="content")


@case("NESTED-010", needs=["mount-namespace"], covers=[Twalk], cached_too=True, about="agreement")
def test_mounts_in_mounts(share: Share) -> None:
    """One path crosses three nested file systems, ".." leads back out, and the working directory has the path's name.
    Source: path_resolution(7); getcwd(3)."""
    with tmpfs(share, "a"), tmpfs(share, "a/b"), tmpfs(share, "a/b/c"):
        share.inside.create("a/b/c/deep", b"deep")
        share.inside.create("a/shallow", b"shallow")
        content = share.inside.slurp("a/b/c/../../shallow")
        equal("content of 'a/b/c/../../shallow' inside", content, b"shallow", code="content")
        share.inside.chdir("a/b/c")
        equal("working directory inside", share.inside.getcwd(), f"{share.inside.root}/a/b/c")
        share.inside.chdir("/")
        share.same(share.stat("a/b/c/deep"))
        different = len(set(identities(share.inside, [".", "a", "a/b", "a/b/c"])))
        equal("number of different directories of four", different, 4, code="field:ino")


@case("NESTED-011", needs=["mount-namespace"], caches=FRESH)
def test_one_read_only_among_writable(share: Share) -> None:
    """Where one of two nested mounts is read-only, changes fail with EROFS there and work in the other.
    Source: mount(8) ro; EROFS in open(2), mkdir(2)."""
    with tmpfs(share, "a"), tmpfs(share, "b"), bound(share, "b", "ro"):
        share.inside.refuses(EROFS).create("b/fred")
        share.inside.refuses(EROFS).mkdir("b/dir")
        share.inside.create("a/fred", b"content")
        share.inside.create("fred", b"content")
        equal("names in 'a'", share.same(share.directory("a")), ["fred"], code="names")
        equal("names in 'b', which is read-only,", share.same(share.directory("b")), [], code="names")


@case(
    "NESTED-012",
    needs=["another-device", "mount-namespace"],
    control=False,
    caches=UNCACHED,
    about="agreement",
)
def test_multidevs_forbid(share: Share) -> None:
    """A device with multidevs=forbid refuses what lies on another file system with ENODEV, and serves the rest.
    Source: QEMU's manual, -fsdev multidevs=forbid; hw/9pfs/9p.c stat_to_qid."""
    there = share.another(Device(multidevs="forbid"))
    there.inside.create("fred", b"content")
    with tmpfs(there, "t"):
        with there.without_comparison():
            there.outside.create("t/hidden", b"secret")
            there.inside.refuses(ENODEV, another="varies").lstat("t")
            there.inside.refuses(ENODEV, another="varies").open("t/hidden", os.O_RDONLY)
            there.inside.refuses(ENODEV, another="varies").create("t/new")
        equal("content of 'fred' inside", there.inside.slurp("fred"), b"content", code="content")
        equal("names in 't' outside", there.outside.listdir("t"), ["hidden"], code="names")
    there.same(there.stat("t"))
