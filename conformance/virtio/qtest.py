"""The transport over QEMU's qtest socket: a PCI function and guest memory of a machine whose processor never runs.

Writes are collected and sent with the next read at once: qtest runs commands in order, and a request costs two steps
instead of twenty.

Source: QEMU's softmmu/qtest.c (the comment "QTest Protocol"), hw/i386/pc (pc: PCI host bridge at 0xcf8).
"""

from __future__ import annotations

import base64
import contextlib
import socket
import time
from collections.abc import Sequence

from conformance.virtio.bus import Bus, Step
from conformance.virtio.device import DeviceGone, Memory, RingTimeout, Turns, step_by_step
from protocol.fields import Buffer

_ADDRESS, _DATA = 0xCF8, 0xCFC
_IO_BASE, _MEMORY_BASE, _STEP = 0xC000, 0xE0000000, 0x100000
"""Where the function's regions are put: above the chipset's own ports, and in the hole below 4 GiB."""
_IO_MEMORY_MASTER = 7
_OUT = {1: "outb", 2: "outw", 4: "outl"}
_IN = {1: "inb", 2: "inw", 4: "inl"}
_WRITE = {1: "writeb", 2: "writew", 4: "writel", 8: "writeq"}
_READ = {1: "readb", 2: "readw", 4: "readl", 8: "readq"}
_HELD_MOST = 1 << 16
"""Bytes of commands that are held back at most."""
_ANSWER = 20.0
"""Seconds for QEMU to answer a command; it does so at once unless it hangs."""
_RAM_BASE = 16 << 20
_LARGE = 256


