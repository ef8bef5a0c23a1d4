"""A device with readonly=on: whatever the guest tries, the host's files stay as they are."""

from __future__ import annotations

import os
from errno import EAGAIN, EROFS

import pytest

from conformance.case import FRESH, UNCACHED, WRITE_BACK, case
from conformance.cases.property.changing_calls import GROUPS, populate, state, unchanged
from conformance.cases.property.mounting import succeeded
from conformance.checks import equal, holds
from conformance.vfs.deployment import Device
from conformance.vfs.share import Share
from protocol.messages import Tgetattr, Tlock, Tlopen, Tread, Treaddir, Treadlink, Tstatfs, Txattrwalk

NEEDS = ["another-device"]
READ_ONLY = Device(readonly=True)
ST_RDONLY = 1
LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8


@case("RDONLY-001", needs=NEEDS, control=False, caches=FRESH)
@pytest.mark.parametrize("group", GROUPS)
def test_changes_are_refused(share: Share, group: str) -> None:
    """Every call that would change a read-only export fails with EROFS and changes nothing.
    Source: EROFS in ERRORS of the call's man page; QEMU's manual, -fsdev readonly=on."""
    there = share.another(READ_ONLY)
    populate(there.outside)
    before = state(there)
    for call in GROUPS[group]:
        call.make(there.inside.refuses(EROFS, another="linux"))
        unchanged(there, before, str(call))


@case(
    "RDONLY-002",
    needs=NEEDS,
    control=False,
    covers=[Tlopen, Tread, Treaddir, Treadlink, Tgetattr],
    about="agreement",
)
def test_everything_can_be_read(share: Share) -> None:
    """A read-only export is listed, opened for reading and read, with the attributes that the host has.
    Source: QEMU's manual, -fsdev readonly=on; open(2): O_CREAT has no effect on a file that exists."""
    there = share.another(READ_ONLY)
    populate(there.outside)
    equal("names in 'd'", there.same(there.directory("d")), ["dir", "file", "link", "other"], code="names")
    fd = there.inside.open("d/file", os.O_RDONLY)
    equal("content of 'd/file' inside", there.inside.read(fd, 100), b"content", code="content")
    there.inside.close(fd)
    there.inside.close(there.inside.open("d/file", os.O_RDONLY | os.O_CREAT))
    if there.host_links:
        equal("text of the symbolic link 'd/link'", there.same(there.link("d/link")), "file", code="field:target")
    for name in ("d", "d/file", "d/dir", "d/link"):
        there.same(there.stat(name), tolerate={"atime_ns": "reading marks it"})


@case("RDONLY-003", needs=NEEDS, control=False, covers=[Txattrwalk])
def test_attributes_can_be_read(share: Share) -> None:
    """Extended attributes of a read-only export are listed and read.  Source: getxattr(2), listxattr(2)."""
    there = share.another(READ_ONLY)
    there.outside.create("fred")
    there.outside.setxattr("fred", "user.a", b"value")
    equal("value of user.a of 'fred' inside", there.inside.getxattr("fred", "user.a"), b"value", code="xattr")
    equal("attributes user.* of 'fred'", there.same(there.xattrs("fred")), {"user.a": b"value"}, code="xattr")


@case("RDONLY-004", needs=NEEDS, control=False, covers=[Tlock], caches=UNCACHED)
def test_locks_work(share: Share) -> None:
    """A file on a read-only export that is open for reading can be locked, by a shared record lock and by either kind
    of flock(2): locks do not change the file.
    Source: fcntl(2), flock(2), which have no EROFS; known defect: lib9p 1cea327, Tlock refused with EROFS."""
    there = share.another(READ_ONLY)
    there.outside.create("fred", b"content")
    other = there.inside.spawn("other")
    fd, theirs = (vantage.open("fred", os.O_RDONLY) for vantage in (there.inside, other))
    there.inside.setlk(fd, "r", 0, 10)
    equal("type of lock that another process sees", other.getlk(theirs, "w", 0, 10)["type"], "r")
    there.inside.setlk(fd, "u", 0, 10)
    there.inside.flock(fd, LOCK_SH)
    there.inside.flock(fd, LOCK_EX)
    other.refuses(EAGAIN).flock(theirs, LOCK_SH | LOCK_NB)
    there.inside.flock(fd, LOCK_UN)


