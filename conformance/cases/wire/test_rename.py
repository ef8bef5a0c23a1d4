"""Family `rename`: Trenameat, and Trename, which Linux falls back to.

What is at stake: every editor and package manager ends a write with a rename. It must replace atomically, refuse what
would lose data, and keep the fids of a moved file on that file.
"""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import equal, holds
from conformance.raw.expectation import OK
from conformance.raw.wire import Session, Wire
from protocol.constants import (
    EEXIST,
    EINVAL,
    EISDIR,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    O_RDWR,
)
from protocol.messages import Rgetattr, Trename, Trenameat

HOW = ["renameat", "rename"]
"""Both messages must do the same; a case that is asked both ways is written once."""


def _move(client: Session, how: str, old: bytes, to: int, new: bytes, expect: object = None) -> None:
    """Move `old` of the case's directory to `new` in the directory `to`."""
    if how == "renameat":
        client.renameat(client.root, old, to, new, expect=expect)  # type: ignore[arg-type]
    else:
        client.rename(client.walk_to(old), to, new, expect=expect)  # type: ignore[arg-type]


# --- what moves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-001")
def test_in_one_directory(wire: Wire, how: str) -> None:
    """A file, a directory, a symbolic link and a fifo get another name and keep their inode.  Source: rename(2);
    chaos/diod protocol.md, rename and renameat."""
    client, host = wire.client, wire.host
    for name in (host.file(b"file", b"abc"), host.directory(b"dir"), host.symlink(b"link", b"x"), host.fifo(b"fifo")):
        inode = host.stat(name).st_ino
        _move(client, how, name, client.root, name + b"-new")
        shared.absent(wire, name)
        seen = host.stat(name + b"-new").st_ino
        equal(f"inode of what was {name!r} before the rename, on the host", seen, inode, code="field:ino")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-002")
def test_between_directories(wire: Wire, how: str) -> None:
    """A file and a full directory move into another directory.  Source: rename(2); chaos/diod protocol.md."""
    client, host = wire.client, wire.host
    host.directory(b"to")
    host.file(b"file", b"abc")
    host.directory(b"dir")
    host.file(b"dir/inner", b"def")
    _move(client, how, b"file", client.walk_to(b"to"), b"file")
    _move(client, how, b"dir", client.walk_to(b"to"), b"moved")
    shared.content(wire, b"to/file", b"abc")
    shared.content(wire, b"to/moved/inner", b"def")
    shared.names(wire, {b"to"})


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-003")
def test_over_a_file(wire: Wire, how: str) -> None:
    """A file that is moved onto another replaces it.  Source: rename(2), "will be atomically replaced"."""
    client, host = wire.client, wire.host
    host.file(b"new", b"new")
    host.file(b"old", b"old")
    _move(client, how, b"new", client.root, b"old")
    shared.names(wire, {b"old"})
    shared.content(wire, b"old", b"new")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-004")
def test_over_a_read_only_file(wire: Wire, how: str) -> None:
    """The mode of the file that is replaced does not matter.  Source: rename(2) asks for permission on directories;
    WSL refused (WSL#5019, #6193)."""
    client, host = wire.client, wire.host
    host.file(b"new", b"new")
    host.file(b"old", b"old", 0o444)
    _move(client, how, b"new", client.root, b"old")
    shared.content(wire, b"old", b"new")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-005")
def test_over_an_empty_directory(wire: Wire, how: str) -> None:
    """A directory that is moved onto an empty one replaces it.  Source: rename(2)."""
    client, host = wire.client, wire.host
    host.directory(b"dir")
    host.file(b"dir/inner", b"abc")
    host.directory(b"empty")
    _move(client, how, b"dir", client.root, b"empty")
    shared.content(wire, b"empty/inner", b"abc")
    shared.names(wire, {b"empty"})


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-006")
def test_onto_itself(wire: Wire, how: str) -> None:
    """A file renamed to itself, or to another name of itself, stays.  Source: rename(2), "does nothing"."""
    client, host = wire.client, wire.host
    host.file(b"one", b"abc")
    host.link(b"one", b"two")
    _move(client, how, b"one", client.root, b"one")
    _move(client, how, b"one", client.root, b"two")
    shared.content(wire, b"two", b"abc")
    # rename(2) leaves both names; a server that removes the first one loses no file.
    equal("names beside the file's own two", host.names() - {b"one", b"two"}, set(), code="names")


