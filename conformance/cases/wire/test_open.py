"""Family `open`: Tlopen and Tlcreate.

What is at stake: an open with the wrong flags loses data or opens a file that may not be opened; a create with the
wrong mode, group or name leaves files that their owner cannot use, or files outside the export.
"""

from __future__ import annotations

import stat

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import Octal, between, equal, holds
from conformance.raw.expectation import OK, spell
from conformance.raw.wire import Wire
from protocol.constants import (
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    ENOENT,
    ENOTDIR,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_DSYNC,
    O_EXCL,
    O_LARGEFILE,
    O_NOATIME,
    O_NOCTTY,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_SYNC,
    O_TRUNC,
    O_WRONLY,
    QTDIR,
    SETATTR_SIZE,
)
from protocol.messages import Rlopen, Rread, Tlcreate, Tlopen

HARMLESS = {
    "CREAT": O_CREAT,
    "NOCTTY": O_NOCTTY,
    "NONBLOCK": O_NONBLOCK,
    "DSYNC": O_DSYNC,
    "SYNC": O_SYNC | O_DSYNC,
    "LARGEFILE": O_LARGEFILE,
    "NOFOLLOW": O_NOFOLLOW,
    "NOATIME": O_NOATIME,
    "CLOEXEC": O_CLOEXEC,
}
"""Flags with which open(2) of a regular file does what it does without them."""


# --- lopen ----------------------------------------------------------------------------------------


@case("WIRE-OPEN-001", covers=[Tlopen])
def test_open_answers_with_the_qid(wire: Wire) -> None:
    """Tlopen answers with the qid of the opened file, the same as Tgetattr's.  Source: open(5); chaos/diod protocol.md,
    lopen."""
    client, host = wire.client, wire.host
    for name, kind in ((host.file(b"file"), 0), (host.directory(b"dir"), QTDIR)):
        fid = client.walk_to(name)
        qid = client.lopen(fid).qid
        shared.kind_is(f"in Rlopen of {name!r}", qid, kind)
        shared.same_file(f"Rlopen of {name!r}, beside that of Rgetattr", qid, shared.path_of(client, fid))


@case("WIRE-OPEN-002", covers=[Tlopen], severity="varies")
def test_iounit_fits_msize(wire: Wire) -> None:
    """iounit is 0, or fits one message.  Source: open(5), "the maximum number of bytes that are guaranteed to be read
    from or written to the file without breaking the I/O transfer into multiple messages"; crosvm gives st_blksize
    whatever msize is, and Linux lowers it (p9_client_read_once)."""
    wire.host.file(b"fred", bytes(100))
    client = wire.session(4096)
    fid = client.walk_to(b"fred")
    iounit = client.lopen(fid).iounit
    between("iounit in Rlopen", iounit, 0, client.msize - 24)


@case("WIRE-OPEN-003", covers=[Tlopen])
def test_access_mode_is_kept(wire: Wire) -> None:
    """A fid opened for reading cannot write, one opened for writing cannot read, and one opened for both can do both.
    Source: open(5); open(2) O_ACCMODE; read(2), write(2) EBADF."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    reading = client.open(b"fred", flags=O_RDONLY)
    writing = client.open(b"fred", flags=O_WRONLY)
    both = client.open(b"fred", flags=O_RDWR)
    client.write(reading, 0, b"x", expect=allowed.NOT_FOR_READING)
    client.read(writing, expect=allowed.NOT_FOR_READING)
    equal("count in Rwrite of a file open for writing", client.write(writing, 0, b"X").count, 1)
    equal("count in Rwrite of a file open for both", client.write(both, 1, b"Y").count, 1)
    shared.reads(client, both, b"XYc", "a file open for both")
    shared.reads(client, reading, b"XYc", "a file open for reading")


@case("WIRE-OPEN-004", covers=[Tlopen])
def test_truncating(wire: Wire) -> None:
    """Tlopen with TRUNC empties the file; without it the file keeps its content.  Source: open(2) O_TRUNC; chaos/diod
    protocol.md, "flags contains Linux open(2) flags bits"."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    client.open(b"fred", flags=O_WRONLY)
    shared.size_is(wire, b"fred", 3, "Tlopen without TRUNC")
    client.open(b"fred", flags=O_WRONLY | O_TRUNC)
    shared.size_is(wire, b"fred", 0, "Tlopen with TRUNC")


