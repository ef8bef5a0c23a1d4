"""mknod(2), mkfifo(3), bind(2): special files on the share, made inside or outside, and their use."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from errno import EADDRINUSE, ECONNREFUSED, EINVAL, ENOENT, ENXIO, EPERM, EPIPE
from typing import Any

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.shared_errors import (
    Operation,
    for_each,
    refuses_bad_paths,
    refuses_taken_names,
    refuses_without_write_permission,
)
from conformance.checks import changes, equal, fields, holds
from conformance.vfs.share import Share, preparing
from protocol.messages import Tgetattr, Tmknod, Tsetattr

MKNOD = Operation("mknod", lambda v, path: v.mknod(path, stat.S_IFREG | 0o644), needs="nothing")
MKFIFO = Operation("mkfifo", lambda v, path: v.mkfifo(path), needs="nothing")
BIND = Operation("bind", lambda v, path: v.bind_socket(path), needs="nothing")

KINDS = {
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "regular": stat.S_IFREG,
}
DEVICES = ("char", "block")
NULL = os.makedev(1, 3)


def device_of(kind: str) -> int:
    """The device number to give mknod(2): an unused one, so that no driver is involved."""
    return os.makedev(240, 17) if kind in DEVICES else 0


def need_root_for(share: Share, kind: str) -> None:
    """Device nodes are made by root on the host, too."""
    if kind in DEVICES:
        share.need("host-root", "only root makes device nodes")


def has_device(what: str, seen: Mapping[str, Any], numbers: tuple[int, int]) -> None:
    """The node of that stat result has the device numbers (major, minor)."""
    device = seen["st_rdev"]
    equal(f"major and minor of {what}", (os.major(device), os.minor(device)), numbers, code="field:rdev")


@case("NODE-001", covers=[Tmknod], needs=["mknod"])
@pytest.mark.parametrize("kind", KINDS)
def test_mknod_makes_a_node(share: Share, kind: str) -> None:
    """mknod(2) makes a fifo, socket, device node or regular file with that type, mode & ~umask, one link, and the
    device number given.
    Source: mknod(2); POSIX mknod; 9P2000.L Tmknod; known defect: lf-edge/eve#4186 (ENXIO since QEMU's fix of
    CVE-2023-2861)."""
    need_root_for(share, kind)
    share.inside.umask(0o026)
    share.inside.mknod("node", KINDS[kind] | 0o666, device_of(kind))
    seen = share.same(share.stat("node"))
    fields("'node'", seen, mode=KINDS[kind] | 0o640, nlink=1, size=0)
    if kind in DEVICES:
        fields("'node'", seen, rdev=device_of(kind))
    equal("names in the case's directory", share.same(share.directory()), ["node"], code="names")


@case("NODE-002", covers=[Tmknod], needs=["mknod"])
@pytest.mark.parametrize(
    "numbers", [(0, 1), (1, 3), (255, 255), (256, 256), (4095, 1048575)], ids=["0-1", "1-3", "255", "256", "max"]
)
def test_device_numbers(share: Share, numbers: tuple[int, int]) -> None:
    """mknod(2) keeps the device number of a node, up to the largest that Linux knows.
    Source: mknod(2), makedev(3); 9P2000.L Tmknod major[4] minor[4]; Linux: 12 bits and 20 bits."""
    need_root_for(share, "char")
    if not share.alone:
        with preparing(f"a device node {numbers[0]}:{numbers[1]}"):
            share.outside.quietly.mknod("probe", stat.S_IFCHR | 0o600, os.makedev(*numbers))
        share.outside.quietly.unlink("probe")
    share.inside.mknod("node", stat.S_IFCHR | 0o600, os.makedev(*numbers))
    has_device("'node'", share.same(share.stat("node")), numbers)


@case("NODE-003", covers=[Tgetattr], caches=FRESH, about="agreement")
@pytest.mark.parametrize("kind", KINDS)
def test_a_node_made_outside(share: Share, kind: str) -> None:
    """A fifo, socket or device node that the host makes has the same type, mode and device number inside.
    Source: stat(2) st_mode, st_rdev; 9P2000.L Rgetattr mode[4] rdev[8]."""
    need_root_for(share, kind)
    share.outside.mknod("node", KINDS[kind] | 0o640, device_of(kind))
    seen = share.same(share.stat("node"))
    fields("'node'", seen, mode=KINDS[kind] | 0o640)
    if kind in DEVICES:
        fields("'node'", seen, rdev=device_of(kind))
    share.same(share.stat("node", kind="statx"))
    equal("names in the case's directory", share.same(share.directory()), ["node"], code="names")


@case("NODE-004", covers=[Tgetattr], caches=FRESH, about="agreement")
@pytest.mark.parametrize("numbers", [(1, 3), (255, 255), (256, 256), (4095, 1048575)], ids=["1-3", "255", "256", "max"])
def test_device_numbers_made_outside(share: Share, numbers: tuple[int, int]) -> None:
    """The device number of a node that the host makes is the same inside, up to the largest that Linux knows.
    Source: 9P2000.L Rgetattr rdev[8]; Linux include/linux/kdev_t.h new_encode_dev()."""
    need_root_for(share, "char")
    with preparing(f"a device node {numbers[0]}:{numbers[1]}"):
        share.outside.mknod("node", stat.S_IFCHR | 0o600, os.makedev(*numbers))
    seen = share.inside.lstat("node")
    share.same(share.stat("node"))
    has_device("'node' inside", seen, numbers)


@case("NODE-005", covers=[Tsetattr], caches=FRESH)
@pytest.mark.parametrize("kind", ["fifo", "socket", "char"])
def test_mode_of_a_node(share: Share, kind: str) -> None:
    """chmod(2) works on a node that the host made, and does not open it.
    Source: POSIX chmod names any file; 9P2000.L Tsetattr; known defect: GitLab qemu#2337 (ENXIO)."""
    need_root_for(share, kind)
    share.outside.mknod("node", KINDS[kind] | 0o644, NULL if kind == "char" else 0)
    share.inside.chmod("node", 0o600)
    fields("'node'", share.same(share.stat("node")), mode=KINDS[kind] | 0o600)


