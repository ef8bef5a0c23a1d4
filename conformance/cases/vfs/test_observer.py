"""Several processes of one guest on one file or directory, in turns: one works, another observes or interferes.

What one process of a guest writes, another must see at once, and observing it may not lose a byte: one kernel has one
file, whatever the cache mode. The suite's own comparison would observe, too, so it waits until the writer has closed.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterable

import pytest

from conformance.case import WRITE_BACK, case
from conformance.checks import equal, fields
from conformance.vfs.calls import Starts
from conformance.vfs.pending import Pending
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from guests.agent.payload.values import Attributes
from protocol.messages import Tgetattr, Tlopen, Treaddir, Tsetattr, Twalk, Twrite

CHUNK, CHUNKS = 3000, 4
"""No whole pages, so that a chunk begins in the page in which the one before ends."""
MAP_SHARED, PROT_READ, PROT_WRITE = 1, 1, 2
Judge = Callable[[], object]
"""Waits for calls that were sent, and judges what they gave: the processes take their turns in one round trip."""


def chunk(number: int) -> bytes:
    """Content that differs from every other chunk's."""
    return bytes(33 + (number * 31 + at) % 90 for at in range(CHUNK))


WHOLE = b"".join(chunk(number) for number in range(CHUNKS))


class Writer:
    """A process that writes a file chunk by chunk; `seen` is what the file then holds."""

    def __init__(self, process: Vantage, path: str, way: str) -> None:
        self.process, self.way = process, way
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | (os.O_APPEND if way == "append" else 0)
        self.fd = process.open(path, flags, 0o644)
        self.map: int | None = None
        if way == "mapped":
            process.ftruncate(self.fd, len(WHOLE))
            self.map = process.mmap(self.fd, len(WHOLE), PROT_READ | PROT_WRITE, MAP_SHARED)
        self.seen = bytes(len(WHOLE)) if way == "mapped" else b""

    def write(self, number: int) -> Judge:
        """Write the chunk with that number at its place."""
        place = CHUNKS - 1 - number if self.way == "backwards" else number
        at, data, then = place * CHUNK, chunk(place), self.process.then
        self.seen = self.seen.ljust(at, b"\0")[:at] + data + self.seen[at + CHUNK :]
        if self.map is not None:
            return then.map_write(self.map, at, data).result
        if self.way == "backwards":
            placed = then.pwrite(self.fd, data, at)
            return lambda: equal(f"bytes that pwrite() wrote at {at}", placed.result(), CHUNK)
        written = then.write(self.fd, data)
        return lambda: equal(f"bytes that write() number {number} wrote", written.result(), CHUNK)

    def close(self) -> list[Judge]:
        """Bring it to the server and close the file."""
        then = self.process.then
        unmapped = [] if self.map is None else [then.msync(self.map), then.munmap(self.map)]
        return [one.result for one in (*unmapped, then.fsync(self.fd), then.close(self.fd))]


class Observer:
    """Another process, which has the file open if `what` it does needs that."""

    def __init__(self, process: Vantage, path: str, what: str) -> None:
        self.process, self.path, self.what = process, path, what
        held = what in ("fstat", "read", "lock", "map", "seek")
        self.fd = process.open(path, os.O_RDWR) if held else -1
        self.map = process.mmap(self.fd, len(WHOLE), PROT_READ, MAP_SHARED) if what == "map" else 0

    def look(self, seen: bytes) -> list[Judge]:
        """Observe a file that holds `seen`, and return what was seen."""
        size, path, then = len(seen), self.path, self.process.then
        after = f"{path!r} for another process, of {self.what}"
        match self.what:
            case "stat":
                return [size_is(f"stat of {after}", then.stat(path), size)]
            case "fstat":
                return [size_is(f"fstat of {after}", then.fstat(self.fd), size)]
            case "seek":
                end = then.lseek(self.fd, 0, os.SEEK_END)
                return [lambda: equal(f"end of {after}", end.result(), size, code="field:size")]
            case "list":
                listed = then.entries(posixpath.dirname(path) or ".")
                return [listed.result, size_is(f"stat of {after}", then.stat(path), size)]
            case "read":
                return [content_is(after, then.pread(self.fd, len(WHOLE) + 1, 0), seen)]
            case "open and read":
                return [content_is(after, then.slurp(path), seen)]
            case "map":
                return [content_is(after, then.map_read(self.map, 0, size), seen)]
            case "access":
                return [then.access(path, os.R_OK | os.W_OK).result]
            case "lock":
                return [then.setlk(self.fd, "w").result, then.setlk(self.fd, "u").result]
            case "xattr":
                return [then.listxattr(path).result]
        raise AssertionError(self.what)

    def close(self) -> list[Judge]:
        """Close the file."""
        then = self.process.then
        unmapped: list[Judge] = [then.munmap(self.map).result] if self.map else []
        return [*unmapped, then.close(self.fd).result] if self.fd >= 0 else unmapped


