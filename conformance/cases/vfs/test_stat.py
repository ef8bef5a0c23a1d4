"""stat(2), lstat(2), fstat(2), statx(2): every field, of every type of file, set on either side."""

from __future__ import annotations

import os
import stat
from errno import EBADF, EINVAL, ENOENT, ENOTDIR

import pytest

from conformance.case import FRESH, WRITE_THROUGH, case
from conformance.cases.vfs.attribute_paths import PathCall, refuse_bad_paths
from conformance.cases.vfs.outcomes import plain
from conformance.checks import Octal, between, equal, fields, holds
from conformance.errors import Undrivable
from conformance.vfs.share import Share, preparing
from conformance.vfs.vantage import Vantage
from protocol.messages import Tgetattr, Twalk

SECOND = 10**9
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC = 0x100, 0x1000, 0x2000, 0x4000
STATX_BASIC_STATS, STATX_BTIME, STATX_RESERVED = 0x7FF, 0x800, 0x80000000

NODES = {
    "regular": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}


def make(vantage: Vantage, kind: str, name: str) -> None:
    """A file of that type, made on the side that does not need 9P's mknod."""
    if kind == "regular":
        vantage.create(name, b"some content", 0o640)
    elif kind == "directory":
        vantage.mkdir(name, 0o750)
    elif kind == "symlink":
        vantage.symlink("some/target", name)
    else:
        vantage.mknod(name, NODES[kind] | 0o640, os.makedev(7, 3) if kind in ("char", "block") else 0)


@case("STAT-001", covers=[Tgetattr], cached_too=True, needs=["host-root"], about="agreement")
@pytest.mark.parametrize("kind", NODES)
def test_every_type_of_file(share: Share, kind: str) -> None:
    """lstat(2) shows every type of file on the host, with all fields right.
    Source: POSIX <sys/stat.h>; 9P2000.L Rgetattr; known defect: servers that refuse non-regular files
    (lf-edge/eve#4186)."""
    make(share.outside, kind, "node")
    seen = share.inside.lstat("node")
    fields("'node' inside", seen, type=NODES[kind])
    share.same(share.stat("node"))


@case("STAT-002", covers=[Tgetattr], cached_too=True, needs=["host-root"], about="agreement")
@pytest.mark.parametrize("kind", NODES)
def test_statx_of_every_type_of_file(share: Share, kind: str) -> None:
    """statx(2) shows the same basic fields as lstat(2) does, and as the host.  Source: statx(2)."""
    make(share.outside, kind, "node")
    old, new = share.inside.lstat("node"), share.inside.statx("node")
    given = new["stx_mask"] & STATX_BASIC_STATS
    equal("basic fields that statx(2) gives", Octal(given), Octal(STATX_BASIC_STATS), code="field:mask")
    basic = ("mode", "nlink", "uid", "gid", "size", "blocks", "ino", "rdev", "atime_ns", "mtime_ns", "ctime_ns")
    fields("statx(2), compared with lstat(2),", new, **{name: old[f"st_{name}"] for name in basic})
    share.same(share.stat("node", kind="statx"))


@case("STAT-003", covers=[Tgetattr], cached_too=True, about="agreement")
def test_stat_follows_and_lstat_does_not(share: Share) -> None:
    """stat(2) of a symbolic link is its target's, lstat(2) the link's own: type link, size the text's length.
    Source: POSIX stat, lstat; readlink(2)."""
    share.inside.create("target", b"x" * 77)
    share.inside.symlink("target", "link")
    followed, target, own = (
        share.inside.stat("link"),
        share.inside.lstat("target"),
        share.inside.lstat("link"),
    )
    fields("stat(2) of the link, compared with its target,", followed, **plain(target, but=("atime_ns",)))
    fields("lstat(2) of the link", own, type=stat.S_IFLNK, size=len("target"))
    different = own["st_ino"] != target["st_ino"]
    holds("the link has another inode number than its target", different, seen=own["st_ino"], code="field:ino")
    share.same(share.stat("link"))