class QtestMemory(Memory):
    """Guest memory by qtest commands."""

    ahead = 4

    def __init__(self, bus: QtestBus, megabytes: int) -> None:
        self._bus = bus
        self.base = _RAM_BASE
        self.end = megabytes << 20
        self.size = self.end - self.base

    def write(self, address: int, data: Buffer) -> None:
        if data:
            if len(data) < _LARGE:
                self._bus.post(f"write {address:#x} {len(data)} 0x{bytes(data).hex()}")
            else:
                self._bus.post(f"b64write {address:#x} {len(data)} {base64.b64encode(data).decode()}")

    def write16(self, address: int, value: int) -> None:
        self._bus.post(f"writew {address:#x} {value:#x}")

    def fill(self, address: int, length: int, byte: int) -> None:
        if length:
            self._bus.post(f"memset {address:#x} {length} {byte:#x}")

    def read_many(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        return _bytes_of(self._bus.ask(_questions(spans)), spans)

    def wait_then_read(
        self, address: int, old: int, steps: int, timeout: float, spans: Sequence[tuple[int, int]]
    ) -> tuple[int, list[bytes]]:
        deadline = time.monotonic() + timeout
        pause = 0.0
        questions = [f"readw {address:#x}", *_questions(spans)]
        while True:
            said = self._bus.ask(questions)
            if (seen := int(said[0], 16)) != old:
                return seen, _bytes_of(said[1:], spans)
            if time.monotonic() > deadline:
                raise RingTimeout(f"nothing came within {timeout:.3g} s")
            time.sleep(pause)
            pause = min(pause + 0.00002, 0.002)

    def changed16(self, address: int, old: int) -> int | None:
        seen = int(self._bus.ask([f"readw {address:#x}"])[0], 16)
        return None if seen == old else seen


def _questions(spans: Sequence[tuple[int, int]]) -> list[str]:
    return [f"{'read' if length < _LARGE else 'b64read'} {address:#x} {length}" for address, length in spans if length]


def _bytes_of(said: list[str], spans: Sequence[tuple[int, int]]) -> list[bytes]:
    texts = iter(said)
    found = []
    for _, length in spans:
        text = next(texts) if length else "0x"
        found.append(bytes.fromhex(text[2:]) if length < _LARGE else base64.b64decode(text))
    return found


class QtestBus(Bus):
    """One PCI function of a QEMU that was started with `-qtest`."""

    def __init__(self, path: str, slot: int, megabytes: int, name: str) -> None:
        """`slot` is the function's device number on bus 0, `megabytes` the machine's memory. Raises OSError."""
        self.name = name
        self._slot = slot
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._held: list[str] = []
        self._held_bytes = 0
        self._rest = b""
        try:
            self._socket.settimeout(_ANSWER)
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self.memory = QtestMemory(self, megabytes)
        self._bars: dict[int, tuple[bool, int]] = {}
        self._map()

    # ---- commands

    def post(self, command: str) -> None:
        """Do this before the next request."""
        self._held.append(command)
        self._held_bytes += len(command)
        if self._held_bytes > _HELD_MOST:
            self.ask([])

    def ask(self, commands: list[str]) -> list[str]:
        """The answers to these commands, after everything that was delayed. Raises DeviceGone."""
        batch, self._held, self._held_bytes = [*self._held, *commands], [], 0
        if not batch:
            return []
        try:
            self._socket.sendall(("\n".join(batch) + "\n").encode())
            lines = self._lines(len(batch))
        except TimeoutError:
            raise DeviceGone(f"QEMU does not answer {batch[-1]!r} within {_ANSWER:.0f} s: it hangs") from None
        except OSError as error:
            raise DeviceGone(f"QEMU's qtest socket broke: {error}") from None
        for command, line in zip(batch, lines, strict=True):
            if not line.startswith("OK"):
                raise DeviceGone(f"qtest: {command[:60]!r} was answered {line[:100]!r}")
        return [line[3:] for line in lines[len(batch) - len(commands) :]]

    def _lines(self, count: int) -> list[str]:
        parts, have = [self._rest], self._rest.count(b"\n")
        while have < count:
            got = self._socket.recv(1 << 18)
            if not got:
                raise DeviceGone("QEMU closed its qtest socket")
            parts.append(got)
            have += got.count(b"\n")
        lines = b"".join(parts).split(b"\n")
        self._rest = b"\n".join(lines[count:])
        return [line.decode() for line in lines[:count]]

    # ---- Bus

    def _map(self) -> None:
        """Give each region an address and switch decoding on (what a BIOS would do)."""
        if self.config_read(0, 2) == 0xFFFF:
            raise DeviceGone(f"QEMU has no PCI function in slot {self._slot}")
        bar, port, at = 0, _IO_BASE, _MEMORY_BASE
        while bar < 6:
            register = 0x10 + 4 * bar
            self.config_write(register, 4, 0xFFFFFFFF)
            sized = self.config_read(register, 4)
            wide = sized & 6 == 4 and not sized & 1
            if sized & 1:
                self._bars[bar] = (True, port)
                self.config_write(register, 4, port)
                port += 0x100
            elif sized:
                self._bars[bar] = (False, at)
                self.config_write(register, 4, at)
                if wide:
                    self.config_write(register + 4, 4, 0)
                at += _STEP
            bar += 2 if wide else 1
        self.config_write(4, 2, _IO_MEMORY_MASTER)

    def config_read(self, offset: int, width: int) -> int:
        self.post(f"outl {_ADDRESS:#x} {0x80000000 | self._slot << 11 | offset & 0xFC:#x}")
        return int(self.ask([f"{_IN[width]} {_DATA + (offset & 3):#x}"])[0], 16)

    def config_write(self, offset: int, width: int, value: int) -> None:
        self.post(f"outl {_ADDRESS:#x} {0x80000000 | self._slot << 11 | offset & 0xFC:#x}")
        self.post(f"{_OUT[width]} {_DATA + (offset & 3):#x} {value:#x}")

    def _access(self, step: Step) -> str:
        is_io, base = self._bars[step.bar]
        if step.value is None:
            return f"{(_IN if is_io else _READ)[step.width]} {base + step.offset:#x}"
        return f"{(_OUT if is_io else _WRITE)[step.width]} {base + step.offset:#x} {step.value:#x}"

    def bar_read(self, bar: int, offset: int, width: int) -> int:
        return int(self.ask([self._access(Step(bar, offset, width))])[0], 16)

    def bar_write(self, bar: int, offset: int, width: int, value: int) -> None:
        self.post(self._access(Step(bar, offset, width, value)))

    def bar_steps(self, steps: Sequence[Step]) -> list[int]:
        said = self.ask([self._access(step) for step in steps])
        return [int(word, 16) for step, word in zip(steps, said, strict=True) if step.value is None]

    def in_turn(self, turns: Turns, doorbell: Step, timeout: float) -> None:
        step_by_step(self.memory, lambda: self.post(self._access(doorbell)), turns, timeout)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()
