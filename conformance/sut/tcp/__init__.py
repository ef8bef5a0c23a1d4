"""A guest under QEMU that mounts a 9P server of this host over TCP."""
