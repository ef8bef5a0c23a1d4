"""getdents(2), readdir(3) and its positions: every entry once, whatever the number of entries, the buffer size and the
names."""

from __future__ import annotations

import os
import stat
from collections import Counter
from errno import EACCES, EBADF, EINVAL, ENOENT, ENOTDIR

import pytest

from conformance.case import FRESH, UNCACHED, case
from conformance.checks import equal, holds, one_of, require, require_equal
from conformance.vfs.pending import results
from conformance.vfs.share import Share
from protocol.messages import Tlopen, Treaddir

SMALL = "msize=4096"
DT = {"file": 8, "directory": 4, "symlink": 10, "fifo": 1, "socket": 12, "char": 2, "block": 6}


def names_of(entries: list[tuple[str, int, int, int]]) -> list[str]:
    """The names of getdents entries, sorted, "." and ".." left out."""
    return sorted(e[0] for e in entries if e[0] not in (".", ".."))


def must_be_all(what: str, seen: list[str], wanted: list[str]) -> None:
    """Every wanted name once and nothing else; a finding shows a few of the wrong ones and their number."""
    missing, extra = sorted(set(wanted) - set(seen)), sorted(set(seen) - set(wanted))
    twice = sorted(n for n, times in Counter(seen).items() if times > 1)
    for kind, names in (("missing", missing), ("unexpected", extra), ("given more than once", twice)):
        holds(f"no name {what} is {kind}", not names, seen=f"{len(names)}: {', '.join(names[:5])}", code="names")


def filled(share: Share, count: int, where: str = "dir", prefix: str = "f", names_each: int = 1) -> list[str]:
    """A directory with the names of `count` / `names_each` files, made outside; the names, sorted."""
    with share.without_comparison():
        share.outside.mkdir(where)
        share.outside.fill_directory(where, count, prefix, names_each)
    return [f"{prefix}{i:06d}" for i in range(count)]


@case("READDIR-001", covers=[Tlopen, Treaddir], cached_too=True)
@pytest.mark.parametrize("count", [0, 1, 2, 127, 128, 129])
def test_every_entry_once(share: Share, count: int) -> None:
    """Reading a directory of that many files gives every name once, and "." and "..".
    Source: getdents(2); POSIX readdir; 9P2000.L Treaddir; known defects: minikube#1753 (more than 128 entries),
    ZeroFS#96 (at entry 1000)."""
    wanted = filled(share, count)
    entries = share.inside.readdir_all("dir")
    must_be_all("that getdents() returned", [e[0] for e in entries], [*wanted, ".", ".."])


@case("READDIR-023", covers=[Treaddir], control=False, seconds=120.0)
@pytest.mark.parametrize("count", [1000, 10_000])
def test_every_entry_of_a_large_directory(share: Share, count: int) -> None:
    """Reading a directory of 1000 or 10,000 files gives every name once, and so does reading it again.
    Source: getdents(2); POSIX readdir; known defect: ZeroFS#96 (entries lost from 1000 on)."""
    share.outside.timeout = 100.0  # a busy disk creates only a hundred files a second; links are quicker
    wanted = filled(share, count, names_each=100)
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    for turn in ("first", "second") if count == 1000 else ("first",):
        seen: list[str] = []
        share.inside.lseek(fd, 0)
        while part := share.inside.getdents(fd, 131_072):
            seen += [e[0] for e in part]
        must_be_all(f"that the {turn} reading returned", seen, [*wanted, ".", ".."])


@case("READDIR-002", covers=[Treaddir], mount=SMALL)
@pytest.mark.parametrize("count", [30, 100, 127, 128, 129, 300])
def test_every_entry_once_with_small_messages(share: Share, count: int) -> None:
    """With msize=4096 a directory that needs several messages gives every name once.
    Source: 9P2000.L Treaddir count[4]: whole entries only; known defects: lib9p 9febb4c (near count overrun),
    propolis#565."""
    wanted = filled(share, count)
    must_be_all("that getdents() returned", names_of(share.inside.readdir_all("dir")), wanted)


