"""Family `node`: Tmknod.

What is at stake: the guest uses fifos, sockets and device nodes on a share; the host must never open them. QEMU's fix
for CVE-2023-2861 broke their creation altogether.
"""

from __future__ import annotations

import os
import stat

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import Octal, equal, holds
from conformance.raw.expectation import OK
from conformance.raw.wire import Wire
from protocol.constants import EEXIST, EINVAL, EPERM
from protocol.messages import Tmknod

KINDS = {
    "fifo": (stat.S_IFIFO, 0, 0),
    "socket": (stat.S_IFSOCK, 0, 0),
    "regular": (stat.S_IFREG, 0, 0),
    "char": (stat.S_IFCHR, 1, 3),
    "block": (stat.S_IFBLK, 7, 200),
    "large numbers": (stat.S_IFCHR, 0xFFF, 0xFFFFF),
}


@pytest.mark.parametrize("kind", KINDS)
@case("WIRE-NODE-001", covers=[Tmknod], severity="linux")
def test_every_kind(wire: Wire, kind: str) -> None:
    """Tmknod makes fifos, sockets, devices and regular files, with the requested type, mode and device number; the qid
    is that of a file.  Source: mknod(2); chaos/diod protocol.md, mknod; QEMU 7.2 answers ENXIO and removes the node
    again."""
    client = wire.client
    type_, major, minor = KINDS[kind]
    qid = client.mknod(client.root, b"node", type_ | 0o640, major, minor).qid
    seen = wire.host.stat(b"node")
    equal("mode of b'node' on the host", Octal(seen.st_mode), Octal(type_ | 0o640), code="field:mode")
    if type_ in (stat.S_IFCHR, stat.S_IFBLK):
        numbers = (os.major(seen.st_rdev), os.minor(seen.st_rdev))
        equal("device number of b'node' on the host", numbers, (major, minor), code="field:rdev")
    shared.kind_is("in Rmknod", qid, 0)
    reply = client.getattr(client.walk_to(b"node"))
    equal("mode in Rgetattr of b'node'", Octal(reply.mode), Octal(seen.st_mode), code="field:mode")
    shared.same_file("Rgetattr, beside that of Rmknod", reply.qid, qid)


@pytest.mark.parametrize("mode", [0o000, 0o666, 0o777, 0o4755])
@case("WIRE-NODE-002", covers=[Tmknod], severity="linux")
def test_mode_as_asked(wire: Wire, mode: int) -> None:
    """A node has the requested permission bits, regardless of the server's umask.  Source: mknod(2); v9fs has applied
    the guest's umask already."""
    client = wire.client
    client.mknod(client.root, b"node", stat.S_IFIFO | mode)
    shared.mode_is(wire, b"node", mode)


@case("WIRE-NODE-003", covers=[Tmknod], severity="linux")
def test_group_as_asked(wire: Wire) -> None:
    """A new node belongs to the requested group.  Source: chaos/diod protocol.md, mknod, gid."""
    client = wire.client
    client.mknod(client.root, b"node", stat.S_IFIFO | 0o644, gid=4711)
    shared.group_is(wire, b"node", 4711)


@case("WIRE-NODE-004", covers=[Tmknod])
def test_mknod_of_what_exists(wire: Wire) -> None:
    """Tmknod under a name that is taken is refused with EEXIST.  Source: mknod(2) EEXIST."""
    client, host = wire.client, wire.host
    for name in (host.file(b"file", b"abc"), host.directory(b"dir"), host.symlink(b"link", b"nowhere")):
        client.mknod(client.root, name, stat.S_IFIFO | 0o644, expect=EEXIST)
    shared.content(wire, b"file", b"abc")
    shared.names(wire, {b"file", b"dir", b"link"})