@case("WIRE-OPEN-005", covers=[Tlopen], severity="varies")
def test_appending(wire: Wire) -> None:
    """With APPEND a write goes to the end of the file whatever its offset.  Source: pwrite(2), BUGS: Linux appends;
    v9fs sends the right offset itself, so servers may ignore the flag."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    fid = client.open(b"fred", flags=O_WRONLY | O_APPEND)
    client.write(fid, 0, b"def")
    shared.content(wire, b"fred", b"abcdef", "a write at 0 with APPEND")


@pytest.mark.parametrize("flag", sorted(HARMLESS))
@case("WIRE-OPEN-006", covers=[Tlopen], severity="linux")
def test_flags_that_a_guest_sends(wire: Wire, flag: str) -> None:
    """Tlopen of an existing regular file accepts every flag that Linux passes on, and the file then reads as without
    it.  Source: Linux v9fs_open_to_dotl_flags; v9fs_vfs_atomic_open_dotl sends CREAT with Tlopen for an existing file.
    """
    client = wire.client
    wire.host.file(b"fred", b"abc")
    fid = client.open(b"fred", flags=O_RDONLY | HARMLESS[flag])
    shared.reads(client, fid, b"abc", f"a file opened with {flag}")
    shared.content(wire, b"fred", b"abc", f"Tlopen with {flag}")


@case("WIRE-OPEN-007", covers=[Tlopen], severity="linux")
def test_directory_flag(wire: Wire) -> None:
    """With DIRECTORY a directory opens and a file does not.  Source: open(2) O_DIRECTORY, ENOTDIR."""
    client = wire.client
    wire.host.file(b"file")
    wire.host.directory(b"dir")
    client.lopen(client.walk_to(b"dir"), O_RDONLY | O_DIRECTORY)
    client.lopen(client.walk_to(b"file"), O_RDONLY | O_DIRECTORY, expect=ENOTDIR)


@pytest.mark.parametrize("flags", [O_WRONLY, O_RDWR, O_WRONLY | O_TRUNC])
@case("WIRE-OPEN-008", covers=[Tlopen])
def test_directory_for_writing(wire: Wire, flags: int) -> None:
    """A directory cannot be opened for writing.  Source: open(2) EISDIR; open(5); EINVAL: QEMU opens directories with
    opendir and ignores the flags."""
    client = wire.client
    wire.host.directory(b"dir")
    fid = client.walk_to(b"dir")
    reply = client.lopen(fid, flags, expect={EISDIR, EINVAL, OK})
    if isinstance(reply, Rlopen):
        # Opened as if for reading: nothing can be written through it.
        client.write(fid, 0, b"x", expect=allowed.READ_OF_DIRECTORY | allowed.NOT_FOR_READING)
    shared.names(wire, {b"dir"})


@pytest.mark.parametrize("flags", [3, 0x80000000, 0xFFFFFFFF & ~(O_TRUNC | O_EXCL)], ids=shared.label)
@case("WIRE-OPEN-009", covers=[Tlopen])
def test_flags_without_a_meaning(wire: Wire, flags: int) -> None:
    """Meaningless flags are ignored or refused; the file does not change.  Source: open(2); Linux sends only what
    v9fs_open_to_dotl_flags knows."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    client.lopen.send(client.walk_to(b"fred"), flags).wait()
    shared.content(wire, b"fred", b"abc", f"Tlopen with flags {flags:#x}")
    client.getattr(client.root)


