"""Cases of the ring layer: what a virtio device makes of rings and chains, below any driver."""
