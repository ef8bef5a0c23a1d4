"""open(2) flags beyond creating and truncating: O_NOFOLLOW, O_DIRECTORY, O_PATH, O_TMPFILE, O_SYNC, O_DIRECT,
O_NOATIME, O_NONBLOCK on a fifo, and flags without effect on a regular file."""

from __future__ import annotations

import os
import stat
from errno import EBADF, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, ENXIO, EOPNOTSUPP, EPERM

import pytest

from conformance.case import UNCACHED, WRITE_THROUGH, case
from conformance.cases.vfs.outcomes import works_or
from conformance.cases.vfs.test_open import make_node
from conformance.checks import Octal, equal, fields, holds
from conformance.errors import Undrivable
from conformance.vfs.share import Share
from protocol.messages import Tgetattr, Tlcreate, Tlopen, Tread, Treadlink, Twalk, Twrite

O_PATH = os.O_PATH
ST_NOATIME = 1024


@case("OPEN-101", covers=[Twalk])
@pytest.mark.parametrize("kind", ["link", "dangling"])
@pytest.mark.parametrize(
    "flags", [os.O_RDONLY, os.O_WRONLY, os.O_CREAT | os.O_WRONLY], ids=["rdonly", "wronly", "creat"]
)
def test_nofollow_on_a_link(share: Share, kind: str, flags: int) -> None:
    """open(O_NOFOLLOW) of a symbolic link fails with ELOOP, even with O_CREAT, and leaves link and target
    alone.
    Source: open(2) "O_NOFOLLOW", ELOOP; POSIX open."""
    make_node(share, kind, "link")
    before = share.same(share.directory())
    share.inside.refuses(ELOOP).open("link", flags | os.O_NOFOLLOW)
    equal("names in the case's directory", share.same(share.directory()), before, code="names")


@case("OPEN-102", covers=[Tlopen, Tread])
def test_nofollow_on_other_things(share: Share) -> None:
    """open(O_NOFOLLOW) of a file opens it, even below a symbolic link: only the last component counts.
    Source: open(2) "Symbolic links in earlier components of the pathname will still be followed"."""
    share.inside.mkdir("dir")
    share.inside.create("dir/fred", b"abc")
    share.inside.symlink("dir", "link")
    for name in ("dir/fred", "link/fred"):
        fd = share.inside.open(name, os.O_NOFOLLOW)
        equal(f"content of {name!r} opened with O_NOFOLLOW", share.inside.soon.read(fd, 9), b"abc", code="content")


@case("OPEN-103")
@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
def test_directory_on_something_else(share: Share, kind: str) -> None:
    """open(O_DIRECTORY) of anything but a directory, or of a link to such, fails with ENOTDIR, and does not wait for
    the other end of a fifo.
    Source: open(2) "O_DIRECTORY: If pathname is not a directory, cause the open to fail"."""
    make_node(share, kind, "fred")
    share.inside.refuses(ENOTDIR).open("fred", os.O_DIRECTORY)


@case("OPEN-104", covers=[Tlopen])
def test_directory_on_a_directory(share: Share) -> None:
    """open(O_DIRECTORY) opens a directory, even through a symbolic link unless O_NOFOLLOW is given too
    (ENOTDIR or ELOOP).
    Source: open(2) "O_DIRECTORY", "O_NOFOLLOW"; Linux fs/namei.c do_open() gives ENOTDIR."""
    share.inside.mkdir("dir")
    share.inside.symlink("dir", "link")
    for name in ("dir", "link"):
        fd = share.inside.open(name, os.O_DIRECTORY)
        fields(f"{name!r} opened with O_DIRECTORY", share.inside.soon.fstat(fd), type=stat.S_IFDIR)
    share.inside.refuses(ENOTDIR, ELOOP).open("link", os.O_DIRECTORY | os.O_NOFOLLOW)


@case("OPEN-105", covers=[Tgetattr])
def test_path_descriptor(share: Share) -> None:
    """An O_PATH descriptor works for fstat(2), openat(2) and as a base directory; read, write, ftruncate, fchmod,
    fchown and fsync fail with EBADF.
    Source: open(2) "O_PATH"."""
    share.inside.create("fred", b"abc", 0o640)
    fd = share.inside.open("fred", O_PATH)
    fields("the O_PATH descriptor's file", share.inside.soon.fstat(fd), size=3)
    share.inside.refuses(EBADF).read(fd, 1)
    share.inside.refuses(EBADF).write(fd, b"x")
    share.inside.refuses(EBADF).fchmod(fd, 0o777)
    share.inside.refuses(EBADF).fchown(fd, 1, 1)
    share.inside.refuses(EBADF).fsync(fd)
    unwritable = share.inside.refuses(EBADF, EINVAL, because="ftruncate(2): not open for writing")
    unwritable.ftruncate(fd, 0)
    equal("size of 'fred'", share.same(share.content("fred"))[0], 3, code="field:size")
    at = share.inside.open(".", O_PATH | os.O_DIRECTORY)
    below = share.inside.open("fred", dir_fd=at)
    equal("content of the file below an O_PATH descriptor", share.inside.soon.read(below, 9), b"abc", code="content")


