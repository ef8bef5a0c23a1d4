"""Family `many_open`: more files open at once than a server's process may have descriptors.

What is at stake: a share with many programs. A server then closes files behind its fids and reopens them on use: it
must be the same file, at the same position, in the same mode, and never a file whose name is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from conformance.case import case
from conformance.cases.wire import allowed, shared
from conformance.checks import equal
from conformance.raw.expectation import OK
from conformance.raw.operations import Client
from conformance.raw.wire import Session, Wire
from protocol.constants import O_RDONLY, O_RDWR
from protocol.dirents import decode_dirents
from protocol.messages import Rlopen, Tlopen, Tread, Treaddir, Twrite

OPEN = 1100
"""More than the 1,024 descriptors that a process has by default (systemd.exec(5) LimitNOFILE=, soft)."""
FILES = 50
_TOGETHER = 50


def _name(number: int) -> bytes:
    return b"file-%02d" % (number % FILES)


def _open_all(client: Session, names: Sequence[bytes], flags: int) -> list[tuple[bytes, int]]:
    """Fids opened on those names, in order, until the server has no descriptor left."""
    opened: list[tuple[bytes, int]] = []
    for begun in range(0, len(names), _TOGETHER):
        part = [(name, client.fid()) for name in names[begun : begun + _TOGETHER]]
        walks = [client.walk.send(client.root, fid, name) for name, fid in part]
        if not all(one.errno(allowed.FULL | {OK}) == OK for one in walks):
            break
        opens = [client.lopen.send(fid, flags) for _, fid in part]
        done = [isinstance(one.result(allowed.FULL | {OK}), Rlopen) for one in opens]
        opened += [one for one, is_open in zip(part, done, strict=True) if is_open]
        if not all(done):
            break
    return opened


def _make(wire: Wire) -> None:
    for number in range(FILES):
        wire.host.file(_name(number), _name(number) * 10)


def _many(wire: Wire, flags: int = O_RDWR) -> list[tuple[bytes, int]]:
    return _open_all(wire.client, [_name(number) for number in range(OPEN)], flags)


def _clunk(client: Client, fids: Sequence[int]) -> None:
    for begun in range(0, len(fids), _TOGETHER):
        for one in [client.clunk.send(fid) for fid in fids[begun : begun + _TOGETHER]]:
            one.result()


@case("WIRE-MANY-OPEN-001", covers=[Tlopen, Tread, Twrite], seconds=120)
def test_each_fid_stays_open_on_its_file(wire: Wire) -> None:
    """However many fids are open, each reads and writes its own file, in its own mode.  Source: intro(5), a fid stands
    for a file; open(5); QEMU v9fs_reclaim_fd, which closes files behind fids that are open."""
    client = wire.client
    _make(wire)
    opened = _many(wire)
    reads, writes = [], []
    for begun in range(0, len(opened), _TOGETHER):
        part = opened[begun : begun + _TOGETHER]
        asked = [client.read.send(fid, 0, 7) for _, fid in part]
        reads += [bytes(one.result().data) for one in asked]
        asked_to = [client.write.send(fid, 100 + begun // FILES, name[-1:]) for name, fid in part]
        writes += [one.result().count for one in asked_to]
    what = f"one of {len(opened)} open fids"
    wrong = [name for (name, _), data in zip(opened, reads, strict=True) if data != name]
    equal(f"files whose content is not read through {what}", wrong, [], code="content")
    wrong = [name for (name, _), count in zip(opened, writes, strict=True) if count != 1]
    equal(f"files that are not written through {what}", wrong, [], code="content")
    for number in range(FILES):
        times = sum(1 for name, _ in opened if name == _name(number))
        gap = b"\0" * (100 - 10 * len(_name(number)))
        shared.content(wire, _name(number), _name(number) * 10 + gap + _name(number)[-1:] * times, "the Twrites")
    _clunk(client, [fid for _, fid in opened])


def _unlinked(wire: Wire, name: bytes) -> None:
    wire.client.unlink(name)


def _recreated(wire: Wire, name: bytes) -> None:
    wire.client.unlink(name)
    wire.client.clunk(wire.client.create(name, b"another file"))


def _replaced(wire: Wire, name: bytes) -> None:
    wire.client.clunk(wire.client.create(b"new", b"another file"))
    wire.client.renameat(wire.client.root, b"new", wire.client.root, name)


def _renamed(wire: Wire, name: bytes) -> None:
    wire.client.renameat(wire.client.root, name, wire.client.root, b"moved-" + name)


GONE: dict[str, Callable[[Wire, bytes], None]] = {
    "unlinked": _unlinked,
    "recreated": _recreated,
    "replaced": _replaced,
    "renamed": _renamed,
}


@pytest.mark.parametrize("how", GONE)
@case("WIRE-MANY-OPEN-002", covers=[Tlopen, Tread, Twrite], seconds=120)
def test_a_file_without_its_name_stays_open(wire: Wire, how: str) -> None:
    """A fid open on a file whose name is gone, or now another file's, keeps that file however many others are opened.
    Source: unlink(2), rename(2): the file lives as long as it is open; intro(5); QEMU v9fs_mark_fids_unreclaim, diod
    and every server that opens files again by name."""
    client, host = wire.client, wire.host
    _make(wire)
    held = [host.file(b"held-%d" % number, b"content of %d" % number) for number in range(8)]
    fids = [client.open(name, flags=O_RDWR) for name in held]
    for name in held:
        GONE[how](wire, name)
    opened = _many(wire)
    for number, fid in enumerate(fids):
        what = f"a file that was {how} while it was open, after {len(opened)} others were opened"
        shared.reads(client, fid, b"content of %d" % number, what)
        client.write(fid, 0, b"CONTENT")
        shared.reads(client, fid, b"CONTENT of %d" % number, f"{what}, and a Twrite")
    _clunk(client, [*fids, *(fid for _, fid in opened)])


@case("WIRE-MANY-OPEN-003", covers=[Tlopen, Treaddir], seconds=120)
def test_a_listing_goes_on(wire: Wire) -> None:
    """A listing in progress continues where it was, however many files are opened meanwhile: each name comes once.
    Source: readdir(3p); chaos/diod protocol.md, readdir; QEMU v9fs_reclaim_fd closes directories, too."""
    client, host = wire.client, wire.host
    _make(wire)
    host.directory(b"dir")
    wanted = {host.file(b"dir/a rather long name %03d" % number) for number in range(100)}
    names = {name.rpartition(b"/")[2] for name in wanted}
    fids = [client.open(b"dir") for _ in range(8)]
    begun = [list(decode_dirents(client.readdir(fid, 0, 1000).data)) for fid in fids]
    opened = _many(wire, O_RDONLY)
    for fid, entries in zip(fids, begun, strict=True):
        found = [entry.name for entry in entries]
        while entries and len(found) < 1000:  # ends a listing that starts over each time
            entries = list(decode_dirents(client.readdir(fid, entries[-1].offset, 1000).data))
            found += [entry.name for entry in entries]
        seen = sorted(name for name in found if name not in (b".", b".."))
        equal(f"names of a directory, after {len(opened)} files were opened", seen, sorted(names), code="names")
    _clunk(client, [*fids, *(fid for _, fid in opened)])


@case("WIRE-MANY-OPEN-004", covers=[Tlopen], severity="varies", seconds=120)
def test_eleven_hundred_open_files(wire: Wire) -> None:
    """Eleven hundred files can be open at once.  Source: open(2) ENFILE: a server may have a limit, but a guest's own
    kernel has none so low; QEMU v9fs_reclaim_fd stays below that of its process."""
    _make(wire)
    opened = _many(wire, O_RDONLY)
    equal("fids that could be opened", len(opened), OPEN, code="value")
    _clunk(wire.client, [fid for _, fid in opened])
