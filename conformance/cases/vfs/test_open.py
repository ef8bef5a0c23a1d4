"""open(2): creating, truncating, appending, and what a name must be; flags and permissions have their own families
(open_flags, open_access)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from errno import EBADF, EEXIST, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR

import pytest

from conformance.case import FRESH, UNCACHED, case
from conformance.cases.vfs.outcomes import settled_times
from conformance.checks import changes, equal, fields
from conformance.vfs.share import Share
from protocol.messages import Tclunk, Tlcreate, Tlopen, Tread, Tsetattr, Twalk, Twrite

NEW = os.O_CREAT | os.O_WRONLY


@case("OPEN-001", covers=[Tlcreate, Tclunk], cached_too=True)
@pytest.mark.parametrize(
    ("mode", "umask"),
    [(0o666, 0o022), (0o666, 0o077), (0o777, 0o000), (0o000, 0o000), (0o640, 0o137)],
    ids=["666-022", "666-077", "777-000", "000-000", "640-137"],
)
def test_creat_gives_mode_without_umask(share: Share, mode: int, umask: int) -> None:
    """open(O_CREAT) of a new name makes an empty regular file with one link and mode & ~umask.
    Source: open(2) "O_CREAT", "mode"; POSIX open; 9P2000.L Tlcreate."""
    share.inside.umask(umask)
    fd = share.inside.open("fred", NEW, mode)
    seen = share.same(share.stat("fred"))
    fields("'fred'", seen, mode=stat.S_IFREG | mode & ~umask, size=0, nlink=1)
    share.inside.close(fd)
    equal("names in the case's directory", share.same(share.directory()), ["fred"], code="names")


@case("OPEN-002", covers=[Tlcreate], severity="linux")
@pytest.mark.parametrize("bits", [0o4755, 0o2755, 0o1644, 0o7777], ids=oct)
def test_creat_keeps_setid_and_sticky_bits(share: Share, bits: int) -> None:
    """open(O_CREAT) by root honours S_ISUID, S_ISGID and S_ISVTX of its mode argument.
    Source: open(2) "according to POSIX, the effect when other bits are set is unspecified; on Linux they are
    also honored"; known defect: hugelgupf/p9#108 lost them."""
    share.inside.umask(0)
    share.inside.open("fred", NEW | os.O_EXCL, bits)
    fields("'fred'", share.same(share.stat("fred")), mode=stat.S_IFREG | bits)


@case("OPEN-003", covers=[Tlopen], cached_too=True)
def test_creat_of_an_existing_file_leaves_it(share: Share) -> None:
    """open(O_CREAT) of an existing file opens it: content, mode, owner and times stay.
    Source: open(2) "O_CREAT"; POSIX open: "this flag has no effect except as noted under O_EXCL"."""
    share.inside.create("fred", b"old content", 0o640)
    settled_times(share, "fred")
    before = share.same(share.stat("fred"))
    fd = share.inside.open("fred", os.O_CREAT | os.O_RDWR, 0o777)
    changes("'fred' by open(O_CREAT)", before, share.same(share.stat("fred")))
    equal("content of 'fred' inside", share.inside.soon.read(fd, 100), b"old content", code="content")


@case("OPEN-004", covers=[Tlcreate], cached_too=True, about="agreement")
def test_creat_excl_of_a_new_name(share: Share) -> None:
    """open(O_CREAT|O_EXCL) of a new name makes the file, and a second call fails with EEXIST.
    Source: open(2) "O_EXCL", EEXIST."""
    share.inside.open("fred", NEW | os.O_EXCL, 0o644)
    share.same(share.stat("fred"))
    share.inside.refuses(EEXIST).open("fred", NEW | os.O_EXCL, 0o644)


@case("OPEN-005")
@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "link", "dangling"])
def test_creat_excl_of_a_taken_name(share: Share, kind: str) -> None:
    """open(O_CREAT|O_EXCL) of a name that is taken, even by a symbolic link to nothing, fails with EEXIST and
    changes nothing.  Source: open(2) "If these two flags are specified, symbolic links are not followed",
    EEXIST; POSIX open."""
    make_node(share, kind, "taken")
    before = share.same(share.directory())
    share.inside.refuses(EEXIST).open("taken", NEW | os.O_EXCL | os.O_TRUNC, 0o644)
    equal("names in the case's directory", share.same(share.directory()), before, code="names")
    if kind == "file":
        equal("content of 'taken' inside", share.inside.soon.slurp("taken"), b"file", code="content")