# --- what does not move --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-010")
def test_over_a_full_directory(wire: Wire, how: str) -> None:
    """A directory is not moved onto one with entries.  Source: rename(2) ENOTEMPTY or EEXIST."""
    client, host = wire.client, wire.host
    host.directory(b"dir")
    host.directory(b"full")
    host.file(b"full/inner", b"abc")
    _move(client, how, b"dir", client.root, b"full", {ENOTEMPTY, EEXIST})
    shared.content(wire, b"full/inner", b"abc")
    shared.present(wire, b"dir")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-011")
def test_file_over_directory_and_back(wire: Wire, how: str) -> None:
    """A file does not replace a directory, nor does a directory replace a file.  Source: rename(2) EISDIR, ENOTDIR;
    EEXIST: the name is taken."""
    client, host = wire.client, wire.host
    host.file(b"file", b"abc")
    host.directory(b"dir")
    _move(client, how, b"file", client.root, b"dir", {EISDIR, EEXIST})
    _move(client, how, b"dir", client.root, b"file", {ENOTDIR, EEXIST})
    shared.content(wire, b"file", b"abc")
    shared.present(wire, b"dir")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-012")
def test_directory_into_itself(wire: Wire, how: str) -> None:
    """A directory is not moved into itself or below itself.  Source: rename(2) EINVAL."""
    client, host = wire.client, wire.host
    host.directory(b"dir")
    host.directory(b"dir/sub")
    _move(client, how, b"dir", client.walk_to(b"dir"), b"x", EINVAL)
    _move(client, how, b"dir", client.walk_to(b"dir", b"sub"), b"x", EINVAL)
    shared.names(wire, {b"dir"})
    shared.names(wire, {b"sub"}, b"dir")


@case("WIRE-RENAME-013", covers=[Trenameat])
def test_name_that_is_not_there(wire: Wire) -> None:
    """Trenameat of a missing name is refused with ENOENT, and a file with the new name stays.  Source: rename(2)
    ENOENT."""
    client, host = wire.client, wire.host
    host.file(b"old", b"abc")
    client.renameat(client.root, b"ginger", client.root, b"old", expect=ENOENT)
    shared.content(wire, b"old", b"abc")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-014")
def test_into_a_file(wire: Wire, how: str) -> None:
    """Nothing is moved into a file that is not a directory.  Source: rename(2) ENOTDIR."""
    client, host = wire.client, wire.host
    host.file(b"one", b"1")
    host.file(b"two", b"2")
    _move(client, how, b"one", client.walk_to(b"two"), b"x", allowed.NOT_A_DIRECTORY)
    shared.names(wire, {b"one", b"two"})


@case("WIRE-RENAME-015", covers=[Trenameat])
def test_out_of_a_file(wire: Wire) -> None:
    """Trenameat out of a file that is not a directory is refused.  Source: rename(2) ENOTDIR."""
    client, host = wire.client, wire.host
    host.file(b"one", b"1")
    client.renameat(client.walk_to(b"one"), b"one", client.root, b"x", expect=allowed.NOT_A_DIRECTORY)
    shared.names(wire, {b"one"})


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-RENAME-016", covers=[Trenameat])
def test_renameat_of_dead_fids(wire: Wire, which: str) -> None:
    """Trenameat with an unknown directory fid, on either side, is refused.
    Source: chaos/diod protocol.md, renameat."""
    wire.host.file(b"one")
    shared.dead_fid(wire, which, lambda client, fid: client.renameat.send(fid, b"one", client.root, b"x"))
    shared.dead_fid(wire, which, lambda client, fid: client.renameat.send(client.root, b"one", fid, b"x"))
    shared.names(wire, {b"one"})


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-RENAME-017", covers=[Trename])
def test_rename_of_dead_fids(wire: Wire, which: str) -> None:
    """Trename with an unknown fid, on either side, is refused.
    Source: chaos/diod protocol.md, rename."""
    wire.host.file(b"one")
    shared.dead_fid(wire, which, lambda client, fid: client.rename.send(fid, client.root, b"x"))
    shared.dead_fid(wire, which, lambda client, fid: client.rename.send(client.walk_to(b"one"), fid, b"x"))
    shared.names(wire, {b"one"})


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", shared.NO_NAMES, ids=shared.label)
@case("WIRE-RENAME-018")
def test_to_no_name(wire: Wire, name: bytes, how: str) -> None:
    """A rename to an empty name, or one that holds a slash, is refused and moves nothing.  Source: POSIX XBD, Filename,
    "1 to {NAME_MAX} bytes ... shall not contain the <NUL> or <slash> characters"."""
    wire.host.file(b"one")
    if how == "renameat":
        shared.no_name(wire, name, lambda client, fid, name: client.renameat.send(client.root, b"one", fid, name))
    else:
        shared.no_name(wire, name, lambda client, fid, name: client.rename.send(client.walk_to(b"one"), fid, name))


