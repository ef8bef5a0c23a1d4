"""access(2), faccessat2(2): they predict what open(2) and other calls would get, for every user."""

from __future__ import annotations

import os
from errno import EACCES, EBADF, EINVAL, ENOENT, ENOTDIR

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.attribute_paths import PathCall, refuse_bad_paths
from conformance.checks import equal
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Twalk

AT_SYMLINK_NOFOLLOW, AT_EACCESS, AT_EMPTY_PATH = 0x100, 0x200, 0x1000
LETTERS = {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}
MODES = (0o000, 0o421, 0o142, 0o214, 0o750, 0o057, 0o707)


def granted(vantage: Vantage, path: str) -> str:
    """What access(2) grants, as "rwx" with "-" for what it refuses; an errno other than EACCES is raised."""
    seen = vantage.attempts([("access", [path, wanted]) for wanted in LETTERS.values()])
    for errno in seen:
        if errno not in (0, EACCES):
            raise OSError(errno, os.strerror(errno), path)
    return "".join("-" if errno else letter for letter, errno in zip(LETTERS, seen, strict=True))


def grants(vantage: Vantage, path: str, bits: int, when: str) -> None:
    """access(2) grants exactly those of R_OK, W_OK and X_OK; `when` says who asks and what was done before."""
    expected = "".join(letter if bits & wanted else "-" for letter, wanted in LETTERS.items())
    equal(f"what access(2) grants {when} on {path!r}", granted(vantage, path), expected)


@case("ACCESS-001", covers=[Twalk], needs=["guest-root"])
@pytest.mark.parametrize("who", ["owner", "group", "supplementary", "other"])
def test_the_class_that_applies_decides(share: Share, who: str) -> None:
    """access(2) judges by the first class that applies - owner, group (own or supplementary), other - and by
    no other bits.
    Source: POSIX file access permissions (4.5); path_resolution(7), Permissions."""
    share.inside.create("fred")
    share.inside.chown("fred", 1001, 5000)
    uid, gid, groups, shift = {
        "owner": (1001, 5000, [], 6),
        "group": (1002, 5000, [], 3),
        "supplementary": (1002, 1002, [7000, 5000], 3),
        "other": (1003, 1003, [7000], 0),
    }[who]
    user = share.inside.spawn(who, uid, gid, groups)
    for mode in MODES:
        with share.without_comparison():
            share.inside.chmod("fred", mode)
        user.access("fred", os.F_OK)
        grants(user, "fred", mode >> shift & 7, f"the {who} with mode {mode:#o}")


@case("ACCESS-002", needs=["guest-root"])
def test_root_needs_an_execute_bit_for_files_only(share: Share) -> None:
    """Root may read and write whatever the mode, execute a file only if some execute bit is set, and search
    any directory.
    Source: access(2); capabilities(7) CAP_DAC_OVERRIDE."""
    share.inside.create("fred")
    share.inside.mkdir("d")
    share.inside.chmod("d", 0)
    for mode, bits in ((0, 6), (0o666, 6), (0o001, 7), (0o010, 7), (0o100, 7)):
        share.inside.chmod("fred", mode)
        grants(share.inside, "fred", bits, f"root with mode {mode:#o}")
    grants(share.inside, "d", 7, "root with mode 0")


@case("ACCESS-003", needs=["guest-root"])
def test_combined_modes(share: Share) -> None:
    """Several modes in one call are granted only if each is.
    Source: access(2): "any bit" that is denied."""
    share.inside.create("fred")
    share.inside.chmod("fred", 0o005)
    bob = share.inside.spawn("bob", uid=1001)
    bob.access("fred", os.R_OK | os.X_OK)
    bob.refuses(EACCES).access("fred", os.R_OK | os.W_OK)
    bob.refuses(EACCES).access("fred", os.R_OK | os.W_OK | os.X_OK)


@case("ACCESS-004", needs=["guest-root"], covers=[Twalk])
def test_the_answer_is_what_open_says(share: Share) -> None:
    """Where access(2) says no, open(2) fails with EACCES; where it says yes, it works.
    Source: access(2), "whether the calling process can access the file"."""
    share.inside.create("fred")
    share.inside.chown("fred", 1002, 5000)
    bob = share.inside.spawn("bob", uid=1001, gid=5000)
    for mode in (0o020, 0o040, 0o060, 0o606, 0o000):
        share.inside.chmod("fred", mode)
        may = granted(bob, "fred")
        for letter, flags in (("r", os.O_RDONLY), ("w", os.O_WRONLY)):
            if letter in may:
                bob.close(bob.open("fred", flags))
            else:
                bob.refuses(EACCES).open("fred", flags)


