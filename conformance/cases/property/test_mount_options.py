"""Mounting: /proc/mounts shows the options that were given; what cannot be mounted is refused with a reason; a mount in
use stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EPERM, EROFS

import pytest

from conformance.case import case
from conformance.cases.property.mounting import must_succeed, said, succeeded
from conformance.cases.vfs.outcomes import has_pattern
from conformance.checks import between, equal, fields, holds, require
from conformance.errors import Undrivable
from conformance.sut.parts.guest_mount import unknown_option
from conformance.vfs.mount_options import LARGEST_MSIZE, parse
from conformance.vfs.share import Share
from protocol.messages import Tattach, Tgetattr, Tlcreate, Twrite

NEEDS = ["four-shares", "guest-root", "mount-tags"]
ONCE = ("none",)
"""These cases mount a share of their own: how the case's first one is mounted does not matter."""

ASKED = [
    "cache=none",
    "cache=readahead",
    "cache=mmap",
    "cache=loose",
    "cache=fscache",
    "msize=4096",
    "msize=8192",
    "msize=65536",
    "msize=131072",
    f"msize={LARGEST_MSIZE}",
    "access=user",
    "access=any",
    "access=0",
    "access=1001",
    "access=client",
    "version=9p2000.u,access=user",
    "posixacl",
    "cache=loose,msize=8192,posixacl",
    "cache=mmap,access=user,msize=262144",
]


@contextmanager
def unmounted(share: Share) -> Iterator[Share]:
    """A further share, not mounted. When the block ends, it is unmounted and whatever uses it inside is ended."""
    there = share.beside(1)
    _unmount(share, there)
    try:
        yield there
    finally:
        share.inside.agent.reap()
        while line(share, there):
            _unmount(share, there)


def _unmount(share: Share, there: Share) -> None:
    must_succeed("umount", share.inside.run(["umount", there.mounted.mount_point]))


def line(share: Share, there: Share) -> str:
    """The options that /proc/mounts shows for it, "" when it is not mounted."""
    return next((shown for _, at, _, shown in reversed(share.inside.mounts()) if at == there.mounted.mount_point), "")


def mount(share: Share, there: Share, options: str, tag: str = "") -> tuple[int, str]:
    """Try to mount. Returns mount's exit status and its output."""
    argv = ["mount", "-t", "9p", "-o", f"trans=virtio,{options}", tag or there.mounted.label, there.mounted.mount_point]
    done = share.inside.run(argv)
    return done["status"], said(done)


def must_mount(share: Share, there: Share, options: str) -> None:
    """Mount it. Undrivable where the target does not implement the options or the guest's kernel does not know them."""
    version = parse(",".join(part for part in options.split(",") if part.startswith("version="))).version
    if version not in share.mounted.dialects:
        raise Undrivable(f"the target declares that it does not speak {version}")
    status, why = mount(share, there, options)
    if status != 0 and "any subsequent operation failed" in why:
        # mount(8) of util-linux 2.41 looks at what it has mounted and gives up when access=UID refuses root
        share.inside.mount(there.mounted.label, there.mounted.mount_point, "9p", 0, f"trans=virtio,{options}")
    elif status != 0:
        wanted = parse("cache=none")
        if unknown := unknown_option(share.inside.agent, wanted):
            raise Undrivable(f"the guest's kernel refuses {options}: {unknown}")
        require(f"the share can be mounted with {options}", False, seen=why, code="mount", options=options)


