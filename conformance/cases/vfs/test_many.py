"""Many names that the guest's kernel caches at once, and how they fare when it must evict them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from conformance.case import case
from conformance.checks import equal, require
from conformance.errors import Undrivable
from conformance.vfs.share import Share
from protocol.messages import Tgetattr, Treaddir, Twalk

DIRECTORIES, FILES, HELD = 3, 150, 120
"""450 files, part of a second of looking in a guest under emulation. A long test of the project's own has 270,000."""

MAKE = """
import os, sys
for d in range(int(sys.argv[2])):
    os.makedirs("%s/many/d%d" % (sys.argv[1], d))
    for n in range(int(sys.argv[3])):
        with open("%s/many/d%d/f%d" % (sys.argv[1], d, n), "wb") as file:
            file.write(b"x" * (n % 7))
"""

LOOK = """
import os, sys
root, each = sys.argv[1] + "/many", int(sys.argv[2])
names = size = 0
failed, held = set(), []
for d in sorted(os.listdir(root)):
    for name in os.listdir(root + "/" + d):
        path = root + "/" + d + "/" + name
        try:
            found = os.lstat(path)
            names, size = names + 1, size + found.st_size
            if int(name[1:]) < each:
                held.append(os.open(path, os.O_RDONLY))
        except OSError as error:
            failed.add(error.errno)
print(names, size, *sorted(failed))
"""
"""Look at each file and hold so many of each directory open; names, bytes, errnos."""

PRESSURE = """
import mmap, os, signal, sys
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("1000")
with open("/proc/meminfo") as file:
    free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) << 10
held = mmap.mmap(-1, max(free - (64 << 20), 1 << 20), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000)
os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT))
signal.pause()
"""
"""Take the memory that is free but for 64 MiB (MAP_POPULATE), say so, and hold it."""
_LIMIT = 300.0
"""Seconds for one look at all of them: a guest under emulation on a busy host took 45."""
_TURNS = 60
"""Looks, a second apart, at whether it is so."""


@contextmanager
def _nothing(share: Share) -> Iterator[int]:
    yield 0


@contextmanager
def _dropped(share: Share) -> Iterator[int]:
    share.need("remount", "a guest of its own")
    share.inside.run(["sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches"])
    yield 0


@contextmanager
def _short_of_memory(share: Share) -> Iterator[int]:
    python = share.inside.which("python3")
    if python is None:
        raise Undrivable("the guest has no python3")
    runner = share.inside.spawn("pressure")
    pid = runner.start_program([python, "-c", PRESSURE, f"{share.inside.root}/ready"])
    try:
        wait = ["sh", "-c", f"test -e {share.inside.root}/ready || {{ sleep 1; false; }}"]
        ready = any(share.inside.run(wait)["status"] == 0 for _ in range(_TURNS))
        if not ready:
            raise Undrivable(f"the guest's memory was not taken in {_TURNS} turns")
        yield 0
    finally:
        runner.end_program(pid)


@contextmanager
def _held(share: Share) -> Iterator[int]:
    yield HELD


WAYS = {"drop-caches": _dropped, "held-open": _held}


@case("MANY-001", covers=[Twalk, Treaddir, Tgetattr], needs=["guest-root"], cached_too=True, seconds=1000)
@pytest.mark.parametrize("way", WAYS)
def test_many_names_at_once(share: Share, way: str) -> None:
    """Of many names none is missing and no call fails, even after the guest's kernel has dropped its caches, and with
    hundreds of them open.
    Source: POSIX readdir, lstat; Documentation/admin-guide/sysctl/vm.rst, drop_caches; known defect: libkrun#505,
    ENFILE and whole directories missing where each name that a guest keeps costs the server a descriptor."""
    looked_at(share, way, WAYS[way])


@case("MANY-002", covers=[Twalk, Treaddir, Tgetattr], needs=["guest-root", "remount"], seconds=1000)
def test_many_names_while_memory_is_short(share: Share) -> None:
    """Of many names none is missing and no call fails while a program has taken most of the guest's memory.
    Source: POSIX readdir, lstat; Linux reclaims what it keeps of names and inodes (proc(5), MemAvailable)."""
    looked_at(share, "memory pressure", _short_of_memory)


def looked_at(share: Share, way: str, under: Callable[[Share], AbstractContextManager[int]]) -> None:
    """Make the files outside, and check them before, during and after that state of the guest."""
    made = share.outside.run(["python3", "-c", MAKE, share.outside.root, str(DIRECTORIES), str(FILES)])
    require("the files are made outside", made["status"] == 0, seen=made["stderr"])
    share.inside.timeout = _LIMIT
    whole = f"{DIRECTORIES * FILES} {DIRECTORIES * sum(n % 7 for n in range(FILES))}"
    for when, state in (("at first", _nothing), (f"under {way}", under), ("at last", _nothing)):
        with share.without_comparison(), state(share) as each:
            done = share.inside.run(["python3", "-c", LOOK, share.inside.root, str(each)], _LIMIT)
        equal(f"status of the script ({done['stderr'].decode(errors='replace')[-200:]})", done["status"], 0)
        equal(f"names, bytes and errnos {when}", done["stdout"].decode().strip(), whole, code="names")
