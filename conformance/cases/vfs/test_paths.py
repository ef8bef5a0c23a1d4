"""Paths: length, depth, dots and slashes, and directories deeper than any path, reached by descriptors."""

from __future__ import annotations

import os
import stat
from errno import EACCES, EFAULT, ENAMETOOLONG, ENOENT, ENOTDIR
from typing import Any

import pytest

from conformance.case import FRESH, UNCACHED, case
from conformance.cases.vfs.outcomes import flush
from conformance.checks import Errno, equal, fields, holds
from conformance.errors import SuiteError
from conformance.vfs.pending import results
from conformance.vfs.share import Share
from protocol.messages import Tlcreate, Tlopen, Tmkdir, Treaddir, Trenameat, Tunlinkat, Twalk

PATH_MAX = 4096
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


def down(vantage: Any, names: list[str], make: bool) -> list[int]:
    """Descriptors from "." down through directories of those names, which are created if `make` is true."""
    fds = [vantage.open(".", DIRECTORY)]
    for name in names:
        if make:
            vantage.mkdir(name, dir_fd=fds[-1])
        fds.append(vantage.open(name, DIRECTORY, dir_fd=fds[-1]))
    return fds


def chain(share: Share, depth: int) -> str:
    """Directories d0/d1/... below one another, made outside; the path of the last."""
    deep = "/".join(f"d{i}" for i in range(depth))
    share.outside.quietly.run(["mkdir", "-p", f"{share.outside.root}/{deep}"])
    return deep


def close_all(vantage: Any, fds: list[int]) -> None:
    """Close them."""
    results(vantage.start.close(fd) for fd in fds)


@case("PATHS-001", covers=[Twalk], cached_too=True)
def test_dots_and_slashes(share: Share) -> None:
    """ ".", ".." and repeated slashes in a path lead where they should, also through directories that were just made.
    Source: POSIX 4.13 Pathname Resolution; path_resolution(7)."""
    share.inside.mkdir("a")
    share.inside.mkdir("a/b")
    share.inside.create("a/fred", b"abc")
    inode = share.inside.stat("a/fred")["st_ino"]
    for path in ("./a/fred", "a//fred", "a/./fred", "a/b/../fred", "a/../a/b/.././/fred", "a/b/../../a/fred"):
        fields(f"{path!r} inside", share.inside.soon.stat(path), ino=inode)
    fields("'a/b/..' inside", share.inside.soon.stat("a/b/.."), ino=share.inside.stat("a")["st_ino"])
    share.inside.refuses(ENOENT).stat("a/nobody/../fred")
    share.inside.refuses(ENOTDIR).stat("a/fred/../fred")
    share.inside.refuses(ENOTDIR).stat("a/fred/.")
    share.inside.refuses(ENOTDIR).stat("a/fred/")


