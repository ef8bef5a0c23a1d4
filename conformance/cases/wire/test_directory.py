"""Family `directory`: Treaddir and Tmkdir.

What is at stake: `ls`. An entry that comes twice, or not at all, because a cookie was used as a count or a boundary
fell inside an entry, is a file that a guest loses when copying.
"""

from __future__ import annotations

import stat

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import Octal, between, equal, holds, one_of
from conformance.raw.expectation import OK
from conformance.raw.wire import Session, Wire
from protocol.constants import (
    DT_BLK,
    DT_CHR,
    DT_DIR,
    DT_FIFO,
    DT_LNK,
    DT_REG,
    DT_SOCK,
    DT_UNKNOWN,
    EEXIST,
    O_DIRECTORY,
    O_RDONLY,
    QTDIR,
    RREAD_HDRSZ,
)
from protocol.dirents import decode_dirents
from protocol.messages import Rmkdir, Rreaddir, Tmkdir, Treaddir

HERE = (b".", b"..")


def _names(client: Session, fid: int, count: int | None = None) -> list[bytes]:
    """All names but `.` and `..`, in the order in which they come."""
    return [entry.name for entry in client.entries(fid, count) if entry.name not in HERE]


def _complete(found: list[bytes], wanted: set[bytes], what: str = "the directory") -> None:
    """Each wanted name came once."""
    twice = {name for name in found if found.count(name) > 1} if len(set(found)) < len(found) else set()
    values = {"call": "Treaddir"}
    equal(f"names that Treaddir brings more than once of {what}", twice, set(), code="names", **values)
    missing, beside = wanted - set(found), set(found) - wanted
    seen = f"{len(missing)} of {len(wanted)}, {sorted(missing)[:5]}"
    holds(f"no name is missing in what Treaddir brings of {what}", not missing, seen=seen, code="names", **values)
    equal(f"names that Treaddir brings of {what} and that are not there", beside, set(), code="names", **values)


# --- readdir --------------------------------------------------------------------------------------


@case("WIRE-DIR-001", covers=[Treaddir])
def test_entries(wire: Wire) -> None:
    """Treaddir returns every entry once, with the same qid.path as a walk and with its type, or DT_UNKNOWN.  Source:
    chaos/diod protocol.md, readdir; QEMU leaves qid.type and qid.version 0."""
    client, host = wire.client, wire.host
    wanted = {
        host.file(b"file"): DT_REG,
        host.directory(b"dir"): DT_DIR,
        host.symlink(b"link", b"x"): DT_LNK,
        host.fifo(b"fifo"): DT_FIFO,
        host.device(b"char", 1, 3): DT_CHR,
        host.device(b"block", 7, 0, block=True): DT_BLK,
    }
    wanted[host.socket(b"socket")] = DT_SOCK
    found = {entry.name: entry for entry in client.entries(client.open()) if entry.name not in HERE}
    _complete(list(found), set(wanted))
    for name, kind in wanted.items():
        if name in found:
            one_of(f"type of the entry {name!r}", found[name].type, (kind, DT_UNKNOWN), code="field:type")
            path = shared.path_of(client, client.walk_to(name))
            shared.same_file(f"the entry {name!r}, beside that of Rgetattr", found[name].qid, path)


@case("WIRE-DIR-002", covers=[Treaddir], severity="varies")
def test_dot_and_dotdot_are_listed(wire: Wire) -> None:
    """`.` and `..` are among the entries.  Source: QEMU, diod and Linux's own getdents(2) list them; readdir(3p) leaves
    it open."""
    client = wire.client
    names = [entry.name for entry in client.entries(client.open())]
    equal("`.` and `..` among the entries", set(names) & set(HERE), set(HERE), code="names")


