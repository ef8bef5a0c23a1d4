"""mount(2), umount2(2), and sessions: versions, users, flushed requests, other dialects.

The run's share stays mounted; these cases mount a second one, with the tag share1, on their own directory.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EBUSY, EINVAL, ENOENT, EPERM, EROFS
from typing import Any

import pytest

from conformance.case import UNCACHED, case
from conformance.cases.vfs.outcomes import has_pattern, outcome
from conformance.checks import Errno, changes, equal, fields
from conformance.errors import Undrivable
from conformance.vfs.share import Share
from protocol.messages import (
    Tattach,
    Tclunk,
    Tflush,
    Tfsync,
    Tgetattr,
    Tread,
    Tremove,
    Tversion,
    Twalk,
)

TAG = "share1"
WHERE = "/mnt/scratch"
MS_RDONLY, MS_REMOUNT, MNT_DETACH = 1, 32, 2


@contextmanager
def mounted(share: Share, options: str = "", flags: int = 0) -> Iterator[str]:
    """The second share mounted at WHERE, until the block ends. Yields the outside path of the exported directory."""
    source, transport = transport_of(share)
    export = posixpath.join(posixpath.dirname(posixpath.dirname(share.outside.root)), TAG)
    share.outside.quietly.rmtree(f"{export}/scratch")
    with suppress(OSError):
        share.inside.quietly.mkdir(WHERE)
    for taken, where, *_ in share.inside.quietly.mounts():  # an earlier case's, as a further share
        if taken == TAG:
            share.inside.quietly.umount2(where)
    share.inside.mount(source, WHERE, "9p", flags, transport + (f",{options}" if options else ""))
    try:
        yield export
    finally:
        with suppress(OSError):
            share.inside.quietly.umount2(WHERE, MNT_DETACH)
        share.outside.quietly.rmtree(f"{export}/scratch")


def transport_of(share: Share) -> tuple[str, str]:
    """Source and options by which the second share is mounted."""
    source, transport = share.source(1)
    return source, f"{transport},version=9p2000.L"


def tag_of(share: Share) -> tuple[str, str]:
    """The same, if the source is a mount tag: a tag can be mounted once, and a tag may have no device."""
    source, options = transport_of(share)
    if source != TAG:
        raise Undrivable("the share has no mount tag")
    return source, options


def line_of_mount(share: Share) -> list[str] | None:
    """The line of /proc/mounts for WHERE, split, or None."""
    return next((line for line in share.inside.mounts() if line[1] == WHERE), None)


def msize_of(line: list[str] | None) -> int | None:
    """The size of messages that a line of /proc/mounts shows; None if it shows none."""
    options = line[3].split(",") if line is not None else []
    return next((int(one.partition("=")[2]) for one in options if one.startswith("msize=")), None)


@case("SESSION-001", covers=[Tattach, Twalk])
def test_a_user_who_is_new_to_the_server(share: Share) -> None:
    """The first call of a user whom the session has not seen works, with that user's permissions.
    Source: Linux fs/9p/fid.c v9fs_fid_lookup_with_uid(): with access=client and access=user every uid attaches for
    itself; 9P2000.L Tattach n_uname[4]."""
    share.inside.create("fred", b"abc", 0o644)
    user = share.inside.spawn("user", uid=4321)
    equal("content of 'fred' read by the new user", user.soon.slurp("fred"), b"abc", code="content")
    user.create("mine", b"abc")
    fields("'mine'", share.same(share.stat("mine")), uid=4321)


@case("SESSION-002", covers=[Tversion, Tattach, Tclunk, Tgetattr], needs=["remount"], control=False)
def test_mount_and_umount(share: Share) -> None:
    """mount(2) of a second share works beside the first and shows its own directory; umount2(2) unmounts it.
    Source: mount(2), umount2(2); Linux net/9p/client.c p9_client_create(): Tversion; fs/9p/v9fs.c: Tattach; the
    root's fid is clunked at the end."""
    with mounted(share, "cache=none") as export:
        line = line_of_mount(share) or ["", "", "", ""]
        equal("source and type of the mount in /proc/mounts", (line[0], line[2]), (share.source(1)[0], "9p"))
        share.inside.mkdir(f"{WHERE}/scratch")
        share.inside.create(f"{WHERE}/scratch/fred", b"abc")
        equal("content outside", share.outside.slurp(f"{export}/scratch/fred"), b"abc", code="content")
        equal("names on the first share", share.same(share.directory()), [], code="names")
        share.inside.umount2(WHERE)
        equal("line of /proc/mounts after umount", line_of_mount(share), None)
        share.inside.refuses(ENOENT).stat(f"{WHERE}/scratch")


