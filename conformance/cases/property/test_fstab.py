"""The ticket's line of /etc/fstab, mounted as a system does it: by mount DIR, by mount -a, and again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES

from conformance.case import case
from conformance.cases.property.mounting import said
from conformance.cases.vfs.outcomes import must_be_equal
from conformance.errors import Undrivable
from conformance.share import Share
from protocol.messages import Tattach, Tlcreate, Twrite

NEEDS = ["four-shares", "guest-root"]
OPTIONS = "rw,relatime,dirsync,uname=root,cache=mmap,access=client,trans=virtio,_netdev"
FSTAB = "/etc/fstab"
EVERY_CACHE_ONCE = ("none",)
"""The line says how to mount: how the case's own share is mounted does not matter."""


@contextmanager
def line_in_fstab(share: Share, options: str = OPTIONS) -> Iterator[Share]:
    """A further share, not mounted, with a line in the guest's /etc/fstab that begins with its tag."""
    there = share.beside(1)
    must_unmount(share, there)
    before = share.inside.read_text(FSTAB) if "fstab" in share.inside.listdir("/etc") else ""
    share.inside.write_text(FSTAB, f"{before.rstrip()}\n{there.label} {there.mount_point} 9p {options} 0 0\n".lstrip())
    try:
        yield there
    finally:
        share.inside.write_text(FSTAB, before)
        if shown(share, there):
            must_unmount(share, there)


def must_unmount(share: Share, there: Share) -> None:
    """Unmount as the system does."""
    done = share.inside.run(["umount", there.mount_point])
    must_be_equal("umount", (done["status"], said(done)), (0, ""))


def shown(share: Share, there: Share) -> dict[str, str]:
    """The mount options of /proc/mounts, split; empty when it is not mounted there."""
    lines = [m for m in share.inside.mounts() if m[1] == there.mount_point]
    if not lines:
        return {}
    must_be_equal("source and type", (lines[-1][0], lines[-1][2]), (there.label, "9p"))
    return dict(option.partition("=")[::2] for option in lines[-1][3].split(","))


def must_mount(share: Share, *arguments: str) -> None:
    """Mount by /etc/fstab."""
    done = share.inside.run(["mount", *arguments])
    must_be_equal(f"mount {' '.join(arguments)}", (done["status"], said(done)), (0, ""))


@case("FSTAB-001", needs=NEEDS, covers=[Tattach], control=False, caches=EVERY_CACHE_ONCE)
def test_mount_by_directory(share: Share) -> None:
    """With the ticket's line in /etc/fstab, `mount DIR` mounts the share with the options that the line names:
    /proc/mounts shows rw, relatime, dirsync, cache=mmap, access=client and trans=virtio, and not _netdev, which is for
    mount(8).
    Source: fstab(5), mount(8); Documentation/filesystems/9p.rst; illumos issue 13380, the ticket's fstab."""
    with line_in_fstab(share) as there:
        must_mount(share, there.mount_point)
        options = shown(share, there)
        assert {"rw", "relatime", "dirsync"} <= options.keys()
        assert "_netdev" not in options
        assert options.get("cache", "mmap" if "mmap" in options else "none") in ("mmap", "5", "0x5", "00000005")
        assert options.get("access", "client") == "client"
        assert options.get("trans") == "virtio"
        assert options.get("uname", "root") == "root"


@case("FSTAB-002", needs=NEEDS, covers=[Tlcreate, Twrite], control=False, caches=EVERY_CACHE_ONCE)
def test_share_mounted_by_fstab_serves(share: Share) -> None:
    """A share mounted by the ticket's line takes files, directories and changes from both sides.
    Source: illumos issue 13380, the ticket's procedure with stat and df on both sides."""
    with line_in_fstab(share) as there:
        must_mount(share, there.mount_point)
        there.inside.create("guest", b"from the guest", 0o640)
        there.outside.create("host", b"from the host")
        there.inside.mkdir("d")
        there.inside.rename("guest", "d/guest")
        there.inside.chmod("d/guest", 0o604)
        there.inside.truncate("d/guest", 4)
        assert there.same_directory(".") == ["d", "host"]
        assert there.inside.slurp("host") == b"from the host"
        assert there.outside.slurp("d/guest") == b"from"
        for name in (".", "d", "d/guest", "host"):
            there.same_stat(name)
        there.same_statvfs(".")