@pytest.mark.parametrize("name", [*shared.NO_NAMES, b"sub/../one"], ids=shared.label)
@case("WIRE-RENAME-019", covers=[Trenameat])
def test_from_no_name(wire: Wire, name: bytes) -> None:
    """Trenameat from an empty name, or one that holds a slash, is refused and moves nothing.  Source: POSIX XBD,
    Filename, "1 to {NAME_MAX} bytes ... shall not contain the <NUL> or <slash> characters"."""
    wire.host.file(b"one")
    shared.no_name(wire, name, lambda client, fid, name: client.renameat.send(fid, name, client.root, b"new"))


@pytest.mark.parametrize("name", shared.DOTS, ids=shared.label)
@case("WIRE-RENAME-020", covers=[Trenameat, Trename])
def test_dots(wire: Wire, name: bytes) -> None:
    """`.` and `..` can be neither source nor target of a rename.  Source: rename(2) EBUSY, EINVAL; QEMU v9fs_renameat
    EISDIR."""
    host = wire.host
    host.file(b"one")
    host.directory(b"d")
    shared.dot_name(wire, name, lambda client, fid, name: client.renameat.send(client.root, b"one", fid, name))
    host.rmdir(b"sub")
    shared.dot_name(wire, name, lambda client, fid, name: client.renameat.send(client.walk_to(b"d"), name, fid, b"x"))
    host.rmdir(b"sub")
    shared.dot_name(wire, name, lambda client, fid, name: client.rename.send(client.walk_to(b"one"), fid, name))


@case("WIRE-RENAME-021", covers=[Trenameat])
def test_names_with_a_nul(wire: Wire) -> None:
    """A NUL does not end a name, old or new.  Source: intro(5), "The NUL character is illegal in all text strings in
    9P"."""
    host = wire.host
    host.file(b"one")
    host.file(b"fred")
    shared.nul_name(wire, lambda client, fid, name: client.renameat.send(client.root, b"one", fid, name))
    host.rmdir(b"sub")
    shared.nul_name(wire, lambda client, fid, name: client.renameat.send(fid, name, client.root, b"new"))


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-022")
def test_long_names(wire: Wire, how: str) -> None:
    """A rename takes a name of 255 bytes and refuses one of 256.  Source: rename(2) ENAMETOOLONG."""
    client, host = wire.client, wire.host
    host.file(b"one")
    _move(client, how, b"one", client.root, b"n" * 256, allowed.NAME_TOO_LONG)
    _move(client, how, b"one", client.root, b"n" * 255)
    shared.names(wire, {b"n" * 255})


@case("WIRE-RENAME-023", covers=[Trename])
def test_root_does_not_move(wire: Wire) -> None:
    """The root of the export cannot be moved, not even into itself.  Source: rename(2) EBUSY, EINVAL; QEMU refuses to
    move the export."""
    client = wire.client
    before = wire.top.names()
    client.rename(wire.attach(client), client.root, b"x", expect=allowed.ROOT_STAYS)
    equal("names in the root of the export", wire.top.names(), before, code="names")
    shared.names(wire, set())


# --- the fids of what moved -----------------------------------------------------------------------


FIDS = 8
"""Fids that stand for what is renamed, or for what is below it: QEMU's v9fs_complete_rename goes through its fids in
the order of a hash table, and leaves those stale that come after the fid that Trename names."""


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-030", severity="linux")
def test_fid_of_what_moved(wire: Wire, how: str) -> None:
    """A fid still stands for its file after the file was renamed through another fid, or by name.
    Source: a fid is a file, not a name (intro(5)); v9fs keeps a dentry's fids across d_move; QEMU updates the paths of
    its fids in v9fs_complete_rename and v9fs_complete_renameat."""
    client = wire.client
    wire.host.file(b"old", b"abc")
    wire.host.directory(b"to")
    held = [client.walk_to(b"old") for _ in range(FIDS)]
    _move(client, how, b"old", client.walk_to(b"to"), b"new")
    for fid in held:
        shared.size_in_reply(client, fid, 3, "the file that was renamed")
        client.lopen(fid)
        shared.reads(client, fid, b"abc", "the file that was renamed, opened afterwards")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-037", severity="linux")