@case("OPEN-006", covers=[Tlcreate], caches=FRESH)
def test_creat_excl_of_a_name_made_outside(share: Share) -> None:
    """O_EXCL fails with EEXIST for a file that the host has made since the guest last saw the name free.
    Source: open(2) "O_EXCL: Ensure that this call creates the file"; only the server knows."""
    share.inside.refuses(ENOENT).open("fred")
    share.inside.create("other")
    share.outside.create("fred", b"of the host")
    share.inside.refuses(EEXIST).open("fred", NEW | os.O_EXCL | os.O_TRUNC)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"of the host", code="content")


@case("OPEN-007", covers=[Tlopen], cached_too=True, about="agreement")
@pytest.mark.parametrize("access", [os.O_WRONLY, os.O_RDWR], ids=["wronly", "rdwr"])
def test_trunc_empties_a_file(share: Share, access: int) -> None:
    """open(O_TRUNC) of a regular file for writing makes its length 0 and leaves mode and owner; mtime moves.
    Source: open(2) "O_TRUNC"; POSIX open: "shall mark for update ctime and mtime"."""
    share.inside.create("fred", b"x" * 5000, 0o640)
    settled_times(share, "fred")
    before = share.same(share.stat("fred"))
    fd = share.inside.open("fred", access | os.O_TRUNC)
    after = share.same(share.stat("fred"))
    fields("'fred' after open(O_TRUNC)", after, size=0)
    changes("'fred' by open(O_TRUNC)", before, after, must={"size", "blocks", "mtime_ns", "ctime_ns"})
    share.inside.write(fd, b"new")
    share.inside.fsync(fd)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"new", code="content")
    share.same(share.content("fred"))


@case("OPEN-008", covers=[Tlopen])
def test_creat_trunc_of_an_existing_file_keeps_its_mode(share: Share) -> None:
    """creat(2) of an existing file empties it and ignores its mode argument.
    Source: open(2) "A call to creat() is equivalent to O_CREAT|O_WRONLY|O_TRUNC"."""
    share.inside.create("fred", b"abc", 0o600)
    share.inside.open("fred", NEW | os.O_TRUNC, 0o777)
    seen = share.same(share.stat("fred"))
    fields("'fred'", seen, permissions=0o600, size=0)


@case("OPEN-009", covers=[Tlopen], caches=UNCACHED)
def test_trunc_of_a_file_that_grew_outside(share: Share) -> None:
    """open(O_TRUNC) empties a file even if the guest last saw it empty and the host has written since.
    Source: open(2) "O_TRUNC"; the length that counts is the server's."""
    share.inside.create("fred")
    share.outside.overwrite("fred", b"x" * 9000)
    share.inside.open("fred", os.O_WRONLY | os.O_TRUNC)
    fields("'fred'", share.same(share.stat("fred")), size=0)


@case("OPEN-010", covers=[Twrite], cached_too=True, about="agreement")
def test_append_writes_at_the_end(share: Share) -> None:
    """With O_APPEND every write(2) goes to the end of the file, wherever lseek(2) set the offset.
    Source: open(2) "O_APPEND"; POSIX write."""
    share.inside.create("fred", b"0123456789")
    fd = share.inside.open("fred", os.O_RDWR | os.O_APPEND)
    equal("file offset after open(O_APPEND)", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 0)
    share.inside.write(fd, b"AB")
    equal("file offset after the first write", share.inside.soon.lseek(fd, 0, os.SEEK_CUR), 12)
    share.inside.lseek(fd, 3)
    share.inside.write(fd, b"CD")
    share.inside.fsync(fd)
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"0123456789ABCD", code="content")
    share.same(share.content("fred"))