@pytest.mark.parametrize("count", [64, 100, 300, 1000, 4072])
@case("WIRE-DIR-003", covers=[Treaddir])
def test_small_counts(wire: Wire, count: int) -> None:
    """However small the count, whole entries come, each once, and never more bytes than requested.  Source: chaos/diod
    protocol.md, "At most count bytes"; lib9p overran near the count (lib9p 9febb4c), go9p failed."""
    client, host = wire.client, wire.host
    wanted = {host.file(b"file-%03d" % number) for number in range(60)}
    fid = client.open()
    offset, found = 0, []
    while True:
        data = client.readdir(fid, offset, count).data
        between("bytes of entries in Rreaddir", len(data), 0, count, call="Treaddir")
        entries = list(decode_dirents(data))
        if not entries:
            break
        found += [entry.name for entry in entries if entry.name not in HERE]
        offset = entries[-1].offset
    _complete(found, wanted)


@case("WIRE-DIR-004", covers=[Treaddir])
def test_count_too_small_for_one_entry(wire: Wire) -> None:
    """A count too small for any entry is refused, or returns nothing; never part of an entry.  Source: getdents(2)
    EINVAL; chaos/diod protocol.md, whole records."""
    client = wire.client
    wire.host.file(b"n" * 200)
    fid = client.open()
    for count in (1, 23, 24):
        reply = client.readdir(fid, 0, count, expect=allowed.SMALL_COUNT | {OK})
        if isinstance(reply, Rreaddir):
            equal(f"bytes of entries in Rreaddir, where none fits the count {count}", len(reply.data), 0)


@case("WIRE-DIR-005", covers=[Treaddir], severity="varies")
def test_long_name_in_a_small_count_is_not_the_end(wire: Wire) -> None:
    """When the next entry does not fit the count, the server returns an error rather than no bytes, which mean the end.
    Source: getdents(2) EINVAL "Result buffer is too small"; v9fs takes no bytes for the end (v9fs_dir_readdir_dotl) and
    loses the rest, though it always asks for more than one entry takes."""
    client, host = wire.client, wire.host
    for number in range(10):
        host.file(b"%d" % number)
    host.file(b"n" * 255)
    wanted = host.names()
    fid = client.open()
    offset, found = 0, set()
    for _ in range(100):
        reply = client.readdir(fid, offset, 100, expect=allowed.SMALL_COUNT | {OK})
        if not isinstance(reply, Rreaddir):
            return
        entries = list(decode_dirents(reply.data))
        if not entries:
            break
        found |= {entry.name for entry in entries}
        offset = entries[-1].offset
    equal("names missing in a listing that ended as if it were whole", wanted - found, set(), code="names")


@case("WIRE-DIR-006", covers=[Treaddir])
def test_going_on_after_any_entry(wire: Wire) -> None:
    """Treaddir continues after any entry whose offset it is given, and returns all entries that follow.  Source:
    chaos/diod protocol.md, "offset is the offset returned in the last directory entry"; clients stop in the middle of a
    reply (WSL#5074, WSL#13613, plan9port#791)."""
    client, host = wire.client, wire.host
    for number in range(40):
        host.file(b"file-%03d" % number)
    fid = client.open()
    whole = list(client.entries(fid))
    equal("different offsets of the entries", len({entry.offset for entry in whole}), len(whole), code="names")
    for index in range(0, len(whole), 7):
        offset, rest = whole[index].offset, []
        while entries := list(decode_dirents(client.readdir(fid, offset, 4096).data)):
            rest += [entry.name for entry in entries]
            offset = entries[-1].offset
        equal(f"names after entry {index}", rest, [entry.name for entry in whole[index + 1 :]], code="names")


@case("WIRE-DIR-007", covers=[Treaddir], severity="linux")
def test_from_the_start_again(wire: Wire) -> None:
    """Treaddir at offset 0 starts again and shows what has changed since.  Source: rewinddir(3); v9fs does so for
    lseek(fd, 0)."""
    client, host = wire.client, wire.host
    wanted = {host.file(b"one"), host.file(b"two")}
    fid = client.open()
    _complete(_names(client, fid), wanted)
    wanted.add(host.file(b"three"))
    host.unlink(b"one")
    _complete(_names(client, fid), wanted - {b"one"})


