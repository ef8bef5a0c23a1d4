"""Extended attributes through one session, with the same results on every store."""

from __future__ import annotations

import os

import pytest

from protocol import constants as c
from protocol import messages as m
from tests.reference_server.peer import Failed, Peer
from tests.reference_server.requests import create, get_xattr, read, set_xattr


def test_xattrs(peer: Peer) -> None:
    fid = create(peer, b"f")
    set_xattr(peer, fid, b"user.a", b"one")
    set_xattr(peer, fid, b"user.b", b"")
    set_xattr(peer, fid, b"user.c", os.urandom(3000))
    assert get_xattr(peer, fid, b"user.a") == b"one"
    assert get_xattr(peer, fid, b"user.b") == b""
    assert sorted(get_xattr(peer, fid, b"").split(b"\0")) == [b"", b"user.a", b"user.b", b"user.c"]
    assert peer.error(m.Txattrwalk(peer.tag(), fid, peer.fid(), b"user.no")) == c.ENODATA
    with pytest.raises(Failed, match="EEXIST"):
        set_xattr(peer, fid, b"user.a", b"two", c.XATTR_CREATE)
    with pytest.raises(Failed, match="ENODATA"):
        set_xattr(peer, fid, b"user.no", b"two", c.XATTR_REPLACE)
    set_xattr(peer, fid, b"user.a", b"two", c.XATTR_REPLACE)
    assert get_xattr(peer, fid, b"user.a") == b"two"
    # Linux's removexattr: nothing at all, with XATTR_REPLACE
    set_xattr(peer, fid, b"user.a", b"", c.XATTR_REPLACE)
    assert peer.error(m.Txattrwalk(peer.tag(), fid, peer.fid(), b"user.a")) == c.ENODATA
    with pytest.raises(Failed, match="ENODATA"):
        set_xattr(peer, fid, b"user.a", b"", c.XATTR_REPLACE)


def test_an_xattr_keeps_its_size_while_it_is_read(peer: Peer) -> None:
    """CVE-2017-15038: the attribute grew between the query of its size and the read."""
    fid = create(peer, b"f")
    set_xattr(peer, fid, b"user.a", b"short")
    new = peer.fid()
    assert peer.ok(m.Txattrwalk(peer.tag(), fid, new, b"user.a"), m.Rxattrwalk).size == 5
    set_xattr(peer, fid, b"user.a", b"much longer than before")
    assert read(peer, new) == b"short"


def test_an_xattr_must_arrive_whole(peer: Peer) -> None:
    fid = create(peer, b"f")
    path = peer.walk(b"f")
    new = peer.walk(start=path)
    peer.ok(m.Txattrcreate(peer.tag(), new, b"user.a", 10, 0), m.Rxattrcreate)
    peer.ok(m.Twrite(peer.tag(), new, 0, b"12345"), m.Rwrite)
    assert peer.error(m.Twrite(peer.tag(), new, 5, b"678901")) == c.ENOSPC
    assert peer.error(m.Twrite(peer.tag(), new, 1 << 63, b"6")) == c.ENOSPC
    assert peer.error(m.Twrite(peer.tag(), new, 7, b"67")) == c.EINVAL
    # CVE-2016-9103: reading it must not show what the memory held before
    assert peer.error(m.Tread(peer.tag(), new, 0, 10)) == c.EBADF
    assert peer.error(m.Tgetattr(peer.tag(), new, 0)) == c.EBADF
    assert peer.error(m.Tclunk(peer.tag(), new)) == c.EINVAL
    assert peer.error(m.Tclunk(peer.tag(), new)) == c.EBADF
    assert peer.error(m.Txattrwalk(peer.tag(), fid, peer.fid(), b"user.a")) == c.ENODATA


def test_xattr_names_and_flags(peer: Peer) -> None:
    create(peer, b"f")
    fid = peer.walk(b"f")

    def xattrcreate(name: bytes, size: int = 0, flags: int = 0) -> m.Txattrcreate:
        return m.Txattrcreate(peer.tag(), fid, name, size, flags)

    assert peer.error(xattrcreate(b"")) == c.ERANGE
    assert peer.error(xattrcreate(b"user." + b"x" * 251)) == c.ERANGE
    assert peer.error(xattrcreate(b"user.\0")) == c.EINVAL
    assert peer.error(xattrcreate(b"user.a", c.XATTR_SIZE_MAX + 1)) == c.E2BIG
    assert peer.error(xattrcreate(b"user.a", (1 << 64) - 1)) == c.E2BIG
    assert peer.error(xattrcreate(b"user.a", 1, 4)) == c.EINVAL
    with pytest.raises(Failed, match="EOPNOTSUPP"):
        set_xattr(peer, fid, b"nonsense", b"x")


def test_xattrs_of_a_symlink_are_its_own(peer: Peer) -> None:
    create(peer, b"f")
    peer.ok(m.Tsymlink(peer.tag(), peer.root, b"l", b"f", 0), m.Rsymlink)
    set_xattr(peer, peer.walk(b"f"), b"user.a", b"of the file")
    ecode = peer.error(m.Txattrwalk(peer.tag(), peer.walk(b"l"), peer.fid(), b"user.a"))
    assert ecode in (c.ENODATA, c.EPERM)
