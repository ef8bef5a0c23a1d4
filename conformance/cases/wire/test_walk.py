"""Family `walk`: Twalk and Tclunk, and what a fid is.

What is at stake: every path of a guest is a chain of walks. A walk that stops half-way, loses a fid, follows a link or
treats a name as a path gives wrong files or a way out of the export.
"""

from __future__ import annotations

import os

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import Octal, equal, holds, require_equal
from conformance.raw.expectation import OK, spell
from conformance.raw.findings import HungUp
from conformance.raw.wire import Wire
from protocol.constants import (
    ELOOP,
    ENOENT,
    NOFID,
    QTDIR,
    QTSYMLINK,
)
from protocol.fields import Qid
from protocol.messages import Rwalk, Tclunk, Twalk

PATHS = [b"d/fred", b"/d", b"d/", b"/", b"d//fred", b"/assay9-nothing/x", b"d/../d", b"./d"]


@case("WIRE-WALK-001", covers=[Twalk])
def test_no_names_clones(wire: Wire) -> None:
    """A walk of no names makes newfid stand for what fid stands for; both are independent afterwards.  Source: walk(5),
    "newfid ... clone"; chaos/diod protocol.md, walk."""
    client = wire.client
    clone = client.fid()
    equal("qids in Rwalk of no names", len(client.walk(client.root, clone).wqids), 0)
    shared.same_file("the clone, beside the fid's", shared.path_of(client, clone), shared.path_of(client, client.root))
    client.clunk(clone)
    client.getattr(client.root)


@case("WIRE-WALK-002", covers=[Twalk])
def test_one_name(wire: Wire) -> None:
    """A walk of one name answers with one qid, the same as in Rgetattr of newfid, with QTDIR or QTSYMLINK as its type.
    Source: walk(5); chaos/diod protocol.md, qid."""
    host, client = wire.host, wire.client
    for name, kind in (
        (host.file(b"file"), 0),
        (host.directory(b"dir"), QTDIR),
        (host.symlink(b"link", b"file"), QTSYMLINK),
        (host.fifo(b"fifo"), 0),
    ):
        fid = client.fid()
        qid = _only(client.walk(client.root, fid, name))
        shared.kind_is(f"in Rwalk of {name!r}", qid, kind)
        seen = client.getattr(fid).qid
        shared.kind_is(f"in Rgetattr of {name!r}", seen, kind)
        shared.same_file(f"Rgetattr of {name!r}, beside that of Rwalk", seen, qid)


def _only(reply: Rwalk) -> Qid:
    """The one qid of a walk of one name; the case ends when there are more or fewer."""
    require_equal("qids in Rwalk of one name", len(reply.wqids), 1, call="Twalk")
    return reply.wqids[0]


def _steps(reply: Rwalk, expected: int, what: str) -> bool:
    """The walk took that many steps."""
    return equal(f"qids in Rwalk {what}", len(reply.wqids), expected, call="Twalk")


@pytest.mark.parametrize("count", [2, 3, 15, 16])
@case("WIRE-WALK-003", covers=[Twalk])
def test_several_names(wire: Wire, count: int) -> None:
    """A walk of up to sixteen names follows all of them and answers with a qid for each.  Source: walk(5), "MAXWELEM
    16"."""
    names = wire.host.chain(count)
    client = wire.client
    fid = client.fid()
    reply = client.walk(client.root, fid, *names)
    qids = reply.wqids
    if _steps(reply, count, f"of {count} names"):
        directories = sum(bool(qid.type & QTDIR) for qid in qids)
        equal("qids in Rwalk that are of directories", directories, count, code="field:qid")
        equal("different qids in Rwalk", len({qid.path for qid in qids}), count, code="field:qid")
        shared.same_file("Rgetattr of newfid, beside the last of Rwalk", shared.path_of(client, fid), qids[-1])


