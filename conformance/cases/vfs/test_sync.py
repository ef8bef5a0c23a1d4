"""fsync(2), fdatasync(2), syncfs(2): they reach the server, write back the guest's cache, and refuse what cannot be
synchronised."""

from __future__ import annotations

import os
from errno import EBADF, EINVAL

import pytest

from conformance.case import WRITE_BACK, case
from conformance.cases.vfs.outcomes import earlier_errors_reported, has_pattern, settled_times
from conformance.cases.vfs.test_open import make_node
from conformance.checks import changes, equal, fields
from conformance.vfs.share import Share
from protocol.messages import Tfsync

WAYS = pytest.mark.parametrize("way", ["fsync", "fdatasync"])
NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR


@case("SYNC-001", covers=[Tfsync], about="agreement")
@WAYS
@pytest.mark.parametrize("access", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR], ids=["rdonly", "wronly", "rdwr"])
def test_sync_of_a_file(share: Share, way: str, access: int) -> None:
    """fsync(2) and fdatasync(2) succeed for a file opened in any access mode.
    Source: fsync(2); POSIX fsync; 9P2000.L Tfsync with datasync[4]: known defects: chaos/diod#118,
    unikraft#886 (servers that did not know the datasync field)."""
    share.inside.create("fred", b"abc")
    share.inside.perform(way, share.inside.open("fred", access))
    share.same(share.content("fred"))


@case("SYNC-002", covers=[Tfsync], cached_too=True, about="agreement")
@WAYS
def test_sync_brings_home_what_was_written(share: Share, way: str) -> None:
    """After fsync(2) or fdatasync(2) the host's file holds every byte written before, in every cache mode.
    Source: POSIX fsync "all data for the open file descriptor ... is to be transferred to the storage
    device"."""
    fd = share.inside.open("fred", NEW, 0o644)
    share.inside.write_pattern(fd, 300_000)
    share.inside.pwrite(fd, b"patch", 150_000)
    share.inside.perform(way, fd)
    fields("'fred' outside", share.outside.stat("fred"), size=300_000)
    far = share.outside.open("fred")
    equal(
        "bytes outside that were overwritten before the call",
        share.outside.pread(far, 5, 150_000),
        b"patch",
        code="content",
    )
    share.same(share.content("fred"))


@case("SYNC-003", covers=[Tfsync], cached_too=True)
@WAYS
def test_sync_of_a_directory(share: Share, way: str) -> None:
    """fsync(2) and fdatasync(2) of a directory succeed, even after names in it changed.
    Source: fsync(2) "an explicit fsync() on a file descriptor for the directory is also needed"; known
    defect: lib9p add79f9 refused Tfsync of a directory."""
    share.inside.mkdir("dir")
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.create("dir/fred", b"abc")
    share.inside.perform(way, fd)
    share.inside.rename("dir/fred", "dir/george")
    share.inside.perform(way, fd)
    equal("names in 'dir'", share.same(share.directory("dir")), ["george"], code="names")


@case("SYNC-004", covers=[Tfsync])
@WAYS
def test_sync_changes_nothing(share: Share, way: str) -> None:
    """Synchronising a file moves none of its times and changes no attribute.  Source: POSIX fsync."""
    share.inside.create("fred", b"abc")
    settled_times(share, "fred")
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.perform(way, fd)
    before = share.same(share.stat("fred"))
    share.inside.perform(way, fd)
    changes(f"'fred' by {way}(2)", before, share.same(share.stat("fred")))


@case("SYNC-005")
@WAYS
def test_sync_of_what_cannot_be(share: Share, way: str) -> None:
    """fsync(2) and fdatasync(2) fail with EBADF for a descriptor that is closed or O_PATH, and with EINVAL
    for a fifo.
    Source: fsync(2) EBADF, EINVAL "fd is bound to a special file which does not support
    synchronization"."""
    make_node(share, "fifo", "pipe")
    share.inside.create("fred")
    bad, invalid = share.inside.refuses(EBADF), share.inside.refuses(EINVAL)
    for fd in (987, share.inside.open("fred", os.O_PATH)):
        getattr(bad, way)(fd)
    getattr(invalid, way)(share.inside.open("pipe", os.O_RDWR))


@case("SYNC-006", cached_too=True)
def test_syncfs(share: Share) -> None:
    """syncfs(2) through any descriptor of the share writes back all pending data of every file there.
    Source: syncfs(2)."""
    earlier_errors_reported(share)
    first, second = share.inside.open("one", NEW, 0o644), share.inside.open("two", NEW, 0o644)
    share.inside.write_pattern(first, 50_000, seed=1)
    share.inside.write_pattern(second, 60_000, seed=2)
    share.inside.syncfs(share.inside.open(".", os.O_RDONLY | os.O_DIRECTORY))
    has_pattern("'one' outside", share.outside, "one", 50_000, 1)
    has_pattern("'two' outside", share.outside, "two", 60_000, 2)


@case("SYNC-007")
def test_syncfs_of_what_cannot_be(share: Share) -> None:
    """syncfs(2) fails with EBADF for a descriptor that is closed or O_PATH.  Source: syncfs(2) EBADF."""
    share.inside.refuses(EBADF).syncfs(987)
    share.inside.refuses(EBADF).syncfs(share.inside.open(".", os.O_PATH))


@case("SYNC-008", covers=[Tfsync], about="agreement")
def test_sync_by_an_ordinary_user(share: Share) -> None:
    """A user may synchronise a file with only read permission.  Source: fsync(2) needs no permission."""
    share.inside.create("fred", b"abc", 0o644)
    bob = share.inside.spawn("bob", uid=1001)
    bob.fsync(bob.open("fred"))
    share.same(share.stat("fred"))


@case("SYNC-009", covers=[Tfsync], caches=WRITE_BACK)
def test_sync_after_a_shared_mapping_was_written(share: Share) -> None:
    """fsync(2) also writes back data written through a shared mapping.
    Source: POSIX fsync; msync(2); mmap(2)."""
    fd = share.inside.open("fred", NEW, 0o644)
    share.inside.write(fd, b"a" * 10_000)
    share.inside.fsync(fd)
    handle = share.inside.mmap(fd, 10_000, 3, 1)
    share.inside.map_write(handle, 5000, b"MAPPED")
    share.inside.fsync(fd)
    wanted = b"a" * 5000 + b"MAPPED" + b"a" * 4994
    equal("content of 'fred' outside", share.outside.slurp("fred"), wanted, code="content")


@case("SYNC-010", covers=[Tfsync])
@WAYS
def test_sync_of_a_file_whose_name_changed(share: Share, way: str) -> None:
    """A descriptor can be synchronised after its file was renamed.  Source: POSIX fsync, rename."""
    fd = share.inside.open("fred", NEW, 0o644)
    share.inside.write(fd, b"abc")
    share.inside.rename("fred", "george")
    share.inside.perform(way, fd)
    equal("content of 'george' outside", share.outside.slurp("george"), b"abc", code="content")