@case("FSTAB-003", needs=NEEDS, covers=[Tlcreate, Twrite], control=False, caches=EVERY_CACHE_ONCE)
def test_cache_of_the_fstab_line(share: Share) -> None:
    """With the line's cache=mmap a file can be mapped shared and writable, and after munmap(2) and close(2), or
    msync(2), the host has what was stored.
    Source: Documentation/filesystems/9p.rst, cache=mmap; mmap(2), msync(2)."""
    with line_in_fstab(share) as there:
        must_mount(share, there.mount_point)
        there.inside.create("fred", bytes(10_000))
        fd = there.inside.open("fred", os.O_RDWR)
        handle = there.inside.mmap(fd, 10_000, 3, 1)  # PROT_READ|PROT_WRITE, MAP_SHARED
        there.inside.map_write(handle, 5000, b"stored through the mapping")
        there.inside.msync(handle)
        assert there.outside.slurp("fred")[5000:5026] == b"stored through the mapping"
        there.inside.munmap(handle)
        there.inside.close(fd)
        there.same_content("fred")


@case("FSTAB-004", needs=NEEDS, covers=[Tattach], control=False, caches=EVERY_CACHE_ONCE)
def test_mount_all(share: Share) -> None:
    """`mount -a` mounts the line, a second `mount -a` leaves it as it is, `mount -a -O no_netdev` leaves it out, as a
    system does before its network is up; `umount -a -O _netdev` takes it away.
    Source: mount(8) -a, -O; umount(8) -O."""
    with line_in_fstab(share) as there:
        must_mount(share, "-a", "-O", "no_netdev")
        assert not shown(share, there)
        must_mount(share, "-a")
        first = shown(share, there)
        assert first
        must_mount(share, "-a")
        assert len([m for m in share.inside.mounts() if m[1] == there.mount_point]) == 1
        there.inside.create("fred", b"content")
        must_unmount(share, there)
        assert not shown(share, there)
        must_mount(share, "-a")
        assert there.inside.slurp("fred") == b"content"
        assert shown(share, there) == first


@case("FSTAB-005", needs=NEEDS, covers=[Tlcreate], control=False, caches=EVERY_CACHE_ONCE)
def test_access_client_of_the_fstab_line(share: Share) -> None:
    """With the line's access=client and uname=root every user of the guest works under her own id: her files are
    hers, and others' closed ones stay closed.
    Source: Documentation/filesystems/9p.rst, access=client: permission is checked on the client."""
    with line_in_fstab(share) as there:
        must_mount(share, there.mount_point)
        bob, carol = there.inside.spawn("bob", uid=1001), there.inside.spawn("carol", uid=1002)
        bob.create("of bob", b"secret", 0o600)
        assert there.inside.lstat("of bob")["st_uid"] == 1001
        carol.refuses(EACCES).open("of bob", os.O_RDONLY)
        there.same_stat("of bob")
        assert bob.slurp("of bob") == b"secret"


@case("FSTAB-006", needs=NEEDS, control=False, caches=EVERY_CACHE_ONCE)
def test_fstab_line_with_a_wrong_tag(share: Share) -> None:
    """A line whose tag no device has fails to mount, says so with a status of its own, and keeps no other line from
    being mounted.
    Source: mount(8), EXIT STATUS 32 and 64: some mounts failed, some succeeded; net/9p/trans_virtio.c
    p9_virtio_create ENOENT."""
    with line_in_fstab(share) as there:
        text = share.inside.read_text(FSTAB)
        with share.without_comparison():
            share.inside.mkdir("nowhere")
        share.inside.write_text(FSTAB, f"no-such-tag {share.inside.root}/nowhere 9p {OPTIONS} 0 0\n{text}")
        done = share.inside.run(["mount", "-a"])
        if b"unknown filesystem" in done["stderr"]:
            raise Undrivable("the guest's mount knows no 9p")
        must_be_equal("status", done["status"], 64)
        assert "no-such-tag" in said(done)
        assert shown(share, there)