@case("STAT-004", covers=[Tgetattr], cached_too=True, about="agreement")
def test_fstat_is_stat(share: Share) -> None:
    """fstat(2) of a descriptor opened in any way gives what stat(2) of the name gives.
    Source: POSIX fstat; open(2) O_PATH: fstat is among the calls that such a descriptor allows."""
    share.inside.create("fred", b"12345")
    share.inside.mkdir("d")
    for name, flags in (
        ("fred", os.O_RDONLY),
        ("fred", os.O_WRONLY),
        ("fred", os.O_RDWR),
        ("fred", os.O_PATH),
        ("d", os.O_RDONLY | os.O_DIRECTORY),
        ("d", os.O_PATH),
    ):
        fd = share.inside.open(name, flags)
        what = f"fstat(2) of {name!r} opened with {flags:#o}, compared with stat(2),"
        fields(what, share.inside.soon.fstat(fd), **plain(share.inside.stat(name)))
        share.inside.close(fd)
    share.same(share.stat("fred"))
    share.same(share.stat("d"))


@case("STAT-006", covers=[Tgetattr], cached_too=True, about="agreement")
def test_size(share: Share) -> None:
    """st_size is exact from 0 to past every 32-bit boundary.
    Source: POSIX <sys/stat.h>; Rgetattr.size is 8 bytes."""
    for size in (0, 1, 4095, 4096, 4097, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40 + 1):
        share.outside.create(f"f{size}")
        share.outside.truncate(f"f{size}", size)
        fields(f"'f{size}' inside", share.inside.soon.stat(f"f{size}"), size=size)
        share.same(share.stat(f"f{size}"))


@case("STAT-007", covers=[Tgetattr], caches=FRESH, about="agreement")
def test_link_count(share: Share) -> None:
    """st_nlink counts the names of a file.  Source: POSIX <sys/stat.h>; Rgetattr.nlink."""
    share.outside.create("f0")
    fields("'f0' inside", share.inside.soon.stat("f0"), nlink=1)
    share.outside.link("f0", "other")
    fields("'other' inside", share.inside.soon.stat("other"), nlink=2)
    with share.without_comparison():
        share.outside.repeat(298, "link", "f0", "f0-%d")
    fields("'f0-297' inside", share.inside.soon.stat("f0-297"), nlink=300)
    share.same(share.stat("f0"))


@case("STAT-008", covers=[Tgetattr], caches=FRESH)
def test_link_count_of_a_directory_follows_the_host(share: Share) -> None:
    """st_nlink of a directory is what the host's file system reports, as subdirectories are made and removed.
    Source: stat(2) st_nlink; 9P2000.L Rgetattr nlink[8]; Linux fs/9p/vfs_inode_dotl.c v9fs_stat2inode_dotl."""
    share.inside.mkdir("d")
    for name in ("a", "b", "c"):
        share.inside.mkdir(f"d/{name}")
        fields(f"'d' after mkdir of {name!r}", share.inside.soon.stat("d"), nlink=share.outside.stat("d")["st_nlink"])
    share.inside.rmdir("d/b")
    fields("'d' after rmdir of 'b'", share.inside.soon.stat("d"), nlink=share.outside.stat("d")["st_nlink"])


def kept(share: Share, path: str, atime_ns: int, mtime_ns: int) -> None:
    """End the case as undrivable where the host did not keep times that it set itself: ext4 with inodes of 128 bytes
    has whole seconds until 2038. Source: ext4(5), "inode size"; Documentation/filesystems/ext4/inodes.rst."""
    status = share.outside.stat(path)
    if (status["st_atime_ns"], status["st_mtime_ns"]) != (atime_ns, mtime_ns):
        raise Undrivable(f"the exported file system does not keep the time {mtime_ns} ns")


@case("STAT-009", covers=[Tgetattr], cached_too=True, about="agreement")
def test_times_to_the_nanosecond(share: Share) -> None:
    """st_atim and st_mtim that the host set are seen to the nanosecond, past 2038 and 2106.
    Source: POSIX <sys/stat.h>; Rgetattr carries 8 bytes of seconds and 8 of nanoseconds for each time."""
    last = 2**31 * SECOND - 1
    for ns in (
        0,
        1,
        SECOND - 1,
        1234567890_123456789,
        last,
        last + 1,
        2**32 * SECOND + 1,
        5_000_000_000_999_999_992,
    ):
        share.outside.create(f"f{ns}")
        share.outside.utimensat(f"f{ns}", ns, ns + 7)
        kept(share, f"f{ns}", ns, ns + 7)
        seen = share.inside.stat(f"f{ns}")
        fields(f"'f{ns}' inside", seen, atime_ns=ns, mtime_ns=ns + 7)
        share.same(share.stat(f"f{ns}"))


