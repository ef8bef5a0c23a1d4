"""Family `link`: Tsymlink, Treadlink and Tlink.

What is at stake: a symbolic link is text that the guest resolves. A server that interprets, shortens or follows it
shows the guest files that are not there, or files of the host.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import Octal, equal, holds
from conformance.raw.expectation import OK, Choice
from conformance.raw.findings import HungUp
from conformance.raw.wire import Session, Wire
from protocol.constants import (
    EEXIST,
    EINVAL,
    ENOENT,
    EOPNOTSUPP,
    EPERM,
    QTSYMLINK,
)
from protocol.messages import Rreadlink, Tlink, Treadlink, Tsymlink

TARGETS = [
    b"fred",
    b"a/b/c",
    b"/absolute/path",
    b"../../..",
    b"/",
    b".",
    b"..",
    b"/assay9-nothing/x",
    b"\xff\xfe",
    b"a\nb",
    b" ",
    b"x" * 255,
    b"long/" * 819,
]
"""What a link may say: it need not exist, lead anywhere, or be text."""


# --- symlink and readlink -------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS, ids=shared.label)
@case("WIRE-LINK-001", covers=[Tsymlink, Treadlink])
def test_target_as_it_is(wire: Wire, target: bytes) -> None:
    """A symbolic link has exactly the target that was sent, on the host and in Rreadlink.  Source: symlink(7);
    chaos/diod protocol.md, symlink and readlink."""
    client = wire.client
    qid = client.symlink(client.root, b"link", target).qid
    shared.kind_is("in Rsymlink", qid, QTSYMLINK)
    _says(wire, b"link", target)
    fid = client.walk_to(b"link")
    _target_is(client, fid, target)
    reply = client.getattr(fid)
    shared.same_file("Rgetattr, beside that of Rsymlink", reply.qid, qid)
    equal("size in Rgetattr of a symbolic link", reply.size, len(target), code="field:size")


def _says(wire: Wire, name: bytes, target: bytes) -> bool:
    """The symbolic link has that text on the host."""
    return equal(f"text of the symbolic link {name!r} on the host", wire.host.readlink(name), target, code="content")


def _target_is(client: Session, fid: int, target: bytes) -> bool:
    """Treadlink returns that text."""
    seen = bytes(client.readlink(fid).target)
    return equal("target in Rreadlink", seen, target, code="content", call="Treadlink")


@case("WIRE-LINK-002", covers=[Tsymlink])
def test_empty_target(wire: Wire) -> None:
    """A link with an empty target is refused.  Source: symlink(2) ENOENT; a zero-length string killed QEMU
    (CVE-2016-8578)."""
    client = wire.client
    client.symlink(client.root, b"link", b"", expect={ENOENT, EINVAL})
    shared.names(wire, set())


@case("WIRE-LINK-003", covers=[Tsymlink])
def test_target_with_a_nul(wire: Wire) -> None:
    """A target that holds a NUL, which no link on the host can hold, is refused; no shorter link is made.  Source:
    strings are counted; symlink(2) takes a C string."""
    client = wire.client
    client.symlink(client.root, b"link", b"fred\0ginger", expect=allowed.NUL_IN_NAME)
    shared.names(wire, set())


@case("WIRE-LINK-004", covers=[Tsymlink])
def test_target_too_long(wire: Wire) -> None:
    """A target of 4,095 bytes is the longest possible; one of 4,096 is refused.  Source: symlink(2) ENAMETOOLONG."""
    client = wire.client
    client.symlink(client.root, b"link", b"t" * 4095)
    client.symlink(client.root, b"other", b"t" * 4096, expect=allowed.NAME_TOO_LONG)
    client.symlink(client.root, b"other", b"t" * 30000, expect=allowed.NAME_TOO_LONG)
    shared.names(wire, {b"link"})


@case("WIRE-LINK-005", covers=[Tsymlink])
def test_symlink_of_what_exists(wire: Wire) -> None:
    """Tsymlink under a name that is taken is refused with EEXIST.  Source: symlink(2) EEXIST."""
    client, host = wire.client, wire.host
    for name in (host.file(b"file", b"abc"), host.directory(b"dir"), host.symlink(b"link", b"nowhere")):
        client.symlink(client.root, name, b"elsewhere", expect=EEXIST)
    shared.content(wire, b"file", b"abc")
    _says(wire, b"link", b"nowhere")
    shared.names(wire, {b"file", b"dir", b"link"})


@case("WIRE-LINK-006", covers=[Tsymlink])
def test_symlink_in_a_file(wire: Wire) -> None:
    """Tsymlink on a fid that is not a directory is refused.  Source: symlink(2) ENOTDIR."""
    shared.in_a_file(wire, lambda client, fid, name: client.symlink.send(fid, name, b"x"))


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-LINK-007", covers=[Tsymlink])
def test_symlink_of_dead_fid(wire: Wire, which: str) -> None:
    """Tsymlink on an unknown fid is refused.  Source: chaos/diod protocol.md, symlink."""
    shared.dead_fid(wire, which, lambda client, fid: client.symlink.send(fid, b"link", b"x"))


@pytest.mark.parametrize("name", shared.NO_NAMES, ids=shared.label)
@case("WIRE-LINK-008", covers=[Tsymlink])
def test_symlink_under_no_name(wire: Wire, name: bytes) -> None:
    """Tsymlink under an empty name, or one that holds a slash, is refused and makes nothing.  Source: POSIX XBD,
    Filename, "1 to {NAME_MAX} bytes ... shall not contain the <NUL> or <slash> characters"."""
    shared.no_name(wire, name, lambda client, fid, name: client.symlink.send(fid, name, b"x"))


@pytest.mark.parametrize("name", shared.DOTS, ids=shared.label)
@case("WIRE-LINK-009", covers=[Tsymlink])
def test_symlink_of_dots(wire: Wire, name: bytes) -> None:
    """Tsymlink of `.` or `..` is refused.  Source: create(5); symlink(2) EEXIST."""
    shared.dot_name(wire, name, lambda client, fid, name: client.symlink.send(fid, name, b"x"))


@case("WIRE-LINK-010", covers=[Tsymlink])
def test_symlink_with_a_nul(wire: Wire) -> None:
    """Tsymlink under a name that holds a NUL makes nothing.  Source: intro(5), "The NUL character is illegal in all
    text strings in 9P"."""
    shared.nul_name(wire, lambda client, fid, name: client.symlink.send(fid, name, b"x"))


