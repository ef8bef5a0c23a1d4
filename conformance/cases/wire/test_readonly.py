"""Family `readonly`: a server whose export is read-only, started by the suite beside the one that the other cases meet.

What is at stake: backups, images and other people's data that a guest is given to read. Linux refuses most changes of a
share that it has mounted `ro` by itself; on one that it has mounted `rw` only the server stands before them.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

import pytest

from conformance.case import case
from conformance.checks import equal
from conformance.raw.expectation import OK
from conformance.raw.host_directory import HostDirectory
from conformance.raw.wire import Session, Wire
from protocol.constants import (
    AT_REMOVEDIR,
    EROFS,
    LOCK_SUCCESS,
    LOCK_TYPE_RDLCK,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    SETATTR_ATIME,
    SETATTR_GID,
    SETATTR_MODE,
    SETATTR_MTIME,
    SETATTR_SIZE,
    SETATTR_UID,
)
from protocol.messages import (
    Rxattrcreate,
    Tgetattr,
    Tlock,
    Tlopen,
    Tread,
    Treaddir,
    Treadlink,
    Tstatfs,
    Twalk,
)

Change = Callable[[Session], object]


def _set_attribute(client: Session) -> None:
    """A server may refuse when the value is complete: only then it is set."""
    fid = client.walk_to(b"fred")
    if isinstance(client.xattrcreate(fid, b"user.new", 1, expect={OK, EROFS}), Rxattrcreate):
        client.write(fid, 0, b"x", expect={OK, EROFS})
        client.clunk(fid, expect=EROFS)


CHANGES: dict[str, dict[str, Change]] = {
    "open": {
        "Tlcreate": lambda c: c.lcreate(c.walk_to(), b"new", expect=EROFS),
        "Tlopen for writing": lambda c: c.lopen(c.walk_to(b"fred"), O_WRONLY, expect=EROFS),
        "Tlopen for both": lambda c: c.lopen(c.walk_to(b"fred"), O_RDWR, expect=EROFS),
        "Tlopen with O_TRUNC": lambda c: c.lopen(c.walk_to(b"fred"), O_WRONLY | O_TRUNC, expect=EROFS),
    },
    "attributes": {
        "Tsetattr of the mode": lambda c: c.setattr(c.walk_to(b"fred"), SETATTR_MODE, mode=0o600, expect=EROFS),
        "Tsetattr of the owner": lambda c: c.setattr(c.walk_to(b"fred"), SETATTR_UID, uid=1001, expect=EROFS),
        "Tsetattr of the group": lambda c: c.setattr(c.walk_to(b"dir"), SETATTR_GID, gid=1001, expect=EROFS),
        "Tsetattr of the size": lambda c: c.setattr(c.walk_to(b"fred"), SETATTR_SIZE, size=1, expect=EROFS),
        "Tsetattr of the times": lambda c: c.setattr(c.walk_to(b"dir"), SETATTR_ATIME | SETATTR_MTIME, expect=EROFS),
        "Txattrcreate": _set_attribute,
    },
    "names": {
        "Tmkdir": lambda c: c.mkdir(c.root, b"new", expect=EROFS),
        "Tsymlink": lambda c: c.symlink(c.root, b"new", b"fred", expect=EROFS),
        "Tmknod": lambda c: c.mknod(c.root, b"new", stat.S_IFIFO | 0o644, expect=EROFS),
        "Tlink": lambda c: c.link_file(c.root, c.walk_to(b"fred"), b"new", expect=EROFS),
        "Trename": lambda c: c.rename(c.walk_to(b"fred"), c.root, b"new", expect=EROFS),
        "Tremove": lambda c: c.remove(c.walk_to(b"fred"), expect=EROFS),
    },
    "names-at": {
        "Trenameat": lambda c: c.renameat(c.root, b"fred", c.root, b"new", expect=EROFS),
        "Tunlinkat": lambda c: c.unlinkat(c.root, b"fred", expect=EROFS),
        "Tunlinkat of a directory": lambda c: c.unlinkat(c.root, b"dir", AT_REMOVEDIR, expect=EROFS),
    },
}
"""Requests that change something, by what they change."""


def _populate(host: HostDirectory) -> None:
    host.file(b"fred", b"content", 0o640)
    host.directory(b"dir")
    host.symlink(b"link", b"fred")


def _state(host: HostDirectory) -> dict[bytes, object]:
    """What no request may change: all but the time of the last read."""
    seen: dict[bytes, object] = {}
    for name in sorted(host.names()):
        status = host.stat(name)
        content = host.content(name) if stat.S_ISREG(status.st_mode) else b""
        fields = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_size, status.st_ctime_ns)
        seen[name] = (*fields, status.st_mtime_ns, content)
    return seen


@pytest.mark.parametrize("group", CHANGES)
@case("WIRE-RDONLY-001", seconds=120)
def test_changes_are_refused(wire: Wire, group: str) -> None:
    """Every request that would change a read-only export is refused with EROFS and changes nothing.
    Source: EROFS in ERRORS of open(2), chmod(2), mkdir(2) and the others; diod.conf(5), export option ro; the manual of
    nfs-ganesha, Access_Type = RO."""
    with wire.reading_only() as (client, host):
        _populate(host)
        before = _state(host)
        for what, change in CHANGES[group].items():
            change(client)
            if not equal(f"names and state on the host after {what}", _state(host), before, code="changed"):
                break  # what comes next would meet another state


@case("WIRE-RDONLY-002", covers=[Twalk, Tgetattr, Tlopen, Tread, Treaddir, Treadlink, Tstatfs], seconds=120)
def test_everything_can_be_read(wire: Wire) -> None:
    """A read-only export is walked, opened for reading, read and listed.  Source: open(2), EROFS is for write access
    alone; diod.conf(5), export option ro."""
    with wire.reading_only() as (client, host):
        _populate(host)
        fid = client.open(b"fred", flags=O_RDONLY)
        equal("content of b'fred'", bytes(client.read(fid).data), b"content", code="content")
        equal("size of b'fred' in Rgetattr", client.getattr(fid).size, 7, code="field:size")
        target = bytes(client.readlink(client.walk_to(b"link")).target)
        equal("target of b'link' in Rreadlink", target, b"fred", code="field:target")
        listing = {one.name for one in client.entries(client.open(flags=O_RDONLY))} - {b".", b".."}
        equal("names of the export in Rreaddir", listing, {b"fred", b"dir", b"link"}, code="names")
        client.statfs(client.root)


@case("WIRE-RDONLY-003", covers=[Tlock], seconds=120)
def test_a_shared_lock(wire: Wire) -> None:
    """A file of a read-only export that is open for reading can be locked for reading: a lock changes no file.
    Source: fcntl(2), which has no EROFS; known defect: lib9p 1cea327, Tlock refused with EROFS."""
    with wire.reading_only() as (client, host):
        _populate(host)
        fid = client.open(b"fred", flags=O_RDONLY)
        equal("status of a read lock in Rlock", client.lock(fid, LOCK_TYPE_RDLCK).status, LOCK_SUCCESS, code="value")


@case("WIRE-RDONLY-004", covers=[Tlopen], seconds=120)
def test_opened_for_reading_to_be_truncated(wire: Wire) -> None:
    """O_TRUNC is refused with EROFS also where the file is opened for reading only, and truncates nothing.
    Source: open(2), EROFS; Linux's do_open asks for write access to a file that is to be truncated."""
    with wire.reading_only() as (client, host):
        _populate(host)
        before = _state(host)
        client.lopen(client.walk_to(b"fred"), O_RDONLY | O_TRUNC, expect=EROFS)
        equal("names and state on the host after Tlopen with O_TRUNC", _state(host), before, code="changed")


