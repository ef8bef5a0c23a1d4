"""utimensat(2), futimens(3): explicit times, NOW and OMIT, and who may set them; and which calls update which time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from errno import EACCES, EBADF, EINVAL, EPERM
from typing import Any

import pytest

from conformance.case import FRESH, UNCACHED, WRITE_THROUGH, case
from conformance.cases.vfs.attribute_paths import PathCall, refuse_bad_paths
from conformance.cases.vfs.outcomes import plain, step_passes
from conformance.checks import between, changes, fields, holds
from conformance.vfs.share import Share
from guests.agent.payload.values import Time
from protocol.messages import Tgetattr, Tsetattr

SECOND = 10**9
OLD, OLDER = 10**18, 9 * 10**17
"""2001 and 1998, whole seconds: Linux's client cuts off the rest (TIME-021 alone asks for nanoseconds)."""
AT_SYMLINK_NOFOLLOW = 0x100


def kept(share: Share, seconds: Sequence[int]) -> list[int]:
    """Those of the seconds that the exported file system keeps, seven more, too: one with small inodes ends in 2038."""
    if share.alone:
        return list(seconds)
    host = share.outside.quietly
    host.create("probe")
    found = []
    for second in seconds:
        later = (second + 7) * SECOND
        host.utimensat("probe", second * SECOND, later)
        if host.lstat("probe")["st_mtime_ns"] == later:
            found.append(second)
    host.unlink("probe")
    return found


class Clock:
    """The exporting host's clock as its file system stamps it: two files made around the call."""

    def __init__(self, share: Share) -> None:
        self._share = share
        share.outside.create("stamp-before")
        self._before: int = share.outside.lstat("stamp-before")["st_mtime_ns"]

    def stamped(self, what: str, seen: Mapping[str, Any], *names: str) -> None:
        """These times of the stat result lie between construction and now."""
        self._share.outside.create("stamp-after")
        after: int = self._share.outside.lstat("stamp-after")["st_mtime_ns"]
        for name in names:
            between(f"{name} of {what}", seen[f"st_{name}"], self._before, after, code=f"field:{name}")


def not_before(what: str, seen: Mapping[str, Any], name: str, earliest: int) -> None:
    """That time of the stat result is `earliest` or later."""
    time = seen[f"st_{name}"]
    holds(f"{name} of {what} is now", time >= earliest, seen=time, code=f"field:{name}")


@case("TIME-001", covers=[Tsetattr], cached_too=True)
def test_exact_seconds(share: Share) -> None:
    """utimensat(2) sets atime and mtime as given, from 1970 past 2038 and 2106, as far as the exported file system
    keeps them; ctime becomes now, and nothing else changes.
    Source: POSIX utimensat; Tsetattr carries 8 bytes of seconds each; known defect: lib9p 01edd9e, times
    wrong in Tsetattr."""
    share.inside.create("fred")
    for second in kept(share, (0, 1, 1234567890, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 5_000_000_000)):
        before = share.same(share.stat("fred"))
        share.inside.utimensat("fred", second * SECOND, (second + 7) * SECOND)
        after = share.same(share.stat("fred"))
        fields("'fred'", after, atime_ns=second * SECOND, mtime_ns=(second + 7) * SECOND)
        changes("'fred' by utimensat(2)", before, after, may={"atime_ns", "mtime_ns", "ctime_ns"})


@case("TIME-002", covers=[Tsetattr], cached_too=True)
@pytest.mark.parametrize("second", [-1, -(2**30)], ids=["1969", "1935"])
def test_times_before_1970(share: Share, second: int) -> None:
    """utimensat(2) sets times before 1970 as given, where the exported file system keeps them.
    Source: POSIX <time.h> struct timespec, tv_sec is signed; ext4 and xfs keep 1901."""
    share.inside.create("fred")
    share.inside.utimensat("fred", second * SECOND, second * SECOND)
    fields("'fred'", share.same(share.stat("fred")), atime_ns=second * SECOND, mtime_ns=second * SECOND)


@case("TIME-003", covers=[Tsetattr], cached_too=True)
def test_one_time_alone(share: Share) -> None:
    """UTIME_OMIT leaves that time as it is to the nanosecond and sets the other.  Source: POSIX utimensat."""
    share.outside.create("fred")
    share.outside.utimensat("fred", 111_111_111_111, 222_222_222_222)
    set_there = share.outside.lstat("fred")["st_mtime_ns"]
    share.inside.utimensat("fred", 333 * SECOND, "omit")
    fields("'fred'", share.same(share.stat("fred")), atime_ns=333 * SECOND, mtime_ns=set_there)
    share.inside.utimensat("fred", "omit", 444 * SECOND)
    fields("'fred'", share.same(share.stat("fred")), atime_ns=333 * SECOND, mtime_ns=444 * SECOND)


