"""Faults of this host and of the process that serves the share."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from conformance.vfs.deployment import Power
from guests.host.processes import dying_with_parent, end
from soak.faults.scene import Fault, Scene

_AFAR = "the share is served on another machine"


class Pause(Fault):
    """The share's server is stopped for some seconds. The guest must wait, and continue without an error."""

    silent = True

    def __init__(self) -> None:
        self._power: Power | None = None
        self._until = 0.0

    def begin(self, scene: Scene, rng: random.Random) -> dict[str, Any]:
        seconds = rng.uniform(1, 8)
        self._power = scene.deployment.power
        paused = self._power.pause()
        if not paused:
            return {"skipped": "the target names no process that serves the share"}
        self._until = time.monotonic() + seconds
        return {**paused, "seconds": seconds}

    def tick(self, now: float) -> dict[str, Any] | None:
        return {} if now >= self._until else None

    def undo(self) -> None:
        if self._power is not None:
            self._power.resume()


class DropCaches(Fault):
    """Page cache, dentries and inodes of this host are dropped: the server's next reads come from the disk."""

    silent = False

    def begin(self, scene: Scene, rng: random.Random) -> dict[str, Any]:
        if not scene.outside.host.local:
            return {"skipped": _AFAR}
        before = psutil.virtual_memory().available
        try:
            # dirty pages stay: a full writeback would be a different fault
            Path("/proc/sys/vm/drop_caches").write_text("3")
        except OSError as e:
            return {"skipped": f"/proc/sys/vm/drop_caches: {e.strerror}"}
        return {"freed_mb": round((psutil.virtual_memory().available - before) / 2**20)}

    def tick(self, now: float) -> dict[str, Any] | None:
        return {}

    def undo(self) -> None:
        """See Fault: there is nothing to undo."""


_BURN = "while True: pass"
_TAKE = "import sys,time; held = bytearray(int(sys.argv[1])); held[::4096] = b'x' * len(held[::4096]); time.sleep(3600)"


class Busy(Fault):
    """A busy process for each core, and one that takes a quarter of the free memory, at most 1 GiB."""

    silent = False

    def __init__(self) -> None:
        self._until = 0.0
        self._processes: list[subprocess.Popen[bytes]] = []

    def begin(self, scene: Scene, rng: random.Random) -> dict[str, Any]:
        if not scene.outside.host.local:
            return {"skipped": _AFAR}
        seconds, cores = rng.uniform(10, 30), os.cpu_count() or 1
        memory = min(1 << 30, psutil.virtual_memory().available // 4)
        self._until = time.monotonic() + seconds
        for argv in [[_BURN]] * cores + [[_TAKE, str(memory)]]:
            self._processes.append(subprocess.Popen(dying_with_parent([sys.executable, "-I", "-c", *argv])))
        return {"seconds": seconds, "processes": cores, "memory_mb": memory >> 20}

    def tick(self, now: float) -> dict[str, Any] | None:
        return {} if now >= self._until else None

    def undo(self) -> None:
        while self._processes:
            end(self._processes.pop())
