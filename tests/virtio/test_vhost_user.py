"""The vhost-user socket: a front end may do anything wrong, and the next one is still served."""

from __future__ import annotations

import array
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import vhost_user as vu
from protocol.virtqueue import Feature, Status
from reference_server.exports import Export, Exports
from reference_server.handlers import OPERATIONS
from reference_server.memfs import MemoryStore
from reference_server.session import Session
from reference_server.transports import unix
from reference_server.transports.front_end import PROTOCOL_FEATURES
from reference_server.transports.vhost_user import DeviceListener
from reference_server.virtio.device import OFFERED, Device
from tests.descriptors import held, leaked
from tests.waiting import PATIENT, eventually


class FrontEnd:
    """A front end that sends its messages one at a time."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENT)
        self.socket.connect(str(path))

    def send(self, request: int, body: bytes = b"", descriptors: tuple[int, ...] = (), flags: int = 0) -> None:
        fds = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.socket.sendmsg([vu.pack_message(request, body, flags)], fds)

    def reply(self) -> bytes:
        head = vu.unpack_header(self.socket.recv(vu.HEADER.size, socket.MSG_WAITALL))
        assert head.flags & vu.REPLY
        return self.socket.recv(head.size, socket.MSG_WAITALL)

    def ask(self, request: int, body: bytes = b"") -> int:
        self.send(request, body)
        return vu.NUMBER.unpack(self.reply()).value

    def acknowledged(self, request: int, body: bytes = b"", descriptors: tuple[int, ...] = ()) -> int:
        self.send(request, body, descriptors, vu.NEED_REPLY)
        return vu.NUMBER.unpack(self.reply()).value

    def agree(self) -> None:
        assert self.ask(vu.Request.GET_FEATURES) == OFFERED | Feature.VHOST_PROTOCOL_FEATURES.mask
        assert self.ask(vu.Request.GET_PROTOCOL_FEATURES) == PROTOCOL_FEATURES
        self.send(vu.Request.SET_PROTOCOL_FEATURES, number(PROTOCOL_FEATURES))

    def gone(self) -> bool:
        """Whether the back end has hung up."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def number(value: int) -> bytes:
    return vu.NUMBER.pack(vu.Number(value))


@pytest.fixture
def path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Path]:
    caplog.set_level(logging.WARNING, "reference_server")
    where = tmp_path / "s"
    exports = Exports(Export(MemoryStore()))
    device = Device("device", b"share", lambda: Session(exports, OPERATIONS))
    listener = DeviceListener(unix.bind(str(where)), device)
    listener.start()
    before = held()
    yield where
    last = FrontEnd(where)  # the next front end is served, whatever came before
    last.agree()
    assert last.ask(vu.Request.GET_STATUS) == 0
    last.socket.close()
    listener.close()
    assert leaked(before) == [], "a front end's descriptors were kept"


def _said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return eventually(lambda: any(text in record.message for record in caplog.records), f"nobody said {text!r}")


def test_the_tag_is_in_the_configuration_space(path: Path) -> None:
    front = FrontEnd(path)
    front.agree()
    for size in (2, 7, 34):
        front.send(vu.Request.GET_CONFIG, vu.pack_config(0, bytes(size)))
        assert vu.unpack_config(front.reply())[1] == b"\5\0share".ljust(size, b"\0")[:size]
    assert front.acknowledged(vu.Request.SET_CONFIG, vu.pack_config(0, b"x")) == 1
    front.socket.close()