@case("TIME-004", cached_too=True)
def test_both_omitted_changes_nothing(share: Share) -> None:
    """UTIME_OMIT for both changes nothing at all, not even ctime.
    Source: utimensat(2): "the file status is not modified"; POSIX."""
    share.inside.create("fred")
    share.inside.utimensat("fred", OLDER, OLD)
    before = share.same(share.stat("fred"))
    share.inside.sleep(0.02)
    share.inside.utimensat("fred", "omit", "omit")
    changes("'fred' by utimensat(2) with UTIME_OMIT twice", before, share.same(share.stat("fred")))


@case("TIME-005", covers=[Tsetattr], caches=FRESH)
@pytest.mark.parametrize("how", ["now", "null"])
def test_now(share: Share, how: str) -> None:
    """UTIME_NOW for both, or no times at all, sets both to the host's current time, equal to each other.
    Source: POSIX utimensat; Tsetattr with ATIME and MTIME but without ATIME_SET and MTIME_SET: the server's
    clock."""
    share.inside.create("fred")
    share.inside.utimensat("fred", OLDER, OLD)
    clock = Clock(share)
    given: Time | None = "now" if how == "now" else None
    share.inside.utimensat("fred", given, given)
    seen = share.same(share.stat("fred"))
    fields("'fred', compared with its mtime,", seen, atime_ns=seen["st_mtime_ns"])
    clock.stamped("'fred'", seen, "atime_ns", "mtime_ns")


@case("TIME-006", covers=[Tsetattr], caches=FRESH)
def test_now_for_one(share: Share) -> None:
    """UTIME_NOW for one time goes with a given value or UTIME_OMIT for the other.
    Source: POSIX utimensat."""
    share.inside.create("fred")
    share.inside.utimensat("fred", OLDER, OLD)
    clock = Clock(share)
    share.inside.utimensat("fred", "now", 123 * SECOND)
    seen = share.same(share.stat("fred"))
    fields("'fred' after (now, given)", seen, mtime_ns=123 * SECOND)
    clock.stamped("'fred' after (now, given)", seen, "atime_ns")
    first = seen["st_atime_ns"]
    share.inside.utimensat("fred", OLD, "now")
    seen = share.same(share.stat("fred"))
    fields("'fred' after (given, now)", seen, atime_ns=OLD)
    not_before("'fred' after (given, now)", seen, "mtime_ns", first)
    share.inside.utimensat("fred", "omit", OLDER)
    share.inside.utimensat("fred", "now", "omit")
    seen = share.same(share.stat("fred"))
    fields("'fred' after (now, omit)", seen, mtime_ns=OLDER)
    not_before("'fred' after (now, omit)", seen, "atime_ns", first)


@case("TIME-007", cached_too=True)
def test_bad_nanoseconds(share: Share) -> None:
    """Nanoseconds below 0 or above 999,999,999 that are no UTIME_ value fail with EINVAL and change nothing.
    Source: utimensat(2) EINVAL."""
    share.inside.create("fred")
    share.inside.utimensat("fred", OLDER, OLD)
    for bad in (-1, SECOND, 0x3FFFFFFD, 2**31 - 1):
        share.inside.refuses(EINVAL).utimensat("fred", [5, bad], [5, 0])
        share.inside.refuses(EINVAL).utimensat("fred", [5, 0], [5, bad])
    fields("'fred'", share.same(share.stat("fred")), atime_ns=OLDER, mtime_ns=OLD)


@case("TIME-008")
def test_bad_flags(share: Share) -> None:
    """An unknown flag fails with EINVAL.  Source: utimensat(2) EINVAL."""
    share.inside.create("fred")
    share.inside.refuses(EINVAL).utimensat("fred", OLD, OLD, 0x8000)