def size_is(what: str, seen: Pending[Attributes], size: int) -> Judge:
    """The stat result has that size."""
    return lambda: fields(what, seen.result(), size=size)


def content_is(what: str, seen: Pending[bytes], content: bytes) -> Judge:
    """These bytes were read."""
    return lambda: equal(f"content of {what}", seen.result(), content, code="content")


def judge_all(judges: Iterable[Judge]) -> None:
    """Wait for the results of all calls, in order."""
    for judge in judges:
        judge()


LOOKS = ("stat", "fstat", "seek", "list", "read", "open and read", "access", "lock", "xattr")


def looked_at(share: Share, way: str, looks: tuple[str, ...]) -> None:
    """One writer for each kind of observation, and what the file holds once it is closed."""
    writing, looking = share.inside.spawn("writer"), share.inside.spawn("observer")
    for what in looks:
        path = what.replace(" ", "-")
        with share.without_comparison():
            writer = Writer(writing, path, way)
            observer = Observer(looking, path, what)
            judges: list[Judge] = []
            for number in range(CHUNKS):
                judges += [writer.write(number), *observer.look(writer.seen)]
            judge_all([*judges, *writer.close(), *observer.close()])
        held(share, path, WHOLE, f"after {what}")


def held(share: Share, path: str, content: bytes, after: str) -> None:
    """The file holds that content, inside and outside."""
    wanted = len(content), hashlib.sha256(content).hexdigest()
    equal(f"size and hash of {path!r} {after}", share.same(share.content(path)), wanted, code="content")


@pytest.mark.parametrize("way", ["write", "append", "backwards"])
@case("OBSERVER-001", covers=[Twrite, Twalk, Tgetattr], cached_too=True, seconds=120)
def test_a_look_at_a_file_that_is_written(share: Share, way: str) -> None:
    """A process that observes a file while another writes it (stat, listing, reading, access, a lock, attributes) sees
    every byte written and the right size, and the file loses nothing.
    Source: POSIX write: "After a write() to a regular file has successfully returned: any successful read() from each
    byte position in the file that was modified by that write() shall return the data specified by the write()"."""
    looked_at(share, way, LOOKS)


@case("OBSERVER-002", covers=[Twrite, Twalk], caches=WRITE_BACK, cached_too=True, seconds=120)
def test_a_map_of_a_file_that_is_written(share: Share) -> None:
    """A process that has a file mapped sees every byte that another writes to it, and the file loses nothing.
    Source: POSIX mmap, MAP_SHARED: "write references shall change the underlying object"; Linux: a mapping and read(2)
    share the page cache."""
    share.inside.create("whole", bytes(len(WHOLE)), 0o644)
    writing, looking = share.inside.spawn("writer"), share.inside.spawn("observer")
    with share.without_comparison():
        fd = writing.open("whole", os.O_RDWR)
        observer = Observer(looking, "whole", "map")
        judges: list[Judge] = []
        for number in range(CHUNKS):
            judges.append(writing.then.pwrite(fd, chunk(number), number * CHUNK).result)
            judges += observer.look(WHOLE[: (number + 1) * CHUNK].ljust(len(WHOLE), b"\0"))
        judge_all([*judges, writing.then.fsync(fd).result, writing.then.close(fd).result, *observer.close()])
    held(share, "whole", WHOLE, "after a mapping")


