"""The server or the device of a mounted share goes away and comes back: what open files, new calls, umount(8) and the
guest's kernel make of it.

Each case takes away a further share, never the first, and leaves nothing of it mounted. A server is killed with
SIGKILL, and a new process takes its place, which knows no fid. A device is unplugged by the hypervisor; Linux keeps it
until nothing of it is mounted (net/9p/trans_virtio.c p9_virtio_remove).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ECONNRESET, EIO, ENOENT, ENOTCONN, EPIPE, EREMOTEIO
from typing import Any

import pytest

from conformance.case import UNCACHED, case
from conformance.cases.property.mounting import MNT_DETACH, must_succeed
from conformance.cases.vfs.outcomes import outcome
from conformance.checks import Errno, equal, holds, one_of, require
from conformance.errors import Undrivable
from conformance.vfs.deployment import Outages
from conformance.vfs.pending import Pending
from conformance.vfs.share import Share
from guests.host.waiting import happens
from protocol.messages import Tattach

NUMBER = 3
"""The share that is taken away."""
MNT_FORCE = 1
REFUSED = (EIO, ECONNRESET, EPIPE, ENOTCONN, EREMOTEIO)
"""What a call says whose server is gone: EIO of a device; of a connection what its socket gave.
Source: net/9p/trans_virtio.c p9_virtio_request; net/9p/trans_fd.c p9_fd_poll, p9_fd_write."""
GONE = [Errno(number) for number in REFUSED]
LIMIT = 60.0
"""Seconds that the guest has to release a device that nothing uses; it takes about one."""
CONTENT = bytes(range(256)) * 300
BLOCKS = len(CONTENT) // 4096
_COMPLAINT = re.compile(r"BUG: |Oops|WARNING: (?!.* at arch/um/)")
"""What the kernel must not say. virtio_uml.c warns of each loss of a back end."""
_MARK = "assay9: share %d is taken away"


@contextmanager
def away(share: Share) -> Iterator[tuple[Share, Outages]]:
    """The share that is to be taken away, with an open file in it, and how. It is back at the end, and not mounted.

    The guest's kernel has not complained of anything meanwhile.
    """
    there = share.beside(NUMBER)
    outages = share.outages
    mark = _MARK % NUMBER
    share.inside.write_text("/dev/kmsg", mark)
    with there.without_comparison():
        try:
            yield there, outages
        finally:
            with suppress(OSError):
                share.inside.umount2(there.mounted.mount_point, MNT_DETACH)
            there.inside.quietly.reset()
            outages.restore(NUMBER)
    said = share.inside.run(["dmesg"])["stdout"].decode(errors="replace").rpartition(mark)[2]
    complaints = [line for line in said.splitlines() if _COMPLAINT.search(line)]
    equal("complaints in the log of the guest's kernel", complaints, [])


def back(share: Share, **content: bytes) -> None:
    """Mounted again, the share has these files, and takes new ones."""
    again = share.beside(NUMBER, keep=True)
    with again.without_comparison():
        for name, wanted in content.items():
            equal(f"content of {name!r} on the share mounted again", again.inside.slurp(name), wanted, code="content")
        again.inside.create("new", b"new")
        equal("content of 'new' outside", again.outside.slurp("new"), b"new", code="content")
        must_succeed("umount", share.inside.run(["umount", again.mounted.mount_point]))


@case(
    "OUTAGE-001",
    needs=["server-restart", "server-loss-seen", "guest-root"],
    covers=[Tattach],
    control=False,
    caches=UNCACHED,
    seconds=120,
)
def test_calls_while_the_server_is_gone(share: Share) -> None:
    """While the server is gone, every call that needs it fails, and none hangs; the mount can be unmounted. Once the
    server is back, a new mount has all that was written.
    Source: POSIX, "EIO: some physical input or output error has occurred"; net/9p/trans_fd.c p9_conn_cancel, which ends
    all requests; arch/um/drivers/virtio_uml.c vu_conn_broken."""
    with away(share) as (there, outages):
        there.inside.create("kept", CONTENT)
        there.inside.mkdir("d")
        fd = there.inside.open("kept", os.O_RDWR)
        outages.kill(NUMBER)
        calls: list[tuple[str, list[Any]]] = [
            ("pread", [fd, 4096, 0]),
            ("pwrite", [fd, b"lost", 0]),
            ("fstat", [fd]),
            ("ftruncate", [fd, 5]),
            ("lstat", ["d"]),
            ("open", ["kept", os.O_RDONLY]),
            ("listdir", ["."]),
            ("mkdir", ["new"]),
            ("rename", ["kept", "other"]),
            ("unlink", ["kept"]),
            ("statvfs", ["."]),
        ]
        for (op, _), got in zip(calls, there.inside.attempts(calls), strict=True):
            one_of(f"result of {op}() while the server is gone", Errno(got), GONE, code="errno", call=op)
        with suppress(OSError):
            there.inside.close(fd)
        must_succeed("umount while the server is gone", share.inside.run(["umount", there.mounted.mount_point]))
        equal("content of 'kept' outside", there.outside.slurp("kept"), CONTENT, code="content")
        outages.restart(NUMBER)
        if outages.plug(NUMBER):
            back(share, kept=CONTENT)


@case(
    "OUTAGE-002", needs=["server-restart", "guest-root"], covers=[Tattach], control=False, caches=UNCACHED, seconds=120
)
def test_a_new_server_under_an_old_mount(share: Share) -> None:
    """A server that is killed and started again while its share is mounted gives an open file no other file's bytes:
    each call on it fails or has the right result, none hangs. The locks of the killed one are gone. A new mount has all
    that was written.
    Source: 9P2000 attach(5): a fid belongs to its session, and a new server has none; fcntl(2): locks end with their
    process."""
    with away(share) as (there, outages):
        there.inside.create("kept", CONTENT)
        there.inside.create("other", b"other" * 1000)
        fd = there.inside.open("kept", os.O_RDWR)
        there.inside.setlk(fd, "w")
        outages.kill(NUMBER)
        outages.restart(NUMBER)
        for offset in (0, 4096):
            seen = outcome(there.inside, "pread", fd, 4096, offset)
            right = seen.errno is not None or seen.value == CONTENT[offset : offset + 4096]
            holds("a read of the old open file fails or has its bytes", right, seen=str(seen), code="content")
        for op, args in (("fstat", [fd]), ("lstat", ["kept"]), ("open", ["other", os.O_RDONLY]), ("listdir", ["."])):
            outcome(there.inside, op, *args)
        with suppress(OSError):
            there.inside.close(fd)
        must_succeed("umount of the old mount", share.inside.run(["umount", there.mounted.mount_point]))
        equal("content of 'kept' outside", there.outside.slurp("kept"), CONTENT, code="content")
        there.outside.setlk(there.outside.open("kept", os.O_RDWR), "w")
        if outages.plug(NUMBER):
            back(share, kept=CONTENT, other=b"other" * 1000)


@case(
    "OUTAGE-003",
    needs=["server-restart", "server-loss-seen", "guest-root"],
    covers=[Tattach],
    control=False,
    caches=UNCACHED,
    seconds=120,
)
@pytest.mark.parametrize("how", ["lazy", "forced"])
def test_umount_of_a_lost_share_in_use(share: Share, how: str) -> None:
    """A mount whose server is gone can be taken away although a file of it is open and a process stands in it:
    umount2(2) with MNT_DETACH, and with MNT_FORCE beside it, returns. What is open fails, and a new mount works.
    Source: umount2(2) MNT_DETACH, MNT_FORCE: "abort pending requests"; fs/9p/vfs_super.c v9fs_umount_begin."""
    with away(share) as (there, outages):
        there.inside.create("kept", CONTENT)
        there.inside.mkdir("d")
        visitor = there.inside.spawn("visitor")
        visitor.chdir("d")
        fd = visitor.open("kept", os.O_RDONLY)
        outages.kill(NUMBER)
        where, flags = there.mounted.mount_point, MNT_DETACH | (MNT_FORCE if how == "forced" else 0)
        equal(
            "result of umount2(2)",
            Errno(outcome(share.inside, "umount2", where, flags).errno or 0),
            Errno(0),
            code="errno",
        )
        equal("mounts there", [one for one in share.inside.mounts() if one[1] == where], [], code="value")
        visitor.refuses(*REFUSED).pread(fd, 10, 0)
        visitor.kill()
        outages.restart(NUMBER)
        if outages.plug(NUMBER):
            back(share, kept=CONTENT)


@case(
    "OUTAGE-004",
    needs=["server-restart", "server-loss-seen", "guest-root"],
    covers=[Tattach],
    control=False,
    caches=UNCACHED,
    seconds=120,
)
def test_a_request_in_flight(share: Share) -> None:
    """Calls that wait for a server when it is killed fail; none waits for ever, and none succeeds.
    Source: net/9p/trans_fd.c p9_conn_cancel, which ends each request of a connection that broke."""
    if "trans=virtio" in share.source(NUMBER)[1]:
        raise Undrivable(
            "Linux never gives up a request that a virtio device has (net/9p/trans_virtio.c p9_virtio_cancel)"
        )
    with away(share) as (there, outages):
        there.inside.create("kept", CONTENT)
        fd = there.inside.open("kept", os.O_RDWR)
        others = [there.inside.spawn(f"waiter{number}") for number in range(3)]
        outages.pause(NUMBER)
        begun: list[Pending[Any]] = [there.inside.start.pread(fd, 4096, 0)]
        begun += [one.start.lstat("kept") for one in others]
        outages.kill(NUMBER)
        for number, call in enumerate(begun):
            refused = 0
            try:
                call.result()
            except OSError as error:
                refused = error.errno or 0
            what = f"result of call {number}, which the server did not answer"
            one_of(what, Errno(refused), GONE, code="errno")
        with suppress(OSError):
            there.inside.close(fd)
        for one in others:
            one.kill()
        must_succeed("umount", share.inside.run(["umount", there.mounted.mount_point]))
        outages.restart(NUMBER)
        if outages.plug(NUMBER):
            back(share, kept=CONTENT)


@case("OUTAGE-005", needs=["hot-plug", "guest-root"], covers=[Tattach], control=False, caches=UNCACHED, seconds=180)
def test_a_device_unplugged_under_a_mount(share: Share) -> None:
    """A device that is unplugged while its share is mounted serves on until nothing of it is mounted. Then it is gone,
    and mounting fails; plugged in again, it serves the same files.
    Source: net/9p/trans_virtio.c p9_virtio_remove: "Wait for existing users to close"; QEMU's docs, device_del."""
    with away(share) as (there, outages):
        there.inside.create("kept", CONTENT)
        fd = there.inside.open("kept", os.O_RDWR)
        outages.unplug(NUMBER)
        for number in range(BLOCKS):
            data = b"block %02d" % number
            equal("bytes that pwrite(2) wrote", there.inside.pwrite(fd, data, number * 4096), len(data))
            equal("bytes read", there.inside.pread(fd, len(data), number * 4096), data, code="content")
        there.inside.create("late", b"late")
        holds("the device stays while its share is mounted", not outages.unplugged(NUMBER))
        there.inside.close(fd)
        must_succeed("umount", share.inside.run(["umount", there.mounted.mount_point]))
        require("the device is released once nothing uses it", happens(lambda: outages.unplugged(NUMBER), LIMIT, 0.1))
        source, transport = share.source(NUMBER)
        where = there.mounted.mount_point
        share.inside.refuses(ENOENT).mount(source, where, "9p", 0, f"{transport},version=9p2000.L")
        outages.plug(NUMBER)
        wanted = bytearray(CONTENT)
        for number in range(BLOCKS):
            wanted[number * 4096 : number * 4096 + 8] = b"block %02d" % number
        back(share, kept=bytes(wanted), late=b"late")


