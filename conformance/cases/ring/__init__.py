"""Cases of the ring layer: how a virtio device processes rings and chains, below any driver."""