@pytest.mark.parametrize("target", [b"fred", b"dir", b"nowhere"], ids=["file", "directory", "nothing"])
@case("WIRE-OPEN-010", covers=[Tlopen])
def test_symbolic_link(wire: Wire, target: bytes) -> None:
    """Tlopen of a symbolic link does not open the link's target.  Source: CVE-2016-9602: the client resolves symbolic
    links; open(2) with O_NOFOLLOW, ELOOP."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    host.directory(b"dir")
    host.symlink(b"link", target)
    fid = client.walk_to(b"link")
    errnos = allowed.LINK_NOT_FOLLOWED | ({ENOENT} if target == b"nowhere" else set())
    reply = client.lopen(fid, expect=errnos)
    if not isinstance(reply, Rlopen):
        client.read(fid, expect=allowed.WRONG_STATE)
    client.lopen(client.walk_to(b"link"), O_WRONLY | O_TRUNC, expect=errnos)
    shared.content(wire, b"fred", b"abc")


@case("WIRE-OPEN-011", covers=[Tlopen])
def test_open_twice(wire: Wire) -> None:
    """A fid that is open cannot be opened again, and stays open unchanged.  Source: open(5), "the fid ... must not be
    open"; QEMU v9fs_open EINVAL."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    fid = client.open(b"fred")
    client.lopen(fid, O_RDWR | O_TRUNC, expect=allowed.WRONG_STATE)
    shared.reads(client, fid, b"abc", "a file whose fid was to be opened twice")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-OPEN-012", covers=[Tlopen])
def test_lopen_of_dead_fid(wire: Wire, which: str) -> None:
    """Tlopen of an unknown fid is refused.  Source: open(5); intro(5)."""
    shared.dead_fid(wire, which, lambda client, fid: client.lopen.send(fid))


@pytest.mark.parametrize("flags", [O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_NONBLOCK])
@case("WIRE-OPEN-013", covers=[Tlopen])
def test_fifo_is_not_opened(wire: Wire, flags: int) -> None:
    """Tlopen of a fifo of the host is refused at once, without waiting for a peer.  Source: Linux guests open special
    files themselves and never send Tlopen for them (init_special_inode); QEMU since CVE-2023-2861 ENXIO."""
    wire.host.fifo(b"fifo")
    client = wire.client
    wire.prompt(client.lopen.send(client.walk_to(b"fifo"), flags), allowed.NOT_OPENED)
    client.getattr(client.root)


@pytest.mark.parametrize("kind", ["char", "block", "socket"])
@case("WIRE-OPEN-014", covers=[Tlopen])
def test_device_is_not_opened(wire: Wire, kind: str) -> None:
    """Tlopen of a device node or socket of the host is refused, and no byte of the device is read.  Source:
    CVE-2023-2861 (QEMU), kvmtool 4d2c017; the guest has its own devices for the same numbers."""
    client, host = wire.client, wire.host
    if kind == "socket":
        host.socket(b"node")
    else:
        host.device(b"node", *((1, 5) if kind == "char" else (7, 0)), block=kind == "block")
    fid = client.walk_to(b"node")
    client.lopen(fid, O_RDONLY, expect=allowed.NOT_OPENED)
    reply = client.read.send(fid, 0, 16).wait()
    none = "no bytes come out of a host's device"
    holds(none, not isinstance(reply, Rread), seen=spell(reply), code="escape", call="Tread")
    client.lopen(client.walk_to(b"node"), O_RDWR, expect=allowed.NOT_OPENED)


@case("WIRE-OPEN-015", covers=[Tlcreate], severity="linux")
def test_open_file_outlives_its_name(wire: Wire) -> None:
    """A file that was opened and then unlinked can still be read and written.  Source: unlink(2); apt, dnf and iperf3
    do so (GitLab qemu#103, LP#1336794; ml 2020-07..09 open-unlink-f*syscall series; diod#19)."""
    client = wire.client
    fid = client.create(b"fred", b"abc")
    client.unlink(b"fred")
    shared.reads(client, fid, b"abc", "an unlinked open file")
    client.write(fid, 3, b"def")
    shared.reads(client, fid, b"abcdef", "an unlinked open file that was written to")


