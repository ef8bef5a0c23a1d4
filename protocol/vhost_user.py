"""The vhost-user protocol: every message by number, its body, and what comes back.

The rule of this module: layouts only, each declared once, as a class of annotated fields; sockets and descriptors are
the business of the transports.  Integers are in the host's order, which here is little-endian.

Source: QEMU's docs/interop/vhost-user.rst; the declarations name its sections.
"""

from __future__ import annotations

import enum
import struct
import sys
from typing import Generic, NamedTuple, TypeVar, get_type_hints

from protocol.fields import Buffer, Kind, u32, u64

if sys.byteorder != "little":
    raise ImportError("vhost-user messages are in the host's byte order; only little-endian hosts are supported")


class Malformed(Exception):
    """The peer's bytes are no message.  The text names what is wrong."""


T = TypeVar("T", bound=tuple[int, ...])


class Layout(Generic[T]):
    """How a class of integer fields lies in a message, from its annotations."""

    def __init__(self, cls: type[T]) -> None:
        self.cls = cls
        hints = get_type_hints(cls, include_extras=True)
        kinds = [kind for hint in hints.values() for kind in hint.__metadata__ if isinstance(kind, Kind)]
        self._struct = struct.Struct("<" + "".join(kind.code for kind in kinds))
        self.size = self._struct.size
        """Bytes."""

    def pack(self, value: T) -> bytes:
        """The bytes of ``value``."""
        return self._struct.pack(*value)

    def unpack(self, body: Buffer) -> T:
        """The value that ``body`` holds, no byte more or less.  Raises Malformed."""
        if len(body) != self.size:
            raise Malformed(f"a body of {len(body)} bytes where {self.cls.__name__} has {self.size}")
        return self.cls(*self._struct.unpack(body))

    def unpack_from(self, body: Buffer, at: int) -> T:
        """The value at offset ``at``.  Raises Malformed when ``body`` ends before it does."""
        if at + self.size > len(body):
            raise Malformed(f"a body of {len(body)} bytes ends within {self.cls.__name__} at {at}")
        return self.cls(*self._struct.unpack_from(body, at))


# --- header: "Header" ----------------------------------------------------------------------------

VERSION = 1
VERSION_MASK = 3
REPLY = 1 << 2
NEED_REPLY = 1 << 3
BODY_MAX = 4096
"""No message of those declared here is longer; what claims more is malformed."""
DESCRIPTORS_MAX = 8
"""VHOST_MEMORY_BASELINE_NREGIONS: regions in a memory table, and so descriptors with a message."""


class Header(NamedTuple):
    """The header before every body."""

    request: u32
    flags: u32
    """VERSION in the lowest two bits, REPLY, NEED_REPLY."""
    size: u32
    """Bytes of the body."""


HEADER = Layout(Header)


# --- bodies: "Payload" ---------------------------------------------------------------------------


class VringState(NamedTuple):
    """A vring state description."""

    vring: u32
    num: u32


class VringAddress(NamedTuple):
    """A vring address description; addresses are the front end's own ("user addresses")."""

    vring: u32
    flags: u32
    descriptor: u64
    used: u64
    available: u64
    log: u64


class MemoryRegion(NamedTuple):
    """A memory region description."""

    guest_address: u64
    size: u64
    user_address: u64
    mmap_offset: u64
    """Where in the passed descriptor the region begins."""


class ConfigHead(NamedTuple):
    """The fields before the bytes of a virtio device config space message."""

    offset: u32
    size: u32
    flags: u32
    """CONFIG_WRITABLE or CONFIG_MIGRATION."""


class Number(NamedTuple):
    """A u64."""

    value: u64


class _MemoryHead(NamedTuple):
    regions: u32
    padding: u32


CONFIG_WRITABLE = 0
CONFIG_MIGRATION = 1
CONFIG_MAX = 256
"""VHOST_USER_MAX_CONFIG_SIZE of every implementation known."""

VRING_STATE = Layout(VringState)
VRING_ADDRESS = Layout(VringAddress)
MEMORY_REGION = Layout(MemoryRegion)
CONFIG_HEAD = Layout(ConfigHead)
NUMBER = Layout(Number)
_MEMORY_HEAD = Layout(_MemoryHead)

VRING_INDEX_MASK = 0xFF
"""Lowest bits of the u64 of SET_VRING_KICK, CALL and ERR."""
VRING_NO_FD = 1 << 8
"""Set in it when no descriptor comes along: poll, or use in-band messages."""


