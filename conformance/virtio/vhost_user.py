"""The transport over vhost-user: the suite is the front end, with its own guest memory, and drives any back end.

Registers that vhost-user does not carry are kept here: without the protocol feature STATUS the status field is the
front end's own, as in QEMU and User-Mode Linux; a back end then reports that it is broken through the error descriptor
of its queue.

Source: QEMU's docs/interop/vhost-user.rst.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
from collections.abc import Sequence

from conformance.virtio.device import Device, DeviceGone, Refused, Rings, Turns, step_by_step
from conformance.virtio.shared_memory import SharedMemory
from protocol import vhost_user as vu
from protocol.virtqueue import Feature, Status

_ANSWER = 10.0
_QUEUE_MAX = 256
_WANTED = (
    vu.ProtocolFeature.REPLY_ACK,
    vu.ProtocolFeature.CONFIG,
    vu.ProtocolFeature.RESET_DEVICE,
    vu.ProtocolFeature.STATUS,
    vu.ProtocolFeature.MQ,
)


_INBAND = vu.ProtocolFeature.INBAND_NOTIFICATIONS.mask | vu.ProtocolFeature.BACKEND_REQ.mask


class VhostUserDevice(Device):
    """A vhost-user back end, as a `Device`."""

    shows_reset = True  # by its status, by the queue's error descriptor, or by hanging up

    def __init__(self, path: str, answer: float = _ANSWER, *, inband: bool = False, legacy: bool = False) -> None:
        """Connect and negotiate protocol features; `answer`: seconds that a reply may take; `inband`: notifications are
        messages instead of eventfds, if the back end offers that; `legacy`: like a driver from before virtio 1.0, which
        knows 32 feature bits and no FEATURES_OK.

        Raises OSError, DeviceGone."""
        self.name = f"vhost-user:{path}"
        self.legacy = legacy
        self._path = path
        self._answer = answer
        self.memory = SharedMemory()
        self._socket: socket.socket | None = None
        self._protocol = 0
        self._features = 0
        self._status = 0
        self._kick = self._call = self._error = -1
        self._inband = inband
        self._channel: socket.socket | None = None
        """Our end of the back end's own requests, where notifications are messages."""
        self._heard = b""
        self._started = False
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    # ---- the connection

    def _connect(self) -> None:
        self._hang_up()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(self._answer)
        self._socket.connect(self._path)
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
        self._kick, self._call, self._error = (os.eventfd(0, flags) for _ in range(3))
        self.memory.call, self.memory.hear = self._call, self._hear_call
        self._protocol = 0
        self._send_acknowledged(vu.Request.SET_OWNER)
        if self._features_word() & Feature.VHOST_PROTOCOL_FEATURES.mask:
            offered = self._number(vu.Request.GET_PROTOCOL_FEATURES)
            wanted = sum(f.mask for f in _WANTED) & offered
            if self._inband and offered & _INBAND == _INBAND:
                wanted |= _INBAND
            self._send_acknowledged(vu.Request.SET_PROTOCOL_FEATURES, _u64(wanted))
            self._protocol = wanted
            if wanted & _INBAND:
                self._open_channel()
        self.has_status = self._has(vu.ProtocolFeature.STATUS)
        self._status, self._started, self._features = 0, False, 0

    def _open_channel(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._send_acknowledged(vu.Request.SET_BACKEND_REQ_FD, b"", (theirs.fileno(),))
        self._channel.setblocking(False)
        self._heard = b""
        self.memory.call, self.memory.hear = self._channel.fileno(), self._hear_channel

    def _hear_call(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._call, 8)
            self.memory.rung = True

    def _hear_channel(self) -> None:
        """Read the back end's own requests. Raises DeviceGone for anything else."""
        assert self._channel is not None
        try:
            while data := self._channel.recv(1 << 16):
                self._heard += data
        except BlockingIOError:
            pass
        except OSError as error:
            raise DeviceGone(f"the back end's own channel broke: {error}") from None
        while len(self._heard) >= vu.HEADER.size:
            head = vu.unpack_header(self._heard[: vu.HEADER.size])
            end = vu.HEADER.size + head.size
            if len(self._heard) < end:
                break
            self._heard = self._heard[end:]
            if head.request == vu.BackendRequest.VRING_CALL:
                self.memory.rung = True
            elif head.request == vu.BackendRequest.VRING_ERR:
                os.eventfd_write(self._error, 1)

    def _hang_up(self) -> None:
        for one in (self._socket, self._channel):
            if one is not None:
                one.close()
        self._socket = self._channel = None
        for descriptor in (self._kick, self._call, self._error):
            if descriptor >= 0:
                os.close(descriptor)
        self._kick = self._call = self._error = -1

    def _has(self, feature: vu.ProtocolFeature) -> bool:
        return bool(self._protocol & feature.mask)

    def _send_acknowledged(self, request: vu.Request, body: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send; with REPLY_ACK wait until it is done. Raises DeviceGone if it was refused or the back end is gone."""
        ask = self._has(vu.ProtocolFeature.REPLY_ACK)
        self._send(request, body, descriptors, vu.NEED_REPLY if ask else 0)
        if ask:
            refused = self._value(request, self._reply(request))
            if refused:
                raise Refused(f"the back end refuses {request.name}: {refused:#x}")

    def _ask(self, request: vu.Request, body: bytes = b"") -> bytes:
        self._send(request, body, (), 0)
        return self._reply(request)

    def _number(self, request: vu.Request) -> int:
        return self._value(request, self._ask(request))

    def _value(self, request: vu.Request, body: bytes) -> int:
        try:
            return vu.NUMBER.unpack(body).value
        except vu.Malformed as error:
            raise DeviceGone(f"the back end's answer to {request.name} is not a number: {error}") from None

    def _send(self, request: vu.Request, body: bytes, descriptors: Sequence[int], flags: int) -> None:
        if self._socket is None:
            raise DeviceGone("the connection to the back end is closed")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([vu.pack_message(request, body, flags)], ancillary)
        except OSError as error:
            raise DeviceGone(f"the back end takes no {request.name}: {error}") from None

    def _reply(self, request: vu.Request) -> bytes:
        try:
            head = vu.unpack_header(self._exactly(vu.HEADER.size))
            body = self._exactly(head.size)
        except TimeoutError:
            raise DeviceGone(f"the back end does not answer {request.name} within {self._answer:.0f} s") from None
        except OSError as error:
            raise DeviceGone(f"the back end's socket broke in {request.name}: {error}") from None
        except vu.Malformed as error:
            raise DeviceGone(f"the back end's answer to {request.name} is not a message: {error}") from None
        if head.request != request or not head.flags & vu.REPLY:
            raise DeviceGone(f"{request.name} was answered with message {head.request}, flags {head.flags:#x}")
        return body

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            assert self._socket is not None
            got = self._socket.recv(count - len(data))
            if not got:
                raise DeviceGone("the back end closed the connection")
            data += got
        return data

    def _features_word(self) -> int:
        return self._number(vu.Request.GET_FEATURES)

    # ---- Device

    def reset(self) -> None:
        """See Device: the queue is stopped, and the device reset; without such a message, by a new connection."""
        if not self._started and not self._status:
            self.notified()
            return
        if self._has(vu.ProtocolFeature.RESET_DEVICE) or self.has_status:
            if self._started:
                self._send_acknowledged(vu.Request.SET_VRING_ENABLE, vu.VRING_STATE.pack(vu.VringState(0, 0)))
                self._ask(vu.Request.GET_VRING_BASE, vu.VRING_STATE.pack(vu.VringState(0, 0)))
            if self.has_status:
                self._send_acknowledged(vu.Request.SET_STATUS, _u64(0))
            if self._has(vu.ProtocolFeature.RESET_DEVICE):
                self._send_acknowledged(vu.Request.RESET_DEVICE)
            self._status, self._started, self._features = 0, False, 0
            with contextlib.suppress(BlockingIOError):
                os.read(self._error, 8)
        else:
            try:
                self._connect()
            except OSError as error:
                raise DeviceGone(f"the back end takes no new connection: {error}") from None
        self.notified()

    def status(self) -> int:
        if self.has_status:
            return self._number(vu.Request.GET_STATUS) & 0xFF
        return self._status | (Status.NEEDS_RESET if self._in_error() else 0)

    def set_status(self, value: int) -> None:
        if value == 0:
            self.reset()
            return
        if value & Status.FEATURES_OK and not self._status & Status.FEATURES_OK:
            try:
                self._send_acknowledged(vu.Request.SET_FEATURES, _u64(self._features | self._own_bit()))
            except Refused:
                value &= ~Status.FEATURES_OK
        self._status = int(value)
        if self.has_status:
            self._send_acknowledged(vu.Request.SET_STATUS, _u64(int(value)))

    def _own_bit(self) -> int:
        return Feature.VHOST_PROTOCOL_FEATURES.mask if self._protocol else 0

    def offered(self) -> int:
        seen = self._features_word() & ~Feature.VHOST_PROTOCOL_FEATURES.mask
        return seen & 0xFFFF_FFFF if self.legacy else seen

    def accept(self, features: int) -> None:
        """See Device: sent with FEATURES_OK, if the driver has it."""
        self._features = features
        if self.legacy:
            with contextlib.suppress(Refused):  # the legacy interface cannot report a refusal
                self._send_acknowledged(vu.Request.SET_FEATURES, _u64(features | self._own_bit()))

    def config(self, offset: int, length: int, width: int = 1) -> bytes:
        """See Device: one message for each access."""
        found = b""
        for at in range(offset, offset + length, width):
            body = self._ask(vu.Request.GET_CONFIG, vu.pack_config(at, bytes(width)))
            if not body:
                raise DeviceGone(f"the back end refuses to read its configuration space at {at}")
            try:
                found += vu.unpack_config(body)[1]
            except vu.Malformed as error:
                raise DeviceGone(f"the back end's configuration space is none: {error}") from None
        return found

    def set_config(self, offset: int, data: bytes) -> None:
        for at, byte in enumerate(data):
            with contextlib.suppress(Refused):
                self._send_acknowledged(vu.Request.SET_CONFIG, vu.pack_config(offset + at, bytes([byte])))

    def queue_max(self, queue: int) -> int:
        """See Device: vhost-user lets the front end choose."""
        return _QUEUE_MAX if queue == 0 else 0

    def stop_queue(self, queue: int) -> int:
        """Stop a queue, as for a migration; returns the position from which it must resume (vhost-user,
        GET_VRING_BASE).
        """
        state = vu.VRING_STATE.pack(vu.VringState(queue, 0))
        return vu.VRING_STATE.unpack(self._ask(vu.Request.GET_VRING_BASE, state)).num

    def resume_queue(self, queue: int, size: int, rings: Rings, base: int) -> None:
        """Start a queue that was stopped where it stopped."""
        self._start_queue(queue, size, rings, base)

    def start_queue(self, queue: int, size: int, rings: Rings) -> None:
        packed = bool(self._features & Feature.RING_PACKED.mask)
        self._start_queue(queue, size, rings, 0x8000_8000 if packed else 0)  # both wrap counters begin at 1

    def _start_queue(self, queue: int, size: int, rings: Rings, base: int) -> None:
        regions = self.memory.regions()
        self._send_acknowledged(
            vu.Request.SET_MEM_TABLE, vu.pack_memory(regions), [self.memory.descriptor] * len(regions)
        )
        user = self.memory.user
        inband = self._channel is not None
        call, error, kick = ((),) * 3 if inband else ((self._call,), (self._error,), (self._kick,))
        number = _u64(queue | vu.VRING_NO_FD if inband else queue)
        steps = (
            (vu.Request.SET_VRING_NUM, vu.VRING_STATE.pack(vu.VringState(queue, size)), ()),
            (vu.Request.SET_VRING_BASE, vu.VRING_STATE.pack(vu.VringState(queue, base)), ()),
            (
                vu.Request.SET_VRING_ADDR,
                vu.VRING_ADDRESS.pack(
                    vu.VringAddress(queue, 0, user(rings.descriptors), user(rings.device), user(rings.driver), 0)
                ),
                (),
            ),
            (vu.Request.SET_VRING_CALL, number, call),
            (vu.Request.SET_VRING_ERR, number, error),
            (vu.Request.SET_VRING_KICK, number, kick),
            (vu.Request.SET_VRING_ENABLE, vu.VRING_STATE.pack(vu.VringState(queue, 1)), ()),
        )
        self._started = True
        for request, body, descriptors in steps:
            try:
                self._send_acknowledged(request, body, descriptors)
            except Refused:
                # A back end may refuse addresses at once, to report that the queue is broken.
                os.eventfd_write(self._error, 1)

    def kick(self, queue: int) -> None:
        if self._channel is not None:
            with contextlib.suppress(Refused):
                self._send_acknowledged(vu.Request.VRING_KICK, vu.VRING_STATE.pack(vu.VringState(queue, 0)))
        elif queue == 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self._kick, 1)

    def in_turn(self, queue: int, turns: Turns, timeout: float) -> None:
        step_by_step(self.memory, lambda: self.kick(queue), turns, timeout)

    def notified(self) -> bool:
        self.memory.hear()
        rung, self.memory.rung = self.memory.rung, False
        return rung

    def _in_error(self) -> bool:
        if self._channel is not None:
            self._hear_channel()
        return self._error >= 0 and bool(select.select([self._error], [], [], 0)[0])

    def broken(self) -> bool:
        """See Device and `shows_reset`."""
        if self._in_error():
            return True
        return self.has_status and bool(self.status() & Status.NEEDS_RESET)

    def close(self) -> None:
        self._hang_up()
        self.memory.close()


def _u64(value: int) -> bytes:
    return vu.NUMBER.pack(vu.Number(value))
