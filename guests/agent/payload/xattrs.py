"""Extended attributes."""

from __future__ import annotations

import ctypes
import os

from guests.agent.payload.declare import op
from guests.agent.payload.machine import check, libc
from guests.agent.payload.values import PathName


@op(changes=("path",), needs="xattr")
def setxattr(path: PathName, name: str | bytes, value: bytes, flags: int = 0, follow_symlinks: bool = True) -> None:
    os.setxattr(path, name, value, flags, follow_symlinks=follow_symlinks)


@op(needs="xattr")
def getxattr(path: PathName, name: str | bytes, follow_symlinks: bool = True) -> bytes:
    return os.getxattr(path, name, follow_symlinks=follow_symlinks)


@op(needs="xattr")
def listxattr(path: PathName, follow_symlinks: bool = True) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=follow_symlinks))


@op(changes=("path",), needs="xattr")
def removexattr(path: PathName, name: str | bytes, follow_symlinks: bool = True) -> None:
    os.removexattr(path, name, follow_symlinks=follow_symlinks)


@op(changes=("fd",), needs="xattr")
def fsetxattr(fd: int, name: str | bytes, value: bytes, flags: int = 0) -> None:
    os.setxattr(fd, name, value, flags)


@op(needs="xattr")
def fgetxattr(fd: int, name: str | bytes) -> bytes:
    return os.getxattr(fd, name)


@op(changes=("fd",), needs="xattr")
def fremovexattr(fd: int, name: str | bytes) -> None:
    os.removexattr(fd, name)


@op(needs="xattr")
def flistxattr(fd: int) -> list[str]:
    return sorted(os.listxattr(fd))


@op(needs="xattr")
def getxattr_size(path: PathName, name: str | bytes, size: int) -> int:
    """getxattr(2) with a buffer of `size` bytes: the length it returns."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    return check(libc.getxattr(os.fsencode(path), os.fsencode(name), buffer, ctypes.c_size_t(size)))


@op(needs="xattr")
def listxattr_size(path: PathName, size: int) -> int:
    """listxattr(2) with a buffer of `size` bytes: the length it returns."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    return check(libc.listxattr(os.fsencode(path), buffer, ctypes.c_size_t(size)))