@case("OUTAGE-006", needs=["hot-plug", "guest-root"], covers=[Tattach], control=False, caches=UNCACHED, seconds=180)
def test_a_device_plugged_in_time_after_time(share: Share) -> None:
    """A device that nothing uses is unplugged and plugged in three times: each time it can be mounted and serves the
    same files, and those that the host made meanwhile.
    Source: virtio 1.3, 2.1 and 3.1.1: a device that is set up again starts from its reset state; QEMU's qapi/qdev.json,
    device_add."""
    with away(share) as (there, outages):
        there.inside.create("kept", CONTENT)
        must_succeed("umount", share.inside.run(["umount", there.mounted.mount_point]))
        for turn in range(3):
            outages.unplug(NUMBER)
            gone = happens(lambda: outages.unplugged(NUMBER), LIMIT, 0.1)
            require("a device that nothing uses is released", gone)
            there.outside.create(f"made{turn}", b"meanwhile")
            outages.plug(NUMBER)
            again = share.beside(NUMBER, keep=True)
            with again.without_comparison():
                equal("content of 'kept'", again.inside.slurp("kept"), CONTENT, code="content")
                equal(f"content of 'made{turn}'", again.inside.slurp(f"made{turn}"), b"meanwhile", code="content")
                must_succeed("umount", share.inside.run(["umount", again.mounted.mount_point]))