@case("TIME-009", covers=[Tsetattr], cached_too=True, about="agreement")
def test_symbolic_links(share: Share) -> None:
    """utimensat(2) follows a symbolic link; with AT_SYMLINK_NOFOLLOW it sets the link's own times, dangling
    or not.
    Source: POSIX utimensat; known defect: CVE-2016-9602, a server that followed links where it must not."""
    share.inside.create("target")
    share.inside.symlink("target", "link")
    share.inside.symlink("nobody", "dangling")
    share.inside.utimensat("target", OLD, OLD)
    share.inside.utimensat("link", 11 * SECOND, 12 * SECOND, AT_SYMLINK_NOFOLLOW)
    fields("'link' inside", share.inside.soon.lstat("link"), mtime_ns=12 * SECOND)
    fields("'target', which is not meant,", share.same(share.stat("target")), atime_ns=OLD, mtime_ns=OLD)
    share.inside.utimensat("link", 21 * SECOND, 22 * SECOND)
    fields("'link' inside", share.inside.soon.lstat("link"), mtime_ns=12 * SECOND)
    fields("'target'", share.same(share.stat("target")), atime_ns=21 * SECOND, mtime_ns=22 * SECOND)
    share.inside.utimensat("dangling", 31 * SECOND, 32 * SECOND, AT_SYMLINK_NOFOLLOW)
    share.same(share.stat("dangling"))
    fields("'dangling' inside", share.inside.soon.lstat("dangling"), mtime_ns=32 * SECOND)


@case("TIME-010", covers=[Tsetattr], cached_too=True)
def test_futimens(share: Share) -> None:
    """futimens(3) works on files opened in any mode and on directories.  Source: POSIX futimens."""
    share.inside.create("fred")
    share.inside.mkdir("d")
    for i, (name, flags) in enumerate(
        [("fred", os.O_RDONLY), ("fred", os.O_WRONLY), ("fred", os.O_RDWR), ("d", os.O_RDONLY | os.O_DIRECTORY)]
    ):
        fd = share.inside.open(name, flags)
        share.inside.futimens(fd, OLD + i * SECOND, OLDER + i * SECOND)
        share.inside.close(fd)
        fields(f"{name!r}", share.same(share.stat(name)), atime_ns=OLD + i * SECOND, mtime_ns=OLDER + i * SECOND)


@case("TIME-011")
def test_bad_descriptors(share: Share) -> None:
    """futimens(3) fails with EBADF for a closed descriptor and for one opened with O_PATH, utimensat(2) for a
    bad directory descriptor.
    Source: utimensat(2) EBADF; open(2) O_PATH."""
    share.inside.create("fred")
    fd = share.inside.open("fred", os.O_PATH)
    share.inside.refuses(EBADF).futimens(fd, OLD, OLD)
    share.inside.close(fd)
    share.inside.refuses(EBADF).futimens(fd, OLD, OLD)
    share.inside.refuses(EBADF).utimensat("fred", OLD, OLD, 0, dir_fd=999)


