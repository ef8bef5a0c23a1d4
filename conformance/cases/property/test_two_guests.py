"""Two guests that share one exported directory: each has a device of its own, and what one does the other sees.

What is at stake: a home directory, a build tree or a database file that two machines mount. Each guest's kernel knows
its own locks and names only, so that all rests on the servers.
"""

from __future__ import annotations

import os
from errno import EAGAIN, EEXIST, ENOENT

import pytest

from conformance.case import UNCACHED, case
from conformance.checks import equal
from conformance.vfs.calls import Refusals
from conformance.vfs.deployment import Device
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Tlcreate, Tlock, Tlopen, Tread, Trenameat, Tunlinkat, Twrite

NEEDS = ["another-device"]
SAME = Device(export="same")
EX, NB, UN = 2, 4, 8


def _lock(vantage: Vantage | Refusals, fd: int, kind: str) -> None:
    if kind == "flock":
        vantage.flock(fd, EX | NB)
    else:
        vantage.setlk(fd, "w", ofd=kind == "ofd")


@case("GUESTS-001", needs=[*NEEDS, "locks"], covers=[Tlock], caches=UNCACHED, control=False, severity="varies")
@pytest.mark.parametrize("kind", ["record", "flock", "ofd"])
def test_a_lock_of_one_guest_excludes_the_other(share: Share, kind: str) -> None:
    """While a process of one guest has locked a file, a process of another guest cannot; once the first has closed the
    file, it can.
    Source: 9P2000.L Tlock, "advisory record lock"; QEMU's v9fs_lock answers success without locking, diod locks."""
    there = share.another(SAME)
    share.inside.create("fred")
    ours, theirs = (vantage.open("fred", os.O_RDWR) for vantage in (share.inside, there.inside))
    _lock(share.inside, ours, kind)
    _lock(there.inside.refuses(EAGAIN), theirs, kind)
    share.inside.close(ours)
    _lock(there.inside, theirs, kind)


@case("GUESTS-002", needs=NEEDS, covers=[Tlcreate, Tlopen, Tread, Twrite], caches=UNCACHED, control=False)
def test_what_one_guest_writes_the_other_reads(share: Share) -> None:
    """What one guest has written and closed, another guest reads; what that one writes in its middle, the first reads
    through the descriptor that it kept open, with the new size and mode.
    Source: open(5) and read(5) of 9P: both have the file of the server; without a cache each read asks it."""
    there = share.another(SAME)
    content = bytes(range(256)) * 300
    share.inside.create("fred", content, 0o640)
    equal("content of 'fred' in the second guest", there.inside.slurp("fred"), content, code="content")
    fd = share.inside.open("fred", os.O_RDONLY)
    theirs = there.inside.open("fred", os.O_RDWR)
    there.inside.pwrite(theirs, b"from the second guest", 4090)
    there.inside.ftruncate(theirs, 80_001)
    there.inside.chmod("fred", 0o604)
    status = share.inside.fstat(fd)
    wanted = content[:4090] + b"from the second guest" + content[4111:] + bytes(80_001 - len(content))
    seen = b"".join(share.inside.pread(fd, 4096, at) for at in range(0, 80_001, 4096))
    equal("content of 'fred' in the first guest", seen, wanted, code="content")
    equal("size of 'fred' in the first guest", status["st_size"], 80_001, code="field:size")
    equal("mode of 'fred' in the first guest", status["st_mode"] & 0o7777, 0o604, code="field:mode")


@case("GUESTS-003", needs=NEEDS, covers=[Tlcreate, Trenameat, Tunlinkat], caches=UNCACHED, control=False)
def test_names_that_the_other_guest_makes_and_takes_away(share: Share) -> None:
    """A name that one guest has made exists for the other, which cannot make it with O_EXCL; one that it has renamed or
    removed is gone for the other, in look-ups and listings.
    Source: open(2) O_EXCL; POSIX rename, unlink; without a cache the guest asks the server for each name."""
    there = share.another(SAME)
    pairs = ((share.inside, there.inside), (there.inside, share.inside))
    for number, (one, other) in enumerate(pairs):
        names = [f"{what}{number}" for what in ("kept", "moved", "removed")]
        for name in names:
            one.create(name, name.encode())
            other.refuses(EEXIST).open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        one.rename(names[1], f"new{number}")
        one.unlink(names[2])
        for name in names[1:]:
            other.refuses(ENOENT).lstat(name)
        equal(
            f"names of guest {2 - number}", sorted(other.listdir(".")), [f"kept{number}", f"new{number}"], code="names"
        )
        other.unlink(f"new{number}")
        other.unlink(f"kept{number}")
    equal("names outside at the end", share.outside.listdir("."), [], code="names")


@case("GUESTS-004", needs=NEEDS, covers=[Twrite], caches=UNCACHED, control=False, severity="linux")
def test_both_append(share: Share) -> None:
    """Lines that two guests append in turn to one file, each through one descriptor with O_APPEND, are all there, in
    that order.
    Source: open(2) O_APPEND, which the client sends with Tlopen; each write goes to where the file ends then."""
    there = share.another(SAME)
    share.inside.create("log")
    writers = [(vantage, vantage.open("log", os.O_WRONLY | os.O_APPEND)) for vantage in (share.inside, there.inside)]
    lines = [b"line %03d of guest %d\n" % (number, number % 2 + 1) for number in range(40)]
    for number, line in enumerate(lines):
        vantage, fd = writers[number % 2]
        equal(f"bytes of line {number} that write(2) took", vantage.write(fd, line), len(line))
    equal("content of 'log' outside", share.outside.slurp("log"), b"".join(lines), code="content")


@case("GUESTS-005", needs=NEEDS, covers=[Tread], caches=UNCACHED, control=False)
@pytest.mark.parametrize("looked", [False, True], ids=["unknowing", "looked"])
def test_reading_what_the_other_guest_has_cut_off(share: Share, looked: bool) -> None:
    """A read at a place that another guest has cut off returns nothing, a read across the new end what is left, whether
    the first guest has looked at the size since or not; both return at once.
    Source: POSIX read: at or past the end of the file it returns 0; without a cache the end is the server's."""
    there = share.another(SAME)
    content = bytes(range(256)) * 320
    share.inside.create("fred", content)
    fd = share.inside.open("fred", os.O_RDONLY)
    equal("last bytes before", share.inside.pread(fd, 100, len(content) - 100), content[-100:], code="content")
    for length in (50_001, 8192, 1):
        there.inside.truncate("fred", length)
        if looked:
            equal("size of 'fred' in the first guest", share.inside.fstat(fd)["st_size"], length, code="field:size")
        for at in (length, length + 5000, len(content) - 100):
            equal(f"bytes read at {at} of {length}", share.inside.pread(fd, 4096, at), b"", code="content")
        left = content[max(length - 3000, 0) : length]
        seen = share.inside.pread(fd, 8000, max(length - 3000, 0))
        equal(f"bytes read across the end at {length}", seen, left, code="content")