@case("READDIR-003", covers=[Treaddir])
@pytest.mark.parametrize("buffer", [48, 64, 280, 512, 4096])
def test_small_buffers(share: Share, buffer: int) -> None:
    """getdents(2) with a small buffer gives every name once, however the entries are distributed over the calls.
    Source: getdents(2); 9P2000.L Treaddir: the offset of the last entry taken is where the next begins; known defect:
    plan9port#791 (names lost when part of a reply was used)."""
    wanted = filled(share, 100)
    must_be_all("that getdents() returned", names_of(share.inside.readdir_all("dir", buffer)), wanted)


@case("READDIR-004")
def test_a_buffer_too_small_for_an_entry(share: Share) -> None:
    """getdents(2) with a buffer too small for an entry fails with EINVAL, and loses no entry.
    Source: getdents(2) "EINVAL Result buffer is too small"."""
    share.inside.mkdir("dir")
    share.inside.create("dir/" + "n" * 200)
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.refuses(EINVAL).getdents(fd, 16)
    equal("names that getdents() returned then", names_of(share.inside.getdents(fd)), ["n" * 200], code="names")


@case("READDIR-005", covers=[Treaddir], cached_too=True)
def test_types_and_inodes(share: Share) -> None:
    """d_type of each entry is that of the file or DT_UNKNOWN, and d_ino is st_ino.
    Source: getdents(2) "d_type"; POSIX readdir d_ino; 9P2000.L Rreaddir qid[13] type[1]."""
    with share.without_comparison():
        share.outside.create("file")
        share.outside.mkdir("directory")
        share.prepared_symlink("nowhere", "symlink")
        share.outside.mkfifo("fifo")
        share.outside.mknod("socket", stat.S_IFSOCK | 0o600)
        if "host-root" in share.mounted.features:
            share.outside.mknod("char", stat.S_IFCHR | 0o600, os.makedev(1, 3))
            share.outside.mknod("block", stat.S_IFBLK | 0o600, os.makedev(240, 1))
    entries = {e[0]: e for e in share.inside.readdir_all(".") if e[0] not in (".", "..")}
    for name, (_, inode, _, kind) in entries.items():
        one_of(f"d_type of {name!r}", kind, (DT.get(name), 0), code="field:type")
        equal(f"d_ino of {name!r}", inode, share.inside.lstat(name)["st_ino"], code="field:ino")
    equal("names in the case's directory", share.same(share.directory()), sorted(entries), code="names")


@case("READDIR-006", covers=[Treaddir], severity="linux")
def test_types_are_reported(share: Share) -> None:
    """d_type is the type, not DT_UNKNOWN: find(1) and scandir(3) need no further call.
    Source: getdents(2): "Currently, only some filesystems ... have full support for returning the file type";
    9P2000.L Rreaddir type[1] is d_type of the server's own readdir."""
    for name, make in (("file", "create"), ("directory", "mkdir")):
        share.outside.perform(make, name)
    share.prepared_symlink("nowhere", "symlink")
    seen = {e[0]: e[3] for e in share.inside.readdir_all(".") if e[0] not in (".", "..")}
    for name in ("file", "directory", "symlink"):
        equal(f"d_type of {name!r}", seen.get(name), DT[name], code="field:type")


@case("READDIR-007", covers=[Treaddir], severity="varies")
def test_dot_and_dotdot(share: Share) -> None:
    """ "." has the inode number of the directory and ".." that of its parent.
    Source: POSIX readdir: "." and ".." are optional and, if given, one entry each; 9P2000.L Rreaddir qid[13]."""
    share.inside.mkdir("dir")
    seen = {e[0]: e[1] for e in share.inside.readdir_all("dir")}
    equal("names of an empty directory", sorted(seen), [".", ".."], code="names")
    equal("inode number of '.'", seen.get("."), share.inside.stat("dir")["st_ino"], code="field:ino")
    equal("inode number of '..'", seen.get(".."), share.inside.stat(".")["st_ino"], code="field:ino")


NAMES = {
    "255": [f"{i:03d}" + "n" * 252 for i in range(60)],
    "not-utf8": [f"\udcff{i}\udcfe" for i in range(60)] + ["\udc80", "\udcc3", "\udced\udca0\udc80"],
    "utf8": [f"\u65e5\u672c\u8a9e{i}\U0001f600" for i in range(60)],
    "mixed": ["n" * (i + 1) for i in range(200)],
    "controls": [chr(c) for c in range(1, 32)] + ["a\nb", "\x7f", "\\", "*", "?"],
}


