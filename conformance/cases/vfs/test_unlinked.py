"""Files and directories whose last name is gone while they are open: every call on the descriptor still works.

A server that maps a fid back to a path finds no file there or, worse, the next file with that name.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable
from errno import EAGAIN, ENOENT, EOPNOTSUPP

import pytest

from conformance.case import KEPT, UNCACHED, WRITE_BACK, case
from conformance.cases.vfs.outcomes import earlier_errors_reported, flush, has_pattern, works_or
from conformance.checks import equal, fields, holds
from conformance.vfs.share import Share
from protocol.messages import (
    Tfsync,
    Tgetattr,
    Tgetlock,
    Tlock,
    Tread,
    Treaddir,
    Tsetattr,
    Tstatfs,
    Tunlinkat,
    Twrite,
    Txattrcreate,
    Txattrwalk,
)

CONTENT = b"0123456789"
AT_EMPTY_PATH = 0x1000

ByWay = Callable[[Share], None]


def unlink(share: Share) -> None:
    """The name goes by unlink(2)."""
    share.inside.unlink("fred")


def replace(share: Share) -> None:
    """The name goes to another file by rename(2)."""
    share.inside.create("other", b"the other file", 0o755)
    flush(share, "other")
    share.inside.rename("other", "fred")


def recreate(share: Share) -> None:
    """The name goes by unlink(2), and another file is made there."""
    share.inside.unlink("fred")
    share.inside.create("fred", b"the other file", 0o755)
    flush(share, "fred")


by_every_way = pytest.mark.parametrize("lose", [unlink, replace, recreate], ids=["unlink", "replace", "recreate"])
"""A file loses its name; with replace and recreate another file stands there, and must not be touched."""


def orphan(share: Share, lose: ByWay) -> int:
    """An open file without a name, of 10 bytes and mode 0640."""
    share.inside.create("fred", CONTENT, 0o640)
    fd = share.inside.open("fred", os.O_RDWR)
    lose(share)
    return fd


def other_is_untouched(share: Share, lose: ByWay) -> None:
    """The file that took the name has its content, mode and owner."""
    if lose is unlink:
        share.gone("fred")
        return
    other = "the other file, which has the name now,"
    equal(f"content of {other}", share.outside.slurp("fred"), b"the other file", code="content")
    fields(other, share.same(share.stat("fred")), size=14, permissions=0o755, uid=0)


@case("UNLINKED-001", covers=[Twrite], cached_too=True)
@by_every_way
def test_read_and_write(share: Share, lose: ByWay) -> None:
    """read(2), write(2), pread(2), pwrite(2) and lseek(2) work on a file without a name, and grow it.
    Source: POSIX unlink: "the space occupied by the file shall be freed and the file shall no longer be
    accessible" only when no process has it open."""
    fd = orphan(share, lose)
    equal("bytes that read() returned", share.inside.soon.read(fd, 4), b"0123", code="content")
    share.inside.pwrite(fd, b"AB", 0)
    equal("result of lseek(0, SEEK_END)", share.inside.soon.lseek(fd, 0, os.SEEK_END), 10)
    share.inside.write(fd, b"more")
    share.inside.fsync(fd)
    equal("content read after both writes", share.inside.soon.pread(fd, 100, 0), b"AB23456789more", code="content")
    equal("bytes read at the end", share.inside.soon.pread(fd, 100, 14), b"", code="content")
    other_is_untouched(share, lose)


@case("UNLINKED-002", covers=[Tgetattr])
@by_every_way
def test_fstat(share: Share, lose: ByWay) -> None:
    """fstat(2) and statx(AT_EMPTY_PATH) of a file without a name show its own size and mode, and link count 0.
    Source: fstat(2); POSIX st_nlink; known defect: GitLab qemu#103, LP#1336794 (ENOENT)."""
    fd = orphan(share, lose)
    share.inside.pwrite(fd, b"x", 20)
    share.inside.fsync(fd)
    seen = share.inside.fstat(fd)
    fields("the file without a name by fstat(2)", seen, size=21, permissions=0o640)
    fields("the file without a name by statx(2)", share.inside.soon.statx("", AT_EMPTY_PATH, dir_fd=fd), size=21)
    other_is_untouched(share, lose)