@case("OPEN-106", covers=[Treadlink])
def test_path_of_a_link(share: Share) -> None:
    """O_PATH|O_NOFOLLOW opens a symbolic link itself: fstat(2) shows a link, readlinkat(2) of "" its text.
    Source: open(2) "If pathname is a symbolic link and the O_NOFOLLOW flag is also specified"."""
    share.inside.symlink("some/where", "link")
    fd = share.inside.open("link", O_PATH | os.O_NOFOLLOW)
    fields("the link opened with O_PATH|O_NOFOLLOW", share.inside.soon.fstat(fd), type=stat.S_IFLNK)
    text = share.inside.readlink("", dir_fd=fd)
    equal("text of the link opened with O_PATH|O_NOFOLLOW", text, "some/where", code="field:target")


@case("OPEN-107")
def test_path_needs_no_permission_on_the_file(share: Share) -> None:
    """O_PATH of a file with mode 0 works for a user with search permission on its path.
    Source: open(2) "Opening a file ... with the O_PATH flag requires no permissions on the object itself"."""
    share.inside.create("fred", b"", 0)
    bob = share.inside.spawn("bob", uid=1001)
    fields("the file of mode 0 opened with O_PATH", bob.soon.fstat(bob.open("fred", O_PATH)), permissions=0)


@case("OPEN-108")
def test_path_of_a_fifo_does_not_wait(share: Share) -> None:
    """O_PATH of a fifo returns at once, without a reader or writer.
    Source: open(2) "O_PATH: ... The file itself is not opened"."""
    make_node(share, "fifo", "pipe")
    fd = share.inside.open("pipe", O_PATH)
    fields("the fifo opened with O_PATH", share.inside.soon.fstat(fd), type=stat.S_IFIFO)


@case("OPEN-109", severity="linux")
@pytest.mark.parametrize("excl", [0, os.O_EXCL], ids=["plain", "excl"])
def test_tmpfile(share: Share, excl: int) -> None:
    """open(O_TMPFILE) either makes an unnamed file that can be written and read, or fails with EOPNOTSUPP; no
    name appears.  Source: open(2) EOPNOTSUPP "The filesystem containing pathname does not support O_TMPFILE";
    Linux fs/9p has no tmpfile inode operation."""
    seen = works_or(share.inside, (EOPNOTSUPP,), "open", ".", os.O_TMPFILE | os.O_RDWR | excl, 0o600)
    if seen.errno is None:
        share.inside.pwrite(seen.value, b"abc", 0)
        equal("content of the unnamed file", share.inside.soon.pread(seen.value, 9, 0), b"abc", code="content")
        fields("the unnamed file", share.inside.soon.fstat(seen.value), nlink=0)
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("OPEN-110")
def test_tmpfile_of_bad_arguments(share: Share) -> None:
    """O_TMPFILE without write access fails with EINVAL, below a missing directory with ENOENT.
    Source: open(2) EINVAL "O_TMPFILE was specified in flags, but neither O_WRONLY nor O_RDWR", ENOENT."""
    share.inside.refuses(EINVAL).open(".", os.O_TMPFILE | os.O_RDONLY)
    share.inside.refuses(ENOENT).open("nodir", os.O_TMPFILE | os.O_RDWR)


@case("OPEN-111", covers=[Tlcreate, Twrite], cached_too=True)
@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC], ids=["sync", "dsync"])
def test_sync_writes_are_there_at_once(share: Share, flag: int) -> None:
    """Data written through O_SYNC or O_DSYNC is visible outside when write(2) returns, in every cache mode.
    Source: open(2) "O_SYNC": data are "transferred to the underlying hardware" when write returns."""
    fd = share.inside.open("fred", os.O_CREAT | os.O_RDWR | flag, 0o644)
    for size in (10, 5000, 200_000):
        equal(f"bytes that write() of {size} wrote", share.inside.write_pattern(fd, size, seed=size), size)
    fields("'fred' outside", share.outside.stat("fred"), size=205_010)
    equal("size of 'fred'", share.same(share.content("fred"))[0], 205_010, code="field:size")


def direct(share: Share, flags: int) -> int:
    """`fred`, opened with O_DIRECT. Undrivable where the guest's client or the server refuses that: open(2) EINVAL."""
    seen = works_or(share.inside, (EINVAL,), "open", "fred", flags | os.O_DIRECT, 0o644)
    if seen.errno is not None:
        raise Undrivable(f"O_DIRECT: the file system does not support it ({seen})")
    fd: int = seen.value
    return fd


