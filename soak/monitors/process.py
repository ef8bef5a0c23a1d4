"""A process of this host: memory, descriptors, threads, CPU, straight from /proc.

`own_mb` is the resident memory without the guest's memory and, without KVM, without QEMU's buffer of translated code
(`translated_mb`): it fills up to 1 GiB, then QEMU starts it over. Sources: proc(5), smaps; QEMU's tcg/region.c,
size_code_gen_buffer.
"""

from __future__ import annotations

import time

from soak.inside.elsewhere import process


class ProcessMonitor:
    """One process under a name; `guest_mb` is the guest memory that it maps, 0 if there is none.

    With `detail` off only cheap files are read: status and stat, not the mappings.
    """

    def __init__(self, name: str, pid: int, guest_mb: int = 0, detail: bool = True) -> None:
        self._name, self._pid, self._guest_mb, self._detail = name, pid, guest_mb, detail
        self._last: tuple[float, float] | None = None

    def sample(self) -> dict[str, float]:
        values = process(self._pid, self._guest_mb, self._detail)
        now, cpu = time.monotonic(), values.pop("cpu_s")
        if self._last is not None and now > self._last[0]:
            values["cpu"] = (cpu - self._last[1]) / (now - self._last[0])
        self._last = (now, cpu)
        return {f"{self._name}.{key}": value for key, value in values.items()}
