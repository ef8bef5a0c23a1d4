"""Ops that look at attributes of files and file systems."""

from __future__ import annotations

import ctypes
import os
import struct

from guests.agent.payload.declare import op
from guests.agent.payload.machine import (
    AT_EMPTY_PATH,
    AT_SYMLINK_NOFOLLOW,
    NARROW,
    PATH_MAX,
    check,
    libc,
    syscall,
)
from guests.agent.payload.platforms import HERE_IS, LINUX, device, need
from guests.agent.payload.state import HERE, under_root
from guests.agent.payload.trace import trace_mark
from guests.agent.payload.values import Attributes, PathName
from guests.agent.payload.wire import Errno

STAT = (
    "mode",
    "ino",
    "dev",
    "nlink",
    "uid",
    "gid",
    "size",
    "blksize",
    "blocks",
    "rdev",
    "atime_ns",
    "mtime_ns",
    "ctime_ns",
)


def stat_dict(s: os.stat_result) -> Attributes:
    """The attributes that every platform has, with device numbers as in Linux."""
    seen = {"st_" + name: getattr(s, "st_" + name) for name in STAT}
    if HERE_IS is not LINUX:
        seen["st_dev"], seen["st_rdev"] = device(s.st_dev), device(s.st_rdev)
    return seen


def narrow_stat(path: bytes, dir_fd: int | None, flags: int) -> Attributes:
    """Like stat_dict, by statx(2), whose times have 64 bits everywhere."""
    s = statx(path, flags, 0x7FF, dir_fd)
    return {"st_" + name: s["stx_" + name] for name in STAT}


def identity(path: bytes, dir_fd: int | None = None) -> tuple[int, int, int]:
    """st_mode, st_ino and st_dev of lstat(2), without the times."""
    if NARROW:
        s = narrow_stat(path, dir_fd, AT_SYMLINK_NOFOLLOW)
        return s["st_mode"], s["st_ino"], s["st_dev"]
    found = os.lstat(path, dir_fd=dir_fd)
    return found.st_mode, found.st_ino, found.st_dev


@op()
def stat_(path: PathName, dir_fd: int | None = None) -> Attributes:
    if NARROW:
        return narrow_stat(path, dir_fd, 0)
    return stat_dict(os.stat(path, dir_fd=dir_fd))


@op()
def lstat(path: PathName, dir_fd: int | None = None) -> Attributes:
    if NARROW:
        return narrow_stat(path, dir_fd, AT_SYMLINK_NOFOLLOW)
    return stat_dict(os.stat(path, dir_fd=dir_fd, follow_symlinks=False))


@op()
def fstat(fd: int) -> Attributes:
    if NARROW:
        return narrow_stat(b"", fd, AT_EMPTY_PATH)
    return stat_dict(os.fstat(fd))


@op(needs="statx")
def statx(path: PathName, flags: int = AT_SYMLINK_NOFOLLOW, mask: int = 0xFFF, dir_fd: int | None = None) -> Attributes:
    """Every field of struct statx; times in nanoseconds; flags default to AT_SYMLINK_NOFOLLOW."""
    buffer = ctypes.create_string_buffer(256)
    at = HERE_IS.at_fdcwd if dir_fd is None else dir_fd
    syscall("statx", at, ctypes.c_char_p(os.fsencode(path)), flags, mask, buffer)
    head = struct.unpack_from("=IIQIIIHxxQQQQ", buffer.raw, 0)
    times = [struct.unpack_from("=qI", buffer.raw, 64 + 16 * i) for i in range(4)]
    devices = struct.unpack_from("=IIIIQ", buffer.raw, 128)
    names = (
        "stx_mask",
        "stx_blksize",
        "stx_attributes",
        "stx_nlink",
        "stx_uid",
        "stx_gid",
        "stx_mode",
        "stx_ino",
        "stx_size",
        "stx_blocks",
        "stx_attributes_mask",
    )
    out = dict(zip(names, head))
    for name, (seconds, nanoseconds) in zip(("atime", "btime", "ctime", "mtime"), times):
        out[f"stx_{name}_ns"] = seconds * 10**9 + nanoseconds
    out["stx_rdev"] = os.makedev(devices[0], devices[1])
    out["stx_dev"] = os.makedev(devices[2], devices[3])
    out["stx_mnt_id"] = devices[4]
    return out


@op()
def look(paths: list[str], kind: str = "lstat", mark: bool = False) -> list[Attributes | Errno]:
    """lstat or statx of each path for a comparison: a dictionary, or the errno. Bracketed in the 9p trace."""
    if kind == "statx":
        need("statx")
    if mark:
        trace_mark("assay9 begin")
    out: list[Attributes | Errno] = []
    for path in paths:
        try:
            raw = under_root(path)
            if HERE.root_fd is not None and kind == "lstat" and not path.startswith("/") and len(raw) < PATH_MAX:
                out.append(lstat(os.fsencode(path), dir_fd=HERE.root_fd))
            else:
                out.append(statx(raw) if kind == "statx" else lstat(raw))
        except OSError as e:
            out.append(Errno(e.errno or 0))
    if mark:
        trace_mark("assay9 end")
    return out


@op()
def statvfs(path: PathName | int) -> Attributes:
    s = os.statvfs(path)
    seen = {
        n: getattr(s, n)
        for n in (
            "f_bsize",
            "f_frsize",
            "f_blocks",
            "f_bfree",
            "f_bavail",
            "f_files",
            "f_ffree",
            "f_favail",
            "f_flag",
            "f_namemax",
            "f_fsid",
        )
    }
    if NARROW:  # where f_fsid holds the first half only
        whole = statfs(path)
        seen["f_fsid"] = (whole["fsid0"] & 0xFFFFFFFF) | (whole["fsid1"] & 0xFFFFFFFF) << 32
    return seen


@op()
def fstatvfs(fd: int) -> Attributes:
    return statvfs(fd)


@op(needs="statfs")
def statfs(path: PathName | int) -> Attributes:
    """The kernel's struct statfs: statvfs has no f_type."""
    buffer = ctypes.create_string_buffer(256)
    if isinstance(path, int):
        check(getattr(libc, "fstatfs64", libc.fstatfs)(path, buffer))
    else:
        check(getattr(libc, "statfs64", libc.statfs)(os.fsencode(path), buffer))
    values = struct.unpack_from("@llQQQQQiilll", buffer.raw)
    names = (
        "f_type",
        "f_bsize",
        "f_blocks",
        "f_bfree",
        "f_bavail",
        "f_files",
        "f_ffree",
        "fsid0",
        "fsid1",
        "f_namelen",
        "f_frsize",
        "f_flags",
    )
    return dict(zip(names, values))
