"""Family `confinement`: what a hostile guest sends to escape the export or to exhaust the server.

What is at stake: the host. Each case is a defect that a virtio-9p server had. The forbidden files are decoys that the
case makes beside the export; no real path of the host is ever named.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import between, holds, require
from conformance.errors import SuiteError, Undrivable
from conformance.raw.expectation import OK, Choice
from conformance.raw.findings import HungUp
from conformance.raw.operations import CREATING
from conformance.raw.wire import Session, Wire
from protocol.constants import (
    EINVAL,
    ENAMETOOLONG,
    ENOENT,
    GETATTR_ALL,
    NONUNAME,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    SETATTR_CTIME,
    SETATTR_MODE,
    SETATTR_SIZE,
)
from protocol.messages import (
    Rlerror,
    Rlopen,
    Rread,
    Rreaddir,
    Rwalk,
    Tattach,
    Tclunk,
    Tgetattr,
    Tlcreate,
    Tlink,
    Tlopen,
    Tmkdir,
    Tmknod,
    Tread,
    Trename,
    Tsetattr,
    Tsymlink,
    Twalk,
    Twrite,
)
from protocol.registry import Message

SECRET = b"untouched"
"""What the decoy's file `kept` holds."""


class Outside:
    """The decoy beside the export: `kept` in it, and whether anything of it was touched."""

    def __init__(self, wire: Wire) -> None:
        self.path = Path(os.fsdecode(wire.decoy()))
        self.name = os.fsencode(self.path)
        # export/CASE/x -> ../../outside/decoy
        self.relative = b"../../outside/decoy"
        self._before = self._seen()

    def unharmed(self) -> None:
        """Report a finding if anything beside the export was made, changed or removed."""
        shared.same_tree("nothing outside the export is touched", self._seen(), self._before, "escape")

    def _seen(self) -> dict[str, str]:
        found = {}
        for path in [self.path.parent, *self.path.parent.rglob("*")]:
            info = path.lstat()
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            shown = f"mode {info.st_mode:#o}, {info.st_nlink} links, content {data!r}"
            found[str(path.relative_to(self.path.parent))] = shown
        return found


def _not_secret(data: bytes) -> None:
    seen = data[:40] if SECRET in data else None
    holds("no byte of the file outside the export is read", SECRET not in data, seen=seen, code="escape", call="Tread")


def _not_reached(what: str, reached: bool, call: str = "Twalk") -> None:
    holds(f"{what} leads to nothing outside the export", not reached, code="escape", call=call)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["root", "deep"])
@case("WIRE-CONFINEMENT-001", covers=[Twalk])
def test_dotdot_never_leads_out(wire: Wire, start: str) -> None:
    """However often `..` is walked, in one Twalk or in many, files beside the export are not reached.  Source: walk(5);
    CVE-2016-7116 and CVE-2017-7471 (QEMU), kvmtool 9bb99a8."""
    outside = Outside(wire)
    client = wire.client
    wire.host.chain(3)
    fid = client.root if start == "root" else client.walk_to(b"0", b"1", b"2")
    for ups in range(17):
        for tail in ((b"outside", b"decoy", b"kept"), (b"decoy", b"kept")):
            names = ((b"..",) * ups + tail)[:16]
            newfid = client.fid()
            reply = client.walk.send(fid, newfid, *names).wait()
            reached = isinstance(reply, Rwalk) and len(reply.wqids) == len(names) and names[-1] == b"kept"
            _not_reached(f"a walk of {ups} times `..`", reached)
    step = client.walk_to(start=fid)
    for _ in range(12):
        if client.walk.send(step, step, b"..").errno() != OK:
            break
        beside = client.walk.send(step, client.fid(), b"outside").errno() == OK
        _not_reached("`..`, one step at a time,", beside)
        if beside:
            break
    outside.unharmed()


