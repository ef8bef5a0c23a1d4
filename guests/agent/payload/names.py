"""Ops that make, move and remove names."""

from __future__ import annotations

import ctypes
import os
import socket

from guests.agent.payload.declare import op
from guests.agent.payload.machine import check, libc, syscall
from guests.agent.payload.platforms import HERE_IS, at_flags, local_device
from guests.agent.payload.values import PathName


@op(changes=("path",))
def mkdir(path: PathName, mode: int = 0o777, dir_fd: int | None = None) -> None:
    os.mkdir(path, mode, dir_fd=dir_fd)


@op(changes=("path",))
def rmdir(path: PathName, dir_fd: int | None = None) -> None:
    os.rmdir(path, dir_fd=dir_fd)


@op(changes=("path",))
def unlink(path: PathName, dir_fd: int | None = None) -> None:
    os.unlink(path, dir_fd=dir_fd)


@op(changes=("path",))
def unlinkat(path: PathName, flags: int, dir_fd: int | None = None) -> None:
    at = HERE_IS.at_fdcwd if dir_fd is None else dir_fd
    check(libc.unlinkat(at, os.fsencode(path), at_flags(flags, "REMOVEDIR")))


@op(changes=("path", "other"))
def rename(path: PathName, other: PathName) -> None:
    os.rename(path, other)


@op(changes=("path", "other"), needs="renameat2")
def renameat2(path: PathName, other: PathName, flags: int = 0) -> None:
    syscall("renameat2", HERE_IS.at_fdcwd, ctypes.c_char_p(path), HERE_IS.at_fdcwd, ctypes.c_char_p(other), flags)


@op()
def renameat(source_fd: int, name: str | bytes, target_fd: int, other: str | bytes) -> None:
    """renameat(2) of names as they are, below two descriptors."""
    check(libc.renameat(source_fd, ctypes.c_char_p(os.fsencode(name)), target_fd, ctypes.c_char_p(os.fsencode(other))))


@op(changes=("path", "other"))
def link(path: PathName, other: PathName) -> None:
    os.link(path, other, follow_symlinks=False)


@op(changes=("other",))
def linkat(path: PathName, other: PathName, flags: int = 0, dir_fd: int | None = None) -> None:
    at = HERE_IS.at_fdcwd if dir_fd is None else dir_fd
    local = at_flags(flags, "SYMLINK_FOLLOW", "EMPTY_PATH")
    check(libc.linkat(at, os.fsencode(path), HERE_IS.at_fdcwd, os.fsencode(other), local))


@op(changes=("path",))
def symlink(target: str | bytes, path: PathName, dir_fd: int | None = None) -> None:
    os.symlink(os.fsencode(target), path, dir_fd=dir_fd)


@op()
def readlink(path: PathName, dir_fd: int | None = None) -> str:
    return os.fsdecode(os.readlink(path, dir_fd=dir_fd))


@op()
def readlink_size(path: PathName, size: int) -> bytes:
    """readlink(2) with a buffer of `size` bytes: what it wrote there."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    got = check(libc.readlink(os.fsencode(path), buffer, ctypes.c_size_t(size)))
    return buffer.raw[:got]


@op(changes=("path",))
def mknod(path: PathName, mode: int, device: int = 0, dir_fd: int | None = None) -> None:
    os.mknod(path, mode, local_device(device), dir_fd=dir_fd)


@op(changes=("path",))
def mkfifo(path: PathName, mode: int = 0o666, dir_fd: int | None = None) -> None:
    os.mkfifo(path, mode, dir_fd=dir_fd)


@op(changes=("path",))
def bind_socket(path: PathName) -> int:
    """Bind a listening AF_UNIX stream socket at path; returns its descriptor. sun_path holds 107 bytes."""
    s = socket.socket(socket.AF_UNIX)
    s.bind(os.fsencode(path))
    s.listen(1)
    return s.detach()


@op()
def connect_socket(path: PathName) -> int:
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.fsencode(path))
    return s.detach()


@op()
def accept(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as s:
        return s.accept()[0].detach()


BAD_ADDRESS = ctypes.c_void_p(1)


AT_BAD_ADDRESS = {
    "mkdir": (BAD_ADDRESS, 0o755),
    "rmdir": (BAD_ADDRESS,),
    "unlink": (BAD_ADDRESS,),
    "chmod": (BAD_ADDRESS, 0o600),
    "rename": (BAD_ADDRESS, BAD_ADDRESS),
    "link": (BAD_ADDRESS, BAD_ADDRESS),
    "symlink": (BAD_ADDRESS, BAD_ADDRESS),
    "mkfifo": (BAD_ADDRESS, 0o644),
    "open": (BAD_ADDRESS, os.O_RDONLY),
    "truncate": (BAD_ADDRESS, ctypes.c_long(0)),
    "chown": (BAD_ADDRESS, 0, 0),
    "access": (BAD_ADDRESS, 0),
    "chdir": (BAD_ADDRESS,),
    "readlink": (BAD_ADDRESS, BAD_ADDRESS, ctypes.c_size_t(9)),
}


@op()
def path_at_bad_address(name: str) -> None:
    """The call of that name with an unmapped path."""
    check(getattr(libc, name)(*AT_BAD_ADDRESS[name]))