@case("WIRE-LINK-011", covers=[Tsymlink])
def test_symlink_long_name(wire: Wire) -> None:
    """Tsymlink takes a name of 255 bytes and refuses one of 256.  Source: symlink(2) ENAMETOOLONG."""
    shared.long_name(wire, lambda client, fid, name: client.symlink.send(fid, name, b"x"))


@case("WIRE-LINK-012", covers=[Tsymlink], severity="linux")
def test_symlink_group_as_asked(wire: Wire) -> None:
    """A new link belongs to the requested group.  Source: chaos/diod protocol.md, symlink, gid."""
    client = wire.client
    client.symlink(client.root, b"link", b"x", 4711)
    shared.group_is(wire, b"link", 4711)


@pytest.mark.parametrize("kind", ["file", "directory", "fifo"])
@case("WIRE-LINK-020", covers=[Treadlink])
def test_readlink_of_something_else(wire: Wire, kind: str) -> None:
    """Treadlink of what is not a symbolic link is refused with EINVAL.  Source: readlink(2) EINVAL."""
    client, host = wire.client, wire.host
    make: dict[str, Callable[[bytes], bytes]] = {"file": host.file, "directory": host.directory, "fifo": host.fifo}
    client.readlink(client.walk_to(make[kind](b"thing")), expect=allowed.NOT_A_LINK)


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-LINK-021", covers=[Treadlink])
def test_readlink_of_dead_fid(wire: Wire, which: str) -> None:
    """Treadlink of an unknown fid is refused.  Source: chaos/diod protocol.md, readlink."""
    shared.dead_fid(wire, which, lambda client, fid: client.readlink.send(fid))