@case("WIRE-DIR-008", covers=[Treaddir])
def test_twelve_hundred_entries(wire: Wire) -> None:
    """Twelve hundred entries come, each once.  Source: readdir(3p): each call returns the next entry until the end of
    the directory; ZeroFS lost some at the thousandth, go9p failed above 128 (ZeroFS#96, #282, #283; minikube#1753 #1562
    #1755 #8732)."""
    client, host = wire.client, wire.host
    wanted = {host.file(b"a rather long name, so that few fit one message, %04d" % n) for n in range(1200)}
    _complete(_names(client, client.open(), 4072), wanted)
    _complete(_names(client, client.open()), wanted)


@case("WIRE-DIR-009", covers=[Treaddir])
def test_longest_names(wire: Wire) -> None:
    """Names of 255 bytes, and names that are not UTF-8, are listed unchanged.  Source: path_resolution(7)."""
    client, host = wire.client, wire.host
    wanted = {host.file(bytes([65 + n]) * 255) for n in range(20)} | {host.file(b"\xff\xfe"), host.file(b"a\nb")}
    _complete(_names(client, client.open(), 1000), wanted)


@pytest.mark.parametrize("over", [0, 1, 4096, 0xFFFFFFFF - 24, 0xFFFFFFFF], ids=shared.label)
@case("WIRE-DIR-010", covers=[Treaddir])
def test_count_beyond_msize(wire: Wire, over: int) -> None:
    """A count whose reply would not fit msize is lowered or refused; no reply is longer than msize.  Source:
    version(5); diod np_readdir EIO."""
    host = wire.host
    for number in range(300):
        host.file(b"a rather long name, so that few fit one message, %04d" % number)
    client = wire.session(8192)
    fid = client.open()
    count = over if over > 0x7FFFFFFF else client.msize - RREAD_HDRSZ + over
    reply = wire.prompt(client.readdir.send(fid, 0, count), allowed.BAD_COUNT | {OK})
    if isinstance(reply, Rreaddir):
        largest = client.msize - RREAD_HDRSZ
        between("bytes of entries in Rreaddir, where none would mean the end", len(reply.data), 1, largest)


@pytest.mark.parametrize("offset", [1, 0xDEADBEEF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF], ids=shared.label)
@case("WIRE-DIR-011", covers=[Treaddir])
def test_offset_that_was_never_given(wire: Wire, offset: int) -> None:
    """An offset that came from no entry returns whole entries, nothing, or an error; the directory can be read
    afterwards.  Source: chaos/diod protocol.md: offsets are the server's; telldir(3)."""
    client, host = wire.client, wire.host
    wanted = {host.file(b"one"), host.file(b"two")}
    fid = client.open()
    reply = client.readdir(fid, offset, 4096, expect=allowed.BAD_COOKIE | {OK})
    if isinstance(reply, Rreaddir):
        beside = {entry.name for entry in decode_dirents(reply.data)} - wanted - set(HERE)
        equal("names in Rreaddir that the directory does not hold", beside, set(), code="names")
    # On a fid of its own: ext4 itself returns nothing at 0 to a descriptor that has just been at 2^63-1.
    _complete(_names(client, client.open()), wanted)