@case("SESSION-003", needs=["remount"], control=False, severity="linux")
def test_mounting_what_cannot_be(share: Share) -> None:
    """mount(2) fails with EBUSY for a tag that is mounted, with ENOENT for a tag that no device has, and with EINVAL
    for an msize under 4096 and for an unknown version; the mounted share keeps working.
    Source: Linux net/9p/trans_virtio.c p9_virtio_create(): EBUSY, ENOENT; net/9p/client.c parse_opts(): EINVAL."""
    tag, options = tag_of(share)
    with mounted(share) as export:
        share.inside.refuses(EBUSY).mount(tag, WHERE, "9p", 0, options)
        share.inside.refuses(ENOENT).mount("no-such-tag", WHERE, "9p", 0, options)
        share.inside.umount2(WHERE)
        share.inside.refuses(EINVAL).mount(tag, WHERE, "9p", 0, options + ",msize=4095")
        share.inside.refuses(EINVAL).mount(tag, WHERE, "9p", 0, "trans=virtio,version=9p2000.X")
        equal("line of /proc/mounts", line_of_mount(share), None)
        share.inside.mount(tag, WHERE, "9p", 0, options)
        share.inside.mkdir(f"{WHERE}/scratch")
        equal("names outside", share.outside.listdir(f"{export}/scratch"), [], code="names")


@case("SESSION-004", covers=[Tversion, Tread], needs=["remount"], control=False)
@pytest.mark.parametrize("msize", [4096, 8192, 65536, 512_000, 1_048_576])
def test_message_sizes(share: Share, msize: int) -> None:
    """With every msize a file of 300,000 bytes and 100 names of 200 bytes are read and written correctly; an msize
    above virtio's maximum is lowered, and one above the server's to that of the first share.
    Source: version(5), Rversion's msize "must be less than or equal to the client's value"; 9P2000.L Tversion msize[4];
    Linux net/9p/trans_virtio.c VIRTQUEUE_NUM; known defects: GitLab qemu#409 (small msize), propolis#565,
    LP#1877688."""
    with mounted(share, f"cache=none,msize={msize}") as export:
        shown = msize_of(line_of_mount(share))
        if shown is not None:
            asked = min(msize, 512_000) if share.source(1)[0] == TAG else msize
            first = next((m for m in share.inside.mounts() if m[1] == posixpath.dirname(share.inside.root)), None)
            granted = msize_of(first) or asked
            equal("msize in /proc/mounts", shown, asked if shown == asked else min(asked, granted))
        share.inside.mkdir(f"{WHERE}/scratch")
        fd = share.inside.open(f"{WHERE}/scratch/fred", os.O_RDWR | os.O_CREAT)
        share.inside.write_pattern(fd, 300_000, seed=3, chunk=300_000)
        has_pattern("the file inside", share.inside, fd, 300_000, 3)
        has_pattern("the file outside", share.outside, f"{export}/scratch/fred", 300_000, 3)
        share.outside.fill_directory(f"{export}/scratch", 100, "n" * 194)
        equal("number of names inside", len(share.inside.listdir(f"{WHERE}/scratch")), 101, code="names")
        share.inside.close(fd)