@case("WIRE-LINK-022", covers=[Treadlink])
def test_readlink_that_does_not_fit(wire: Wire) -> None:
    """For a link whose text does not fit msize Treadlink returns an error, neither a longer message nor part of the
    text.  Source: version(5); readlink(2) cannot report that more is left."""
    wire.host.symlink(b"link", b"t" * 4095)
    client = wire.session(4096)
    try:
        reply = wire.prompt(client.readlink.send(client.walk_to(b"link")), allowed.DOES_NOT_FIT | {OK})
    except HungUp:
        return
    if isinstance(reply, Rreadlink):
        equal("target in Rreadlink", bytes(reply.target), b"t" * 4095, code="content", call="Treadlink")


@case("WIRE-LINK-023", covers=[Treadlink])
def test_readlink_sees_the_host(wire: Wire) -> None:
    """Links that the host makes and replaces are read with their current text.  Source: readlink(2); inode caches gave
    links the targets of other files (nixpkgs#22695 #23020 #23957)."""
    client, host = wire.client, wire.host
    for number in range(50):
        host.symlink(b"link-%d" % number, b"target-%d" % number)
    for number in range(50):
        _target_is(client, client.walk_to(b"link-%d" % number), b"target-%d" % number)
    host.unlink(b"link-7")
    host.symlink(b"link-7", b"new")
    _target_is(client, client.walk_to(b"link-7"), b"new")


# --- link -----------------------------------------------------------------------------------------


@case("WIRE-LINK-030", covers=[Tlink])
def test_hard_link(wire: Wire) -> None:
    """Tlink gives a file another name: one inode, one content, a link count of two.  Source: link(2); chaos/diod
    protocol.md, link."""
    client, host = wire.client, wire.host
    host.file(b"one", b"abc")
    host.directory(b"dir")
    fid = client.walk_to(b"one")
    client.link_file(client.walk_to(b"dir"), fid, b"two")
    equal("inode of the new name on the host", host.stat(b"dir/two").st_ino, host.stat(b"one").st_ino, code="field:ino")
    reply = client.getattr(fid)
    equal("nlink in Rgetattr of a file with two names", reply.nlink, 2, code="field:nlink")
    path = shared.path_of(client, client.walk_to(b"dir", b"two"))
    shared.same_file("the new name, beside that of the old one", path, reply.qid)