BY_NAME: dict[str, Callable[[Session, int, bytes], Message]] = {
    "Tlcreate": lambda c, d, n: Tlcreate(c.tag(), d, n, O_RDWR | O_TRUNC | CREATING, 0o644, 0),
    "Tmkdir": lambda c, d, n: Tmkdir(c.tag(), d, n, stat.S_IFDIR | 0o755, 0),
    "Tmknod": lambda c, d, n: Tmknod(c.tag(), d, n, 0o100644, 0, 0, 0),
    "Tsymlink": lambda c, d, n: Tsymlink(c.tag(), d, n, b"x", 0),
    "Tlink": lambda c, d, n: Tlink(c.tag(), d, c.walk_to(b"fred"), n),
    "Trename": lambda c, d, n: Trename(c.tag(), c.walk_to(b"fred"), d, n),
    "Trenameat": lambda c, d, n: shared.renameat(c, c.root, b"fred", d, n),
    "Trenameat from": lambda c, d, n: shared.renameat(c, d, n, c.root, b"stolen"),
    "Tunlinkat": shared.unlinkat,
    "Twalk": lambda c, d, n: Twalk(c.tag(), d, c.fid(), (n,)),
}


@pytest.mark.parametrize("name", [b"made", b"kept"], ids=["new", "existing"])
@pytest.mark.parametrize("how", ["relative", "absolute"])
@pytest.mark.parametrize("message", BY_NAME)
@case("WIRE-CONFINEMENT-002")
def test_path_for_a_name(wire: Wire, message: str, how: str, name: bytes) -> None:
    """A path in place of a name, relative or absolute, does not make, move, remove or find anything outside the export.
    Source: walk(5), names are single elements of a path; CVE-2016-7116 and CVE-2016-9602 (QEMU), kvmtool 9bb99a8;
    nfs-ganesha takes absolute names for paths of the host."""
    outside = Outside(wire)
    wire.host.file(b"fred", b"x")
    client = wire.client
    path = (outside.relative if how == "relative" else outside.name) + b"/" + name
    pending = client.send(BY_NAME[message](client, client.walk_to(), path))
    reply = pending.wait()
    outside.unharmed()
    _not_reached(f"Twalk to {path!r}", message == "Twalk" and isinstance(reply, Rwalk) and bool(reply.wqids))


# --- symbolic links -------------------------------------------------------------------------------


def _chmod(client: Session, fid: int) -> Tsetattr:
    return Tsetattr(client.tag(), fid, SETATTR_MODE | SETATTR_CTIME, 0o777, NONUNAME, NONUNAME, 0, 0, 0, 0, 0)


def _through(client: Session, fid: int) -> Iterator[tuple[str, Message]]:
    """Requests that use `fid`, which stands for a link or for a file that became one, as a directory or a file."""
    yield "Twalk", Twalk(client.tag(), fid, client.fid(), (b"kept",))
    yield "Tmkdir", Tmkdir(client.tag(), fid, b"made", stat.S_IFDIR | 0o755, 0)
    yield "Tmknod", Tmknod(client.tag(), fid, b"made", 0o100644, 0, 0, 0)
    yield "Tsymlink", Tsymlink(client.tag(), fid, b"made", b"x", 0)
    yield "Tlink", Tlink(client.tag(), fid, client.walk_to(b"fred"), b"made")
    yield "Trename", Trename(client.tag(), client.walk_to(b"fred"), fid, b"made")
    yield "Trenameat", shared.renameat(client, client.root, b"fred", fid, b"made")
    yield "Trenameat from", shared.renameat(client, fid, b"kept", client.root, b"stolen")
    yield "Tunlinkat", shared.unlinkat(client, fid, b"kept")
    yield "Tsetattr", _chmod(client, fid)
    yield "Tlcreate", Tlcreate(client.tag(), fid, b"made", O_RDWR | CREATING, 0o644, 0)
    yield "Tlopen", Tlopen(client.tag(), fid, O_RDONLY)


THROUGH = [
    "Twalk",
    "Tmkdir",
    "Tmknod",
    "Tsymlink",
    "Tlink",
    "Trename",
    "Trenameat",
    "Trenameat from",
    "Tunlinkat",
    "Tsetattr",
    "Tlcreate",
    "Tlopen",
]