@case("READDIR-008", covers=[Treaddir])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_odd_names(share: Share, names: list[str]) -> None:
    """Names of 255 bytes, of bytes that are not UTF-8, of control characters and of every length are listed unchanged.
    Source: POSIX: a name is bytes other than NUL and slash; 9P2000.L Rreaddir name[s]."""
    with share.without_comparison():
        share.outside.mkdir("dir")
        for name in names:
            share.outside.create(f"dir/{name}")
    must_be_all("that getdents() returned", names_of(share.inside.readdir_all("dir")), sorted(names))


@case("READDIR-009", covers=[Treaddir], mount=SMALL)
@pytest.mark.parametrize("names", [NAMES["255"], NAMES["mixed"]], ids=["255", "mixed"])
def test_odd_names_with_small_messages(share: Share, names: list[str]) -> None:
    """With msize=4096 long names, and names of every length, are listed once each.
    Source: 9P2000.L Treaddir count[4]; known defect: minikube#1753 ("too small read size for dir entry")."""
    test_odd_names(share, names)


@case("READDIR-010", covers=[Treaddir], cached_too=True)
def test_positions_can_be_returned_to(share: Share) -> None:
    """seekdir(3) to a position from telldir(3) continues with the entry that followed it, forwards and backwards.
    Source: POSIX seekdir, telldir; known defect: WSL#5074 (entries skipped), nixpkgs#122420 (looping entries)."""
    filled(share, 150)
    stream = share.inside.opendir("dir")
    start = share.inside.telldir(stream)
    entries = share.inside.readdir(stream, 1000)
    order, places = [e[0] for e in entries], [start, *(e[1] for e in entries)]
    require_equal("number of entries that readdir() returned", len(order), 152, code="names")
    for at in (75, 0, 140, 1, 139, 151, 76):
        share.inside.seekdir(stream, places[at])
        got = [e[0] for e in share.inside.readdir(stream, 3)]
        equal(f"entries after seekdir() to entry {at}", got, order[at : at + 3], code="names")
    share.inside.seekdir(stream, places[152])
    equal("entries after seekdir() to the end", share.inside.readdir(stream, 3), [], code="names")


@case("READDIR-011", covers=[Treaddir], severity="linux")
def test_lseek_to_d_off(share: Share) -> None:
    """lseek(2) of a directory to the d_off of an entry goes on with the next one, for every entry; to 0, from the
    start.
    Source: getdents(2) "d_off is a filesystem-specific value"; lseek(2); 9P2000.L Rreaddir offset[8]; known defect:
    WSL#5074."""
    filled(share, 40)
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    entries = []
    while part := share.inside.getdents(fd, 4096):
        entries += part
    require_equal("number of entries that getdents() returned", len(entries), 42, code="names")
    equal("number of different d_off", len({e[2] for e in entries}), 42)
    for at in (0, 1, 20, 40, 41):
        share.inside.lseek(fd, entries[at][2])
        following = [e[0] for e in share.inside.getdents(fd)][:2]
        wanted = [e[0] for e in entries[at + 1 : at + 3]]
        equal(f"entries after lseek() to the d_off of entry {at}", following, wanted, code="names")
    share.inside.lseek(fd, 0)
    first = [e[0] for e in share.inside.getdents(fd)][:1]
    equal("first entry after lseek() to 0", first, [entries[0][0]], code="names")


@case("READDIR-012", covers=[Treaddir], caches=FRESH)
@pytest.mark.parametrize("side", ["inside", "outside"])
def test_rewinddir_shows_what_changed(share: Share, side: str) -> None:
    """After rewinddir(3) the stream shows names made since opendir(3), and none removed since.
    Source: POSIX rewinddir: "shall cause the directory stream to refer to the current state of the corresponding
    directory, as a call to opendir() would have done"."""
    names = filled(share, 10)
    stream = share.inside.opendir("dir")
    equal("number of entries that readdir() returned", len(share.inside.readdir(stream, 100)), 12, code="names")
    changer = share.inside if side == "inside" else share.outside
    changer.create("dir/new")
    changer.unlink(f"dir/{names[3]}")
    share.inside.rewinddir(stream)
    seen = [e[0] for e in share.inside.readdir(stream, 100)]
    must_be_all(
        "that readdir() returned after rewinddir()", seen, [".", "..", "new", *(n for n in names if n != names[3])]
    )


