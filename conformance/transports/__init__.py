"""How raw 9P frames reach a server: over a socket, or through a device's virtqueue."""
