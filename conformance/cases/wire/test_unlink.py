"""Family `unlink`: Tunlinkat, and Tremove, which Linux falls back to.

What is at stake: what is removed is gone for good. Only the named entry may go, and only if it is of the requested
kind. A Tremove that fails still clunks its fid.
"""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import equal, holds
from conformance.raw.expectation import OK
from conformance.raw.wire import Wire
from protocol.constants import (
    AT_REMOVEDIR,
    EEXIST,
    EINVAL,
    EISDIR,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    O_RDWR,
)
from protocol.messages import Rgetattr, Tremove, Tunlinkat

# --- unlinkat -------------------------------------------------------------------------------------


@case("WIRE-UNLINK-001", covers=[Tunlinkat])
def test_unlinkat_of_a_file(wire: Wire) -> None:
    """Tunlinkat removes a file, a symbolic link, a fifo; the link's target stays.  Source: unlink(2); chaos/diod
    protocol.md, unlinkat."""
    client, host = wire.client, wire.host
    host.file(b"target", b"abc")
    for name in (host.file(b"file"), host.symlink(b"link", b"target"), host.fifo(b"fifo")):
        client.unlinkat(client.root, name)
    shared.names(wire, {b"target"})


@case("WIRE-UNLINK-002", covers=[Tunlinkat])
def test_unlinkat_of_a_directory(wire: Wire) -> None:
    """Tunlinkat with REMOVEDIR removes an empty directory.
    Source: unlinkat(2) AT_REMOVEDIR; chaos/diod protocol.md."""
    client, host = wire.client, wire.host
    host.directory(b"dir")
    client.unlinkat(client.root, b"dir", AT_REMOVEDIR)
    shared.names(wire, set())


@case("WIRE-UNLINK-003", covers=[Tunlinkat])
def test_unlinkat_says_which_kind(wire: Wire) -> None:
    """Without REMOVEDIR a directory stays, with it a file stays.  Source: unlink(2) EISDIR (POSIX: EPERM), rmdir(2)
    ENOTDIR."""
    client, host = wire.client, wire.host
    host.file(b"file")
    host.directory(b"dir")
    host.symlink(b"link", b"dir")
    client.unlinkat(client.root, b"dir", expect={EISDIR, EPERM})
    client.unlinkat(client.root, b"file", AT_REMOVEDIR, expect=ENOTDIR)
    client.unlinkat(client.root, b"link", AT_REMOVEDIR, expect=ENOTDIR)
    shared.names(wire, {b"file", b"dir", b"link"})


@case("WIRE-UNLINK-004", covers=[Tunlinkat])
def test_unlinkat_of_a_full_directory(wire: Wire) -> None:
    """A directory with entries stays.  Source: rmdir(2) ENOTEMPTY or EEXIST."""
    client, host = wire.client, wire.host
    host.directory(b"dir")
    host.file(b"dir/inner")
    client.unlinkat(client.root, b"dir", AT_REMOVEDIR, expect={ENOTEMPTY, EEXIST})
    shared.present(wire, b"dir/inner")


@case("WIRE-UNLINK-005", covers=[Tunlinkat])
def test_unlinkat_of_what_is_not_there(wire: Wire) -> None:
    """Tunlinkat of a name that does not exist is refused with ENOENT.  Source: unlink(2), rmdir(2) ENOENT."""
    client = wire.client
    client.unlinkat(client.root, b"ginger", expect=ENOENT)
    client.unlinkat(client.root, b"ginger", AT_REMOVEDIR, expect=ENOENT)


@case("WIRE-UNLINK-006", covers=[Tunlinkat])
def test_unlinkat_in_a_file(wire: Wire) -> None:
    """Tunlinkat on a fid that is not a directory is refused.  Source: unlinkat(2) ENOTDIR."""
    shared.in_a_file(wire, lambda client, fid, name: client.unlinkat.send(fid, name))


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-UNLINK-007", covers=[Tunlinkat])
def test_unlinkat_of_dead_fid(wire: Wire, which: str) -> None:
    """Tunlinkat on an unknown fid is refused.  Source: chaos/diod protocol.md, unlinkat."""
    wire.host.file(b"one")
    shared.dead_fid(wire, which, lambda client, fid: client.unlinkat.send(fid, b"one"))
    shared.present(wire, b"one")