@case("UNLINKED-003", covers=[Tgetattr], caches=UNCACHED)
def test_fstat_shows_no_links(share: Share) -> None:
    """The link count of a file without a name is 0.
    Source: POSIX st_nlink; unlink(2); 9P2000.L Rgetattr nlink[8]; known defect: GitLab qemu#103."""
    fd = orphan(share, unlink)
    fields("the file without a name", share.inside.soon.fstat(fd), nlink=0)


@case("UNLINKED-004", covers=[Tsetattr], cached_too=True)
@by_every_way
@pytest.mark.parametrize("size", [0, 5000])
def test_ftruncate(share: Share, lose: ByWay, size: int) -> None:
    """ftruncate(2) of a file without a name shortens or lengthens it, and no other file.
    Source: ftruncate(2); POSIX; known defect: GitLab qemu#103, LP#1336794 (ENOENT)."""
    fd = orphan(share, lose)
    share.inside.ftruncate(fd, size)
    other_is_untouched(share, lose)
    wanted = CONTENT.ljust(size, b"\0")[:size]
    equal("content of the file without a name", share.inside.soon.pread(fd, 10_000, 0), wanted, code="content")


@case("UNLINKED-005", covers=[Tsetattr])
@by_every_way
def test_fchmod(share: Share, lose: ByWay) -> None:
    """fchmod(2) of a file without a name changes its mode, and no other file's.
    Source: fchmod(2); known defect: GitLab qemu#103, LP#1336794 (ENOENT)."""
    fd = orphan(share, lose)
    share.inside.fchmod(fd, 0o600)
    other_is_untouched(share, lose)
    fields("the file without a name", share.inside.soon.fstat(fd), permissions=0o600)


@case("UNLINKED-006", covers=[Tsetattr])
@by_every_way
def test_fchown(share: Share, lose: ByWay) -> None:
    """fchown(2) of a file without a name changes its owner, and no other file's.
    Source: fchown(2); known defect: GitLab qemu#103, LP#1336794 (ENOENT)."""
    fd = orphan(share, lose)
    share.inside.fchown(fd, 1001, 2001)
    other_is_untouched(share, lose)
    seen = share.inside.fstat(fd)
    fields("the file without a name", seen, uid=1001, gid=2001)


@case("UNLINKED-007", covers=[Tsetattr])
@by_every_way
def test_futimens(share: Share, lose: ByWay) -> None:
    """futimens(3) of a file without a name sets its times, and no other file's.
    Source: utimensat(2); known defect: GitLab qemu#103, LP#1336794 (ENOENT)."""
    fd = orphan(share, lose)
    before = share.outside.lstat("fred")["st_mtime_ns"] if lose is not unlink else 0
    atime, mtime = 10**18, 10**18 + 7 * 10**9
    share.inside.futimens(fd, atime, mtime)
    if lose is not unlink:
        fields("the other file outside, which has the name now,", share.outside.lstat("fred"), mtime_ns=before)
    seen = share.inside.fstat(fd)
    fields("the file without a name", seen, atime_ns=atime, mtime_ns=mtime)


@case("UNLINKED-008", covers=[Tfsync, Twrite])
@by_every_way
def test_fsync(share: Share, lose: ByWay) -> None:
    """fsync(2) and fdatasync(2) of a file without a name succeed.  Source: fsync(2); 9P2000.L Tfsync."""
    fd = orphan(share, lose)
    share.inside.write(fd, b"abc")
    share.inside.fsync(fd)
    share.inside.fdatasync(fd)
    other_is_untouched(share, lose)


@case("UNLINKED-009", covers=[Tstatfs])
def test_fstatvfs(share: Share) -> None:
    """fstatvfs(3) of a file without a name shows the file system.  Source: fstatvfs(3); 9P2000.L Tstatfs."""
    fd = orphan(share, unlink)
    seen = share.inside.fstatvfs(fd)
    longest = share.outside.statvfs(".")["f_namemax"]
    equal("f_namemax inside, compared with outside", seen["f_namemax"], longest, code="field:namemax")


