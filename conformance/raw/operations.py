"""One method per T-message, named by operation, and the send-only form of each.

Rule of this module: a method builds the message, nothing more; what a caller leaves out is what Linux sends
(`tests/wire/test_linux_defaults.py` compares it with recorded traffic). Linux adds bits of its own to the flags of
Tlcreate, the mode of Tmkdir and the valid bits of Tsetattr; so do the methods here, unless they are called with
`exact=True` by a case about what Linux does not send. Each `NAME(..., expect=)` waits and judges (see
`conformance.raw.client.Pending.result`); each `send_NAME(...)` returns at once with what is in flight.
"""

from __future__ import annotations

import stat

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

    def send_auth(self, afid: int, uname: bytes = UNAME, aname: bytes = b"", n_uname: int = 0) -> Pending[m.Rauth]:
        """Send Tauth."""
        return self.send_as(m.Tauth(self.tag(), afid, uname, aname, n_uname), m.Rauth)

    def auth(
        self,
        afid: int,
        uname: bytes = UNAME,
        aname: bytes = b"",
        n_uname: int = 0,
        *,
        expect: Expect = None,
    ) -> m.Rauth:
        """Tauth."""
        return self.send_auth(afid, uname, aname, n_uname).result(expect)

    def send_attach(
        self, fid: int, aname: bytes = b"", uname: bytes = UNAME, n_uname: int = 0, afid: int = NOFID
    ) -> Pending[m.Rattach]:
        """Send Tattach."""
        return self.send_as(m.Tattach(self.tag(), fid, afid, uname, aname, n_uname), m.Rattach)

    def attach(
        self,
        fid: int,
        aname: bytes = b"",
        uname: bytes = UNAME,
        n_uname: int = 0,
        afid: int = NOFID,
        *,
        expect: Expect = None,
    ) -> m.Rattach:
        """Tattach."""
        return self.send_attach(fid, aname, uname, n_uname, afid).result(expect)

    def send_flush(self, oldtag: int) -> Pending[m.Rflush]:
        """Send Tflush."""
        return self.send_as(m.Tflush(self.tag(), oldtag), m.Rflush)

    def flush(self, oldtag: int, *, expect: Expect = None) -> m.Rflush:
        """Tflush."""
        return self.send_flush(oldtag).result(expect)

    # ---- walk

    def send_walk(self, fid: int, newfid: int, *wnames: bytes) -> Pending[m.Rwalk]:
        """Send Twalk."""
        return self.send_as(m.Twalk(self.tag(), fid, newfid, wnames), m.Rwalk)

    def walk(self, fid: int, newfid: int, *wnames: bytes, expect: Expect = None) -> m.Rwalk:
        """Twalk."""
        return self.send_walk(fid, newfid, *wnames).result(expect)

    def send_clunk(self, fid: int) -> Pending[m.Rclunk]:
        """Send Tclunk."""
        return self.send_as(m.Tclunk(self.tag(), fid), m.Rclunk)

    def clunk(self, fid: int, *, expect: Expect = None) -> m.Rclunk:
        """Tclunk."""
        return self.send_clunk(fid).result(expect)

    # ---- open

    def send_lopen(self, fid: int, flags: int = O_RDONLY) -> Pending[m.Rlopen]:
        """Send Tlopen."""
        return self.send_as(m.Tlopen(self.tag(), fid, flags), m.Rlopen)

    def lopen(self, fid: int, flags: int = O_RDONLY, *, expect: Expect = None) -> m.Rlopen:
        """Tlopen."""
        return self.send_lopen(fid, flags).result(expect)

    def send_lcreate(
        self, fid: int, name: bytes, flags: int = O_RDWR, mode: int = 0o644, gid: int = 0, *, exact: bool = False
    ) -> Pending[m.Rlcreate]:
        """Send Tlcreate, with CREAT and LARGEFILE among its flags unless they are meant exactly."""
        flags = flags if exact else flags | CREATING
        return self.send_as(m.Tlcreate(self.tag(), fid, name, flags, mode, gid), m.Rlcreate)

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
    ) -> m.Rlcreate:
        """Tlcreate, with CREAT and LARGEFILE among its flags unless they are meant exactly."""
        return self.send_lcreate(fid, name, flags, mode, gid, exact=exact).result(expect)

    # ---- io

    def send_read(self, fid: int, offset: int = 0, count: int = 4096) -> Pending[m.Rread]:
        """Send Tread."""
        return self.send_as(m.Tread(self.tag(), fid, offset, count), m.Rread)

    def read(self, fid: int, offset: int = 0, count: int = 4096, *, expect: Expect = None) -> m.Rread:
        """Tread."""
        return self.send_read(fid, offset, count).result(expect)

    def send_write(self, fid: int, offset: int, data: Buffer) -> Pending[m.Rwrite]:
        """Send Twrite."""
        return self.send_as(m.Twrite(self.tag(), fid, offset, data), m.Rwrite)

    def write(self, fid: int, offset: int, data: Buffer, *, expect: Expect = None) -> m.Rwrite:
        """Twrite."""
        return self.send_write(fid, offset, data).result(expect)

    def send_fsync(self, fid: int, datasync: int = 0) -> Pending[m.Rfsync]:
        """Send Tfsync."""
        return self.send_as(m.Tfsync(self.tag(), fid, datasync), m.Rfsync)

    def fsync(self, fid: int, datasync: int = 0, *, expect: Expect = None) -> m.Rfsync:
        """Tfsync."""
        return self.send_fsync(fid, datasync).result(expect)

    # ---- directory

    def send_readdir(self, fid: int, offset: int = 0, count: int | None = None) -> Pending[m.Rreaddir]:
        """Send Treaddir; without a count for as much as msize has room for."""
        count = self.msize - READDIR_HEADER if count is None else count
        return self.send_as(m.Treaddir(self.tag(), fid, offset, count), m.Rreaddir)

    def readdir(self, fid: int, offset: int = 0, count: int | None = None, *, expect: Expect = None) -> m.Rreaddir:
        """Treaddir; without a count for as much as msize has room for."""
        return self.send_readdir(fid, offset, count).result(expect)

    def send_mkdir(
        self, dfid: int, name: bytes, mode: int = 0o755, gid: int = 0, *, exact: bool = False
    ) -> Pending[m.Rmkdir]:
        """Send Tmkdir, with S_IFDIR in its mode unless that is meant exactly."""
        mode = mode if exact else mode | stat.S_IFDIR
        return self.send_as(m.Tmkdir(self.tag(), dfid, name, mode, gid), m.Rmkdir)

    def mkdir(
        self,
        dfid: int,
        name: bytes,
        mode: int = 0o755,
        gid: int = 0,
        *,
        exact: bool = False,
        expect: Expect = None,
    ) -> m.Rmkdir:
        """Tmkdir, with S_IFDIR in its mode unless that is meant exactly."""
        return self.send_mkdir(dfid, name, mode, gid, exact=exact).result(expect)

    # ---- attributes

    def send_statfs(self, fid: int) -> Pending[m.Rstatfs]:
        """Send Tstatfs."""
        return self.send_as(m.Tstatfs(self.tag(), fid), m.Rstatfs)

    def statfs(self, fid: int, *, expect: Expect = None) -> m.Rstatfs:
        """Tstatfs."""
        return self.send_statfs(fid).result(expect)

    def send_getattr(self, fid: int, request_mask: int = GETATTR_ALL) -> Pending[m.Rgetattr]:
        """Send Tgetattr."""
        return self.send_as(m.Tgetattr(self.tag(), fid, request_mask), m.Rgetattr)

    def getattr(self, fid: int, request_mask: int = GETATTR_ALL, *, expect: Expect = None) -> m.Rgetattr:
        """Tgetattr."""
        return self.send_getattr(fid, request_mask).result(expect)

    def send_setattr(
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
    ) -> Pending[m.Rsetattr]:
        """Send Tsetattr; times are (seconds, nanoseconds). As Linux does, CTIME is set beside all but a size alone
        (truncate(2)), unless the valid bits are meant exactly."""
        if not exact and valid not in (0, SETATTR_SIZE):
            valid |= SETATTR_CTIME
        return self.send_as(m.Tsetattr(self.tag(), fid, valid, mode, uid, gid, size, *atime, *mtime), m.Rsetattr)

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
    ) -> m.Rsetattr:
        """Tsetattr; see `send_setattr`."""
        sent = self.send_setattr(
            fid, valid, mode=mode, uid=uid, gid=gid, size=size, atime=atime, mtime=mtime, exact=exact
        )
        return sent.result(expect)

    # ---- link

    def send_symlink(self, fid: int, name: bytes, symtgt: bytes, gid: int = 0) -> Pending[m.Rsymlink]:
        """Send Tsymlink."""
        return self.send_as(m.Tsymlink(self.tag(), fid, name, symtgt, gid), m.Rsymlink)

    def symlink(self, fid: int, name: bytes, symtgt: bytes, gid: int = 0, *, expect: Expect = None) -> m.Rsymlink:
        """Tsymlink."""
        return self.send_symlink(fid, name, symtgt, gid).result(expect)

    def send_readlink(self, fid: int) -> Pending[m.Rreadlink]:
        """Send Treadlink."""
        return self.send_as(m.Treadlink(self.tag(), fid), m.Rreadlink)

    def readlink(self, fid: int, *, expect: Expect = None) -> m.Rreadlink:
        """Treadlink."""
        return self.send_readlink(fid).result(expect)

    def send_link(self, dfid: int, fid: int, name: bytes) -> Pending[m.Rlink]:
        """Send Tlink."""
        return self.send_as(m.Tlink(self.tag(), dfid, fid, name), m.Rlink)

    def link_file(self, dfid: int, fid: int, name: bytes, *, expect: Expect = None) -> m.Rlink:
        """Tlink (`link` is the transport)."""
        return self.send_link(dfid, fid, name).result(expect)

    # ---- node

    def send_mknod(
        self, dfid: int, name: bytes, mode: int, major: int = 0, minor: int = 0, *, gid: int = 0
    ) -> Pending[m.Rmknod]:
        """Send Tmknod."""
        return self.send_as(m.Tmknod(self.tag(), dfid, name, mode, major, minor, gid), m.Rmknod)

    def mknod(
        self,
        dfid: int,
        name: bytes,
        mode: int,
        major: int = 0,
        minor: int = 0,
        *,
        gid: int = 0,
        expect: Expect = None,
    ) -> m.Rmknod:
        """Tmknod."""
        return self.send_mknod(dfid, name, mode, major, minor, gid=gid).result(expect)

    # ---- rename

    def send_rename(self, fid: int, dfid: int, name: bytes) -> Pending[m.Rrename]:
        """Send Trename."""
        return self.send_as(m.Trename(self.tag(), fid, dfid, name), m.Rrename)

    def rename(self, fid: int, dfid: int, name: bytes, *, expect: Expect = None) -> m.Rrename:
        """Trename."""
        return self.send_rename(fid, dfid, name).result(expect)

    def send_renameat(self, olddirfid: int, oldname: bytes, newdirfid: int, newname: bytes) -> Pending[m.Rrenameat]:
        """Send Trenameat."""
        return self.send_as(m.Trenameat(self.tag(), olddirfid, oldname, newdirfid, newname), m.Rrenameat)

    def renameat(
        self,
        olddirfid: int,
        oldname: bytes,
        newdirfid: int,
        newname: bytes,
        *,
        expect: Expect = None,
    ) -> m.Rrenameat:
        """Trenameat."""
        return self.send_renameat(olddirfid, oldname, newdirfid, newname).result(expect)

    # ---- unlink

    def send_unlinkat(self, dirfd: int, name: bytes, flags: int = 0) -> Pending[m.Runlinkat]:
        """Send Tunlinkat."""
        return self.send_as(m.Tunlinkat(self.tag(), dirfd, name, flags), m.Runlinkat)

    def unlinkat(self, dirfd: int, name: bytes, flags: int = 0, *, expect: Expect = None) -> m.Runlinkat:
        """Tunlinkat."""
        return self.send_unlinkat(dirfd, name, flags).result(expect)

    def send_remove(self, fid: int) -> Pending[m.Rremove]:
        """Send Tremove."""
        return self.send_as(m.Tremove(self.tag(), fid), m.Rremove)

    def remove(self, fid: int, *, expect: Expect = None) -> m.Rremove:
        """Tremove."""
        return self.send_remove(fid).result(expect)

    # ---- xattr

    def send_xattrwalk(self, fid: int, newfid: int, name: bytes = b"") -> Pending[m.Rxattrwalk]:
        """Send Txattrwalk."""
        return self.send_as(m.Txattrwalk(self.tag(), fid, newfid, name), m.Rxattrwalk)

    def xattrwalk(self, fid: int, newfid: int, name: bytes = b"", *, expect: Expect = None) -> m.Rxattrwalk:
        """Txattrwalk; an empty name asks for the list of names."""
        return self.send_xattrwalk(fid, newfid, name).result(expect)

    def send_xattrcreate(self, fid: int, name: bytes, attr_size: int, flags: int = 0) -> Pending[m.Rxattrcreate]:
        """Send Txattrcreate."""
        return self.send_as(m.Txattrcreate(self.tag(), fid, name, attr_size, flags), m.Rxattrcreate)

    def xattrcreate(
        self, fid: int, name: bytes, attr_size: int, flags: int = 0, *, expect: Expect = None
    ) -> m.Rxattrcreate:
        """Txattrcreate."""
        return self.send_xattrcreate(fid, name, attr_size, flags).result(expect)

    # ---- lock

    def send_lock(
        self,
        fid: int,
        locktype: int = LOCK_TYPE_WRLCK,
        start: int = 0,
        length: int = 0,
        *,
        flags: int = 0,
        proc_id: int = 1,
        client_id: bytes = CLIENT_ID,
    ) -> Pending[m.Rlock]:
        """Send Tlock."""
        return self.send_as(m.Tlock(self.tag(), fid, locktype, flags, start, length, proc_id, client_id), m.Rlock)

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
    ) -> m.Rlock:
        """Tlock."""
        sent = self.send_lock(fid, locktype, start, length, flags=flags, proc_id=proc_id, client_id=client_id)
        return sent.result(expect)

    def send_getlock(
        self,
        fid: int,
        locktype: int = LOCK_TYPE_UNLCK,
        start: int = 0,
        length: int = 0,
        *,
        proc_id: int = 1,
        client_id: bytes = CLIENT_ID,
    ) -> Pending[m.Rgetlock]:
        """Send Tgetlock; without a type of UNLCK, as Linux does whatever it was asked (v9fs_file_getlock)."""
        return self.send_as(m.Tgetlock(self.tag(), fid, locktype, start, length, proc_id, client_id), m.Rgetlock)

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
    ) -> m.Rgetlock:
        """Tgetlock; see `send_getlock`."""
        sent = self.send_getlock(fid, locktype, start, length, proc_id=proc_id, client_id=client_id)
        return sent.result(expect)


__all__ = ["NONUNAME", "Client"]