@case("READDIR-013", covers=[Treaddir], cached_too=True)
@pytest.mark.parametrize("side", ["inside", "outside"])
def test_removing_while_reading(share: Share, side: str) -> None:
    """Removing names while a directory is read does not hide or repeat others: all that stay are seen once.
    Source: POSIX readdir: "If a file is removed from or added to the directory after the most recent call to opendir()
    or rewinddir(), whether a subsequent call to readdir() returns an entry for that file is unspecified", for that file
    only; rm -r works this way."""
    names = filled(share, 200)
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    first = share.inside.getdents(fd, 1024)
    gone = set(names_of(first)[::2]) | set(names[150::3])
    remover = share.inside if side == "inside" else share.outside
    with share.without_comparison():
        results(remover.start.unlink(f"dir/{name}") for name in gone)
    seen = [e[0] for e in first]
    while part := share.inside.getdents(fd, 1024):
        seen += [e[0] for e in part]
    stay = sorted(set(names) - gone)
    must_be_all("of those that stayed", [n for n in seen if n in set(stay)], stay)


@case("READDIR-014", covers=[Treaddir], cached_too=True)
def test_adding_while_reading(share: Share) -> None:
    """Making names while a directory is read does not hide or repeat others: all that existed are seen once.  Source:
    POSIX readdir."""
    names = filled(share, 150)
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    seen = [e[0] for e in share.inside.getdents(fd, 1024)]
    with share.without_comparison():
        share.inside.fill_directory("dir", 20, "added")
    while part := share.inside.getdents(fd, 1024):
        seen += [e[0] for e in part]
    must_be_all("of those that were there", [n for n in seen if not n.startswith("added")], [*names, ".", ".."])
    twice = sorted(n for n, times in Counter(seen).items() if times > 1)
    equal("names that were returned more than once", twice, [], code="names")


@case("READDIR-015", covers=[Treaddir], cached_too=True)
def test_emptying_while_reading(share: Share) -> None:
    """Repeatedly reading a few entries and removing them empties the directory.
    Source: POSIX readdir, rmdir; rm -r of a large directory."""
    names = filled(share, 100)
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    removed: list[str] = []
    with share.without_comparison():
        while part := share.inside.getdents(fd, 512):
            for unlinked in [share.inside.then.unlink(f"dir/{name}") for name in names_of(part)]:
                unlinked.result()
            removed += names_of(part)
    must_be_all("that was read and removed", removed, names)
    share.inside.rmdir("dir")
    share.gone("dir")


@case("READDIR-016", covers=[Treaddir])
def test_two_streams_of_one_directory(share: Share) -> None:
    """Two descriptors of one directory, and two processes, each read at their own position; a duplicate shares its
    position.  Source: POSIX opendir; open(2) "open file description"; dup(2)."""
    names = filled(share, 100)
    flags = os.O_RDONLY | os.O_DIRECTORY
    one, two = share.inside.open("dir", flags), share.inside.open("dir", flags)
    other = share.inside.spawn("other", uid=1001)
    three = other.open("dir", flags)
    seen: dict[str, list[str]] = {"one": [], "two": [], "three": []}
    sides = (("one", share.inside, one, 512), ("two", share.inside, two, 1024), ("three", other, three, 2048))
    left = {"one", "two", "three"}
    while left:
        for label, vantage, fd, size in sides:
            part = vantage.getdents(fd, size) if label in left else []
            seen[label] += [e[0] for e in part]
            if not part:
                left.discard(label)
    for label, got in seen.items():
        must_be_all(f"that stream {label} returned", got, [*names, ".", ".."])
    share.inside.lseek(one, 0)
    again = share.inside.dup(one)
    first = share.inside.getdents(one, 512)
    then = [e[0] for e in share.inside.getdents(again, 512)]
    require("a duplicate goes on where the descriptor stopped", then, seen="no entry", code="names")
    repeated = sorted({e[0] for e in first} & set(then))
    equal("names that both the descriptor and its duplicate returned", repeated, [], code="names")


