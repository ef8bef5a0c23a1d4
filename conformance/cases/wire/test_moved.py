"""Family `moved`: fids, `..` and readdir offsets after the tree has changed.

What is at stake: a guest works in a directory while the guest or the host moves it: make(1) in a tree that is renamed,
`rm -r` beside it. A server that keeps paths must update every one of them.
"""

from __future__ import annotations

from conformance.case import case
from conformance.cases.wire import shared
from conformance.checks import equal, holds
from conformance.raw.wire import Wire
from protocol.constants import O_RDWR
from protocol.dirents import decode_dirents
from protocol.messages import Tgetattr, Tlopen, Treaddir, Trenameat, Twalk


@case("WIRE-MOVED-001", covers=[Twalk, Trenameat], severity="linux")
def test_dotdot_of_a_moved_directory(wire: Wire) -> None:
    """`..` of a directory that a client has moved leads to its new parent, not to the old one.  Source: walk(5), "..
    means the parent directory"; rename(2)."""
    fid = _in_old(wire)
    client = wire.client
    client.renameat(client.walk_to(b"old"), b"dir", client.walk_to(b"new"), b"dir")
    _above_is_new(wire, fid)


@case("WIRE-MOVED-006", covers=[Twalk], severity="varies")
def test_dotdot_of_a_directory_that_the_host_moved(wire: Wire) -> None:
    """`..` of a directory that the host has moved leads to its new parent.  Source: walk(5); rename(2); servers that
    keep paths (QEMU, diod) use the old one."""
    fid = _in_old(wire)
    wire.host.rename(b"old/dir", b"new/dir")
    _above_is_new(wire, fid)


def _in_old(wire: Wire) -> int:
    """A fid of old/dir, with a directory new beside old."""
    for name in (b"old", b"old/dir", b"new"):
        wire.host.directory(name)
    return wire.client.walk_to(b"old", b"dir")


def _above_is_new(wire: Wire, fid: int) -> None:
    client = wire.client
    above = client.walk(fid, client.fid(), b"..").wqids[-1]
    shared.same_file("`..` of the moved directory", above, shared.path_of(client, client.walk_to(b"new")))


@case("WIRE-MOVED-002", covers=[Trenameat, Tgetattr, Tlopen], severity="linux")
def test_fids_below_a_moved_directory(wire: Wire) -> None:
    """When another request moves a directory, fids of files below it still stand for the same files: open fids, fids of
    directories and fids that were only walked to.  Source: intro(5), a fid stands for a file; rename(2)."""
    client, host = wire.client, wire.host
    for name in (b"old", b"old/dir"):
        host.directory(name)
    host.file(b"old/dir/fred", b"abc")
    host.file(b"old/dir/ginger", b"abc")
    opened = client.open(b"old", b"dir", b"fred", flags=O_RDWR)
    walked, inner = client.walk_to(b"old", b"dir", b"ginger"), client.walk_to(b"old", b"dir")
    wanted = [shared.path_of(client, fid) for fid in (opened, walked, inner)]
    client.renameat(client.root, b"old", client.root, b"new")
    for fid, path in zip((opened, walked, inner), wanted, strict=True):
        shared.same_file("a fid below the moved directory", shared.path_of(client, fid), path)
    client.write(opened, 0, b"X")
    shared.content(wire, b"new/dir/fred", b"Xbc", "a Twrite through a fid below the moved directory")
    client.lopen(walked, O_RDWR)
    shared.reads(client, walked, b"abc", "the file that was walked to before")
    client.lcreate(inner, b"made")
    shared.present(wire, b"new/dir/made", "a Tlcreate in the directory that was walked to before")


@case("WIRE-MOVED-003", covers=[Twalk], severity="linux")
def test_file_that_the_host_replaced(wire: Wire) -> None:
    """When the host puts another file under a name, a new walk leads to that file, and an open fid keeps the old one.
    Source: rename(2), which replaces atomically, as editors and package managers do; walk(5)."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"old")
    before = client.open(b"fred")
    host.file(b"fresh", b"another")
    host.rename(b"fresh", b"fred")
    shared.reads(client, before, b"old", "the file that was open before the host replaced it")
    after = client.open(b"fred")
    shared.reads(client, after, b"another", "the file that the host has put there")
    size = client.getattr(client.walk_to(b"fred")).size
    equal("size in Rgetattr of the file that the host has put there", size, 7, code="field:size")


@case("WIRE-MOVED-004", covers=[Treaddir], severity="varies")
def test_cookie_of_another_fid(wire: Wire) -> None:
    """An offset that one fid returned works on another fid of the same directory.  Source: chaos/diod protocol.md,
    readdir: offsets are opaque; NFS servers that export a share depend on it (nfsd seeks by cookie)."""
    client, host = wire.client, wire.host
    host.directory(b"dir")
    for number in range(40):
        host.file(b"dir/f%02d" % number)
    one, two = client.open(b"dir"), client.open(b"dir")
    whole = [(entry.name, entry.offset) for entry in client.entries(one)]
    half = len(whole) // 2
    data = bytes(client.readdir(two, whole[half][1], client.msize - 24).data)
    rest = [entry.name for entry in decode_dirents(data)]
    equal("names behind that offset", rest, [name for name, _ in whole[half + 1 :]], code="names", call="Treaddir")


@case("WIRE-MOVED-005", covers=[Treaddir], severity="varies")
def test_number_of_what_is_above_the_export(wire: Wire) -> None:
    """The entry `..` of the export's root has the number of the root itself, which is its own parent: the directory
    above belongs to the host.  Source: attach(5), walk(5), ".. in the root is the root"; QEMU's v9fs_do_readdir passes
    on the number of the host's directory."""
    client = wire.client
    top = wire.attach(client)
    above = client.walk(top, client.fid(), b"..").wqids[-1]
    fid = client.fid()
    client.walk(top, fid)
    client.lopen(fid)
    found = [entry for entry in client.entries(fid) if entry.name == b".."]
    for entry in found:
        shared.same_file("the entry `..` of the root, beside a walk of `..`", entry.qid, above)
    holds("`..` is listed at most once", len(found) <= 1, seen=len(found), code="names")
