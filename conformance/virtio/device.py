"""The `Device` role: a virtio device as its driver sees it, and the `Memory` that both sides share.

Rule of this module: a device is a set of registers and a memory; nothing here knows rings, frames or a transport.
The transports to one are `qtest`, `vhost_user` and `guest_pci`; the drivers that work on any of them are in
`conformance.virtio.queues`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from protocol.fields import Buffer
from protocol.virtqueue import Status


class DeviceGone(Exception):
    """The device does not respond: its process ended, or the transport to it broke."""


class Refused(DeviceGone):
    """The device refuses one access; it still answers others."""


class RingTimeout(Exception):
    """An expected change in shared memory did not come in time."""


class Rings(NamedTuple):
    """Guest-physical addresses of the three parts of a virtqueue (virtio 1.3, 2.6)."""

    descriptors: int
    driver: int
    """Available ring, or the packed ring's driver event suppression."""
    device: int
    """Used ring, or the packed ring's device event suppression."""


class Turns(NamedTuple):
    """A sequence of requests on a split ring: each is made available only after the previous one was used."""

    ring: int
    """Address of the available ring's first entry."""
    available: int
    """Address of avail.idx."""
    used: int
    """Address of used.idx."""
    published: int
    """avail.idx now."""
    seen: int
    """used.idx now; nothing is in flight."""
    size: int
    """Of the queue."""
    heads: Sequence[int]


class Memory(Protocol):
    """Guest memory that the device can reach. Addresses are guest-physical.

    Writes may be delayed until the next read, wait, or register access of the device; their order is kept.
    """

    base: int
    """Where the part begins that is ours to use."""
    size: int
    """Its bytes."""
    end: int
    """The first address behind all memory that the guest has: nothing is there."""
    ahead: int
    """How many items are worth reading together with the word that announces them: many where a step is slow, none
    where memory is shared."""

    def write(self, address: int, data: Buffer) -> None:
        """Put bytes there."""

    def write16(self, address: int, value: int) -> None:
        """Put a little-endian word there, in one piece, after all earlier writes."""

    def fill(self, address: int, length: int, byte: int) -> None:
        """Set `length` bytes to one value."""

    def read(self, address: int, length: int) -> bytes:
        """The bytes there now."""
        return self.read_many([(address, length)])[0]

    def read_many(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (address, length), in as few steps as the transport allows."""

    def wait16(self, address: int, old: int, timeout: float) -> int:
        """The word there as soon as it is not `old`. Raises RingTimeout after `timeout` seconds."""
        return self.wait_then_read(address, old, 1, timeout, ())[0]

    def wait_then_read(
        self, address: int, old: int, steps: int, timeout: float, spans: Sequence[tuple[int, int]]
    ) -> tuple[int, list[bytes]]:
        """`wait16`, then `read_many` of the content after it, together. The word is a counter: up to `steps` of its
        steps are awaited while they come quickly. Raises RingTimeout.
        """

    def changed16(self, address: int, old: int) -> int | None:
        """The word there when it is not `old`, else None; does not wait."""
        seen = int.from_bytes(self.read(address, 2), "little")
        return None if seen == old else seen


class Device(Protocol):
    """One virtio-9p device, driven through its registers alone. Every access may raise DeviceGone."""

    name: str
    legacy: bool
    """Whether it is driven through the legacy interface: no FEATURES_OK, rings in one block of pages."""
    has_status: bool
    """Whether the transport carries the device status field (not every vhost-user back end does)."""
    shows_reset: bool
    """Whether the driver can see that the device needs a reset: not through the legacy interface, which has no such
    bit, nor where the status field is kept by a front end that does not ask the device."""

    memory: Memory
    """The memory that it shares with its driver."""

    def reset(self) -> None:
        """Write 0 to the status and wait until it reads 0."""

    def status(self) -> int:
        """The device status field."""

    def set_status(self, value: int) -> None:
        """Write it."""

    def offered(self) -> int:
        """The device's feature bits."""

    def accept(self, features: int) -> None:
        """Write the driver's feature bits."""

    def config(self, offset: int, length: int, width: int = 1) -> bytes:
        """Read the device's configuration space in accesses of `width` bytes."""

    def set_config(self, offset: int, data: bytes) -> None:
        """Write to it, byte by byte."""

    def queue_max(self, queue: int) -> int:
        """The size that the device offers for a queue; 0 if it has no queue of that number."""

    def start_queue(self, queue: int, size: int, rings: Rings) -> None:
        """Set size and addresses of a queue, and enable it."""

    def kick(self, queue: int) -> None:
        """Available buffer notification."""

    def in_turn(self, queue: int, turns: Turns, timeout: float) -> None:
        """One request after the other, each with a kick, in as few steps as the transport allows; at most `timeout`
        seconds for each. Raises RingTimeout."""

    def notified(self) -> bool:
        """Whether the device has sent a used buffer notification since the last call."""

    def broken(self) -> bool:
        """Whether the device says that it needs a reset."""
        return bool(self.status() & Status.NEEDS_RESET)

    def close(self) -> None:
        """Leave the device, reset."""


def step_by_step(memory: Memory, kick: Callable[[], None], turns: Turns, timeout: float) -> None:
    """`Device.in_turn` for transports whose steps cost little."""
    published, seen = turns.published, turns.seen
    for head in turns.heads:
        memory.write16(turns.ring + 2 * (published % turns.size), head)
        published = (published + 1) & 0xFFFF
        memory.write16(turns.available, published)
        kick()
        seen = memory.wait16(turns.used, seen, timeout)