@pytest.mark.parametrize("flags", [0, AT_REMOVEDIR])
@pytest.mark.parametrize("name", [*shared.NO_NAMES, b"sub/../one", b"./one", b"sub/."], ids=shared.label)
@case("WIRE-UNLINK-008", covers=[Tunlinkat])
def test_unlinkat_of_no_name(wire: Wire, name: bytes, flags: int) -> None:
    """Tunlinkat of an empty name, or one that holds a slash, is refused and removes nothing.  Source: POSIX XBD,
    Filename, "1 to {NAME_MAX} bytes ... shall not contain the <NUL> or <slash> characters"."""
    wire.host.file(b"one")
    shared.no_name(wire, name, lambda client, fid, name: client.unlinkat.send(fid, name, flags))


@pytest.mark.parametrize("flags", [0, AT_REMOVEDIR])
@pytest.mark.parametrize("name", shared.DOTS, ids=shared.label)
@case("WIRE-UNLINK-009", covers=[Tunlinkat])
def test_unlinkat_of_dots(wire: Wire, name: bytes, flags: int) -> None:
    """Tunlinkat of `.` or `..` is refused.  Source: rmdir(2) EINVAL, ENOTEMPTY; QEMU v9fs_unlinkat."""
    shared.dot_name(wire, name, lambda client, fid, name: client.unlinkat.send(fid, name, flags))


@case("WIRE-UNLINK-010", covers=[Tunlinkat])
def test_unlinkat_with_a_nul(wire: Wire) -> None:
    """A NUL does not end a name: `fred` stays.  Source: intro(5), "The NUL character is illegal in all text strings in
    9P"."""
    wire.host.file(b"fred")
    shared.nul_name(wire, lambda client, fid, name: client.unlinkat.send(fid, name))


@pytest.mark.parametrize("flags", [1, 0x100, 0x80000000], ids=shared.label)
@case("WIRE-UNLINK-011", covers=[Tunlinkat], severity="varies")
def test_unlinkat_with_unknown_flags(wire: Wire, flags: int) -> None:
    """Flags that mean nothing are refused.  Source: unlinkat(2) EINVAL; QEMU v9fs_unlinkat."""
    client, host = wire.client, wire.host
    host.file(b"file")
    client.unlinkat(client.root, b"file", flags, expect=EINVAL)
    shared.present(wire, b"file")


@case("WIRE-UNLINK-012", covers=[Tunlinkat], severity="linux")
def test_open_fids_outlive_the_name(wire: Wire) -> None:
    """A file opened before Tunlinkat can be read and written afterwards; a new file of that name is another file.
    Source: unlink(2); intro(5); GitLab qemu#103, LP#1336794."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    opened = client.open(b"fred", flags=O_RDWR)
    client.unlinkat(client.root, b"fred")
    client.create(b"fred", b"another")
    shared.reads(client, opened, b"abc", "the open file that was removed")
    client.write(opened, 0, b"X")
    shared.content(wire, b"fred", b"another")


@case("WIRE-UNLINK-013", covers=[Tunlinkat])
def test_unopened_fid_of_what_is_gone(wire: Wire) -> None:
    """An unopened fid of a file that Tunlinkat removed is the old file or invalid; it never becomes a new file of that
    name with the old qid.  Source: intro(5); ENOENT: servers that keep paths; ESTALE as in NFS."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    held = client.walk_to(b"fred")
    path, inode = client.getattr(held).qid.path, host.stat(b"fred").st_ino
    client.unlinkat(client.root, b"fred")
    client.getattr(held, expect=allowed.GONE | {OK})
    # The next file that is made may get the free inode number, and with it the qid: here that is not the new fred.
    made = [host.file(name, b"something else") for name in (b"one", b"two")]
    fresh, keeper = sorted(made, key=lambda name: host.stat(name).st_ino == inode)
    host.rename(fresh, b"fred")
    reply = client.getattr(held, expect=allowed.GONE | {OK})
    if isinstance(reply, Rgetattr):
        old = "the fid shows the old file, or another qid than that of the old file"
        holds(old, reply.size == 3 or reply.qid.path != path, seen=f"size {reply.size}, the old qid", code="field:qid")
    shared.present(wire, keeper)


@case("WIRE-UNLINK-014", covers=[Tunlinkat])
def test_hard_links_stay(wire: Wire) -> None:
    """Removing one name of a file leaves its others.  Source: unlink(2)."""
    client, host = wire.client, wire.host
    host.file(b"one", b"abc")
    host.link(b"one", b"two")
    fid = client.walk_to(b"two")
    client.unlinkat(client.root, b"one")
    shared.content(wire, b"two", b"abc")
    equal("nlink in Rgetattr of the name that is left", client.getattr(fid).nlink, 1, code="field:nlink")