@case("WIRE-OPEN-016", covers=[Tlcreate], severity="linux")
def test_unlinked_open_file_can_be_truncated(wire: Wire) -> None:
    """ftruncate(2) works on a file that was opened and then unlinked.  Source: unlink(2), ftruncate(2); QEMU 7.2
    answers ENOENT (GitLab qemu#103, LP#1336794)."""
    client = wire.client
    fid = client.create(b"fred", b"abcdef")
    client.unlink(b"fred")
    client.setattr(fid, SETATTR_SIZE, size=2)
    shared.reads(client, fid, b"ab", "an unlinked open file that was cut to two bytes")


@case("WIRE-OPEN-017", covers=[Tlopen])
def test_file_that_went_away(wire: Wire) -> None:
    """Tlopen of a fid whose file the host has removed is refused, or opens the file that the fid stood for, but no
    other.  Source: open(2) ENOENT; ESTALE as in NFS."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    fid = client.walk_to(b"fred")
    host.unlink(b"fred")
    reply = client.lopen(fid, expect=allowed.GONE | {OK})
    if isinstance(reply, Rlopen):
        shared.reads(client, fid, b"abc", "the file that the host has removed")


@case("WIRE-OPEN-018", covers=[Tlopen])
def test_two_opens_are_independent(wire: Wire) -> None:
    """One file opened on two fids: closing one leaves the other open, and each sees what the other wrote.  Source:
    open(5), clunk(5)."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    one, two = client.open(b"fred", flags=O_RDWR), client.open(b"fred", flags=O_RDWR)
    client.write(one, 0, b"X")
    shared.reads(client, two, b"Xbc", "a file that another fid has written")
    client.clunk(one)
    client.write(two, 1, b"Y")
    shared.content(wire, b"fred", b"XYc")


@pytest.mark.parametrize("msize", [4096, 8192, 10000, 65536])
@case("WIRE-OPEN-053", covers=[Tlopen, Tlcreate])
def test_iounit_at_any_msize(wire: Wire, msize: int) -> None:
    """iounit fits any negotiated msize: a client sends that many bytes in one Twrite.  Source: open(5), "the maximum
    number of bytes that are guaranteed to be read from or written to the file without breaking the I/O transfer into
    multiple 9P messages"; Linux p9_client_write uses it where it is not 0."""
    client = wire.session(msize)
    wire.host.file(b"fred")
    between("iounit in Rlopen", client.lopen(client.walk_to(b"fred")).iounit, 0, client.msize - 24)
    between("iounit in Rlcreate", client.lcreate(client.walk_to(), b"ginger").iounit, 0, client.msize - 24)


@case("WIRE-OPEN-054", covers=[Tlopen], severity="varies")
def test_no_access_mode(wire: Wire) -> None:
    """The access mode 3 is refused, or opens the file for neither reading nor writing.  Source: open(2), "Linux
    reserves the special, nonstandard access mode 3"; the descriptor can be used for ioctl(2) only."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    fid = client.walk_to(b"fred")
    if isinstance(client.lopen(fid, 3, expect={OK, EINVAL}), Rlopen):
        client.read(fid, expect=allowed.NOT_FOR_READING)
        client.write(fid, 0, b"x", expect=allowed.NOT_FOR_READING)


@case("WIRE-OPEN-055", covers=[Tlopen], severity="varies")
def test_append_goes_to_the_end(wire: Wire) -> None:
    """A write with APPEND goes to the end of the file even if the host has extended the file meanwhile.  Source:
    open(2) O_APPEND; QEMU and diod pass the flag on, and pwrite(2) then appends, whatever the offset ("BUGS")."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"one,")
    fid = client.open(b"fred", flags=O_RDWR | O_APPEND)
    host.write(b"fred", b"two,")
    client.write(fid, 4, b"three")
    shared.content(wire, b"fred", b"one,two,three", "a Twrite through a fid opened with APPEND")


# --- lcreate --------------------------------------------------------------------------------------