def _cloned(client: Session, *names: bytes) -> int:
    """By a Twalk without names from a fid that is there already."""
    return client.walk_to(start=client.walk_to(*names))


def _in_place(client: Session, *names: bytes) -> int:
    """By a Twalk whose new fid is the old one."""
    fid = client.walk_to()
    client.walk(fid, fid, b"dir", b"..", *names)
    return fid


def _up_and_down(client: Session, *names: bytes) -> int:
    """Through `..`, by one Twalk for each name."""
    fid = client.walk_to(b"dir")
    for name in (b"..", *names):
        fid = client.walk_to(name, start=fid)
    return fid


WAYS: dict[str, Callable[..., int]] = {"cloned": _cloned, "in-place": _in_place, "up-and-down": _up_and_down}
"""How a fid comes about, beside one Twalk from the fid of Tattach."""


@pytest.mark.parametrize("way", WAYS)
@case("WIRE-RDONLY-005", covers=[Twalk], seconds=120)
def test_every_fid_knows_it(wire: Wire, way: str) -> None:
    """Whichever way a fid of a read-only export was made, what would change the export is refused with EROFS.
    Source: EROFS in ERRORS of open(2), mkdir(2) and chmod(2); walk(5)."""
    reached = WAYS[way]
    with wire.reading_only() as (client, host):
        _populate(host)
        before = _state(host)
        client.lopen(reached(client, b"fred"), O_WRONLY, expect=EROFS)
        client.mkdir(reached(client), b"new", expect=EROFS)
        client.setattr(reached(client, b"fred"), SETATTR_MODE, mode=0o600, expect=EROFS)
        equal("names and state on the host", _state(host), before, code="changed")