def test_closing_within_a_message(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    front = FrontEnd(path)
    front.socket.send(vu.pack_message(vu.Request.SET_FEATURES, number(1))[:-3])
    front.socket.close()
    assert _said(caplog, "closed within a message, after 17 bytes of it")


def test_a_length_that_lies(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    front = FrontEnd(path)
    front.socket.send(vu.HEADER.pack(vu.Header(vu.Request.SET_FEATURES, vu.VERSION, 1 << 31)))
    assert front.gone()
    assert _said(caplog, "claims a body of 2147483648 bytes")
    front.socket.close()


def test_too_few_descriptors(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    front = FrontEnd(path)
    front.agree()
    regions = vu.pack_memory([vu.MemoryRegion(0, 4096, 0, 0), vu.MemoryRegion(8192, 4096, 8192, 0)])
    memory = os.memfd_create("m")
    os.ftruncate(memory, 4096)
    assert front.acknowledged(vu.Request.SET_MEM_TABLE, regions, (memory,)) == 1
    assert _said(caplog, "2 memory regions with 1 descriptors")
    front.send(vu.Request.SET_MEM_TABLE, regions, (memory,))
    assert front.gone(), "without a reply that could report it, the connection ends"
    os.close(memory)
    front.socket.close()


def test_memory_that_the_file_does_not_have(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    front = FrontEnd(path)
    front.agree()
    memory = os.memfd_create("m")
    os.ftruncate(memory, 4096)
    assert (
        front.acknowledged(vu.Request.SET_MEM_TABLE, vu.pack_memory([vu.MemoryRegion(0, 8192, 0, 0)]), (memory,)) == 1
    )
    assert _said(caplog, "reaches to byte 0x2000 of a file that has 0x1000")
    os.close(memory)
    front.socket.close()


def test_a_queue_that_there_is_not(path: Path) -> None:
    front = FrontEnd(path)
    front.agree()
    assert front.acknowledged(vu.Request.SET_VRING_NUM, vu.VRING_STATE.pack(vu.VringState(99, 16))) == 1
    assert front.acknowledged(77) == 1, "an unknown message is refused, and the connection goes on"
    assert front.acknowledged(vu.Request.SET_VRING_NUM, vu.VRING_STATE.pack(vu.VringState(0, 16))) == 0
    front.socket.close()


def test_a_front_end_that_hangs_keeps_nobody_waiting_at_the_end(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hanging = FrontEnd(path)
    hanging.socket.send(b"\1\0\0")
    second = FrontEnd(path)
    assert second.gone()
    assert _said(caplog, "a second front end was turned away")
    second.socket.close()
    hanging.socket.close()
    assert _said(caplog, "closed within a message")


def test_rings_outside_memory_are_reported_by_status_and_error_descriptor(path: Path) -> None:
    front = FrontEnd(path)
    front.agree()
    memory, kick, error = os.memfd_create("m"), os.eventfd(0), os.eventfd(0, os.EFD_NONBLOCK)
    os.ftruncate(memory, 1 << 16)
    wanted = Feature.VERSION_1.mask | Feature.VHOST_PROTOCOL_FEATURES.mask
    steps: list[tuple[int, bytes, tuple[int, ...]]] = [
        (vu.Request.SET_FEATURES, number(wanted), ()),
        (vu.Request.SET_MEM_TABLE, vu.pack_memory([vu.MemoryRegion(0, 1 << 16, 0, 0)]), (memory,)),
        (vu.Request.SET_VRING_NUM, vu.VRING_STATE.pack(vu.VringState(0, 16)), ()),
        (vu.Request.SET_VRING_ADDR, vu.VRING_ADDRESS.pack(vu.VringAddress(0, 0, 0, 1 << 20, 4096, 0)), ()),
        (vu.Request.SET_VRING_ERR, number(0), (error,)),
        (vu.Request.SET_VRING_KICK, number(0), (kick,)),
        (vu.Request.SET_VRING_ENABLE, vu.VRING_STATE.pack(vu.VringState(0, 1)), ()),
    ]
    for request, body, descriptors in steps:
        assert front.acknowledged(request, body, descriptors) == 0, request
    assert front.ask(vu.Request.GET_STATUS) & Status.NEEDS_RESET
    assert os.read(error, 8)
    assert front.acknowledged(vu.Request.RESET_DEVICE) == 0
    assert front.ask(vu.Request.GET_STATUS) == 0
    for descriptor in (memory, kick, error):
        os.close(descriptor)
    front.socket.close()


def test_a_listener_without_messages_as_notifications_offers_none_and_takes_none(tmp_path: Path) -> None:
    device = Device("device", b"share", lambda: Session(Exports(Export(MemoryStore())), OPERATIONS))
    listener = DeviceListener(unix.bind(str(tmp_path / "s")), device, in_band=False)
    listener.start()
    try:
        front = FrontEnd(tmp_path / "s")
        inband = vu.ProtocolFeature.INBAND_NOTIFICATIONS.mask
        assert front.ask(vu.Request.GET_PROTOCOL_FEATURES) == PROTOCOL_FEATURES & ~inband
        assert front.acknowledged(vu.Request.SET_PROTOCOL_FEATURES, number(PROTOCOL_FEATURES)) == 1
        assert front.acknowledged(vu.Request.SET_PROTOCOL_FEATURES, number(PROTOCOL_FEATURES & ~inband)) == 0
        front.socket.close()
    finally:
        listener.close()
