"""The device's side of a split virtqueue in guest memory, as much of it as a console needs.

We built and booted the console's guest, so the content of its memory is trusted if it makes sense; anything else raises
`Broken` and only costs this guest its console.

Source: virtio 1.3, 2.7. Layouts are those of `protocol.virtqueue`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol import virtqueue as vq
from protocol.vhost_user import MemoryRegion


class Broken(Exception):
    """The guest's ring is invalid."""


class Memory:
    """The guest's memory: regions of passed descriptors, mapped here."""

    def __init__(self, regions: Sequence[MemoryRegion], descriptors: Sequence[int]) -> None:
        """Map each region; takes ownership of the descriptors. Raises OSError."""
        self._regions: list[tuple[MemoryRegion, mmap.mmap]] = []
        try:
            for region, descriptor in zip(regions, descriptors, strict=True):
                mapped = mmap.mmap(descriptor, region.mmap_offset + region.size)
                self._regions.append((region, mapped))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def at(self, address: int, length: int) -> memoryview:
        """``length`` bytes at a guest-physical address. Raises Broken outside of memory."""
        return self._view(address, length, 0)

    def at_user(self, address: int, length: int) -> memoryview:
        """The same at the front end's own address, as in SET_VRING_ADDR."""
        return self._view(address, length, 2)

    def _view(self, address: int, length: int, which: int) -> memoryview:
        for region, mapped in self._regions:
            offset = address - region[which]
            if offset >= 0 and offset + length <= region.size:
                begin = region.mmap_offset + offset
                return memoryview(mapped)[begin : begin + length]
        raise Broken(f"{length} bytes at {address:#x} are not in the guest's memory")


@dataclass(slots=True)
class Chain:
    """One request of the driver: what to read, what to write."""

    head: int
    readable: list[memoryview] = field(default_factory=list)
    writable: list[memoryview] = field(default_factory=list)


class Queue:
    """One split virtqueue. Set up by vhost-user messages, then `pop` and `push`."""

    def __init__(self) -> None:
        self.size = 0
        self.next_available = 0
        self.kick = -1
        self.call = -1
        self._descriptors = memoryview(b"")
        self._available = memoryview(b"").cast("H")
        self._used = memoryview(b"")
        self._used_idx = ctypes.c_uint16()

    def place(self, memory: Memory, descriptors: int, available: int, used: int) -> None:
        """Where the three parts are, by the front end's addresses. Raises Broken."""
        self._descriptors = memory.at_user(descriptors, vq.DESC_SIZE * self.size)
        self._available = memory.at_user(available, vq.AVAIL_RING + 2 * self.size).cast("H")
        self._used = memory.at_user(used, vq.USED_RING + vq.USED_ELEMENT.size * self.size)
        # a single store, never a byte at a time: the driver may read in between
        self._used_idx = ctypes.c_uint16.from_buffer(self._used, vq.USED_IDX)

    @property
    def ready(self) -> bool:
        """It has its parts and a way to call the driver."""
        return self.size > 0 and len(self._used) > 0 and self.call >= 0

    def pop(self, memory: Memory) -> Chain | None:
        """The next request, or None. Raises Broken."""
        if not self.ready or self._available[vq.AVAIL_IDX // 2] == self.next_available:
            return None
        chain = Chain(self._available[vq.AVAIL_RING // 2 + self.next_available % self.size])
        self.next_available = (self.next_available + 1) & 0xFFFF
        at = chain.head
        for _ in range(self.size):
            if at >= self.size:
                raise Broken(f"descriptor {at} in a queue of {self.size}")
            address, length, flags, following = vq.DESCRIPTOR.unpack_from(self._descriptors, vq.DESC_SIZE * at)
            (chain.writable if flags & vq.DESC_WRITE else chain.readable).append(memory.at(address, length))
            if not flags & vq.DESC_NEXT:
                return chain
            at = following
        raise Broken("a chain of descriptors without end")

    def push(self, chain: Chain, written: int) -> None:
        """Return a request: ``written`` bytes of its writable part are used."""
        index = self._used_idx.value
        at = vq.USED_RING + vq.USED_ELEMENT.size * (index % self.size)
        vq.USED_ELEMENT.pack_into(self._used, at, chain.head, written)
        self._used_idx.value = (index + 1) & 0xFFFF

    def signal(self) -> None:
        """Notify the driver. Always: without a memory fence its suppression flag cannot be read safely."""
        try:
            os.write(self.call, b"\1\0\0\0\0\0\0\0")
        except OSError as error:
            raise Broken(f"the guest does not take its interrupt: {error.strerror}") from error

    @property
    def mute(self) -> bool:
        """Whether the driver wants no interrupts. Reliable only for a queue whose driver never changes that."""
        return bool(self._available[vq.AVAIL_FLAGS // 2] & vq.AVAIL_NO_INTERRUPT)

    def close(self) -> None:
        """Release its descriptors and its memory."""
        for descriptor in (self.kick, self.call):
            if descriptor >= 0:
                os.close(descriptor)
        self.__init__()  # type: ignore[misc]  # as new
