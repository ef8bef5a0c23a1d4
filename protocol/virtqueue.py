"""Virtqueues and the numbers around them: ring layouts, descriptor flags, feature and status bits.

The rule of this module: it declares the layout of shared memory once, for the device and for the suite's drivers;
nothing here reads or writes memory.  Integers are little-endian (VERSION_1; legacy devices use the
guest's order, which on every host that this project runs on is the same).

Source: virtio 1.3; each declaration names its section.  The 9P device has no section of its own: its
configuration space and feature bit are those of Linux's include/uapi/linux/virtio_9p.h.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

VIRTIO_ID_9P = 9
"""Section 5, Device Types."""


class Feature(enum.IntEnum):
    """Feature bits by number (section 6, Reserved Feature Bits; bit 0 is the 9P device's own)."""

    MOUNT_TAG = 0
    """VIRTIO_9P_MOUNT_TAG: the configuration space holds the tag."""
    NOTIFY_ON_EMPTY = 24
    """Legacy: notify when the available ring runs empty, even if suppressed (section 6.3)."""
    ANY_LAYOUT = 27
    """Legacy: the device takes any framing; always so with VERSION_1 (section 6.3)."""
    INDIRECT_DESC = 28
    EVENT_IDX = 29
    VHOST_PROTOCOL_FEATURES = 30
    """vhost-user's own bit; a guest never sees it."""
    VERSION_1 = 32
    ACCESS_PLATFORM = 33
    RING_PACKED = 34
    IN_ORDER = 35
    ORDER_PLATFORM = 36
    SR_IOV = 37
    NOTIFICATION_DATA = 38
    NOTIF_CONFIG_DATA = 39
    RING_RESET = 40

    @property
    def mask(self) -> int:
        """The bit in the 64-bit word of features."""
        return 1 << self.value


class Status(enum.IntFlag):
    """Bits of the device status field (section 2.1)."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    NEEDS_RESET = 64
    """The device has met something it cannot recover from; only a reset leaves this state."""
    FAILED = 128


# --- descriptors ----------------------------------------------------------------------------------

DESC_NEXT = 1
"""The chain goes on (split: at ``next``; packed: at the following slot)."""
DESC_WRITE = 2
"""Device-writable; else device-readable."""
DESC_INDIRECT = 4
"""The buffer is a table of descriptors."""
PACKED_AVAIL = 1 << 7
PACKED_USED = 1 << 15
"""Available: AVAIL equals the driver's wrap counter and USED does not.  Used: both equal the device's (2.8.1)."""

DESC_SIZE = 16
"""Bytes of a descriptor in every layout, tables of indirect ones included."""


class Descriptor(NamedTuple):
    """struct virtq_desc (2.7.5), also in indirect tables (2.7.5.3)."""

    addr: int
    """Guest-physical."""
    len: int
    flags: int
    next: int


DESCRIPTOR = struct.Struct("<QIHH")
"""Of :class:`Descriptor`; of a packed ring's struct pvirtq_desc (2.8.13), too, whose last fields are id and flags."""

QUEUE_SIZE_MAX = 32768
"""Section 2.7 and 2.8."""


# --- split rings ----------------------------------------------------------------------------------

AVAIL_NO_INTERRUPT = 1
"""virtq_avail.flags: the driver wants no used buffer notification (2.7.7)."""
USED_NO_NOTIFY = 1
"""virtq_used.flags: the device wants no available buffer notification (2.7.10)."""

AVAIL_FLAGS = 0
"""Offset of ``flags``, u16, in the available ring (2.7.6)."""
AVAIL_IDX = 2
"""Offset of ``idx``, u16, there."""
AVAIL_RING = 4
"""Offset of the u16 heads; ``used_event``, u16, follows the last."""
USED_IDX = 2
"""Offset of ``idx``, u16, in the used ring (2.7.8)."""
USED_RING = 4
"""Offset of the elements; ``avail_event``, u16, follows the last."""
USED_ELEMENT = struct.Struct("<II")
"""struct virtq_used_elem: head of the chain, bytes written."""

DESC_ALIGN, AVAIL_ALIGN, USED_ALIGN = 16, 2, 4
"""Of the three parts (2.7)."""


class SplitLayout(NamedTuple):
    """Where the three parts of a split virtqueue lie, as offsets from its start, and its whole length in bytes."""

    descriptors: int
    available: int
    used: int
    length: int


def table_bytes(size: int) -> int:
    """Bytes of a table of ``size`` descriptors, split, packed or indirect."""
    return DESC_SIZE * size


def available_bytes(size: int) -> int:
    """Bytes of the available ring of a queue of ``size``, ``used_event`` included (2.7.6)."""
    return AVAIL_RING + 2 * size + 2


def used_bytes(size: int) -> int:
    """Bytes of the used ring of a queue of ``size``, ``avail_event`` included (2.7.8)."""
    return USED_RING + USED_ELEMENT.size * size + 2


def split_layout(size: int, align: int = USED_ALIGN) -> SplitLayout:
    """The three parts one after the other; a legacy PCI device has ``align`` 4096 (2.7.2)."""
    available = table_bytes(size)
    used = -(-(available + available_bytes(size)) // align) * align
    return SplitLayout(0, available, used, used + used_bytes(size))


# --- packed rings ---------------------------------------------------------------------------------

EVENT = struct.Struct("<HH")
"""struct pvirtq_event_suppress (2.8.14): ``desc`` (offset in bits 0-14, wrap counter in bit 15), ``flags``."""
EVENT_ALIGN = 4
EVENT_ENABLE = 0
EVENT_DISABLE = 1
EVENT_DESC = 2
"""Notify at the slot that ``desc`` names; only with EVENT_IDX."""


def needs_event(event: int, new: int, old: int) -> bool:
    """Whether an index that went from ``old`` to ``new`` passed ``event``, all modulo 65536 (2.7.7, vring_need_event
    of the reference code).
    """
    return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF


# --- configuration space of the 9P device -------------------------------------------------------------

TAG_MAX = 0xFFFF


def config_space(tag: bytes) -> bytes:
    """struct virtio_9p_config: le16 length of the tag, then its bytes.  Raises ValueError for a tag without bytes,
    with a NUL, or longer than its length field can express.
    """
    if not 0 < len(tag) <= TAG_MAX or 0 in tag:
        raise ValueError(f"a tag has 1 to {TAG_MAX} bytes and no NUL; this one has {len(tag)}")
    return struct.pack("<H", len(tag)) + tag