@case("UNLINKED-010", covers=[Txattrwalk, Txattrcreate], needs=["xattr"])
@by_every_way
def test_extended_attributes(share: Share, lose: ByWay) -> None:
    """fsetxattr(2), fgetxattr(2), flistxattr(2) and fremovexattr(2) work on a file without a name.
    Source: setxattr(2), getxattr(2); known defect: GitLab qemu#103, LP#1336794 (ENOENT)."""
    share.inside.create("fred", CONTENT, 0o640)
    share.inside.setxattr("fred", "user.before", b"1")
    fd = share.inside.open("fred", os.O_RDWR)
    lose(share)
    share.inside.fsetxattr(fd, "user.after", b"2")
    if lose is not unlink:
        equal(
            "attributes of the other file, which has the name now,", share.outside.listxattr("fred"), [], code="xattr"
        )
    equal("value of user.before", share.inside.soon.fgetxattr(fd, "user.before"), b"1", code="xattr")
    names = share.inside.flistxattr(fd)
    equal("names of the attributes", names, ["user.after", "user.before"], code="xattr")
    share.inside.fremovexattr(fd, "user.before")
    equal(
        "names of the attributes after fremovexattr(2)", share.inside.soon.flistxattr(fd), ["user.after"], code="xattr"
    )


@case("UNLINKED-011", covers=[Tlock, Tgetlock])
def test_record_locks(share: Share) -> None:
    """fcntl(2) and flock(2) locks of a file without a name are granted, refused to another process, queried and
    released.
    Source: fcntl(2) F_SETLK, F_GETLK, F_UNLCK; 9P2000.L Tlock, Tgetlock."""
    share.inside.create("fred", CONTENT, 0o640)
    other = share.inside.spawn("other")
    fd, theirs = (vantage.open("fred", os.O_RDWR) for vantage in (share.inside, other))
    share.inside.unlink("fred")
    share.inside.setlk(fd, "w", 0, 5)
    other.refuses(EAGAIN).setlk(theirs, "w", 4, 1)
    equal("type of lock reported in the way", other.getlk(theirs, "w", 0, 2)["type"], "w")
    equal("type of lock reported for other bytes", other.getlk(theirs, "w", 6, 2)["type"], "u")
    share.inside.setlk(fd, "u", 0, 5)
    share.inside.flock(fd, fcntl.LOCK_EX)
    other.refuses(EAGAIN).flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
    share.inside.flock(fd, fcntl.LOCK_UN)
    other.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)


@case("UNLINKED-012", covers=[Tread])
def test_private_map(share: Share) -> None:
    """mmap(2) of a file without a name shows its content, and so does a mapping made before.
    Source: POSIX mmap; unlink(2); known defect: GitLab qemu#103 (mmap after unlink)."""
    share.inside.create("fred", CONTENT)
    fd = share.inside.open("fred", os.O_RDWR)
    before = share.inside.mmap(fd, 10, mmap.PROT_READ, mmap.MAP_PRIVATE)
    share.inside.unlink("fred")
    after = share.inside.mmap(fd, 10, mmap.PROT_READ, mmap.MAP_PRIVATE)
    equal(
        "bytes of the mapping made before unlink(2)", share.inside.soon.map_read(before, 0, 10), CONTENT, code="content"
    )
    equal(
        "bytes of the mapping made after unlink(2)", share.inside.soon.map_read(after, 0, 10), CONTENT, code="content"
    )


@case("UNLINKED-013", caches=WRITE_BACK, covers=[Twrite])
def test_shared_map(share: Share) -> None:
    """What is written through a shared mapping of a file without a name is read through its descriptor.
    Source: POSIX mmap, msync."""
    fd = orphan(share, unlink)
    mapping = share.inside.mmap(fd, 10, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED)
    share.inside.map_write(mapping, 0, b"AB")
    share.inside.msync(mapping)
    equal("content read through the descriptor", share.inside.soon.pread(fd, 100, 0), b"AB23456789", code="content")