@case("NODE-019", covers=[Tsetattr], caches=FRESH)
@pytest.mark.parametrize("kind", ["fifo", "socket", "char"])
def test_owner_of_a_node(share: Share, kind: str) -> None:
    """chown(2) works on a node that the host made, and does not open it.
    Source: POSIX chown names any file; 9P2000.L Tsetattr."""
    need_root_for(share, kind)
    share.outside.mknod("node", KINDS[kind] | 0o644, NULL if kind == "char" else 0)
    share.inside.chown("node", 1001, 2001)
    fields("'node'", share.same(share.stat("node")), mode=KINDS[kind] | 0o644, uid=1001, gid=2001)


@case("NODE-020", covers=[Tsetattr], caches=FRESH)
@pytest.mark.parametrize("kind", ["fifo", "socket", "char"])
def test_times_of_a_node(share: Share, kind: str) -> None:
    """utimensat(2) works on a node that the host made, and does not open it.
    Source: POSIX utimensat names any file; 9P2000.L Tsetattr."""
    need_root_for(share, kind)
    share.outside.mknod("node", KINDS[kind] | 0o644, NULL if kind == "char" else 0)
    share.inside.utimensat("node", 10**18, 10**18 + 10**9)
    fields("'node'", share.same(share.stat("node")), type=KINDS[kind], mtime_ns=10**18 + 10**9)


@case("NODE-006", covers=[Tmknod], needs=["mknod"])
def test_mknod_of_type_zero_makes_a_regular_file(share: Share) -> None:
    """mknod(2) with no file type in its mode makes a regular file, which can be written and read.
    Source: mknod(2) "Zero file type is equivalent to type S_IFREG"."""
    share.inside.mknod("fred", 0o644)
    fields("'fred'", share.same(share.stat("fred")), type=stat.S_IFREG)
    share.inside.overwrite("fred", b"abc")
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"abc", code="content")


@case("NODE-007", severity="linux")
def test_mknod_of_types_that_it_does_not_make(share: Share) -> None:
    """mknod(2) fails with EPERM for a directory and with EINVAL for a type that does not exist.
    Source: mknod(2) EINVAL, EPERM; Linux fs/namei.c may_mknod(): S_IFDIR -> EPERM, default -> EINVAL."""
    share.inside.refuses(EPERM).mknod("x", stat.S_IFDIR | 0o755)
    share.inside.refuses(EINVAL).mknod("x", 0o030000 | 0o644)
    share.inside.refuses(EINVAL).mknod("x", stat.S_IFLNK | 0o777)
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("NODE-008")
@pytest.mark.parametrize("kind", DEVICES)
def test_device_nodes_are_for_root(share: Share, kind: str) -> None:
    """mknod(2) of a device by an ordinary user fails with EPERM and makes nothing.
    Source: mknod(2) EPERM "mode requested creation of something other than a regular file, FIFO ... and the caller
    is not privileged"."""
    user = share.inside.spawn("user", uid=1001)
    user.refuses(EPERM).mknod("x", KINDS[kind] | 0o666, device_of(kind))
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("NODE-009", covers=[Tmknod], needs=["mknod"])
@pytest.mark.parametrize("kind", ["fifo", "socket", "regular"])
def test_a_node_belongs_to_who_makes_it(share: Share, kind: str) -> None:
    """A fifo, socket or file made by mknod(2) has the effective user and group of the process, or the group of a
    set-group-ID parent directory.
    Source: mknod(2) "The newly created node will be owned by the effective user ID of the process"; 9P2000.L
    Tmknod gid[4]."""
    share.inside.mkdir("project")
    share.inside.chown("project", 0, 2002)
    share.inside.chmod("project", 0o2777)
    user = share.inside.spawn("user", uid=1001, gid=2001)
    user.mknod("plain", KINDS[kind] | 0o600)
    user.mknod("project/grouped", KINDS[kind] | 0o600)
    for path, wanted in (("plain", (1001, 2001)), ("project/grouped", (1001, 2002))):
        fields(repr(path), share.same(share.stat(path)), uid=wanted[0], gid=wanted[1])


