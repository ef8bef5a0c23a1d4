"""One operation per T-message.

Rule of this module: an operation only builds the message; arguments that a caller leaves out are those that Linux sends
(`tests/wire/test_linux_defaults.py` compares it with recorded traffic). Linux adds bits of its own to the flags of
Tlcreate, the mode of Tmkdir and the valid bits of Tsetattr; so do the operations here, unless a case about what Linux
does not send calls them with `exact=True`.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from conformance.raw.client import Core, Pending
from conformance.raw.expectation import Expect
from protocol import messages as m
from protocol.constants import (
    GETATTR_ALL,
    LOCK_TYPE_UNLCK,
    LOCK_TYPE_WRLCK,
    NOFID,
    NONUNAME,
    NOTAG,
    O_CREAT,
    O_LARGEFILE,
    O_RDONLY,
    O_RDWR,
    SETATTR_CTIME,
    SETATTR_SIZE,
)
from protocol.fields import Buffer, Dialect
from protocol.registry import Message

CLIENT_ID = b"127.0.0.1"
"""Of locks. Linux sends its node name, which may be an address; nfs-ganesha looks it up as a host's name, and a case of
its own (WIRE-LOCK-027) sends one that no host has."""
UNAME = b""
"""Of Tattach, with the number of a user beside it: what Linux sends for each user that comes to the mount."""
FIRST_UNAME = b"nobody"
"""Of the first Tattach of a mount: V9FS_DEFUSER of Linux's client, with NONUNAME beside it."""
CREATING = O_CREAT | O_LARGEFILE
"""Flags of every Tlcreate of a 64-bit Linux, beside those of the caller of open(2)."""
READDIR_HEADER = 24
"""P9_READDIRHDRSZ: what Linux keeps free of msize for the header of Rreaddir."""


P = ParamSpec("P")
R = TypeVar("R", bound=Message)


