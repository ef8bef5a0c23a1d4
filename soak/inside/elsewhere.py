"""Queries on the host of the exported directory, which may be another machine. Each function's first argument is the
directory.

A host without /proc (FreeBSD, illumos) gives fewer numbers; none is guessed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
HEAD = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) .(..)(.) ")


def identity(directory: str) -> list[int]:
    """Device and inode, which identify the directory; zeros if there is none."""
    try:
        found = os.stat(directory)
    except OSError:
        return [0, 0]
    return [found.st_dev, found.st_ino]


def content(directory: str, name: str) -> str | None:
    """The SHA-256 of a file's content; None if there is no file."""
    made = hashlib.sha256()
    try:
        with open(os.path.join(directory, name), "rb") as f:
            for part in iter(lambda: f.read(1 << 20), b""):
                made.update(part)
    except OSError:
        return None
    return made.hexdigest()


def room(directory: str) -> dict[str, float]:
    """Free space of the exported file system, as series of the monitors."""
    found = os.statvfs(directory)
    return {"export.free_mb": found.f_bavail * found.f_frsize / 2**20, "export.free_inodes": float(found.f_favail)}


def look(directory: str, processes: dict[str, int], guest_mb: int) -> dict[str, float]:
    """All numbers at one moment: for those processes (name -> pid), the machine and the exported file system.

    Counters since boot end in `_s`: seconds, of which the caller takes differences.
    """
    values = {**room(directory), "now_s": time.monotonic(), "host.cpus": float(os.cpu_count() or 1)}
    values["host.load1"] = os.getloadavg()[0]
    for kind in ("cpu", "io"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            values[f"host.{kind}_pressure_s"] = _pressure(kind)
    with contextlib.suppress(OSError, ValueError, IndexError):
        values["host.available_mb"] = _available()
    for name, pid in processes.items():
        with contextlib.suppress(OSError, ValueError, IndexError):
            values.update({f"{name}.{key}": value for key, value in process(pid, guest_mb).items()})
    return values


def _pressure(kind: str) -> float:
    with open(f"/proc/pressure/{kind}") as f:
        return int(f.readline().rpartition("total=")[2]) / 1e6


def _available() -> float:
    with open("/proc/meminfo") as f:
        return int(next(line for line in f if line.startswith("MemAvailable:")).split()[1]) / 1024


def process(pid: int, guest_mb: int, detail: bool = True) -> dict[str, float]:
    """The numbers of a process; `cpu_s` is its processor time. Raises OSError if there is none.

    With `detail` off only cheap files are read: status and stat, not the mappings.
    """
    if not os.path.exists("/proc/self/stat"):
        done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], stdout=subprocess.PIPE, check=False)
        return {"rss_mb": int(done.stdout) / 1024} if done.stdout.strip() else {}
    with open(f"/proc/{pid}/stat", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    values = {
        "cpu_s": (int(fields[11]) + int(fields[12])) / TICKS,
        "rss_mb": int(fields[21]) * os.sysconf("SC_PAGESIZE") / 2**20,
        "threads": float(fields[17]),
        "fds": float(len(os.listdir(f"/proc/{pid}/fd"))),
    }
    if detail:
        with open(f"/proc/{pid}/smaps", "rb") as smaps:
            values.update(memory(smaps.read(), guest_mb))
    return values


def memory(smaps: bytes, guest_mb: int) -> dict[str, float]:
    """`own_mb`, `pss_mb` and, if there is such code, `translated_mb` from the text of /proc/PID/smaps."""
    sums = {"own": 0, "guest": 0, "translated": 0}
    pss, kind = 0, "own"
    for line in smaps.splitlines():
        if line.startswith(b"Rss:"):
            sums[kind] += int(line.split()[1])
        elif line.startswith(b"Pss:"):
            pss += int(line.split()[1])
        else:
            head = HEAD.match(line)
            if head is not None:
                size_mb = (int(head[2], 16) - int(head[1], 16)) >> 20
                # QEMU's own is one private mapping; with vhost-user, and in UML, it is shared. The total memory that a
                # guest reports is up to a ninth less than it was given.
                guest = guest_mb <= size_mb <= guest_mb * 9 // 8 + 64 or head[4] == b"s"
                # nothing else is writable and executable
                kind = "own" if not guest_mb else "translated" if head[3] == b"wx" else "guest" if guest else "own"
    values = {"own_mb": sums["own"] / 1024, "pss_mb": pss / 1024}
    if sums["translated"]:
        values["translated_mb"] = sums["translated"] / 1024
    return values
