"""Ops that list, fill and remove directories."""

from __future__ import annotations

import ctypes
import os
import stat
import struct

from guests.agent.payload.declare import op
from guests.agent.payload.looking import identity
from guests.agent.payload.machine import check, libc, syscall
from guests.agent.payload.platforms import HERE_IS
from guests.agent.payload.values import PathName
from guests.agent.payload.wire import Errno

DIRS: dict[int, ctypes.c_void_p] = {}


@op()
def listdir(path: PathName) -> list[str]:
    return sorted(os.fsdecode(n) for n in os.listdir(path))


@op()
def scandir(path: PathName) -> list[tuple[str, int, int]]:
    """(name, inode, file type bits of lstat) of each, sorted by name, "." and ".." left out."""
    return [(name, inode, kind) for name, inode, kind, _ in entries(path)]


@op()
def entries(path: PathName) -> list[tuple[str, int, int, int]]:
    """Like scandir, with st_dev at the end: (name, inode, type, device)."""
    found = []
    for name in os.listdir(os.fsencode(path)):
        mode, inode, device = identity(os.path.join(os.fsencode(path), name))
        found.append((os.fsdecode(name), inode, stat.S_IFMT(mode), device))
    return sorted(found)


@op(needs="getdents")
def getdents(fd: int, count: int = 32768) -> list[tuple[str, int, int, int]]:
    """One getdents64(2): (name, inode, d_off, d_type) as the kernel gives them, none at the end."""
    buffer = ctypes.create_string_buffer(count)
    got = syscall("getdents64", fd, buffer, count)
    found: list[tuple[str, int, int, int]] = []
    at, raw = 0, buffer.raw
    while at < got:
        inode, offset, length, kind = struct.unpack_from("=QqHB", raw, at)
        name = raw[at + 19 : at + length].split(b"\0", 1)[0]
        found.append((os.fsdecode(name), inode, offset, kind))
        at += length
    return found


@op(needs="getdents")
def readdir_all(path: PathName, count: int = 32768) -> list[tuple[str, int, int, int]]:
    """Every entry of a directory through getdents64, in the order given, "." and ".." included."""
    found: list[tuple[str, int, int, int]] = []
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            part = getdents(fd, count)
            if not part:
                return found
            found += part
    finally:
        os.close(fd)


@op()
def opendir(path: PathName) -> int:
    libc.opendir.restype = ctypes.c_void_p
    stream = libc.opendir(os.fsencode(path))
    if not stream:
        check(-1)
    DIRS[len(DIRS) + 1] = ctypes.c_void_p(stream)
    return len(DIRS)


@op()
def readdir(handle: int, count: int = 1) -> list[tuple[str, int]]:
    """Up to `count` further names of a stream opened by opendir, with telldir after each."""
    call = getattr(libc, "readdir64", libc.readdir)
    call.restype, libc.telldir.restype = ctypes.c_void_p, ctypes.c_long
    out = []
    for _ in range(count):
        entry = call(DIRS[handle])
        if not entry:
            break
        out.append((os.fsdecode(ctypes.string_at(entry + HERE_IS.dirent_name)), libc.telldir(DIRS[handle])))
    return out


@op()
def telldir(handle: int) -> int:
    libc.telldir.restype = ctypes.c_long
    return int(libc.telldir(DIRS[handle]))


@op()
def seekdir(handle: int, position: int) -> None:
    libc.seekdir(DIRS[handle], ctypes.c_long(position))


@op()
def rewinddir(handle: int) -> None:
    libc.rewinddir(DIRS[handle])


@op()
def closedir(handle: int) -> None:
    libc.closedir(DIRS.pop(handle))


@op(changes=("path",))
def fill_directory(path: PathName, count: int, prefix: str = "f", names_each: int = 1) -> None:
    """Create `count` names, prefix + number (six digits), for empty files with so many names each."""
    first = b""
    for i in range(count):
        name = os.path.join(path, b"%s%06d" % (os.fsencode(prefix), i))
        if i % names_each:
            os.link(first, name)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL, 0o644))
            first = name


@op()
def mkdir_down(fd: int, names: list[str]) -> tuple[list[int], Errno]:
    """mkdirat(2) and openat(2), each below the one before, until one fails: [descriptors, errno or 0]."""
    made = []
    try:
        for name in names:
            os.mkdir(os.fsencode(name), dir_fd=fd)
            fd = os.open(os.fsencode(name), os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            made.append(fd)
    except OSError as e:
        return made, Errno(e.errno or 0)
    return made, Errno(0)


@op(changes=("path",))
def rmtree(path: PathName) -> None:
    """Remove a tree without following symbolic links; a missing one is not an error."""
    remove_below(None, path)


def remove_below(parent: int | None, name: bytes) -> None:
    """Remove `name`, a tree or not, of directory descriptor `parent`: paths may be longer than PATH_MAX."""
    try:
        mode = identity(name, parent)[0]
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(name, dir_fd=parent)
        return
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        for entry in os.listdir(fd):
            remove_below(fd, os.fsencode(entry))
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


@op()
def chdir(path: PathName) -> None:
    os.chdir(path)


@op()
def getcwd() -> str:
    return os.fsdecode(os.getcwdb())