@case("UNLINKED-014", severity="linux")
def test_fallocate(share: Share) -> None:
    """fallocate(2) of a file without a name works or fails with EOPNOTSUPP.
    Source: fallocate(2) EOPNOTSUPP; 9P2000.L has no message for it (no fallocate in fs/9p/vfs_file.c)."""
    fd = orphan(share, unlink)
    seen = works_or(share.inside, (EOPNOTSUPP,), "fallocate", fd, 0, 0, 100)
    equal(
        "size of the file without a name",
        share.inside.soon.lseek(fd, 0, os.SEEK_END),
        100 if seen.errno is None else 10,
    )


@case("UNLINKED-015", covers=[Tread, Twrite], severity="linux")
def test_copying(share: Share) -> None:
    """copy_file_range(2) and sendfile(2) from a file without a name copy its bytes.
    Source: copy_file_range(2), sendfile(2)."""
    fd = orphan(share, unlink)
    share.inside.create("copy")
    to = share.inside.open("copy", os.O_RDWR)
    equal("bytes that copy_file_range() copied", share.inside.copy_file_range(fd, to, 10, 0, 0), 10)
    equal("bytes that sendfile() sent", share.inside.sendfile(to, fd, 0, 10), 10)
    share.inside.fsync(to)
    equal("content of 'copy' inside", share.inside.soon.slurp("copy"), CONTENT, code="content")


@case("UNLINKED-016", covers=[Tread])
def test_duplicates_and_closing(share: Share) -> None:
    """A duplicate of the descriptor works after the first is closed, and when all are closed nothing is left.
    Source: dup(2); POSIX unlink."""
    fd = orphan(share, unlink)
    second = share.inside.dup(fd)
    share.inside.close(fd)
    equal("content read through the duplicate", share.inside.soon.pread(second, 100, 0), CONTENT, code="content")
    share.inside.close(second)
    equal("names left in the directory", share.same(share.directory()), [], code="names")


@case("UNLINKED-017", covers=[Tread, Twrite])
def test_two_descriptors(share: Share) -> None:
    """Two descriptors of a file without a name are the same file, in two processes too.
    Source: POSIX open, unlink."""
    share.inside.create("fred", CONTENT)
    share.inside.chmod("fred", 0o666)
    reader = share.inside.spawn("reader", uid=1001)
    theirs = reader.open("fred", os.O_RDONLY)
    ours = share.inside.open("fred", os.O_WRONLY)
    share.inside.unlink("fred")
    share.inside.pwrite(ours, b"AB", 0)
    share.inside.fsync(ours)
    if share.mount.cache not in KEPT:
        equal("content read by the other process", reader.soon.pread(theirs, 100, 0), b"AB23456789", code="content")


@case("UNLINKED-018", covers=[Tread, Twrite], caches=UNCACHED)
def test_unlinked_outside(share: Share) -> None:
    """A file that is open in the guest and that the host removes can still be read and written there.
    Source: POSIX unlink: the server has it open for the guest."""
    share.inside.create("fred", CONTENT)
    fd = share.inside.open("fred", os.O_RDWR)
    with share.without_comparison():  # UNLINKED-027 checks whether the name is gone inside
        share.outside.unlink("fred")
    equal("content after the host removed the name", share.inside.soon.pread(fd, 100, 0), CONTENT, code="content")
    with share.without_comparison():
        share.inside.pwrite(fd, b"AB", 0)
    equal("content after a write", share.inside.soon.pread(fd, 100, 0), b"AB23456789", code="content")


@case("UNLINKED-024", covers=[Tread, Tsetattr], caches=UNCACHED)
def test_ftruncate_of_a_file_unlinked_outside(share: Share) -> None:
    """ftruncate(2) of a file that is open in the guest and that the host removes shortens it.
    Source: POSIX unlink, ftruncate; known defect: GitLab qemu#103 (ENOENT)."""
    share.inside.create("fred", CONTENT)
    fd = share.inside.open("fred", os.O_RDWR)
    with share.without_comparison():
        share.outside.unlink("fred")
        share.inside.ftruncate(fd, 6)
    equal("content after ftruncate(2)", share.inside.soon.pread(fd, 100, 0), CONTENT[:6], code="content")


