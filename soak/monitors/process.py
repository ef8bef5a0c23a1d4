"""A process of this host: memory, descriptors, threads, CPU, straight from /proc.

`own_mb` is the resident memory without the guest's (what the guest touches is not the device's) and without the
buffer of translated code that QEMU keeps where there is no KVM (`translated_mb`): it fills up to 1 GiB, then QEMU
starts it over.
Sources: proc(5), smaps; QEMU's tcg/region.c, size_code_gen_buffer.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_HEAD = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) .(..)(.) ")


class ProcessMonitor:
    """One process under a name; `guest_mb` is the memory of the guest that it maps, 0 when there is none.

    With `detail` off only what is cheap is read: status and stat, not the mappings.
    """

    def __init__(self, name: str, pid: int, guest_mb: int = 0, detail: bool = True) -> None:
        self._name, self._proc, self._guest_mb, self._detail = name, Path(f"/proc/{pid}"), guest_mb, detail
        self._last: tuple[float, float] | None = None

    def sample(self) -> dict[str, float]:
        """See Monitor."""
        fields = (self._proc / "stat").read_text(errors="replace").rpartition(")")[2].split()
        now, cpu = time.monotonic(), (int(fields[11]) + int(fields[12])) / _TICKS
        values = {
            "rss_mb": int(fields[21]) * os.sysconf("SC_PAGESIZE") / 2**20,
            "threads": float(fields[17]),
            "fds": float(sum(1 for _ in os.scandir(self._proc / "fd"))),
        }
        if self._last is not None and now > self._last[0]:
            values["cpu"] = (cpu - self._last[1]) / (now - self._last[0])
        self._last = (now, cpu)
        if self._detail:
            values |= memory((self._proc / "smaps").read_bytes(), self._guest_mb)
        return {f"{self._name}.{key}": value for key, value in values.items()}


def memory(smaps: bytes, guest_mb: int) -> dict[str, float]:
    """`own_mb`, `pss_mb` and, where there is such code, `translated_mb` of the text of /proc/PID/smaps."""
    sums = {"own": 0, "guest": 0, "translated": 0}
    pss, kind = 0, "own"
    for line in smaps.splitlines():
        if line.startswith(b"Rss:"):
            sums[kind] += int(line.split()[1])
        elif line.startswith(b"Pss:"):
            pss += int(line.split()[1])
        elif (head := _HEAD.match(line)) is not None:
            size = int(head[2], 16) - int(head[1], 16)
            # QEMU's own is one private mapping of that size; with vhost-user, and in UML, it is shared
            guest = size == guest_mb << 20 or head[4] == b"s"
            # nothing else is writable and executable
            kind = "own" if not guest_mb else "translated" if head[3] == b"wx" else "guest" if guest else "own"
    values = {"own_mb": sums["own"] / 1024, "pss_mb": pss / 1024}
    return values | ({"translated_mb": sums["translated"] / 1024} if sums["translated"] else {})