@case("STAT-010", covers=[Tgetattr], cached_too=True, about="agreement")
def test_times_before_1970_set_on_the_host(share: Share) -> None:
    """Times before 1970 that the host set are seen exactly; nanoseconds count forwards.
    Source: stat(2) struct timespec is signed; Rgetattr seconds are the signed value's 8 bytes."""
    for ns in (-1, -SECOND, -SECOND - 1, -(2**31) * SECOND):
        share.outside.create(f"f{ns}")
        share.outside.utimensat(f"f{ns}", ns, ns)
        kept(share, f"f{ns}", ns, ns)
        seen = share.inside.stat(f"f{ns}")
        fields(f"'f{ns}' inside", seen, atime_ns=ns, mtime_ns=ns)
        share.same(share.stat(f"f{ns}"))


@case("STAT-011", covers=[Tgetattr], caches=WRITE_THROUGH, about="agreement")
def test_blocks_of_data_and_of_holes(share: Share) -> None:
    """st_blocks counts allocated blocks: more for data than for a hole of the same size.
    Source: stat(2) st_blocks, units of 512 bytes; Rgetattr.blocks."""
    share.outside.create("full")
    fd = share.outside.open("full", os.O_WRONLY)
    share.outside.write_pattern(fd, 1 << 20)
    share.outside.fsync(fd)
    share.outside.create("hole")
    share.outside.truncate("hole", 1 << 20)
    full, hole = share.inside.stat("full"), share.inside.stat("hole")
    fields("'full', compared with 'hole',", full, size=hole["st_size"])
    holds(
        "a file of 1 MiB has 2,048 blocks or more",
        full["st_blocks"] >= 2048,
        seen=full["st_blocks"],
        code="field:blocks",
    )
    holds(
        "a hole of 1 MiB has fewer than 2,048 blocks",
        hole["st_blocks"] < 2048,
        seen=hole["st_blocks"],
        code="field:blocks",
    )
    share.same(share.stat("full"))
    share.same(share.stat("hole"))


@case("STAT-012", covers=[Tgetattr], needs=["host-root"], cached_too=True, about="agreement")
def test_owner_and_group_numbers(share: Share) -> None:
    """st_uid and st_gid are exact over the whole 32-bit range, except for the last value, which means none.
    Source: Rgetattr.uid, .gid are 4 bytes; chown(2): -1 is not an id."""
    for number in (0, 1, 1000, 65534, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 2):
        share.outside.create(f"f{number}")
        share.outside.chown(f"f{number}", number, 2**32 - 2 - number)
        seen = share.inside.stat(f"f{number}")
        fields(f"'f{number}' inside", seen, uid=number, gid=2**32 - 2 - number)
        share.same(share.stat(f"f{number}"))


@case("STAT-013", covers=[Tgetattr], needs=["host-root"], caches=FRESH, about="agreement")
@pytest.mark.parametrize("kind", ["char", "block"])
def test_device_numbers(share: Share, kind: str) -> None:
    """st_rdev of a device node has the host's major and minor, 12 and 20 bits wide.
    Source: makedev(3); Rgetattr.rdev; include/linux/kdev_t.h new_decode_dev."""
    for numbers in ((1, 3), (0, 255), (255, 0), (8, 256), (259, 70_000), (4095, 2**20 - 1)):
        name = f"node{numbers[0]}.{numbers[1]}"
        with preparing(f"a {kind} device with number {numbers[0]}:{numbers[1]}"):
            share.outside.mknod(name, NODES[kind] | 0o600, os.makedev(*numbers))
        device = share.inside.stat(name)["st_rdev"]
        equal(f"major and minor of {name!r} inside", (os.major(device), os.minor(device)), numbers, code="field:rdev")
        share.same(share.stat(name))
        share.same(share.stat(name, kind="statx"))


