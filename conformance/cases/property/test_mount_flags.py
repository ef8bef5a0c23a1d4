"""The flags of the host's mount below the export: ro, nosuid, nodev, noexec, noatime.

`ro` and `noatime` limit what the server does. `nosuid`, `nodev` and `noexec` concern execution and device access by the
host's own processes: in the guest the flags of its own mount decide, and all bits and nodes pass unchanged.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES, EROFS

import pytest

from conformance.case import FRESH, UNCACHED, case
from conformance.cases.property.changing_calls import GROUPS, populate, state, unchanged
from conformance.cases.property.mounting import bound
from conformance.cases.vfs.test_exec import place, runs
from conformance.checks import equal, fields, holds
from conformance.vfs.share import Share
from protocol.messages import Tgetattr, Tlopen, Tread, Twrite

ST_NOSUID, ST_NODEV, ST_NOEXEC = 2, 4, 8
LONG_AGO = 10**18


def flags_inside(share: Share, path: str) -> int:
    """The mount flags in force where the calls inside are made: the guest's own, on a share."""
    return int(share.inside.statvfs(path)["f_flag"])


def keeps_its_bits(share: Share, mode: int) -> None:
    """Set-ID bits that inside and outside set in 'd' are there on both sides."""
    share.inside.create("d/guest")
    share.inside.chmod("d/guest", mode)
    share.outside.create("d/host")
    share.outside.chmod("d/host", mode)
    for name in ("d/guest", "d/host"):
        fields(f"{name!r} inside", share.inside.stat(name), permissions=mode)
        share.same(share.stat(name))


def guests_set_user_id(share: Share) -> None:
    """A set-user-ID program in 'd' runs as the guest's mount flags allow."""
    place(share, "id", "d/id")
    share.inside.chown("d/id", 0, 0)
    share.inside.chmod("d/id", 0o4755)
    expected = b"1001\n" if flags_inside(share, "d") & ST_NOSUID else b"0\n"
    bob = share.inside.spawn("bob", uid=1001)
    runs("a set-user-ID program", bob, ["d/id", "-u"], expected)


def devices_shown(share: Share) -> None:
    """The devices 'd/char' (1, 5) and 'd/block' (259, 70,000) show their type and numbers inside."""
    for name, kind, device in (("d/char", stat.S_IFCHR, (1, 5)), ("d/block", stat.S_IFBLK, (259, 70_000))):
        seen = share.inside.lstat(name)
        fields(f"{name!r} inside", seen, type=kind, rdev=os.makedev(*device))
        share.same(share.stat(name))


def guests_device(share: Share) -> None:
    """Opening 'd/zero' inside opens the guest's zero device, if the guest's mount allows it."""
    if flags_inside(share, "d") & ST_NODEV:
        share.inside.refuses(EACCES, because="mount(8) nodev of the guest's own mount").open("d/zero", os.O_RDWR)
        return
    fd = share.inside.open("d/zero", os.O_RDWR)
    equal("bytes read from the zero device", share.inside.read(fd, 5), bytes(5), code="content")
    equal("bytes that write() to the zero device wrote", share.inside.write(fd, b"swallowed"), 9)


@case("ROMOUNT-001", needs=["mount-namespace"], caches=FRESH)
@pytest.mark.parametrize("group", GROUPS)
def test_read_only_mount_refuses_changes(share: Share, group: str) -> None:
    """Every call that would change a directory that the host has mounted read-only fails with EROFS and changes
    nothing.
    Source: EROFS in ERRORS of the call's man page; mount(8) ro."""
    populate(share.outside)
    with bound(share, "d", "ro"):
        before = state(share)
        for call in GROUPS[group]:
            call.make(share.inside.refuses(EROFS))
            unchanged(share, before, str(call))


@case("ROMOUNT-002", needs=["mount-namespace"], covers=[Tlopen, Tread], about="agreement")
def test_read_only_mount_is_read(share: Share) -> None:
    """A directory that the host has mounted read-only can be listed and read, and agrees with the host.
    Source: mount(8) ro."""
    populate(share.outside)
    with bound(share, "d", "ro"):
        equal("names in 'd'", share.same(share.directory("d")), ["dir", "file", "link", "other"], code="names")
        fd = share.inside.open("d/file", os.O_RDONLY)
        equal("content of 'd/file' inside", share.inside.read(fd, 100), b"content", code="content")
        share.inside.close(fd)
        share.inside.close(share.inside.open("d/file", os.O_RDONLY | os.O_CREAT))
        if share.host_links:
            text = share.inside.readlink("d/link")
            equal("text of the symbolic link 'd/link' inside", text, "file", code="field:target")
        for name in ("d", "d/file", "d/dir", "d/link"):
            share.same(share.stat(name))


@case("ROMOUNT-003", needs=["mount-namespace"], covers=[Twrite], caches=UNCACHED)
def test_read_only_for_a_while(share: Share) -> None:
    """A file keeps all that was written before its mount became read-only. Meanwhile opening it for writing fails with
    EROFS; afterwards it works again, on the same file.
    Source: mount(2) MS_REMOUNT with MS_BIND: the flag is the mount's; write(2)."""
    populate(share.outside)
    fd = share.inside.open("d/file", os.O_WRONLY)
    share.inside.write(fd, b"written before")
    share.inside.close(fd)
    with bound(share, "d", "ro"):
        share.inside.refuses(EROFS).open("d/file", os.O_WRONLY)
        equal("content of 'd/file' inside", share.inside.slurp("d/file"), b"written before", code="content")
    fd = share.inside.open("d/file", os.O_WRONLY | os.O_APPEND)
    share.inside.write(fd, b" and after")
    content = share.outside.slurp("d/file")
    equal("content of 'd/file' outside", content, b"written before and after", code="content")