@case("WIRE-OPEN-030", covers=[Tlcreate])
def test_create(wire: Wire) -> None:
    """Tlcreate makes a regular file, and the fid that stood for the directory stands for the file, open.  Source:
    create(5); chaos/diod protocol.md, lcreate, "After the call it represents the new file"."""
    client, host = wire.client, wire.host
    fid = client.walk_to()
    reply = client.lcreate(fid, b"fred", O_RDWR, 0o640)
    made = host.stat(b"fred").st_mode
    holds("b'fred' is a regular file on the host", stat.S_ISREG(made), seen=Octal(made), code="field:mode")
    shared.kind_is("in Rlcreate", reply.qid, 0)
    shared.same_file("Rgetattr of the new fid, beside that of Rlcreate", shared.path_of(client, fid), reply.qid)
    walked = shared.path_of(client, client.walk_to(b"fred"))
    shared.same_file("Rgetattr of a walk to it, beside that of Rlcreate", walked, reply.qid)
    client.write(fid, 0, b"abc")
    shared.reads(client, fid, b"abc", "the new file")
    shared.content(wire, b"fred", b"abc")


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o600, 0o644, 0o666, 0o755, 0o777])
@case("WIRE-OPEN-031", covers=[Tlcreate], severity="linux")
def test_mode_as_asked(wire: Wire, mode: int) -> None:
    """A new file has the requested permission bits: the guest's umask has been applied already, the server's must not
    be.  Source: chaos/diod protocol.md, "mode contains Linux creat(2) mode bits"; v9fs sends mode & ~umask; QEMU sets
    its own umask aside."""
    client = wire.client
    fid = client.walk_to()
    client.lcreate(fid, b"fred", O_RDWR, mode)
    shared.mode_is(wire, b"fred", mode)
    # The open itself is not limited by the mode that it has just set.
    equal("count in Rwrite to the new file", client.write(fid, 0, b"abc").count, 3)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1644, 0o7777])
@case("WIRE-OPEN-032", covers=[Tlcreate], severity="linux")
def test_set_id_and_sticky_bits(wire: Wire, mode: int) -> None:
    """The set-user-id, set-group-id and sticky bits of a new file are kept.  Source: creat(2); hugelgupf/p9 lost them
    (hugelgupf#108, #109)."""
    client = wire.client
    client.lcreate(client.walk_to(), b"fred", O_RDWR, mode)
    shared.mode_is(wire, b"fred", mode)


@case("WIRE-OPEN-033", covers=[Tlcreate])
def test_type_bits_in_the_mode(wire: Wire) -> None:
    """S_IFREG in the mode is not a permission bit: the file is a regular file with the rest.  Source: v9fs before Linux
    6.4 passes mode from the VFS, which holds S_IFREG; creat(2)."""
    client = wire.client
    client.lcreate(client.walk_to(), b"fred", O_RDWR, stat.S_IFREG | 0o640)
    made = Octal(wire.host.stat(b"fred").st_mode)
    equal("mode of b'fred' on the host", made, Octal(stat.S_IFREG | 0o640), code="field:mode")


@case("WIRE-OPEN-034", covers=[Tlcreate], severity="linux")
def test_group_as_asked(wire: Wire) -> None:
    """A new file belongs to the requested group.  Source: chaos/diod protocol.md, "gid is the effective gid of the
    caller"; v9fs_get_fsgid_for_create gives the directory's where that is set-group-id."""
    client = wire.client
    client.lcreate(client.walk_to(), b"fred", O_RDWR, 0o644, 4711)
    shared.group_is(wire, b"fred", 4711)


@case("WIRE-OPEN-035", covers=[Tlcreate])
def test_exclusive(wire: Wire) -> None:
    """Tlcreate with EXCL of a name that is taken is refused with EEXIST and leaves the file alone.  Source: open(2)
    O_EXCL; lock files depend on it."""
    client, host = wire.client, wire.host
    host.file(b"fred", b"abc")
    client.lcreate(client.walk_to(), b"fred", O_RDWR | O_EXCL, expect=EEXIST)
    host.directory(b"dir")
    client.lcreate(client.walk_to(), b"dir", O_RDWR | O_EXCL, expect={EEXIST, EISDIR})
    shared.content(wire, b"fred", b"abc", "Tlcreate with EXCL")


