"""This host, the exported file system, and the logs that a target writes here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from soak.inside.elsewhere import room


class HostMonitor:
    """Memory, load, and how many cores other processes use, which spoil comparisons of time."""

    def __init__(self, ours: Callable[[], Iterable[int]]) -> None:
        self._ours = ours
        self._last: tuple[float, float] | None = None

    def sample(self) -> dict[str, float]:
        times = psutil.cpu_times()
        busy = times.user + times.nice + times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0)
        total, mine = busy + times.idle + getattr(times, "iowait", 0.0), 0.0
        for pid in self._ours():
            try:
                used = psutil.Process(pid).cpu_times()
            except psutil.Error:
                continue
            mine += used.user + used.system
        values = {"host.available_mb": psutil.virtual_memory().available / 2**20, "host.load1": os.getloadavg()[0]}
        if self._last is not None and total > self._last[1]:
            share = (busy - mine - self._last[0]) / (total - self._last[1])
            values["host.others"] = max(0.0, share * (os.cpu_count() or 1))
        self._last = (busy - mine, total)
        return values


class ExportMonitor:
    """Free space of the exported file system."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def sample(self) -> dict[str, float]:
        return room(str(self._path))


class LogWatch:
    """New lines of a log file; the runner records them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = path.stat().st_size if path.is_file() else 0

    def lines(self) -> list[str]:
        """Whole lines since the last look."""
        try:
            with self._path.open("rb") as f:
                f.seek(self._at)
                data = f.read(1 << 18)
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return whole.decode(errors="replace").splitlines()