@case("READDIR-017", covers=[Treaddir], caches=UNCACHED)
def test_changes_made_outside(share: Share) -> None:
    """The next listing shows names that the host has made, renamed and removed.
    Source: Linux Documentation/filesystems/9p.rst: with cache=none
    nothing of a listing is kept."""
    share.inside.mkdir("dir")
    share.inside.create("dir/one")
    equal("names in 'dir' inside", share.inside.soon.listdir("dir"), ["one"], code="names")
    share.outside.create("dir/two")
    equal("names inside after the host made one", share.inside.soon.listdir("dir"), ["one", "two"], code="names")
    share.outside.rename("dir/one", "dir/three")
    equal("names inside after the host renamed one", share.inside.soon.listdir("dir"), ["three", "two"], code="names")
    share.outside.unlink("dir/two")
    equal("names in 'dir'", share.same(share.directory("dir")), ["three"], code="names")


@case("READDIR-018", covers=[Treaddir], cached_too=True)
def test_changes_made_inside(share: Share) -> None:
    """The guest's next listing shows names that it has made, renamed and removed itself, in every cache mode.
    Source: POSIX opendir: a new stream shows the directory as it is."""
    share.inside.mkdir("dir")
    equal("names in 'dir' inside", share.inside.soon.listdir("dir"), [], code="names")
    for i in range(5):
        share.inside.create(f"dir/f{i}")
        wanted = [f"f{n}" for n in range(i + 1)]
        equal(f"names inside after {i + 1} were made", share.inside.soon.listdir("dir"), wanted, code="names")
    share.inside.rename("dir/f0", "dir/g")
    share.inside.unlink("dir/f1")
    equal("names in 'dir'", share.same(share.directory("dir")), ["f2", "f3", "f4", "g"], code="names")


@case("READDIR-019")
def test_what_is_no_directory(share: Share) -> None:
    """getdents(2) of a file fails with ENOTDIR, of a descriptor that is not open with EBADF; opendir(3) of a file
    with ENOTDIR, of nothing with ENOENT.  Source: getdents(2) ENOTDIR, EBADF; opendir(3)."""
    share.inside.create("fred")
    fd = share.inside.open("fred")
    share.inside.refuses(ENOTDIR).getdents(fd)
    share.inside.refuses(EBADF).getdents(987)
    share.inside.refuses(ENOTDIR).opendir("fred")
    share.inside.refuses(ENOENT).opendir("nobody")


@case("READDIR-020")
def test_permissions(share: Share) -> None:
    """Reading a directory needs read permission on it and no search permission; EACCES without.
    Source: opendir(3) EACCES; path_resolution(7)."""
    share.inside.mkdir("dir")  # not outside: user 1001 may be the one who runs the suite there
    share.inside.create("dir/fred")
    user = share.inside.spawn("user", uid=1001)
    share.inside.chmod("dir", 0o711)
    user.refuses(EACCES).opendir("dir")
    share.inside.chmod("dir", 0o744)
    equal("names that a user with read permission reads", names_of(user.readdir_all("dir")), ["fred"], code="names")
    user.refuses(EACCES).stat("dir/fred")


@case("READDIR-021", covers=[Treaddir], caches=FRESH)
def test_a_directory_that_moves(share: Share) -> None:
    """A stream continues when its directory is renamed in the middle of reading.
    Source: POSIX rename, readdir: the stream refers to the directory, not to its name."""
    names = filled(share, 200)
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    seen = [e[0] for e in share.inside.getdents(fd, 1024)]
    share.inside.rename("dir", "moved")
    while part := share.inside.getdents(fd, 1024):
        seen += [e[0] for e in part]
    must_be_all("that was read before and after the rename", seen, [*names, ".", ".."])
    share.inside.lseek(fd, 0)
    seen = []
    while part := share.inside.getdents(fd, 65536):
        seen += [e[0] for e in part]
    must_be_all("that was read again from the start", seen, [*names, ".", ".."])


@case("READDIR-022", covers=[Treaddir])
def test_end_of_directory_stays(share: Share) -> None:
    """After the last entry getdents(2) returns 0 again and again.  Source: getdents(2) "On end of directory, 0 is
    returned"; 9P2000.L Rreaddir count 0."""
    filled(share, 5)
    fd = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    equal("number of entries that getdents() returned", len(share.inside.getdents(fd)), 7, code="names")
    for _ in range(3):
        equal("entries that getdents() returned after the last one", share.inside.getdents(fd), [], code="names")