def _use(client: Session, fid: int, wanted: str) -> None:
    """Send the selected request of `_through`; it may not reach the decoy."""
    for name, request in _through(client, fid):
        if name == wanted:
            reply = client.send(request).wait()
            reached = name == "Twalk" and isinstance(reply, Rwalk) and bool(reply.wqids)
            _not_reached("a walk through a symbolic link", reached)
            if name == "Tlopen" and isinstance(reply, Rlopen):
                reply = client.readdir.send(fid).wait()
                listed = isinstance(reply, Rreaddir) and b"kept" in bytes(reply.data)
                _not_reached("Treaddir through a symbolic link", listed, "Treaddir")
            return
    raise SuiteError(f"no request called {wanted}")


@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("message", THROUGH)
@case("WIRE-CONFINEMENT-010")
def test_through_a_link_to_a_directory(wire: Wire, message: str, kind: str) -> None:
    """A fid for a symbolic link that points out of the export cannot be used as a directory.  Source: CVE-2016-9602
    (QEMU local backend followed symbolic links in every operation)."""
    outside = Outside(wire)
    wire.host.file(b"fred", b"x")
    wire.host.symlink(b"out", outside.name if kind == "absolute" else outside.relative)
    client = wire.client
    _use(client, client.walk_to(b"out"), message)
    outside.unharmed()


@pytest.mark.parametrize("message", THROUGH)
@case("WIRE-CONFINEMENT-011")
def test_directory_swapped_for_a_link(wire: Wire, message: str) -> None:
    """When the host replaces a directory by a symbolic link, a fid for the directory still is that directory, or fails;
    it never leads to the link's target.  Source: CVE-2016-9602: a component swapped between the walk and the use."""
    outside = Outside(wire)
    wire.host.file(b"fred", b"x")
    wire.host.directory(b"dir")
    client = wire.client
    fid = client.walk_to(b"dir")
    wire.host.rename(b"dir", b"old")
    wire.host.symlink(b"dir", outside.name)
    _use(client, fid, message)
    outside.unharmed()


@pytest.mark.parametrize("message", THROUGH)
@case("WIRE-CONFINEMENT-012")
def test_component_swapped_for_a_link(wire: Wire, message: str) -> None:
    """As WIRE-CONFINEMENT-011, when the replaced directory is an earlier component of the walk.  Source:
    CVE-2016-9602."""
    outside = Outside(wire)
    wire.host.file(b"fred", b"x")
    wire.host.directory(b"dir")
    wire.host.directory(b"dir/decoy")
    client = wire.client
    fid = client.walk_to(b"dir", b"decoy")
    wire.host.rename(b"dir", b"old")
    wire.host.symlink(b"dir", os.path.dirname(outside.name))
    _use(client, fid, message)
    outside.unharmed()


FILE_USES: dict[str, Callable[[Session, int], Message]] = {
    "read": lambda c, f: Tlopen(c.tag(), f, O_RDONLY),
    "write": lambda c, f: Tlopen(c.tag(), f, O_WRONLY),
    "truncate by open": lambda c, f: Tlopen(c.tag(), f, O_WRONLY | O_TRUNC),
    "truncate": lambda c, f: Tsetattr(c.tag(), f, SETATTR_SIZE, 0, NONUNAME, NONUNAME, 0, 0, 0, 0, 0),
    "chmod": _chmod,
    "link": lambda c, f: Tlink(c.tag(), c.root, f, b"stolen"),
    "getattr": lambda c, f: Tgetattr(c.tag(), f, GETATTR_ALL),
}


@pytest.mark.parametrize("use", FILE_USES)
@pytest.mark.parametrize("when", ["before", "after"])
@case("WIRE-CONFINEMENT-013")
def test_link_to_a_file_outside(wire: Wire, when: str, use: str) -> None:
    """A file outside the export is neither read, written, changed nor linked through a symbolic link to it, whether the
    link was there before the walk or replaced the file after it.  Source: CVE-2016-9602; incus#1547."""
    outside = Outside(wire)
    client = wire.client
    kept = outside.name + b"/kept"
    if when == "before":
        wire.host.symlink(b"fred", kept)
        fid = client.walk_to(b"fred")
    else:
        wire.host.file(b"fred", b"inside")
        fid = client.walk_to(b"fred")
        wire.host.unlink(b"fred")
        wire.host.symlink(b"fred", kept)
    reply = client.send(FILE_USES[use](client, fid)).wait()
    if isinstance(reply, Rlopen) and use == "read":
        _not_secret(bytes(getattr(client.read.send(fid).wait(), "data", b"")))
    elif isinstance(reply, Rlopen) and use == "write":
        client.write.send(fid, 0, b"written").errno()
    elif use == "getattr" and not isinstance(reply, Rlerror):
        size = getattr(reply, "size", 0)
        theirs = "the attributes in Rgetattr are not those of the file outside the export"
        holds(theirs, size != len(SECRET), seen=f"size {size}", code="escape", call="Tgetattr")
    outside.unharmed()


