"""The transport through a stock guest: a PCI function that a program inside drives for us (`guest_pci_payload`).

It works for any hypervisor with a Linux guest and needs nothing but a root shell. Writes are collected and sent with
the next read, so a burst of requests costs two round trips, not two hundred.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from conformance.virtio import guest_pci_payload as guest_side
from conformance.virtio.bus import Bus, Step
from conformance.virtio.device import DeviceGone, Memory, RingTimeout, Turns
from guests.access.shell import Shell
from guests.errors import InfrastructureError
from guests.host.lines import LineChannel
from protocol.fields import Buffer

_ANSWER = 60.0
_START = 180.0
"""Seconds for the program inside to begin: a guest without KVM on a busy host takes ten for an interpreter alone."""
_WRITE, _READ, _WRITE16, _FILL, _WAIT, _CONFIG_READ, _CONFIG_WRITE, _BAR_READ, _BAR_WRITE, _IN_TURN = range(1, 11)
_HELD_MOST = 1 << 20
_WAIT_MOST = 1.0
"""Seconds that one question waits inside; a longer wait is several."""
_WORD = struct.Struct("<i")
_REGISTER = struct.Struct("<I")
_IN_GUEST = "/root/assay9-guest-side.py"


class GuestMemory(Memory):
    """Huge pages of the guest."""

    ahead = 256
    end = 0
    """Not known: the hypervisor decides where a guest's memory ends."""

    def __init__(self, bus: GuestBus, base: int, size: int) -> None:
        self._bus, self.base, self.size = bus, base, size

    def write(self, address: int, data: Buffer) -> None:
        if data:
            self._bus.write(address, data)

    def write16(self, address: int, value: int) -> None:
        self._bus.post(_WRITE16, 0, address, value)

    def fill(self, address: int, length: int, byte: int) -> None:
        self._bus.post(_FILL, byte, address, length)

    def read_many(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        self._bus.post(_READ, 0, 0, len(spans), _spans(spans))
        return _cut(self._bus.ask(), spans)

    def wait_then_read(
        self, address: int, old: int, steps: int, timeout: float, spans: Sequence[tuple[int, int]]
    ) -> tuple[int, list[bytes]]:
        deadline = time.monotonic() + timeout
        while True:
            left = min(max(deadline - time.monotonic(), 0.0), _WAIT_MOST)
            self._bus.post(_WAIT, min(steps, 255), address, old | int(left * 1000) << 16)
            self._bus.post(_READ, 0, 0, len(spans), _spans(spans))
            said = self._bus.ask()
            seen = int(_WORD.unpack_from(said)[0])
            if seen >= 0:
                return seen, _cut(said[_WORD.size :], spans)
            if time.monotonic() >= deadline:
                raise RingTimeout(f"nothing came within {timeout:.3g} s")


def _spans(spans: Sequence[tuple[int, int]]) -> bytes:
    return b"".join([guest_side.SPAN.pack(*span) for span in spans])


def _cut(said: bytes, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    found, at = [], 0
    for _, length in spans:
        found.append(said[at : at + length])
        at += length
    return found


def by_shell(shell: Shell) -> LineChannel:
    """The program, started in a guest where `shell` is root. Raises InfrastructureError."""
    shell.push(Path(guest_side.__file__), _IN_GUEST)
    return shell.open_channel(["python3", "-u", _IN_GUEST])


class GuestBus(Bus):
    """The function with that mount tag, in the guest where the program at the other end of `channel` runs."""

    def __init__(self, channel: LineChannel, tag: str) -> None:
        """Take it from the kernel. Raises InfrastructureError."""
        self.name = f"guest-pci {tag}"
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._spans: list[bytes] = []
        self._pieces: list[bytes] = []
        """Writes that follow one another go in as one."""
        self._channel = channel
        try:
            channel.send(guest_side.packed(tag.encode()) + b"\n")
            base, size = map(int, self._channel.recv_line(_START).split())
        except (OSError, EOFError, ValueError) as error:
            raise InfrastructureError(
                f"the device with tag {tag} cannot be taken from the guest's kernel: {error!r}",
                "the guest needs python3, root, and 2 MiB huge pages; the share must not be mounted",
            ) from None
        self.memory = GuestMemory(self, base, size)

    def post(self, kind: int, width: int, address: int, value: int, data: Buffer = b"") -> None:
        """Do this with the next request, in order."""
        self._gather()
        self._held.append(guest_side.OPERATION.pack(kind, width, address, value))
        if data:
            self._held.append(bytes(data))
        self._held_bytes += len(data) + guest_side.OPERATION.size
        if self._held_bytes > _HELD_MOST:
            self.ask()

    def write(self, address: int, data: Buffer) -> None:
        """Write to the guest's memory with the next request, in order."""
        self._spans.append(guest_side.SPAN.pack(address, len(data)))
        self._pieces.append(bytes(data))
        self._held_bytes += len(data) + guest_side.SPAN.size
        if self._held_bytes > _HELD_MOST:
            self.ask()

    def _gather(self) -> None:
        if self._spans:
            data = b"".join(self._pieces)
            self._held.append(guest_side.OPERATION.pack(_WRITE, 0, len(data), len(self._spans)))
            self._held += [*self._spans, data]
            self._spans, self._pieces = [], []

    def ask(self) -> bytes:
        """Do everything that was posted; returns the results. Raises DeviceGone."""
        self._gather()
        batch, self._held, self._held_bytes = b"".join(self._held), [], 0
        try:
            self._channel.send(guest_side.packed(batch) + b"\n")
            said = self._channel.recv_line(_ANSWER)
        except (OSError, EOFError, InfrastructureError) as error:
            raise DeviceGone(f"the guest does not respond: {error!r}") from None
        if said.startswith(b"!"):
            raise DeviceGone(f"inside the guest: {said[1:].decode(errors='replace').strip()}")
        if said.startswith(b"?"):
            raise RingTimeout("inside the guest: a reply did not come in its time")
        return guest_side.unpacked(said)

    def _number(self) -> int:
        return int(_REGISTER.unpack(self.ask())[0])

    def config_read(self, offset: int, width: int) -> int:
        self.post(_CONFIG_READ, width, offset, 0)
        return self._number()

    def config_write(self, offset: int, width: int, value: int) -> None:
        self.post(_CONFIG_WRITE, width, offset, value)

    def bar_read(self, bar: int, offset: int, width: int) -> int:
        self.post(_BAR_READ, width, bar << 32 | offset, 0)
        return self._number()

    def bar_write(self, bar: int, offset: int, width: int, value: int) -> None:
        self.post(_BAR_WRITE, width, bar << 32 | offset, value)

    def bar_steps(self, steps: Sequence[Step]) -> list[int]:
        """See Bus: one request."""
        for bar, offset, width, value in steps:
            self.post(_BAR_READ if value is None else _BAR_WRITE, width, bar << 32 | offset, value or 0)
        return [int(word) for (word,) in _REGISTER.iter_unpack(self.ask())]

    def in_turn(self, turns: Turns, doorbell: Step, timeout: float) -> None:
        """See Bus: one request."""
        heads = turns.heads
        fields = guest_side.TURNS.pack(
            turns.ring,
            turns.available,
            turns.used,
            turns.published,
            turns.seen,
            turns.size,
            len(heads),
            int(timeout * 1000),
            doorbell.bar << 32 | doorbell.offset,
            doorbell.value,
        )
        self.post(_IN_TURN, 0, 0, 0, fields + struct.pack(f"<{len(heads)}H", *heads))
        self.ask()

    def close(self) -> None:
        """See Bus: an empty line ends the program inside, which gives the function back."""
        with contextlib.suppress(OSError, EOFError, InfrastructureError):
            if self._held or self._spans:
                self.ask()
            self._channel.send(b"\n")
            while self._channel.recv_line(_ANSWER).strip() != b"done":
                pass
        with contextlib.suppress(OSError, EOFError, InfrastructureError):
            self._channel.close()