@case("UNLINKED-026", covers=[Tgetattr], caches=UNCACHED)
def test_fstat_of_a_file_unlinked_outside(share: Share) -> None:
    """fstat(2) of a file that is open in the guest and that the host removes shows the file.
    Source: fstat(2); POSIX unlink; known defect: GitLab qemu#103 (ENOENT)."""
    share.inside.create("fred", CONTENT, 0o640)
    fd = share.inside.open("fred", os.O_RDWR)
    with share.without_comparison():
        share.outside.unlink("fred")
    fields("the file without a name", share.inside.soon.fstat(fd), size=10, permissions=0o640)


@case("UNLINKED-027", covers=[Tgetattr], caches=UNCACHED)
def test_a_name_removed_outside_is_gone(share: Share) -> None:
    """A name that the host removes is gone inside at once, even while the guest holds its file open.
    Source: POSIX unlink; Linux Documentation/filesystems/9p.rst "none = no caches used"."""
    share.inside.create("fred", CONTENT)
    share.inside.open("fred", os.O_RDWR)
    with share.without_comparison():
        share.outside.unlink("fred")
    share.gone("fred")


@case("UNLINKED-019", covers=[Tread, Twrite], caches=UNCACHED)
def test_replaced_outside(share: Share) -> None:
    """A descriptor of a file that the host has replaced by another still reads and writes the first.
    Source: POSIX rename; editors save this way."""
    share.inside.create("fred", CONTENT)
    fd = share.inside.open("fred", os.O_RDWR)
    with share.without_comparison():  # UNLINKED-028 checks which file the name shows inside
        share.outside.create("new", b"the other file")
        share.outside.rename("new", "fred")
    equal("content read through the descriptor", share.inside.soon.pread(fd, 100, 0), CONTENT, code="content")
    with share.without_comparison():
        share.inside.pwrite(fd, b"AB", 0)
    equal("content read after a write", share.inside.soon.pread(fd, 10, 0), b"AB23456789", code="content")
    equal("content of the other file outside", share.outside.slurp("fred"), b"the other file", code="content")


@case("UNLINKED-025", covers=[Tgetattr], caches=UNCACHED)
def test_fstat_of_a_file_replaced_outside(share: Share) -> None:
    """fstat(2) of a file that the host has replaced by another shows the first.
    Source: fstat(2); POSIX rename; known defect: GitLab qemu#103."""
    share.inside.create("fred", CONTENT, 0o640)
    fd = share.inside.open("fred", os.O_RDWR)
    with share.without_comparison():
        share.outside.create("new", b"the other file")
        share.outside.rename("new", "fred")
    fields("the file that was replaced", share.inside.soon.fstat(fd), size=10, permissions=0o640)


@case("UNLINKED-028", covers=[Tread], caches=UNCACHED)
def test_a_name_given_away_outside_shows_the_other_file(share: Share) -> None:
    """A name that the host gives to another file opens that one inside at once, even while the guest holds the first
    open.
    Source: POSIX rename; Linux Documentation/filesystems/9p.rst "none = no caches used"."""
    share.inside.create("fred", CONTENT)
    share.inside.open("fred", os.O_RDWR)
    with share.without_comparison():
        share.outside.create("new", b"the other file")
        share.outside.rename("new", "fred")
    equal(
        "content by the name, which is the other file's,",
        share.inside.soon.slurp("fred"),
        b"the other file",
        code="content",
    )


@case("UNLINKED-020", covers=[Twrite], severity="linux")
def test_reopening_by_proc(share: Share) -> None:
    """/proc/self/fd/N of a file without a name opens the same file again, or fails with ENOENT.
    Source: proc(5) /proc/[pid]/fd; a network file system cannot open a file without a name: on NFS and 9P the client
    walks by name (Linux fs/9p/fid.c v9fs_fid_clone clones a fid that is known)."""
    fd = orphan(share, unlink)
    seen = works_or(share.inside, (ENOENT,), "open", f"/proc/{share.inside.getpid()}/fd/{fd}", os.O_RDONLY)
    if seen.errno is None:
        equal("content of the file opened again", share.inside.soon.pread(seen.value, 100, 0), CONTENT, code="content")


