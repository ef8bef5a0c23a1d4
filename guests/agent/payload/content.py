"""Ops that make, read and hash whole contents."""

from __future__ import annotations

import hashlib
import os

from guests.agent.payload.declare import op
from guests.agent.payload.values import PathName


@op(changes=("path",))
def create(path: PathName, data: bytes = b"", mode: int = 0o666) -> None:
    """open(O_CREAT|O_EXCL|O_WRONLY), write, close."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


@op(changes=("path",))
def overwrite(path: PathName, data: bytes) -> None:
    """open(O_WRONLY|O_TRUNC), write, close."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@op()
def slurp(path: PathName, limit: int = 1 << 20) -> bytes:
    """The file's content, at most `limit` bytes."""
    with open(path, "rb") as f:
        return f.read(limit)


def pattern(length: int, seed: int) -> bytes:
    """Bytes that differ at every position and for every seed: misplaced blocks show."""
    block = b"".join(hashlib.sha256(b"%d:%d" % (seed, i)).digest() for i in range(128))
    return (block * (length // len(block) + 1))[:length]


@op(changes=("fd",))
def write_pattern(fd: int, length: int, seed: int = 0, offset: int | None = None, chunk: int = 1 << 20) -> int:
    """Write `length` bytes of the pattern of `seed`; returns the bytes written."""
    data, done = memoryview(pattern(length, seed)), 0
    while done < length:
        part = data[done : done + chunk]
        done += os.write(fd, part) if offset is None else os.pwrite(fd, part, offset + done)
    return done


@op()
def hash_file(path: PathName) -> tuple[int, str]:
    """[size, sha256 of the content], read through its own descriptor."""
    with open(path, "rb") as f:
        return hash_fd(f.fileno())


@op()
def hash_fd(fd: int, length: int = 1 << 62, offset: int = 0) -> tuple[int, str]:
    """[bytes read, sha256] from offset, by pread, until `length` or end of file."""
    digest, done = hashlib.sha256(), 0
    while done < length:
        part = os.pread(fd, min(1 << 20, length - done), offset + done)
        if not part:
            break
        digest.update(part)
        done += len(part)
    return done, digest.hexdigest()


@op()
def hash_pattern(length: int, seed: int = 0) -> tuple[int, str]:
    return length, hashlib.sha256(pattern(length, seed)).hexdigest()


@op()
def pattern_bytes(length: int, seed: int = 0) -> bytes:
    return pattern(length, seed)


@op()
def read_counts(fd: int, counts: list[int]) -> list[tuple[int, str]]:
    """[bytes read, sha256] of one pread at 0 for each of `counts`."""
    return [read_in_one(fd, count, 0) for count in counts]


@op()
def read_in_one(fd: int, count: int, offset: int) -> tuple[int, str]:
    """[bytes read, sha256] of a single pread."""
    data = os.pread(fd, count, offset)
    return len(data), hashlib.sha256(data).hexdigest()


@op()
def read_text(path: PathName) -> str:
    """A file of /proc or /sys, as text."""
    with open(path, errors="replace") as f:
        return f.read()


@op()
def write_text(path: PathName, text: str) -> None:
    with open(path, "w") as f:
        f.write(text)