@case("WIRE-DIR-012", covers=[Treaddir])
def test_changes_while_it_is_read(wire: Wire) -> None:
    """When a directory changes while it is read, every entry that stays is seen once.  Source: readdir(3p), "if a file
    is removed from or added to the directory after the most recent call to opendir() ... whether a subsequent call ...
    returns an entry for that file is unspecified", and no more than that."""
    client, host = wire.client, wire.host
    stays = {host.file(b"stays-%03d" % number) for number in range(0, 200)}
    goes = [host.file(b"goes-%03d" % number) for number in range(0, 200)]
    fid = client.open()
    offset, found, step = 0, [], 0
    while entries := list(decode_dirents(client.readdir(fid, offset, 700).data)):
        found += [entry.name for entry in entries if entry.name.startswith(b"stays")]
        offset = entries[-1].offset
        for _ in range(5):
            if goes:
                host.unlink(goes.pop())
            host.file(b"comes-%03d" % step)
            step += 1
            if step > 400:
                break
    _complete(found, stays)


@case("WIRE-DIR-013", covers=[Treaddir])
def test_two_readers(wire: Wire) -> None:
    """Two fids open on one directory are read independently.  Source: readdir(3): the position belongs to the open
    directory."""
    client, host = wire.client, wire.host
    wanted = {host.file(b"file-%03d" % number) for number in range(60)}
    one, two = client.open(), client.open()
    entries = list(decode_dirents(client.readdir(one, 0, 500).data))
    _complete(_names(client, two), wanted)
    found = [entry.name for entry in entries]
    offset = entries[-1].offset
    while entries := list(decode_dirents(client.readdir(one, offset, 500).data)):
        found += [entry.name for entry in entries]
        offset = entries[-1].offset
    _complete([name for name in found if name not in HERE], wanted)


@case("WIRE-DIR-014", covers=[Treaddir])
def test_readdir_of_a_file(wire: Wire) -> None:
    """Treaddir of a file is refused.  Source: chaos/diod protocol.md, readdir is for directories; getdents(2)
    ENOTDIR."""
    wire.host.file(b"fred", bytes(1000))
    client = wire.client
    client.readdir(client.open(b"fred"), expect=allowed.NOT_A_DIRECTORY_STREAM)


@case("WIRE-DIR-015", covers=[Treaddir])
def test_readdir_of_an_unopened_fid(wire: Wire) -> None:
    """Treaddir of a fid that was not opened is refused.  Source: chaos/diod protocol.md, "previously opened with
    lopen"; pTOS#158."""
    client = wire.client
    client.readdir(client.walk_to(), expect=allowed.NOT_A_DIRECTORY_STREAM)


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-DIR-016", covers=[Treaddir])
def test_readdir_of_dead_fid(wire: Wire, which: str) -> None:
    """Treaddir of an unknown fid is refused.  Source: chaos/diod protocol.md, readdir."""
    shared.dead_fid(wire, which, lambda client, fid: client.readdir.send(fid))


@case("WIRE-DIR-017", covers=[Treaddir])
def test_flushed_readdir(wire: Wire) -> None:
    """After a Treaddir was flushed, the next one returns what it requests, not the flushed one's entries.
    Source: flush(5); v9fs waited for the old reply (rust-9p#15)."""
    client, host = wire.client, wire.host
    wanted = {host.file(b"file-%03d" % number) for number in range(60)}
    fid = client.open(flags=O_RDONLY | O_DIRECTORY)
    for _ in range(10):
        pending = client.readdir.send(fid, 0, 2000)
        client.flush(pending.tag)
        if pending.reply is None:
            client.forget(pending)
        _complete(_names(client, fid, 1000), wanted)


@case("WIRE-DIR-018", covers=[Treaddir])
def test_empty_and_removed_directory(wire: Wire) -> None:
    """An open directory that has been removed lists nothing more, or is refused.  Source: rmdir(2) of a directory in
    use; getdents(2) ENOENT; ESTALE: servers that work with NFS handles."""
    client, host = wire.client, wire.host
    host.directory(b"dir")
    fid = client.open(b"dir")
    equal("names that Treaddir brings of an empty directory", _names(client, fid), [], code="names")
    host.rmdir(b"dir")
    reply = client.readdir(fid, 0, 1000, expect=allowed.GONE | {OK})
    if isinstance(reply, Rreaddir):
        beside = {entry.name for entry in decode_dirents(reply.data)} - set(HERE)
        equal("names in Rreaddir of a directory that was removed", beside, set(), code="names")