@case("UNLINKED-021", covers=[Tunlinkat])
def test_link_of_the_descriptor(share: Share) -> None:
    """linkat(2) by /proc/self/fd of a file whose last name is gone fails with ENOENT.
    Source: linkat(2) ENOENT "oldpath ... is a magic link to a file that has been deleted"; Linux fs/namei.c
    vfs_link(): i_nlink 0 -> ENOENT."""
    fd = orphan(share, unlink)
    share.inside.refuses(ENOENT).linkat(f"/proc/{share.inside.getpid()}/fd/{fd}", "george", 0x400)
    share.gone("george")


@case("UNLINKED-022", covers=[Tunlinkat], caches=UNCACHED, seconds=120.0)
def test_the_space_comes_back(share: Share) -> None:
    """The space of an unlinked file is free again on the host once the guest has closed it, and it can be read
    until then.
    Source: POSIX unlink; a server that leaks the fid keeps the file forever; known defect: CVE-2017-7377 and similar
    (leaks of what a fid holds)."""
    size, freed = 16 << 20, 0
    top = share.outside.open(".", os.O_RDONLY | os.O_DIRECTORY)
    for turn in range(4):  # other processes use the disk, too: one attempt may fail
        fd = share.inside.open("fred", os.O_RDWR | os.O_CREAT)
        share.inside.write_pattern(fd, size)
        share.inside.fsync(fd)
        before = share.outside.statvfs(".")
        share.inside.unlink("fred")
        equal("number of bytes read at the end after unlink(2)", len(share.inside.pread(fd, 100, size - 100)), 100)
        share.inside.close(fd)
        if turn:
            share.outside.syncfs(top)  # some file systems count what is freed when they commit
        after = share.outside.statvfs(".")
        freed = (after["f_bfree"] - before["f_bfree"]) * after["f_frsize"]
        if freed >= size // 2:
            return
    holds(f"closing the unlinked file frees its {size} bytes on the host", False, seen=f"{freed} bytes")


@case("UNLINKED-023", covers=[Tread, Twrite])
def test_the_other_calls_on_a_descriptor(share: Share) -> None:
    """readv(2), writev(2), preadv2(2), pwritev2(2), posix_fadvise(2), fcntl(2) F_GETFL and syncfs(2) work on a file
    without a name.  Source: POSIX unlink; the calls' man pages name no such error."""
    earlier_errors_reported(share)
    fd = orphan(share, unlink)
    equal("bytes that readv() read", share.inside.readv(fd, [3, 4]), b"0123456", code="content")
    share.inside.lseek(fd, 0)
    share.inside.writev(fd, [b"AB", b"CD"])
    share.inside.pwritev(fd, [b"x", b"y"], 8)
    share.inside.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    share.inside.syncfs(fd)
    equal(
        "bytes that preadv() read after the writes", share.inside.preadv(fd, [6, 6], 0), b"ABCD4567xy", code="content"
    )
    flags = share.inside.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    equal("access mode that F_GETFL reports", flags, os.O_RDWR)


@case("UNLINKED-031", covers=[Treaddir], severity="linux")
def test_reading_a_removed_directory(share: Share) -> None:
    """getdents(2) on a directory that was removed while open shows nothing but perhaps "." and "..", or fails with
    ENOENT.
    Source: getdents(2) "ENOENT: No such directory"; POSIX readdir leaves it open: Linux gives ENOENT for
    IS_DEADDIR (fs/readdir.c iterate_dir())."""
    share.inside.mkdir("dir")
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.getdents(fd, 100)
    share.inside.lseek(fd, 0)
    share.inside.rmdir("dir")
    seen = works_or(share.inside, (ENOENT,), "getdents", fd)
    names = {e[0] for e in seen.value or []} - {".", ".."}
    equal("names in the removed directory but '.' and '..'", names, set(), code="names")


