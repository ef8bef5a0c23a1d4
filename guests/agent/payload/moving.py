"""Ops that move data between descriptors inside the kernel."""

from __future__ import annotations

import ctypes
import os

from guests.agent.payload.declare import op
from guests.agent.payload.machine import check, libc


@op(changes=("dst",), needs="copy")
def copy_file_range(
    src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
) -> int:
    return os.copy_file_range(src, dst, count, offset_src, offset_dst)


@op(changes=("dst",), needs="copy-flags")
def copy_file_range_flags(src: int, dst: int, count: int, flags: int) -> int:
    """copy_file_range(2) with its flags argument, from and to the current offsets."""
    call = libc.copy_file_range
    call.restype = ctypes.c_ssize_t
    return check(call(src, None, dst, None, ctypes.c_size_t(count), ctypes.c_uint(flags)))


@op(changes=("out",), needs="sendfile")
def sendfile(out: int, source: int, offset: int | None, count: int) -> int:
    return os.sendfile(out, source, offset, count)


@op(changes=("dst",), needs="splice")
def splice_through_pipe(src: int, dst: int, count: int) -> int:
    """splice(2) from src into a pipe and from the pipe into dst; returns the bytes moved."""
    r, w = os.pipe()
    try:
        moved = check(libc.splice(src, None, w, None, ctypes.c_size_t(count), 0))
        return check(libc.splice(r, None, dst, None, ctypes.c_size_t(moved), 0)) if moved else 0
    finally:
        os.close(r)
        os.close(w)


@op()
def pipe() -> tuple[int, int]:
    """A pipe of this worker: [read end, write end]."""
    r, w = os.pipe()
    return r, w


@op(changes=("dst",), needs="splice")
def splice(
    src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None, flags: int = 0
) -> int:
    """splice(2); one side must be a pipe."""
    offsets = [None if o is None else ctypes.byref(ctypes.c_longlong(o)) for o in (offset_src, offset_dst)]
    call = libc.splice
    call.restype = ctypes.c_ssize_t
    return check(call(src, offsets[0], dst, offsets[1], ctypes.c_size_t(count), ctypes.c_uint(flags)))
