"""The `Bus` role: what a virtio-pci driver needs of the machine with its device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from conformance.virtio.device import Memory, Turns


class Step(NamedTuple):
    """One access to a register."""

    bar: int
    offset: int
    width: int
    value: int | None = None
    """What is written; None: it is read."""


class Bus(Protocol):
    """One PCI function and the memory of its machine. Every access may raise DeviceGone."""

    name: str

    memory: Memory
    """The memory that the function can reach."""

    def config_read(self, offset: int, width: int) -> int:
        """PCI configuration space."""

    def config_write(self, offset: int, width: int, value: int) -> None:
        """PCI configuration space."""

    def bar_read(self, bar: int, offset: int, width: int) -> int:
        """A register of that width in a base address region, memory or I/O."""

    def bar_write(self, bar: int, offset: int, width: int, value: int) -> None:
        """A register of that width in a base address region, memory or I/O. May be held back as memory writes are."""

    def bar_steps(self, steps: Sequence[Step]) -> list[int]:
        """Those accesses in order, in as few steps as the transport allows; the results of the reads."""

    def in_turn(self, turns: Turns, doorbell: Step, timeout: float) -> None:
        """See Device; `doorbell` is a kick."""

    def close(self) -> None:
        """Give the function back as it was found."""