@case("OPEN-011", covers=[Tlopen, Twrite], caches=UNCACHED, about="agreement")
def test_append_after_the_host_appended(share: Share) -> None:
    """With O_APPEND a write follows what the host appended after the guest opened the file.
    Source: open(2) "O_APPEND: ... positioned at the end of the file"; P9_DOTL_APPEND of Tlopen informs the
    server, which alone knows the end."""
    share.inside.create("fred", b"one.")
    fd = share.inside.open("fred", os.O_WRONLY | os.O_APPEND)
    share.inside.write(fd, b"two.")
    other = share.outside.open("fred", os.O_WRONLY | os.O_APPEND)
    share.outside.write(other, b"host.")
    share.inside.write(fd, b"three.")
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"one.two.host.three.", code="content")
    share.same(share.content("fred"))


@case("OPEN-012", covers=[Tlcreate, Twrite])
def test_append_on_a_file_just_created(share: Share) -> None:
    """O_APPEND together with O_CREAT applies to the new file as well: two descriptors never overwrite each other.
    Source: open(2) "O_APPEND"; the flag travels in Tlcreate."""
    first = share.inside.open("log", NEW | os.O_APPEND, 0o644)
    second = share.inside.open("log", os.O_WRONLY | os.O_APPEND)
    for fd, text in ((first, b"1"), (second, b"22"), (first, b"333"), (second, b"4444")):
        share.inside.write(fd, text)
    equal("content of 'log' inside", share.inside.soon.slurp("log"), b"1223334444", code="content")


@case("OPEN-013", covers=[Twrite], severity="linux", caches=UNCACHED)
def test_append_taken_off_by_fcntl(share: Share) -> None:
    """After fcntl(F_SETFL) clears O_APPEND, pwrite(2) writes at its offset again.
    Source: fcntl(2) "F_SETFL: On Linux, this command can change only the O_APPEND, O_ASYNC, ... flags";
    Linux v9fs has no message for it, and a server that keeps its own O_APPEND appends on: known defect:
    WSL#40649."""
    share.inside.create("fred", b"0123456789")
    fd = share.inside.open("fred", os.O_WRONLY | os.O_APPEND)
    share.inside.fcntl(fd, 4, 0)
    share.inside.pwrite(fd, b"AB", 0)
    equal("content of 'fred' outside", share.outside.slurp("fred"), b"AB23456789", code="content")


@case("OPEN-014", covers=[Twrite], severity="linux")
def test_append_put_on_by_fcntl(share: Share) -> None:
    """After fcntl(F_SETFL, O_APPEND) writes go to the end of the file.  Source: fcntl(2) F_SETFL."""
    share.inside.create("fred", b"0123456789")
    fd = share.inside.open("fred", os.O_WRONLY)
    share.inside.fcntl(fd, 4, os.O_APPEND)
    share.inside.write(fd, b"AB")
    equal("content of 'fred' inside", share.inside.soon.slurp("fred"), b"0123456789AB", code="content")


@case("OPEN-015", covers=[Tlcreate])
def test_creat_through_a_dangling_link(share: Share) -> None:
    """open(O_CREAT) of a symbolic link to a name that is not there makes that name; the link stays.
    Source: POSIX open: without O_EXCL a symbolic link is followed; path_resolution(7)."""
    share.inside.symlink("target", "link")
    share.inside.open("link", NEW, 0o644)
    equal("names in the case's directory", share.same(share.directory()), ["link", "target"], code="names")
    equal("text of the symbolic link 'link'", share.same(share.link("link")), "target", code="field:target")


@case("OPEN-016")
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("nobody", ENOENT),
        ("", ENOENT),
        ("nodir/fred", ENOENT),
        ("dangling", ENOENT),
        ("file/fred", ENOTDIR),
        ("file/", ENOTDIR),
        ("loop", ELOOP),
        ("loop/fred", ELOOP),
        ("n" * 256, ENAMETOOLONG),
        ("d/" * 2048 + "x", ENAMETOOLONG),
    ],
    ids=[
        "missing",
        "empty",
        "missing-dir",
        "dangling",
        "below-file",
        "slash-file",
        "loop",
        "below-loop",
        "256",
        "pathmax",
    ],
)
def test_open_of_a_name_that_cannot_be(share: Share, name: str, wanted: int) -> None:
    """open(2) of a bad path fails with the errno of path resolution, and makes nothing.
    Source: open(2) ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG; path_resolution(7)."""
    share.inside.create("file")
    share.inside.symlink("loop", "loop")
    share.inside.symlink("nobody", "dangling")
    before = share.same(share.directory())
    share.inside.refuses(wanted).open(name)
    if not name.endswith("/") and (wanted != ENOENT or "/" in name or not name):
        share.inside.refuses(wanted).open(name, NEW, 0o644)
    equal("names in the case's directory", share.same(share.directory()), before, code="names")