@case("WIRE-LINK-031", covers=[Tlink])
def test_hard_link_to_a_symbolic_link(wire: Wire) -> None:
    """Tlink of a symbolic link makes another name for the link itself; its target gains none.  Source: link(2) on Linux
    does not follow; following led to CVE-2016-9602."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    host.symlink(b"link", b"fred")
    refusals = Choice({OK, EPERM, EOPNOTSUPP})
    number = client.link_file.send(client.root, client.walk_to(b"link"), b"other").errno(refusals)
    links = host.stat(b"fred").st_nlink
    equal("links of the file that the symbolic link points to, on the host", links, 1, code="escape")
    if number == OK:
        made = host.stat(b"other").st_mode
        holds("b'other' is a symbolic link on the host", stat.S_ISLNK(made), seen=Octal(made), code="field:mode")


@case("WIRE-LINK-032", covers=[Tlink])
def test_hard_link_to_a_directory(wire: Wire) -> None:
    """A directory cannot be linked.  Source: link(2) EPERM; POSIX link()."""
    client, host = wire.client, wire.host
    host.directory(b"dir")
    client.link_file(client.root, client.walk_to(b"dir"), b"two", expect=EPERM)
    shared.names(wire, {b"dir"})


@case("WIRE-LINK-033", covers=[Tlink])
def test_hard_link_to_a_name_that_is_taken(wire: Wire) -> None:
    """Tlink under a name that is taken is refused with EEXIST.  Source: link(2) EEXIST."""
    client, host = wire.client, wire.host
    host.file(b"one", b"abc")
    for name in (host.file(b"file", b"x"), host.directory(b"dir"), host.symlink(b"link", b"nowhere"), b"one"):
        client.link_file(client.root, client.walk_to(b"one"), name, expect=EEXIST)
    shared.content(wire, b"file", b"x")
    equal("links of b'one' on the host", host.stat(b"one").st_nlink, 1, code="changed")


@case("WIRE-LINK-034", covers=[Tlink])
def test_hard_link_in_a_file(wire: Wire) -> None:
    """Tlink on a directory fid that is not a directory is refused.  Source: link(2) ENOTDIR."""
    client, host = wire.client, wire.host
    host.file(b"one")
    host.file(b"file")
    client.link_file(client.walk_to(b"file"), client.walk_to(b"one"), b"two", expect=allowed.NOT_A_DIRECTORY)
    shared.names(wire, {b"one", b"file"})


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-LINK-035", covers=[Tlink])
def test_link_in_dead_fid(wire: Wire, which: str) -> None:
    """Tlink with an unknown directory fid is refused.  Source: chaos/diod protocol.md, link."""
    wire.host.file(b"one")
    shared.dead_fid(wire, which, lambda client, fid: client.link_file.send(fid, client.walk_to(b"one"), b"two"))


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-LINK-036", covers=[Tlink])
def test_link_of_dead_fid(wire: Wire, which: str) -> None:
    """Tlink of an unknown fid is refused.  Source: chaos/diod protocol.md, link."""
    shared.dead_fid(wire, which, lambda client, fid: client.link_file.send(client.root, fid, b"two"))


@pytest.mark.parametrize("name", shared.NO_NAMES, ids=shared.label)
@case("WIRE-LINK-037", covers=[Tlink])
def test_link_under_no_name(wire: Wire, name: bytes) -> None:
    """Tlink under an empty name, or one that holds a slash, is refused and makes nothing.  Source: POSIX XBD, Filename,
    "1 to {NAME_MAX} bytes ... shall not contain the <NUL> or <slash> characters"."""
    wire.host.file(b"one")
    shared.no_name(wire, name, lambda client, fid, name: client.link_file.send(fid, client.walk_to(b"one"), name))


@pytest.mark.parametrize("name", shared.DOTS, ids=shared.label)
@case("WIRE-LINK-038", covers=[Tlink])
def test_link_of_dots(wire: Wire, name: bytes) -> None:
    """Tlink under `.` or `..` is refused.  Source: link(2) EEXIST; QEMU v9fs_link."""
    wire.host.file(b"one")
    shared.dot_name(wire, name, lambda client, fid, name: client.link_file.send(fid, client.walk_to(b"one"), name))


@case("WIRE-LINK-039", covers=[Tlink])
def test_link_with_a_nul(wire: Wire) -> None:
    """Tlink under a name that holds a NUL makes nothing.  Source: intro(5), "The NUL character is illegal in all text
    strings in 9P"."""
    wire.host.file(b"one")
    shared.nul_name(wire, lambda client, fid, name: client.link_file.send(fid, client.walk_to(b"one"), name))


@case("WIRE-LINK-040", covers=[Tlink])
def test_link_long_name(wire: Wire) -> None:
    """Tlink takes a name of 255 bytes and refuses one of 256.  Source: link(2) ENAMETOOLONG."""
    wire.host.file(b"one")
    shared.long_name(wire, lambda client, fid, name: client.link_file.send(fid, client.walk_to(b"one"), name))


@case("WIRE-LINK-041", covers=[Tlink])
def test_link_to_a_file_that_has_no_name(wire: Wire) -> None:
    """Tlink of a file that is open and unlinked is refused, or gives that same file a name again.  Source: linkat(2)
    ENOENT; it must never name another file."""
    client, host = wire.client, wire.host
    fid = client.create(b"fred", b"abc")
    client.unlink(b"fred")
    host.file(b"fred", b"another")
    refusals = Choice({OK, ENOENT, EPERM, EINVAL, EOPNOTSUPP})
    if client.link_file.send(client.root, fid, b"again").errno(refusals) == OK:
        shared.content(wire, b"again", b"abc", "Tlink of the file that had no name")
    else:
        shared.absent(wire, b"again", "it was refused")


@case("WIRE-LINK-042", covers=[Tlink])
def test_links_again_and_again(wire: Wire) -> None:
    """A thousand Tlinks of one fid, with each name removed again, leave neither names nor memory behind.  Source:
    CWE-401, as CVE-2016-9105: a guest must not exhaust its host's memory."""
    client, host = wire.client, wire.host
    host.file(b"one", b"abc")
    fid = client.walk_to(b"one")
    before = wire.memory()
    for _ in range(1000):
        client.link_file(client.root, fid, b"two")
        host.unlink(b"two")
    shared.memory_within(wire, before, 12 << 20, "a thousand Tlink")
    equal("links of b'one' on the host", host.stat(b"one").st_nlink, 1, code="field:nlink")