@case("PATHS-002")
def test_longest_path(share: Share) -> None:
    """A path of 4095 bytes works for every call, one of 4096 fails with ENAMETOOLONG.
    Source: POSIX PATH_MAX (the NUL counts); Linux include/uapi/linux/limits.h."""
    share.inside.create("fred", b"abc")
    root = share.inside.root + "/"
    with share.without_comparison():  # the host's path of the same directory has another length
        for length, works in ((PATH_MAX - 1, True), (PATH_MAX, False)):
            name = "fred" if (length - len(root)) % 2 == 0 else "/fred"
            path = root + "./" * ((length - len(root) - len(name)) // 2) + name
            if len(path) != length:
                raise SuiteError(f"a path of {len(path)} bytes, not {length}")
            if works:
                equal(f"content by a path of {length} bytes", share.inside.soon.slurp(path), b"abc", code="content")
                share.inside.chmod(path, 0o600)
                share.inside.rename(path, path[:-1] + "k")
                share.inside.rename(path[:-1] + "k", path)
            else:
                for op in ("open", "stat", "unlink", "mkdir", "readlink"):
                    getattr(share.inside.refuses(ENAMETOOLONG), op)(path)
                share.inside.refuses(ENAMETOOLONG).rename(path, "new")
                share.inside.refuses(ENAMETOOLONG).rename("fred", path)
                share.inside.refuses(ENAMETOOLONG).symlink("target", path)
                share.inside.refuses(ENAMETOOLONG).link("fred", path)
    equal("names in the case's directory", share.same(share.directory()), ["fred"], code="names")
    fields("'fred'", share.same(share.stat("fred")), mode=0o100600)


@case("PATHS-003", covers=[Tmkdir, Twalk, Tlcreate], about="agreement")
def test_forty_directories_deep(share: Share) -> None:
    """Files 40 directories deep are made, read, renamed and removed by path.
    Source: POSIX 4.13; 9P2000.L Twalk: at most 16 names a message (walk(5)), the client continues with another."""
    deep = chain(share, 39) + "/d39"
    share.inside.mkdir(deep)
    share.inside.create(f"{deep}/fred", b"abc")
    flush(share, f"{deep}/fred")
    equal(f"content of '{deep}/fred' outside", share.outside.slurp(f"{deep}/fred"), b"abc", code="content")
    share.inside.rename(f"{deep}/fred", "fred")
    share.inside.rename("fred", f"{deep}/george")
    equal(f"names in {deep!r}", share.same(share.directory(deep)), ["george"], code="names")
    share.same(share.stat(f"{deep}/george"))
    share.inside.rename("d0", "e0")
    content = share.inside.slurp(f"e0/{deep[3:]}/george")
    equal("content after the topmost directory was renamed", content, b"abc", code="content")


@case("PATHS-004", covers=[Twalk])
@pytest.mark.parametrize("depth", [1, 15, 16, 33])
def test_another_user_goes_deep_at_once(share: Share, depth: int) -> None:
    """A user whom the server has not seen yet reaches a file 1, 15, 16 and 33 directories deep, which the
    guest's cache of names already knows.
    Source: Linux fs/9p/fid.c v9fs_fid_lookup_with_uid(): the whole path is walked again for the user, in messages of
    16 names (P9_MAXWELEM); walk(5)."""
    deep = chain(share, depth)
    share.outside.create(f"{deep}/fred", b"abc")
    share.inside.stat(f"{deep}/fred")
    at = share.inside.open(deep, DIRECTORY)
    user = share.inside.spawn("user", uid=1100 + depth)
    equal(f"content of a file {depth} directories deep", user.soon.slurp(f"{deep}/fred"), b"abc", code="content")
    equal(f"names {depth} directories deep", user.soon.listdir(deep), ["fred"], code="names")
    share.inside.close(at)


@case("PATHS-005", covers=[Tmkdir, Tlcreate, Treaddir, Tunlinkat], caches=FRESH)
def test_deeper_than_a_path_can_say(share: Share) -> None:
    """Twenty directories with names of 255 bytes, below one another, make a path of over 5000 bytes. Through
    descriptors, files there are made, read, listed, renamed and removed, and the host sees them.
    Source: POSIX openat: PATH_MAX limits the length of an argument, not a file's depth; 9P2000.L has no paths; known
    defects: kvmtool 32832dd, GitLab qemu#3358 (buffers and 16-bit lengths for whole paths)."""
    names = [f"{i:02d}" + "n" * 253 for i in range(20)]
    with share.without_comparison():
        fds = down(share.inside, names, make=True)
        share.inside.close(share.inside.open("fred", os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=fds[-1]))
        fd = share.inside.open("fred", os.O_RDWR, dir_fd=fds[-1])
        share.inside.write(fd, b"abc")
        share.inside.fsync(fd)
        fields("the open file inside", share.inside.soon.fstat(fd), mode=0o100640)
        share.inside.renameat(fds[-1], "fred", fds[-1], "george")
        outside = down(share.outside, names, make=False)
        theirs = share.outside.open("george", dir_fd=outside[-1])
        equal("content of 'george' outside", share.outside.read(theirs, 100), b"abc", code="content")
        for vantage, at in ((share.inside, fds[-1]), (share.outside, outside[-1])):
            names_there = sorted(e[0] for e in vantage.getdents(at))
            equal(f"names in the lowest directory {vantage.name}", names_there, [".", "..", "george"], code="names")
        share.inside.unlink("george", dir_fd=fds[-1])
        share.outside.lseek(outside[-1], 0)
        left = sorted(e[0] for e in share.outside.getdents(outside[-1]))
        equal("names left in the lowest directory outside", left, [".", ".."], code="names")
        for name, parent in zip(reversed(names), reversed(fds[:-1]), strict=True):
            share.inside.rmdir(name, dir_fd=parent)
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("PATHS-006", covers=[Tmkdir, Twalk], caches=UNCACHED, severity="linux", control=False, seconds=120.0)
def test_as_deep_as_the_server_can(share: Share) -> None:
    """Directories are made below one another until their path is longer than 66,000 bytes: each succeeds, or fails with
    ENAMETOOLONG; all that were made can be traversed upwards and removed.
    Source: 9P2000.L has no paths, and a server that keeps them must refuse before its buffers or lengths overflow;
    known defect: GitLab qemu#3358 (a length of 16 bits wrapped round)."""
    names = [f"{i:03d}" + "n" * 252 for i in range(260)]
    top = share.inside.open(".", DIRECTORY)
    with share.without_comparison():
        below, number = share.inside.mkdir_down(top, names)
        made, depth = [top, *below], len(below)
        if number:
            equal(f"errno of mkdir(2) at depth {depth + 1}", Errno(number), Errno(ENAMETOOLONG), code="errno")
        outside = down(share.outside, names[:depth], make=False)
        inodes = [share.outside.fstat(fd)["st_ino"] for fd in outside]
        equal("number of different directories on the host", len(set(inodes)), depth + 1, code="field:ino")
        close_all(share.outside, outside)
        if depth == len(names):
            share.inside.close(share.inside.open("fred", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=made[-1]))
            share.inside.unlink("fred", dir_fd=made[-1])
        holds("at least 15 directories below one another can be made", depth >= 15, seen=depth)
        close_all(share.inside, made)


@case("PATHS-007", covers=[Twalk], cached_too=True)
def test_working_directory_deep_down(share: Share) -> None:
    """A process whose working directory is deep in the share reaches files by relative names, and ".." leads back up.
    Source: POSIX chdir, getcwd; path_resolution(7)."""
    deep = chain(share, 10)
    share.inside.create("top", b"abc")
    walker = share.inside.spawn("walker")
    walker.chdir(deep)
    equal("working directory of the process", walker.soon.getcwd(), f"{share.inside.root}/{deep}")
    cwd = walker.open(f"/proc/{walker.getpid()}/cwd", DIRECTORY)
    fd = walker.open("../" * 10 + "top", dir_fd=cwd)
    equal("content of the file ten directories up", walker.soon.read(fd, 9), b"abc", code="content")
    walker.chdir("d0")
    equal("working directory after chdir back up", walker.soon.getcwd(), f"{share.inside.root}/d0")


@case("PATHS-008")
def test_search_permission_on_every_component(share: Share) -> None:
    """A user reaches a file if every directory on the path may be searched, and gets EACCES if any one may not; read
    permission on directories is not needed.
    Source: path_resolution(7) "Step 2"; POSIX 4.5 File Access Permissions."""
    for path in ("a", "a/b", "a/b/c"):
        share.inside.mkdir(path, 0o711)
    share.inside.create("a/b/c/fred", b"abc", 0o644)
    user = share.inside.spawn("user", uid=1001)
    equal("content of 'a/b/c/fred' read by the user", user.soon.slurp("a/b/c/fred"), b"abc", code="content")
    for path in ("a", "a/b", "a/b/c"):
        share.inside.chmod(path, 0o744)
        user.refuses(EACCES).open("a/b/c/fred")
        user.refuses(EACCES).stat("a/b/c/fred")
        user.refuses(EACCES).stat("a/b/c/nobody")
        share.inside.chmod(path, 0o711)
    equal("content of 'a/b/c/fred' read by the user", user.soon.slurp("a/b/c/fred"), b"abc", code="content")


@case("PATHS-009", covers=[Twalk], caches=FRESH)
def test_a_component_changes_its_kind_outside(share: Share) -> None:
    """A directory in a path that the host replaces by a file gives ENOTDIR at once, replaced by a symbolic link it
    leads to the link's target, and removed it gives ENOENT.
    Source: path_resolution(7); Linux Documentation/filesystems/9p.rst "none = no caches used"."""
    share.inside.mkdir("way")
    share.inside.create("way/fred", b"one")
    share.inside.mkdir("other")
    share.inside.create("other/fred", b"two")
    equal("content of 'way/fred' inside", share.inside.soon.slurp("way/fred"), b"one", code="content")
    share.outside.rename("way", "kept")
    share.inside.refuses(ENOENT).open("way/fred")
    share.outside.create("way", b"a file")
    share.inside.refuses(ENOTDIR).open("way/fred")
    share.outside.unlink("way")
    share.host_symlink("other", "way")
    equal("content through the link in place of 'way'", share.inside.soon.slurp("way/fred"), b"two", code="content")
    share.outside.unlink("way")
    share.outside.rename("kept", "way")
    equal("content of 'way/fred' after it came back", share.inside.soon.slurp("way/fred"), b"one", code="content")
    fields("'way'", share.same(share.stat("way")), type=stat.S_IFDIR)


@case("PATHS-010", severity="linux")
@pytest.mark.parametrize(
    "call",
    [
        "open",
        "mkdir",
        "rmdir",
        "unlink",
        "rename",
        "link",
        "symlink",
        "mkfifo",
        "chmod",
        "chown",
        "truncate",
        "access",
        "readlink",
        "chdir",
    ],
)
def test_a_path_at_a_bad_address(share: Share, call: str) -> None:
    """The call fails with EFAULT when the address of its path is not mapped, and changes nothing.
    Source: the call's man page, EFAULT; Linux fs/namei.c getname()."""
    share.inside.refuses(EFAULT).path_at_bad_address(call)
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("PATHS-011", covers=[Twalk, Tlopen, Trenameat])
def test_a_wide_and_deep_tree(share: Share) -> None:
    """A tree of 3 levels with 5 directories each and a file in every one is the same on both sides after one branch was
    moved and another removed.
    Source: POSIX rename, rmdir, opendir; find(1)."""
    with share.without_comparison():
        for a in range(5):
            for path in (f"{a}", *(f"{a}/{b}" for b in range(5))):
                share.outside.mkdir(path)
                share.outside.create(f"{path}/fred", path.encode())
    share.inside.rename("2", "1/moved")
    done = share.inside.run(["rm", "-r", f"{share.inside.root}/3"])
    equal("exit status and errors of rm -r", (done["status"], done["stderr"]), (0, b""))
    found = {}
    for vantage in (share.inside, share.outside):
        listed = vantage.run(["find", vantage.root, "-type", "f"])["stdout"].decode().splitlines()
        found[vantage.name] = sorted(line.removeprefix(vantage.root) for line in listed)
    equal("files that find(1) lists inside and outside", found["inside"], found["outside"], code="names")
    equal("number of files that find(1) lists inside", len(found["inside"]), 24, code="names")
    equal("content of '1/moved/4/fred' inside", share.inside.soon.slurp("1/moved/4/fred"), b"2/4", code="content")