@case("WIRE-CONFINEMENT-014", covers=[Twalk, Tlopen])
def test_race_with_a_swapped_component(wire: Wire) -> None:
    """While another process swaps a directory for a symbolic link out of the export and back, again and again, no walk,
    open or create ends up outside.  Source: CVE-2016-9602; openat2(2) RESOLVE_BENEATH."""
    outside = Outside(wire)
    client = wire.client
    host = wire.host
    host.directory(b"dir")
    host.file(b"dir/kept", b"inside")
    host.symlink(b"link", outside.name)
    swapping = threading.Event()
    path, link, spare = host.path(b"dir"), host.path(b"link"), host.path(b"spare")

    def attack() -> None:
        while not swapping.is_set():
            with contextlib.suppress(OSError):
                os.rename(path, spare)
                os.rename(link, path)
                os.rename(path, link)
                os.rename(spare, path)
            time.sleep(0)  # the client is a thread of this process, too

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        deadline = time.monotonic() + 0.4
        rounds = 0
        while time.monotonic() < deadline or rounds < 3:  # a busy machine takes longer
            rounds += 1
            fid, made = client.fid(), client.fid()
            if isinstance(reply := client.walk.send(client.root, fid, b"dir", b"kept").wait(), Rwalk):
                if len(reply.wqids) == 2 and client.lopen.send(fid).errno() == OK:
                    seen = client.read.send(fid).wait()
                    _not_secret(bytes(seen.data) if isinstance(seen, Rread) else b"")
                client.clunk.send(fid).errno()
            if isinstance(reply := client.walk.send(client.root, made, b"dir").wait(), Rwalk) and reply.wqids:
                client.lcreate.send(made, b"made%d" % rounds).errno()
                client.clunk.send(made).errno()
    finally:
        swapping.set()
        attacker.join()
    outside.unharmed()


@case("WIRE-CONFINEMENT-015", covers=[Twalk])
def test_directory_moved_out_of_the_export(wire: Wire) -> None:
    """When the host moves a directory out of the export, a fid for it does not lead to anything beside its new place.
    Source: CVE-2017-7471: `..` of a fid whose path changed; openat2(2) RESOLVE_BENEATH."""
    outside = Outside(wire)
    client = wire.client
    wire.host.directory(b"dir")
    wire.host.directory(b"dir/below")
    fids = [client.walk_to(b"dir"), client.walk_to(b"dir", b"below")]
    moved = outside.path.parent / "moved"
    try:
        os.rename(wire.host.path(b"dir"), moved)
    except OSError as error:
        raise Undrivable(f"the export is a file system of its own: {error}") from None
    try:
        for fid in fids:
            for ups in range(1, 4):
                names = (b"..",) * ups + (b"decoy", b"kept")
                reply = client.walk.send(fid, client.fid(), *names).wait()
                reached = isinstance(reply, Rwalk) and len(reply.wqids) == len(names)
                _not_reached(f"a walk of {ups} times `..` from a directory that was moved out", reached)
    finally:
        shutil.rmtree(moved, ignore_errors=True)
    outside.unharmed()


# --- concurrent requests ---------------------------------------------------------------------------


def _storm(wire: Wire, client: Session, rounds: int, requests: Callable[[int], list[Message]]) -> None:
    """Bursts of requests that need not wait, each answered once; then the server must still serve."""
    for number in range(rounds):
        batch = requests(number)
        client.burst(batch)
        due = {request.tag for request in batch}
        while due:
            reply = client.next_reply()
            require(
                "each reply has the tag of a request that was not answered yet",
                reply.tag in due,
                seen=reply.tag,
                code="reply",
            )
            due.remove(reply.tag)
    client.getattr(client.root)
    wire.still_serves()