def test_open_fid_of_what_moved(wire: Wire, how: str) -> None:
    """A fid that was open when its file was renamed still reads and writes that file.  Source: rename(2), "open file
    descriptors for oldpath are also unaffected"; intro(5)."""
    client = wire.client
    wire.host.file(b"old", b"abc")
    wire.host.directory(b"to")
    opened = client.open(b"old", flags=O_RDWR)
    _move(client, how, b"old", client.walk_to(b"to"), b"new")
    client.write(opened, 3, b"def")
    shared.reads(client, opened, b"abcdef", "the file that was renamed while it was open")
    shared.content(wire, b"to/new", b"abcdef", "a write by the fid that was open")


@case("WIRE-RENAME-038", covers=[Trename], severity="linux")
def test_fid_that_was_renamed(wire: Wire) -> None:
    """The fid that Trename names stands for the file under its new name.  Source: chaos/diod protocol.md, rename; Linux
    continues to use it (v9fs_vfs_rename); QEMU v9fs_complete_rename."""
    client = wire.client
    wire.host.file(b"old", b"abc")
    wire.host.directory(b"to")
    fid = client.walk_to(b"old")
    client.rename(fid, client.walk_to(b"to"), b"new")
    shared.content(wire, b"to/new", b"abc", "Trename")
    shared.size_in_reply(client, fid, 3, "the fid that was renamed")
    client.lopen(fid)
    shared.reads(client, fid, b"abc", "the fid that was renamed, opened afterwards")


@case("WIRE-RENAME-039", covers=[Trename], severity="linux")
def test_fid_that_was_renamed_twice(wire: Wire) -> None:
    """A second Trename of a fid moves the same file again.  Source: chaos/diod protocol.md, rename; intro(5)."""
    client = wire.client
    wire.host.file(b"old", b"abc")
    fid = client.walk_to(b"old")
    client.rename(fid, client.root, b"first")
    client.rename(fid, client.root, b"second")
    shared.names(wire, {b"second"}, after="two Trename of one fid")
    shared.content(wire, b"second", b"abc")


def _moved_directory(wire: Wire) -> None:
    wire.host.directory(b"dir")
    wire.host.directory(b"dir/sub")
    wire.host.file(b"dir/sub/fred", b"abc")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-031", severity="linux")
def test_fids_below_what_moved(wire: Wire, how: str) -> None:
    """Fids of files below a renamed directory still stand for those files.  Source: intro(5); QEMU v9fs_fix_fid_paths;
    WSL refused to move a directory with an open file (WSL#12897)."""
    client = wire.client
    _moved_directory(wire)
    held = [client.walk_to(b"dir", b"sub", b"fred") for _ in range(FIDS)]
    _move(client, how, b"dir", client.root, b"moved")
    for fid in held:
        shared.size_in_reply(client, fid, 3, "a file below the directory that was renamed")
        client.lopen(fid)
        shared.reads(client, fid, b"abc", "a file below the directory that was renamed")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-042", severity="linux")
def test_some_fids_below_what_moved(wire: Wire, how: str) -> None:
    """Of many fids of files below a renamed directory at least some are updated.  Source: intro(5); QEMU
    v9fs_complete_rename, which updates some and misses others (WIRE-RENAME-031), so that case cannot show a loop that
    does nothing."""
    client = wire.client
    _moved_directory(wire)
    held = [client.walk_to(b"dir", b"sub", b"fred") for _ in range(4 * FIDS)]
    _move(client, how, b"dir", client.root, b"moved")
    errnos = [client.getattr.send(fid).errno() for fid in held]
    what = "one of 32 fids of a file below the directory that was renamed is still good"
    holds(what, OK in errnos, seen=errnos, code="errno")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-040", severity="linux")
def test_open_fid_below_what_moved(wire: Wire, how: str) -> None:
    """A file that is open below a renamed directory can still be read.  Source: rename(2), open file descriptors are
    unaffected; WSL#12897."""
    client = wire.client
    _moved_directory(wire)
    opened = client.open(b"dir", b"sub", b"fred")
    _move(client, how, b"dir", client.root, b"moved")
    shared.reads(client, opened, b"abc", "a file that is open below the directory that was renamed")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-041", severity="linux")