@case("STAT-014", covers=[Tgetattr], cached_too=True, about="agreement")
def test_inode_identity(share: Share) -> None:
    """Two names of one file have the same inode number, two files have different ones; it does not change through
    rename and rewriting.
    Source: POSIX <sys/stat.h>: st_ino and st_dev identify the file; qid.path of 9P."""
    share.inside.create("a", b"1")
    share.inside.create("b", b"1")
    share.inside.link("a", "a2")
    a, a2, b = (share.inside.stat(n)["st_ino"] for n in ("a", "a2", "b"))
    equal("inode number of 'a2', a link to 'a'", a2, a, code="field:ino")
    holds("'b' has another inode number than 'a'", b != a, seen=b, code="field:ino")
    share.inside.rename("a", "c")
    share.inside.overwrite("c", b"longer than before")
    share.inside.chmod("c", 0o600)
    fields("'a' after its rename to 'c'", share.inside.soon.stat("c"), ino=a)
    devices = {share.inside.stat(n)["st_dev"] for n in ("c", "b", ".")}
    equal("number of different st_dev of 'c', 'b' and '.'", len(devices), 1, code="field:dev")
    for name in ("c", "a2", "b"):
        share.same(share.stat(name))


@case("STAT-015", covers=[Tgetattr], about="agreement")
def test_many_inodes_are_all_different(share: Share) -> None:
    """200 files have 200 inode numbers.
    Source: POSIX st_ino; known defect: FreeBSD bhyve lib9p, every child of a nested dataset had inode 34."""
    with share.without_comparison():
        share.outside.mkdir("d")
        share.outside.fill_directory("d", 200)
    share.same(share.directory("d"))
    inodes = [entry[1] for entry in share.inside.scandir("d")]
    equal("number of entries", len(inodes), 200, code="names")
    equal("number of different inode numbers", len(set(inodes)), 200, code="field:ino")


@case("STAT-016", covers=[Tgetattr], caches=FRESH, needs=["host-root"], about="agreement")
def test_what_the_host_changes_is_seen_at_the_next_stat(share: Share) -> None:
    """Mode, owner, size, link count and times that the host changes are seen by the guest's next stat(2).
    Source: Documentation/filesystems/9p.rst, cache=none; the user's contract of a shared directory."""
    share.host_sets_mode_and_owner()
    share.inside.create("fred", b"first")
    before = share.inside.stat("fred")
    share.outside.chmod("fred", 0o4711)
    share.outside.chown("fred", 1234, 5678)
    seen = share.inside.stat("fred")
    fields("'fred' after the host's chmod and chown", seen, mode=0o100711, uid=1234, gid=5678)
    share.outside.overwrite("fred", b"second, longer")
    share.outside.link("fred", "barney")
    share.outside.utimensat("fred", 5 * SECOND, 6 * SECOND)
    seen = share.inside.stat("fred")
    what = "'fred' after the host wrote it, linked it and set its times"
    fields(what, seen, size=14, nlink=2, atime_ns=5 * SECOND, mtime_ns=6 * SECOND, ino=before["st_ino"])
    share.same(share.stat("fred"))


@case("STAT-017", covers=[Tgetattr], caches=FRESH)
def test_an_open_descriptor_sees_what_the_host_changes(share: Share) -> None:
    """fstat(2) of an open file shows the size and mode that the host has given it since.
    Source: Documentation/filesystems/9p.rst, cache=none; POSIX fstat."""
    share.host_sets_mode_and_owner()
    share.inside.create("fred", b"first")
    fd = share.inside.open("fred", os.O_RDONLY)
    fields("the open file inside", share.inside.soon.fstat(fd), size=5)
    share.outside.overwrite("fred", b"second, longer")
    share.outside.chmod("fred", 0o604)
    seen = share.inside.fstat(fd)
    fields("the open file after the host's changes", seen, size=14, mode=0o100604)


@case("STAT-018", covers=[Tgetattr], caches=FRESH, about="agreement")
def test_replacement_by_the_host_gives_another_inode(share: Share) -> None:
    """A name that the host gave to another file shows that file's inode and size.
    Source: POSIX rename; v9fs_vfs_lookup asks again with cache=none."""
    share.inside.create("fred", b"old")
    before = share.inside.stat("fred")
    share.outside.create("new", b"the new one")
    share.outside.rename("new", "fred")
    after = share.inside.stat("fred")
    changed = after["st_ino"] != before["st_ino"]
    holds("the file in 'fred's place has another inode number", changed, seen=after["st_ino"], code="field:ino")
    fields("the file in 'fred's place", after, size=11)
    share.same(share.stat("fred"))