# --- mkdir ----------------------------------------------------------------------------------------


@case("WIRE-DIR-030", covers=[Tmkdir])
def test_mkdir(wire: Wire) -> None:
    """Tmkdir makes a directory and answers with its qid; the fid still stands for the parent, unopened.  Source:
    chaos/diod protocol.md, mkdir."""
    client = wire.client
    parent = client.walk_to()
    qid = client.mkdir(parent, b"dir", 0o750).qid
    made = wire.host.stat(b"dir").st_mode
    holds("b'dir' is a directory on the host", stat.S_ISDIR(made), seen=Octal(made), code="field:mode")
    shared.kind_is("in Rmkdir", qid, QTDIR)
    shared.same_file("Rmkdir, beside that of Rgetattr", qid, shared.path_of(client, client.walk_to(b"dir")))
    client.mkdir(parent, b"other")
    client.walk_to(b"other", start=parent)


@pytest.mark.parametrize("mode", [0o000, 0o700, 0o755, 0o777, 0o1777])
@case("WIRE-DIR-031", covers=[Tmkdir], severity="linux")
def test_mkdir_mode_as_asked(wire: Wire, mode: int) -> None:
    """A new directory has the requested mode, including the sticky bit.  Source: mkdir(2); v9fs has applied the guest's
    umask already; hugelgupf/p9 lost bits (hugelgupf#108, #109)."""
    client = wire.client
    client.mkdir(client.root, b"dir", mode)
    shared.mode_is(wire, b"dir", mode)


@case("WIRE-DIR-042", covers=[Tmkdir], severity="linux")
def test_mkdir_in_a_set_group_id_directory(wire: Wire) -> None:
    """A directory made in a set-group-id directory has the bit and the group that the client requests.  Source:
    mkdir(2), inode(7); v9fs_vfs_mkdir_dotl adds S_ISGID, v9fs_get_fsgid_for_create gives the parent's group."""
    client, host = wire.client, wire.host
    host.directory(b"shared")
    host.owner(b"shared", 0, 4711, 0o2775)
    client.mkdir(client.walk_to(b"shared"), b"dir", stat.S_IFDIR | 0o2755, 4711)
    shared.mode_is(wire, b"shared/dir", 0o2755)
    shared.group_is(wire, b"shared/dir", 4711)


@case("WIRE-DIR-032", covers=[Tmkdir], severity="linux")
def test_mkdir_group_as_asked(wire: Wire) -> None:
    """A new directory belongs to the requested group.  Source: chaos/diod protocol.md, mkdir, gid."""
    client = wire.client
    client.mkdir(client.root, b"dir", 0o755, 4711)
    shared.group_is(wire, b"dir", 4711)


@case("WIRE-DIR-043", covers=[Tmkdir])
def test_mkdir_mode_without_the_type(wire: Wire) -> None:
    """A mode of only permission bits makes a directory as well; Linux also sends S_IFDIR.  Source: chaos/diod
    protocol.md, mkdir, "mode contains Linux mkdir(2) mode bits"."""
    client = wire.client
    client.mkdir(client.root, b"dir", 0o750, exact=True)
    made = Octal(wire.host.stat(b"dir").st_mode)
    equal("mode of b'dir' on the host", made, Octal(stat.S_IFDIR | 0o750), code="field:mode")


@case("WIRE-DIR-033", covers=[Tmkdir])
def test_mkdir_of_what_exists(wire: Wire) -> None:
    """Tmkdir of a taken name is refused with EEXIST.  Source: mkdir(2) EEXIST."""
    client, host = wire.client, wire.host
    for name in (host.file(b"file"), host.directory(b"dir"), host.symlink(b"link", b"nowhere")):
        client.mkdir(client.root, name, expect=EEXIST)
    shared.names(wire, {b"file", b"dir", b"link"})