@case("OPEN-112", covers=[Tread, Twrite], cached_too=True)
def test_direct_reads_and_writes(share: Share) -> None:
    """Aligned reads and writes through O_DIRECT move the bytes between server and user, or open(2) fails with
    EINVAL.  Source: open(2) "O_DIRECT", EINVAL "The filesystem does not support the O_DIRECT flag"."""
    fd = direct(share, os.O_CREAT | os.O_RDWR)
    blocks = [bytes([65 + i]) * 4096 for i in range(4)]
    for i, block in enumerate(blocks):
        equal(f"bytes that write {i} wrote with O_DIRECT", share.inside.write_direct(fd, block, i * 4096), 4096)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"".join(blocks), code="content")
    for i, block in enumerate(blocks):
        back = share.inside.read_direct(fd, 4096, i * 4096)
        equal(f"bytes of block {i} read with O_DIRECT", back, block, code="content")
    equal("bytes read with O_DIRECT at the end", share.inside.read_direct(fd, 4096, 4 * 4096), b"", code="content")


@case("OPEN-113", covers=[Tread], caches=WRITE_THROUGH)
def test_direct_read_sees_the_host(share: Share) -> None:
    """A read through O_DIRECT returns what the host has just written.
    Source: open(2) "O_DIRECT: Try to minimize cache effects of the I/O"."""
    share.inside.create("fred", b"a" * 4096)
    fd = direct(share, os.O_RDONLY)
    equal("bytes read with O_DIRECT inside", share.inside.read_direct(fd, 4096, 0), b"a" * 4096, code="content")
    share.outside.overwrite("fred", b"b" * 4096)
    equal(
        "bytes read with O_DIRECT after the host wrote",
        share.inside.read_direct(fd, 4096, 0),
        b"b" * 4096,
        code="content",
    )


@case("OPEN-114", covers=[Tlopen, Tread], severity="linux")
def test_noatime_leaves_the_access_time(share: Share) -> None:
    """Reading through O_NOATIME does not move the access time, inside or outside.
    Source: open(2) "O_NOATIME"; P9_DOTL_NOATIME of Tlopen hands it to the server."""
    share.inside.create("fred", b"abc")
    share.inside.utimensat("fred", 10**18, 2 * 10**18)
    fd = share.inside.open("fred", os.O_RDONLY | os.O_NOATIME)
    equal("content of 'fred' inside", share.inside.soon.read(fd, 9), b"abc", code="content")
    fields("'fred'", share.same(share.stat("fred")), atime_ns=10**18)
    fields("'fred' outside", share.outside.stat("fred"), atime_ns=10**18)


@case("OPEN-115", covers=[Tread], severity="linux", caches=UNCACHED)
def test_reading_moves_the_access_time(share: Share) -> None:
    """Reading moves an access time that is older than the modification time, and both sides show it.
    Source: POSIX read "shall mark for update the last data access timestamp"; mount(8) relatime."""
    if share.outside.statvfs(".")["f_flag"] & ST_NOATIME:
        raise Undrivable("the exported file system is mounted noatime")
    share.inside.create("fred", b"abc")
    share.inside.utimensat("fred", 10**18, 15 * 10**17)
    equal("content of 'fred' inside", share.inside.soon.read(share.inside.open("fred"), 9), b"abc", code="content")
    atime = share.same(share.stat("fred"))["st_atime_ns"]
    holds("atime of 'fred' moves when it is read", atime > 10**18, seen=atime, code="field:atime_ns")


@case("OPEN-116")
def test_noatime_of_another_users_file(share: Share) -> None:
    """O_NOATIME by a user who neither owns the file nor is privileged fails with EPERM.
    Source: open(2) EPERM "O_NOATIME flag was specified, but the effective user ID ... did not match"."""
    share.inside.create("fred", b"abc", 0o644)
    bob = share.inside.spawn("bob", uid=1001)
    bob.refuses(EPERM).open("fred", os.O_RDONLY | os.O_NOATIME)
    equal("content read without O_NOATIME", bob.soon.read(bob.open("fred"), 9), b"abc", code="content")


@case("OPEN-117")
def test_nonblock_on_a_fifo(share: Share) -> None:
    """O_NONBLOCK on a fifo: reading opens at once, writing fails with ENXIO while nobody reads and works once
    somebody does.  Source: open(2) ENXIO; fifo(7); POSIX open "O_NONBLOCK"."""
    make_node(share, "fifo", "pipe")
    share.inside.refuses(ENXIO).open("pipe", os.O_WRONLY | os.O_NONBLOCK)
    reader = share.inside.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    equal("bytes read from a fifo without a writer", share.inside.soon.read(reader, 9), b"", code="content")
    writer = share.inside.open("pipe", os.O_WRONLY | os.O_NONBLOCK)
    share.inside.write(writer, b"through")
    equal("bytes read from the fifo", share.inside.soon.read(reader, 9), b"through", code="content")


