"""QEMU's guest, whose 9P devices are vhost-user back ends of this host."""
