"""What is exported, and by which name: through a symbolic link, under an odd name, moved or replaced while in use."""

from __future__ import annotations

import os
import stat

import pytest

from conformance.case import UNCACHED, case
from conformance.cases.property.mounting import must_succeed, said
from conformance.cases.vfs.outcomes import plain
from conformance.checks import equal, fields
from conformance.errors import Undrivable
from conformance.vfs.deployment import Device, Export
from conformance.vfs.share import Share
from protocol.messages import Tattach, Tgetattr, Tlcreate

NEEDS = ["another-device"]
BY_NAME: list[Export] = ["symlink", "odd-name"]


@case("EXPORT-001", needs=NEEDS, covers=[Tlcreate, Tgetattr], control=False, about="agreement")
@pytest.mark.parametrize("export", BY_NAME)
def test_export_by_another_name(share: Share, export: Export) -> None:
    """A directory exported through a symbolic link, or under a name with spaces, commas and letters of two bytes, is
    served like any other: files in it are made, changed, listed and removed from both sides.
    Source: QEMU's manual, -fsdev path; known defect: diod#17, export path through a symbolic link."""
    there = share.another(Device(export=export))
    there.inside.create("guest", b"from the guest", 0o640)
    there.outside.create("host", b"from the host")
    there.inside.mkdir("d")
    there.inside.symlink("guest", "link")
    there.inside.rename("guest", "d/guest")
    equal("names in the case's directory", there.same(there.directory(".")), ["d", "host", "link"], code="names")
    there.same(there.content("d/guest"))
    there.same(there.content("host"))
    for name in (".", "d", "d/guest", "host"):
        there.same(there.stat(name))
    there.inside.unlink("host")
    there.gone("host")


@case("EXPORT-002", needs=NEEDS, covers=[Tgetattr], control=False)
def test_the_root_is_the_directory(share: Share) -> None:
    """The root of a share that is exported through a symbolic link is the directory, not the link: its type, mode,
    owner and times are the directory's, and "." in it is itself.
    Source: known defect: diod#17, lstat and stat mixed; 9P2000 attach(5): the root is a directory."""
    there = share.another(Device(export="symlink"))
    fields("the path that the device exports", there.outside.lstat(there.mounted.export), type=stat.S_IFLNK)
    root, real = there.inside.lstat(there.mounted.mount_point), there.outside.lstat(there.mounted.exported)
    wanted = {name: value for name, value in plain(real).items() if name in ("mode", "uid", "gid", "nlink", "mtime_ns")}
    fields("the root inside, compared with the directory outside,", root, **wanted)
    fields("the root inside", root, type=stat.S_IFDIR)
    fields("'.' in the root inside", there.inside.lstat(f"{there.mounted.mount_point}/."), ino=root["st_ino"])


@case(
    "EXPORT-003",
    needs=NEEDS,
    covers=[Tlcreate],
    control=False,
    caches=UNCACHED,
    about="agreement",
)
def test_the_link_is_followed_once(share: Share) -> None:
    """When the symbolic link that was exported is pointed elsewhere, the share stays on the directory that the link
    named when the device started; nothing in the other directory is ever seen.
    Source: 9P2000 attach(5): the root's fid stands for one file until it is clunked; known defects: those of servers
    that follow links on the host (CVE-2016-9602)."""
    there = share.another(Device(export="symlink"))
    other = f"{there.mounted.exported}-elsewhere"
    there.outside.mkdir(other)
    try:
        there.outside.unlink(there.mounted.export)
        there.outside.symlink(other, there.mounted.export)
        there.inside.create("fred", b"content")
        equal("content of 'fred' outside", there.outside.slurp("fred"), b"content", code="content")
        equal("names in the directory that the link names now", there.outside.listdir(other), [], code="escape")
        there.inside.listdir(there.mounted.mount_point)
        there.same(there.directory("."))
    finally:
        there.outside.unlink(there.mounted.export)
        there.outside.symlink(there.mounted.exported, there.mounted.export)
        there.outside.rmtree(other)