@case("STAT-019", covers=[Tgetattr], caches=FRESH)
def test_type_changed_by_the_host(share: Share) -> None:
    """A file that the host replaced by a directory of the same name is a directory at the next stat(2), and vice versa.
    Source: POSIX stat; fs/9p/vfs_inode.c v9fs_lookup_revalidate and v9fs_refresh_inode."""
    share.inside.create("fred", b"old")
    fields("'fred' inside", share.inside.soon.stat("fred"), type=stat.S_IFREG)
    with share.without_comparison():
        share.outside.unlink("fred")
        share.outside.mkdir("fred", 0o711)
    fields("'fred' inside", share.inside.soon.stat("fred"), type=stat.S_IFDIR)
    with share.without_comparison():
        share.outside.rmdir("fred")
        share.host_symlink("elsewhere", "fred")
    fields("'fred' inside", share.inside.soon.lstat("fred"), type=stat.S_IFLNK)


@case("STAT-020", covers=[Tgetattr])
def test_relative_to_a_directory_descriptor(share: Share) -> None:
    """fstatat(2) takes a relative name below the directory descriptor, and an absolute one as it is.
    Source: POSIX fstatat."""
    share.inside.mkdir("d")
    share.inside.create("d/fred", b"in d")
    share.inside.create("fred", b"in the case's directory")
    fd = share.inside.open("d", os.O_RDONLY | os.O_DIRECTORY)
    fields("'fred' below the descriptor", share.inside.soon.stat("fred", dir_fd=fd), size=4)
    seen = share.inside.lstat("fred", dir_fd=fd)
    fields("'fred' below the descriptor", seen, ino=share.inside.lstat("d/fred")["st_ino"])
    fields("'../fred' from the descriptor", share.inside.soon.stat("../fred", dir_fd=fd), size=23)
    file = share.inside.open("fred", os.O_RDONLY)
    share.inside.refuses(ENOTDIR).stat("fred", dir_fd=file)
    share.inside.refuses(EBADF).stat("fred", dir_fd=999)


@case("STAT-021", covers=[Tgetattr])
@pytest.mark.parametrize("flag", [0, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC], ids=["as-stat", "force", "dont"])
def test_statx_of_a_descriptor(share: Share, flag: int) -> None:
    """statx(2) with AT_EMPTY_PATH and any synchronisation flag describes the open file.  Source: statx(2)."""
    share.inside.create("fred", b"12345")
    fd = share.inside.open("fred", os.O_RDONLY)
    share.inside.fstat(fd)
    seen = share.inside.statx("", AT_EMPTY_PATH | flag, dir_fd=fd)
    fields("statx(2) of the open file", seen, size=5, ino=share.inside.lstat("fred")["st_ino"])


@case("STAT-022", severity="linux")
def test_statx_refuses_bad_flags_and_masks(share: Share) -> None:
    """statx(2) with a reserved mask bit, an unknown flag or both synchronisation flags fails with EINVAL.
    Source: statx(2), EINVAL."""
    share.inside.create("fred")
    share.inside.refuses(EINVAL).statx("fred", AT_SYMLINK_NOFOLLOW, STATX_RESERVED)
    share.inside.refuses(EINVAL).statx("fred", 0x8000000)
    share.inside.refuses(EINVAL).statx("fred", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC)


@case("STAT-023", covers=[Tgetattr], about="agreement")
def test_birth_time_is_the_hosts_or_not_claimed(share: Share) -> None:
    """If statx(2) reports a birth time, it is the host's. Not reporting one is right, inventing one is wrong.
    Source: statx(2) stx_mask; 9P2000.L Rgetattr: btime is reserved and only valid if its mask bit is set."""
    share.outside.create("fred")
    seen, host = share.inside.statx("fred"), share.outside.statx("fred")
    if seen["stx_mask"] & STATX_BTIME:
        fields("'fred' inside, compared with outside,", seen, btime_ns=host["stx_btime_ns"])
    else:  # not reported: then the fields that are reported are the host's
        share.same(share.stat("fred", kind="statx"))