# --- remove ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "fifo", "open file"])
@case("WIRE-UNLINK-030", covers=[Tremove])
def test_remove(wire: Wire, kind: str) -> None:
    """Tremove removes the file of its fid, also an empty directory or an open file, and clunks the fid.
    Source: remove(5)."""
    client, host = wire.client, wire.host
    if kind == "directory":
        host.directory(b"thing")
    elif kind == "symlink":
        host.file(b"target")
        host.symlink(b"thing", b"target")
    elif kind == "fifo":
        host.fifo(b"thing")
    else:
        host.file(b"thing", b"abc")
    fid = client.open(b"thing") if kind == "open file" else client.walk_to(b"thing")
    client.remove(fid)
    shared.absent(wire, b"thing")
    if kind == "symlink":
        shared.present(wire, b"target", "Tremove of the link to it")
    client.getattr(fid, expect=allowed.UNKNOWN_FID)
    client.walk(client.root, fid)


@case("WIRE-UNLINK-031", covers=[Tremove])
def test_remove_that_fails_clunks(wire: Wire) -> None:
    """A Tremove that fails still clunks its fid.  Source: remove(5), "it is correct to consider remove to be a clunk
    with the side effect of removing the file if permissions allow"; lib9p does, kvmtool never clunks (kvmtool HEAD)."""
    client, host = wire.client, wire.host
    host.directory(b"dir")
    host.file(b"dir/inner")
    fid = client.walk_to(b"dir")
    client.remove(fid, expect={ENOTEMPTY, EEXIST})
    shared.present(wire, b"dir/inner")
    client.getattr(fid, expect=allowed.UNKNOWN_FID)
    client.walk(client.root, fid)


@case("WIRE-UNLINK-032", covers=[Tremove])
def test_remove_of_what_is_gone(wire: Wire) -> None:
    """Tremove of a file that the host has removed is refused, and clunks the fid.
    Source: remove(5); unlink(2) ENOENT."""
    client, host = wire.client, wire.host
    host.file(b"fred")
    fid = client.walk_to(b"fred")
    host.unlink(b"fred")
    client.remove(fid, expect=allowed.GONE)
    client.getattr(fid, expect=allowed.UNKNOWN_FID)


@case("WIRE-UNLINK-033", covers=[Tremove])
def test_remove_takes_the_file_of_the_fid(wire: Wire) -> None:
    """When the host has put another file under the name, Tremove does not remove that file.
    Source: remove(5): the file of the fid; intro(5)."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"old")
    fid = client.walk_to(b"fred")
    host.rename(b"fred", b"kept")
    host.directory(b"fred")
    host.file(b"fred/precious", b"x")
    client.remove(fid, expect=allowed.GONE | {OK, EISDIR, ENOTEMPTY, EEXIST, EPERM, ENOTDIR})
    shared.present(wire, b"fred/precious")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-UNLINK-034", covers=[Tremove])
def test_remove_of_dead_fid(wire: Wire, which: str) -> None:
    """Tremove of an unknown fid is refused.  Source: remove(5)."""
    shared.dead_fid(wire, which, lambda client, fid: client.remove.send(fid))


@case("WIRE-UNLINK-035", covers=[Tremove])
def test_root_is_not_removed(wire: Wire) -> None:
    """The root of the export cannot be removed.  Source: remove(5); rmdir(2) EBUSY; the case's own directory is in it,
    so ENOTEMPTY is allowed as well."""
    client = wire.client
    top = wire.attach(client)
    client.remove(top, expect=allowed.ROOT_STAYS)
    holds("the case's directory in the root is there on the host", wire.host.root.is_dir(), code="exists")
    client.getattr(client.root)


@case("WIRE-UNLINK-036", covers=[Tremove])
def test_remove_leaves_other_fids(wire: Wire) -> None:
    """Another open fid of the file that Tremove removed still reads it.  Source: remove(5) is about its fid; unlink(2)
    of an open file."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    opened = client.open(b"fred")
    client.remove(client.walk_to(b"fred"))
    shared.reads(client, opened, b"abc", "the open file that Tremove has removed")
    client.clunk(opened)
