"""What a virtio-pci driver needs of the machine its device stands in: the `Bus` role."""

from __future__ import annotations

from typing import Protocol

from conformance.links.device import Memory


class Bus(Protocol):
    """One PCI function and the memory of its machine. Every access may raise DeviceGone."""

    name: str

    @property
    def memory(self) -> Memory:
        """The memory that the function can reach."""

    def config_read(self, offset: int, width: int) -> int:
        """PCI configuration space."""

    def config_write(self, offset: int, width: int, value: int) -> None:
        """PCI configuration space."""

    def bar_read(self, bar: int, offset: int, width: int) -> int:
        """A register of that width in a base address region, memory or I/O."""

    def bar_write(self, bar: int, offset: int, width: int, value: int) -> None:
        """A register of that width in a base address region, memory or I/O. May be held back as memory writes are."""

    def close(self) -> None:
        """Give the function back as it was found."""