@case("WIRE-CONFINEMENT-020", covers=[Trename, Tgetattr, Twalk])
def test_rename_while_the_path_is_used(wire: Wire) -> None:
    """While a directory is renamed, requests in flight use fids below it: each is answered, and the server survives.
    Source: intro(5), each request is answered; CVE-2018-19489 and CVE-2018-19364 (QEMU: paths changed under other
    requests)."""
    client = wire.client
    host = wire.host
    host.directory(b"dir")
    host.file(b"dir/fred", b"x")
    directory, fred, other = client.walk_to(b"dir"), client.walk_to(b"dir", b"fred"), wire.session()

    def batch(number: int) -> list[Message]:
        new = client.fid()
        return [
            Tgetattr(1, fred, GETATTR_ALL),
            Twalk(2, directory, new, (b"fred",)),
            Trename(3, directory, client.root, b"dir%d" % number),
            Tgetattr(4, fred, GETATTR_ALL),
            Twalk(5, fred, client.fid(), ()),
            Tsetattr(6, fred, SETATTR_MODE, 0o600, 0, 0, 0, 0, 0, 0, 0),
            Trename(7, fred, directory, b"fred%d" % (number % 2)),
            Tgetattr(8, directory, GETATTR_ALL),
        ]

    _storm(wire, client, 150, batch)
    other.getattr(other.root)


@case("WIRE-CONFINEMENT-021", covers=[Trename])
def test_two_requests_change_one_fid(wire: Wire) -> None:
    """Requests in flight that each change the same fid (rename, create, open, clunk, walk in place) are each answered,
    and the server survives.  Source: intro(5), each request is answered; CVE-2018-19364 (QEMU: use after free)."""
    client = wire.client
    wire.host.directory(b"dir")
    wire.host.file(b"fred", b"x")

    def batch(number: int) -> list[Message]:
        fid = client.fid()
        return [
            Twalk(1, client.root, fid, ()),
            Tlcreate(2, fid, b"made%d" % number, O_RDWR | CREATING, 0o644, 0),
            Twalk(3, fid, fid, (b"dir",)),
            Trename(4, fid, client.root, b"moved%d" % number),
            Tlopen(5, fid, O_RDONLY),
            Tclunk(6, fid),
            Tgetattr(7, fid, GETATTR_ALL),
            Tclunk(8, fid),
        ]

    _storm(wire, client, 100, batch)


@case("WIRE-CONFINEMENT-022", covers=[Tlopen, Tclunk])
def test_open_and_clunk_storm(wire: Wire) -> None:
    """After many opens, reads and clunks in flight together the server still works and has leaked no descriptor.
    Source: intro(5), each request is answered; CVE-2021-20181 (QEMU: use after free while descriptors are reclaimed).
    """
    client = wire.client
    wire.host.file(b"fred", b"x" * 100)
    before = wire.descriptors()

    def batch(_: int) -> list[Message]:
        fids = [client.fid() for _ in range(4)]
        made: list[Message] = []
        for index, fid in enumerate(fids):
            tag = index * 10
            made += [
                Twalk(tag + 1, client.root, fid, (b"fred",)),
                Tlopen(tag + 2, fid, O_RDWR),
                Tread(tag + 3, fid, 0, 100),
                Twrite(tag + 4, fid, 0, b"y"),
                Tclunk(tag + 5, fid),
            ]
        return made

    _storm(wire, client, 100, batch)
    # Requests about one fid may overtake each other: a file opened after its clunk closes with the connection.
    wire.hang_up(client)
    shared.descriptors_within(wire, before, 10, "the storm")


# --- exhausting the server -----------------------------------------------------------------------