@pytest.mark.parametrize("count", [17, 100])
@case("WIRE-WALK-004", covers=[Twalk])
def test_more_than_sixteen_names(wire: Wire, count: int) -> None:
    """A walk of more than sixteen names is refused or ends the connection; newfid is not made.  Source: walk(5), "a
    maximum of sixteen"; QEMU v9fs_walk EINVAL, diod np_walk EIO."""
    names = wire.host.chain(count)
    client = wire.client
    fid = client.fid()
    try:
        client.walk(client.root, fid, *names, expect=allowed.TOO_MANY_NAMES)
    except HungUp:
        return
    client.getattr(fid, expect=allowed.UNKNOWN_FID)


@case("WIRE-WALK-005", covers=[Twalk])
def test_first_name_missing(wire: Wire) -> None:
    """A walk whose first name does not exist is answered with ENOENT, and newfid is not made.  Source: walk(5), "if the
    first element cannot be walked for any reason, Rerror is returned"; v9fs_vfs_lookup makes a negative dentry for
    ENOENT only."""
    client = wire.client
    fid = client.fid()
    client.walk(client.root, fid, b"ginger", expect=ENOENT)
    client.getattr(fid, expect=allowed.UNKNOWN_FID)
    client.walk(client.root, fid, b"ginger", b"deeper", expect=ENOENT)
    client.walk(client.root, fid)


@case("WIRE-WALK-006", covers=[Twalk])
def test_walk_stops_half_way(wire: Wire) -> None:
    """A walk that fails after the first name answers with the qids of the existing names, and newfid is not made.
    Source: walk(5), "the walk will ... return an Rwalk message containing nwqid qids ... newfid ... will be affected
    only if all elements were walked"."""
    wire.host.chain(2)
    client = wire.client
    fid = client.fid()
    reply = client.walk(client.root, fid, b"0", b"1", b"ginger", b"more")
    _steps(reply, 2, "of four names of which two are there")
    client.getattr(fid, expect=allowed.UNKNOWN_FID)
    client.walk(client.root, fid)


@case("WIRE-WALK-007", covers=[Twalk])
def test_walk_in_place(wire: Wire) -> None:
    """With newfid equal to fid a walk that succeeds moves the fid.  Source: walk(5), "newfid ... may be the same as
    fid"; Linux p9_client_walk continues this way after sixteen names."""
    names = wire.host.chain(20)
    client = wire.client
    fid = client.fid()
    client.walk(client.root, fid, *names[:16])
    reply = client.walk(fid, fid, *names[16:])
    if _steps(reply, 4, "of four names in place"):
        shared.same_file("Rgetattr of the fid, beside the last of Rwalk", shared.path_of(client, fid), reply.wqids[-1])


@case("WIRE-WALK-008", covers=[Twalk])
def test_walk_in_place_that_stops(wire: Wire) -> None:
    """With newfid equal to fid a walk that does not succeed leaves the fid where it was.  Source: walk(5), "newfid
    ... is unaffected" unless all names were walked."""
    wire.host.chain(2)
    client = wire.client
    fid = client.walk_to(b"0")
    here = shared.path_of(client, fid)
    _steps(client.walk(fid, fid, b"1", b"ginger"), 1, "in place of two names of which one is there")
    shared.same_file("the fid after a walk in place that stopped", shared.path_of(client, fid), here)
    client.walk(fid, fid, b"ginger", expect=ENOENT)
    shared.same_file("the fid after a walk in place that failed", shared.path_of(client, fid), here)


@case("WIRE-WALK-009", covers=[Twalk])
def test_no_names_in_place(wire: Wire) -> None:
    """A walk of no names with newfid equal to fid changes nothing.  Source: walk(5)."""
    client = wire.client
    fid = client.walk_to()
    _steps(client.walk(fid, fid), 0, "of no names in place")
    client.getattr(fid)
    client.clunk(fid)
    client.getattr(fid, expect=allowed.UNKNOWN_FID)


