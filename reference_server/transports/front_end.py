"""One vhost-user front end: QEMU, User-Mode Linux, or a test.

The rule of this module: it turns messages into calls of the :class:`Device`, and descriptors into memory and
notifications. A message that breaks the protocol ends the connection.

Source: QEMU's docs/interop/vhost-user.rst; what Linux's virtio_uml.c and QEMU's hw/virtio/vhost-user.c send.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import selectors
import socket
import struct
import threading
from dataclasses import dataclass

from protocol import vhost_user as vu
from protocol.vhost_user import Malformed, ProtocolFeature, Request
from protocol.virtqueue import Feature, Status
from reference_server.virtio.device import OFFERED, Device, Queue
from reference_server.virtio.memory import Broken, GuestMemory, Region
from reference_server.virtio.rings import RingAddress

log = logging.getLogger("reference_server")

TAG_MAX = vu.CONFIG_MAX - 2
"""Bytes: vhost-user carries no longer configuration space."""

PROTOCOL_FEATURES = sum(
    feature.mask
    for feature in (
        ProtocolFeature.MQ,
        ProtocolFeature.REPLY_ACK,
        ProtocolFeature.BACKEND_REQ,
        ProtocolFeature.CONFIG,
        ProtocolFeature.RESET_DEVICE,
        ProtocolFeature.INBAND_NOTIFICATIONS,
        ProtocolFeature.STATUS,
    )
)

FRESH = (0, 0x8000_8000)
"""Bases of a driver that starts over; any other base continues a stopped queue, as QEMU does after a pause."""

_ACK = struct.pack("<Q", 1)

_REPLY_TIMEOUT = struct.pack("ll", 10, 0)
"""Seconds that a front end may let a reply wait before it is given up (struct timeval)."""

_POLL = 0.001
"""Seconds between polls of queues without a kick descriptor."""


@dataclass
class _Line:
    """The descriptors of one queue."""

    kick: int = -1
    call: int = -1
    err: int = -1
    started: bool = False
    polled: bool = False
    """Whether the queue has no kick descriptor and has to be polled."""


class Gone(Exception):
    """The connection ends. The text says why; empty if the front end closed it normally."""


class FrontEnd:
    """One connection."""

    def __init__(
        self, sock: socket.socket, device: Device, selector: selectors.BaseSelector, in_band: bool = True
    ) -> None:
        self._sock, self._device, self._selector = sock, device, selector
        own = ProtocolFeature.INBAND_NOTIFICATIONS.mask
        self._offered = PROTOCOL_FEATURES if in_band else PROTOCOL_FEATURES & ~own
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _REPLY_TIMEOUT)
        self._lines = [_Line() for _ in device.queues]
        self._part = bytearray()
        self._fds: list[int] = []
        self._features = 0
        self._protocol = 0
        self._back = -1
        self._again: set[int] = set()
        """Queues in which more may wait."""
        self._lock = threading.Lock()
        """Guards the descriptors that workers signal through."""
        for queue in device.queues:
            queue.signal = self._signal
        device.when_broken = self._report_broken
        selector.register(sock, selectors.EVENT_READ, self._message)

    # --- the loop's part ------------------------------------------------------------------------------

    def timeout(self) -> float | None:
        """Seconds after which ``tick`` must be called in any case."""
        if self._again:
            return 0
        return _POLL if any(line.polled and line.started for line in self._lines) else None

    def tick(self) -> None:
        """Serve the queues that have more requests, and those that cannot notify."""
        again, self._again = self._again, set()
        for queue, line in zip(self._device.queues, self._lines, strict=True):
            if queue.index in again or (line.polled and line.started):
                self._run(queue)

    def leaves(self) -> bool:
        """Whether it has closed its end, even if earlier messages are still unread: the next connection replaces it."""
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Release everything that the front end passed."""
        self._device.reset()
        self._device.memory = GuestMemory()
        self._device.when_broken = lambda: None
        for line in self._lines:
            self._unwatch(line)
        with self._lock:
            for line in self._lines:
                line.call = _closed(line.call)
                line.err = _closed(line.err)
            self._back = _closed(self._back)
        for descriptor in self._fds:
            os.close(descriptor)
        self._fds = []
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._sock)
        self._sock.close()

    def _run(self, queue: Queue) -> None:
        if self._device.run(queue):
            self._again.add(queue.index)

    def _kicked(self, index: int) -> None:
        line = self._lines[index]
        try:
            if not os.read(line.kick, 8):
                self._unwatch(line)
                return
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone(f"the kick descriptor of queue {index} cannot be read: {error.strerror}") from None
        self._run(self._device.queues[index])

    def _unwatch(self, line: _Line) -> None:
        if line.kick >= 0:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(line.kick)
            line.kick = _closed(line.kick)

    # --- notifying ----------------------------------------------------------------------------------------

    def _signal(self, queue: Queue) -> None:
        """Used buffer notification. Thread-safe."""
        line = self._lines[queue.index]
        with self._lock:
            if line.call >= 0:
                # A full pipe or counter is a notification that was not taken yet.
                with contextlib.suppress(OSError):
                    os.write(line.call, _ACK)
            elif self._protocol & ProtocolFeature.INBAND_NOTIFICATIONS.mask:
                self._ask(vu.BackendRequest.VRING_CALL, vu.VRING_STATE.pack(vu.VringState(queue.index, 0)))

    def _report_broken(self) -> None:
        with self._lock:
            for index, line in enumerate(self._lines):
                if line.err >= 0:
                    with contextlib.suppress(OSError):
                        os.write(line.err, _ACK)
                elif line.started and self._protocol & ProtocolFeature.INBAND_NOTIFICATIONS.mask:
                    self._ask(vu.BackendRequest.VRING_ERR, vu.VRING_STATE.pack(vu.VringState(index, 0)))
            if self._protocol & ProtocolFeature.CONFIG.mask:
                self._ask(vu.BackendRequest.CONFIG_CHANGE, b"")

    def _ask(self, request: vu.BackendRequest, body: bytes) -> None:
        """Send a back-end request.  It is lost when the front end does not read: its channel must not block the
        device."""
        if self._back >= 0:
            with contextlib.suppress(OSError):
                os.write(self._back, vu.pack_message(request, body))

    # --- messages ---------------------------------------------------------------------------------------

    def _message(self) -> None:
        """Read the available part of one message, and perform it when it is complete. Raises Gone."""
        head = vu.HEADER.size
        want = head
        if len(self._part) >= head:
            want += vu.unpack_header(self._part[:head]).size
        try:
            data, descriptors, flags, _ = socket.recv_fds(
                self._sock, want - len(self._part), vu.DESCRIPTORS_MAX, socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone(f"{error.strerror}") from None
        self._fds += descriptors
        if flags & socket.MSG_CTRUNC or len(self._fds) > vu.DESCRIPTORS_MAX:
            raise Gone(f"more than {vu.DESCRIPTORS_MAX} descriptors with a message")
        if not data:
            raise Gone(f"closed within a message, after {len(self._part)} bytes of it" if self._part else "")
        self._part += data
        if len(self._part) < head:
            return
        found = vu.unpack_header(self._part[:head])
        if len(self._part) < head + found.size:
            return
        body = bytes(self._part[head:])
        self._part.clear()
        descriptors, self._fds = self._fds, []
        try:
            self._answer(found, body, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)  # unused descriptors

    def _answer(self, head: vu.Header, body: bytes, descriptors: list[int]) -> None:
        # Linux's virtio_uml asks for a reply to the very message that negotiates replies.
        negotiated = self._protocol & ProtocolFeature.REPLY_ACK.mask or head.request == Request.SET_PROTOCOL_FEATURES
        wanted = head.flags & vu.NEED_REPLY and negotiated
        try:
            request = Request(head.request)
        except ValueError:
            reply: bytes | None = None
            failed = True
            log.info("%s: message %d is not known here", self._device.name, head.request)
        else:
            failed = False
            try:
                reply = self._perform(request, body, descriptors)
            except (Malformed, Broken) as error:
                if not wanted or request in vu.REPLIED:
                    raise Gone(f"{request.name}: {error}") from None
                log.warning("%s: refused %s: %s", self._device.name, request.name, error)
                reply, failed = None, True
        if reply is None and wanted:
            reply = vu.NUMBER.pack(vu.Number(int(failed)))
        if reply is not None:
            try:
                self._sock.sendall(vu.pack_message(head.request, reply, vu.REPLY))
            except OSError as error:
                raise Gone(f"the reply to message {head.request} is not taken: {error.strerror}") from None

    def _perform(self, request: Request, body: bytes, descriptors: list[int]) -> bytes | None:
        """Perform it; returns the body of its reply, if it has one. Removes from ``descriptors`` those that it keeps.

        Raises Malformed, Broken.
        """
        device = self._device
        match request:
            case Request.GET_FEATURES:
                return _number(OFFERED | Feature.VHOST_PROTOCOL_FEATURES.mask)
            case Request.SET_FEATURES:
                self._features = vu.NUMBER.unpack(body).value
                device.accept(self._features & ~Feature.VHOST_PROTOCOL_FEATURES.mask)
            case Request.GET_PROTOCOL_FEATURES:
                return _number(self._offered)
            case Request.SET_PROTOCOL_FEATURES:
                chosen = vu.NUMBER.unpack(body).value
                if chosen & ~self._offered:
                    raise Broken(f"protocol features {chosen & ~self._offered:#x} were not offered")
                self._protocol = chosen
            case Request.GET_QUEUE_NUM:
                return _number(len(device.queues))
            case Request.GET_CONFIG:
                return self._config(body)
            case Request.SET_CONFIG:
                raise Broken("the configuration space of a 9P device is read-only")
            case Request.GET_STATUS:
                return _number(device.status)
            case Request.SET_STATUS:
                self._set_status(vu.NUMBER.unpack(body).value)
            case Request.RESET_DEVICE | Request.RESET_OWNER:
                self._reset()
            case Request.SET_MEM_TABLE:
                self._set_memory(body, descriptors)
            case Request.SET_BACKEND_REQ_FD:
                with self._lock:
                    self._back = _closed(self._back)
                    if not descriptors:
                        raise Broken("no descriptor came with it")
                    self._back = descriptors.pop(0)
                    os.set_blocking(self._back, False)
            case Request.SET_OWNER:
                pass
            case _:
                return self._perform_on_queue(request, body, descriptors)
        return None

    def _perform_on_queue(self, request: Request, body: bytes, descriptors: list[int]) -> bytes | None:
        device = self._device
        match request:
            case Request.SET_VRING_NUM:
                state = vu.VRING_STATE.unpack(body)
                self._stopped(state.vring).size = state.num
            case Request.SET_VRING_BASE:
                state = vu.VRING_STATE.unpack(body)
                queue = self._stopped(state.vring)
                if state.num in FRESH:
                    device.fresh()
                queue.base = state.num
            case Request.GET_VRING_BASE:
                state = vu.VRING_STATE.unpack(body)
                queue = self._queue(state.vring)
                base = device.stop(queue)
                self._lines[queue.index].started = False
                self._unwatch(self._lines[queue.index])
                return vu.VRING_STATE.pack(vu.VringState(state.vring, base))
            case Request.SET_VRING_ADDR:
                place = vu.VRING_ADDRESS.unpack(body)
                queue = self._stopped(place.vring)
                queue.at = RingAddress(place.descriptor, place.available, place.used)
            case Request.SET_VRING_KICK:
                self._set_kick(body, descriptors)
            case Request.SET_VRING_CALL | Request.SET_VRING_ERR:
                queue, descriptor = self._with_descriptor(body, descriptors)
                line = self._lines[queue.index]
                with self._lock:
                    if request is Request.SET_VRING_CALL:
                        line.call = _closed(line.call)
                        line.call = descriptor
                    else:
                        line.err = _closed(line.err)
                        line.err = descriptor
            case Request.SET_VRING_ENABLE:
                state = vu.VRING_STATE.unpack(body)
                queue = self._queue(state.vring)
                queue.enabled = bool(state.num)
                self._begin(queue)
            case Request.VRING_KICK:
                state = vu.VRING_STATE.unpack(body)
                queue = self._queue(state.vring)
                self._lines[queue.index].started = True
                self._begin(queue)
            case _:
                raise Broken(f"{request.name} is not served")
        return None

    def _config(self, body: bytes) -> bytes:
        asked, _ = vu.unpack_config(body)
        if asked.offset + asked.size > vu.CONFIG_MAX:
            return vu.pack_config(asked.offset, b"", asked.flags)  # how the protocol reports an error
        data = self._device.config[asked.offset : asked.offset + asked.size]
        return vu.pack_config(asked.offset, data.ljust(asked.size, b"\0"), asked.flags)

    def _set_status(self, value: int) -> None:
        device = self._device
        if value:
            device.status = value | (Status.NEEDS_RESET if device.broken else 0)
        elif any(queue.ring for queue in device.queues):
            self._reset()
        else:
            # Queues that were stopped one by one may resume: so does QEMU after a pause, and the session with them. A
            # queue that starts over gets its own session (SET_VRING_BASE).
            device.status = 0
            device.broken = False

    def _reset(self) -> None:
        self._device.reset()
        for line in self._lines:
            line.started = False
            self._unwatch(line)

    def _set_memory(self, body: bytes, descriptors: list[int]) -> None:
        regions = vu.unpack_memory(body)
        if len(regions) != len(descriptors):
            raise Broken(f"{len(regions)} memory regions with {len(descriptors)} descriptors")
        found = [Region(region, fd) for region, fd in zip(regions, descriptors, strict=True)]
        self._device.set_memory(GuestMemory(found))

    def _queue(self, index: int) -> Queue:
        if index >= len(self._device.queues):
            raise Broken(f"there is no queue {index}")
        return self._device.queues[index]

    def _stopped(self, index: int) -> Queue:
        """A queue whose address is about to be set: requests that still run there end."""
        queue = self._queue(index)
        if queue.ring is not None:
            self._device.stop(queue)
        return queue

    def _with_descriptor(self, body: bytes, descriptors: list[int]) -> tuple[Queue, int]:
        """The queue of a u64 with a descriptor, and the descriptor, or -1 if the message has none."""
        number = vu.NUMBER.unpack(body).value
        queue = self._queue(number & vu.VRING_INDEX_MASK)
        if number & vu.VRING_NO_FD:
            return queue, -1
        if not descriptors:
            raise Broken(f"no descriptor came for queue {queue.index}")
        descriptor = descriptors.pop(0)
        os.set_blocking(descriptor, False)
        return queue, descriptor

    def _set_kick(self, body: bytes, descriptors: list[int]) -> None:
        queue, descriptor = self._with_descriptor(body, descriptors)
        line = self._lines[queue.index]
        self._unwatch(line)
        line.kick = descriptor
        inband = bool(self._protocol & ProtocolFeature.INBAND_NOTIFICATIONS.mask)
        line.polled = descriptor < 0 and not inband
        if descriptor >= 0:
            index = queue.index
            try:
                self._selector.register(descriptor, selectors.EVENT_READ, lambda: self._kicked(index))
            except (OSError, ValueError) as error:
                line.kick = _closed(descriptor)
                raise Broken(f"the kick descriptor of queue {index} cannot be waited for: {error}") from None
        line.started = descriptor >= 0 or line.polled
        if not self._features & Feature.VHOST_PROTOCOL_FEATURES.mask:
            queue.enabled = True
        self._begin(queue)

    def _begin(self, queue: Queue) -> None:
        """Run ``queue`` if possible, and poll it at once: its driver may have kicked before anybody listened."""
        if self._lines[queue.index].started and queue.enabled:
            self._device.start(queue)
            self._run(queue)


def _number(value: int) -> bytes:
    return vu.NUMBER.pack(vu.Number(value))


def _closed(descriptor: int) -> int:
    if descriptor >= 0:
        os.close(descriptor)
    return -1