def pack_memory(regions: list[MemoryRegion]) -> bytes:
    """A multiple memory regions description."""
    head = _MEMORY_HEAD.pack(_MemoryHead(len(regions), 0))
    return head + b"".join(MEMORY_REGION.pack(region) for region in regions)


def unpack_memory(body: Buffer) -> list[MemoryRegion]:
    """The regions of a SET_MEM_TABLE.  Raises Malformed when the body has no room for their number.

    It may have more room: Linux's virtio_uml sends a body for two regions whatever their number.
    """
    count = _MEMORY_HEAD.unpack_from(body, 0).regions
    if count > DESCRIPTORS_MAX:
        raise Malformed(f"{count} memory regions where {DESCRIPTORS_MAX} are the most")
    if len(body) < _MEMORY_HEAD.size + count * MEMORY_REGION.size:
        raise Malformed(f"{count} memory regions in a body of {len(body)} bytes")
    return [MEMORY_REGION.unpack_from(body, _MEMORY_HEAD.size + at * MEMORY_REGION.size) for at in range(count)]


def pack_config(offset: int, data: Buffer, flags: int = CONFIG_WRITABLE) -> bytes:
    """A virtio device config space description."""
    return CONFIG_HEAD.pack(ConfigHead(offset, len(data), flags)) + bytes(data)


def unpack_config(body: Buffer) -> tuple[ConfigHead, bytes]:
    """Head and bytes of a GET_CONFIG or SET_CONFIG.  Raises Malformed when its size is not that of the bytes."""
    head = CONFIG_HEAD.unpack_from(body, 0)
    data = bytes(body[CONFIG_HEAD.size :])
    if head.size != len(data):
        raise Malformed(f"a config size of {head.size} with {len(data)} bytes")
    return head, data


# --- "Protocol features" ----------------------------------------------------------------------------


class ProtocolFeature(enum.IntEnum):
    """VHOST_USER_PROTOCOL_F_*, by bit number."""

    MQ = 0
    LOG_SHMFD = 1
    RARP = 2
    REPLY_ACK = 3
    NET_MTU = 4
    BACKEND_REQ = 5
    CROSS_ENDIAN = 6
    CRYPTO_SESSION = 7
    PAGEFAULT = 8
    CONFIG = 9
    BACKEND_SEND_FD = 10
    HOST_NOTIFIER = 11
    INFLIGHT_SHMFD = 12
    RESET_DEVICE = 13
    INBAND_NOTIFICATIONS = 14
    CONFIGURE_MEM_SLOTS = 15
    STATUS = 16

    @property
    def mask(self) -> int:
        """The bit in the 64-bit word of protocol features."""
        return 1 << self.value


# --- "Front-end message types" ---------------------------------------------------------------------


class Request(enum.IntEnum):
    """Requests of a front end.  Those that this project does not use are left out and refused."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    GET_CONFIG = 24
    SET_CONFIG = 25
    RESET_DEVICE = 34
    VRING_KICK = 35
    SET_STATUS = 39
    GET_STATUS = 40


REPLIED = frozenset(
    {
        Request.GET_FEATURES,
        Request.GET_VRING_BASE,
        Request.GET_PROTOCOL_FEATURES,
        Request.GET_QUEUE_NUM,
        Request.GET_CONFIG,
        Request.GET_STATUS,
    }
)
"""Requests that are always replied to, with a body of their own; NEED_REPLY asks for a u64 (0: done) on any other."""


class BackendRequest(enum.IntEnum):
    """What a back end asks over the descriptor of SET_BACKEND_REQ_FD ("Back-end message types")."""

    CONFIG_CHANGE = 2
    """The configuration space changed, or the device needs a reset."""
    VRING_CALL = 4
    """In-band: used buffers in the vring of this VringState."""
    VRING_ERR = 5
    """In-band: the vring of this VringState is broken."""


def pack_message(request: int, body: Buffer = b"", flags: int = 0) -> bytes:
    """A whole message; ``flags`` beside the version."""
    return HEADER.pack(Header(request, VERSION | flags, len(body))) + bytes(body)


def unpack_header(head: Buffer) -> Header:
    """The header of a message.  Raises Malformed for another version, or a body longer than any has."""
    found = HEADER.unpack(head)
    if found.flags & VERSION_MASK != VERSION:
        raise Malformed(f"message {found.request} of version {found.flags & VERSION_MASK}, not {VERSION}")
    if found.size > BODY_MAX:
        raise Malformed(f"message {found.request} claims a body of {found.size} bytes; {BODY_MAX} are the most")
    return found