def _grows_little(wire: Wire, what: Callable[[int], None], rounds: int, bytes_each: int) -> None:
    """Memory grows by less than `bytes_each` per round; the first tenth of the rounds may fill pools."""
    for number in range(rounds // 10):
        what(number)
    before = wire.memory()
    for number in range(rounds):
        what(number)
    shared.memory_within(wire, before, bytes_each * rounds + (2 << 20), f"{rounds} rounds")


@pytest.mark.parametrize("message", ["Tread", "Twrite", "Tlink", "Tlcreate", "Tattach"])
@case("WIRE-CONFINEMENT-030")
def test_repeated_requests_leak_nothing(wire: Wire, message: str) -> None:
    """Two thousand requests of one kind, served or refused, leak no memory.  Source: CWE-401, as CVE-2016-8577 (Tread),
    CVE-2016-9106 (Twrite), CVE-2016-9105 (Tlink), CVE-2017-7377 (Tlcreate on a fid in use), all QEMU."""
    client = wire.client
    wire.host.file(b"fred", b"x" * 4096)
    fid, path, root = client.open(b"fred", flags=O_RDWR), client.walk_to(b"fred"), client.root
    makers: dict[str, Callable[[int], Message]] = {
        "Tread": lambda n: Tread(n, fid, 0, 4096),
        "Twrite": lambda n: Twrite(n, fid, 0, b"y" * 4096),
        "Tlink": lambda n: Tlink(n, root, path, b"fred"),
        "Tlcreate": lambda n: Tlcreate(n, fid, b"made", O_RDWR | CREATING, 0o644, 0),
        "Tattach": lambda n: Tattach(n, fid, 0xFFFFFFFF, b"root", wire.aname, 0),
    }

    def twenty(_: int) -> None:
        client.burst([makers[message](number) for number in range(20)])
        for _number in range(20):
            client.next_reply()

    _grows_little(wire, twenty, 100, 20 * 512)


@case("WIRE-CONFINEMENT-031", covers=[Tlopen])
def test_more_open_files_than_descriptors(wire: Wire) -> None:
    """Three thousand files can be open at once, or further ones are refused with an errno for that; after clunking them
    the session works.  Source: open(2) EMFILE, ENFILE; kvmtool 9c2e1d1; the descriptors are the host's."""
    client = wire.client
    wire.host.file(b"fred", b"x")
    opened: list[int] = []
    try:
        for _ in range(0, 3000, 50):
            fids = [client.fid() for _ in range(50)]
            walks = [client.walk.send(client.root, fid, b"fred") for fid in fids]
            walked = [f for f, w in zip(fids, walks, strict=True) if w.errno(allowed.FULL | {OK}) == OK]
            opens = [client.lopen.send(fid) for fid in walked]
            opened += walked
            refused = [o for o in opens if o.errno(allowed.FULL | {OK}) != OK]
            if refused or len(walked) < 50:
                break
    except HungUp:
        wire.still_serves()
        return
    for start in range(0, len(opened), 50):
        for clunk in [client.clunk.send(fid) for fid in opened[start : start + 50]]:
            clunk.result()
    client.lopen(client.walk_to(b"fred"))


@case("WIRE-CONFINEMENT-032", covers=[Tmkdir, Twalk], seconds=30)
def test_deep_directories(wire: Wire) -> None:
    """Directories nested until their path is longer than 65,535 bytes are made, or refused as too long; a fid never
    leads to another directory.  Source: chaos/diod protocol.md, mkdir, "creates a new directory name in parent
    directory dfid"; GitLab qemu#3358: the path's length was truncated to 16 bits; kvmtool 32832dd, PATH_MAX."""
    client = wire.client
    errnos = Choice({ENAMETOOLONG, EINVAL, ENOENT, OK})
    here = client.walk_to()
    name = b"n" * 250
    seen = {client.getattr(here).qid.path}
    for _ in range(270):
        if client.mkdir.send(here, name).errno(errnos) != OK:
            return
        below = client.fid()
        reply = client.walk.send(here, below, name).wait()
        if not isinstance(reply, Rwalk) or not reply.wqids:
            client.judged(Twalk(0, here, below, (name,)), reply, errnos)
            return
        path = reply.wqids[0].path
        holds("each directory has a qid.path of its own", path not in seen, seen=path, code="field:qid")
        seen.add(path)
        client.clunk(here)
        here = below
    between("nlink in Rgetattr of the deepest directory", client.getattr(here).nlink, 1, 1 << 16, code="field:nlink")
