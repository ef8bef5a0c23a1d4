"""A vhost-user back end for one device of one guest: the messages, and the rings that they set up.

The rule of this module: it knows the protocol but no device. A `Device` describes itself and is notified of kicks; the
caller handles sockets and waiting (`console.ConsoleServer`).

Source: QEMU's docs/interop/vhost-user.rst; the order in which User-Mode Linux sends them: virtio_uml.c.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Protocol

from guests.machines.uml.ring import Broken, Memory, Queue
from protocol import vhost_user as vu
from protocol.virtqueue import Feature


class Device(Protocol):
    """What a back end serves."""

    features: int
    config: bytes
    queues: list[Queue]

    def kicked(self, queue: int) -> None:
        """The driver put something into that queue."""


PROTOCOL_FEATURES = (
    vu.ProtocolFeature.REPLY_ACK.mask | vu.ProtocolFeature.BACKEND_REQ.mask | vu.ProtocolFeature.CONFIG.mask
)
"""Without BACKEND_REQ virtio_uml's probe fails with -16."""

_DESCRIPTOR_MESSAGES = {vu.Request.SET_VRING_KICK: "kick", vu.Request.SET_VRING_CALL: "call"}


class Backend:
    """One connection of a front end."""

    def __init__(self, connection: socket.socket, device: Device) -> None:
        self.connection, self.device = connection, device
        self.memory = Memory((), ())
        self._back = -1
        self._buffer = bytearray()
        self._descriptors: list[int] = []

    def receive(self) -> bool:
        """Read and answer the front end's messages; False if it is gone. Raises Broken, vhost_user.Malformed."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.connection, 8192, vu.DESCRIPTORS_MAX)
        except OSError:
            return False
        self._descriptors += descriptors
        self._buffer += data
        size = vu.HEADER.size
        while len(self._buffer) >= size:
            head = vu.unpack_header(self._buffer[:size])
            if len(self._buffer) < size + head.size:
                break
            body = bytes(self._buffer[size : size + head.size])
            del self._buffer[: size + head.size]
            self._answer(head, body)
        return bool(data)

    def close(self) -> None:
        """Release everything that the front end passed."""
        for queue in self.device.queues:
            queue.close()
        for descriptor in (*self._descriptors, self._back):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptors, self._back = [], -1
        self.memory = Memory((), ())
        self.connection.close()

    def _answer(self, head: vu.Header, body: bytes) -> None:
        descriptors, self._descriptors = self._descriptors, []
        try:
            request = vu.Request(head.request)
        except ValueError:
            reply, failed = None, True
        else:
            reply, failed = self._perform(request, body, descriptors), False
        for descriptor in descriptors:
            os.close(descriptor)  # not used by the message
        if reply is None and head.flags & vu.NEED_REPLY:
            reply = vu.NUMBER.pack(vu.Number(int(failed)))
        if reply is not None:
            with contextlib.suppress(OSError):
                self.connection.sendall(vu.pack_message(head.request, reply, vu.REPLY))

    def _perform(self, request: vu.Request, body: bytes, descriptors: list[int]) -> bytes | None:
        """Perform a message; returns the body of its reply, if it has one. Removes from ``descriptors`` those that it
        keeps.
        """
        queues = self.device.queues
        match request:
            case vu.Request.GET_FEATURES:
                offered = self.device.features | Feature.VERSION_1.mask | Feature.VHOST_PROTOCOL_FEATURES.mask
                return vu.NUMBER.pack(vu.Number(offered))
            case vu.Request.GET_PROTOCOL_FEATURES:
                return vu.NUMBER.pack(vu.Number(PROTOCOL_FEATURES))
            case vu.Request.GET_QUEUE_NUM:
                return vu.NUMBER.pack(vu.Number(len(queues)))
            case vu.Request.GET_CONFIG:
                asked, _ = vu.unpack_config(body)
                data = self.device.config[asked.offset : asked.offset + asked.size]
                return vu.pack_config(asked.offset, data.ljust(asked.size, b"\0"), asked.flags)
            case vu.Request.SET_BACKEND_REQ_FD if descriptors:
                self._back = descriptors.pop(0)
            case vu.Request.SET_MEM_TABLE:
                regions = vu.unpack_memory(body)
                if len(regions) != len(descriptors):
                    raise Broken(f"{len(regions)} memory regions with {len(descriptors)} descriptors")
                taken, descriptors[:] = list(descriptors), []
                self.memory = Memory(regions, taken)
            case vu.Request.SET_VRING_NUM:
                state = vu.VRING_STATE.unpack(body)
                self._queue(state.vring).size = state.num
            case vu.Request.SET_VRING_BASE:
                state = vu.VRING_STATE.unpack(body)
                self._queue(state.vring).next_available = state.num
            case vu.Request.GET_VRING_BASE:
                state = vu.VRING_STATE.unpack(body)
                return vu.VRING_STATE.pack(vu.VringState(state.vring, self._queue(state.vring).next_available))
            case vu.Request.SET_VRING_ADDR:
                place = vu.VRING_ADDRESS.unpack(body)
                queue = self._queue(place.vring)
                queue.place(self.memory, place.descriptor, place.available, place.used)
            case vu.Request.SET_VRING_KICK | vu.Request.SET_VRING_CALL:
                number = vu.NUMBER.unpack(body).value
                queue, which = self._queue(number & vu.VRING_INDEX_MASK), _DESCRIPTOR_MESSAGES[request]
                if getattr(queue, which) >= 0:
                    os.close(getattr(queue, which))
                none = number & vu.VRING_NO_FD or not descriptors
                setattr(queue, which, -1 if none else descriptors.pop(0))
            case _:
                pass  # SET_OWNER, SET_FEATURES and the like change nothing here
        return None

    def _queue(self, index: int) -> Queue:
        if index >= len(self.device.queues):
            raise Broken(f"there is no queue {index}")
        return self.device.queues[index]
