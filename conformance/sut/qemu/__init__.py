"""Targets with QEMU: its own device, a vhost-user back end, a server that its guest mounts over TCP."""