@case("SESSION-005", covers=[Tversion], needs=["remount"], control=False)
def test_umount_of_a_busy_share(share: Share) -> None:
    """umount2(2) fails with EBUSY while a file is open. With MNT_DETACH it succeeds, the descriptor keeps working, and
    after its close the tag can be mounted again.
    Source: umount2(2) EBUSY, MNT_DETACH."""
    tag, options = tag_of(share)
    with mounted(share, "cache=none") as export:
        share.inside.mkdir(f"{WHERE}/scratch")
        fd = share.inside.open(f"{WHERE}/scratch/fred", os.O_RDWR | os.O_CREAT, 0o644)
        share.inside.refuses(EBUSY).umount2(WHERE)
        share.inside.umount2(WHERE, MNT_DETACH)
        share.inside.write(fd, b"abc")
        equal("content read after umount2(MNT_DETACH)", share.inside.soon.pread(fd, 9, 0), b"abc", code="content")
        share.inside.refuses(EBUSY).mount(tag, WHERE, "9p", 0, options)
        share.inside.close(fd)
        equal("content outside", share.outside.slurp(f"{export}/scratch/fred"), b"abc", code="content")
        share.inside.mount(tag, WHERE, "9p", 0, options)
        equal("content after a new mount", share.inside.soon.slurp(f"{WHERE}/scratch/fred"), b"abc", code="content")


CHANGES: dict[str, tuple[Any, ...]] = {
    "create": ("new",),
    "overwrite": ("fred", b"x"),
    "mkdir": ("new",),
    "rmdir": ("dir",),
    "unlink": ("fred",),
    "symlink": ("target", "new"),
    "mkfifo": ("new",),
    "chmod": ("fred", 0o600),
    "chown": ("fred", 1, 1),
    "truncate": ("fred", 0),
    "utimensat": ("fred", 1, 1),
    "setxattr": ("fred", "user.x", b"1"),
    "link": ("fred", "new"),
    "rename": ("fred", "new"),
    "mknod": ("new", 0o100644),
}


@case("SESSION-006", covers=[Tattach], needs=["remount"], control=False)
def test_read_only_mount(share: Share) -> None:
    """On a share mounted read-only every call that would change something fails with EROFS, reading works, and
    nothing is changed on the host; mounted again for writing the same calls work.
    Source: mount(2) MS_RDONLY; EROFS in the man page of each call."""
    source, transport = transport_of(share)
    with mounted(share, "cache=none", MS_RDONLY) as export:
        share.outside.mkdir(f"{export}/scratch")
        share.outside.mkdir(f"{export}/scratch/dir")
        share.outside.create(f"{export}/scratch/fred", b"abc")
        before = share.outside.lstat(f"{export}/scratch/fred")
        equal("content inside", share.inside.soon.slurp(f"{WHERE}/scratch/fred"), b"abc", code="content")
        for op, arguments in CHANGES.items():
            seen = outcome(share.inside, op, *_below(op, arguments))
            equal(
                f"result of {op}() on the read-only mount", Errno(seen.errno or 0), Errno(EROFS), code="errno", call=op
            )
        after = share.outside.lstat(f"{export}/scratch/fred")
        changes("the file outside by calls that were refused", before, after, may={"atime_ns"})
        names = share.outside.listdir(f"{export}/scratch")
        equal("names outside after calls that were refused", names, ["dir", "fred"], code="names")
        share.inside.mount(source, WHERE, "9p", MS_REMOUNT, transport)
        share.inside.overwrite(f"{WHERE}/scratch/fred", b"written")
        content = share.outside.slurp(f"{export}/scratch/fred")
        equal("content outside after a write to the mount for writing", content, b"written", code="content")


