"""File operations and their model: what the workload `integrity` does and expects.

An operation is a small JSON object that is valid in every state of the file, so any part of a sequence can be run
alone, as shrinking needs. Reads compare with the model at once.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
from typing import Any

from soak.inside.common import Finding

Operation = dict[str, Any]

PAGE = 4096
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE = 1, 2
"""include/uapi/linux/falloc.h"""
NOT_OFFERED = (errno.EOPNOTSUPP, errno.ENOSYS)
"""Errnos of a file system without an operation; it is counted then, not judged."""
NOT_MAPPABLE = (errno.ENODEV, errno.EINVAL)
"""Answers of mmap where the mount has no shared writable mappings (9p with cache=none)."""

WEIGHTS = {
    "write": 8,
    "read": 8,
    "read_second": 4,
    "read_map": 4,
    "write_map": 4,
    "truncate": 3,
    "truncate_path": 1,
    "punch": 3,
    "copy": 3,
    "write_direct": 3,
    "read_direct": 3,
    "append": 3,
    "reopen": 2,
    "sync": 2,
    "stat": 3,
    "vector": 2,
}
"""How often each is chosen."""

_libc = ctypes.CDLL(None, use_errno=True)


class Calls:
    """The calls on the file system, in one place: tests replace them by a faulty file system."""

    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    ftruncate = staticmethod(os.ftruncate)
    truncate = staticmethod(os.truncate)
    copy_file_range = staticmethod(os.copy_file_range)


class NotOffered(Exception):
    """The mount has no such operation."""


def content(seed: int, length: int) -> bytes:
    """Bytes that depend on the seed and do not repeat within a page."""
    return random.Random(seed).getrandbits(8 * length).to_bytes(length, "little") if length else b""


def place(rng: random.Random, size: int) -> int:
    """An offset below a size: often one at or near a page boundary, where errors are likely."""
    if rng.random() < 0.5:
        near = rng.randrange(size // PAGE + 1) * PAGE + rng.choice((-1, 0, 0, 0, 1))
        return min(max(near, 0), size - 1)
    return rng.randrange(size)


def generate(rng: random.Random, count: int, size: int, files: int) -> list[Operation]:
    """A sequence of operations on that many files of at most that size in bytes."""
    verbs, weights = list(WEIGHTS), list(WEIGHTS.values())
    out = []
    for _ in range(count):
        verb = rng.choices(verbs, weights)[0]
        at = place(rng, size)
        length = min(1 + rng.randrange(rng.choice((16, PAGE, 4 * PAGE, size))), size - at)
        op: Operation = {"verb": verb, "file": rng.randrange(files), "at": at, "length": length}
        if verb in ("write", "write_map", "write_direct", "append", "vector"):
            op["seed"] = rng.getrandbits(32)
        if verb in ("write_direct", "read_direct"):
            op["at"], op["length"] = at // PAGE * PAGE, max(length // PAGE, 1) * PAGE
        if verb == "copy":
            op["to"], op["into"] = place(rng, size), rng.randrange(files)
        out.append(op)
    return out


def difference(expected: bytes, seen: bytes, at: int) -> str:
    """Describe the difference of two pieces, with the first wrong byte's offset in the file."""
    if len(expected) != len(seen):
        return f"{len(seen)} bytes instead of {len(expected)} at {at}"
    wrong = [i for i in range(len(seen)) if expected[i] != seen[i]]
    first = wrong[0]
    return (
        f"{len(wrong)} bytes wrong of {len(seen)}, first at offset {at + first}, last at {at + wrong[-1]}: "
        f"{seen[first : first + 16].hex()} instead of {expected[first : first + 16].hex()}"
    )