@pytest.mark.parametrize("type_", [stat.S_IFDIR, stat.S_IFLNK, 0o150000, 0o170000], ids=oct)
@case("WIRE-NODE-005", covers=[Tmknod])
def test_types_that_mknod_does_not_make(wire: Wire, type_: int) -> None:
    """A directory, a symbolic link, or no type at all is refused and makes nothing.  Source: mknod(2) EPERM for
    directories, EINVAL for the rest."""
    client = wire.client
    client.mknod(client.root, b"node", type_ | 0o755, expect={EPERM, EINVAL})
    shared.names(wire, set())


@case("WIRE-NODE-006", covers=[Tmknod])
def test_no_type_is_a_regular_file(wire: Wire) -> None:
    """A mode without a type makes a regular file, or is refused.  Source: mknod(2), "zero file type is equivalent to
    S_IFREG"."""
    client = wire.client
    reply = client.mknod(client.root, b"node", 0o644, expect={OK, EINVAL})
    if client.errno_of(reply) == OK:
        made = wire.host.stat(b"node").st_mode
        holds("b'node' is a regular file on the host", stat.S_ISREG(made), seen=Octal(made), code="field:mode")


@case("WIRE-NODE-007", covers=[Tmknod])
def test_mknod_in_a_file(wire: Wire) -> None:
    """Tmknod on a fid that is not a directory is refused.  Source: mknod(2) ENOTDIR."""
    shared.in_a_file(wire, lambda client, fid, name: client.mknod.send(fid, name, stat.S_IFIFO | 0o644))


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-NODE-008", covers=[Tmknod])
def test_mknod_of_dead_fid(wire: Wire, which: str) -> None:
    """Tmknod on an unknown fid is refused.  Source: chaos/diod protocol.md, mknod."""
    shared.dead_fid(wire, which, lambda client, fid: client.mknod.send(fid, b"node", stat.S_IFIFO | 0o644))


@pytest.mark.parametrize("name", shared.NO_NAMES, ids=shared.label)
@case("WIRE-NODE-009", covers=[Tmknod])
def test_mknod_under_no_name(wire: Wire, name: bytes) -> None:
    """Tmknod under an empty name, or one that holds a slash, is refused and makes nothing.  Source: POSIX XBD,
    Filename, "1 to {NAME_MAX} bytes ... shall not contain the <NUL> or <slash> characters"."""
    shared.no_name(wire, name, lambda client, fid, name: client.mknod.send(fid, name, stat.S_IFIFO | 0o644))


@pytest.mark.parametrize("name", shared.DOTS, ids=shared.label)
@case("WIRE-NODE-010", covers=[Tmknod])
def test_mknod_of_dots(wire: Wire, name: bytes) -> None:
    """Tmknod of `.` or `..` is refused.  Source: create(5); mknod(2) EEXIST."""
    shared.dot_name(wire, name, lambda client, fid, name: client.mknod.send(fid, name, stat.S_IFIFO | 0o644))


@case("WIRE-NODE-011", covers=[Tmknod])
def test_mknod_with_a_nul(wire: Wire) -> None:
    """Tmknod under a name that holds a NUL makes nothing.  Source: intro(5), "The NUL character is illegal in all text
    strings in 9P"."""
    shared.nul_name(wire, lambda client, fid, name: client.mknod.send(fid, name, stat.S_IFIFO | 0o644))


@case("WIRE-NODE-012", covers=[Tmknod])
def test_mknod_long_name(wire: Wire) -> None:
    """Tmknod takes a name of 255 bytes and refuses one of 256.  Source: mknod(2) ENAMETOOLONG."""
    shared.long_name(wire, lambda client, fid, name: client.mknod.send(fid, name, stat.S_IFREG | 0o644))


@case("WIRE-NODE-013", covers=[Tmknod])
def test_making_a_node_opens_nothing(wire: Wire) -> None:
    """Requests to make fifos are each answered at once, whether they succeed or not: no fifo is opened to set its mode
    or owner.  Source: mknod(2); a server that opens what it has made hangs on a fifo."""
    client = wire.client
    for number in range(20):
        pending = client.mknod.send(client.root, b"fifo-%d" % number, stat.S_IFIFO | 0o644, gid=4711)
        wire.prompt(pending, allowed.NOT_OPENED | {OK})
