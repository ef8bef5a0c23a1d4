"""Faults of the share itself: its file system is full, or it is remounted."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError
from guests.agent.link import CallError, LinkLost
from soak.faults.scene import Fault, Scene

CHUNK = 64 << 20
PATIENCE = 1800.0
"""Seconds that the iterations in progress have to end; a long build may need them."""


class Full(Fault):
    """The exported file system is full for some seconds; a write with fsync must report ENOSPC.

    Iterations that fail with ENOSPC meanwhile are `cut`. Only on an export with its own file system: the runner makes
    one if this fault is selected.
    """

    silent = False

    def __init__(self) -> None:
        self._scene: Scene | None = None
        self._filler = Path()
        self._until = 0.0
        self._data: dict[str, Any] = {}

    def begin(self, scene: Scene, rng: random.Random) -> dict[str, Any]:
        if os.stat(scene.outside.here).st_dev == os.stat("/var/tmp").st_dev:
            return {"skipped": "the export has no file system of its own, and a run must not fill this host's"}
        seconds = rng.uniform(5, 15)
        self._scene, self._filler = scene, scene.outside.here / scene.directory("filler")
        scene.no_space(True)
        taken = fill(self._filler)
        self._data = self._try()
        self._until = time.monotonic() + seconds
        return {"seconds": seconds, "taken_mb": taken >> 20}

    def _try(self) -> dict[str, Any]:
        """Whether the guest gets ENOSPC."""
        assert self._scene is not None
        name = self._scene.directory("no-room")
        inside, calls = f"{self._scene.deployment.inside_root}/{name}", self._scene.deployment.inside.calls
        try:
            fd = calls.open(inside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                calls.write(fd, b"\xa5" * (1 << 20))
                calls.fsync(fd)
            finally:
                calls.close(fd)
        except CallError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                return {"found": "the guest got ENOSPC"}
            return {"failed": f"a full file system gives {errno.errorcode.get(e.errno or 0)}, not ENOSPC"}
        finally:
            with contextlib.suppress(CallError):
                calls.unlink(inside)
        if room(self._scene.outside.here) < 1 << 20:
            return {"failed": "a write of 1 MiB and its fsync succeeded on a full file system"}
        return {"found": "a workload freed space at that moment: not judged"}

    def tick(self, now: float) -> dict[str, Any] | None:
        if self._scene is None or now >= self._until:
            return self._data
        with contextlib.suppress(OSError):
            fill(self._filler)  # the space that workloads have freed meanwhile
        return None

    def undo(self) -> None:
        if self._scene is not None:
            self._filler.unlink(missing_ok=True)
            self._scene.no_space(False)
            self._scene = None


def fill(path: Path) -> int:
    """Fill the file system with one file, in ever smaller steps; returns the file's size."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size, step = os.fstat(fd).st_size, CHUNK
        while step >= 4096:
            try:
                os.posix_fallocate(fd, size, step)
                size += step
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
                step //= 4
        return size
    finally:
        os.close(fd)


def room(path: Path) -> int:
    """Free bytes there, for root."""
    found = os.statvfs(path)
    return found.f_bfree * found.f_frsize


HOLDERS = 'ls -ld /proc/[0-9]*/cwd /proc/[0-9]*/fd/* 2>/dev/null; grep -HF " $1/" /proc/[0-9]*/maps 2>/dev/null'
"""Lists what every process of the guest has open, by one program each: a fork without KVM takes milliseconds."""


class Remount(Fault):
    """Between two iterations of every workload the share is unmounted and mounted: a new connection, new fids."""

    silent = False

    def __init__(self) -> None:
        self._scene: Scene | None = None
        self._begun = 0.0

    def begin(self, scene: Scene, rng: random.Random) -> dict[str, Any]:
        self._scene, self._begun = scene, time.monotonic()
        scene.hold()
        return {}

    def tick(self, now: float) -> dict[str, Any] | None:
        assert self._scene is not None
        if self._scene.at_rest():
            waited = time.monotonic() - self._begun
            name = self._scene.directory("remount")
            path, calls = f"{self._scene.deployment.inside_root}/{name}", self._scene.deployment.inside.calls
            content = os.urandom(1 << 16)
            with contextlib.suppress(CallError):
                calls.unlink(path)
            calls.create(path, content)
            try:
                line = self._scene.remount()
            except InfrastructureError as e:
                # the state of the mount is unknown: a fresh guest is the only safe undo
                raise LinkLost(f"the share could not be unmounted and mounted again: {e}{self._holders()}") from e
            self._scene.forget_descriptors()
            if calls.slurp(path) != content:
                return {"failed": "a file written before the remount reads differently after it", "waited": waited}
            calls.unlink(path)
            return {"line": line, "found": "the data written before is there after it", "waited": waited}
        return {"skipped": "the workloads did not pause"} if now > self._begun + PATIENCE else None

    def _holders(self) -> str:
        """The processes in the guest that have files of the share open, for the record."""
        assert self._scene is not None
        root, inside = self._scene.deployment.inside_root, self._scene.deployment.inside
        done = inside.calls_with(timeout=60.0).run(["sh", "-c", HOLDERS, "sh", root])
        lines = done["stdout"].decode(errors="replace").splitlines()
        found = [line[line.index("/proc/") :] for line in lines if f" {root}/" in f"{line}/" and "/proc/" in line]
        who = {}
        for process in {line.split("/")[2] for line in found}:
            with contextlib.suppress(CallError):
                who[process] = (
                    inside.calls.slurp(f"/proc/{process}/cmdline").replace(b"\0", b" ").decode(errors="replace")[:80]
                )
        said = [f"{line} ({who.get(line.split('/')[2], 'gone')})" for line in found]
        return "; held by " + "; ".join(said[:8]) if said else "; no process of the guest has a file of it open"

    def undo(self) -> None:
        if self._scene is not None:
            self._scene.release()
            self._scene = None