@case("RDONLY-005", needs=NEEDS, control=False, severity="linux")
@pytest.mark.parametrize("op", ["access", "faccessat2"])
def test_access_says_so(share: Share, op: str) -> None:
    """access(2) for writing on a read-only export fails with EROFS, for reading it succeeds.
    Source: access(2) EROFS; POSIX access."""
    there = share.another(READ_ONLY)
    populate(there.outside)
    getattr(there.inside, op)("d/file", os.R_OK)
    for name in ("d/file", "d"):
        getattr(there.inside.refuses(EROFS), op)(name, os.W_OK)


@case("RDONLY-006", needs=NEEDS, control=False, severity="linux", covers=[Tstatfs])
def test_statvfs_says_so(share: Share) -> None:
    """statvfs(3) of a read-only export shows ST_RDONLY.  Source: statvfs(3) f_flag; POSIX <sys/statvfs.h>."""
    there = share.another(READ_ONLY)
    flags = there.inside.statvfs(".")["f_flag"]
    holds("statvfs(3) of a read-only export shows ST_RDONLY", flags & ST_RDONLY, seen=flags, code="field:flag")


@case("RDONLY-007", needs=NEEDS, control=False)
def test_the_guest_cannot_make_it_writable(share: Share) -> None:
    """Remounting it read-write in the guest does not make a read-only export writable.
    Source: the host decides: QEMU's manual, -fsdev readonly=on; known defect: lxd#8810."""
    there = share.another(READ_ONLY)
    populate(there.outside)
    before = state(there)
    there.inside.run(["mount", "-o", "remount,rw", there.mounted.mount_point])  # either way nothing may change
    there.inside.refuses(EROFS).create("d/new")
    there.inside.refuses(EROFS).unlink("d/file")
    there.inside.refuses(EROFS).open("d/file", os.O_WRONLY)
    unchanged(there, before, "a remount for writing inside")


@case("RDONLY-008", needs=NEEDS, control=False, covers=[Tread], caches=UNCACHED, about="agreement")
def test_what_the_host_changes_is_seen(share: Share) -> None:
    """What the host changes in a read-only export is seen inside, even by a descriptor that was open.
    Source: Documentation/filesystems/9p.rst, cache=none."""
    there = share.another(READ_ONLY)
    there.outside.create("fred", b"old")
    fd = there.inside.open("fred", os.O_RDONLY)
    equal("content of 'fred' inside", there.inside.pread(fd, 100, 0), b"old", code="content")
    there.outside.overwrite("fred", b"new and longer")
    content = there.inside.pread(fd, 100, 0)
    equal("content that the open descriptor reads after the host wrote", content, b"new and longer", code="content")
    # While it is open the guest keeps its name: of a server that follows the file, stat("fred") finds it moved.
    there.inside.close(fd)
    there.outside.rename("fred", "barney")
    there.outside.mkdir("d")
    equal("names in the case's directory", there.same(there.directory(".")), ["barney", "d"], code="names")
    there.same(there.stat("barney"))


@case("RDONLY-009", needs=NEEDS, control=False, caches=UNCACHED)
def test_programs_run(share: Share) -> None:
    """A program on a read-only export is executed.  Source: execve(2): reading is all it needs."""
    there = share.another(READ_ONLY)
    there.outside.create("script", b"#!/bin/sh\necho it runs\n", 0o755)
    there.outside.chmod("script", 0o755)
    done = there.inside.run(["./script"])
    succeeded("./script", done)
    equal("output of ./script", done["stdout"], b"it runs\n", code="content")


@case("RDONLY-010", needs=NEEDS, control=False, caches=WRITE_BACK, cached_too=True)
def test_no_cache_pretends(share: Share) -> None:
    """With a guest's cache, too, no file on a read-only export can be opened for writing or mapped shared and writable;
    a private writable mapping works.
    Source: open(2) EROFS; mmap(2) EACCES."""
    there = share.another(READ_ONLY)
    there.outside.create("fred", b"content")
    there.outside.chmod("fred", 0o666)
    there.inside.refuses(EROFS).open("fred", os.O_RDWR)
    there.inside.refuses(EROFS).open("fred", os.O_WRONLY | os.O_TRUNC)
    fd = there.inside.open("fred", os.O_RDONLY)
    handle = there.inside.mmap(fd, 7, 3, 2)  # PROT_READ|PROT_WRITE, MAP_PRIVATE
    there.inside.map_write(handle, 0, b"CONTENT")
    equal("bytes of the private mapping", there.inside.map_read(handle, 0, 7), b"CONTENT", code="content")
    there.inside.munmap(handle)
    there.inside.close(fd)
    equal("content of 'fred' outside", there.outside.slurp("fred"), b"content", code="content")