@case("WIRE-DIR-034", covers=[Tmkdir])
def test_mkdir_in_a_file(wire: Wire) -> None:
    """Tmkdir on a fid that is not a directory is refused.  Source: mkdir(2) ENOTDIR."""
    shared.in_a_file(wire, lambda client, fid, name: client.mkdir.send(fid, name))


@pytest.mark.parametrize("which", shared.DEAD)
@case("WIRE-DIR-035", covers=[Tmkdir])
def test_mkdir_of_dead_fid(wire: Wire, which: str) -> None:
    """Tmkdir on an unknown fid is refused.  Source: chaos/diod protocol.md, mkdir."""
    shared.dead_fid(wire, which, lambda client, fid: client.mkdir.send(fid, b"dir"))


@pytest.mark.parametrize("name", shared.NO_NAMES, ids=shared.label)
@case("WIRE-DIR-036", covers=[Tmkdir])
def test_mkdir_under_no_name(wire: Wire, name: bytes) -> None:
    """Tmkdir under an empty name, or one that holds a slash, is refused and makes nothing.  Source: POSIX XBD,
    Filename, "1 to {NAME_MAX} bytes ... shall not contain the <NUL> or <slash> characters"."""
    shared.no_name(wire, name, lambda client, fid, name: client.mkdir.send(fid, name))


@pytest.mark.parametrize("name", shared.DOTS, ids=shared.label)
@case("WIRE-DIR-037", covers=[Tmkdir])
def test_mkdir_of_dots(wire: Wire, name: bytes) -> None:
    """Tmkdir of `.` or `..` is refused.  Source: create(5); mkdir(2) EEXIST."""
    shared.dot_name(wire, name, lambda client, fid, name: client.mkdir.send(fid, name))


@case("WIRE-DIR-038", covers=[Tmkdir])
def test_mkdir_with_a_nul(wire: Wire) -> None:
    """Tmkdir under a name that holds a NUL makes nothing.  Source: intro(5), "The NUL character is illegal in all text
    strings in 9P"."""
    shared.nul_name(wire, lambda client, fid, name: client.mkdir.send(fid, name))


@case("WIRE-DIR-039", covers=[Tmkdir])
def test_mkdir_long_name(wire: Wire) -> None:
    """Tmkdir takes a name of 255 bytes and refuses one of 256.  Source: mkdir(2) ENAMETOOLONG."""
    shared.long_name(wire, lambda client, fid, name: client.mkdir.send(fid, name))


@case("WIRE-DIR-040", covers=[Tmkdir], severity="linux")
def test_mkdir_name_that_is_no_text(wire: Wire) -> None:
    """Tmkdir takes a name that is not UTF-8.  Source: path_resolution(7): names are bytes."""
    shared.raw_name(wire, lambda client, fid, name: client.mkdir.send(fid, name))


@case("WIRE-DIR-041", covers=[Tmkdir], seconds=30.0)
def test_mkdir_to_a_depth_without_end(wire: Wire) -> None:
    """Directories are nested until the path is longer than 65,535 bytes: each is made in its parent or refused; the
    server survives, and nothing is made elsewhere.  Source: chaos/diod protocol.md, mkdir, "creates a new directory
    name in parent directory dfid"; GitLab qemu#3358, a path's length in 16 bits."""
    client = wire.client
    fid, name = client.walk_to(), b"d" * 250
    for depth in range(275):
        reply = client.mkdir(fid, name, expect=allowed.NAME_TOO_LONG | {OK})
        if not isinstance(reply, Rmkdir):
            break
        walked = client.walk.send(fid, fid, name).wait()
        if client.errno_of(walked) != OK:
            break
        path = shared.path_of(client, fid)
        shared.same_file(f"the directory at depth {depth}, beside that of Rmkdir", path, reply.qid)
    client.getattr(client.root)
    shared.names(wire, {name})