@case("WIRE-WALK-010", covers=[Twalk])
def test_newfid_in_use(wire: Wire) -> None:
    """A walk to a newfid that is in use, and is not fid itself, is refused, and both fids do not change.  Source:
    walk(5), "newfid must not be in use unless it is the same as fid"."""
    client = wire.client
    wire.host.file(b"one", b"1")
    wire.host.file(b"two", b"22")
    one = client.walk_to(b"one")
    client.walk(client.root, one, b"two", expect=allowed.FID_IN_USE)
    shared.size_in_reply(client, one, 1, "the file whose fid was to be walked to")
    client.getattr(client.root)


@case("WIRE-WALK-011", covers=[Twalk])
def test_out_of_a_file(wire: Wire) -> None:
    """A walk with names that starts at a file is refused with ENOTDIR or ENOENT.  Source: walk(5), "fid must ...
    represent a directory"; path_resolution(7) ENOTDIR."""
    client = wire.client
    wire.host.file(b"file")
    client.walk(client.walk_to(b"file"), client.fid(), b"x", expect=allowed.NOT_A_DIRECTORY)


@case("WIRE-WALK-012", covers=[Twalk])
def test_through_a_file(wire: Wire) -> None:
    """A walk that reaches a file before the last name stops there: the file's qid is the last.  Source: walk(5)."""
    client = wire.client
    wire.host.directory(b"d")
    wire.host.file(b"d/file")
    fid = client.fid()
    _steps(client.walk(client.root, fid, b"d", b"file", b"x", b"y"), 2, "of four names of which the second is a file")
    client.getattr(fid, expect=allowed.UNKNOWN_FID)


@case("WIRE-WALK-013", covers=[Twalk])
def test_symbolic_link_is_not_followed(wire: Wire) -> None:
    """A walk to a symbolic link gives the link itself, and does not follow it: the client resolves links.  Source:
    chaos/diod protocol.md, readlink; v9fs_vfs_get_link; QEMU's CVE-2016-9602 was a server that followed links."""
    host, client = wire.host, wire.client
    host.directory(b"real")
    host.file(b"real/fred")
    host.symlink(b"link", b"real")
    fid = client.fid()
    shared.kind_is("in Rwalk to a symbolic link", _only(client.walk(client.root, fid, b"link")), QTSYMLINK)
    through = client.fid()
    reply = client.walk.send(client.root, through, b"link", b"fred").wait()
    if isinstance(reply, Rwalk):
        _steps(reply, 1, "of a symbolic link and a name below what it points to")
    client.walk(fid, client.fid(), b"fred", expect=allowed.NOT_A_DIRECTORY | {ELOOP})


@case("WIRE-WALK-014", covers=[Twalk], severity="varies")
def test_dotdot_goes_up(wire: Wire) -> None:
    """`..` names the parent directory.  Source: walk(5), "the name .. (dot-dot) represents the parent"; Linux never
    sends it, hugelgupf/p9 and others refuse it."""
    wire.host.chain(3)
    client = wire.client
    up = client.walk_to(b"0", b"1", b"2", b"..")
    parent = shared.path_of(client, client.walk_to(b"0", b"1"))
    shared.same_file("`..`, beside that of the parent", shared.path_of(client, up), parent)


@case("WIRE-WALK-015", covers=[Twalk])
def test_dotdot_at_the_root(wire: Wire) -> None:
    """`..` at the root of the export is the root itself, or is refused; it never leads above it.  Source: walk(5), "..
    in the root directory is the root itself"; diod gives the qid of the parent; QEMU CVE-2016-7116, CVE-2017-7471."""
    client = wire.client
    top = wire.attach(client)
    here = shared.path_of(client, top)
    above = os.stat(wire.top.root.parent).st_ino
    for names in ((b"..",), (b"..", b".."), (wire.directory, b"..", b".."), (wire.directory, b"..", b"..", b"..")):
        fid = client.fid()
        reply = client.walk(top, fid, *names, expect=allowed.DOT_NAME | {OK})
        if not isinstance(reply, Rwalk):
            continue
        inside = all(qid.path != above for qid in reply.wqids)
        where = f"a walk of {b'/'.join(names)!r} gives no qid of what lies above the export"
        holds(where, inside, seen=spell(reply), code="escape", call="Twalk")
        if len(reply.wqids) == len(names):
            shared.same_file(f"{b'/'.join(names)!r}, beside that of the root", shared.path_of(client, fid), here)