@case("NODE-010", covers=[Tmknod], needs=["mknod"])
def test_a_fifo_made_inside_carries_bytes(share: Share) -> None:
    """A fifo made on the share carries bytes from one process of the guest to another.
    Source: fifo(7); the pipe itself is the guest kernel's."""
    share.inside.mkfifo("fifo", 0o666)
    _through_the_fifo(share)


@case("NODE-011")
def test_a_fifo_made_outside_carries_bytes(share: Share) -> None:
    """A fifo that the host made carries bytes from one process of the guest to another: open(2) waits for the
    other end, read(2) gives 0 when the last writer is gone.
    Source: fifo(7); POSIX open, read; the server is not asked to open it, and its own fifo stays unused."""
    share.outside.mkfifo("fifo", 0o666)
    share.outside.chmod("fifo", 0o666)
    _through_the_fifo(share)


def _through_the_fifo(share: Share) -> None:
    reader, writer = share.inside.spawn("reader"), share.inside.spawn("writer")
    opening = reader.start.open("fifo", os.O_RDONLY)
    holds("open(2) of a fifo for reading waits for a writer", not opening.finished(0.2), code="returned")
    w = writer.open("fifo", os.O_WRONLY)
    r = opening.result()
    writer.write(w, b"through the fifo")
    equal("bytes read from the fifo", reader.soon.read(r, 100), b"through the fifo", code="content")
    writer.close(w)
    equal("bytes read after the last writer is gone", reader.soon.read(r, 100), b"", code="content")
    fields("'fifo'", share.same(share.stat("fifo")), type=stat.S_IFIFO)


@case("NODE-012", cached_too=True)
def test_a_fifo_without_its_other_end(share: Share) -> None:
    """open(O_WRONLY|O_NONBLOCK) of a fifo that nobody reads fails with ENXIO, O_RDONLY|O_NONBLOCK works at once,
    and write(2) after the last reader left fails with EPIPE.
    Source: open(2) ENXIO; fifo(7); write(2) EPIPE."""
    share.outside.mkfifo("fifo", 0o666)
    share.inside.refuses(ENXIO).open("fifo", os.O_WRONLY | os.O_NONBLOCK)
    r = share.inside.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    w = share.inside.open("fifo", os.O_WRONLY | os.O_NONBLOCK)
    share.inside.write(w, b"abc")
    equal("bytes read from the fifo", share.inside.soon.read(r, 3), b"abc", code="content")
    share.inside.close(r)
    share.inside.refuses(EPIPE).write(w, b"abc")


@case("NODE-013", covers=[Tmknod], needs=["mknod"])
def test_bind_makes_a_socket(share: Share) -> None:
    """bind(2) of a unix socket makes a node of type socket with mode 0777 & ~umask, and another process of the
    guest reaches the listener by its path.
    Source: unix(7); bind(2); Linux net/unix/af_unix.c unix_bind() calls vfs_mknod(): 9P2000.L Tmknod."""
    share.inside.umask(0o027)
    listener = share.inside.bind_socket("sock")
    seen = share.same(share.stat("sock"))
    fields("'sock'", seen, mode=stat.S_IFSOCK | 0o750)
    _talk(share, listener)


def _talk(share: Share, listener: int) -> None:
    other = share.inside.spawn("other")
    theirs = other.connect_socket("sock")
    ours = share.inside.accept(listener)
    other.write(theirs, b"hello")
    equal("bytes that the listener received", share.inside.soon.read(ours, 100), b"hello", code="content")
    share.inside.write(ours, b"goodbye")
    equal("bytes that the other process received", other.soon.read(theirs, 100), b"goodbye", code="content")