@case("OPEN-017")
@pytest.mark.parametrize(
    "flags",
    [os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_RDONLY | os.O_TRUNC],
    ids=["wronly", "rdwr", "creat", "trunc"],
)
def test_open_of_a_directory_for_writing(share: Share, flags: int) -> None:
    """open(2) of a directory for writing, with O_CREAT or O_TRUNC fails with EISDIR.
    Source: open(2) EISDIR; POSIX open."""
    share.inside.mkdir("dir")
    share.inside.refuses(EISDIR).open("dir", flags, 0o644)


@case("OPEN-018")
def test_creat_with_a_trailing_slash(share: Share) -> None:
    """open(O_CREAT) of a new name that ends in a slash fails with EISDIR and makes nothing.
    Source: open(2) EISDIR; POSIX open; Linux fs/namei.c open_last_lookups()."""
    share.inside.refuses(EISDIR).open("new/", NEW, 0o644)
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("OPEN-019", covers=[Tlopen, Tread], caches=FRESH)
def test_open_of_a_file_made_outside(share: Share) -> None:
    """A file that the host makes after the guest saw its name free can be opened and read at once.
    Source: POSIX open; with cache=none, readahead or mmap the guest keeps no names."""
    share.inside.refuses(ENOENT).open("fred")
    share.outside.create("fred", b"from the host")
    fd = share.inside.open("fred")
    equal("content of 'fred' inside", share.inside.soon.read(fd, 100), b"from the host", code="content")


@case("OPEN-020", covers=[Tlcreate], caches=FRESH)
def test_creat_of_a_name_removed_outside(share: Share) -> None:
    """A name that the host removed is free again at once: O_CREAT|O_EXCL makes a new file.
    Source: POSIX open; unlink(2)."""
    share.inside.create("fred", b"old")
    share.outside.unlink("fred")
    share.inside.open("fred", NEW | os.O_EXCL, 0o600)
    fields("'fred'", share.same(share.stat("fred")), size=0)


@case("OPEN-021", covers=[Tlopen, Tlcreate])
def test_openat_below_a_directory_descriptor(share: Share) -> None:
    """openat(2) takes relative names below its descriptor, even after that directory was renamed, and an
    absolute name ignores it.
    Source: open(2) "openat()"; POSIX openat."""
    share.inside.mkdir("dir")
    share.inside.create("dir/fred", b"abc")
    at = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    below = share.inside.open("fred", dir_fd=at)
    equal("content of the file below the descriptor", share.inside.soon.read(below, 9), b"abc", code="content")
    share.inside.rename("dir", "moved")
    with share.without_comparison():  # the agent knows the descriptor's directory by its old name
        share.inside.open("george", NEW, 0o644, dir_fd=at)
    equal("names in 'moved'", share.same(share.directory("moved")), ["fred", "george"], code="names")
    share.inside.open(f"{share.inside.root}/moved/fred", dir_fd=at)


@case("OPEN-022")
def test_openat_of_bad_descriptors(share: Share) -> None:
    """openat(2) of a relative name fails with EBADF for a descriptor that is not open and ENOTDIR for one
    of a file.
    Source: open(2) EBADF, ENOTDIR (openat)."""
    share.inside.create("fred")
    fd = share.inside.open("fred")
    share.inside.refuses(ENOTDIR).open("fred", dir_fd=fd)
    share.inside.refuses(EBADF).open("fred", dir_fd=987)


@case("OPEN-023", covers=[Tlopen])
def test_two_opens_are_two_descriptions(share: Share) -> None:
    """Two opens of one file have separate offsets.
    Source: open(2) "open file description"; POSIX open."""
    share.inside.create("fred", b"0123456789")
    first, second = share.inside.open("fred"), share.inside.open("fred")
    equal("bytes read by the first descriptor", share.inside.soon.read(first, 4), b"0123", code="content")
    equal("bytes read by the second descriptor", share.inside.soon.read(second, 6), b"012345", code="content")
    equal("bytes read by the first descriptor then", share.inside.soon.read(first, 4), b"4567", code="content")