@case("NOSUID-001", needs=["mount-namespace"], covers=[Tgetattr], about="agreement")
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6711], ids=oct)
def test_nosuid_mount_keeps_the_bits(share: Share, mode: int) -> None:
    """On a host mount with nosuid the set-user-ID and set-group-ID bits are set, kept and shown as elsewhere.
    Source: mount(8) nosuid: only execution ignores them."""
    share.outside.mkdir("d")
    share.outside.chmod("d", 0o777)
    with bound(share, "d", "nosuid"):
        keeps_its_bits(share, mode)


@case(
    "NOSUID-002",
    needs=["mount-namespace", "guest-root"],
    covers=[Tlopen, Tread],
    severity="linux",
    about="agreement",
)
def test_nosuid_mount_of_the_host_is_the_hosts(share: Share) -> None:
    """A set-user-ID program on a host mount with nosuid runs in the guest as the guest's own mount says. Source:
    mount(8): nosuid is a flag of the host's mount, not of the guest's; execve(2)."""
    share.outside.mkdir("d")
    share.outside.chmod("d", 0o777)
    with bound(share, "d", "nosuid"):
        guests_set_user_id(share)


@case(
    "NODEV-001",
    needs=["mount-namespace", "host-root"],
    covers=[Tgetattr],
    cached_too=True,
    about="agreement",
)
def test_nodev_mount_shows_devices(share: Share) -> None:
    """Device nodes on a host mount with nodev show their type and device numbers inside.
    Source: mount(8) nodev: only access through them is refused."""
    share.outside.mkdir("d")
    share.outside.mknod("d/char", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    share.outside.mknod("d/block", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    with bound(share, "d", "nodev"):
        devices_shown(share)


@case("NODEV-002", needs=["mount-namespace", "host-root", "guest-root"], severity="linux")
def test_device_of_a_nodev_mount_is_the_guests(share: Share) -> None:
    """A device node opened in the guest is the guest's device, whatever the flags of the host's mount: the server
    never opens it.
    Source: mknod(2), NFS semantics of special files; known defect: CVE-2023-2861."""
    share.outside.mkdir("d")
    share.outside.mknod("d/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    share.outside.chmod("d/zero", 0o666)
    with bound(share, "d", "nodev"):
        guests_device(share)


@case(
    "NOEXEC-001",
    needs=["mount-namespace"],
    covers=[Tlopen, Tread],
    severity="linux",
    about="agreement",
)
def test_noexec_mount_of_the_host_is_the_hosts(share: Share) -> None:
    """A program on a host mount with noexec is executed in the guest as the guest's own mount and the file's mode
    allow. Source: mount(8): noexec is a flag of the host's mount, not of the guest's; execve(2) EACCES."""
    share.outside.mkdir("d")
    share.outside.chmod("d", 0o777)
    with bound(share, "d", "noexec"):
        place(share, "cat", "d/cat")
        share.same(share.stat("d/cat"))
        if not flags_inside(share, "d") & ST_NOEXEC:
            runs("d/cat", share.inside, ["d/cat"], b"hello", stdin=b"hello")


@case("NOATIME-001", needs=["mount-namespace"], covers=[Tread], caches=UNCACHED, about="agreement")
def test_noatime_mount(share: Share) -> None:
    """Reading files, directories and links inside leaves their access times alone where the host's mount has noatime.
    Source: mount(8) noatime."""
    _old_tree(share)
    with bound(share, "d", "noatime"):
        _read_all(share)
        for name in ("d", "d/file", "d/link"):
            fields(f"{name!r} outside", share.outside.lstat(name), atime_ns=LONG_AGO)
            share.same(share.stat(name))


@case(
    "NOATIME-002",
    needs=["mount-namespace"],
    covers=[Tread],
    caches=UNCACHED,
    severity="linux",
    about="agreement",
)
def test_strictatime_mount(share: Share) -> None:
    """Reading inside moves the access time of a file and of a directory where the host's mount has strictatime,
    and inside shows the new one.
    Source: mount(8) strictatime; POSIX read: marks st_atime for update."""
    _old_tree(share)
    with bound(share, "d", "strictatime"):
        _read_all(share)
        for name in ("d", "d/file"):
            atime = share.outside.lstat(name)["st_atime_ns"]
            holds(
                f"atime of {name!r} outside moves when it is read", atime > LONG_AGO, seen=atime, code="field:atime_ns"
            )
            share.same(share.stat(name))


def _old_tree(share: Share) -> None:
    share.outside.mkdir("d")
    share.outside.create("d/file", b"content")
    share.outside.symlink("file", "d/link")
    for name in ("d/file", "d/link", "d"):
        share.outside.utimensat(name, LONG_AGO, LONG_AGO, 0x100)  # AT_SYMLINK_NOFOLLOW


def _read_all(share: Share) -> None:
    fd = share.inside.open("d/file", os.O_RDONLY)
    equal("content of 'd/file' inside", share.inside.read(fd, 100), b"content", code="content")
    share.inside.close(fd)
    share.inside.listdir("d")
    if share.host_links:
        share.inside.readlink("d/link")
