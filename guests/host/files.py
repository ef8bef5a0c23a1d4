"""Removing trees, and checking for free space."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from guests.errors import InfrastructureError


def remove_tree(path: Path) -> None:
    """Remove ``path`` and all below it; files that cannot be removed stay, without an error.

    File systems mounted below it are detached first: their content must not be removed.
    """
    for mount_point in mounts_below(path):
        subprocess.run(["umount", "--lazy", mount_point], capture_output=True, check=False, timeout=60)
    if mounts_below(path):
        return
    shutil.rmtree(path, ignore_errors=True)
    if os.geteuid() != 0 and path.exists():
        # A killed build without root leaves files of the user's subordinate uids: only root of a user namespace that
        # maps those can remove them.
        argv = ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", "--", str(path)]
        subprocess.run(argv, capture_output=True, check=False, timeout=120)


def mounts_below(path: Path) -> list[str]:
    """Mount points at or below ``path``, the deepest first. Source: proc(5), /proc/PID/mountinfo."""
    top = os.fsencode(path.resolve())
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        point = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), line.split()[4])
        if point == top or point.startswith(top + b"/"):
            found.append(os.fsdecode(point))
    return sorted(found, reverse=True)


def require_space(path: Path, needed_mb: int, what: str) -> None:
    """Raise InfrastructureError unless the file system of ``path`` has ``needed_mb`` megabytes free."""
    free_mb = shutil.disk_usage(path).free // 1_000_000
    if free_mb < needed_mb:
        raise InfrastructureError(
            f"{what} needs {needed_mb} MB in {path}, and {free_mb} MB are free",
            "free some space there, or set XDG_CACHE_HOME and TMPDIR to a larger file system",
        )