@case("EXPORT-004", needs=NEEDS, covers=[Tlcreate], control=False, caches=UNCACHED)
def test_the_directory_is_moved_and_replaced(share: Share) -> None:
    """When the exported directory is renamed and another one takes its name, the share stays on the first; the guest's
    files move with it, and none appear in the new one.
    Source: hw/9pfs/9p-local.c local_init opens the root once; rename(2): open descriptors follow the directory."""
    there = share.another(Device(export="odd-name"))
    moved, case_directory = f"{there.mounted.exported}-moved", os.path.basename(there.outside.root)
    there.inside.create("before", b"before")
    with there.without_comparison():
        there.outside.rename(there.mounted.exported, moved)
        there.outside.mkdir(there.mounted.exported)
        try:
            fd = there.inside.open("before", os.O_RDWR)
            there.inside.create("after", b"after")
            equal("bytes that pwrite() wrote after the move", there.inside.pwrite(fd, b"BEFORE", 0), 6)
            there.inside.close(fd)
            names = there.outside.listdir(f"{moved}/{case_directory}")
            equal("names where the directory went", names, ["after", "before"], code="names")
            content = there.outside.slurp(f"{moved}/{case_directory}/before")
            equal("content of 'before' where the directory went", content, b"BEFORE", code="content")
            equal(
                "names in the directory that took its name",
                there.outside.listdir(there.mounted.exported),
                [],
                code="escape",
            )
        finally:
            there.outside.rmtree(there.mounted.exported)
            there.outside.rename(moved, there.mounted.exported)
    equal("names in the case's directory", there.same(there.directory(".")), ["after", "before"], code="names")


@case("EXPORT-005", needs=["four-shares", "mount-namespace"], covers=[Tlcreate], control=False, caches=UNCACHED)
def test_a_mount_over_the_export_is_not_seen(share: Share) -> None:
    """A file system that the host mounts on the exported directory after the device has started hides nothing from the
    guest and is not seen there; mounting the share again shows the same root.
    Source: hw/9pfs/9p-local.c local_init opens the root once; path_resolution(7)."""
    there = share.beside(1)
    there.inside.create("before", b"before")
    with there.without_comparison():
        done = there.outside.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "assay9", there.mounted.exported])
        if done["status"] != 0:
            raise Undrivable(f"mounting a tmpfs on the host: {said(done)}")
        try:
            equal("names in the case's directory inside", there.inside.listdir("."), ["before"], code="names")
            there.inside.create("after")
            equal(
                "names on the file system mounted over the export",
                there.outside.listdir(there.mounted.exported),
                [],
                code="escape",
            )
        finally:
            there.outside.run(["umount", "-l", there.mounted.exported])
    equal("names in the case's directory", there.same(there.directory(".")), ["after", "before"], code="names")


@case(
    "EXPORT-006",
    needs=["four-shares"],
    covers=[Tattach],
    control=False,
    caches=UNCACHED,
    about="agreement",
)
def test_what_changed_while_unmounted(share: Share) -> None:
    """The guest finds what the host changed in the exported directory while the share was unmounted.
    Source: 9P2000 attach(5): nothing of an earlier session is kept."""
    there = share.beside(1)
    there.inside.create("fred", b"old")
    there.inside.mkdir("gone")
    with there.without_comparison():
        must_succeed("umount", there.inside.run(["umount", there.mounted.mount_point]))
        there.outside.overwrite("fred", b"new and longer")
        there.outside.rmdir("gone")
        there.outside.create("made", b"meanwhile")
    again = share.beside(1, keep=True)
    equal(
        "content of 'fred' as the host wrote it meanwhile",
        again.inside.slurp("fred"),
        b"new and longer",
        code="content",
    )
    equal("names in the case's directory", again.same(again.directory(".")), ["fred", "made"], code="names")
    again.same(again.stat("fred"))
