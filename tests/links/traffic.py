"""Random ring traffic, valid and invalid, against the reference device, which must then release everything.

    python -m tests.links.traffic --seconds 3600 --seed 1

One contained process has several devices, each with a front end of our own, all at the same time.  A front end has
many lives.  In each it negotiates some of the features, makes a queue of some size, and sends bursts of the requests of
``tests.reference_server.traffic`` in chains cut at random places.  A life ends normally, in the middle of requests,
with an invalid ring, with an invalid vhost-user message, or by hanging up.  Every valid chain must come back once, with
a reply that fits its request; nothing outside the buffers and rings may be written.  After some lives all front ends
leave, and the process is inspected from outside.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from conformance.errors import Undrivable
from conformance.raw.ring import Ring
from conformance.run.ring import RingSession
from conformance.sut.parts.process import ServerProcess
from conformance.virtio.device import DeviceGone, Rings
from conformance.virtio.driver import PLAIN
from conformance.virtio.queues import PackedQueue, Segment, SplitQueue
from conformance.virtio.vhost_user import VhostUserDevice
from protocol import codec
from protocol import constants as c
from protocol import messages as m
from protocol import vhost_user as vu
from protocol.virtqueue import DESC_SIZE, DESC_WRITE, DESCRIPTOR, Descriptor, Feature
from tests.reference_server.traffic import (
    HUNG,
    SECRET,
    Generator,
    Look,
    Portrait,
    given_back,
    growth,
    look,
    processor_time,
)

DEVICES = 3
CHOICES = (Feature.INDIRECT_DESC, Feature.EVENT_IDX, Feature.RING_PACKED, Feature.IN_ORDER)
LENGTHS = [0, 1, 7, 16, 19, 32, 64, 512, 4096, 0xFFFF, 0xFFFF_FFFF]
PAUSE = 0.002
"""Seconds that a device has for an invalid ring before it is reset."""

Flight = tuple[bytes, list[Segment]]
"""A request and the chain that it was sent in."""


class FrontEnd:
    """One front end, again and again."""

    def __init__(self, path: str, seed: str, decoy: bytes) -> None:
        self._path = path
        self._random = random.Random(seed)
        self._generator = Generator(seed, decoy)
        self._device: VhostUserDevice | None = None
        self._spoilt = False
        """Whether the connection is no longer usable."""
        self.counts: Counter[str] = Counter()

    def leave(self) -> None:
        """Hang up."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def life(self) -> Iterator[None]:
        """One life, from negotiation to its end; other front ends run between its steps.

        Raises AssertionError, Finding, DeviceGone when the device breaks the rules.
        """
        device = self._device = self._device or VhostUserDevice(self._path, answer=HUNG)
        ring = Ring(cast(RingSession, None), device, HUNG)
        pick = self._random.choice
        features = sum(feature.mask for feature in CHOICES if pick([True, False]))
        packed = features & Feature.RING_PACKED.mask
        ring.start(PLAIN | features, self._random.randrange(2, 129) if packed else pick([2, 4, 16, 64, 128, 256]))
        yield from self._sound(ring, self._generator.opening())
        for _ in range(pick([0, 1, 2, 4])):
            yield from self._sound(ring, self._generator.frames())
        for _ in range(pick([0, 0, 0, 50])):
            device.kick(0)
        end = pick([None, None, None, self._in_flight, self._ill_made, self._ill_made, self._misplaced, self._rude])
        if end is not None:
            self.counts[end.__name__[1:]] += 1
            end(ring)
            yield
        trespass = ring.memory.trespass()
        assert trespass is None, trespass
        if self._spoilt or self._random.random() < 0.1:
            self._spoilt = False
            self.leave()
        else:
            device.reset()
        self.counts["lives"] += 1

    # ---- what a driver may do

    def _sound(self, ring: Ring, frames: Sequence[bytes]) -> Iterator[None]:
        """Send requests, as many at once as there is room for, and judge the replies."""
        waiting = list(frames)[::-1]
        while waiting:
            flying = self._offer(ring, waiting)
            if not flying:
                return  # no memory is left in this life
            ring.queue.publish()
            ring.queue.kick()
            yield
            deadline = time.monotonic() + HUNG
            while flying:
                assert not ring.device.broken(), "sound chains broke the device"
                assert time.monotonic() < deadline, f"{len(flying)} chains did not come back"
                for used in ring.collect(5.0) if _soon(ring) else ():
                    frame, chain = flying.pop(used.id)
                    self._judge(frame, ring.reply_in(chain, used))

    def _offer(self, ring: Ring, waiting: list[bytes]) -> dict[int, Flight]:
        flying: dict[int, Flight] = {}
        while waiting:
            try:
                chain, table = self._chain(ring, waiting[-1])
            except Undrivable:
                break
            if ring.queue.room() < (len(chain) if table is None else 1):
                break
            flying[ring.queue.add(chain, table)] = (waiting.pop(), chain)
        if not flying and waiting and ring.queue.size >= 2:
            with suppress(Undrivable):  # the queue is too small for the chain as it was cut
                chain = ring.chain(waiting.pop(), 512)
                flying[ring.queue.add(chain)] = (b"", chain)
        return flying

    def _chain(self, ring: Ring, frame: bytes) -> tuple[list[Segment], int | None]:
        indirect = ring.features & Feature.INDIRECT_DESC.mask and self._random.random() < 0.5
        out = [ring.readable(piece) for piece in self._cut(frame)]
        size = self._random.choice([11, 24, 160, 600, 4096, 8192 + 24])
        back = [ring.writable(len(piece)) for piece in self._cut(bytes(size))]
        return [*out, *back], ring.table(len(out) + len(back)) if indirect else None

    def _cut(self, data: bytes) -> list[bytes]:
        count = min(self._random.choice([1, 1, 1, 2, 3, 7]), len(data))
        at = [0, *sorted(self._random.sample(range(1, len(data)), count - 1)), len(data)]
        return [data[a:b] for a, b in itertools.pairwise(at)]

    def _judge(self, frame: bytes, reply: bytes) -> None:
        if not reply:
            self.counts["nothing"] += 1  # its session or its request was cancelled: Tversion, Tflush
            return
        message = codec.decode(reply)
        assert not (isinstance(message, m.Rread) and SECRET in bytes(message.data)), "the decoy was read"
        answer = c.ERRNO_NAMES[message.ecode] if isinstance(message, m.Rlerror) else type(message).__name__
        self.counts[answer] += 1
        if len(frame) >= c.HDRSZ:
            assert reply[5:7] == frame[5:7], "another tag"
            assert isinstance(message, m.Rlerror) or reply[4] == frame[4] + 1, (
                f"{type(message).__name__} to a request of type {frame[4]}"
            )

    # ---- what no driver or front end may do

    def _in_flight(self, ring: Ring) -> None:
        """Publish requests and do not wait for them."""
        if self._offer(ring, self._generator.frames()):
            ring.queue.publish()
            ring.queue.kick()

    def _ill_made(self, ring: Ring) -> None:
        """Write random descriptors, heads and indices."""
        queue, pick = ring.queue, self._random.choice
        playground = ring.memory.base
        with suppress(Undrivable):
            playground = ring.take(8192, align=64)
            ring.memory.allow(playground, 8192)
            ring.memory.write(playground, self._random.randbytes(512))
        if isinstance(queue, PackedQueue):
            self._allow_what_was_given_back(ring, queue)
        where = [
            *(playground + step for step in (0, 1, 16, 64, 512)),
            ring.memory.end - 16,
            ring.memory.end,
            0,
            0x7FFF_FFFF_0000,
            (1 << 64) - 16,
        ]
        inside = [playground, playground + 64, playground + 512]
        for index in range(min(queue.size, 8)):
            writable = pick([0, 0, 2])
            address = pick(inside if writable else where)
            length = pick([0, 1, 64, 4096] if writable else LENGTHS)
            flags = writable | pick([0, 1, 1, 4, 5])
            if isinstance(queue, SplitQueue):
                queue.put(index, Descriptor(address, length, flags, pick(range(queue.size + 1))))
            else:
                flags |= pick([0, 1 << 7, 1 << 15, 1 << 7 | 1 << 15])
                raw = DESCRIPTOR.pack(address, length, pick(range(queue.size + 2)), flags)
                ring.memory.write(queue.rings.descriptors + DESC_SIZE * index, raw)
        if isinstance(queue, SplitQueue):
            for step in range(4):
                ring.memory.write(ring.heads_at(queue.published + step), pick(range(10)).to_bytes(2, "little"))
            queue.set_index(queue.published + pick([1, 1, 2, 4, queue.size + 40, 0xFFFF]))
        queue.kick()
        time.sleep(PAUSE)
        self.counts["broken" if ring.device.broken() else "not broken"] += 1

    def _allow_what_was_given_back(self, ring: Ring, queue: PackedQueue) -> None:
        """A packed chain that continues into slots which were not rewritten offers their old content. A slot that the
        device gave back still has the address of its descriptor, or of its indirect table, and is marked writable.
        """
        for index in range(queue.size):
            raw = ring.memory.read(queue.rings.descriptors + DESC_SIZE * index, DESC_SIZE)
            address, length, _id, flags = DESCRIPTOR.unpack(raw)
            if flags & DESC_WRITE:
                ring.memory.allow(address, length)

    def _misplaced(self, ring: Ring) -> None:
        """Set rings at invalid addresses while the queue runs; then set features that were not offered."""
        device, queue, pick = ring.device, ring.queue, self._random.choice
        odd = [1, 8, ring.memory.end - 8, ring.memory.end, queue.rings.descriptors]
        ring.memory.allow(ring.memory.base, ring.memory.size)  # the rings are there, with any content
        device.start_queue(0, pick([0, 1, 3, 16, 32768, 40000]), Rings(*(pick([*odd, at]) for at in queue.rings)))
        device.kick(0)
        time.sleep(PAUSE)
        with suppress(DeviceGone):
            device.accept(self._random.getrandbits(64))

    def _rude(self, ring: Ring) -> None:
        """Send a nonsensical message, then end the connection; another front end connects meanwhile."""
        device = cast(VhostUserDevice, ring.device)
        with socket.socket(socket.AF_UNIX) as second, suppress(OSError):
            second.connect(self._path)
        request: Any = self._random.choice([*vu.Request, 0, 200])
        body = self._random.randbytes(self._random.choice([0, 4, 8, 12, 40]))
        with suppress(DeviceGone):
            device._send(request, body, (), self._random.choice([0, vu.NEED_REPLY]))
        self._spoilt = True