@case("UNLINKED-032", cached_too=True)
def test_names_in_a_removed_directory(share: Share) -> None:
    """openat(2), mkdirat(2), symlinkat(2) and unlinkat(2) below a directory that was removed fail with ENOENT, even if
    another one has its name now.
    Source: open(2) ENOENT "dirfd ... refers to a directory that has been deleted"; mkdir(2) ENOENT; Linux
    fs/namei.c: IS_DEADDIR."""
    share.inside.mkdir("dir")
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.rmdir("dir")
    share.inside.mkdir("dir")
    share.inside.create("dir/fred", b"of the other directory")
    share.inside.refuses(ENOENT).open("x", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd)
    share.inside.refuses(ENOENT).mkdir("x", dir_fd=fd)
    share.inside.refuses(ENOENT).symlink("target", "x", dir_fd=fd)
    share.inside.refuses(ENOENT).unlinkat("fred", 0, dir_fd=fd)
    share.inside.refuses(ENOENT).open("fred", dir_fd=fd)
    equal("names in 'dir'", share.same(share.directory("dir")), ["fred"], code="names")


@case("UNLINKED-033", covers=[Tgetattr], caches=UNCACHED)
def test_fstat_of_a_removed_directory(share: Share) -> None:
    """fstat(2) of a directory that was removed while open shows a directory.
    Source: fstat(2); known defect: GitLab qemu#103 (ENOENT)."""
    share.inside.mkdir("dir", 0o750)
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.rmdir("dir")
    fields("the removed directory", share.inside.soon.fstat(fd), mode=0o40750)


@case("UNLINKED-034", covers=[Tsetattr])
def test_fchmod_of_a_removed_directory(share: Share) -> None:
    """fchmod(2) of a directory that was removed while open succeeds, and changes no other of that name.
    Source: fchmod(2); known defect: GitLab qemu#103 (ENOENT)."""
    share.inside.mkdir("dir", 0o750)
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.rmdir("dir")
    share.inside.mkdir("dir", 0o755)
    share.inside.fchmod(fd, 0o700)
    fields("the other directory, which has the name now,", share.same(share.stat("dir")), permissions=0o755)


@case("UNLINKED-035", cached_too=True)
def test_the_idiom_of_a_temporary_file(share: Share) -> None:
    """A program's use of a temporary file: make, unlink, write, read back, fstat, write again from the start, close.
    Source: tmpfile(3); known defect: GitLab qemu#103 (apt: "Unable to determine file size for fd")."""
    fd = share.inside.open("tmp", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    share.inside.unlink("tmp")
    share.inside.write_pattern(fd, 300_000, seed=5)
    has_pattern("the file without a name", share.inside, fd, 300_000, 5)
    fields("the file without a name", share.inside.soon.fstat(fd), size=300_000)
    share.inside.lseek(fd, 0)
    share.inside.write(fd, b"again")
    equal("bytes that were written again", share.inside.soon.pread(fd, 5, 0), b"again", code="content")
    share.inside.close(fd)
    equal("names left in the directory", share.same(share.directory()), [], code="names")


@case("UNLINKED-036", cached_too=True)
def test_a_temporary_file_used_again(share: Share) -> None:
    """A temporary file without a name is emptied by ftruncate(2) and written again.
    Source: tmpfile(3), ftruncate(2); known defect: GitLab qemu#103 (ENOENT)."""
    fd = share.inside.open("tmp", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    share.inside.unlink("tmp")
    share.inside.write(fd, b"the first time")
    share.inside.ftruncate(fd, 0)
    share.inside.lseek(fd, 0)
    share.inside.write(fd, b"again")
    fields("the file without a name", share.inside.soon.fstat(fd), size=5)
    equal("content of the file without a name", share.inside.soon.pread(fd, 100, 0), b"again", code="content")
    share.inside.close(fd)
    equal("names left in the directory", share.same(share.directory()), [], code="names")
