"""Removing trees and asking for room."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from guests.errors import InfrastructureError


def remove_tree(path: Path) -> None:
    """Remove ``path`` and all below it; what cannot be removed stays, without an error."""
    shutil.rmtree(path, ignore_errors=True)
    if os.geteuid() != 0 and path.exists():
        # A build without root leaves files of the user's subordinate uids when it is killed: only root of
        # a user namespace that maps those can remove them.
        argv = ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", "--", str(path)]
        subprocess.run(argv, capture_output=True, check=False, timeout=120)


def require_space(path: Path, needed_mb: int, what: str) -> None:
    """Raise InfrastructureError unless the file system of ``path`` has ``needed_mb`` megabytes free."""
    free_mb = shutil.disk_usage(path).free // 1_000_000
    if free_mb < needed_mb:
        raise InfrastructureError(
            f"{what} needs {needed_mb} MB in {path}, and {free_mb} MB are free",
            "free some space there, or set XDG_CACHE_HOME and TMPDIR to a larger file system",
        )