@case("NODE-014", covers=[Tmknod], needs=["mknod"])
def test_a_socket_after_its_listener(share: Share) -> None:
    """When the listener is gone the node stays: connect(2) fails with ECONNREFUSED, bind(2) with EADDRINUSE, and
    after unlink(2) the path is free.
    Source: unix(7): the name must be unlinked; connect(2) ECONNREFUSED; bind(2) EADDRINUSE."""
    listener = share.inside.bind_socket("sock")
    share.inside.close(listener)
    share.inside.refuses(ECONNREFUSED).connect_socket("sock")
    share.inside.refuses(EADDRINUSE).bind_socket("sock")
    share.inside.unlink("sock")
    share.gone("sock")
    _talk(share, share.inside.bind_socket("sock"))


@case("NODE-015")
@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "fifo"])
def test_bind_at_a_taken_name(share: Share, kind: str) -> None:
    """bind(2) at a name that is taken fails with EADDRINUSE, whatever is there, and changes nothing.
    Source: bind(2) EADDRINUSE; Linux net/unix/af_unix.c: EEXIST becomes EADDRINUSE."""
    {
        "file": lambda: share.inside.create("sock", b"abc"),
        "directory": lambda: share.inside.mkdir("sock"),
        "symlink": lambda: share.inside.symlink("nowhere", "sock"),
        "fifo": lambda: share.outside.mkfifo("sock"),
    }[kind]()
    before = share.same(share.stat("sock"))
    share.inside.refuses(EADDRINUSE).bind_socket("sock")
    changes("'sock' by bind(2) that failed", before, share.same(share.stat("sock")))
    equal("names in the case's directory", share.same(share.directory()), ["sock"], code="names")


@case("NODE-016")
def test_connect_to_what_is_no_listener(share: Share) -> None:
    """connect(2) to a socket of the host's or to a plain file fails with ECONNREFUSED, to nothing with ENOENT.
    Source: connect(2) ECONNREFUSED; unix(7); a socket's listener lives in the kernel that made it."""
    share.outside.mknod("hosts", stat.S_IFSOCK | 0o666)
    share.inside.create("fred")
    share.inside.refuses(ECONNREFUSED).connect_socket("hosts")
    share.inside.refuses(ECONNREFUSED).connect_socket("fred")
    share.inside.refuses(ENOENT).connect_socket("nobody")


@case("NODE-017", caches=FRESH)
def test_a_device_node_is_the_guests_device(share: Share) -> None:
    """A node of the null device is the guest's own: writes vanish, reads give end of file; one of the zero device gives
    zeros.  Source: null(4); the client opens devices by number and must never ask the server to; known defect:
    CVE-2023-2861."""
    need_root_for(share, "char")
    share.outside.mknod("null", stat.S_IFCHR | 0o666, NULL)
    share.outside.mknod("zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    fd = share.inside.open("null", os.O_RDWR)
    equal("bytes that write() to the null device wrote", share.inside.write(fd, b"abc"), 3)
    equal("bytes read from the null device", share.inside.soon.read(fd, 100), b"", code="content")
    zeros = share.inside.read(share.inside.open("zero"), 8)
    equal("bytes read from the zero device", zeros, bytes(8), code="content")
    fields("'null'", share.same(share.stat("null")), size=0)


@case("NODE-018", caches=FRESH)
@pytest.mark.parametrize("kind", DEVICES)
def test_open_of_a_device_that_is_not_there(share: Share, kind: str) -> None:
    """open(2) of a device node whose number no driver has fails with ENXIO.
    Source: open(2) "ENXIO: The file is a device special file and no corresponding device exists"."""
    need_root_for(share, kind)
    share.outside.mknod("node", KINDS[kind] | 0o666, os.makedev(254, 1000))
    share.inside.refuses(ENXIO).open("node")


@case("NODE-101", about="agreement")
@for_each(MKNOD, MKFIFO)
def test_path_errors(share: Share, operation: Operation) -> None:
    """mknod(2) and mkfifo(3) fail with the errno of path resolution where the path leads nowhere, and make
    nothing.  Source: mknod(2) EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR; path_resolution(7)."""
    refuses_bad_paths(share, operation)


@case("NODE-102", about="agreement")
@for_each(MKNOD, MKFIFO)
def test_taken_names(share: Share, operation: Operation) -> None:
    """mknod(2) and mkfifo(3) at a name that is taken fail with EEXIST.
    Source: mknod(2) EEXIST "This includes the case where pathname is a symbolic link, dangling or not"."""
    refuses_taken_names(share, operation)


@case("NODE-103", about="agreement")
@for_each(MKNOD, MKFIFO, BIND)
def test_write_permission(share: Share, operation: Operation) -> None:
    """mknod(2), mkfifo(3) and bind(2) fail with EACCES for a user who may not write the directory.
    Source: mknod(2) EACCES; unix(7)."""
    refuses_without_write_permission(share, operation)
