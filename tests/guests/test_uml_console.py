"""The virtio-console back end, driven by a front end in this process: handshake, ports, bytes both ways, ends."""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from guests.errors import InfrastructureError
from guests.machines.uml.console import PORTS, ConsoleServer
from protocol import vhost_user as vu
from protocol import virtqueue as vq
from tests.waiting import eventually

SIZE = 16
MEMORY = 1 << 20
PART = 0x2000
"""Room in memory for each queue and its buffers."""
LIMIT = 300.0


class Driver:
    """A guest: memory, queues, and the control messages of drivers/char/virtio_console.c."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.settimeout(LIMIT)
        descriptor = os.memfd_create("guest")
        os.ftruncate(descriptor, MEMORY)
        self.memory = mmap.mmap(descriptor, MEMORY)
        self.ask(vu.Request.SET_OWNER)
        features = vu.NUMBER.unpack(self.query(vu.Request.GET_FEATURES)).value
        assert features & vq.Feature.VERSION_1.mask and features & 2  # VIRTIO_CONSOLE_F_MULTIPORT
        table = vu.pack_memory([vu.MemoryRegion(0, MEMORY, 0, 0)])
        self.ask(vu.Request.SET_MEM_TABLE, table, [descriptor])
        os.close(descriptor)
        self.kicks: list[int] = []
        self.calls: list[int] = []
        self.made: dict[int, int] = {}
        self.seen: dict[int, int] = {}
        for index in range(2 * PORTS + 2):
            layout, base = vq.split_layout(SIZE), PART * index
            there, call = os.pipe()
            self.calls.append(there)
            self.kicks.append(os.eventfd(0))
            self.ask(vu.Request.SET_VRING_CALL, vu.NUMBER.pack(vu.Number(index)), [call])
            os.close(call)
            self.ask(vu.Request.SET_VRING_NUM, vu.VRING_STATE.pack(vu.VringState(index, SIZE)))
            self.ask(vu.Request.SET_VRING_BASE, vu.VRING_STATE.pack(vu.VringState(index, 0)))
            place = vu.VringAddress(index, 0, base, base + layout.used, base + layout.available, 0)
            self.ask(vu.Request.SET_VRING_ADDR, vu.VRING_ADDRESS.pack(place))
            self.ask(vu.Request.SET_VRING_KICK, vu.NUMBER.pack(vu.Number(index)), [self.kicks[index]])
            self.made[index] = self.seen[index] = 0
        self.offer(2)

    def ask(self, request: int, body: bytes = b"", descriptors: list[int] | None = None) -> None:
        """Send a request whose reply says only that it was done."""
        message = vu.pack_message(request, body, vu.NEED_REPLY)
        socket.send_fds(self.socket, [message], descriptors or [])
        assert vu.NUMBER.unpack(self.reply(request)).value == 0

    def query(self, request: int, body: bytes = b"") -> bytes:
        """Send a request that has its own reply; returns it."""
        self.socket.sendall(vu.pack_message(request, body))
        return self.reply(request)

    def reply(self, request: int) -> bytes:
        head = vu.unpack_header(self.socket.recv(vu.HEADER.size, socket.MSG_WAITALL))
        assert head.request == request and head.flags & vu.REPLY
        return self.socket.recv(head.size, socket.MSG_WAITALL)

    def put(self, queue: int, data: bytes | None, room: int = 64) -> None:
        """Make a buffer available: one with data, or one with room for the device."""
        slot, base, layout = self.made[queue] % SIZE, PART * queue, vq.split_layout(SIZE)
        address = base + 0x1000 + 64 * slot
        if data is not None:
            self.memory[address : address + len(data)] = data
        flags, length = (0, len(data)) if data is not None else (vq.DESC_WRITE, room)
        vq.DESCRIPTOR.pack_into(self.memory, base + vq.DESC_SIZE * slot, address, length, flags, 0)
        available = base + layout.available
        struct.pack_into("<H", self.memory, available + vq.AVAIL_RING + 2 * slot, slot)
        self.made[queue] += 1
        struct.pack_into("<H", self.memory, available + vq.AVAIL_IDX, self.made[queue] & 0xFFFF)
        os.eventfd_write(self.kicks[queue], 1)

    def offer(self, queue: int, count: int = SIZE) -> None:
        """Make ``count`` buffers available that the device may write to."""
        for _ in range(count):
            self.put(queue, None)

    def used(self, queue: int) -> tuple[int, bytes]:
        """The next used buffer: the number of bytes that the device reports, and those bytes. Fails after a while."""
        base = PART * queue
        at = base + vq.split_layout(SIZE).used
        eventually(
            lambda: struct.unpack_from("<H", self.memory, at + vq.USED_IDX)[0] != self.seen[queue] & 0xFFFF,
            f"nothing used in queue {queue}",
        )
        head, written = vq.USED_ELEMENT.unpack_from(self.memory, at + vq.USED_RING + 8 * (self.seen[queue] % SIZE))
        self.seen[queue] += 1
        address = base + 0x1000 + 64 * head
        return written, bytes(self.memory[address : address + written])

    def control(self) -> tuple[int, int, int]:
        """The next control message: port, event, value."""
        written, data = self.used(2)
        assert written == 8
        self.put(2, None)
        port, event, value = struct.unpack("<IHH", data)
        return port, event, value

    def say(self, port: int, event: int, value: int) -> None:
        """Send a control message."""
        self.put(3, struct.pack("<IHH", port, event, value))
        assert self.used(3)[0] == 0

    def ready(self) -> None:
        """Send DEVICE_READY; the device answers with a PORT_ADD for each port."""
        self.say(0, 0, 1)
        assert [self.control() for _ in range(PORTS)] == [(port, 1, 1) for port in range(PORTS)]

    def close(self) -> None:
        self.socket.close()
        for descriptor in (*self.kicks, *self.calls):
            os.close(descriptor)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ConsoleServer]:
    path = Path("/tmp") / f"a9-{os.getpid()}-{tmp_path.name[-20:]}"
    made = ConsoleServer(path)
    yield made
    made.close()
    path.unlink(missing_ok=True)


@pytest.fixture
def driver(server: ConsoleServer) -> Iterator[Driver]:
    made = Driver(Path(server._listener.getsockname()))
    yield made
    made.close()


def opened(server: ConsoleServer, driver: Driver, port: int = 1) -> socket.socket:
    """A port that both guest and host have open; the queues of port n are 2n + 2 and 2n + 3."""
    driver.ready()
    driver.say(port, 6, 1)
    connection = server.open(LIMIT, lambda: True)
    assert driver.control() == (port, 6, 1)
    connection.settimeout(LIMIT)
    return connection


def test_bytes_travel_both_ways_and_calls_come(server: ConsoleServer, driver: Driver) -> None:
    with opened(server, driver) as connection:
        driver.put(5, b"from the guest")
        assert connection.recv(100) == b"from the guest"
        assert driver.used(5)[0] == 0
        assert os.read(driver.calls[5], 8) == b"\1\0\0\0\0\0\0\0"
        driver.offer(4, 2)
        connection.sendall(b"x" * 100)  # does not fit the first buffer of 64
        got = b""
        while len(got) < 100:
            got += driver.used(4)[1]
        assert got == b"x" * 100


def test_what_the_guest_has_no_room_for_waits_for_it(server: ConsoleServer, driver: Driver) -> None:
    with opened(server, driver) as connection:
        connection.sendall(bytes(range(64)) * 20)
        got = b""
        while len(got) < 64 * 20:
            driver.offer(4, 1)
            got += driver.used(4)[1]
        assert got == bytes(range(64)) * 20


def test_a_program_that_ends_ends_the_host_s_side_after_its_last_words(server: ConsoleServer, driver: Driver) -> None:
    with opened(server, driver) as connection:
        driver.put(5, b"last words")
        driver.say(1, 6, 0)
        assert connection.recv(100) == b"last words"
        assert connection.recv(100) == b""


def test_a_host_that_closes_is_reported_and_the_port_can_be_opened_again(server: ConsoleServer, driver: Driver) -> None:
    opened(server, driver).close()
    assert driver.control() == (1, 6, 0)
    with pytest.raises(InfrastructureError, match="opened no port"):
        server.open(0.1, lambda: True)
    driver.say(1, 6, 0)
    driver.say(1, 6, 1)
    with server.open(LIMIT, lambda: True):
        assert driver.control() == (1, 6, 1)


def test_a_guest_that_dies_ends_every_channel(server: ConsoleServer, driver: Driver) -> None:
    with opened(server, driver) as connection:
        driver.socket.close()
        assert connection.recv(10) == b""
    with pytest.raises(InfrastructureError, match="ended before"):
        server.open(LIMIT, lambda: False)


@pytest.mark.parametrize("what", ["descriptor", "address", "loop", "message"])
def test_what_cannot_be_costs_the_guest_its_console_and_the_host_nothing(
    server: ConsoleServer, driver: Driver, what: str
) -> None:
    with opened(server, driver) as connection:
        if what == "message":
            driver.socket.sendall(struct.pack("<III", 1, 3, 0))  # a version that does not exist
        else:
            slot = driver.made[5] % SIZE
            at = PART * 5 + vq.DESC_SIZE * slot
            driver.memory[PART * 5 + 0x1000] = 1
            address, flags, following = {
                "descriptor": (0x5000, vq.DESC_NEXT, 99),
                "address": (MEMORY, 0, 0),
                "loop": (0x5000, vq.DESC_NEXT, slot),
            }[what]
            vq.DESCRIPTOR.pack_into(driver.memory, at, address, 8, flags, following)
            available = PART * 5 + vq.split_layout(SIZE).available
            struct.pack_into("<H", driver.memory, available + vq.AVAIL_RING + 2 * slot, slot)
            struct.pack_into("<H", driver.memory, available + vq.AVAIL_IDX, driver.made[5] + 1)
            os.eventfd_write(driver.kicks[5], 1)
        assert connection.recv(10) == b""
    assert server._thread.is_alive()


def test_a_socket_that_cannot_be_made_is_named() -> None:
    with pytest.raises(InfrastructureError, match="nowhere/s"):
        ConsoleServer(Path("/nowhere/s"))


def test_what_comes_in_the_same_round_as_the_end_is_ignored(tmp_path: Path) -> None:
    """A message, or a kick, whose connection was forgotten a moment before ended the thread with an internal error."""
    server = ConsoleServer(tmp_path / "console")
    try:
        server._message()
        server._kick_of(2)()
    finally:
        server.close()