class Exerciser:
    """Files in a directory, their models, and the operations on both."""

    def __init__(self, directory: str, files: int, size: int, calls: Calls | None = None) -> None:
        self.directory, self.size, self.calls = directory, size, calls or Calls()
        self.models = [bytearray() for _ in range(files)]
        self.not_offered: dict[str, int] = {}
        self.done = 0
        self._fds: list[int] = []
        self._seconds: list[int] = []
        for number in range(files):
            self._fds.append(os.open(self.path(number), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644))
            self._seconds.append(os.open(self.path(number), os.O_RDONLY))

    def path(self, number: int) -> str:
        return os.path.join(self.directory, f"file-{number}")

    def close(self) -> None:
        """Close all open files."""
        for fd in (*self._fds, *self._seconds):
            os.close(fd)
        self._fds, self._seconds = [], []

    def run(self, op: Operation) -> None:
        """One operation, with its check. Raises Finding; OSError if a call fails."""
        try:
            getattr(self, "do_" + op["verb"])(op, op["file"])
        except NotOffered:
            self.not_offered[op["verb"]] = self.not_offered.get(op["verb"], 0) + 1
        self.done += 1

    def finish(self) -> None:
        """Close, open again, and compare everything. Raises Finding."""
        self.close()
        for number, model in enumerate(self.models):
            with open(self.path(number), "rb") as f:
                self._compare("read after close", number, 0, bytes(model), f.read())

    def _compare(self, how: str, number: int, at: int, expected: bytes, seen: bytes) -> None:
        if expected != seen:
            raise Finding(f"{how}: file-{number} is not what was written", difference(expected, seen, at))

    def _put(self, number: int, at: int, data: bytes) -> None:
        model = self.models[number]
        if at > len(model):
            model.extend(bytes(at - len(model)))
        model[at : at + len(data)] = data

    def _write(self, fd: int, data: bytes, at: int) -> None:
        sent = 0
        while sent < len(data):
            took = self.calls.pwrite(fd, data[sent:], at + sent)
            if took <= 0:
                raise Finding(f"write took {took} of {len(data) - sent} bytes at {at + sent}")
            sent += took

    def _read(self, fd: int, length: int, at: int) -> bytes:
        out = b""
        while len(out) < length:
            part = self.calls.pread(fd, length - len(out), at + len(out))
            if not part:
                break
            out += part
        return out

    # ------------------------------------------------------------ the operations

    def do_write(self, op: Operation, number: int) -> None:
        data = content(op["seed"], op["length"])
        self._write(self._fds[number], data, op["at"])
        self._put(number, op["at"], data)

    def do_append(self, op: Operation, number: int) -> None:
        end = len(self.models[number])
        data = content(op["seed"], max(min(op["length"], self.size - end), 0))
        fd = os.open(self.path(number), os.O_WRONLY | os.O_APPEND)
        try:
            if data and os.write(fd, data) != len(data):
                raise Finding("a short write to a file opened with O_APPEND")
        finally:
            os.close(fd)
        self._put(number, end, data)

    def do_vector(self, op: Operation, number: int) -> None:
        data = content(op["seed"], op["length"])
        parts = [data[i : i + 1 + len(data) // 3] for i in range(0, len(data), 1 + len(data) // 3)]
        took = os.pwritev(self._fds[number], parts, op["at"])
        self._put(number, op["at"], data[:took])

    def do_read(self, op: Operation, number: int) -> None:
        self._read_and_compare("read", self._fds[number], op, number)

    def do_read_second(self, op: Operation, number: int) -> None:
        self._read_and_compare("read by a second descriptor", self._seconds[number], op, number)

    def _read_and_compare(self, how: str, fd: int, op: Operation, number: int) -> None:
        at, length = op["at"], op["length"]
        self._compare(how, number, at, bytes(self.models[number][at : at + length]), self._read(fd, length, at))

    def do_read_map(self, op: Operation, number: int) -> None:
        at, end = self._mapped(op, number)
        if end <= at:
            return
        base = at // PAGE * PAGE
        # a read-only descriptor: cache=none maps that, but nothing that might become writable
        with self._map(self._seconds[number], base, end, mmap.PROT_READ) as mapped:
            seen = mapped[at - base : end - base]
        self._compare("read by mmap", number, at, bytes(self.models[number][at:end]), seen)

    def do_write_map(self, op: Operation, number: int) -> None:
        at, end = self._mapped(op, number)
        if end <= at:
            return
        base = at // PAGE * PAGE
        data = content(op["seed"], end - at)
        with self._map(self._fds[number], base, end, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            mapped[at - base : end - base] = data
            mapped.flush()
        self._put(number, at, data)

    def _map(self, fd: int, base: int, end: int, protection: int) -> mmap.mmap:
        try:
            return mmap.mmap(fd, end - base, mmap.MAP_SHARED, protection, offset=base)
        except OSError as e:
            if e.errno in NOT_MAPPABLE:
                raise NotOffered from e
            raise

    def _mapped(self, op: Operation, number: int) -> tuple[int, int]:
        """The part of the operation's range within the file: beyond its end a mapping gives SIGBUS."""
        return op["at"], min(op["at"] + op["length"], len(self.models[number]))

    def do_truncate(self, op: Operation, number: int) -> None:
        self.calls.ftruncate(self._fds[number], op["at"])
        self._cut(number, op["at"])

    def do_truncate_path(self, op: Operation, number: int) -> None:
        self.calls.truncate(self.path(number), op["at"])
        self._cut(number, op["at"])

    def _cut(self, number: int, size: int) -> None:
        model = self.models[number]
        del model[size:]
        model.extend(bytes(size - len(model)))

    def do_punch(self, op: Operation, number: int) -> None:
        at, length = op["at"], op["length"]
        if _libc.fallocate(
            self._fds[number], FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, ctypes.c_longlong(at), ctypes.c_longlong(length)
        ):
            number_of = ctypes.get_errno()
            if number_of in NOT_OFFERED:
                raise NotOffered
            raise OSError(number_of, os.strerror(number_of), self.path(number))
        end = min(at + length, len(self.models[number]))
        if end > at:
            self.models[number][at:end] = bytes(end - at)

    def do_copy(self, op: Operation, number: int) -> None:
        into, at, to = op["into"], op["at"], op["to"]
        length = min(op["length"], self.size - to)
        if into == number and abs(at - to) < length:  # the call refuses overlapping ranges of one file
            length = abs(at - to)
        length = max(min(length, len(self.models[number]) - at), 0)
        done = 0
        while done < length:
            try:
                took = self.calls.copy_file_range(
                    self._fds[number], self._fds[into], length - done, at + done, to + done
                )
            except OSError as e:
                if e.errno in NOT_OFFERED and not done:
                    raise NotOffered from e
                raise
            if took == 0:
                raise Finding(f"copy_file_range copied {done} of {length} bytes of file-{number} at {at}")
            data = bytes(self.models[number][at + done : at + done + took])
            self._put(into, to + done, data)
            done += took

    def _open_direct(self, number: int, flags: int) -> int:
        try:
            return os.open(self.path(number), flags | os.O_DIRECT)
        except OSError as e:
            if e.errno == errno.EINVAL:
                raise NotOffered from e
            raise

    def do_write_direct(self, op: Operation, number: int) -> None:
        fd = self._open_direct(number, os.O_WRONLY)
        try:
            with mmap.mmap(-1, op["length"]) as buffer:  # memory of whole pages is aligned as O_DIRECT needs
                buffer[:] = content(op["seed"], op["length"])
                took = os.pwritev(fd, [buffer], op["at"])
                self._put(number, op["at"], buffer[:took])
        finally:
            os.close(fd)

    def do_read_direct(self, op: Operation, number: int) -> None:
        fd = self._open_direct(number, os.O_RDONLY)
        try:
            with mmap.mmap(-1, op["length"]) as buffer:
                took = os.preadv(fd, [buffer], op["at"])
                seen = buffer[:took]
        finally:
            os.close(fd)
        expected = bytes(self.models[number][op["at"] : op["at"] + op["length"]])
        if 0 < took < len(expected) and took % PAGE == 0:
            expected = expected[:took]  # a short read of whole blocks is allowed
        self._compare("read with O_DIRECT", number, op["at"], expected, seen)

    def do_reopen(self, op: Operation, number: int) -> None:
        os.close(self._fds[number])
        self._fds[number] = os.open(self.path(number), os.O_RDWR)
        os.close(self._seconds[number])
        self._seconds[number] = os.open(self.path(number), os.O_RDONLY)

    def do_sync(self, op: Operation, number: int) -> None:
        os.fsync(self._fds[number])

    def do_stat(self, op: Operation, number: int) -> None:
        for how, size in (("fstat", os.fstat(self._fds[number]).st_size), ("stat", os.stat(self.path(number)).st_size)):
            if size != len(self.models[number]):
                raise Finding(f"{how}: the wrong size", f"file-{number}: {size} instead of {len(self.models[number])}")