@case("OPEN-118")
def test_blocking_open_of_a_fifo(share: Share) -> None:
    """open(O_WRONLY) of a fifo waits until another process opens it for reading.
    Source: fifo(7) "opening the FIFO blocks until the other end is opened also"; POSIX open."""
    make_node(share, "fifo", "pipe")
    writer, reader = share.inside.spawn("writer"), share.inside.spawn("reader")
    waiting = writer.start.open("pipe", os.O_WRONLY)
    holds("open(O_WRONLY) of a fifo waits for a reader", not waiting.finished(0.15), code="returned")
    fd = reader.open("pipe", os.O_RDONLY)
    writer.write(waiting.result(), b"abc")
    equal("bytes read from the fifo", reader.soon.read(fd, 9), b"abc", code="content")


@case("OPEN-119")
def test_open_of_a_socket(share: Share) -> None:
    """open(2) of a UNIX-domain socket fails with ENXIO and the socket stays.
    Source: open(2) ENXIO "The file is a UNIX domain socket"."""
    make_node(share, "socket", "sock")
    share.inside.refuses(ENXIO).open("sock")
    share.inside.refuses(ENXIO).open("sock", os.O_RDWR | os.O_NONBLOCK)
    equal("names in the case's directory", share.same(share.directory()), ["sock"], code="names")


@case("OPEN-120", covers=[Tlcreate, Tlopen, Tread])
@pytest.mark.parametrize(
    "flag",
    [os.O_NOCTTY, os.O_NONBLOCK, os.O_CLOEXEC, 0o100000, 0o20000],
    ids=["noctty", "nonblock", "cloexec", "largefile", "async"],
)
def test_flags_without_meaning_for_a_file(share: Share, flag: int) -> None:
    """O_NOCTTY, O_NONBLOCK, O_CLOEXEC, O_LARGEFILE and O_ASYNC make no difference to a regular file.
    Source: open(2), each flag: for terminals, fifos, sockets or the descriptor only; they travel in
    Tlopen."""
    fd = share.inside.open("fred", os.O_CREAT | os.O_EXCL | os.O_RDWR | flag, 0o640)
    share.inside.write(fd, b"abc")
    again = share.inside.open("fred", os.O_RDWR | flag)
    equal("content read through another descriptor", share.inside.soon.read(again, 9), b"abc", code="content")
    fields("'fred'", share.same(share.stat("fred")), permissions=0o640)


@case("OPEN-121", covers=[Tlopen])
def test_flags_of_a_descriptor(share: Share) -> None:
    """fcntl(F_GETFL) returns the access mode and status flags that open(2) was given.  Source: fcntl(2) F_GETFL."""
    share.inside.create("fred")
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_NONBLOCK):
        got = share.inside.fcntl(share.inside.open("fred", flags), 3) & ~0o100000
        equal(f"flags that F_GETFL reports of open({flags:#o})", Octal(got), Octal(flags))


@case("OPEN-122", covers=[Tlopen, Tread], about="agreement")
def test_reopen_through_proc(share: Share) -> None:
    """A descriptor reopened through /proc/self/fd has the access mode of the second open(2).
    Source: proc(5) "/proc/[pid]/fd"; open(2) NOTES, on O_PATH descriptors."""
    share.inside.create("fred", b"abc")
    held = share.inside.open("fred", O_PATH)
    fd = share.inside.open(f"/proc/self/fd/{held}", os.O_RDWR)
    with share.without_comparison():
        share.inside.pwrite(fd, b"X", 0)
    equal("content read through /proc/self/fd", share.inside.soon.pread(fd, 9, 0), b"Xbc", code="content")
    share.same(share.stat("fred"))


@case("OPEN-123")
def test_read_of_a_directory(share: Share) -> None:
    """read(2) of an opened directory fails with EISDIR.  Source: read(2) EISDIR."""
    share.inside.mkdir("dir")
    share.inside.refuses(EISDIR).read(share.inside.open("dir"), 100)


@case("OPEN-124")
def test_close_twice(share: Share) -> None:
    """close(2) of a closed descriptor fails with EBADF, and so does any other use of it.
    Source: close(2) EBADF; POSIX close."""
    share.inside.create("fred")
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.close(fd)
    share.inside.refuses(EBADF).close(fd)
    share.inside.refuses(EBADF).read(fd, 1)
    share.inside.refuses(EBADF).write(fd, b"x")
