"""virtio over PCI, modern and legacy, on any `Bus`.

Source: virtio 1.3, 4.1 (Virtio Over PCI Bus); legacy interface: 4.1.4.8 to 4.1.5.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from conformance.errors import InfrastructureError
from conformance.virtio.bus import Bus, Step
from conformance.virtio.device import Device, DeviceGone, Rings, Turns
from guests.host.waiting import happens

_RESET_LIMIT = 5.0
"""Seconds for a reset: the device may first have to end the requests in flight."""
_PAGE = 4096
_STATUS_REGISTER, _CAPABILITIES_PRESENT, _CAPABILITIES = 0x06, 0x10, 0x34
_VENDOR_CAPABILITY = 0x09
_COMMON, _NOTIFY, _ISR, _DEVICE = 1, 2, 3, 4


class _Region(NamedTuple):
    """The location of a virtio structure (4.1.4)."""

    bar: int
    offset: int
    length: int
    extra: int
    """notify_off_multiplier of the notification structure."""


def _structures(bus: Bus) -> dict[int, _Region]:
    """The virtio structures of a function by type, the first of each, which is the preferred one (4.1.4)."""
    found: dict[int, _Region] = {}
    if not bus.config_read(_STATUS_REGISTER, 2) & _CAPABILITIES_PRESENT:
        return found
    at = bus.config_read(_CAPABILITIES, 1) & ~3
    for _ in range(48):
        if not at:
            break
        if bus.config_read(at, 1) == _VENDOR_CAPABILITY:
            kind, bar = bus.config_read(at + 3, 1), bus.config_read(at + 4, 1)
            offset, length = bus.config_read(at + 8, 4), bus.config_read(at + 12, 4)
            extra = bus.config_read(at + 16, 4) if kind == _NOTIFY else 0
            found.setdefault(kind, _Region(bar, offset, length, extra))
        at = bus.config_read(at + 1, 1) & ~3
    return found


class ModernDevice(Device):
    """The device through its modern interface."""

    legacy = False
    has_status = True

    def __init__(self, bus: Bus, *, shows_reset: bool = True) -> None:
        """Raises InfrastructureError if the function has no modern interface."""
        self.bus, self.memory, self.name = bus, bus.memory, f"{bus.name} modern"
        self.shows_reset = shows_reset
        found = _structures(bus)
        if not {_COMMON, _NOTIFY, _ISR, _DEVICE} <= found.keys():
            raise InfrastructureError(f"{bus.name} has no modern virtio interface", "try it with the legacy one")
        self._common, self._notify, self._isr, self._config = (
            found[kind] for kind in (_COMMON, _NOTIFY, _ISR, _DEVICE)
        )
        self._doorbells: dict[int, int] = {}

    def _get(self, offset: int, width: int) -> int:
        return self.bus.bar_read(self._common.bar, self._common.offset + offset, width)

    def _put(self, offset: int, width: int, value: int) -> None:
        self.bus.bar_write(self._common.bar, self._common.offset + offset, width, value)

    def _step(self, offset: int, width: int, value: int | None = None) -> Step:
        return Step(self._common.bar, self._common.offset + offset, width, value)

    def reset(self) -> None:
        _reset(self, self._step(20, 1), Step(self._isr.bar, self._isr.offset, 1))
        self._doorbells.clear()

    def status(self) -> int:
        return self._get(20, 1)

    def set_status(self, value: int) -> None:
        self._put(20, 1, value)

    def offered(self) -> int:
        low, high = self.bus.bar_steps(
            [
                self._step(0, 4, 0),
                self._step(4, 4),
                self._step(0, 4, 1),
                self._step(4, 4),
            ]
        )
        return low | high << 32

    def accept(self, features: int) -> None:
        for select in (0, 1):
            self._put(8, 4, select)
            self._put(12, 4, features >> (32 * select) & 0xFFFFFFFF)

    def config(self, offset: int, length: int, width: int = 1) -> bytes:
        return _config(self.bus, self._config.bar, self._config.offset + offset, length, width)

    def set_config(self, offset: int, data: bytes) -> None:
        for at, byte in enumerate(data):
            self.bus.bar_write(self._config.bar, self._config.offset + offset + at, 1, byte)

    def queue_max(self, queue: int) -> int:
        self._put(22, 2, queue)
        return self._get(24, 2)

    def start_queue(self, queue: int, size: int, rings: Rings) -> None:
        self._put(22, 2, queue)
        self._put(24, 2, size)
        for offset, address in ((32, rings.descriptors), (40, rings.driver), (48, rings.device)):
            self._put(offset, 4, address & 0xFFFFFFFF)
            self._put(offset + 4, 4, address >> 32)
        self._put(28, 2, 1)
        self._doorbells[queue] = self._notify.offset + self._get(30, 2) * self._notify.extra

    def kick(self, queue: int) -> None:
        bell = self._doorbell(queue)
        self.bus.bar_write(bell.bar, bell.offset, bell.width, queue)

    def _doorbell(self, queue: int) -> Step:
        return Step(self._notify.bar, self._doorbells.get(queue, self._notify.offset), 2, queue)

    def in_turn(self, queue: int, turns: Turns, timeout: float) -> None:
        self.bus.in_turn(turns, self._doorbell(queue), timeout)

    def notified(self) -> bool:
        """See Device: bit 0 of the ISR status, which reading clears (4.1.4.5)."""
        return bool(self.bus.bar_read(self._isr.bar, self._isr.offset, 1) & 1)

    def close(self) -> None:
        self.bus.close()


class LegacyDevice(Device):
    """The device through its legacy interface: an I/O region (4.1.4.8)."""

    legacy = True
    has_status = True
    shows_reset = False

    def __init__(self, bus: Bus) -> None:
        """Raises InfrastructureError if the function has no legacy interface."""
        self.bus, self.memory, self.name = bus, bus.memory, f"{bus.name} legacy"
        if not bus.config_read(0x10, 4) & 1:
            raise InfrastructureError(f"{bus.name} has no legacy virtio interface", "try it with the modern one")

    def _get(self, offset: int, width: int) -> int:
        return self.bus.bar_read(0, offset, width)

    def _put(self, offset: int, width: int, value: int) -> None:
        self.bus.bar_write(0, offset, width, value)

    def reset(self) -> None:
        _reset(self, Step(0, 18, 1), Step(0, 19, 1))

    def status(self) -> int:
        return self._get(18, 1)

    def set_status(self, value: int) -> None:
        self._put(18, 1, value)

    def offered(self) -> int:
        return self._get(0, 4)

    def accept(self, features: int) -> None:
        self._put(4, 4, features & 0xFFFFFFFF)

    def config(self, offset: int, length: int, width: int = 1) -> bytes:
        return _config(self.bus, 0, 20 + offset, length, width)

    def set_config(self, offset: int, data: bytes) -> None:
        for at, byte in enumerate(data):
            self._put(20 + offset + at, 1, byte)

    def queue_max(self, queue: int) -> int:
        self._put(14, 2, queue)
        return self._get(12, 2)

    def start_queue(self, queue: int, size: int, rings: Rings) -> None:
        """See Device: the device chooses size and layout; only the page frame is written."""
        self._put(14, 2, queue)
        self._put(8, 4, rings.descriptors // _PAGE)

    def kick(self, queue: int) -> None:
        self._put(16, 2, queue)

    def in_turn(self, queue: int, turns: Turns, timeout: float) -> None:
        self.bus.in_turn(turns, Step(0, 16, 2, queue), timeout)

    def notified(self) -> bool:
        return bool(self._get(19, 1) & 1)

    def close(self) -> None:
        self.bus.close()


def _reset(device: ModernDevice | LegacyDevice, status: Step, interrupt: Step) -> None:
    """Write 0 to the status, wait until it reads 0, and read the interrupt status, which clears it: one request if the
    device is quick, as most are.
    """
    device.set_status(0)
    if not happens(lambda: device.bus.bar_steps([status, interrupt])[0] == 0, _RESET_LIMIT, 0.001):
        raise DeviceGone(f"{_RESET_LIMIT:.0f} s after a reset the status does not read 0")


def _config(bus: Bus, bar: int, offset: int, length: int, width: int) -> bytes:
    code = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}[width]
    words = bus.bar_steps([Step(bar, offset + at, width) for at in range(0, length, width)])
    return b"".join(struct.pack(code, word) for word in words)
