"""The line of /etc/fstab from illumos issue 13380, mounted as a system does: by mount DIR, by mount -a, and again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES

from conformance.case import case
from conformance.cases.property.mounting import must_succeed, said
from conformance.checks import equal, fields, holds, one_of, require
from conformance.errors import Undrivable
from conformance.vfs.share import Share
from protocol.messages import Tattach, Tlcreate, Twrite

NEEDS = ["four-shares", "guest-root", "mount-tags"]
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
    share.inside.write_text(
        FSTAB, f"{before.rstrip()}\n{there.mounted.label} {there.mounted.mount_point} 9p {options} 0 0\n".lstrip()
    )
    try:
        yield there
    finally:
        share.inside.write_text(FSTAB, before)
        if shown(share, there):
            must_unmount(share, there)


def must_unmount(share: Share, there: Share) -> None:
    """Unmount as the system does."""
    must_succeed("umount", share.inside.run(["umount", there.mounted.mount_point]))


def shown(share: Share, there: Share) -> dict[str, str]:
    """The mount options of /proc/mounts, split; empty when it is not mounted there."""
    lines = [m for m in share.inside.mounts() if m[1] == there.mounted.mount_point]
    if not lines:
        return {}
    equal("source and type in /proc/mounts", (lines[-1][0], lines[-1][2]), (there.mounted.label, "9p"))
    return dict(option.partition("=")[::2] for option in lines[-1][3].split(","))


def must_mount(share: Share, *arguments: str) -> None:
    """Mount by /etc/fstab."""
    must_succeed(f"mount {' '.join(arguments)}", share.inside.run(["mount", *arguments]), code="mount")


@case("FSTAB-001", needs=NEEDS, covers=[Tattach], control=False, caches=EVERY_CACHE_ONCE)
def test_mount_by_directory(share: Share) -> None:
    """With the issue's line in /etc/fstab, `mount DIR` mounts the share with the options that the line names:
    /proc/mounts shows rw, relatime, dirsync, cache=mmap, access=client and trans=virtio, and not _netdev, which is for
    mount(8).
    Source: fstab(5), mount(8); Documentation/filesystems/9p.rst; illumos issue 13380, its fstab."""
    with line_in_fstab(share) as there:
        must_mount(share, there.mounted.mount_point)
        options = shown(share, there)
        missing = sorted({"rw", "relatime", "dirsync"} - options.keys())
        equal("options of the line that /proc/mounts does not show", missing, [], code="mount")
        holds("/proc/mounts does not show _netdev", "_netdev" not in options, seen=sorted(options), code="mount")
        cache = options.get("cache", "mmap" if "mmap" in options else "none")
        one_of("cache mode in /proc/mounts", cache, ("mmap", "5", "0x5", "00000005"), code="mount")
        for name, wanted in (("access", "client"), ("trans", "virtio"), ("uname", "root")):
            equal(
                f"{name} in /proc/mounts", options.get(name, wanted if name != "trans" else None), wanted, code="mount"
            )


@case(
    "FSTAB-002",
    needs=NEEDS,
    covers=[Tlcreate, Twrite],
    control=False,
    caches=EVERY_CACHE_ONCE,
    about="agreement",
)
def test_share_mounted_by_fstab_serves(share: Share) -> None:
    """A share mounted by the issue's line takes files, directories and changes from both sides.
    Source: POSIX open, mkdir, rename, chmod, truncate; illumos issue 13380, its procedure with stat and df on both
    sides."""
    with line_in_fstab(share) as there:
        must_mount(share, there.mounted.mount_point)
        there.inside.create("guest", b"from the guest", 0o640)
        there.outside.create("host", b"from the host")
        there.inside.mkdir("d")
        there.inside.rename("guest", "d/guest")
        there.inside.chmod("d/guest", 0o604)
        there.inside.truncate("d/guest", 4)
        equal("names in the case's directory", there.same(there.directory(".")), ["d", "host"], code="names")
        equal("content of 'host' inside", there.inside.slurp("host"), b"from the host", code="content")
        equal("content of 'd/guest' outside", there.outside.slurp("d/guest"), b"from", code="content")
        for name in (".", "d", "d/guest", "host"):
            there.same(there.stat(name))
        there.same(there.statvfs("."))


@case(
    "FSTAB-003",
    needs=NEEDS,
    covers=[Tlcreate, Twrite],
    control=False,
    caches=EVERY_CACHE_ONCE,
    about="agreement",
)
def test_cache_of_the_fstab_line(share: Share) -> None:
    """With the line's cache=mmap a file can be mapped shared and writable, and after munmap(2) and close(2), or
    msync(2), the host has what was stored.
    Source: Documentation/filesystems/9p.rst, cache=mmap; mmap(2), msync(2)."""
    with line_in_fstab(share) as there:
        must_mount(share, there.mounted.mount_point)
        there.inside.create("fred", bytes(10_000))
        fd = there.inside.open("fred", os.O_RDWR)
        handle = there.inside.mmap(fd, 10_000, 3, 1)  # PROT_READ|PROT_WRITE, MAP_SHARED
        there.inside.map_write(handle, 5000, b"stored through the mapping")
        there.inside.msync(handle)
        stored = there.outside.slurp("fred")[5000:5026]
        equal("bytes outside after msync(2)", stored, b"stored through the mapping", code="content")
        there.inside.munmap(handle)
        there.inside.close(fd)
        there.same(there.content("fred"))


@case("FSTAB-004", needs=NEEDS, covers=[Tattach], control=False, caches=EVERY_CACHE_ONCE)
def test_mount_all(share: Share) -> None:
    """`mount -a` mounts the share, and a second `mount -a` changes nothing. `mount -a -O no_netdev` skips it, as a
    system does before its network is up; `umount -a -O _netdev` unmounts it.
    Source: mount(8) -a, -O; umount(8) -O."""
    with line_in_fstab(share) as there:
        must_mount(share, "-a", "-O", "no_netdev")
        equal("mount options after mount -a -O no_netdev", shown(share, there), {}, code="mount")
        must_mount(share, "-a")
        first = shown(share, there)
        require("mount -a mounts the share", first, seen="no line in /proc/mounts", code="mount")
        must_mount(share, "-a")
        lines = [m for m in share.inside.mounts() if m[1] == there.mounted.mount_point]
        equal("number of mounts there after a second mount -a", len(lines), 1, code="mount")
        there.inside.create("fred", b"content")
        must_unmount(share, there)
        equal("mount options after umount", shown(share, there), {}, code="mount")
        must_mount(share, "-a")
        equal("content of 'fred' after a new mount", there.inside.slurp("fred"), b"content", code="content")
        equal("mount options after a new mount", shown(share, there), first, code="mount")


@case(
    "FSTAB-005",
    needs=NEEDS,
    covers=[Tlcreate],
    control=False,
    caches=EVERY_CACHE_ONCE,
    about="agreement",
)
def test_access_client_of_the_fstab_line(share: Share) -> None:
    """With the line's access=client and uname=root every user of the guest works under their own id: files belong to
    who made them, and files closed to others stay closed.
    Source: Documentation/filesystems/9p.rst, access=client: permission is checked on the client."""
    with line_in_fstab(share) as there:
        must_mount(share, there.mounted.mount_point)
        bob, carol = there.inside.spawn("bob", uid=1001), there.inside.spawn("carol", uid=1002)
        bob.create("of bob", b"secret", 0o600)
        fields("'of bob' inside", there.inside.lstat("of bob"), uid=1001)
        carol.refuses(EACCES).open("of bob", os.O_RDONLY)
        there.same(there.stat("of bob"))
        equal("content of her own file", bob.slurp("of bob"), b"secret", code="content")


@case("FSTAB-006", needs=NEEDS, control=False, caches=EVERY_CACHE_ONCE)
def test_fstab_line_with_a_wrong_tag(share: Share) -> None:
    """A line whose tag no device has fails to mount, shows that in the exit status, and does not stop other lines from
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
        equal(f"exit status of mount -a ({said(done)})", done["status"], 64)
        holds("mount -a names the tag that no device has", "no-such-tag" in said(done), seen=said(done))
        holds("the other line is mounted", shown(share, there), seen="no line in /proc/mounts", code="mount")