def _below(op: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a call in CHANGES with its names below the mount."""
    paths = {"symlink": (1,), "link": (0, 1), "rename": (0, 1)}.get(op, (0,))
    return tuple(f"{WHERE}/scratch/{a}" if i in paths else a for i, a in enumerate(arguments))


@case("SESSION-007", covers=[Tversion], needs=["remount"], control=False)
@pytest.mark.parametrize("cache", ["none", "mmap", "loose"])
def test_what_was_written_is_there_after_umount(share: Share, cache: str) -> None:
    """umount2(2) writes back what the guest holds: the host has every byte, length and mode, and a new mount shows
    them.
    Source: umount2(2); Linux fs/9p/vfs_super.c: the super block is synced when it goes; known defect: the patch
    series "fix EBADF errors in cached mode" (write-back lost)."""
    source, transport = transport_of(share)
    with mounted(share, f"cache={cache}") as export:
        share.inside.mkdir(f"{WHERE}/scratch")
        fd = share.inside.open(f"{WHERE}/scratch/fred", os.O_RDWR | os.O_CREAT, 0o640)
        share.inside.write_pattern(fd, 1_000_000, seed=7)
        share.inside.fchmod(fd, 0o600)
        share.inside.close(fd)
        for created in [share.inside.then.create(f"{WHERE}/scratch/small{i}", b"content of %d" % i) for i in range(20)]:
            created.result()
        share.inside.umount2(WHERE)
        has_pattern("the file outside", share.outside, f"{export}/scratch/fred", 1_000_000, 7)
        fields("the file outside", share.outside.lstat(f"{export}/scratch/fred"), mode=0o100600)
        share.inside.mount(source, WHERE, "9p", 0, f"{transport},cache={cache}")
        equal("number of names after a new mount", len(share.inside.listdir(f"{WHERE}/scratch")), 21, code="names")
        for i, read in enumerate([share.inside.then.slurp(f"{WHERE}/scratch/small{i}") for i in range(20)]):
            equal(f"content of 'small{i}' after a new mount", read.result(), b"content of %d" % i, code="content")


@case("SESSION-008", covers=[Tversion, Tattach], needs=["remount"], control=False)
def test_many_mounts_one_after_another(share: Share) -> None:
    """A share is mounted, used and unmounted 15 times, and the last mount works like the first.
    Source: version(5): a session starts over with Tversion; known defect: nothing of an earlier session may be left
    (QEMU resets all fids, lib9p and kvmtool did not)."""
    for i in range(15):
        with mounted(share, "cache=none"):
            share.inside.mkdir(f"{WHERE}/scratch")
            share.inside.create(f"{WHERE}/scratch/fred", b"turn %d" % i)
            content = share.inside.slurp(f"{WHERE}/scratch/fred")
            equal(f"content in mount {i + 1} of 15", content, b"turn %d" % i, code="content")
            share.inside.umount2(WHERE)


@case("SESSION-009", covers=[Tattach], needs=["remount"], control=False, severity="linux")
def test_access_for_one_user(share: Share) -> None:
    """Mounted with access=1001 the share is for that user only: others get EPERM, root too.
    Source: Linux Documentation/filesystems/9p.rst "access=<uid>: only allow <uid> to access the mounted filesystem";
    fs/9p/fid.c v9fs_fid_lookup(): V9FS_ACCESS_SINGLE."""
    with mounted(share, "cache=none,access=1001") as export:
        share.outside.mkdir(f"{export}/scratch")
        share.outside.chmod(f"{export}/scratch", 0o777)
        user, other = share.inside.spawn("user", uid=1001), share.inside.spawn("other", uid=1002)
        user.create(f"{WHERE}/scratch/fred", b"abc")
        equal("names outside", share.outside.listdir(f"{export}/scratch"), ["fred"], code="names")
        other.refuses(EPERM).stat(f"{WHERE}/scratch/fred")
        share.inside.refuses(EPERM).open(f"{WHERE}/scratch/fred")


@case(
    "SESSION-010",
    covers=[Tremove],
    needs=["remount"],
    control=False,
    caches=UNCACHED,
    mount="version=9p2000.u,access=user",
)
def test_the_older_dialect_removes(share: Share) -> None:
    """On a share mounted as 9P2000.u files and directories are made, renamed, listed and removed.
    Source: remove(5); Linux fs/9p/vfs_inode.c v9fs_remove(): Tremove where the dialect has no Tunlinkat."""
    with share.without_comparison():  # 9P2000.u has no nanoseconds
        share.inside.mkdir("dir")
        share.inside.create("dir/fred", b"abc")
        equal("content of 'dir/fred' outside", share.outside.slurp("dir/fred"), b"abc", code="content")
        share.inside.rename("dir/fred", "dir/george")
        equal("names in 'dir' inside", share.inside.soon.listdir("dir"), ["george"], code="names")
        share.inside.unlink("dir/george")
        share.gone("dir/george")
        share.inside.rmdir("dir")
        share.gone("dir")


@case(
    "SESSION-011",
    covers=[Tflush, Tfsync],
    needs=["trace"],
    control=False,
    seconds=120.0,
    about="agreement",
)
def test_a_process_killed_in_fsync(share: Share) -> None:
    """A process that is killed while the server handles its request ends at once or when the server is done. Its
    request is flushed, the share keeps working, and data written before is there.
    Source: flush(5); Linux net/9p/client.c p9_client_rpc(): on a fatal signal p9_client_flush() sends Tflush; known
    defects: rust-9p#15, ZeroFS#282, WSL#4230."""
    size, written = 96 << 20, 1 << 20
    for turn in range(2):
        # What the host has not yet written makes the server's fsync(2) last.
        with share.without_comparison():
            host = share.outside.open(f"fred{turn}", os.O_RDWR | os.O_CREAT, 0o644)
            share.outside.write_pattern(host, size, seed=turn)
            share.outside.close(host)
        victim = share.inside.spawn(f"victim{turn}")
        victim.timeout = 50.0  # writing the file is not what this case judges
        fd = victim.open(f"fred{turn}", os.O_RDWR)
        victim.write_pattern(fd, written, seed=turn)
        victim.start.fsync(fd)
        share.inside.sleep(0.004)
        victim.kill()
        share.same(share.stat(f"fred{turn}"))
        fields(f"'fred{turn}' inside", share.inside.soon.stat(f"fred{turn}"), size=size)
        has_pattern(f"'fred{turn}' outside", share.outside, f"fred{turn}", size, turn)
        share.inside.unlink(f"fred{turn}")
    share.inside.create("after", b"abc")
    share.inside.fsync(share.inside.open("after", os.O_RDWR))
    share.same(share.content("after"))


@case("SESSION-012", covers=[Tread], seconds=120.0, about="agreement")
def test_processes_killed_while_they_read(share: Share) -> None:
    """Six processes are killed while they read a file or a directory; later results are right.
    Source: flush(5): a reply that comes after Rflush must not be taken for another request's; known defects:
    WSL#4230 (find killed in a loop), syzbot's cancel and reply races in net/9p."""
    size = 2 << 20
    with share.without_comparison():
        share.outside.mkdir("dir")
        share.outside.fill_directory("dir", 100)
        fd = share.outside.open("fred", os.O_RDWR | os.O_CREAT, 0o644)
        share.outside.write_pattern(fd, size, seed=9)
    for turn in range(6):
        victim = share.inside.spawn(f"victim{turn}")
        if turn % 2:
            victim.start.repeat(1000, "readdir_all", "dir")
        else:
            victim.start.repeat(1000, "hash_file", "fred")
        share.inside.sleep(0.02 + 0.004 * turn)
        victim.kill()
        equal(
            f"number of names in 'dir' after process {turn} was killed",
            len(share.inside.listdir("dir")),
            100,
            code="names",
        )
    has_pattern("'fred' inside", share.inside, "fred", size, 9)
    share.same(share.content("fred"))
