"""The transports: a session over each, frames that do not fit, and a guest's device that is given back."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from conformance.errors import InfrastructureError, SuiteError, UsageError
from conformance.raw.findings import HungUp, NoReply
from conformance.raw.operations import Client
from conformance.raw.server import Server
from conformance.run.wire import maker
from conformance.sut.asked import check
from conformance.sut.layers import chosen_link, drivable, links_of
from conformance.sut.load import load
from conformance.sut.local.kind import Local
from conformance.sut.qemu.deployment import QemuDeployment
from conformance.sut.qemu.guest_pci import GuestServer
from conformance.sut.qemu.qtest import QtestServer
from conformance.sut.qemu.tables import QemuTarget
from conformance.sut.qemu_vhost_user.qtest import ReferenceInQemu
from conformance.sut.servers.front_ends import reference_device
from conformance.sut.servers.tables import VhostUserTable
from conformance.sut.servers.vhost_user import ReferenceDevice, VhostUserServer
from conformance.transports.base import LinkClosed, LinkTimeout
from conformance.transports.virtqueue import RingLink
from conformance.virtio import guest_pci_payload as guest_side
from conformance.virtio.device import DeviceGone, RingTimeout
from conformance.virtio.driver import bring_up
from conformance.virtio.queues import Segment
from conformance.virtio.vhost_user import VhostUserDevice
from protocol import codec
from protocol.constants import GETATTR_BASIC
from protocol.messages import Rgetattr, Tgetattr
from protocol.virtqueue import Feature
from tests.links.model import ModelDevice
from tests.targets import asked, loaded
from tests.waiting import PATIENT, eventually


def talks(server: Server) -> None:
    """A session with many requests in flight, then another one."""
    for _ in range(2):
        client = Client(server.connect(), timeout=PATIENT)
        client.version(8192)
        client.attach(1, server.aname, b"root")
        assert client.getattr(1).mode & 0o40000
        requests = [Tgetattr(i % 16, 1, GETATTR_BASIC) for i in range(100)]
        assert [type(reply) for reply in client.pipeline(requests, 16)] == [Rgetattr] * 100
        client.close()


@pytest.mark.parametrize("legacy", [False, True], ids=["modern", "legacy"])
def test_qemu_over_qtest(tmp_path: Path, legacy: bool) -> None:
    server = QtestServer(tmp_path, legacy=legacy)
    server.start()
    try:
        talks(server)
        assert server.version()
    finally:
        server.stop()
    assert server.death() is not None


def test_notifications_in_messages(tmp_path: Path) -> None:
    server = reference_device("vhost-user-inband", (), tmp_path)
    server.start()
    try:
        talks(server)
        device = server.device()
        _agreed, queue = bring_up(device, device.memory.base)
        queue.add([Segment(device.memory.end, 7), Segment(device.memory.base + 65536, 64, True)])
        queue.publish()
        assert not device.broken()
        queue.kick()
        eventually(device.broken)
    finally:
        server.stop()


def test_a_driver_from_before_virtio_1(tmp_path: Path) -> None:
    server = reference_device("vhost-user-legacy", (), tmp_path)
    server.start()
    try:
        talks(server)
        device = server.device()
        agreed, queue = bring_up(device, -(-device.memory.base // 4096) * 4096)
        assert agreed == Feature.MOUNT_TAG.mask
        assert queue.rings.device % 4096 == 0
    finally:
        server.stop()


def attached() -> tuple[ModelDevice, RingLink, Client]:
    """A device, a link to it, and a client on that which has attached the root as fid 1."""
    device = ModelDevice()
    link = RingLink(device)
    client = Client(link)
    client.version(8192)
    client.attach(1, b"", b"root")
    return device, link, client


def test_a_device_that_needs_a_reset_closes_the_link() -> None:
    link = RingLink(ModelDevice())
    client = Client(link)
    client.version(8192)
    link.send([b"\x05\0\0\0\x01"])
    with pytest.raises(LinkClosed, match="needs a reset"):
        link.recv(1.0)


def test_a_device_that_needs_a_reset_is_not_waited_for() -> None:
    device = ModelDevice()
    link = RingLink(device)
    Client(link).version(8192)
    waits: list[float] = []

    def waited(address: int, old: int, timeout: float) -> int:
        waits.append(timeout)
        raise RingTimeout("nothing comes")

    link.send([b"\x05\0\0\0\x01"])
    device.memory.wait16 = waited  # type: ignore[method-assign]
    with pytest.raises(LinkClosed, match="needs a reset"):
        link.recv(3600.0)
    assert sum(waits) < 1


def test_a_reply_that_came_before_the_device_broke_is_not_lost() -> None:
    device, _, client = attached()
    wait = device.memory.wait16

    def overtaken(address: int, old: int, timeout: float) -> int:
        device.memory.wait16 = wait  # type: ignore[method-assign]
        raise RingTimeout("the reply comes now")

    device.memory.wait16 = overtaken  # type: ignore[method-assign]
    device.broken = lambda: True  # type: ignore[method-assign]
    assert isinstance(client.getattr(1), Rgetattr)


def test_a_device_that_cannot_say_so_hangs_up_when_it_serves_nothing_any_more() -> None:
    """A request that is only late or lost is not a hang-up: requests after it are served."""
    device = ModelDevice("hides its reset")
    link = RingLink(device)
    client = Client(link, timeout=0.2)
    client.version(8192)
    client.attach(1, b"", b"root")
    kick = device.kick
    device.kick = lambda queue: None  # type: ignore[method-assign]
    late = client.getattr.send(1)
    device.kick = kick  # type: ignore[method-assign]
    with pytest.raises(NoReply):
        late.wait()
    assert isinstance(late.wait(), Rgetattr) and not client.hung_up
    link.send([b"\x05\0\0\0\x01"])
    with pytest.raises(HungUp, match="no request is served any more"):
        client.getattr(1)
    assert client.hung_up


def test_more_requests_than_the_queue_holds() -> None:
    _, _, client = attached()
    requests = [Tgetattr(i, 1, GETATTR_BASIC) for i in range(500)]
    assert [type(reply) for reply in client.pipeline(requests, 500)] == [Rgetattr] * 500


def test_requests_in_turn() -> None:
    device, link, _ = attached()
    kicks = 0
    kick = device.kick

    def counted(queue: int) -> None:
        nonlocal kicks
        kicks += 1
        kick(queue)

    device.kick = counted  # type: ignore[method-assign]
    for first in (0, 64, 128):  # past the ring's end
        link.send_in_turn([[codec.frame(Tgetattr(first + i, 1, GETATTR_BASIC))] for i in range(link.depth)])
        assert [codec.decode(link.recv(1.0)).tag for _ in range(link.depth)] == list(range(first, first + link.depth))
    assert kicks == 3 * link.depth
    link.send([codec.frame(Tgetattr(1, 1, GETATTR_BASIC))])
    assert isinstance(codec.decode(link.recv(1.0)), Rgetattr)
    link.send([codec.frame(Tgetattr(1, 1, GETATTR_BASIC))])
    with pytest.raises(SuiteError, match="1 in flight"):
        link.send_in_turn([[b""]])


def test_requests_in_turn_that_hang() -> None:
    device = ModelDevice()
    link = RingLink(device)
    device.kick = lambda queue: None  # type: ignore[method-assign]
    with pytest.raises(LinkTimeout):
        link.send_in_turn([[codec.frame(Tgetattr(1, 1, GETATTR_BASIC))]])


def test_lines_into_a_guest() -> None:
    for data in (b"", b"x" * 100, b"\xa5" * guest_side.PACKED_FROM):
        line = guest_side.packed(data)
        assert b"\n" not in line
        assert guest_side.unpacked(line) == data
    assert len(guest_side.packed(b"\xa5" * (1 << 20))) < 8192


def test_links_of_targets(tmp_path: Path) -> None:
    assert next(iter(links_of(load("qemu")))) == "qtest"
    assert chosen_link(load("reference"), "vhost-user") == "vhost-user"
    assert isinstance(maker(asked("qemu", ("wire",), link="guest-pci"), "wire")(tmp_path), GuestServer)
    legacy = maker(asked("qemu", ("wire",), link="qtest-legacy"), "wire")(tmp_path)
    assert isinstance(legacy, QtestServer) and legacy.legacy
    assert isinstance(maker(asked("reference-uml", ("wire",)), "wire")(tmp_path), ReferenceDevice)
    with pytest.raises(UsageError, match="did you mean 'qtest'"):
        chosen_link(load("qemu"), "qtst")
    with pytest.raises(UsageError, match="raw frames do not reach it"):
        maker(asked("local"), "wire")
    with pytest.raises(UsageError, match="--address PATH"):
        VhostUserServer(VhostUserTable(program="vhost-user"))


def test_a_stream_of_bytes_is_not_offered_the_layer_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its name."""
    monkeypatch.setattr(Local, "transports", lambda *_: {"serial": "bytes"})
    local = load("local")
    assert "wire" in drivable(local) and "ring" not in drivable(local)
    assert chosen_link(local, None) == "serial" and chosen_link(local, None, "ring") is None
    with pytest.raises(UsageError, match="layer ring needs virtqueues, and --link serial has none"):
        chosen_link(local, "serial", "ring")


