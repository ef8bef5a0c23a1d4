"""What is measured while a soak runs. A monitor gives numbers by the name of their series; it judges nothing.

device.*, hypervisor.*, runner.*   a process: rss_mb, pss_mb, own_mb (without the guest's memory and what QEMU
                translated of its code: translated_mb, without KVM only), fds, threads, cpu (cores). The device is what
                serves the share; the runner is this process (`process`)
host.*          available_mb, load1, others (cores that processes of no run use) (`hostside`); cpu_pressure and
                io_pressure (share of the time in which a task waited), waiting (tasks in the run queues, on average),
                cpus, steal, yardstick_ms (a fixed computation): since the last sample, and at the beginning and the
                end of each iteration (`load`)
export.*        free_mb, free_inodes of the exported file system (`hostside`)
guest.*         available_mb, slab_mb, unreclaimable_mb, dirty_mb, load1, processes; none where the kernel inside is
                this host's (`inside`)
probe.*         latency in ms of calls on the share since the last look: stat_p50, stat_p99, stat_max,
                sync_* (write 4 KiB + fsync); age: seconds since a call last came back (`inside`)
msg.*           9P messages a second, counted during one of sixty: total, and by type number (T24); replies that are
                errors: errors, and by errno (E2) (`inside`)
quiet.*, ops.*  seconds since a workload's last sign of life; its work in the present iteration (the runner)
"""

from __future__ import annotations

from typing import Protocol


class Monitor(Protocol):
    """One source of numbers."""

    def sample(self) -> dict[str, float]:
        """The current numbers; empty if there are none. Raises OSError if the source is gone."""