@case("WIRE-WALK-016", covers=[Twalk], severity="varies")
def test_dot_is_no_name(wire: Wire) -> None:
    """`.` in a walk is refused.  Source: walk(5), "the name . is not allowed"; hosts know it, and most servers pass it
    on."""
    client = wire.client
    client.walk(client.root, client.fid(), b".", expect=allowed.DOT_NAME)


@case("WIRE-WALK-017", covers=[Twalk])
def test_dot_stays(wire: Wire) -> None:
    """`.` in a walk is refused or leads nowhere else.  Source: walk(5); path_resolution(7)."""
    client = wire.client
    fid = client.fid()
    if isinstance(client.walk(client.root, fid, b".", expect=allowed.DOT_NAME | {OK}), Rwalk):
        here = shared.path_of(client, client.root)
        shared.same_file("`.`, beside that of the directory", shared.path_of(client, fid), here)


@case("WIRE-WALK-018", covers=[Twalk])
def test_empty_name(wire: Wire) -> None:
    """An empty name is refused or leads nowhere else, and does no harm.  Source: POSIX XBD, Filename, "1 to {NAME_MAX}
    bytes"; lib9p crashed on it (lib9p client.py note, 9bf1392), and now allows it."""
    client = wire.client
    wire.host.directory(b"d")
    for names in ((b"",), (b"", b""), (b"d", b""), (b"", b"d")):
        fid = client.fid()
        reply = client.walk(client.root, fid, *names, expect=allowed.ILLEGAL_NAME | {OK})
        if isinstance(reply, Rwalk) and len(reply.wqids) == len(names):
            stays = client.walk_to(*[name for name in names if name])
            what = f"a walk of {list(names)}, beside that without the empty names"
            shared.same_file(what, shared.path_of(client, fid), shared.path_of(client, stays))


@pytest.mark.parametrize("name", PATHS, ids=shared.label)
@case("WIRE-WALK-019", covers=[Twalk])
def test_name_with_a_slash(wire: Wire, name: bytes) -> None:
    """A name that holds a slash is a single name, which no directory has: it is refused, not treated as a path.
    Source: walk(5) walks one element at a time; QEMU name_is_illegal ENOENT; kvmtool followed it (kvmtool 9bb99a8)."""
    wire.host.directory(b"d")
    wire.host.file(b"d/fred")
    client = wire.client
    fid = client.fid()
    client.walk(client.root, fid, name, expect=allowed.ILLEGAL_NAME)
    client.getattr(fid, expect=allowed.UNKNOWN_FID)


@case("WIRE-WALK-020", covers=[Twalk])
def test_name_with_a_nul(wire: Wire) -> None:
    """A NUL byte inside a name does not end it: `fred`, NUL, `x` does not lead to `fred`.  Source: strings are counted
    (chaos/diod protocol.md); no Linux name holds a NUL."""
    wire.host.file(b"fred")
    client = wire.client
    for name in (b"fred\0", b"fred\0x", b"\0fred", b"\0"):
        client.walk(client.root, client.fid(), name, expect=allowed.NUL_IN_NAME)


@case("WIRE-WALK-021", covers=[Twalk])
def test_long_names(wire: Wire) -> None:
    """A name of 255 bytes is walked; a longer one is refused.  Source: path_resolution(7) ENAMETOOLONG; kvmtool
    copied names into fixed buffers (kvmtool 32832dd, e277a1b, b092242, 716b294, 04d604b)."""
    client = wire.client
    wire.host.directory(b"n" * 255)
    client.walk_to(b"n" * 255)
    for length in (256, 4096, 32768, 65000):
        if length + 64 < client.msize:
            client.walk(client.root, client.fid(), b"n" * length, expect=allowed.NAME_TOO_LONG)