def _soon(ring: Ring) -> bool:
    """Whether something is used, after a wait of a second at most."""
    device, queue = cast(VhostUserDevice, ring.device), ring.queue
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        if isinstance(queue, PackedQueue):
            at = queue.rings.descriptors + DESC_SIZE * queue._used_slot + 14
            ready = ring.memory.changed16(at, queue._flags[queue._used_slot]) is not None
        else:
            ready = ring.memory.changed16(queue.rings.device + 2, queue.seen) is not None
        if ready:
            return True
        select.select([device._call], [], [], 0.01)
        device.notified()
    return False


@contextmanager
def serving(folder: Path) -> Iterator[tuple[ServerProcess, list[str]]]:
    """A process with devices that can write only ``folder``, and their sockets; it must end with status 0."""
    log = folder / "log"
    paths = [str(folder / f"s{number}") for number in range(DEVICES)]
    argv = [sys.executable, "-m", "reference_server", "serve", str(folder / "export"), "--lock-wait", "0.05"]
    for number, path in enumerate(paths):
        argv += ["--vhost-user", path, "--tag", f"tag{number}"]
    server = ServerProcess(argv, log, writable=[folder])
    try:
        server.wait_until(lambda: log.read_bytes().count(b"listening on") == DEVICES, 60)
        yield server, paths
        assert server.death() is None, f"{server.death()}: {server.tail()}"
    finally:
        server.stop(grace=60)
    death = server.death() or ""
    assert death.endswith("status 0"), f"{death}, so it met exceptions that it did not expect: {server.tail()}"


