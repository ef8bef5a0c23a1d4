"""Ops that make many calls in one request: for races, and where round trips would take too long."""

from __future__ import annotations

import os
import time
from typing import Any

from guests.agent.payload.declare import op, perform
from guests.agent.payload.files import close
from guests.agent.payload.values import PathName
from guests.agent.payload.wire import Errno


@op()
def repeat(count: int, name: str, *args: Any) -> Any:
    """The same op `count` times in one request; stops at the first error. Placeholders %d take the index."""
    last = None
    for i in range(count):
        last = perform(name, [a % i if isinstance(a, str) and "%d" in a else a for a in args], {})
    return last


@op()
def attempts(calls: list[tuple[str, list[Any]]]) -> list[Errno]:
    """The errno of each of several calls [op, args], 0 for success; opened descriptors are closed."""
    out = []
    for name, args in calls:
        try:
            value = perform(name, args, {})
            if name == "open":
                close(value)
            out.append(Errno(0))
        except OSError as e:
            out.append(Errno(e.errno or 0))
    return out


@op(changes=("path",))
def hold_many_open(path: PathName, count: int) -> list[int]:
    """Create and keep open `count` files named path + number, then read each: the numbers with wrong content."""
    fds, wrong = [], []
    try:
        for i in range(count):
            fds.append(os.open(path + b"%d" % i, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))
            os.write(fds[-1], b"content of %d" % i)
        for i, fd in enumerate(fds):
            if os.pread(fd, 100, 0) != b"content of %d" % i:
                wrong.append(i)
    finally:
        for fd in fds:
            os.close(fd)
    return wrong


@op()
def append_records(path: PathName, tag: str, count: int) -> None:
    """Open with O_APPEND and write `count` 32-byte records that begin with `tag`; for races."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        for i in range(count):
            os.write(fd, (b"%s %08d" % (os.fsencode(tag), i)).ljust(31, b".") + b"\n")
    finally:
        os.close(fd)


@op()
def try_create_exclusively(path: PathName, count: int, wait: float = 0.0, gone: bool = False) -> list[int]:
    """For names path + number: those that this process's O_CREAT|O_EXCL made; it waits after each.

    `gone`: ENOENT counts as made, and removed by another before the call returned.
    """
    won = []
    for i in range(count):
        try:
            os.close(os.open(path + b"%d" % i, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            won.append(i)
        except FileExistsError:
            pass
        except FileNotFoundError:
            if not gone:
                raise
            won.append(i)
        time.sleep(wait)
    return won


@op()
def rename_many(path: PathName, other: PathName, count: int) -> int:
    """Rename back and forth `count` times; ENOENT (the other process was first) is counted, not raised."""
    lost = 0
    for _ in range(count):
        for a, b in ((path, other), (other, path)):
            try:
                os.rename(a, b)
            except FileNotFoundError:
                lost += 1
    return lost


@op()
def replace_many(path: PathName, count: int, length: int) -> None:
    """Replace `path` by rename of a new file, `count` times; each holds one digit `length` times."""
    for i in range(count):
        with open(path + b".new", "wb") as f:
            f.write(b"%d" % (i % 10) * length)
        os.rename(path + b".new", path)


@op()
def read_many(path: PathName, count: int) -> list[tuple[str, int]]:
    """[the different bytes seen, as text, and the length] of each of `count` reads of the whole file."""
    out = []
    for _ in range(count):
        with open(path, "rb") as f:
            data = f.read()
        out.append(("".join(sorted(set(data.decode("latin-1")))), len(data)))
    return out


@op()
def try_unlink(path: PathName, count: int, wait: float = 0.0) -> list[int]:
    """For names path + number: those that this process removed, of 20 attempts each; it waits after a failure."""
    removed = []
    for i in range(count):
        for _ in range(20):
            try:
                os.unlink(path + b"%d" % i)
                removed.append(i)
                break
            except FileNotFoundError:
                time.sleep(wait)
    return removed


@op(changes=("path",))
def write_blocks(path: PathName, first: int, step: int, count: int, length: int) -> None:
    """Write `count` blocks numbered first, first + step, ... at their places; each holds one byte value."""
    fd = os.open(path, os.O_WRONLY)
    try:
        for i in range(first, first + step * count, step):
            os.pwrite(fd, bytes([33 + i % 90]) * length, i * length)
    finally:
        os.close(fd)