@case("WIRE-WALK-022", covers=[Twalk], severity="linux")
def test_name_that_is_no_text(wire: Wire) -> None:
    """A name is bytes; one that is not UTF-8 is walked like any other.  Source: path_resolution(7); v9fs passes names
    on unchanged."""
    client = wire.client
    for name in (b"\xff\xfe", b"caf\xe9", b"\x01\x02", b" ", b"a\nb", b"-rf", b"\\", b'"', b"...", b"..x"):
        wire.host.file(name)
        client.walk_to(name)


@case("WIRE-WALK-023", covers=[Twalk], severity="linux")
def test_from_an_open_fid(wire: Wire) -> None:
    """A fid that is open can be cloned and walked from.  Source: Linux since 5.11 does so for every ls, contrary to
    walk(5) (hugelgupf/p9 ede3efe and diod#70, diod#81 had to allow it)."""
    client = wire.client
    wire.host.directory(b"d")
    wire.host.file(b"d/fred", b"abc")
    directory = client.open(b"d")
    file = client.open(b"d", b"fred")
    clone = client.fid()
    client.walk(directory, clone, b"fred")
    shared.size_in_reply(client, clone, 3, "a file walked to from an open directory")
    copy = client.fid()
    client.walk(file, copy)
    # The clone is not open, and can be opened by itself.
    client.lopen(copy)
    shared.reads(client, copy, b"abc", "the clone of an open file, opened by itself")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-WALK-024", covers=[Twalk])
def test_walk_of_dead_fid(wire: Wire, which: str) -> None:
    """Twalk from an unknown fid is refused.  Source: walk(5); kvmtool makes the fid (kvmtool HEAD)."""
    shared.dead_fid(wire, which, lambda client, fid: client.walk.send(fid, client.fid()))


@case("WIRE-WALK-025", covers=[Twalk], severity="varies")
def test_newfid_nofid(wire: Wire) -> None:
    """NOFID is not a fid: a walk to it is refused.  Source: attach(5), NOFID means no fid."""
    client = wire.client
    client.walk(client.root, NOFID, expect=allowed.FID_IN_USE | allowed.UNKNOWN_FID)


@pytest.mark.parametrize("number", [0, 1023, 1024, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE], ids=shared.label)
@case("WIRE-WALK-026", covers=[Twalk, Tclunk])
def test_any_number_is_a_fid(wire: Wire, number: int) -> None:
    """A fid is any 32-bit number but NOFID.  Source: intro(5), "fid ... a 32-bit unsigned integer that the client
    uses"; Linux allocates them from an idr, beyond 1024."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    client.walk(client.root, number, b"fred")
    shared.size_in_reply(client, number, 3, f"the file of the fid {number}")
    client.clunk(number)
    client.getattr(number, expect=allowed.UNKNOWN_FID)


@case("WIRE-WALK-027", covers=[Twalk], severity="linux")
def test_five_thousand_fids(wire: Wire) -> None:
    """Five thousand fids exist at the same time, each on its own file.  Source: Linux keeps a fid for every dentry it
    caches; nixpkgs#181746 has thousands."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    fids = [client.fid() for _ in range(5000)]
    replies = [client.walk.send(client.root, fid, *([b"fred"] if fid % 2 else [])) for fid in fids]
    for pending in replies:
        pending.result()
    for fid in (fids[0], fids[1], fids[-2], fids[-1], fids[2500]):
        kind = 0 if fid % 2 else QTDIR
        shared.kind_is(f"in Rgetattr of the fid {fid} of five thousand", client.getattr(fid).qid, kind)


@case("WIRE-WALK-028", covers=[Twalk])
def test_qid_paths_identify_files(wire: Wire) -> None:
    """Two names of one file have one qid.path, two files have two.  Source: intro(5), "the path is an integer unique
    among all files in the hierarchy"; v9fs takes inode numbers from it (QEMU multidevs)."""
    host, client = wire.host, wire.client
    host.file(b"one")
    host.link(b"one", b"same")
    host.file(b"two")
    host.directory(b"d")
    walked, seen = [], []
    for name in (b"one", b"same", b"two", b"d"):
        fid = client.fid()
        walked.append(_only(client.walk(client.root, fid, name)).path)
        seen.append(shared.path_of(client, fid))
    shared.same_file("one name of a file, beside that of its other name", walked[1], walked[0])
    equal("different qids of two files and a directory", len(set(walked)), 3, code="field:qid")
    equal("paths in Rgetattr, beside those in Rwalk", seen, walked, code="field:qid")