def _idle(server: ServerProcess, paths: list[str]) -> Look:
    """The process after the front end of every device has left."""
    for path in paths:
        VhostUserDevice(path, answer=HUNG).close()
    seen, same = look(server.pid), 0
    while same < 10:
        time.sleep(0.05)
        now = look(server.pid)
        same = same + 1 if now[:2] == seen[:2] else 0
        seen = now
    return seen


def run(
    folder: Path,
    seed: int,
    spells: Callable[[int], bool],
    lives: int,
    report: Callable[[int, Look, Counter[str]], None] = lambda *_: None,
    share: float = 2.0,
) -> tuple[list[Look], Counter[str]]:
    """Run spells of ``lives`` lives of each front end as long as ``spells(number)`` is true.

    Front ends and devices together use at most ``share`` of one processor.  Returns the look at the idle process after
    each spell, and the counts.  Raises what `FrontEnd.life` raises, and AssertionError when the process ends, keeps
    something, or changes something outside the export.
    """
    looks: list[Look] = []
    (folder / "export").mkdir()
    beside = Portrait(folder / "beside")
    with serving(folder) as (server, paths):
        idle = _idle(server, paths)
        decoy = os.fsencode(folder / "beside")
        ends = [FrontEnd(path, f"{seed} {number}", decoy) for number, path in enumerate(paths)]
        begun, used = time.monotonic(), time.process_time() + processor_time(server.pid)
        while spells(len(looks)):
            for number in range(lives):
                steps = [end.life() for end in ends]
                while steps:
                    steps = [step for step in steps if next(step, step) is None]
                assert server.death() is None, f"{server.death()}: {server.tail()}"
                if number % 20 == 0:
                    busy = time.process_time() + processor_time(server.pid) - used
                    time.sleep(max(0.0, busy / share - (time.monotonic() - begun)))
            for end in ends:
                end.leave()
            looks.append(given_back(server, idle))
            beside.check()
            report(len(looks), looks[-1], sum((end.counts for end in ends), Counter()))
    beside.check()
    return looks, sum((end.counts for end in ends), Counter())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Random ring traffic against devices of its own.")
    parser.add_argument("--seconds", type=float, default=60.0, help="no spell begins after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lives", type=int, default=400, help="lives of each front end in a spell")
    parser.add_argument("--share", type=float, default=2.0, help="most of one processor that all of it uses")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="assay9-ring-traffic-"))
    begun = time.monotonic()

    def report(spell: int, seen: Look, counts: Counter[str]) -> None:
        passed, replies = time.monotonic() - begun, sum(n for name, n in counts.items() if name[0].isupper())
        print(f"{passed:8.1f} s, spell {spell}: {counts['lives']} lives, {replies} replies; idle: {seen}", flush=True)

    until = begun + options.seconds
    looks, counts = run(
        folder, options.seed, lambda _spell: time.monotonic() < until, options.lives, report, options.share
    )
    print("counted:", ", ".join(f"{name} {count}" for name, count in counts.most_common()))
    print(
        f"seed {options.seed}, {time.monotonic() - begun:.0f} s, {len(looks)} spells, {counts['lives']} lives: "
        f"no crash, no hang, no wrong reply, nothing written beside the buffers, every descriptor and thread given "
        f"back after each spell; memory of the idle process grew by {growth(looks):.0f} kB"
    )
    if growth(looks) >= 1024:
        sys.exit("that is a leak")


if __name__ == "__main__":
    main()