@case("STAT-024", covers=[Tgetattr], severity="varies", caches=("none", "mmap"))
def test_preferred_block_size(share: Share) -> None:
    """st_blksize is a multiple of 512 bytes, and no larger than the largest message, as buffered I/O needs.
    Source: POSIX st_blksize, "a file system-specific preferred I/O block size"; QEMU hw/9pfs/9p.c
    stat_to_iounit."""
    share.inside.create("fred")
    size = share.inside.stat("fred")["st_blksize"]
    between("blksize of 'fred' inside", size, 512, max(share.mount.msize, 4096), code="field:blksize")
    holds("st_blksize is a multiple of 512", size % 512 == 0, seen=size, code="field:blksize")


@case("STAT-025", covers=[Twalk])
def test_missing_names(share: Share) -> None:
    """A name that is not there, an empty name, and a dangling link followed give ENOENT; lstat of the link
    works.
    Source: stat(2) ENOENT; POSIX pathname resolution: an empty name is not found."""
    share.inside.refuses(ENOENT).stat("nobody")
    share.inside.refuses(ENOENT).lstat("nobody")
    share.inside.refuses(ENOENT).statx("nobody")
    share.inside.refuses(ENOENT).stat("")
    share.inside.symlink("nobody", "dangling")
    share.inside.refuses(ENOENT).stat("dangling")
    fields("'dangling' inside", share.inside.soon.lstat("dangling"), type=stat.S_IFLNK)
    share.outside.create("nobody", b"now")
    if share.mount.cache in FRESH or share.on_control:
        fields("the link whose target the host has made", share.inside.soon.stat("dangling"), size=3)


@case("STAT-026", covers=[Tgetattr])
def test_trailing_slash(share: Share) -> None:
    """A trailing slash demands a directory: ENOTDIR for a file, and a link to a directory is followed by
    lstat(2).
    Source: POSIX pathname resolution, 4.13."""
    share.inside.create("file")
    share.inside.mkdir("d")
    share.inside.symlink("d", "link")
    share.inside.refuses(ENOTDIR).stat("file/")
    share.inside.refuses(ENOTDIR).lstat("file/")
    fields("'link/' inside", share.inside.soon.lstat("link/"), ino=share.inside.stat("d")["st_ino"])
    fields("'d/.' inside", share.inside.soon.stat("d/."), ino=share.inside.stat("d")["st_ino"])
    fields("'d/..' inside", share.inside.soon.stat("d/.."), ino=share.inside.stat(".")["st_ino"])


@case("STAT-027")
def test_bad_descriptor(share: Share) -> None:
    """fstat(2) of a descriptor that is not open fails with EBADF.  Source: fstat(2), EBADF."""
    fd = share.inside.open(".", os.O_RDONLY)
    share.inside.close(fd)
    share.inside.refuses(EBADF).fstat(fd)


@case("STAT-028", covers=[Tgetattr], needs=["guest-root"])
def test_stat_needs_no_permission_on_the_file_itself(share: Share) -> None:
    """Any user may stat(2) a file of mode 000 in a directory with search permission.
    Source: stat(2), "No permissions are required on the file itself"; path_resolution(7)."""
    share.inside.create("fred", b"secret", 0o600)
    share.inside.chmod("fred", 0)
    bob = share.inside.spawn("bob", uid=1001)
    fields("'fred' by another user, compared with root,", bob.soon.stat("fred"), **plain(share.inside.stat("fred")))


@case("STAT-029", covers=[Tgetattr], cached_too=True, about="agreement")
def test_size_of_a_symbolic_link(share: Share) -> None:
    """st_size of a symbolic link is the number of bytes of its text.  Source: POSIX lstat."""
    for length in (1, 100, 255, 1023, 4095):
        share.prepared_symlink("x" * length, f"link{length}")
        fields(f"'link{length}' inside", share.inside.soon.lstat(f"link{length}"), size=length)
        share.same(share.stat(f"link{length}"))
        share.same(share.link(f"link{length}"))


@case("STAT-030", covers=[Twalk], about="agreement")
@pytest.mark.parametrize("call", [PathCall("stat"), PathCall("lstat", follows=False), PathCall("statx", (0,))], ids=str)
def test_path_errors(share: Share, call: PathCall) -> None:
    """stat(2), lstat(2), statx(2) of a bad path fail with ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG or EACCES.
    Source: stat(2) and statx(2) ERRORS."""
    refuse_bad_paths(share, call)