class Bound(Generic[P, R]):
    """An operation of one client: calling it waits for the reply and judges it (`Pending.result`)."""

    __slots__ = ("send",)

    def __init__(self, send: Callable[P, Pending[R]]) -> None:
        self.send = send
        """Sends the message and returns at once with what is in flight."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.send(*args, **kwargs).result()


class operation(Generic[P, R]):
    """Declares an operation by the method that sends its message."""

    def __init__(self, send: Callable[Concatenate[Any, P], Pending[R]]) -> None:
        self._send = send

    def __get__(self, client: Client, owner: type[Client]) -> Bound[P, R]:
        return Bound(partial(self._send, client))


class Client(Core):
    """A raw 9P2000.L client over one link."""

    # ---- session

    def send_version(
        self, msize: int = 8192, version: bytes = Dialect.L.value, tag: int = NOTAG
    ) -> Pending[m.Rversion]:
        """Send Tversion."""
        return self.send_as(m.Tversion(tag, msize, version), m.Rversion)

    def version(
        self,
        msize: int = 8192,
        version: bytes = Dialect.L.value,
        tag: int = NOTAG,
        *,
        expect: Expect = None,
    ) -> m.Rversion:
        """Tversion. From a reply that accepts the dialect `msize` is remembered, and enforced on every
        reply."""
        self.msize = 0
        reply = self.send_version(msize, version, tag).result(expect)
        if isinstance(reply, m.Rversion) and reply.version == Dialect.L.value:
            self.msize = reply.msize
        return reply

    @operation
    def auth(
        self, afid: int, uname: bytes = UNAME, aname: bytes = b"", n_uname: int = 0, *, expect: Expect = None
    ) -> Pending[m.Rauth]:
        """Tauth."""
        return self.send_as(m.Tauth(self.tag(), afid, uname, aname, n_uname), m.Rauth, expect)

    @operation
    def attach(
        self,
        fid: int,
        aname: bytes = b"",
        uname: bytes = UNAME,
        n_uname: int = 0,
        afid: int = NOFID,
        *,
        expect: Expect = None,
    ) -> Pending[m.Rattach]:
        """Tattach."""
        return self.send_as(m.Tattach(self.tag(), fid, afid, uname, aname, n_uname), m.Rattach, expect)

    @operation
    def flush(self, oldtag: int, *, expect: Expect = None) -> Pending[m.Rflush]:
        """Tflush."""
        return self.send_as(m.Tflush(self.tag(), oldtag), m.Rflush, expect)

    # ---- walk

    @operation
    def walk(self, fid: int, newfid: int, *wnames: bytes, expect: Expect = None) -> Pending[m.Rwalk]:
        """Twalk."""
        return self.send_as(m.Twalk(self.tag(), fid, newfid, wnames), m.Rwalk, expect)

    @operation
    def clunk(self, fid: int, *, expect: Expect = None) -> Pending[m.Rclunk]:
        """Tclunk."""
        return self.send_as(m.Tclunk(self.tag(), fid), m.Rclunk, expect)

    # ---- open

    @operation
    def lopen(self, fid: int, flags: int = O_RDONLY, *, expect: Expect = None) -> Pending[m.Rlopen]:
        """Tlopen."""
        return self.send_as(m.Tlopen(self.tag(), fid, flags), m.Rlopen, expect)

    @operation
    def lcreate(
        self,
        fid: int,
        name: bytes,
        flags: int = O_RDWR,
        mode: int = 0o644,
        gid: int = 0,
        *,
        exact: bool = False,
        expect: Expect = None,
    ) -> Pending[m.Rlcreate]:
        """Tlcreate, with CREAT and LARGEFILE added to its flags unless `exact`."""
        flags = flags if exact else flags | CREATING
        return self.send_as(m.Tlcreate(self.tag(), fid, name, flags, mode, gid), m.Rlcreate, expect)

    # ---- io

    @operation
    def read(self, fid: int, offset: int = 0, count: int = 4096, *, expect: Expect = None) -> Pending[m.Rread]:
        """Tread."""
        return self.send_as(m.Tread(self.tag(), fid, offset, count), m.Rread, expect)

    @operation
    def write(self, fid: int, offset: int, data: Buffer, *, expect: Expect = None) -> Pending[m.Rwrite]:
        """Twrite."""
        return self.send_as(m.Twrite(self.tag(), fid, offset, data), m.Rwrite, expect)

    @operation
    def fsync(self, fid: int, datasync: int = 0, *, expect: Expect = None) -> Pending[m.Rfsync]:
        """Tfsync."""
        return self.send_as(m.Tfsync(self.tag(), fid, datasync), m.Rfsync, expect)

    # ---- directory

    @operation
    def readdir(
        self, fid: int, offset: int = 0, count: int | None = None, *, expect: Expect = None
    ) -> Pending[m.Rreaddir]:
        """Treaddir; without a count, as much as fits msize."""
        count = self.msize - READDIR_HEADER if count is None else count
        return self.send_as(m.Treaddir(self.tag(), fid, offset, count), m.Rreaddir, expect)

    @operation
    def mkdir(
        self, dfid: int, name: bytes, mode: int = 0o755, gid: int = 0, *, exact: bool = False, expect: Expect = None
    ) -> Pending[m.Rmkdir]:
        """Tmkdir, with S_IFDIR added to its mode unless `exact`."""
        mode = mode if exact else mode | stat.S_IFDIR
        return self.send_as(m.Tmkdir(self.tag(), dfid, name, mode, gid), m.Rmkdir, expect)

    # ---- attributes

    @operation
    def statfs(self, fid: int, *, expect: Expect = None) -> Pending[m.Rstatfs]:
        """Tstatfs."""
        return self.send_as(m.Tstatfs(self.tag(), fid), m.Rstatfs, expect)

    @operation
    def getattr(self, fid: int, request_mask: int = GETATTR_ALL, *, expect: Expect = None) -> Pending[m.Rgetattr]:
        """Tgetattr."""
        return self.send_as(m.Tgetattr(self.tag(), fid, request_mask), m.Rgetattr, expect)

    @operation
    def setattr(
        self,
        fid: int,
        valid: int,
        *,
        mode: int = 0,
        uid: int = NONUNAME,
        gid: int = NONUNAME,
        size: int = 0,
        atime: tuple[int, int] = (0, 0),
        mtime: tuple[int, int] = (0, 0),
        exact: bool = False,
        expect: Expect = None,
    ) -> Pending[m.Rsetattr]:
        """Tsetattr; times are (seconds, nanoseconds). As in Linux, CTIME is added except for a size alone
        (truncate(2)), unless `exact`.
        """
        if not exact and valid not in (0, SETATTR_SIZE):
            valid |= SETATTR_CTIME
        return self.send_as(
            m.Tsetattr(self.tag(), fid, valid, mode, uid, gid, size, *atime, *mtime), m.Rsetattr, expect
        )

    # ---- link

    @operation
    def symlink(
        self, fid: int, name: bytes, symtgt: bytes, gid: int = 0, *, expect: Expect = None
    ) -> Pending[m.Rsymlink]:
        """Tsymlink."""
        return self.send_as(m.Tsymlink(self.tag(), fid, name, symtgt, gid), m.Rsymlink, expect)

    @operation
    def readlink(self, fid: int, *, expect: Expect = None) -> Pending[m.Rreadlink]:
        """Treadlink."""
        return self.send_as(m.Treadlink(self.tag(), fid), m.Rreadlink, expect)

    @operation
    def link_file(self, dfid: int, fid: int, name: bytes, *, expect: Expect = None) -> Pending[m.Rlink]:
        """Tlink (`link` is the transport)."""
        return self.send_as(m.Tlink(self.tag(), dfid, fid, name), m.Rlink, expect)

    # ---- node

    @operation
    def mknod(
        self, dfid: int, name: bytes, mode: int, major: int = 0, minor: int = 0, *, gid: int = 0, expect: Expect = None
    ) -> Pending[m.Rmknod]:
        """Tmknod."""
        return self.send_as(m.Tmknod(self.tag(), dfid, name, mode, major, minor, gid), m.Rmknod, expect)

    # ---- rename

    @operation
    def rename(self, fid: int, dfid: int, name: bytes, *, expect: Expect = None) -> Pending[m.Rrename]:
        """Trename."""
        return self.send_as(m.Trename(self.tag(), fid, dfid, name), m.Rrename, expect)

    @operation
    def renameat(
        self, olddirfid: int, oldname: bytes, newdirfid: int, newname: bytes, *, expect: Expect = None
    ) -> Pending[m.Rrenameat]:
        """Trenameat."""
        return self.send_as(m.Trenameat(self.tag(), olddirfid, oldname, newdirfid, newname), m.Rrenameat, expect)

    # ---- unlink

    @operation
    def unlinkat(self, dirfd: int, name: bytes, flags: int = 0, *, expect: Expect = None) -> Pending[m.Runlinkat]:
        """Tunlinkat."""
        return self.send_as(m.Tunlinkat(self.tag(), dirfd, name, flags), m.Runlinkat, expect)

    @operation
    def remove(self, fid: int, *, expect: Expect = None) -> Pending[m.Rremove]:
        """Tremove."""
        return self.send_as(m.Tremove(self.tag(), fid), m.Rremove, expect)

    # ---- xattr

    @operation
    def xattrwalk(self, fid: int, newfid: int, name: bytes = b"", *, expect: Expect = None) -> Pending[m.Rxattrwalk]:
        """Txattrwalk; an empty name asks for the list of names."""
        return self.send_as(m.Txattrwalk(self.tag(), fid, newfid, name), m.Rxattrwalk, expect)

    @operation
    def xattrcreate(
        self, fid: int, name: bytes, attr_size: int, flags: int = 0, *, expect: Expect = None
    ) -> Pending[m.Rxattrcreate]:
        """Txattrcreate."""
        return self.send_as(m.Txattrcreate(self.tag(), fid, name, attr_size, flags), m.Rxattrcreate, expect)

    # ---- lock

    @operation
    def lock(
        self,
        fid: int,
        locktype: int = LOCK_TYPE_WRLCK,
        start: int = 0,
        length: int = 0,
        *,
        flags: int = 0,
        proc_id: int = 1,
        client_id: bytes = CLIENT_ID,
        expect: Expect = None,
    ) -> Pending[m.Rlock]:
        """Tlock."""
        return self.send_as(
            m.Tlock(self.tag(), fid, locktype, flags, start, length, proc_id, client_id), m.Rlock, expect
        )

    @operation
    def getlock(
        self,
        fid: int,
        locktype: int = LOCK_TYPE_UNLCK,
        start: int = 0,
        length: int = 0,
        *,
        proc_id: int = 1,
        client_id: bytes = CLIENT_ID,
        expect: Expect = None,
    ) -> Pending[m.Rgetlock]:
        """Tgetlock; by default of type UNLCK, as Linux always sends it (v9fs_file_getlock)."""
        return self.send_as(
            m.Tgetlock(self.tag(), fid, locktype, start, length, proc_id, client_id), m.Rgetlock, expect
        )


__all__ = ["NONUNAME", "Client"]