@case("OBSERVER-003", covers=[Twrite, Twalk], caches=WRITE_BACK, cached_too=True, seconds=120)
def test_a_look_at_a_file_that_is_written_through_a_map(share: Share) -> None:
    """Another process reads at once what a process writes through a shared mapping, and observing loses none of it.
    Source: POSIX mmap, MAP_SHARED; Linux: a mapping and read(2) share the page cache."""
    looked_at(share, "mapped", ("stat", "list", "read", "open and read", "lock"))


INTERFERES = ("rename", "link", "chmod", "chown", "utimens", "setxattr")


def interfere(other: Starts, path: str, what: str, number: int) -> tuple[str, list[Judge]]:
    """Change the file, not its content. Returns its name from then on."""
    match what:
        case "rename":
            return f"renamed{number}", [other.rename(path, f"renamed{number}").result]
        case "link":
            linked = other.link(path, f"linked{number}")
            return f"linked{number}", [linked.result, other.unlink(path).result]
        case "chmod":
            return path, [other.chmod(path, 0o600 + number).result]
        case "chown":
            return path, [other.chown(path, 1000 + number, 1000).result]
        case "utimens":
            return path, [other.utimensat(path, 10**9 * number, 10**9 * number).result]
        case "setxattr":
            return path, [other.setxattr(path, "user.n", b"%d" % number).result]
    raise AssertionError(what)


@pytest.mark.parametrize("what", INTERFERES)
@case("OBSERVER-004", covers=[Twrite, Twalk], cached_too=True, seconds=120)
def test_another_process_changes_a_file_that_is_written(share: Share, what: str) -> None:
    """A process that renames a file, links it or changes its attributes while another writes it changes none of its
    content.
    Source: POSIX rename, link, chmod, chown, utimensat: none of them concerns the content of a file."""
    writing, other = share.inside.spawn("writer"), share.inside.spawn("observer")
    path = "file"
    with share.without_comparison():
        writer = Writer(writing, path, "write")
        judges: list[Judge] = []
        for number in range(CHUNKS):
            judges.append(writer.write(number))
            path, more = interfere(other.then, path, what, number)
            judges += more
        judge_all([*judges, *writer.close()])
    held(share, path, WHOLE, f"after {what}")


@pytest.mark.parametrize("how", ["truncate", "ftruncate", "open"])
@case("OBSERVER-005", covers=[Twrite, Tsetattr], cached_too=True, seconds=120)
def test_another_process_cuts_a_file_that_is_written(share: Share, how: str) -> None:
    """A file that another process truncates while it is written ends there, and the writer's next write lands at its
    own offset: the gap is zeros.
    Source: POSIX ftruncate, lseek: "If data is later written at this point, subsequent reads of data in the gap shall
    return bytes with the value 0"."""
    writing, other = share.inside.spawn("writer"), share.inside.spawn("observer")
    sizes = (0, 0, 0, 0) if how == "open" else (1000, 5000, 2 * CHUNK + 100, CHUNK)
    with share.without_comparison():
        writer = Writer(writing, "file", "write")
        fd = other.open("file", os.O_RDWR) if how == "ftruncate" else -1
        for number, size in enumerate(sizes):
            writer.write(number)()
            if how == "open":
                other.close(other.open("file", os.O_WRONLY | os.O_TRUNC))
            elif how == "truncate":
                other.truncate("file", size)
            else:
                other.ftruncate(fd, size)
            writer.seen = writer.seen[:size].ljust(size, b"\0")
            fields(f"stat of 'file' after {how} to {size}", other.soon.stat("file"), size=size)
        judge_all([writing.then.pwrite(writer.fd, b"end", 9000).result, *writer.close()])
    held(share, "file", writer.seen.ljust(9000, b"\0") + b"end", f"after {how}")


