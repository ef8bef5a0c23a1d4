"""A deliberately wrong server: a directory served through FUSE, with one fault that shows only with time.

    python wrong_server.py --leak 1024 EXPORT MOUNTPOINT

`--leak BYTES`: every request leaks BYTES. `--flip BYTES`: one of every BYTES bytes read is wrong. `--lose-rename N`:
one of N renames succeeds and does nothing. `--slower SHARE`: every call takes SHARE longer with each iteration (the
server recognises an iteration by its fresh directory). Without a fault it must pass every judge.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import mfusepy

CALL = 0.0005
"""Seconds that each call of a slowing server takes at first."""
MARK = "assay9-soak-"
libc = ctypes.CDLL(None, use_errno=True)


def counted(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a request handler so that it counts the request first."""

    @functools.wraps(call)
    def handler(self: WrongServer, *args: Any) -> Any:
        self.arrived()
        return call(self, *args)

    return handler


class WrongServer(mfusepy.Operations):  # type: ignore[misc]
    """A pass-through file system. Single-threaded, so that its counts are exact."""

    def __init__(self, export: str, faults: argparse.Namespace) -> None:
        self.root, self.faults = export, faults
        self.leaked: list[bytearray] = []
        self.bytes_read = self.renames = self.iterations = 0

    use_ns = True

    def arrived(self) -> None:
        """Count a request; `counted` calls this."""
        if self.faults.leak:
            self.leaked.append(bytearray(b"x" * self.faults.leak))
        if self.faults.slower:
            time.sleep(CALL * (1 + self.faults.slower) ** self.iterations)

    def at(self, path: str) -> str:
        return self.root + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self.at(path))
        names = ("st_atime", "st_ctime", "st_mtime", "st_gid", "st_mode", "st_nlink", "st_size", "st_uid", "st_ino")
        return {name: getattr(found, name) for name in names}

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        found = [(e.name, {"st_ino": e.inode(), "st_mode": 0}, 0) for e in os.scandir(self.at(path))]
        return [(".", {"st_ino": 1, "st_mode": 0o40000}, 0), ("..", {"st_ino": 1, "st_mode": 0o40000}, 0), *found]

    def mkdir(self, path: str, mode: int) -> None:
        if path.startswith("/" + MARK) and "/" not in path[1:] and "probe" not in path:
            self.iterations += 1
        os.mkdir(self.at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self.at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self.at(path))

    def rename(self, old: str, new: str) -> None:
        self.renames += 1
        if self.faults.lose_rename and self.renames % self.faults.lose_rename == 0:
            return
        os.rename(self.at(old), self.at(new))

    def link(self, target: str, source: str) -> None:
        os.link(self.at(source), self.at(target))

    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, self.at(target))

    def readlink(self, path: str) -> str:
        return os.readlink(self.at(path))

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self.at(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self.at(path), flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        data = os.pread(fh, size, offset)
        before, self.bytes_read = self.bytes_read, self.bytes_read + len(data)
        if self.faults.flip and before // self.faults.flip != self.bytes_read // self.faults.flip:
            place = self.faults.flip - 1 - before % self.faults.flip
            data = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
        return data

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self.at(path) if fh is None else fh, length)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self.at(path), uid, gid)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        os.utime(self.at(path), ns=times or (time.time_ns(),) * 2, follow_symlinks=False)

    def statfs(self, path: str) -> dict[str, Any]:
        found = os.statvfs(self.at(path))
        names = "f_bavail f_bfree f_blocks f_bsize f_favail f_ffree f_files f_frsize f_namemax"
        return {name: getattr(found, name) for name in names.split()}


CALLS = (
    "getattr",
    "readdir",
    "mkdir",
    "rmdir",
    "unlink",
    "rename",
    "link",
    "symlink",
    "readlink",
    "create",
    "open",
    "read",
    "write",
    "truncate",
    "fsync",
    "release",
    "chmod",
    "chown",
    "utimens",
    "statfs",
)
for name in CALLS:
    setattr(WrongServer, name, counted(getattr(WrongServer, name)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leak", type=int, default=0)
    parser.add_argument("--flip", type=int, default=0)
    parser.add_argument("--lose-rename", type=int, default=0)
    parser.add_argument("--slower", type=float, default=0.0)
    parser.add_argument("export")
    parser.add_argument("mountpoint")
    faults = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    libc.umask(0)
    sys.setswitchinterval(0.001)
    # nothing is cached: the kernel sends every request every time
    server = WrongServer(os.path.realpath(faults.export), faults)
    mfusepy.FUSE(
        server,
        faults.mountpoint,
        foreground=True,
        nothreads=True,
        attr_timeout=0,
        entry_timeout=0,
        negative_timeout=0,
        direct_io=True,
        use_ino=True,
        allow_other=True,
        default_permissions=True,
        fsname="wrong",
    )


if __name__ == "__main__":
    main()