@pytest.mark.parametrize(
    ("says", "seen"),
    [
        (b"", "does not answer"),
        (b"\x01\0\0\0\x05\0\0\0\xff\xff\xff\xff", "not a message"),
        (b"\x01\0\0\0\x05\0\0\0\x04\0\0\0ab", "does not answer"),
        (b"\x01\0\0\0\x05\0\0\0\x02\0\0\0ab", "not a number"),
        (b"\x09\0\0\0\x05\0\0\0\x08\0\0\0abcdefgh", "was answered with message 9"),
        (None, "closed|reset|takes no"),
    ],
    ids=["silent", "huge", "cut", "short", "other", "closing"],
)
def test_a_back_end_that_lies(tmp_path: Path, says: bytes | None, seen: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def act() -> None:
            with listener.accept()[0] as peer:
                if says is not None:
                    peer.recv(12)
                    peer.sendall(says)
                    over.wait()

        over = threading.Event()
        thread = threading.Thread(target=act)
        thread.start()
        try:
            with pytest.raises(DeviceGone, match=seen):
                VhostUserDevice(str(tmp_path / "s"), answer=1.0 if seen == "does not answer" else PATIENT)
        finally:
            over.set()
            thread.join()


def test_addresses_without_a_back_end(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it does not exist"):
        check(asked("vhost-user", ("wire",), address=str(tmp_path / "nothing")))
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match="no vhost-user back end answers at"):
        check(asked("vhost-user", ("wire",), address=str(tmp_path / "file")))


@pytest.mark.guest
def test_the_reference_device_in_qemu(tmp_path: Path) -> None:
    server = ReferenceInQemu(tmp_path, reference_device("vhost-user", (), tmp_path))
    server.start()
    try:
        talks(server)
        assert server.process is not None and server.pid() != server.process.pid
    finally:
        server.stop()
    assert server.death() is not None


@pytest.mark.guest
def test_a_guest_gets_its_device_back(tmp_path: Path) -> None:
    """It is given back as often as ASSAY9_GIVE_BACKS says; every fourth time over SSH."""
    server = GuestServer(lambda: QemuDeployment(loaded("qemu", QemuTarget), tmp_path, print))
    server.start()
    try:
        talks(server)
        shell = server.shell()
        link = server.connect()
        assert isinstance(link, RingLink)
        client = Client(link, timeout=PATIENT)
        client.version(8192)
        client.attach(1, server.aname, b"root")
        link.send_in_turn([[codec.frame(Tgetattr(i, 1, GETATTR_BASIC))] for i in range(link.depth)])
        assert [codec.decode(link.recv(PATIENT)).tag for _ in range(link.depth)] == list(range(link.depth))
        client.close()
        for turn in range(int(os.environ.get("ASSAY9_GIVE_BACKS", "4"))):
            server.give_back()
            done = shell.run(
                "mkdir -p /mnt/share0 && mount -t 9p -o trans=virtio,version=9p2000.L share0 /mnt/share0"
                " && ls /mnt/share0 && umount /mnt/share0",
                timeout=PATIENT,
            )
            assert done.status == 0, (turn, done)
            server.take(over_ssh=turn % 4 == 0)
        talks(server)
    finally:
        server.stop()