@case("OBSERVER-006", covers=[Twrite, Twalk], cached_too=True, seconds=120)
def test_two_processes_append_in_turns_and_a_third_looks(share: Share) -> None:
    """What two processes append to one file in turns is there in the order of their writes, even if a third observes in
    between.
    Source: open(2) "O_APPEND"."""
    first, second, looking = (share.inside.spawn(name) for name in ("writer", "second", "observer"))
    with share.without_comparison():
        one = Writer(first, "log", "append")
        fd = second.open("log", os.O_WRONLY | os.O_APPEND)
        judges: list[Judge] = []
        for number in range(CHUNKS):
            process, to = (first, one.fd) if number % 2 == 0 else (second, fd)
            judges.append(process.then.write(to, chunk(number)).result)
            seen = WHOLE[: (number + 1) * CHUNK]
            judges.append(size_is("stat of 'log' for a third process", looking.then.stat("log"), len(seen)))
            judges.append(content_is("'log' for a third process", looking.then.slurp("log"), seen))
        judge_all([*judges, second.then.fsync(fd).result, second.then.close(fd).result, *one.close()])
    held(share, "log", WHOLE, "after two writers")


@case("OBSERVER-007", covers=[Treaddir, Tlopen], cached_too=True, seconds=120)
def test_a_directory_that_another_process_changes(share: Share) -> None:
    """A process that lists a directory, by name or by a descriptor that it rewinds, sees each change of names that
    another process has made by then, and can open the new files.
    Source: POSIX readdir, rewinddir: "shall also cause the directory stream to refer to the current state"."""
    share.inside.mkdir("d", 0o755)
    making, looking = share.inside.spawn("writer"), share.inside.spawn("observer")
    handle = looking.opendir("d")
    names: set[str] = set()

    def listed(after: str) -> None:
        looking.rewinddir(handle)
        equal(
            f"names of 'd' by a held descriptor after {after}",
            {name for name, _ in looking.readdir(handle, 20)} - {".", ".."},
            names,
            code="names",
        )
        equal(f"names of 'd' after {after}", set(looking.listdir("d")), names, code="names")

    with share.without_comparison():
        for number in range(3):
            making.create(f"d/new{number}", b"%d" % number, 0o644)
            names.add(f"new{number}")
            listed(f"creat({number})")
            equal(f"content of 'd/new{number}'", looking.soon.slurp(f"d/new{number}"), b"%d" % number, code="content")
            making.rename(f"d/new{number}", f"d/old{number}")
            names = {*names, f"old{number}"} - {f"new{number}"}
            listed(f"rename({number})")
        making.mkdir("d/sub", 0o755)
        names.add("sub")
        listed("mkdir")
        making.unlink("d/old1")
        making.rmdir("d/sub")
        names -= {"old1", "sub"}
        listed("unlink and rmdir")
    looking.closedir(handle)
    at_end = share.same(share.directory("d"))
    equal("names of 'd' at the end", set(at_end), names, code="names")


@pytest.mark.parametrize("what", ["stat", "entries", "slurp"])
@case("OBSERVER-008", covers=[Twrite, Twalk], cached_too=True, seconds=120)
def test_a_look_at_the_same_time(share: Share, what: str) -> None:
    """A file that one process writes while another observes it continuously holds all that was written.
    Source: POSIX write, as in OBSERVER-001."""
    length = 64 * CHUNK
    writing, looking = share.inside.spawn("writer"), share.inside.spawn("observer")
    with share.without_comparison():
        fd = writing.open("file", os.O_RDWR | os.O_CREAT, 0o644)
        writes = writing.start.write_pattern(fd, length, 7, None, CHUNK)
        looking.repeat(60, what, "." if what == "entries" else "file")
        equal("bytes that were written", writes.result(), length)
        writing.fsync(fd)
        writing.close(fd)
    wanted = share.inside.hash_pattern(length, 7)
    equal(f"size and hash of 'file' after {what}", share.same(share.content("file")), wanted, code="content")