@case("TIME-012", covers=[Tsetattr])
def test_directories_and_relative_names(share: Share) -> None:
    """utimensat(2) sets a directory's times, and takes a relative name below a directory descriptor.
    Source: POSIX utimensat."""
    share.inside.mkdir("d")
    share.inside.create("d/fred")
    fd = share.inside.open("d", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.utimensat("fred", 41 * SECOND, 42 * SECOND, 0, dir_fd=fd)
    share.inside.utimensat("d", OLDER, OLD)
    fields("'d/fred'", share.same(share.stat("d/fred")), mtime_ns=42 * SECOND)
    fields("'d'", share.same(share.stat("d")), atime_ns=OLDER, mtime_ns=OLD)


@case("TIME-013", about="agreement")
@pytest.mark.parametrize(
    "call",
    [PathCall("utimensat", (OLD, OLD)), PathCall("utimensat", (OLD, OLD, AT_SYMLINK_NOFOLLOW), follows=False)],
    ids=["follow", "nofollow"],
)
def test_path_errors(share: Share, call: PathCall) -> None:
    """utimensat(2) of a bad path fails with ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG or EACCES.
    Source: utimensat(2) ERRORS."""
    refuse_bad_paths(share, call)


@case("TIME-014", covers=[Tsetattr], needs=["guest-root"], cached_too=True)
def test_the_owner_may_set_any_time(share: Share) -> None:
    """The owner may set any times, even without write permission on the file.
    Source: utimensat(2), Permissions."""
    bob = share.inside.spawn("bob", uid=1001)
    bob.create("fred", b"", 0o600)
    bob.chmod("fred", 0)
    bob.utimensat("fred", OLDER, OLD)
    fields("'fred'", share.same(share.stat("fred")), atime_ns=OLDER, mtime_ns=OLD)
    bob.utimensat("fred", "now", "now")
    not_before("'fred'", share.same(share.stat("fred")), "mtime_ns", OLD + 1)


@case("TIME-015", covers=[Tsetattr], needs=["guest-root"])
def test_a_writer_may_only_say_now(share: Share) -> None:
    """A user with write permission who is not the owner may set both times to now; any other setting fails with EPERM.
    Source: utimensat(2), Permissions and EPERM."""
    share.inside.create("fred")
    share.inside.chmod("fred", 0o666)
    share.inside.utimensat("fred", OLDER, OLD)
    bob = share.inside.spawn("bob", uid=1001)
    pairs: list[tuple[Time, Time]] = [
        (OLDER, OLD),
        ("now", "omit"),
        ("omit", "now"),
        ("now", OLD),
        (OLD, "now"),
        (OLD, "omit"),
    ]
    for atime, mtime in pairs:
        bob.refuses(EPERM).utimensat("fred", atime, mtime)
    bob.utimensat("fred", "omit", "omit")
    fields("'fred'", share.same(share.stat("fred")), atime_ns=OLDER, mtime_ns=OLD)
    bob.utimensat("fred", "now", "now")
    not_before("'fred'", share.same(share.stat("fred")), "mtime_ns", OLD + 1)


@case("TIME-016", needs=["guest-root"], cached_too=True)
def test_others_may_not_touch(share: Share) -> None:
    """A user who is not the owner and may not write gets EACCES for now and EPERM for a given time; nothing changes.
    Source: utimensat(2) EACCES, EPERM."""
    share.inside.create("fred")
    share.inside.chmod("fred", 0o644)
    share.inside.utimensat("fred", OLDER, OLD)
    bob = share.inside.spawn("bob", uid=1001)
    bob.refuses(EACCES).utimensat("fred", "now", "now")
    bob.refuses(EACCES).utimensat("fred", None, None)
    bob.refuses(EPERM).utimensat("fred", OLD, OLD)
    bob.refuses(EACCES).futimens(bob.open("fred", os.O_RDONLY), "now", "now")
    fields("'fred'", share.same(share.stat("fred")), atime_ns=OLDER, mtime_ns=OLD)


@case("TIME-017", covers=[Tgetattr], caches=FRESH)
def test_what_the_host_sets_is_seen(share: Share) -> None:
    """Times that the host sets are seen inside at the next stat(2).
    Source: Documentation/filesystems/9p.rst, cache=none."""
    share.inside.create("fred")
    for ns in (OLD, OLDER, 5 * 10**18):
        share.outside.utimensat("fred", ns, ns + 1)
        there = share.outside.lstat("fred")
        seen = share.inside.stat("fred")
        fields("'fred' inside", seen, atime_ns=there["st_atime_ns"], mtime_ns=there["st_mtime_ns"])


def _append(share: Share) -> None:
    fd = share.inside.open("d/file", os.O_WRONLY | os.O_APPEND)
    share.inside.write(fd, b"more")
    share.inside.close(fd)


UPDATES: dict[str, tuple[Callable[[Share], Any], dict[str, set[str]]]] = {
    "write": (_append, {"d/file": {"mtime", "ctime"}, "d": set()}),
    "truncate": (lambda s: s.inside.truncate("d/file", 1), {"d/file": {"mtime", "ctime"}, "d": set()}),
    "extend": (lambda s: s.inside.truncate("d/file", 100), {"d/file": {"mtime", "ctime"}, "d": set()}),
    "chmod": (lambda s: s.inside.chmod("d/file", 0o600), {"d/file": {"ctime"}, "d": set()}),
    "create": (lambda s: s.inside.create("d/new"), {"d": {"mtime", "ctime"}, "d/file": set()}),
    "mkdir": (lambda s: s.inside.mkdir("d/new"), {"d": {"mtime", "ctime"}, "d/file": set()}),
    "symlink": (lambda s: s.inside.symlink("x", "d/new"), {"d": {"mtime", "ctime"}, "d/file": set()}),
    "link": (lambda s: s.inside.link("d/file", "d/new"), {"d": {"mtime", "ctime"}, "d/file": {"ctime"}}),
    "unlink": (lambda s: s.inside.unlink("d/other"), {"d": {"mtime", "ctime"}, "d/file": set()}),
    "rmdir": (lambda s: s.inside.rmdir("d/sub"), {"d": {"mtime", "ctime"}, "d/file": set()}),
    "rename-from": (lambda s: s.inside.rename("d/other", "other"), {"d": {"mtime", "ctime"}, "d/file": set()}),
    "rename-to": (lambda s: s.inside.rename("outer", "d/outer"), {"d": {"mtime", "ctime"}, "d/file": set()}),
    "stat": (lambda s: s.inside.stat("d/file"), {"d/file": set(), "d": set()}),
    "failed-create": (lambda s: s.inside.refuses(17).create("d/other"), {"d": set(), "d/other": set()}),
}


@case("TIME-018", caches=WRITE_THROUGH)
@pytest.mark.parametrize("call", UPDATES)
def test_which_call_moves_which_time(share: Share, call: str) -> None:
    """A call that changes a file's data, its attributes or a directory's entries marks exactly the times that
    POSIX names, inside and on the host.
    Source: POSIX, "shall mark for update" of each call; inode(7), timestamps."""
    _moves(share, *UPDATES[call])


@case("TIME-022", caches=WRITE_THROUGH, needs=["xattr"])
def test_setting_an_extended_attribute_moves_ctime(share: Share) -> None:
    """setxattr(2) marks the file's ctime alone, inside and on the host.
    Source: inode(7), timestamps."""
    _moves(share, lambda s: s.inside.setxattr("d/file", "user.a", b"1"), {"d/file": {"ctime"}, "d": set()})


def _moves(share: Share, perform: Callable[[Share], Any], wanted: dict[str, set[str]]) -> None:
    share.inside.mkdir("d")
    share.inside.mkdir("d/sub")
    for name in ("d/file", "d/other", "outer"):
        share.inside.create(name, b"content")
    for path in wanted:
        share.inside.utimensat(path, OLD, OLDER)
    before = {path: share.inside.lstat(path) for path in wanted}
    step_passes(share, "d")
    perform(share)
    for path, moved in wanted.items():
        after = share.same(share.stat(path))
        for name in ("mtime", "ctime"):
            moves = after[f"st_{name}_ns"] != before[path][f"st_{name}_ns"]
            what = f"{name} of {path!r} {'moves' if name in moved else 'stays as it is'}"
            holds(what, moves == (name in moved), seen=after[f"st_{name}_ns"], code=f"field:{name}_ns")


@case("TIME-019", caches=UNCACHED)
def test_reading_marks_atime(share: Share) -> None:
    """A read inside moves atime, and nothing else, where a read on the host would.
    Source: POSIX read; mount(8) relatime: the exported file system keeps the time."""
    for vantage, name in ((share.outside, "on-the-host"), (share.inside, "fred")):
        vantage.create(name, b"content")
        vantage.utimensat(name, OLDER, OLD)
    before, host_before = share.same(share.stat("fred")), share.same(share.stat("on-the-host"))
    share.outside.slurp("on-the-host")
    share.inside.slurp("fred")
    host_after = share.same(share.stat("on-the-host"))
    on_the_host = {name for name, value in plain(host_after).items() if value != plain(host_before)[name]}
    changes("'fred' by a read inside, as by one on the host,", before, share.same(share.stat("fred")), must=on_the_host)


@case("TIME-020", caches=WRITE_THROUGH)
def test_data_written_is_stamped_by_the_host(share: Share) -> None:
    """After a write mtime is the host's time of the write, equal on both sides: a build tool that compares files made
    inside and outside sees the right order.
    Source: POSIX write; Tgetattr brings the server's stamp."""
    share.inside.create("fred")
    share.inside.utimensat("fred", OLD, OLD)
    clock = Clock(share)
    fd = share.inside.open("fred", os.O_WRONLY)
    share.inside.write(fd, b"x")
    share.inside.close(fd)
    clock.stamped("'fred'", share.same(share.stat("fred")), "mtime_ns")


@case("TIME-021", covers=[Tsetattr], severity="linux")
def test_nanoseconds_are_kept(share: Share) -> None:
    """utimensat(2) keeps nanoseconds, so `cp -p` and `tar -x` give a copy the original's times.
    Source: POSIX utimensat: to the resolution of the file system; Tsetattr has 8 bytes of nanoseconds for
    each time."""
    share.inside.create("fred")
    for ns in (1, 999_999_999, 1234567890_123456789):
        share.inside.utimensat("fred", ns, ns + SECOND)
        fields("'fred'", share.same(share.stat("fred")), atime_ns=ns, mtime_ns=ns + SECOND)
