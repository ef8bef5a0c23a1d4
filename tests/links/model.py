"""A virtio-9p device in this process: registers, a split queue, and a 9P answer that needs no file.

It is correct unless it is given faults by name; the ring cases have to find each of these faults. It serves a kick at
once, in the caller's thread. With `late`, which is not a fault, it serves a kick when the driver next looks, after
`LATE` seconds.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from conformance.virtio.device import Device, DeviceGone, Rings, RingTimeout, Turns, step_by_step
from protocol.codec import ProtocolError, decode, encode
from protocol.constants import EBADF, EIO, LOCK_SUCCESS
from protocol.fields import Buffer, Qid
from protocol.messages import (
    Rattach,
    Rflush,
    Rgetattr,
    Rlcreate,
    Rlerror,
    Rlock,
    Rread,
    Rremove,
    Rversion,
    Rwalk,
    Rwrite,
    Tattach,
    Tflush,
    Tgetattr,
    Tlcreate,
    Tlock,
    Tread,
    Tremove,
    Tversion,
    Twalk,
    Twrite,
)
from protocol.registry import Message
from protocol.virtqueue import (
    AVAIL_RING,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_SIZE,
    DESC_WRITE,
    DESCRIPTOR,
    USED_ELEMENT,
    USED_RING,
    Feature,
    Status,
    config_space,
    needs_event,
)

TAG = b"model"
SIZE = 1 << 20
LATE = 0.15
_QID = Qid(0x80, 1, 1)


class Broken(Exception):
    """The driver did something forbidden; the device needs a reset."""


class FlatMemory:
    """Guest memory: a bytearray from address 0."""

    base, size, end = 0x1000, 0xA0000, SIZE
    ahead = 4

    def __init__(self) -> None:
        self.bytes = bytearray(SIZE)
        self.due: Callable[[], bool] = lambda: False
        """Does what the device has postponed, if it is due; returns whether anything was postponed."""

    def write(self, address: int, data: Buffer) -> None:
        self.bytes[address : address + len(data)] = data

    def write16(self, address: int, value: int) -> None:
        self.bytes[address : address + 2] = value.to_bytes(2, "little")

    def fill(self, address: int, length: int, byte: int) -> None:
        self.bytes[address : address + length] = bytes([byte]) * length

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.bytes[address : address + length])

    def read_many(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        return [self.read(*span) for span in spans]

    def changed16(self, address: int, old: int) -> int | None:
        self.due()
        seen = int.from_bytes(self.read(address, 2), "little")
        return None if seen == old else seen

    def wait_then_read(
        self, address: int, old: int, steps: int, timeout: float, spans: Sequence[tuple[int, int]]
    ) -> tuple[int, list[bytes]]:
        return self.wait16(address, old, timeout), self.read_many(spans)

    def wait16(self, address: int, old: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (seen := self.changed16(address, old)) is None:
            if not self.due() or time.monotonic() > deadline:
                raise RingTimeout("nothing came, and in this process nothing will")
            time.sleep(0.005)
        return seen


@dataclass
class Chain:
    head: int
    out: list[tuple[int, int]] = field(default_factory=list)
    back: list[tuple[int, int]] = field(default_factory=list)


class ModelDevice(Device):
    """The device. `faults` has the names of its faults."""

    legacy = False
    has_status = True
    name = "model"

    def __init__(self, *faults: str) -> None:
        self.faults = frozenset(faults)
        self.shows_reset = "hides its reset" not in faults
        self.memory = FlatMemory()
        self.memory.due = self._due
        self._kicked: float | None = None
        self.dead = False
        self._config = bytearray(config_space(TAG))
        self._status = 0
        self._clear()

    def _clear(self) -> None:
        self._features = 0
        self._rings: Rings | None = None
        self._size = 0
        self._seen = self._used = 0
        self._rang = False
        if "fids survive a reset" not in self.faults or not hasattr(self, "_fids"):
            self._fids: set[int] = set()
        self._held: list[Chain] = []
        self._file: bytearray | None = None
        self._msize = 0
        self._stuck = False
        self._kicked = None

    def _due(self) -> bool:
        """Serve a waiting kick if it is due; return whether one was waiting."""
        if self._kicked is None:
            return False
        if time.monotonic() >= self._kicked + LATE:
            self._kicked = None
            self._kick()
        return True

    # ---- Device

    def _alive(self) -> None:
        if self.dead:
            raise DeviceGone("the model died")

    def reset(self) -> None:
        self._alive()
        self._status = 0
        self._clear()

    def status(self) -> int:
        self._alive()
        return self._status

    def set_status(self, value: int) -> None:
        self._alive()
        if value == 0:
            self.reset()
            return
        if "refuses features" in self.faults and self._features & Feature.INDIRECT_DESC.mask:
            value &= ~Status.FEATURES_OK
        self._status = int(value)

    def offered(self) -> int:
        self._alive()
        own = Feature.VERSION_1.mask | Feature.MOUNT_TAG.mask | Feature.INDIRECT_DESC.mask | Feature.EVENT_IDX.mask
        if "no tag feature" in self.faults:
            own &= ~Feature.MOUNT_TAG.mask
        if "offer changes" in self.faults and self._status:
            own &= ~Feature.EVENT_IDX.mask
        return own

    def accept(self, features: int) -> None:
        self._features = features

    def config(self, offset: int, length: int, width: int = 1) -> bytes:
        self._alive()
        data = bytes(self._config[offset : offset + length]).ljust(length, b"\0")
        return data[::-1] if "config by width" in self.faults and width > 1 else data

    def set_config(self, offset: int, data: bytes) -> None:
        if "config written" in self.faults:
            self._config[offset : offset + len(data)] = data

    def queue_max(self, queue: int) -> int:
        return 128 if queue == 0 else 0

    def start_queue(self, queue: int, size: int, rings: Rings) -> None:
        self._rings, self._size, self._seen, self._used = rings, size, 0, 0

    def in_turn(self, queue: int, turns: Turns, timeout: float) -> None:
        step_by_step(self.memory, lambda: self.kick(queue), turns, timeout)

    def notified(self) -> bool:
        self._due()
        self._alive()
        rang, self._rang = self._rang, False
        return rang

    def broken(self) -> bool:
        self._due()
        self._alive()
        return self.shows_reset and bool(self._status & Status.NEEDS_RESET)

    def close(self) -> None:
        pass

    # ---- the queue

    def kick(self, queue: int) -> None:
        self._alive()
        if queue:
            return
        if "late" in self.faults:
            self._kicked = self._kicked or time.monotonic()
        else:
            self._kick()

    def _kick(self) -> None:
        if self._rings is None or not self._status & Status.DRIVER_OK or self._status & Status.NEEDS_RESET:
            return
        if self._stuck:
            return
        try:
            self._serve()
        except Broken:
            if "returns and stops" in self.faults:
                self._push(self._word(self._rings.driver + AVAIL_RING + 2 * ((self._seen - 1) % self._size)), 0)
                self._stuck = True
            elif "loses others" not in self.faults:
                self._status |= Status.NEEDS_RESET
        except (IndexError, struct.error, RecursionError):
            self.dead = True

    def _serve(self) -> None:
        assert self._rings is not None
        now = self._word(self._rings.driver + 2)
        if (now - self._seen) & 0xFFFF > self._size and "avail jump" not in self.faults:
            raise Broken("avail.idx")
        begun, signal = self._used, False
        if "loses others" in self.faults:
            for at in range(self._seen, now):
                self._walk(self._word(self._rings.driver + AVAIL_RING + 2 * (at % self._size)))
        while self._seen != now:
            head = self._word(self._rings.driver + AVAIL_RING + 2 * (self._seen % self._size))
            self._seen = (self._seen + 1) & 0xFFFF
            if self._features & Feature.EVENT_IDX.mask and "avail_event stays" not in self.faults:
                self.memory.write16(self._rings.device + USED_RING + USED_ELEMENT.size * self._size, self._seen)
            if "loses at the wrap" in self.faults and self._seen % self._size == 0:
                continue
            chain = self._walk(head)
            self._finish(chain, self._answer(chain))
            if "used twice" in self.faults:
                self._push(chain.head, 0)
            signal = True
        if signal:
            self._ring(begun)

    def _ring(self, begun: int) -> None:
        assert self._rings is not None
        if self._features & Feature.EVENT_IDX.mask and "flags with event index" not in self.faults:
            wanted = needs_event(self._word(self._rings.driver + AVAIL_RING + 2 * self._size), self._used, begun)
        else:
            wanted = not self._word(self._rings.driver) & 1
        self._rang = (wanted or "ignores suppression" in self.faults) and "never notifies" not in self.faults

    def _walk(self, head: int) -> Chain:
        assert self._rings is not None
        chain, table, size, indirect = Chain(head), self._rings.descriptors, self._size, False
        at, count = head, 0
        while True:
            if at >= size and "index unchecked" not in self.faults:
                raise Broken("index")
            if at >= size:
                self.dead = True
                raise DeviceGone("read outside its table")
            address, length, flags, following = DESCRIPTOR.unpack(self._bytes(table + DESC_SIZE * at, DESC_SIZE))
            if flags & DESC_INDIRECT:
                if indirect or flags & DESC_NEXT or not length or length % DESC_SIZE:
                    if "indirect unchecked" not in self.faults:
                        raise Broken("indirect")
                    length = max(length // DESC_SIZE, 1) * DESC_SIZE
                    flags &= ~DESC_NEXT
                table, size, at, indirect = address, length // DESC_SIZE, 0, True
                if "first of indirect only" in self.faults:
                    size = min(size, 1)
                count += 1
                if count > 4:
                    raise Broken("too deep")
                continue
            self._take(chain, address, length, bool(flags & DESC_WRITE))
            count += 1
            if not flags & DESC_NEXT:
                return chain
            if count > self._size:
                if "loops" in self.faults:
                    self.dead = True
                    raise DeviceGone("it went round and round")
                raise Broken("loop")
            at = following

    def _take(self, chain: Chain, address: int, length: int, writable: bool) -> None:
        if not length:
            if "zero length" in self.faults:
                self.dead = True
                raise DeviceGone("it divided by the length")
            raise Broken("no length")
        if address + length > SIZE or address + length > 1 << 64:
            if "address wraps" in self.faults:
                address %= SIZE // 2
                length = min(length, 512)
            elif "address unchecked" in self.faults:
                self.dead = True
                raise DeviceGone("read outside memory")
            else:
                raise Broken("address")
        if writable:
            chain.back.append((address, length))
        elif chain.back and "order unchecked" not in self.faults:
            raise Broken("order")
        else:
            chain.out.append((address, length))

    # ---- 9P

    def _answer(self, chain: Chain) -> bytes:
        frame = b"".join(self._bytes(*piece) for piece in chain.out)
        if "first buffer only" in self.faults and chain.out:
            frame = self._bytes(*chain.out[0])
        if "header in one buffer" in self.faults and chain.out and chain.out[0][1] < 7:
            raise Broken("header")
        if "msize unchecked" in self.faults and len(frame) > self._msize > 0:
            kept, count = frame[23 : self._msize], self._msize - 23
            frame = self._msize.to_bytes(4, "little") + frame[4:19] + count.to_bytes(4, "little") + kept
        if "size field trusted" in self.faults and len(frame) >= 7:
            frame = len(frame).to_bytes(4, "little") + frame[4:]
        if not chain.back and "no room unchecked" in self.faults:
            self.dead = True
            raise DeviceGone("it wrote to where it had no room")
        if len(frame) < 7 or not chain.back:
            raise Broken("frame")
        try:
            request = decode(frame)
        except ProtocolError:
            if int.from_bytes(frame[:4], "little") != len(frame):
                raise Broken("size field") from None
            return b"".join(encode(Rlerror(int.from_bytes(frame[5:7], "little"), EIO)))
        return b"".join(encode(self._reply(request)))

    def _reply(self, request: Message) -> Message:
        tag = request.tag
        match request:
            case Tversion():
                self._fids.clear() if "fids survive a reset" not in self.faults else None
                self._msize = min(request.msize, 65536)
                return Rversion(tag, self._msize, b"9P2000.L")
            case Twalk(wnames=()):
                self._fids.add(request.newfid)
                return Rwalk(tag, ())
            case Tlcreate():
                self._file = bytearray()
                return Rlcreate(tag, _QID, 0)
            case Twrite() if self._file is not None:
                self._file[request.offset :] = request.data
                if "msize unchecked" in self.faults and len(request.data) == self._msize - 23:
                    return Rwrite(tag, 61440)
                return Rwrite(tag, len(request.data))
            case Tread() if self._file is not None:
                count = min(request.count, self._msize - 24)
                return Rread(tag, bytes(self._file[request.offset : request.offset + count]))
            case Tremove() if self._file is not None:
                self._file = None
                return Rremove(tag)
            case Tlock() if self._file is not None:
                return Rlock(tag, LOCK_SUCCESS)
            case Tflush():
                return Rflush(tag)
            case Tattach():
                self._fids.add(request.fid)
                return Rattach(tag, _QID)
            case Tgetattr() if request.fid in self._fids:
                if "wrong tag" in self.faults and tag % 8 == 0:
                    tag += 1
                return Rgetattr(tag, 0x7FF, _QID, 0o40755, 0, 0, 2, 0, 4096, 4096, 8, *([0] * 10))
            case _:
                return Rlerror(tag, EBADF)

    def _finish(self, chain: Chain, reply: bytes) -> None:
        room = sum(length for _, length in chain.back)
        if len(reply) > room:
            if "reply cut" in self.faults:
                reply = reply[:room]
            elif "reply beyond" not in self.faults:
                raise Broken("room")
        left = reply
        back = chain.back[::-1] if "buffers reversed" in self.faults else chain.back
        for index, (address, length) in enumerate(back):
            last = index == len(back) - 1
            part = left if last and "reply beyond" in self.faults else left[:length]
            self.memory.write(address, part)
            left = left[len(part) :]
        if "stray byte" in self.faults and chain.back:
            address, length = chain.back[-1]
            self.memory.write(address + length, b"\0")
        if "writes request" in self.faults and chain.out:
            self.memory.write(chain.out[0][0], b"\0")
        self._push(chain.head, room if "used length is room" in self.faults else len(reply))

    def _push(self, head: int, length: int) -> None:
        assert self._rings is not None
        at = self._rings.device + USED_RING + USED_ELEMENT.size * (self._used % self._size)
        self.memory.write(at, USED_ELEMENT.pack(head, length))
        self._used = (self._used + 1) & 0xFFFF
        if "index of 15 bits" in self.faults:
            self._used &= 0x7FFF
        self.memory.write16(self._rings.device + 2, self._used)

    def _word(self, address: int) -> int:
        return int.from_bytes(self._bytes(address, 2), "little")

    def _bytes(self, address: int, length: int) -> bytes:
        if address + length > SIZE:
            raise Broken("outside memory")
        return self.memory.read(address, length)