@case("WIRE-WALK-029", covers=[Twalk])
def test_walk_to_special_files_does_not_open_them(wire: Wire) -> None:
    """Walking to a fifo or a device node answers at once.  Source: walk(5) opens nothing; a fifo without a peer blocks
    the opener."""
    host, client = wire.host, wire.client
    host.fifo(b"fifo")
    host.device(b"null", 1, 3)
    for name, kind in ((b"fifo", 0o010000), (b"null", 0o020000)):
        fid = client.fid()
        wire.prompt(client.walk.send(client.root, fid, name))
        seen = Octal(wire.prompt(client.getattr.send(fid)).mode & 0o170000)
        equal(f"file type of {name!r} in Rgetattr", seen, Octal(kind), code="field:mode")


# --- clunk ----------------------------------------------------------------------------------------


@case("WIRE-WALK-040", covers=[Tclunk])
def test_clunk_frees_the_fid(wire: Wire) -> None:
    """After Tclunk the fid is unknown and its number can be used again.  Source: clunk(5)."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    fid = client.walk_to()
    client.clunk(fid)
    client.getattr(fid, expect=allowed.UNKNOWN_FID)
    client.walk(client.root, fid, b"fred")
    shared.size_in_reply(client, fid, 3, "the file whose fid had another before")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-WALK-041", covers=[Tclunk])
def test_clunk_of_dead_fid(wire: Wire, which: str) -> None:
    """Tclunk of an unknown fid is refused.  Source: clunk(5); error(5)."""
    shared.dead_fid(wire, which, lambda client, fid: client.clunk.send(fid))


@case("WIRE-WALK-042", covers=[Tclunk])
def test_clunk_of_the_root(wire: Wire) -> None:
    """Clunking the fid of the root leaves the fids that were walked from it alone.  Source: clunk(5): a fid is the
    client's handle, not the file."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    fid = client.open(b"fred")
    client.clunk(client.root)
    shared.reads(client, fid, b"abc", "an open file once the root's fid was clunked")


@case("WIRE-WALK-043", covers=[Tclunk])
def test_clunk_of_an_unlinked_open_file(wire: Wire) -> None:
    """A fid of a file that is gone can be clunked like any other.  Source: clunk(5); unlink(2) of an open file."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    wire.host.unlink(b"fred")
    client.clunk(fid)
    client.getattr(fid, expect=allowed.UNKNOWN_FID)


@case("WIRE-WALK-044", covers=[Tclunk])
def test_clunk_gives_descriptors_back(wire: Wire) -> None:
    """A thousand opens and clunks all succeed and leave no descriptor behind in the server.  Source: clunk(5); QEMU
    CVE-2021-20181 was such a storm."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    before = wire.descriptors()
    for _ in range(1000):
        client.clunk(client.open(b"fred"))
    shared.descriptors_within(wire, before, 10, "a thousand opens and clunks")


@case("WIRE-WALK-045", covers=[Twalk, Tclunk])
def test_walk_and_clunk_in_flight_together(wire: Wire) -> None:
    """Walks to a fid and its clunk, in flight at once on many fids, are each answered correctly.  Source: intro(5),
    requests may overtake each other, so either may come first; QEMU CVE-2018-19364 was a race of two requests on one
    fid."""
    client = wire.client
    for _ in range(100):
        fid = client.fid()
        walk = client.walk.send(client.root, fid)
        look = client.getattr.send(fid)
        clunk = client.clunk.send(fid)
        again = client.getattr.send(fid)
        walk.result()
        for pending in (look, clunk, again):
            pending.result(allowed.UNKNOWN_FID | {OK})