@case("ACCESS-005", covers=[Twalk], about="agreement")
@pytest.mark.parametrize(
    "call",
    [
        PathCall("access", (os.F_OK,)),
        PathCall("faccessat2", (os.R_OK,)),
        PathCall("faccessat2", (os.F_OK, AT_SYMLINK_NOFOLLOW), follows=False),
    ],
    ids=["access", "faccessat2", "nofollow"],
)
def test_path_errors(share: Share, call: PathCall) -> None:
    """access(2) of a bad path fails with ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG or EACCES.
    Source: access(2) ERRORS."""
    refuse_bad_paths(share, call)


@case("ACCESS-006")
def test_bad_arguments(share: Share) -> None:
    """Unknown mode bits and flags fail with EINVAL, a bad directory descriptor with EBADF, a file's with
    ENOTDIR.
    Source: access(2) EINVAL, EBADF, ENOTDIR."""
    share.inside.create("fred")
    share.inside.refuses(EINVAL).access("fred", 8)
    share.inside.refuses(EINVAL).faccessat2("fred", 0o10)
    share.inside.refuses(EINVAL).faccessat2("fred", os.R_OK, 0x10000)
    share.inside.refuses(EBADF).faccessat2("fred", os.R_OK, 0, dir_fd=999)
    share.inside.refuses(ENOTDIR).faccessat2("x", os.R_OK, 0, dir_fd=share.inside.open("fred", os.O_RDONLY))


@case("ACCESS-007", covers=[Twalk])
def test_symbolic_links(share: Share) -> None:
    """access(2) judges a link's target; with AT_SYMLINK_NOFOLLOW faccessat2(2) judges the link, which exists
    even when it dangles.
    Source: access(2), AT_SYMLINK_NOFOLLOW."""
    share.inside.create("target")
    share.inside.chmod("target", 0o600)
    share.inside.symlink("target", "link")
    share.inside.symlink("nobody", "dangling")
    share.inside.access("link", os.R_OK)
    share.inside.refuses(EACCES).access("link", os.X_OK)
    share.inside.refuses(ENOENT).access("dangling", os.F_OK)
    share.inside.faccessat2("dangling", os.F_OK, AT_SYMLINK_NOFOLLOW)
    share.inside.faccessat2("link", os.R_OK | os.W_OK | os.X_OK, AT_SYMLINK_NOFOLLOW)


@case("ACCESS-008", needs=["guest-root"])
def test_relative_to_descriptors(share: Share) -> None:
    """faccessat2(2) takes a name below a directory descriptor, and with AT_EMPTY_PATH the descriptor's own
    file.
    Source: faccessat2(2)."""
    share.inside.mkdir("d")
    share.inside.create("d/fred")
    share.inside.chmod("d/fred", 0o004)
    bob = share.inside.spawn("bob", uid=1001)
    fd = bob.open("d", os.O_RDONLY | os.O_DIRECTORY)
    for flags in (0, AT_EACCESS):
        bob.faccessat2("fred", os.R_OK, flags, dir_fd=fd)
        bob.refuses(EACCES).faccessat2("fred", os.W_OK, flags, dir_fd=fd)
    file = bob.open("d/fred", os.O_RDONLY)
    bob.faccessat2("", os.R_OK, AT_EMPTY_PATH, dir_fd=file)
    bob.refuses(EACCES).faccessat2("", os.W_OK, AT_EMPTY_PATH, dir_fd=file)


@case("ACCESS-009", needs=["guest-root"], caches=FRESH)
def test_the_hosts_change_of_mode_counts_at_once(share: Share) -> None:
    """After a chmod(2) or chown(2) on the host access(2) answers by the new mode and owner.
    Source: Documentation/filesystems/9p.rst, cache=none."""
    share.need("host-root", "chown on the host")
    share.host_sets_mode_and_owner()
    share.inside.create("fred")
    share.inside.chmod("fred", 0o600)
    bob = share.inside.spawn("bob", uid=1001)
    grants(bob, "fred", 0, "a user with mode 0o600 of root's file")
    share.outside.chmod("fred", 0o604)
    grants(bob, "fred", 4, "a user after the host's chmod to 0o604")
    share.outside.chown("fred", 1001, 0)
    grants(bob, "fred", 6, "the user to whom the host gave the file")


@case("ACCESS-010", needs=["guest-root"])
def test_directories(share: Share) -> None:
    """For a directory R_OK means listing, W_OK making entries, X_OK searching, each independently.
    Source: access(2); inode(7)."""
    share.inside.mkdir("d")
    share.inside.create("d/fred")
    bob = share.inside.spawn("bob", uid=1001)
    for mode in (0o700, 0o701, 0o702, 0o704, 0o703, 0o707):
        share.inside.chmod("d", mode)
        grants(bob, "d", mode & 7, f"a user with mode {mode:#o}")
        if mode & 1:
            bob.access("d/fred", os.F_OK)
        else:
            bob.refuses(EACCES).access("d/fred", os.F_OK)
