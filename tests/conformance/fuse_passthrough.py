"""A FUSE file system that shows another directory, and lies about one field of its regular files.

Run as a process of its own, as root: `fuse_passthrough.py SOURCE MOUNTPOINT [FIELD=+N | FIELD=^N]`, FIELD one of
st_size, st_mode, st_mtime_ns, ... It implements the kernel's protocol (include/uapi/linux/fuse.h) itself, so the test
needs no library. It serves one request at a time, caches nothing, and imports no module of the project.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Callable

ROOT_ID = 1
MINOR = 31
FOPEN_DIRECT_IO = 1
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME, SET_ATIME_NOW, SET_MTIME_NOW = 1, 2, 4, 8, 16, 32, 128, 256
(
    LOOKUP,
    FORGET,
    GETATTR,
    SETATTR,
    READLINK,
    SYMLINK,
    MKDIR,
    UNLINK,
    RMDIR,
    RENAME,
    LINK,
    OPEN,
    READ,
    WRITE,
    STATFS,
    RELEASE,
    FSYNC,
    FLUSH,
    INIT,
    OPENDIR,
    READDIR,
    RELEASEDIR,
    CREATE,
    INTERRUPT,
    DESTROY,
    BATCH_FORGET,
    RENAME2,
) = (1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 25, 26, 27, 28, 29, 35, 36, 38, 42, 45)
NO_REPLY = (FORGET, BATCH_FORGET, INTERRUPT)

Fault = Callable[[dict[str, int]], None]


def fault_of(spec: str) -> Fault:
    """`st_size=+1` adds, `st_mode=^2` flips bits; an empty text changes nothing."""
    name, _, change = spec.partition("=")

    def lie(attributes: dict[str, int]) -> None:
        if name and stat.S_ISREG(attributes["st_mode"]):
            by = int(change[1:])
            attributes[name] = attributes[name] + by if change[0] == "+" else attributes[name] ^ by

    return lie


class Passthrough:
    """Answers one request after another; a node is known by its inode number on the source."""

    def __init__(self, source: bytes, fault: Fault) -> None:
        self.paths, self.fault = {ROOT_ID: source}, fault
        self.handlers: dict[int, Callable[[int, bytes, tuple[int, int]], bytes]] = {
            LOOKUP: lambda node, body, who: self.entry(node, body[:-1]),
            GETATTR: lambda node, body, who: self.attr(node),
            SETATTR: lambda node, body, who: self.setattr(node, body),
            READLINK: lambda node, body, who: os.readlink(self.paths[node]),
            SYMLINK: self.symlink,
            MKDIR: self.mkdir,
            UNLINK: lambda node, body, who: self.nothing(os.unlink, self.child(node, body[:-1])),
            RMDIR: lambda node, body, who: self.nothing(os.rmdir, self.child(node, body[:-1])),
            RENAME: lambda node, body, who: self.rename(node, body, 8),
            RENAME2: lambda node, body, who: self.rename(node, body, 16),
            LINK: self.link,
            OPEN: lambda node, body, who: self.open(node, body),
            READ: lambda node, body, who: self.read(body),
            WRITE: lambda node, body, who: self.write(body),
            STATFS: lambda node, body, who: self.statfs(node),
            RELEASE: lambda node, body, who: self.nothing(os.close, struct.unpack_from("<Q", body)[0]),
            FSYNC: lambda node, body, who: self.nothing(os.fsync, struct.unpack_from("<Q", body)[0]),
            FLUSH: lambda node, body, who: b"",
            INIT: lambda node, body, who: struct.pack(
                "<IIIIHHIIHHI28x", 7, MINOR, struct.unpack_from("<4I", body)[2], 0, 16, 12, 65536, 1, 0, 0, 0
            ),
            OPENDIR: lambda node, body, who: struct.pack("<QII", node, 0, 0),
            READDIR: lambda node, body, who: self.readdir(node, body),
            RELEASEDIR: lambda node, body, who: b"",
            CREATE: self.create,
            DESTROY: lambda node, body, who: b"",
        }

    def answer(self, request: bytes) -> bytes | None:
        """The reply to one request; None for a request that has no reply."""
        _length, op, unique, node, uid, gid, _pid = struct.unpack_from("<IIQQIII", request)
        if op in NO_REPLY:
            return None
        error, body = 0, b""
        try:
            handler = self.handlers.get(op)
            if handler is None:
                raise OSError(errno.ENOSYS, "not served")
            body = handler(node, request[40:], (uid, gid))
        except OSError as e:
            error = -(e.errno or errno.EIO)
        return struct.pack("<IiQ", 16 + len(body), error, unique) + body

    def child(self, node: int, name: bytes) -> bytes:
        return os.path.join(self.paths[node], name)

    def nothing(self, call: Callable[..., object], *arguments: object) -> bytes:
        """Make a call that has an empty reply."""
        call(*arguments)
        return b""

    def attributes(self, path: bytes) -> bytes:
        """struct fuse_attr, with the lie in it."""
        s = os.lstat(path)
        a: dict[str, int] = {name: getattr(s, name) for name in dir(s) if name.startswith("st_")}
        self.fault(a)
        (atime, ans), (mtime, mns), (ctime, cns) = (divmod(a[f"st_{n}time_ns"], 10**9) for n in "amc")
        return struct.pack(
            "<QQQqqqIIIIIIIIII",
            a["st_ino"],
            a["st_size"],
            a["st_blocks"],
            atime,
            mtime,
            ctime,
            ans,
            mns,
            cns,
            a["st_mode"],
            a["st_nlink"],
            a["st_uid"],
            a["st_gid"],
            a["st_rdev"],
            a["st_blksize"],
            0,
        )

    def entry(self, node: int, name: bytes) -> bytes:
        """struct fuse_entry_out with a validity of zero, so that the kernel always asks again."""
        path = self.child(node, name)
        attributes = self.attributes(path)
        inode = os.lstat(path).st_ino
        self.paths[inode] = path
        return struct.pack("<QQQQII", inode, 0, 0, 0, 0, 0) + attributes

    def attr(self, node: int) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self.attributes(self.paths[node])

    def setattr(self, node: int, body: bytes) -> bytes:
        (valid, _, _fh, size, _owner, atime, mtime, _ctime, ans, mns, _cns, mode, _, uid, gid, _) = struct.unpack_from(
            "<IIQQQqqqIIIIIIII", body
        )
        path = self.paths[node]
        if valid & SET_MODE:
            os.chmod(path, stat.S_IMODE(mode))
        if valid & (SET_UID | SET_GID):
            os.lchown(path, uid if valid & SET_UID else -1, gid if valid & SET_GID else -1)
        if valid & SET_SIZE:
            os.truncate(path, size)
        if valid & (SET_ATIME | SET_MTIME):
            now = os.stat(path)
            times = (
                atime * 10**9 + ans if valid & SET_ATIME else now.st_atime_ns,
                mtime * 10**9 + mns if valid & SET_MTIME else now.st_mtime_ns,
            )
            os.utime(path, ns=times, follow_symlinks=False)
        return self.attr(node)

    def owned(self, path: bytes, who: tuple[int, int]) -> None:
        os.lchown(path, *who)

    def symlink(self, node: int, body: bytes, who: tuple[int, int]) -> bytes:
        name, target = body[:-1].split(b"\0")
        os.symlink(target, self.child(node, name))
        self.owned(self.child(node, name), who)
        return self.entry(node, name)

    def mkdir(self, node: int, body: bytes, who: tuple[int, int]) -> bytes:
        mode, umask = struct.unpack_from("<II", body)
        path = self.child(node, body[8:-1])
        os.mkdir(path)
        os.chmod(path, mode & ~umask)
        self.owned(path, who)
        return self.entry(node, body[8:-1])

    def link(self, node: int, body: bytes, who: tuple[int, int]) -> bytes:
        os.link(self.paths[struct.unpack_from("<Q", body)[0]], self.child(node, body[8:-1]))
        return self.entry(node, body[8:-1])

    def rename(self, node: int, body: bytes, header: int) -> bytes:
        old, new = body[header:-1].split(b"\0")
        source, target = self.child(node, old), self.child(struct.unpack_from("<Q", body)[0], new)
        os.rename(source, target)
        self.paths[os.lstat(target).st_ino] = target
        return b""

    def open(self, node: int, body: bytes) -> bytes:
        flags = struct.unpack_from("<I", body)[0]
        return struct.pack("<QII", os.open(self.paths[node], flags & ~os.O_NOFOLLOW), FOPEN_DIRECT_IO, 0)

    def create(self, node: int, body: bytes, who: tuple[int, int]) -> bytes:
        flags, mode, umask, _ = struct.unpack_from("<IIII", body)
        path = self.child(node, body[16:-1])
        fd = os.open(path, flags | os.O_CREAT, 0o600)
        os.chmod(path, stat.S_IMODE(mode) & ~umask)
        self.owned(path, who)
        return self.entry(node, body[16:-1]) + struct.pack("<QII", fd, FOPEN_DIRECT_IO, 0)

    def read(self, body: bytes) -> bytes:
        fd, offset, size = struct.unpack_from("<QQI", body)
        return os.pread(fd, size, offset)

    def write(self, body: bytes) -> bytes:
        fd, offset, size = struct.unpack_from("<QQI", body)
        return struct.pack("<II", os.pwrite(fd, body[40 : 40 + size], offset), 0)

    def statfs(self, node: int) -> bytes:
        s = os.statvfs(self.paths[node])
        return struct.pack(
            "<QQQQQIIII24x",
            s.f_blocks,
            s.f_bfree,
            s.f_bavail,
            s.f_files,
            s.f_ffree,
            s.f_bsize,
            s.f_namemax,
            s.f_frsize,
            0,
        )

    def readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        names = [b".", b"..", *sorted(os.listdir(self.paths[node]))]
        out = b""
        for at, name in enumerate(names[offset:], offset + 1):
            inode = os.lstat(self.child(node, name)).st_ino
            entry = struct.pack("<QQII", inode, at, len(name), 0) + name
            entry += b"\0" * (-len(entry) % 8)
            if len(out) + len(entry) > size:
                break
            out += entry
        return out


def main(source: str, mountpoint: str, spec: str = "") -> None:
    """Mount the file system and serve it until it is unmounted."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"assay9", mountpoint.encode(), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    print("mounted", flush=True)
    server = Passthrough(source.encode(), fault_of(spec))
    while True:
        try:
            reply = server.answer(os.read(device, 1 << 20))
            if reply is not None:
                os.write(device, reply)
        except OSError as e:
            if e.errno == errno.ENODEV:  # unmounted
                return
            if e.errno != errno.ENOENT:  # the request was interrupted
                raise


if __name__ == "__main__":
    main(*sys.argv[1:])
