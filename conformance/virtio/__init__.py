"""Virtio devices as a driver sees them: buses, queues, and the ways to a device's registers and rings."""
