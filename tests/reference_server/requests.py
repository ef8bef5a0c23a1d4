"""Requests that many tests send in a session of :class:`Peer`."""

from __future__ import annotations

from protocol import constants as c
from protocol import messages as m
from tests.reference_server.peer import Peer


def create(peer: Peer, name: bytes, content: bytes = b"", mode: int = 0o644, directory: int | None = None) -> int:
    """A new file, open for reading and writing."""
    fid = peer.walk(start=directory)
    peer.ok(m.Tlcreate(peer.tag(), fid, name, c.O_RDWR | c.O_EXCL, mode, 0), m.Rlcreate)
    if content:
        assert peer.ok(m.Twrite(peer.tag(), fid, 0, content), m.Rwrite).count == len(content)
    return fid


def read(peer: Peer, fid: int, offset: int = 0, count: int = 65536) -> bytes:
    return bytes(peer.ok(m.Tread(peer.tag(), fid, offset, count), m.Rread).data)


def attributes(peer: Peer, fid: int) -> m.Rgetattr:
    return peer.ok(m.Tgetattr(peer.tag(), fid, c.GETATTR_ALL), m.Rgetattr)


def setattr_(peer: Peer, fid: int, valid: int, **values: int) -> m.Tsetattr:
    names = [field.name for field in m.Tsetattr.fields][2:]
    return m.Tsetattr(peer.tag(), fid, valid, *(values.get(name, 0) for name in names))


def set_xattr(peer: Peer, fid: int, name: bytes, value: bytes, flags: int = 0) -> None:
    new = peer.walk(start=fid)
    peer.ok(m.Txattrcreate(peer.tag(), new, name, len(value), flags), m.Rxattrcreate)
    for at in range(0, len(value), 30000):
        peer.ok(m.Twrite(peer.tag(), new, at, value[at : at + 30000]), m.Rwrite)
    peer.ok(m.Tclunk(peer.tag(), new), m.Rclunk)


def get_xattr(peer: Peer, fid: int, name: bytes) -> bytes:
    new = peer.fid()
    size = peer.ok(m.Txattrwalk(peer.tag(), fid, new, name), m.Rxattrwalk).size
    value = b""
    while len(value) < size:
        value += read(peer, new, len(value), 30000)
    assert read(peer, new, size) == read(peer, new, 1 << 63) == b""
    peer.clunk(new)
    return value