def test_fid_of_the_directory_that_moved(wire: Wire, how: str) -> None:
    """A fid of a directory that was renamed through another fid, or by name, still leads to the files below it.
    Source: intro(5); QEMU v9fs_fix_fid_paths."""
    client = wire.client
    _moved_directory(wire)
    held = [client.walk_to(b"dir") for _ in range(FIDS)]
    _move(client, how, b"dir", client.root, b"moved")
    for directory in held:
        fid = client.walk_to(b"sub", b"fred", start=directory)
        shared.size_in_reply(client, fid, 3, "a file that was walked to from the directory that was renamed")


@pytest.mark.parametrize("how", HOW)
@case("WIRE-RENAME-032", severity="linux")
def test_fid_of_what_was_replaced(wire: Wire, how: str) -> None:
    """An open fid of a file that a rename has replaced still reads the old content; it never becomes the new file.
    Source: rename(2), "open file descriptors for oldpath are unaffected"; intro(5)."""
    client, host = wire.client, wire.host
    host.file(b"new", b"new content")
    host.file(b"old", b"old")
    opened = client.open(b"old")
    _move(client, how, b"new", client.root, b"old")
    shared.reads(client, opened, b"old", "the open file that was replaced")


@case("WIRE-RENAME-033", covers=[Trenameat], severity="linux")
def test_name_used_again_after_a_rename(wire: Wire) -> None:
    """After `a` was renamed to `b` and a new `a` was made, the first fid is still the first file.  Source: intro(5);
    editors do this on each save."""
    client, host = wire.client, wire.host
    host.file(b"a", b"first")
    first = client.walk_to(b"a")
    client.renameat(client.root, b"a", client.root, b"b")
    client.create(b"a", b"the second")
    shared.size_in_reply(client, first, 5, "the first file")
    client.lopen(first)
    shared.reads(client, first, b"first", "the first file")


@case("WIRE-RENAME-034", covers=[Trenameat], severity="varies")
def test_fid_follows_a_rename_on_the_host(wire: Wire) -> None:
    """A fid still stands for its file after the host has renamed the file.  Source: intro(5); servers that keep paths
    (QEMU local, diod) cannot, and answer ENOENT."""
    client, host = wire.client, wire.host
    host.file(b"old", b"abc")
    host.file(b"x")
    held = client.walk_to(b"old")
    host.rename(b"old", b"new")
    client.renameat(client.root, b"x", client.root, b"y")
    shared.size_in_reply(client, held, 3, "a file that the host has renamed")


@case("WIRE-RENAME-035", covers=[Trenameat])
def test_fid_never_becomes_another_file(wire: Wire) -> None:
    """When the host replaces the file of a fid by another, the fid is the old file, or invalid; it never has the old
    qid but the new content.  Source: intro(5), qid; ESTALE as in NFS."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"old")
    host.file(b"x")
    held = client.walk_to(b"fred")
    path = client.getattr(held).qid.path
    host.file(b"tmp", b"new content")
    host.rename(b"tmp", b"fred")
    client.renameat(client.root, b"x", client.root, b"y")
    reply = client.getattr(held, expect=allowed.GONE | {OK})
    if isinstance(reply, Rgetattr):
        wanted = 3 if reply.qid.path == path else 11
        equal("size in Rgetattr, of the file whose qid it shows", reply.size, wanted, code="field:size")


@case("WIRE-RENAME-036", covers=[Trenameat], severity="linux")
def test_renames_in_flight(wire: Wire) -> None:
    """Two hundred renames back and forth, in flight with look-ups of the same name, are each answered correctly and
    leave one file.  Source: rename(2) is atomic; QEMU raced (CVE-2018-19489)."""
    client, host = wire.client, wire.host
    host.file(b"a", b"abc")
    flying = []
    for number in range(200):
        old, new = (b"a", b"b") if number % 2 == 0 else (b"b", b"a")
        flying.append((client.renameat.send(client.root, old, client.root, new), {OK, ENOENT}))
        flying.append((client.walk.send(client.root, client.fid(), b"a"), {OK, ENOENT}))  # type: ignore[arg-type]
    for pending, errnos in flying:
        pending.result(errnos)
    left = host.names()
    equal("number of names on the host after two hundred renames", len(left), 1, code="names")
    for name in left:
        shared.content(wire, name, b"abc", "two hundred renames")