@case("MOUNT-001", needs=NEEDS, covers=[Tattach], control=False, caches=ONCE)
@pytest.mark.parametrize("asked", ASKED)
def test_mounts_says_what_was_asked(share: Share, asked: str) -> None:
    """After mounting with these options /proc/mounts shows them, and a file can be written and read back.
    Source: Documentation/filesystems/9p.rst, OPTIONS; fs/9p/v9fs.c v9fs_show_options."""
    options = parse(asked)
    with unmounted(share) as there:
        must_mount(share, there, options.options().partition(",")[2])
        for wrong in options.contradicted_by(line(share, there)):
            holds(
                f"/proc/mounts shows the options that were asked: {wrong}", False, seen=line(share, there), code="mount"
            )
        user = there.inside.spawn("bob", uid=1001) if options.access == "1001" else there.inside
        with there.without_comparison():
            fd = user.open("fred", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            user.write_pattern(fd, 600_000, seed=5)
            if options.version == "9p2000.L":
                user.fsync(fd)
            user.close(fd)
        has_pattern("'fred' inside", user, "fred", 600_000, 5)
        has_pattern("'fred' outside", there.outside, "fred", 600_000, 5)


@case("MOUNT-002", needs=NEEDS, control=False, caches=ONCE)
def test_no_such_tag(share: Share) -> None:
    """Mounting a tag that no device has fails with ENOENT as mount(8) reports it, and mounts nothing; existing devices
    stay usable.
    Source: net/9p/trans_virtio.c p9_virtio_create ENOENT; mount(8), EXIT STATUS 32."""
    with unmounted(share) as there:
        for tag in ("no-such-tag", "share", "share11", "SHARE1"):
            status, why = mount(share, there, "version=9p2000.L", tag)
            equal(f"exit status of mount of the tag {tag!r} ({why})", status, 32)
            holds(f"mount names the tag {tag!r} that no device has", tag in why, seen=why)
            equal("mount options of a tag that no device has", line(share, there), "", code="mount")
        must_mount(share, there, "version=9p2000.L")


@case("MOUNT-003", needs=NEEDS, control=False, caches=ONCE, severity="linux")
def test_mounted_twice(share: Share) -> None:
    """A tag that is mounted cannot be mounted a second time elsewhere (EBUSY). The first mount stays usable; once it is
    unmounted, the other can succeed.
    Source: net/9p/trans_virtio.c p9_virtio_create EBUSY: one channel, one client."""
    with unmounted(share) as there:
        must_mount(share, there, "version=9p2000.L")
        there.inside.create("fred", b"content")
        share.outside.mkdir("second")
        second = f"{share.inside.root}/second"
        argv = ["mount", "-t", "9p", "-o", "trans=virtio,version=9p2000.L", there.mounted.label, second]
        done = share.inside.run(argv)
        equal(f"exit status of a second mount ({said(done)})", done["status"], 32)
        busy = "busy" in said(done) or "already mounted" in said(done)
        holds("the second mount is refused as busy", busy, seen=said(done))
        equal("content of 'fred' by the first mount", there.inside.slurp("fred"), b"content", code="content")
        _unmount(share, there)
        with share.without_comparison():
            must_succeed("mount at another place", share.inside.run(argv), code="mount")
            case_directory = there.inside.root.rpartition("/")[2]
            content = share.inside.slurp(f"{second}/{case_directory}/fred")
            succeeded("umount of the other place", share.inside.run(["umount", second]))
        equal("content of 'fred' at the other place", content, b"content", code="content")


@case("MOUNT-004", needs=NEEDS, control=False, caches=ONCE)
@pytest.mark.parametrize("use", ["file", "directory", "cwd"])
def test_a_busy_mount_stays(share: Share, use: str) -> None:
    """A share with an open file, an open directory or a process's working directory on it cannot be unmounted (EBUSY).
    It stays usable, and can be unmounted once that use has ended.
    Source: umount(2) EBUSY."""
    with unmounted(share) as there:
        must_mount(share, there, "version=9p2000.L")
        there.inside.create("fred", b"content")
        user = there.inside.spawn("user")
        if use == "cwd":
            user.chdir(there.inside.root)
        else:
            user.open("fred" if use == "file" else ".", os.O_RDONLY)
        done = share.inside.run(["umount", there.mounted.mount_point])
        equal(f"exit status of umount ({said(done)})", done["status"], 32)
        holds("umount is refused as busy", "busy" in said(done), seen=said(done))
        equal("content of 'fred' after umount was refused", there.inside.slurp("fred"), b"content", code="content")
        user.kill()
        _unmount(share, there)
        equal("mount options after umount", line(share, there), "", code="mount")


@case("MOUNT-005", needs=NEEDS, covers=[Tattach], control=False, caches=ONCE, seconds=120)
def test_mounted_again_and_again(share: Share) -> None:
    """Twenty-five mounts and unmounts in a row, with work in between, all succeed and lose nothing.
    Source: umount(2); virtio 1.1, 2.6: buffers are returned; known defect: CVE-2016-9105 and similar, references that
    leak fid by fid."""
    with unmounted(share) as there:
        for number in range(25):
            must_mount(share, there, f"version=9p2000.L,cache={('none', 'mmap', 'loose')[number % 3]}")
            with there.without_comparison():
                there.inside.create(f"f{number}", b"%d" % number)
            earlier = there.inside.slurp(f"f{number // 2}")
            equal(f"content of 'f{number // 2}' in mount {number}", earlier, b"%d" % (number // 2), code="content")
            _unmount(share, there)
    names = there.outside.listdir(".")
    equal("names outside after 25 mounts", sorted(names), sorted(f"f{number}" for number in range(25)), code="names")
    for name in names:
        equal(f"content of {name!r} outside", there.outside.slurp(name).decode(), name[1:], code="content")


@case("MOUNT-006", needs=NEEDS, covers=[Tattach], control=False, caches=ONCE)
def test_one_user_only(share: Share) -> None:
    """With access=UID that user can work on the share; every other user gets EPERM or EACCES.
    Source: Documentation/filesystems/9p.rst, access=<uid>; fs/9p/fid.c v9fs_fid_lookup_with_uid EPERM."""
    with unmounted(share) as there:
        must_mount(share, there, "version=9p2000.L,access=1001")
        with there.without_comparison():
            bob, carol = there.inside.spawn("bob", uid=1001), there.inside.spawn("carol", uid=1002)
            bob.create("fred", b"content", 0o666)
            equal("content of 'fred' read by the user who may", bob.slurp("fred"), b"content", code="content")
            refuses = carol.refuses(
                EPERM, EACCES, because="v9fs_fid_lookup_with_uid; the page says access is denied", another="linux"
            )
            refuses.open("fred", os.O_RDONLY)
            refuses.create("barney")
            refuses.listdir(".")
        equal("names in the case's directory outside", there.outside.listdir("."), ["fred"], code="names")


@case(
    "MOUNT-007",
    needs=NEEDS,
    covers=[Tattach, Tlcreate],
    control=False,
    caches=ONCE,
    about="agreement",
)
@pytest.mark.parametrize("access", ["user", "client"])
def test_every_user_attaches(share: Share, access: str) -> None:
    """With access=user and access=client each user's files belong to that user and group.
    Source: Documentation/filesystems/9p.rst, access=user: a new attach for each user; access=client."""
    with unmounted(share) as there:
        must_mount(share, there, f"version=9p2000.L,access={access}")
        for name, uid in (("bob", 1001), ("carol", 1002)):
            there.inside.spawn(name, uid=uid).create(f"of {name}", name.encode(), 0o600)
            made = there.inside.lstat(f"of {name}")
            fields(f"'of {name}' inside", made, uid=uid, gid=uid)
            there.same(there.stat(f"of {name}"))


@case("MOUNT-008", needs=NEEDS, covers=[Tgetattr], control=False, caches=ONCE)
def test_read_only_mount_of_the_guest(share: Share) -> None:
    """Mounted ro by the guest, the share refuses changes with EROFS and shows ST_RDONLY; after mount -o remount,rw it
    can be written again.
    Source: mount(2) MS_RDONLY; EROFS in access(2), open(2)."""
    with unmounted(share) as there:
        must_mount(share, there, "ro,version=9p2000.L")
        options = line(share, there)
        holds("/proc/mounts shows ro", "ro" in options.split(","), seen=options, code="mount")
        there.outside.create("fred", b"content")
        there.inside.refuses(EROFS).open("fred", os.O_WRONLY)
        there.inside.refuses(EROFS).mkdir("d")
        there.inside.refuses(EROFS).access("fred", os.W_OK)
        flags = there.inside.statvfs(".")["f_flag"]
        holds("statvfs(3) shows ST_RDONLY", flags & 1, seen=flags, code="field:flag")
        equal("content of 'fred' inside", there.inside.slurp("fred"), b"content", code="content")
        succeeded("mount -o remount,rw", share.inside.run(["mount", "-o", "remount,rw", there.mounted.mount_point]))
        there.inside.mkdir("d")


@case("MOUNT-009", needs=NEEDS, control=False, caches=ONCE, severity="linux")
@pytest.mark.parametrize("wrong", ["msize=4095", "msize=0", "cache=sometimes", "version=9p2000.X", "access=nobody"])
def test_options_that_cannot_be(share: Share, wrong: str) -> None:
    """A message size below 4096, an unknown cache mode, version or kind of access is refused: mount fails, nothing is
    mounted, and the device serves the next mount.
    Source: net/9p/client.c p9_client_create, "Please specify a msize of at least 4k"; fs/9p/v9fs.c
    v9fs_parse_options EINVAL."""
    with unmounted(share) as there:
        status, why = mount(share, there, wrong)
        equal(f"exit status of mount -o {wrong} ({why})", status, 32)
        equal(f"mount options after mount -o {wrong} failed", line(share, there), "", code="mount")
        must_mount(share, there, "version=9p2000.L")


@case("MOUNT-010", needs=NEEDS, covers=[Twrite], control=False, caches=ONCE, severity="linux")
def test_message_size_beyond_the_transport(share: Share) -> None:
    """A message size above the transport's maximum is lowered to that maximum, and /proc/mounts shows the size in use;
    large reads and writes work with it.
    Source: net/9p/client.c p9_client_create: msize is capped by the transport's maxsize; Tversion: the server answers
    with its own or less."""
    with unmounted(share) as there:
        must_mount(share, there, f"version=9p2000.L,msize={1 << 28}")
        seen = dict(part.partition("=")[::2] for part in line(share, there).split(","))
        between("msize in /proc/mounts", int(seen.get("msize", 0)), 4096, LARGEST_MSIZE, code="mount")
        with there.without_comparison():
            fd = there.inside.open("fred", os.O_RDWR | os.O_CREAT)
            there.inside.write_pattern(fd, 3 << 20, seed=3, chunk=3 << 20)
            has_pattern("'fred' inside", there.inside, fd, 3 << 20, 3)
        has_pattern("'fred' outside", there.outside, "fred", 3 << 20, 3)


@case("MOUNT-012", needs=NEEDS, control=False, caches=ONCE, severity="linux")
def test_fsync_by_the_older_protocol(share: Share) -> None:
    """fsync(2) on a share mounted with version=9p2000.u returns.
    Source: 9P2000 stat(5): a Twstat that changes nothing asks for the file to be committed, and has an Rwstat; known
    defect: unikraft#886, QEMU answers with a message of no length."""
    with unmounted(share) as there:
        must_mount(share, there, "version=9p2000.u,access=user")
        there.inside.timeout = 5.0
        with there.without_comparison():
            fd = there.inside.open("fred", os.O_RDWR | os.O_CREAT, 0o644)
            there.inside.write(fd, b"content")
            there.inside.fsync(fd)
        equal("content of 'fred' outside", there.outside.slurp("fred"), b"content", code="content")


@case("MOUNT-011", needs=NEEDS, covers=[Tattach], control=False, caches=ONCE)
def test_mounted_by_9mount(share: Share) -> None:
    """9mount(1) of the package 9mount mounts a share by its tag, and the share works.
    Source: 9mount(1): dial string virtio!CHANNEL; without -u it asks for plain 9P2000, which is not this protocol.
    Its 9umount(1) looks for an option that the kernel does not show in /proc/mounts, so that umount(8) ends it."""
    if share.inside.which("9mount") is None:
        raise Undrivable("the guest has no 9mount")
    with unmounted(share) as there:
        done = share.inside.run(["9mount", "-u", f"virtio!{there.mounted.label}", there.mounted.mount_point])
        must_succeed("9mount", done, code="mount")
        holds("/proc/mounts shows the mount", line(share, there), seen="no line", code="mount")
        with there.without_comparison():
            there.inside.create("fred", b"content")
        equal("content of 'fred' outside", there.outside.slurp("fred"), b"content", code="content")