@case("OPEN-024", covers=[Tlcreate, Tread], seconds=150.0)
def test_many_files_open_at_once(share: Share) -> None:
    """200 files open at once can each be read back with their own content.  Source: open(2); a server that closes host
    descriptors under pressure must reopen the right file; known defect: CVE-2021-20181."""
    share.inside.timeout = 100.0  # 200 files in one call
    equal("numbers of files with another's content", share.inside.hold_many_open("f", 200), [], code="content")
    equal("number of names in the directory", len(share.same(share.directory())), 200, code="names")


@case("OPEN-025", covers=[Tlopen, Tsetattr], caches=FRESH)
def test_open_file_survives_rename_and_chmod(share: Share) -> None:
    """A descriptor reads and writes its file after it was renamed and lost every permission bit.
    Source: POSIX open: permissions are checked when the file is opened, and a description refers to the file,
    not to the name; known defect: WSL#8443 (open, rename, fstat)."""
    share.inside.create("fred", b"abc", 0o644)
    fd = share.inside.open("fred", os.O_RDWR)
    share.inside.rename("fred", "george")
    share.inside.chmod("george", 0)
    equal(
        "content read by the descriptor after rename and chmod",
        share.inside.soon.pread(fd, 9, 0),
        b"abc",
        code="content",
    )
    share.inside.pwrite(fd, b"X", 1)
    fields("the open file inside", share.inside.soon.fstat(fd), size=3)
    equal("content of 'george' outside", share.outside.slurp("george"), b"aXc", code="content")


@case("OPEN-026")
def test_creat_in_a_removed_directory(share: Share) -> None:
    """open(O_CREAT) below a descriptor of a directory that was removed fails with ENOENT.
    Source: POSIX rmdir "the dot and dot-dot entries ... no new entries may be created"; open(2) ENOENT."""
    share.inside.mkdir("dir")
    at = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.rmdir("dir")
    share.inside.refuses(ENOENT).open("fred", NEW, 0o644, dir_fd=at)
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("OPEN-027", covers=[Twalk], caches=FRESH)
def test_creat_in_a_directory_removed_outside(share: Share) -> None:
    """open(O_CREAT) in a directory that the host has removed fails with ENOENT, and nothing appears
    elsewhere.
    Source: open(2) ENOENT; a server must not make the file in another directory that now has this name."""
    share.inside.mkdir("dir")
    at = share.inside.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    with share.without_comparison():  # while the guest holds the name open, Linux keeps its entry for it
        share.outside.rmdir("dir")
        share.inside.refuses(ENOENT).open("fred", NEW, 0o644, dir_fd=at)
        share.inside.refuses(ENOENT).open("dir/fred", NEW, 0o644)
    equal("names in the case's directory", share.same(share.directory()), [], code="names")


@case("OPEN-028", covers=[Tlopen], severity="linux", caches=FRESH)
def test_file_replaced_outside_while_open(share: Share) -> None:
    """A descriptor keeps reading its own file after the host has put another under its name, and the name opens the new
    file.
    Source: POSIX open: a description refers to the file, not the name; rename(2)."""
    share.outside.create("fred", b"old")
    fd = share.inside.open("fred")
    share.outside.create("new", b"brand new")
    with share.without_comparison():  # while the guest holds the name open, Linux keeps its entry for it
        share.outside.rename("new", "fred")
    equal("content read by the descriptor of the old file", share.inside.soon.pread(fd, 99, 0), b"old", code="content")
    share.inside.close(fd)
    equal("content of the new file by its name", share.inside.soon.slurp("fred"), b"brand new", code="content")


def make_node(share: Share, kind: str, name: str) -> None:
    """A file of the given kind; a fifo is made outside, where that certainly works."""
    if kind == "link":
        share.inside.create("target")
    makers: dict[str, Callable[[], None]] = {
        "file": lambda: share.inside.create(name, b"file"),
        "directory": lambda: share.inside.mkdir(name),
        "fifo": lambda: share.outside.mkfifo(name),
        "socket": lambda: share.outside.mknod(name, stat.S_IFSOCK | 0o666),
        "link": lambda: share.inside.symlink("target", name),
        "dangling": lambda: share.inside.symlink("nothing", name),
    }
    makers[kind]()