@case("WIRE-OPEN-049", covers=[Tlcreate])
def test_exclusive_of_a_link(wire: Wire) -> None:
    """Tlcreate with EXCL of the name of a dangling symbolic link is refused, and the link's target is not made.
    Source: open(2) O_EXCL, "if pathname is a symbolic link, then open() fails regardless"; CVE-2016-9602."""
    client, host = wire.client, wire.host
    host.symlink(b"link", b"nowhere")
    client.lcreate(client.walk_to(), b"link", O_RDWR | O_EXCL, expect={EEXIST, ELOOP})
    shared.names(wire, {b"link"})


@case("WIRE-OPEN-050", covers=[Tlcreate], severity="varies")
def test_create_without_the_create_flag(wire: Wire) -> None:
    """Tlcreate without the CREAT flag makes the file nevertheless: that is the purpose of the message.  Source:
    chaos/diod protocol.md, lcreate, "creates a regular file"; Linux always sends the flag (v9fs_vfs_atomic_open_dotl),
    and servers that pass the flags to open(2) need it."""
    client = wire.client
    fid = client.walk_to()
    client.lcreate(fid, b"fred", O_RDWR, exact=True)
    shared.present(wire, b"fred", "Tlcreate without CREAT")


@case("WIRE-OPEN-036", covers=[Tlcreate], severity="varies")
def test_create_of_an_existing_file(wire: Wire) -> None:
    """Tlcreate without EXCL of an existing file opens it and keeps its content.  Source: open(2) O_CREAT, which QEMU
    and diod pass on; create(5) demands an error."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    fid = client.walk_to()
    client.lcreate(fid, b"fred", O_RDWR)
    shared.reads(client, fid, b"abc", "a file that was there when it was to be created")


@case("WIRE-OPEN-037", covers=[Tlcreate])
def test_create_does_not_empty_by_itself(wire: Wire) -> None:
    """Tlcreate of an existing file without TRUNC keeps its content, whether the server opens it or refuses.  Source:
    open(2); create(5) "error if the file exists"."""
    client = wire.client
    wire.host.file(b"fred", b"abc")
    client.lcreate(client.walk_to(), b"fred", O_RDWR, expect={OK, EEXIST})
    shared.content(wire, b"fred", b"abc", "Tlcreate without TRUNC")


@case("WIRE-OPEN-038", covers=[Tlcreate])
def test_create_in_a_file(wire: Wire) -> None:
    """Tlcreate on a fid that is not a directory is refused.  Source: create(5); open(2) ENOTDIR."""
    shared.in_a_file(wire, lambda client, fid, name: client.lcreate.send(fid, name))


@case("WIRE-OPEN-039", covers=[Tlcreate])
def test_create_on_an_open_fid(wire: Wire) -> None:
    """Tlcreate on a fid that is open is refused and makes nothing.  Source: create(5), "fid must not be open"; QEMU
    leaked on it (CVE-2017-7377)."""
    client = wire.client
    wire.host.directory(b"dir")
    client.lcreate(client.open(b"dir"), b"ginger", expect=allowed.WRONG_STATE)
    client.lcreate(client.create(b"fred"), b"ginger", expect=allowed.WRONG_STATE | allowed.NOT_A_DIRECTORY)
    shared.names(wire, {b"dir", b"fred"})
    shared.names(wire, set(), b"dir")


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-OPEN-040", covers=[Tlcreate])
def test_lcreate_of_dead_fid(wire: Wire, which: str) -> None:
    """Tlcreate on an unknown fid is refused.  Source: create(5)."""
    shared.dead_fid(wire, which, lambda client, fid: client.lcreate.send(fid, b"fred"))


@pytest.mark.parametrize("name", shared.NO_NAMES, ids=shared.label)
@case("WIRE-OPEN-041", covers=[Tlcreate])
def test_lcreate_under_no_name(wire: Wire, name: bytes) -> None:
    """Tlcreate under an empty name, or one that holds a slash, is refused and makes nothing.  Source: POSIX XBD,
    Filename, "1 to {NAME_MAX} bytes ... shall not contain the <NUL> or <slash> characters"."""
    shared.no_name(wire, name, lambda client, fid, name: client.lcreate.send(fid, name))


@pytest.mark.parametrize("name", shared.DOTS, ids=shared.label)
@case("WIRE-OPEN-042", covers=[Tlcreate])
def test_lcreate_of_dots(wire: Wire, name: bytes) -> None:
    """Tlcreate of `.` or `..` is refused.  Source: create(5), "the names . and .. are special; it is illegal to create
    files with these names"."""
    shared.dot_name(wire, name, lambda client, fid, name: client.lcreate.send(fid, name))


