"""Guarded memory: every byte that a device must not write is checked against a copy.

Rule of this module: bytes and ranges; it knows nothing of chains and rings.
"""

from __future__ import annotations

from collections.abc import Sequence

from conformance.errors import SuiteError
from conformance.virtio.device import Memory
from protocol.fields import Buffer

FILL = 0xA5
"""The byte in unwritten memory. No length, flag or address of ours has this byte twice in a row."""
SIZE = 1 << 20
"""Bytes that a case has."""


class WatchedMemory(Memory):
    """The first MiB of a device's memory, with a copy of what the driver wrote there."""

    def __init__(self, memory: Memory) -> None:
        """Fill it."""
        self._memory = memory
        self.base, self.size, self.end = memory.base, min(SIZE, memory.size), memory.end
        self.ahead = memory.ahead
        self._copy = bytearray([FILL]) * self.size
        self._free: list[tuple[int, int]] = []
        memory.fill(self.base, self.size, FILL)

    # ---- Memory

    def write(self, address: int, data: Buffer) -> None:
        at = address - self.base
        if not 0 <= at <= self.size - len(data):
            raise SuiteError(f"a case writes {len(data)} bytes at {address:#x}, outside its memory")
        self._copy[at : at + len(data)] = data
        self._memory.write(address, data)

    def write16(self, address: int, value: int) -> None:
        at = address - self.base
        self._copy[at : at + 2] = value.to_bytes(2, "little")
        self._memory.write16(address, value)

    def fill(self, address: int, length: int, byte: int) -> None:
        at = address - self.base
        self._copy[at : at + length] = bytes([byte]) * length
        self._memory.fill(address, length, byte)

    def read_many(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        return self._memory.read_many(spans)

    def wait16(self, address: int, old: int, timeout: float) -> int:
        return self._memory.wait16(address, old, timeout)

    def wait_then_read(
        self, address: int, old: int, steps: int, timeout: float, spans: Sequence[tuple[int, int]]
    ) -> tuple[int, list[bytes]]:
        return self._memory.wait_then_read(address, old, steps, timeout, spans)

    def changed16(self, address: int, old: int) -> int | None:
        return self._memory.changed16(address, old)

    # ---- what the device may write

    def allow(self, address: int, length: int) -> None:
        """The device may write there, from now on."""
        start = max(address - self.base, 0)
        stop = min(address - self.base + length, self.size)
        if start < stop:
            self._free.append((start, stop))

    def trespass(self) -> str | None:
        """One sentence about the bytes that the device wrote where it may not; None if there are none."""
        seen, wanted = bytearray(self._memory.read(self.base, self.size)), bytearray(self._copy)
        for start, stop in self._free:
            seen[start:stop] = wanted[start:stop] = bytes(stop - start)
        if seen == wanted:
            return None
        at = next(i for i, (a, b) in enumerate(zip(seen, wanted, strict=True)) if a != b)
        count = sum(a != b for a, b in zip(seen, wanted, strict=True))
        return (
            f"{count} bytes were written where the device may not write, the first at {self.base + at:#x}: "
            f"{seen[at]:#04x} where {wanted[at]:#04x} was"
        )
