"""Bringing a virtio-9p device up as a driver does, with any choice of features and queue.

Source: virtio 1.3, 3.1.1 (Driver Requirements: Device Initialization).
"""

from __future__ import annotations

from conformance.errors import Finding, InfrastructureError
from conformance.virtio.device import Device, Memory
from conformance.virtio.queues import PackedQueue, SplitQueue
from protocol.virtqueue import Feature, Status

PLAIN = Feature.VERSION_1.mask | Feature.MOUNT_TAG.mask
"""What every modern driver of 9P asks for; nothing else is needed."""
PAGE = 4096


def negotiate(device: Device, wanted: int) -> int:
    """Reset and go as far as FEATURES_OK; returns the negotiated features.

    Raises Finding if the device refuses what it offered.
    """
    device.reset()
    device.set_status(Status.ACKNOWLEDGE)
    device.set_status(Status.ACKNOWLEDGE | Status.DRIVER)
    agreed = device.offered() & wanted
    device.accept(agreed)
    if not device.legacy:
        asked = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK
        device.set_status(asked)
        if not device.status() & Status.FEATURES_OK:
            text = f"FEATURES_OK does not stay set with features {agreed:#x}, all of them offered"
            raise Finding(text, "ring", {"what": "FEATURES_OK", "seen": "clear", "expected": "set"})
    return agreed


def go(device: Device) -> None:
    """DRIVER_OK."""
    ready = Status.ACKNOWLEDGE | Status.DRIVER | Status.DRIVER_OK
    device.set_status(ready if device.legacy else ready | Status.FEATURES_OK)


def largest_queue(device: Device, most: int = 256) -> int:
    """The size for queue 0: what the device offers, at most `most` if it may be chosen."""
    offered = device.queue_max(0)
    if not offered:
        raise InfrastructureError(f"{device.name} has no queue 0")
    return offered if device.legacy else min(offered, most)


def bring_up(
    device: Device, at: int, *, wanted: int = PLAIN, size: int | None = None, keep: bool = False
) -> tuple[int, SplitQueue | PackedQueue]:
    """The negotiated features of a device that now runs, and its request queue with rings at `at`."""
    agreed = negotiate(device, wanted)
    size = largest_queue(device) if size is None else size
    queue = make_queue(device, agreed, size, at, keep=keep)
    queue.start()
    go(device)
    return agreed, queue


def make_queue(
    device: Device, agreed: int, size: int, at: int, memory: Memory | None = None, keep: bool = False
) -> SplitQueue | PackedQueue:
    """The kind of queue that was negotiated, not yet set up in the device."""
    if agreed & Feature.RING_PACKED.mask:
        return PackedQueue(device, 0, size, at, memory=memory)
    events = bool(agreed & Feature.EVENT_IDX.mask)
    return SplitQueue(device, 0, size, at, event_idx=events, memory=memory, keep=keep)
