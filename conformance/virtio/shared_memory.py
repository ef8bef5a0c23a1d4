"""Guest memory that a device process shares with the suite."""

from __future__ import annotations

import mmap
import os
import select
import time
from collections.abc import Callable, Sequence

from conformance.virtio.device import Memory, RingTimeout
from protocol import vhost_user as vu
from protocol.fields import Buffer

_PART, _GAP = 64 << 20, 16 << 20
"""Two regions with a hole between them, as many machines have below 4 GiB: addresses must really be looked up."""
_FIRST = 0x10000
_USER = 0x7F00_0000_0000
"""The front end's own addresses as it reports them; not where the memory is really mapped."""


class SharedMemory(Memory):
    """Guest memory in a memfd, mapped here as well."""

    ahead = 0

    def __init__(self) -> None:
        self.base, self.size = _FIRST, _PART - _FIRST
        self.end = 2 * _PART + _GAP
        self.descriptor = os.memfd_create("assay9-guest-memory", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, 2 * _PART)
        self._map = mmap.mmap(self.descriptor, 2 * _PART)
        self._view = memoryview(self._map)
        self._words = self._view.cast("H")
        self.call = -1
        """What the device notifies by, an eventfd or the channel of its own requests; waited on instead of spinning."""
        self.hear: Callable[[], None] = lambda: None
        """Takes in what stands in `call`."""
        self.rung = False
        """Whether the device has notified since `VhostUserDevice.notified` was last asked."""

    def regions(self) -> list[vu.MemoryRegion]:
        """For SET_MEM_TABLE: guest addresses from 0, the second part behind a hole."""
        return [vu.MemoryRegion(0, _PART, _USER, 0), vu.MemoryRegion(_PART + _GAP, _PART, _USER + 4 * _PART, _PART)]

    def user(self, address: int) -> int:
        """The front end's address of a guest address, even if there is no memory."""
        return _USER + address if address < _PART else _USER + 4 * _PART + address - _PART - _GAP

    def write(self, address: int, data: Buffer) -> None:
        self._view[address : address + len(data)] = data

    def write16(self, address: int, value: int) -> None:
        """See Memory: one store of two bytes, which cannot tear."""
        if address & 1:
            self._view[address : address + 2] = value.to_bytes(2, "little")
        else:
            self._words[address >> 1] = value

    def fill(self, address: int, length: int, byte: int) -> None:
        self._view[address : address + length] = bytes([byte]) * length

    def read(self, address: int, length: int) -> bytes:
        return bytes(self._view[address : address + length])

    def read_many(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        view = self._view
        return [bytes(view[address : address + length]) for address, length in spans]

    def wait_then_read(
        self, address: int, old: int, steps: int, timeout: float, spans: Sequence[tuple[int, int]]
    ) -> tuple[int, list[bytes]]:
        return self.wait16(address, old, timeout), self.read_many(spans)

    def changed16(self, address: int, old: int) -> int | None:
        seen = self._words[address >> 1]
        return None if seen == old else seen

    def wait16(self, address: int, old: int, timeout: float) -> int:
        words, at = self._words, address >> 1
        if (seen := words[at]) != old:
            return seen
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            # A device that need not notify is polled now and then.
            if select.select([self.call], [], [], max(0.0, min(left, 0.05)))[0]:
                self.hear()
            if (seen := words[at]) != old:
                return seen
            if left <= 0:
                raise RingTimeout(f"nothing came within {timeout:.3g} s")

    def close(self) -> None:
        """Unmap it."""
        self._words.release()
        self._view.release()
        self._map.close()
        os.close(self.descriptor)