@case("WIRE-OPEN-043", covers=[Tlcreate])
def test_lcreate_with_a_nul(wire: Wire) -> None:
    """Tlcreate under a name that holds a NUL makes nothing.  Source: intro(5), "The NUL character is illegal in all
    text strings in 9P"."""
    shared.nul_name(wire, lambda client, fid, name: client.lcreate.send(fid, name))


@case("WIRE-OPEN-044", covers=[Tlcreate])
def test_lcreate_long_name(wire: Wire) -> None:
    """Tlcreate takes a name of 255 bytes and refuses one of 256.  Source: open(2) ENAMETOOLONG."""
    shared.long_name(wire, lambda client, fid, name: client.lcreate.send(fid, name))


@case("WIRE-OPEN-045", covers=[Tlcreate], severity="linux")
def test_lcreate_name_that_is_no_text(wire: Wire) -> None:
    """Tlcreate takes a name that is not UTF-8.  Source: path_resolution(7): names are bytes."""
    shared.raw_name(wire, lambda client, fid, name: client.lcreate.send(fid, name))


@case("WIRE-OPEN-046", covers=[Tlcreate])
def test_failed_create_leaves_the_directory(wire: Wire) -> None:
    """After a failed Tlcreate the fid still stands for the directory, unopened.  Source: create(5); error(5)."""
    client = wire.client
    wire.host.file(b"fred")
    fid = client.walk_to()
    client.lcreate(fid, b"fred", O_RDWR | O_EXCL, expect=EEXIST)
    shared.kind_is("in Rgetattr of the fid after Tlcreate that failed", client.getattr(fid).qid, QTDIR)
    client.lcreate(fid, b"ginger")
    shared.present(wire, b"ginger")


@pytest.mark.parametrize("flags", [O_RDONLY, O_WRONLY])
@case("WIRE-OPEN-047", covers=[Tlcreate])
def test_create_keeps_the_access_mode(wire: Wire, flags: int) -> None:
    """A file created for reading only cannot be written through that fid, and vice versa.  Source: creat(2), open(2)
    O_ACCMODE."""
    client = wire.client
    fid = client.walk_to()
    client.lcreate(fid, b"fred", flags | O_EXCL)
    if flags == O_RDONLY:
        client.write(fid, 0, b"x", expect=allowed.NOT_FOR_READING)
    else:
        client.write(fid, 0, b"x")
        client.read(fid, expect=allowed.NOT_FOR_READING)


@case("WIRE-OPEN-048", covers=[Tlcreate])
def test_create_through_a_dangling_link(wire: Wire) -> None:
    """Tlcreate of the name of a dangling symbolic link does not make the link's target.  Source: the client resolves
    links; open(2) O_EXCL, O_NOFOLLOW; CVE-2016-9602."""
    client, host = wire.client, wire.host
    host.symlink(b"link", b"made")
    for flags in (O_RDWR, O_RDWR | O_TRUNC):
        client.lcreate(client.walk_to(), b"link", flags, expect=allowed.LINK_NOT_FOLLOWED | {EEXIST, ENOENT})
    shared.names(wire, {b"link"})
