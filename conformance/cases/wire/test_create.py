"""Family `create`: Tlcreate of a name that is taken, which Linux looks up first; owners of new files.

What is at stake: another client, or the host, makes the name between look-up and request. A server that opens whatever
is there may hang in a fifo, or give the guest a device of the host.
"""

from __future__ import annotations

import stat

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import Octal, equal
from conformance.raw.expectation import OK
from conformance.raw.wire import Wire
from protocol.constants import EEXIST, EISDIR, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY
from protocol.messages import Rlcreate, Tattach, Tlcreate, Tmkdir, Tsymlink

NOBODY = 65534
"""A user that every host knows; diod answers EPERM to others."""
TAKEN = allowed.NOT_OPENED | allowed.LINK_NOT_FOLLOWED | {EEXIST, EISDIR}


@pytest.mark.parametrize("flags", [O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_TRUNC], ids=["ro", "wo", "rw", "trunc"])
@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "char", "symlink"])
@case("WIRE-CREATE-001", covers=[Tlcreate])
def test_create_of_what_is_no_file(wire: Wire, kind: str, flags: int) -> None:
    """Tlcreate of the name of a directory, fifo, socket, device or symbolic link is refused at once, and changes
    nothing.  Source: open(2) EISDIR, ENXIO; CVE-2023-2861: a special file of the host must not be opened for a guest;
    the client resolves links."""
    client, host = wire.client, wire.host
    host.file(b"target", b"abc")
    if kind == "directory":
        host.directory(b"thing")
    elif kind == "fifo":
        host.fifo(b"thing")
    elif kind == "socket":
        host.socket(b"thing")
    elif kind == "char":
        host.device(b"thing", 1, 5)
    else:
        host.symlink(b"thing", b"target")
    before = shared.tree(wire)
    wire.prompt(client.lcreate.send(client.walk_to(), b"thing", flags), TAKEN)
    shared.unchanged(wire, before)
    shared.content(wire, b"target", b"abc")
    client.getattr(client.root)


@case("WIRE-CREATE-002", covers=[Tlcreate])
def test_create_keeps_mode_and_owner(wire: Wire) -> None:
    """Tlcreate of an existing file leaves its mode, owner and group, whether the server opens it or refuses.  Source:
    open(2), "mode ... only applies when a new file is created"."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc", 0o640)
    host.owner(b"fred", 1234, 5678, 0o640)
    client.lcreate(client.walk_to(), b"fred", O_RDWR, 0o7777, 99, expect={OK, EEXIST})
    seen = host.stat(b"fred")
    equal("mode of b'fred' on the host", Octal(seen.st_mode), Octal(stat.S_IFREG | 0o640), code="field:mode")
    equal("owner of b'fred' on the host", (seen.st_uid, seen.st_gid), (1234, 5678), code="field:uid")


@case("WIRE-CREATE-003", covers=[Tlcreate])
def test_create_with_truncation(wire: Wire) -> None:
    """Tlcreate with TRUNC of an existing file empties it, unless the server refuses.  Source: open(2) O_TRUNC."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    reply = client.lcreate(client.walk_to(), b"fred", O_RDWR | O_TRUNC, expect={OK, EEXIST})
    shared.content(wire, b"fred", b"" if isinstance(reply, Rlcreate) else b"abc", "Tlcreate with TRUNC")


@case("WIRE-CREATE-005", covers=[Tattach, Tlcreate, Tmkdir, Tsymlink], severity="varies")
def test_owner_of_what_a_user_makes(wire: Wire) -> None:
    """Files made through the fid of a user's attach belong to that user, and to the group in the request.
    Source: Linux v9fs_fid_lookup_with_uid attaches for each user; QEMU hw/9pfs/9p-local.c, local_set_cred_passthrough.
    Servers that map users, or work as a single user, may differ."""
    client, host = wire.client, wire.host
    host.owner(b"", 0, 0, 0o777)
    export, root, fid = client.fid(), client.fid(), client.fid()
    client.attach(export, wire.aname, b"", NOBODY)
    client.walk(export, root, wire.directory)
    client.walk(root, fid)
    client.lcreate(fid, b"file", O_RDWR, 0o644, 2345)
    client.mkdir(root, b"directory", 0o755, 2345)
    client.symlink(root, b"link", b"target", 2345)
    for name in (b"file", b"directory", b"link"):
        seen = host.stat(name)
        equal(f"owner of the {name.decode()} that user nobody made", seen.st_uid, NOBODY, code="field:uid")
        equal(f"group of the {name.decode()} that was made for group 2345", seen.st_gid, 2345, code="field:gid")


@pytest.mark.parametrize("what", ["file", "directory"])
@case("WIRE-CREATE-004", severity="varies")
def test_inheritance_without_the_bit(wire: Wire, what: str) -> None:
    """In a set-group-id directory a new directory gets the bit even if the request does not have it; a new file does
    not.  Source: mkdir(2), "the new directory will inherit the group ownership ... and set the set-group-ID bit"; Linux
    sends the bit itself; servers that set the mode afterwards (QEMU) lose it."""
    client, host = wire.client, wire.host
    host.directory(b"shared")
    host.owner(b"shared", 0, 4711, 0o2775)
    fid = client.walk_to(b"shared")
    if what == "directory":
        client.mkdir(fid, b"new", 0o755, 4711)
    else:
        client.lcreate(fid, b"new", O_RDWR, 0o644, 4711)
    wanted = 0o2755 if what == "directory" else 0o644
    shared.mode_is(wire, b"shared/new", wanted)
    shared.group_is(wire, b"shared/new", 4711)
